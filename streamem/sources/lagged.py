"""Rows that carry earlier steps of their sequence: [y_t, y_{t−1}, …, y_{t−p}]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.ports import Schema


def lagged(x: NDArray[Any], offsets: NDArray[np.int64], lag: int, before: int) -> NDArray[Any]:
    """Every step of a sequence together with the `lag` steps before it.

    Parameters
    ----------
    x : (before + n, d) steps, of which the first `before` only serve to be looked back on
    offsets : (s + 1,) where sequences begin among the n steps
    lag : p ≥ 1
    before : at most p, and all that the first sequence has

    Returns
    -------
    (n, d · (p + 1)), the latest step first. Rows that would look back beyond the beginning of their sequence, or on a
    step that is missing (all NaN), are NaN throughout: a missing step.
    """
    n, d = len(x) - before, x.shape[1]
    out = np.empty((n, d * (lag + 1)), x.dtype)
    for back in range(lag + 1):
        skipped = min(n, max(0, back - before))
        out[skipped:, back * d : (back + 1) * d] = x[before + skipped - back : max(0, before + n - back)]
    out[_looks_back_too_far(offsets, lag, before) | _looks_on_missing(x, lag, before)] = np.nan
    return out


def _looks_back_too_far(offsets: NDArray[np.int64], lag: int, before: int) -> NDArray[np.bool_]:
    lengths = np.diff(offsets)
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    position[: lengths[0]] += before
    too_far: NDArray[np.bool_] = position < lag
    return too_far


def _looks_on_missing(x: NDArray[Any], lag: int, before: int) -> NDArray[np.bool_]:
    missing = np.isnan(x).all(axis=1)
    behind = np.cumsum(np.concatenate([np.zeros(lag + 1 - before, np.int64), missing]))
    # behind[i + p + 1 − before] counts the missing among the first i + 1 steps; a window holds p + 1 of them.
    n = len(x) - before
    found: NDArray[np.bool_] = behind[lag + 1 :][:n] > behind[:n]
    return found


def lagged_names(schema: Schema, lag: int) -> tuple[str, ...] | None:
    """ "x", "y", "x[t-1]", "y[t-1]", …; None where the features have no names."""
    if schema.names is None or lag == 0:
        return schema.names
    earlier = tuple(f"{name}[t-{back}]" for back in range(1, lag + 1) for name in schema.names)
    return (*schema.names, *earlier)
