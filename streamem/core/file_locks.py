"""Locks on files and folders that the kernel forgets with the process that held them.

On file systems without locks, and on Windows, nothing is locked and nobody waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType

from streamem.core.errors import OutputError, WriterConflictError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

POLL_S = 0.05
FOLDER_WAIT_S = 60.0
"""How long a save waits for a folder that somebody else has locked."""


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder for this descriptor: True if that is done, False if somebody else has it.

    None where there are no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


@contextmanager
def locked_folder(folder: Path, wait_s: float | None = None) -> Iterator[None]:
    """Nobody else of this library saves in the folder meanwhile.

    Parameters
    ----------
    wait_s : seconds to wait for somebody else; None is `FOLDER_WAIT_S`

    Raises
    ------
    OutputError : somebody else has it for longer
    """
    patience = FOLDER_WAIT_S if wait_s is None else wait_s
    descriptor = None
    with suppress(OSError):  # writing will say what is wrong
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None:
            deadline = monotonic() + patience
            while try_lock(descriptor) is False:
                if monotonic() >= deadline:
                    raise OutputError(
                        f"nothing can be saved in {folder}: {_holder(descriptor)} has locked the folder for more than "
                        f"{patience:g} s. End it, or save in another folder; the earlier files are intact"
                    )
                sleep(POLL_S)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


class OnlyWriter:
    """The right of one process to write a file that is replaced at every save: a lock on ``.NAME.lock`` beside it.

    Parameters
    ----------
    path : the file
    what : who writes it, for the message

    Raises
    ------
    WriterConflictError : somebody else has it
    """

    def __init__(self, path: Path, what: str) -> None:
        self._beside = path.with_name(f".{path.name}.lock")
        self._descriptor: int | None = None
        if fcntl is None:
            return
        while self._descriptor is None:
            try:
                descriptor = os.open(self._beside, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError:  # saving will say what is wrong
                return
            if try_lock(descriptor) is False:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise WriterConflictError(
                    f"{path} is being written by another {what} ({holder}): two of them would overwrite each other. "
                    f"Wait for its end, stop it, or name another file"
                )
            if _is(descriptor, self._beside):
                self._descriptor = descriptor
            else:  # its last owner has just removed it
                os.close(descriptor)

    def release(self) -> None:
        """Let others write, and remove the file beside."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._beside.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> OnlyWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _holder(descriptor: int) -> str:
    """The process that holds a lock, as far as the system tells."""
    state = os.fstat(descriptor)
    with suppress(OSError, ValueError, IndexError):
        place = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] != "->" and fields[5] == place:
                return _described(int(fields[4]))
    return "another process"


def _described(pid: int) -> str:
    name: Callable[[], str] = Path(f"/proc/{pid}/comm").read_text
    with suppress(OSError):
        return f"process {pid}, {name().strip()}"
    return f"process {pid}"
