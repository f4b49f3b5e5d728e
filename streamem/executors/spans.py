"""Aligned runs of chunks: the unit of work of an executor whose tasks should take about a second.

A run of 2^k chunks that starts at a multiple of 2^k is a subtree of the reduction tree (`core.reduction`), so its sum
can be formed anywhere, and runs can be longer or shorter without a change of bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamem.core.ports import ChunkRef
from streamem.core.reduction import TreeReduction
from streamem.core.stats import Stats

SPAN_SECONDS = 1.0
SPAN_BYTES = 256 * 2**20
RESULT_BYTES = 8 * 2**20
MOST_SPANS = 10_000
SPANS_PER_THREAD = 4


@dataclass(frozen=True)
class Span:
    """Chunks first … first + len(refs) − 1 of the plan; `position` counts spans."""

    position: int
    refs: tuple[ChunkRef, ...]

    @property
    def rows(self) -> int:
        """Rows of all its chunks."""
        return sum(ref.rows for ref in self.refs)

    @property
    def nbytes(self) -> int:
        """Bytes of all its chunks."""
        return sum(ref.nbytes for ref in self.refs)


@dataclass(frozen=True)
class Partial:
    """Statistics of a run of chunks, and what they took, summed over threads; requests that were made again."""

    stats: Stats
    wait_s: float
    compute_s: float
    retried: int = 0


def span_length(refs: Sequence[ChunkRef], n_threads: int, chunk_seconds: float | None) -> int:
    """Chunks a span, a power of two.

    About a second of work (by bytes before the first pass has been timed), but few enough spans for a scheduler and
    enough for every thread.

    >>> from types import SimpleNamespace
    >>> refs = [SimpleNamespace(nbytes=8 * 2**20)] * 1000
    >>> span_length(refs, n_threads=4, chunk_seconds=None), span_length(refs, n_threads=4, chunk_seconds=0.06)
    (32, 16)
    """
    if not refs:
        return 1
    per_chunk = chunk_seconds or SPAN_SECONDS * max(ref.nbytes for ref in refs) / SPAN_BYTES
    wanted = min(SPAN_SECONDS / max(per_chunk, 1e-6), len(refs) / (SPANS_PER_THREAD * n_threads))
    least = -(-len(refs) // MOST_SPANS)
    return max(1 << int(max(1.0, wanted)).bit_length() - 1, 1 << (least - 1).bit_length())


def shortened(length: int, refs: Sequence[ChunkRef], row_nbytes: int) -> int:
    """A span length, cut down until its results, which travel together, stay below `RESULT_BYTES` or are of one chunk.

    >>> from types import SimpleNamespace
    >>> shortened(64, [SimpleNamespace(rows=2**16)] * 64, row_nbytes=32)
    4
    """
    largest = max((ref.rows for ref in refs), default=0) * row_nbytes
    while length > 1 and length * largest > RESULT_BYTES:
        length //= 2
    return length


def cut_spans(refs: Sequence[ChunkRef], length: int) -> list[Span]:
    """The plan in aligned runs of `length` chunks."""
    return [Span(i, tuple(refs[a : a + length])) for i, a in enumerate(range(0, len(refs), length))]


def combine(partials: Sequence[Partial]) -> Partial:
    """Neighbouring partial sums, along the tree."""
    tree = TreeReduction(len(partials))
    for position, partial in enumerate(partials):
        tree.add(position, partial.stats)
    waits, computes, retries = zip(*((each.wait_s, each.compute_s, each.retried) for each in partials), strict=True)
    return Partial(tree.result(), sum(waits), sum(computes), sum(retries))
