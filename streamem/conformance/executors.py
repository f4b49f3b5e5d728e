"""The laws of an executor: results depend on the plan only, and memory on what is in flight."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.tolerance import assert_equal, require
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkDone, ChunkRef, Executor
from streamem.core.stats import Stats

Array = NDArray[Any]
PATIENCE_S = 30.0
"""Longest wait for something that must come."""

OVERRUN_S = 0.2
"""How long something that must not come gets to come."""


class ExecutorSuite:
    """What every executor must obey.

    Attributes
    ----------
    n_chunks : plans of these lengths are run
    in_flight : most chunks that `make_executor` may have loaded at once
    parallel : tasks that certainly run at the same time, started in plan order; delays are planted among so many
    shares_memory : whether tasks run in this process; laws that watch them from here are skipped where not
    """

    n_chunks: tuple[int, ...] = (1, 2, 3, 7, 8, 13, 40)
    in_flight = 2
    parallel = 1
    shares_memory = True

    # --- to override -------------------------------------------------------------------------------------------------

    def make_executor(self) -> AbstractContextManager[Executor]:
        """The executor, started on entry and closed on exit."""
        raise NotImplementedError

    def variants(self) -> Sequence[Callable[[], AbstractContextManager[Executor]]]:
        """Executors that must give the same bits: other numbers of workers, other orders of submission."""
        return [self.make_executor]

    # --- laws of the result ------------------------------------------------------------------------------------------

    def test_reduce_is_the_fixed_tree(self) -> None:
        """reduce gives the bits of the tree summed by hand, whatever the number of chunks."""
        for n in self.n_chunks:
            refs = make_refs(n)
            with self.make_executor() as executor:
                found = executor.reduce(Sums(), refs, _ignore)
            assert_equal(found, sum_by_hand(refs), f"the sum over {n} chunks")

    def test_variants_give_the_same_bits(self) -> None:
        """Neither workers nor the order of submission change a bit."""
        refs = make_refs(max(self.n_chunks))
        for make in self.variants():
            with make() as executor:
                for _ in range(3):
                    assert_equal(executor.reduce(Sums(), refs, _ignore), sum_by_hand(refs), "the sum of a variant")

    def test_delays_do_not_change_the_bits(self) -> None:
        """Tasks, and loads, are made to finish in random orders."""
        self._require_shared_memory()
        n = max(self.n_chunks)
        for seed in range(4):
            delays = _Delays(n, self.parallel, np.random.default_rng(seed))
            late_tasks, late_loads = Sums(before=delays.wait_turn), make_refs(n, before=delays.again().wait_turn)
            with self.make_executor() as executor:
                found = executor.reduce(late_tasks, make_refs(n), _ignore)
                assert_equal(found, sum_by_hand(make_refs(n)), "the sum under delayed tasks")
                found = executor.reduce(Sums(), late_loads, _ignore)
                assert_equal(found, sum_by_hand(make_refs(n)), "the sum under delayed loads")

    def test_map_is_in_plan_order(self) -> None:
        """map yields one result a chunk, in the order of the plan, also when later ones finish first."""
        n = max(self.n_chunks)
        with self.make_executor() as executor:
            require(list(executor.map(Position(), make_refs(n), _ignore)) == list(range(n)), "map lost the order")
        if not self.shares_memory:
            return
        delays = _Delays(n, self.parallel, np.random.default_rng(0))
        with self.make_executor() as executor:
            found = list(executor.map(Position(before=delays.wait_turn), make_refs(n), _ignore))
        require(found == list(range(n)), f"delays changed the order of map to {found}")

    def test_every_chunk_is_told_once(self) -> None:
        """on_chunk is called once a chunk, in the calling thread, with its rows and bytes."""
        refs = make_refs(max(self.n_chunks))
        told: list[ChunkDone] = []
        threads: set[int] = set()

        def tell(done: ChunkDone) -> None:
            told.append(done)
            threads.add(threading.get_ident())

        with self.make_executor() as executor:
            executor.reduce(Sums(), refs, tell)
            list(executor.map(Position(), refs, tell))
        expected = 2 * sorted((ref.rows, ref.nbytes) for ref in refs)
        require(sorted((done.rows, done.nbytes) for done in told) == sorted(expected), "chunks told and run differ")
        require(threads == {threading.get_ident()}, "on_chunk was called in another thread")
        require(all(done.wait_s >= 0 and done.compute_s >= 0 for done in told), "time runs backwards")

    # --- laws of memory ----------------------------------------------------------------------------------------------

    def test_no_more_than_in_flight_is_loaded(self) -> None:
        """While the first task lasts, no load beyond in_flight begins; nor ever before so many tasks have ended."""
        self._require_shared_memory()
        live = _Live(self.in_flight)
        refs = make_refs(max(self.n_chunks), before=live.load, after=live.loaded)
        with self.make_executor() as executor:
            executor.reduce(Sums(before=live.hold_first, after=live.end), refs, _ignore)
        live.require_bound()

    def test_map_does_not_run_ahead_of_its_consumer(self) -> None:
        """A consumer that stops keeps no more than in_flight chunks loaded or done."""
        self._require_shared_memory()
        live = _Live(self.in_flight + 1)
        refs = make_refs(max(self.n_chunks), before=live.load, after=live.loaded)
        with self.make_executor() as executor:
            results = executor.map(Position(), refs, _ignore)
            next(results)
            require(not live.overrun.wait(OVERRUN_S), f"{live.begun} chunks were loaded for one result")
            results.close()  # type: ignore[attr-defined]

    # --- laws of failure ---------------------------------------------------------------------------------------------

    def test_an_error_in_a_task_surfaces(self) -> None:
        """Unchanged, from reduce and map; the executor goes on to work."""
        refs = make_refs(9)
        for position in (0, 4, 8):
            self._require_planted(Sums(fail_at=position), Position(fail_at=position), refs)

    def test_an_error_in_a_load_surfaces(self) -> None:
        """Unchanged, from reduce and map; the executor goes on to work."""
        for position in (0, 4, 8):
            self._require_planted(Sums(), Position(), make_refs(9, fail_at=position))

    def test_an_error_in_on_chunk_surfaces(self) -> None:
        """As a progress bar that fails, or Ctrl-C in it."""

        def fail(done: ChunkDone) -> None:
            raise PlantedError("planted")

        refs = make_refs(9)
        with self.make_executor() as executor:
            _require_raises(lambda: executor.reduce(Sums(), refs, fail))
            _require_raises(lambda: list(executor.map(Position(), refs, fail)))
            assert_equal(executor.reduce(Sums(), refs, _ignore), sum_by_hand(refs), "the sum after an error")

    def test_a_map_that_is_left_early_leaves_the_executor_usable(self) -> None:
        """Closing the iterator cancels what has not begun."""
        refs = make_refs(max(self.n_chunks))
        with self.make_executor() as executor:
            results = executor.map(Position(), refs, _ignore)
            require(next(results) == 0, "the first result is not of the first chunk")
            results.close()  # type: ignore[attr-defined]
            assert_equal(executor.reduce(Sums(), refs, _ignore), sum_by_hand(refs), "the sum after an early end")

    # --- inner -------------------------------------------------------------------------------------------------------

    def _require_planted(self, sums: Sums, positions: Position, refs: Sequence[MemoryRef]) -> None:
        sound = make_refs(9)
        with self.make_executor() as executor:
            _require_raises(lambda: executor.reduce(sums, refs, _ignore))
            _require_raises(lambda: list(executor.map(positions, refs, _ignore)))
            assert_equal(executor.reduce(Sums(), sound, _ignore), sum_by_hand(sound), "the sum after an error")

    def _require_shared_memory(self) -> None:
        if not self.shares_memory:
            raise SkipTest("tasks run in other processes")


class PlantedError(RuntimeError):
    """What the suite raises in tasks and loads."""


def _nothing(index: int) -> None:
    return None


def _ignore(done: ChunkDone) -> None:
    return None


@dataclass(frozen=True, eq=False)
class MemoryRef:
    """Rows made from the index; magnitudes differ so much that every order of summation has bits of its own."""

    index: int
    start: int
    rows: int
    before: Callable[[int], None] = _nothing
    after: Callable[[int, Chunk], None] | None = None
    fail_at: int = -1

    @property
    def nbytes(self) -> int:
        """Two float64 a row."""
        return 16 * self.rows

    @property
    def load_nbytes(self) -> int:
        """As nbytes."""
        return self.nbytes

    def load(self) -> Chunk:
        """The same bits at every call."""
        self.before(self.index)
        if self.index == self.fail_at:
            raise PlantedError("planted")
        rng = np.random.default_rng(self.index)
        chunk = Chunk(rng.normal(size=(self.rows, 2)) * 10.0 ** rng.uniform(-6, 6, (self.rows, 1)))
        if self.after is not None:
            self.after(self.index, chunk)
        return chunk


def make_refs(n: int, before: Callable[[int], None] = _nothing, **hooks: Any) -> list[MemoryRef]:
    """A plan of n chunks of unequal length."""
    rows = [3 + index % 4 for index in range(n)]
    starts = np.cumsum([0, *rows]).tolist()
    return [MemoryRef(i, starts[i], rows[i], before, **hooks) for i in range(n)]


@dataclass(frozen=True, eq=False)
class Sums:
    """The sum of a chunk's rows, in a nested statistic too."""

    before: Callable[[int], None] = _nothing
    after: Callable[[int], None] = _nothing
    fail_at: int = -1

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Columns, and squares."""
        self.before(ref.index)
        if ref.index == self.fail_at:
            raise PlantedError("planted")
        stats = Stats(x=chunk.x.sum(axis=0), inner=Stats(squares=(chunk.x**2).sum(axis=0), rows=chunk.rows))
        self.after(ref.index)
        return stats


@dataclass(frozen=True, eq=False)
class Position:
    """The position of a chunk in its plan."""

    before: Callable[[int], None] = _nothing
    fail_at: int = -1

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> int:
        """Nothing of the chunk itself."""
        self.before(ref.index)
        if ref.index == self.fail_at:
            raise PlantedError("planted")
        return ref.index


def sum_by_hand(refs: Sequence[MemoryRef]) -> Stats:
    """Left part: the largest power of two below n; right part: the rest; then left + right."""
    if len(refs) == 1:
        return Sums()(refs[0].load(), refs[0])
    half = 1 << (len(refs) - 1).bit_length() - 1
    return sum_by_hand(refs[:half]) + sum_by_hand(refs[half:])


def _require_raises(call: Callable[[], Any]) -> None:
    try:
        call()
    except PlantedError as error:
        require(str(error) == "planted", f"the message became {error}")
    else:
        raise AssertionError("an error in a chunk was lost")


class _Delays:
    """Groups of `parallel` neighbours end in a random order: each waits for one of its group to be past its turn."""

    def __init__(self, n: int, parallel: int, rng: np.random.Generator) -> None:
        self._past = [threading.Event() for _ in range(n)]
        self._after: dict[int, int] = {}
        for first in range(0, n, parallel):
            turns = (first + rng.permutation(min(parallel, n - first))).tolist()
            self._after.update(zip(turns[1:], turns, strict=False))

    def again(self) -> _Delays:
        """The same order for another run."""
        copy = _Delays(len(self._past), 1, np.random.default_rng(0))
        copy._after = self._after
        return copy

    def wait_turn(self, index: int) -> None:
        """Wait until the one before has come."""
        before = self._after.get(index)
        if before is not None and not self._past[before].wait(PATIENCE_S):
            raise TimeoutError(f"chunk {before} did not start beside chunk {index}: is `parallel` too large?")
        self._past[index].set()


@dataclass
class _Live:
    """Counts chunks from the beginning of their load to the end of their task, and those that nobody has let go."""

    limit: int
    begun: int = 0
    ended: int = 0
    most: int = 0
    held: int = 0
    most_held: int = 0
    overrun: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.RLock)

    def load(self, index: int) -> None:
        with self.lock:
            self.begun += 1
            self.most = max(self.most, self.begun - self.ended)
            if self.begun > self.limit:
                self.overrun.set()

    def loaded(self, index: int, chunk: Chunk) -> None:
        with self.lock:
            self.held += 1
            self.most_held = max(self.most_held, self.held)
        weakref.finalize(chunk, self._let_go)

    def hold_first(self, index: int) -> None:
        """The first chunk's task lasts until loads had every chance to run ahead."""
        if index == 0:
            self.overrun.wait(OVERRUN_S)

    def end(self, index: int) -> None:
        with self.lock:
            self.ended += 1

    def _let_go(self) -> None:
        with self.lock:
            self.held -= 1

    def require_bound(self) -> None:
        require(self.most <= self.limit, f"{self.most} chunks were in flight, {self.limit} are allowed")
        # A thread may still unwind from a task whose successor is loading already: one more for each of those.
        require(self.most_held <= 2 * self.limit, f"{self.most_held} chunks were held at once")
