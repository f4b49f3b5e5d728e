"""From what the user passes as X to a `Source`, with scikit-learn's checks of names and shapes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from streamem.core.errors import DataError, ParameterError, SchemaError, StreamemError
from streamem.core.ports import Source
from streamem.sources import ReadOptions, is_source, open_source
from streamem.sources.numeric import as_array, numbers_in, refuse_masked
from streamem.sources.stored_index import is_reserved


@dataclass(frozen=True)
class Reading:
    """How one call reads its data (see `ReadOptions`); `in_order` unless chunks will be drawn at random."""

    columns: Sequence[str] | None = None
    feature_axis: int | str | None = None
    sample_weight: Any = None
    chunk_bytes: int = 0
    most_chunk_bytes: int | None = None
    categories: Mapping[str, Sequence[Any]] | str | None = None
    in_order: bool = True
    row_products: Callable[[int], int] | None = None

    def options(self) -> ReadOptions:
        """As the sources take it."""
        columns = (
            None if self.columns is None else tuple([self.columns] if isinstance(self.columns, str) else self.columns)
        )
        return ReadOptions(
            columns=columns,
            feature_axis=self.feature_axis,
            chunk_bytes=self.chunk_bytes,
            most_chunk_bytes=self.most_chunk_bytes,
            categories=self.categories,
            in_order=self.in_order,
            row_products=self.row_products,
        )


def as_source(estimator: BaseEstimator, x: Any, reading: Reading, *, reset: bool) -> Source:
    """Open X and check it against the estimator: number and names of features; with `reset`, remember them.

    Raises
    ------
    SchemaError : another number of features than at fit
    """
    reading = replace(reading, categories=categories_for(estimator, reset))
    source = _as_source(estimator, x, reading, reset)
    if reset:
        remember_categories(estimator, source)
    return source


def categories_for(estimator: Any, reset: bool) -> Mapping[str, Sequence[Any]] | str | None:
    """How columns of text are read: as codes where the family counts categories, those of the data that was fitted."""
    if not estimator._counts_categories():
        return None
    return "text" if reset else getattr(estimator, "categories_", None)


def remember_categories(estimator: Any, source: Source) -> None:
    """What the codes of text columns stand for, as `categories_`."""
    estimator.__dict__.pop("categories_", None)
    if source.schema.categories:
        estimator.categories_ = {name: list(values) for name, values in source.schema.categories.items()}


def _as_source(estimator: BaseEstimator, x: Any, reading: Reading, reset: bool) -> Source:
    refuse_what_cannot_be_read(x)
    if isinstance(x, np.ma.MaskedArray):
        refuse_masked(x, "the array", "drop or impute them first")
    if _is_in_memory(x):
        x = _checked_array(estimator, x, reading, reset)
        if is_frame(x) and not reset and reading.columns is None and hasattr(estimator, "feature_names_in_"):
            reading = replace(reading, columns=list(estimator.feature_names_in_))
        if reset:
            # Only part of a frame was fitted, so the same part is meant later on.
            estimator._chosen_columns = reading.columns is not None or isinstance(reading.sample_weight, str)
        return open_source(x, weight=reading.sample_weight, options=reading.options())
    if reset or reading.columns is not None or not hasattr(estimator, "feature_names_in_"):
        source = open_source(x, weight=reading.sample_weight, options=reading.options())
    else:
        source = _open_by_names(x, reading, list(estimator.feature_names_in_))
    _check_features(estimator, source, reset)
    return source


def is_frame(x: Any) -> bool:
    """Whether x is a pandas or polars DataFrame."""
    return type(x).__module__.partition(".")[0] in ("pandas", "polars") and hasattr(x, "columns")


def check_lazy(estimator: BaseEstimator, x: Any, names: Sequence[str] | None) -> None:
    """Refuse a Dask collection that does not fit a fitted estimator, without computing anything.

    Raises
    ------
    SchemaError : another number of features, or missing columns
    """
    if hasattr(x, "columns") and names is not None:
        _require_columns(list(x.columns), names, "the Dask DataFrame")
    width = len(names) if names is not None and hasattr(x, "columns") else x.shape[1] if len(x.shape) == 2 else None
    if width != estimator.n_features_in_:
        raise SchemaError(
            f"the Dask collection has shape {x.shape}, so {width} features, but {type(estimator).__name__} is "
            f"expecting {estimator.n_features_in_} features as input"
        )


def _require_columns(there: Sequence[Any], wanted: Sequence[str], what: str) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise SchemaError(f"{what} has no columns {missing}; it has {[str(name) for name in there]}")


def refuse_what_cannot_be_read(x: Any) -> None:
    """Mistakes that would otherwise fail, or worse, succeed, further down."""
    if type(x).__name__ == "LazyFrame":
        raise ParameterError("a LazyFrame holds no rows yet; call its collect(), or sink_parquet() and pass the file")
    if isinstance(x, list | tuple) and x and all(isinstance(item, str | os.PathLike) for item in x):
        raise ParameterError("a list of paths cannot be read; pass their folder, or a pyarrow.dataset.dataset of them")


def _is_in_memory(x: Any) -> bool:
    """Arrays, lists and data frames that scikit-learn's own checks understand."""
    library = type(x).__module__.partition(".")[0]
    return isinstance(x, np.ndarray | list | tuple) or is_frame(x) or library == "scipy"


