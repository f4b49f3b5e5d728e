"""The command line on real files: what it writes, what it prints, how it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from streamem import GaussianMixture
from streamem.cli.main import main
from streamem.online.append_only_arrow import read_appended

ROWS = np.random.default_rng(0).normal(size=(4000, 3)) + np.array([6.0, 0, -6])[
    np.random.default_rng(1).integers(3, size=4000)
].reshape(-1, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data.parquet (columns id, a, b, c, w) and data.zarr, as current folder."""
    table = pa.table({"id": [str(i) for i in range(4000)], **dict(zip("abc", ROWS.T, strict=True)), "w": np.ones(4000)})
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=1000)
    store = zarr.create_array(store=str(tmp_path / "data.zarr"), shape=ROWS.shape, chunks=(1000, 3), dtype="f8")
    store[:] = ROWS
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code not in (0, None)
    assert not isinstance(result.exception, StopIteration | TypeError), result.exception
    return result.output


FIT = ("fit", "gmm", "data.parquet", "-k", "3", "--columns", "a,b,c", "--seed", "0", "-o", "model.npz")


def test_fit_then_everything_else_agrees_with_python(folder: Path) -> None:
    told = call(*FIT, "--memory", "1GiB", "--weight", "w")
    assert "3 components of 3 features, converged" in told
    gm = GaussianMixture(3, random_state=0).fit(ROWS)
    loaded = GaussianMixture.load("model.npz")
    np.testing.assert_allclose(loaded.means_, gm.means_, rtol=1e-12)

    call("predict", "model.npz", "data.parquet", "-o", "labels.parquet")
    np.testing.assert_array_equal(pq.read_table("labels.parquet")["label"].to_numpy(), gm.predict(ROWS))
    call("predict", "model.npz", "data.zarr", "--proba", "-o", "proba.zarr")
    np.testing.assert_allclose(zarr.open_array("proba.zarr")[:], gm.predict_proba(ROWS), atol=1e-12)

    scores = json.loads(call("score", "model.npz", "data.zarr", "--json", "-o", "density.npy"))
    assert scores["bic"] == pytest.approx(gm.bic(ROWS), rel=1e-12)
    np.testing.assert_allclose(np.load("density.npy"), gm.score_samples(ROWS), rtol=1e-10)
    assert "log_likelihood_per_row" in call("score", "model.npz", "data.zarr")

    shown = call("show", "model.npz")
    assert "features: a, b, c" in shown
    assert "rows/s" in shown

    call("sample", "model.npz", "-n", "5000", "--seed", "3", "-o", "drawn.parquet")
    drawn = pq.read_table("drawn.parquet")
    assert drawn.column_names == ["a", "b", "c"]
    assert abs(np.column_stack([drawn[c] for c in "abc"]).mean(0) - ROWS.mean(0)).max() < 0.3


def test_sampling_in_pieces_repeats_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(*FIT)
    monkeypatch.setattr("streamem.estimators.asking.SAMPLE_PIECE_BYTES", 24 * 1000)
    call("sample", "model.npz", "-n", "2500", "--seed", "3", "-o", "drawn.npy")
    assert len(np.unique(np.load("drawn.npy")[:, 0])) == 2500


