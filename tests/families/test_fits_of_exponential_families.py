"""Fits of families with transformed columns: SciPy's maxima, missing values, bounds, bad input, chains."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

import streamem
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.ports import Family, FullFamily
from streamem.estimators.loading import load_model
from streamem.families import (
    Bernoulli,
    Beta,
    Exponential,
    Gamma,
    Geometric,
    LogNormal,
    Multinomial,
    NegativeBinomial,
    Poisson,
    VonMises,
    VonMisesFisher,
    Weibull,
)
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]

DRAWN: dict[str, tuple[Family, Callable[[np.random.Generator, Array], Array]]] = {
    "Exponential": (Exponential(), lambda rng, high: rng.exponential(np.where(high, 1.0, 9.0))),
    "Gamma": (Gamma(), lambda rng, high: rng.gamma(np.where(high, 2.0, 20.0))),
    "LogNormal": (LogNormal(), lambda rng, high: np.exp(rng.normal(np.where(high, 0.0, 2.0), 0.5))),
    "Weibull": (Weibull(), lambda rng, high: rng.weibull(np.where(high, 1.5, 4.0)) * np.where(high, 1.0, 5.0)),
    "Beta": (Beta(), lambda rng, high: rng.beta(np.where(high, 2.0, 8.0), np.where(high, 8.0, 2.0))),
    "NegativeBinomial": (
        NegativeBinomial(),
        lambda rng, high: rng.negative_binomial(np.where(high, 2.0, 9.0), 0.3).astype(np.float64),
    ),
    "Geometric": (Geometric(), lambda rng, high: rng.geometric(np.where(high, 0.7, 0.1)).astype(np.float64)),
    "VonMises": (VonMises(), lambda rng, high: rng.vonmises(np.where(high, -1.0, 1.5), 4.0)),
    "Poisson": (Poisson(), lambda rng, high: rng.poisson(np.where(high, 2.0, 9.0)).astype(np.float64)),
    "Bernoulli": (Bernoulli(), lambda rng, high: (rng.random(high.shape) < np.where(high, 0.2, 0.8)) * 1.0),
    "Multinomial": (
        Multinomial(),
        lambda rng, high: rng.multinomial(9, np.where(high[:, :1], [0.2, 0.8], [0.7, 0.3])).astype(np.float64),
    ),
    "VonMisesFisher": (
        VonMisesFisher(),
        lambda rng, high: unit(rng.normal(size=high.shape) + np.where(high[:, :1], [3.0, 0.0], [0.0, 3.0])),
    ),
}
"""By name, a family and rows (n, 2) of two components."""

INTEGRATING = [name for name in DRAWN if name not in ("Multinomial", "VonMisesFisher")]


def unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def rows_of(name: str, n: int = 600, seed: int = 5) -> Array:
    rng = np.random.default_rng(seed)
    high = np.repeat(rng.random((n, 1)) < 0.4, 2, axis=1)
    return DRAWN[name][1](rng, high)


def fitted(family: Family, x: Array, k: int = 1, **settings: Any) -> streamem.Mixture:
    chosen = {"tol": 1e-13, "max_iter": 1000, "random_state": 0, **settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*did not converge")
        return streamem.Mixture(family, k, **chosen).fit(x)


# --- one component is SciPy's fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "law", "fixed", "order"),
    [
        ("Gamma", scipy_stats.gamma, {"floc": 0}, ("shapes", None, "scales")),
        ("LogNormal", scipy_stats.lognorm, {"floc": 0}, ("shapes", None, "scales")),
        ("Weibull", scipy_stats.weibull_min, {"floc": 0}, ("shapes", None, "scales")),
        ("Exponential", scipy_stats.expon, {"floc": 0}, (None, "scales")),
        ("Beta", scipy_stats.beta, {"floc": 0, "fscale": 1}, ("alphas", "betas")),
        ("VonMises", scipy_stats.vonmises, {"fscale": 1}, ("kappas", "locations")),
    ],
)
def test_one_component_is_the_fit_of_scipy(name: str, law: Any, fixed: dict[str, float], order: Any) -> None:
    x = rows_of(name)
    params = fitted(DRAWN[name][0], x).params_
    for column in range(2):
        expected = law.fit(x[:, column], **fixed)
        for leaf, value in zip(order, expected, strict=False):
            if leaf is not None:
                assert params[leaf][0, column] == pytest.approx(value, rel=2e-4)
        ours = [params[leaf][0, column] if leaf else 0 for leaf in order]
        reached = law.logpdf(x[:, column], *ours).sum()
        best = law.logpdf(x[:, column], *expected).sum()
        assert reached >= best - 1e-9 * abs(best)


@pytest.mark.parametrize("name", ["Geometric", "Poisson", "Bernoulli", "Multinomial"])
def test_one_component_of_counts_is_the_closed_form_under_scipys_law(name: str) -> None:
    x = rows_of(name)
    model, means = fitted(DRAWN[name][0], x), x.mean(axis=0)
    laws = {
        "Geometric": lambda: scipy_stats.geom.logpmf(x, 1.0 / means).sum(),
        "Poisson": lambda: scipy_stats.poisson.logpmf(x, means).sum(),
        "Bernoulli": lambda: scipy_stats.bernoulli.logpmf(x, means).sum(),
        "Multinomial": lambda: scipy_stats.multinomial.logpmf(x, 9, means / 9).sum(),
    }
    assert model.score(x) * len(x) == pytest.approx(laws[name](), rel=1e-12)


@pytest.mark.parametrize("name", ["Exponential", "Gamma", "LogNormal", "Weibull", "Geometric", "Poisson"])
def test_a_row_a_million_deviations_off(name: str) -> None:
    """A fit stays finite and climbs (it would raise else), and the row has a component, and a density if any."""
    x = np.append(rows_of(name, 200), [[1e6, 1e6]], axis=0)
    model = fitted(DRAWN[name][0], x, 2, max_iter=30)
    assert all(np.isfinite(leaf).all() for leaf in model.params_.flatten().values())
    assert np.isfinite(model.score_samples(x)).all()
    np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1.0)
    far = x[-1:] * 1e6
    assert not np.isnan(model.score_samples(far)).any()
    assert model.predict(far).shape == (1,)


def test_one_negative_binomial_has_no_slope_left() -> None:
    """At the maximum Σ ψ(x + r) − ψ(r) = n log(1 + m/r)."""
    from scipy.special import psi

    x = rows_of("NegativeBinomial")
    params = fitted(NegativeBinomial(), x, max_iter=5000).params_
    r, m = params.sizes[0], params.means[0]
    assert m == pytest.approx(x.mean(axis=0), rel=1e-12)
    assert (psi(x + r) - psi(r)).mean(axis=0) == pytest.approx(np.log1p(m / r), rel=1e-6)


def test_one_direction_is_the_fit_of_scipy() -> None:
    x = rows_of("VonMisesFisher")
    params = fitted(VonMisesFisher(), x).params_
    mu, kappa = scipy_stats.vonmises_fisher.fit(x)
    assert params.directions[0] == pytest.approx(mu, rel=1e-10)
    assert params.kappas[0] == pytest.approx(kappa, rel=1e-5)


# --- chunks, mixtures, chains ----------------------------------------------------------------------------------------


@pytest.mark.variations(1, 6)
@pytest.mark.parametrize("name", DRAWN)
def test_mixtures_and_chains_of_every_family(name: str) -> None:
    """Small chunks are the whole; monotone, or the fit would raise; chains run; sums of responsibilities are 1."""
    family, x = DRAWN[name][0], rows_of(name)
    one, many = (fitted(family, x, 2, max_iter=8, tol=0, chunk_bytes=size) for size in (2**20, 2000))
    assert many.report_.n_chunks > one.report_.n_chunks == 1
    for leaf, value in one.params_.flatten().items():
        if value.dtype == np.float64:
            assert many.params_[leaf] == pytest.approx(value, rel=1e-6), leaf
    assert (np.diff(one.lower_bounds_) > -1e-10).all()
    hmm = streamem.HMM(family, 2, random_state=0, n_iter=3, tol=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*did not converge")
        hmm.fit(x)
    assert np.isfinite(hmm.score(x))
    assert hmm.predict_proba(x).sum(axis=1) == pytest.approx(np.ones(len(x)))


# --- missing values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INTEGRATING)
def test_a_missing_value_drops_its_factor(name: str) -> None:
    """Log-densities are those of the columns that are there; complete rows give what the plain family gives."""
    family = DRAWN[name][0]
    x = rows_of(name, 90)
    params = fitted(family, x, 2, max_iter=2, tol=0).params_
    holes = np.where(np.random.default_rng(1).random(x.shape) < 0.3, np.nan, x)
    integrating: Any = family.integrating()  # type: ignore[attr-defined]
    columns = []
    for j in range(2):
        leaves = {leaf: value[:, j : j + 1] for leaf, value in params.flatten().items() if value.ndim == 2}
        columns.append(
            np.nan_to_num(family.log_prob(Params(**leaves), np.where(np.isnan(holes), x, holes)[:, j : j + 1]))
        )
    expected = sum(np.where(np.isnan(holes[:, j : j + 1]), 0.0, columns[j]) for j in range(2))
    assert integrating.log_prob(params, holes) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert integrating.log_prob(params, x) == pytest.approx(family.log_prob(params, x), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", ["Gamma", "Poisson", "Weibull"])
def test_fits_with_missing_values(name: str) -> None:
    """One component: each column alone, without its holes. A column that a component does not see keeps its numbers."""
    x = rows_of(name)
    holes = np.where(np.random.default_rng(2).random(x.shape) < 0.3, np.nan, x)
    mix = fitted(DRAWN[name][0], holes, missing="integrate")
    for column in range(2):
        seen = holes[~np.isnan(holes[:, column]), column : column + 1]
        alone = fitted(DRAWN[name][0], seen).params_
        for leaf, value in alone.flatten().items():
            if value.ndim == 2:
                assert mix.params_[leaf][0, column] == pytest.approx(value[0, 0], rel=1e-5)


@pytest.mark.parametrize("family", [Multinomial(), VonMisesFisher()], ids=["Multinomial", "VonMisesFisher"])
def test_families_of_whole_rows_say_why_they_do_not_integrate(family: FullFamily) -> None:
    with pytest.raises(ParameterError, match=f"{type(family).__name__} knows no missing values, because"):
        family.integrating()


# --- bounds and far values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Gamma", "LogNormal", "Beta", "VonMises", "VonMisesFisher", "Exponential"])
def test_equal_values_end_at_a_bound_and_are_told(name: str) -> None:
    family: Any = DRAWN[name][0]
    value = {"VonMisesFisher": np.array([[0.6, 0.8]]), "Exponential": np.zeros((1, 2))}.get(name, np.full((1, 2), 0.3))
    other = rows_of(name, 50)
    x = np.vstack([np.repeat(value, 50, axis=0), other])
    resp = np.repeat(np.eye(2), 50, axis=0)
    params = family.maximize(family.stats(None, x, resp), None)
    for _ in range(3):
        params = family.maximize(family.stats(params, x, resp), params)
    assert family.degenerate(params) == {"empty": [], "floored": [0]}
    assert np.isfinite(family.log_prob(params, x)).all()
    assert family.faults(params, 2, 2) == []


def test_counts_of_zero_and_of_a_thousand_million() -> None:
    x = np.array([[0.0], [1e9], [3.0], [0.0], [1e9 + 7]])
    params = Params(sizes=[[2.0], [1e5]], means=[[5.0], [1e9]])
    p = params.sizes / (params.sizes + params.means)
    expected = scipy_stats.nbinom.logpmf(x[:, None, :], params.sizes, p).sum(axis=2)
    assert NegativeBinomial().log_prob(params, x) == pytest.approx(expected, rel=1e-6)
    mix = fitted(NegativeBinomial(), np.repeat(x, 20, axis=0), 2, max_iter=20, tol=0)
    assert np.isfinite(mix.lower_bound_)


def test_concentrations_up_to_a_million() -> None:
    rng = np.random.default_rng(0)
    angles = rng.vonmises(1.0, 1e6, (4000, 1))
    assert fitted(VonMises(), angles).params_.kappas[0, 0] == pytest.approx(1e6, rel=0.1)
    unit_vectors = unit(np.array([[0.0, 0.6, 0.8]]) + 1e-3 * rng.normal(size=(4000, 3)))
    assert fitted(VonMisesFisher(), unit_vectors).params_.kappas[0] == pytest.approx(1e6, rel=0.1)


@pytest.mark.parametrize("d", [2, 3, 30, 1000])
def test_lengths_and_bessel_functions(d: int) -> None:
    """Beside SciPy's, where these do not vanish; the concentration is the inverse of the length."""
    from scipy.special import ive

    from streamem.families.resultants import concentration, log_bessel, mean_length

    kappa = np.array([0.3, 4.0, 60.0, 3000.0])
    nu = d / 2 - 1
    known = ive(nu, kappa)
    told = known > 1e-290
    assert log_bessel(kappa, nu)[told] == pytest.approx(np.log(known[told]), rel=1e-10, abs=1e-10)
    assert mean_length(kappa, d)[told] == pytest.approx(ive(nu + 1, kappa)[told] / known[told], rel=1e-11)
    assert concentration(mean_length(kappa, d), d) == pytest.approx(kappa, rel=1e-9)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Exponential", -1.0, "exponential values are numbers >= 0"),
        ("Gamma", 0.0, "gamma values are numbers > 0"),
        ("LogNormal", 0.0, "log-normal values are numbers > 0"),
        ("Weibull", -2.0, "Weibull values are numbers > 0"),
        ("Beta", 1.0, "beta values lie between 0 and 1"),
        ("Beta", 0.0, "beta values lie between 0 and 1"),
        ("NegativeBinomial", 0.5, "negative binomial counts are integers"),
        ("NegativeBinomial", -1.0, "negative binomial counts are integers"),
        ("Geometric", 0.0, "geometric values count trials"),
        ("Multinomial", 0.5, "multinomial counts are integers"),
    ],
)
def test_impossible_values_are_named(name: str, value: float, words: str) -> None:
    """By row and column, in a pass over data as in the sample for a start."""
    x = rows_of(name, 300)
    mix = fitted(DRAWN[name][0], x, 2, max_iter=2, tol=0)
    x[211, 1] = value
    table = pa.table({"a": x[:, 0], "b": x[:, 1]})
    with pytest.raises(ImpossibleValueError, match=rf"column 1 'b' of row 211 holds {value:g}; {words}"):
        mix.predict(table)
    with pytest.raises(ImpossibleValueError, match=rf"column 1 'b' of row 211 holds {value:g}; {words}"):
        mix.fit(table)


