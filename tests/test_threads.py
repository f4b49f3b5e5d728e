"""The executor of threads when something goes wrong in the middle of a pass."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from streamem.core.chunk import Chunk
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor, threads

CHUNKS = 400


class Rows:
    """A chunk of one row that counts, under a lock, how often chunks are loaded and how many are alive."""

    nbytes = load_nbytes = 8
    rows = 1

    def __init__(self, index: int, counts: Counts, at_hand: bool) -> None:
        self.index = self.start = index
        self.at_hand, self._counts = at_hand, counts

    def load(self) -> Chunk:
        self._counts.loaded()
        return Chunk(np.full((1, 1), float(self.index)))


class Counts:
    def __init__(self) -> None:
        self._lock, self.loads = threading.Lock(), 0

    def loaded(self) -> None:
        with self._lock:
            self.loads += 1
        time.sleep(0.002)


def total(chunk: Chunk, ref: Any) -> Stats:
    return Stats(x=chunk.x.sum())


def interrupt(done: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("at_hand", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_an_interrupt_leaves_the_rest_undone(at_hand: bool, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where another one comes while the first is dealt with."""
    counts = Counts()
    refs = [Rows(i, counts, at_hand) for i in range(CHUNKS)]
    if again:
        monkeypatch.setattr(threads, "_cancel", interrupt)
    with pytest.raises(KeyboardInterrupt), ThreadsExecutor(2) as executor:
        executor.reduce(total, refs, interrupt)
    assert 1 <= counts.loads < CHUNKS // 2


@pytest.mark.parametrize("at_hand", [False, True])
def test_an_error_of_a_task_is_raised_and_the_next_pass_is_whole(at_hand: bool) -> None:
    counts = Counts()
    refs = [Rows(i, counts, at_hand) for i in range(CHUNKS)]

    def fails(chunk: Chunk, ref: Any) -> Stats:
        if ref.index == 7:
            raise ValueError("chunk 7")
        return total(chunk, ref)

    with ThreadsExecutor(2) as executor:
        with pytest.raises(ValueError, match="chunk 7"):
            executor.reduce(fails, refs, lambda done: None)
        assert counts.loads < CHUNKS // 2
        told: list[int] = []
        assert float(executor.reduce(total, refs, lambda done: told.append(done.rows)).x) == sum(range(CHUNKS))
        assert told == [1] * CHUNKS


@pytest.mark.parametrize("at_hand", [False, True])
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_no_more_chunks_are_alive_than_said(at_hand: bool, in_flight: int) -> None:
    counts, lock, alive, most = Counts(), threading.Lock(), 0, 0

    class Watched(Rows):
        def load(self) -> Chunk:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)
            return super().load()

    def over(chunk: Chunk, ref: Any) -> Stats:
        nonlocal alive
        value = total(chunk, ref)
        with lock:
            alive -= 1
        return value

    refs = [Watched(i, counts, at_hand) for i in range(60)]
    with ThreadsExecutor(2, in_flight) as executor:
        executor.reduce(over, refs, lambda done: None)
    assert 1 <= most <= in_flight
