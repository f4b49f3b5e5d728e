"""Standard errors: printed values, closed forms, and second derivatives of log-likelihoods written down in NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, poisson
from scipy.stats import t as student
from test_house import ESTIMATORS, response, rows, unfitted

from helpers.curvature import errors, gradient
from streamem import (
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    LatentClass,
    Mixture,
    Params,
    PoissonHMM,
    Stats,
    StudentTMixture,
)
from streamem.core.errors import MemoryLimitError, ParameterError
from streamem.estimators.uncertainty import UncertaintyWarning
from streamem.families import Fixed, Gaussian, Poisson, Product, Tied

Array = NDArray[Any]

DAYS = np.array([162.0, 267, 271, 185, 111, 61, 27, 8, 3, 1])
"""Days with 0 … 9 deaths of women over 80 in The Times, 1910-12 (Hasselblad 1969)."""
DEATHS = np.arange(10.0)[:, None]
CLOSE = 1e-6
"""Relative; the oracle's differences round more than that only where a model is hardly identified."""


def close(found: Any, wanted: Any, rtol: float = CLOSE) -> None:
    np.testing.assert_allclose(found, wanted, rtol=rtol)


# --- printed values and closed forms ---------------------------------------------------------------------------------


def times_at_maximum() -> Mixture:
    model = Mixture("poisson", 2, random_state=0, max_iter=2).fit(DEATHS, sample_weight=DAYS)
    model.weights_ = np.array([0.359885397, 0.640114603])
    model.params_ = model.params_.replace(rates=np.array([[1.256095101], [2.663404357]]))
    return model


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_times_deaths() -> None:
    """π and λ of two Poissons: the Hessian in 40 digits, which mpmath gives, and weights instead of rows.

    turboEM prints .1948226, .3502560 and .2506522, by differences of the EM map in double precision.
    """
    found = times_at_maximum().standard_errors(DEATHS, sample_weight=DAYS)
    close(found.weights_, [0.1946842987] * 2)
    close(found["params_"].rates.ravel(), [0.3500297114, 0.2504782703])
    close([found.weights_[0], *found.params_.rates.ravel()], [0.1948226, 0.3502560, 0.2506522], 1e-3)
    close(found.covariance, found.covariance.T)
    assert found.free_parameters == ("rates[0, 0]", "rates[1, 0]", "weights[1]") or len(found.free_parameters) == 3
    rows = times_at_maximum().standard_errors(np.repeat(DEATHS, DAYS.astype(int), axis=0))
    close(rows.weights_, found.weights_, 1e-9)
    assert found.passes == rows.passes == 1


class Linkage:
    """Cells 1/2 + θ/4, (1 − θ)/4, (1 − θ)/4, θ/4 of a table, the first of which is the sum of two (Rao 1973, §5g)."""

    def log_prob(self, p: Any, x: Array) -> Array:
        theta = p.theta[:, 0]
        cells = np.array([0.5 + theta / 4, (1 - theta) / 4, (1 - theta) / 4, theta / 4])
        return np.log(cells[x[:, 0].astype(int)])

    def stats(self, p: Any, x: Array, resp: Array) -> Stats:
        theta = 0.5 if p is None else p.theta[0, 0]
        linked = np.array([theta / (2 + theta), 0.0, 0.0, 1.0])[x[:, 0].astype(int)]
        split = np.array([0.0, 1.0, 1.0, 0.0])[x[:, 0].astype(int)]
        return Stats(weight=resp.sum(0), linked=resp.T @ linked, split=resp.T @ split)

    def maximize(self, s: Any, previous: Any) -> Params:
        return Params(theta=(s.linked / (s.linked + s.split))[:, None])


