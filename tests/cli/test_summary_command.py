"""``streamem summary`` prints what `summary` of the model says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import GaussianMixture
from streamem.cli.main import main


def test_summary_of_a_parquet_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 200), rng.normal(4, 1, 100)])[:, None]
    data, file = str(tmp_path / "data.parquet"), str(tmp_path / "model.npz")
    pq.write_table(pa.table({"length": x[:, 0]}), data)
    model = GaussianMixture(2, reg_covar=0, tol=1e-9, max_iter=1000, random_state=0).fit(data)
    model.save(file)
    run = CliRunner().invoke(main, ["summary", file, data])
    assert run.exit_code == 0, run.output
    assert run.output.rstrip() == str(model.summary(data))
    told = json.loads(CliRunner().invoke(main, ["summary", file, data, "--method", "opg", "--json"]).output)
    wanted = model.standard_errors(data, method="opg").means_[0, 0]
    row = next(row for row in told["parameters"] if row["parameter"] == "means_[0, 0]")
    assert row["standard_error"] == pytest.approx(wanted, rel=1e-12)
    refused = CliRunner().invoke(main, ["summary", file, data, "--method", "hessian"])
    assert refused.exit_code == 2
