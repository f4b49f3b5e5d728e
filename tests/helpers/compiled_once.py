"""What one worker compiles the others wait for and load: from an empty cache each would compile the first kernels."""

from __future__ import annotations

import fcntl
import time
from functools import wraps
from pathlib import Path
from typing import IO, Any

from streamem.machine.checked_cache import CheckedCache

PATIENCE_S = 120.0
"""Longer than a compilation takes beside others; then two compile the same, and no more is lost."""

_HELD: dict[Path, IO[bytes]] = {}


def compile_once() -> None:
    """Let the caches of this process wait for those of others.

    A lock is taken where nothing is cached, and given back when it is; the system gives back those of a dead process.
    Callers compile what they call meanwhile, so locks are taken downwards only, and nobody waits for each other.
    """
    load, save = CheckedCache.load_overload, CheckedCache.save_overload

    @wraps(load)
    def load_or_wait(self: CheckedCache, sig: Any, target_context: Any) -> Any:
        if (found := load(self, sig, target_context)) is not None:
            return found
        _lock(self)
        if (found := load(self, sig, target_context)) is not None:
            _unlock(self)
        return found

    @wraps(save)
    def save_and_tell(self: CheckedCache, sig: Any, data: Any) -> None:
        try:
            save(self, sig, data)
        finally:
            _unlock(self)

    CheckedCache.load_overload, CheckedCache.save_overload = load_or_wait, save_and_tell  # type: ignore[method-assign]


def _lock(cache: CheckedCache) -> None:
    if (path := _path(cache)) in _HELD:  # by an outer compilation of the same function
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError:  # a folder that takes nothing: no cache either
        return
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            _HELD[path] = file
            return
    file.close()


def _unlock(cache: CheckedCache) -> None:
    if (file := _HELD.pop(_path(cache), None)) is not None:
        file.close()


def _path(cache: CheckedCache) -> Path:
    return Path(cache.cache_path, f"{cache._impl.filename_base}.lock")