def test_rao_linkage_a_users_own_family() -> None:
    """A family of three functions, which cannot draw: a sample is read before the pass."""
    cells, counts = np.arange(4.0)[:, None], np.array([125.0, 18, 20, 34])
    model = Mixture(Linkage(), 1, tol=1e-14, max_iter=200, random_state=0).fit(cells, sample_weight=counts)
    assert model.params_.theta[0, 0] == pytest.approx(0.6268214979, abs=1e-8)
    found = model.standard_errors(cells, sample_weight=counts)
    close(found.params_.theta[0, 0], 0.0514673, 1e-6)
    assert found.passes == 2


def test_one_gaussian() -> None:
    """σ/√n for a mean, √((σ_ii σ_jj + σ_ij²)/n) for a covariance; far from the origin as well."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]]) + [1e5, -3.0]
    model = GaussianMixture(1, reg_covar=0.0).fit(x)
    found, s = model.standard_errors(x), model.covariances_[0]
    close(found.means_[0], np.sqrt(np.diag(s) / 200))
    close(found.covariances_[0], np.sqrt((np.outer(np.diag(s), np.diag(s)) + s**2) / 200))
    assert (found.weights_ == 0).all()


def test_sandwich_and_products_of_one_poisson() -> None:
    """With counts that are no Poisson: Σ s² = Σ (x/λ − 1)², and √(variance/n) whatever the distribution."""
    x = np.random.default_rng(0).negative_binomial(2, 0.4, 300).astype(float)[:, None]
    model = Mixture("poisson", 1, random_state=0).fit(x)
    rate = float(x.mean())
    close(model.standard_errors(x).params_.rates, np.sqrt(rate / 300))
    products = model.standard_errors(x, method="opg").params_.rates
    close(products, 1 / np.sqrt(((x / rate - 1) ** 2).sum()))
    close(model.standard_errors(x, method="sandwich").params_.rates, np.sqrt(x.var() / 300))


# --- second derivatives of log-likelihoods ---------------------------------------------------------------------------


def two_clusters(n: int = 250, missing: bool = False) -> Array:
    rng = np.random.default_rng(0)
    first = rng.random(n) < 0.4
    x = np.where(first[:, None], rng.normal([0, 0], [1, 1.5], (n, 2)), rng.normal([2.5, 1], [0.8, 1], (n, 2)))
    if missing:
        x[rng.random((n, 2)) < 0.15] = np.nan
    return x


def log_normal_density(x: Array, mean: Array, covariance: Array) -> Array:
    """(n,) of the values of each row that were observed."""
    seen, out = ~np.isnan(x), np.zeros(len(x))
    for pattern in np.unique(seen, axis=0):
        if pattern.any():
            rows, own = (seen == pattern).all(axis=1), covariance[np.ix_(pattern, pattern)]
            z = x[rows][:, pattern] - mean[pattern]
            squares = np.einsum("ni,ij,nj->n", z, np.linalg.inv(own), z)
            out[rows] = -0.5 * (np.linalg.slogdet(2 * np.pi * own)[1] + squares)
    return out


def lower(covariance: Array) -> list[float]:
    return [covariance[0, 0], covariance[1, 0], covariance[1, 1]]


COVARIANCES: dict[str, tuple[Callable[[Array], Any], Callable[[Array], list[Array]]]] = {
    "full": (
        lambda c: [*lower(c[0]), *lower(c[1])],
        lambda r: [np.array([[a, b], [b, c]]) for a, b, c in (r[:3], r[3:])],
    ),
    "tied": (lower, lambda r: [np.array([[r[0], r[1]], [r[1], r[2]]])] * 2),
    "diag": (np.ravel, lambda r: [np.diag(r[:2]), np.diag(r[2:])]),
    "spherical": (np.ravel, lambda r: [np.eye(2) * r[0], np.eye(2) * r[1]]),
}


@pytest.mark.parametrize("missing", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["complete", "missing"])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_gaussian_mixture(kind: str, missing: bool) -> None:
    x, (numbers, matrices) = two_clusters(missing=missing), COVARIANCES[kind]
    options = {"missing": "integrate"} if missing else {}
    model = GaussianMixture(2, covariance_type=kind, reg_covar=0, tol=1e-11, max_iter=3000, random_state=0, **options)
    model.fit(x)

    def log_likelihood(t: Array) -> float:
        (w, means), own = (t[0], t[1:5].reshape(2, 2)), matrices(t[5:])
        both = [log_normal_density(x, means[k], own[k]) for k in range(2)]
        return float(np.logaddexp(np.log(w) + both[0], np.log(1 - w) + both[1]).sum())

    found = model.standard_errors(x)
    at = np.array([model.weights_[0], *model.means_.ravel(), *numbers(model.covariances_)])
    mine = [found.weights_[0], *found.means_.ravel(), *numbers(found.covariances_)]
    close(mine, errors(log_likelihood, at))
    assert found.log_likelihood == pytest.approx(log_likelihood(at), rel=1e-12)
    assert len(found.free_parameters) == model._n_parameters()


def sequences(n: int, of: int = 30) -> tuple[Array, Array]:
    """Steps of a chain of two states, with a few that were not observed, and the lengths of the sequences."""
    rng = np.random.default_rng(1)
    states = np.zeros(n * of, dtype=int)
    for i in range(n * of):
        states[i] = rng.random() < 0.4 if i % of == 0 else states[i - 1] ^ (rng.random() < 0.15)
    x = rng.normal(np.where(states, 2.0, 0.0), np.where(states, 1.0, 0.7))[:, None]
    x[rng.random(n * of) < 0.05] = np.nan
    return x, np.full(n, of)


def forward(log_prob: Array, start: Array, moves: Array, lengths: Array) -> Array:
    """(s,) log-likelihoods of sequences of one length."""
    b = log_prob.reshape(len(lengths), -1, log_prob.shape[1])
    alpha = np.log(start) + b[:, 0]
    for t in range(1, b.shape[1]):
        alpha = np.logaddexp.reduce(alpha[:, :, None] + np.log(moves), axis=1) + b[:, t]
    return np.asarray(np.logaddexp.reduce(alpha, axis=1))


def chain(t: Array) -> tuple[Array, Array]:
    return np.array([t[0], 1 - t[0]]), np.array([[1 - t[1], t[1]], [t[2], 1 - t[2]]])


def chain_numbers(of: Any) -> list[float]:
    return [of.startprob_[0], of.transmat_[0, 1], of.transmat_[1, 0]]


def gaussian_chain(x: Array, lengths: Array) -> Callable[[Array], Array]:
    def log_likelihoods(t: Array) -> Array:
        density = norm.logpdf(x, t[3:5], np.sqrt(t[5:7]))
        return forward(np.where(np.isnan(x), 0.0, density), *chain(t), lengths)

    return log_likelihoods


def fitted_chain(x: Array, lengths: Array, **options: Any) -> GaussianHMM:
    return GaussianHMM(2, covariance_type="diag", tol=1e-10, n_iter=2000, random_state=0, **options).fit(x, lengths)


def test_gaussian_hmm() -> None:
    """By observed information, and by products of the scores of sequences."""
    x, lengths = sequences(14)
    model, of = fitted_chain(x, lengths), gaussian_chain(x, lengths)
    at = np.array([*chain_numbers(model), *model.means_.ravel(), *model.covars_.ravel()])
    numbers = lambda e: [*chain_numbers(e), *e.means_.ravel(), *e.covars_.ravel()]  # noqa: E731
    found = model.standard_errors(x, lengths)
    close(numbers(found), errors(lambda t: float(of(t).sum()), at))
    scores = np.array([gradient(lambda t, s=s: float(of(t)[s]), at) for s in range(len(lengths))])
    products = np.sqrt(np.diag(np.linalg.inv(scores.T @ scores)))
    close(numbers(model.standard_errors(x, lengths, method="opg")), products)
    assert found.passes == 1
    assert found.n_units == len(lengths)


def test_weighted_sequences_are_sequences_repeated() -> None:
    x, lengths = sequences(10)
    weight = np.arange(10) % 3 + 1.0
    model = fitted_chain(
        x,
        lengths,
    )
    weighed = model.fit(x, lengths, sample_weight=weight)
    again = np.concatenate([np.repeat(x.reshape(10, 30, 1)[[s]], int(w), axis=0).ravel() for s, w in enumerate(weight)])
    for method in ("observed", "sandwich"):
        one = weighed.standard_errors(x, lengths, sample_weight=weight, method=method)
        other = weighed.standard_errors(again[:, None], np.full(int(weight.sum()), 30), method=method)
        for name in ("transmat_", "means_", "covars_"):
            close(one[name], other[name], 1e-8)


@pytest.mark.filterwarnings("ignore::streamem.estimators.uncertainty.UncertaintyWarning")
def test_sequences_that_chunks_cut() -> None:
    """The answers of uncut ones; a read more for what lies beyond a chunk, and two for each free parameter."""
    x, _ = sequences(8)
    lengths = [100, 80, 60]
    whole = fitted_chain(x, lengths)
    cut = GaussianHMM(2, covariance_type="diag", chunk_bytes=400)
    cut.startprob_, cut.transmat_, cut.means_, cut.covars_ = (
        whole.startprob_,
        whole.transmat_,
        whole.means_,
        whole.covars_,
    )
    one, other = whole.standard_errors(x, lengths), cut.standard_errors(x, lengths)
    for name in ("transmat_", "means_", "covars_"):
        close(other[name], one[name], 1e-7)
    assert (one.passes, other.passes) == (1, 2 + 2 * len(one.free_parameters))


def test_groups() -> None:
    """Rows of one group share a component; groups that chunks cut, and their scores, too."""
    rng = np.random.default_rng(0)
    lengths, first = np.append(rng.integers(1, 4, 58), [15, 20]), rng.random(60) < 0.4
    x = rng.poisson(np.where(np.repeat(first, lengths), 4.0, 1.5)).astype(float)[:, None]
    model = GroupedMixture("poisson", 2, tol=1e-11, max_iter=3000, random_state=0).fit(x, lengths)
    begin = np.concatenate([[0], np.cumsum(lengths)])[:-1]

    def log_likelihoods(t: Array) -> Array:
        both = np.add.reduceat(poisson.logpmf(x, t[1:]), begin, axis=0)
        return np.asarray(np.logaddexp(np.log(t[0]) + both[:, 0], np.log(1 - t[0]) + both[:, 1]))

    at = np.array([model.weights_[0], *model.params_.rates.ravel()])
    numbers = lambda e: [e.weights_[0], *e.params_.rates.ravel()]  # noqa: E731
    close(numbers(model.standard_errors(x, lengths)), errors(lambda t: float(log_likelihoods(t).sum()), at))
    scores = np.array([gradient(lambda t, g=g: float(log_likelihoods(t)[g]), at) for g in range(60)])
    products = np.sqrt(np.diag(np.linalg.inv(scores.T @ scores)))
    close(numbers(model.standard_errors(x, lengths, method="opg")), products)
    small = GroupedMixture("poisson", 2, chunk_bytes=64)
    small.weights_, small.params_ = model.weights_, model.params_
    close(numbers(small.standard_errors(x, lengths, method="opg")), products)


def answers(n: int = 400) -> Array:
    rng = np.random.default_rng(3)
    yes = np.array([[0.9, 0.8, 0.85, 0.7], [0.2, 0.3, 0.25, 0.2]])[rng.integers(0, 2, n)]
    x = np.column_stack([(rng.random((n, 4)) < yes).astype(float), rng.integers(0, 3, n)])
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def test_latent_classes_with_missing_answers() -> None:
    x = answers()
    model = LatentClass(2, missing="integrate", tol=1e-11, max_iter=3000, random_state=0, n_init=1).fit(x)

    def log_likelihood(t: Array) -> float:
        total = np.zeros((len(x), 2))
        for k, q in enumerate(t[1:].reshape(2, 6)):
            tables = [np.array([1 - p, p]) for p in q[:4]] + [np.array([1 - q[4] - q[5], *q[4:]])]
            for j, table in enumerate(tables):
                seen = ~np.isnan(x[:, j])
                total[seen, k] += np.log(table[x[seen, j].astype(int)])
        return float(np.logaddexp(np.log(t[0]) + total[:, 0], np.log(1 - t[0]) + total[:, 1]).sum())

    free = [1, 3, 5, 7, 9, 10]
    at = np.array([model.weights_[0], *model.probabilities_[:, free].ravel()])
    found = model.standard_errors(x)
    close([found.weights_[0], *found.probabilities_[:, free].ravel()], errors(log_likelihood, at, 0.005))
    close(found.probabilities_[:, 0], found.probabilities_[:, 1])


def test_student_t_with_estimated_degrees_of_freedom() -> None:
    x = np.random.default_rng(1).standard_t(4, 300)[:, None]
    model = StudentTMixture(1, tol=1e-12, max_iter=2000, random_state=0).fit(x)
    found = model.standard_errors(x)
    at = np.array([model.means_[0, 0], model.scales_[0, 0, 0], model.dofs_[0]])
    wanted = errors(lambda t: float(student.logpdf(x, t[2], t[0], np.sqrt(t[1])).sum()), at, 0.04)
    close([found.means_[0, 0], found.scales_[0, 0, 0], found.dofs_[0]], wanted, 1e-5)


def test_mixed_columns_with_what_is_fixed_and_what_is_tied() -> None:
    """A product of a Gaussian and a Poisson; then rates that are given, and variances that are shared."""
    rng = np.random.default_rng(0)
    busy = rng.random(300) < 0.5
    x = np.column_stack([rng.normal(np.where(busy, 3.0, 0.0)), rng.poisson(np.where(busy, 6.0, 2.0))])
    options: dict[str, Any] = {"tol": 1e-11, "max_iter": 3000, "random_state": 0}
    model = Mixture(Product({0: Gaussian(), 1: Poisson()}), 2, **options).fit(x)

    def log_likelihood(t: Array) -> float:
        own = norm.logpdf(x[:, :1], t[1:3], np.sqrt(t[3:5])) + poisson.logpmf(x[:, 1:], t[5:7])
        return float(np.logaddexp(np.log(t[0]) + own[:, 0], np.log(1 - t[0]) + own[:, 1]).sum())

    def numbers(weights: Array, params: Any) -> Array:
        return np.concatenate(
            [weights[:1], *(np.ravel(p) for p in (params.x0.means, params.x0.covariances)), params.x1.rates.ravel()]
        )

    found = model.standard_errors(x)
    at = numbers(model.weights_, found.estimates["params_"])
    wanted = errors(log_likelihood, at)
    close(numbers(found.weights_, found.params_), wanted)

    fixed = Mixture(Product({0: Gaussian(), 1: Fixed(Poisson(), {"rates": model.params_.x1.rates})}), 2, **options).fit(
        x
    )
    fewer = fixed.standard_errors(x)
    assert "x1" not in fewer.params_
    assert len(fewer.free_parameters) == len(found.free_parameters) - 2
    assert (fewer.params_.x0.means < found.params_.x0.means).all()

    tied = Mixture(Product({0: Tied(Gaussian(), ["covariances"]), 1: Poisson()}), 2, **options).fit(x)
    shared = tied.standard_errors(x)
    assert shared.params_.x0.covariances.shape == (1, 1)
    both = lambda t: log_likelihood(np.concatenate([t[:3], [t[3]], t[3:]]))  # noqa: E731
    wanted = errors(both, numbers(tied.weights_, shared.estimates["params_"]))
    close(numbers(shared.weights_, shared.params_), wanted)


def test_noise() -> None:
    """Its weight is a free parameter beside those of the components."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.3, 150), rng.normal(3, 0.3, 150), rng.uniform(-5, 8, 60)])[:, None]
    model = GaussianMixture(2, noise=True, reg_covar=0, tol=1e-11, max_iter=3000, random_state=0).fit(x)
    length = float(np.ptp(model.noise_box_))

    def log_likelihood(t: Array) -> float:
        own = t[:2] * norm.pdf(x, t[2:4], np.sqrt(t[4:6]))
        return float(np.log(own.sum(axis=1) + (1 - t[0] - t[1]) / length).sum())

    found = model.standard_errors(x)
    at = np.concatenate([model.weights_, model.means_.ravel(), model.covariances_.ravel()])
    wanted = errors(log_likelihood, at)
    close(np.concatenate([found.weights_, found.means_.ravel(), found.covariances_.ravel()]), wanted)
    assert isinstance(found.noise_weight_, float)
    assert found.noise_weight_ > 0


