"""One mini-batch of `partial_fit`: opened, checked, and learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamem.core.errors import ParameterError
from streamem.estimators.hyperparameters import check_hyperparameters
from streamem.estimators.row_inputs import require_columns_of
from streamem.estimators.row_noise import shape_alone, with_kind, without_kind
from streamem.estimators.structure import DataArguments
from streamem.online.learner import Advance, Learning, features_of, step
from streamem.running.fitted import Fitted


def learned(
    settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, learning: Learning, advance: Advance
) -> Fitted:
    """What is fitted after one step of online EM with X as mini-batch; `advance` makes it.

    Raises
    ------
    ParameterError : parameters without statistics, and fewer rows than their first ones need; rows that are kept until
        a start can be made of them have noise of another kind
    """
    opened = settings.structure.open(settings, x, arguments, shape_alone(fitted))
    check_hyperparameters(settings)
    settings.structure.check_start(settings, opened.shape)
    require_columns_of(arguments.categories, opened.shape)
    fitted = with_kind(fitted, opened.shape)
    if fitted.state is None or fitted.shape is None:
        fitted = replace(fitted, shape=opened.shape)
    settings.structure.check_online(learning.model(fitted), fitted)
    after = advance(learning, fitted, opened.source, None)
    if advance is step and _begins_statistics(fitted, after):
        _require_enough(settings, opened.source.n_rows, features_of(opened.source, fitted))
    return without_kind(after)


def _require_enough(settings: Any, rows: int, n_features: int) -> None:
    least = settings.structure.least_rows(settings, n_features)
    if rows < least:
        raise ParameterError(
            f"this model holds no statistics to go on from (its attributes were set by hand), so the first batch "
            f"needs at least {least} rows, {settings.structure.least_formula}; it has {rows}"
        )


def _begins_statistics(before: Fitted, after: Fitted) -> bool:
    """Whether parameters that came without statistics have got their first."""
    if before.state is None or after.state is None:
        return False
    return before.state.memory is None and after.state.memory is not None
