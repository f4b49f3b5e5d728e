"""Rows of several files: a list of paths, or a pattern such as ``"folder/*.npy"``."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from streamem.core.addresses import Address, address_of, as_address, is_address
from streamem.core.data_folders import is_hidden
from streamem.core.errors import SourceError
from streamem.core.ports import Source
from streamem.sources import parquet
from streamem.sources.foreign import full_source
from streamem.sources.joined import JoinedSource
from streamem.sources.kinds import PARQUET, READABLE, SourceKind, is_pattern, kind_of
from streamem.sources.options import ReadOptions
from streamem.sources.store_listing import matching


def open(data: Any, options: ReadOptions) -> Source:
    """The rows of all files, one after the other: of a list in its order, of a pattern sorted by path.

    Files that are all Parquet are one data set, as a folder of them is. Others are read each by its own kind, and must
    agree in number and names of features; text has one vocabulary for all.

    Raises
    ------
    SourceError : no file matches, or one is not there or of no known format
    SchemaError : files that differ
    """
    paths = paths_of(data)
    kinds = [_kind(path) for path in paths]
    if all(kind is PARQUET for kind in kinds) and is_pattern(data) and is_address(data):
        return parquet.open_listed([address_of(path) for path in paths], options, _origin(data, paths))
    if all(kind is PARQUET for kind in kinds):
        return parquet.open_all(paths, options, _origin(data, paths))
    opened = [full_source(kind.open(path, options)) for kind, path in zip(kinds, paths, strict=True)]
    if options.categories == "text" and any(source.schema.categories for source in opened):
        options = replace(options, categories=_vocabularies(opened))
        opened = [full_source(kind.open(path, options)) for kind, path in zip(kinds, paths, strict=True)]
    if len({source.schema.dtype for source in opened}) > 1:
        half = _halved(options)
        opened = [
            full_source(kind.open(path, half)) if source.schema.dtype == np.float32 else source
            for kind, path, source in zip(kinds, paths, opened, strict=True)
        ]
    return JoinedSource(opened, _origin(data, paths))


def _halved(options: ReadOptions) -> ReadOptions:
    """Options for float32 rows that become float64: chunks then are as large as they may be."""
    most = options.most_chunk_bytes
    most = None if most is None else max(1, most // 2)
    return replace(options, chunk_bytes=max(1, options.chunk_bytes // 2), most_chunk_bytes=most)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterable[Any]:
    """The values of any one column, in the order of the rows.

    Raises
    ------
    SourceError : a file whose kind has no columns with names
    """
    pieces = []
    for path in paths_of(data):
        read = _kind(path).column_reader(path, name, options)
        if read is None:
            raise SourceError(f"{path} has no columns with names, so {name!r} cannot be read from it")
        pieces.append(read())
    return chain.from_iterable(pieces)


def paths_of(data: Any) -> list[str | Address]:
    """The paths of a list, or those that match a pattern; whole, so that other processes find them too.

    Raises
    ------
    SourceError : no file matches, or a store that cannot be listed
    """
    if not is_pattern(data):
        return [_whole(item) for item in data]
    if is_address(data):
        found_there: list[str | Address] = [*matching(address_of(data))]
        if starred := [path for path in found_there if is_pattern(path)]:
            raise SourceError(f"{starred[0]} is an object whose name holds a *, which stands for any text: rename it")
        return found_there
    pattern = os.fspath(data)
    found = sorted(path for path in glob.glob(pattern, recursive=True) if not is_hidden(os.path.basename(path)))
    if not found:
        raise SourceError(f"no file matches {pattern}")
    return [_whole(path) for path in found]


def _whole(path: Any) -> str | Address:
    path = as_address(path)
    return path if is_address(path) else os.path.abspath(path)


def _kind(path: str | Address) -> SourceKind:
    if not is_address(path) and not os.path.exists(path):
        raise SourceError(f"no such file or folder: {path}, one of a list of paths")
    if (kind := kind_of(path)) is None:
        raise SourceError(f"{path} is of no known format; readable are {READABLE}")
    return kind


def _origin(data: Any, paths: Sequence[str | Address]) -> str:
    return f"{data} ({len(paths)} files)" if is_pattern(data) else f"the list of {len(paths)} paths"


def _vocabularies(sources: Sequence[Source]) -> dict[str, list[Any]]:
    """Different values in all files, sorted, of each column of text."""
    found: dict[str, set[Any]] = {}
    for source in sources:
        for name, values in (source.schema.categories or {}).items():
            found.setdefault(name, set()).update(values)
    return {name: sorted(values) for name, values in found.items()}
