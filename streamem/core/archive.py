"""The file format of models and checkpoints: ``.npz`` without pickle, saved atomically.

A file is a zip of uncompressed members: every array as ``<name>.npy`` and one ``meta.json``, so that
``numpy.load`` opens it too. Equal content gives equal bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from errno import EINVAL, ENOTSUP
from glob import escape
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import Address, address_of, as_address, is_address
from streamem.core.errors import OutputError, ParameterError
from streamem.core.leftovers import Claim, partial_file, remove_leftovers
from streamem.core.stored_objects import SoleWriter, generations_at, replace_keeping

SCHEMA = 1
DOCUMENT = "meta.json"
LIMIT_DOCUMENT_BYTES = 2**24
_ALLOWED_KINDS = "biufcSU"
ARRAY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    meta: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    keep: int = 0,
    only: SoleWriter | None = None,
) -> None:
    """Save atomically: whatever happens, a reader finds the complete old or the complete new content.

    Parameters
    ----------
    path : the file, whose folder must exist, or an address of a store
    kind : what the file is ("model", "checkpoint"); the reader has to ask for the same
    meta : anything that JSON can hold (NaN and infinities as Python's `json` spells them)
    arrays : of numbers, booleans, unicode or bytes, of any shape
    keep : how many earlier generations stay, as ``path.1`` (the newest), ``path.2``, …
    only : of an address, who alone may write there

    Raises
    ------
    TypeError : an array of objects or records, or meta that is not JSON
    ParameterError : a name, a `keep` or a size that the format does not allow
    OutputError : the disk is full, or the folder is missing or not writable; the earlier file is intact
    """
    path = as_address(path)
    values = {name: _require_savable(name, arrays[name]) for name in sorted(arrays)}
    document = _encode(kind, meta, list(values))
    if keep < 0:
        raise ParameterError(f"keep={keep}: the number of earlier generations must be >= 0")
    if is_address(path):
        content = BytesIO()
        _write(content, document, values)
        replace_keeping(address_of(path), content.getvalue(), keep, only)
        return
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"cannot write the {kind} {path}: there is no folder {path.parent}; create it first")
    remove_leftovers(path)
    temporary = partial_file(path)
    claim: Claim | None = None
    try:
        with open(temporary, "xb") as file:
            claim = Claim(temporary)
            _write_synced(file, document, values)
        _install(temporary, path, keep)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write the {kind} {path}: {error}; {_what_remains(path)}") from error
        raise
    finally:
        if claim is not None:
            claim.release()
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"the {kind} {path} is complete, but its folder cannot be synced: {error}; a power cut may undo the save"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power cut, on file systems that can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _require_savable(name: str, value: NDArray[Any]) -> NDArray[Any]:
    if not ARRAY_NAME.fullmatch(name) or name.endswith((".npy", DOCUMENT)):  # ambiguous to numpy.load
        raise ParameterError(
            f"{name!r} cannot name an array in a file; use up to 200 letters, digits, '_', '.' and '-'"
        )
    array = np.asarray(value)
    if not is_plain(array.dtype):
        raise TypeError(f"array {name!r} has dtype {array.dtype}; files hold numbers, booleans, unicode and bytes")
    return array


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this type can be saved: no objects, no structures."""
    return dtype.kind in _ALLOWED_KINDS and dtype.itemsize > 0


def _encode(kind: str, meta: Mapping[str, Any], names: list[str]) -> bytes:
    """The document; it lists the arrays, because a damaged zip directory can lose members unnoticed."""
    versions = {
        "streamem": _own_version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    content = {"schema": SCHEMA, "kind": kind, "meta": dict(meta), "arrays": names, "versions": versions}
    document = json.dumps(content, sort_keys=True, indent=1).encode()
    if len(document) > LIMIT_DOCUMENT_BYTES:
        raise ParameterError(
            f"meta is {len(document)} bytes of JSON, above the {LIMIT_DOCUMENT_BYTES} of the format; "
            "pass what is long as an array"
        )
    return document


def _own_version() -> str:
    try:
        return importlib.metadata.version("streamem")
    except importlib.metadata.PackageNotFoundError:  # run from a folder: no reason to lose a fit
        return "(not installed)"


def _write_synced(file: BinaryIO, document: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    _write(file, document, arrays)
    file.flush()
    os.fsync(file.fileno())


def _write(file: BinaryIO, document: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(DOCUMENT), document)
        for name, array in arrays.items():
            with archive.open(_entry(f"{name}.npy"), "w", force_zip64=array.nbytes >= 2**30) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def _install(temporary: Path, path: Path, keep: int) -> None:
    """Rotate the generations, oldest first, and put the new file in place; undo all if that fails."""
    chain = [path]
    while len(chain) <= keep and os.path.lexists(chain[-1]):
        chain.append(path.with_name(f"{path.name}.{len(chain)}"))
    moves = list(pairwise(chain))
    try:
        for source, destination in reversed(moves):
            if source != path or not _linked(source, destination):
                os.replace(source, destination)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            if moves and os.path.samefile(*moves[0]):
                moves[0][1].unlink()
        for source, destination in moves:
            if not os.path.lexists(source):
                with suppress(OSError):
                    os.replace(destination, source)
        raise


def _linked(source: Path, destination: Path) -> bool:
    """Give a file a second name, so that there is no moment at which it has none; False where that cannot be done."""
    second = partial_file(destination)
    try:
        os.link(source, second)
    except OSError:
        return False
    try:
        os.replace(second, destination)
    except BaseException:
        with suppress(OSError):
            second.unlink(missing_ok=True)
        raise
    return True


def _what_remains(path: Path) -> str:
    if os.path.lexists(path):
        return "the earlier file is intact"
    older = generations(path)[1:]
    return f"the earlier file is intact as {older[0]}" if older else "no file was left behind"


@overload
def generations(path: Path) -> list[Path]: ...


@overload
def generations(path: Path | Address) -> list[Path] | list[Address]: ...


def generations(path: Path | Address) -> list[Path] | list[Address]:
    """The file or object itself, and its older generations, newest first."""
    if isinstance(path, Address):
        return generations_at(path)
    found = path.parent.glob(f"{escape(path.name)}.*")
    older = [other for other in found if other.stem == path.name and re.fullmatch(r"\.[0-9]{1,9}", other.suffix)]
    return [path, *sorted(older, key=lambda other: int(other.suffix[1:]))]