def test_checkpoint_resumes(folder: Path) -> None:
    call(*FIT, "--checkpoint", "run.npz")
    first = Path("model.npz").read_bytes()
    call(*FIT, "--checkpoint", "run.npz")
    assert GaussianMixture.load("model.npz").means_.tobytes() in first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "none.npz", "data.parquet", "-o", "x.zarr"), "none.npz"),
        (("fit", "gmm", "none.parquet", "-k", "3", "-o", "model.npz"), "no such file or folder: none.parquet"),
        (("fit", "gmm", "data.parquet", "-k", "3", "-o", "model.npz"), "id"),
        (("fit", "gmm", "data.parquet", "-k", "3", "--columns", "a,x", "-o", "m.npz"), "x"),
        (("fit", "gmm", "data.zarr", "-k", "3", "-o", "nowhere/m.npz"), "there is no folder"),
        (("fit", "gmm", "data.zarr", "-k", "3", "-o", "m.zarr"), "ends in .npz"),
        (("fit", "gmm", "data.zarr", "-k", "3", "-o", "m.npz", "--memory", "lots"), "not a memory size"),
        (("fit", "gmm", "data.zarr", "-k", "3", "-o", "m.npz", "--memory", "10kB"), "projected"),
        (("fit", "gmm", "data.zarr", "-k", "5000", "-o", "m.npz"), "n_components = 5000, n_samples = 4000"),
    ],
)
def test_errors_are_one_message(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    told = fail(*arguments)
    assert told.startswith("Error: ")
    assert words in told
    assert "Traceback" not in told


def test_existing_output_is_kept_unless_told(folder: Path) -> None:
    call(*FIT)
    Path("labels.npy").write_bytes(b"precious")
    assert "exists" in fail("predict", "model.npz", "data.zarr", "-o", "labels.npy")
    assert Path("labels.npy").read_bytes() == b"precious"
    call("predict", "model.npz", "data.zarr", "-o", "labels.npy", "--overwrite")
    assert np.load("labels.npy").shape == (4000,)


def test_missing_chunks_are_filled_when_told(folder: Path) -> None:
    Path("data.zarr/c/1/0").unlink()
    assert "pass --missing-chunks fill" in fail("fit", "gmm", "data.zarr", "-k", "2", "-o", "m.npz")
    call("fit", "gmm", "data.zarr", "-k", "2", "-o", "m.npz", "--seed", "0", "--missing-chunks", "fill")
    filled = ROWS.copy()
    filled[1000:2000] = 0
    expected = GaussianMixture(2, random_state=0).fit(filled)
    np.testing.assert_allclose(GaussianMixture.load("m.npz").means_, expected.means_, rtol=1e-9)
    call("predict", "m.npz", "data.zarr", "-o", "l.npy", "--missing-chunks", "fill")
    np.testing.assert_array_equal(np.load("l.npy"), expected.predict(filled))


def test_results_never_replace_data_or_what_is_no_result(folder: Path) -> None:
    call(*FIT)
    told = fail("predict", "model.npz", "data.zarr", "-o", "data.zarr", "--overwrite")
    assert "write the result elsewhere" in told
    assert zarr.open_array("data.zarr").shape == (4000, 3)
    Path("notes.zarr").mkdir()
    Path("notes.zarr/thesis.txt").write_text("years of work")
    assert "no Zarr store" in fail("sample", "model.npz", "-n", "5", "-o", "notes.zarr", "--overwrite")
    assert Path("notes.zarr/thesis.txt").read_text() == "years of work"
    assert "different files" in fail(*FIT[:-1], "same.npz", "--checkpoint", "same.npz")


# --- clusters --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")  # by the cluster of a test beside this one
def test_a_cluster_of_this_machine(folder: Path) -> None:
    call(*FIT, "--memory", "1GiB")
    here = Path("model.npz").read_bytes()
    call(*FIT, "--memory", "1GiB", "--cluster", "local:2")
    one, other = GaussianMixture.load("model.npz"), here
    Path("here.npz").write_bytes(other)
    assert one.means_.tobytes() == GaussianMixture.load("here.npz").means_.tobytes()
    assert one.report_.setting["workers"] == 2
    call("predict", "model.npz", "data.parquet", "-o", "labels.parquet", "--cluster", "local:1")
    np.testing.assert_array_equal(pq.read_table("labels.parquet")["label"].to_numpy(), one.predict("data.parquet"))


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ("absent.json", "absent.json is no scheduler file"),
        ("empty.json", "empty.json is no scheduler file: KeyError"),
        *((value, "is none of tcp://host:port") for value in ("local:x", "local:0", "local:-1", "local:2:2", "", "x")),
        ("tcp://127.0.0.1:1", "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("localhost:1", "no Dask scheduler answers at localhost:1"),
    ],
)
def test_a_cluster_that_is_not_there(folder: Path, cluster: str, told: str) -> None:
    """Said at once; nothing is left running that would keep the process from ending."""
    call(*FIT)
    Path("empty.json").write_text("{}")
    assert told in fail("score", "model.npz", "data.parquet", "--cluster", cluster)
    assert not [thread for thread in threading.enumerate() if "IO loop" in thread.name.lower()]


# --- streams ---------------------------------------------------------------------------------------------------------


