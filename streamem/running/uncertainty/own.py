"""Standard errors of a user's own model, of which nothing is known but its E-step and its M-step.

The parameters may be tied in ways that nobody has told (probabilities sum to 1, a covariance is symmetric), so that
their numbers cannot be moved one by one. But M-steps from statistics of any part of the rows are parameters, and near
the fitted ones they go wherever parameters can go: θ(u) = M(S + Σ_j u_j T_j), where S are the statistics of all rows at
the fit, and T_j differences between sums over random halves of them. The log-likelihood along u is differentiated
twice by central differences (the observed information; Efron & Hinkley 1978), or once where the model has its slopes.
At a maximum this transforms to the parameters by the derivatives of θ(u) alone: the delta method. A T_j moves
parameters by about one standard error that they would have if nothing were hidden, so that one step size suits all
models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.numerics import EPS
from streamem.core.ports import ChunkRef, PassTask, Source
from streamem.core.stats import Stats
from streamem.core.validation import require_finite
from streamem.models import OwnModel
from streamem.running.answers import reduce_source
from streamem.running.engines import Engine
from streamem.running.uncertainty.inference import FAR, METHODS, asked_of

Array = NDArray[Any]

MOST_FREE = 100
"""Free numbers beyond which p² E-steps of every chunk take too long."""
SPARE = 8
"""Random halves of the rows beyond the numbers that they have to tell apart."""
NEAR = 2.0**-6
"""Standard errors without hidden values by which M-steps are moved to find directions."""
LEAST_STEP, MOST_STEP = 2.0**-8, 0.25
"""... and for differences of log-likelihoods: see `step_of`."""
LEAST_DIRECTION = 1e-6
"""Share of the longest direction below which one is rounding, and the numbers are tied."""
LEAST_INFORMATION = 1e-6
"""Share of the largest information below which the data tell nothing."""
ROUNDING = 64.0
"""Rounding errors that a difference of log-likelihoods may hold."""
NAMED = 8


@dataclass(frozen=True, eq=False)
class OwnInference:
    """Standard errors of P numbers, of which r are free.

    Attributes
    ----------
    errors : (P,) of all numbers in the order of the parameters; 0 of what is fixed, NaN of what the data do not tell
    covariance : (r, r) of free numbers, from which the others follow
    free : (r,) places of the free numbers
    problems : sentences for people
    log_likelihood, weight : of the data, in nats
    units, reads : rows, and how often they were read
    """

    errors: Array
    covariance: Array
    free: Array
    problems: tuple[str, ...]
    log_likelihood: float
    weight: float
    units: int
    reads: int


def own_inference(model: OwnModel, params: Params, source: Source, engine: Engine, method: str) -> OwnInference:
    """The errors of fitted parameters, from two passes over the data.

    Raises
    ------
    ParameterError : another method, a model without ``score_samples`` for one that needs scores of rows, hardly more
        rows than free numbers, or more free numbers than can be moved in pairs
    """
    asked = asked_of(method)
    if asked.products:
        _require_scores(model, method)
    count = min(_numbers(params).size, MOST_FREE) + SPARE
    names = source.schema.names
    held = model.statistics_bytes(source.schema.n_features)
    sums = reduce_source(source, Halves(model, params, names, count), engine, held * (count + 1))
    if not float(sums.all.weight) > 0:
        raise ParameterError(f"the sample weights sum to {float(sums.all.weight)}; at least one must be > 0")
    around = _Around(model, params, sums, count)
    r = len(around.steps)
    if source.n_rows <= r + 1:
        raise ParameterError(
            f"{source.n_rows} rows do not tell which numbers of the parameters are free: more rows than numbers are "
            "needed"
        )
    if hasattr(model.own, "scores"):
        points = tuple(around.points(pairs=False))
        slopes = Slopes(model, points, names, around.jacobian if asked.products else None)
        curves = _by_slopes(
            around, reduce_source(source, slopes, engine, 8 * (len(points) * len(around.scale) + r * r))
        )
    else:
        points = tuple(around.points(asked.curvature))
        heights = Heights(model, points, names, 2 * r if asked.products else 0, around.step)
        sums = reduce_source(source, heights, engine, 8 * (len(points) + r * r))
        curves = _by_heights(around, sums, asked.curvature)
    return _inferred(around, curves, method, source.n_rows, params)


def _require_scores(model: OwnModel, method: str) -> None:
    if not (hasattr(model.own, "score_samples") or hasattr(model.own, "scores")):
        raise ParameterError(
            f"method={method!r} needs the log-likelihood of each row: give {model.label} score_samples(params, chunk) "
            f'-> (n,), or use method="{METHODS[0]}"'
        )


@dataclass(frozen=True, eq=False)
class Halves(PassTask[Stats]):
    """Statistics of all rows, and of random halves of them: ``all``, ``h0``, ``h1``, …"""

    model: OwnModel
    params: Params
    names: tuple[str, ...] | None
    count: int

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Statistics of one chunk; its halves depend on its place in the plan alone."""
        require_finite(chunk, ref, self.names, self.model.missing)
        rng = np.random.default_rng([ref.index, 1])
        parts = {"all": self.model.e_step(self.params, chunk)}
        for i in range(self.count):
            kept = rng.random(chunk.rows) < 0.5
            half = Chunk(chunk.x[kept], None if chunk.weight is None else chunk.weight[kept])
            parts[f"h{i}"] = self.model.e_step(self.params, half)
        return Stats(**parts)


