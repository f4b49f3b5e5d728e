"""The laws of an algorithm: which rows its windows visit, what its states keep, and the facts that it tells."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.counts import CountedRows, CountsMixture, counted_rows
from streamem.conformance.tolerance import assert_equal, require, tolerance
from streamem.core.arrays import Params
from streamem.core.ports import REJECTED, Algorithm, ChunkRef, Limits, Variant
from streamem.core.ports.running import variant_of
from streamem.core.state import State
from streamem.core.stats import Stats

Array = NDArray[Any]
MOST_WINDOWS = 100_000
PASS_ROUNDING = 10.0
"""By how many times the rounding of one sum over all rows a log-likelihood may seem to fall."""


class AlgorithmSuite:
    """What every EM algorithm must obey, watched on a mixture of two Poisson distributions.

    Attributes
    ----------
    monotone : bool
        Whether no pass over all rows may lower their log-likelihood. False skips the law.
    n_rows, n_chunks, seed : int
        Of the data.
    least_rows, max_iter : int
        What the plan of the algorithm is told: rows that make an estimate, and the most passes.

    Examples
    --------
    >>> from streamem.algorithms import IncrementalEM
    >>> from streamem.conformance import AlgorithmSuite
    >>> class TestIncremental(AlgorithmSuite):
    ...     def make_algorithm(self):
    ...         return IncrementalEM(blocks=4)
    >>> TestIncremental().test_windows_cover_the_data_in_each_pass()
    """

    monotone = True
    n_rows = 600
    n_chunks = 7
    seed = 0
    least_rows = 10
    max_iter = 500

    # --- to override -------------------------------------------------------------------------------------------------

    def make_algorithm(self) -> Variant:
        """The algorithm as a user would pass it to ``fit``: a new object at every call."""
        raise NotImplementedError

    # --- facts -------------------------------------------------------------------------------------------------------

    def test_name_and_key_identify_the_algorithm(self) -> None:
        """`name` is a word for users; `key` is equal for equal algorithms, in other processes too."""
        one, other = self._variant(), self._variant()
        require(isinstance(one.name, str) and bool(one.name), f"the name is {one.name!r}")
        require(one.key == other.key, f"equal algorithms have different keys: {one.key!r} and {other.key!r}")
        require(" at 0x" not in one.key, f"the key names an address, which no other process knows: {one.key!r}")
        require(pickle.loads(pickle.dumps(one)).key == one.key, "a pickled copy has another key")

    def test_facts_are_yes_or_no(self) -> None:
        """`reads_in_order`, `can_end_unconverged`, `sees_all_rows` and `compares_starts` are booleans."""
        variant = self._variant()
        for name in ("reads_in_order", "can_end_unconverged", "sees_all_rows", "compares_starts"):
            require(isinstance(getattr(variant, name), bool), f"{name} is {getattr(variant, name)!r}")

    def test_windows_follow_the_order_of_the_chunks(self) -> None:
        """An algorithm with `reads_in_order` visits the chunks of a pass in their order."""
        if not self._variant().reads_in_order:
            raise SkipTest("the algorithm does not read in order")
        for rows in self._passes():
            require(bool((np.diff(rows) > 0).all()), "a pass visits rows that lie before those it has visited")

    def test_every_window_holds_all_rows(self) -> None:
        """An algorithm with `sees_all_rows` has no smaller window."""
        if not self._variant().sees_all_rows:
            raise SkipTest("the algorithm makes steps on a part of the rows")
        sizes = {sum(ref.rows for ref in visit.window) for visit in self._run()}
        require(sizes == {self.n_rows}, f"windows of {sorted(sizes)} rows, where there are {self.n_rows}")

    # --- windows -----------------------------------------------------------------------------------------------------

    def test_windows_cover_the_data_in_each_pass(self) -> None:
        """Whatever the windows, every row is visited once before any row is visited again."""
        for number, rows in enumerate(self._passes()):
            require(
                np.array_equal(np.sort(rows), np.arange(self.n_rows)),
                f"pass {number} does not visit each of {self.n_rows} rows once: {len(np.unique(rows))} were visited",
            )

    def test_a_run_ends(self) -> None:
        """The windows come to an end; a run has converged by then, unless it may end without that."""
        last = self._last()
        variant, state = self._variant(), last.after
        require(not self._planned().window(state, self._refs()), "a window follows the last one")
        require(state.faults() == [], f"the final state contradicts itself: {state.faults()}")
        if not variant.can_end_unconverged:
            require(
                state.converged, f"the run ended unconverged after {state.iteration} M-steps of at most {MOST_WINDOWS}"
            )

    # --- what EM promises --------------------------------------------------------------------------------------------

    def test_a_pass_never_lowers_the_log_likelihood(self) -> None:
        """Measured on all rows after each pass, where the algorithm is `monotone`.

        Parameters that the next pass turns down ("rejected", by `pass_kind`) were a proposal only.
        """
        if not self.monotone:
            raise SkipTest("the algorithm does not promise to be monotone")
        visited, found, planned = 0, [], self._planned()
        for visit in self._run():
            if visited % self.n_rows == 0 and planned.pass_kind(visit.before, visit.after) != REJECTED:
                found.append(self._log_likelihood(visit.before.params))
            visited += sum(ref.rows for ref in visit.window)
        found.append(self._log_likelihood(self._last().after.params))
        slack = PASS_ROUNDING * tolerance(np.float64, self.n_rows) * abs(found[0])
        for number, (before, after) in enumerate(pairwise(found)):
            require(after >= before - slack, f"pass {number} lowered the log-likelihood from {before!r} to {after!r}")

    def test_the_run_learns(self) -> None:
        """The final parameters explain the rows better than those of the start."""
        start, end = (self._log_likelihood(s.params) for s in (self._start(), self._last().after))
        require(end > start + 1.0, f"the log-likelihood of the rows was {start!r} before and is {end!r} after the run")

    def test_the_final_log_likelihood_is_that_of_the_final_parameters(self) -> None:
        """An algorithm that compares starts knows it, and no state knows another one."""
        state = self._last().after
        if state.log_likelihood is None:
            require(not self._variant().compares_starts, "compares_starts, but the final log-likelihood is unknown")
            raise SkipTest("the final log-likelihood is not known")
        measured = self._log_likelihood(state.params) / self.n_rows
        slack = PASS_ROUNDING * tolerance(np.float64, self.n_rows) * abs(measured)
        require(abs(state.log_likelihood - measured) <= slack, f"{state.log_likelihood!r} told, {measured!r} measured")

    # --- states ------------------------------------------------------------------------------------------------------

    def test_two_runs_have_equal_bits(self) -> None:
        """A run depends on the algorithm, the plan and the start only."""
        _require_equal(self._last().after, self._last().after, "a second run")

    def test_interrupted_anywhere_a_run_ends_with_equal_bits(self) -> None:
        """A state is all that a run needs to go on: saved after any window, loaded, continued by an equal algorithm."""
        visits = list(self._run())
        for stop in sorted({0, 1, len(visits) // 3, len(visits) // 2, len(visits) - 2} & set(range(len(visits)))):
            saved = State.from_arrays(visits[stop].after.to_arrays())
            rest = [visit.after for visit in self._run(saved)]
            _require_equal(rest[-1] if rest else saved, visits[-1].after, f"interrupted after {stop + 1} windows")

    def test_an_ended_run_goes_on(self) -> None:
        """`resume` gives a state that has windows again, loses no parameters, and ends again."""
        ended = self._last().after
        resumed = self._planned().resume(ended)
        assert_equal(resumed.params, ended.params, "parameters of the resumed state")
        again = [visit.after for visit in self._run(resumed)]
        require(bool(again), "a resumed run has no window")
        before, after = (self._log_likelihood(state.params) for state in (ended, again[-1]))
        require(not self.monotone or after >= before - 1e-6, f"resumed, {before!r} became {after!r}")

    def test_what_stays_open_is_told(self) -> None:
        """`open_bytes` is a number of bytes."""
        found = self._variant().open_bytes(self._refs(), self._limits())
        require(isinstance(found, int) and found >= 0, f"open_bytes is {found!r}")

    # --- inner -------------------------------------------------------------------------------------------------------

    def _refs(self) -> list[CountedRows]:
        return counted_rows(np.random.default_rng(self.seed), self.n_rows, self.n_chunks)

    def _limits(self) -> Limits:
        return Limits(open_bytes=2**20, least_rows=self.least_rows, statistics_bytes=100, max_iter=self.max_iter)

    def _variant(self) -> Variant:
        variant = variant_of(self.make_algorithm())
        if variant is None:
            raise AssertionError(f"{self.make_algorithm()!r} is no algorithm: it has neither `planned` nor `start`")
        return variant.with_stopping(Settled())

    def _planned(self) -> Algorithm:
        return self._variant().planned(self._refs(), self._limits())

    def _start(self) -> State:
        return self._planned().start(Params(weights=np.array([0.6, 0.4]), rates=np.array([1.0, 4.0])))

    def _run(self, state: State | None = None) -> Iterator[_Visit]:
        """Every window of a run, with the states around it."""
        algorithm, refs, model = self._planned(), self._refs(), CountsMixture()
        state = self._start() if state is None else state
        for _ in range(MOST_WINDOWS):
            window = algorithm.window(state, refs)
            if not window:
                return
            parts = [model.e_step(state.params, ref.load()) for ref in window]
            before, state = state, algorithm.update(model, state, _total(parts))
            yield _Visit(before, window, state)
        raise AssertionError(f"the run has not ended after {MOST_WINDOWS} windows")

    def _last(self) -> _Visit:
        visits = list(self._run())
        require(bool(visits), "the first window is empty: the run is over before it begins")
        return visits[-1]

    def _passes(self) -> Iterator[Array]:
        """Numbers of the rows in the order of their visits, a pass after the other."""
        numbers = (number for visit in self._run() for ref in visit.window for number in ref.load().x[:, 0].tolist())
        while taken := list(islice(numbers, self.n_rows)):
            require(len(taken) == self.n_rows, f"the last pass visits {len(taken)} of {self.n_rows} rows")
            yield np.array(taken, dtype=np.int64)

    def _log_likelihood(self, params: Params) -> float:
        model = CountsMixture()
        return float(_total([model.e_step(params, ref.load()) for ref in self._refs()]).log_likelihood)


@dataclass(frozen=True)
class _Visit:
    """One window, and the states before and after its update."""

    before: State
    window: Sequence[ChunkRef]
    after: State


@dataclass(frozen=True)
class Settled:
    """A stopping rule: the log-likelihood changes by less than 1e-9 of itself."""

    def met(self, trace: Sequence[float]) -> bool:
        """Judge by the last two values."""
        return len(trace) > 1 and abs(trace[-1] - trace[-2]) <= 1e-9 * abs(trace[-1])


def _total(parts: list[Stats]) -> Stats:
    return sum(parts[1:], start=parts[0])


def _require_equal(found: State, expected: State, what: str) -> None:
    ours, theirs = found.to_arrays(), expected.to_arrays()
    require(ours.keys() == theirs.keys(), f"{what}: the state holds {sorted(ours)} instead of {sorted(theirs)}")
    for name in theirs:
        assert_equal(ours[name], theirs[name], f"{what}: {name}")
