"""How long a state lasts: distributions of durations as probabilities to leave at each age, and their M-step.

A duration is 1 + N with N ~ Poisson(m), or N ~ negative binomial with mean m and size r (variance m + m²/r). A state
of age a (1 at its first step) is left with the hazard c(a) = P(duration = a) / P(duration ≥ a). Ages end at D: a state
that is older keeps the hazard of age D, so the tail beyond D is geometric (Langrock & Zucchini 2011, §2; Zucchini,
MacDonald & Langrock 2016, §12.2). A geometric distribution (r = 1) is exact for any D, and no duration is impossible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainc, gammaln

from streamem.core.errors import ParameterError
from streamem.core.numerics import EPS

Array = NDArray[Any]

KINDS = ("poisson", "negative-binomial")
MOST_SUBSTATES = 2_000
"""States times ages: a step takes some products for each of them, and messages across cuts as many numbers."""

LEAST_MEAN, MOST_MEAN = 1e-8, 1e8
LEAST_SIZE, MOST_SIZE = 1e-3, 1e6
NEVER = 1e-200
"""A state that is left less often than this keeps its durations: such counts are what underflow leaves."""

FAR = 1e-200
"""Probabilities of a tail below this are summed term by term: special functions lose them."""

DIFFERENCE = 1e-3
"""Of the logarithm of a parameter: differences of the fourth order err by its fourth power, and by rounding over it."""

ITERATIONS, LONGEST, CONVERGED = 60, 2.0, 1e-10
"""Newton's steps, how long one may be, and the length of the last one, in logarithms of parameters."""
HALVINGS = 0.5 ** np.arange(24)


class AgeTable(NamedTuple):
    """Probabilities (K, D) to leave a state at each age and to stay in it, and their logarithms."""

    leave: Array
    stay: Array
    log_leave: Array
    log_stay: Array


