"""What is found on a few rows before the pass: which numbers are free, and how far to step for a derivative.

Steps are powers of two, so that moving a number rounds neither it nor its distance from an anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import NumericalError, StreamemError
from streamem.core.ports import FullFamily, Model
from streamem.running.uncertainty.coordinates import Coordinates
from streamem.running.uncertainty.ties import LEAST_EVENTS

Array = NDArray[Any]

ROWS = 64
"""Of each component."""
CHANGE = 2.0**-8
"""Of a log-density by a step, in nats, in the row where it changes most."""
NEAR = 2.0**-8
"""A step as a share of the distance to where a number cannot be."""
LEAST_STEP = 2.0**-1000
ROUNDS = 24
"""Of the search for a step."""
NEGLIGIBLE = 1e-7
"""A mixed second derivative, of what the two alone would allow, that is taken for 0."""


@dataclass(frozen=True, eq=False)
class PilotRows:
    """A few rows of each component.

    Attributes
    ----------
    x : (m, d) rows
    owner : (m,) the component of each
    """

    x: Array
    owner: Array


@dataclass(frozen=True, eq=False)
class Prepared:
    """Coordinates with their steps, and what is known before the pass.

    Attributes
    ----------
    coordinates : with steps
    pairs : (P, 2) coordinates of a component whose mixed derivatives are not always 0, the first before the second
        None where the family knows derivatives in closed form.
    at_zero : (K, L) and at_zero_shared : (1, L') probabilities that are held since no event is expected
    given_up : (K,) components whose numbers are no maximum of the likelihood
    problems : sentences for people
    """

    coordinates: Coordinates
    pairs: Array
    at_zero: Array
    at_zero_shared: Array
    given_up: Array
    problems: tuple[str, ...]


def drawn(family: FullFamily, params: Any, n_components: int) -> PilotRows:
    """Rows that the components themselves emit."""
    rng = np.random.RandomState(0)
    rows = [np.asarray(family.draw(params, k, ROWS, rng), dtype=np.float64) for k in range(n_components)]
    return PilotRows(np.vstack(rows), np.repeat(np.arange(n_components), ROWS))


def chosen(family: FullFamily, params: Any, n_components: int, x: Array) -> PilotRows:
    """Rows of the data (n, d), for each component those that it explains best."""
    with np.errstate(all="ignore"):
        log_prob = np.asarray(family.log_prob(params, x), dtype=np.float64)
    peak = log_prob.max(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        resp = np.exp(log_prob - peak)
        resp /= resp.sum(axis=1, keepdims=True)
    order = np.argsort(-np.nan_to_num(resp), axis=0, kind="stable")[:ROWS]
    return PilotRows(x[order.T.ravel()], np.repeat(np.arange(n_components), len(order)))


def prepared(model: Model, params: Params, pilot: PilotRows, rows: float) -> Prepared:
    """The free coordinates of a fitted model's family, for so many rows of data."""
    family: FullFamily = model.family  # type: ignore[attr-defined]
    k = len(np.asarray(model.shares(params)))
    coordinates = Coordinates.of(family, params.components, k)
    problems: list[str] = []
    held, held_shared = _fixed(coordinates, pilot)
    if getattr(model, "updates_emissions", True) is False:
        held, held_shared = np.ones_like(held), np.ones_like(held_shared)
    at_zero = _at_zero(coordinates, held, rows * np.asarray(model.shares(params)))
    at_zero_shared = _at_zero(replace(coordinates, own=coordinates.shared), held_shared, np.array([rows]), True)
    given_up = _given_up(model, params, problems)
    held = held | at_zero | given_up[:, None]
    coordinates = coordinates.holding(held, held_shared | at_zero_shared)
    coordinates = _with_steps(coordinates, pilot)
    closed = family.slopes(params.components) is not None
    pairs = np.zeros((0, 2), np.int64) if closed else _pairs(coordinates, pilot)
    return Prepared(coordinates, pairs, at_zero, at_zero_shared, given_up, tuple(problems))


def _given_up(model: Model, params: Params, problems: list[str]) -> Array:
    """(K,) components whose parameters are not what a maximum of the likelihood would be."""
    shares = np.asarray(model.shares(params))
    found = np.zeros(len(shares), dtype=np.bool_)
    words = {"empty": "explain no rows", "floored": "have collapsed to the smallest spread that is allowed"}
    for kind, components in model.degenerate(params).items():
        own = [k for k in components if k < len(found)]
        if kind in words and own:
            found[own] = True
            problems.append(
                f"components {own} {words[kind]}: their parameters are no maximum of the likelihood and are left out; "
                "fit fewer components, or regularize"
            )
    return found


# --- which numbers are free ------------------------------------------------------------------------------------------


def _fixed(coordinates: Coordinates, pilot: PilotRows) -> tuple[Array, Array]:
    """(K, L) and (1, L') numbers that an M-step on other rows leaves as they are, and probabilities of 0."""
    form, family, params = coordinates.form, coordinates.family, coordinates.params
    zero = _in_simplex(coordinates, False) & (coordinates.own == 0)
    zero_shared = _in_simplex(coordinates, True) & (coordinates.shared == 0)
    k = coordinates.n_components
    # No two rows or components alike, and every component sees every row.
    resp = 0.25 + 0.5 * np.modf(np.outer(1 + np.arange(len(pilot.x)), np.sqrt(2.0 + np.arange(k))))[0]
    resp[np.arange(len(resp)), pilot.owner] += 1.0
    try:
        with np.errstate(all="ignore"):
            after = family.maximize(family.stats(params, pilot.x, resp), params)
            moved = Coordinates.of(family, after, k)
    except (StreamemError, ArithmeticError, np.linalg.LinAlgError):
        return zero, zero_shared  # of so few rows there is no M-step: all is free
    if moved.form.values.keys() != form.values.keys() or moved.own.shape != coordinates.own.shape:
        return zero, zero_shared
    return zero | (moved.own == coordinates.own), zero_shared | (moved.shared == coordinates.shared)


def _in_simplex(coordinates: Coordinates, shared: bool) -> Array:
    """(1, L) which numbers are probabilities of a set."""
    form = coordinates.form
    found = [
        np.full(int(np.prod(value.shape if shared else value.shape[1:])), name in form.simplex)
        for name, value in form.values.items()
        if (name in form.shared) == shared
    ]
    return np.concatenate([np.zeros(0, np.bool_), *found])[None]


def _at_zero(coordinates: Coordinates, held: Array, events: Array, shared: bool = False) -> Array:
    """Probabilities of which the data hold less than a hundredth of an event."""
    expected = coordinates.own * events[:, None]
    return np.asarray(_in_simplex(coordinates, shared) & ~held & (expected < LEAST_EVENTS))


# --- how far to step -------------------------------------------------------------------------------------------------


def _with_steps(coordinates: Coordinates, pilot: PilotRows) -> Coordinates:
    """Coordinates with steps; what no row notices is no coordinate."""
    base = _log_prob(coordinates, lambda: coordinates.params, pilot.x)
    if base is None:
        raise NumericalError("the family has no log-density at its own parameters; fit it again")
    steps = np.zeros((coordinates.n_components, coordinates.width))
    for j in range(coordinates.width):
        steps[:, j] = _step(coordinates, j, pilot, base)
    coordinates = _without(coordinates, coordinates.active & (steps == 0))
    return replace(coordinates, steps=np.where(coordinates.active, steps, 0.0))


def _without(coordinates: Coordinates, unseen: Array) -> Coordinates:
    """Coordinates without those (K, Q), which stay in their places."""
    split = coordinates.moves.up.shape[1]
    up = np.where(unseen[:, :split], -1, coordinates.moves.up)
    other = np.where(unseen[:, :split], -1, coordinates.moves.other)
    common = unseen[:1, split:]
    moves = replace(coordinates.moves, up=up, other=other)
    shared = replace(
        coordinates.moves_shared,
        up=np.where(common, -1, coordinates.moves_shared.up),
        other=np.where(common, -1, coordinates.moves_shared.other),
    )
    return replace(coordinates, moves=moves, moves_shared=shared)


def _step(coordinates: Coordinates, j: int, pilot: PilotRows, base: Array) -> Array:
    """(K,) steps by which the log-density of some row of the component changes by about `CHANGE`; 0 if none does."""
    value, active = np.abs(coordinates.value()[:, j]), coordinates.active[:, j]
    limit = _limits(coordinates, j, pilot, base)
    size = np.where(value > 0, value, max(value.max(initial=0.0), 1.0))
    first = h = np.where(active, np.minimum(_power(2.0**-10 * size), limit), 0.0)
    for _ in range(ROUNDS):
        slopes = _largest_slopes(coordinates, j, h, pilot)
        if coordinates.is_shared(j):
            slopes = np.full_like(slopes, slopes.max())
        wider = np.where(slopes > 0, CHANGE / np.where(slopes > 0, slopes, 1.0), h * 64)
        wanted = np.minimum(_power(np.where(np.isnan(slopes), h / 16, wider)), limit)
        settled = (h == 0) | (wanted == h) | ((slopes == 0) & (h > 2.0**40 * np.maximum(first, 1.0)))
        if settled.all():
            break
        h = np.where(settled, h, wanted)
    return np.asarray(np.where(slopes > 0, h, 0.0))


def _largest_slopes(coordinates: Coordinates, j: int, h: Array, pilot: PilotRows) -> Array:
    """(K,) largest slope of the log-density in the rows of each component; NaN where a step leads nowhere."""
    steps = np.zeros_like(coordinates.steps)
    steps[:, j] = h
    up, down = (_moved_log_prob(coordinates, j, sign * steps, pilot.x) for sign in (1.0, -1.0))
    if up is None or down is None:
        return np.where(h > 0, np.nan, 0.0)
    owned = pilot.owner[None] == np.arange(len(h))[:, None]
    with np.errstate(all="ignore"):
        slopes = np.abs(up - down).T / (2 * np.where(h > 0, h, 1.0))[:, None]
    return np.asarray(np.where(h > 0, np.where(owned, slopes, 0.0).max(axis=1), 0.0))


def _limits(coordinates: Coordinates, j: int, pilot: PilotRows, base: Array) -> Array:
    """(K,) largest steps that stay away from where a number cannot be."""
    value, giving = coordinates.value()[:, j], coordinates.giving(j)
    if giving is not None:  # a probability that one coordinate takes from another
        return _power(np.maximum(NEAR * np.minimum(value, giving), LEAST_STEP))
    limit = np.full(len(value), np.inf)
    below, above = value > 0, (value > 0) & (value < 1)
    for asked, amount, distance in ((below, -1.5 * value, value), (above, 1.5 * (1 - value), 1 - value)):
        if not asked.any():
            continue
        steps = np.zeros_like(coordinates.steps)
        steps[:, j] = np.where(asked, amount, 0.0)
        found = _moved_log_prob(coordinates, j, steps, pilot.x)
        lost = np.ones_like(base, np.bool_) if found is None else ~np.isfinite(found) & np.isfinite(base)
        cannot = lost.any(axis=0)
        limit = np.where(asked & cannot, np.minimum(limit, _power(NEAR * distance)), limit)
    return np.full_like(limit, limit.min()) if coordinates.is_shared(j) else limit


def _pairs(coordinates: Coordinates, pilot: PilotRows) -> Array:
    """(P, 2) coordinates that do not act on the log-density one by one."""
    rows = np.arange(len(pilot.x))

    def evaluate(*moves: tuple[int, float]) -> Array | None:
        found = _log_prob(coordinates, lambda: coordinates.moved(moves), pilot.x)
        return None if found is None else found[rows, pilot.owner]

    base, alone = evaluate(), [evaluate((j, 1.0)) for j in range(coordinates.width)]
    found = [
        (i, j)
        for i in range(coordinates.width)
        for j in range(i + 1, coordinates.width)
        if _together(base, alone[i], alone[j], evaluate((i, 1.0), (j, 1.0)))
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _together(base: Array | None, first: Array | None, second: Array | None, both: Array | None) -> bool:
    """Whether the change by both is not the sum of the changes by each, as far as rounding lets one see."""
    if base is None or first is None or second is None or both is None:
        return True
    with np.errstate(all="ignore"):
        mixed = np.abs((both - first) - (second - base)).max()
        return not mixed <= NEGLIGIBLE * CHANGE**2 + 1e-13 * np.abs(base).max()


def _moved_log_prob(coordinates: Coordinates, j: int, steps: Array, x: Array) -> Array | None:
    """Log-densities with coordinate j moved by steps (K, Q)."""
    return _log_prob(coordinates, lambda: coordinates.moved([(j, 1.0)], steps), x)


def _log_prob(coordinates: Coordinates, params: Callable[[], Any], x: Array) -> Array | None:
    """Log-densities (m, K); None where the parameters cannot be."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(coordinates.family.log_prob(params(), x), dtype=np.float64)
    except (StreamemError, ArithmeticError, ValueError):
        return None


def _power(value: Array) -> Array:
    """The power of two at or below each number > 0; infinite ones stay."""
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log2(value))
    finite = np.isfinite(exponent)
    return np.asarray(np.where(finite, np.exp2(np.where(finite, exponent, 0.0)), value))
