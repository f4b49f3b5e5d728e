"""One pass over all data for families that must see it before their first parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Executor, Family, FullFamily, OnChunk, full_family
from streamem.core.small_work import small_work
from streamem.core.validation import locating

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Survey:
    """The task of a survey: what a family looks for in a chunk."""

    family: FullFamily
    names: tuple[str, ...] | None

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """The summary of one chunk."""
        with locating(chunk, ref, self.names), small_work(chunk.x.size):
            return self.family.survey(chunk.x, chunk.weight)


def surveyed_family(
    family: Family,
    refs: Sequence[ChunkRef],
    executor: Executor,
    names: tuple[str, ...] | None,
    on_chunk: OnChunk,
) -> Family:
    """The family as it is once it has seen all chunks; itself, if it has nothing to learn from them.

    Raises
    ------
    ImpossibleValueError : a value that the family cannot emit, named by chunk, row and column
    """
    full = full_family(family)
    if full.is_surveyed:
        return family
    return full.surveyed(list(executor.map(Survey(full, names), refs, on_chunk)))
