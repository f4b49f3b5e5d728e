"""Attributes of hidden Markov models that users set: what does not fit is refused in words, and what fits is kept."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hmmlearn import hmm as oracle
from sklearn.exceptions import ConvergenceWarning

from helpers.hmm_starts import with_attributes
from streamem import GMMHMM, HMM, BernoulliHMM, CategoricalHMM, GaussianHMM, Params, PoissonHMM
from streamem.core.errors import ParameterError
from streamem.families import Poisson

MOVES = {"startprob_": np.array([0.5, 0.5]), "transmat_": np.array([[0.9, 0.1], [0.2, 0.8]])}
COUNTS = np.array([[1.0], [0.0], [3.0], [4.0], [2.0], [0.0]])
MIXED: dict[str, Any] = {
    "weights_": np.full((2, 2), 0.5),
    "means_": np.arange(8.0).reshape(2, 2, 2),
    "covars_": np.broadcast_to(np.eye(2), (2, 2, 2, 2)),
}


def poisson(**other: Any) -> Any:
    """Two states."""
    return with_attributes(PoissonHMM(2), {**MOVES, "lambdas_": np.array([[1.0], [3.0]]), **other})


def mixed(**other: Any) -> Any:
    """Two states of two Gaussians."""
    return with_attributes(GMMHMM(2, 2, "full"), {**MOVES, **MIXED, **other})


def symbols(emissionprob: Any) -> Any:
    """Two states of whatever symbols."""
    return with_attributes(CategoricalHMM(2), {**MOVES, "emissionprob_": emissionprob})


def gaussian(model: Any, **other: Any) -> Any:
    """A start given as a whole, for the settings of a model."""
    emissions = {"means_": np.array([[1.0], [3.0]]), "covars_": np.ones((2, 1))}
    return with_attributes(model.set_params(init_params=""), {**MOVES, **emissions, **other})


SKEW = np.broadcast_to([[1.0, 2.0], [0.0, 1.0]], (2, 2, 2, 2))
WRONG: dict[str, tuple[str, Any]] = {
    "rates of one axis": (r"lambdas_ has shape \(2,\)", lambda: poisson(lambdas_=[1.0, 3.0]).score(COUNTS)),
    "no rates": (r"lambdas_ has shape \(0,\)", lambda: poisson(lambdas_=[]).score(COUNTS)),
    "rates in words": ("lambdas_ must hold an array of numbers", lambda: poisson(lambdas_="few").score(COUNTS)),
    "negative rates": ("rates", lambda: poisson(lambdas_=[[1.0], [-3.0]]).score(COUNTS)),
    "infinite rates": ("finite", lambda: poisson(lambdas_=[[1.0], [np.inf]]).score(COUNTS)),
    "moves in words": ("transmat must hold an array", lambda: poisson(transmat_="any").score(COUNTS)),
    "priors in words": ("startprob_prior must hold", lambda: PoissonHMM(2, startprob_prior="flat").fit(COUNTS)),
    "no symbols": (r"shape \(0,\)", lambda: symbols([])),
    "symbols in words": ("emissionprob_ must hold an array", lambda: symbols("abc")),
    "a list of words": ("emissionprob_ must hold an array", lambda: symbols(["abc", "abd"])),
    "symbols of one axis": (r"shape \(2,\)", lambda: symbols([0.5, 0.5])),
    "chances of one axis": (
        r"emissionprob_ has shape \(2,\)",
        lambda: with_attributes(BernoulliHMM(2), {**MOVES, "emissionprob_": [0.1, 0.5]}).score(COUNTS > 1),
    ),
    "skew covariances": ("symmetric, positive", lambda: mixed(covars_=SKEW).score(np.zeros((5, 2)))),
    "indefinite covariances": ("symmetric, positive", lambda: mixed(covars_=-MIXED["covars_"]).score(np.zeros((5, 2)))),
    "covariances in words": ("covars_ must hold", lambda: mixed(covars_="wide").score(np.zeros((5, 2)))),
    "beyond the topology": (
        r"transmat\[1, 0\] is 0.2, a step that topology 'left-right'",
        lambda: gaussian(GaussianHMM(2, topology="left-right")).fit(COUNTS),
    ),
    "rows that are tied": (
        r"states \[0, 1\] differ",
        lambda: gaussian(GaussianHMM(2, tied_transitions=[[0, 1]])).fit(COUNTS),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name: str) -> None:
    words, act = WRONG[name]
    with pytest.raises(ParameterError, match=words):
        act()


def test_models_set_anew_may_have_other_widths() -> None:
    model = poisson()
    narrow = model.score(COUNTS)
    model.lambdas_ = np.array([[1.0, 1.0], [3.0, 3.0]])
    wide = model.score(np.hstack([COUNTS, COUNTS]))
    assert model.n_features_in_ == 2
    assert wide < narrow


@pytest.mark.parametrize("value", [0.0, 1e150])
def test_a_constant_column_costs_no_accuracy(value: float) -> None:
    x = np.full((50, 1), value)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # of k-means, about so few distinct rows
        model = GaussianHMM(2, random_state=0).fit(x)
    np.testing.assert_allclose(model.means_, value)


def bernoulli() -> Any:
    return with_attributes(BernoulliHMM(2), {**MOVES, "emissionprob_": np.array([[0.1, 0.5], [0.8, 0.3]])})


def normal(kind: str) -> Any:
    covars = {
        "full": np.array([np.eye(2), 2 * np.eye(2)]),
        "tied": np.eye(2) + 0.5,
        "diag": np.array([[1.0, 2], [3, 1]]),
    }
    own = {**covars, "spherical": np.array([1.0, 2.0])}[kind]
    return with_attributes(GaussianHMM(2, kind), {**MOVES, "means_": np.arange(4.0).reshape(2, 2), "covars_": own})


def wholes() -> Any:
    return np.random.default_rng(0).integers(0, 3, (40, 2)).astype(np.float64)


BY_HAND: dict[str, Any] = {
    **{f"Gaussian, {kind}": lambda kind=kind: normal(kind) for kind in ("full", "tied", "diag", "spherical")},
    "mixtures": mixed,
    "counts": lambda: poisson(lambdas_=np.array([[1.0, 2.0], [3.0, 0.5]])),
    "symbols": lambda: symbols([np.full((2, 3), 1 / 3), np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])]),
    "answers": bernoulli,
    "a family": lambda: with_attributes(
        HMM(Poisson(), 2),
        {**MOVES, "params_": Params(rates=np.array([[1.0, 2.0], [3.0, 0.5]]), empty=np.zeros(2, bool))},
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_model_set_by_hand_answers_everything(name: str, tmp_path: Path) -> None:
    model, x = BY_HAND[name](), wholes()
    x = (x > 1).astype(np.float64) if name == "answers" else x
    assert model.describe().splitlines()[2] == "set by hand"
    scores = model.scores(x, [15, 25])
    assert scores["log_likelihood"] == model.score(x, [15, 25])
    assert scores["bic"] == model.bic(x, [15, 25]) > scores["aic"] == model.aic(x, [15, 25])
    assert model.predict(x).shape == (40,)
    assert model.predict_proba(x).shape == (40, 2)
    assert model.sample(5, random_state=0)[0].shape == (5, 2)
    model.sample_to(tmp_path / "x.npy", 7)
    assert np.load(tmp_path / "x.npy").shape == (7, 2)
    statistics = model.expected_statistics(x, [15, 25])
    assert statistics.log_likelihood == pytest.approx(model.score(x, [15, 25]))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_model_set_by_hand_is_saved(name: str, tmp_path: Path) -> None:
    model, x = BY_HAND[name](), wholes()
    x = (x > 1).astype(np.float64) if name == "answers" else x
    model.save(tmp_path / "model.npz")
    objects = {"family": Poisson()} if name == "a family" else {}
    loaded = type(model).load(tmp_path / "model.npz", **objects)
    assert loaded.score(x) == model.score(x)
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    assert "set by hand" in loaded.describe()
    assert loaded.lower_bounds_ == []


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_a_model_set_by_hand_answers_as_that_of_hmmlearn(kind: str) -> None:
    model, x = normal(kind), wholes()
    theirs = oracle.GaussianHMM(2, kind)
    theirs.n_features = 2
    for name in ("startprob_", "transmat_", "means_"):
        setattr(theirs, name, getattr(model, name))
    theirs.covars_ = {"full": model.covars_, "tied": model.covars_[0]}.get(kind, np.diagonal(model.covars_, 0, 1, 2))
    if kind == "spherical":
        theirs.covars_ = np.array([1.0, 2.0])
    np.testing.assert_allclose(model.score(x, [15, 25]), theirs.score(x, [15, 25]), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), theirs.predict(x))
    np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=1e-12)
    np.testing.assert_allclose(model.decode(x)[0], theirs.decode(x)[0], rtol=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_model_set_by_hand_learns_on(name: str) -> None:
    model, x = BY_HAND[name](), wholes()
    x = (x > 1).astype(np.float64) if name == "answers" else x
    before = model.score(x)
    statistics = model.expected_statistics(x)
    model.maximize(statistics)
    assert model.score(x) >= before
    again = BY_HAND[name]().partial_fit(x)
    assert again.score(x) >= before
    np.testing.assert_allclose(again.transmat_, model.transmat_, rtol=1e-9)


def test_what_is_set_after_a_fit_counts_at_once() -> None:
    x = wholes()
    model = GaussianHMM(2, random_state=0, n_iter=2, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    shown, before = model.covars_, model.score(x)
    model.covars_ = shown  # the very object: nothing was changed
    assert model._now() is model._fitted
    model.covars_ = shown.copy()
    assert model._now() is model._fitted
    model.covars_ = 4.0 * shown
    assert model.score(x) != before
    with pytest.raises(ValueError, match="read-only"):
        shown[0, 0, 0] = 1.0
