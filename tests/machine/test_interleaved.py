"""Columns side by side in one compiled call: each value in its place, whatever the width, the rest untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamem.machine.interleaved import interleave


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (31, 3), (32, 4), (33, 5), (100, 8), (0, 2)])
def test_each_value_in_its_place(dtype: Any, rows: int, width: int) -> None:
    """Below, at and above a tile of rows and a group of columns; columns on either side keep what they hold."""
    columns = list(np.random.default_rng(rows).normal(size=(width, rows)).astype(dtype))
    out = np.full((rows, width + 3), 7.0, dtype)
    interleave(columns, out, 2)
    np.testing.assert_array_equal(out[:, 2:-1], np.reshape(columns, (width, rows)).T)
    np.testing.assert_array_equal(np.delete(out, slice(2, 2 + width), axis=1), 7.0)


@pytest.mark.parametrize(
    "columns",
    [[np.ones(4)], [np.ones(5, np.float32)], [np.ones(10)[::2]], [np.ones((5, 1))], [np.ones(5)] * 3],
    ids=["length", "dtype", "strided", "2-D", "too many"],
)
def test_what_would_read_or_write_elsewhere_is_refused(columns: Any) -> None:
    """Addresses are not checked any more inside."""
    with pytest.raises(ValueError, match="columns"):
        interleave(columns, np.zeros((5, 2)))


def test_rows_that_lie_apart_are_refused() -> None:
    """The compiled loop writes rows of one stride."""
    with pytest.raises(ValueError, match="C order"):
        interleave([np.ones(5)], np.zeros((2, 5)).T)
