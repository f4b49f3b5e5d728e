"""The executor of threads when something goes wrong in the middle of a pass."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor, threads

CHUNKS = 400


class Rows(ChunkRef):
    """A chunk of one row that counts, under a lock, how often chunks are loaded and how many are alive."""

    nbytes = load_nbytes = 8
    rows = 1

    def __init__(self, index: int, counts: Counts, at_hand: bool) -> None:
        self.index = self.start = index
        self._in_memory, self._counts = at_hand, counts

    @property
    def in_memory(self) -> bool:
        return self._in_memory

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


class Fetched(Rows):
    """A chunk whose bytes can be had apart from its rows."""

    def __init__(self, index: int, counts: Counts, threads_of: dict[str, set[str]]) -> None:
        super().__init__(index, counts, at_hand=False)
        self.threads_of, self.has_bytes = threads_of, False

    def fetched(self) -> Any:
        self._told("fetch")
        other = Fetched(self.index, self._counts, self.threads_of)
        other.has_bytes = True
        return other

    def load(self) -> Chunk:
        self._told("decode" if self.has_bytes else "load")
        return super().load()

    def _told(self, what: str) -> None:
        self.threads_of.setdefault(what, set()).add(threading.current_thread().name.rpartition("_")[0])


@dataclass(frozen=True)
class Wrapped(ChunkRef):
    """A chunk that passes on all questions but one."""

    ref: Any
    loads: list[int]

    def load(self) -> Chunk:
        self.loads.append(self.ref.index)
        chunk: Chunk = self.ref.load()
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ref, name)


@pytest.mark.parametrize("way", ["reduce", "map"])
def test_readers_fetch_and_workers_decode(way: str) -> None:
    done: dict[str, set[str]] = {}
    refs = [Fetched(i, Counts(), done) for i in range(20)]
    with ThreadsExecutor(2) as executor:
        if way == "reduce":
            assert float(executor.reduce(total, refs, lambda done: None).x) == sum(range(20))
        else:
            assert [float(stats.x) for stats in executor.map(total, refs, lambda done: None)] == list(range(20))
    assert done == {"fetch": {"streamem-read"}, "decode": {"streamem-compute"}}


def test_a_handle_around_another_is_not_passed_by() -> None:
    done: dict[str, set[str]] = {}
    refs: list[Any] = [Wrapped(Fetched(i, Counts(), done), loads) for loads in [[]] for i in range(20)]
    with ThreadsExecutor(2) as executor:
        executor.reduce(total, refs, lambda done: None)
    assert sorted(refs[0].loads) == list(range(20))
    assert done == {"load": {"streamem-read"}}


def test_what_is_kept_is_not_fetched_again() -> None:
    done: dict[str, set[str]] = {}
    refs = [Fetched(i, Counts(), done) for i in range(20)]
    for ref in refs:
        ref.load_nbytes = 16
    with ThreadsExecutor(2, keep_bytes=1000) as executor:
        first = executor.reduce(total, refs, lambda done: None)
        done.clear()
        again = executor.reduce(total, refs, lambda done: None)
    assert not done
    assert float(first.x) == float(again.x)