@dataclass(frozen=True)
class Durations:
    """A kind of distribution for the durations of K states.

    Parameters
    ----------
    kind : "poisson" or "negative-binomial"
    most_ages : D, the age from which on the hazard stays as it is

    Parameters of K states are an array (K, 1) log m, or (K, 2) log m and log r.
    """

    kind: str
    most_ages: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError(f'durations is {self.kind!r}; it must be "poisson", "negative-binomial" or None')
        ages = self.most_ages
        if isinstance(ages, bool) or not isinstance(ages, int | np.integer) or ages < 2:
            raise ParameterError(f"max_duration is {ages!r}; it must be an integer >= 2")

    @property
    def has_size(self) -> bool:
        """Whether there is a second parameter, the size r."""
        return self.kind == "negative-binomial"

    def logs(self, means: Array, sizes: Array | None) -> Array:
        """Parameters (K, p) from mean durations (K,) > 1 and sizes (K,), brought within their bounds."""
        columns = [np.clip(np.asarray(means, dtype=np.float64) - 1.0, LEAST_MEAN, MOST_MEAN)]
        if self.has_size:
            columns.append(np.clip(np.asarray(sizes, dtype=np.float64), LEAST_SIZE, MOST_SIZE))
        return np.log(np.stack(columns, axis=-1))

    def means(self, logs: Array) -> Array:
        """Mean durations (K,) of the distribution, 1 + m."""
        return np.asarray(1.0 + np.exp(logs[..., 0]))

    def sizes(self, logs: Array) -> Array | None:
        """Sizes r (K,), where the kind has such."""
        return np.exp(logs[..., 1]) if self.has_size else None

    def table(self, logs: Array) -> AgeTable:
        """Hazards (K, D) of parameters (K, p)."""
        log_leave, log_stay = self._hazards(logs)
        return AgeTable(np.exp(log_leave), np.exp(log_stay), log_leave, log_stay)

    # --- M-step ------------------------------------------------------------------------------------------------------

    def objective(self, logs: Array, leaves: Array, stays: Array) -> Array:
        """Expected log-likelihood (…, K) in nats of counts (K, D), at parameters (…, K, p)."""
        log_leave, log_stay = self._hazards(logs)
        # A count of zero is none, also of what cannot happen.
        terms = np.where(leaves > 0, leaves * log_leave, 0.0) + np.where(stays > 0, stays * log_stay, 0.0)
        return np.asarray(terms.sum(axis=-1))

    def maximize(self, leaves: Array, stays: Array, previous: Array) -> Array:
        """The parameters (K, p) of the greatest `objective`, by Newton's method from the previous ones.

        A step that does not raise the objective is not taken, so that EM rises whatever Newton's method finds. States
        that are never left keep theirs.
        """
        totals = leaves.sum(axis=1)
        left = totals > NEVER
        logs = np.array(previous)
        if left.any():
            scale = 1.0 / (totals[left] + stays[left].sum(axis=1))[:, None]
            logs[left] = self._maximized(leaves[left] * scale, stays[left] * scale, logs[left])
        return logs

    def rounding(self, logs: Array, leaves: Array, stays: Array) -> float:
        """Bound on what rounding may take from the objective in an M-step, in nats."""
        log_leave, log_stay = self._hazards(logs)
        sizes = np.where(leaves > 0, leaves * np.abs(log_leave), 0.0) + np.where(stays > 0, stays * np.abs(log_stay), 0)
        return float(8 * (self.most_ages + 8) * EPS * (sizes.sum() + leaves.sum() + stays.sum()))

    def _maximized(self, leaves: Array, stays: Array, logs: Array) -> Array:
        low, high = self._bounds()
        every = np.arange(len(logs))
        now = self.objective(logs, leaves, stays)
        for _ in range(ITERATIONS):
            step = self._newton(logs, leaves, stays)
            tried = np.clip(logs + HALVINGS[:, None, None] * step, low, high)
            found = self.objective(tried, leaves, stays)
            slack = 8 * EPS * np.abs(now)
            # The longest that does not lower it: where the objective is flat to rounding, the slope still knows more.
            fine = found >= now - slack
            some = np.asarray(fine.any(axis=0))
            first = np.argmax(fine, axis=0)
            taken = np.where(some[:, None], tried[first, every], logs)
            moved = np.abs(taken - logs).max()
            logs, now = taken, np.where(some, found[first, every], now)
            if moved <= CONVERGED:
                break
        return logs

    def _newton(self, logs: Array, leaves: Array, stays: Array) -> Array:
        """Steps (K, p) uphill: Newton's, with curvatures of the wrong sign turned round."""
        slope, curvature = self.derivatives(logs, leaves, stays)
        values, vectors = np.linalg.eigh(curvature)
        along = np.einsum("kij,ki->kj", vectors, slope) / np.maximum(np.abs(values), 1e-7)
        step = np.einsum("kij,kj->ki", vectors, along)
        length = np.sqrt((step**2).sum(axis=1, keepdims=True))
        return np.asarray(step * np.minimum(1.0, LONGEST / np.maximum(length, 1e-300)))

    def derivatives(self, logs: Array, leaves: Array, stays: Array) -> tuple[Array, Array]:
        """Slopes (K, p) and curvatures (K, p, p) of `objective` by the parameters, from differences."""
        width = logs.shape[-1]
        moves = [np.zeros(width)]
        for axis in np.eye(width):
            moves += [DIFFERENCE * times * axis for times in (-2.0, -1.0, 1.0, 2.0)]
        if width == 2:
            moves += [DIFFERENCE * np.array(signs) for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        found = self.objective(logs + np.array(moves)[:, None, :], leaves, stays)
        slope, curvature = np.empty(logs.shape), np.zeros((*logs.shape, width))
        for i in range(width):
            far_below, below, above, far_above = found[1 + 4 * i : 5 + 4 * i]
            slope[:, i] = (8 * (above - below) - (far_above - far_below)) / (12 * DIFFERENCE)
            both = 16 * (above + below) - (far_above + far_below) - 30 * found[0]
            curvature[:, i, i] = both / (12 * DIFFERENCE**2)
        if width == 2:
            crossed = (found[9] - found[10] - found[11] + found[12]) / (4 * DIFFERENCE**2)
            curvature[:, 0, 1] = curvature[:, 1, 0] = crossed
        return slope, curvature

    def _bounds(self) -> tuple[Array, Array]:
        low, high = (LEAST_MEAN, LEAST_SIZE), (MOST_MEAN, MOST_SIZE)
        width = 1 + self.has_size
        return np.log(low[:width]), np.log(high[:width])

    # --- the distributions -------------------------------------------------------------------------------------------

    def _hazards(self, logs: Array) -> tuple[Array, Array]:
        """Logarithms (…, D) of the probabilities to leave at each age and to stay, of parameters (…, p)."""
        mean = np.exp(logs[..., 0])
        size = np.exp(logs[..., 1]) if self.has_size else None
        own = _log_probabilities(mean, size, self.most_ages)
        beyond = _log_tail(mean, size, self.most_ages, own)
        # P(duration ≥ a) for a = D + 1, D, …, 1: sums of positive terms from the smallest on.
        ordered = np.concatenate([beyond[..., None], own[..., self.most_ages - 1 :: -1]], axis=-1)
        survivors = np.logaddexp.accumulate(ordered, axis=-1)[..., ::-1]
        return own[..., : self.most_ages] - survivors[..., :-1], survivors[..., 1:] - survivors[..., :-1]


def _log_probabilities(mean: Array, size: Array | None, ages: int) -> Array:
    """log P(N = n) for n = 0 … `ages`, (…, ages + 1)."""
    n = np.arange(ages + 1)
    mean = mean[..., None]
    if size is None:
        return np.asarray(n * np.log(mean) - mean - gammaln(n + 1.0))
    size = size[..., None]
    # Ratios of neighbours: differences of gammaln of a large size would lose what tells it from a Poisson's.
    ratios = np.log((n[:-1] + size) / (size + mean)) + np.log(mean / n[1:])
    first = -size * np.log1p(mean / size)
    return np.concatenate([first, first + np.cumsum(ratios, axis=-1)], axis=-1)


def _log_tail(mean: Array, size: Array | None, n: int, own: Array) -> Array:
    """log P(N ≥ n) for n ≥ 1; `own` (…, n + 1) are log P(N = 0 … n)."""
    plain = gammainc(n, mean) if size is None else betainc(n, size, mean / (size + mean))
    far = plain < FAR
    with np.errstate(divide="ignore"):
        logs = np.log(plain)
    if far.any():
        terms = _tail_terms(mean[far], None if size is None else size[far], n)
        logs[far] = own[far, n] + np.log(terms)
    return np.asarray(logs)


def _tail_terms(mean: Array, size: Array | None, n: int) -> Array:
    """P(N ≥ n) / P(N = n) for tails so thin that n is far above the mean."""
    total, term, first, block = np.ones_like(mean), np.ones_like(mean), n, 64
    while first < n + 2**20:
        places = np.arange(first, first + block)
        ratios = mean[:, None] / (places + 1)
        if size is not None:
            ratios = ratios * (places + size[:, None]) / (size + mean)[:, None]
        products = term[:, None] * np.cumprod(ratios, axis=1)
        total, term = total + products.sum(axis=1), products[:, -1]
        if (term <= EPS * total * 1e-3).all():
            break
        first, block = first + block, 2 * block
    return total
