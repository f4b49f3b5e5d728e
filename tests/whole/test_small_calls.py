"""How many files and functions a warm fit walks through: counts, because no test asserts a time."""

from __future__ import annotations

import pytest

pytest.importorskip("bench", reason="installed without the bench")
from bench.small_calls import crossed

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MOST_FILES, MOST_CALLS = 100, 1450
"""On 1 December 2026 96 and 1,385; why not fewer files: `running/README.md`."""


def test_a_warm_fit_from_zarr_crosses_few_files() -> None:
    files, calls = crossed()
    assert len(files) <= MOST_FILES, sorted(files)
    assert calls <= MOST_CALLS
