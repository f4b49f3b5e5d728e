"""Patterns of rows: the same weights however rows are cut and joined."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamem.core import patterns
from streamem.core.patterns import Patterns
from streamem.core.row_keys import integer_keys, ordered_patterns

VALUES = st.sampled_from([0.0, 1.0, 2.0, 7.0, -3.0, float("nan")])
REALS = st.sampled_from([0.0, -0.0, 1.5, 1e300, 2.0**53 + 2, float("nan")])


def as_dict(found: Patterns) -> dict[tuple[str, ...], float]:
    return {tuple(map(repr, row + 0.0)): float(weight) for row, weight in zip(found.rows, found.weights, strict=True)}


@pytest.mark.parametrize("elements", [VALUES, REALS])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_counts_are_those_of_python(elements: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=elements))
    weight = data.draw(st.none() | arrays(np.float64, len(x), elements=st.sampled_from([0.5, 1.0, 3.0])))
    expected: dict[tuple[str, ...], float] = {}
    for i, row in enumerate(x):
        key = tuple(map(repr, row + 0.0))
        expected[key] = expected.get(key, 0.0) + (1.0 if weight is None else float(weight[i]))
    whole = Patterns.of(x, weight, 100)
    assert as_dict(whole) == pytest.approx(expected)
    cut = data.draw(st.integers(0, len(x)))
    parts = [
        Patterns.of(x[rows], None if weight is None else weight[rows], 100) for rows in (slice(cut), slice(cut, None))
    ]
    joined = parts[0] + parts[1]
    assert as_dict(joined) == pytest.approx(expected)
    np.testing.assert_array_equal(joined.rows, whole.rows)  # in the order in which they first occur
    assert pickle.loads(pickle.dumps(joined)) == joined


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.bool_, np.float32])
def test_counted_hashed_and_whole_numbers_are_the_same(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an array of counts, by hashes of keys, and by hashes of rows: the same rows in the same order, equal bits."""
    rng = np.random.default_rng(0)
    x, weight = rng.integers(0, 2 if dtype is np.bool_ else 5, (500, 3)).astype(dtype), rng.random(500)
    counted = Patterns.of(x, weight, 200)
    monkeypatch.setattr(patterns, "DENSE", 0)
    few = Patterns.of(x[:100], weight[:100], 200)  # fewer rows than keys
    assert few == Patterns.of(x[:100].astype(np.float64), weight[:100], 200)
    monkeypatch.setattr(patterns, "integer_keys", lambda x: None)
    assert Patterns.of(x, weight, 200) == counted
    assert Patterns.of(x[:100], weight[:100], 200) == few


def test_integers_near_the_end_of_their_type() -> None:
    x = np.array([[2**63 - 1, 0], [2**63 - 1, 0], [-(2**63), 1]], dtype=np.int64)
    assert integer_keys(x) is None
    assert integer_keys(x.astype(np.uint64)).tolist() == [0, 0, 4]
    assert integer_keys(np.array([[np.inf, 1.0]])) is None
    assert integer_keys(np.array([[2**53 + 1], [2**53], [2**53 + 1]])).tolist() == [1, 0, 1]


def test_too_many_are_given_up() -> None:
    x = np.arange(20.0)[:, None]
    assert Patterns.of(x, None, 19).lost == 1
    half = Patterns.of(x[:10], None, 15)
    assert half.lost == 0
    total = half + Patterns.of(x[10:], None, 15)
    assert total.lost == 1
    assert len(total.rows) == 0
    assert (total + half).lost == (half + total).lost == 1
    assert Patterns.of(x, None, 20).lost == 0


@pytest.mark.parametrize("elements", [VALUES, REALS, st.sampled_from([0.0, 2.0**52 - 1, 2.0**52, float("nan")])])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_different_rows_are_sorted_as_numpy_sorts_them(elements: Any, data: st.DataObject) -> None:
    x = data.draw(arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=elements))
    different, places = np.unique(np.where(np.isnan(x), np.inf, x), axis=0, return_inverse=True)
    count, which = ordered_patterns(x)
    assert count == len(different)
    np.testing.assert_array_equal(which, places.ravel())
