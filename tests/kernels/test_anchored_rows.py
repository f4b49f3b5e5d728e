"""Rows into the anchored frame, against NumPy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamem.kernels.features.anchored_rows import load_anchored

DTYPES = [np.float64, np.float32]


@pytest.mark.parametrize("given", DTYPES)
@pytest.mark.parametrize("wanted", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 7, 8, 65])
def test_every_shape(given: Any, wanted: Any, d: int) -> None:
    rng = np.random.default_rng(d)
    center, unscale = rng.normal(size=d) * 100, np.exp2(rng.integers(-3, 4, d))
    for b in (0, 1, 3, 4, 6, 8, 17):
        x = (center + rng.normal(size=(b, d))).astype(given)
        out = np.full((d + 2, b), np.nan, dtype=wanted)
        load_anchored(x, center, unscale, out[1 : 1 + d])
        np.testing.assert_array_equal(out[1 : 1 + d], ((x - center) * unscale).T.astype(wanted))
        assert np.isnan(out[[0, -1]]).all()


def test_missing_rows_stay_missing() -> None:
    x = np.ones((6, 5))
    x[2] = np.nan
    out = np.empty((5, 6))
    load_anchored(x, np.zeros(5), np.ones(5), out)
    np.testing.assert_array_equal(np.isnan(out), np.repeat(np.arange(6)[None] == 2, 5, axis=0))
