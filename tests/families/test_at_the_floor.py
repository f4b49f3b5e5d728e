"""Fits whose covariances reach their floor end with a model that says so; M-steps that are wrong are still noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import GMMHMM, HMM, GaussianHMM, GaussianMixture, Mixture
from streamem.algorithms import BatchEM
from streamem.algorithms.stopping import Aitken
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, MonotonicityError
from streamem.core.stats import Stats
from streamem.families import AutoregressiveGaussian, Bernoulli, Gaussian, MixtureFamily
from streamem.initialization import STARTS
from streamem.models import Mixture as MixtureModel

Array = NDArray[Any]
SEEDS = range(4)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tol=0 runs to the end


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def require_model(model: Any, x: Array, floored: bool = True) -> None:
    """Finite parameters and score, and a report that names what was floored."""
    for name, value in vars(model).items():
        if name.endswith("_") and isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert np.isfinite(value).all(), name
    assert np.isfinite(model.score(x))
    events = model.report_.events
    assert any("floored" in kind and count > 0 for kind, count in events.items()) or not floored, events


def test_fewer_rows_than_dimensions() -> None:
    x = normal(0, 3, 3)
    require_model(GaussianHMM(1, covariance_type="full", random_state=0).fit(x), x)


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_that_sum_to_one(seed: int) -> None:
    x = np.random.default_rng(seed).dirichlet([1.0, 1.0, 1.0], 500)
    require_model(Mixture(Gaussian(), 2, random_state=seed, max_iter=100, tol=0).fit(x), x)
    require_model(GaussianMixture(2, random_state=seed).fit(x), x, floored=False)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("seed", range(8))
def test_one_column_that_is_the_sum_of_two(seed: int, covariance_type: str) -> None:
    x = normal(seed, 500, 3)
    x = np.column_stack([x, x[:, 0] + x[:, 1]])
    mix = Mixture(Gaussian(covariance_type), 3, random_state=seed, max_iter=100, tol=1e-9)
    require_model(mix.fit(x), x)


@pytest.mark.parametrize("seed", range(6))
def test_states_of_fewer_rows_than_dimensions(seed: int) -> None:
    x = normal(seed, 20, 10)
    require_model(GaussianHMM(3, covariance_type="full", random_state=seed, tol=0, n_iter=30).fit(x), x)


@pytest.mark.parametrize("lengths", [[3, 4, 5], [10, 8, 1]])
def test_the_sequences_of_different_length_of_hmmlearns_own_tests(lengths: list[int]) -> None:
    x = np.random.RandomState(10).rand(sum(lengths), 3)
    for covariance_type in ("full", "tied", "diag", "spherical"):
        hmm = GaussianHMM(3, covariance_type=covariance_type, random_state=0, tol=0, n_iter=30)
        require_model(hmm.fit(x, lengths=lengths), x, floored=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_mixtures_and_autoregression_as_emissions(seed: int) -> None:
    x = normal(seed, 16, 4)
    require_model(GMMHMM(2, 2, covariance_type="full", random_state=seed, tol=0, n_iter=30).fit(x), x)
    hmm = HMM(AutoregressiveGaussian(lag=1), 2, random_state=seed, tol=0, n_iter=30)
    y = normal(seed, 14, 4)
    require_model(hmm.fit(y), y)


@pytest.mark.parametrize("seed", [4, 17, 47, 58, *range(100, 112)])
def test_components_of_a_row_or_two(seed: int) -> None:
    """Of the first three mean squares cancelled, and the log-likelihood fell by their rounding; of 58, by eigh's."""
    x = normal(seed, 10, 3)
    mix = GaussianMixture(4, reg_covar=1e-12, init_params="random_from_data", random_state=seed, tol=0, max_iter=20)
    require_model(mix.fit(x), x, floored=False)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("outlier", [1e6, 1e9, 1e12])
