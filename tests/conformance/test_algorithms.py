"""The laws of algorithms, on every one that streamem brings with it; and on planted faults, which they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from streamem.algorithms import Aitken, AndersonEM, AutoEM, BatchEM, IncrementalEM, SquaredEM, StepwiseEM
from streamem.algorithms.auto import PlannedAuto
from streamem.algorithms.incremental import PlannedIncremental
from streamem.algorithms.stepwise import ScheduledStepwise
from streamem.conformance import AlgorithmSuite
from streamem.core.arrays import Params
from streamem.core.ports import ChunkRef
from streamem.core.ports.running import Variant
from streamem.core.state import State


class TestBatch(AlgorithmSuite):
    def make_algorithm(self) -> Variant:
        return BatchEM(Aitken(1e-8), max_iter=500)


class TestSquarem(AlgorithmSuite):
    def make_algorithm(self) -> Variant:
        return SquaredEM(Aitken(1e-8), max_iter=500)


class TestAnderson(AlgorithmSuite):
    def make_algorithm(self) -> Variant:
        return AndersonEM(Aitken(1e-8), max_iter=500)


@pytest.mark.parametrize("batch_rows", [None, 3], ids=["no steps", "steps"])
class TestAuto(AlgorithmSuite):
    """Mini-batches may lower the log-likelihood; passes after them do not."""

    @pytest.fixture(autouse=True)
    def _choose(self, batch_rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotone = batch_rows is None
        self.batch_rows = batch_rows
        if batch_rows is not None:
            self.least_rows = batch_rows
            monkeypatch.setattr("streamem.algorithms.auto.FEWEST_ROWS", batch_rows)

    def make_algorithm(self) -> Variant:
        return AutoEM(StepwiseEM(passes=1, batch_rows=self.batch_rows, final_pass=False))

    def test_it_is_planned_into_phases(self) -> None:
        planned = self._planned()
        assert isinstance(planned, PlannedAuto)
        assert (planned.first is None) == (self.batch_rows is None)


@pytest.mark.parametrize("blocks", [None, 1, 3])
class TestIncremental(AlgorithmSuite):
    """Blocks of rows within chunks, one block, and blocks of chunks."""

    @pytest.fixture(autouse=True)
    def _choose(self, blocks: int | None) -> None:
        self.blocks = blocks

    def make_algorithm(self) -> Variant:
        return IncrementalEM(blocks=self.blocks)

    def test_it_is_planned_into_blocks(self) -> None:
        assert isinstance(self._planned(), PlannedIncremental)


@pytest.mark.parametrize(
    "settings", [{}, {"batch_rows": 37, "passes": 3, "final_pass": False}, {"batch_rows": 600, "averaging": 0.0}]
)
class TestStepwise(AlgorithmSuite):
    """Its steps are noisy: a pass may lower the log-likelihood."""

    monotone = False

    @pytest.fixture(autouse=True)
    def _choose(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def make_algorithm(self) -> Variant:
        return StepwiseEM(**self.settings)

    def test_it_is_planned_into_a_schedule(self) -> None:
        assert isinstance(self._planned(), ScheduledStepwise)


# --- the suite can fail ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Faulty(BatchEM):
    """Batch EM to be spoilt; most of what is inherited stays right."""


class SkipsTheLastChunk(Faulty):
    """It says so, at least."""

    sees_all_rows = False

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        return super().window(state, refs)[:-1]


class ReadsBackwards(Faulty):
    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        return super().window(state, refs)[::-1]


class FirstHalf(Faulty):
    """It says that it sees all rows."""

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        return super().window(state, refs)[: len(refs) // 2]


class Undoes(Faulty):
    """A later step goes back to where the run began."""

    def update(self, model: Any, state: State, stats: Any) -> State:
        after = super().update(model, state, stats)
        begun = Params(weights=[0.6, 0.4], rates=[1.0, 4.0])
        return replace(after, params=begun, allowance=1e9) if state.iteration == 2 else after


class Remembers(Faulty):
    """It counts its updates on itself, where no checkpoint finds them."""

    def update(self, model: Any, state: State, stats: Any) -> State:
        object.__setattr__(self, "count", getattr(self, "count", 0) + 1)
        return replace(super().update(model, state, stats), rows=self.count)


class NeverEnds(Faulty):
    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        return refs


class Stands(Faulty):
    def update(self, model: Any, state: State, stats: Any) -> State:
        return replace(super().update(model, state, stats), params=state.params)


class LosesOnResuming(Faulty):
    def resume(self, state: State) -> State:
        return replace(super().resume(state), params=Params(weights=[0.5, 0.5], rates=[1.0, 2.0]))


class TellsAnything(Faulty):
    """The log-likelihood of the last M-step's statistics is not that of the parameters it gave."""

    def update(self, model: Any, state: State, stats: Any) -> State:
        after = super().update(model, state, stats)
        return replace(after, log_likelihood=state.trace[0]) if after.log_likelihood is not None else after


class AnonymousKey(Faulty):
    @property
    def key(self) -> str:
        return f"batch at {id(self)}"


class Maybe(Faulty):
    can_end_unconverged = None


class OpensSome(Faulty):
    def open_bytes(self, refs: Sequence[ChunkRef], limits: Any) -> Any:
        return -1


FAULTS: list[tuple[Callable[..., Variant], str]] = [
    (SkipsTheLastChunk, "windows_cover_the_data_in_each_pass"),
    (ReadsBackwards, "windows_follow_the_order_of_the_chunks"),
    (FirstHalf, "every_window_holds_all_rows"),
    (Undoes, "a_pass_never_lowers_the_log_likelihood"),
    (Remembers, "interrupted_anywhere_a_run_ends_with_equal_bits"),
    (Stands, "the_run_learns"),
    (LosesOnResuming, "an_ended_run_goes_on"),
    (TellsAnything, "the_final_log_likelihood_is_that_of_the_final_parameters"),
    (AnonymousKey, "name_and_key_identify_the_algorithm"),
    (Maybe, "facts_are_yes_or_no"),
    (OpensSome, "what_stays_open_is_told"),
    (lambda rule, n: BatchEM(rule, 3), "a_run_ends"),
]


@pytest.mark.parametrize(("make", "law"), FAULTS, ids=[law for _, law in FAULTS])
def test_a_planted_fault_breaks_its_law(make: Callable[..., Variant], law: str) -> None:
    class Planted(AlgorithmSuite):
        def make_algorithm(self) -> Variant:
            return make(Aitken(1e-8), 500)

    with pytest.raises(AssertionError):
        getattr(Planted(), f"test_{law}")()


def test_a_run_without_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamem.conformance.algorithms.MOST_WINDOWS", 50)

    class Planted(AlgorithmSuite):
        def make_algorithm(self) -> Variant:
            return NeverEnds(Aitken(1e-8), 500)

    with pytest.raises(AssertionError, match="has not ended"):
        Planted().test_a_run_ends()
