"""Priors of transitions count in proportion to the data, whoever brings it: passes, mini-batches, batches, sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.fitted_states import state_of
from helpers.hmm_starts import LENGTHS, K, fitted_quietly, gaussian_start, rows, with_attributes
from streamem import GaussianHMM
from streamem.algorithms import IncrementalEM, StepwiseEM
from streamem.core.errors import ParameterError

PRIORS: dict[str, Any] = {"startprob_prior": [9.0, 1.0, 2.0], "transmat_prior": 30 * np.eye(K) + 1}
STRONG: dict[str, Any] = {"transmat_prior": 1e6 * np.eye(K) + 1}


def model(**settings: Any) -> GaussianHMM:
    """From a start that is given."""
    chosen = {"init_params": "", "tol": 0, "random_state": 0, **settings}
    return with_attributes(GaussianHMM(K, "diag", **chosen), gaussian_start("diag"))


def whole_step(weight: float, seen: float) -> float:
    return 1.0


@pytest.mark.parametrize("rule", [StepwiseEM(whole_step, passes=1, batch_rows=10**6, averaging=0), IncrementalEM(1)])
@pytest.mark.parametrize("weight", [None, 2.5])
def test_a_mini_batch_of_everything_counts_them_as_a_pass_does(rule: Any, weight: float | None) -> None:
    """Also with weights, and with steps that were not observed."""
    x = rows()
    x[5] = np.nan
    weights = None if weight is None else np.full(len(x), weight)
    batch, other = (
        fitted_quietly(model(n_iter=1, **PRIORS), x, LENGTHS, sample_weight=weights, algorithm=algorithm)
        for algorithm in ("batch", rule)
    )
    for name in ("startprob_", "transmat_"):
        np.testing.assert_allclose(getattr(other, name), getattr(batch, name), rtol=1e-11)
    without = fitted_quietly(model(n_iter=1), x, LENGTHS)
    assert (np.abs(batch.transmat_ - without.transmat_) > 1e-3).any()


def test_stepwise_comes_to_what_batch_comes_to() -> None:
    """A prior of as many events as there are steps used to be forgotten, in averages of a single row's weight."""
    x = rows(4000)
    batch, stepwise = (
        fitted_quietly(model(n_iter=n, transmat_prior=1000 * np.eye(K) + 1), x, algorithm=algorithm)
        for n, algorithm in ((50, "batch"), (20, "stepwise"))
    )
    np.testing.assert_allclose(stepwise.transmat_, batch.transmat_, atol=0.05)


def test_batches_that_arrive_count_them_in_proportion() -> None:
    """A prior of a million steps holds; before any fit, nobody knows how much data there is."""
    x = rows(2000)
    known = fitted_quietly(model(n_iter=3, **STRONG), x)
    for first in range(0, 2000, 500):
        known.partial_fit(x[first : first + 500])
    assert np.diag(known.transmat_).min() > 0.99
    for fresh in (model(**STRONG), GaussianHMM(K, **STRONG)):
        with pytest.raises(ParameterError, match="fit first"):
            fresh.partial_fit(x)
    assert model().partial_fit(x).transmat_.shape == (K, K)


def test_a_loaded_model_goes_on_alike(tmp_path: Path) -> None:
    x = rows(1000)
    for algorithm in ("batch", "stepwise"):
        known = fitted_quietly(model(n_iter=2, **PRIORS), x, algorithm=algorithm)
        known.save(tmp_path / "m.npz")
        loaded = GaussianHMM.load(tmp_path / "m.npz")
        for both in (known, loaded):
            both.partial_fit(x[:300])
        assert state_of(loaded).params == state_of(known).params


def test_sites_together_count_them_once() -> None:
    """Whatever the model was fitted to before, also those of the emissions."""
    settings = {**PRIORS, "means_prior": 4.0, "means_weight": 200.0, "n_iter": 1}
    x, y = rows(600), rows(900, seed=3)
    together = fitted_quietly(model(**settings), [x, y])
    apart = fitted_quietly(model(**settings), rows(5000, seed=4))
    with_attributes(apart, gaussian_start("diag"))
    apart.maximize(sum([apart.expected_statistics(x), apart.expected_statistics(y)]))
    for name in ("startprob_", "transmat_", "means_", "covars_"):
        np.testing.assert_allclose(getattr(apart, name), getattr(together, name), rtol=1e-10)
