"""`LinearGaussianChain`: published numbers, parts that stay, cut sequences, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from helpers.published_tables import NILE
from streamem import LinearGaussianChain
from streamem.core.errors import ParameterError
from streamem.estimators.loading import load_model

Array = NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:Best performing")

ROWS = 60


def walk(d: int = 2) -> Array:
    """Steps with gaps, of which some have values in part."""
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(ROWS, d)), axis=0) + rng.normal(size=(ROWS, d)) + 100.0
    x[7], x[33:40] = np.nan, np.nan
    x[20, d - 1] = np.nan
    return x


TREND = {
    "transition_matrix": [[1.0, 1.0], [0.0, 1.0]],
    "observation_matrix": [[1.0, 0.0]],
    "observation_offset": [0.0],
    "transition_noise": "diag",
    "diffuse": True,
}


def test_the_level_of_the_nile() -> None:
    """Variances and log-likelihood of Durbin & Koopman (2012, §2.2), by EM from a diffuse start."""
    level = LinearGaussianChain.local_level(tol=1e-10, n_iter=100).fit(NILE, algorithm="anderson")
    assert level.converged_
    np.testing.assert_allclose(level.score(NILE), -632.545625, atol=5e-7)
    np.testing.assert_allclose(level.observation_covariance_, [15098.52], rtol=1e-4)
    np.testing.assert_allclose(level.transition_covariance_, [[1469.18]], rtol=1e-3)
    assert (level.observation_offset_, level.transition_matrix_) == (0.0, 1.0)


def test_the_numbers_of_the_nile_are_the_maximum() -> None:
    """The printed log-likelihood at the printed variances, and the first filtered levels of the book's figure 2.1."""
    given = {"transition_covariance": [[1469.18]], "observation_covariance": [15098.52]}
    level = LinearGaussianChain.local_level(n_iter=0, **given).fit(NILE)
    np.testing.assert_allclose(level.score(NILE), -632.5456251, atol=5e-8)
    means, covariances = level.filter(NILE, covariances=True)
    np.testing.assert_allclose([means[0, 0], covariances[0, 0, 0]], [NILE[0, 0], 15098.52], rtol=1e-12)
    steady = (np.sqrt(1469.18**2 + 4 * 1469.18 * 15098.52) - 1469.18) / 2
    np.testing.assert_allclose(covariances[-1], steady, rtol=1e-10)
    ahead = level.forecast(NILE, 2)
    np.testing.assert_allclose(ahead.means, means[-1] * np.ones((2, 1)))
    np.testing.assert_allclose(ahead.covariances[1, 0, 0], covariances[-1, 0, 0] + 2 * 1469.18 + 15098.52)


