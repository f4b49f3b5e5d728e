"""Mixed columns: the laws, the sum of the factors, EM written out, names and texts of columns, what goes wrong."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import multivariate_normal, norm, poisson

from streamem import HMM, Mixture, Params, Stats
from streamem.conformance import FamilySuite, ModelSuite
from streamem.conformance.tolerance import tolerance
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ImpossibleValueError, ModelFileError, ParameterError, SchemaError
from streamem.families import AutoregressiveGaussian, Bernoulli, Categorical, Gaussian, MixtureFamily, Poisson, Product
from streamem.families.product_columns import keys_of
from streamem.initialization import STARTS
from streamem.models import Mixture as MixtureModel

Array = NDArray[Any]
K = 3


class OwnPoisson:
    """A user's own family, without a kernel."""

    def log_prob(self, p: Params, x: Array) -> Array:
        return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)

    def stats(self, p: Params, x: Array, resp: Array) -> Stats:
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        return Params(rates=s.x / s.weight[:, None])

    def filled(self, p: Params, x: Array, resp: Array) -> Array:
        return np.where(np.isnan(x), resp @ p.rates, x)

    def draw(self, p: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        return rng.poisson(p.rates[component], (count, len(p.rates[component])))


# --- laws ------------------------------------------------------------------------------------------------------------


class TestProducts(FamilySuite):
    """Two columns of a Gaussian, in the other order; counts of the user's own family and of ours; codes."""

    shared = frozenset({"x3_x0.center", "x3_x0.scale", "x2.starts"})
    unchecked = ("x4.rates",)

    def make_family(self) -> Product:
        return Product(
            {(3, 0): Gaussian(reg_covar=0.1), 1: Poisson(), 2: Categorical(4), 4: OwnPoisson(), 5: Bernoulli()}
        )

    def make_params(self, rng: np.random.Generator) -> Params:
        inner = Gaussian()
        anchored = inner.start(self.make_rows(rng, 50)[:, [3, 0]], None, K)
        return Params(
            empty=np.zeros(K, dtype=np.bool_),
            x3_x0=inner.with_means(anchored, 100.0 + rng.normal(size=(K, 2))),
            x1=Params(rates=rng.uniform(1.0, 9.0, (K, 1))),
            x2=Params(probabilities=rng.dirichlet(np.full(4, 3.0), K), starts=np.array([0, 4])),
            x4=Params(rates=rng.uniform(1.0, 9.0, (K, 1))),
            x5=Params(probabilities=rng.uniform(0.2, 0.8, (K, 1))),
        )

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        metric = 100.0 + rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]])
        counts, codes = rng.poisson(5.0, (n, 2)), rng.integers(4, size=n)
        return np.column_stack([metric[:, 1], counts[:, 0], codes, metric[:, 0], counts[:, 1], rng.integers(2, size=n)])

    def make_far_row(self, x: Array) -> Array:
        far = x[:1].copy()
        far[0, [0, 3]] += 1e6
        return far

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        def times(values: Array) -> Array:
            return values * np.exp(scale * rng.normal(size=values.shape))

        inner, shares = Gaussian(), times(params.x2.probabilities)
        means = inner.means(params.x3_x0)
        odds = params.x5.probabilities / (1 - params.x5.probabilities) * np.exp(scale * rng.normal(size=(K, 1)))
        return params.replace(
            x3_x0=inner.with_means(params.x3_x0, means + scale * rng.normal(size=means.shape)),
            x1=params.x1.replace(rates=times(params.x1.rates)),
            x2=params.x2.replace(probabilities=shares / shares.sum(axis=1, keepdims=True)),
            x4=params.x4.replace(rates=times(params.x4.rates)),
            x5=params.x5.replace(probabilities=odds / (1 + odds)),
        )

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        inner, out = Gaussian(), np.empty((len(x), K))
        means, covariances = inner.means(params.x3_x0), inner.covariances(params.x3_x0)
        for k in range(K):
            chance = params.x5.probabilities[k, 0]
            out[:, k] = (
                multivariate_normal(means[k], covariances[k]).logpdf(x[:, [3, 0]])
                + poisson(params.x1.rates[k, 0]).logpmf(x[:, 1])
                + np.log(params.x2.probabilities[k])[x[:, 2].astype(int)]
                + poisson(params.x4.rates[k, 0]).logpmf(x[:, 4])
                + np.log(np.where(x[:, 5] == 1, chance, 1 - chance))
            )
        return out


