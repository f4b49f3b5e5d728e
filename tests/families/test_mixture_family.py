"""A mixture as a family: the laws, log-sum-exp written out, one part is the family itself, parts come apart."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import multivariate_normal

import streamem
from streamem.conformance import FamilySuite, ModelSuite, Quadrature
from streamem.conformance.tolerance import relabelled, tolerance
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, full_family
from streamem.core.stats import Stats
from streamem.families import Categorical, Gaussian, MixtureFamily, Poisson
from streamem.families.first_split import split_rows
from streamem.families.prior_mixture import PriorMixture
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]
K, M = 3, 2


class PlainPoisson:
    """A user's own family, without a kernel."""

    def log_prob(self, p: Params, x: Array) -> Array:
        return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)

    def stats(self, p: Params, x: Array, resp: Array) -> Stats:
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        return Params(rates=s.x / s.weight[:, None])


class Laws(FamilySuite):
    """Components of parts: axis 0 of what the parts have is component and part."""

    def relabelled(self, params: Params, order: Array) -> Params:
        inner = (order[:, None] * M + np.arange(M)).ravel()
        return Params(weights=params.weights[order], parts=relabelled(params.parts, inner, self.shared))

    def weights(self, rng: np.random.Generator) -> Array:
        return rng.dirichlet(np.ones(M), size=K)

    def test_the_maximum_beats_perturbations(self) -> None:
        """Of a mixture EM's M-step maximizes a bound on the expected log-likelihood, not itself: it never lowers it."""
        rng = np.random.default_rng(self.seed)
        family, params, x = full_family(self.make_family()), self.make_params(rng), self.make_rows(rng, 400)
        resp = rng.dirichlet(np.ones(K), size=len(x))
        before = -np.inf
        for _ in range(30):
            stats = family.stats(params, x, resp)
            value = float((resp * family.log_prob(params, x)).sum()) - family.penalty(params, stats)
            assert value >= before - tolerance(np.float64, 400) * abs(value)
            before, params = value, family.maximize(stats, params)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical", "tied"])
class TestMixturesOfGaussians(Laws):
    shared = frozenset({"center", "scale"})

    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str) -> None:
        self.covariance_type = covariance_type
        if covariance_type == "tied":
            self.shared = self.shared | {"covariances", "precisions_cholesky", "floored"}

    def make_family(self) -> MixtureFamily:
        return MixtureFamily(Gaussian(self.covariance_type), M)

    def make_params(self, rng: np.random.Generator) -> Params:
        inner = Gaussian(self.covariance_type)
        parts = inner.start(self.make_rows(rng, 50), None, K * M)
        parts = inner.with_means(parts, 100.0 + rng.normal(size=(K * M, 3)))
        return Params(weights=self.weights(rng), parts=parts)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return 100.0 + rng.normal(size=(n, 3)) @ (np.eye(3) + 0.3 * rng.normal(size=(3, 3)))

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        inner = Gaussian(self.covariance_type)
        means, d = inner.means(params.parts), x.shape[1]
        variances = inner.variances(inner.covariances(params.parts), K * M, d)
        parts = [multivariate_normal(m, np.diag(v)).logpdf(x) for m, v in zip(means, variances, strict=True)]
        joint = np.array(parts).reshape(K, M, -1) + np.log(params.weights)[:, :, None]
        return np.logaddexp.reduce(joint, axis=1).T


class TestMixturesOfGaussiansWithPriors(TestMixturesOfGaussians):
    """Dirichlet priors of the weights, weighed against twice the rows."""

    def make_family(self) -> MixtureFamily:
        return PriorMixture(Gaussian(self.covariance_type), M, np.full((K, M), 3.0)).weighed(2.0 * self.n_rows)


@pytest.mark.parametrize("inner", [Poisson(), PlainPoisson()])
class TestMixturesOfPoissons(Laws):
    @pytest.fixture(autouse=True)
    def _choose(self, inner: Family) -> None:
        self.inner = inner
        self.unchecked = () if isinstance(inner, Poisson) else ("parts.rates",)

    def make_family(self) -> MixtureFamily:
        return MixtureFamily(self.inner, M)

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(weights=self.weights(rng), parts=Params(rates=rng.uniform(1.0, 9.0, (K * M, 1))))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.poisson(4.0, (n, 1)).astype(np.float64)

    def make_far_row(self, x: Array) -> Array:
        return np.round(super().make_far_row(x))

    def quadrature(self, params: Params) -> Quadrature:
        x = np.arange(80.0)[:, None]
        return Quadrature(x, np.ones(len(x)))