# --- the plan and the engine -----------------------------------------------------------------------------------------


def test_chunks_threads_and_float32_change_nothing() -> None:
    x = two_clusters()
    model = GaussianMixture(2, tol=1e-8, max_iter=500, random_state=0).fit(x)
    one = model.set_params(n_threads=1).standard_errors(x, method="sandwich")
    two = model.set_params(n_threads=2).standard_errors(x, method="sandwich")
    assert two.covariance.tobytes() == one.covariance.tobytes()
    small = model.set_params(chunk_bytes=1024).standard_errors(x, method="sandwich")
    close(small.covariance, one.covariance, 1e-7)
    close(model.standard_errors(x.astype(np.float32)).means_, model.standard_errors(x).means_, 1e-4)


def test_a_cluster_gives_the_same_bits(client: Any) -> None:
    x, lengths = sequences(12)
    rows = GaussianMixture(2, tol=1e-8, max_iter=500, random_state=0, chunk_bytes=1024).fit(two_clusters())
    chain = fitted_chain(x, lengths, chunk_bytes=800)
    for model, data in ((rows, (two_clusters(),)), (chain, (x, lengths))):
        here = model.standard_errors(*data, executor="threads", method="sandwich")
        there = model.standard_errors(*data, executor=client, method="sandwich")
        assert there.covariance.tobytes() == here.covariance.tobytes()


