"""Files that are not complete yet: named so that what a killed process left behind can be recognized and removed.

A name holds the host (a checksum of its name), the process and a random token; while the file grows its writer holds a
lock on it.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

from streamem.core.file_locks import try_lock

logger = logging.getLogger("streamem")

YOUNG_S = 60.0
"""A file of a process number that is taken, by its writer or by a later process, is left alone for so long."""

TOKEN = r"(?P<token>(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]{8})"
FORMS = (re.compile(rf"(\.[0-9]{{1,9}})?\.{TOKEN}\.partial"), re.compile(rf"\.(partial|replaced)-{TOKEN}"))
"""What follows the name of the file that was to be written, or of one of its older generations."""

_OWN: set[str] = set()
"""Tokens of this process: before a restart in a container another one may have had its number."""

_LOOKED_AFTER: set[Path] = set()


@cache
def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _token() -> str:
    token = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    _OWN.add(token)
    return token


def partial_file(path: Path) -> Path:
    """Where a file grows that will be renamed to `path`."""
    return path.with_name(f".{path.name}.{_token()}.partial")


def partial_folder(path: Path) -> Path:
    """Where a result of any kind grows that will be renamed to `path`."""
    return path.with_name(f".{path.name}.partial-{_token()}")


def replaced(partial: Path) -> Path:
    """Where an earlier result goes while the one at `partial` gets its name."""
    return partial.with_name(partial.name.replace(".partial-", ".replaced-"))


class Claim:
    """A lock on a file or folder that grows; the kernel forgets it with the process."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        if os.name != "nt":  # where an open file cannot be renamed
            with suppress(OSError):
                self._descriptor = os.open(path, os.O_RDONLY)
                try_lock(self._descriptor)

    def release(self) -> None:
        """Let it go; again does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this host have left of attempts to write `path`; once a process and path.

    What another host left is not touched, nor what anybody has locked. An earlier result that was on its way out when
    its process was killed, before the new one had its name, gets its name back.
    """
    path = Path(os.path.abspath(path))
    if path in _LOOKED_AFTER:
        return
    _LOOKED_AFTER.add(path)
    with suppress(OSError):
        for name in sorted(os.listdir(path.parent), reverse=True):  # an earlier result before the one that came
            if name.startswith(f".{path.name}."):
                _look_after(path.with_name(name), path)


def _look_after(leftover: Path, path: Path) -> None:
    ending = leftover.name[len(path.name) + 1 :]
    found = next((match for form in FORMS if (match := form.fullmatch(ending))), None)
    if found is None or found["host"] != _host() or found["token"] in _OWN:
        return
    pid = int(found["pid"])
    taken = pid != os.getpid() and _exists(pid)
    aside = ending.startswith(".replaced-")
    with suppress(OSError):
        if aside and not taken and not os.path.lexists(path):
            os.rename(leftover, path)
            logger.warning("%s is back: the process that replaced it was killed before its own result was there", path)
        elif not (taken if aside else _in_use(leftover, taken)):
            _remove(leftover)
            logger.info("%s was removed: a process that was killed had left it", leftover)


def _in_use(leftover: Path, taken: bool) -> bool:
    """Whether somebody may still write it; `taken`: there is a process of the number in its name."""
    if taken and time.time() - leftover.stat().st_mtime < YOUNG_S:
        return True
    descriptor = os.open(leftover, os.O_RDONLY)
    try:
        got = try_lock(descriptor)
    finally:
        os.close(descriptor)
    return taken if got is None else not got


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _remove(leftover: Path) -> None:
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover)
    else:
        leftover.unlink()
