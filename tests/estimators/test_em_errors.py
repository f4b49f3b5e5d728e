"""Standard errors of users' own models, against closed forms, second derivatives, and the built-in mixture."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from helpers.curvature import errors
from helpers.users_model import Censored, Center, Scored, blend, censored_rows, two_clusters
from streamem import EM, GaussianMixture
from streamem.core.errors import ParameterError
from streamem.estimators.uncertainty import UncertaintyWarning

EXACT: dict[str, Any] = {"tol": 1e-13, "max_iter": 5000}
X = two_clusters(400)
WEIGHT = np.random.default_rng(5).integers(1, 3, 400).astype(np.float64)


@cache
def both() -> tuple[GaussianMixture, EM]:
    """The mixture that is built in, and the user's, at the same maximum."""
    start = blend()
    given = {"means_init": start.means, "weights_init": start.weights, "precisions_init": start.covariances}
    gm = GaussianMixture(2, reg_covar=0.0, **given, **EXACT).fit(X, sample_weight=WEIGHT)
    return gm, EM(start, **EXACT).fit(X, sample_weight=WEIGHT, algorithm="anderson")


@pytest.mark.parametrize("method", ["observed", "opg", "sandwich"])
def test_a_mixture_of_ones_own_has_the_errors_of_the_built_in_one(method: str) -> None:
    """Ties that nobody has told are found: weights sum to 1, covariances are symmetric, 11 numbers of 14 are free."""
    wanted, own = (model.standard_errors(X, method=method, sample_weight=WEIGHT) for model in both())
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(own["params_"][name], wanted[f"{name}_"], rtol=1e-4)
    assert len(own.free_parameters) == 11
    assert own.covariance.shape == (11, 11)
    assert own.problems == ()
    assert own.log_likelihood == pytest.approx(wanted.log_likelihood, abs=1e-6)


@pytest.mark.parametrize("holes", [False, True])
def test_censored_values(holes: bool) -> None:
    """Against differences of the log-likelihood that SciPy gives, beside values that were not observed."""
    x = censored_rows(holes=holes)
    seen = x[~np.isnan(x[:, 0]), 0]
    em = EM(Censored(missing="values" if holes else None), **EXACT).fit(x)

    def height(at: Any) -> float:
        sd = np.sqrt(at[1])
        return float(np.where(seen >= 1, norm.logsf(1.0, at[0], sd), norm.logpdf(seen, at[0], sd)).sum())

    found = em.standard_errors(x)["params_"]
    wanted = errors(height, np.array([em.params_["mean"], em.params_["var"]]))
    np.testing.assert_allclose([found["mean"], found["var"]], wanted, rtol=2e-5)


@pytest.mark.parametrize("method", ["observed", "opg", "sandwich"])
def test_slopes_that_the_model_says_are_used(method: str) -> None:
    """As differences of its log-likelihoods are, and as the definitions of the methods say."""
    x = censored_rows()
    em = EM(Scored(), **EXACT).fit(x)
    here = SimpleNamespace(x=x, weight=np.ones(len(x)), names=None)
    rows = np.column_stack([*Scored().scores(dict(em.params_), here).values()])
    products = rows.T @ rows
    bread = EM(Censored(), **EXACT).fit(x).standard_errors(x).covariance
    wanted = {"observed": bread, "opg": np.linalg.inv(products), "sandwich": bread @ products @ bread}[method]
    found = em.standard_errors(x, method=method)
    assert found.free_parameters == ("mean", "var")
    np.testing.assert_allclose(found.covariance, wanted, rtol=1e-4)


class Linkage:
    """Cells 1/2 + θ/4, (1 − θ)/4, (1 − θ)/4, θ/4 of a table, the first of which is the sum of two (Rao 1973, §5g)."""

    def init(self, sample: Any, rng: Any) -> Any:
        return {"theta": 0.5}

    def e_step(self, p: Any, chunk: Any) -> Any:
        theta, n = p["theta"], np.bincount(chunk.x[:, 0].astype(int), chunk.weight, minlength=4)
        cells = np.array([0.5 + theta / 4, (1 - theta) / 4, (1 - theta) / 4, theta / 4])
        return {"hidden": n[0] * (theta / 4) / cells[0], "n": n, "log_likelihood": n @ np.log(cells)}

    def m_step(self, s: Any, previous: Any) -> Any:
        ours = s["hidden"] + s["n"][3]
        return {"theta": ours / (ours + s["n"][1] + s["n"][2])}