class TestProductsWithHoles(TestProducts):
    """Of families of one column a value that was not observed drops its factor, whatever the family."""

    shared = frozenset({"x0.center", "x0.scale", "x2.starts"})
    unchecked = ("x3.rates",)

    def make_family(self) -> Product:
        return Product({0: Gaussian(), 1: Poisson(), 2: Categorical(4), 3: OwnPoisson()}).integrating()

    def make_params(self, rng: np.random.Generator) -> Params:
        inner = Gaussian()
        return Params(
            empty=np.zeros(K, dtype=np.bool_),
            x0=inner.with_means(inner.start(rng.normal(size=(50, 1)), None, K), rng.normal(size=(K, 1))),
            x1=Params(rates=rng.uniform(1.0, 9.0, (K, 1))),
            x2=Params(probabilities=rng.dirichlet(np.full(4, 3.0), K), starts=np.array([0, 4])),
            x3=Params(rates=rng.uniform(1.0, 9.0, (K, 1))),
        )

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        x = np.column_stack([rng.normal(size=n), rng.poisson(5.0, n), rng.integers(4, size=n), rng.poisson(5.0, n)])
        x[rng.random(x.shape) < 0.3] = np.nan
        return x

    def make_far_row(self, x: Array) -> Array:
        return np.array([[1e6, np.nan, np.nan, 3.0]])

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        def times(values: Array) -> Array:
            return values * np.exp(scale * rng.normal(size=values.shape))

        inner, shares = Gaussian(), times(params.x2.probabilities)
        means = inner.means(params.x0)
        return params.replace(
            x0=inner.with_means(params.x0, means + scale * rng.normal(size=means.shape)),
            x1=params.x1.replace(rates=times(params.x1.rates)),
            x2=params.x2.replace(probabilities=shares / shares.sum(axis=1, keepdims=True)),
            x3=params.x3.replace(rates=times(params.x3.rates)),
        )

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        means, variances = Gaussian().means(params.x0)[:, 0], Gaussian().covariances(params.x0)[:, 0, 0]
        codes = np.where(np.isnan(x[:, 2]), 0, x[:, 2]).astype(int)
        factors = (
            norm(means, np.sqrt(variances)).logpdf(x[:, :1]),
            poisson(params.x1.rates[:, 0]).logpmf(x[:, 1:2]),
            np.where(np.isnan(x[:, 2:3]), np.nan, np.log(params.x2.probabilities).T[codes]),
            poisson(params.x3.rates[:, 0]).logpmf(x[:, 3:4]),
        )
        return sum(np.where(np.isnan(x[:, j : j + 1]), 0.0, factor) for j, factor in enumerate(factors))


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "holes"])
class TestMixtureOfProducts(ModelSuite):
    shared = frozenset({"components.x0.center", "components.x0.scale"})

    @pytest.fixture(autouse=True)
    def _choose(self, holes: bool) -> None:
        self.holes = holes

    def make_model(self) -> MixtureModel:
        family = Product({0: Gaussian(), 1: Poisson()})
        start = STARTS["random"] if self.holes else STARTS["kmeans"]
        return MixtureModel(family.integrating() if self.holes else family, 2, start)

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        high = rng.random(n) < 0.4
        x = np.column_stack([rng.normal(np.where(high, 4.0, 0.0)), rng.poisson(np.where(high, 9.0, 2.0))])
        if self.holes:  # of one column or the other: rows without any value do not count
            x[rng.random(n) < 0.2, 0] = np.nan
            x[(rng.random(n) < 0.2) & ~np.isnan(x[:, 0]), 1] = np.nan
        return Chunk(x)