def test_a_vector_of_another_length_is_named() -> None:
    x = rows_of("VonMisesFisher", 300)
    mix = streamem.VonMisesFisherMixture(2, random_state=0).fit(x)
    x[7] = [3.0, 4.0]
    with pytest.raises(ImpossibleValueError, match=r"row 7 holds 4; von Mises–Fisher rows .* this one has 5: divide"):
        mix.predict(x)


def test_streams_put_zeros_aside(tmp_path: Path) -> None:
    batches = [rows_of("Gamma", 50, seed) for seed in range(6)]
    batches[4][7, 1] = 0.0
    mix = streamem.GammaMixture(2, random_state=0)
    mix.fit_stream(iter(batches), batch_rows=50, dead_letter=tmp_path / "bad.arrows")
    assert pa.ipc.open_stream(tmp_path / "bad.arrows").read_all().num_rows == 1


# --- faces -----------------------------------------------------------------------------------------------------------

FACES: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "Poisson": (streamem.PoissonMixture, ("rates",)),
    "Bernoulli": (streamem.BernoulliMixture, ("probabilities",)),
    "Gamma": (streamem.GammaMixture, ("shapes", "scales")),
    "NegativeBinomial": (streamem.NegativeBinomialMixture, ("sizes", "means")),
    "Multinomial": (streamem.MultinomialMixture, ("probabilities",)),
    "VonMisesFisher": (streamem.VonMisesFisherMixture, ("directions", "kappas")),
}