@dataclass(frozen=True, eq=False)
class Heights(PassTask[Stats]):
    """Log-likelihoods at many parameters, and the outer products of the scores of rows along the first of them.

    `scored` points after the first are pairs, up and down, from which the scores of rows are differences.
    """

    model: OwnModel
    points: tuple[Params, ...]
    names: tuple[str, ...] | None
    scored: int
    step: float

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Sums of one chunk."""
        found = [self.model.e_step(point, chunk) for point in self.points]
        heights = np.array([float(each.log_likelihood) for each in found])
        r = self.scored // 2
        if not r:
            return Stats(heights=heights, weight=found[0].weight, products=np.zeros((0, 0)))
        rows = [self.model.described("score_samples", point, chunk) for point in self.points[1 : 1 + self.scored]]
        scores = np.array([(rows[2 * j] - rows[2 * j + 1]) / (2.0 * self.step) for j in range(r)]).T
        weight = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
        return Stats(heights=heights, weight=found[0].weight, products=(scores * weight[:, None]).T @ scores)


@dataclass(frozen=True, eq=False)
class Slopes(PassTask[Stats]):
    """Slopes of the log-likelihood by all numbers at some parameters, for a model that has ``scores``.

    `along` (P, r) are directions; the outer products of the scores of rows at the first parameters are along these.
    """

    model: OwnModel
    points: tuple[Params, ...]
    names: tuple[str, ...] | None
    along: Array | None

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Sums of one chunk."""
        weight = np.ones(chunk.rows) if chunk.weight is None else np.asarray(chunk.weight, dtype=np.float64)
        rows = self.model.slopes(self.points[0], chunk)
        slopes = np.array([weight @ rows, *(weight @ self.model.slopes(each, chunk) for each in self.points[1:])])
        scores = np.zeros((chunk.rows, 0)) if self.along is None else rows @ self.along
        here = self.model.e_step(self.points[0], chunk)
        products = (scores * weight[:, None]).T @ scores
        return Stats(height=here.log_likelihood, weight=here.weight, slopes=slopes, products=products)


