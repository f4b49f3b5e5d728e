"""``streamem fit hmm`` on real files, and the other commands on its models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from helpers.hmm_starts import LENGTHS, rows
from streamem import GMMHMM, GaussianHMM
from streamem.cli.main import main
from streamem.estimators.loading import load_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recording.zarr, lengths.npy and visits.parquet (id, a, b), as current folder."""
    x = rows()
    zarr.create_array(store=str(tmp_path / "recording.zarr"), shape=x.shape, chunks=(64, 2), dtype="f8")[:] = x
    np.save(tmp_path / "lengths.npy", LENGTHS)
    ids = np.repeat(["w", "z", "y", "x"], LENGTHS)
    table = pa.table({"id": ids, "a": x[:, 0], "b": x[:, 1], "n": np.arange(len(x)) % 3})
    pq.write_table(table, tmp_path / "visits.parquet", row_group_size=100)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code not in (0, None)
    return result.output


FIT = ("fit", "hmm", "recording.zarr", "-k", "3", "--seed", "0", "-o", "m.npz", "--lengths", "lengths.npy")


def test_fit_then_everything_else_agrees_with_python(folder: Path) -> None:
    assert "3 states of 2 features, converged" in call(*FIT, "--emission", "gaussian-full", "--max-iter", "1000")
    hmm = GaussianHMM(3, "full", n_iter=1000, random_state=0).fit("recording.zarr", LENGTHS)
    loaded = load_model("m.npz")
    np.testing.assert_array_equal(loaded.means_, hmm.means_)
    said = ("--lengths", "lengths.npy")
    call("predict", "m.npz", "recording.zarr", *said, "-o", "states.npy")
    np.testing.assert_array_equal(np.load("states.npy"), hmm.predict("recording.zarr", LENGTHS))
    call("predict", "m.npz", "recording.zarr", *said, "--proba", "-o", "p.zarr")
    np.testing.assert_array_equal(zarr.open_array("p.zarr")[:], hmm.predict_proba("recording.zarr", LENGTHS))
    scores = json.loads(call("score", "m.npz", "recording.zarr", *said, "--json"))
    assert scores["log_likelihood"] == hmm.score("recording.zarr", LENGTHS)
    assert "GaussianHMM: 3 states, 2 features" in call("show", "m.npz")
    call("sample", "m.npz", "-n", "50", "-o", "new.zarr", "--seed", "1")
    assert zarr.open_array("new.zarr").shape == (50, 2)


@pytest.mark.parametrize(
    ("emission", "columns"),
    [("gaussian-diag", "a,b"), ("gmm:2", "a,b"), ("categorical", "n"), ("poisson", "n"), ("gaussian-tied", "b")],
)
def test_emissions(folder: Path, emission: str, columns: str) -> None:
    told = call(
        *("fit", "hmm", "visits.parquet", "-k", "2", "--emission", emission, "--sequence-column", "id"),
        *("--columns", columns, "--seed", "0", "--max-iter", "3", "-o", "m.npz"),
    )
    assert "2 states" in told
    model = load_model("m.npz")
    assert model.feature_names_in_.tolist() == columns.split(",")
    assert isinstance(model, GMMHMM) == emission.startswith("gmm")
    call("predict", "m.npz", "visits.parquet", "--sequence-column", "id", "-o", "s.parquet")
    assert pq.read_table("s.parquet").num_rows == sum(LENGTHS)


def test_columns_of_a_zarr_group(folder: Path) -> None:
    """The first sequence is number 0: Zarr does not write chunks of it, which look the same as lost ones."""
    x = rows()
    group = zarr.create_group("visits.zarr")
    columns = {"a": x[:, 0], "b": x[:, 1], "id": np.repeat(np.arange(len(LENGTHS)), LENGTHS)}
    for name, values in columns.items():
        group.create_array(name, shape=values.shape, chunks=(100,), dtype=values.dtype)[:] = values
    fit = ("fit", "hmm", "visits.zarr", "-k", "3", "--seed", "0", "-o", "g.npz", "--sequence-column", "id")
    assert "--missing-chunks fill" in fail(*fit)
    call(*fit, "--missing-chunks", "fill")
    call(*FIT)
    np.testing.assert_array_equal(load_model("g.npz").means_, load_model("m.npz").means_)
    said = ("--sequence-column", "id", "--missing-chunks", "fill")
    call("predict", "g.npz", "visits.zarr", *said, "-o", "s.npy")
    np.testing.assert_array_equal(np.load("s.npy"), load_model("m.npz").predict("recording.zarr", LENGTHS))


