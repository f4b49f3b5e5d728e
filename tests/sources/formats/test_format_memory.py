"""No format is read whole: what reading takes does not grow with the rows, by VmHWM in an interpreter of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import subprocess_jobs
from helpers.large_formats import WIDTH, WRITERS, opened

pytestmark = [pytest.mark.memory, pytest.mark.slow, pytest.mark.variations(1, 2), pytest.mark.filterwarnings("ignore")]
FEW, MANY, MIB = 2**18, 5 * 2**18, 2**20
LATER = {"polars": 2, "Ibis": 2, "DuckDB relation": 4}
"""Times as many rows: polars' engine and DuckDB's cache, up to its memory_limit, grow at first."""


@pytest.mark.parametrize("kind", WRITERS)
def test_memory_does_not_grow_with_the_rows(kind: str, tmp_path: Path) -> None:
    """From 16 MiB to 80."""
    paths, times = [], LATER.get(kind, 1)
    for number, rows in enumerate((FEW * times, MANY * times)):
        (tmp_path / str(number)).mkdir()
        paths.append(str(WRITERS[kind](tmp_path / str(number), rows)))
    opened(kind, paths[0])  # which skips where a library is not there
    measured = subprocess_jobs.run("read_format", kind=kind, small=paths[0], large=paths[1])
    more = measured["many"] - measured["few"] - measured["mapped"]
    print(kind, {name: round(value / MIB, 1) for name, value in measured.items()})
    assert measured["rows"] > 0.8 * MANY * times
    assert more < 0.4 * (MANY - FEW) * times * 8 * WIDTH, f"{more / MIB:.0f} MiB more"
