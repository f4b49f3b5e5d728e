"""The error when a stream has ended and there is still no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamem.core.errors import DataError

if TYPE_CHECKING:
    from streamem.online.follow import Learner
    from streamem.online.mini_batches import Tally


def require_learned(
    learner: Learner, n_components: int | None, stream: str, came: Tally, dead_letter: Any, stopped: bool
) -> None:
    """Raise unless the model has parameters: from this stream, or from before.

    Parameters
    ----------
    learner : what was fitted, or the rows that are kept for a start
    n_components : that a start would have; None of a model without components
    stream : its name
    came : what the stream delivered in this call
    dead_letter : path of the file of unusable records, or None
    stopped : whether `stop` ended the call, and not the stream

    Raises
    ------
    DataError : with what came, what is missing, and what to do
    """
    if learner.has_model:
        return
    refused = ""
    if came.refused:
        where = "" if dead_letter is None else f" (why, {dead_letter} tells)"
        refused = f", of which {came.refused} cannot be used{where}"
    weightless = f", {came.weightless} of weight 0, which teach nothing" if came.weightless else ""
    raise DataError(
        f"{stream} {'was stopped' if stopped else 'has ended'} before there was a model: {came.messages} messages with "
        f"{came.records} records came{refused}{weightless}; {_missing(learner, n_components, stopped)}"
    )


def _missing(learner: Learner, n_components: int | None, stopped: bool) -> str:
    """What a start would need, and what to do."""
    kept = learner.fitted.pending
    if kept is None or kept.rows == 0:
        if stopped:
            return "none was learned; the same call begins again"
        return "none was learned. Look whether it is the right stream, and whether its producer runs"
    anew = "Call again on the same object with more rows, which are added to those kept; or fit first"
    of, fewer = ("", "") if n_components is None else (f" of {n_components} components", ", or take fewer components")
    least = learner.learning.least_rows(kept.x.shape[1])
    if kept.rows < least:
        return (
            f"{kept.rows} usable rows are kept, and a start{of} needs at least {least}, "
            f"{learner.learning.least_formula}. {anew}{fewer}"
        )
    if len(unseen := np.flatnonzero(np.isnan(kept.x).all(axis=0))):
        return f"{kept.rows} usable rows are kept, and none has a value in columns {unseen.tolist()[:20]}. {anew}"
    distinct = len(np.unique(kept.x, axis=0))
    return (
        f"{kept.rows} usable rows are kept, {distinct} of them distinct, of which no covariance can be estimated. "
        f"{anew}, or take fewer components"
    )
