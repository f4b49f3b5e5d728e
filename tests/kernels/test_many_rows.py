"""Kernels that take many rows in one call: as block by block, over several blocks, and where numbers underflow."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import streamem
from helpers.chain_cases import whole
from streamem import Mixture, Params
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.errors import NumericalError
from streamem.core.ports import Kernel
from streamem.families import AutoregressiveGaussian, Categorical, Gaussian, MixtureFamily
from streamem.initialization.responsibilities import from_kmeans
from streamem.kernels.nested.nested_mixtures_kernel import ManyRowsOfParts, PartsKernel
from streamem.machine.lanes import lanes_for
from streamem.machine.row_major import columns, scaled
from streamem.models import HMM

Array = NDArray[Any]
RNG = np.random.default_rng(3)


def gaussian_parts(
    k: int = 3, m: int = 2, apart: float = 2.0, weights: Array | None = None
) -> tuple[Any, Params, Array]:
    family = MixtureFamily(Gaussian("diag", 1e-3), m)
    means = apart * RNG.normal(size=(k * m, 4))
    parts = Gaussian("diag", 1e-3).at_anchor(np.zeros(4), np.ones(4), k * m)
    params = Params(
        weights=RNG.dirichlet(np.ones(m), size=k) if weights is None else weights,
        parts=Gaussian("diag", 1e-3).with_means(parts, means),
    )
    return family, params, means


def case_of(name: str, n: int) -> tuple[Any, Params, Array]:
    if name == "parts":
        family, params, means = gaussian_parts()
        return family, params, means[RNG.integers(len(means), size=n)] + RNG.normal(size=(n, 4))
    if name == "categorical":
        x = RNG.integers(0, 3, size=(n, 2)).astype(np.float64)
        family = Categorical(n_categories=3)
        resp = RNG.dirichlet(np.ones(5), size=n)
        return family, family.maximize(family.stats(None, x, resp), None), x
    x = RNG.normal(size=(n, 4))
    resp = RNG.dirichlet(np.ones(3), size=n)
    family = AutoregressiveGaussian(1)
    start = family.start(x, None, 3)
    return family, family.maximize(family.stats(start, x, resp), start), x


def block_by_block(family: Any, params: Params, x: Array, weights: Array, kernel: Any) -> tuple[Array, Array, Any]:
    k, step = weights.shape[1], family.block_rows(params)
    b, peaks = np.zeros((len(x), lanes_for(k))), np.empty(len(x))
    for first in range(0, len(x), step):
        rows = slice(first, first + step)
        kernel.load(x[rows])
        log_prob = np.empty((k, len(x[rows])))
        kernel.log_prob(log_prob)
        scaled(log_prob, b[rows], peaks[rows])
        resp = np.empty_like(log_prob)
        columns(np.ascontiguousarray(np.pad(weights[rows], ((0, 0), (0, b.shape[1] - k)))), resp)
        kernel.accumulate(resp)
    return b, peaks, kernel.stats()


def require_alike(family: Any, params: Params, x: Array, weights: Array) -> Any:
    many = family.kernel(params)
    assert type(many).densities is not Kernel.densities, "its own, not block by block"
    plain = PartsKernel(many._parts, params.weights, many.block_rows) if isinstance(many, ManyRowsOfParts) else many
    k = weights.shape[1]
    expected = block_by_block(family, params, x, weights, plain)
    many = family.kernel(params)
    b, peaks = np.full((len(x), expected[0].shape[1]), np.nan), np.empty(len(x))
    many.densities(x, b, peaks)
    many.accumulate_rows(x, np.pad(weights, ((0, 0), (0, b.shape[1] - k))), True)
    known = many.stats()
    many.accumulate_rows(x, np.pad(weights, ((0, 0), (0, b.shape[1] - k))), True)
    rtol = tolerance(np.float64, len(x), 100)
    assert_close(b, expected[0], rtol, "densities")
    assert_close(peaks, expected[1], rtol, "largest log-densities")
    assert_close(known, expected[2], rtol, "statistics")
    assert_close(many.stats() - known, expected[2], 2 * rtol, "statistics, asked twice")
    return many


@pytest.mark.parametrize("n", [1, 3, 700, 2100, 40_000])
@pytest.mark.parametrize("name", ["parts", "categorical", "autoregressive"])
def test_many_rows_are_block_by_block(name: str, n: int) -> None:
    family, params, x = case_of(name, max(n, 50))
    k = family.log_prob(params, x[:1]).shape[1]
    require_alike(family, params, x[:n], RNG.dirichlet(np.ones(k), size=n))


def test_parts_that_underflow_are_told_apart_in_logarithms() -> None:
    """Every component gets every row, though rows are hundreds of spreads away from the parts of most."""
    family, params, means = gaussian_parts(apart=60.0)
    x = means[RNG.integers(len(means), size=9000)] + RNG.normal(size=(9000, 4))
    kernel = require_alike(family, params, x, RNG.dirichlet(np.ones(3), size=len(x)))
    weight = kernel.stats().weight
    assert np.isfinite(weight).all()
    assert weight.sum() == pytest.approx(2 * len(x), rel=1e-12)


@pytest.mark.parametrize("least", [0.0, 1e-60])
def test_the_likeliest_part_may_have_no_weight(least: float) -> None:
    """Rows at a part without weight: what is nil beside that part counts beside the others."""
    family, params, means = gaussian_parts(apart=40.0, weights=np.array([[least, 1.0 - least], [0.5, 0.5], [0.5, 0.5]]))
    x = np.repeat(means[:1], 500, axis=0) + RNG.normal(size=(500, 4))
    weights = np.zeros((500, 3))
    weights[:, 0] = 1.0
    require_alike(family, params, x, weights)


def test_a_state_that_is_nil_beside_a_part_without_weight_comes_back() -> None:
    """A first row at a part of weight 1e-30, 650 nats from all others; the rows after it decide for the other state.

    The states never change, so that each one's likelihood is a sum over rows: the truth.
    """
    away = np.sqrt(2 * 650.05)
    family, own = MixtureFamily(Gaussian("diag", 1e-3), 2), Gaussian("diag", 1e-3)
    means = np.array([0.0, 200.0, away, away])[:, None]
    parts = own.with_means(own.at_anchor(np.zeros(1), np.ones(1), 4), means)
    weights = np.array([[1.5e-30, 1.0 - 1.5e-30], [0.5, 0.5]])
    components = Params(weights=weights, parts=parts)
    model = HMM(family, 2, from_kmeans)
    params = Params(startprob=np.full(2, 0.5), transmat=np.eye(2), kept=np.zeros(2, bool), components=components)
    rows = np.linspace(0.0, away / 2, 100_000)[:, None]
    first = np.subtract(*family.log_prob(components, np.zeros((1, 1)))[0])
    gains = np.diff(family.log_prob(components, rows), axis=1)[:, 0]
    row = rows[np.argmin(np.abs(gains - (first + 2.3) / 12))]
    x = np.vstack([np.zeros((1, 1)), np.repeat(row[None], 12, axis=0)])
    totals = family.log_prob(components, x).sum(axis=0)
    truth = np.exp(totals - np.logaddexp.reduce(totals))
    assert 0.6 < truth[1] < 0.99
    posteriors = model.posteriors(params, whole(x, [len(x)]))
    assert_close(posteriors, np.tile(truth, (len(x), 1)), 1e-9, "posteriors")


def learns_as_float64(model: Any, x: Array) -> None:
    """Squares that float32 does not hold are computed in float64: the bits of the same rows in float64."""
    other = copy.deepcopy(model)
    assert x.dtype == np.float32
    model.partial_fit(x)
    assert model.params_ == other.partial_fit(x.astype(np.float64)).params_
    assert all(np.isfinite(leaf).all() for leaf in model.params_.flatten().values())


@pytest.mark.parametrize("kind", ["diag", "full", "spherical"])
@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize(
    ("dtype", "times"), [(np.float32, 1.1), (np.float32, 2.0), (np.float64, 1.1), (np.float64, 30.0)]
)
def test_a_row_whose_squares_overflow_is_named_though_its_log_density_may_be_finite(
    kind: str, d: int, dtype: Any, times: float
) -> None:
    x = (10 * RNG.normal(size=(400, d))).astype(dtype)
    mixture = Mixture(Gaussian(kind), 1, random_state=0).fit(x)
    known: Any = mixture.params_
    bad = x[:200].copy()
    bad[5, 2] = times * known.scale[2] * np.sqrt(np.finfo(dtype).max)
    if dtype == np.float32:
        learns_as_float64(mixture, bad)
        return
    with pytest.raises(NumericalError, match="row 5"):
        mixture.partial_fit(bad)
    assert mixture.params_ == known
    mixture.partial_fit(x)
    assert all(np.isfinite(leaf).all() for leaf in mixture.params_.flatten().values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_whose_squares_overflow_together_are_refused(dtype: Any) -> None:
    x = RNG.normal(size=(400, 64)).astype(dtype)
    mixture = Mixture(Gaussian("diag"), 1, random_state=0).fit(x)
    x[5:250, 3] = 0.9 * np.sqrt(np.finfo(dtype).max)
    if dtype == np.float32:
        learns_as_float64(mixture, x)
        return
    with pytest.raises(NumericalError, match="squares"):
        mixture.partial_fit(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "d"), [("diag", 64), ("spherical", 64), ("full", 34)])
def test_chains_refuse_rows_whose_squares_overflow(kind: str, d: int, dtype: Any) -> None:
    x = RNG.normal(size=(400, d)).astype(dtype)
    chain = streamem.HMM(Gaussian(kind), 1, random_state=0).fit(x)
    known: Any = chain.params_
    together, alone = x.copy(), x.copy()
    limit = known.scale[3] * np.sqrt(np.finfo(dtype).max)
    together[5:250, 3], alone[7, 2] = 0.9 * limit, 1.1 * limit
    for bad in (together, alone):
        if dtype == np.float32:
            learns_as_float64(copy.deepcopy(chain), bad)
            continue
        with pytest.raises(NumericalError, match=r"chunk 0 .*squares"):
            chain.partial_fit(bad)
        assert chain.params_ == known


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_differences_refuse_rows_whose_squares_overflow(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels, means, sizes = rng.integers(0, 4, 8000), np.array([0, 1e5, 2e5, 3e5]), np.array([1e-2, 1e-2, 1e-2, 3e5])
    x = means[labels][:, None] + sizes[labels][:, None] * rng.normal(size=(8000, 3))
    mixture = Mixture(Gaussian(kind), 4, random_state=0, max_iter=8).fit(x)
    assert "float64 differences" in mixture.report_.setting["arithmetic"]
    known: Any = mixture.params_
    bad = x[:2000].copy()
    bad[5, 2] = 1.1 * known.scale[2] * np.sqrt(np.finfo(np.float64).max)
    with pytest.raises(NumericalError, match="squares"):
        mixture.partial_fit(bad)
    assert mixture.params_ == known


@pytest.mark.parametrize("family", [Gaussian("diag"), MixtureFamily(Gaussian("diag"), 2)], ids=["alone", "parts"])
def test_float32_rows_whose_squares_overflow_are_learned_in_float64(family: Any) -> None:
    x = RNG.normal(size=(3000, 2)).astype(np.float32)
    mixture = Mixture(family, 2, random_state=0).fit(x)
    x[777] = [1e25, -1e25]
    learns_as_float64(mixture, x)
