"""Rows of Apache Iceberg tables: one snapshot, its deletes honoured, columns by their identifiers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamem.core.addresses import Address, address_of, is_address
from streamem.core.errors import ParameterError, SourceError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources.formats import lake
from streamem.sources.formats.lake import LakeFile, LakeSource, LakeTable, RowFilter
from streamem.sources.formats.libraries import faults, library
from streamem.sources.options import ReadOptions
from streamem.sources.parquet_file_sets import place_of
from streamem.sources.store_listing import names_in

KEEP = "fit the table as it is now, or keep snapshots longer than a fit takes (history.expire.max-snapshot-age-ms)"
METADATA = re.compile(r"v?(\d+).*\.metadata\.json")


def open(data: Any, options: ReadOptions) -> Source:
    """A pyiceberg Table at its current snapshot, a scan of one (``table.scan(row_filter, snapshot_id=…)``), or the
    path of a table's folder or of its ``.metadata.json``.

    What a catalog commits later changes nothing. Files that a filter rules out are not opened; of the others the
    columns that it looks at are read once while planning, and a bit says of each row whether it counts.

    Raises
    ------
    SourceError : no table; data files that are no Parquet; deletes by equality, which pyiceberg does not read
    SchemaError : columns that are missing or not numeric
    MissingDependencyError : pyiceberg is not installed
    """
    return LakeSource(table_of(data), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    return lake.column_of(table_of(data), name)


def table_of(data: Any) -> LakeTable:
    """The snapshot that a path or an object means."""
    is_path = isinstance(data, str | os.PathLike)
    shown = address_of(data) if is_address(data) else data
    what = f"Iceberg table {shown}" if is_path else "the Iceberg table"
    library("pyiceberg", "iceberg", what)
    with faults(f"read {what}"):
        scan = _scan_of(data)
        if scan.limit is not None:
            raise ParameterError(f"{what}: a scan with limit= may give other rows each time; leave it out")
        schema = import_whole("pyiceberg.io.pyarrow").schema_to_pyarrow(scan.projection(), include_field_ids=False)
        snapshot = scan.snapshot()
        tasks = list(scan.plan_files())
        filesystem = _filesystem(scan, [task.file.file_path for task in tasks], data)
        deleted = _deletes(scan, tasks)
        files = tuple(_file(scan, task, filesystem, deleted) for task in tasks)
        location = scan.table_metadata.location
        version = f"Iceberg table {scan.table_metadata.table_uuid} snapshot {snapshot and snapshot.snapshot_id}"
        condition = _condition(scan)
        full = import_whole("pyiceberg.io.pyarrow").schema_to_pyarrow(_whole(scan), include_field_ids=False)
    version += f" where {scan.row_filter}" if condition is not None else ""
    return LakeTable(filesystem, files, schema, f"Iceberg table {location}", version, KEEP, condition, full)


def _scan_of(data: Any) -> Any:
    if hasattr(data, "plan_files"):
        return data
    if isinstance(data, str | os.PathLike):
        found = _newest_at(address_of(data)) if is_address(data) else _metadata(os.fspath(data))
        properties = _properties(address_of(data)) if is_address(data) else {}
        data = import_whole("pyiceberg.table").StaticTable.from_metadata(found, properties)
    if not hasattr(data, "scan"):
        raise ParameterError(f"a {type(data).__name__} of pyiceberg holds no rows; pass a Table or its scan()")
    return data.scan()


PROPERTIES = {
    "access_key_id": "s3.access-key-id",
    "secret_access_key": "s3.secret-access-key",
    "session_token": "s3.session-token",
    "region": "s3.region",
    "endpoint": "s3.endpoint",
}
"""Names of pyiceberg for options of a store."""


def _properties(address: Address) -> dict[str, str]:
    given = {name.removeprefix("aws_"): value for name, value in address.text_options.items()}
    return {PROPERTIES[name]: value for name, value in given.items() if name in PROPERTIES}


def _newest_at(address: Address) -> str:
    """The newest metadata file of a table's folder in a store."""
    if address.text.endswith(".metadata.json"):
        return address.text
    folder = address.below("metadata")
    return folder.below(_newest(sorted(names_in(folder)), str(address), str(folder))).text


def _metadata(path: str) -> str:
    """The newest metadata file of a table's folder."""
    if path.endswith(".metadata.json"):
        return path
    folder = Path(path) / "metadata"
    hint = folder / "version-hint.text"
    if hint.is_file():
        name = hint.read_text().strip()
        return str(folder / (name if name.endswith(".json") else f"v{name}.metadata.json"))
    return str(folder / _newest([each.name for each in folder.iterdir()], path, str(folder)))


def _newest(names: list[str], path: str, folder: str) -> str:
    """The name of the metadata file with the highest number."""
    found: dict[int, list[str]] = {}
    for name in names:
        if match := METADATA.fullmatch(name):
            found.setdefault(int(match[1]), []).append(name)
    if not found:
        raise SourceError(f"Iceberg table {path} has no file of metadata that can be read; it holds none in {folder}")
    newest = found[max(found)]
    if len(newest) > 1:
        raise SourceError(
            f"Iceberg table {path}: {' and '.join(sorted(newest))} are both its newest metadata, and only its catalog "
            "knows which counts: pass catalog.load_table(name), or the path of one of them"
        )
    return newest[0]


