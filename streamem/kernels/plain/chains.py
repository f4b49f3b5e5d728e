"""Recursions of a hidden Markov chain in NumPy, for few steps; see `chains`.

v_t − (v_{t−1}·A)∘b_t = 0, and the entry at the first step of a sequence, are linear equations whose matrix is
triangular with 2·width diagonals. BLAS solves them for all steps of all sequences in one call, and the transposed ones
for β. So that nothing overflows, the densities of each step are divided by a factor, for which a first guess is mostly
good enough.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtbsv

from streamem.kernels.chains.limits import AGREEING, FLOOR, LEAST_SUM, TAINTED
from streamem.kernels.plain.features import quietly

Array = NDArray[Any]

LOWEST, HIGHEST = 1e-30, 1e30
"""Sums of a step's solution between which whatever is not below `FLOOR` beside them has all its digits."""

FARTHEST = 1e250
"""Up to this factor from 1 a sum is known well enough to guess better."""

GUESSES = 8
"""Of the factors; sequences for which none serves need logarithms."""

LEAST_GROWTH = 1e-200
"""No step is expected to leave less."""


class _System(NamedTuple):
    """The equations of all steps of sequences that have any.

    Attributes
    ----------
    steps : rows of all n steps, a slice where nothing lies between the sequences
    firsts, lasts : (sequences,) where each begins and ends among them
    band : (n·width, 2·width) diagonals of the matrix, the first of which is 1 and not read
    """

    steps: Array | slice
    firsts: Array
    lasts: Array
    band: Array


class PlainRecursions:
    """`Recursions` in NumPy, for any width: `backward` goes on with what `forward` made of the same steps."""

    def __init__(self) -> None:
        self._system: _System | None = None

    @quietly
    def forward(
        self, b: Array, peaks: Array, spans: Array, entries: Array, exits: Array, matrix: Array, v: Array, known: Array
    ) -> None:
        """Fills v (n, width) and log-likelihoods (s,), −inf where logarithms are needed; b takes the scaling.

        As `forward_backward`: v_t = (v_{t−1} A)∘b_t of the scaled b, and here all v sum to 1.
        """
        known[:] = 0.0
        filled = np.flatnonzero(spans[:, 1] > spans[:, 0])
        self._system = None
        if not len(filled):
            return
        self._system, found = _solved(b, spans[filled], entries[filled], matrix)
        steps, firsts, _, _ = self._system
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
        if self._system is None:
            return
        filled = np.flatnonzero(spans[:, 1] > spans[:, 0])
        steps, firsts, lasts, band = self._system
        ahead, before = _transposed(band, firsts, lasts, exits[filled]), v[steps]
        ahead /= np.einsum("nj,nj->n", before, ahead)[:, None]
        gamma, reached = before * ahead, b[steps] * ahead
        taint = np.add.reduceat(np.add.reduce(np.where(before <= FLOOR, gamma, 0.0), axis=1), firsts)
        clean = np.isfinite(known[filled]) & (taint <= TAINTED)  # NaN is a taint too
        known[filled[~clean]] = -np.inf
        lengths = spans[filled, 1] - spans[filled, 0]
        if not clean.all():  # v of these is worked out anew by whoever reads `known`
            skipped = np.repeat(~clean, lengths)
            gamma[skipped], reached[skipped], before[skipped] = 0.0, 0.0, 0.0
        weight = np.repeat(weights[filled], lengths)[:, None]
        gamma *= weight
        reached *= weight
        reached[firsts] = 0.0  # nothing of their own sequence comes before these
        transitions += before[:-1].T @ reached[1:]
        visits += np.add.reduce(gamma, axis=0)
        begun += np.add.reduce(gamma[firsts[filled >= counted]], axis=0)
        v[steps] = gamma

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


def _solved(b: Array, spans: Array, entries: Array, matrix: Array) -> tuple[_System, Array]:
    """The equations of sequences that have steps, and v (n, width), which sums to 1 but for what is raised to `FLOOR`.

    NaN where no guess of the factors served.
    """
    lengths = spans[:, 1] - spans[:, 0]
    lasts = np.cumsum(lengths) - 1
    firsts = lasts + 1 - lengths
    steps: Array | slice = slice(int(spans[0, 0]), int(spans[-1, 1]))
    if (spans[1:, 0] != spans[:-1, 1]).any():
        steps = np.arange(lasts[-1] + 1) + np.repeat(spans[:, 0] - firsts, lengths)
    own = b[steps]
    growth = np.empty(len(own))
    growth[1:] = np.einsum("nj,nj->n", own[:-1] @ matrix, own[1:]) / np.add.reduce(own[:-1], axis=1)
    begun = entries * own[firsts]
    growth[firsts] = np.add.reduce(begun, axis=1)
    np.fmax(growth, LEAST_GROWTH, out=growth)
    right = np.zeros_like(own)
    for _ in range(GUESSES):
        right[firsts] = begun / growth[firsts, None]
        band = _band(own / growth[:, None], matrix, firsts)
        found = _solution(band, right, transposed=False)
        sums = np.add.reduce(found, axis=1)
        served = (sums >= LOWEST) & (sums <= HIGHEST)
        if served.all():
            break
        known = (sums > 1.0 / FARTHEST) & (sums < FARTHEST)
        known[1:] &= known[:-1]
        known[firsts] = False
        grown = np.flatnonzero(known)
        growth[grown] *= sums[grown] / sums[grown - 1]
    found /= sums[:, None]
    np.fmax(found, FLOOR, out=found)
    found[~served] = np.nan
    return _System(steps, firsts, lasts, band), found


def _band(scaled: Array, matrix: Array, firsts: Array) -> Array:
    """Diagonals (n·width, 2·width) of the equations of steps with densities (n, width), divided by their factors."""
    n, width = scaled.shape
    band = np.zeros((n, width, 2 * width))
    row = band.itemsize * 2 * width
    moves = np.ndarray(  # from state i at a step to j at the next one, which lies on diagonal width + j − i
        (n - 1, width, width), buffer=band, offset=row // 2, strides=(row * width, row - band.itemsize, band.itemsize)
    )
    np.multiply(scaled[1:, None, :], -matrix, out=moves)
    band[firsts[1:] - 1] = 0.0  # no sequence goes on with another
    return band.reshape(n * width, 2 * width)


def _transposed(band: Array, firsts: Array, lasts: Array, exits: Array) -> Array:
    """β (n, width) of all steps, up to a factor for each; not finite in sequences that need logarithms."""
    width = exits.shape[1]
    right = np.zeros((len(band) // width, width))
    right[lasts] = exits
    found = _solution(band, right, transposed=True)
    if not np.isfinite(found).all():  # what overflows in one sequence has reached those before it
        for first, stop in zip(firsts.tolist(), (lasts + 1).tolist(), strict=True):
            own = band[first * width : stop * width]
            found[first:stop] = _solution(own, right[first:stop], transposed=True)
    return found


def _solution(band: Array, right: Array, transposed: bool) -> Array:
    """The values (n, width) that fulfil the equations, or the transposed ones."""
    solved = dtbsv(band.shape[1] - 1, band.T, right.ravel(), lower=1, trans=int(transposed), diag=1)
    return np.asarray(solved).reshape(right.shape)


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
