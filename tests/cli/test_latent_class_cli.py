"""``streamem fit latent-class`` on a survey with text and nulls, and what the other commands make of its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from streamem import LatentClass
from streamem.cli import main


def test_from_survey_to_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    agree = rng.random((600, 3)) < np.array([[0.9], [0.2]])[rng.integers(2, size=600)]
    columns = {f"q{j}": pa.array(np.where(agree[:, j], "yes", "no"), mask=rng.random(600) < 0.1) for j in range(3)}
    pq.write_table(pa.table(columns), tmp_path / "survey.parquet")
    survey, model, out = (str(tmp_path / name) for name in ("survey.parquet", "m.npz", "labels.parquet"))
    command = ["fit", "latent-class", survey, "-k", "2", "-o", model, "--seed", "0", "--n-init", "2", "--tol", "1e-5"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "--missing integrate" in refused.output
    done = CliRunner().invoke(main, [*command, "--missing", "integrate", "--compress", "yes", "--init", "merged_em"])
    assert done.exit_code == 0, done.output
    assert "2 classes of 3 columns, converged" in done.output
    for rest in (["predict", model, survey, "-o", out], ["show", model], ["score", model, survey]):
        assert CliRunner().invoke(main, rest).exit_code == 0
    labels = pq.read_table(out)["label"].to_numpy()
    said = [columns[name].to_numpy(zero_copy_only=False) == "yes" for name in columns]
    often = np.sum(said, axis=0) >= 2
    assert max(np.mean(labels == often), np.mean(labels != often)) > 0.85
    assert "patterns with weights" in CliRunner().invoke(main, ["show", model]).output


def test_a_prior_of_the_shares(tmp_path: Path) -> None:
    """As if 20 more people had been in each class."""
    rng = np.random.default_rng(0)
    agree = rng.random((400, 3)) < np.array([[0.9], [0.2]])[(rng.random(400) < 0.8).astype(int)]
    survey, model = str(tmp_path / "survey.parquet"), str(tmp_path / "m.npz")
    pq.write_table(pa.table({f"q{j}": np.where(agree[:, j], "yes", "no") for j in range(3)}), survey)
    command = ["fit", "latent-class", survey, "-k", "2", "-o", model, "--seed", "0", "--init", "random"]
    done = CliRunner().invoke(main, [*command, "--tol", "1e-8", "--weight-concentration-prior", "21"])
    assert done.exit_code == 0, done.output
    fitted = LatentClass.load(model)
    shares = fitted.predict_proba(survey).sum(axis=0)
    np.testing.assert_allclose(fitted.weights_, (shares + 20) / (400 + 40), atol=1e-4)
