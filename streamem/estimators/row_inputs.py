"""From what the user passes as X to a source of rows, with scikit-learn's checks of names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from streamem.core.errors import DataError, ParameterError, SchemaError, StreamemError
from streamem.core.ports import Source, full_family
from streamem.estimators.hyperparameters import budget_of, check_hyperparameters
from streamem.estimators.structure import DataArguments, Opened
from streamem.machine.importing import import_whole
from streamem.running.fitted import Shape
from streamem.sources import ReadOptions, is_source, open_source
from streamem.sources.kinds import is_path_list
from streamem.sources.numeric import as_array, numbers_in, refuse_masked
from streamem.sources.stored_index import is_reserved
from streamem.sources.unobserved import is_about_a_grid, is_on_a_grid, weighing_observed

FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


def open_rows(settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
    """Open X and check it against the shape of the fit; before a fit (None), its own shape is the answer.

    Raises
    ------
    SchemaError : another number of features than at fit, or other names
    DataError : masked values, or what scikit-learn refuses
    """
    refuse_what_cannot_be_read(x)
    if isinstance(x, np.ma.MaskedArray):
        _require_none_masked(settings, x, "the array")
    options = read_options(settings, arguments, shape)
    if _is_in_memory(x):
        return _open_in_memory(settings, x, arguments, options, shape)
    if shape is None or arguments.columns is not None or shape.names is None:
        source = open_source(x, weight=arguments.sample_weight, options=options)
    else:
        source = _open_by_names(x, arguments, options, list(shape.names))
    if is_about_a_grid(x):
        source = import_whole("streamem.sources.xarray").observed(x, source)
    elif is_on_a_grid(source):
        source = weighing_observed(source, in_memory=False)
    return Opened(source, _checked_features(settings, source, shape))


def _require_none_masked(settings: Any, x: Any, what: str) -> None:
    """Refuse masked values, unless they count as missing."""
    if settings.missing != "integrate":
        able = full_family(settings.face.family(settings, None)).can_integrate
        more = ', or pass missing="integrate"' if able else ""
        refuse_masked(x, what, f"drop or impute them first{more}")


def read_options(settings: Any, arguments: DataArguments, shape: Shape | None) -> ReadOptions:
    """How a source is read for this estimator (`streamem.sources.ReadOptions`)."""
    budget, columns = budget_of(settings), arguments.columns
    wide = arguments.chunk_bytes

    def row_products(n_features: int) -> int:
        check_hyperparameters(settings)
        return int(settings.face.row_products(settings, n_features))

    return ReadOptions(
        columns=None if columns is None else tuple([columns] if isinstance(columns, str) else columns),
        feature_axis=arguments.feature_axis,
        chunk_bytes=budget.chunk_bytes if wide is None else wide,
        most_chunk_bytes=budget.most_chunk_bytes if wide is None else wide,
        categories=categories_for(settings, shape, arguments.categories),
        unseen=settings.unseen,
        left_out=(*(getattr(settings, "id_columns", None) or ()), *arguments.left_out),
        in_order=arguments.in_order,
        row_products=row_products if settings.chunk_bytes is None else None,
    )


def categories_for(settings: Any, shape: Shape | None, given: Any = None) -> Any:
    """How columns of text are read: as codes where the family counts categories, those of the data that was fitted.

    Parameters
    ----------
    given : values by column that a user names for a model that has seen no rows, or None

    Raises
    ------
    ParameterError : they are no such values, the family takes none, or the model was fitted with others
    """
    if given is not None:
        return _given_categories(settings, shape, given)
    if not full_family(settings.face.family(settings, shape)).takes_codes:
        return None
    return settings.face.vocabulary(settings) if shape is None else shape.categories


def _given_categories(settings: Any, shape: Shape | None, given: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(given, Mapping) or not all(map(_are_values, given.values())):
        raise ParameterError(
            f"categories is {given!r:.100}; it must map names of columns to lists of all their values, in the order of "
            "their codes, as in {'region': ['north', 'south']}"
        )
    if not full_family(settings.face.family(settings, shape)).takes_codes:
        raise ParameterError("categories are for families that count them, and this one takes numbers: leave them out")
    found = {str(name): tuple(map(_plain, values)) for name, values in given.items()}
    if shape is not None and found != (own := dict(shape.categories or {})):
        raise ParameterError(
            f"categories is {found!r:.200}, and this model has {own!r:.200}, which stay: leave categories out, or "
            "start a new model"
        )
    return dict(ReadOptions(categories=found).vocabularies)


def _are_values(values: Any) -> bool:
    """Whether something is a list of texts or numbers; the order of a set would be another in another process."""
    is_list = isinstance(values, list | tuple | np.ndarray) and len(values) > 0
    return is_list and all(isinstance(value, str | int | float | np.generic | None) for value in values)


def _plain(value: Any) -> Any:
    """A number or text of Python's own, which files hold."""
    return value.item() if isinstance(value, np.generic) else value


