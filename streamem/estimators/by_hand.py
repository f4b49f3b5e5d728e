"""Models whose attributes a user has set: made of the attributes once, and again when one of them has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamem.estimators.attributes import attributes_of, set_by_hand
from streamem.running.fitted import Fitted

SIMPLE = (str, int, float, bool, type(None), np.generic)


@dataclass(frozen=True, eq=False)
class ByHand:
    """What the attributes and hyperparameters of an estimator amounted to when they were looked at.

    Attributes
    ----------
    before : what was fitted before the user set any
    seen : each attribute and hyperparameter, in a form that shows changes
    fitted : what they amount to
    """

    before: Fitted | None
    seen: Mapping[str, Any]
    fitted: Fitted


def made_by_hand(settings: Any, before: Fitted | None, published: Mapping[str, Any], last: ByHand | None) -> ByHand:
    """What an estimator's attributes amount to now; `last` itself where nothing has changed since.

    Comparing arrays costs less than factorizing covariances, and the same parameters let kernels keep what they have
    worked out.

    Raises
    ------
    ParameterError : as `set_by_hand`
    """
    told = {**settings.get_params(deep=False), **attributes_of(settings)}
    seen = {name: _shown(value) for name, value in told.items()}
    if last is not None and last.before is before and _same(last.seen, seen):
        return last
    return ByHand(before, seen, set_by_hand(settings, before or Fitted(), published))


def _shown(value: Any) -> Any:
    """A value in a form that differs from an earlier one where what it holds does: a user may change arrays in place.

    Whatever is neither a number, a text, an array nor a collection of these is told by identity.
    """
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.ndarray | list | tuple):
        return type(value).__name__, *(_shown(each) for each in value)
    if isinstance(value, Mapping):
        return tuple((_shown(name), _shown(each)) for name, each in value.items())
    return repr(value) if isinstance(value, SIMPLE) else value


def _same(one: Any, other: Any) -> bool:
    """Whether two shown values are alike."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (isinstance(one, str | bytes | int) and type(one) is type(other) and bool(one == other))