def _checked_array(estimator: BaseEstimator, x: Any, reading: Reading, reset: bool) -> Any:
    try:
        return _validated(estimator, x, reading, reset)
    except StreamemError:
        raise
    except ValueError as error:  # scikit-learn's own words, under the root of our errors
        raise DataError(str(error)) from error


def _validated(estimator: BaseEstimator, x: Any, reading: Reading, reset: bool) -> Any:
    if is_frame(x):
        chosen = reading.options().columns
        if chosen is None and not reset and getattr(estimator, "_chosen_columns", False):
            chosen = tuple(estimator.feature_names_in_)
        if chosen is not None:
            _require_columns(list(x.columns), chosen, "the DataFrame")
        features = _default_features(x, reading) if chosen is None else x[list(chosen)]
        validate_data(estimator, features, skip_check_array=True, reset=reset)
        if not len(x) or not len(x.columns):
            validate_data(estimator, features, reset=reset)
        return x
    if isinstance(x, list | tuple):
        x = as_array(x)
        refuse_masked(x, "the list", "drop or impute them first")
    if isinstance(x, np.ndarray):
        x = numbers_in(x, "the array")
    plain = isinstance(x, np.ndarray) and x.size > 0
    if plain and x.ndim >= 2 and reading.feature_axis is not None:
        return _remember_width(estimator, x, reading.feature_axis, reset)
    if plain and x.ndim == 2:
        if not reset and x.shape[1] != estimator.n_features_in_:
            raise SchemaError(
                f"X has {x.shape[1]} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
                "features as input"
            )
        # Converted chunk by chunk, not as a whole.
        validate_data(estimator, x, skip_check_array=True, reset=reset)
        return x
    return validate_data(estimator, x, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=reset)


def _default_features(frame: Any, reading: Reading) -> Any:
    """All columns but the weights and a stored index (of a frame that was read from where pandas had written it)."""
    weight = reading.sample_weight if isinstance(reading.sample_weight, str) else None
    kept = [name for name in frame.columns if not is_reserved(name) and (weight is None or name != weight)]
    return frame if len(kept) == len(frame.columns) else frame[kept]


def _remember_width(estimator: BaseEstimator, x: Any, axis: int | str, reset: bool) -> Any:
    if isinstance(axis, int) and -x.ndim <= axis < x.ndim:
        row = np.empty((1, x.shape[axis]))
        validate_data(estimator, row, skip_check_array=True, reset=reset)
    return x


def _open_by_names(x: Any, reading: Reading, names: list[str]) -> Source:
    """Columns by the names seen in fit; data without names is taken as it is."""
    if is_source(x):
        # Open already: `_check_features` compares its names with those fitted.
        return open_source(x, weight=reading.sample_weight, options=reading.options())
    columns = list(dict.fromkeys(re.sub(r"\[\d+\]$", "", name) for name in names))
    named = replace(reading, columns=columns)
    try:
        return open_source(x, weight=reading.sample_weight, options=named.options())
    except SchemaError:
        plain = open_source(x, weight=reading.sample_weight, options=reading.options())
        if plain.schema.names is None or list(plain.schema.names) == names:
            return plain
        raise


def _check_features(estimator: BaseEstimator, source: Source, reset: bool) -> None:
    schema = source.schema
    if schema.n_features == 0:
        raise SchemaError(f"{schema.origin} has no features; at least one column is needed")
    if reset:
        estimator.n_features_in_ = schema.n_features
        if schema.names is not None:
            estimator.feature_names_in_ = np.asarray(schema.names, dtype=object)
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    if schema.n_features != estimator.n_features_in_:
        raise SchemaError(
            f"{schema.origin} has {schema.n_features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    fitted = list(getattr(estimator, "feature_names_in_", []))
    if fitted and schema.names is not None and list(schema.names) != fitted:
        raise SchemaError(f"{schema.origin}: features {list(schema.names)} were chosen, but {fitted} were fitted")
