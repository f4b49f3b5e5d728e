"""Fits whose E-steps happen elsewhere: the numbers of one fit on all rows; what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.users_family import Poisson
from streamem import GaussianMixture, Mixture, SharedStats
from streamem.core.archive import write_archive
from streamem.core.errors import DataError, ModelFileError, MonotonicityError, ParameterError, SchemaError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ROUNDS = 6


@pytest.fixture(scope="module")
def sites() -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 3)) + rng.integers(0, 3, (n, 1)) * 2.0 for n in (900, 40, 2000)]


def start(**settings: Any) -> GaussianMixture:
    return GaussianMixture(3, max_iter=0, random_state=0, **settings).fit(np.random.default_rng(1).normal(size=(50, 3)))


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_rounds_are_the_iterations_of_one_fit(sites: list[Any], tmp_path: Path, covariance_type: str) -> None:
    """Statistics and models travel as files; weights too."""
    weights = [np.random.default_rng(2).uniform(0.5, 2, len(site)) for site in sites]
    shared = start(covariance_type=covariance_type)
    begun = GaussianMixture.load(_saved(shared, tmp_path))
    for _ in range(ROUNDS):
        path = _saved(shared, tmp_path)
        for number, (site, weight) in enumerate(zip(sites, weights, strict=True)):
            there = GaussianMixture.load(path).expected_statistics(site, weight)
            there.save(tmp_path / f"{number}.npz")
        shared.maximize(sum(SharedStats.load(tmp_path / f"{number}.npz") for number in range(3)))
    alone = begun.set_params(max_iter=ROUNDS, warm_start=True, tol=0)
    alone.fit(np.concatenate(sites), sample_weight=np.concatenate(weights))
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(shared, name), getattr(alone, name), rtol=1e-10, atol=1e-12)
    assert shared.n_iter_ == alone.n_iter_ == ROUNDS
    assert shared.lower_bound_ == pytest.approx(alone.lower_bounds_[-2], rel=1e-13)
    assert shared.lower_bounds_ == pytest.approx(alone.lower_bounds_[:-1], rel=1e-13)


def _saved(model: GaussianMixture, folder: Path) -> Path:
    model.save(folder / "model.npz")
    return folder / "model.npz"


def test_a_family_of_ones_own_and_convergence() -> None:
    counts = np.random.default_rng(0).poisson([[2.0]] * 500 + [[9.0]] * 500)
    model = Mixture(Poisson(), 2, max_iter=0, random_state=0).fit(counts[::100])
    while not model.converged_:
        model.maximize(model.expected_statistics(counts[:300]) + model.expected_statistics(counts[300:]))
        assert model.n_iter_ < 500
    np.testing.assert_allclose(np.sort(model.params_.rates[:, 0]), [2.0, 9.0], atol=0.3)


def test_what_was_maximized_is_what_goes_on_online(sites: list[Any]) -> None:
    """One row more must not bring back the statistics of an earlier fit."""
    model = start()
    for _ in range(5):
        model.maximize(model.expected_statistics(sites[2]))
    means = model.means_.copy()
    assert model.effective_sample_size_ == pytest.approx(2000)
    model.partial_fit(sites[2][:1])
    np.testing.assert_allclose(model.means_, means, atol=0.05)
    assert model.effective_sample_size_ > 1000


def test_rounds_after_batches_start_a_new_run() -> None:
    """The log-likelihood of the last batch says nothing of that of all rows."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(1900, 2)) * 5, 0.01 * rng.normal(size=(100, 2))])
    model = GaussianMixture(2, random_state=0)
    for first in range(0, 2000, 100):
        model.partial_fit(x[first : first + 100])
    assert model.maximize(model.expected_statistics(x)).n_iter_ == 1
    assert model.maximize(model.expected_statistics(x)).n_iter_ == 2


@pytest.mark.parametrize("changes", [{"n_components": 5}, {"n_components": 2}, {"covariance_type": "diag"}])
def test_other_hyperparameters_than_fitted_are_refused(sites: list[Any], changes: dict[str, Any]) -> None:
    model = start().set_params(**changes)
    for call in (model.expected_statistics, model.partial_fit):
        with pytest.raises(ParameterError, match="do not fit the hyperparameters as they are now"):
            call(sites[0])


def test_what_does_not_belong_together_is_refused(sites: list[Any], tmp_path: Path) -> None:
    model = start()
    first = model.expected_statistics(sites[0])
    model.maximize(first)
    assert (model.n_iter_, model.maximize(model.expected_statistics(sites[0])).n_iter_) == (1, 2)
    first = model.expected_statistics(sites[0])
    assert (first.rows, first.log_likelihood) == (900, pytest.approx(900 * model.score(sites[0])))
    before = model.means_.copy()
    model.maximize(first)
    second = model.expected_statistics(sites[1])
    with pytest.raises(ParameterError, match="different parameters cannot be added .* same round"):
        first + second
    with pytest.raises(ParameterError, match="belong to other parameters"):
        model.maximize(first)
    with pytest.raises(ParameterError, match="not a Stats"):
        model.maximize(first.stats)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="must not be empty"):
        model.maximize(sum([]))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        first + 1  # type: ignore[operator]
    with pytest.raises(MonotonicityError):
        model.maximize(model.expected_statistics(sites[0] + 1.0))
    assert model.maximize(second).n_iter_ == 1  # other rows, so nothing to compare with
    with pytest.raises(SchemaError, match="expecting 3 features"):
        model.expected_statistics(np.zeros((5, 2)))
    with pytest.raises(DataError):
        model.expected_statistics(np.full((5, 3), np.nan))
    assert not np.array_equal(before, model.means_)


def test_files_of_statistics_are_not_believed(tmp_path: Path, sites: list[Any]) -> None:
    statistics = start().expected_statistics(sites[1])
    with pytest.raises(ParameterError, match=r"ends in \.npz"):
        statistics.save(tmp_path / "a.json")
    statistics.save(tmp_path / "a.npz")
    loaded = SharedStats.load(tmp_path / "a.npz")
    assert (loaded.stats, loaded.basis) == (statistics.stats, statistics.basis)
    start().save(tmp_path / "model.npz")
    with pytest.raises(ModelFileError):
        SharedStats.load(tmp_path / "model.npz")
    write_archive(tmp_path / "b.npz", "statistics", {"basis": "x"}, {"rows": np.array(3.0)})
    with pytest.raises(ModelFileError, match="cannot be trusted as statistics"):
        SharedStats.load(tmp_path / "b.npz")