def test_a_row_far_from_all_others(outlier: float, covariance_type: str) -> None:
    """Whose squares leave no digits of anything else: the floor rises with it, and the fall that explains is known."""
    x = normal(0, 200, 3)
    x[7] = outlier * normal(1, 3)
    mix = Mixture(Gaussian(covariance_type), 3, random_state=0, max_iter=50, tol=0)
    require_model(mix.fit(x), x, floored=False)


def test_duplicates_and_as_many_components_as_distinct_rows() -> None:
    x = np.repeat(normal(0, 5, 2), 7, axis=0)
    mix = Mixture(Gaussian(), 5, random_state=0, max_iter=50, tol=0, init_params="random").fit(x)
    require_model(mix, x)


def test_float32_rows_whose_covariances_collapse_in_one_step() -> None:
    """Sums of products in float32 leave no variance below 1e-7 of a mean square: the floor knows how they were made."""
    x = np.full((4, 5), 18641.58, dtype=np.float32)
    x[0, :4] = [18639.428, 18640.416, 18640.48, 18638.754]
    x[1, :4] = [18638.996, 18641.506, 18639.895, 18640.555]
    x[2] = [16796.07, 19855.84, 14302.686, 17142.1, 23650.898]
    x[3, :4] = [18642.598, 18639.662, 18641.184, 18640.178]
    options: dict[str, Any] = {"topology": "left-right", "params": "mc", "random_state": 0, "tol": 0, "n_iter": 15}
    require_model(GaussianHMM(3, covariance_type="full", **options).fit(x, lengths=[2, 2]), x)


def test_priors_far_heavier_than_all_data() -> None:
    """Their penalty rounds to more than the log-likelihood of rows that weigh 1e-21."""
    x = np.repeat(0.245059, 6)[:, None]
    hmm = GaussianHMM(2, covariance_type="full", reg_covar=1e-6, transmat_prior=2.0, random_state=0, tol=0, n_iter=10)
    require_model(hmm.fit(x, sample_weight=[1e-21]), x, floored=False)


def test_covariances_of_very_different_units_may_be_set_again() -> None:
    """An eigenvalue below the rounding of the largest is no reason to refuse the model's own."""
    mixed = np.array([[1.0, 0.5, 0.2], [0.0, 1.0, 0.7], [0.0, 0.0, 1.0]])
    for seed in SEEDS:
        x = normal(seed, 60, 3) @ mixed * [1e-12, 1.0, 1e12]
        hmm = GaussianHMM(2, covariance_type="full", random_state=0, n_iter=10).fit(x)
        hmm.covars_ = hmm.covars_.copy()
        assert np.isfinite(hmm.score(x))


def test_fewer_steps_with_a_past_than_states_is_an_error_of_the_data() -> None:
    with pytest.raises(DataError, match="only 4 of the sampled rows"):
        HMM(AutoregressiveGaussian(lag=1), 5, random_state=0).fit(normal(0, 5, 2))


def test_weights_that_round_a_start_away_leave_every_value_possible() -> None:
    x = np.random.default_rng(0).integers(0, 2, (40, 3)).astype(np.float64)
    mix = Mixture(Bernoulli(), 1, init_params="k-means++", random_state=0)
    assert np.isfinite(mix.fit(x, sample_weight=np.full(40, 1e18)).score(x))


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_a_floor_that_rises_explains_the_fall_and_no_more(covariance_type: str) -> None:
    """An outlier that counts for more raises the floor across a line of rows: old parameters lie below it."""
    along = np.append(np.linspace(-1, 1, 20), 2.0**30)
    x = along[:, None] * (np.ones(3) if covariance_type != "diag" else np.array([1.0, 0.0, 0.0])) + [0.0, 0.0, 5.0]
    family = Gaussian(covariance_type)
    crude = family.at_anchor(np.zeros(3), np.ones(3), 1)
    before = family.maximize(family.stats(crude, x, np.append(np.ones(20), 1.0)[:, None]), crude)
    resp = np.append(np.ones(20), 1.6)[:, None]
    stats = family.stats(before, x, resp)
    after = family.maximize(stats, before)
    fall = float(np.sum(resp * (family.log_prob(before, x) - family.log_prob(after, x))))
    assert after.floored.all()
    if covariance_type != "diag":  # whose floors are those of each column
        assert fall > 1.0
    assert max(fall, 0.0) <= family.shortfall(before, after, stats) <= max(fall, 0.0) + resp.sum()


