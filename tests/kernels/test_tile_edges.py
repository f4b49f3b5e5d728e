"""E-steps of every family where tiles, strips and blocks end, for both widths of vectors, against long double."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem import Params
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.chunk import Chunk
from streamem.core.stats import Stats
from streamem.families import AutoregressiveGaussian, Bernoulli, Categorical, Gaussian, MixtureFamily, Poisson
from streamem.families.empty_components import EMPTY_FRACTION
from streamem.kernels import tiling
from streamem.models import Mixture

Array = NDArray[Any]
Sums = Callable[[Array, Array], Stats]

LONG = np.longdouble
LOG_2_PI = np.log(2 * LONG(np.pi))
COMPONENTS = [1, 2, 6, 7, 8, 9, 12, 13, 31, 32, 33, 127, 128, 129]
"""Around the parts of a strip, and around every shape of tiles (`tiling.SHAPES`)."""

MANY = 1100
NARROW = {"full": 3, "tied": 3, "diag": 3, "spherical": 3, "poisson": 1, "bernoulli": 2, "categorical": 2, "parts": 1}
WIDE = {
    "diag": [71, 72, 73],
    "spherical": [15, 16, 143],
    "tied": [141, 143, 144],
    "full": [14, 16, 23],
    "poisson": [143],
}
"""Features 1, x̃, … around the panels of 144 and the groups of 16."""


class Case(NamedTuple):
    """A family at parameters, rows, their exact log-densities (n, K), and their statistics by responsibilities."""

    family: Any
    params: Params
    x: Array
    log_prob: Array
    sums: Sums


def gaussian(kind: str, k: int, d: int, rng: np.random.Generator, n: int = MANY) -> Case:
    family = Gaussian(kind)
    params = family.at_anchor(rng.normal(size=d), np.exp2(np.full(d, rng.integers(-2, 3))), k)
    means = params.center + params.scale * rng.normal(size=(k, d)) / np.sqrt(d)
    root = rng.normal(size=(k, d, d)) / d + np.eye(d)
    covariances = {
        "full": root @ root.transpose(0, 2, 1),
        "tied": root[0] @ root[0].T,
        "diag": rng.uniform(0.5, 2, size=(k, d)),
        "spherical": rng.uniform(0.5, 2, size=k),
    }[kind]
    params = family.with_means(family.with_covariances(params, covariances * params.scale[0] ** 2), means)
    x = means[rng.integers(k, size=n)] + params.scale * rng.normal(size=(n, d))
    anchored = ((x - params.center) / params.scale).astype(LONG)
    factors = params.precisions_cholesky.astype(LONG)
    each = np.empty((n, k), dtype=LONG)
    for i in range(k):
        difference = anchored - params.means[i]
        own = factors if kind == "tied" else factors[i]
        whitened = difference @ own if own.ndim == 2 else difference * own
        diagonal = np.diag(own) if own.ndim == 2 else np.broadcast_to(own, (d,))
        each[:, i] = np.log(diagonal).sum() - ((whitened**2).sum(axis=1) + d * LOG_2_PI) / 2
    each -= np.log(params.scale.astype(LONG)).sum()
    pairs = np.triu_indices(d)
    second = {
        "full": lambda z: z[:, pairs[0]] * z[:, pairs[1]],
        "tied": lambda z: z[:, pairs[0]] * z[:, pairs[1]],
        "diag": lambda z: z**2,
        "spherical": lambda z: (z**2).sum(axis=1, keepdims=True),
    }[kind](anchored)

    def sums(resp: Array, rows: Array) -> Stats:
        moments = resp.sum(axis=1) @ second[rows] if kind == "tied" else resp.T @ second[rows]
        return Stats(weight=resp.sum(axis=0), first=resp.T @ anchored[rows], second=moments)

    return Case(family, params, x, each, sums)


def poisson(k: int, d: int, rng: np.random.Generator, n: int = MANY) -> Case:
    rates = rng.uniform(1, 60, size=(k, d))
    x = rng.poisson(rates[rng.integers(k, size=n)]).astype(np.float64)
    known = rates.astype(LONG)
    each = x @ np.log(known).T - known.sum(axis=1) - gammaln(x + 1).sum(axis=1)[:, None]
    return Case(Poisson(), Params(rates=rates), x, each, _of_x(x))


def bernoulli(k: int, d: int, rng: np.random.Generator, n: int = MANY) -> Case:
    chances = rng.uniform(0.05, 0.95, size=(k, d))
    x = (rng.uniform(size=(n, d)) < chances[rng.integers(k, size=n)]).astype(np.float64)
    known = chances.astype(LONG)
    each = x @ np.log(known).T + (1 - x) @ np.log1p(-known).T
    return Case(Bernoulli(), Params(probabilities=chances), x, each, _of_x(x))


def _of_x(x: Array) -> Sums:
    return lambda resp, rows: Stats(weight=resp.sum(axis=0), x=resp.T @ x[rows].astype(LONG))


def categorical(k: int, d: int, rng: np.random.Generator, n: int = MANY) -> Case:
    codes = 5
    chances = rng.dirichlet(np.ones(codes), size=(k, d))
    x = rng.integers(codes, size=(n, d)).astype(np.float64)
    starts = codes * np.arange(d + 1)
    places = starts[:-1] + x.astype(int)
    chosen = np.zeros((n, d * codes), dtype=LONG)
    np.put_along_axis(chosen, places, LONG(1), axis=1)
    params = Params(probabilities=chances.reshape(k, -1), starts=starts)
    each = chosen @ np.log(params.probabilities.astype(LONG)).T
    sums: Sums = lambda resp, rows: Stats(weight=resp.sum(axis=0), counts=resp.T @ chosen[rows])  # noqa: E731
    return Case(Categorical(codes), params, x, each, sums)


def autoregressive(k: int, d: int, rng: np.random.Generator, n: int = MANY) -> Case:
    family = AutoregressiveGaussian(1)
    anchor = family.at_anchor(np.zeros(d), np.ones(d), k)
    slopes, offsets = rng.uniform(-0.5, 0.5, size=(k, 1, d, d)), rng.normal(size=(k, d))
    params = family.with_parameters(anchor, offsets, slopes, np.eye(d) * rng.uniform(0.5, 2, size=(k, 1, 1)))
    x = rng.normal(size=(n, 2 * d))
    known = np.column_stack([np.ones(n), x]).astype(LONG)
    each = np.empty((n, k), dtype=LONG)
    for i in range(k):
        factor = params.noise_precision_cholesky[i].astype(LONG)
        residual = known[:, 1 : 1 + d] - offsets[i] - known[:, 1 + d :] @ slopes[i, 0].T
        each[:, i] = np.log(np.diag(factor)).sum() - (((residual @ factor) ** 2).sum(axis=1) + d * LOG_2_PI) / 2
    products = (known[:, :, None] * known[:, None, :]).reshape(n, -1)
    side = 1 + 2 * d
    sums: Sums = lambda resp, rows: Stats(moments=(resp.T @ products[rows]).reshape(k, side, side))  # noqa: E731
    return Case(family, params, x, each, sums)


def parts(k: int, d: int, rng: np.random.Generator, n: int = MANY) -> Case:
    own, weights = poisson(2 * k, d, rng, n), rng.dirichlet(np.ones(2), size=k)
    joint = np.exp(own.log_prob.reshape(n, k, 2)) * weights
    each = joint.sum(axis=2)

    def sums(resp: Array, rows: Array) -> Stats:
        shares = resp[:, :, None] * joint[rows] / each[rows][:, :, None]
        flat = own.sums(shares.reshape(len(resp), -1), rows)
        return Stats(weight=shares.sum(axis=0), parts=flat)

    return Case(MixtureFamily(Poisson(), 2), Params(weights=weights, parts=own.params), own.x, np.log(each), sums)


def case_of(kind: str, k: int, d: int, n: int = MANY) -> Case:
    rng = np.random.default_rng([k, d])
    if kind in ("full", "tied", "diag", "spherical"):
        return gaussian(kind, k, d, rng, n)
    made = {"poisson": poisson, "bernoulli": bernoulli, "categorical": categorical, "parts": parts}
    return made.get(kind, autoregressive)(k, d, rng, n)


def check(case: Case, rows: Array, weighted: bool) -> None:
    """One E-step over these rows."""
    k, n = case.log_prob.shape[1], len(rows)
    rng = np.random.default_rng(n)
    mixed, weight = rng.dirichlet(np.full(k, 5.0)), rng.uniform(0.5, 2, size=n) if weighted else None
    joint = case.log_prob[rows] + np.log(mixed.astype(LONG))
    peak = joint.max(axis=1)
    density = np.exp(joint - peak[:, None])
    counted = np.ones(n) if weight is None else weight
    resp = counted[:, None] * density / density.sum(axis=1)[:, None]
    model = Mixture(case.family, k, None)  # type: ignore[arg-type]
    params = Params(weights=mixed, components=case.params, active=np.float64(k))
    found = model.e_step(params, Chunk(case.x[rows], weight))
    # A log-density of terms up to 1e3 is off by as many units, and so are responsibilities.
    rtol = tolerance(np.float64, n, 1e3)
    each = peak + np.log(density.sum(axis=1))
    assert_close(found.log_likelihood, counted @ each, rtol, "log-likelihood", np.abs(counted * each).sum() + n)
    assert_close(found.responsibilities, resp.sum(axis=0), rtol, "responsibilities")
    assert_close(found.components, case.sums(resp, rows), rtol, "statistics")


@pytest.fixture(params=["strips", "panels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a processor with vectors of AVX2, or of AVX-512, would choose."""
    monkeypatch.setattr(tiling, "in_panels", lambda: request.param == "panels")
    return str(request.param)


