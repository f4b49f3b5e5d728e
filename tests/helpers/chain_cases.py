"""For tests of hidden Markov models: chunks cut as wanted, and all paths one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import Params, Stats
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef
from streamem.core.sequences import Sequences

Array = NDArray[Any]


class Symbols:
    """Categorical emissions of symbols 0 … m − 1 in one column, with probabilities (K, m)."""

    def log_prob(self, p: Any, x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(p.table)[:, x[:, 0].astype(np.int64)].T

    def stats(self, p: Any, x: Any, resp: Any) -> Stats:
        return Stats(counts=resp.T @ (x == np.arange(p.table.shape[1])))

    def maximize(self, s: Any, previous: Any) -> Params:
        return Params(table=s.counts / s.counts.sum(1, keepdims=True))


def chain(startprob: Any, transmat: Any, components: Params) -> Params:
    """Parameters of a hidden Markov model."""
    k = len(startprob)
    return Params(startprob=startprob, transmat=transmat, kept=np.zeros(k, dtype=np.bool_), components=components)


def fading() -> tuple[Params, Chunk]:
    """From state 3 to 0 or 1, which meet again in 2: first 1 loses 1200 nats against 0, then 0 loses 1500 against 1.

    No step loses more than floats hold, and in the end all of the probability is in what they do not hold.
    """
    transmat = [[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    table = [[1.0, 1.0, np.exp(-50), 1.0], [1.0, np.exp(-300), 1.0, 1.0], [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    x = np.repeat([0.0, 1.0, 2.0, 3.0], [1, 4, 30, 4])[:, None]
    return chain([0.0, 0.0, 0.0, 1.0], transmat, Params(table=table)), whole(x)


FADING = float(-1200 + 34 * np.log(0.5))
"""Its log-likelihood: state 1 for 34 steps, and any path after them."""


@dataclass(frozen=True, eq=False)
class PieceRef(ChunkRef):
    """A handle on steps of sequences that it holds itself."""

    chunk: Chunk
    index: int
    start: int

    @property
    def rows(self) -> int:
        return self.chunk.rows

    @property
    def nbytes(self) -> int:
        return self.chunk.x.nbytes

    load_nbytes = nbytes

    @property
    def sequences(self) -> Sequences:
        assert self.chunk.sequences is not None
        return self.chunk.sequences

    def load(self) -> Chunk:
        return self.chunk


def whole(x: Array, lengths: Sequence[int] | None = None, weight: Array | None = None, padded: bool = False) -> Chunk:
    """One chunk of whole sequences."""
    offsets = np.cumsum([0, *(lengths or [len(x)])])
    return Chunk(x, weight, Sequences(offsets, padded=padded))


def cut(chunk: Chunk, cuts: Sequence[int]) -> list[PieceRef]:
    """The same rows in chunks that end at `cuts` and at the end."""
    assert chunk.sequences is not None
    offsets, refs = chunk.sequences.offsets, []
    bounds = [0, *cuts, chunk.rows]
    for i, (a, b) in enumerate(pairwise(bounds)):
        inner = offsets[(offsets > a) & (offsets < b)]
        own = np.concatenate([[a], inner, [b]]) - a
        sequences = Sequences(own, a not in offsets, b not in offsets, chunk.sequences.padded)
        weight = None if chunk.weight is None else chunk.weight[a:b]
        refs.append(PieceRef(Chunk(chunk.x[a:b], weight, sequences, chunk.beside(slice(a, b))), i, a))
    return refs


@dataclass
class Enumerated:
    """What all paths through one sequence say."""

    log_likelihood: float
    gamma: Array
    transitions: Array
    path: Array


def enumerated(startprob: Array, transmat: Array, log_prob: Array) -> Enumerated:
    """Sums over K^T paths; the best one is the first in lexical order."""
    steps, k = log_prob.shape
    gamma, transitions = np.zeros((steps, k)), np.zeros((k, k))
    total, best, path = 0.0, -1.0, np.zeros(steps, dtype=np.int64)
    density = np.exp(log_prob)
    for states in product(range(k), repeat=steps):
        p = startprob[states[0]] * density[0, states[0]]
        for t in range(1, steps):
            p *= transmat[states[t - 1], states[t]] * density[t, states[t]]
        total += p
        gamma[np.arange(steps), states] += p
        for t in range(1, steps):
            transitions[states[t - 1], states[t]] += p
        if p > best:
            best, path = p, np.array(states)
    return Enumerated(float(np.log(total)), gamma / total, transitions / total, path)
