"""The files of a Parquet data set: found in a fixed order, their footers read, their schemas compared."""

from __future__ import annotations

import contextlib
import os
import posixpath
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from streamem.core.addresses import Address, address_of, is_address, store_behind
from streamem.core.data_folders import LakeTable, is_hidden, table_among, table_around, table_around_local
from streamem.core.errors import SchemaError, SourceChangedError, SourceError
from streamem.core.object_requests import Fetched, Piece, fetch_all
from streamem.core.parquet_pages import require_modest_pages
from streamem.core.redaction import HIDDEN
from streamem.core.stored_objects import size_of
from streamem.sources.columns import Column, TableLayout, plan_columns
from streamem.sources.held_file import Parts, PartsFile
from streamem.sources.object_marks import is_far_protocol, mark_of, renew_listings
from streamem.sources.options import ReadOptions
from streamem.sources.store_listing import files_below, is_folder, names_in

FOOTERS_AT_ONCE = 32
TAIL_NBYTES, MAGIC_NBYTES = 2**16, 12
"""Of a file that are read for its footer; and at its ends around everything else."""
SUFFIXES = (".parquet", ".pq")

KEPT_FOOTERS = 8
KEPT_FOOTER_NBYTES = 2**20
"""As they are stored, of small footers: each is three requests of a store."""
KEPT_PAGES = 2**16


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


