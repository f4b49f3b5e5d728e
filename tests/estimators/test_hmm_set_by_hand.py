"""Attributes of hidden Markov models that users set: what does not fit is refused in words, and what fits is kept."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from helpers.hmm_starts import with_attributes
from streamem import GMMHMM, BernoulliHMM, CategoricalHMM, GaussianHMM, PoissonHMM
from streamem.core.errors import ParameterError

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
