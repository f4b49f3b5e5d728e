"""Rows of AnnData: observations of a ``.h5ad`` file or object, dense or in compressed rows, never read whole."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources import array
from streamem.sources.formats.h5_files import H5Place, node_at, place_of, rows_of, values_of
from streamem.sources.formats.h5_parts import H5Part, array_part, sparse_part
from streamem.sources.formats.slabs import SlabSource
from streamem.sources.options import ReadOptions


def open(data: Any, options: ReadOptions) -> Source:
    """The matrix X of a ``.h5ad`` file, another of its matrices by its path within (``x.h5ad/obsm/X_pca``,
    ``x.h5ad/layers/counts``), or an AnnData object.

    Features are named by ``var_names``; ``columns`` chooses among them, or among numeric columns of ``obs``. Weights
    are a column of ``obs``. Matrices in compressed rows become dense chunk by chunk; in compressed columns they are
    refused, for a row would need all of them.

    Raises
    ------
    SchemaError : names that are not there, or values that are no numbers
    SourceError : the file cannot be read
    """
    if hasattr(data, "obs_names"):
        return _open_object(data, options)
    place = place_of(data)
    with place.file.opened() as file:
        place = place if place.name.strip("/") else replace(place, name="/X")
        node = node_at(file, place)
        names = _names(file, node, place)
        parts = _parts(file, node, place, names, options)
        weight = None if options.weight_column is None else _of_obs(file, options.weight_column, place)
        return SlabSource(rows_of(place.file, parts, weight, place.origin), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[NDArray[Any]]:
    """The values of a column of ``obs``, in order.

    Raises
    ------
    SchemaError : there is none
    """
    if hasattr(data, "obs_names"):
        if name not in data.obs:
            raise SchemaError(f"obs of the AnnData object has no column {name!r}; it has {', '.join(data.obs)}")
        return iter([np.asarray(data.obs[name])])
    place = place_of(data)
    with place.file.opened() as file:
        return _obs_values(file, name, place)


def _open_object(data: Any, options: ReadOptions) -> Source:
    if getattr(data, "isbacked", False):
        if data.is_view:
            raise ParameterError(
                "a view of a backed AnnData object cannot be read in slabs: pass the object itself, or a view's "
                ".to_memory()"
            )
        return open(str(data.filename), options)
    origin = "the AnnData object"
    names = tuple(str(name) for name in data.var_names)
    matrix = data.X
    if hasattr(matrix, "indptr"):
        raise ParameterError(
            f"{origin} holds a sparse matrix in memory: pass the path of its .h5ad file, which is read in slabs, or "
            "obsm['X_pca'] or another dense matrix of it"
        )
    if options.columns is not None:
        matrix = matrix[:, _positions(names, options.columns, origin)]
        names = tuple(options.columns)
    plain = replace(options, columns=None, weight_column=None)
    rows = array.ArraySource(np.asarray(matrix), plain, origin, names)
    if options.weight_column is None:
        return rows
    weighted: Source = import_whole("streamem.sources.weighted").open(rows, np.asarray(data.obs[options.weight_column]))
    return weighted


def _encoding(node: Any) -> str:
    found = node.attrs.get("encoding-type", "")
    return found.decode() if isinstance(found, bytes) else str(found)


def _index(file: Any, group: str) -> list[str]:
    node = file[group]
    key = node.attrs.get("_index", "_index")
    return _text(node[key.decode() if isinstance(key, bytes) else key])


def _text(node: Any) -> list[str]:
    """Text as AnnData stores it: a dataset, or one of values beside a mask."""
    values = (node if hasattr(node, "shape") else node["values"])[:]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _names(file: Any, node: Any, place: H5Place) -> list[str] | None:
    """The names of the columns of a matrix, if it is one of observations and variables."""
    within = place.name.strip("/")
    if "var" in file and (within == "X" or within.startswith("layers/")):
        return _index(file, "var")
    if "raw/var" in file and within == "raw/X":
        return _index(file, "raw/var")
    return None


def _parts(file: Any, node: Any, place: H5Place, names: Sequence[str] | None, options: ReadOptions) -> Sequence[H5Part]:
    wanted = options.columns or ()
    of_obs = bool(wanted) and "obs" in file and all(name in file["obs"] for name in wanted)
    if of_obs and not set(wanted) <= set(names or ()):
        return [_of_obs(file, name, place) for name in wanted]
    chosen = None
    if options.columns is not None:
        if names is None:
            raise SchemaError(f"{place.origin} has no column names, so {list(options.columns)} cannot be chosen")
        chosen = _positions(names, options.columns, place.origin)
    if hasattr(node, "shape"):
        if node.ndim != 2:
            raise SchemaError(
                f"{place.origin} has shape {node.shape}; a matrix with a row for every observation is needed"
            )
        return [array_part(node, place.origin, 1, names=names, chosen=chosen)]
    kind = _encoding(node)
    if kind != "csr_matrix":
        raise SchemaError(
            f"{place.origin} is {kind or 'a group'}"
            + (
                ", stored by columns, so that a row needs all of it: write it by rows, adata.X = adata.X.tocsr()"
                if kind == "csc_matrix"
                else f", no matrix; it holds {', '.join(node)}. Name one, {place.file.path + '/obsm/X_pca'!r}"
            )
        )
    return [sparse_part(node, place.origin, names, chosen)]


def _positions(names: Sequence[str], wanted: Sequence[str], origin: str) -> list[int]:
    place = {name: i for i, name in enumerate(names)}
    if missing := [name for name in wanted if name not in place]:
        near = difflib.get_close_matches(missing[0], list(names)[:10_000], 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SchemaError(
            f"{origin} has no column {', '.join(map(repr, missing[:10]))}; it has {len(names)}, such as "
            f"{', '.join(map(repr, names[:5]))}.{hint}"
        )
    return [place[name] for name in wanted]


def _obs_column(file: Any, name: str, place: H5Place) -> Any:
    if "obs" not in file or name not in file["obs"]:
        held = ", ".join(file["obs"]) if "obs" in file else "nothing"
        raise SchemaError(f"HDF5 file {place.file.path}: obs has no column {name!r}; it has {held}")
    return file["obs"][name]


def _of_obs(file: Any, name: str, place: H5Place) -> H5Part:
    node = _obs_column(file, name, place)
    if not hasattr(node, "shape"):
        raise SchemaError(f"column {name!r} of obs of {place.origin} holds {_encoding(node)}, which is not numeric")
    return array_part(node, f"column {name!r} of obs of {place.origin}", names=[name])


def _obs_values(file: Any, name: str, place: H5Place) -> Iterator[NDArray[Any]]:
    node = _obs_column(file, name, place)
    if hasattr(node, "shape"):
        return values_of(place.file, node.name, place.origin)
    if _encoding(node) != "categorical":
        raise SchemaError(f"column {name!r} of obs of {place.origin} holds {_encoding(node)}, which cannot be read")
    values = np.array(_text(node["categories"]))
    codes = values_of(place.file, node["codes"].name, place.origin)
    return (values[piece.astype(np.int64)] for piece in codes)
