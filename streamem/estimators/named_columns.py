"""Columns that a hyperparameter tells, by name or by position."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from streamem.core.errors import ParameterError


def told_columns(settings: Any, hyperparameter: str) -> tuple[str | int, ...]:
    """The columns that a hyperparameter names; a model file holds positions as an array, and None is no column.

    Raises
    ------
    ParameterError : neither names nor positions
    """
    chosen = getattr(settings, hyperparameter, None)
    if chosen is None:
        return ()
    if isinstance(chosen, str | int | np.integer):
        chosen = [chosen]
    try:
        found = tuple(one if isinstance(one, str) else operator.index(one) for one in chosen)
    except TypeError:
        found = ()
    if not found or len(set(found)) < len(found) or any(isinstance(one, bool | np.bool_) for one in chosen):
        raise ParameterError(
            f"{hyperparameter} is {chosen!r}; it must be a list of different columns, by name or by position from "
            "0 on, or None"
        )
    return found


def concomitants(settings: Any) -> tuple[str | int, ...]:
    """The columns of `concomitant`, on which weights depend."""
    return told_columns(settings, "concomitant")