class _Around:
    """The parameters about the fitted ones, as M-steps reach them."""

    def __init__(self, model: OwnModel, params: Params, sums: Stats, count: int) -> None:
        self._model, self._params, self._sums = model, params, sums.all
        self.step = step_of(float(sums.all.weight))
        halves = [2.0 * sums[f"h{i}"] - sums.all for i in range(count)]
        moved = np.array([self._slope(half, NEAR) for half in halves])
        size = np.sqrt(np.mean(moved**2, axis=0))
        self.scale = np.where(size > 0, size, 1.0)
        left, length, _ = np.linalg.svd(moved / self.scale, full_matrices=False)
        r = int((length > LEAST_DIRECTION * length[:1]).sum()) if length.size and length[0] > 0 else 0
        if r > MOST_FREE:
            raise ParameterError(
                f"the model has more than {MOST_FREE} free numbers, and its log-likelihood would have to be worked out "
                f"at their pairs: bootstrap what you need"
            )
        self.steps = [_combined(halves, left[:, j] / np.sqrt(count)) for j in range(r)]
        self.jacobian = self.jacobian_at(None)

    def jacobian_at(self, place: Stats | None) -> Array:
        """(P, r) derivatives of the parameters along the directions, where the statistics are moved by `place`."""
        columns = [self._slope(move, self.step, place) for move in self.steps]
        return np.array(columns).T if columns else np.zeros((self.scale.size, 0))

    def at(self, move: Stats | None) -> Params:
        """The M-step of the statistics moved."""
        return self._model.m_step(self._sums if move is None else self._sums + move, self._params)

    def points(self, pairs: bool) -> Iterator[Params]:
        """The middle, up and down each direction, and, if asked for, up and down each pair."""
        yield self.at(None)
        moves = [move * self.step for move in self.steps]
        yield from (self.at(move * sign) for move in moves for sign in (1.0, -1.0))
        if pairs:
            yield from (self.at((one + two) * sign) for one, two in combinations(moves, 2) for sign in (1.0, -1.0))

    def _slope(self, move: Stats, step: float, place: Stats | None = None) -> Array:
        """(P,) the derivative of the parameters along a change of the statistics."""
        moves = [move * (sign * step) for sign in (1.0, -1.0)]
        up, down = (_numbers(self.at(each if place is None else place + each)) for each in moves)
        return (up - down) / (2.0 * step)


def _combined(parts: list[Stats], shares: Array) -> Stats:
    total = parts[0] * float(shares[0])
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total = total + part * float(share)
    return total


def _numbers(params: Params) -> Array:
    """(P,) all numbers of the parameters."""
    return np.concatenate([np.ravel(value).astype(np.float64) for value in params.components.values()])


def names_of(params: Params) -> list[str]:
    """A name for each number: "mean", "beta[0]", "cov[1, 0]"."""
    return [
        f"{name}{list(place)}" if place else name
        for name, value in params.components.items()
        for place in np.ndindex(value.shape)
    ]


def step_of(weight: float) -> float:
    """The step of central differences, in standard errors without hidden values, by the weight of all rows.

    In these units the fourth derivative is about 1/weight, and rounding about ε·weight: (weight²·ε)^¼ balances them.
    """
    return float(np.clip(4.0 * np.sqrt(weight) * EPS**0.25, LEAST_STEP, MOST_STEP))


@dataclass(frozen=True, eq=False)
class _Curves:
    """The log-likelihood of the data along r directions.

    Attributes
    ----------
    height, weight : at the fitted parameters, in nats, and of all rows
    score : (r,) slopes
    observed : (r, r) minus the second derivatives, or None
    products : (r, r) Σ w s sᵀ over rows, or none
    """

    height: float
    weight: float
    score: Array
    observed: Array | None
    products: Array


def _by_heights(around: _Around, sums: Stats, curvature: bool) -> _Curves:
    """From the log-likelihoods at the points of `_Around.points`."""
    r, step, heights = len(around.steps), around.step, np.asarray(sums.heights)
    if not np.isfinite(heights).all():
        raise NumericalError("the log-likelihood near the fitted parameters is not finite")
    middle, ends = heights[0], heights[1 : 1 + 2 * r].reshape(r, 2)
    score, both = (ends[:, 0] - ends[:, 1]) / (2.0 * step), ends.sum(axis=1)
    observed = None
    if curvature:
        observed = np.diag(2.0 * middle - both) / step**2
        pairs = heights[1 + 2 * r :].reshape(-1, 2).sum(axis=1)
        for (i, j), height in zip(combinations(range(r), 2), pairs, strict=True):
            observed[i, j] = observed[j, i] = -(height - both[i] - both[j] + 2.0 * middle) / (2.0 * step**2)
    return _Curves(float(middle), float(sums.weight), score, observed, np.asarray(sums.products))


