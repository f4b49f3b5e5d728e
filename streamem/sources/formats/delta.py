"""Rows of Delta Lake tables: one version, its deletion vectors honoured, columns by their declared names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from streamem.core.addresses import Address, address_of, is_address
from streamem.core.ports import Source
from streamem.sources.formats import lake
from streamem.sources.formats.lake import LakeFile, LakeSource, LakeTable
from streamem.sources.formats.libraries import faults, library
from streamem.sources.options import ReadOptions
from streamem.sources.parquet_file_sets import place_of

KEEP = "fit the table as it is now, or keep files longer than a fit takes (delta.deletedFileRetentionDuration)"


def open(data: Any, options: ReadOptions) -> Source:
    """A deltalake.DeltaTable at the version that it has loaded, or the path of a table at its latest version.

    What is written to the table later changes nothing; a vacuum that removes files of this version is an error that
    says so. All columns of the table's schema are features, partition columns too.

    Raises
    ------
    SourceError : no table, or one that its library cannot read
    SchemaError : columns that are missing or not numeric
    MissingDependencyError : deltalake is not installed
    """
    return LakeSource(table_of(data), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[pa.Array]:
    """The values of any one column, in the order of the rows."""
    return lake.column_of(table_of(data), name)


def table_of(data: Any) -> LakeTable:
    """The version of a table that a path or an object means."""
    is_path = isinstance(data, str | os.PathLike)
    what = f"Delta table {address_of(data) if is_address(data) else os.fspath(data)}" if is_path else "the Delta table"
    deltalake = library("deltalake", "delta", what)
    with faults(f"read {what}"):
        table = _opened(deltalake, data) if is_path else data
        filesystem, root = _place(table, data)
        schema = pa.schema(table.schema().to_arrow())
        renamed = _physical_names(table)
        deleted = _deleted(table, root)
        files = []
        for path, constants in _files(table, schema, renamed):
            files.append(LakeFile(_below(root, path), renamed, constants, deleted.get(_below(root, path))))
        version = f"Delta table {table.metadata().id} version {table.version()}"
    return LakeTable(filesystem, tuple(files), schema, f"Delta table {root or table.table_uri}", version, KEEP)


def _opened(deltalake: Any, data: Any) -> Any:
    if not is_address(data):
        return deltalake.DeltaTable(os.fspath(data))
    address = address_of(data)
    return address.reached(lambda: deltalake.DeltaTable(address.text, storage_options=address.text_options))


def _place(table: Any, data: Any) -> tuple[pafs.FileSystem, str]:
    """Where the files of a table lie: a folder of this machine, obstore's file system, or deltalake's own."""
    place = urlparse(str(table.table_uri))
    if place.scheme in ("", "file"):
        return pafs.LocalFileSystem(), unquote(place.path).rstrip("/")
    given = address_of(data).options if is_address(data) else getattr(table, "_storage_options", None)
    address = Address(str(table.table_uri).rstrip("/"), given or {})
    if address.is_known_to_obstore:
        return place_of(address)
    return table.to_pyarrow_dataset().filesystem, ""


def _below(root: str, path: str) -> str:
    """A path of a file system from one that a table gives: a URI, or a path from its folder on."""
    place = urlparse(path)
    if place.scheme:
        return unquote(place.path) if place.scheme == "file" else f"{place.netloc}{unquote(place.path)}"
    path = unquote(path)  # as the log has it
    return f"{root}/{path}" if root and not path.startswith("/") else path


def _physical_names(table: Any) -> dict[str, str]:
    """Names under which the files hold columns, by the names that the table declares (column mapping)."""
    fields = json.loads(table.schema().to_json())["fields"]
    names = {field["name"]: field.get("metadata", {}).get("delta.columnMapping.physicalName") for field in fields}
    return {name: own for name, own in names.items() if own is not None and own != name}


def _files(table: Any, schema: pa.Schema, renamed: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files of a version in the table's own order, and the values of its partition columns in each."""
    actions = pa.table(table.get_add_actions(flatten=True))
    keys = {}
    for name in table.metadata().partition_columns:
        column = f"partition.{name}" if f"partition.{name}" in actions.column_names else f"partition.{renamed[name]}"
        keys[name] = actions.column(column)
    for i, path in enumerate(actions.column("path").to_pylist()):
        yield path, {name: _constant(column[i], schema.field(name).type) for name, column in keys.items()}


def _constant(value: Any, kind: pa.DataType) -> Any:
    """A partition value as a number, or as text."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        found = value.as_py()
        return None if found is None else float(found)
    if pa.types.is_boolean(kind):
        found = value.as_py()
        return None if found is None else float(found in (True, "true"))
    return value.as_py()


def _deleted(table: Any, root: str) -> dict[str, NDArray[np.int64]]:
    """Positions of the rows that deletion vectors take out, by file."""
    features = table.protocol().reader_features or []
    if "deletionVectors" not in features:
        return {}
    found = {}
    for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()):
        for path, keeps in zip(batch.column(0), batch.column(1), strict=True):
            mask = keeps.values.to_numpy(zero_copy_only=False)
            found[_below(root, path.as_py())] = np.flatnonzero(~mask.astype(np.bool_))
    return found
