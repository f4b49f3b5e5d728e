"""Hidden Markov models beside hmmlearn, from the same start, its priors set to zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hmmlearn import hmm as oracle

from helpers.hmm_starts import LENGTHS, Array, D, K, chain, fitted_quietly, gaussian_start, rows, with_attributes
from streamem import GMMHMM, HMM, BernoulliHMM, CategoricalHMM, GaussianHMM, PoissonHMM
from streamem.families import Categorical

ITERATIONS = 20
MAXIMUM_LIKELIHOOD = {"init_params": "", "n_iter": ITERATIONS, "tol": -np.inf}
OURS: dict[str, Any] = {"init_params": "", "n_iter": ITERATIONS, "tol": 0, "random_state": 0}
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def close(ours: Any, theirs: Any, names: tuple[str, ...]) -> None:
    """Attributes agree to 1e-9."""
    for name in names:
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), **CLOSE, err_msg=name)


def answers_agree(ours: Any, theirs: Any, x: Array, lengths: list[int]) -> None:
    """Everything that hmmlearn says of sequences."""
    assert ours.score(x, lengths) == pytest.approx(theirs.score(x, lengths), rel=1e-10)
    for algorithm in ("viterbi", "map"):
        log_prob, states = ours.decode(x, lengths, algorithm)
        expected, path = theirs.decode(x, lengths, algorithm=algorithm)
        assert log_prob == pytest.approx(expected, rel=1e-10)
        if algorithm == "viterbi" and (states != path).any():  # of several best paths, as whole numbers have them
            assert along(theirs, x, lengths, states) == pytest.approx(along(theirs, x, lengths, path), rel=1e-10)
        else:
            np.testing.assert_array_equal(states, path)
    np.testing.assert_allclose(ours.predict_proba(x, lengths), theirs.predict_proba(x, lengths), **CLOSE)
    np.testing.assert_array_equal(ours.predict(x, lengths), ours.decode(x, lengths)[1])
    total, posteriors = ours.score_samples(x, lengths)
    assert total == ours.score(x, lengths)
    np.testing.assert_array_equal(posteriors, ours.predict_proba(x, lengths))


def along(theirs: Any, x: Array, lengths: list[int], path: Array) -> float:
    """Log-density of sequences and a path, in nats, by hmmlearn's parameters."""
    emitted, moved = theirs._compute_log_likelihood(x), np.log(theirs.transmat_)
    total = float(emitted[np.arange(len(x)), path].sum())
    for stop, length in zip(np.cumsum(lengths), lengths, strict=True):
        own = path[stop - length : stop]
        total += float(np.log(theirs.startprob_[own[0]]) + moved[own[:-1], own[1:]].sum())
    return total


@pytest.mark.variations(3, 6)
@pytest.mark.parametrize("covariance_type", ["diag", "full", "tied"])
@pytest.mark.parametrize("chunk_bytes", [None, 16 * 37])
def test_gaussian(covariance_type: str, chunk_bytes: int | None) -> None:
    """In whole chunks, and in chunks of 37 steps that cut the sequences."""
    start, x = gaussian_start(covariance_type), rows()
    theirs = oracle.GaussianHMM(K, covariance_type, covars_prior=0, covars_weight=0, min_covar=0, **MAXIMUM_LIKELIHOOD)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = with_attributes(GaussianHMM(K, covariance_type, chunk_bytes=chunk_bytes, **OURS), start)
    fitted_quietly(ours, x, LENGTHS)
    close(ours, theirs, ("startprob_", "transmat_", "means_", "covars_"))
    answers_agree(ours, theirs, x, LENGTHS)
    assert ours.lower_bound_ * len(x) == pytest.approx(theirs.score(x, LENGTHS), rel=1e-10)
    np.testing.assert_allclose(ours.get_stationary_distribution(), theirs.get_stationary_distribution(), **CLOSE)
    assert ours.n_iter_ == len(ours.lower_bounds_) == ITERATIONS
    if covariance_type != "tied":  # whose parameters hmmlearn counts for every state
        assert ours.bic(x, LENGTHS) == pytest.approx(theirs.bic(x, LENGTHS))
        assert ours.aic(x, LENGTHS) == pytest.approx(theirs.aic(x, LENGTHS))


