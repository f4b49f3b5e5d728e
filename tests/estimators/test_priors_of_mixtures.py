"""Priors as pseudo-statistics: modes of posteriors against formulas and scikit-learn, monotone, files, online."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import BayesianGaussianMixture

from streamem import GaussianMixture, GroupedMixture, LatentClass, Mixture, Params, PoissonMixture
from streamem.algorithms import StepwiseEM
from streamem.conformance import FamilySuite
from streamem.core.errors import ParameterError
from streamem.estimators.loading import load_model
from streamem.families import (
    Bernoulli,
    Categorical,
    Exponential,
    GammaPrior,
    Gaussian,
    MixtureFamily,
    NormalWishart,
    Poisson,
    Product,
)

Array = NDArray[Any]
K = 3
SETTINGS: dict[str, Any] = {"random_state": 0, "tol": 1e-10, "max_iter": 2000}


class Rates(FamilySuite):
    """One parameter > 0, with a prior."""

    name = "rates"

    def make_family(self) -> GammaPrior:
        return GammaPrior(Poisson(), 3.0, np.array([2.0, 40.0]), total_weight=257.0)

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(**{self.name: rng.uniform(1.0, 5.0, (K, 2))})

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.poisson([2.0, 6.0], (n, 2)).astype(np.float64)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return params.replace(**{self.name: params[self.name] * np.exp(scale * rng.normal(size=(K, 2)))})

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return (Poisson() if self.name == "rates" else Exponential()).log_prob(params, x)


class TestPoissonRates(Rates):
    def make_far_row(self, x: Array) -> Array:
        return np.round(super().make_far_row(x))


class TestExponentialRates(Rates):
    name = "scales"

    def make_family(self) -> GammaPrior:
        return GammaPrior(Exponential(), 5.0, np.array([[2.0, 40.0]]), total_weight=257.0)


class TestNormalWishart(FamilySuite):
    shared = frozenset({"center", "scale"})

    def make_family(self) -> NormalWishart:
        return NormalWishart(
            "diag",
            mean_prior=[9.0, 12.0],
            mean_precision_prior=30.0,
            covariance_prior=[50.0, 20.0],
            degrees_of_freedom_prior=40.0,
            total_weight=257.0,
        )

    def make_params(self, rng: np.random.Generator) -> Params:
        inner = Gaussian("diag")
        return inner.with_means(inner.start(self.make_rows(rng, 50), None, K), 10.0 + rng.normal(size=(K, 2)))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return 10.0 + rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]])

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        means = params.means + scale * rng.normal(size=params.means.shape)
        covariances = params.covariances * np.exp(scale * rng.normal(size=(K, 2)))
        return Gaussian("diag")._assemble(params, means, covariances, params.empty)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return Gaussian("diag").log_prob(params, x)


# --- modes -----------------------------------------------------------------------------------------------------------


def counts(n: int = 600) -> Array:
    rng = np.random.default_rng(0)
    return rng.poisson(np.where(rng.random(n) < 0.3, 8.0, 2.0))[:, None].astype(np.float64)


def test_weights_have_the_pseudo_counts_and_the_objective_the_prior(tmp_path: Path) -> None:
    x = counts()
    mix = PoissonMixture(2, weight_concentration_prior=[101.0, 1.0], **SETTINGS).fit(x)
    resp = mix.predict_proba(x).sum(axis=0)
    assert mix.weights_ == pytest.approx((resp + np.array([100.0, 0.0])) / 700.0, abs=1e-5)
    prior = 100.0 * np.log(mix.weights_[0])
    assert mix.objective_ == pytest.approx(mix.lower_bound_ + prior / 600.0, abs=1e-12)
    assert mix.report_.objective == mix.objective_
    assert f"with the prior {mix.objective_:.9f} nats a row; log-likelihoods are without it" in str(mix.report_)
    mix.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert (again.objective_, again.report_.objective) == (mix.objective_, mix.objective_)


def test_no_prior_is_no_line_of_the_report() -> None:
    fits = GaussianMixture(1).fit(counts()), LatentClass(1, n_categories=30).fit(counts())
    assert [fit.report_.objective for fit in fits] == [None, None]
    assert fits[1].objective_ == fits[1].lower_bound_


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_one_gaussian_is_scikit_learns_formula(covariance_type: str) -> None:
    """Of one component BayesianGaussianMixture has closed forms: its means and covariances are these."""
    x = 5.0 + np.random.default_rng(0).normal(size=(40, 2)) @ np.array([[1.0, 0.5], [0.0, 2.0]])
    scatter = np.array([[8.0, 1.0], [1.0, 6.0]]) if covariance_type == "full" else np.array([8.0, 6.0])
    prior: dict[str, Any] = {
        "mean_prior": [3.0, 9.0],
        "mean_precision_prior": 7.0,
        "covariance_prior": scatter,
        "degrees_of_freedom_prior": 12.0,
    }
    settings: dict[str, Any] = {"covariance_type": covariance_type, "reg_covar": 0.0, "random_state": 0}
    ours = GaussianMixture(1, **prior, **settings).fit(x)
    theirs = BayesianGaussianMixture(n_components=1, **prior, **settings).fit(x)
    assert ours.means_ == pytest.approx(theirs.means_, rel=1e-10)
    assert ours.covariances_ == pytest.approx(theirs.covariances_, rel=1e-9)


def test_rates_are_modes_of_gamma_posteriors() -> None:
    x = counts()
    n, total = len(x), x.sum()
    poisson = Mixture(GammaPrior(Poisson(), 30.0, 4.0)).fit(x)
    assert poisson.params_.rates == pytest.approx((total + 29.0) / (n + 4.0), rel=1e-12)
    rate = poisson.params_.rates[0, 0]
    assert poisson.objective_ - poisson.lower_bound_ == pytest.approx((29.0 * np.log(rate) - 4.0 * rate) / n, rel=1e-9)
    exponential = Mixture(GammaPrior(Exponential(), 30.0, 4.0)).fit(x + 0.5)
    assert exponential.params_.scales == pytest.approx((total + 0.5 * n + 4.0) / (n + 29.0), rel=1e-12)


def test_a_prior_of_parts_knows_the_weight_of_the_data(tmp_path: Path) -> None:
    """Fitted, averaged in stepwise EM, and saved, a mixture of categorical parts weighs its prior alike."""
    rng = np.random.default_rng(0)
    x = (rng.random((2000, 3)) < np.where(rng.random((2000, 1)) < 0.4, 0.2, 0.9)).astype(np.float64)
    family = MixtureFamily(Categorical(2, prior=200.0), 1)
    batch = Mixture(family, 1, **SETTINGS).fit(x)
    shares = (x.sum(axis=0) + 199.0) / (2000 + 2 * 199.0)
    assert batch.params_.parts.probabilities[0, 1::2] == pytest.approx(shares, rel=1e-9)
    stepwise = Mixture(family, 1, random_state=0).fit(x, algorithm=StepwiseEM(passes=2))
    assert stepwise.params_.parts.probabilities[0, 1::2] == pytest.approx(shares, abs=0.02)
    batch.save(tmp_path / "m.npz")
    batch = Mixture.load(tmp_path / "m.npz", family=family).partial_fit(x[:500])
    assert batch.params_.parts.probabilities[0, 1::2] == pytest.approx(shares, abs=0.02)


@pytest.mark.parametrize(
    "mix",
    [
        GaussianMixture(
            2, mean_prior=0.0, mean_precision_prior=50.0, covariance_prior=[[9.0]], degrees_of_freedom_prior=90.0
        ),
        GaussianMixture(2, weight_concentration_prior=200.0, noise=True),
        LatentClass(2, n_categories=30, prior=3.0, weight_concentration_prior=9.0, compress=True, init_params="random"),
        Mixture(Product({0: GammaPrior(Poisson(), 30.0, 9.0)}), 2, weight_concentration_prior=20.0, n_init=2),
    ],
    ids=["Gaussian", "noise", "latent classes", "product"],
)
def test_the_objective_never_falls(mix: Any) -> None:
    x, heights = counts(), []
    mix.set_params(random_state=0, tol=0.0)
    for most in range(0, 13, 3):
        with pytest.warns(match="did not converge") if most else nullcontext():
            mix.set_params(max_iter=most).fit(x)
        heights.append(mix.objective_)
    assert (np.diff(heights) >= -1e-12).all()
    assert heights[-1] > heights[0]


def test_groups_count_groups() -> None:
    mix = GroupedMixture(Poisson(), 2, weight_concentration_prior=11.0, **SETTINGS)
    x = counts()
    mix.fit(x, lengths=[6] * 100)
    groups = mix.predict_proba(x, lengths=[6] * 100).sum(axis=0)
    assert mix.weights_ == pytest.approx((groups + 10.0) / 120.0, abs=1e-5)


def test_batches_weigh_a_prior_of_the_weights_as_the_fit_did() -> None:
    x = counts(2000)
    mix = PoissonMixture(2, weight_concentration_prior=[2001.0, 1.0], **SETTINGS).fit(x)
    before = mix.weights_.copy()
    for part in np.split(x, 4):
        mix.partial_fit(part)
    assert mix.weights_ == pytest.approx(before, abs=0.02)
    stepwise = PoissonMixture(2, weight_concentration_prior=[2001.0, 1.0], random_state=0)
    stepwise.fit(x, algorithm=StepwiseEM(passes=4))
    assert stepwise.weights_ == pytest.approx(before, abs=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoissonMixture(2, weight_concentration_prior=0.5), "down to 0.5; they must be finite and >= 1"),
        (lambda: PoissonMixture(2, weight_concentration_prior=[1.0, 2.0, 3.0]), r"shape \(3,\); a number or \(2,\)"),
        (lambda: GaussianMixture(1, mean_precision_prior=2.0), "mean_precision_prior needs mean_prior"),
        (lambda: GaussianMixture(1, degrees_of_freedom_prior=2.0), "needs covariance_prior"),
        (lambda: GaussianMixture(1, covariance_prior=[[-1.0]]), "positive semidefinite; its smallest eigenvalue is -1"),
        (lambda: GaussianMixture(1, mean_prior=[1.0, 2.0], mean_precision_prior=1.0), r"mean_prior has shape \(2,\)"),
        (lambda: Mixture(GammaPrior(Bernoulli())), "Bernoulli has no rates that a gamma prior could be of"),
        (lambda: Mixture(GammaPrior(Poisson(), shape=0.5)), "shape holds values down to 0.5"),
    ],
)
def test_priors_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make().fit(counts(50))


def test_online_learning_that_begins_with_a_prior_says_what_to_do() -> None:
    with pytest.raises(ParameterError, match="weight_concentration_prior is weighed against the data.*fit first"):
        PoissonMixture(2, weight_concentration_prior=2.0).partial_fit(counts(50))
