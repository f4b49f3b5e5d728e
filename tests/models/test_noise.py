"""Noise beside components: the laws, EM written out, labels and probabilities, files, what has no volume."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, multivariate_t

from streamem import (
    HMM,
    Categorical,
    Gaussian,
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    LatentClass,
    Mixture,
    MixtureProportions,
    MultinomialMixture,
    Params,
    Poisson,
    PoissonMixture,
    Product,
    RecordLinkage,
    StudentTMixture,
    VonMisesFisherMixture,
    families,
)
from streamem.conformance import ModelSuite
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.initialization import STARTS
from streamem.models import MixtureWithNoise

Array = NDArray[Any]


class TestMixtureWithNoise(ModelSuite):
    shared = frozenset({"components.center", "components.scale", "box", "noise_weight"})

    def make_model(self) -> MixtureWithNoise:
        return MixtureWithNoise(Gaussian("diag"), 2, STARTS["kmeans"], np.array([[-20.0, -20.0], [20.0, 20.0]]))

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        x = 4 * rng.normal(size=(2, 2))[rng.integers(2, size=n)] + rng.normal(size=(n, 2))
        x[rng.random(n) < 0.1] = rng.uniform(-20, 20, 2)
        return Chunk(np.clip(x, -20, 20))


def spoiled(n: int = 1000) -> Array:
    """Two clusters at 0 and 8, and a tenth of rows anywhere within 30; no two values are equal."""
    rng = np.random.default_rng(0)
    clusters = np.repeat([0.0, 8.0], [n, n // 2])[:, None] + rng.normal(size=(n + n // 2, 2))
    return np.vstack([clusters, rng.uniform(-30, 30, (n // 6, 2))])


START: dict[str, Any] = {
    "weights_init": [0.6, 0.4],
    "means_init": [[0.0, 0.0], [8.0, 8.0]],
    "precisions_init": np.repeat(np.eye(2)[None], 2, axis=0),
}


def test_iterations_are_those_of_em_written_out() -> None:
    """Three components, one of which is constant: log-likelihoods and parameters of ten iterations."""
    x = spoiled()
    weights, noise = 0.95 * np.array([0.6, 0.4]), 0.05
    means, covariances = np.array([[0.0, 0.0], [8.0, 8.0]]), np.repeat(np.eye(2)[None], 2, axis=0)
    volume, trace = np.prod(x.max(axis=0) - x.min(axis=0)), []
    for _ in range(11):
        own = [w * multivariate_normal(m, c).pdf(x) for w, m, c in zip(weights, means, covariances, strict=True)]
        joint = np.column_stack([*own, np.full(len(x), noise / volume)])
        trace.append(np.log(joint.sum(axis=1)).mean())
        resp = joint / joint.sum(axis=1, keepdims=True)
        before = weights, noise, means
        total = resp.sum(axis=0)
        weights, noise, means = total[:2] / len(x), total[2] / len(x), (resp[:, :2].T @ x) / total[:2, None]
        covariances = np.stack(
            [(resp[:, k, None] * (x - means[k])).T @ (x - means[k]) / total[k] + 1e-6 * np.eye(2) for k in range(2)]
        )
    with pytest.warns(match="did not converge"):
        mix = GaussianMixture(2, noise=True, tol=0, max_iter=10, **START).fit(x)
    assert mix.lower_bounds_ == pytest.approx(trace[1:], rel=1e-10)
    assert mix.weights_ == pytest.approx(before[0], rel=1e-8)
    assert mix.noise_weight_ == pytest.approx(before[1], rel=1e-8)
    assert mix.means_ == pytest.approx(before[2], rel=1e-8, abs=1e-9)


def test_what_a_fit_says_of_noise(tmp_path: Path) -> None:
    x = spoiled()
    mix = GaussianMixture(2, noise=True, tol=1e-6, **START).fit(x)
    assert mix.weights_.sum() + mix.noise_weight_ == pytest.approx(1.0)
    assert mix.noise_weight_ == pytest.approx(0.1, abs=0.02)
    assert np.array_equal(mix.noise_box_, [x.min(axis=0), x.max(axis=0)])
    labels, proba = mix.predict(x), mix.predict_proba(x)
    assert np.isin(labels, [-1, 0, 1]).all()
    assert (labels[1500:] == -1).mean() > 0.85
    assert (labels[:1500] == -1).mean() < 0.02
    assert proba.shape == (len(x), 2)
    assert ((1 - proba.sum(axis=1) > proba.max(axis=1)) == (labels == -1)).all()
    assert mix.bic(x) == pytest.approx(-2 * len(x) * mix.score(x) + (2 + 2 * 5) * np.log(len(x)))
    outside = mix.predict([[500.0, 0.0], [1e200, 0.0]])
    assert (outside >= 0).all()  # noise has no density there
    assert "noise" in mix.describe()
    rows, drawn = mix.set_params(random_state=0).sample(5000)
    assert (drawn == -1).mean() == pytest.approx(mix.noise_weight_, abs=0.02)
    assert np.abs(rows[drawn == -1]).max() <= 30
    mix.save(tmp_path / "m.npz")
    again = GaussianMixture.load(tmp_path / "m.npz")
    assert (again.predict(x) == labels).all()
    assert again.noise_weight_ == mix.noise_weight_
    online = again.partial_fit(x[::3])
    assert 0.02 < online.noise_weight_ < 0.2
    with pytest.raises(ParameterError, match="noise is False, and the parameters are with noise"):
        mix.set_params(noise=False).predict(x)


def test_heavy_tails_beside_noise(tmp_path: Path) -> None:
    """Tails of a known ν leave to noise what lies anywhere; densities are those of SciPy, and files hold the box."""
    x, given = spoiled(), {"weights_init": [0.6, 0.4], "means_init": [[0.0, 0.0], [8.0, 8.0]]}
    mix = StudentTMixture(2, dof=30.0, noise=True, tol=1e-4, **given).fit(x)
    assert mix.noise_weight_ == pytest.approx(0.1, abs=0.02)
    parts = zip(mix.weights_, mix.means_, mix.scales_, strict=True)
    own = sum(w * multivariate_t(m, s, df=30.0).pdf(x) for w, m, s in parts)
    expected = np.log(own + mix.noise_weight_ / np.prod(x.max(axis=0) - x.min(axis=0)))
    np.testing.assert_allclose(mix.score_samples(x), expected, rtol=1e-10)
    assert (mix.predict(x)[1500:] == -1).mean() > 0.8
    mix.save(tmp_path / "m.npz")
    assert (StudentTMixture.load(tmp_path / "m.npz").predict(x) == mix.predict(x)).all()


def test_named_mixtures_have_noise_where_it_means_something() -> None:
    x = np.r_[np.random.default_rng(0).poisson(3.0, 300), np.arange(10, 40)][:, None].astype(np.float64)
    named = PoissonMixture(1, noise=True, random_state=0).fit(x)
    plain = Mixture(Poisson(), 1, noise=True, random_state=0).fit(x)
    assert named.noise_weight_ == plain.noise_weight_ > 0.05
    assert set(named.predict(x).tolist()) == {0, -1}
    for kind in (MultinomialMixture, VonMisesFisherMixture):
        with pytest.raises(ParameterError, match="has no noise beside it"):
            kind(2, noise=True, random_state=0).fit(np.eye(2)[np.arange(40) % 2])
    for without in (LatentClass, RecordLinkage, GaussianHMM, GroupedMixture):
        assert "noise" not in inspect.signature(without).parameters


def test_a_fit_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    x, settings = spoiled(), {"noise": True, "tol": 1e-9, "n_threads": 2, "chunk_bytes": 4000, **START}
    whole = GaussianMixture(2, **settings).fit(x)
    with pytest.warns(match="did not converge"):
        GaussianMixture(2, max_iter=3, **settings).fit(x, checkpoint=tmp_path / "c.npz")
    resumed = GaussianMixture(2, **settings).fit(x, checkpoint=tmp_path / "c.npz")
    assert resumed.means_.tobytes() == whole.means_.tobytes()
    assert resumed.noise_weight_ == whole.noise_weight_


def test_counts_have_a_probability_each_in_the_box() -> None:
    """Of columns beside each other, and of what was observed of a row."""
    family = Product({0: Gaussian(), 1: Poisson()}).integrating()
    box = np.array([[-2.0, 0.0], [6.0, 9.0]])
    model = MixtureWithNoise(family, 1, STARTS["random"], box)
    x = np.array([[0.0, 1.0], [1.0, 3.0], [np.nan, 2.0], [2.0, np.nan], [7.0, 3.0]])
    params = model.init(Chunk(x), np.random.RandomState(0)).replace(weights=np.array([0.0]), noise_weight=np.float64(1))
    expected = -np.log([80.0, 80.0, 10.0, 8.0])
    assert model.log_density(params, Chunk(x[:4])) == pytest.approx(expected)
    assert model.labels(params, Chunk(x[:4])).tolist() == [-1] * 4


def test_noise_leaves_codes_to_the_components() -> None:
    """A share of the middle of the box would be no code: what is imputed can be asked about, and is what is likely."""
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=300)
    x = np.column_stack([20.0 * kind + rng.normal(size=300), 2 * kind]).astype(np.float64)
    x[::7, 1] = np.nan
    family = Product({0: Gaussian(), 1: Categorical(3)})
    mix = Mixture(family, 2, noise=True, missing="integrate", random_state=0).fit(x)
    filled = mix.impute(x)
    assert filled[:, 1].tolist() == (2.0 * kind).tolist()
    assert (mix.predict(filled) == mix.predict(x)).all()
    assert np.isin(mix.impute(x, n_draws=1)[0, :, 1], [0.0, 1.0, 2.0]).all()


def test_noise_has_to_have_a_volume() -> None:
    x = np.column_stack([np.arange(20.0), np.full(20, 3.0)])
    with pytest.raises(DegenerateDataError, match=r"noise has no density in column 1, whose values go from 3 to 3"):
        GaussianMixture(1, noise=True).fit(x)
    Mixture(Poisson(), 1, noise=True, random_state=0).fit(x)  # one value of a count has a probability of 1
    with pytest.raises(ParameterError, match="noise is 1; it must be True or False"):
        GaussianMixture(1, noise=1).fit(x)  # type: ignore[arg-type]


def test_a_file_that_contradicts_itself_is_noticed() -> None:
    model = MixtureWithNoise(Poisson(), 1, STARTS["random"], np.array([[0.0], [4.0]]))
    params = model.init(Chunk(np.arange(5.0)[:, None]), np.random.RandomState(0))
    assert model.faults(params, 1, 1) == []
    assert "sum to" in model.faults(params.replace(noise_weight=np.float64(0.5)), 1, 1)[0]
    assert "box" in model.faults(params.replace(box=params.box[::-1].copy()), 1, 1)[0]
    assert model.faults(Params(weights=params.weights, components=params.components), 1, 1)


HOLDS_WHOLE_NUMBERS = {
    "AutoregressiveGaussian": False,
    "Bernoulli": True,
    "Beta": False,
    "Categorical": True,
    "Exponential": False,
    "FactorGaussian": False,
    "Gamma": False,
    "Gaussian": False,
    "Geometric": True,
    "ItemCurves": True,
    "LogNormal": False,
    "NegativeBinomial": True,
    "PartlyFixedCategorical": True,
    "Poisson": True,
    "StudentT": False,
    "VonMises": False,
    "Weibull": False,
}
REGRESSIONS = ("BinomialRegression", "GaussianRegression", "MultinomialRegression", "PoissonRegression", "Regression")
WITHOUT_NOISE = ("Multinomial", "RaterLabels", "VonMisesFisher", *REGRESSIONS)
OF_FAMILIES = {"Fixed", "GammaPrior", "MixtureFamily", "NormalWishart", "Product", "Tied"}
"""These say what the families within them say."""


def test_every_family_says_whether_it_counts() -> None:
    """Noise over its box has a probability for each whole number, or a density: the measure has to be the family's."""
    concrete = {name for name in families.__all__ if not inspect.isabstract(getattr(families, name))}
    assert concrete - OF_FAMILIES == {*HOLDS_WHOLE_NUMBERS, *WITHOUT_NOISE}
    for name, whole in HOLDS_WHOLE_NUMBERS.items():
        family = families.ItemCurves([-1.0, 1.0]) if name == "ItemCurves" else getattr(families, name)()
        assert family.counted(2).tolist() == [whole, whole], name


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_a_family_of_rows_that_are_no_box_refuses_noise(name: str) -> None:
    x = np.eye(2)[np.arange(40) % 2]
    told = "GaussianRegression" if name == "Regression" else name
    with pytest.raises(ParameterError, match=f"{told} has no noise beside it"):
        Mixture(getattr(families, name)(), 2, noise=True, random_state=0).fit(x)


