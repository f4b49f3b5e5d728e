"""``streamem fit factor`` on a Parquet file with gaps, and what the other commands make of its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner

import streamem
from streamem.cli.main import main


def test_factors_from_the_command_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1)) @ [[2.0, 1.0, -1.0, 1.5]] + rng.normal(size=(300, 4))
    x[rng.random(x.shape) < 0.1] = np.nan
    data, model, out = (str(tmp_path / name) for name in ("x.parquet", "m.npz", "z.npy"))
    pd.DataFrame(x, columns=list("abcd")).to_parquet(data)
    run = CliRunner()
    refused = run.invoke(main, ["fit", "factor", data, "-q", "5", "-o", model, "--missing", "integrate"])
    assert refused.exit_code == 1
    assert "at most 4 can be told" in refused.output
    done = run.invoke(main, ["fit", "factor", data, "-q", "1", "-o", model, "--missing", "integrate"])
    assert done.exit_code == 0, done.output
    assert "1 factor of 4 features, converged" in done.output
    known = streamem.FactorAnalysis.load(model)
    assert run.invoke(main, ["predict", model, data, "-o", out]).exit_code == 0
    np.testing.assert_array_equal(np.load(out), known.transform(data))
    densities = str(tmp_path / "d.npy")
    assert run.invoke(main, ["score", model, data, "-o", densities]).exit_code == 0
    np.testing.assert_array_equal(np.load(densities), known.score_samples(data))
    assert "share of the variance, loadings" in run.invoke(main, ["show", model]).output
    options = ["-q", "1", "-k", "2", "--noise", "isotropic", "-o", model, "--missing", "integrate", "--seed", "0"]
    several = run.invoke(main, ["fit", "factor", data, *options])
    assert "1 factor of 4 features in each of 2 components" in several.output
    assert streamem.MixtureOfFactorAnalyzers.load(model).components_.shape == (2, 1, 4)
