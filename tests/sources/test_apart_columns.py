"""Columns of rows that are set apart: the laws of a source, and what lies beside the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.conformance import SourceSuite
from streamem.core.errors import SchemaError
from streamem.core.ports import Source
from streamem.sources import ReadOptions, open_source
from streamem.sources.apart import Apart

Array = NDArray[Any]
ROWS = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)


class TestApart(SourceSuite):
    """The laws of a source."""

    @pytest.fixture(autouse=True)
    def _make(self, tmp_path: Path) -> None:
        self.path = tmp_path / "x.npy"
        np.save(self.path, ROWS)

    def make_source(self, chunk_bytes: int) -> Source:
        return Apart(open_source(self.path, options=ReadOptions(chunk_bytes=chunk_bytes)), [2, 0], [0])

    def expected_rows(self) -> Array:
        return ROWS[:, [0, 1, 3]]


def test_beside_the_rows() -> None:
    gappy = ROWS.astype(np.float64)
    gappy[7, 2] = np.nan
    source = Apart(open_source(gappy, options=ReadOptions(chunk_bytes=2048)), [2, 0], integrates=True)
    chunks = [ref.load() for ref in source.chunks()]
    beside = np.concatenate([chunk.covariates for chunk in chunks])  # type: ignore[misc]
    x = np.concatenate([chunk.x for chunk in chunks])
    assert len(chunks) > 1
    assert np.isnan(beside[7]).all()
    assert np.isnan(x[7]).all()
    assert np.isnan(x).sum() == 2
    np.testing.assert_array_equal(np.delete(beside, 7, axis=0), np.delete(gappy[:, [2, 0]], 7, axis=0))
    assert source.fingerprint() != Apart(open_source(gappy), [0, 2]).fingerprint()
    with pytest.raises(SchemaError, match=r"concomitant variables were asked for in columns \[4\]"):
        Apart(open_source(gappy), [4])