@pytest.mark.variations(3, 8)
@pytest.mark.parametrize("params", ["s", "t", "m", "st", "mc", "stm"])
@pytest.mark.parametrize("covariance_type", ["diag", "full"])
def test_parts_that_are_held_fixed(params: str, covariance_type: str) -> None:
    start, x = gaussian_start(covariance_type), rows()
    theirs = oracle.GaussianHMM(
        K, covariance_type, covars_prior=0, covars_weight=0, min_covar=0, params=params, **MAXIMUM_LIKELIHOOD
    )
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = with_attributes(GaussianHMM(K, covariance_type, params=params, **OURS), start)
    fitted_quietly(ours, x, LENGTHS)
    close(ours, theirs, ("startprob_", "transmat_", "means_", "covars_"))


@pytest.mark.parametrize("covariance_type", ["diag", "full", "tied", "spherical"])
def test_covariances_about_fixed_means(covariance_type: str) -> None:
    """hmmlearn forgets the first moments then; with one state the answer is the second moment about the mean given."""
    x, mean = rows(), np.array([[1.0, -2.0]])
    second = (x - mean).T @ (x - mean) / len(x)
    expected = {"full": second, "tied": second, "diag": np.diag(np.diag(second))}
    expected["spherical"] = np.eye(D) * np.trace(second) / D
    model = with_attributes(
        GaussianHMM(1, covariance_type, params="c", init_params="stc", random_state=0), {"means_": mean}
    )
    model.fit(x)
    np.testing.assert_allclose(model.covars_[0], expected[covariance_type], **CLOSE)
    np.testing.assert_allclose(model.means_, mean, **CLOSE)


def test_priors_of_the_chain() -> None:
    start, x, rng = gaussian_start("diag"), rows(), np.random.default_rng(5)
    priors = {"startprob_prior": rng.uniform(1, 9, K), "transmat_prior": rng.uniform(1, 30, (K, K))}
    theirs = oracle.GaussianHMM(K, "diag", covars_prior=0, covars_weight=0, min_covar=0, **priors, **MAXIMUM_LIKELIHOOD)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = fitted_quietly(with_attributes(GaussianHMM(K, "diag", **priors, **OURS), start), x, LENGTHS)
    close(ours, theirs, ("startprob_", "transmat_", "means_", "covars_"))


def test_categorical() -> None:
    rng = np.random.default_rng(2)
    startprob, transmat = chain(rng)
    start = {"startprob_": startprob, "transmat_": transmat, "emissionprob_": rng.dirichlet(np.ones(5), size=K)}
    x = rng.integers(5, size=(sum(LENGTHS), 1))
    theirs = with_attributes(oracle.CategoricalHMM(K, **MAXIMUM_LIKELIHOOD), start).fit(x, LENGTHS)
    ours = fitted_quietly(with_attributes(CategoricalHMM(K, **OURS), start), x, LENGTHS)
    close(ours, theirs, ("startprob_", "transmat_", "emissionprob_"))
    answers_agree(ours, theirs, x, LENGTHS)


def test_poisson() -> None:
    rng = np.random.default_rng(3)
    startprob, transmat = chain(rng)
    start = {"startprob_": startprob, "transmat_": transmat, "lambdas_": rng.uniform(1, 9, (K, D))}
    x = rng.poisson(start["lambdas_"][rng.integers(K, size=sum(LENGTHS))])
    theirs = oracle.PoissonHMM(K, lambdas_prior=0, lambdas_weight=0, **MAXIMUM_LIKELIHOOD)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = fitted_quietly(with_attributes(PoissonHMM(K, **OURS), start), x, LENGTHS)
    close(ours, theirs, ("startprob_", "transmat_", "lambdas_"))
    answers_agree(ours, theirs, x, LENGTHS)


def test_bernoulli_is_categorical_of_two() -> None:
    rng = np.random.default_rng(4)
    startprob, transmat = chain(rng)
    chances = rng.uniform(0.1, 0.9, (K, D))
    x = rng.integers(2, size=(sum(LENGTHS), D))
    start = {"startprob_": startprob, "transmat_": transmat}
    ours = with_attributes(BernoulliHMM(K, **OURS), {**start, "emissionprob_": chances})
    fitted_quietly(ours, x, LENGTHS)
    columns = [np.stack([1 - chances[:, j], chances[:, j]], axis=1) for j in range(D)]
    other = with_attributes(CategoricalHMM(K, **OURS), {**start, "emissionprob_": columns})
    fitted_quietly(other, x, LENGTHS)
    close(ours, other, ("startprob_", "transmat_"))
    np.testing.assert_allclose(ours.emissionprob_, np.stack([p[:, 1] for p in other.emissionprob_], axis=1), **CLOSE)
    assert ours.bic(x, LENGTHS) == pytest.approx(other.bic(x, LENGTHS))


