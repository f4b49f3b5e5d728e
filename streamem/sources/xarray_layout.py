"""Which of xarray's dimensions become rows, and which become features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import xarray

from streamem.core.errors import SchemaError
from streamem.sources.options import ReadOptions


@dataclass(frozen=True, eq=False)
class Rows:
    """Variables whose dimensions are in order: rows first, in C order; in a matrix the features last.

    Attributes
    ----------
    variables : xarray.Variable each: one with a feature dimension, or one a feature, or some of either kind
    names : of the features, or None
    row_dims, row_shape : dimensions that become rows; cuts go along the first
    unit : positions of the first row dimension that are stored together, as far as is known
    origin : the data in words
    weight : xarray.Variable of shape row_shape, or None
    """

    variables: tuple[Any, ...]
    names: tuple[str, ...] | None
    row_dims: tuple[str, ...]
    row_shape: tuple[int, ...]
    unit: int
    origin: str
    weight: Any = None

    @property
    def is_matrix(self) -> bool:
        """Whether one variable holds all features."""
        return len(self.variables) == 1 and self.variables[0].ndim > len(self.row_dims)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each variable."""
        return tuple(int(v.shape[-1]) if v.ndim > len(self.row_dims) else 1 for v in self.variables)

    @property
    def n_features(self) -> int:
        """Number of features d."""
        return sum(self.widths)

    @property
    def cut_dim(self) -> str:
        """The dimension along which chunks are cut."""
        return self.row_dims[0]


def matrix_rows(array: xarray.DataArray, options: ReadOptions) -> Rows:
    """A DataArray with one dimension of features.

    Raises
    ------
    SchemaError : it is not clear which dimension holds the features, or labels are missing
    """
    origin = f"DataArray {array.name}" if array.name is not None else "the DataArray"
    dim = _feature_dim(array, options.feature_axis, origin)
    names = labels(array, options)
    if options.columns is not None:
        array, names = _select(array, dim, options.columns, origin), options.columns
    row_dims = tuple(name for name in array.dims if name != dim)
    shape = tuple(array.sizes[name] for name in row_dims)
    unit = _unit(array.variable, row_dims[0])
    rows = Rows((array.variable.transpose(*row_dims, dim),), names, row_dims, shape, unit, origin)
    return _weighted(rows, array.coords, options.weight_column)


def table_rows(data: xarray.Dataset, options: ReadOptions) -> Rows:
    """A Dataset with one variable a feature.

    Raises
    ------
    SchemaError : variables are missing, not numeric, or of unequal dimensions
    """
    names = _variable_names(data, options)
    if options.feature_axis is not None and len(names) > 1:
        return _wide_variables(data, names, options)
    if options.feature_axis is not None:
        return _one_variable(data, names, options)
    if len(names) == 1 and data[names[0]].ndim == 2:
        return _one_variable(data, names, options)
    variables = {name: data[name].variable for name in names}
    first = variables[names[0]]
    if first.ndim == 0 or any(set(variable.dims) != set(first.dims) for variable in variables.values()):
        listed = ", ".join(f"{name} {dict(variable.sizes)}" for name, variable in variables.items())
        raise SchemaError(
            f"the Dataset: columns must share their dimensions, at least one, and these do not: {listed}. "
            "Pass columns= with the names of those that belong together"
        )
    unit = max(_unit(variable, first.dims[0]) for variable in variables.values())
    ordered = tuple(variable.transpose(*first.dims) for variable in variables.values())
    rows = Rows(ordered, tuple(names), first.dims, first.shape, unit, "the Dataset")
    return _weighted(rows, data, options.weight_column)


def labels(array: xarray.DataArray, options: ReadOptions) -> tuple[str, ...] | None:
    """The labels of the feature dimension, if they are text."""
    dim = _feature_dim(array, options.feature_axis, "the DataArray")
    found = array.coords[dim].values.tolist() if dim in array.coords else []
    return tuple(found) if found and all(isinstance(label, str) for label in found) else None


