"""Answers to the items of a test, right or wrong, at fixed abilities: the curves of item response theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.extrapolation import kept_signs
from streamem.core.faults import missing, within
from streamem.core.free_form import FreeForm
from streamem.core.ports import FullFamily
from streamem.core.stats import Stats

Array = NDArray[Any]

STEPS, HALVINGS = 100, 30
"""Newton steps of an M-step at most, and halvings of each."""
CLOSE = 1e-12
"""A Newton step below that, relative to what it changes, is the last."""
ROUNDING = 1e-14
"""What an expected log-likelihood may seem to lose by its sums, relative to its size."""
MOST = 40.0
"""Most of a slope or an intercept: of an item that all answer alike the likelihood has no maximum."""


CERTAIN = 25.0
"""Log-odds of an answer that nobody of 10¹⁰ people would give otherwise."""


class ItemCurves(FullFamily):
    """d items, answered right (1) or wrong (0): P(right | θ) = 1 / (1 + exp(−a_j (θ − b_j))), at K fixed abilities θ.

    A component is an ability; all share the curves (Birnbaum 1968). Statistics are tables of K × d expected answers
    (Bock & Aitkin 1981), so the M-step, Newton's method on them, costs nothing beside a pass over rows.

    Parameters
    ----------
    nodes : (K,) abilities, in standard deviations
    common : whether all items have one discrimination, as in Rasch's model with a free variance
    missing : whether answers may be NaN: they drop out of the row

    Notes
    -----
    Parameters: slopes a (d,), intercepts −a·b (d,), nodes (K,). Slopes and intercepts end at ±40.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import ItemCurves
    >>> p = Params(slopes=[1.0, 2.0], intercepts=[0.0, 1.0], nodes=[-1.0, 1.0])
    >>> ItemCurves([-1.0, 1.0]).log_prob(p, np.array([[1.0, 0.0]])).round(4).tolist()
    [[-1.6265, -3.3618]]
    """

    def __init__(self, nodes: Sequence[float] | Array, common: bool = False, missing: bool = False) -> None:
        self.nodes = tuple(float(node) for node in np.asarray(nodes, dtype=np.float64))
        self.common = bool(common)
        self.missing = bool(missing)

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-probabilities (n, K) of answers x (n, d), in nats."""
        right, asked = _answers(x)
        eta = _eta(params)
        return np.asarray(right @ eta.T - asked @ np.logaddexp(0.0, eta).T)

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,), right (K, d) and asked (K, d), weighted by resp (n, K)."""
        right, asked = _answers(x)
        resp = np.where(np.asarray(asked.any(axis=1))[:, None], resp, 0.0)
        return Stats(weight=resp.sum(axis=0), right=resp.T @ right, asked=resp.T @ asked)

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """The curves of largest expected log-likelihood, by Newton's method with halved steps."""
        nodes = np.asarray(previous.nodes)
        right, asked = np.asarray(stats.right), np.asarray(stats.asked)
        scale = max(1.0, float(asked.sum())) if asked.sum() > 0 else 1.0
        right, asked = right / scale, asked / scale
        step = _together if self.common else _item_by_item
        curves = np.array([previous.slopes, previous.intercepts], dtype=np.float64)
        reached = _objective(curves, nodes, right, asked)
        for _ in range(STEPS):
            move = step(curves, nodes, right, asked)
            for _ in range(HALVINGS):
                tried = np.clip(curves + move, -MOST, MOST)
                found = _objective(tried, nodes, right, asked)
                least = reached - ROUNDING * np.abs(reached)  # else the last steps, which gain less, are turned down
                worse = found.sum() < least.sum() if self.common else found < least
                if not np.any(worse):
                    break
                move = np.where(worse, move / 2.0, move)
            kept = np.where(worse, curves, tried)
            change = np.abs(kept - curves).max(initial=0.0)
            curves, reached = kept, _objective(kept, nodes, right, asked)
            if change <= CLOSE * (1.0 + np.abs(curves).max(initial=0.0)):
                break
        return previous.replace(slopes=curves[0], intercepts=curves[1])

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """Slopes of 1, and intercepts by the shares of right answers in x (n, d)."""
        if n_components != len(self.nodes):
            raise ParameterError(f"there are {len(self.nodes)} abilities for {n_components} components")
        right, asked = _answers(x)
        weight = np.ones(len(x)) if weight is None else weight
        share = (weight @ right + 0.5) / (weight @ asked + 1.0)
        return Params(slopes=np.ones(x.shape[1]), intercepts=np.log(share / (1.0 - share)), nodes=np.array(self.nodes))

    @property
    def allows_missing(self) -> bool:
        """Whether an answer may be NaN."""
        return self.missing

    def integrating(self) -> ItemCurves:
        """This family for answers that may be NaN."""
        other = copy(self)
        other.missing = True
        return other

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """Items whose curves ended at a bound, or fewer items than tell their curves.

        There are 2^d − 1 shares of patterns for 2·d numbers, or, with one discrimination, for d + 1.
        """
        if len(params.slopes) < (least := 2 if self.common else 3):
            return (
                f"answers to n_features = {len(params.slopes)} items do not tell difficulties and discriminations: "
                f"other curves have the same likelihood, and {least} items are needed"
                + ("" if self.common else ' (2 with model="rasch")')
            )
        slopes, intercepts = np.abs(params.slopes), np.abs(params.intercepts)
        ended = (slopes >= MOST) | (intercepts - 3.0 * slopes >= CERTAIN)  # of abilities from −3 to 3
        items = np.flatnonzero(ended).tolist()
        if not items:
            return ""
        return (
            f"of items {items} the likelihood has no maximum: all people answer them alike, or as the others tell "
            "without error; their curves ended at a bound, and difficulty_ and discrimination_ say nothing of them. "
            "Leave these columns out"
        )

    def counted(self, n_features: int) -> Array:
        """All columns."""
        return np.ones(n_features, dtype=np.bool_)

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Answers x (n, d) with probabilities of right ones in place of NaN."""
        return np.where(np.isnan(x), resp @ _chances(params), x)

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Answers x (n, d) with drawn ones in place of NaN."""
        drawn = rng.random_sample(x.shape) < _chances(params)[component]
        return np.where(np.isnan(x), drawn.astype(np.float64), x)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Answers (count, d) at one ability."""
        chances = _chances(params)[component]
        return np.asarray(rng.random_sample((count, len(chances))) < chances, dtype=np.float64)

    def project(self, stats: Stats, valid: Stats, previous: Any) -> Stats:
        """Expected answers that are no more right ones than there are."""
        kept = kept_signs(stats, valid)
        return kept.replace(right=np.minimum(kept.right, kept.asked))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Arrays of other shapes, or beyond the bounds."""
        if found := missing(params, ("slopes", "intercepts", "nodes")):
            return found
        found = [] if np.array_equal(np.asarray(params.nodes), self.nodes) else ["nodes are those of another model"]
        for name in ("slopes", "intercepts"):
            found += within(name, params[name], (n_features,), -MOST, MOST)
        return found

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Difficulties and discriminations, which all abilities share."""
        slopes = np.asarray(params.slopes)
        shown = {"difficulty": difficulty(params), "discrimination": slopes[:1] if self.common else slopes}
        return FreeForm(shown, shared=frozenset(shown))

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The curves that these numbers tell."""
        slopes = np.broadcast_to(values["discrimination"], np.shape(params.slopes)).astype(np.float64)
        return params.replace(slopes=slopes, intercepts=-slopes * values["difficulty"])

    def free_parameters(self, params: Params) -> int:
        """A difficulty an item, and its discrimination, or one for all."""
        d = len(params.slopes)
        return d + (1 if self.common else d)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """A weight, and two tables, in float64."""
        return 8 * n_components * (1 + 2 * n_features)


