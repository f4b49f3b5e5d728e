"""The file format of models and checkpoints: ``.npz`` without pickle, saved atomically, read with suspicion.

A file is a zip of uncompressed members: every array as ``<name>.npy`` and one ``meta.json``, so that
``numpy.load`` opens it too. Equal content gives equal bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import secrets
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EINVAL, ENOTSUP
from glob import escape
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ModelFileError, OutputError, ParameterError

SCHEMA = 1
DOCUMENT = "meta.json"
LIMIT_DOCUMENT_BYTES = 2**24
_LIMIT_HEADER_BYTES = 4096
_PIECE_BYTES = 2**20
_ALLOWED_KINDS = "biufcSU"
_ARRAY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")


@dataclass(frozen=True, eq=False)
class Archive:
    """The content of a file.

    Attributes
    ----------
    meta : what was passed to `write_archive`, as JSON gives it back (tuples are lists, keys sorted)
    arrays : by name, sorted; writeable, in the dtype, shape and memory order they were saved in
    path : the file that was read, which may be an older generation
    """

    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    path: Path


class _UnsuitableFileError(ModelFileError):
    """An intact file that is not for this reader: older generations must not stand in for it."""


# --- writing ------------------------------------------------------------------------------------------------


def write_archive(
    path: str | os.PathLike[str],
    kind: str,
    meta: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    keep: int = 0,
) -> None:
    """Save atomically: whatever happens, a reader finds the complete old or the complete new content.

    Parameters
    ----------
    path : the file; its folder must exist
    kind : what the file is ("model", "checkpoint"); the reader has to ask for the same
    meta : anything that JSON can hold (NaN and infinities as Python's `json` spells them)
    arrays : of numbers, booleans, unicode or bytes, of any shape
    keep : how many earlier generations stay, as ``path.1`` (the newest), ``path.2``, …

    Raises
    ------
    TypeError : an array of objects or records, or meta that is not JSON
    ParameterError : a name, a `keep` or a size that the format does not allow
    OutputError : the disk is full, or the folder is missing or not writable; the earlier file is intact
    """
    path = Path(path)
    values = {name: _require_savable(name, arrays[name]) for name in sorted(arrays)}
    document = _encode(kind, meta, list(values))
    if keep < 0:
        raise ParameterError(f"keep={keep}: the number of earlier generations must be >= 0")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        _write_synced(temporary, document, values)
        _install(temporary, path, keep)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write the {kind} {path}: {error}; {_what_remains(path)}") from error
        raise
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
    if not _ARRAY_NAME.fullmatch(name) or name.endswith((".npy", DOCUMENT)):  # ambiguous to numpy.load
        raise ParameterError(
            f"{name!r} cannot name an array in a file; use up to 200 letters, digits, '_', '.' and '-'"
        )
    array = np.asarray(value)
    if not _is_plain(array.dtype):
        raise TypeError(f"array {name!r} has dtype {array.dtype}; files hold numbers, booleans, unicode and bytes")
    return array


def _is_plain(dtype: np.dtype[Any]) -> bool:
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


def _write_synced(temporary: Path, document: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    with open(temporary, "xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_entry(DOCUMENT), document)
            for name, array in arrays.items():
                with archive.open(_entry(f"{name}.npy"), "w", force_zip64=array.nbytes >= 2**30) as member:
                    np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


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
            os.replace(source, destination)
        os.replace(temporary, path)
    except BaseException:
        for source, destination in moves:
            if not os.path.lexists(source):
                with suppress(OSError):
                    os.replace(destination, source)
        raise


def _what_remains(path: Path) -> str:
    if os.path.lexists(path):
        return "the earlier file is intact"
    older = _generations(path)[1:]
    return f"the earlier file is intact as {older[0]}" if older else "no file was left behind"


# --- reading ------------------------------------------------------------------------------------------------


def read_archive(path: str | os.PathLike[str], kind: str) -> Archive:
    """Read a file, believing nothing in it: no pickle, and no allocation larger than the file.

    Raises
    ------
    ModelFileError : nothing is there, or it is damaged, of another kind, of a newer schema, or hostile
    """
    path = Path(path)
    try:
        return _read(path, kind)
    except (ModelFileError, MemoryError):
        raise
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # whatever a hostile file makes zipfile, json and NumPy raise
        raise ModelFileError(
            f"{path} cannot be trusted: {error or type(error).__name__}; it is damaged, incomplete, or no "
            f"{kind} written by streamem; use another copy or an older generation"
        ) from error


def read_newest(path: str | os.PathLike[str], kind: str) -> Archive:
    """Read a file, or the newest older generation that is valid, and warn in the log "streamem".

    A file that is intact but of another kind or of a newer schema is refused, whatever older generations there
    are: going on from one of those would undo work.

    Raises
    ------
    ModelFileError : no generation can be read
    """
    problems: list[ModelFileError] = []
    for candidate in _generations(Path(path)):
        try:
            archive = read_archive(candidate, kind)
        except _UnsuitableFileError:
            raise
        except ModelFileError as error:
            problems.append(error)
            continue
        for problem in problems:
            logging.getLogger("streamem").warning("%s. Going on with the older generation %s", problem, candidate)
        return archive
    if len(problems) == 1:
        raise problems[0]
    listed = ". ".join(str(problem) for problem in problems)
    raise ModelFileError(f"none of {len(problems)} generations can be read. {listed}") from problems[0]


def _generations(path: Path) -> list[Path]:
    found = path.parent.glob(f"{escape(path.name)}.*")
    older = [other for other in found if other.stem == path.name and re.fullmatch(r"\.[0-9]{1,9}", other.suffix)]
    return [path, *sorted(older, key=lambda other: int(other.suffix[1:]))]


def _read(path: Path, kind: str) -> Archive:
    if not path.exists():
        raise ModelFileError(f"no such file: {path}")
    if not path.is_file():
        raise ModelFileError(f"{path} is not a regular file; a {kind} is one .npz file")
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = _index(archive)
        document = _read_document(archive, members.pop(DOCUMENT, None))
        _require_suitable(document, path, kind)
        _require_within(members.values(), os.fstat(file.fileno()).st_size)
        if (found := sorted(name.removesuffix(".npy") for name in members)) != document["arrays"]:
            raise ValueError(f"it holds the arrays {found}, but {DOCUMENT} lists {document['arrays']}")
        arrays = {name.removesuffix(".npy"): _read_array(archive, members[name]) for name in sorted(members)}
    return Archive(document["meta"], arrays, path)


def _index(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if member.filename in members:
            raise ValueError(f"it has two members named {member.filename!r}")
        members[member.filename] = member
    return members


def _read_document(archive: zipfile.ZipFile, member: zipfile.ZipInfo | None) -> dict[str, Any]:
    if member is None:
        raise ValueError(f"it has no {DOCUMENT}")
    if member.file_size > LIMIT_DOCUMENT_BYTES:
        raise ValueError(f"its {DOCUMENT} claims {member.file_size} bytes, above {LIMIT_DOCUMENT_BYTES}")
    _require_stored(member)
    document = json.loads(archive.read(member))
    if not isinstance(document, dict) or type(document.get("schema")) is not int:
        raise ValueError(f"its {DOCUMENT} tells no schema")
    return document


def _require_suitable(document: Mapping[str, Any], path: Path, kind: str) -> None:
    if document["schema"] > SCHEMA:  # first: nothing else is known about the files of a later streamem
        raise _UnsuitableFileError(
            f"{path} was written by streamem {_writer(document)} with schema {document['schema']}; "
            f"this streamem reads schemas up to {SCHEMA}; upgrade streamem"
        )
    types = {"kind": str, "meta": dict, "arrays": list, "versions": dict}
    if any(type(document.get(key)) is not types[key] for key in types):
        raise ValueError(f"its {DOCUMENT} lacks one of {', '.join(types)}")
    if document["kind"] != kind:
        raise _UnsuitableFileError(
            f"{path} is a {document['kind']}, not a {kind}; pass a file that was saved as a {kind}"
        )


def _writer(document: Mapping[str, Any]) -> str:
    versions = document.get("versions")
    return str(versions.get("streamem")) if isinstance(versions, dict) else "(unknown version)"


def _require_within(members: Collection[zipfile.ZipInfo], size: int) -> None:
    """Refuse odd names, compression, and members that overlap: then no more is read than the file is long."""
    for member in members:
        name = member.filename
        if not (name.endswith(".npy") and _ARRAY_NAME.fullmatch(name.removesuffix(".npy"))):
            raise ValueError(f"it has a member named {name!r}")
        _require_stored(member)
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise ValueError(f"its members claim {claimed} bytes, but the file has {size}")


def _require_stored(member: zipfile.ZipInfo) -> None:
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ValueError(f"its member {member.filename!r} is compressed, which streamem never does")


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"its member {member.filename!r} is of an unknown npy version")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream, _LIMIT_HEADER_BYTES)
        if not _is_plain(dtype):
            raise ValueError(f"its member {member.filename!r} holds {dtype}; allowed are numbers, booleans and text")
        held = member.file_size - stream.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held:
            raise ValueError(f"its member {member.filename!r} declares shape {shape} of {dtype} but holds {held} bytes")
        flat = np.empty(math.prod(shape), dtype)
        _fill(flat.view(np.uint8), stream)
    _require_valid(flat, member.filename)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _fill(target: NDArray[np.uint8], stream: IO[bytes]) -> None:
    """Read up to the end of the member, where zipfile compares the checksum."""
    position = 0
    while piece := stream.read(_PIECE_BYTES):
        target[position : position + len(piece)] = np.frombuffer(piece, np.uint8)
        position += len(piece)
    if position != len(target):
        raise ValueError("the file ends too early")


def _require_valid(flat: NDArray[Any], name: str) -> None:
    """Refuse bytes that are no value of their dtype: NumPy computes nonsense from them, or fails late."""
    if flat.dtype.kind == "b" and flat.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"its member {name!r} holds booleans that are neither 0 nor 1")
    if flat.dtype.kind == "U":
        points = flat.view(np.dtype(np.uint32).newbyteorder(flat.dtype.byteorder))
        if points.max(initial=0) > 0x10FFFF:
            raise ValueError(f"its member {name!r} holds characters that do not exist")