# --- against EM that is written out ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.0, 0.3]))
def test_iterations_are_those_of_em_written_out(seed: int, share: float) -> None:
    """A normal column and a column of counts, weights, values that are missing: three iterations in plain NumPy."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(3.0, 2.0, 60), rng.poisson(4.0, 60)])
    x[rng.random(60) < share, 0] = np.nan
    x[(rng.random(60) < share) & ~np.isnan(x[:, 0]), 1] = np.nan
    weight = rng.uniform(0.5, 2.0, 60)
    family = Product({0: Gaussian("diag"), 1: Poisson()}).integrating()
    model = MixtureModel(family, 2, STARTS["random"])
    params = model.init(Chunk(x, weight), np.random.RandomState(seed))
    for _ in range(3):
        components, inner = params.components, Gaussian("diag")
        m, v, r = (
            inner.means(components.x0)[:, 0],
            inner.covariances(components.x0)[:, 0],
            components.x1.rates[:, 0],
        )
        one = np.where(np.isnan(x[:, :1]), 0.0, norm(m, np.sqrt(v)).logpdf(x[:, :1]))
        two = np.where(np.isnan(x[:, 1:]), 0.0, poisson(r).logpmf(x[:, 1:]))
        joint = np.log(params.weights) + one + two
        density = np.logaddexp.reduce(joint, axis=1)
        resp = weight[:, None] * np.exp(joint - density[:, None])
        stats = model.e_step(params, Chunk(x, weight))
        assert float(stats.log_likelihood) == pytest.approx(weight @ density, rel=1e-11)
        params = model.m_step(stats, params)
        assert params.weights == pytest.approx(resp.sum(axis=0) / weight.sum(), rel=1e-10)
        seen = [resp[~np.isnan(x[:, j])] for j in range(2)]
        values = [x[~np.isnan(x[:, j]), j] for j in range(2)]
        means = [own.T @ value / own.sum(axis=0) for own, value in zip(seen, values, strict=True)]
        variance = (seen[0] * (values[0][:, None] - means[0]) ** 2).sum(axis=0) / seen[0].sum(axis=0)
        assert inner.means(params.components.x0)[:, 0] == pytest.approx(means[0], rel=1e-9)
        assert inner.covariances(params.components.x0)[:, 0] == pytest.approx(variance, rel=1e-8)
        assert params.components.x1.rates[:, 0] == pytest.approx(means[1], rel=1e-9)


def test_one_factor_is_the_family_itself() -> None:
    """Parameters and log-likelihoods of every iteration, to the last bits of a sum."""
    rng = np.random.default_rng(0)
    x = np.vstack([rng.normal(size=(500, 2)), 4 + rng.normal(size=(500, 2))])
    alone = Mixture(Gaussian(), 2, random_state=0).fit(x)
    product = Mixture(Product({(0, 1): Gaussian()}), 2, random_state=0).fit(x)
    assert product.lower_bounds_ == pytest.approx(alone.lower_bounds_, rel=1e-12)
    assert product.params_.x0_x1.means == pytest.approx(alone.params_.means, rel=1e-8)


SPEED = Path(__file__).parents[1] / "data" / "speed.csv"
"""Response times and errors in three series of 168, 134 and 137 trials (R package depmixS4, Visser & Speekenbrink 2010,
J. Stat. Softw. 36(7))."""


def test_speed_and_accuracy_of_two_states_come_out() -> None:
    """Response times alone (−88.73 is printed), as one and as three series, and with correctness (independent EM)."""
    frame = pd.read_csv(SPEED)
    settings: dict[str, Any] = {"random_state": 0, "tol": 1e-12, "n_iter": 2000}
    alone = HMM(Gaussian(), 2, **settings).fit(frame[["rt"]])
    assert alone.score(frame[["rt"]]) == pytest.approx(-88.730584, abs=1e-6)
    means = Gaussian().means(alone.params_).ravel()
    order = np.argsort(means)
    assert means[order] == pytest.approx([5.51036, 6.38505], abs=1e-5)
    assert np.sqrt(Gaussian().covariances(alone.params_).ravel()[order]) == pytest.approx([0.19174, 0.24416], abs=1e-5)
    moves = [[0.8835, 0.1165], [0.08433, 0.91567]]
    assert alone.transmat_[np.ix_(order, order)] == pytest.approx(np.array(moves), abs=5e-5)
    lengths = [168, 134, 137]
    three = HMM(Gaussian(), 2, **settings).fit(frame[["rt"]], lengths=lengths)
    assert three.score(frame[["rt"]], lengths=lengths) == pytest.approx(-84.341714, abs=1e-6)
    both = HMM(Product({"rt": Gaussian(), "corr": Categorical()}), 2, **settings).fit(frame, lengths=lengths)
    assert both.score(frame, lengths=lengths) == pytest.approx(-296.107777, abs=1e-6)
    coded = frame.assign(corr=(frame["corr"] == "cor").astype(float))[["corr", "rt"]]
    yes_no = HMM(Product({"rt": Gaussian(), "corr": Bernoulli()}), 2, **settings).fit(coded, lengths=lengths)
    assert yes_no.score(coded, lengths=lengths) == pytest.approx(-296.107777, abs=1e-6)


# --- columns ---------------------------------------------------------------------------------------------------------


def survey_table(n: int = 3000) -> pa.Table:
    rng = np.random.default_rng(0)
    rich = rng.random(n) < 0.4
    return pa.table(
        {
            "region": np.where(rng.random(n) < np.where(rich, 0.8, 0.3), "north", "south"),
            "visits": rng.poisson(np.where(rich, 7.0, 2.0)),
            "income (EUR)": rng.normal(np.where(rich, 60.0, 20.0), 5.0),
            "share": rng.random(n),
        }
    )


def survey_family() -> Product:
    return Product({"income (EUR)": Gaussian(), "visits": Poisson(), "region": Categorical()})


CHOSEN = ["visits", "region", "income (EUR)"]


def test_columns_by_name_whatever_their_order(tmp_path: Path) -> None:
    """From Parquet with text, and from frames with columns in another order; saved, loaded, resumed."""
    pq.write_table(survey_table(), tmp_path / "x.parquet", row_group_size=700)
    frame = survey_table().to_pandas()
    mix = Mixture(survey_family(), 2, random_state=0, tol=1e-8, max_iter=500)
    mix.fit(tmp_path / "x.parquet", columns=CHOSEN)
    assert mix.categories_ == {"region": ["north", "south"]}
    rich = int(np.argmax(mix.params_.visits.rates))
    assert mix.weights_[rich] == pytest.approx(0.4, abs=0.03)
    assert mix.params_.region.probabilities[rich] == pytest.approx([0.8, 0.2], abs=0.05)
    assert Gaussian().means(mix.params_.income__EUR_)[rich, 0] == pytest.approx(60, abs=0.5)
    labels = mix.predict(tmp_path / "x.parquet")
    assert (mix.predict(frame[["region", "share", *CHOSEN[::2]]], columns=CHOSEN) == labels).all()
    mix.save(tmp_path / "m.npz")
    again = Mixture.load(tmp_path / "m.npz", family=survey_family())
    assert (again.predict(frame[::-1], columns=CHOSEN) == labels[::-1]).all()
    with pytest.raises(DataError, match=r"column 'region': 'east' .* is none of its 2 categories"):
        again.predict(frame.assign(region="east"), columns=CHOSEN)
    with pytest.raises(ParameterError, match="'visitors'.* was passed: leave family= out"):
        Mixture.load(tmp_path / "m.npz", family=Product({"visitors": Poisson(), "region": Categorical()}))


def test_a_fit_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    frame = survey_table().to_pandas()[CHOSEN]
    whole = Mixture(survey_family(), 2, random_state=0, tol=1e-10).fit(frame)
    with pytest.warns(match="did not converge"):
        Mixture(survey_family(), 2, random_state=0, tol=1e-10, max_iter=2).fit(frame, checkpoint=tmp_path / "c.npz")
    resumed = Mixture(survey_family(), 2, random_state=0, tol=1e-10).fit(frame, checkpoint=tmp_path / "c.npz")
    assert resumed.params_ == whole.params_
    other = Product({"income (EUR)": Gaussian("diag"), "visits": Poisson(), "region": Categorical()})
    with pytest.raises(ModelFileError, match="family"):
        Mixture(other, 2, random_state=0).fit(frame, checkpoint=tmp_path / "c.npz")


def test_a_product_learns_online_from_text(tmp_path: Path) -> None:
    """`partial_fit` after `fit` reads text by the vocabulary of the fit."""
    frame = survey_table().to_pandas()[CHOSEN]
    mix = Mixture(survey_family(), 2, random_state=0).fit(frame[:2000])
    before = mix.score(frame)
    mix.partial_fit(frame[2000:][frame["region"][2000:] == "south"])
    assert mix.score(frame) == pytest.approx(before, abs=0.2)


def test_rows_that_are_drawn_are_such_rows() -> None:
    frame = survey_table().to_pandas()[CHOSEN]
    mix = Mixture(survey_family(), 2, random_state=0).fit(frame)
    x, labels = mix.sample(20_000)
    for k in range(2):
        own = x[labels == k]
        assert own[:, 0].mean() == pytest.approx(mix.params_.visits.rates[k, 0], rel=0.03)
        assert own[:, 1].mean() == pytest.approx(mix.params_.region.probabilities[k, 1], abs=0.03)
    assert mix.bic(frame) == pytest.approx(-2 * 3000 * mix.score(frame) + (1 + 2 * (2 + 1 + 1)) * np.log(3000))


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"visits": Poisson(), "region": Poisson(), "share": Gaussian()}, "column 'region' holds text; Poisson takes"),
        ({"visits": Poisson(), "region": Categorical()}, "no family for column 'share' of the data.*leave them out"),
        ({"visit": Poisson()}, "names column 'visit', .* did you mean 'visits'"),
        ({"visits": Poisson(), 1: Poisson(), 2: Gaussian(), 0: Categorical()}, "'visits' twice"),
        ({0: Categorical(), 7: Poisson()}, "names column 7, and the data has columns 0 … 2"),
    ],
)
def test_columns_that_do_not_fit_are_named(family: dict[Any, Any], message: str) -> None:
    frame = survey_table().to_pandas()[["region", "visits", "share"]]
    for model in (Mixture(Product(family), 2), HMM(Product(family), 2)):
        with pytest.raises((SchemaError, ParameterError), match=message):
            model.fit(frame)


def test_names_need_names() -> None:
    with pytest.raises(SchemaError, match="names column 'visits', and the data has no column names: name columns by"):
        Mixture(Product({"visits": Poisson()}), 2).fit(np.ones((5, 1)))


def test_a_value_that_cannot_be_is_told_by_its_own_column() -> None:
    frame = survey_table().to_pandas()[CHOSEN]
    frame.loc[1234, "visits"] = -3
    with pytest.raises(ImpossibleValueError, match="column 0 'visits' of row 1234 holds -3; Poisson counts"):
        Mixture(survey_family(), 2, random_state=0).fit(frame)


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ({}, "takes a mapping of columns"),
        ([Poisson()], "takes a mapping of columns"),
        ({(): Poisson()}, "without columns"),
        ({-1: Poisson()}, "an index >= 0"),
        ({True: Poisson()}, "an index >= 0"),
        ({1.5: Poisson()}, "an index >= 0"),
        ({0: object()}, "has no log_prob"),
        ({(0, 1): AutoregressiveGaussian(1)}, "looks back on earlier rows"),
    ],
)
def test_products_that_cannot_be(families: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Product(families)


def test_keys_are_names_of_their_own() -> None:
    """Whatever columns are called: a dot, a name that Params has, one that is taken."""
    asked = [("a.b",), ("a_b",), ("replace",), ("empty",), ("self",), ("1st",), (3,), ("x3",), ("größe",)]
    keys = keys_of(asked)
    assert len(set(keys)) == len(asked)
    assert all(key.isidentifier() for key in keys)
    params = Params(empty=np.zeros(2), **{key: Params(rates=np.ones((2, 1))) for key in keys})
    assert Params.unflatten(params.flatten()) == params


def test_a_column_nobody_observed_is_named() -> None:
    x = np.column_stack([np.arange(10.0), np.full(10, np.nan)])
    model = MixtureModel(Product({0: Poisson(), 1: Gaussian()}).integrating(), 2, STARTS["random"])
    with pytest.raises(DataError, match="Gaussian of 1: no row of the sample has a value there"):
        model.init(Chunk(x), np.random.RandomState(0))


def test_families_of_several_columns_have_to_integrate_themselves() -> None:
    with pytest.raises(ParameterError, match="columns 'lat', 'lon': OwnPoisson knows no missing values"):
        Product({("lat", "lon"): OwnPoisson(), "n": Poisson()}).integrating()


def test_a_component_that_sees_a_column_only_missing_keeps_it() -> None:
    """Finite, monotone, and the component is told to be empty in that column."""
    rng = np.random.default_rng(0)
    x = np.column_stack([np.repeat([0.0, 50.0], 100) + rng.normal(size=200), rng.poisson(3.0, 200).astype(float)])
    x[100:, 1] = np.nan
    family = Product({0: Gaussian(), 1: Poisson()}).integrating()
    model = MixtureModel(family, 2, lambda x, weight, k, rng: np.eye(2)[np.repeat([0, 1], 100)])
    params, before = model.init(Chunk(x), np.random.RandomState(0)), -np.inf
    for _ in range(20):
        stats = model.e_step(params, Chunk(x))
        assert float(stats.log_likelihood) >= before - 1e-9
        before, params = float(stats.log_likelihood), model.m_step(stats, params)
    assert np.isfinite(params.components.x1.rates).all()
    assert model.degenerate(params)["empty in x1"] == [1]


def test_draws_for_what_is_missing_have_its_distribution() -> None:
    params = Params(empty=np.zeros(1, dtype=np.bool_), x0=Params(rates=np.array([[5.0]])), x1=Params(rates=[[2.0]]))
    family = Product({0: Poisson(), 1: Poisson()}).integrating()
    x = np.column_stack([np.full(20_000, np.nan), np.arange(20_000) % 7.0])
    drawn = family.drawn_for_missing(params, x, np.zeros(20_000, dtype=int), np.random.RandomState(0))
    assert (drawn[:, 1] == x[:, 1]).all()
    assert drawn[:, 0].mean() == pytest.approx(5.0, abs=5 * np.sqrt(5 / 20_000))


def test_a_mixture_of_products_is_a_family_too() -> None:
    """Parts of mixed columns, also with values that are missing."""
    frame = survey_table().to_pandas()[CHOSEN]
    mix = Mixture(MixtureFamily(survey_family(), 2), 1, random_state=0, tol=1e-8, max_iter=500).fit(frame)
    plain = Mixture(survey_family(), 2, random_state=0, tol=1e-8, max_iter=500).fit(frame)
    assert mix.score(frame) == pytest.approx(plain.score(frame), abs=1e-5)
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(size=400), rng.poisson(3.0, 400)])
    x[rng.random(x.shape) < 0.2] = np.nan
    family: Any = MixtureFamily(Product({0: Gaussian(), 1: Poisson()}), 2).integrating()
    assert family.allows_missing
    model = MixtureModel(family, 2, STARTS["random"])
    params, before = model.init(Chunk(x), np.random.RandomState(0)), -np.inf
    for _ in range(10):
        stats = model.e_step(params, Chunk(x))
        assert float(stats.log_likelihood) >= before - 1e-9
        before, params = float(stats.log_likelihood), model.m_step(stats, params)


def test_far_rows_are_judged_by_the_factor_that_is_far() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.repeat([-5.0, 5.0], 200) + rng.normal(size=400), rng.poisson(3.0, 400)])
    mix = Mixture(Product({0: Gaussian("tied"), 1: Poisson()}), 2, random_state=0).fit(x)
    right = int(np.argmax(Gaussian().means(mix.params_.x0)[:, 0]))
    assert mix.predict(np.array([[1e200, 2.0], [-1e200, 2.0]])).tolist() == [right, 1 - right]
    assert mix.score_samples(np.array([[1e200, 2.0]]))[0] == -np.inf


def test_products_travel() -> None:
    family = pickle.loads(pickle.dumps(survey_family()))
    assert [part.asked for part in family.parts] == [("income (EUR)",), ("visits",), ("region",)]


def test_float32_rows_stay_float32() -> None:
    """The factors' kernels choose their own arithmetic."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(np.repeat([0.0, 5.0], 500)), rng.poisson(3.0, 1000)])
    wide, narrow = (
        Mixture(Product({0: Gaussian(), 1: Poisson()}), 2, random_state=0, tol=1e-6).fit(rows)
        for rows in (x, x.astype(np.float32))
    )
    assert "float32" in narrow.report_.setting["arithmetic"]
    assert narrow.score(x) == pytest.approx(wide.score(x), rel=tolerance(np.float32, 1000, 1e2))


