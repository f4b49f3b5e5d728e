"""``streamem fit regression`` on files and a store, what other commands make of its file, and wrong inputs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from helpers.object_server import SECRET, ObjectServer
from streamem import MixtureOfRegressions
from streamem.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def ask(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def call(*arguments: Any) -> str:
    result = ask(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Purchases that depend on price in two ways; age says in which."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    age, price, visits = rng.uniform(18, 80, 300), rng.normal(size=300), rng.integers(1, 4, 300)
    keen = rng.random(300) < 1 / (1 + np.exp(-0.1 * (age - 45)))
    bought = rng.poisson(visits * np.exp(np.where(keen, 1.5 + 0.2 * price, 0.5 - 0.8 * price)))
    frame = pd.DataFrame({"id": np.arange(300), "age": age, "price": price, "visits": visits, "bought": bought})
    frame = frame.assign(w=1.0 + np.arange(300) % 2)
    frame.to_parquet("t.parquet")
    return frame


FIT = ["fit", "regression", "t.parquet", "--response", "bought", "--family", "poisson", "--seed", 0, "-o", "m.npz"]


def test_every_option_reaches_the_model(table: pd.DataFrame) -> None:
    shape = ["-k", 2, "--columns", "price", "--concomitant", "age", "--exposure", "visits", "--weight", "w"]
    ways = ["--tol", 1e-5, "--max-iter", 9, "--stopping", "change", "--init", "random", "--n-init", 2]
    told = call(*FIT, *shape, *ways, "--algorithm", "batch", "--checkpoint", "c.npz", "--missing", "integrate")
    model = MixtureOfRegressions(
        2,
        "poisson",
        concomitant=["age"],
        exposure="visits",
        tol=1e-5,
        max_iter=9,
        stopping="change",
        init_params="random",
        n_init=2,
        random_state=0,
        missing="integrate",
    ).fit(table, "bought", "w", columns=["price"], algorithm="batch")
    assert "m.npz: 2 regressions of poisson responses on 1 covariate, weights by 1 column, " in told
    own = MixtureOfRegressions.load("m.npz")
    for name in ("coef_", "intercept_", "concomitant_coef_", "weights_"):
        np.testing.assert_array_equal(getattr(own, name), getattr(model, name))
    assert Path("c.npz").exists()
    call("predict", "m.npz", "t.parquet", "-o", "l.npy")
    np.testing.assert_array_equal(np.load("l.npy"), model.predict(table))
    call("predict", "m.npz", "t.parquet", "--proba", "-o", "p.npy")
    np.testing.assert_array_equal(np.load("p.npy"), model.predict_proba(table))
    scores = json.loads(call("score", "m.npz", "t.parquet", "--weight", "w", "--json", "-o", "d.npy"))
    assert scores["bic"] == pytest.approx(model.bic(table, sample_weight="w"), rel=1e-12)
    np.testing.assert_array_equal(np.load("d.npy"), model.score_samples(table))
    assert "log-odds of each component against component 0" in call("show", "m.npz")


def test_successes_of_trials_and_a_response_that_lies_apart(table: pd.DataFrame) -> None:
    """Arrays have no names: the response is a file, which other commands are told."""
    rng = np.random.default_rng(1)
    X = np.column_stack([table.price, rng.integers(1, 9, 300)])
    y = rng.binomial(X[:, 1].astype(int), 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    np.save("x.npy", X)
    np.save("y.npy", y)
    fit = ["fit", "regression", "x.npy", "--response", "y.npy", "--family", "binomial", "-o", "m.npz"]
    assert "1 regression of binomial responses on 1 covariate, " in call(*fit, "--trials", -1)
    model = MixtureOfRegressions(1, "binomial", trials=-1).fit(X, y)
    scores = json.loads(call("score", "m.npz", "x.npy", "--response", "y.npy", "--json"))
    assert scores["log_likelihood"] == pytest.approx(model.scores(X, y)["log_likelihood"], rel=1e-12)
    assert "coef_[0, 0]" in call("summary", "m.npz", "x.npy", "--response", "y.npy")
    call("predict", "m.npz", "x.npy", "--response", "y.npy", "-o", "l.npy")
    refused = ask("score", "m.npz", "x.npy")
    assert refused.exit_code == 1
    assert "the response is needed: pass --response" in refused.output


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A server that is reached with options only."""
    pytest.importorskip("obstore")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with ObjectServer().running() as served:
        yield served


