"""Weights tell shares: their common factor changes no result, and rows without weight teach nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.fitted_states import state_of
from streamem import GMMHMM, GaussianHMM, GaussianMixture, Mixture, PoissonHMM, open_source
from streamem.algorithms import StepwiseEM
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError
from streamem.core.extremes import balanced
from streamem.families import Bernoulli, Gaussian, Poisson

Array = NDArray[Any]
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(150, 2)), RNG.normal(size=(150, 2)) + 4])
WEIGHT = RNG.integers(1, 8, size=300) / 4.0  # of few bits, so that subnormal ones hold them; below 2: balanced already
COUNTS = RNG.poisson(np.where(WEIGHT > 1, 2.0, 9.0))[:, None]
EXPONENTS = [-1060, -1000, -166, 133, 1000]
"""Weights near 1e-319, 1e-301, 1e-50, 1e40 and 1e301."""


def scaled(exponent: int) -> Array:
    return np.asarray(np.ldexp(WEIGHT, exponent))


def same(one: Any, other: Any, tolerance: float) -> None:
    """Parameters within a relative tolerance; 0 asks for the bits."""
    mine, theirs = (state_of(model).params.flatten() for model in (one, other))  # type: ignore[attr-defined]
    for name, value in mine.items():
        if name != "active":  # a count of pairs
            np.testing.assert_allclose(value, theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
def test_a_power_of_two_changes_no_bit(init: str, dtype: Any) -> None:
    """scikit-learn's k-means took weights of float32 rows for zero or infinity; float32 responsibilities did so too."""
    settings: dict[str, Any] = {"init_params": init, "max_iter": 2, "tol": 0, "random_state": 0}
    plain = fitted(GaussianMixture(2, **settings), X.astype(dtype), WEIGHT)
    for exponent in EXPONENTS:
        other = fitted(GaussianMixture(2, **settings), X.astype(dtype), scaled(exponent))
        # Sums of subnormal numbers hold no more than 1e-319 / 5e-324 tells.
        same(plain, other, 0 if exponent > -1000 else 1e-3)
        assert other.lower_bound_ == pytest.approx(plain.lower_bound_, rel=0 if exponent > -1000 else 1e-4)


