"""From what the user passes as X, and says of sequences, to a source of sequences that fits the estimator."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.core.errors import ParameterError, SchemaError
from streamem.estimators.hyperparameters import budget_of
from streamem.estimators.named_columns import concomitants, told_columns
from streamem.estimators.row_inputs import categories_for, refuse_what_cannot_be_read
from streamem.estimators.structure import DataArguments, Opened
from streamem.models.chain_operators import CHEAP
from streamem.running.fitted import Shape
from streamem.sources import Known, ReadOptions, is_source, open_sequences
from streamem.sources.sequences import SequenceSource


def open_steps(settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
    """Open X and check it against the shape of the fit; before a fit (None), its own shape is the answer.

    Of data that says nothing of its sequences, they are found by the name in the data by which those of the fit were.

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
    lag = int(getattr(settings.face.family(settings, shape), "lag", 0))
    source = open_sequences(
        x,
        lengths=arguments.lengths,
        offsets=arguments.offsets,
        sequence_column=arguments.sequence_column,
        lag=lag,
        weight=arguments.sample_weight,
        options=step_options(settings, x, arguments, shape),
        known=None if shape is None else Known(dict(shape.sequences), needed=not arguments.continued),
        covariates=shape.covariates if shape is not None and shape.covariates else driving(settings),
    )
    return Opened(source, _checked(settings, source, x, lag, shape))


def step_options(settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> ReadOptions:
    """How a source of steps is read for this estimator (`streamem.sources.ReadOptions`)."""
    columns, wide = arguments.columns, arguments.chunk_bytes
    if columns is None and shape is not None and shape.names is not None and not is_source(x) and _has_names(x):
        columns = shape.all_names
    return ReadOptions(
        columns=None if columns is None else tuple([columns] if isinstance(columns, str) else columns),
        feature_axis=arguments.feature_axis,
        chunk_bytes=budget_of(settings).chunk_bytes if wide is None else wide,
        categories=categories_for(settings, shape, arguments.categories),
        unseen=settings.unseen,
        left_out=arguments.left_out,
        in_order=arguments.in_order and not _may_sweep(settings),
    )


def driving(settings: Any) -> tuple[str | int, ...]:
    """The columns on which transitions, or weights of groups, depend."""
    return told_columns(settings, "transition_covariates") or concomitants(settings)


def _may_sweep(settings: Any) -> bool:
    """Whether the pieces of a long sequence may be asked one after another from its end (`boundaries.Sweep`)."""
    return isinstance(settings.n_components, int | np.integer) and bool(settings.n_components > CHEAP)


def _has_names(x: Any) -> bool:
    """Whether columns of x may be asked for by name: not of arrays."""
    return not (isinstance(x, np.ndarray | list | tuple) or hasattr(x, "dtype"))


def _named(x: Any, origin: str) -> str:
    """The data in words: an array in scikit-learn's."""
    return "X" if isinstance(x, np.ndarray | list | tuple) else origin


def _checked(settings: Any, source: SequenceSource, x: Any, lag: int, shape: Shape | None) -> Shape:
    """The shape of the source, which is that of the fit if there is one."""
    schema, columns = source.schema, source.columns
    width, names = schema.n_features // (lag + 1), schema.names
    if width == 0:
        raise SchemaError(
            f"{schema.origin} has 0 feature(s) (shape=({source.n_rows}, 0)) while a minimum of 1 is required: at least "
            "one column is needed"
        )
    own = None if names is None else tuple(names[:width])
    if shape is None:
        covariates = tuple(source.covariates)
        named = None if columns.names is None else tuple(str(columns.names[i]) for i in covariates)
        told = dict(getattr(source, "told", {}))
        return Shape(
            width, own, schema.categories or None, sequences=told, covariates=covariates, covariate_names=named
        )
    if width != shape.features:
        raise SchemaError(
            f"{_named(x, schema.origin)} has {columns.n_features} features, but {type(settings).__name__} is expecting "
            f"{shape.features + len(source.covariates)} features as input"
        )
    if shape.names and own is not None and own != tuple(str(name) for name in shape.names):
        raise SchemaError(
            f"{schema.origin}: features {list(own)} were chosen, but {[str(name) for name in shape.names]} were fitted"
        )
    return shape