def _whole(scan: Any) -> Any:
    """All columns of the snapshot that a scan is about."""
    return type(scan).projection(_Everything(scan))


class _Everything:
    """A scan that selects all columns."""

    def __init__(self, scan: Any) -> None:
        self._scan = scan
        self.selected_fields = ("*",)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scan, name)


def _filesystem(scan: Any, paths: list[str], data: Any) -> pafs.FileSystem:
    place = urlparse(paths[0] if paths else scan.table_metadata.location)
    if place.scheme in ("", "file"):
        return pafs.LocalFileSystem()
    if is_address(data) and address_of(data).is_known_to_obstore:
        return place_of(address_of(data))[0]
    if hasattr(scan.io, "fs_by_scheme"):
        return scan.io.fs_by_scheme(place.scheme, place.netloc)
    return pafs.PyFileSystem(pafs.FSSpecHandler(scan.io.get_fs(place.scheme)))


def _path(location: str) -> str:
    """A path of a file system from a location."""
    place = urlparse(location)
    if place.scheme == "":
        return location
    return unquote(place.path) if place.scheme == "file" else f"{place.netloc}{place.path}"


def _file(scan: Any, task: Any, filesystem: pafs.FileSystem, deleted: dict[str, NDArray[np.int64]]) -> LakeFile:
    kind = str(getattr(task.file.file_format, "value", task.file.file_format)).upper()
    if not kind.endswith("PARQUET"):
        raise SourceError(
            f"{task.file.file_path} is {kind}; only data files of Parquet are read in place: pass a function, "
            "lambda: table.scan().to_arrow_batch_reader()"
        )
    path = _path(task.file.file_path)
    columns = _columns(scan, path, filesystem)
    fields = _whole(scan).fields
    constants = {field.name: _default(scan, task.file, field) for field in fields if field.name not in columns}
    renamed = {name: own for name, own in columns.items() if name != own}
    return LakeFile(path, renamed, constants, deleted.get(task.file.file_path))


def _columns(scan: Any, path: str, filesystem: pafs.FileSystem) -> dict[str, str]:
    """Names of columns in a file, by their names in the table: found by identifier, or by the table's mapping."""
    stored = pq.read_schema(path, filesystem=filesystem)
    by_id = {int(f.metadata[b"PARQUET:field_id"]): f.name for f in stored if b"PARQUET:field_id" in (f.metadata or {})}
    fields = _whole(scan).fields
    if not by_id:
        mapping = scan.table_metadata.name_mapping()
        known = {} if mapping is None else {mapped.field_id: mapped.names for mapped in mapping.root}
        names = {field.field_id: [field.name, *known.get(field.field_id, [])] for field in fields}
        by_id = {i: name for i, candidates in names.items() for name in candidates if name in stored.names}
    return {field.name: by_id[field.field_id] for field in fields if field.field_id in by_id}


def _default(scan: Any, file: Any, field: Any) -> Any:
    """The value of a column that a file has not: of its partition, or that with which it was added to the table."""
    spec = scan.table_metadata.specs().get(file.spec_id)
    for position, part in enumerate(() if spec is None else spec.fields):
        if part.source_id == field.field_id and str(part.transform) == "identity":
            return file.partition[position]
    return field.initial_default


def _deletes(scan: Any, tasks: list[Any]) -> dict[str, NDArray[np.int64]]:
    """Positions of deleted rows, in order, by data file."""
    read = import_whole("pyiceberg.io.pyarrow")._read_deletes
    files = {each.file_path: each for task in tasks for each in task.delete_files}
    found: dict[str, list[NDArray[np.int64]]] = {}
    for each in files.values():
        for path, positions in read(scan.io, each).items():
            found.setdefault(path, []).append(np.asarray(positions.to_numpy(), np.int64))
    return {path: np.unique(np.concatenate(parts)) for path, parts in found.items()}


@dataclass(frozen=True)
class _Expression:
    """Evaluates an Arrow expression on a table."""

    expression: Any

    def __call__(self, table: pa.Table) -> NDArray[np.bool_]:
        numbered = table.append_column("", pa.array(np.arange(table.num_rows)))
        kept = ds.dataset(numbered).to_table(columns=[""], filter=self.expression, use_threads=False).column("")
        mask = np.zeros(table.num_rows, np.bool_)
        mask[kept.to_numpy()] = True
        return mask


def _condition(scan: Any) -> RowFilter | None:
    """The filter of a scan; None where it has none."""
    expressions = import_whole("pyiceberg.expressions")
    if scan.row_filter == expressions.AlwaysTrue():
        return None
    whole = _whole(scan)
    bound = import_whole("pyiceberg.expressions.visitors").bind(whole, scan.row_filter, scan.case_sensitive)
    ids = import_whole("pyiceberg.expressions.visitors").extract_field_ids(bound)
    names = tuple(whole.find_column_name(i) for i in sorted(ids))
    return RowFilter(names, _Expression(import_whole("pyiceberg.io.pyarrow").expression_to_pyarrow(bound, whole)))
