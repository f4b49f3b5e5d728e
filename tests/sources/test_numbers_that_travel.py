"""Chunks of numbers that lie apart, and of labels, are the same in another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from streamem.sources.one_column import OneColumn
from streamem.sources.recoded import Recoded


def test_chunks_hold_their_own_numbers_after_a_journey(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).choice([2, 5, 9], size=1000)
    np.save(tmp_path / "y.npy", numbers)
    source = OneColumn(str(tmp_path / "y.npy"), "y", 800)
    coded = Recoded(source, (2, 5, 9), "y")
    assert len(source.chunks()) > 3
    for own, expected in ((source, numbers), (coded, np.searchsorted([2, 5, 9], numbers))):
        there = [pickle.loads(pickle.dumps(ref)).load().x for ref in own.chunks()]
        np.testing.assert_array_equal(np.concatenate(there)[:, 0], expected)
    assert source.fingerprint() != coded.fingerprint() != Recoded(source, (2, 5, 8), "y").fingerprint()
