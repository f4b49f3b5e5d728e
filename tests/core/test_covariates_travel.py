"""Covariates of transitions stay beside their rows wherever rows are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from streamem.core.chunk import Chunk
from streamem.core.row_selection import Selection
from streamem.core.sequences import Sequences
from streamem.initialization.short_runs import drawn


def chunk() -> Chunk:
    x = np.arange(12.0)[:, None]
    return Chunk(x, None, Sequences(np.array([0, 3, 7, 12])), 10.0 * x)


@pytest.mark.parametrize("seed", [None, (1, 2)])
def test_drawn_sequences_and_rows(seed: tuple[int, ...] | None) -> None:
    found = Selection(1, 3, seed).of(chunk())
    assert found.covariates is not None
    np.testing.assert_array_equal(found.covariates, 10.0 * found.x)
    part = drawn(chunk(), 5, np.random.RandomState(0))
    assert part.covariates is not None
    np.testing.assert_array_equal(part.covariates, 10.0 * part.x)
