"""What follows from arrays is worked out once, and goes with either of them."""

from __future__ import annotations

import threading
import weakref
from time import sleep
from typing import Any

import numpy as np
import pytest

from streamem.core.cached_by_identity import _KNOWN, cached_by_identity


class Answer:
    """Something that can be seen to be gone."""


def test_asked_once_as_long_as_both_live() -> None:
    array, other = np.zeros(2), np.ones(2)
    asked: list[int] = []

    def answer() -> Any:
        asked.append(len(asked))
        return Answer()

    first = cached_by_identity(array, other, "question", answer)
    assert cached_by_identity(array, other, "question", answer) is first
    assert cached_by_identity(array, other, "another", answer) is not first
    assert cached_by_identity(other, array, "question", answer) is not first
    assert cached_by_identity(array, other.copy(), "question", answer) is not first
    assert len(asked) == 4


@pytest.mark.parametrize("which", [0, 1])
def test_forgotten_with_either_array(which: int) -> None:
    arrays: list[Any] = [np.zeros(2), np.ones(2)]
    seen = weakref.ref(cached_by_identity(arrays[0], arrays[1], "question", Answer))
    assert seen() is not None
    arrays[which] = None
    assert seen() is None


def test_false_answers_are_remembered_too() -> None:
    array = np.zeros(2)
    asked: list[int] = []

    def answer() -> float:
        asked.append(1)
        return 0.0

    assert [cached_by_identity(array, array, "zero", answer) for _ in range(3)] == [0.0] * 3
    assert len(asked) == 1


def test_threads_wait_for_one_answer() -> None:
    array = np.zeros(2)
    asked: list[int] = []
    found: list[Any] = []

    def answer() -> Any:
        asked.append(1)
        sleep(0.05)
        return Answer()

    threads = [
        threading.Thread(target=lambda: found.append(cached_by_identity(array, array, "q", answer))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert len(found) == 4
    assert len({id(value) for value in found}) == 1


def test_an_error_is_not_remembered() -> None:
    array = np.zeros(2)

    def failing() -> Any:
        raise ValueError("not yet")

    with pytest.raises(ValueError, match="not yet"):
        cached_by_identity(array, array, "question", failing)
    assert cached_by_identity(array, array, "question", lambda: 5) == 5


@pytest.mark.parametrize("which", [0, 1])
def test_an_answer_that_outlived_its_arrays_is_not_given_to_others(which: int) -> None:
    """An interrupt can fall into the moment in which an array takes its answer along."""
    arrays, gone = [np.zeros(2), np.ones(2)], np.zeros(2)
    held = list(arrays)
    held[which] = gone
    key = (id(arrays[0]), id(arrays[1]), "question")
    _KNOWN[key] = ("stale", *map(weakref.ref, held))
    assert cached_by_identity(arrays[0], arrays[1], "question", lambda: "fresh") == "fresh"
    assert cached_by_identity(arrays[0], arrays[1], "question", lambda: "again") == "fresh"
