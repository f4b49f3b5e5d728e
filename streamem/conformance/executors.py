"""The laws of an executor: results depend on the plan only, and memory on what is in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from unittest import SkipTest

import numpy as np

from streamem.conformance.probes import (
    OVERRUN_S,
    Delays,
    Live,
    MemoryRef,
    PlantedError,
    Position,
    Sums,
    ignore,
    make_refs,
    require_raises,
    sum_by_hand,
)
from streamem.conformance.tolerance import assert_equal, require
from streamem.core.ports import ChunkDone, Executor


class ExecutorSuite:
    """Laws that every executor must obey.

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
                found = executor.reduce(Sums(), refs, ignore)
            assert_equal(found, sum_by_hand(refs), f"the sum over {n} chunks")

    def test_variants_give_the_same_bits(self) -> None:
        """The number of workers and the order of submission change no bit."""
        refs = make_refs(max(self.n_chunks))
        for make in self.variants():
            with make() as executor:
                for _ in range(3):
                    assert_equal(executor.reduce(Sums(), refs, ignore), sum_by_hand(refs), "the sum of a variant")

    def test_delays_do_not_change_the_bits(self) -> None:
        """Tasks, and loads, are made to finish in random orders."""
        self._require_shared_memory()
        n = max(self.n_chunks)
        for seed in range(4):
            delays = Delays(n, self.parallel, np.random.default_rng(seed))
            late_tasks, late_loads = Sums(before=delays.wait_turn), make_refs(n, before=delays.again().wait_turn)
            with self.make_executor() as executor:
                found = executor.reduce(late_tasks, make_refs(n), ignore)
                assert_equal(found, sum_by_hand(make_refs(n)), "the sum under delayed tasks")
                found = executor.reduce(Sums(), late_loads, ignore)
                assert_equal(found, sum_by_hand(make_refs(n)), "the sum under delayed loads")

    def test_map_is_in_plan_order(self) -> None:
        """map yields one result a chunk, in the order of the plan, also when later ones finish first."""
        n = max(self.n_chunks)
        with self.make_executor() as executor:
            require(list(executor.map(Position(), make_refs(n), ignore)) == list(range(n)), "map lost the order")
        if not self.shares_memory:
            return
        delays = Delays(n, self.parallel, np.random.default_rng(0))
        with self.make_executor() as executor:
            found = list(executor.map(Position(before=delays.wait_turn), make_refs(n), ignore))
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
        live = Live(self.in_flight)
        refs = make_refs(max(self.n_chunks), before=live.load, after=live.loaded)
        with self.make_executor() as executor:
            executor.reduce(Sums(before=live.hold_first, after=live.end), refs, ignore)
        live.require_bound()

    def test_map_does_not_run_ahead_of_its_consumer(self) -> None:
        """A consumer that stops keeps no more than in_flight chunks loaded or done."""
        self._require_shared_memory()
        live = Live(self.in_flight + 1)
        refs = make_refs(max(self.n_chunks), before=live.load, after=live.loaded)
        with self.make_executor() as executor:
            results = executor.map(Position(), refs, ignore)
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
        """An error in `on_chunk` (a progress bar that fails, Ctrl-C) reaches the caller."""

        def fail(done: ChunkDone) -> None:
            raise PlantedError("planted")

        refs = make_refs(9)
        with self.make_executor() as executor:
            require_raises(lambda: executor.reduce(Sums(), refs, fail))
            require_raises(lambda: list(executor.map(Position(), refs, fail)))
            assert_equal(executor.reduce(Sums(), refs, ignore), sum_by_hand(refs), "the sum after an error")

    def test_a_map_that_is_left_early_leaves_the_executor_usable(self) -> None:
        """Closing the iterator cancels what has not begun."""
        refs = make_refs(max(self.n_chunks))
        with self.make_executor() as executor:
            results = executor.map(Position(), refs, ignore)
            require(next(results) == 0, "the first result is not of the first chunk")
            results.close()  # type: ignore[attr-defined]
            assert_equal(executor.reduce(Sums(), refs, ignore), sum_by_hand(refs), "the sum after an early end")

    # --- inner -------------------------------------------------------------------------------------------------------

    def _require_planted(self, sums: Sums, positions: Position, refs: Sequence[MemoryRef]) -> None:
        sound = make_refs(9)
        with self.make_executor() as executor:
            require_raises(lambda: executor.reduce(sums, refs, ignore))
            require_raises(lambda: list(executor.map(positions, refs, ignore)))
            assert_equal(executor.reduce(Sums(), sound, ignore), sum_by_hand(sound), "the sum after an error")

    def _require_shared_memory(self) -> None:
        if not self.shares_memory:
            raise SkipTest("tasks run in other processes")
