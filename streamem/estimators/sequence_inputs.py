"""From what the user passes as X, and says of sequences, to a source of sequences that fits the estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Source
from streamem.estimators.inputs import categories_for, refuse_what_cannot_be_read, remember_categories
from streamem.sources import Known, ReadOptions, is_source, open_sequences


@dataclass(frozen=True)
class SequenceReading:
    """How one call reads its sequences; see `streamem.open_sequences` and `ReadOptions.in_order`."""

    lengths: Any = None
    offsets: Any = None
    sequence_column: str | None = None
    lag: int = 0
    columns: Sequence[str] | None = None
    feature_axis: int | str | None = None
    sample_weight: Any = None
    chunk_bytes: int = 0
    categories: Mapping[str, Sequence[Any]] | str | None = None
    in_order: bool = True
    known: Known | None = None

    def opened(self, x: Any, columns: Sequence[str] | None) -> Source:
        """X with the given feature columns."""
        names = None if columns is None else tuple([columns] if isinstance(columns, str) else columns)
        options = ReadOptions(
            columns=names,
            feature_axis=self.feature_axis,
            chunk_bytes=self.chunk_bytes,
            categories=self.categories,
            in_order=self.in_order,
        )
        return open_sequences(
            x,
            lengths=self.lengths,
            offsets=self.offsets,
            sequence_column=self.sequence_column,
            lag=self.lag,
            weight=self.sample_weight,
            options=options,
            known=self.known,
        )


def as_sequences(estimator: BaseEstimator, x: Any, reading: SequenceReading, *, reset: bool) -> Source:
    """Open X and check it against the estimator: number and names of features; with `reset`, remember them.

    Of data that says nothing of its sequences, they are told by the name that told those that were fitted.

    Raises
    ------
    SchemaError : another number of features than at fit, or columns that are missing, that of the sequences too
    """
    refuse_what_cannot_be_read(x)
    if type(x).__module__.partition(".")[0] == "scipy":
        raise ParameterError(
            "Sparse data was passed, but dense data is required: convert it with toarray(), or, where that is too "
            "large, write rows to a Zarr array piece by piece"
        )
    fitted = None if reset else getattr(estimator, "feature_names_in_", None)
    columns = reading.columns
    if columns is None and fitted is not None and not is_source(x) and _has_names(x):
        columns = [str(name) for name in fitted]
    if not reset and reading.known is None:
        reading = replace(reading, known=Known(told_by(estimator)))
    source = replace(reading, categories=categories_for(estimator, reset)).opened(x, columns)
    _check_features(estimator, source, x, reading.lag, reset)
    if reset:
        remember_categories(estimator, source)
    return source


def told_by(estimator: Any) -> dict[str, str]:
    """The name in the data that told the sequences of the fit, such as {"sequence_column": "run"}."""
    return dict(getattr(estimator, "sequences_by_", {}))


def remember_sequences(estimator: Any, source: Source) -> None:
    """By which name sequences are told, as `sequences_by_`; nothing where by none, or by numbers of this data alone."""
    estimator.__dict__.pop("sequences_by_", None)
    if told := getattr(source, "told", {}):
        estimator.sequences_by_ = dict(told)


def _has_names(x: Any) -> bool:
    """Whether columns of x may be asked for by name: not of arrays."""
    return not (isinstance(x, np.ndarray | list | tuple) or hasattr(x, "dtype"))


def _named(x: Any, origin: str) -> str:
    """The data in words: an array in scikit-learn's."""
    return "X" if isinstance(x, np.ndarray | list | tuple) else origin


def _check_features(estimator: BaseEstimator, source: Source, x: Any, lag: int, reset: bool) -> None:
    schema = source.schema
    width, names = schema.n_features // (lag + 1), None if schema.names is None else list(schema.names)
    if width == 0:
        raise SchemaError(
            f"{schema.origin} has 0 feature(s) (shape=({source.n_rows}, 0)) while a minimum of 1 is required: at least "
            "one column is needed"
        )
    own = None if names is None else names[:width]
    if reset:
        estimator.n_features_in_ = width
        if own is not None:
            estimator.feature_names_in_ = np.asarray(own, dtype=object)
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    expected = getattr(estimator, "n_features_in_", width)
    if width != expected:
        raise SchemaError(
            f"{_named(x, schema.origin)} has {width} features, but {type(estimator).__name__} is expecting {expected} "
            "features as input"
        )
    fitted = [str(name) for name in getattr(estimator, "feature_names_in_", [])]
    if fitted and own is not None and own != fitted:
        raise SchemaError(f"{schema.origin}: features {own} were chosen, but {fitted} were fitted")
