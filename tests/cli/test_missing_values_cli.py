"""``--missing integrate`` and ``streamem impute`` on files with nulls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import GaussianMixture
from streamem.cli.main import main


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """survey.parquet with nulls in its columns a and b, in the current folder."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2)) + 8.0 * rng.integers(2, size=400)[:, None]
    gone = rng.uniform(size=x.shape) < 0.2
    table = pa.table({name: pa.array(x[:, j], mask=gone[:, j]) for j, name in enumerate("ab")})
    pq.write_table(table, tmp_path / "survey.parquet")
    monkeypatch.chdir(tmp_path)
    return table.to_pandas()


def call(*arguments: str, code: int = 0, given: str | None = None) -> str:
    result = CliRunner().invoke(main, list(arguments), input=given)
    assert result.exit_code == code, result.output
    return result.output


def test_fit_and_impute(data: pd.DataFrame) -> None:
    fit = ("fit", "gmm", "survey.parquet", "-k", "2", "--seed", "0", "-o", "m.npz")
    assert "--missing integrate" in call(*fit, code=1)
    call(*fit, "--missing", "integrate")
    model = GaussianMixture(2, missing="integrate", random_state=0).fit(data)
    call("impute", "m.npz", "survey.parquet", "-o", "filled.parquet")
    filled = pd.read_parquet("filled.parquet")
    assert list(filled) == ["a", "b"]
    np.testing.assert_allclose(filled, model.impute(data), rtol=1e-9)
    call("impute", "m.npz", "survey.parquet", "-o", "drawn.npy", "--draws", "3", "--seed", "7")
    assert np.load("drawn.npy").shape == (400, 6)
    call("impute", "m.npz", "survey.parquet", "-o", "again.npy", "--draws", "3", "--seed", "7", "--threads", "1")
    np.testing.assert_array_equal(np.load("drawn.npy"), np.load("again.npy"))


def test_chains_and_streams(data: pd.DataFrame) -> None:
    call("fit", "hmm", "survey.parquet", "-k", "2", "--seed", "0", "--missing", "integrate", "-o", "h.npz")
    call("impute", "h.npz", "survey.parquet", "-o", "steps.parquet")
    assert np.isfinite(pd.read_parquet("steps.parquet")).all(axis=None)
    records = data.to_json(orient="records", lines=True)
    call("update", "live.npz", "-k", "2", "--seed", "0", "--missing", "integrate", given=records)
    assert GaussianMixture.load("live.npz").missing == "integrate"
    told = call("update", "live.npz", "--missing", "error", given=records, code=1)
    assert "was learned with --missing integrate" in told