@pytest.mark.parametrize("kind", [*NARROW, "autoregressive"])
@pytest.mark.parametrize("k", COMPONENTS)
def test_components_around_the_edges_of_tiles(way: str, kind: str, k: int) -> None:
    check(case_of(kind, k, NARROW.get(kind, 2), 300), np.arange(300), weighted=k % 2 == 0)


@pytest.mark.parametrize("kind", ["diag", "full", "poisson", "categorical"])
@pytest.mark.parametrize("k", [6, 8, 129])
def test_rows_around_the_edges_of_blocks_and_tiles(way: str, kind: str, k: int) -> None:
    d = NARROW[kind]
    case, block = case_of(kind, k, d), tiling.block_rows(k, d)
    tile = tiling.tiling(k, 1 + d).rows or 16
    for rows in {1, tile - 1, tile, tile + 1, 2 * tile + 1, block - 1, block, block + 1, block + tile, 1040, MANY}:
        check(case, np.arange(min(rows, MANY)), weighted=False)


@pytest.mark.parametrize(("kind", "d"), [(kind, d) for kind, widths in WIDE.items() for d in widths])
@pytest.mark.parametrize("k", [5, 33])
def test_features_around_the_edges_of_panels_and_groups(way: str, kind: str, d: int, k: int) -> None:
    check(case_of(kind, k, d, 70), np.arange(70), weighted=True)