def test_one_gaussian_a_state_is_the_gaussian_model() -> None:
    start, x = gaussian_start("diag"), rows()
    ours = fitted_quietly(with_attributes(GaussianHMM(K, "diag", **OURS), start), x, LENGTHS)
    parts = {"means_": start["means_"][:, None], "covars_": start["covars_"][:, None], "weights_": np.ones((K, 1))}
    mixed = with_attributes(GMMHMM(K, 1, **OURS), {**start, **parts})
    fitted_quietly(mixed, x, LENGTHS)
    np.testing.assert_allclose(mixed.means_[:, 0], ours.means_, **CLOSE)
    assert mixed.score(x, LENGTHS) == pytest.approx(ours.score(x, LENGTHS), rel=1e-12)


def test_mixtures_score_as_hmmlearn_has_it() -> None:
    start, x, rng = gaussian_start("diag"), rows(), np.random.default_rng(6)
    parts = {
        "weights_": rng.dirichlet(np.ones(2), size=K),
        "means_": rng.normal(size=(K, 2, D)),
        "covars_": rng.uniform(0.5, 2, (K, 2, D)),
    }
    theirs = with_attributes(oracle.GMMHMM(K, 2, covariance_type="diag"), {**start, **parts})
    ours = with_attributes(GMMHMM(K, 2), {**start, **parts})
    answers_agree(ours, theirs, x, LENGTHS)


def test_a_family_is_the_estimator_of_its_name() -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(4, size=(sum(LENGTHS), 1))
    named = fitted_quietly(CategoricalHMM(2, n_iter=5, tol=0, random_state=1, start="random_from_data"), x, LENGTHS)
    general = HMM(Categorical(), 2, n_iter=5, tol=0, random_state=1, start="random_from_data")
    fitted_quietly(general, x, LENGTHS)
    np.testing.assert_array_equal(general.params_.probabilities, named.emissionprob_)
    assert general.score(x, LENGTHS) == named.score(x, LENGTHS)


def test_earthquakes() -> None:
    """Major earthquakes of the world a year, 1900–2006 (Zucchini & MacDonald 2009, table 1.1 and §4)."""
    counts = (
        "13 14 8 10 16 26 32 27 18 32 36 24 22 23 22 18 25 21 21 14 8 11 14 23 18 17 19 20 22 19 13 26 13 14 "
        "22 24 21 22 26 21 23 24 27 41 31 27 35 26 28 36 39 21 17 22 17 19 15 34 10 15 22 18 15 20 15 22 19 16 "
        "30 27 29 23 20 16 21 21 25 16 18 15 18 14 10 15 8 15 6 11 8 7 18 16 13 12 13 20 15 16 12 18 15 16 "
        "13 15 16 11 11"
    )
    x = np.array(counts.split(), dtype=float)[:, None]
    for states, expected in ((2, 341.8787), (3, 328.5275)):
        model = PoissonHMM(states, random_state=0, tol=1e-10, n_iter=5000, n_init=3).fit(x)
        assert -model.score(x) == pytest.approx(expected, abs=5e-5)


def test_umbrellas() -> None:
    """Rain behind umbrellas (Russell & Norvig 2010, §15.2): filtering, smoothing, and the most likely week."""
    start = {
        "startprob_": np.array([0.5, 0.5]),
        "transmat_": np.array([[0.7, 0.3], [0.3, 0.7]]),
        "emissionprob_": np.array([[0.9, 0.1], [0.2, 0.8]]),
    }
    model = with_attributes(CategoricalHMM(2), start)
    two, week = np.zeros((2, 1)), np.array([0, 0, 1, 0, 0])[:, None]
    np.testing.assert_allclose(model.predict_proba(two)[:, 0], [0.883, 0.883], atol=5e-4)
    expected = [0.86733889, 0.82041905, 0.30748358, 0.82041905, 0.86733889]
    np.testing.assert_allclose(model.predict_proba(week)[:, 0], expected, atol=5e-9)
    assert model.decode(week)[1].tolist() == [0, 0, 1, 0, 0]
    assert model.score(week) == pytest.approx(-3.3725, abs=5e-5)
