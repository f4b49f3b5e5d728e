"""One BLAS thread for everyone who computes here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

from streamem.machine.importing import uninterrupted


class _OneBlasThread:
    """Limits BLAS while anyone in this process computes; the first in sets the limit, the last out lifts it.

    A limit for each would not do: others would see it lifted halfway, and change their bits. Since threadpoolctl 3.8
    only the thread that set the limit of a shared pool may change it, and calls from others do nothing, silently; so
    one thread holds it for all. Pools that each thread has for itself (OpenMP) are limited by `limit_this_thread`.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything: in a forked child there is no keeper, and the lock may be one that nobody will open."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._running = 0
        self._release = threading.Event()
        self._keeper: threading.Thread | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        process = self._process
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._hold()
        try:
            with _controller().limit(limits=1):
                yield
        finally:
            if process == self._process:  # else a child was forked within the block: it holds nothing
                with self._lock:
                    self._running -= 1
                    if self._running == 0:
                        self._let_go()

    def _hold(self) -> None:
        held, self._release = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=_keep, args=(held, self._release), name="streamem-blas", daemon=True)
        self._keeper.start()
        held.wait()

    def _let_go(self) -> None:
        self._release.set()
        if self._keeper is not None:
            self._keeper.join()


def _keep(held: threading.Event, release: threading.Event) -> None:
    try:
        controller = _controller()
        for library in controller.lib_controllers:
            if library.user_api == "blas" and hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)  # a limit that the caller set must not be in the way
        with controller.limit(limits=1):
            held.set()
            release.wait()
    finally:
        held.set()


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


one_blas_thread = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.begin_anew)
