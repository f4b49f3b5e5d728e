"""One sequence, however long, takes no more memory than a few chunks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from dask.utils import parse_bytes

from helpers import subprocess_jobs

pytestmark = [pytest.mark.memory, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmHWM is Linux's")]

MB = 10**6
K, D = 8, 10
SETTINGS: dict[str, Any] = {"n_components": K, "n_iter": 2, "tol": 0, "random_state": 0, "n_threads": 2}


def write(path: Path, rows: int, piece_rows: int = 50_000) -> Path:
    """A recording that dwells in eight states for some fifty steps at a time; float32, a piece at a time."""
    rng = np.random.default_rng(0)
    array = zarr.create_array(str(path), shape=(rows, D), chunks=(piece_rows, D), dtype="f4")
    centres = rng.normal(size=(K, D)).astype("f4") * 2
    for first in range(0, rows, piece_rows):
        n = min(piece_rows, rows - first)
        states = np.repeat(rng.integers(K, size=n // 50 + 1), 50)[:n]
        array[first : first + n] = centres[states] + rng.standard_normal((n, D), dtype="f4")
    return path


@pytest.mark.parametrize("rows", [400_000, pytest.param(10_000_000, marks=pytest.mark.long)])
@pytest.mark.slow
def test_one_long_sequence(rows: int, tmp_path: Path) -> None:
    """Ten million steps in one sequence, learned and decoded, under 600 MB with all libraries."""
    warm_up, data = write(tmp_path / "small.zarr", 20_000), write(tmp_path / "x.zarr", rows)
    out = tmp_path / "states.zarr"
    measured = subprocess_jobs.run("measure_chain", data=data, settings=SETTINGS, warm_up=warm_up, out=out)
    print(measured)
    assert measured["passes"] == SETTINGS["n_iter"] + 1
    assert measured["rows"] == rows
    assert measured["peak"] < 600 * MB
    assert measured["fit"] - measured["before"] < parse_bytes(measured["projected"])
    states = zarr.open_array(str(out), mode="r")
    assert states.shape == (rows,)
    assert (np.diff(states[:100_000]) != 0).mean() < 0.15