def test_mistakes_are_told_in_words(folder: Path) -> None:
    assert "gmm:M" in fail(*FIT, "--emission", "gmm:0")
    np.save("short.npy", [10, 20])
    assert "600" in fail(*FIT[:-1], "short.npy")
    call("fit", "gmm", "recording.zarr", "-k", "2", "--seed", "0", "-o", "gm.npz")
    assert "--lengths is for models of sequences" in fail(
        "predict", "gm.npz", "recording.zarr", "--lengths", "lengths.npy", "-o", "s.npy"
    )
    call(*FIT)
    assert "predict --proba" in fail("score", "m.npz", "recording.zarr", "-o", "d.npy")
    assert "cannot open the stream nothing.arrows" in fail("update", "m.npz", "nothing.arrows")
    assert "no folder" in fail(*FIT[:-3], "nowhere/m.npz")


def test_resumed_from_a_checkpoint(folder: Path) -> None:
    call(*FIT, "--max-iter", "3", "--tol", "0", "--checkpoint", "c.npz")
    call(*FIT, "--max-iter", "6", "--tol", "0", "--checkpoint", "c.npz")
    resumed = load_model("m.npz")
    call(*FIT, "--max-iter", "6", "--tol", "0")
    np.testing.assert_array_equal(load_model("m.npz").means_, resumed.means_)


# --- learning from streams -------------------------------------------------------------------------------------------


def visits_as_lines() -> str:
    table = pq.read_table("visits.parquet").drop_columns(["n"])
    return "".join(json.dumps(one) + "\n" for one in table.to_pylist())


BY_ID = ("--sequence-column", "id", "--columns", "a,b")


def test_update_learns_whole_sequences_from_a_pipe(folder: Path) -> None:
    call("fit", "hmm", "visits.parquet", "-k", "3", "--seed", "0", "-o", "m.npz", *BY_ID, "--max-iter", "3")
    taught = GaussianHMM.load("m.npz")
    told = CliRunner().invoke(main, ["update", "m.npz", "-", "--sequence-column", "id"], input=visits_as_lines())
    assert told.exit_code == 0, told.output
    assert "m.npz: 600 rows learned, 1,200 in all" in told.output
    taught.partial_fit(pq.read_table("visits.parquet"))
    loaded = GaussianHMM.load("m.npz")
    assert loaded.means_.tobytes() == taught.means_.tobytes()
    assert loaded.transmat_.tobytes() == taught.transmat_.tobytes()
    shown = call("show", "m.npz")
    assert "online for 1 mini-batches" in shown
    assert "sequences by sequence_column 'id'" in shown


def test_update_starts_a_new_model_of_sequences(folder: Path) -> None:
    Path("x.jsonl").write_text(visits_as_lines())
    new = ("update", "new.npz", "x.jsonl", "-k", "3", "--seed", "0", "--emission", "gaussian-full", *BY_ID)
    assert "300 rows learned, 300 in all" in call(*new, "--batch-rows", "250", "--until-rows", "1")
    assert "300 rows learned, 600 in all" in call("update", "new.npz", "x.jsonl", "--batch-rows", "250")
    assert "nothing new" in call("update", "new.npz", "x.jsonl")
    table = pq.read_table("visits.parquet")
    taught = GaussianHMM(3, "full", random_state=0)
    for part in (table.slice(0, 300), table.slice(300, 251), table.slice(551)):
        taught.partial_fit(part, sequence_column="id", columns=["a", "b"])
    assert GaussianHMM.load("new.npz").means_.tobytes() == taught.means_.tobytes()


def test_update_goes_on_with_an_endless_sequence(folder: Path) -> None:
    x = rows()
    call(*FIT, "--max-iter", "3")
    taught = GaussianHMM.load("m.npz")
    text = "".join(json.dumps(row) + "\n" for row in x.tolist())
    told = CliRunner().invoke(main, ["update", "m.npz", "--continued", "--batch-rows", "200"], input=text)
    assert told.exit_code == 0, told.output
    for first in range(0, len(x), 200):
        taught.partial_fit(x[first : first + 200], continued=True)
    assert GaussianHMM.load("m.npz").means_.tobytes() == taught.means_.tobytes()


@pytest.mark.parametrize("columns", [(), ("--columns", "a,b")], ids=["all columns", "chosen columns"])
def test_watch_learns_sequences_from_files(folder: Path, columns: tuple[str, ...]) -> None:
    call("fit", "hmm", "visits.parquet", "-k", "2", "--seed", "0", "-o", "m.npz", *BY_ID, "--max-iter", "2")
    taught = GaussianHMM.load("m.npz")
    Path("new").mkdir()
    table = pq.read_table("visits.parquet")
    pq.write_table(table, "new/0.parquet", row_group_size=97)
    assert "600 rows learned, 1,200 in all" in call("watch", "new", "m.npz", "--once", *columns)
    taught.partial_fit(table)
    assert GaussianHMM.load("m.npz").means_.tobytes() == taught.means_.tobytes()