@pytest.mark.parametrize("reg_covar", [0.0, 0.3])
class TestMixtureOfMixtures(ModelSuite):
    @pytest.fixture(autouse=True)
    def _choose(self, reg_covar: float) -> None:
        self.reg_covar = reg_covar
        self.shared = frozenset({"components.parts.center", "components.parts.scale"})

    def make_model(self) -> Mixture:
        return Mixture(MixtureFamily(Gaussian("full", self.reg_covar), 1), 2, STARTS["kmeans"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        centres = 4 * rng.normal(size=(4, 2))[rng.integers(4, size=n)]
        return Chunk(centres + rng.normal(size=(n, 2)))


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical", "tied"])
def test_one_part_is_the_family_itself(covariance_type: str) -> None:
    """The same start, the same iterations."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 2)), 2 + rng.normal(size=(300, 2))])
    plain = streamem.Mixture(Gaussian(covariance_type, 1e-6), 2, random_state=0).fit(x)
    parts = streamem.Mixture(MixtureFamily(Gaussian(covariance_type, 1e-6), 1), 2, random_state=0).fit(x)
    assert parts.n_iter_ == plain.n_iter_
    assert parts.lower_bound_ == pytest.approx(plain.lower_bound_, rel=1e-12)
    assert parts.params_.parts.means == pytest.approx(plain.params_.means, rel=1e-8)
    assert parts.params_.parts.covariances == pytest.approx(plain.params_.covariances, rel=1e-8)
    assert parts.scores(x)["aic"] == pytest.approx(plain.scores(x)["aic"], rel=1e-12)


def test_one_component_of_two_parts_is_a_mixture_of_two() -> None:
    """From the same parameters, 20 iterations."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=(400, 2)), 3 + rng.normal(size=(200, 2))])
    inner, weight = Gaussian("full"), rng.uniform(0, 2, 600)
    parts = inner.with_means(inner.start(x, None, 2), np.array([[0.0, 1.0], [1.0, 2.0]]))
    flat, nested = Mixture(inner, 2, STARTS["random"]), Mixture(MixtureFamily(inner, 2), 1, STARTS["random"])
    one = Params(weights=np.array([0.3, 0.7]), components=parts)
    other = Params(weights=np.ones(1), components=Params(weights=np.array([[0.3, 0.7]]), parts=parts))
    for _ in range(20):
        stats = flat.e_step(one, Chunk(x, weight)), nested.e_step(other, Chunk(x, weight))
        assert stats[1].log_likelihood == pytest.approx(stats[0].log_likelihood, rel=1e-12)
        one, other = flat.m_step(stats[0], one), nested.m_step(stats[1], other)
    assert other.components.weights[0] == pytest.approx(one.weights, rel=1e-10)
    assert other.components.parts.means == pytest.approx(one.components.means, rel=1e-9, abs=1e-9)


def test_parts_come_apart_within_each_component() -> None:
    """Two components of two clusters each: a split of all rows along their principal direction tells none apart."""
    rng = np.random.default_rng(2)
    centres = np.array([[0.0, 6.0], [6.0, 0.0], [40.0, 46.0], [46.0, 40.0]])
    x = centres[rng.integers(4, size=4000)] + rng.normal(size=(4000, 2))
    mix = streamem.Mixture(MixtureFamily(Gaussian("spherical"), 2), 2, random_state=0, tol=1e-6).fit(x)
    means = Gaussian("spherical").means(mix.params_.parts)
    found = means[np.argsort(means[:, 0])]
    assert np.abs(found - centres).max() < 4 / np.sqrt(1000)
    sides = means[:, 0].reshape(2, 2) > 20
    assert (sides[:, 0] == sides[:, 1]).all()
    assert "mixtures of 2 parts" in mix.report_.setting["arithmetic"]


@pytest.mark.parametrize("family", [Poisson(), Categorical()], ids=["Poisson", "Categorical"])
def test_any_family_has_parts(family: Family) -> None:
    """Families without an anchor, or with a survey: parts differ, and more of them explain more."""
    rng = np.random.default_rng(3)
    x = rng.poisson(np.array([1.0, 4.0, 9.0, 16.0])[rng.integers(4, size=2000)][:, None], (2000, 2)).astype(np.float64)
    settings = {"random_state": 0, "tol": 1e-5, "max_iter": 3000}
    plain = streamem.Mixture(family, 2, **settings).fit(x)
    mix = streamem.Mixture(MixtureFamily(family, 2), 2, **settings).fit(x)
    leaf = next(iter(mix.params_.parts.values()))
    assert np.abs(leaf[0] - leaf[1]).max() > 0.01
    assert mix.lower_bound_ > plain.lower_bound_ + 0.01


def test_ranks_split_rows_evenly() -> None:
    """Along the direction of most spread, half of the weight to either side; ties as well; order does not matter."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1001, 3)) * [1.0, 1.0, 1.0] + np.outer(rng.normal(size=1001), [3.0, -3.0, 0.0])
    weight = rng.uniform(0, 2, 1001)
    labels = split_rows(x, weight, 4)
    shares = np.bincount(labels, weight) / weight.sum()
    assert shares == pytest.approx(np.full(4, 0.25), abs=2 / 1001)
    along = x @ [1.0, -1.0, 0.0]
    middles = [np.median(along[labels == part]) for part in range(4)]
    assert middles == sorted(middles) or middles == sorted(middles, reverse=True)
    order = rng.permutation(1001)
    assert (split_rows(x[order], weight[order], 4) == labels[order]).all()
    assert np.bincount(split_rows(np.zeros((10, 2)), np.ones(10), 2)).tolist() == [5, 5]
    assert not split_rows(x, np.zeros(1001), 2).any()


def test_impossible_rows_are_impossible() -> None:
    """Under every part of one component: −∞ there, and no NaN elsewhere."""
    params = Params(weights=[[0.5, 0.5], [0.2, 0.8]], parts=Params(rates=[[0.0], [0.0], [1.0], [2.0]]))
    family, x = MixtureFamily(Poisson(), 2), np.array([[0.0], [3.0]])
    found = family.log_prob(params, x)
    assert found[0, 0] == 0.0
    assert found[1, 0] == -np.inf
    assert np.isfinite(found[:, 1]).all()
    stats = family.stats(params, x, np.array([[0.5, 0.5], [0.0, 1.0]]))
    assert all(np.isfinite(leaf).all() for leaf in stats.flatten().values())


def test_mistakes_and_travel() -> None:
    for n_mix in (0, 1.5, True):
        with pytest.raises(ParameterError, match="n_mix is"):
            MixtureFamily(Gaussian(), n_mix)  # type: ignore[arg-type]
    family = pickle.loads(pickle.dumps(MixtureFamily(Gaussian("diag"), 3)))
    assert (family.n_mix, family.family.covariance_type) == (3, "diag")


def test_a_collapsed_part_is_told() -> None:
    family = MixtureFamily(Gaussian("diag"), 2)
    x = np.concatenate([np.zeros((50, 1)), np.random.default_rng(0).normal(5, 1, (50, 1))])
    start = family.start(x, None, 1)
    first = family.maximize(family.stats(start, x, np.ones((100, 1))), start)
    assert family.degenerate(first) == {"empty part": [], "floored part": [0]}


def test_what_is_missing_is_imputed_from_the_parts_that_what_was_observed_tells() -> None:
    """Two parts in one component impute as two components do, draws too; and so in a chain of mixtures."""
    rng = np.random.default_rng(5)
    x = 6.0 * rng.integers(2, size=200)[:, None] + rng.normal(size=(200, 2)) @ [[1.0, 0.6], [0.0, 1.0]]
    x[rng.random(x.shape) < 0.3] = np.nan
    settings: dict[str, Any] = {"missing": "integrate", "random_state": 0, "tol": 1e-10, "max_iter": 1000}
    flat = streamem.Mixture(Gaussian(), 2, **settings).fit(x)
    nested = streamem.Mixture(MixtureFamily(Gaussian(), 2), 1, **settings).fit(x)
    assert nested.lower_bound_ == pytest.approx(flat.lower_bound_, rel=1e-8)
    assert nested.impute(x) == pytest.approx(flat.impute(x), abs=1e-3)
    some = x[~np.isnan(x).all(axis=1)][:20]
    drawn = nested.impute(some, n_draws=200)
    assert drawn.mean(axis=0) == pytest.approx(flat.impute(some), abs=0.5)
    assert np.isnan(some).any()
    assert (drawn.std(axis=0)[np.isnan(some)] > 0.7).all()
    chain = streamem.GMMHMM(2, 2, missing="integrate", random_state=0, tol=1.0).fit(x)
    for filled in (chain.impute(x), *chain.impute(x, n_draws=2)):
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])


def test_parts_that_cannot_impute_say_so() -> None:
    family: Any = MixtureFamily(PlainPoisson(), 2)
    params = Params(weights=np.full((1, 2), 0.5), parts=Params(rates=[[1.0], [2.0]]))
    with pytest.raises(ParameterError, match="PlainPoisson cannot impute"):
        family.filled(params, np.array([[3.0]]), np.ones((1, 1)))
