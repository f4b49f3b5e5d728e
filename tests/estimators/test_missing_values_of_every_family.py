"""Every family that knows missing values, in all three structures: answers are those of what was observed of each row.

Log-densities are taken from the family, whose own tests compare them with integrals, sums and SciPy; what is checked
here is that nothing between the family and the user reads a value that was not there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp

from families.test_ends_with_missing_values import FAMILIES
from streamem import HMM, GroupedMixture, Mixture
from streamem.algorithms import StepwiseEM
from streamem.core.ports import FullFamily, full_family
from streamem.families import Categorical, Fixed, Gamma, Gaussian, MixtureFamily, Poisson, Product

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Array = NDArray[Any]
INTEGRATES: dict[str, Any] = {"missing": "integrate", "random_state": 0}


def mixed(rng: np.random.Generator) -> Array:
    return np.column_stack([rng.normal(size=60), rng.poisson(4.0, 60), rng.integers(4, size=60)])


CASES = {
    **FAMILIES,
    "fixed Gamma": (Fixed(Gamma(), ["shapes"]), FAMILIES["Gamma"][1]),
    "parts": (MixtureFamily(Gaussian("diag", 1e-3), 2), FAMILIES["Gaussian diag"][1]),
    "product": (Product({0: Gaussian(), 1: Poisson(), 2: Categorical(4)}), mixed),
}


def case(name: str) -> tuple[FullFamily, FullFamily, Array]:
    """A family, what it is with gaps, and rows (60, 3) of which a quarter of values is missing, and one row is."""
    family, rows = CASES[name]
    rng = np.random.default_rng(0)
    x = rows(rng)
    x[rng.random(x.shape) < 0.25] = np.nan
    x[7] = np.nan
    return family, full_family(family.integrating()), x


@pytest.mark.parametrize("name", CASES)
def test_rows_of_mixtures(name: str) -> None:
    family, integrating, x = case(name)
    seen = ~np.isnan(x).all(axis=1)
    mix = Mixture(family, 2, max_iter=3, tol=0.0, **INTEGRATES).fit(x)
    joint = integrating.log_prob(mix.params_, x) + np.log(mix.weights_)
    density = logsumexp(joint, axis=1)
    np.testing.assert_allclose(mix.score_samples(x), density, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mix.predict_proba(x), np.exp(joint - density[:, None]), atol=1e-8)
    np.testing.assert_array_equal(mix.predict(x), mix.predict_proba(x).argmax(axis=1))
    assert mix.lower_bound_ == pytest.approx(density.sum() / seen.sum(), rel=1e-9)
    assert mix.bic(x) == pytest.approx(-2 * density.sum() + mix._n_parameters() * np.log(60), rel=1e-9)
    assert np.isfinite(mix.sample(20)[0]).all()
    assert np.isfinite(mix.impute(x, n_draws=1)).all()
    stepwise = Mixture(family, 2, **INTEGRATES).fit(x, algorithm=StepwiseEM(passes=2, batch_rows=20))
    assert np.isfinite(stepwise.score(x))
    known = Categorical(4) if name == "Categorical" else family
    online, stream = Mixture(known, 2, **INTEGRATES), Mixture(known, 2, **INTEGRATES)
    online.partial_fit(x[:30]).partial_fit(x[30:])
    assert stream.fit_stream([x], batch_rows=30).params_ == online.params_


@pytest.mark.parametrize("name", CASES)
def test_steps_of_chains(name: str) -> None:
    family, integrating, x = case(name)
    lengths = [20, 15, 25]
    hmm = HMM(family, 2, n_iter=2, tol=0.0, **INTEGRATES).fit(x, lengths)
    log_prob, cuts = integrating.log_prob(hmm.params_, x), np.cumsum([0, *lengths])
    total = 0.0
    for first, stop in pairwise(cuts):
        forward = np.log(hmm.startprob_) + log_prob[first]
        for step in log_prob[first + 1 : stop]:
            forward = logsumexp(forward[:, None] + np.log(hmm.transmat_), axis=0) + step
        total += logsumexp(forward)
    assert hmm.score(x, lengths) == pytest.approx(total, rel=1e-9)
    np.testing.assert_allclose(hmm.predict_proba(x, lengths).sum(axis=1), 1.0)
    assert hmm.predict(x, lengths).shape == (60,)
    assert np.isfinite(hmm.impute(x, lengths)).all()
    before = hmm.score(x, lengths)
    assert np.isfinite(hmm.partial_fit(x, lengths).score(x, lengths))
    assert hmm.score(x, lengths) != before


@pytest.mark.parametrize("name", CASES)
def test_rows_of_groups(name: str) -> None:
    family, integrating, x = case(name)
    lengths = [5] * 12
    groups = GroupedMixture(family, 2, max_iter=3, tol=0.0, **INTEGRATES).fit(x, lengths)
    log_prob = integrating.log_prob(groups.params_, x).reshape(12, 5, 2).sum(axis=1)
    joint = log_prob + np.log(groups.weights_)
    density = logsumexp(joint, axis=1)
    np.testing.assert_allclose(groups.score_samples(x, lengths), density, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(groups.predict_proba(x, lengths), np.exp(joint - density[:, None]), atol=1e-8)
    np.testing.assert_array_equal(groups.predict(x, lengths), joint.argmax(axis=1))
    assert np.isfinite(groups.impute(x, lengths)).all()
    assert np.isfinite(groups.partial_fit(x, lengths).score(x, lengths))