def _by_slopes(around: _Around, sums: Stats) -> _Curves:
    """From the slopes by all numbers at the points of `_Around.points`, without pairs."""
    r, slopes = len(around.steps), np.asarray(sums.slopes)
    moves = [move * (sign * around.step) for move in around.steps for sign in (1.0, -1.0)]
    along = [slopes[1 + i] @ around.jacobian_at(move) for i, move in enumerate(moves)]
    columns = [(along[2 * j + 1] - along[2 * j]) / (2.0 * around.step) for j in range(r)]
    observed = np.array(columns).reshape(r, r)
    score = slopes[0] @ around.jacobian
    return _Curves(
        float(sums.height), float(sums.weight), score, (observed + observed.T) / 2.0, np.asarray(sums.products)
    )


def _inferred(around: _Around, curves: _Curves, method: str, rows: int, params: Params) -> OwnInference:
    jacobian, products = around.jacobian, curves.products
    matrix = products if method == "opg" or curves.observed is None else curves.observed
    inverse, lost = _inverse(matrix, ROUNDING * EPS * abs(curves.height) / around.step**2)
    covariance = inverse @ products @ inverse if method == "sandwich" else inverse
    names = names_of(params)
    error = np.sqrt(np.maximum(np.einsum("aj,jk,ak->a", jacobian, covariance, jacobian), 0.0))
    unknown = (np.abs(jacobian @ lost) > 1e-6 * np.abs(jacobian).sum(axis=1, keepdims=True)).any(axis=1)
    error[unknown] = np.nan
    problems = []
    if unknown.any():
        problems.append(
            f"the information is singular: the data do not tell {_listed(names, unknown)}, or the fit is no maximum in "
            "their directions; they have no standard errors. Fix some of these, or go on fitting with a smaller tol"
        )
    shift = np.abs(jacobian @ (inverse @ curves.score))
    far = shift > FAR * np.where(error > 0, error, np.inf)
    if far.any():
        worst = float((shift[far] / error[far]).max())
        problems.append(
            f"the log-likelihood of these data has its maximum elsewhere, up to {worst:.2g} standard errors away in "
            f"{_listed(names, far)}: the fit has not converged (lower tol, raise the number of iterations), it had a "
            "prior, or it was fitted to other data"
        )
    free = _free(jacobian / around.scale[:, None])
    own = jacobian[free]
    return OwnInference(error, own @ covariance @ own.T, free, tuple(problems), curves.height, curves.weight, rows, 2)


def _inverse(matrix: Array, noise: float) -> tuple[Array, Array]:
    """The inverse within the directions that the data tell, and the others (r, s)."""
    if not len(matrix):
        return matrix, matrix
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    lost = values <= max(LEAST_INFORMATION * float(values.max()), noise)
    kept = vectors[:, ~lost]
    return (kept / values[~lost]) @ kept.T, vectors[:, lost]


def _free(jacobian: Array) -> Array:
    """(r,) places of numbers from which all others follow."""
    if not jacobian.shape[1]:
        return np.zeros(0, dtype=np.intp)
    _, _, pivots = qr(jacobian.T, mode="economic", pivoting=True)
    return np.sort(np.asarray(pivots[: jacobian.shape[1]], dtype=np.intp))


def _listed(names: list[str], which: Array) -> str:
    chosen = [name for name, own in zip(names, which, strict=True) if own]
    more = f" and {len(chosen) - NAMED} more" if len(chosen) > NAMED else ""
    return ", ".join(chosen[:NAMED]) + more