def test_what_is_said_of_sequences_is_refused_by_mixtures(folder: Path) -> None:
    call("fit", "gmm", "recording.zarr", "-k", "2", "-o", "g.npz")
    assert "this is a GaussianMixture" in fail("update", "g.npz", "-", "--sequence-column", "id")
    assert "this is a GaussianMixture" in fail("update", "g.npz", "-", "--continued")
    assert "is none of gaussian-diag" in fail("update", "x.npz", "-", "-k", "2", "--emission", "gauss")
    call(*FIT, "--max-iter", "1")
    assert "pass one of them" in fail("update", "m.npz", "-", "--continued", "--sequence-column", "id")


def test_starts_by_name(folder: Path) -> None:
    call(*FIT, "--init", "k-means||")
    assert "the start took 7 passes over the data" in call("show", "m.npz")
    refused = CliRunner().invoke(main, [*FIT, "--init", "nearest"])
    assert refused.exit_code == 2
    assert "'nearest' is not one of 'kmeans'" in refused.output


def test_transitions_that_a_column_drives(folder: Path) -> None:
    """By name of a table, by position of an array; answers, and commands that such a model refuses."""
    said = ("--columns", "a,n", "--sequence-column", "id")
    fit = ("fit", "hmm", "visits.parquet", "-k", "2", "--seed", "0", "-o", "m.npz", "--max-iter", "4", *said)
    call(*fit, "--transition-covariates", "n")
    table = pq.read_table("visits.parquet").select(["a", "n", "id"])
    hmm = GaussianHMM(2, n_iter=4, random_state=0, transition_covariates=["n"]).fit(table, sequence_column="id")
    loaded = load_model("m.npz")
    np.testing.assert_array_equal(loaded.transition_coef_, hmm.transition_coef_)
    assert loaded.transition_coef_.shape == (2, 2, 1)
    call("predict", "m.npz", "visits.parquet", "-o", "states.npy")
    np.testing.assert_array_equal(np.load("states.npy"), hmm.predict(table))
    assert json.loads(call("score", "m.npz", "visits.parquet", "--json"))["log_likelihood"] == hmm.score(table)
    assert "0 → 1:" in call("show", "m.npz")
    recording = ("fit", "hmm", "recording.zarr", "-k", "2", "--seed", "0", "-o", "r.npz", "--max-iter", "2")
    assert "2 states of 2 features" in call(*recording, "--transition-covariates", "1")
    assert "transition_covariates exclude" in fail("sample", "r.npz", "-n", "50", "-o", "new.zarr")
    assert "no column 'pay' to drive" in fail(*fit, "--transition-covariates", "pay")


def test_states_that_last(folder: Path) -> None:
    """As in Python; answers, errors of durations, and what is refused."""
    fit = ("fit", "hmm", "visits.parquet", "-k", "2", "--seed", "0", "-o", "m.npz", "--max-iter", "4", "--columns", "a")
    said = ("--sequence-column", "id", "--durations", "negative-binomial", "--max-duration", "12")
    assert "2 states of 1 feature" in call(*fit, *said)
    table = pq.read_table("visits.parquet").select(["a", "id"])
    options = {"durations": "negative-binomial", "max_duration": 12, "n_iter": 4, "random_state": 0}
    hmm = GaussianHMM(2, **options).fit(table, sequence_column="id")
    loaded = load_model("m.npz")
    np.testing.assert_array_equal(loaded.duration_means_, hmm.duration_means_)
    np.testing.assert_array_equal(loaded.duration_sizes_, hmm.duration_sizes_)
    call("predict", "m.npz", "visits.parquet", "-o", "states.npy")
    np.testing.assert_array_equal(np.load("states.npy"), hmm.predict(table))
    assert json.loads(call("score", "m.npz", "visits.parquet", "--json"))["log_likelihood"] == hmm.score(table)
    assert "lasts" in call("show", "m.npz")
    call("sample", "m.npz", "-n", "50", "-o", "new.zarr", "--seed", "1")
    assert zarr.open_array("new.zarr").shape == (50, 1)
    assert "excludes an endless sequence" in fail("update", "m.npz", "-", "--continued")
    both = (*fit, "--durations", "poisson", "--max-duration", "12", "--sequence-column", "id")
    assert "2 states of 2 features" in call(*both, "--columns", "a,n", "--transition-covariates", "n")
    assert load_model("m.npz").transition_coef_.shape == (2, 2, 1)
    assert "lasts" in call("show", "m.npz")
    assert "'weibull' is not one of" in fail(*fit, "--durations", "weibull")
    assert "3000 sub-states" in fail(*fit, "--durations", "poisson", "--max-duration", "1500")
