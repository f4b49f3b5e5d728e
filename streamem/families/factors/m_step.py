"""The M-step of factor components, with mean and covariance of the factors as parameters of their own.

In the expanded model factors are N(α, Φ), and x given z is as before. Given the moments of the E-step, Φ and α are
those of the factors, loadings are the regression of x on z, and noise is what it leaves; then z is measured so that α =
0 and Φ = I (Liu, Rubin & Wu 1998, §3.1): means are the weighted means, loadings C_xz·Φ^(−½), noise C_xx − ΛΛᵀ on the
diagonal. A step raises the likelihood at least as far as the joint M-step of means and loadings (Ghahramani & Hinton
1996, eqs. 5–6), which takes α = 0 and Φ = I before it looks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.extrapolation import MOST_FALL, shrunk
from streamem.core.numerics import EPS
from streamem.core.stats import Stats
from streamem.families.covariance_floor import UNITS
from streamem.families.empty_components import empty_components

Array = NDArray[Any]

FLOOR = 2.0**-30
"""Smallest variance of noise in the anchored frame, where a column has unit spread: about 1e-9."""

SAFETY = 8.0
"""Rounding errors are taken to stay within this many of their standard deviations."""


class Central(NamedTuple):
    """Moments about means, by component, per unit of weight.

    Attributes
    ----------
    means, variances : (K, d) of x̃
    crossed : (K, d, q) of x̃ and z
    spread : (K, q, q) Φ
    sizes : (K, d) mean squares of x̃, of which variances are differences
    """

    means: Array
    variances: Array
    crossed: Array
    spread: Array
    sizes: Array


class Found(NamedTuple):
    """What an M-step finds: means (K, d), loadings (K, d, q), noise and whether it is at its floor, (K, d) or (K,)."""

    means: Array
    loadings: Array
    noise: Array
    floored: Array


def central(stats: Stats) -> Central:
    """Moments about means; of a component without rows those of independent standard variables."""
    empty = empty_components(stats.weight)
    n = np.where(empty, 1.0, stats.weight)
    means, factors = stats.x / n[:, None], stats.factors / n[:, None]
    sizes = stats.squares / n[:, None]
    crossed = stats.crossed / n[:, None, None] - means[:, :, None] * factors[:, None, :]
    spread = stats.products / n[:, None, None] - factors[:, :, None] * factors[:, None, :]
    spread = np.where(empty[:, None, None], np.eye(spread.shape[1]), spread)
    variances = np.where(empty[:, None], 1.0, sizes - means**2)
    return Central(means, variances, crossed, spread, sizes)


def estimated(stats: Stats, isotropic: bool, reg_covar: Array) -> Found:
    """Means, loadings and noise; `reg_covar` (d,) is added to the noise."""
    known = central(stats)
    loadings = known.crossed @ inverse_roots(known.spread)
    left = remainder(known, loadings) + reg_covar
    least = floor_of(known.sizes)
    if isotropic:
        left, least = left.mean(axis=1), least.mean(axis=1)
    return Found(known.means, loadings, np.maximum(left, least), left < least)


def remainder(known: Central, loadings: Array) -> Array:
    """What loadings leave of variances (K, d)."""
    return np.asarray(known.variances - np.einsum("kdq,kdq->kd", loadings, loadings))


def floor_of(sizes: Array) -> Array:
    """Smallest noise that says anything, where it is a difference of mean squares of given sizes."""
    return np.maximum(FLOOR, UNITS * EPS * sizes)


def inverse_roots(spread: Array) -> Array:
    """Φ^(−½), symmetric (K, q, q): of all roots the one that turns the factors least, so that steps can be compared."""
    values, vectors = np.linalg.eigh(spread)
    values = np.maximum(values, EPS * np.maximum(values[:, -1:], np.finfo(np.float64).tiny))
    return np.asarray((vectors / np.sqrt(values)[:, None, :]) @ np.swapaxes(vectors, 1, 2))


def possible_statistics(stats: Stats, valid: Stats, isotropic: bool) -> Stats:
    """Extrapolated statistics whose noise, and spread of factors in every direction, are at least 1/16 of `valid`'s."""
    known = central(valid)
    empty = ~(valid.weight > 0)
    least_spread, least = known.spread / MOST_FALL, _noise(known, isotropic) / MOST_FALL

    def possible(found: Stats) -> NDArray[np.bool_]:
        own = central(found)
        kept = np.linalg.eigvalsh(own.spread - least_spread)[:, 0] > 0
        return empty | (kept & (_noise(own, isotropic) > least).all(axis=1))

    return shrunk(stats, valid, (stats.weight, valid.weight), possible)


def missed(stats: Stats, noise: Array, floored: Array, old: Array, loadings: Array) -> float:
    """Bound on how far `estimated` may have missed its maximum, in nats.

    Noise that errs by δ costs n·¼(δ/ψ)² a feature, loadings and means that err by eps of a feature's size n·½eps²/ψ
    times that square. A floor that has risen above `FLOOR`, because rounding leaves fewer digits, may exclude the old
    noise, which it costs at most n·½|log ψ'/ψ|.
    """
    known = central(stats)
    own, before = (np.broadcast_to(np.reshape(v, (len(v), -1)), known.means.shape) for v in (noise, old))
    size = known.sizes + np.einsum("kdq,kdq->kd", loadings, loadings)
    wrong = SAFETY * EPS * size / own
    lost = 0.25 * wrong**2 + 0.5 * SAFETY * EPS * wrong
    raised = np.reshape(floored, (len(floored), -1)) & (floor_of(known.sizes) > FLOOR)
    lost = lost + np.where(raised, 0.5 * np.abs(np.log(own / before)), 0.0)
    return float(np.where(empty_components(stats.weight), 0.0, stats.weight) @ lost.sum(axis=1))


def _noise(known: Central, isotropic: bool) -> Array:
    left = remainder(known, known.crossed @ inverse_roots(known.spread))
    return left.mean(axis=1, keepdims=True) if isotropic else left
