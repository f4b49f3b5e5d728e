"""Factor analysis of thousands of columns: memory of a new interpreter does not know how many rows there are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from helpers import subprocess_jobs

pytestmark = pytest.mark.memory

MIB = 2**20
LIMIT = 384 * MIB
COLUMNS, FACTORS, CHUNK_ROWS = 5000, 20, 256


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Taken away at the end, whatever happens: gigabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def written(path: Path, rows: int) -> Path:
    """Float32 rows of twenty factors, never more than a chunk at a time."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((FACTORS, COLUMNS), dtype=np.float32)
    array = zarr.create_array(
        str(path), shape=(rows, COLUMNS), chunks=(CHUNK_ROWS, COLUMNS), dtype="f4", compressors=None
    )
    for first in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - first)
        z = rng.standard_normal((count, FACTORS), dtype=np.float32)
        array[first : first + count] = z @ loadings + rng.standard_normal((count, COLUMNS), dtype=np.float32)
    return path


@pytest.mark.parametrize(
    "rows", [pytest.param(10_000, marks=pytest.mark.slow), pytest.param(100_000, marks=pytest.mark.long)]
)
def test_five_thousand_columns(folder: Path, rows: int) -> None:
    """Two passes and the factors of all rows, within a limit that is a fifth of 100,000 rows of float32."""
    few, many = written(folder / "few.zarr", 600), written(folder / "many.zarr", rows)
    measured = subprocess_jobs.run(
        "measure_factors", warm_up=few, data=many, factors=FACTORS, passes=2, limit=f"{LIMIT // MIB}MiB"
    )
    print(measured)
    assert measured["rows"] == rows
    assert measured["peak"] - measured["before"] < LIMIT
