"""Intervals of 95 % hold the truth in 93 to 97 % of simulated data sets."""

from __future__ import annotations

import pytest

from bench.standard_errors import CASES, coverage


@pytest.mark.long
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("name", CASES)
def test_intervals_hold_the_truth(name: str, missing: bool) -> None:
    found = coverage(name, sets=200, rows=1000, missing=missing)
    assert found.intervals >= 200 * 6
    assert 0.93 <= found.pooled <= 0.97