# --- what stands in the way ------------------------------------------------------------------------------------------


def test_a_category_at_zero_is_named() -> None:
    """A class that never gives an answer: no error there, and those of the others hold given that."""
    rng = np.random.default_rng(0)
    first = rng.random(300) < 0.5
    x = (rng.random((300, 3)) < np.where(first[:, None], [0.8, 0.7, 0.9], [0.3, 0.2, 0.1])).astype(float)
    x = np.column_stack([x, np.where(first, 0, rng.integers(0, 2, 300))])
    model = LatentClass(2, tol=1e-11, max_iter=4000, random_state=0, n_init=1).fit(x)
    model.probabilities_ = np.where(model.probabilities_ < 1e-3, 1e-12, model.probabilities_)
    with pytest.warns(UncertaintyWarning, match=r"at 0, the boundary.*probabilities\["):
        found = model.standard_errors(x)
    lost = np.isnan(found.probabilities_)
    assert 2 <= lost.sum() < lost.size
    assert (found.probabilities_[~lost] > 0).all()
    assert found.problems


def test_twin_components_are_named() -> None:
    x = np.random.default_rng(0).normal(size=(200, 1))
    model = GaussianMixture(2, reg_covar=0, random_state=0).fit(x)
    model.weights_, model.means_ = np.array([0.5, 0.5]), np.full((2, 1), x.mean())
    model.precisions_cholesky_ = np.full((2, 1, 1), 1 / x.std())
    with pytest.warns(UncertaintyWarning, match="singular: the data do not tell .*means"):
        found = model.standard_errors(x)
    assert np.isnan(found.weights_).all()


