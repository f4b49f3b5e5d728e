"""Reading models and checkpoints with suspicion: nothing in a file is believed before it is checked."""

from __future__ import annotations

import json
import logging
import math
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import Address, address_of, as_address, is_address
from streamem.core.archive import ARRAY_NAME, DOCUMENT, LIMIT_DOCUMENT_BYTES, SCHEMA, generations, is_plain
from streamem.core.errors import ModelFileError, SourceError
from streamem.core.stored_objects import get, size_of

_LIMIT_HEADER_BYTES = 4096
_PIECE_BYTES = 2**20


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
    path: Path | Address


class _UnsuitableFileError(ModelFileError):
    """An intact file that is not for this reader: older generations must not stand in for it."""


def read_archive(path: str | os.PathLike[str], kind: str) -> Archive:
    """Read a file, believing nothing in it: no pickle, and no allocation larger than the file.

    Raises
    ------
    ModelFileError : nothing is there, or it is damaged, of another kind, of a newer schema, or hostile
    """
    path = place_of(path)
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
    for candidate in generations(place_of(path)):
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


def place_of(path: str | os.PathLike[str]) -> Path | Address:
    """The file, or the address of the object, that a path names."""
    found = as_address(path)
    return address_of(found) if is_address(found) else Path(found)


def is_there(place: Path | Address) -> bool:
    """Whether there is a file or an object.

    Raises
    ------
    SourceError : the store refuses
    """
    return size_of(place) is not None if isinstance(place, Address) else place.exists()


@contextmanager
def _opened(path: Path | Address, kind: str) -> Iterator[tuple[IO[bytes], int]]:
    """A file or object to be read, and its size."""
    if isinstance(path, Address):
        try:
            content = get(path)
        except SourceError as error:
            raise ModelFileError(str(error)) from None
        if content is None:
            raise ModelFileError(f"no such object: {path}")
        yield BytesIO(content), len(content)
        return
    if not path.exists():
        raise ModelFileError(f"no such file: {path}")
    if not path.is_file():
        raise ModelFileError(f"{path} is not a regular file; a {kind} is one .npz file")
    with open(path, "rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def _read(path: Path | Address, kind: str) -> Archive:
    with _opened(path, kind) as (file, size), zipfile.ZipFile(file) as archive:
        members = _index(archive)
        document = _read_document(archive, members.pop(DOCUMENT, None))
        _require_suitable(document, path, kind)
        _require_within(members.values(), size)
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


def _require_suitable(document: Mapping[str, Any], path: Path | Address, kind: str) -> None:
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
        if not (name.endswith(".npy") and ARRAY_NAME.fullmatch(name.removesuffix(".npy"))):
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
        if not is_plain(dtype):
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
