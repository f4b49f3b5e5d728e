"""Features of a block of rows as functions of single columns, compiled. Importing this module imports Numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.features.anchored_rows import load_anchored
from streamem.kernels.features.transforms import LOOKED_UP, MOST_EXPONENT, POWER, FeatureTable
from streamem.machine.compiled import compiled, compiled_inside
from streamem.machine.logarithm import log_positive

Array = NDArray[Any]

LARGE = 32.0
"""From here on the asymptotic series of log Γ and ψ have all digits of float64."""


@compiled
def fill_features(x: Array, table: FeatureTable, columns: Array, z: Array) -> None:
    """z (1 + F, b) = [1, T(x)] of rows x (b, d), all 0 where nothing was observed; columns (d · b,) is a buffer."""
    b, d = x.shape
    turned = columns[: d * b].reshape(d, b)
    load_anchored(x, np.zeros(d), np.ones(d), turned)
    z[0] = 1.0
    for f in range(table.codes.size):
        code, values, out = table.codes[f], turned[table.columns[f]], z[1 + f]
        if code == POWER:
            _powers(values, table.powers[f], table.shifts[f], out, z[2 + f], z[3 + f])
        elif code == LOOKED_UP:
            _look_up(values, table.tables[table.places[f]], table.powers[f], table.shifts[f], out)
        elif code >= 0:
            _function(code, values, out)
    if table.holes:
        _observed_rows(turned, z[0])
        for f in range(table.codes.size):
            _without_holes(turned[table.columns[f]], z[1 + f])


@compiled_inside
def _observed_rows(columns: Array, out: Array) -> None:
    """1 for rows with any value, else 0."""
    out[:] = 0.0
    for j in range(columns.shape[0]):
        values = columns[j]
        for i in range(out.size):
            out[i] = 1.0 if values[i] == values[i] else out[i]


@compiled_inside
def _without_holes(values: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = out[i] if values[i] == values[i] else 0.0


@compiled_inside
def _function(code: int, x: Array, out: Array) -> None:
    """Codes of `FUNCTIONS`."""
    if code == 0:
        out[:] = 1.0
    elif code == 1:
        for i in range(x.size):
            out[i] = x[i]
    elif code == 2:
        for i in range(x.size):
            out[i] = x[i] * x[i]
    elif code == 3:
        for i in range(x.size):
            out[i] = 1.0 / x[i]
    elif code == 4:
        for i in range(x.size):
            out[i] = np.sqrt(x[i])
    elif code == 5:
        for i in range(x.size):
            out[i] = abs(x[i])
    elif code == 6:
        for i in range(x.size):
            out[i] = log_positive(x[i])
    elif code == 7:
        for i in range(x.size):
            value = log_positive(x[i])
            out[i] = value * value
    elif code == 8:
        for i in range(x.size):
            rest = 1.0 - x[i]  # whose rounding is put right, as log1p does
            out[i] = log_positive(rest) - ((rest - 1.0) + x[i]) / rest
    elif code == 9:
        for i in range(x.size):
            out[i] = math.cos(x[i])
    else:
        for i in range(x.size):
            out[i] = math.sin(x[i])


@compiled_inside
def _powers(x: Array, power: float, shift: float, once: Array, times: Array, twice: Array) -> None:
    """t, t·l and t·l² of l = log x − shift and t = exp(power·l)."""
    for i in range(x.size):
        times[i] = log_positive(x[i]) - shift
    for i in range(x.size):
        once[i] = math.exp(min(power * times[i], MOST_EXPONENT))
    for i in range(x.size):
        value = times[i]
        times[i] = once[i] * value
        twice[i] = times[i] * value


@compiled_inside
def _look_up(x: Array, known: Array, size: float, kind: float, out: Array) -> None:
    """Entries of a table by count; larger counts from the series. NaN gives NaN."""
    for i in range(x.size):
        value = x[i]
        if value < known.size:
            out[i] = known[int(value)]
        elif value != value:
            out[i] = value
        else:
            out[i] = size * (_digamma(value + size) - _digamma(size)) if kind > 0 else _rising(value, size)


@compiled_inside
def _rising(x: float, s: float) -> float:
    """log Γ(x + s) − log Γ(s) − x log s, for x + s ≥ LARGE (Stirling's series, DLMF 5.11.1)."""
    if s < LARGE:
        return math.lgamma(x + s) - math.lgamma(s) - x * math.log(s)
    return (x + s - 0.5) * math.log1p(x / s) - x + _remainder(x + s) - _remainder(s)


@compiled_inside
def _remainder(z: float) -> float:
    w = 1.0 / (z * z)
    return (1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w / 1680.0))) / z


@compiled_inside
def _digamma(z: float) -> float:
    """ψ(z) for z > 0: the recurrence up to LARGE, then DLMF 5.11.2."""
    below = 0.0
    while z < LARGE:
        below += 1.0 / z
        z += 1.0
    w = 1.0 / (z * z)
    return math.log(z) - 0.5 / z - w * (1.0 / 12.0 - w * (1.0 / 120.0 - w * (1.0 / 252.0 - w / 240.0))) - below


@compiled
def first_outside(x: Array, least: float, is_open: bool, end: float, whole: bool) -> int:
    """The position of the first value below `least` (or at it, if that is open), from `end` on, or, where only whole
    numbers can be, with a fraction; −1 if there is none. NaN is let through.
    """
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(row.size):
            value = row[j]
            low = value <= least if is_open else value < least
            if low or value >= end or (whole and value - np.floor(value) > 0):
                return i * row.size + j
    return -1
