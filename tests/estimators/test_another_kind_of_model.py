"""Hyperparameters that make another kind of model of a fitted one are named, not the number of its states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamem import GaussianHMM, MixtureOfRegressions
from streamem.core.errors import ParameterError

pytestmark = pytest.mark.filterwarnings("ignore:Best performing initialization")

N = 120
RNG = np.random.default_rng(0)
X = np.column_stack([3.0 * (np.cumsum(RNG.random(N) < 0.1) % 2) + RNG.normal(size=N), RNG.normal(size=N)])
POISSON, SIZES, DRIVEN = {"durations": "poisson"}, {"durations": "negative-binomial"}, {"transition_covariates": [1]}
CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, POISSON, "have no durations, and the hyperparameter durations names a kind now"),
    (POISSON, {"durations": None}, "have durations, and the hyperparameter durations names none now"),
    (POISSON, {"durations": "geometric"}, "have durations, and the hyperparameter durations names none now"),
    (POISSON, SIZES, "durations is 'negative-binomial' now, and states were fitted with another kind"),
    (SIZES, POISSON, "durations is 'poisson' now, and states were fitted with another kind"),
    ({}, DRIVEN, "depend on no covariates, and transition_covariates names columns now"),
    (DRIVEN, {"transition_covariates": None}, "depend on covariates, and transition_covariates is None now"),
    (DRIVEN, POISSON, "have no durations, and the hyperparameter durations names a kind now"),
    (POISSON, DRIVEN, "depend on no covariates, and transition_covariates names columns now"),
    ({**POISSON, **DRIVEN}, {"durations": None}, "have durations, and the hyperparameter durations names none now"),
    (POISSON, {"n_components": 3}, "2 states were fitted, and n_components is 3 now"),
]
ASKED: list[Callable[[GaussianHMM], Any]] = [
    lambda hmm: hmm.score(X),
    lambda hmm: hmm.predict(X),
    lambda hmm: hmm.sample(3),
    lambda hmm: hmm.describe(),
]


@pytest.mark.parametrize(("fitted", "now", "words"), CHANGES)
def test_chains(fitted: dict[str, Any], now: dict[str, Any], words: str) -> None:
    model = GaussianHMM(2, random_state=0, n_iter=1, max_duration=12, **fitted).fit(X).set_params(**now)
    for asked in ASKED:
        with pytest.raises(ParameterError, match=words):
            asked(model)
    if "n_components" not in now:
        with pytest.raises(ParameterError, match=words):
            model.partial_fit(X)


def test_weights() -> None:
    y = X[:, 0] + RNG.normal(size=N)
    for fitted, now, words in ((None, [0], "depend on no concomitants"), ([0], None, "depend on concomitants, and")):
        model = MixtureOfRegressions(2, concomitant=fitted, random_state=0, max_iter=1, init_params="random")
        model.fit(X, y).set_params(concomitant=now)
        with pytest.raises(ParameterError, match=words):
            model.predict(X[:, 1:] if fitted else X)