def require_columns_of(given: Any, shape: Shape) -> None:
    """Refuse categories of columns that the data does not have.

    Raises
    ------
    ParameterError : naming them
    """
    if lost := [name for name in given or () if name not in (shape.categories or {})]:
        there = "no column names" if shape.names is None else f"the features {[str(name) for name in shape.names][:20]}"
        raise ParameterError(f"categories names {lost}, of which X holds no values; it has {there}")


def library_of(x: Any) -> str:
    """The package that an object's class comes from."""
    return type(x).__module__.partition(".")[0]


def is_frame(x: Any) -> bool:
    """Whether x is a pandas or polars DataFrame."""
    # A LazyFrame of polars warns when it is asked for its columns.
    return library_of(x) in ("pandas", "polars") and type(x).__name__ != "LazyFrame" and hasattr(x, "columns")


def check_lazy(settings: Any, x: Any, names: Sequence[str] | None, features: int) -> None:
    """Refuse a Dask collection that does not fit a fitted estimator, without computing anything.

    Raises
    ------
    SchemaError : another number of features, or missing columns
    """
    if hasattr(x, "columns") and names is not None:
        _require_columns(list(x.columns), names, "the Dask DataFrame")
    width = len(names) if names is not None and hasattr(x, "columns") else x.shape[1] if len(x.shape) == 2 else None
    if width != features:
        raise SchemaError(
            f"the Dask collection has shape {x.shape}, so {width} features, but {type(settings).__name__} is "
            f"expecting {features} features as input"
        )


def _require_columns(there: Sequence[Any], wanted: Sequence[str], what: str) -> None:
    if missing := [name for name in wanted if name not in there]:
        raise SchemaError(f"{what} has no columns {missing}; it has {[str(name) for name in there]}")


def refuse_what_cannot_be_read(x: Any) -> None:
    """Mistakes that would otherwise fail, or worse, succeed, further down."""
    if type(x).__name__ == "LazyFrame" and not type(x).__module__.startswith("polars."):
        raise ParameterError("a LazyFrame holds no rows yet; call its collect(), or sink_parquet() and pass the file")


# --- in memory -------------------------------------------------------------------------------------------------------


def _is_in_memory(x: Any) -> bool:
    """Arrays, lists and data frames that scikit-learn's own checks understand."""
    if type(x) is np.ndarray:
        return True
    if is_path_list(x):
        return False
    library = type(x).__module__.partition(".")[0]
    return isinstance(x, np.ndarray | list | tuple) or is_frame(x) or library == "scipy"


def _open_in_memory(
    settings: Any, x: Any, arguments: DataArguments, options: ReadOptions, shape: Shape | None
) -> Opened:
    try:
        x, found = _checked(settings, x, arguments, options, shape)
    except StreamemError:
        raise
    except ValueError as error:  # scikit-learn's own words, under the root of our errors
        raise DataError(str(error)) from error
    if shape is not None and is_frame(x) and options.columns is None and shape.names is not None:
        options = replace(options, columns=shape.names)
    source = open_source(x, weight=arguments.sample_weight, options=options)
    if shape is not None:
        return Opened(source, shape)
    # Only part of a frame was fitted, so the same part is meant later on.
    chosen = options.columns is not None or isinstance(arguments.sample_weight, str) or bool(options.left_out)
    columns = found.names if chosen else None
    return Opened(source, replace(found, columns=columns, categories=source.schema.categories))


def _checked(
    settings: Any, x: Any, arguments: DataArguments, options: ReadOptions, shape: Shape | None
) -> tuple[Any, Shape]:
    """X as an array or frame, and its shape."""
    dtype = published_dtype(x)
    if is_frame(x):
        x = _by_names(x, arguments, options, shape)
        return x, replace(_checked_frame(settings, x, arguments, options, shape), dtype=dtype)
    if isinstance(x, list | tuple):
        x = as_array(x)
        _require_none_masked(settings, x, "the list")
    if isinstance(x, np.ndarray):
        x = numbers_in(x, "the array")
    plain = isinstance(x, np.ndarray) and x.size > 0
    axis = arguments.feature_axis
    if plain and x.ndim >= 2 and axis is not None:
        known = isinstance(axis, int) and -x.ndim <= axis < x.ndim
        width = x.shape[axis] if known else 0
        return x, Shape(width, dtype=dtype) if not known else _validated(settings, np.empty((1, width)), shape, dtype)
    if plain and x.ndim == 2:
        if shape is not None and x.shape[1] != shape.features:
            raise SchemaError(
                f"X has {x.shape[1]} features, but {type(settings).__name__} is expecting {shape.features} "
                "features as input"
            )
        if type(x) is np.ndarray and (shape is None or shape.names is None):
            return x, Shape(x.shape[1], dtype=dtype)  # nothing is left for scikit-learn to check
        # Converted chunk by chunk, not as a whole.
        return x, _validated(settings, x, shape, dtype)
    proxy = _proxy(settings, shape)
    x = validate_data(proxy, x, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=shape is None)
    return x, _shape_of(proxy, dtype)


