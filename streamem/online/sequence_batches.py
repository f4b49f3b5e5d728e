"""Cutting a stream into mini-batches of whole sequences, each with the positions behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from streamem.core.errors import ParameterError, StreamError
from streamem.core.sequences import Sequences
from streamem.online.mini_batches import Cutter, MiniBatch, Poison, Segment, joined
from streamem.online.records import Decoder

NOBODY = object()
"""Identifies no sequence."""


@dataclass(eq=False)
class _Lane:
    """Messages of one partition that wait: those of complete sequences, and `steps` of one that may go on."""

    segments: deque[Segment] = field(default_factory=deque)
    sequence: Any = NOBODY
    steps: int = 0


@dataclass(frozen=True)
class _Whole:
    """A complete sequence at the front of its partition, behind those that were complete before."""

    partition: str
    steps: int


class SequenceCutter(Cutter):
    """Gathers the steps of sequences in each partition, and gives mini-batches of complete ones.

    A sequence is complete where the identifier of the next record differs, where it has `most_steps`, and where the
    stream ends.

    Parameters
    ----------
    decoder, positions, limit : as in `Cutter`
    batch_rows : least steps of a mini-batch; only a stream's end makes a smaller one
    most_steps : of a sequence; a longer one is taken in pieces of so many, as sequences of their own
    by_message : every message is a sequence of its own
    """

    def __init__(
        self,
        decoder: Decoder,
        positions: Mapping[str, Any],
        batch_rows: int,
        limit: float,
        most_steps: int,
        by_message: bool,
    ) -> None:
        super().__init__(decoder, positions, batch_rows, limit)
        self._most, self._by_message = most_steps, by_message
        self._lanes: dict[str, _Lane] = {}
        self._whole: deque[_Whole] = deque()
        self._whole_steps = 0
        self._restore: Any = None

    # --- in ----------------------------------------------------------------------------------------------------------

    def _append(self, segment: Segment) -> None:
        lane = self._lanes.setdefault(segment.message.partition, _Lane())
        lane.segments.append(segment)
        for sequence, steps in self._runs(segment):
            if sequence != lane.sequence:
                self._end(segment.message.partition)
            lane.sequence = sequence
            lane.steps += steps
            while lane.steps >= self._most:
                self._found(segment.message.partition, self._most)
                lane.steps -= self._most
        if self._by_message:
            self._end(segment.message.partition)

    def _runs(self, segment: Segment) -> list[tuple[Any, int]]:
        """Sequences of the records that are left of a message, with their steps."""
        if self._by_message:
            return [(segment, segment.left)] if segment.left else []
        return [(one, len(list(same))) for one, same in groupby(segment.records.ids[segment.taken :])]

    def _end(self, partition: str) -> None:
        """Take the sequence that may go on in a partition for complete."""
        lane = self._lanes[partition]
        if lane.steps:
            self._found(partition, lane.steps)
        lane.steps, lane.sequence = 0, NOBODY

    def _found(self, partition: str, steps: int) -> None:
        self._whole.append(_Whole(partition, steps))
        self._whole_steps += steps

    # --- out ---------------------------------------------------------------------------------------------------------

    def _complete(self) -> Iterator[MiniBatch]:
        while self._whole_steps >= self._batch_rows:
            wholes, steps = [], 0
            while steps < self._batch_rows:
                wholes.append(self._whole.popleft())
                steps += wholes[-1].steps
            self._whole_steps -= steps
            yield self._cut_out(wholes)

    def rest(self) -> MiniBatch | None:
        """All that is left, sequences that may go on too; None if no message is left."""
        if not any(lane.segments for lane in self._lanes.values()):
            return None
        before = self._snapshot()
        for partition in self._lanes:
            self._end(partition)
        wholes = list(self._whole)
        self._whole.clear()
        self._whole_steps = 0
        return self._cut_out(wholes, before, list(self._lanes.values()))

    def withdraw(self, partitions: Collection[str]) -> MiniBatch | None:
        """Give up messages of partitions that go to another reader; what is left of those that were learned in part."""
        before, begun, passed = self._snapshot(), [], []
        self._whole = deque(one for one in self._whole if one.partition not in partitions)
        self._whole_steps = sum(one.steps for one in self._whole)
        for partition in [name for name in self._lanes if name in partitions]:
            first = next(iter(self._lanes[partition].segments), None)
            if first is None or not first.taken:
                del self._lanes[partition]
                continue
            self._lanes[partition] = _Lane(deque([first]))
            begun += [_Whole(partition, steps) for _, steps in self._runs(first)]
            passed.append(self._lanes[partition])
        return self._cut_out(begun, before, passed) if passed else None

    def put_back(self) -> None:
        """Undo the cut of the latest mini-batch, which could not be learned."""
        if self._restore is None:
            return
        self._positions, self._whole, self._lanes, taken = self._restore
        for segment, count in taken:
            segment.taken = count
        self._whole_steps = sum(one.steps for one in self._whole)
        self._restore = None

    def _snapshot(self) -> Any:
        lanes = {name: replace(lane, segments=deque(lane.segments)) for name, lane in self._lanes.items()}
        taken = [(segment, segment.taken) for lane in lanes.values() for segment in lane.segments]
        return dict(self._positions), deque(self._whole), lanes, taken

    def _cut_out(self, wholes: list[_Whole], before: Any = None, passed: Collection[_Lane] = ()) -> MiniBatch:
        """A mini-batch of complete sequences, and of what is left in lanes that are passed wholly."""
        self._restore = before or self._put_in_front(self._snapshot(), wholes)
        xs: list[Any] = []
        weights: list[Any] = []
        poison: list[Poison] = []
        counted = [self._take(self._lanes[one.partition], one.steps, xs, weights, poison) for one in wholes]
        counted += [self._take(lane, 0, xs, weights, poison) for lane in passed]
        lengths = [one.steps for one in wholes]
        if self._by_message and len(lengths) > 1 and max(lengths) == 1:
            raise ParameterError(
                f"all of {len(lengths)} messages hold one record, so that each would be a sequence of one step: say "
                "which field identifies sequences with sequence_column=, or that all are steps of one with "
                "continued=True"
            )
        chunk = joined(xs, weights, self._decoder.n_features or 1)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        return MiniBatch(
            replace(chunk, sequences=Sequences(offsets)), tuple(poison), dict(self._positions), sum(counted)
        )

    @staticmethod
    def _put_in_front(snapshot: Any, wholes: list[_Whole]) -> Any:
        """A snapshot from before these sequences were taken."""
        positions, whole, lanes, taken = snapshot
        return positions, deque([*wholes, *whole]), lanes, taken

    def _take(self, lane: _Lane, steps: int, xs: list[Any], weights: list[Any], poison: list[Poison]) -> int:
        """Move on so many steps in a lane, and over messages of which nothing is left; tombstones that this passes."""
        tombstones = 0
        while lane.segments and (steps > 0 or lane.segments[0].left == 0):
            segment = lane.segments[0]
            take = min(steps, segment.left)
            part = slice(segment.taken, segment.taken + take)
            if take:
                xs.append(segment.records.x[part])
                weights.append(None if segment.records.weight is None else segment.records.weight[part])
            poison += self._passed(segment, take)
            if segment.left == 0:
                lane.segments.popleft()
            tombstones += segment.message.payload is None
            steps -= take
        return tombstones

    # --- what is left ------------------------------------------------------------------------------------------------

    @property
    def _waiting_segments(self) -> list[Segment]:
        return [segment for lane in self._lanes.values() for segment in lane.segments]


class EndlessCutter(Cutter):
    """Cuts one sequence that never ends into blocks of a fixed number of steps."""

    _partition: str | None = None

    def _append(self, segment: Segment) -> None:
        partition = segment.message.partition
        if self._partition not in (None, partition):
            raise StreamError(
                f"continued=True takes one sequence, and the stream has the partitions {self._partition!r} and "
                f"{partition!r}, whose messages come in no order of their own; read one partition, or name the field "
                "that identifies sequences with sequence_column="
            )
        self._partition = partition
        super()._append(segment)