def lines(rows: np.ndarray) -> str:
    return "".join(json.dumps(dict(zip("abc", row, strict=True))) + "\n" for row in rows.tolist())


def test_update_from_standard_input_a_file_and_a_folder(folder: Path) -> None:
    call(*FIT)
    fitted = GaussianMixture.load("model.npz")
    told = CliRunner().invoke(main, ["update", "model.npz", "--half-life", "1e4"], input=lines(ROWS[:2500]))
    assert told.exit_code == 0, told.output
    assert "model.npz: 2,500 rows learned, 6,500 in all" in told.output
    for start in range(0, 2500, 1000):
        part = ROWS[start : min(start + 1000, 2500)]
        fitted.partial_fit(pa.table(dict(zip("abc", part.T, strict=True))), half_life=1e4)
    assert GaussianMixture.load("model.npz").means_.tobytes() == fitted.means_.tobytes()

    Path("x.jsonl").write_text(lines(ROWS))
    new = ("update", "new.npz", "x.jsonl", "-k", "3", "--seed", "0", "--batch-rows", "500", "--until-rows", "1500")
    assert "1,500 rows learned, 1,500 in all" in call(*new)
    assert "2,500 rows learned, 4,000 in all" in call("update", "new.npz", "x.jsonl")
    assert "nothing new, 0 rows learned" in call("update", "new.npz", "x.jsonl")
    shown = call("show", "new.npz")
    assert "online for 6 mini-batches, knows as much as" in shown
    assert f"stream file:{Path('x.jsonl').absolute()}: 4000" in shown

    Path("in").mkdir()
    Path("data.parquet").rename("in/data.parquet")
    options = ("--once", "--columns", "a,b,c", "--weight", "w", "--history", "h.arrows", "--dead-letter", "bad.arrows")
    assert "4,000 rows learned, 8,000 in all" in call("watch", "in", "new.npz", *options)
    assert read_appended("h.arrows").num_rows == 4
    assert read_appended("bad.arrows").num_rows == 0


def test_streams_that_cannot_be(folder: Path) -> None:
    assert "no such model" in fail("update", "absent.npz", "x.jsonl")
    call(*FIT)
    Path("x.jsonl").write_text(lines(ROWS[:10]) + '{"a": 1}\n')
    assert "pass --dead-letter bad.arrows" in fail("update", "model.npz", "x.jsonl")
    assert "cannot open the stream" in fail("update", "model.npz", "absent.jsonl")
    assert "belong together" in fail("update", "model.npz", "--kafka", "localhost:9092")
    assert "belong together" in fail("update", "model.npz", "--key", "k")
    assert "use: streamem watch" in fail("update", "model.npz", ".")


def test_sigterm_ends_in_order_and_saves(folder: Path) -> None:
    call(*FIT)
    Path("in").mkdir()
    Path("data.parquet").rename("in/data.parquet")
    command = [sys.executable, "-m", "streamem", "watch", "in", "model.npz", "--columns", "a,b,c", "--save-every", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline, before, rows = time.monotonic() + 60, 0, 0
        while rows < 8000 and time.monotonic() < deadline:
            time.sleep(0.02)
            if (now := Path("model.npz").stat().st_mtime_ns) != before:  # to load a model takes longer than to wait
                before, rows = now, GaussianMixture.load("model.npz").report_.n_rows
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "4,000 rows learned, 8,000 in all" in out
    assert "stopping after this mini-batch" in err


def test_sigterm_while_a_pipe_is_silent(folder: Path) -> None:
    call(*FIT)
    command = [sys.executable, "-m", "streamem", "update", "model.npz"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(lines(ROWS[:1300]))
        process.stdin.flush()
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        assert process.stdout is not None
        assert "1,300 rows learned, 5,300 in all" in process.stdout.read()
    assert process.returncode == 0


def test_noise_is_labelled(folder: Path) -> None:
    call(*FIT[:-1], "noisy.npz", "--noise")
    model = GaussianMixture.load("noisy.npz")
    assert model.weights_.sum() + model.noise_weight_ == pytest.approx(1.0)
    call("predict", "noisy.npz", "data.parquet", "--columns", "a,b,c", "-o", "labels.npy")
    assert (np.load("labels.npy") == model.predict("data.parquet", columns=["a", "b", "c"])).all()
