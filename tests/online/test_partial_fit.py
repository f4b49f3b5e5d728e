"""Online EM by partial_fit: laws of the step, guards for small batches, drift, and a model that survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.exceptions import NotFittedError

from helpers.fitted_states import params_now
from helpers.users_family import Poisson
from streamem import GaussianMixture, Mixture, families
from streamem.algorithms import HalfLife, PowerLaw
from streamem.core.errors import ImpossibleValueError, NonFiniteError, ParameterError, SchemaError
from streamem.families import Gaussian
from streamem.families.gaussian.arithmetic import about_means

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
TYPES = ["full", "tied", "diag", "spherical"]
CENTRES = np.array([[0.0, 0.0, 0.0], [5.0, 1.0, 0.0], [2.0, 6.0, 1.0]])
ARRAYS = ("weights_", "means_", "covariances_")


def rows(n: int, seed: int = 0, centres: Any = CENTRES) -> Any:
    rng = np.random.default_rng(seed)
    return centres[rng.choice(3, size=n, p=[0.5, 0.3, 0.2])] + rng.normal(size=(n, 3))


def whole_step(weight: float, seen: float) -> float:
    return 1.0


def same(one: Any, other: Any, rtol: float) -> None:
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, atol=rtol)


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", TYPES)
def test_all_rows_and_a_whole_step_are_one_batch_iteration(covariance_type: str) -> None:
    settings = {"covariance_type": covariance_type, "random_state": 0}
    online = GaussianMixture(3, max_iter=0, **settings).fit(rows(2000)).partial_fit(rows(2000), step=whole_step)
    batch = GaussianMixture(3, max_iter=1, tol=0, **settings).fit(rows(2000))
    same(online, batch, 1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_weight_of_two_is_the_row_twice(covariance_type: str) -> None:
    start = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(rows(500))
    weighted, twice = (pickle_copy(start) for _ in range(2))
    for seed in range(1, 6):
        batch = rows(40 + seed, seed)
        weighted.partial_fit(batch, sample_weight=np.full(len(batch), 2.0))
        twice.partial_fit(np.concatenate([batch, batch]))
    same(weighted, twice, 1e-10)
    assert weighted.effective_sample_size_ == pytest.approx(twice.effective_sample_size_)


def pickle_copy(model: Any) -> Any:
    import pickle

    return pickle.loads(pickle.dumps(model))


def test_with_exponent_one_every_row_counts_the_same() -> None:
    """Then the effective sample is all rows, however ragged the batches."""
    gm = GaussianMixture(3, random_state=0)
    for seed, n in enumerate((300, 7, 1000, 64)):
        gm.partial_fit(rows(n, seed), step=PowerLaw(1.0))
    assert gm.effective_sample_size_ == pytest.approx(1371)
    assert gm.n_iter_ == 4
    assert gm.report_ is not None


def test_a_half_life_bounds_the_effective_sample() -> None:
    gm = GaussianMixture(3, random_state=0)
    for seed in range(300):
        gm.partial_fit(rows(50, seed), half_life=1000)
    gamma = HalfLife(1000)(50, 0)
    assert gm.effective_sample_size_ == pytest.approx(50 * (2 - gamma) / gamma, rel=1e-6)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("apart", [1.0, 1e6])
def test_rebased_statistics_are_those_taken_there(covariance_type: str, apart: float) -> None:
    """Clusters far apart go by differences, whose moments are about means that move from step to step."""
    family = Gaussian(covariance_type)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(200, 3)), apart * 5 + rng.normal(size=(300, 3))])
    mixed = 0.01 if apart == 1 else 0.0
    resp = mixed * rng.dirichlet([0.5, 0.5], size=500) + (1 - mixed) * np.eye(2)[np.repeat([0, 1], [200, 300])]
    first = family.maximize(family.stats(family.start(x, None, 2), x, resp), family.start(x, None, 2))
    old = family.with_means(first, family.means(first))
    new = family.with_means(old, family.means(old) + rng.normal(size=(2, 3)) * 0.1)
    assert about_means(family._structure, old).any() == (apart > 1)  # of one alone, where the anchor is near it
    found = family.rebase(family.stats(old, x, resp), old, new)
    expected = family.stats(new, x, resp)
    for name in ("weight", "first", "second"):
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12 * size, rtol=1e-9)


# --- guards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "covariance_type", ["full", "diag", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tied", "spherical"))]
)
def test_single_rows_in_ten_dimensions_stay_positive_definite(covariance_type: str) -> None:
    rng = np.random.default_rng(0)
    gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0, reg_covar=0.0)
    for _ in range(300):
        gm.partial_fit(rng.normal(size=(1, 10)) + 4.0 * rng.integers(2))
    assert gm.n_iter_ > 200
    assert np.isfinite(gm.score(rng.normal(size=(100, 10))))
    variances = gm.covariances_ if covariance_type in ("diag", "spherical") else np.linalg.eigvalsh(gm.covariances_)
    assert variances.min() > 0.01


def test_rows_are_kept_until_a_start_is_possible() -> None:
    gm = GaussianMixture(3, random_state=0)
    gm.partial_fit(rows(15)).partial_fit(rows(8, 1), sample_weight=np.full(8, 2.0))
    with pytest.raises(NotFittedError):
        gm.predict(rows(2))
    with pytest.raises(SchemaError, match="expecting 3 features"):
        gm.partial_fit(np.zeros((4, 2)))
    gm.partial_fit(rows(1, 2))
    assert gm.n_iter_ == 1
    assert gm.effective_sample_size_ == pytest.approx(15 + 16 + 1)
    assert gm.partial_fit(rows(10, 3)).fit(rows(100)).n_iter_ > 1
    assert gm.effective_sample_size_ == pytest.approx(100)


def test_a_bad_batch_changes_nothing() -> None:
    gm = GaussianMixture(3, random_state=0).partial_fit(rows(100))
    before = {name: getattr(gm, name).tobytes() for name in ARRAYS}
    bad = rows(10)
    bad[3, 1] = np.nan
    with pytest.raises(NonFiniteError, match="row 3"):
        gm.partial_fit(bad)
    with pytest.raises(ParameterError, match="pass one of them"):
        gm.partial_fit(rows(10), half_life=5, step=whole_step)
    for wrong in (-1, "a", True):
        with pytest.raises(ParameterError, match=f"half_life is {wrong!r}"):
            gm.partial_fit(rows(10), half_life=wrong)
    with pytest.raises(ParameterError, match=r"must be in \(0.5, 1\]"):
        PowerLaw(0.4)
    assert {name: getattr(gm, name).tobytes() for name in ARRAYS} == before
    fresh = GaussianMixture(3)
    with pytest.raises(NonFiniteError):
        fresh.partial_fit(bad)
    assert not hasattr(fresh, "n_features_in_")


def test_attributes_set_by_hand_need_a_batch_that_can_stand_alone() -> None:
    gm = GaussianMixture(3, random_state=0).fit(rows(300))
    gm.means_ = gm.means_ + 0.1
    with pytest.raises(ParameterError, match="at least 24 rows"):
        gm.partial_fit(rows(23))
    assert gm.partial_fit(rows(200)).effective_sample_size_ == pytest.approx(200)


def test_tiny_weights_do_not_freeze_the_model() -> None:
    everything = rows(6000)
    gm = GaussianMixture(3, random_state=0)
    for batch in np.array_split(everything, 60):
        gm.partial_fit(batch, sample_weight=np.full(100, 1e-6))
    unweighted = GaussianMixture(3, random_state=0)
    for batch in np.array_split(everything, 60):
        unweighted.partial_fit(batch)
    same(gm, unweighted, 1e-9)
    assert str(gm.report_).startswith("learned online: 6,000 rows")


# --- what it is for --------------------------------------------------------------------------------------------------


def test_one_pass_comes_close_to_a_whole_fit() -> None:
    everything = rows(40_000)
    gm = GaussianMixture(3, random_state=0)
    for batch in np.array_split(everything, 400):
        gm.partial_fit(batch)
    fitted = GaussianMixture(3, random_state=0, tol=1e-8, max_iter=1000).fit(everything)
    assert fitted.score(everything) - gm.score(everything) < 1e-3


def test_components_follow_a_drift() -> None:
    drifting = GaussianMixture(3, random_state=0)
    for step in range(400):
        drifting.partial_fit(rows(100, step, CENTRES + 0.05 * step), half_life=200)
    found = drifting.means_[np.argsort(drifting.means_[:, 0])]
    # Behind by half_life / ln 2 rows or 0.14, and more for a component of a fifth of the rows.
    np.testing.assert_allclose(found, CENTRES[[0, 2, 1]] + 0.05 * 399, atol=0.6)


@pytest.mark.parametrize(
    ("covariance_type", "growth"),
    [
        ("full", 1e3),
        ("tied", 1.0),
        ("diag", 1e3),
        ("spherical", 1.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in zip(TYPES, [1.0, 1e3, 1.0, 1e3], strict=True)),
    ],
)
def test_a_stream_that_leaves_its_anchor_takes_a_new_one(covariance_type: str, growth: float) -> None:
    """One component, so that the moving average can be computed exactly, about its own mean."""
    rng = np.random.default_rng(0)
    gm = GaussianMixture(1, covariance_type=covariance_type, random_state=0, reg_covar=0.0)
    weights, values = np.empty(0), np.empty((0, 3))
    for i in range(300):
        away = 1e8 * min(1.0, i / 100) * np.array([1.0, -0.5, 0.25])
        batch = rng.normal(size=(100, 3)) * growth ** min(1.0, i / 100) + away
        gm.partial_fit(batch, half_life=400)
        gamma = 1.0 if i == 0 else HalfLife(400)(100, 0)
        weights = np.concatenate([weights * (1 - gamma), np.full(100, gamma / 100)])
        values = np.concatenate([values, batch])
    mean = weights @ values
    deviation = values - mean
    moments = (weights[:, None] * deviation).T @ deviation
    expected = {
        "full": moments[None],
        "tied": moments,
        "diag": np.diag(moments)[None],
        "spherical": np.array([np.trace(moments) / 3]),
    }[covariance_type]
    np.testing.assert_allclose(gm.means_[0], mean, rtol=1e-14)
    np.testing.assert_allclose(gm.covariances_, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())
    params = params_now(gm).components
    assert not about_means(Gaussian(covariance_type)._structure, params).any()
    assert np.abs(params.means).max() < 20


def test_saved_and_loaded_it_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    one = GaussianMixture(3, random_state=0).fit(rows(1000))
    for seed in range(5):
        one.partial_fit(rows(100, seed))
        one.save(tmp_path / "model.npz")
        other = GaussianMixture.load(tmp_path / "model.npz")
        one.partial_fit(rows(30, 50 + seed))
        other.partial_fit(rows(30, 50 + seed))
        for name in ARRAYS:
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
        assert one.effective_sample_size_ == other.effective_sample_size_
        assert (one.n_iter_, one.lower_bounds_[-1]) == (other.n_iter_, other.lower_bounds_[-1])


def test_batches_may_be_stores(tmp_path: Path) -> None:
    data = rows(2000).astype(np.float32)
    zarr.create_array(store=str(tmp_path / "x.zarr"), shape=data.shape, chunks=(500, 3), dtype="f4")[:] = data
    stored = GaussianMixture(3, random_state=0).partial_fit(str(tmp_path / "x.zarr")).partial_fit(tmp_path / "x.zarr")
    array = GaussianMixture(3, random_state=0).partial_fit(data).partial_fit(data)
    same(stored, array, 1e-6)  # products in float32, cut otherwise
    exact = GaussianMixture(3, random_state=0).partial_fit(data.astype(float)).partial_fit(data.astype(float))
    same(stored, exact, 1e-5)
    assert GaussianMixture(3, random_state=0).partial_fit(data).means_.dtype == np.float32


def test_a_family_of_ones_own() -> None:
    rng = np.random.default_rng(0)
    model = Mixture(Poisson(), 2, random_state=0)
    for _ in range(300):
        model.partial_fit(rng.poisson(np.where(rng.random((100, 1)) < 0.3, 2.0, 9.0)))
    np.testing.assert_allclose(np.sort(model.params_.rates[:, 0]), [2.0, 9.0], rtol=0.05)
    assert model.score(rng.poisson([[9.0]] * 50)) < 0


def test_impossible_values_are_named_by_their_batch() -> None:
    """A start is made of rows of this batch and of those that were kept: the message says which, and the row."""
    x = np.random.default_rng(0).poisson(3.0, (40, 2)).astype(np.float64)
    bad = x.copy()
    bad[17, 1] = -1.0
    frames = pd.DataFrame(x[:3], columns=["a", "b"]), pd.DataFrame(bad, columns=["a", "b"])
    for first in ([], [frames[0]]):
        model = Mixture(families.Poisson(), 2, random_state=0)
        for batch in first:
            model.partial_fit(batch)
        with pytest.raises(ImpossibleValueError, match=r"chunk 0 \(rows 0–39\): column 1 'b' of row 17 holds -1"):
            model.partial_fit(frames[1])
    model = Mixture(families.Poisson(), 2, random_state=0).partial_fit(bad[15:20])
    with pytest.raises(ImpossibleValueError, match="column 1 of rows that earlier batches brought holds -1"):
        model.partial_fit(x)
