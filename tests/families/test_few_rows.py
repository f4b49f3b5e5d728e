"""A few rows under many large Gaussians: answered from the factors, as by a kernel, without arrays of their size."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.families import Gaussian
from streamem.families.gaussian.few_rows import FEW_ROWS
from streamem.models import Mixture, MixtureWithNoise

Array = NDArray[np.float64]
K, D = 64, 128


def no_start(*_: object) -> Array:
    raise NotImplementedError


@pytest.fixture(scope="module")
def family() -> Gaussian:
    return Gaussian("full")


@pytest.fixture(scope="module")
def components(family: Gaussian) -> Params:
    """Far from the origin, each with a matrix of its own, in an anchor of unequal scales."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(K, D, 2 * D))
    anchor = family.at_anchor(np.full(D, 50.0), np.exp2(rng.integers(-2, 3, D)), K)
    anchor = family.with_means(anchor, 50.0 + rng.normal(size=(K, D)))
    return family.with_covariances(anchor, root @ np.swapaxes(root, 1, 2) / (2 * D))


@pytest.fixture(scope="module")
def rows() -> Array:
    return 50.0 + np.random.default_rng(4).normal(size=(40, D))


def test_densities_are_those_of_scipy(family: Gaussian, components: Params, rows: Array) -> None:
    means, covariances = family.means(components), family.covariances(components)
    expected = np.column_stack(
        [multivariate_normal(mean, cov).logpdf(rows[:3]) for mean, cov in zip(means, covariances, strict=True)]
    )
    found = family.few_log_prob(components, rows[:3])
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    single = rows[:1].astype(np.float32)
    np.testing.assert_allclose(
        family.few_log_prob(components, single), family.few_log_prob(components, single.astype(np.float64)), rtol=0
    )


@pytest.mark.parametrize("question", ["labels", "responsibilities", "log_density"])
def test_few_rows_are_answered_as_many(family: Gaussian, components: Params, rows: Array, question: str) -> None:
    weights = np.random.default_rng(5).dirichlet(np.ones(K))
    model, params = Mixture(family, K, no_start), Params(weights=weights, components=components)
    x = rows.copy()
    x[2] = 1e200  # whose squares overflow
    whole = getattr(model, question)(params, Chunk(x))
    pieces = [getattr(model, question)(params, Chunk(x[i : i + FEW_ROWS])) for i in range(0, len(x), FEW_ROWS)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("question", ["labels", "responsibilities", "log_density"])
def test_noise_stands_beside_few_rows_too(family: Gaussian, components: Params, rows: Array, question: str) -> None:
    box = np.stack([rows.min(axis=0), rows.max(axis=0)])
    model = MixtureWithNoise(family, K, no_start, box)
    params = Params(weights=np.full(K, 0.5 / K), noise_weight=np.float64(0.5), components=components, box=box)
    x = rows.copy()
    x[:2] = box  # corners, which are noise
    whole = getattr(model, question)(params, Chunk(x))
    pieces = [getattr(model, question)(params, Chunk(x[i : i + FEW_ROWS])) for i in range(0, len(x), FEW_ROWS)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-9, atol=1e-12)


def test_no_array_of_the_size_of_the_factors_is_made(family: Gaussian, components: Params, rows: Array) -> None:
    model, params = Mixture(family, K, no_start), Params(weights=np.full(K, 1 / K), components=components)
    model.labels(params, Chunk(rows[:1]))  # what is imported once
    fresh = Params(weights=params.weights, components=components.replace(means=components.means.copy()))
    tracemalloc.start()
    model.labels(fresh, Chunk(rows[:1]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * K * D**2 / 8


def test_a_kernel_serves_everything_else(family: Gaussian, components: Params, rows: Array) -> None:
    assert family.few_log_prob(components, rows[: FEW_ROWS + 1]) is None
    assert family.few_log_prob(components, np.full((1, D), np.nan)) is None
    for kind in ("tied", "diag", "spherical"):
        other = Gaussian(kind)
        assert other.few_log_prob(other.at_anchor(np.zeros(D), np.ones(D), K), rows[:1]) is None
    assert family.few_log_prob(family.at_anchor(np.zeros(D), np.ones(D), 3), rows[:1]) is None
