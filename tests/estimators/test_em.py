"""`EM` of models that users write, against `GaussianMixture`, SciPy, and itself on every way that rows can come."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.base import clone

import streamem
from helpers.users_model import Censored, GaussianBlend, blend, censored_rows, two_clusters
from streamem import EM, GaussianMixture, select
from streamem.algorithms import Change, IncrementalEM, StepwiseEM
from streamem.core.errors import (
    CheckpointMismatchError,
    DataError,
    ModelFileError,
    MonotonicityError,
    NonFiniteError,
    ParameterError,
    StreamemError,
)
from streamem.estimators.loading import load_model
from streamem.plots import plot_components

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::streamem.running.reached.LocalMaximumWarning"
)

X = two_clusters()
WEIGHT = np.random.default_rng(3).uniform(0.5, 2.0, len(X))
SETTINGS: dict[str, Any] = {"tol": 1e-9, "max_iter": 500}


def same_bits(one: Any, other: Any) -> bool:
    return bool(one.params_ == other.params_) and one.lower_bounds_ == other.lower_bounds_


@cache
def fitted() -> EM:
    return EM(blend(), **SETTINGS).fit(X)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_a_mixture_of_ones_own_is_the_built_in_one(weight: Any) -> None:
    """From the same start: every log-likelihood, and the parameters, to 1e-10."""
    start, steps = blend(), {"tol": 0.0, "max_iter": 25}
    own = EM(start, **steps).fit(X, sample_weight=weight)
    given = {"means_init": start.means, "weights_init": start.weights, "precisions_init": start.covariances}
    gm = GaussianMixture(2, reg_covar=0.0, **given, **steps).fit(X, sample_weight=weight)
    np.testing.assert_allclose(own.lower_bounds_, gm.lower_bounds_, atol=1e-10)
    np.testing.assert_allclose(own.params_["means"], gm.means_, atol=1e-10)
    np.testing.assert_allclose(own.params_["covariances"], gm.covariances_, atol=1e-10)
    np.testing.assert_allclose(own.params_["weights"], gm.weights_, atol=1e-10)
    np.testing.assert_allclose(own.score_samples(X), gm.score_samples(X), atol=1e-10)
    np.testing.assert_allclose(own.predict_proba(X), gm.predict_proba(X), atol=1e-10)
    assert own.predict(X).tolist() == gm.predict(X).tolist()
    assert own.score(X, sample_weight=weight) == pytest.approx(gm.score(X, sample_weight=weight), abs=1e-10)


def test_a_censored_sample_has_the_maximum_that_scipy_finds() -> None:
    x = censored_rows()[:, 0]

    def loss(free: Any) -> float:
        mean, sd = free[0], np.exp(free[1])
        return -float(np.where(x >= 1, norm.logsf(1.0, mean, sd), norm.logpdf(x, mean, sd)).sum())

    best = minimize(loss, [0.0, 0.0], tol=1e-12)
    em = EM(Censored(), tol=1e-13, max_iter=5000).fit(x[:, None])
    assert em.params_["mean"] == pytest.approx(best.x[0], abs=1e-5)
    assert np.sqrt(em.params_["var"]) == pytest.approx(np.exp(best.x[1]), abs=1e-5)
    assert em.lower_bound_ * len(x) == pytest.approx(-best.fun, abs=1e-8)


@pytest.mark.parametrize("algorithm", ["squarem", "anderson", "auto"])
def test_accelerated_em_comes_to_the_same_maximum(algorithm: str) -> None:
    found = EM(blend(), tol=1e-9, max_iter=500, random_state=0).fit(X, algorithm=algorithm)
    assert found.lower_bound_ == pytest.approx(fitted().lower_bound_, abs=1e-7)
    assert found.n_iter_ < fitted().n_iter_


@pytest.mark.parametrize("algorithm", [StepwiseEM(passes=3), IncrementalEM(blocks=4, stopping=Change(1e-6))])
def test_mini_batches_come_near(algorithm: Any) -> None:
    found = EM(blend(), random_state=0).fit(X, algorithm=algorithm)
    assert found.lower_bound_ == pytest.approx(fitted().lower_bound_, abs=5e-3)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("own")
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "w": WEIGHT}), folder / "x.parquet", row_group_size=100)
    zarr.create_array(str(folder / "x.zarr"), data=X, chunks=(150, 2))
    np.save(folder / "x.npy", X)
    return {kind: str(folder / f"x.{kind}") for kind in ("parquet", "zarr", "npy")}


@pytest.mark.parametrize("kind", ["parquet", "zarr", "npy"])
def test_rows_come_from_anywhere(stores: dict[str, Any], kind: str) -> None:
    options = {"columns": ["a", "b"]} if kind == "parquet" else {}
    em = EM(blend(), **SETTINGS, chunk_bytes=4096).fit(stores[kind], **options)
    assert em.lower_bound_ == pytest.approx(fitted().lower_bound_, abs=1e-10)
    assert kind != "parquet" or em.feature_names_in_.tolist() == ["a", "b"]


def test_threads_and_dask_give_the_same_bits(stores: dict[str, Any], client: Any) -> None:
    """Of a source in several chunks, weighted; answers too."""
    options: dict[str, Any] = {"columns": ["a", "b"], "sample_weight": "w"}
    runs = [
        EM(blend(), max_iter=3, chunk_bytes=4096, n_threads=threads).fit(
            stores["parquet"], executor=executor, **options
        )
        for threads, executor in ((1, "threads"), (2, "threads"), (2, client))
    ]
    assert runs[0].report_.n_chunks > 2
    assert same_bits(runs[0], runs[1])
    assert same_bits(runs[0], runs[2])
    answers = [runs[0].predict(stores["parquet"], executor=executor) for executor in ("threads", client)]
    assert answers[0].tolist() == answers[1].tolist()


def test_a_fit_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """10 iterations are 5, and 5 more, bit for bit; another model is refused."""
    path, steps = tmp_path / "run.npz", {"tol": 0.0, "random_state": 0}
    EM(blend(), max_iter=5, **steps).fit(X, checkpoint=path)
    resumed = EM(blend(), max_iter=10, **steps).fit(X, checkpoint=path)
    assert same_bits(resumed, EM(blend(), max_iter=10, **steps).fit(X))
    assert resumed.n_iter_ == 10
    other = GaussianBlend(np.array([0.9, 0.1]), blend().means, blend().covariances)
    with pytest.raises(CheckpointMismatchError, match="model"):
        EM(other, max_iter=10, **steps).fit(X, checkpoint=path)


def test_a_model_file_wants_its_model_again(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    fitted().save(path)
    again = EM.load(path, model=blend())
    assert same_bits(again, fitted())
    assert again.n_features_in_ == 2
    assert again.predict(X).tolist() == fitted().predict(X).tolist()
    with pytest.raises(ParameterError, match=r"whose model is code: load it with EM.load\(path, model=\.\.\.\)"):
        EM.load(path)
    with pytest.raises(ModelFileError, match=r"whose model is code: load it with EM.load\(path, model=\.\.\.\)"):
        load_model(path)


def test_online_learning_goes_on_from_a_fit_and_from_nothing() -> None:
    em = EM(blend(), **SETTINGS)
    rng = np.random.default_rng(0)
    for _ in range(60):
        em.partial_fit(X[rng.integers(0, len(X), 200)])
    assert em.score(X) == pytest.approx(fitted().lower_bound_, abs=5e-3)
    warm = clone(fitted()).fit(X).partial_fit(X[:100], sample_weight=WEIGHT[:100])
    assert warm.report_.n_rows == 700


def test_a_stream_survives_a_crash(tmp_path: Path) -> None:
    """The bits are those of the run without one."""
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    path = str(tmp_path / "s.arrow")
    whole = EM(blend()).fit_stream(path, batch_rows=100)
    saving: dict[str, Any] = {"batch_rows": 100, "checkpoint": tmp_path / "live.npz", "save_every_s": 0}
    EM(blend()).fit_stream(path, until=300, **saving)
    resumed = EM(blend()).fit_stream(path, **saving)
    assert resumed.params_ == whole.params_
    assert resumed.report_.n_rows == 600


def test_sites_share_statistics_instead_of_rows() -> None:
    em = EM(blend(), max_iter=0).fit(X)
    for _ in range(3):
        em.maximize(sum(em.expected_statistics(part) for part in (X[:250], X[250:])))
    central = EM(blend(), max_iter=3, tol=0.0).fit(X)
    np.testing.assert_allclose(em.params_["means"], central.params_["means"], atol=1e-12)


def test_it_is_an_estimator_like_the_others() -> None:
    """Clones, pickles, parameters that cannot be written to and can be set, warm starts, starts of several."""
    copy = pickle.loads(pickle.dumps(fitted()))
    assert copy.params_ == fitted().params_
    assert copy.score(X) == fitted().score(X)
    fresh = clone(fitted())
    assert fresh.get_params()["tol"] == 1e-9
    assert not hasattr(fresh, "params_")
    with pytest.raises(ValueError, match="read-only"):
        fitted().params_["means"][0] = 0.0
    by_hand = EM(blend())
    by_hand.params_ = dict(fitted().params_)
    assert by_hand.score(X) == pytest.approx(fitted().lower_bound_)
    with pytest.raises(ParameterError, match="no rows have told yet how many columns there are"):
        _by_hand(Censored()).save("own.npz")
    by_hand.params_ = {"means": "far"}
    with pytest.raises(ParameterError, match="params_ was set by hand and returned 'means', a str"):
        by_hand.score(X)
    warm = EM(blend(), tol=0.0, max_iter=4, warm_start=True).fit(X).fit(X)
    np.testing.assert_allclose(warm.lower_bound_, EM(blend(), tol=0.0, max_iter=8).fit(X).lower_bound_, atol=1e-13)


def _by_hand(model: Any) -> EM:
    em = EM(model)
    em.params_ = {"mean": 0.0, "var": 1.0}
    return em


class Drawing(GaussianBlend):
    """A start from two rows, drawn."""

    def init(self, sample: Any, rng: Any) -> dict[str, Any]:
        means = sample.x[rng.choice(len(sample.x), 2, replace=False)]
        return {"weights": np.full(2, 0.5), "means": means, "covariances": np.array([np.cov(sample.x.T)] * 2)}


def test_starts_are_drawn_by_the_seed() -> None:
    start = blend()
    model = Drawing(start.weights, start.means, start.covariances)
    one, two, other = (EM(model, random_state=seed, max_iter=2, n_init=2).fit(X) for seed in (1, 1, 2))
    assert same_bits(one, two)
    assert not same_bits(one, other)
    assert one.report_.starts is not None


def test_select_chooses_between_models() -> None:
    """Of one cluster and two, by BIC, in shared passes; the number of parameters is the model's to say."""

    def counting(model: Any, p: int) -> Any:
        model.n_parameters = lambda params: p
        return model

    single = GaussianBlend(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    found = select(EM(blend(), **SETTINGS), X, model=[counting(single, 5), counting(blend(), 11)])
    assert len(found.best_estimator_.params_["weights"]) == 2
    assert found.best_estimator_.bic(X) == pytest.approx(-2 * fitted().lower_bound_ * 600 + 11 * np.log(600))
    with pytest.raises(ParameterError, match="criterion='icl' is for mixtures"):
        select(EM(blend()), X, model=[blend()], criterion="icl")


def test_answers_go_to_files_and_lazily_to_dask(tmp_path: Path) -> None:
    import dask.array as da

    out = fitted().predict_proba(X, out=tmp_path / "p.zarr")
    np.testing.assert_array_equal(zarr.open_array(str(out), mode="r")[:], fitted().predict_proba(X))
    lazy = fitted().predict(da.from_array(X, chunks=(200, 2)))
    assert lazy.compute().tolist() == fitted().predict(X).tolist()
    fitted().sample_to(tmp_path / "drawn.npy", 50)
    assert np.load(tmp_path / "drawn.npy").shape == fitted().sample(50).shape == (50, 2)


def test_methods_are_there_if_the_model_has_them() -> None:
    """As scikit-learn's meta-estimators have theirs, so that pipelines see what they can do."""
    able, bare = EM(blend()), EM(Censored())
    named = ("predict", "fit_predict", "predict_proba", "score_samples", "sample", "transform")
    assert [hasattr(able, name) for name in named] == [True] * 5 + [False]
    assert not any(hasattr(bare, name) for name in named)
    frame = fitted().set_output(transform="pandas").predict_proba(X[:3])
    fitted().set_output(transform="default")
    assert frame.columns.tolist() == ["probability_0", "probability_1"]


def test_words_and_tables_show_the_parameters() -> None:
    told = fitted().describe().splitlines()
    assert told[0] == "EM: GaussianBlend of 2 features, 14 free parameters"
    assert told[5].startswith("    weights 2: 0.6")
    assert "<th style" in fitted()._repr_html_()
    assert "covariances 2×2×2: " in fitted()._repr_html_()


def test_values_that_were_not_observed() -> None:
    holes = censored_rows(holes=True)
    em = EM(Censored(missing="values"), **SETTINGS).fit(holes)
    full = EM(Censored(), **SETTINGS).fit(holes[~np.isnan(holes[:, 0])])
    assert em.params_["mean"] == pytest.approx(full.params_["mean"], abs=1e-7)
    assert em.__sklearn_tags__().input_tags.allow_nan
    with pytest.raises(NonFiniteError, match='let the model say so: missing = "values"'):
        EM(Censored()).fit(holes)


# --- what is told of mistakes ----------------------------------------------------------------------------------------


class LogLikelihoodOfTheNext(GaussianBlend):
    """Lies: its log-likelihood is lower from call to call."""

    calls = 0

    def e_step(self, p: Any, chunk: Any) -> dict[str, Any]:
        type(self).calls += 1
        found = super().e_step(p, chunk)
        return {**found, "log_likelihood": found["log_likelihood"] - self.calls}


def test_a_log_likelihood_that_falls_ends_the_fit() -> None:
    start = blend()
    with pytest.raises(MonotonicityError, match=r"of a model of your own, `m_step` that of `e_step` \(.*check_model"):
        EM(LogLikelihoodOfTheNext(start.weights, start.means, start.covariances), tol=0.0).fit(X)


REFUSED: dict[str, tuple[Any, str]] = {
    "a class": (lambda: EM(Censored).fit(X), "model is the class Censored; pass an object of it"),
    "no functions": (lambda: EM(SimpleNamespace()).fit(X), "has no init, e_step, m_step"),
    "noise": (lambda: EM(blend(), noise=True), "EM has no noise"),
    "text": (lambda: EM(blend()).fit(pa.table({"a": ["x", "y"] * 9})), "not numeric|no numbers|text"),
    "no predict": (
        lambda: EM(Censored()).fit(X[:, :1]).predict(X[:, :1]),
        r"Censored has no predict: give it predict\(",
    ),
    "no sample": (lambda: EM(Censored()).fit(X[:, :1]).sample(2), r"Censored has no sample: give it sample\(params, n"),
    "an answer for no row": (
        lambda: EM(_answering(lambda p, c: 1.0)).fit(X).predict(X),
        r"predict of GaussianBlend returned float64 of shape \(\) for 1 rows",
    ),
    "one number where several are needed": (
        lambda: EM(_answering(lambda p, c: c.x[:, 0], "transform")).fit(X).transform(X),
        r"transform of GaussianBlend returned shape \(1,\) for one row; \(n, m\)",
    ),
    "diagnose": (lambda: fitted().diagnose(X), "EM has no diagnose"),
    "a picture of components": (lambda: plot_components(fitted()), "EM has no components to draw"),
    "other columns": (lambda: fitted().score(X[:, :1]), "1 features"),
    "too few rows online": (
        lambda: EM(blend()).fit_stream([X[:3]], batch_rows=3),
        r"3 usable rows are kept, and a start needs at least 6, least_rows of the model",
    ),
}


def _answering(function: Any, name: str = "predict") -> Any:
    model = blend()
    setattr(model, name, function)
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_to_do(case: str) -> None:
    call, words = REFUSED[case]
    with pytest.raises((ParameterError, DataError, StreamemError, ValueError), match=words):
        call()


def test_it_is_exported() -> None:
    assert streamem.EM is EM
