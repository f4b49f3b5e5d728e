"""``streamem fit chain`` on real files, and the other commands on its models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from helpers.published_tables import NILE
from streamem import LinearGaussianChain
from streamem.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def call(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code not in (0, None)
    return result.output


def test_the_level_of_a_river_with_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """States beside the identifier of their sequence, and all other commands, agree with Python."""
    monkeypatch.chdir(tmp_path)
    flow = NILE[:, 0].copy()
    flow[20:30] = np.nan
    century = np.repeat(["19th", "20th"], [29, 71])
    pq.write_table(pa.table({"century": century, "flow": flow}), "nile.parquet", row_group_size=40)
    by = ("--sequence-column", "century")
    told = call(
        *("fit", "chain", "nile.parquet", "--form", "level", "--max-iter", "6", "-o", "m.npz", *by),
        *("--columns", "flow", "--states", "s.parquet", "--covariances"),
    )
    assert "1 latent dimension of 1 feature, not converged after 6 iterations" in told
    x, lengths = flow[:, None], [29, 71]
    chain = LinearGaussianChain.local_level(n_iter=6).fit(x, lengths=lengths)
    means, covariances = chain.smooth(x, lengths, covariances=True)
    written = pq.read_table("s.parquet")
    assert written.column_names == ["century", "state_0", "covariance_0_0"]
    np.testing.assert_allclose(written["state_0"].to_numpy(), means[:, 0])
    np.testing.assert_allclose(written["covariance_0_0"].to_numpy(), covariances[:, 0, 0])
    scores = json.loads(call("score", "m.npz", "nile.parquet", "--json", "-o", "d.npy"))
    np.testing.assert_allclose(scores["log_likelihood"], chain.score(x, lengths=lengths))
    np.testing.assert_allclose(np.load("d.npy").sum(), scores["log_likelihood"])
    call("predict", "m.npz", "nile.parquet", "-o", "signal.npy")
    np.testing.assert_allclose(np.load("signal.npy"), means)
    call("impute", "m.npz", "nile.parquet", "-o", "filled.npy")
    np.testing.assert_allclose(np.load("filled.npy")[25], means[25])
    assert "diffuse start, full noise of states" in call("show", "m.npz")
    assert "no probabilities of components" in fail("predict", "m.npz", "nile.parquet", "-o", "p.npy", "--proba")
    assert "a diffuse start has no distribution" in fail("sample", "m.npz", "-n", "5", "-o", "x.npy")


def test_a_free_chain_is_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(80, 2)))
    fit = ("fit", "chain", "x.npy", "-k", "2", "--seed", "0", "--max-iter", "3", "-o", "m.npz")
    assert "2 latent dimensions of 2 features" in call(*fit, "--noise", "full")
    call("sample", "m.npz", "-n", "50", "-o", "new.npy", "--seed", "1")
    assert np.load("new.npy").shape == (50, 2)
    assert "params is 'xyz'" in fail(*fit, "--params", "xyz")
    assert "--latent is for free chains" in fail(*fit, "--form", "trend")


def test_a_level_of_several_columns_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(40, 3))
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}), "x.parquet")
    for form in ("level", "trend"):
        assert "choose 1 of the 3 with --columns" in fail("fit", "chain", "x.parquet", "--form", form, "-o", "m.npz")
    assert "1 feature" in call("fit", "chain", "x.parquet", "--form", "level", "--columns", "b", "-o", "m.npz")


def test_update_goes_on_with_an_endless_river(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("nile.npy", NILE)
    call("fit", "chain", "nile.npy", "--form", "level", "--max-iter", "3", "-o", "m.npz")
    taught, lines = LinearGaussianChain.load("m.npz"), "".join(json.dumps(row) + "\n" for row in NILE.tolist())
    told = CliRunner().invoke(main, ["update", "m.npz", "--continued", "--batch-rows", "40"], input=lines)
    assert told.exit_code == 0, told.output
    for part in np.split(NILE, [40, 80]):
        taught.partial_fit(part, continued=True)
    found = LinearGaussianChain.load("m.npz")
    assert found.transition_covariance_.tobytes() == taught.transition_covariance_.tobytes()
    np.testing.assert_array_equal(found.forecast(None, 2).means, taught.forecast(None, 2).means)
