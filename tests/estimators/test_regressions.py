"""`MixtureOfRegressions` on published tables, against other solvers, and where regressions are states and groups."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from streamem import HMM, GroupedMixture, Mixture, MixtureOfRegressions
from streamem.core.errors import DataError, DegenerateDataError, ParameterError, SchemaError
from streamem.estimators.loading import load_model
from streamem.families import Regression
from streamem.running.reached import NoMaximumWarning

Array = NDArray[Any]
DATA = Path(__file__).parents[1] / "data"
EXACT: dict[str, Any] = {"tol": 1e-11, "max_iter": 5000, "random_state": 0}


def npreg() -> pd.DataFrame:
    """Simulated by R's flexmix 2.3 (Leisch 2004)."""
    return pd.read_csv(DATA / "npreg.csv")


def test_npreg() -> None:
    """Maxima by an independent EM: a line and a parabola; two regressions of counts."""
    table = npreg()
    X, y = np.column_stack([table.x, table.x**2]), table.yn.to_numpy()
    model = MixtureOfRegressions(2, **EXACT).fit(X, y)
    assert model.scores(X, y)["log_likelihood"] == pytest.approx(-642.532014, abs=1e-6)
    assert model._n_parameters() == 9
    frame = table[["x", "yp"]]
    counts = MixtureOfRegressions(2, "poisson", **EXACT).fit(frame, y="yp")
    assert counts.scores(frame)["log_likelihood"] == pytest.approx(-440.640294, abs=1e-6)
    assert counts.feature_names_in_.tolist() == ["x"]
    assert counts.standard_errors(frame)["coef_"].shape == (2, 1)


def test_carbon_dioxide_and_gross_national_product() -> None:
    """Printed by R's mixtools 2.0 (Benaglia et al. 2009): CO2 per capita of 28 countries in 1996."""
    table = pd.read_csv(DATA / "co2.csv")
    X, y = table[["GNP"]].to_numpy(), table.CO2.to_numpy()
    model = MixtureOfRegressions(2, **EXACT).fit(X, y)
    assert model.scores(X, y)["log_likelihood"] == pytest.approx(-66.93977, abs=5e-6)
    order = np.argsort(-model.weights_)
    np.testing.assert_allclose(model.weights_[order[0]], 0.754921, atol=2e-6)
    found = np.column_stack([model.intercept_, model.coef_[:, 0]])[order]
    np.testing.assert_allclose(found, [[8.678987, -0.023344], [1.415150, 0.676596]], atol=3e-5)
    np.testing.assert_allclose(model.scale_[order], [2.049315, 0.809389], atol=5e-6)


def newton(X: Array, y: Array, family: str) -> Array:
    """Intercept and coefficients by full Newton steps in NumPy, as statsmodels' GLM makes them."""
    design, beta = np.column_stack([np.ones(len(X)), X]), np.zeros(1 + X.shape[1])
    for _ in range(100):
        eta = design @ beta
        mean = np.exp(eta) if family == "poisson" else 1.0 / (1.0 + np.exp(-eta))
        bend = mean if family == "poisson" else mean * (1.0 - mean)
        beta = beta + np.linalg.solve((design * bend[:, None]).T @ design, design.T @ (y - mean))
    return beta