@pytest.mark.parametrize("k", [128, 129, 130])
def test_an_m_step_of_poisson_rates_is_that_of_exact_sums(way: str, k: int) -> None:
    """The rates are Σ r·x / Σ r, but for a component that explains nothing, which keeps its rate."""
    case = poisson(k, 1, np.random.default_rng(k))
    rates = np.append(case.params.rates[:-1], [[4000.0]], axis=0)
    case = case._replace(params=Params(rates=rates))
    model = Mixture(case.family, k, None)  # type: ignore[arg-type]
    params = Params(weights=np.full(k, 1 / k), components=case.params, active=np.float64(k))
    next_rates = model.m_step(model.e_step(params, Chunk(case.x)), params).components.rates
    known = rates.astype(LONG)
    joint = case.x @ np.log(known).T - known.sum(axis=1)
    resp = np.exp(joint - joint.max(axis=1)[:, None])
    resp /= resp.sum(axis=1)[:, None]
    exact = (resp.T @ case.x) / resp.sum(axis=0)[:, None]
    assert resp[:, -1].sum() < EMPTY_FRACTION * MANY
    assert next_rates[-1] == rates[-1]
    assert abs(exact[-1, 0] - rates[-1, 0]) > 1.0
    assert_close(next_rates[:-1], exact[:-1], tolerance(np.float64, MANY, 10), "rates")