@pytest.mark.parametrize(("name", "low"), [("NegativeBinomial", 0), ("Geometric", 1)])
def test_noise_over_counts_is_one_in_all_numbers_of_the_box(name: str, low: int) -> None:
    x = np.r_[np.random.default_rng(0).poisson(3.0, 300), 40][:, None] + float(low)
    mix = Mixture(getattr(families, name)(), 1, noise=True, random_state=0).fit(x)
    own = mix.params_
    density = mix.weights_[0] * np.exp(getattr(families, name)().log_prob(own, x))[:, 0]
    share = 1.0 - mix.weights_.sum()
    expected = np.log(density + share / (x.max() - x.min() + 1))
    np.testing.assert_allclose(mix.score_samples(x), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (HMM, (Gaussian(), 2), r"HMM has no noise.*StudentT"),
        (GaussianHMM, (2,), r"GaussianHMM has no noise.*MixtureFamily"),
        (GroupedMixture, (Gaussian(), 2), r"GroupedMixture has no noise.*StudentT"),
        (LatentClass, (2,), "a class of equal probabilities"),
        (RecordLinkage, (), "a pair matches or does not"),
        (MixtureProportions, (), "add a column"),
    ],
)
def test_models_without_noise_say_what_to_use(kind: Any, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        kind(*arguments, noise=True)
    with pytest.raises(TypeError, match="noise"):
        kind(*arguments, noise=False)
    with pytest.raises(TypeError, match="nois"):
        kind(*arguments, nois=True)
    assert pickle.loads(pickle.dumps(kind(*arguments))).get_params().keys() == kind(*arguments).get_params().keys()
