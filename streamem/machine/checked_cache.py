"""Compiled code on disk, with a checksum: a damaged file is compiled again, where Numba's own cache fails for ever.

Code of this package goes by the contents of its files: below `NUMBA_CACHE_DIR` all copies of one version share it.
Half a file was an `UnpicklingError` at every call, a flipped byte of machine code ended the process. Built on classes
of `numba.core.caching`, which are half public: without them Numba's own cache serves.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from streamem.machine.processor import USUAL_WIDTH, VECTOR_BITS
from streamem.machine.whole_numba import caching, config
from streamem.machine.without_machine_code import rebuilt

logger = logging.getLogger("streamem")

DIGEST_BYTES = 16

PACKAGE = Path(__file__).parents[1]

FunctionCache: Any = getattr(caching, "FunctionCache", object)
Implementation: Any = getattr(FunctionCache, "_impl_class", object)
IndexDataCacheFile: Any = getattr(caching, "IndexDataCacheFile", object)

NOWHERE = "no folder that can be written"

_TOLD: set[tuple[str, str]] = set()


def keep_on_disk(dispatcher: Any, function: Callable[..., Any], has_machine_code: bool = True) -> None:
    """Let a compiled function be loaded from, and saved to, the folder that Numba would choose."""
    try:
        dispatcher._cache = (CheckedCache if has_machine_code else UnwrittenCache)(function)
    except RuntimeError:  # neither beside the source nor in the user's cache folder
        _tell(NOWHERE, "is kept nowhere, so that every process compiles anew", "set NUMBA_CACHE_DIR to a folder")
    except (AttributeError, TypeError):  # another Numba, whose files are the same for all widths
        if VECTOR_BITS == USUAL_WIDTH:
            dispatcher.enable_caching()


class SharedPlace:
    """Where all copies of one version keep a function of this package: a folder named by the contents of its files.

    One of Numba's locators, which otherwise name a folder by the path of the source.
    """

    def __init__(self, line: int, room: Path) -> None:
        self._line, self._folder = line, Path(config.CACHE_DIR, f"streamem-{_stamp_of_rooms()}", room)

    @classmethod
    def from_function(cls, function: Callable[..., Any], source: str) -> SharedPlace | None:
        """A place; None, so that Numba goes on looking, without `NUMBA_CACHE_DIR` or for a function of other files."""
        file = Path(source)
        if not config.CACHE_DIR or file not in _files_of_rooms():
            return None
        return cls(function.__code__.co_firstlineno, file.parent.relative_to(PACKAGE))

    def get_cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        """Make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        """What says whether the source has changed."""
        return _stamp_of_rooms()

    def get_disambiguator(self) -> str:
        """What tells functions of one name in one file apart."""
        return str(self._line)


class _PlacedImplementation(Implementation):
    _locator_classes = (SharedPlace, *getattr(Implementation, "_locator_classes", ()))


class CheckedCache(FunctionCache):
    """Numba's cache of a function, whose files are checked before they are used and need not be writable."""

    _impl_class = _PlacedImplementation

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # Names of their own, since neither cache would understand the other's files; and of each width of vectors,
        # which is no part of Numba's key.
        self._cache_file = _CheckedFiles(
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}.checked{VECTOR_BITS}",
            source_stamp=(self._impl.locator.get_source_stamp(), _stamp_of_rooms()),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is cached for a signature; None if there is nothing that can be used."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            _tell(self._cache_path, "cannot be used", error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save what was compiled; a folder that takes nothing costs the next process its time, and nothing else."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell(self._cache_path, "cannot be written", error, once=True)


class _UnwrittenImplementation(_PlacedImplementation):
    def rebuild(self, target_context: Any, payload: tuple[Any, ...]) -> Any:
        return rebuilt(target_context, payload)


class UnwrittenCache(CheckedCache):
    """The cache of a function without machine code."""

    _impl_class = _UnwrittenImplementation


class _CheckedFiles(IndexDataCacheFile):
    """Index and data files that begin with a checksum of the rest; data says for which source and key it is."""

    _cache_path: str
    _index_path: str
    _source_stamp: Any
    _version: str

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        found = super().load(key)
        # Two processes that write at once may have given one name to two signatures.
        return found[2] if found is not None and found[:2] == (self._source_stamp, key) else None

    def _load_index(self) -> dict[Any, str]:
        data = self._checked(Path(self._index_path))
        version, rest = pickle.loads(data) if data else (None, b"")
        if version != self._version:
            return {}
        stamp, overloads = pickle.loads(rest)
        return dict(overloads) if stamp == self._source_stamp else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        rest = self._dump((self._source_stamp, overloads))
        self._write(self._index_path, pickle.dumps((self._version, rest)))

    def _load_data(self, name: str) -> Any:
        data = self._checked(Path(self._data_path(name)))
        return pickle.loads(data) if data else None

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _write(self, path: str, data: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(_digest(data) + data)

    def _checked(self, path: Path) -> bytes:
        """The contents behind the checksum; nothing if there is no file, or another one than was written."""
        with suppress(FileNotFoundError):
            stored = path.read_bytes()
            if _digest(data := stored[DIGEST_BYTES:]) == stored[:DIGEST_BYTES]:
                return data
            _tell(self._cache_path, "is damaged, and compiled again", path.name)
        return b""


@cache
def _files_of_rooms() -> tuple[Path, ...]:
    """All files of compiled code; what is `plain` compiles nothing."""
    files = (path for room in ("machine", "kernels") for path in (PACKAGE / room).rglob("*.py"))
    return tuple(sorted(path for path in files if "plain" not in path.relative_to(PACKAGE).as_posix()))


@cache
def _stamp_of_rooms() -> str:
    """Digest of the names and contents of all files of compiled code: a function holds the code of those that it calls.

    Numba looks at the function's own file alone, and would go on with the old code of a file that it calls.
    """
    contents = [(str(path.relative_to(PACKAGE)), path.read_bytes()) for path in _files_of_rooms()]
    return _digest(repr(contents).encode()).hex()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def _tell(folder: str, what: str, why: object, once: bool = False) -> None:
    """Once a folder and kind, or once a process."""
    key = ("" if once else folder, what)
    if key not in _TOLD:
        _TOLD.add(key)
        logger.warning("compiled code in %s %s: %s", folder, what, why)


def folder_of_code() -> str:
    """Where compiled code of this package is kept: the folder of this version, or of one file of it."""
    if config.CACHE_DIR:
        return str(Path(config.CACHE_DIR, f"streamem-{_stamp_of_rooms()}"))
    try:
        return str(CheckedCache(folder_of_code)._cache_path)
    except RuntimeError:
        return NOWHERE