# --- what must still be noticed --------------------------------------------------------------------------------------


class Wrong(Gaussian):
    """An M-step with a fault."""

    fault = "means"

    def maximize(self, stats: Stats, previous: Params) -> Params:
        right = super().maximize(stats, previous)
        if self.fault == "means":
            return self.with_means(right, self.means(right) + 0.02)
        return self.with_covariances(right, 1.1 * self.covariances(right))


class WrongRegression(AutoregressiveGaussian):
    def maximize(self, stats: Stats, previous: Params) -> Params:
        right = super().maximize(stats, previous)
        return self._assemble(right, 0.98 * right.regression, right.noise, right.empty)


def iterated(family: Any, x: Array, params: Params | None = None) -> Params:
    """The parameters after sixty iterations of batch EM on two components, from given ones or a start."""
    model, chunk, algorithm = MixtureModel(family, 2, STARTS["kmeans"]), Chunk(x), BatchEM(Aitken(0.0), 60)
    state = algorithm.start(model.init(chunk, np.random.RandomState(0)) if params is None else params)
    while not state.finished:
        state = algorithm.update(model, state, model.e_step(state.params, chunk))
    return state.params


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("fault", ["means", "covariances"])
def test_a_wrong_m_step_on_ordinary_data_is_an_error(fault: str, covariance_type: str) -> None:
    """Whatever the arithmetic: the bound of rounding is far below a thousandth."""
    x = np.vstack([normal(0, 300, 3), normal(1, 300, 3) + 4.0])
    wrong = Wrong(covariance_type)
    wrong.fault = fault
    right = iterated(Gaussian(covariance_type), x)
    iterated(Gaussian(covariance_type), x, right)
    with pytest.raises(MonotonicityError):
        iterated(wrong, x, right)


@pytest.mark.parametrize("fault", ["means", "covariances"])
def test_a_wrong_m_step_of_collinear_columns_is_an_error(fault: str) -> None:
    """A floor that stays is no amnesty: only one that has risen is compared."""
    x = normal(0, 500, 3)
    x = np.column_stack([x, x[:, 0] + x[:, 1]])
    wrong = Wrong("full")
    wrong.fault = fault
    right = iterated(Gaussian("full"), x)
    assert right.components.floored.all()
    iterated(Gaussian("full"), x, right)
    with pytest.raises(MonotonicityError):
        iterated(wrong, x, right)


def test_wrong_parts_and_wrong_regressions_are_errors() -> None:
    x = np.vstack([normal(0, 300, 2), normal(1, 300, 2) + 4.0])
    right = iterated(MixtureFamily(Gaussian("full"), 2), x)
    with pytest.raises(MonotonicityError):
        iterated(MixtureFamily(Wrong("full"), 2), x, right)
    y = 0.1 * np.cumsum(normal(2, 500, 2), axis=0)
    y = np.hstack([y[1:], y[:-1]])
    right = iterated(AutoregressiveGaussian(1), y)
    with pytest.raises(MonotonicityError):
        iterated(WrongRegression(1), y, right)


def test_on_ordinary_data_the_bound_is_a_rounding_error() -> None:
    """So that what is permitted stays what a penalty explains."""
    x = np.vstack([normal(0, 300, 3), normal(1, 300, 3) + 4.0])
    for covariance_type in ("full", "tied", "diag", "spherical"):
        family = Gaussian(covariance_type)
        params = family.start(x, None, 2)
        resp = np.repeat(np.eye(2), 300, axis=0)
        for _ in range(3):
            stats = family.stats(params, x, resp)
            new = family.maximize(stats, params)
            assert 0 <= family.shortfall(params, new, stats) < 1e-9
            params = new
