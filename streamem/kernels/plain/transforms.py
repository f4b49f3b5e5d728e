"""Features that are functions of single columns, in NumPy, and the check of what a family can emit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln

from streamem.kernels.features.transform_sums import TransformSums
from streamem.kernels.features.transforms import FUNCTIONS, LOOKED_UP, MOST_EXPONENT, POWER, FeatureTable
from streamem.kernels.plain.features import add_features, quietly, scores_of
from streamem.kernels.plain.steps import FINE, PlainSteps, implement

Array = NDArray[Any]

LARGE = 32.0
"""From here on the asymptotic series of log Γ has all digits of float64, where differences of log Γ lose some."""

_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "observed": np.ones_like,
    "x": np.copy,
    "x^2": np.square,
    "1/x": np.reciprocal,
    "sqrt x": np.sqrt,
    "|x|": np.abs,
    "log x": np.log,
    "(log x)^2": lambda x: np.log(x) ** 2,
    "log(1-x)": lambda x: np.log1p(-x),
    "cos x": np.cos,
    "sin x": np.sin,
}
_BY_CODE = {code: _FUNCTIONS[name] for name, code in FUNCTIONS.items()}


@quietly
def fill_features(x: Array, table: FeatureTable, columns: Array, z: Array) -> None:
    """z (1 + F, b) = [1, T(x)] of rows x (b, d), all 0 where nothing was observed."""
    turned = x.T.astype(np.float64)
    z[0] = 1.0
    for f, code in enumerate(table.codes.tolist()):
        values = turned[table.columns[f]]
        if code == POWER:
            z[1 + f : 4 + f] = _powers(values, table.powers[f], table.shifts[f])
        elif code == LOOKED_UP:
            z[1 + f] = _looked_up(values, table.tables[table.places[f]], table.powers[f], table.shifts[f])
        elif code >= 0:
            z[1 + f] = _BY_CODE[code](values)
    if table.holes:
        absent = np.isnan(turned)
        z[0, absent.all(axis=0)] = 0.0
        z[1:][absent[table.columns]] = 0.0


def _powers(x: Array, power: float, shift: float) -> tuple[Array, Array, Array]:
    """t, t·l and t·l² of l = log x − shift and t = exp(power·l)."""
    log = np.log(x) - shift
    once = np.exp(np.minimum(power * log, MOST_EXPONENT))
    times = once * log
    return once, times, times * log


def _looked_up(x: Array, known: Array, size: float, kind: float) -> Array:
    """Entries of a table by count; larger counts from the functions themselves. NaN gives NaN."""
    inside = x < known.size
    out = known[np.where(inside, x, 0.0).astype(np.int64)]
    beyond = ~inside & (x == x)
    if beyond.any():
        count = x[beyond]
        out[beyond] = size * (digamma(count + size) - digamma(size)) if kind > 0 else _rising(count, size)
    out[x != x] = np.nan
    return out


def _rising(x: Array, s: float) -> Array:
    """log Γ(x + s) − log Γ(s) − x log s, for x + s ≥ LARGE (Stirling's series, DLMF 5.11.1)."""
    if s < LARGE:
        return np.asarray(gammaln(x + s) - gammaln(s) - x * np.log(s))
    return np.asarray((x + s - 0.5) * np.log1p(x / s) - x + _remainder(x + s) - _remainder(np.asarray(s)))


def _remainder(z: Array) -> Array:
    w = 1.0 / (z * z)
    return np.asarray((1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w / 1680.0))) / z)


def first_outside(x: Array, least: float, is_open: bool, end: float, whole: bool) -> int:
    """The position of the first value below `least` (or at it, if that is open), from `end` on, or, where only whole
    numbers can be, with a fraction; −1 if there is none. NaN is let through.
    """
    bad = (x <= least if is_open else x < least) | (x >= end)
    if whole:
        bad |= has_fraction(x)
    return first_of(bad)


@quietly
def has_fraction(x: Array) -> NDArray[np.bool_]:
    """Which values are no whole numbers; infinities and NaN are let through."""
    return np.asarray(x - np.floor(x) > 0)


def first_of(bad: NDArray[np.bool_]) -> int:
    """The position of the first True, row by row, or −1."""
    return int(np.argmax(bad)) if bad.any() else FINE


def _load(own: TransformSums, x: Array) -> tuple[int, Array]:
    z = np.empty((1 + len(own.table.codes), len(x)))
    fill_features(x, own.table, own.columns, z)
    return FINE, z


implement(
    TransformSums,
    PlainSteps(
        load=_load,
        scores=lambda own, features: scores_of(own.linear.products, features),
        add=lambda own, features, posterior: add_features(own.linear, features, posterior),
    ),
)