def test_linkage_of_genes() -> None:
    """θ = 0.6268214978, and its error by the closed form; counts are weights (Dempster, Laird & Rubin 1977, §1)."""
    cells, counts = np.arange(4.0)[:, None], np.array([125.0, 18.0, 20.0, 34.0])
    em = EM(Linkage(), **EXACT).fit(cells, sample_weight=counts)
    theta = float(em.params_["theta"])
    assert theta == pytest.approx(0.6268214978, abs=1e-8)
    wanted = (125 / (2 + theta) ** 2 + 38 / (1 - theta) ** 2 + 34 / theta**2) ** -0.5
    assert float(em.standard_errors(cells, sample_weight=counts)["params_"]["theta"]) == pytest.approx(wanted, rel=1e-5)


class Idle(Center):
    """Estimates a number that no row's density depends on, and keeps another."""

    def init(self, sample: Any, rng: Any) -> Any:
        return {**super().init(sample, rng), "idle": 0.0, "kept": 3.0}

    def e_step(self, p: Any, chunk: Any) -> Any:
        return {**super().e_step(p, chunk), "squares": chunk.weight @ chunk.x[:, 0] ** 2}

    def m_step(self, s: Any, previous: Any) -> Any:
        return {**super().m_step(s, previous), "idle": s["squares"] / s["weight"], "kept": previous["kept"]}


def test_what_is_fixed_and_what_nobody_tells() -> None:
    em = EM(Idle(), **EXACT).fit(X)
    with pytest.warns(UncertaintyWarning, match="the data do not tell idle, or"):
        found = em.standard_errors(X)["params_"]
    np.testing.assert_allclose(found["center"], 1 / np.sqrt(400), rtol=1e-5)
    assert np.isnan(found["idle"])
    assert found["kept"] == 0.0


def test_a_fit_that_is_no_maximum_is_named() -> None:
    em = EM(blend(), max_iter=200).fit(X)
    em.params_ = {**em.params_, "means": em.params_["means"] + 0.5}
    with pytest.warns(UncertaintyWarning, match=r"has its maximum elsewhere, up to .* in .*means\[0, 0\]"):
        em.standard_errors(X)


def test_threads_and_a_cluster_give_the_same_bits(client: Any) -> None:
    em = EM(Censored(), **EXACT, chunk_bytes=1024).fit(censored_rows())
    runs = [em.standard_errors(censored_rows(), executor=executor) for executor in ("threads", client)]
    assert runs[0]["params_"] == runs[1]["params_"]
    assert runs[0].passes == 2


def test_the_table_names_each_number() -> None:
    x = censored_rows()
    em = EM(Censored(), **EXACT).fit(x)
    table = em.summary(x).table.to_pylist()
    assert [row["parameter"] for row in table] == ["params_.mean", "params_.var"]
    assert table[0]["estimate"] == float(em.params_["mean"])


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = censored_rows()
    em = EM(Censored()).fit(x)
    with pytest.raises(ParameterError, match=r"method='opg' needs the log-likelihood of each row: give Cen"):
        em.standard_errors(x, method="opg")
    with pytest.raises(ParameterError, match="method is 'fisher'"):
        em.standard_errors(x, method="fisher")
    with pytest.raises(ParameterError, match="rows of EM stand alone"):
        em.standard_errors(x, [500])
    with pytest.raises(ParameterError, match="3 rows do not tell which numbers of the parameters are free"):
        EM(Center()).fit(X).standard_errors(X[:3])
    monkeypatch.setattr("streamem.running.uncertainty.own.MOST_FREE", 1)
    with pytest.raises(ParameterError, match="more than 1 free numbers"):
        em.standard_errors(x)