@pytest.mark.parametrize("family", ["gaussian", "poisson", "binomial"])
def test_one_component_is_a_generalized_linear_model(family: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal((0.0, 3.0, 0.0), size=(500, 3))
    eta = X @ [0.4, -0.3, 0.2]
    y = {
        "gaussian": lambda: eta + rng.normal(size=500),
        "poisson": lambda: rng.poisson(np.exp(eta)).astype(float),
        "binomial": lambda: (rng.random(500) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
    }[family]()
    model = MixtureOfRegressions(family=family, tol=0.0, max_iter=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    design = np.column_stack([np.ones(500), X])
    expected = np.linalg.lstsq(design, y, rcond=None)[0] if family == "gaussian" else newton(X, y, family)
    np.testing.assert_allclose([model.intercept_[0], *model.coef_[0]], expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.predict_response(X), model.predict_response(X.tolist()))


def test_files_and_arrays_are_the_same(tmp_path: Path) -> None:
    frame = npreg()[["x", "yp"]]
    frame.to_parquet(tmp_path / "t.parquet")
    np.save(tmp_path / "y.npy", frame.yp.to_numpy())
    X, y = frame[["x"]].to_numpy(), frame.yp.to_numpy()
    make = lambda: MixtureOfRegressions(2, "poisson", random_state=0)  # noqa: E731
    known = make().fit(X, y)
    for other in (make().fit(tmp_path / "t.parquet", "yp"), make().fit(X, str(tmp_path / "y.npy"))):
        assert np.array_equal(other.coef_, known.coef_)
    other = make().fit(tmp_path / "t.parquet", "yp")
    other.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    assert np.array_equal(loaded.predict(tmp_path / "t.parquet"), known.predict(X, y))
    assert (loaded.predict(frame[["x"]]) == known.weights_.argmax()).all()
    assert loaded.predict_response(frame[["x"]]) == pytest.approx(
        np.exp(X @ known.coef_.T + known.intercept_) @ known.weights_, rel=1e-12
    )


def switching(rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
    """Stimuli, choices, and which of two strategies led to them, which lasts some fifty trials."""
    state = np.cumsum(rng.random(n) < 0.02) % 2
    x = rng.normal(size=(n, 1))
    chance = 1.0 / (1.0 + np.exp(-np.where(state == 0, 4.0, -0.5) * x[:, 0]))
    return x, (rng.random(n) < chance).astype(float), state


def test_regressions_as_states_and_as_classes_of_groups() -> None:
    x, y, state = switching(np.random.default_rng(0), 3000)
    rows = np.column_stack([x, y])
    family = Regression("binomial")
    chain = HMM(family, 2, random_state=0, tol=1e-6, n_iter=300).fit(rows)
    found = chain.predict(rows)
    assert max((found == state).mean(), (found != state).mean()) > 0.85
    lengths = np.diff(np.flatnonzero(np.diff(state, prepend=-1, append=-1)))
    groups = GroupedMixture(family, 2, random_state=0, init_params="random", tol=1e-6).fit(rows, lengths=lengths)
    slopes = np.sort(family.coef(groups.params_)[:, 0])  # type: ignore[attr-defined]
    np.testing.assert_allclose(slopes, [-0.5, 4.0], atol=0.5)


def test_categories_that_only_the_data_tell_are_known_to_a_file(tmp_path: Path) -> None:
    """Without `n_classes`, a survey counts them; what is read from a file has seen no rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1))
    y = (X[:, 0] + rng.normal(size=300) > 0.5).astype(float) + (X[:, 0] > 1.0)
    rows = np.column_stack([X, y])
    mixture = MixtureOfRegressions(2, "multinomial", random_state=0, max_iter=20, tol=0.0)
    chain = HMM(Regression("multinomial"), 2, random_state=0, n_iter=5, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X, y)
        chain.fit(rows)
    mixture.save(tmp_path / "mixture.npz")
    chain.save(tmp_path / "chain.npz")
    loaded = load_model(tmp_path / "mixture.npz")
    assert np.array_equal(loaded.predict_proba(X, y), mixture.predict_proba(X, y))
    assert np.array_equal(loaded.predict_response(X), mixture.predict_response(X))
    assert load_model(tmp_path / "chain.npz").score(rows) == chain.score(rows)
    with pytest.raises(DataError, match=r"categories 0 to 2: leave such rows out"):
        loaded.predict_proba(X, y + 5.0)


def test_columns_that_are_known_parts_of_a_row(tmp_path: Path) -> None:
    """Exposure and trials stand in X, by name or position, wherever X lies; they get no coefficient."""
    table = npreg()[["x", "yp"]].assign(hours=1.0 + np.arange(200) % 5, n=12.0 + np.arange(200) % 3)
    table.to_parquet(tmp_path / "t.parquet")
    make = lambda **of: MixtureOfRegressions(2, random_state=0, **of)  # noqa: E731
    known = make(family="poisson", exposure=0).fit(table[["hours", "x"]].to_numpy(), table.yp)
    named = make(family="poisson", exposure="hours").fit(tmp_path / "t.parquet", "yp", columns=["x"])
    assert np.array_equal(named.coef_, known.coef_)
    assert (known.coef_.shape, known.n_features_in_) == ((2, 1), 2)
    named.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    assert loaded.score(table) == named.score(tmp_path / "t.parquet")
    once, twice = (loaded.predict_response(table.assign(hours=hours)) for hours in (1.0, 2.0))
    np.testing.assert_allclose(twice, 2.0 * once)
    other = make(family="poisson", exposure=0)
    other.weights_, other.coef_, other.intercept_ = named.weights_, named.coef_, named.intercept_
    assert other.score(table[["hours", "x"]].to_numpy(), table.yp) == pytest.approx(named.score(table))
    beside = table.assign(z=np.sin(table.x))
    both = make(family="poisson", exposure="hours", concomitant="z", max_iter=9, tol=9.0)
    both.fit(beside[["z", "x", "hours", "yp"]], "yp")
    for at in (2, -1):
        apart = make(family="poisson", exposure=at, concomitant=0, max_iter=9, tol=9.0)
        assert np.array_equal(apart.fit(beside[["z", "x", "hours"]].to_numpy(), table.yp).coef_, both.coef_)
    with pytest.raises(ParameterError, match="exposure=0 and concomitant name the same column"):
        apart.set_params(exposure=0).fit(beside[["z", "x", "hours"]].to_numpy(), table.yp)
    successes = make(family="binomial", trials="n").fit(table[["x", "n", "yp"]], "yp")
    alike = make(family="binomial", trials=-1).fit(table[["x", "n"]].to_numpy(), table.yp)
    assert np.array_equal(successes.coef_, alike.coef_)
    for wrong, told in (
        ({"trials": 0}, "trials is 0"),
        ({"trials": 1.5}, "index from the end"),
        ({"offset": 1.5}, "offset is"),
    ):
        with pytest.raises(ParameterError, match=told):
            make(family="binomial", **wrong).fit(table[["x"]], table.yp)
    with pytest.raises(ParameterError, match="offset is 0, and gaussian responses have none; it is for 'poisson'"):
        make(offset=0).fit(table[["x", "n"]], table.yp)
    with pytest.raises(ParameterError, match="exposure=1 by position: name the column there too"):
        make(family="poisson", exposure=1).fit(table, "yp", columns=["x"])
    with pytest.raises(SchemaError, match=r"exposure is 'h', and the columns are \['x', 'n'\]"):
        make(family="poisson", exposure="h").fit(table[["x", "n", "yp"]], "yp")
    with pytest.raises(DataError, match="the trials of its row"):
        alike.fit(table[["x", "hours"]].to_numpy(), table.yp)


@pytest.mark.parametrize("kind", ["binomial", "multinomial", "poisson"])
def test_responses_that_covariates_tell_without_error_are_named(kind: str) -> None:
    """And one that they do not tell is enough for a maximum."""
    x = np.linspace(-1.0, 1.0, 60)[:, None]
    y = np.zeros(60) if kind == "poisson" else (x[:, 0] > 0).astype(float)
    with pytest.warns(NoMaximumWarning, match="the covariates tell all responses without error"):
        MixtureOfRegressions(1, kind, random_state=0).fit(x, y)
    with pytest.warns(NoMaximumWarning, match="60 rows"):
        Mixture(Regression(kind), 1, random_state=0).fit(np.column_stack([x, y]))
    y[[0, 20]] = 1.0
    MixtureOfRegressions(1, kind, random_state=0).fit(x, y)


def test_what_cannot_be() -> None:
    X, y = np.arange(10.0)[:, None], np.arange(10.0)
    with pytest.raises(ParameterError, match="requires y to be passed, but the target y is None"):
        MixtureOfRegressions().fit(X)
    with pytest.raises(SchemaError, match=r"y has shape \(5,\); one number for each of 10 rows"):
        MixtureOfRegressions().fit(X, y[:5])
    with pytest.raises(SchemaError, match="y holds labels, such as 'a'; gaussian responses are numbers"):
        MixtureOfRegressions().fit(X, np.array(["a"] * 10))
    with pytest.raises(DegenerateDataError, match="10 rows for 12 coefficients"):
        MixtureOfRegressions(6).fit(X, y)
    with pytest.raises(DegenerateDataError, match="covariate 1 is a linear combination of 0"):
        MixtureOfRegressions().fit(np.hstack([X, 2.0 * X + 1.0]), y)
    with pytest.raises(SchemaError, match="the DataFrame has no such column"):
        MixtureOfRegressions().fit(pd.DataFrame({"a": y}), y="b")
    with pytest.raises(ParameterError, match="family is 'gamma'"):
        MixtureOfRegressions(family="gamma").fit(X, y)
    with pytest.raises(DataError, match=r"1 in column 1 .*missing=\"integrate\""):
        MixtureOfRegressions().fit(X, np.where(y == 3, np.nan, y))