@pytest.mark.slow
def test_moments_are_those_of_statsmodels() -> None:
    """Log-likelihood and moments to 1e-8, with missing values; of a diffuse start they leave out a constant."""
    smoothers = pytest.importorskip("statsmodels.tsa.statespace.kalman_smoother")
    x = walk()
    for diffuse in (False, True):
        start = {} if diffuse else {"initial_mean": [90.0, 80.0], "initial_covariance": [[2.0, 1.0], [1.0, 3.0]]}
        chain = LinearGaussianChain(2, random_state=0, n_iter=3, diffuse=diffuse, params="acrqd", **start).fit(x)
        theirs = smoothers.KalmanSmoother(k_endog=2, k_states=2)
        theirs["transition"], theirs["state_cov"] = chain.transition_matrix_, chain.transition_covariance_
        theirs["design"], theirs["obs_cov"] = chain.observation_matrix_, np.diag(chain.observation_covariance_)
        theirs["obs_intercept"], theirs["selection"] = chain.observation_offset_, np.eye(2)
        if diffuse:
            theirs.initialize_diffuse()
        else:
            theirs.initialize_known(chain.initial_mean_, chain.initial_covariance_)
        theirs.bind(x)
        known, constant = theirs.smooth(), np.log(2 * np.pi) if diffuse else 0.0
        np.testing.assert_allclose(chain.score(x), known.llf_obs.sum() + constant, rtol=1e-8)
        means, covariances = chain.smooth(x, covariances=True)
        np.testing.assert_allclose(means, known.smoothed_state.T, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(covariances, np.moveaxis(known.smoothed_state_cov, 2, 0), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(chain.filter(x)[5:], known.filtered_state.T[5:], rtol=1e-8, atol=1e-8)


def test_standard_errors_are_those_of_the_curvature() -> None:
    """The Nile: second differences of the log-likelihood by both variances; in chunks, the same."""
    printed = {"transition_covariance": [[1469.18]], "observation_covariance": [15098.52]}
    level = LinearGaussianChain.local_level(params="qr", n_iter=0, **printed).fit(NILE)
    found = level.standard_errors(NILE)
    at = np.array([level.transition_covariance_[0, 0], level.observation_covariance_[0]])
    assert found.free_parameters == ("transition_covariance_[0, 0]", "observation_covariance_[0]")

    def height(q: float, r: float) -> float:
        given = {"transition_covariance": [[q]], "observation_covariance": [r]}
        return LinearGaussianChain.local_level(n_iter=0, **given).fit(NILE).score(NILE)

    steps, curvature = 1e-3 * at, np.zeros((2, 2))
    for i, j in ((0, 0), (0, 1), (1, 1)):
        one, two = np.eye(2)[i] * steps, np.eye(2)[j] * steps
        corners = [height(*(at + s * one + t * two)) for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        curvature[i, j] = curvature[j, i] = -(corners[0] - corners[1] - corners[2] + corners[3]) / (
            4 * steps[i] * steps[j]
        )
    np.testing.assert_allclose(found.covariance, np.linalg.inv(curvature), rtol=1e-3)
    assert found["transition_matrix_"] == 0.0
    cut = level.set_params(chunk_bytes=80).standard_errors(NILE)
    np.testing.assert_allclose(cut.covariance, found.covariance, rtol=1e-5)
    assert cut.passes > found.passes == 2


def test_a_chain_with_free_matrices_has_no_errors_and_says_why() -> None:
    chain = LinearGaussianChain(1, random_state=0, n_iter=5).fit(walk(1))
    with pytest.warns(UserWarning, match="turned and stretched"):
        found = chain.standard_errors(walk(1))
    assert np.isnan(found["observation_matrix_"]).all()


CASES: dict[str, tuple[dict[str, Any], Array, dict[str, Any]]] = {
    "all free": ({"n_latent": 2}, walk(), {}),
    "two sequences": ({"n_latent": 2}, walk(), {"lengths": [25, 35]}),
    "more states than columns": ({"n_latent": 3, "observation_noise": "full"}, walk(), {}),
    "trend": ({"n_latent": 2, **TREND}, walk(1), {}),
}


QUICK = [pytest.param(name, marks=() if name in ("all free", "trend") else pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("case", QUICK)
def test_cut_sequences_are_those_that_are_not(case: str) -> None:
    """Chunks of three to six steps: the same fit, states, densities and forecasts."""
    settings, x, how = CASES[case]
    whole, cut = (
        LinearGaussianChain(random_state=0, n_iter=2, tol=0, chunk_bytes=size, **settings) for size in (None, 48)
    )
    for chain in (whole, cut):
        chain.fit(x, **how)
    assert cut.report_.n_chunks >= 10 > whole.report_.n_chunks == 1
    close = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(cut.lower_bounds_, whole.lower_bounds_, rtol=1e-12)
    for question in ("smooth", "filter", "predict", "impute", "score_samples"):
        found, expected = (getattr(chain, question)(x, **how) for chain in (cut, whole))
        np.testing.assert_allclose(found, expected, err_msg=question, **close)
    for found, expected in zip(cut.forecast(x, 3, **how), whole.forecast(x, 3, **how), strict=True):
        np.testing.assert_allclose(found, expected, **close)
    np.testing.assert_allclose(cut.score_samples(x, **how).sum(), cut.score(x, **how), rtol=1e-12)
    known = ~np.isnan(x)
    np.testing.assert_array_equal(cut.impute(x, **how)[known], x[known])


def test_what_is_given_stays_and_what_is_named_is_updated() -> None:
    x, given = walk(1), {"transition_matrix": [[0.7]], "observation_matrix": [[2.0]]}
    stays = LinearGaussianChain(1, n_iter=2, **given).fit(x)
    assert (stays.transition_matrix_, stays.observation_matrix_) == (0.7, 2.0)
    moves = LinearGaussianChain(1, n_iter=2, params="a", **given).fit(x)
    assert moves.transition_matrix_ != 0.7
    assert moves.observation_matrix_ == 2.0
    named = LinearGaussianChain(1, n_iter=2, params="transition_matrix", **given).fit(x)
    np.testing.assert_array_equal(moves.transition_matrix_, named.transition_matrix_)
    listed = LinearGaussianChain(1, n_iter=2, params=["transition_matrix"], **given).fit(x)
    np.testing.assert_array_equal(moves.transition_covariance_, listed.transition_covariance_)


def test_sequences_in_a_zarr_group_and_files(tmp_path: Path) -> None:
    """Offsets beside the rows, answers in a file, and a model that is loaded without telling its class."""
    x, group = walk(), zarr.create_group(tmp_path / "g.zarr")
    group.create_array("a", data=x[:, 0].copy(), chunks=(16,))
    group.create_array("b", data=x[:, 1].copy(), chunks=(16,))
    group.create_array("starts", data=np.array([0, 25, ROWS]), chunks=(3,))
    settings = {"n_latent": 1, "random_state": 0, "n_iter": 2, "tol": 10.0}
    chain = LinearGaussianChain(**settings).fit(group, columns=["a", "b"], offsets="starts")
    same = LinearGaussianChain(**settings).fit(x, lengths=[25, 35])
    np.testing.assert_array_equal(chain.observation_matrix_, same.observation_matrix_)
    chain.smooth(group, covariances=True, out=tmp_path / "s.zarr")
    means, covariances = same.smooth(x, [25, 35], covariances=True)
    stored = zarr.open_array(tmp_path / "s.zarr", mode="r")[:]
    np.testing.assert_allclose(stored, np.hstack([means, covariances[:, :, 0]]))
    chain.save(tmp_path / "chain.npz")
    assert load_model(tmp_path / "chain.npz").score(group) == chain.score(group)


def test_padding_is_no_step() -> None:
    """Sequences × steps × features, shorter ones ending with NaN."""
    x = walk()
    padded = np.full((2, 40, 2), np.nan)
    padded[0, :25], padded[1, :35] = x[:25], x[25:]
    chain = LinearGaussianChain(1, random_state=0, n_iter=2).fit(x, lengths=[25, 35])
    np.testing.assert_allclose(chain.score(padded), chain.score(x, lengths=[25, 35]), rtol=1e-12)
    smoothed = chain.smooth(padded)
    assert np.isnan(smoothed[25:40]).all()
    assert np.isfinite(smoothed[:25]).all()


def test_drawn_steps_have_the_moments_of_the_chain() -> None:
    chain = LinearGaussianChain(1, transition_matrix=[[0.5]], observation_matrix=[[1.0], [2.0]], n_iter=0).fit(walk())
    chain.transition_covariance_, chain.observation_covariance_ = np.array([[3.0]]), np.array([0.5, 1.0])
    x, states = chain.sample(20_000, random_state=0)
    assert (x.shape, states.shape) == ((20_000, 2), (20_000, 1))
    np.testing.assert_allclose(np.cov(x.T), [[4.5, 8.0], [8.0, 17.0]], rtol=0.06)
    np.testing.assert_allclose(np.cov(states[1:, 0], states[:-1, 0])[0, 1], 2.0, rtol=0.06)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no latent dimension": ({"n_latent": 0}, r"n_latent is 0; it must be an integer >= 1"),
    "half a dimension": ({"n_latent": 1.5}, r"n_latent is 1.5; it must be an integer >= 1"),
    "noise that is none": ({"observation_covariance": [1.0, 0.0]}, r"observation_covariance holds 0; variances > 0"),
    "negative noise": ({"observation_covariance": [1.0, -2.0]}, r"observation_covariance holds -2; variances > 0"),
    "singular noise": (
        {"observation_covariance": [[1.0, 1.0], [1.0, 1.0]], "observation_noise": "full"},
        r"observation_covariance has the eigenvalue .*positive definite",
    ),
    "no covariance": (
        {"n_latent": 2, "transition_covariance": [[1.0, 2.0], [2.0, 1.0]]},
        r"transition_covariance has the eigenvalue -1; a covariance has none below 0",
    ),
    "not symmetric": ({"n_latent": 2, "transition_covariance": [[1.0, 2.0], [0.0, 1.0]]}, r"is not symmetric"),
    "another shape": ({"n_latent": 2, "transition_matrix": [[1.0]]}, r"transition_matrix has shape \(1, 1\).*\(2, 2\)"),
    "other columns": ({"observation_matrix": [[1.0]]}, r"observation_matrix has shape \(1, 1\).*\(2, 1\)"),
    "not numbers": ({"transition_matrix": "x"}, r"transition_matrix is 'x'; an array of numbers"),
    "NaN": ({"transition_matrix": [[np.nan]]}, r"transition_matrix has shape \(1, 1\); finite numbers"),
    "unknown letters": ({"params": "xyz"}, r"params is 'xyz'; it must be of the letters a transition_matrix"),
    "unknown noise": ({"observation_noise": "tied"}, r"observation_noise is 'tied'; it must be one of"),
    "diffuse and given": ({"diffuse": True, "initial_mean": [0.0]}, r"diffuse=True says .* initial_mean tell it"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    settings, told = MISTAKES[mistake]
    chain = LinearGaussianChain(**settings)
    with pytest.raises(ParameterError, match=told):
        chain.fit(walk())
    assert not hasattr(chain, "transition_matrix_")


def test_matrices_that_were_set_by_hand() -> None:
    """They answer; of other shapes, or impossible, they are refused; noise=True says what to do instead."""
    x = walk()
    fitted = LinearGaussianChain(1, random_state=0, n_iter=2).fit(x)
    by_hand = LinearGaussianChain(1)
    for name in vars(fitted)["_published"]:
        setattr(by_hand, name, getattr(fitted, name))
    np.testing.assert_allclose(by_hand.score(x), fitted.score(x), rtol=1e-12)
    by_hand.observation_covariance_ = np.array([1.0, 0.0])
    with pytest.raises(ParameterError, match="observation_covariance holds 0"):
        by_hand.score(x)
    with pytest.raises(ParameterError, match=r"n_latent=2.*need"):
        fitted.set_params(n_latent=2).score(x)
    with pytest.raises(ParameterError, match="mark outliers as missing"):
        LinearGaussianChain(noise=True)


def test_a_stream_of_other_columns_than_given_arrays_is_refused() -> None:
    """Batches and streams say the same of it."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    for learn in (LinearGaussianChain.fit, LinearGaussianChain.partial_fit):
        with pytest.raises(ParameterError, match="choose 1 of the 3 with columns="):
            learn(LinearGaussianChain.local_level(), x)
    with pytest.raises(ParameterError, match="choose 1 of the 3 with columns="):
        LinearGaussianChain.local_level().fit_stream([x])


def test_a_chunk_whose_rows_all_lack_the_same_value() -> None:
    """Cut where a sensor falls silent, the sequence gives what it gives uncut."""
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(400, 1)), axis=0) + rng.normal(size=(400, 2))
    x[100:300, 1] = np.nan
    chains = [
        LinearGaussianChain(1, observation_matrix=np.ones((2, 1)), n_iter=3, chunk_bytes=size, tol=0.0)
        for size in (1600, 100_000)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut, whole = (chain.fit(x) for chain in chains)
    assert (cut.report_.n_chunks, whole.report_.n_chunks) == (4, 1)
    assert cut.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-12)
    np.testing.assert_allclose(cut.smooth(x), whole.smooth(x), rtol=1e-8, atol=1e-10)