@pytest.mark.parametrize("name", FACES)
def test_a_face_is_the_mixture_under_its_names(name: str, tmp_path: Path) -> None:
    kind, leaves = FACES[name]
    x = rows_of(name)
    settings: dict[str, Any] = {"random_state": 0, "init_params": "kmeans", "max_iter": 5, "tol": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*did not converge")
        face, plain = kind(2, **settings).fit(x), streamem.Mixture(DRAWN[name][0], 2, **settings).fit(x)
    for leaf in leaves:
        assert np.array_equal(getattr(face, f"{leaf}_"), plain.params_[leaf])
    assert face.lower_bound_ == plain.lower_bound_
    face.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    assert type(loaded) is kind
    before = face.predict_proba(x)
    assert np.array_equal(loaded.predict_proba(x), before)
    setattr(face, f"{leaves[0]}_", getattr(face, f"{leaves[0]}_")[::-1].copy())
    assert not np.allclose(face.predict_proba(x), before)
    setattr(face, f"{leaves[0]}_", np.full((2, 2), np.nan))
    with pytest.raises(ParameterError, match=f"{leaves[0]}_ has shape .*; finite numbers"):
        face.predict(x)


def test_trial_shapes_never_lower_the_likelihood() -> None:
    """Weibull from a bad start, at fixed responsibilities of a mixture: monotone, and to SciPy's maximum."""
    x = rows_of("Weibull")
    model = Mixture(Weibull(), 2, STARTS["random"])
    params = Params(
        weights=np.array([0.5, 0.5]),
        components=Params(shapes=[[0.2, 9.0], [8.0, 0.3]], scales=[[9.0, 0.1], [0.2, 4.0]]),
    )
    found = []
    for _ in range(60):
        stats = model.e_step(params, Chunk(x))
        found.append(float(stats.log_likelihood))
        params = model.m_step(stats, params)
    assert (np.diff(found) > -1e-9).all()
    assert found[-1] > found[0] + 100.0
