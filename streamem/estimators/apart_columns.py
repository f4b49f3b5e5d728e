"""Columns of rows that are no features but drive transitions or weights, told apart from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamem.core.errors import SchemaError
from streamem.core.ports import Schema
from streamem.estimators.sequence_inputs import driving
from streamem.running.fitted import Fitted, Shape
from streamem.sources.driving import columns_named


def told_apart(
    whole: Shape,
    chosen: Sequence[str | int],
    what: str,
    wanted: Sequence[str] | None = None,
    schema: Schema | None = None,
) -> Shape:
    """The shape of features alone, of which the columns that drive are told apart.

    Parameters
    ----------
    whole : of all columns of a row
    chosen : the columns that drive, by name or by position among all
    what : they are, for messages
    wanted : names of the features; those of them that drive too are `Shape.shared`
    schema : of the data; None where they are a stream

    Raises
    ------
    SchemaError : columns that are none, or all of them
    """
    names = whole.names
    told = None if names is None else tuple(str(name) for name in names)
    if schema is None:
        schema = Schema(whole.features, np.dtype(np.float64), told, False, "the stream", whole.categories)
    at = columns_named(chosen, replace(schema, n_features=whole.features, names=told), what, wanted is not None)
    shared = tuple(i for i in at if wanted is not None and names is not None and names[i] in wanted)
    left = [i for i in range(whole.features) if i not in at or i in shared]
    return replace(
        whole,
        features=len(left),
        names=None if names is None else tuple(names[i] for i in left),
        covariates=at,
        covariate_names=None if names is None else tuple(str(names[i]) for i in at),
        shared=shared,
    )


def with_columns_apart(settings: Any, fitted: Fitted, columns: Sequence[str] | None) -> Fitted:
    """What is fitted, before a stream: parameters that were set by hand do not tell where columns that drive stand.

    Raises
    ------
    SchemaError : columns that are none, or another number of features than parameters are of
    """
    shape, told = fitted.shape, driving(settings)
    if shape is None or shape.covariates or not told:
        return fitted
    names = None if columns is None else tuple(settings.structure.columns_of_rows(settings, columns))
    width = shape.features + len(told) if names is None else len(names)
    found: Shape = settings.structure.apart(settings, replace(shape, features=width, names=names), columns)
    if found.features != shape.features:
        raise SchemaError(
            f"the features {list(found.names or ())} were chosen beside {list(told)}, and the model's parameters are "
            f"of {shape.features}"
        )
    return replace(fitted, shape=found)
