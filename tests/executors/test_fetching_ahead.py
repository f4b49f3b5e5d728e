"""Chunks that come through a network are fetched many at once, whatever the number of cores; results do not change."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from streamem.core.chunk import Chunk
from streamem.core.errors import MemoryLimitError, SourceError
from streamem.core.ports import ChunkRef
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor
from streamem.running.memory import AHEAD_BYTES, REQUESTS_AHEAD, Budget, fit_into, project

PATIENCE_S = 10


class Network:
    """Answers the first requests only once so many of them wait."""

    def __init__(self, together: int) -> None:
        self._barrier, self._lock = threading.Barrier(together), threading.Lock()
        self._together, self.asked, self.decoding = together, 0, 0

    def answer(self) -> None:
        with self._lock:
            self.asked += 1
            waits = self.asked <= self._together
        if waits:
            self._barrier.wait(PATIENCE_S)


@dataclass(frozen=True, eq=False)
class Far(ChunkRef):
    """A chunk of one row behind a network."""

    index: int
    network: Any
    told: tuple[int, int] = (1, 8)
    stored: bytes | None = None
    broken: bool = False
    rows = 1
    nbytes = load_nbytes = 8

    @property
    def start(self) -> int:
        return self.index

    def fetches(self) -> tuple[int, int]:
        return self.told

    def fetched(self) -> Far:
        self.network.answer()
        if self.broken:
            raise SourceError(f"object {self.index} is gone")
        return Far(self.index, self.network, stored=np.float64(self.index + 0.1).tobytes())

    def load(self) -> Chunk:
        assert self.stored is not None, "loaded without being fetched"
        return Chunk(np.frombuffer(self.stored).reshape(1, 1))


def total(chunk: Chunk, ref: Any) -> Stats:
    return Stats(x=chunk.x.sum())


def plan(network: Network, number: int = 40) -> Sequence[Far]:
    return [Far(i, network) for i in range(number)]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_pass_fetches_many_at_once(n_threads: int) -> None:
    """Twelve requests wait at once with one thread; the barrier would break with fewer."""
    refs = plan(Network(12))
    with ThreadsExecutor(n_threads, ahead=12) as executor:
        found = executor.reduce(total, refs, lambda done: None)
    with ThreadsExecutor(2, ahead=1) as executor:
        few = executor.reduce(total, plan(Network(1)), lambda done: None)
    assert float(found.x) == float(few.x)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_in_plan_order_are_fetched_many_at_once(n_threads: int) -> None:
    """As a starting sample is read."""
    refs = plan(Network(12))
    with ThreadsExecutor(n_threads, ahead=12) as executor:
        found = list(executor.map(lambda chunk, ref: (ref.index, float(chunk.x[0, 0])), refs, lambda done: None))
    assert found == [(i, i + 0.1) for i in range(40)]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_next_pass_is_fetched_while_one_ends(n_threads: int) -> None:
    """A start, and three passes: each chunk once a pass, and a window's worth that nobody asked for in the end."""
    network = Network(1)
    refs, gone = plan(network), list[int]()
    with ThreadsExecutor(n_threads, ahead=12, again=True, gone=gone.append) as executor:
        started = list(executor.map(total, refs, lambda done: None))
        found = {float(executor.reduce(total, refs, lambda done: None).x) for _ in range(3)}
    assert sum(gone) == 4 * 8 * len(refs), "what is trimmed by is told of every chunk"
    assert 4 * len(refs) < network.asked <= 4 * len(refs) + n_threads + 12
    assert list(found) == pytest.approx([sum(float(each.x) for each in started)])


def test_a_guess_that_was_wrong_is_the_last_one() -> None:
    """What was fetched for a pass over other chunks is dropped before these are: memory has no room for both."""
    network, other = Network(1), Network(1)
    with ThreadsExecutor(1, ahead=12, again=True) as executor:
        executor.reduce(total, plan(network), lambda done: None)
        executor.reduce(total, plan(other), lambda done: None)
        assert executor._following.coming == 0
        executor.reduce(total, plan(other), lambda done: None)
    assert other.asked == 80


def test_no_more_is_fetched_than_there_is_memory_for() -> None:
    """While a result waits to be taken, so many are fetched ahead and no more."""
    network = Network(1)
    with ThreadsExecutor(1, in_flight=2, ahead=5) as executor:
        results = executor.map(total, plan(network), lambda done: None)
        next(results)
        executor._fetchers.shutdown(wait=True)
        assert network.asked <= 2 + 5 + 1
        with pytest.raises(RuntimeError):
            list(results)


def test_an_object_that_is_gone_ends_the_pass() -> None:
    network = Network(1)
    refs = [Far(i, network, broken=i == 7) for i in range(40)]
    with ThreadsExecutor(2, ahead=8) as executor:
        with pytest.raises(SourceError, match="object 7 is gone"):
            executor.reduce(total, refs, lambda done: None)
        with pytest.raises(SourceError, match="object 7 is gone"):
            list(executor.map(total, refs, lambda done: None))


def test_chunks_at_hand_are_read_as_ever() -> None:
    """Where one chunk of a plan is not behind a network, readers read all of them: no more than there are threads."""
    network = Network(1)
    near = np.float64(3.1).tobytes()
    refs = [*plan(network, 3), Far(3, network, (0, 0), near)]
    with ThreadsExecutor(1, ahead=8) as executor:
        assert float(executor.reduce(total, refs, lambda done: None).x) == pytest.approx(6.4)


def test_a_plan_is_asked_once_what_it_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in every pass: 100,000 handles take a second to tell."""
    asked = []
    monkeypatch.setattr(Far, "fetches", lambda ref: asked.append(ref) or (1, 8))
    refs, others = plan(Network(1)), plan(Network(1), 5)
    with ThreadsExecutor(1, ahead=4, again=True) as executor:
        for _ in range(3):
            executor.reduce(total, refs, lambda done: None)
        assert len(asked) == len(refs)
        executor.reduce(total, others, lambda done: None)
        assert len(asked) == len(refs) + len(others)


def test_the_window_is_a_number_of_requests_and_of_bytes() -> None:
    small, large, many = (
        [Far(i, None, (requests, nbytes)) for i in range(100)]
        for nbytes, requests in ((1000, 1), (AHEAD_BYTES // 10, 1), (1000, 8))
    )
    assert project(small, 2, 0, 0).ahead == REQUESTS_AHEAD
    assert project(large, 2, 0, 0).ahead == 10
    assert project(many, 2, 0, 0).ahead == REQUESTS_AHEAD // 8
    assert project(small[:5], 2, 0, 0).ahead == 5
    assert project([*small, Far(100, None, (0, 0))], 2, 0, 0).ahead == 0
    assert pickle.loads(pickle.dumps(project(small, 2, 0, 0))).fetching == 1000


def test_the_window_fits_the_memory_limit() -> None:
    refs = [Far(i, None, (1, 2**20)) for i in range(100)]
    whole = project(refs, 2, 0, 0)
    rest = whole.total - whole.ahead * 2**20
    for room, ahead in ((10, 10), (1, 1), (40, 32)):
        fitted = fit_into(whole, Budget.of(rest + room * 2**20), "the data")
        assert (fitted.ahead, fitted.n_threads) == (ahead, 2)
    assert "chunks fetched ahead" in whole.explain()
    with pytest.raises(MemoryLimitError):
        fit_into(whole, Budget.of(1), "the data")