def test_parameters_that_are_no_maximum_are_named() -> None:
    x = two_clusters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(2, max_iter=2, random_state=0).fit(x)
    with pytest.warns(UncertaintyWarning, match="maximum elsewhere, up to .* standard errors away in means"):
        model.standard_errors(x)


@pytest.mark.filterwarnings("ignore::streamem.estimators.uncertainty.UncertaintyWarning")
def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = two_clusters()
    model = GaussianMixture(2, random_state=0).fit(x)
    with pytest.raises(ParameterError, match="method is 'hessian'; it must be one of"):
        model.standard_errors(x, method="hessian")
    with pytest.raises(ParameterError, match="at least as many rows .* 5 for 11 parameters"):
        model.standard_errors(x[:5], method="opg")
    with pytest.raises(ParameterError, match="lengths and offsets are those of sequences"):
        model.standard_errors(x, [100, 150])
    monkeypatch.setattr("streamem.running.uncertainty.information.MOST_PARAMETERS", 10)
    with pytest.raises(MemoryLimitError, match=r"up to 12 free parameters: 8 matrices of 12 × 12 numbers take 9"):
        model.standard_errors(x)


QUICK_ONES = {
    "GaussianMixture",
    "GaussianHMM",
    "GroupedMixture",
    "GammaMixture",
    "VonMisesFisherMixture",
    "RecordLinkage",
}
EVERY = [pytest.param(name, marks=() if name in QUICK_ONES else pytest.mark.slow, id=name) for name in ESTIMATORS]


