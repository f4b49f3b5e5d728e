"""What commands and pages make of a model file, of whatever estimator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from test_house import ESTIMATORS, response, rows, unfitted

from streamem.cli.main import main
from streamem.core.html import preformatted

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning"),
]
NAMES = [name for name in ESTIMATORS if name != "EM"]
"""Of `EM` the file holds no code, so that no command can read it."""
QUICK = ("ItemResponse", "FactorAnalysis", "GaussianHMM", "DawidSkene")
EVERY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
WITHOUT_CLASSES = ("ItemResponse", "FactorAnalysis", "PPCA", "LinearGaussianChain")
WITHOUT_DRAWS = ("MixtureProportions", "MultinomialMixture", "MixtureOfRegressions")


def table_of(name: str) -> pa.Table:
    """Rows that the estimator takes; of groups and sequences with the column `g`."""
    x = rows(name)
    if isinstance(x, pa.Table):
        return x
    groups = np.arange(len(x)) if isinstance(x, list) else np.arange(4)
    whole = np.concatenate(x) if isinstance(x, list) else x
    found = pa.table(dict(zip("abcd", whole.T, strict=False)))
    if ESTIMATORS[name].structure.is_sequential:
        found = found.append_column("g", pa.array(np.repeat(groups, len(whole) // len(groups))))
    return found


@pytest.mark.parametrize("name", EVERY)
def test_commands_read_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answers, or says in a message why there is no answer."""
    monkeypatch.chdir(tmp_path)
    table, model = table_of(name), unfitted(ESTIMATORS[name])
    pq.write_table(table, "x.parquet")
    by: dict[str, Any] = {"sequence_column": "g"} if "g" in table.column_names else {}
    by |= {"y": "b"} if name == "MixtureOfRegressions" else {}
    model.fit("x.parquet", **by).save("m.npz")
    Path("x.jsonl").write_text("\n".join(map(json.dumps, table.to_pylist())))
    refused: dict[str, bool] = {
        "show m.npz": False,
        "predict m.npz x.parquet -o p.npy": False,
        "predict m.npz x.parquet -o q.npy --proba": name in WITHOUT_CLASSES,
        "score m.npz x.parquet": False,
        "score m.npz x.parquet -o d.npy": hasattr(model, "startprob_"),
        "sample m.npz -n 6 -o s.npy": name in WITHOUT_DRAWS,
        "update m.npz x.jsonl": False,
    }
    for command, expected in refused.items():
        result = CliRunner().invoke(main, command.split())
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
        assert (result.exit_code != 0) == expected, (command, result.output)


@pytest.mark.parametrize("name", EVERY)
def test_a_page_tells_all_parameters(name: str) -> None:
    """Also where a line is an item or a factor and not a component."""
    model = unfitted(ESTIMATORS[name]).fit(rows(name), **response(name))
    shown = model._repr_html_()
    for words in model.face.words(model, model._fitted.state.params.components):
        assert preformatted(words).split(">")[1].split("<")[0] in shown
