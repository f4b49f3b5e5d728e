"""Which files make up a Parquet data set: found in a fixed order, with the values of their partition columns."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from streamem.core.addresses import Address, address_of, is_address
from streamem.core.data_folders import LakeTable, is_hidden, table_among, table_around, table_around_local
from streamem.core.errors import SourceError
from streamem.core.redaction import HIDDEN
from streamem.core.stored_objects import size_of
from streamem.sources.parquet_footers import FOOTERS_AT_ONCE, faults
from streamem.sources.store_listing import files_below, is_folder, names_in

SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class FileSet:
    """Parquet files that make up one table.

    Attributes
    ----------
    filesystem : where they lie
    paths : in the order of their rows
    keys : for each file, the values of its partition columns
    key_schema : the partition columns
    origin : the whole in words
    """

    filesystem: pafs.FileSystem
    paths: tuple[str, ...]
    keys: tuple[dict[str, Any], ...]
    key_schema: pa.Schema
    origin: str


def find_files(path: str | Address) -> FileSet:
    """A file, or all Parquet files below a folder, sorted by path; hidden ones (``_…``, ``.…``) are left out.

    Raises
    ------
    SourceError : there are none, or they are those of a table of Delta Lake, Iceberg or Hudi
    """
    try:
        return _found(path)
    except UnicodeError as error:
        raise SourceError(
            f"{path!a} holds names that are no UTF-8 ({error}), and Arrow's file systems know no others: rename "
            "these files"
        ) from error


def _found(path: str | Address) -> FileSet:
    if is_address(path):
        return _found_in_store(address_of(path))
    filesystem, root = pafs.LocalFileSystem(), os.fspath(path)
    refuse_lake_table(_table_around(filesystem, root), root)
    if filesystem.get_file_info(root).type != pafs.FileType.Directory:
        return FileSet(filesystem, (root,), ({},), pa.schema([]), f"Parquet file {path}")
    found = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    refuse_lake_table(table_among(entry.path for entry in found), root)
    paths = sorted(entry.path for entry in found if entry.is_file and _is_data(entry.path, root))
    if not paths:
        raise SourceError(f"folder {path} holds no Parquet files ({' or '.join(SUFFIXES)})")
    return _with_hive_keys(filesystem, paths, root, f"Parquet folder {path}")


def _found_in_store(address: Address) -> FileSet:
    """Files at an address: a single one is asked for, the others are listed all at once."""
    filesystem, root = place_of(address)
    refuse_lake_table(_table_around_address(address, set()), str(address))
    if root.endswith(SUFFIXES) and _is_file(filesystem, root, address):
        return FileSet(filesystem, (root,), ({},), pa.schema([]), f"Parquet file {address}")
    found = files_below(address)
    refuse_lake_table(table_among(found), str(address))
    paths = sorted(path for path in found if _is_data(path, root))
    if not paths:
        raise SourceError(
            f"{address} is no Parquet file, and no folder of Parquet files ({' or '.join(SUFFIXES)}): "
            f"{f'{len(found)} other objects lie below it' if found else 'nothing lies there'}"
        )
    return _with_hive_keys(filesystem, paths, root, f"Parquet folder {address}")


def _is_file(filesystem: pafs.FileSystem, root: str, address: Address) -> bool:
    if address.is_known_to_obstore and address.scheme in ("http", "https"):  # which list nothing: it is there, or not
        if size_of(address) is None:
            raise SourceError(f"{address}: the web server has no such file; check the address")
        return True
    found = address.reached(lambda: filesystem.get_file_info(root))
    return bool(found.type == pafs.FileType.File)


def all_files(paths: Sequence[str | Address], origin: str) -> FileSet:
    """The files of several paths, each a file or a folder, in the order of the paths.

    Raises
    ------
    SourceError : as `find_files`, or paths on several file systems
    """
    if any(map(is_address, paths)):
        with ThreadPoolExecutor(FOOTERS_AT_ONCE, "streamem-find") as pool:
            sets = list(pool.map(find_files, paths))
    else:
        sets = [find_files(path) for path in paths]
    for one, path in zip(sets, paths, strict=True):
        if not one.filesystem.equals(sets[0].filesystem):
            raise SourceError(f"{path} and {paths[0]} lie on different file systems; pass files of one of them")
    keys = tuple(values for one in sets for values in one.keys)
    key_schema = pa.unify_schemas([one.key_schema for one in sets], promote_options="permissive")
    return FileSet(sets[0].filesystem, tuple(file for one in sets for file in one.paths), keys, key_schema, origin)


def listed_files(addresses: Sequence[Address], origin: str) -> FileSet:
    """Files of one store that a listing has just found.

    Raises
    ------
    SourceError : they are those of a table of Delta Lake, Iceberg or Hudi
    """
    filesystem, seen = place_of(addresses[0])[0], set[str]()
    paths = tuple(place_of(address)[1] for address in addresses)
    for folder in sorted({posixpath.dirname(address.text) for address in addresses}):
        refuse_lake_table(_table_around_address(addresses[0].at(folder), seen), folder)
    return FileSet(filesystem, paths, ({},) * len(paths), pa.schema([]), origin)


def place_of(address: Address) -> tuple[pafs.FileSystem, str]:
    """obstore's file system where that reaches the address; else Arrow's own, or one of fsspec."""
    if address.is_known_to_obstore or address.options:
        return _of_fsspec(address)
    try:
        place: tuple[pafs.FileSystem, str] = pafs.FileSystem.from_uri(address.text)
    except (pa.ArrowException, ValueError):  # whose text repeats what may be a password
        with contextlib.suppress(SourceError):
            return _of_fsspec(address)
        shown = f"{address.scheme}://{HIDDEN}"
        raise SourceError(
            f"{shown} cannot be opened: Arrow has no file system for this kind of address, or it holds characters that "
            "have to be written as %XX; write it otherwise, or pass a pyarrow dataset of the files instead"
        ) from None
    return place


def _of_fsspec(address: Address) -> tuple[pafs.FileSystem, str]:
    found, root = address.file_system()
    return pafs.PyFileSystem(pafs.FSSpecHandler(found)), root.rstrip("/")


def _is_data(path: str, root: str) -> bool:
    return path.endswith(SUFFIXES) and not any(map(is_hidden, posixpath.relpath(path, root).split("/")))


def refuse_lake_table(table: LakeTable | None, path: str) -> None:
    """Raise `SourceError`, with the way to read it, where there is a table of Delta Lake, Iceberg or Hudi."""
    if table is not None:
        raise SourceError(table.refusal(path))


def _table_around_address(address: Address, seen: set[str]) -> LakeTable | None:
    if address.scheme in ("http", "https"):  # which list nothing
        return None
    if not address.is_known_to_obstore:
        return _table_around(*place_of(address), seen)

    def at(path: str) -> Address:
        return address.at(f"{address.scheme}://{path}")

    path = f"{address.bucket}/{address.key}".rstrip("/")
    return table_around(path, lambda folder: is_folder(at(folder)), lambda folder: names_in(at(folder)), seen)


def _table_around(filesystem: pafs.FileSystem, path: str, seen: set[str] | None = None) -> LakeTable | None:
    if filesystem.type_name == "local":
        return table_around_local(path)

    def is_folder(folder: str) -> bool:
        return bool(filesystem.get_file_info(folder).type == pafs.FileType.Directory)

    def names_in(folder: str) -> list[str]:
        return [entry.base_name for entry in filesystem.get_file_info(pafs.FileSelector(folder))]

    with faults(path):
        return table_around(path, is_folder, names_in, seen)


def require_plain_files(dataset: Any) -> None:
    """Raise `SourceError` if the files of a pyarrow dataset are those of a table of Delta Lake, Iceberg or Hudi.

    A dataset that the table's own library made (deltalake's, on a file system of its own) has only rows that count.
    """
    for child in getattr(dataset, "children", ()):
        require_plain_files(child)
    if not isinstance(dataset, ds.FileSystemDataset):
        return
    kind, seen = dataset.filesystem.type_name, set[str]()
    if kind == "subtree" or (kind.startswith("py::") and not kind.startswith("py::fsspec")):
        return
    for folder in sorted({posixpath.dirname(path) for path in dataset.files}):
        refuse_lake_table(_table_around(dataset.filesystem, folder, seen), folder)


def _with_hive_keys(filesystem: pafs.FileSystem, paths: Sequence[str], root: str, origin: str) -> FileSet:
    if not any("=" in posixpath.relpath(posixpath.dirname(path), root) for path in paths):
        return FileSet(filesystem, tuple(paths), ({},) * len(paths), pa.schema([]), origin)
    with faults(paths[0]):
        opened = partial(ds.dataset, paths, filesystem=filesystem, format="parquet", partition_base_dir=root)
        try:
            dataset = opened(partitioning="hive")
        except pa.ArrowTypeError:  # the files hold a key too, as another type
            keys = _key_fields(posixpath.relpath(posixpath.dirname(path), root) for path in paths)
            dataset = opened(schema=keys, partitioning=ds.partitioning(keys, flavor="hive"))
    return of_dataset(dataset, origin)


def _key_fields(folders: Iterable[str]) -> pa.Schema:
    """The keys in the names of folders ``key=value/…``: int32 where all values are, else text, as Arrow has it."""
    values: dict[str, set[str]] = {}
    for part in {part for folder in folders for part in folder.split("/") if "=" in part}:
        name, _, value = part.partition("=")
        values.setdefault(unquote(name), set()).add(unquote(value))
    return pa.schema(
        {name: pa.int32() if all(map(_is_int32, known)) else pa.string() for name, known in values.items()}
    )


def _is_int32(text: str) -> bool:
    digits = text.removeprefix("-")
    return text == "__HIVE_DEFAULT_PARTITION__" or (digits.isascii() and digits.isdigit() and int(digits) < 2**31)


def of_dataset(dataset: Any, origin: str) -> FileSet:
    """The files of a pyarrow FileSystemDataset of Parquet files, in its own order."""
    fragments = list(dataset.get_fragments())
    keys = tuple(ds.get_partition_keys(fragment.partition_expression) for fragment in fragments)
    key_schema = pa.schema([]) if dataset.partitioning is None else dataset.partitioning.schema
    return FileSet(dataset.filesystem, tuple(f.path for f in fragments), keys, key_schema, origin)
