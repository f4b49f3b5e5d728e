"""What a Gaussian says of a row of which values were not observed, written down row by row from the textbook."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.families import Gaussian
from streamem.families.gaussian.covariance_matrix import pack

Array = NDArray[Any]


class Expected(NamedTuple):
    """Log-densities (n, K), conditional means (n, K, d), and statistics about the anchor."""

    log_prob: Array
    means: Array
    weight: Array
    first: Array
    second: Array


def matrices(family: Gaussian, params: Params) -> Array:
    """Covariances (K, d, d) in units of the data, whatever the type."""
    (k, d), covariances = params.means.shape, family.covariances(params)
    if family.covariance_type == "full":
        return covariances
    if family.covariance_type == "tied":
        return np.repeat(covariances[None], k, axis=0)
    return np.reshape(covariances, (k, -1))[:, :, None] * np.eye(d)


def expected(family: Gaussian, params: Params, x: Array, resp: Array) -> Expected:
    """Little & Rubin 2002, §11.2, by solving systems of equations for each row."""
    (k, d), means, covariances = params.means.shape, family.means(params), matrices(family, params)
    log_prob, filled = np.zeros((len(x), k)), np.zeros((len(x), k, d))
    weight, first, second = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
    for n, row in enumerate(x):
        o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        own, across = covariances[:, o][:, :, o], covariances[:, m][:, :, o]
        away, transposed = row[o] - means[:, o], np.swapaxes(across, 1, 2)
        slopes, left = np.swapaxes(np.linalg.solve(own, transposed), 1, 2), np.zeros((k, d, d))
        filled[n] = np.where(np.isnan(row), means, row)
        filled[n][:, m] += np.einsum("kmo,ko->km", slopes, away)
        left[np.ix_(range(k), m, m)] = covariances[:, m][:, :, m] - slopes @ transposed
        if o.size:
            log_det = np.linalg.slogdet(2 * np.pi * own)[1]
            log_prob[n] = -0.5 * (
                log_det + np.einsum("ko,ko->k", away, np.linalg.solve(own, away[:, :, None])[:, :, 0])
            )
            z = (filled[n] - params.center) / params.scale
            weight += resp[n]
            first += resp[n][:, None] * z
            squares = z[:, :, None] * z[:, None, :] + left / np.outer(params.scale, params.scale)
            second += resp[n][:, None, None] * squares
    return Expected(log_prob, filled, weight, first, _as_kept(family.covariance_type, second))


def _as_kept(covariance_type: str, second: Array) -> Array:
    """Second moments as the statistics have them."""
    diagonal = np.einsum("kii->ki", second)
    kept = {"full": pack(second), "tied": pack(second.sum(axis=0)), "diag": diagonal}
    return np.asarray(kept.get(covariance_type, diagonal.sum(axis=1, keepdims=True)))


def with_holes(rng: np.random.Generator, x: Array, share: float) -> Array:
    """The rows with a share of their values missing at random, but at least one in each row."""
    lacking = rng.random(x.shape) < share
    lacking[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] = False
    return np.where(lacking, np.nan, x)


def random_case(
    rng: np.random.Generator, covariance_type: str, k: int, d: int, n: int
) -> tuple[Gaussian, Params, Array]:
    """Gaussians far from the origin, and complete rows of them."""
    family, roots = Gaussian(covariance_type).integrating(), rng.normal(size=(k, d, d))
    covariances = roots @ np.swapaxes(roots, 1, 2) / d + 0.2 * np.eye(d)
    means = 40.0 + 2.0 * rng.normal(size=(k, d))
    own = {"full": covariances, "tied": covariances[0], "diag": np.einsum("kii->ki", covariances)}
    source = rng.integers(k, size=n)
    x = means[source] + rng.normal(size=(n, d))
    params = family.start(x, None, k)
    params = family.with_covariances(family.with_means(params, means), own.get(covariance_type, covariances[:, 0, 0]))
    return family, params, x


def exact_second(params: Params, row: Array) -> list[list[Fraction]]:
    """E[z zᵀ] of one row about the means of one component with a full matrix, without any rounding.

    z is the anchored row less the mean: of missing values −P_mm⁻¹P_mo·z_o, and P_mm⁻¹ is added to its square.
    """
    d, factor = len(row), [[Fraction(value) for value in line] for line in params.precisions_cholesky[0].tolist()]
    precision = [[sum((a * b for a, b in zip(r, s, strict=True)), Fraction()) for s in factor] for r in factor]
    anchored = [Fraction(v) for v in ((row - params.center) / params.scale - params.means[0])[~np.isnan(row)].tolist()]
    o, m = np.flatnonzero(~np.isnan(row)).tolist(), np.flatnonzero(np.isnan(row)).tolist()
    left = _inverse([[precision[i][j] for j in m] for i in m])
    pulls = [sum((precision[i][j] * z for j, z in zip(o, anchored, strict=True)), Fraction()) for i in m]
    filled = dict(zip(o, anchored, strict=True))
    for i, line in zip(m, left, strict=True):
        filled[i] = -sum((a * b for a, b in zip(line, pulls, strict=True)), Fraction())
    second = [[filled[i] * filled[j] for j in range(d)] for i in range(d)]
    for a, i in enumerate(m):
        for b, j in enumerate(m):
            second[i][j] += left[a][b]
    return second


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Of a positive definite matrix, by elimination."""
    n = len(matrix)
    rows = [[*line, *(Fraction(int(i == j)) for j in range(n))] for i, line in enumerate(matrix)]
    for i in range(n):
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(n):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [line[n:] for line in rows]