@pytest.mark.parametrize("name", EVERY)
def test_every_estimator_has_errors_of_the_shapes_of_its_attributes(name: str) -> None:
    """NaN only where something was named; what is left out of a collapsed component is NaN, not 0."""
    model, data = unfitted(ESTIMATORS[name]), rows(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit(data, **response(name)).standard_errors(data, **response(name))
    for attribute in found:
        if not isinstance(found[attribute], Params):
            assert np.shape(found[attribute]) == np.shape(getattr(model, attribute))
    own = [value.flatten() if isinstance(value, Params) else {"": value} for value in found.values()]
    numbers = np.concatenate([np.ravel(value) for arrays in own for value in arrays.values()])
    assert not np.isnan(numbers).any() or found.problems
    assert found.covariance.shape == (len(found.free_parameters),) * 2
    assert np.isfinite(found.covariance).all()
    if name == "NegativeBinomialMixture":  # of counts that vary less than Poisson counts
        assert np.isnan(found.sizes_).any()
        assert np.isfinite(found.weights_).all()


# --- the table -------------------------------------------------------------------------------------------------------


def test_summary() -> None:
    x, lengths = sequences(14)
    counts = np.nan_to_num(np.abs(x) * 3).round()
    model = PoissonHMM(2, tol=1e-9, n_iter=500, random_state=0).fit(counts, lengths)
    errors = model.standard_errors(counts, lengths)
    summary = model.summary(counts, lengths)
    table = summary.table.to_pylist()
    names = [row["parameter"] for row in table]
    assert names[0] == "startprob_[0]"
    assert "lambdas_[1, 0]" in names
    row = table[names.index("lambdas_[1, 0]")]
    assert row["estimate"] == model.lambdas_[1, 0]
    assert row["standard_error"] == errors.lambdas_[1, 0]
    assert row["upper"] - row["lower"] == pytest.approx(2 * 1.959964 * errors.lambdas_[1, 0], rel=1e-6)
    assert row["z"] == pytest.approx(model.lambdas_[1, 0] / errors.lambdas_[1, 0])
    text = str(summary)
    assert "PoissonHMM: 2 states" in text
    assert "lambdas_[1, 0]" in text
    assert f"log-likelihood {errors.log_likelihood:.10g} nats" in text
