"""A day of traffic in seconds: drift, a burst, idle hours, poison and two crashes leave the undisturbed model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamem import GaussianMixture
from streamem.online.append_only_arrow import read_appended

HOURS = 24
CRASHES = (7, 15)
ARRAYS = ("weights_", "means_", "covariances_")
OPTIONS = (
    "-k",
    "3",
    "--seed",
    "0",
    "--half-life",
    "3000",
    "--batch-rows",
    "200",
    "--columns",
    "a,b",
    "--drift",
    "reset",
)


def traffic(hour: int) -> pa.Table | None:
    """One hour's records; at night there are none, at noon ten times as many, and some are broken."""
    if hour in (2, 3, 4):
        return None
    rng = np.random.default_rng(hour)
    n = 7130 if hour == 12 else 713
    x = rng.normal(size=(n, 2)) + np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])[rng.integers(3, size=n)] + 0.1 * hour
    if hour >= 18:
        x += 5.0
    x[:: 400 + hour, 0] = np.nan
    return pa.table({"id": np.arange(n).astype(str), "b": x[:, 1], "a": x[:, 0]})


def put(folder: Path, hour: int) -> None:
    table = traffic(hour)
    if table is not None:
        pq.write_table(table, folder / f"_{hour}.parquet", row_group_size=150)
        os.utime(folder / f"_{hour}.parquet", ns=(hour, hour))
        (folder / f"_{hour}.parquet").rename(folder / f"hour-{hour}.parquet")


def command(folder: Path, *more: str) -> list[str]:
    files = ("--dead-letter", str(folder / "bad.arrows"), "--history", str(folder / "history.arrows"))
    watch = ["watch", str(folder / "in"), str(folder / "live.npz"), *OPTIONS, *files, "--save-every", "0", *more]
    return [sys.executable, "-m", "streamem", *watch]


def rows_learned(path: Path) -> int:
    try:
        return int(GaussianMixture.load(path).report_.n_rows)
    except ValueError:  # not there yet
        return 0


def disturbed(folder: Path) -> None:
    """Hour by hour, with two crashes in the middle of work."""
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for hour in range(HOURS):
        before = rows_learned(folder / "live.npz")
        put(folder / "in", hour)
        if hour in CRASHES:
            deadline = time.monotonic() + 60
            while rows_learned(folder / "live.npz") == before and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expected = sum(table.num_rows for hour in range(HOURS) if (table := traffic(hour)) is not None)
    deadline = time.monotonic() + 60
    while rows_learned(folder / "live.npz") < expected * 0.9 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_final_model_is_that_of_a_quiet_day(tmp_path: Path) -> None:
    for name in ("wild", "quiet"):
        (tmp_path / name / "in").mkdir(parents=True)
    disturbed(tmp_path / "wild")
    for hour in range(HOURS):
        put(tmp_path / "quiet" / "in", hour)
    for name in ("wild", "quiet"):
        subprocess.run(command(tmp_path / name, "--once"), check=True, capture_output=True, timeout=120)
    wild, quiet = (GaussianMixture.load(tmp_path / name / "live.npz") for name in ("wild", "quiet"))
    for name in ARRAYS:
        assert getattr(wild, name).tobytes() == getattr(quiet, name).tobytes()
    assert wild.effective_sample_size_ == quiet.effective_sample_size_
    letters: dict[str, Any] = {}
    for name in ("wild", "quiet"):
        letters[name] = [read_appended(tmp_path / name / file).to_pylist() for file in ("bad.arrows", "history.arrows")]
    assert letters["wild"] == letters["quiet"]
    bad, history = letters["quiet"]
    broken = sum(-(-table.num_rows // (400 + hour)) for hour in range(HOURS) if (table := traffic(hour)) is not None)
    assert len(bad) == broken
    assert [row["drift"] for row in history].count(True) == 1
    assert len({(letter["position"], letter["record"]) for letter in bad}) == broken
