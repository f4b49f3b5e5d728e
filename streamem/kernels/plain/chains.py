"""Recursions of a hidden Markov chain in NumPy, for few steps; see `chains`.

A step is a matrix M_t = A·diag(b_t), and the first of a sequence one of rank 1, so that all sequences are one chain. It
is cut into blocks of L steps. The products of all blocks take L products of stacks; where the chain is at the ends of
the blocks, a product of a vector a block; and all steps within the blocks L products again: some 3·√n calls, not n.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.kernels.chains.limits import AGREEING, FLOOR, LEAST_SUM, TAINTED
from streamem.kernels.plain.features import quietly

Array = NDArray[Any]

STEPS_A_BLOCK = 0.7
"""Times the root of the number of steps: a product of stacks costs about three of vectors."""

AT_ONCE = 4
"""Steps between two scalings of the products of a block."""

LEAST_AHEAD = 1e-300
"""Below this no β is let, so that a sequence without a future leaves those before it theirs."""


class _Blocks(NamedTuple):
    """Operators of all steps, cut into blocks of L.

    Attributes
    ----------
    steps : (n,) rows of all steps
    firsts : (sequences,) where each of those that have steps begins among them
    operators : (L, blocks, width, width), the identity behind the last step
    products : (blocks, width, width) of the operators of each block, divided by the largest number
    """

    steps: Array
    firsts: Array
    operators: Array
    products: Array


class PlainRecursions:
    """`Recursions` in NumPy, for any width: `backward` goes on with what `forward` made of the same steps."""

    def __init__(self) -> None:
        self._blocks: _Blocks | None = None

    @quietly
    def forward(
        self, b: Array, peaks: Array, spans: Array, entries: Array, exits: Array, matrix: Array, v: Array, known: Array
    ) -> None:
        """Fills v (n, width) and log-likelihoods (s,), −inf where logarithms are needed; b takes the scaling.

        As `forward_backward`: v_t = (v_{t−1} A)∘b_t of the scaled b, and here all v sum to 1.
        """
        known[:] = 0.0
        filled = np.flatnonzero(spans[:, 1] > spans[:, 0])
        self._blocks = None
        if not len(filled):
            return
        blocks = self._blocks = _blocks(b, spans[filled], entries[filled], exits[filled], matrix)
        steps, firsts = blocks.steps, blocks.firsts
        found = _states(blocks)
        v[steps] = found
        predicted = np.empty_like(found)
        np.matmul(found[:-1], matrix, out=predicted[1:])
        predicted[firsts] = entries[filled]
        sums = np.einsum("nj,nj->n", predicted, b[steps])
        b[steps] /= sums[:, None]
        left = np.einsum("sj,sj->s", v[spans[filled, 1] - 1], exits[filled])
        told = np.add.reduceat(np.log(sums) + peaks[steps], firsts)
        known[filled] = np.where(np.isfinite(told) & (left > LEAST_SUM), told, -np.inf)

    @quietly
    def backward(
        self,
        b: Array,
        spans: Array,
        exits: Array,
        weights: Array,
        transposed: Array,
        v: Array,
        known: Array,
        transitions: Array,
        visits: Array,
        begun: Array,
        counted: int,
    ) -> None:
        """Weighted γ into v; adds Σ v_t u_{t+1}ᵀ to transitions, Σ γ to visits and first γ to begun.

        First states are those of sequences from `counted` on: others go on from elsewhere. Sequences whose
        log-likelihood is not finite are skipped; it becomes −inf where too much mass was tainted.
        """
        if self._blocks is None:
            return
        filled = np.flatnonzero(spans[:, 1] > spans[:, 0])
        steps, firsts = self._blocks.steps, self._blocks.firsts
        ahead, before = _ahead(self._blocks, exits[filled[-1]]), v[steps]
        gamma = before * ahead
        mass = gamma.sum(axis=1, keepdims=True)
        gamma /= mass
        reached = b[steps] * ahead / mass
        taint = np.add.reduceat(np.where(before <= FLOOR, gamma, 0.0).sum(axis=1), firsts)
        clean = np.isfinite(known[filled]) & (taint <= TAINTED)  # NaN is a taint too
        known[filled[~clean]] = -np.inf
        lengths = spans[filled, 1] - spans[filled, 0]
        if not clean.all():
            skipped = np.repeat(~clean, lengths)
            gamma[skipped], reached[skipped], before[skipped] = 0.0, 0.0, 0.0
        gamma *= np.repeat(weights[filled], lengths)[:, None]
        reached *= np.repeat(weights[filled], lengths)[:, None]
        reached[firsts] = 0.0  # nothing of their own sequence comes before these
        transitions += before[:-1].T @ reached[1:]
        visits += gamma.sum(axis=0)
        begun += gamma[firsts[filled >= counted]].sum(axis=0)
        kept = np.repeat(clean, lengths)
        v[steps[kept]] = gamma[kept]

    @quietly
    def operator(self, b: Array, matrix: Array, rows: Array, scales: Array, shared: Array, least: float) -> bool:
        """rows (m, width) → rows·Π_t matrix·diag(b_t), without factors whose logarithms are added to scales (m,).

        As `forward_backward` has it. Says whether all rows agree but for their factors.
        """
        for values in b:
            rows[...] = np.maximum((rows @ matrix) * values, least)
            sums = rows.sum(axis=1, keepdims=True)
            rows /= sums
            if len(rows) == 1:
                shared += np.log(sums[0])
            else:
                scales += np.log(sums[:, 0])
        return len(rows) == 1 or bool((np.abs(rows - rows[0]) <= AGREEING * rows[0]).all())


class PlainPaths(NamedTuple):
    """`Paths` in NumPy, for any width."""

    best: Any
    scores: Any


def recursions(width: int) -> PlainRecursions:
    """Forward and backward, for one pass."""
    return PlainRecursions()


def _blocks(b: Array, spans: Array, entries: Array, exits: Array, matrix: Array) -> _Blocks:
    """The operators of all steps of sequences that have any.

    What comes before the first step of a sequence has the likelihood of its own exit, whatever comes next.
    """
    lengths = spans[:, 1] - spans[:, 0]
    firsts = np.cumsum(lengths) - lengths
    steps = np.arange(lengths.sum()) + np.repeat(spans[:, 0] - firsts, lengths)
    n, width = len(steps), b.shape[1]
    length = max(1, round(STEPS_A_BLOCK * n**0.5))
    count = -(-n // length)
    operators = np.empty((count * length, width, width))
    np.multiply(matrix, b[steps][:, None, :], out=operators[:n])
    operators[firsts] = np.roll(exits, 1, axis=0)[:, :, None] * (entries * b[steps[firsts]])[:, None, :]
    operators[n:] = np.eye(width)
    cut = np.ascontiguousarray(operators.reshape(count, length, width, width).swapaxes(0, 1))
    products, scales = cut[0], np.zeros((count, width, 1))
    for i in range(1, length):
        products = products @ cut[i]
        if i % AT_ONCE == 0 or i + 1 == length:
            largest = products.max(axis=2, keepdims=True)
            products, scales = np.fmax(products / largest, 0.0), scales + np.log(largest)
    # Of a row far below the largest one little is left: no v is below `FLOOR`, which then says that too much was lost.
    return _Blocks(steps, firsts, cut, products * np.exp(scales - scales.max(axis=1, keepdims=True)))


def _states(blocks: _Blocks) -> Array:
    """v (n, width) of all steps, each of which sums to 1 but for what is not let below `FLOOR`."""
    length, count, width, _ = blocks.operators.shape
    before = np.empty((count, 1, width))
    now = np.ones(width)  # what the first step, which is of rank 1, turns into its entry
    for i, product in enumerate(blocks.products):
        before[i, 0] = now
        now = now @ product
        now /= now.sum()
        np.fmax(now, FLOOR, out=now)
    found = np.empty((length, count, 1, width))
    for i, operators in enumerate(blocks.operators):
        before = np.matmul(before, operators, out=found[i])
        before /= np.add.reduce(before, axis=2, keepdims=True)
        np.fmax(before, FLOOR, out=before)
    return _in_order(found, len(blocks.steps))


def _ahead(blocks: _Blocks, exit: Array) -> Array:
    """β (n, width) of all steps, up to a factor for each."""
    length, count, width, _ = blocks.operators.shape
    after = np.empty((count, width, 1))
    now = exit / exit.max()
    for i in range(count - 1, -1, -1):
        after[i, :, 0] = now
        now = blocks.products[i] @ now
        now /= now.max()
        np.fmax(now, LEAST_AHEAD, out=now)
    found = np.empty((length, count, width, 1))
    for i in range(length - 1, -1, -1):
        found[i] = after
        after = blocks.operators[i] @ after
        after /= np.maximum.reduce(after, axis=1, keepdims=True)
        np.fmax(after, LEAST_AHEAD, out=after)
    return _in_order(found, len(blocks.steps))


def _in_order(found: Array, n: int) -> Array:
    """Values (L, blocks, …) of width numbers each as those of n steps."""
    length, count, width = found.shape[0], found.shape[1], found.size // (found.shape[0] * found.shape[1])
    return found.reshape(length, count, width).swapaxes(0, 1).reshape(-1, width)[:n]


# --- paths ------------------------------------------------------------------------------------------------------------


@cache
def paths(width: int) -> PlainPaths:
    """The best path, and its log-probability, which serve any width."""
    return PlainPaths(_best, _scores)


@quietly
def _best(log_prob: Array, entry: Array, exit: Array, matrix: Array, path: Array) -> float:
    """The best path into path (n,), and its log-probability, `exit` included; of equal ones the lowest state."""
    n = len(log_prob)
    now, level = entry + log_prob[0], 0.0
    came_from = np.empty((n, len(now)), dtype=np.int64)
    places = np.arange(len(now))
    for t in range(1, n):
        highest = now.max()
        if np.isfinite(highest):
            now, level = now - highest, level + float(highest)
        steps = now[:, None] + matrix
        came_from[t] = steps.argmax(axis=0)
        now = steps[came_from[t], places] + log_prob[t]
    now = now + exit
    state = int(now.argmax())
    score = level + float(now[state])
    for t in range(n - 1, -1, -1):
        path[t] = state
        state = int(came_from[t, state]) if t else state
    return score


@quietly
def _scores(log_prob: Array, matrix: Array, rows: Array, levels: Array) -> None:
    """Log-probabilities of the best path to every state at the last step, for rows (m, width) that enter the first."""
    rows += log_prob[0]
    for values in log_prob[1:]:
        rows[...] = (rows[:, :, None] + matrix).max(axis=1) + values
        highest = rows.max(axis=1)
        highest = np.where(np.isfinite(highest), highest, 0.0)
        rows -= highest[:, None]
        levels += highest


# --- in logarithms ----------------------------------------------------------------------------------------------------


@quietly
def log_forward(log_prob: Array, entry: Array, matrix: Array, alpha: Array, gains: Array) -> float:
    """Log-probabilities of the state given the past, (n, K), log-likelihood of each step (n,), and their sum."""
    total = 0.0
    for t, values in enumerate(log_prob):
        predicted = np.logaddexp.reduce(alpha[t - 1][:, None] + matrix, axis=0) if t else entry
        alpha[t] = predicted + values
        gains[t] = np.logaddexp.reduce(alpha[t])
        total += float(gains[t])
        if not np.isfinite(gains[t]):
            return total
        alpha[t] -= gains[t]
    return total


@quietly
def log_backward(
    log_prob: Array, exit: Array, transposed: Array, alpha: Array, gains: Array, weight: float, transitions: Array
) -> None:
    """Turns alpha into weighted γ and adds weighted ξ to transitions; `exit` (K,) is log-likelihood of what follows."""
    n, matrix = len(log_prob), transposed.T
    beta, ahead = exit - np.logaddexp.reduce(alpha[n - 1] + exit), np.empty_like(exit)
    for t in range(n - 1, -1, -1):
        if t < n - 1:
            transitions += weight * np.exp(matrix + (alpha[t][:, None] + ahead))
            beta = np.logaddexp.reduce(matrix + ahead, axis=1)
        ahead = log_prob[t] + beta - gains[t]
        alpha[t] = weight * np.exp(alpha[t] + beta)


@quietly
def log_scores(log_prob: Array, entry: Array, matrix: Array) -> Array:
    """Log-probability (K,) of all paths to every state at the last step."""
    now = entry + log_prob[0]
    for values in log_prob[1:]:
        now = np.logaddexp.reduce(now[:, None] + matrix, axis=0) + values
    return np.asarray(now)