def _by_names(frame: Any, arguments: DataArguments, options: ReadOptions, shape: Shape | None) -> Any:
    """The columns that were fitted, by name and in their order, and the column of weights; other columns are left out.

    A frame without one of them, or of which columns are chosen otherwise, stays as it is, for the checks that follow.
    """
    if shape is None or shape.names is None or shape.columns is not None or options.columns is not None:
        return frame
    there = [str(name) for name in frame.columns]
    if not set(shape.names) <= set(there) or there == list(shape.names) or len(set(there)) < len(there):
        return frame
    weight = arguments.sample_weight if isinstance(arguments.sample_weight, str) else None
    beside = [] if weight is None or weight not in there or weight in shape.names else [weight]
    return frame[[*shape.names, *beside]]


def _checked_frame(settings: Any, x: Any, arguments: DataArguments, options: ReadOptions, shape: Shape | None) -> Shape:
    chosen = options.columns
    if chosen is None and shape is not None:
        chosen = shape.columns
    if chosen is not None:
        _require_columns(list(x.columns), chosen, "the DataFrame")
    features = _default_features(x, arguments, options) if chosen is None else x[list(chosen)]
    found = _validated(settings, features, shape, np.dtype(np.float64))
    if not len(x) or not len(x.columns):
        validate_data(_proxy(settings, shape), features, reset=shape is None)
    return found


def _proxy(settings: Any, shape: Shape | None) -> Any:
    """An empty estimator of the class, on which scikit-learn may look for and leave what it knows of features."""
    proxy = object.__new__(type(settings))
    if shape is not None:
        proxy.__dict__["n_features_in_"] = shape.features
        if shape.names is not None:
            proxy.__dict__["feature_names_in_"] = np.asarray(shape.names, dtype=object)
    return proxy


def _validated(settings: Any, x: Any, shape: Shape | None, dtype: np.dtype[Any]) -> Shape:
    """scikit-learn's checks of the names and the number of features."""
    proxy = _proxy(settings, shape)
    validate_data(proxy, x, skip_check_array=True, reset=shape is None)
    return _shape_of(proxy, dtype)


def _shape_of(proxy: Any, dtype: np.dtype[Any]) -> Shape:
    names = proxy.__dict__.get("feature_names_in_")
    return Shape(proxy.n_features_in_, None if names is None else tuple(names), dtype=dtype)


def _default_features(frame: Any, arguments: DataArguments, options: ReadOptions) -> Any:
    """All columns but weights, identifiers and a stored index (of a frame that was read from where pandas wrote it)."""
    weight = arguments.sample_weight if isinstance(arguments.sample_weight, str) else None
    aside = {*options.left_out, *([] if weight is None else [weight])}
    kept = [name for name in frame.columns if not is_reserved(name) and name not in aside]
    return frame if len(kept) == len(frame.columns) else frame[kept]


# --- elsewhere -------------------------------------------------------------------------------------------------------


def _open_by_names(x: Any, arguments: DataArguments, options: ReadOptions, names: list[str]) -> Source:
    """Columns by the names seen in fit; data without names is taken as it is."""
    weight = arguments.sample_weight
    if is_source(x):
        # Open already: `_checked_features` compares its names with those fitted.
        return open_source(x, weight=weight, options=options)
    columns = columns_of(names)
    try:
        return open_source(x, weight=weight, options=replace(options, columns=columns))
    except SchemaError:
        plain = open_source(x, weight=weight, options=options)
        if plain.schema.names is None or list(plain.schema.names) == names:
            return plain
        raise


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold features of these names: ``t[0]`` and ``t[1]`` are of the column ``t``."""
    return tuple(dict.fromkeys(re.sub(r"\[\d+\]$", "", name) for name in names))


def _checked_features(settings: Any, source: Source, shape: Shape | None) -> Shape:
    schema = source.schema
    if schema.n_features == 0:
        raise SchemaError(f"{schema.origin} has no features; at least one column is needed")
    if shape is None:
        return Shape(schema.n_features, schema.names, schema.categories)
    if schema.n_features != shape.features:
        raise SchemaError(
            f"{schema.origin} has {schema.n_features} features, but {type(settings).__name__} is expecting "
            f"{shape.features} features as input"
        )
    if shape.names and schema.names is not None and schema.names != shape.names:
        fitted = list(shape.names)
        raise SchemaError(f"{schema.origin}: features {list(schema.names)} were chosen, but {fitted} were fitted")
    return shape


def published_dtype(x: Any) -> np.dtype[Any]:
    """float32 for a float32 array, as scikit-learn does; float64 for everything else."""
    is_float32 = isinstance(x, np.ndarray) and x.dtype == np.float32
    return np.dtype(np.float32 if is_float32 else np.float64)