@dataclass(frozen=True)
class RowGroup:
    """A row group as its footer describes it.

    Attributes
    ----------
    path, number, rows : the file, which of its row groups, and how many rows
    nbytes : the columns to read, compressed
    leaves, dictionaries : physical columns to read, and how many of them have a dictionary
    keys : partition columns
    renamed : columns that the file holds under another name: the name that is wanted, and the file's
    etag : of the file when its footer was read; "" where its store tells none, or no obstore reads it
    """

    path: str
    number: int
    rows: int
    nbytes: int
    leaves: int
    dictionaries: int
    keys: tuple[tuple[str, float | str | None], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    etag: str = ""

    def stored_names(self, names: Iterable[str]) -> list[str]:
        """Under which names the file holds columns; those that it has not are left out."""
        constants, stored = dict(self.keys), dict(self.renamed)
        return [stored.get(name, name) for name in names if name not in constants]

    def stored_layout(self, layout: TableLayout) -> TableLayout:
        """The columns of a layout that the file holds, under its own names."""
        if not self.keys and not self.renamed:
            return layout
        constants, stored = dict(self.keys), dict(self.renamed)

        def own(column: Column) -> Column:
            return replace(column, name=stored.get(column.name, column.name))

        weight = None if layout.weight is None or layout.weight.name in constants else own(layout.weight)
        columns = tuple(own(column) for column in layout.columns if column.name not in constants)
        return TableLayout(columns, weight, layout.dtype)


@dataclass(frozen=True)
class Catalogue:
    """What the footers of all files say together."""

    layout: TableLayout
    row_groups: tuple[RowGroup, ...]


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


def fsspec_of(filesystem: pafs.FileSystem) -> Any:
    """The fsspec file system below one of Arrow's, or None."""
    handler = getattr(filesystem, "handler", None)
    return handler.fs if isinstance(handler, pafs.FSSpecHandler) else None


def renew(filesystem: pafs.FileSystem, paths: Sequence[str]) -> None:
    """Forget earlier listings of an fsspec file system and footers of its files (listings may hold sizes only)."""
    if (inner := fsspec_of(filesystem)) is not None:
        renew_listings(inner, {posixpath.dirname(path) for path in paths})
        FOOTERS.forget(paths)


@contextlib.contextmanager
def open_file(filesystem: pafs.FileSystem, path: str, buffer_nbytes: int = 0) -> Iterator[pq.ParquetFile]:
    """A Parquet file; whatever goes wrong with it becomes a `SourceError` that names it.

    With `buffer_nbytes` the columns of a row group are read so many bytes at a time, not each as a whole.
    """
    with faults(path):
        file = pq.ParquetFile(
            path,
            filesystem=filesystem,
            metadata=FOOTERS.of(filesystem, path),
            page_checksum_verification=True,
            buffer_size=buffer_nbytes,
            pre_buffer=buffer_nbytes == 0,
        )
        with file:
            yield file


def identity_of(filesystem: pafs.FileSystem, path: str) -> tuple[Any, ...]:
    """A text that changes when a file is rewritten: size and modification time, or a mark of its fsspec file system."""
    return _state_of(filesystem, path)[0]


def _state_of(filesystem: pafs.FileSystem, path: str) -> tuple[tuple[Any, ...], int]:
    """The identity of a file, and its size."""
    if (inner := fsspec_of(filesystem)) is not None:
        with faults(path):
            info = inner.info(path)
        size = int(info.get("size") or 0)
        return (id(inner), path, mark_of(info) or size), size
    found = filesystem.get_file_info(path)
    return (filesystem.type_name, path, found.size or 0, found.mtime_ns or 0), int(found.size or 0)


def store_of(filesystem: pafs.FileSystem, path: str) -> tuple[Any, str] | None:
    """obstore's store that holds a file, and its key there; None where another client reads it."""
    inner = fsspec_of(filesystem)
    return None if inner is None else store_behind(inner, path)


def fetch_parts(store: Any, key: str, spans: Sequence[tuple[int, int | None]], etag: str, path: str) -> list[Fetched]:
    """Parts of a file, all asked for at once.

    Raises
    ------
    SourceChangedError : it was rewritten or truncated since its ETag was told, or is gone
    SourceError : the store refuses
    """
    found = fetch_all(store, [Piece(key, first, stop, etag) for first, stop in spans], path.removesuffix(key))
    if any(each is None for each in found):
        raise SourceChangedError(f"Parquet file {path} is gone; it was there when the data was opened")
    return [each for each in found if each is not None]


def _read_footer(filesystem: pafs.FileSystem, path: str, size: int) -> pq.FileMetaData:
    """The footer of a file; of one behind a network by a single request, unless it is large."""
    if size > MAGIC_NBYTES and is_far(filesystem):
        inner = fsspec_of(filesystem)
        first = max(0, size - TAIL_NBYTES)
        tail = Parts((first,), (bytes(inner.cat_file(path, start=first, end=size)),))
        if int.from_bytes(tail.contents[0][-8:-4], "little") + MAGIC_NBYTES <= len(tail.contents[0]):
            return pq.read_metadata(pa.PythonFile(PartsFile(tail), mode="r"))
    return pq.read_metadata(path, filesystem=filesystem)


class Footers:
    """The latest parsed footers of this process: one may be as costly as the row group that is read by it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], pq.FileMetaData] = OrderedDict()

    def of(self, filesystem: pafs.FileSystem, path: str) -> pq.FileMetaData:
        """The footer of a file, parsed again once the file has changed."""
        key, size = _state_of(filesystem, path)
        known = self._known(key)
        return self._keep(filesystem, key, _read_footer(filesystem, path, size)) if known is None else known

    def seen(self, filesystem: pafs.FileSystem, path: str, etag: str) -> pq.FileMetaData:
        """The footer of a file as it was when its ETag was told: without a question whether it is still the same.

        Raises
        ------
        SourceChangedError : it is another by now, and its footer is not here any more
        """
        key = (id(fsspec_of(filesystem)), path, etag)
        known = self._known(key)
        return self.newest(filesystem, path, etag)[0] if known is None else known

    def newest(self, filesystem: pafs.FileSystem, path: str, etag: str = "") -> tuple[pq.FileMetaData, str]:
        """The footer of a file in a store of obstore's, which takes one request unless it is large, and its ETag.

        Raises
        ------
        SourceChangedError : the file has another ETag than the one given
        """
        store, key = store_of(filesystem, path) or (None, path)
        tail = fetch_parts(store, key, [(-TAIL_NBYTES, None)], etag, path)[0]
        etag = tail.etag if tail.etag.startswith('"') else ""  # a weak one says nothing about bytes
        length = int.from_bytes(tail.content[-8:-4], "little") + MAGIC_NBYTES
        if len(tail.content) < length <= tail.size:
            tail = fetch_parts(store, key, [(tail.size - length, tail.size)], etag, path)[0]
        held = Parts((tail.first,), (tail.content,))
        footer = pq.read_metadata(pa.PythonFile(PartsFile(held), mode="r"))
        return self._keep(filesystem, (id(fsspec_of(filesystem)), path, etag), footer) if etag else footer, etag

    def _known(self, key: tuple[Any, ...]) -> pq.FileMetaData | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, filesystem: pafs.FileSystem, key: tuple[Any, ...], footer: pq.FileMetaData) -> pq.FileMetaData:
        with self._lock:
            self._kept[key] = footer
            held = sum(each.serialized_size for each in self._kept.values())
            most = KEPT_FOOTER_NBYTES if is_far(filesystem) else 0
            while len(self._kept) > KEPT_FOOTERS and held > most:
                held -= self._kept.popitem(last=False)[1].serialized_size
        return footer

    def forget(self, paths: Collection[str]) -> None:
        """Parse the footers of these files again."""
        with self._lock:
            for key in [key for key in self._kept if key[1] in paths]:
                del self._kept[key]


FOOTERS = Footers()


class SoundPages:
    """Row groups whose pages were looked at: once for each state of a file, and on this machine only."""

    def __init__(self) -> None:
        self._known: set[tuple[Any, ...]] = set()

    def require(self, filesystem: pafs.FileSystem, path: str, file: pq.ParquetFile, number: int, names: Any) -> None:
        """Raise `SourceError` if a page of the named columns claims more than its column has (`parquet_pages`)."""
        if filesystem.type_name != "local":
            return  # each header would be a request
        key = (identity_of(filesystem, path), number, frozenset(names))
        if key in self._known:
            return
        with faults(path):
            require_modest_pages(path, file.metadata, number, key[2])
        if len(self._known) >= KEPT_PAGES:
            self._known.clear()
        self._known.add(key)


SOUND_PAGES = SoundPages()


@contextlib.contextmanager
def faults(what: str) -> Iterator[None]:
    """Whatever goes wrong with a Parquet file as an error that names it."""
    try:
        yield
    except (SourceError, SchemaError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"cannot read Parquet file {what}: {error}") from error


def read_catalogue(files: FileSet, options: ReadOptions) -> Catalogue:
    """Read every footer, one at a time, and check that the files agree.

    Raises
    ------
    SchemaError : columns that are missing, not numeric, or not the same in all files
    SourceError : a file that is no Parquet, truncated or corrupt
    """
    renew(files.filesystem, files.paths)
    layout: TableLayout | None = None
    row_groups: list[RowGroup] = []
    for path, keys, file in zip(files.paths, files.keys, _described(files), strict=True):
        own = _own_layout(files, path, file.schema_arrow, options)
        layout = own if layout is None else _agreed(layout, own, files.paths[0], path)
        row_groups += row_groups_of(path, file, layout, keys)
    if layout is None:
        raise SourceError(f"{files.origin} holds no Parquet files")
    return Catalogue(layout, tuple(row_groups))


@dataclass(frozen=True)
class _Described:
    """What the footer of a file says, and its ETag."""

    metadata: pq.FileMetaData
    etag: str = ""

    @property
    def schema_arrow(self) -> pa.Schema:
        return self.metadata.schema.to_arrow_schema()


def _described(files: FileSet) -> Iterator[Any]:
    """The footers of files, in their order: of one after the other, or where each is a wait, of many at once."""
    if not is_far(files.filesystem):
        for path in files.paths:
            with open_file(files.filesystem, path) as file:
                yield file
        return
    with ThreadPoolExecutor(FOOTERS_AT_ONCE, "streamem-footers") as pool:
        coming: deque[Future[_Described]] = deque()
        for number, path in enumerate(files.paths):
            while len(coming) <= FOOTERS_AT_ONCE and (ahead := number + len(coming)) < len(files.paths):
                coming.append(pool.submit(_describe, files.filesystem, files.paths[ahead]))
            with faults(path):
                described = coming.popleft().result()
            yield described


def _describe(filesystem: pafs.FileSystem, path: str) -> _Described:
    if store_of(filesystem, path) is None:
        return _Described(FOOTERS.of(filesystem, path))
    return _Described(*FOOTERS.newest(filesystem, path))


def is_far(filesystem: pafs.FileSystem) -> bool:
    """Whether files of a file system come through a network, and can be asked for side by side."""
    inner = fsspec_of(filesystem)
    return inner is not None and is_far_protocol(inner.protocol)


def local_paths(filesystem: pafs.FileSystem, groups: Iterable[RowGroup]) -> tuple[str, ...]:
    """The files of row groups, where they lie on this machine."""
    return tuple(dict.fromkeys(group.path for group in groups)) if filesystem.type_name == "local" else ()


def stored_schema(files: FileSet) -> pa.Schema:
    """The columns of the first file, and the partition columns."""
    with open_file(files.filesystem, files.paths[0]) as file:
        stored = file.schema_arrow
    keys = [field for field in files.key_schema if field.name not in stored.names]
    return pa.schema([*stored, *keys], stored.metadata)


def _own_layout(files: FileSet, path: str, schema: pa.Schema, options: ReadOptions) -> TableLayout:
    keys = pa.schema([field for field in files.key_schema if field.name not in schema.names])
    held = partial(_size, files.filesystem, path)
    return plan_columns(schema, options, f"Parquet file {path}", selectable=keys, held=held)


def _size(filesystem: pafs.FileSystem, path: str) -> int:
    return int(filesystem.get_file_info(path).size or 0)


def _agreed(layout: TableLayout, own: TableLayout, first_path: str, path: str) -> TableLayout:
    """The layout of all files so far: the columns of the first file; numeric types may widen."""
    ours, theirs = ({column.name: column for column in each.read} for each in (layout, own))
    for name in sorted(ours.keys() ^ theirs.keys()):
        having, lacking = (first_path, path) if name in ours else (path, first_path)
        raise SchemaError(
            f"the Parquet files differ: column {name!r} ({(ours | theirs)[name].kind}) is in {having} and not in "
            f"{lacking}; choose columns that all files have with columns="
        )
    for name, column in ours.items():
        if column.size != theirs[name].size:
            raise SchemaError(
                f"the Parquet files differ: column {name!r} is {column.kind} in {first_path} and "
                f"{theirs[name].kind} in {path}; write them alike, or choose others with columns="
            )
    return layout.promoted(own)


def row_groups_of(path: str, file: Any, layout: TableLayout, keys: dict[str, Any]) -> list[RowGroup]:
    """The row groups of an open file, with what its footer says of the columns of a layout."""
    footer, stored, etag = file.metadata, set(file.schema_arrow.names), getattr(file, "etag", "")
    constants = tuple((name, keys.get(name)) for name in layout.names if name not in stored)
    leaves = leaves_of(footer.schema, layout)
    groups = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = [group.column(i) for i in leaves]
        _require_rows(path, number, group.num_rows, columns, layout)
        nbytes = sum(column.total_compressed_size for column in columns)
        dictionaries = sum(column.has_dictionary_page for column in columns)
        groups.append(RowGroup(path, number, group.num_rows, nbytes, len(columns), dictionaries, constants, etag=etag))
    return groups


def _require_rows(path: str, number: int, rows: int, columns: list[Any], layout: TableLayout) -> None:
    """Raise `SourceError` where columns of one value a row have another number of values than there are rows."""
    flat = {column.name for column in layout.read if column.size is None}
    for column in columns:
        if column.path_in_schema in flat and column.num_values != rows:
            raise SourceError(
                f"Parquet file {path} is corrupt: row group {number} claims {rows} rows, and {column.num_values} "
                f"values of column {column.path_in_schema!r}"
            )


def leaves_of(schema: Any, layout: TableLayout) -> list[int]:
    """Positions of the physical columns that the layout reads; a list column lies below its name."""
    names = set(layout.names)
    lists = tuple(f"{column.name}." for column in layout.read if column.size is not None)
    paths = [schema.column(i).path for i in range(len(schema))]
    return [i for i, path in enumerate(paths) if path in names or path.startswith(lists)]