def test_values_that_are_missing_from_a_file(tmp_path: Path) -> None:
    """Nulls in Parquet, of numbers and of text: each drops its factor; the rest is found as without them."""
    table = survey_table(6000).select(CHOSEN)
    rng = np.random.default_rng(2)
    holed = {name: pa.array(table[name].to_pylist(), mask=rng.random(6000) < 0.15) for name in CHOSEN}
    pq.write_table(pa.table(holed), tmp_path / "x.parquet", row_group_size=1000)
    whole = Mixture(survey_family(), 2, random_state=0, tol=1e-8, max_iter=500).fit(table.to_pandas())
    mix = Mixture(survey_family(), 2, random_state=0, tol=1e-8, max_iter=500, missing="integrate")
    mix.fit(tmp_path / "x.parquet")
    rich, other = int(np.argmax(mix.params_.visits.rates)), int(np.argmax(whole.params_.visits.rates))
    assert mix.weights_[rich] == pytest.approx(whole.weights_[other], abs=0.02)
    assert mix.params_.region.probabilities[rich] == pytest.approx(whole.params_.region.probabilities[other], abs=0.02)
    assert np.isfinite(mix.score(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match="NaN"):
        Mixture(survey_family(), 2, random_state=0).fit(tmp_path / "x.parquet")


def test_steps_that_are_missing_in_part(tmp_path: Path) -> None:
    """In a hidden Markov model a step without correctness still tells its response time."""
    frame = pd.read_csv(SPEED)
    frame.loc[::7, "corr"] = None
    frame.loc[3::11, "rt"] = np.nan
    frame.loc[20:22] = [np.nan, None]
    settings: dict[str, Any] = {"random_state": 0, "tol": 1e-9, "n_iter": 500}
    hmm = HMM(Product({"rt": Gaussian(), "corr": Categorical()}), 2, missing="integrate", **settings)
    hmm.fit(frame, lengths=[168, 134, 137])
    assert sorted(np.diag(hmm.transmat_)) == pytest.approx([0.89, 0.92], abs=0.03)
    assert hmm.lower_bounds_ == sorted(hmm.lower_bounds_)
