"""One BLAS thread for everyone who computes here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from threadpoolctl import LibController, ThreadpoolController

from streamem.machine.importing import uninterrupted


class _OneBlasThread:
    """Limits BLAS while anyone in this process computes; the first in sets the limit, the last out lifts it.

    A limit for each would not do: others would see it lifted halfway, and change their bits. Since threadpoolctl 3.8
    only the thread that set the limit of a shared pool may change it, and calls from others do nothing, silently; so
    one thread, the keeper, holds it for all. A thread that computes for a moment only holds it itself, because to
    start the keeper takes longer (0.2 ms); whoever comes meanwhile, or stays longer, starts one that takes over.
    Pools that each thread has for itself (OpenMP) are limited by every thread, and by `limit_this_thread`.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything: in a forked child there is no keeper, and the lock may be one that nobody will open."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._running = 0
        self._numbers: list[int] = []
        self._release = threading.Event()
        self._keeper: threading.Thread | None = None

    @contextmanager
    def __call__(self, brief: bool = False) -> Iterator[None]:
        """One BLAS thread within the block; `brief` says that it takes milliseconds, and sets no limits of its own."""
        process, own = self._process, _pools().own
        numbers = [pool.num_threads for pool in own]
        with self._lock:
            first = self._enter(brief)
        try:
            _set(own, 1)
            yield
        finally:
            _set(own, *numbers)
            if process == self._process:  # else a child was forked within the block: it holds nothing
                with self._lock:
                    self._leave(brief and first)

    def _enter(self, brief: bool) -> bool:
        """Count one more block that runs; True if it is the only one."""
        shared, self._running = _pools().shared, self._running + 1
        if self._running == 1:
            self._numbers = [pool.num_threads for pool in shared]
        if not brief and self._keeper is None:
            self._hand_over()
        elif self._running == 1:
            _take(shared, 1)
        return self._running == 1

    def _leave(self, holder: bool) -> None:
        self._running -= 1
        if self._running:
            if holder and self._keeper is None:
                self._hand_over()
            return
        if self._keeper is not None:
            self._release.set()
            self._keeper.join()
            self._keeper = None
        _take(_pools().shared, *self._numbers)
        _nobody_controls()

    def _hand_over(self) -> None:
        held, self._release = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=_keep, args=(held, self._release), name="streamem-blas", daemon=True)
        self._keeper.start()
        held.wait()


def _keep(held: threading.Event, release: threading.Event) -> None:
    try:
        _take(_pools().shared, 1)
    finally:
        held.set()
    release.wait()


def _take(pools: Sequence[LibController], *numbers: int) -> None:
    """Limit shared pools by this thread, whichever thread did so before: a caller's limit must not be in the way."""
    _nobody_controls()
    _set(pools, *numbers)


def _set(pools: Sequence[LibController], *numbers: int) -> None:
    """One number of threads for all pools, or one for each."""
    for pool, number in zip(pools, numbers * len(pools) if len(numbers) == 1 else numbers, strict=True):
        pool.set_num_threads(number)


def _nobody_controls() -> None:
    for pool in _pools().shared:
        if hasattr(pool, "clear_controlling_thread"):
            pool.clear_controlling_thread(force=True)


def limit_this_thread() -> None:
    """For the rest of this thread's life, pools of its own have one thread too."""
    _controller().limit(limits=1)


@cache
def _controller() -> ThreadpoolController:
    """The libraries that compute for us; finding them takes milliseconds."""
    # A library that is loaded later would not be limited, and SciPy brings a BLAS of its own.
    with uninterrupted():
        import scipy.linalg  # noqa: F401

    return ThreadpoolController()


class _Pools(NamedTuple):
    """Libraries whose threads all threads of the process share, and those that have threads for each."""

    shared: list[LibController]
    own: list[LibController]


@cache
def _pools() -> _Pools:
    pools = _controller().lib_controllers
    shared = [pool for pool in pools if pool.user_api == "blas" and not _is_each_threads_own(pool)]
    return _Pools(shared, [pool for pool in pools if pool not in shared])


def _is_each_threads_own(pool: LibController) -> bool:
    return pool.internal_api == "openblas" and getattr(pool, "threading_layer", None) == "openmp"


one_blas_thread = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.begin_anew)