def bytes_of(values: NDArray[Any]) -> bytes:
    written = io.BytesIO()
    np.save(written, values)
    return written.getvalue()


def test_everything_on_a_store(table: pd.DataFrame, server: ObjectServer) -> None:
    there = server.address
    server.objects |= {
        "x.npy": bytes_of(table[["age", "price"]].to_numpy()),
        "y.npy": bytes_of(table.bought.to_numpy(np.float64)),
        "w.npy": bytes_of(table.w.to_numpy()),
    }
    options = [f"--storage-option={name}={value}" for name, value in server.storage_options.items()]
    fit = ["fit", "regression", there("x.npy"), "--response", there("y.npy"), "--weight", there("w.npy"), "-k", 2]
    shape = ["--family", "poisson", "--concomitant", 0, "--seed", 0, "--max-iter", 3]
    told = call(*fit, *shape, "-o", there("m.npz"), "--checkpoint", there("c.npz"), *options)
    told += call("predict", there("m.npz"), there("x.npy"), "-y", there("y.npy"), "-o", there("l.npy"), *options)
    told += call("score", there("m.npz"), there("x.npy"), "--response", there("y.npy"), *options)
    assert SECRET not in told
    assert {"m.npz", "c.npz", "l.npy"} <= set(server.objects)
    model = MixtureOfRegressions(2, "poisson", concomitant=[0], random_state=0, max_iter=3)
    model.fit(table[["age", "price"]].to_numpy(), table.bought, table.w)
    known = model.predict(table[["age", "price"]].to_numpy(), table.bought.to_numpy(np.float64))
    np.testing.assert_array_equal(np.load(io.BytesIO(server.objects["l.npy"])), known)


WRONG: dict[str, tuple[list[Any], str]] = {
    "no response": (["fit", "regression", "t.parquet"], "Missing option '--response'"),
    "no such column": (["fit", "regression", "t.parquet", "--response", "sold"], "'sold'"),
    "the response twice": ([*FIT, "--columns", "price,bought"], "which --columns names as a covariate too"),
    "no such concomitant": ([*FIT, "-k", 2, "--concomitant", "ages"], "no column 'ages' on which the weights"),
    "all concomitants": ([*FIT, "--concomitant", "age", "--columns", ","], "columns"),
    "a response of another kind": (
        ["fit", "regression", "t.parquet", "-y", "price", "--family", "poisson"],
        "the response of a Poisson regression is a count",
    ),
    "an offset of numbers": ([*FIT, "--offset", "0", "--family", "gaussian"], "gaussian responses have none"),
    "a file that is not there": ([*FIT[:4], "y.npy"], "y.npy"),
    "more regressions than rows": ([*FIT, "-k", 200], "300 rows for"),
    "trials of counts": ([*FIT, "--trials", 3], "--trials is for --family binomial, and this is poisson"),
    "no trials": ([*FIT, "--family", "binomial", "--trials", 0], "trials is 0"),
    "a model of other things": (["score", "other.npz", "t.parquet", "-y", "bought"], "--response is for regressions"),
}


@pytest.mark.variations(12, 12)
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be(table: pd.DataFrame, name: str) -> None:
    arguments, words = WRONG[name]
    if "other.npz" in arguments:
        call("fit", "gmm", "t.parquet", "-k", 1, "-o", "other.npz")
    refused = ask(*arguments)
    assert refused.exit_code in (1, 2)
    assert words in refused.output, refused.output
    assert not Path("m.npz").exists()
