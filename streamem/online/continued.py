"""A step of online EM with the next steps of one endless sequence, on top of `endless_sequence`."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.algorithms import StepwiseEM
from streamem.core.chunk import Chunk, covariates_of
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import Executor, Source
from streamem.core.sequences import Sequences
from streamem.core.validation import require_finite
from streamem.online.endless_sequence import go_on
from streamem.online.learner import Learning, learned, step
from streamem.running.fitted import Fitted
from streamem.sources import open_source


def continued_step(learning: Learning, fitted: Fitted, source: Source, executor: Executor | None = None) -> Fitted:
    """What is fitted after the next steps of an endless sequence, or its first ones; see `step`.

    Without parameters, the steps count as a sequence of their own.

    Raises
    ------
    ParameterError : several sequences
    DataError : no rows, or rows that are missing in part
    """
    if getattr(source, "n_sequences", 1) != 1:
        raise ParameterError("continued=True takes one sequence that goes on; X holds several")
    if fitted.state is None:
        return step(learning, fitted, source, executor)
    model: Any = learning.model(fitted)
    chunk = _whole(source)
    require_finite(chunk, open_source(chunk.x).chunks()[0], source.schema.names, model.missing)
    rule = StepwiseEM(learning.rule, least=learning.least_rows(source.schema.n_features))
    return learned(fitted, go_on(rule, model, fitted.state, chunk))


def _whole(source: Source) -> Chunk:
    """All rows as one chunk."""
    chunks = [ref.load() for ref in source.chunks()]
    if not chunks:
        raise DataError(f"{source.schema.origin} has no rows")
    x = np.concatenate([chunk.x for chunk in chunks])
    weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
    offsets = np.array([0, len(x)], dtype=np.int64)
    return Chunk(x, np.concatenate(weights) if weights else None, Sequences(offsets), covariates_of(chunks))
