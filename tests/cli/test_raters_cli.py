"""``streamem fit raters`` on votes with text, and what the other commands make of its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from streamem.cli import main


def test_from_votes_to_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=80)
    item, who = (grid.ravel() for grid in np.meshgrid(np.arange(80), np.arange(5), indexing="ij"))
    said = np.where(rng.random(400) < 0.85, truth[item], 1 - truth[item])
    names = {
        "task": [f"t{i:02d}" for i in item],
        "worker": [f"w{w}" for w in who],
        "vote": np.array(["no", "yes"])[said],
    }
    votes, model, out = (str(tmp_path / name) for name in ("votes.parquet", "m.npz", "labels.parquet"))
    pq.write_table(pa.table(names), votes)
    refused = CliRunner().invoke(main, ["fit", "raters", votes, "-o", model])
    assert refused.exit_code == 1
    assert "'rater'" in refused.output
    columns = ["--item", "task", "--rater", "worker", "--label", "vote"]
    done = CliRunner().invoke(main, ["fit", "raters", votes, "-o", model, *columns, "--labels", out])
    assert done.exit_code == 0, done.output
    assert "5 raters, 2 classes, converged" in done.output
    told = pq.read_table(out).to_pydict()
    assert told["task"] == list(dict.fromkeys(names["task"]))
    assert np.mean(np.array(told["label"]) == np.array(["no", "yes"])[truth]) > 0.9
    rest = [["predict", model, votes, "-o", out, "--proba", "--overwrite"], ["show", model], ["score", model, votes]]
    for command in rest:
        assert CliRunner().invoke(main, command).exit_code == 0, command
    assert pq.read_table(out).column_names == ["task", "probability_no", "probability_yes"]
