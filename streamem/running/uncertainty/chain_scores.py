"""Products of scores of a Gaussian chain: of steps given those before them, and of whole sequences.

The scores of steps sum to that of the data and depend on no other step's (a martingale; Berndt, Hall, Hall & Hausman
1974), so that one long sequence is enough. Where the chain is not the truth they are not independent: then what
varies is the scores of sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Executor, PassTask
from streamem.core.sequences import Sequences
from streamem.core.stats import Stats
from streamem.core.validation import locating, require_finite
from streamem.models import GaussianChain
from streamem.models.boundaries import boundaries
from streamem.models.steps import missing_rows
from streamem.running.uncertainty.chain_slopes import AtPoints, Number, slope
from streamem.running.uncertainty.sequences import SequencePart

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class StepProducts(AtPoints):
    """products (p, p): Σ w s sᵀ of the scores s of steps, given those before them; units: how many steps.

    `points` are the parameters, and those with each free number moved up and down by its one of `steps`. Steps before
    a diffuse start is known are one with that which makes it known.
    """

    steps: tuple[float, ...] = ()

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Products of one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        known = self.messages or ({},) * len(self.points)
        with locating(chunk, ref, self.names):
            heights = [
                np.nan_to_num(self.model.step_densities(point, chunk, message.get(ref.index)))
                for point, message in zip(self.points[1:], known[1:], strict=True)
            ]
            begins = self._begins(chunk, known[0].get(ref.index))
        pairs = zip(heights[::2], heights[1::2], self.steps, strict=True)
        scores = np.array([(up - down) / (2.0 * step) for up, down, step in pairs]).reshape(len(self.steps), -1)
        if len(begins):
            scores = np.add.reduceat(scores, begins, axis=1)
        weights = np.ones(len(begins)) if chunk.weight is None else chunk.weight[begins]
        absent = missing_rows(chunk.x)
        seen = chunk.rows if absent is None else chunk.rows - int(absent.sum())
        return Stats(products=(scores * weights) @ scores.T, units=float(seen))

    def _begins(self, chunk: Chunk, message: Boundary | None) -> Array:
        """The first rows of what counts as one step."""
        if not self.model.setup.diffuse or not chunk.rows:
            return np.arange(chunk.rows)
        told = ~np.isnan(self.model.filtered(self.points[0], chunk, message)[:, 0])
        first = np.concatenate([[True], told[:-1]])
        first[np.asarray((chunk.sequences or Sequences(np.array([0, chunk.rows]))).offsets[:-1]) % chunk.rows] = True
        return np.flatnonzero(first)


@dataclass(frozen=True, eq=False)
class SequenceProducts(PassTask[SequencePart]):
    """Products of the scores of whole sequences, and scores of the pieces of those that chunks cut."""

    model: GaussianChain
    params: Params
    names: tuple[str, ...] | None
    numbers: tuple[Number, ...]
    messages: Mapping[int, Boundary] = field(default_factory=dict)

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> SequenceProducts:
        """This task with the boundaries of cut sequences."""
        return replace(self, messages=boundaries(self.model, self.params, refs, executor, self.names))

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> SequencePart:
        """The answer for one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        message = self.messages.get(ref.index) or Boundary()
        sequences = chunk.sequences or Sequences(np.array([0, chunk.rows], dtype=np.int64))
        products, ends = np.zeros((len(self.numbers),) * 2), len(sequences) - 1
        first = last = None
        for s, (begin, stop) in enumerate(zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)):
            if begin == stop:
                continue
            opened, continued = sequences.opened and s == 0, sequences.continued and s == ends
            own = Sequences(np.array([0, stop - begin], dtype=np.int64), opened, continued, sequences.padded)
            ended = message.ended if s == ends else False
            known = Boundary(message.before if s == 0 else None, message.after if s == ends else None, ended)
            with locating(chunk, ref, self.names):
                stats = self.model.e_step(self.params, Chunk(chunk.x[begin:stop], None, own), known)
            score = slope(self.model, self.params, stats, self.numbers)
            weight = 1.0 if chunk.weight is None else float(chunk.weight[begin])
            if opened:
                first = (score, weight)
            elif continued:
                last = (score, weight)
            else:
                products += weight * np.outer(score, score)
        passes = bool(sequences.opened and sequences.continued and len(sequences) == 1)
        return SequencePart(Stats(products=products), first, last, passes, len(sequences) - int(sequences.opened))
