"""Gaussians of which some go by products and some by differences, in one pass, against sums in long double."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.families import Gaussian, MixtureFamily
from streamem.families.gaussian.apart import ApartKernel, components_apart
from streamem.kernels.nested.nested_mixtures_kernel import parts_kernel
from streamem.kernels.pairs.apart_buffers import room_bytes, room_of
from streamem.models import HMM, Mixture

Array = NDArray[Any]
KINDS = ["full", "tied", "diag", "spherical"]
LONG = np.longdouble


class Case:
    """Components of which some are tight, rows that they emit, and rows where none is near, or exactly at a mean."""

    def __init__(self, kind: str, k: int, d: int, tight: int, dtype: Any = np.float64, n: int = 400) -> None:
        rng = np.random.default_rng([k, d, tight])
        self.kind, self.k, self.family = kind, k, Gaussian(kind)
        spread = np.where(np.arange(k) < tight, 1e-4, 1.0)[rng.permutation(k)]
        if kind == "tied":
            spread[:] = 1e-4 if tight else 1.0
        means = rng.normal(size=(k, d)) * 2.0
        if tight > 1:  # two tight ones that overlap
            one, other = np.flatnonzero(spread < 1)[:2]
            means[other] = means[one] + 1e-4 * rng.normal(size=d)
        root = np.eye(d) + 0.3 * rng.normal(size=(k, d, d)) / np.sqrt(d)
        matrices = spread[:, None, None] ** 2 * (root @ root.transpose(0, 2, 1))
        variances = spread[:, None] ** 2 * rng.uniform(0.5, 2, size=(k, d))
        covariances = {
            "full": matrices,
            "tied": matrices[0],
            "diag": variances,
            "spherical": variances[:, 0],
        }[kind]
        anchor = self.family.at_anchor(np.full(d, 0.25), np.full(d, 2.0), k)
        self.params = self.family.with_means(self.family.with_covariances(anchor, covariances), means)
        source = rng.integers(k, size=n)
        rows = means[source]
        x = rows + spread[source, None] * rng.normal(size=(n, d))
        x[: n // 8] = rows[: n // 8]
        x[n // 8 : n // 6] += 40.0 * rng.normal(size=(n // 6 - n // 8, d))
        self.x = x.astype(dtype)
        self.weights = rng.dirichlet(np.full(k, 3.0))
        self.weight = rng.uniform(0.5, 2, size=n)

    def log_prob(self) -> Array:
        """(n, K) in long double."""
        p, x = self.params, self.x.astype(LONG)
        z, d = (x - p.center) / p.scale, self.x.shape[1]
        out = np.empty((len(x), self.k), dtype=LONG)
        for i in range(self.k):
            factor = p.precisions_cholesky.astype(LONG)
            factor = factor if self.kind == "tied" else factor[i]
            difference = z - p.means[i].astype(LONG)
            whitened = difference @ factor if factor.ndim == 2 else difference * factor
            diagonal = np.diag(factor) if factor.ndim == 2 else np.broadcast_to(factor, (d,))
            out[:, i] = np.log(diagonal).sum() - ((whitened**2).sum(axis=1) + d * np.log(2 * LONG(np.pi))) / 2
        return out - np.log(p.scale.astype(LONG)).sum()

    def estimated(self, resp: Array) -> tuple[Array, Array]:
        """Weighted means and covariances in units of the data, in long double."""
        x, weight = self.x.astype(LONG), resp.sum(axis=0)
        weight = np.maximum(weight, 1e-300)
        means = resp.T @ x / weight[:, None]
        apart = x[None] - means[:, None]
        if self.kind in ("full", "tied"):
            found = np.stack([(apart[i] * resp[:, i : i + 1]).T @ apart[i] for i in range(self.k)])
            return means, found.sum(axis=0) / weight.sum() if self.kind == "tied" else found / weight[:, None, None]
        found = np.einsum("nk,knd->kd", resp, apart**2) / weight[:, None]
        return means, found.mean(axis=1) if self.kind == "spherical" else found

    def deviations(self) -> Array:
        """Of each component and feature (K, d), in units of the data."""
        covariances = self.family.covariances(self.params)
        return np.sqrt(self.family.variances(covariances, self.k, self.x.shape[1]))

    def kernel(self) -> Any:
        return self.family.kernel(self.params, self.x.dtype)

    def check_params(self, stats: Any, resp: Array, error: float) -> None:
        """An M-step: of components that have rows and lie above the floor, beside their spread."""
        found = self.family.maximize(stats, self.params)
        means, covariances = self.estimated(resp)
        some, size = (
            (resp.sum(axis=0) > 1e-3) & ~np.asarray(found.floored),
            np.sqrt(resp.sum(axis=0)[:, None]) / self.deviations(),
        )
        assert (np.abs(self.family.means(found) - means) * size)[some].max() < error * len(self.x)
        off = np.abs(self.family.covariances(found) - covariances)
        own = np.abs(covariances).reshape(len(covariances), -1).max(axis=1)
        if self.kind == "tied":
            assert off.max() < error * np.abs(covariances).max() * len(self.x)
        else:
            assert (off.reshape(self.k, -1).max(axis=1) / own)[some].max() < error * len(self.x)


def posterior(log_prob: Array, weights: Array) -> tuple[Array, Array]:
    joint = log_prob + np.log(weights.astype(LONG))
    peak = joint.max(axis=1, keepdims=True)
    density = np.exp(joint - peak)
    return density / density.sum(axis=1, keepdims=True), peak[:, 0] + np.log(density.sum(axis=1))


SHAPES = [
    (1, 1, 1),
    (2, 1, 1),
    (3, 5, 1),
    (3, 2, 3),
    (7, 4, 2),
    (9, 3, 8),
    (16, 6, 4),
    (33, 5, 1),
    (40, 9, 20),
    (130, 3, 2),
]


PASSES = [
    pytest.param(*shape, dtype, kind, marks=() if dtype == np.float64 or quick else pytest.mark.slow)
    for shape in SHAPES
    for dtype in (np.float64, np.float32)
    for kind in KINDS
    for quick in [kind == "full" and shape[1] > 1]
]
"""float32 rows are slow but for matrices: each pass takes seven seconds to compile."""


@pytest.mark.parametrize(("k", "d", "tight", "dtype", "kind"), PASSES)
def test_a_pass_over_rows(kind: str, dtype: Any, k: int, d: int, tight: int) -> None:
    case = Case(kind, k, d, tight, dtype)
    kernel = case.kernel()
    assert isinstance(kernel, ApartKernel)
    resp, log_density = posterior(case.log_prob(), case.weights)
    resp *= case.weight[:, None]
    for weight in (case.weight, None):
        kernel.restart()
        sums = kernel.mix(case.x, weight, np.log(case.weights))
        counted = np.ones(len(case.x)) if weight is None else weight
        # Of far rows, which no component explains, float32 tells the sum to a relative error.
        size = counted @ np.maximum(1.0, np.abs(log_density) * np.finfo(dtype).eps / 1e-12)
        assert abs(sums.log_likelihood - counted @ log_density) <= 2 * kernel.rounding * size
        scale = resp if weight is not None else resp / case.weight[:, None]
        assert np.abs(sums.responsibilities - scale.sum(axis=0)).max() <= 20 * kernel.rounding * len(case.x)
        error = 20 * kernel.rounding if dtype == np.float32 else max(20 * kernel.rounding, 1e-11)
        case.check_params(kernel.stats(), scale, error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "d", "tight"), [(3, 5, 1), (7, 4, 2), (33, 5, 1), (9, 3, 8)])
def test_block_by_block_and_row_after_row(kind: str, k: int, d: int, tight: int) -> None:
    case = Case(kind, k, d, tight)
    kernel, exact = case.kernel(), case.log_prob()
    found = case.family.log_prob(case.params, case.x)
    error = 1e-9 * (1 + np.abs(exact))
    assert (np.abs(found - exact) <= error).all()
    width = -(-k // 4) * 4
    b, peaks = np.full((len(case.x), width), np.nan), np.empty(len(case.x))
    kernel.densities(case.x, b, peaks)
    peak = exact.max(axis=1)
    assert (np.abs(peaks - peak) <= 1e-9 * (1 + np.abs(peak))).all()
    assert np.abs(b[:, :k] - np.exp(exact - peak[:, None])).max() < 1e-7
    assert not b[:, k:].any()
    resp, _ = posterior(exact, case.weights)
    by_rows = np.zeros((len(case.x), width))
    by_rows[:, :k] = resp
    kernel.accumulate_rows(case.x, by_rows, True)
    case.check_params(kernel.stats(), resp, 1e-11)
    kernel.restart()
    for rows in (slice(0, 7), slice(7, 300), slice(300, 400)):
        kernel.load(case.x[rows])
        kernel.accumulate(np.ascontiguousarray(resp[rows].T.astype(np.float64)))
    case.check_params(kernel.stats(), resp, 1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("tight", [0, 2, 7])
def test_the_arithmetic_is_told_without_a_kernel(kind: str, dtype: Any, tight: int) -> None:
    case = Case(kind, 7, 4, tight, dtype=dtype)
    kernel = case.kernel()
    told = case.family.arithmetic(case.params, dtype)
    assert told == kernel.path
    products: Any = kernel._products if isinstance(kernel, ApartKernel) else kernel
    assert told == "float64 differences" or told.startswith(products.dtype.name)


@pytest.mark.parametrize(
    "kind", ["diag", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("full", "spherical"))]
)
def test_middling_components_join_the_few_on_float32_rows(kind: str) -> None:
    """Products in float32 for those that it serves, if they are most; statistics stay about the anchor."""
    case = Case(kind, 12, 4, 0)
    covariances = np.array(case.family.covariances(case.params))
    covariances[:2] *= 1e-4
    params = case.family.with_covariances(case.params, covariances)
    assert not components_apart(case.family._structure, params, np.float64).any()
    np.testing.assert_array_equal(np.flatnonzero(components_apart(case.family._structure, params, np.float32)), [0, 1])
    kernel = case.family.kernel(params, np.float32)
    assert kernel.path == "float32 products, float64 differences for 2 of 12"
    x = case.x.astype(np.float32)
    kernel.mix(x, None, np.log(case.weights))
    dense = case.family.kernel(params)
    dense.mix(x.astype(np.float64), None, np.log(case.weights))
    for name in ("weight", "first", "second"):
        one, other = kernel.stats()[name], dense.stats()[name]
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-3 * np.abs(other).max())


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_components_without_weight_get_no_rows(kind: str) -> None:
    case = Case(kind, 8, 3, 2)
    tight = components_apart(case.family._structure, case.params, np.float64)
    resp, log_density = posterior(case.log_prob()[:, tight], np.array([0.5, 0.5]))
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.where(tight, 0.5, 0.0))
    sums = case.kernel().mix(case.x, None, log_weights)
    assert abs(sums.log_likelihood - log_density.sum()) <= 1e-9 * np.abs(log_density).sum()
    np.testing.assert_allclose(sums.responsibilities[tight], resp.sum(axis=0).astype(float), atol=1e-6)
    assert not sums.responsibilities[~tight].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "tight"), [(8, 2), (3, 3)])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_rows_without_density_are_an_error(kind: str, k: int, tight: int, value: float) -> None:
    case = Case(kind, k, 6, tight)
    for column in range(6):
        x = case.x.copy()
        x[11, column] = value
        model = Mixture(case.family, k, None)  # type: ignore[arg-type]
        params = Params(weights=case.weights, components=case.params, active=np.float64(k))
        with (
            pytest.raises(NumericalError, match=r"row 11 of the chunk|values whose squares"),
            np.errstate(all="ignore"),
        ):
            model.e_step(params, Chunk(x))


def test_a_tight_component_costs_pairs_of_few_rows_only() -> None:
    """Those near it: a screen that ruled out no row would be right and slow."""
    case = Case("diag", 16, 8, 1, n=2000)
    kernel = case.kernel()
    kernel.mix(case.x, None, np.log(case.weights))
    pairs = kernel._pair_buffers(kernel._products.workplace.scratch.shape[1]).starts[-1]
    assert pairs < 0.3 * len(case.x) % kernel._products.workplace.scratch.shape[1]


@pytest.mark.parametrize("kind", KINDS)
def test_chains_and_mixtures_of_parts_take_it(kind: str) -> None:
    case = Case(kind, 4, 3, 2)
    model = HMM(case.family, 4, None)  # type: ignore[arg-type]
    chain = Params(startprob=np.full(4, 0.25), transmat=np.full((4, 4), 0.25), components=case.params)
    stats = model.e_step(chain, Chunk(case.x))
    resp, log_density = posterior(case.log_prob(), np.full(4, 0.25))
    assert abs(stats.log_likelihood - log_density.sum()) <= 1e-9 * np.abs(log_density).sum()
    case.check_params(stats.components, resp, 1e-10)
    parts = MixtureFamily(case.family, 2)
    mixture = Mixture(parts, 2, None)  # type: ignore[arg-type]
    inner = Params(weights=np.full((2, 2), 0.5), parts=case.params)
    found = mixture.e_step(Params(weights=np.full(2, 0.5), components=inner, active=np.float64(2)), Chunk(case.x))
    assert abs(found.log_likelihood - log_density.sum()) <= 1e-9 * np.abs(log_density).sum()
    case.check_params(found.components.parts, resp, 1e-10)


def test_buffers_take_what_is_told() -> None:
    kernel = Case("diag", 9, 7, 3).kernel()
    room = room_of(kernel._split.apart, 100)
    assert sum(buffer.nbytes for buffer in room) == room_bytes(3, kernel._split.apart.used.size, 100)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("tight", [0, 1, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whether_products_are_of_float32(dtype: Any, tight: int, parts: int) -> None:
    """A kernel tells by a fact and in words that its products are of float32."""
    case = Case("full", 5, 3, tight, dtype)
    kernel: Any = case.family.kernel(case.params, dtype)
    if parts > 1:
        kernel = parts_kernel(kernel, np.full((1, 5), 0.2), 64)
    assert kernel.float32_products == ("float32 products" in kernel.path)
    assert kernel.float32_products == (dtype == np.float32 and tight < 5)