def _wide_variables(data: Any, names: list[str], options: ReadOptions) -> Rows:
    """Variables beside each other, each with a feature a label of one dimension; those that lack it have one feature.

    Raises
    ------
    SchemaError : no dimension of that name in any of them, or rows that differ
    """
    dim = options.feature_axis
    variables = {name: data[name].variable for name in names}
    if not any(dim in variable.dims for variable in variables.values()):
        listed = ", ".join(f"{name} {dict(variable.sizes)}" for name, variable in variables.items())
        raise SchemaError(
            f"the Dataset: none of its variables has the dimension feature_axis={dim!r}: {listed}. Of several "
            "variables, pass its name; or name one with columns="
        )
    first = next(iter(variables.values()))
    row_dims = tuple(name for name in first.dims if name != dim)
    shape = tuple(first.sizes[name] for name in row_dims)
    if not row_dims or any(set(variable.dims) - {dim} != set(row_dims) for variable in variables.values()):
        listed = ", ".join(f"{name} {dict(variable.sizes)}" for name, variable in variables.items())
        raise SchemaError(
            f"the Dataset: besides {dim!r} columns must share their dimensions, at least one, and these do not: "
            f"{listed}. Pass columns= with the names of those that belong together"
        )
    ordered, features = [], []
    for name, variable in variables.items():
        wide = dim in variable.dims
        ordered.append(variable.transpose(*row_dims, *([dim] if wide else [])))
        features += [f"{name}[{i}]" for i in range(variable.sizes[dim])] if wide else [name]
    unit = max(_unit(variable, row_dims[0]) for variable in variables.values())
    rows = Rows(tuple(ordered), tuple(features), row_dims, shape, unit, "the Dataset")
    return _weighted(rows, data, options.weight_column)


def _one_variable(data: xarray.Dataset, names: list[str], options: ReadOptions) -> Rows:
    only = replace(options, columns=None, weight_column=None)
    return _weighted(matrix_rows(data[names[0]], only), data, options.weight_column)


def _variable_names(data: xarray.Dataset, options: ReadOptions) -> list[str]:
    """The columns asked for, or all numeric data variables with a dimension."""
    if options.columns is not None:
        for name in options.columns:
            _require_in(data, name)
        return list(options.columns)
    found = [
        str(name)
        for name, variable in data.data_vars.items()
        if name not in (options.weight_column, *options.left_out) and variable.ndim and _is_numeric(variable.dtype)
    ]
    if not found:
        raise SchemaError(f"the Dataset has no numeric data variable; it holds {_listed(data.data_vars)}")
    return found


def _is_numeric(dtype: Any) -> bool:
    """Whether a dtype is numeric: of NumPy, or of pandas' nullable columns."""
    return getattr(dtype, "kind", "O") in "biuf"


def _feature_dim(array: xarray.DataArray, wanted: int | str | None, origin: str) -> Any:
    dims = array.dims
    if wanted is None and len(dims) == 2:
        return dims[1]
    if isinstance(wanted, str) and wanted in dims and len(dims) > 1:
        return wanted
    if isinstance(wanted, int) and -len(dims) <= wanted < len(dims) and len(dims) > 1:
        return dims[wanted]
    remedy = (
        "pass a Dataset of one variable a feature, or .expand_dims it to (n, 1)"
        if len(dims) < 2
        else "pass feature_axis= with the name or number of the dimension of the features; the others become rows"
    )
    raise SchemaError(f"{origin} has dimensions {dict(array.sizes)}, and feature_axis is {wanted!r}; {remedy}")


def _select(array: xarray.DataArray, dim: Any, columns: tuple[str, ...], origin: str) -> xarray.DataArray:
    try:
        return array.sel({dim: list(columns)})
    except KeyError:
        known = _listed(array.coords[dim].values.tolist()) if dim in array.coords else "no labels"
        raise SchemaError(
            f"{origin}: columns {list(columns)} are not all on dimension {dim!r}, which has {known}"
        ) from None


def _weighted(rows: Rows, data: Any, name: str | None) -> Rows:
    """Rows with weights; weights without a row dimension (cos of the latitude) are repeated along it."""
    if name is None:
        return rows
    _require_in(data, name)
    weight = data[name].variable
    sizes = dict(zip(rows.row_dims, rows.row_shape, strict=True))
    if not set(weight.dims) <= set(sizes):
        raise SchemaError(
            f"{rows.origin}: weights {name!r} have dimensions {dict(weight.sizes)}; rows have {sizes}, and weights "
            "can have no others"
        )
    if set(weight.dims) != set(sizes):
        weight = weight.set_dims(sizes)
    return replace(rows, weight=weight.transpose(*rows.row_dims))


def _require_in(data: Any, name: str) -> None:
    if name not in data:
        raise SchemaError(f"the data has no variable {name!r}; it holds {_listed(data)}")


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names) or "nothing"


def _unit(variable: Any, dim: Any) -> int:
    """Positions of a dimension that are stored together: a Dask block, a shard, a chunk, or 1 where unknown."""
    if variable.chunks is not None:
        return max(1, *variable.chunksizes[dim])
    shards = variable.encoding.get("shards")
    if shards and len(shards) == variable.ndim:
        return _size(shards[variable.dims.index(dim)])
    preferred = variable.encoding.get("preferred_chunks") or {}
    return _size(preferred.get(dim, 1))


def _size(found: Any) -> int:
    return max(1, found) if isinstance(found, int) else max(1, *found)
