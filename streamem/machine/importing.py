"""Imports that an interrupt cannot leave half done.

An exception within an import takes the package out of `sys.modules`, but not those of its parts that were complete: the
next import finds these, does not tie them to the new package, and large libraries (Numba, pyarrow, SciPy) are broken
until the interpreter ends. So signals wait until an import is over; only the main thread is ever interrupted by one.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Those whose Python handlers are known to raise: Ctrl-C, and what time limits and process managers send."""


@contextmanager
def uninterrupted(*modules: str) -> Iterator[None]:
    """Let signals wait until the end of the block, if this is the main thread; then each goes to its handler.

    Parameters
    ----------
    modules : all that the block imports, where they can be listed: once they are loaded, the block costs nothing
    """
    if modules and all(name in sys.modules for name in modules):
        yield
        return
    earlier: dict[int, Any] = {}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = int(getattr(signal, name, 0))
                if number and callable(handler := signal.getsignal(number)):
                    earlier[number] = handler
                    signal.signal(number, note)
        yield
    finally:
        for number in reversed(earlier):  # Ctrl-C, which may come at this very moment, last
            signal.signal(number, earlier[number])
        for number in came:
            signal.raise_signal(number)


def import_whole(name: str) -> ModuleType:
    """A module by its name, as `importlib.import_module` gives it; an interrupt waits until the import is over."""
    if name in sys.modules:
        return importlib.import_module(name)
    with uninterrupted():
        return importlib.import_module(name)