def fitted(model: Any, x: Array, weight: Array) -> Any:
    """After `fit`, converged or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, sample_weight=weight)


MODELS: dict[str, Any] = {
    "full": (lambda: GaussianMixture(2, max_iter=2, tol=0, random_state=0), X),
    "tied": (lambda: GaussianMixture(2, covariance_type="tied", max_iter=2, tol=0, random_state=0), X),
    "family": (lambda: Mixture(Gaussian("diag"), 2, max_iter=2, tol=0, random_state=0), X),
    "poisson": (lambda: Mixture(Poisson(), 2, max_iter=2, tol=0, random_state=0), COUNTS),
    "bernoulli": (lambda: Mixture(Bernoulli(), 2, max_iter=2, tol=0, random_state=0), COUNTS > 4),
    "chain": (lambda: GaussianHMM(2, covariance_type="diag", n_iter=2, tol=0, random_state=0), X),
    "chain of counts": (lambda: PoissonHMM(2, n_iter=2, tol=0, random_state=0), COUNTS),
    "chain of mixtures": (lambda: GMMHMM(2, n_mix=2, n_iter=2, tol=0, random_state=0), X),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_reads_shares(name: str, dtype: Any) -> None:
    """Chains take one weight a sequence."""
    make, x = MODELS[name]
    x, options = np.asarray(x, dtype=dtype), {}
    weight = WEIGHT
    if "chain" in name:
        options, weight = {"lengths": np.full(30, 10)}, WEIGHT[:30]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = make().fit(x, sample_weight=weight, **options)
        for exponent in (-166, 133):
            same(plain, make().fit(x, sample_weight=np.ldexp(weight, exponent), **options), 0)
        if name in ("full", "tied", "family", "chain"):  # others' starts hold half a row, or part by a direction's sign
            same(plain, make().fit(x, sample_weight=weight * 1e40, **options), 1e-4 if dtype == np.float32 else 1e-9)


def test_ordinary_weights_are_left_as_they_are() -> None:
    """So that bits stay; and a chunk without weight or rows has no factor."""
    for weight in (WEIGHT, np.zeros(300), None):
        chunk = Chunk(X, weight)
        assert balanced(chunk) == (chunk, 1.0)
    near, factor = balanced(Chunk(X, scaled(-1060)))
    assert near.weight is not None
    assert 1 <= near.weight.max() < 2
    assert np.array_equal(near.weight * factor, scaled(-1060))


def test_weights_whose_sum_overflows_are_named() -> None:
    """It was `nan` of a MonotonicityError, or a row without density."""
    with pytest.raises(DataError, match=r"300 rows sum to more than float64 holds .* divide all weights"):
        GaussianMixture(2, random_state=0).fit(X, sample_weight=scaled(1020))


# --- no weight at all ------------------------------------------------------------------------------------------------


def learned(model: Any) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in state_of(model).params.flatten().items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_batch_without_weight_teaches_nothing(dtype: Any) -> None:
    """`partial_fit` counts its rows, tells nobody of a step, and goes on afterwards as if it had not been."""
    x, told = X.astype(dtype), []
    model = GaussianMixture(2, random_state=0).partial_fit(x)
    before, rows, bound = learned(model), state_of(model).rows, model.lower_bound_
    model.on_update(told.append).partial_fit(x[:7], sample_weight=np.zeros(7))
    assert (learned(model), model.lower_bound_, told) == (before, bound, [])
    assert state_of(model).rows == rows + 7
    assert len(model.partial_fit(x).lower_bounds_) > 0
    assert len(told) == 1


def test_one_before_the_start_is_passed_over() -> None:
    """The start waits for rows that count."""
    model = GaussianMixture(2, random_state=0).partial_fit(X[:50], sample_weight=np.zeros(50))
    assert not hasattr(model, "weights_")
    assert learned(model.partial_fit(X)) == learned(GaussianMixture(2, random_state=0).partial_fit(X))


def test_a_model_set_by_hand_waits_too() -> None:
    """Its first batch has to have so many rows, but of those without weight any number will do."""
    model = GaussianMixture(2, covariance_type="diag", random_state=0).fit(X)
    model.means_ = model.means_ + 0.5
    means = model.means_.copy()
    model.partial_fit(X[:2], sample_weight=np.zeros(2))
    np.testing.assert_allclose(model.means_, means, rtol=1e-15)


@pytest.mark.parametrize("continued", [False, True])
def test_of_chains_too(continued: bool) -> None:
    """Also along an endless sequence, where only the place of the chain is learned."""
    model = GaussianHMM(2, covariance_type="diag", random_state=0).partial_fit(X)
    if continued:
        model.partial_fit(X, continued=True)
    before = learned(model)
    model.partial_fit(X[:9], sample_weight=np.zeros(9), continued=continued)
    assert learned(model) == before
    if continued:
        filtered = state_of(model).memory.endless.filtered  # type: ignore[union-attr]
        assert np.exp(filtered)[np.argmax(model.predict_proba(X[:9])[-1])] > 0.99
    assert learned(model.partial_fit(X, continued=continued)) != before


def test_a_stream_passes_over_them(tmp_path: Path) -> None:
    """The positions move on, and the rows count."""
    records = [{"a": float(x), "w": float(w)} for x, w in zip(X[:, 0], np.repeat([1, 0, 1], 100), strict=True)]
    model = GaussianMixture(1, random_state=0)
    model.fit_stream([records], batch_rows=100, sample_weight="w", columns=["a"], checkpoint=tmp_path / "m.npz")
    whole = GaussianMixture(1, random_state=0)
    whole.fit_stream([records[:100], records[200:]], batch_rows=100, sample_weight="w", columns=["a"])
    assert state_of(model).rows == 300
    np.testing.assert_allclose(model.means_, whole.means_, rtol=1e-12)
    assert state_of(GaussianMixture.load(tmp_path / "m.npz")).rows == 300


def test_windows_of_a_fit_too() -> None:
    """Mini-batches of sorted weights, of which half have none."""
    x, weight = np.concatenate([X, X + 50]), np.repeat([1.0, 0.0], 300)
    source = open_source(x, weight=weight)
    rule = StepwiseEM(passes=1, batch_rows=20)
    model = GaussianMixture(2, random_state=0).fit(source, algorithm=rule)
    assert model.means_.max() < 10
    assert GaussianMixture(2, random_state=0, tol=1e-2).fit(x, sample_weight=weight, algorithm="incremental").converged_