def difficulty(params: Params) -> Array:
    """b (d,) at which half of the answers are right, in standard deviations of the ability."""
    slopes = np.asarray(params.slopes)
    return np.divide(-np.asarray(params.intercepts), slopes, out=np.zeros_like(slopes), where=slopes != 0)


def _answers(x: Array) -> tuple[Array, Array]:
    """Right answers, and which were given, as (n, d) of 0 and 1.

    Raises
    ------
    ImpossibleValueError : values that are neither 0 nor 1
    """
    lost = np.isnan(x)
    wrong = ~((x == 0) | (x == 1) | lost)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ImpossibleValueError(float(x[row, column]), column, "an answer is 1, right, or 0, wrong")
    return np.where(lost, 0.0, x).astype(np.float64), (~lost).astype(np.float64)


def _eta(params: Params) -> Array:
    """(K, d) log-odds of a right answer."""
    return np.asarray(np.outer(params.nodes, params.slopes) + np.asarray(params.intercepts))


def _chances(params: Params) -> Array:
    """(K, d) probabilities of a right answer."""
    return np.asarray(1.0 / (1.0 + np.exp(-_eta(params))))


def _objective(curves: Array, nodes: Array, right: Array, asked: Array) -> Array:
    """(d,) expected log-likelihood of each item."""
    eta = np.outer(nodes, curves[0]) + curves[1]
    return np.asarray((right * eta - asked * np.logaddexp(0.0, eta)).sum(axis=0))


def _derivatives(curves: Array, nodes: Array, right: Array, asked: Array) -> tuple[Array, Array]:
    """(2, d) slopes of the objective by slope and intercept, and (3, d) minus its second ones: aa, ac, cc."""
    chance = 1.0 / (1.0 + np.exp(-(np.outer(nodes, curves[0]) + curves[1])))
    left, spread = right - asked * chance, asked * chance * (1.0 - chance)
    first = np.array([nodes @ left, left.sum(axis=0)])
    return first, np.array([nodes**2 @ spread, nodes @ spread, spread.sum(axis=0)])


def _item_by_item(curves: Array, nodes: Array, right: Array, asked: Array) -> Array:
    """A Newton step (2, d) of each item; none where nothing tells."""
    (by_slope, by_intercept), (aa, ac, cc) = _derivatives(curves, nodes, right, asked)
    determinant = aa * cc - ac**2
    told = determinant > 1e-14 * aa * cc
    whole = np.where(told, determinant, 1.0)
    move = np.array([cc * by_slope - ac * by_intercept, aa * by_intercept - ac * by_slope]) / whole
    return np.where(told, move, 0.0)


def _together(curves: Array, nodes: Array, right: Array, asked: Array) -> Array:
    """A Newton step (2, d) of all intercepts and the one slope, by elimination of the intercepts."""
    (by_slope, by_intercept), (aa, ac, cc) = _derivatives(curves, nodes, right, asked)
    told = cc > 0
    whole = np.where(told, cc, 1.0)
    ratio = np.where(told, ac / whole, 0.0)
    left = float((aa - ratio * ac).sum())
    slope = float((by_slope - ratio * by_intercept).sum()) / left if left > 0 else 0.0
    return np.array([np.full(len(cc), slope), np.where(told, (by_intercept - ac * slope) / whole, 0.0)])
