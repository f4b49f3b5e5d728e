"""Cutting a stream into mini-batches of a fixed number of rows, each with the positions behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import PoisonError
from streamem.core.message import Message
from streamem.online.records import Decoder, Records, Unusable

FEWEST_RECORDS, MEMORY_RECORDS = 1000, 10_000


@dataclass(frozen=True)
class Poison:
    """An unusable record and where it was."""

    partition: str
    position: Any
    bad: Unusable


@dataclass(frozen=True, eq=False)
class MiniBatch:
    """Rows to learn, what was unusable before their end, and the positions behind them.

    A position is [where, records]: the message at `where`, of which so many records have been passed. Messages without
    a payload (tombstones) that were passed over are counted.
    """

    chunk: Chunk
    poison: tuple[Poison, ...]
    positions: Mapping[str, Any]
    tombstones: int = 0


@dataclass
class Tally:
    """What came since a cutter began: messages, their records, those that cannot be used, and those of weight 0."""

    messages: int = 0
    records: int = 0
    refused: int = 0
    weightless: int = 0


@dataclass(eq=False)
class Segment:
    """A decoded message, and how many of its usable records have been taken."""

    message: Message
    records: Records
    taken: int = 0

    @property
    def left(self) -> int:
        """Usable records that have not been taken."""
        return len(self.records.x) - self.taken

    @property
    def passed(self) -> int:
        """Records of the message up to the last that was taken."""
        return int(self.records.ends[self.taken - 1]) if self.taken else 0


class Cutter:
    """Takes messages in, gives mini-batches out.

    Parameters
    ----------
    decoder : makes rows of messages
    positions : [where, records] of each partition at the start
    batch_rows : rows of a mini-batch
    limit : share of the latest records that may be unusable
    """

    def __init__(self, decoder: Decoder, positions: Mapping[str, Any], batch_rows: int, limit: float) -> None:
        self._decoder, self._batch_rows, self._limit = decoder, batch_rows, limit
        self._positions = dict(positions)
        self._skip = {partition: int(position[1]) for partition, position in positions.items()}
        self._segments: deque[Segment] = deque()
        self._unread: Message | None = None
        self._cut_off: list[Segment] = []
        self._before: tuple[dict[str, Any], int] = ({}, 0)
        self._rows = 0
        self._seen = self._bad = 0.0
        self.came = Tally()

    def add(self, message: Message) -> Iterator[MiniBatch]:
        """The mini-batches that the message completes.

        Raises
        ------
        PoisonError : too many unusable records; `waiting` gives those that no mini-batch has passed
        Exception : something else failed than the message; it is kept, see `resume`
        """
        self._unread = message
        records = self._decoder.decode(message.payload, message.headers)
        self._unread = None
        skipped = self._skip.pop(message.partition, 0)
        if skipped > records.count:  # messages that are cut otherwise than they were
            self._skip[message.partition] = skipped - records.count
        records, skipped = records.after(skipped), min(skipped, records.count)
        self._append(Segment(message, records))
        self._judge(records, skipped)
        yield from self._complete()

    def _append(self, segment: Segment) -> None:
        """Let a decoded message wait."""
        self._segments.append(segment)
        self._rows += segment.left

    def _complete(self) -> Iterator[MiniBatch]:
        """The mini-batches for which enough waits."""
        while self._rows >= self._batch_rows:
            yield self._cut(self._batch_rows)

    def rest(self) -> MiniBatch | None:
        """What is left, fewer rows than a mini-batch and perhaps none; None if no message is left."""
        return self._cut(self._rows) if self._segments else None

    def withdraw(self, partitions: Collection[str]) -> MiniBatch | None:
        """Give up messages of partitions that go to another reader; what is left of one that was learned in part."""
        rest = None
        if self._segments and self._segments[0].taken and self._segments[0].message.partition in partitions:
            rest = self._cut(self._segments[0].left)
        given_up = [segment for segment in self._segments if segment.message.partition in partitions]
        self._rows -= sum(segment.left for segment in given_up)
        self._segments = deque(segment for segment in self._segments if segment not in given_up)
        return rest

    def sifted(self, records: int) -> bool:
        """Count records that turned out to be unusable while they were learned; whether these are now too many."""
        self._bad += records
        self.came.refused += records
        return self._bad > self._limit * max(self._seen, FEWEST_RECORDS)

    def put_back(self) -> None:
        """Undo the cut of the latest mini-batch, which could not be learned."""
        positions, taken = self._before
        if not self._cut_off:
            return
        first = self._cut_off[0]
        self._rows += sum(segment.taken for segment in self._cut_off) - taken
        for segment in self._cut_off:
            segment.taken = 0
        first.taken = taken
        ended = [segment for segment in self._cut_off if not self._segments or segment is not self._segments[0]]
        self._segments.extendleft(reversed(ended))
        self._positions, self._cut_off = positions, []

    def _cut(self, rows: int) -> MiniBatch:
        self._before = dict(self._positions), self._segments[0].taken if self._segments else 0
        self._cut_off = []
        xs, weights, poison, wanted, tombstones = [], [], [], rows, 0
        while self._segments and (wanted > 0 or self._segments[0].left == 0):
            segment = self._segments[0]
            take = min(wanted, segment.left)
            part = slice(segment.taken, segment.taken + take)
            if take:
                xs.append(segment.records.x[part])
                weights.append(None if segment.records.weight is None else segment.records.weight[part])
            self._cut_off.append(segment)
            poison += self._passed(segment, take)
            if segment.left == 0:
                self._segments.popleft()
            tombstones += segment.message.payload is None
            wanted -= take
        self._rows -= rows
        chunk = joined(xs, weights, self._decoder.n_features or 1)
        return MiniBatch(chunk, tuple(poison), dict(self._positions), tombstones)

    def _passed(self, segment: Segment, take: int) -> list[Poison]:
        """Move on within a message; the unusable records that this passes."""
        message, records = segment.message, segment.records
        before = segment.passed
        segment.taken += take
        if segment.left == 0:
            stop, position = records.count, [message.after, 0]
        else:
            stop = segment.passed
            position = [message.at, stop]
        self._positions[message.partition] = position
        return [Poison(message.partition, message.at, bad) for bad in records.unusable if before <= bad.record < stop]

    def _judge(self, records: Records, skipped: int) -> None:
        self._seen += records.count - skipped  # a message counts by its records, also one that is refused as a whole
        refused = sum(bad.records for bad in records.unusable)
        self._bad += refused
        self.came.messages += 1
        self.came.records += records.count - skipped
        self.came.refused += refused
        if records.weight is not None:
            self.came.weightless += int(np.count_nonzero(records.weight == 0))
        if self._bad > self._limit * max(self._seen, FEWEST_RECORDS):
            if self._limit == 0:
                raise PoisonError(
                    f"a record cannot be used: {records.unusable[0].reason}; pass dead_letter='bad.arrows' to put such "
                    "records aside"
                )
            raise PoisonError(
                f"{self._bad:.0f} of the latest {self._seen:.0f} records cannot be used, more than the allowed "
                f"{self._limit:.2%}; the last: {records.unusable[-1].reason}"
            )
        if self._seen > MEMORY_RECORDS:  # forget slowly: what counts is the present rate
            self._seen, self._bad = self._seen / 2, self._bad / 2

    @property
    def unread(self) -> tuple[tuple[Segment, ...], Message | None]:
        """What no mini-batch has taken yet, to go on with in another cutter: decoded messages, and one that is not."""
        return tuple(self._waiting_segments), self._unread

    def resume(self, unread: tuple[tuple[Segment, ...], Message | None]) -> None:
        """Go on with what another cutter had left; `again` gives the mini-batches."""
        segments, self._unread = unread
        for segment in segments:
            self._append(segment)

    def again(self) -> Iterator[MiniBatch]:
        """The mini-batches that were complete, or that the message completes that could not be decoded before."""
        yield from self._complete()
        if self._unread is not None:
            yield from self.add(self._unread)

    @property
    def _waiting_segments(self) -> Sequence[Segment]:
        return self._segments

    def waiting(self) -> list[Poison]:
        """Unusable records of messages that no mini-batch has passed yet."""
        return [
            Poison(segment.message.partition, segment.message.at, bad)
            for segment in self._waiting_segments
            for bad in segment.records.unusable
            if bad.record >= segment.passed
        ]


def joined(xs: list[Any], weights: list[Any], n_features: int) -> Chunk:
    """Rows of several messages, one after the other; a missing weight is 1."""
    if not xs:
        return Chunk(np.empty((0, n_features)))
    if len(xs) == 1:
        return Chunk(xs[0], weights[0])
    weight = None
    if any(w is not None for w in weights):
        weight = np.concatenate([np.ones(len(x)) if w is None else w for x, w in zip(xs, weights, strict=True)])
    return Chunk(np.concatenate(xs), weight)
