"""``streamem fit items`` on a Parquet file, and what the other commands make of its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from helpers.published_tables import lsat
from streamem import ItemResponse
from streamem.cli.main import main


def call(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", ["2pl", "rasch"])
def test_items_of_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Every option reaches the model, and other commands read its file as Python does."""
    monkeypatch.chdir(tmp_path)
    patterns, counts = lsat()
    names = [f"q{j}" for j in range(5)]
    frame = pd.DataFrame(patterns, columns=names).assign(person=np.arange(len(patterns)), n=counts)
    frame.to_parquet("test.parquet")
    options = ["--columns", ",".join(names), "--model", kind, "-k", "21", "--weight", "n", "--tol", "1e-6"]
    told = call("fit", "items", "test.parquet", *options, "-o", "m.npz", "--abilities", "a.parquet")
    model = ItemResponse(kind, n_nodes=21, tol=1e-6).fit(patterns, sample_weight=counts)
    assert f"m.npz: 5 items, converged after {model.n_iter_} iterations" in told
    written = pq.read_table("a.parquet")
    abilities = model.abilities(patterns)
    assert written.column_names == ["ability", "standard_deviation"]
    np.testing.assert_allclose(np.column_stack([written[name].to_numpy() for name in written.column_names]), abilities)
    call("predict", "m.npz", "test.parquet", "-o", "p.npy")
    np.testing.assert_allclose(np.load("p.npy"), abilities)
    scores = json.loads(call("score", "m.npz", "test.parquet", "--weight", "n", "--json", "-o", "d.npy"))
    np.testing.assert_allclose(scores["log_likelihood"], counts @ np.load("d.npy"))
    np.testing.assert_allclose(np.load("d.npy"), model.score_samples(patterns))
    assert f"5 items, abilities at 21 nodes, {kind}, {10 if kind == '2pl' else 6} free parameters" in call(
        "show", "m.npz"
    )


def test_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 1.0], [1.0, np.nan, 1.0]]))
    run = CliRunner()
    refused = run.invoke(main, ["fit", "items", "x.npy", "-o", "m.npz", "--missing", "integrate"])
    assert refused.exit_code == 1
    assert "an answer is 1, right, or 0, wrong" in refused.output
    refused = run.invoke(main, ["fit", "items", "x.npy", "-o", "m.npz"])
    assert "--missing integrate" in refused.output
    assert "from 2 to 200" in run.invoke(main, ["fit", "items", "x.npy", "-o", "m.npz", "-k", "300"]).output
    assert not Path("m.npz").exists()
