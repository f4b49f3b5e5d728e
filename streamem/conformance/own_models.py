"""`check_model`: the laws of a model that a user wrote for `streamem.EM`, each with the mistake that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.conformance.tolerance import require
from streamem.core.arrays import Params
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.own_results import own_params, own_stats, require_shapes, shapes_of
from streamem.core.ports.own import ModelRows, as_dict, label_of, require_model, takes_missing
from streamem.core.stats import Stats

Array = NDArray[Any]

CLOSE = 1e-9
"""Relative difference that rounding explains, in NumPy code that nobody has looked at."""
STEPS, MOST_STEPS = 30, 3000
"""Steps of EM that are watched, and after which the search for its end is given up."""
ENDED = 1e-10
"""Nats by which a step still raises the log-likelihood where EM has ended."""
NUDGE = 1e-3
"""Relative change of the weights of rows, from which neighbours of the maximum are made."""
LEAST_GAIN = 1e-4
"""Nats by which neighbours of the end of EM are better, from which on they count."""
NEIGHBOURS = 12
PART = 2.0**-6
"""Of a step of EM that lowered the log-likelihood: too short to go too far."""


def check_model(
    model: Any, x: ArrayLike, *, names: Sequence[str] | None = None, weight: ArrayLike | None = None, seed: int = 0
) -> list[str]:
    """Run every law of a model for `EM` on some rows; takes seconds.

    Parameters
    ----------
    model : what `EM` takes: ``init(sample, rng)``, ``e_step(params, chunk)``, ``m_step(stats, previous)``
        With ``q(params, stats)``, the expected complete-data log-likelihood up to a constant, in nats, `m_step` and the
        log-likelihood are checked against it too.
    x : (n, d) rows such as the model describes, some hundreds
    names : of the columns, for models that read ``chunk.names``
    weight : (n,) weights to check at, by default ones
    seed : of what is drawn

    Returns
    -------
    list of the laws that were checked and hold

    Raises
    ------
    AssertionError : a law is broken; the message says which, by how much, and what the likely mistake is
    ParameterError : `model` is no model

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from streamem.conformance import check_model
    >>> normal = SimpleNamespace(
    ...     init=lambda sample, rng: {"m": 0.0},
    ...     e_step=lambda p, c: {
    ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
    ...     },
    ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
    ... )
    >>> x = np.random.default_rng(0).normal(3.0, 1.0, size=(200, 1))
    >>> check_model(normal, x)[0]
    'the same seed gives the same start'
    >>> normal.m_step = lambda s, previous: {"m": s["x"] / 200}
    >>> try:
    ...     check_model(normal, x)
    ... except AssertionError as error:
    ...     print(str(error)[:51])
    m_step(0.001 · stats) differs from m_step(stats) in
    """
    require_model(model)
    rows = np.array(x, dtype=np.float64, order="C")
    rows.setflags(write=False)
    if rows.ndim != 2 or len(rows) < 8:
        raise ParameterError(f"x has shape {rows.shape}; (n, d) rows are needed, some hundreds of them")
    own = np.ones(len(rows)) if weight is None else np.asarray(weight, dtype=np.float64)
    case = _Case(model, ModelRows(rows, own, None if names is None else tuple(names)), seed)
    held = []
    for law, holds in LAWS.items():
        try:
            if holds(case):
                held.append(law)
        except (ParameterError, NumericalError) as error:
            raise AssertionError(str(error)) from error
    return held


@dataclass(frozen=True, eq=False)
class _Sums:
    """What an E-step gave."""

    own: Stats
    log_likelihood: float
    rows: float
    weight: float

    @property
    def given(self) -> dict[str, Any]:
        """What an M-step gets."""
        carried = {"rows": self.rows, "weight": self.weight, "log_likelihood": self.log_likelihood}
        return {**carried, **as_dict(self.own)}

    def times(self, factor: float) -> _Sums:
        """All sums multiplied."""
        scalars = (factor * value for value in (self.log_likelihood, self.rows, self.weight))
        return _Sums(self.own * factor, *scalars)

    def plus(self, other: _Sums) -> _Sums:
        """The sums of both."""
        scalars = (self.log_likelihood + other.log_likelihood, self.rows + other.rows, self.weight + other.weight)
        return _Sums(self.own + other.own, *scalars)


class _Case:
    """A model, rows, and a start."""

    def __init__(self, model: Any, rows: ModelRows, seed: int) -> None:
        self.model, self.rows, self.seed = model, rows, seed
        self.label = label_of(model)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.start = self.begun()

    def begun(self) -> Params:
        """Parameters of `init`."""
        return own_params(self.model.init(self.rows, np.random.default_rng(self.seed)), f"init of {self.label}")

    def e_step(self, params: Params, rows: ModelRows | None = None) -> _Sums:
        """The sums of rows, by default of all."""
        rows = self.rows if rows is None else rows
        found, reached = own_stats(self.model.e_step(as_dict(params), rows), f"e_step of {self.label}")
        self.shapes = self.shapes or shapes_of(found)
        require_shapes(found, self.shapes, f"e_step of {self.label}")
        return _Sums(found, reached, float(len(rows.x)), float(rows.weight.sum()))

    def m_step(self, sums: _Sums, previous: Params) -> Params:
        """The next parameters."""
        returned = self.model.m_step(sums.given, as_dict(previous))
        return own_params(returned, f"m_step of {self.label}", self.start)

    def picked(self, which: Any) -> ModelRows:
        """Some of the rows."""
        return replace(self.rows, x=np.ascontiguousarray(self.rows.x[which]), weight=self.rows.weight[which])

    def weighed(self, factor: Any) -> ModelRows:
        """The rows with weights multiplied."""
        return replace(self.rows, weight=self.rows.weight * factor)

    def penalty(self, params: Params, sums: _Sums) -> float:
        """What the M-step subtracts."""
        own = getattr(self.model, "penalty", None)
        return 0.0 if own is None else float(own(as_dict(params), sums.given))

    def permitted(self, old: Params, new: Params, sums: _Sums) -> float:
        """Nats by which the log-likelihood may fall from `old` to `new`."""
        own = getattr(self.model, "shortfall", None)
        missed = 0.0 if own is None else float(own(as_dict(old), as_dict(new), sums.given))
        return max(0.0, self.penalty(old, sums) - self.penalty(new, sums) + missed) + _rounding(sums.log_likelihood)


def _rounding(log_likelihood: float) -> float:
    return CLOSE * (1e-2 + abs(log_likelihood)) * 1e-2


def _differs(one: Any, other: Any, size: Any = None) -> bool:
    scale = np.abs(one).max(initial=0.0) + np.abs(other).max(initial=0.0) + (0.0 if size is None else size)
    return not bool((np.abs(np.asarray(one) - np.asarray(other)) <= CLOSE * scale + 1e-300).all())


def _first_difference(one: _Sums, other: _Sums, size: _Sums | None = None) -> str | None:
    """The name of sums that differ by more than rounding."""
    for name, value in (*one.own.items(), ("log_likelihood", np.asarray(one.log_likelihood))):
        if name == "log_likelihood":
            theirs, known = np.asarray(other.log_likelihood), None if size is None else abs(size.log_likelihood)
        else:
            theirs, known = other.own[name], None if size is None else np.abs(size.own[name]).max(initial=0.0)
        if _differs(value, theirs, known):
            return name
    return None


# --- the functions ---------------------------------------------------------------------------------------------------


def _same_start(case: _Case) -> bool:
    require(
        case.begun() == case.start,
        f"init of {case.label} gave two starts from the same rows and seed: draw from the rng that it is given alone",
    )
    return True


def _pure(case: _Case) -> bool:
    first = case.e_step(case.start)
    other = case.m_step(first, case.start)
    case.e_step(other)
    again = case.e_step(case.start)
    require(
        first.own == again.own and first.log_likelihood == again.log_likelihood,
        f"e_step of {case.label} gave other sums at the same parameters after it was called at others: it draws random "
        "numbers, or keeps something from call to call, such as a log_likelihood of the parameters before",
    )
    require(
        case.m_step(first, case.start) == other,
        f"m_step of {case.label} gave two results from the same statistics: it draws random numbers, or keeps state",
    )
    return True


def _leaves_alone(case: _Case) -> bool:
    try:
        case.e_step(case.start)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AssertionError(
            f"e_step of {case.label} wrote into its chunk or parameters, which other threads read: make a copy first"
        ) from error
    return True


# --- sums ------------------------------------------------------------------------------------------------------------


def _additive(case: _Case) -> bool:
    whole, n = case.e_step(case.start), len(case.rows.x)
    cuts = [0, n // 7, n // 2, n]
    parts = [case.e_step(case.start, case.picked(slice(a, b))) for a, b in pairwise(cuts)]
    total = parts[0].plus(parts[1]).plus(parts[2])
    name = _first_difference(whole, total)
    require(
        name is None,
        f"{name!r} is no sum over rows: e_step of {case.label} gives {_shown(whole, name)} for all rows, and "
        f"{_shown(total, name)} as the sum of three parts. Return sums, not means; divide in m_step, and use no mean "
        "or number of rows of the chunk",
    )
    return True


def _weight_two(case: _Case) -> bool:
    doubled = case.e_step(case.start, case.weighed(2.0))
    name = _first_difference(doubled, case.e_step(case.start).times(2.0))
    require(
        name is None,
        f"weights twice as large do not make {name!r} twice as large: in e_step of {case.label}, multiply what each "
        "row adds by its chunk.weight, once",
    )
    return True


def _weight_zero(case: _Case) -> bool:
    kept = np.arange(len(case.rows.x)) % 3 > 0
    found = case.e_step(case.start, case.weighed(kept.astype(np.float64)))
    rest = case.e_step(case.start, case.picked(kept))
    name = _first_difference(found, rest)
    require(
        name is None,
        f"rows of weight 0 change {name!r}: in e_step of {case.label}, multiply what each row adds by its chunk.weight",
    )
    return True


def _scores_sum(case: _Case) -> bool:
    if not hasattr(case.model, "score_samples"):
        return False
    each = np.asarray(case.model.score_samples(as_dict(case.start), case.rows))
    total, size = float(case.rows.weight @ each), float(case.rows.weight @ np.abs(each))
    reached = case.e_step(case.start).log_likelihood
    require(
        not _differs(total, reached, size),
        f"log_likelihood is {reached:.12g} nats, and Σ weight · score_samples is {total:.12g}: one of them lacks a "
        "term, or is of other parameters",
    )
    return True


def _missing_rows(case: _Case) -> bool:
    if not takes_missing(case.model):
        return False
    nothing = replace(case.rows, x=np.full_like(case.rows.x[:4], np.nan), weight=case.rows.weight[:4])
    found = case.e_step(case.start, nothing).log_likelihood
    require(
        abs(found) <= CLOSE,
        f"rows in which nothing was observed have the log_likelihood {found:.6g} in e_step of {case.label}; leave out "
        "what is NaN, so that such rows add 0",
    )
    return True


# --- the iteration ---------------------------------------------------------------------------------------------------


def _scaled(case: _Case) -> bool:
    sums = case.e_step(case.start)
    expected = case.m_step(sums, case.start)
    for factor in (1e-3, 1000.0):
        found = case.m_step(sums.times(factor), case.start)
        wrong = [name for name, value in expected.items() if _differs(found[name], value)]
        require(
            not wrong,
            f"m_step({factor:g} · stats) differs from m_step(stats) in {', '.join(map(repr, wrong))}: divide by sums "
            'that grow with the rows, such as stats["weight"], never by a constant number of rows',
        )
    return True


def _ascends(case: _Case) -> bool:
    params, raised = case.start, False
    sums = case.e_step(params)
    for step in range(1, STEPS + 1):
        new = case.m_step(sums, params)
        reached = case.e_step(new)
        slack = case.permitted(params, new, sums)
        if reached.log_likelihood < sums.log_likelihood - slack:
            fall = sums.log_likelihood - reached.log_likelihood
            raise AssertionError(
                f"step {step} of EM lowered the log-likelihood by {fall:.6g} nats, from {sums.log_likelihood:.12g}: "
                f"{_likely(case, params, new, sums)}"
            )
        raised |= reached.log_likelihood > sums.log_likelihood
        require(
            new == params or reached.log_likelihood != sums.log_likelihood or step > 1,
            f"the first step of EM changed the parameters, and log_likelihood stayed {sums.log_likelihood:.12g}: in "
            f"e_step of {case.label}, take it at `params`",
        )
        params, sums = new, reached
    return raised or params == case.start


def _likely(case: _Case, old: Params, new: Params, sums: _Sums) -> str:
    """The mistake that a fall of the log-likelihood tells of."""
    q = getattr(case.model, "q", None)
    if q is not None:
        before, after = (float(q(as_dict(params), sums.given)) for params in (old, new))
        if after < before - CLOSE * abs(before):
            return f"m_step does not maximize: it lowered q, too, from {before:.12g} to {after:.12g}"
    part = Params(**{name: value + PART * (new[name] - value) for name, value in old.items()})
    try:
        near = case.e_step(part).log_likelihood
    except (ParameterError, NumericalError):
        return "m_step does not maximize the expected log-likelihood that its statistics tell"
    if near > sums.log_likelihood:
        return (
            f"m_step does not maximize: 1/{round(1 / PART)} of its step raises the log-likelihood, and all of it goes "
            "too far. Look for a wrong divisor, a variance that is taken for a standard deviation, or parameters of "
            "which one is updated at the old value of another"
        )
    return (
        "even a small part of the step lowers it, so that log_likelihood and the statistics do not belong together. "
        "Either log_likelihood is taken at other parameters than `params` (those before, or those after), lacks a term "
        "that depends on them, or has the wrong sign; or what e_step returns are not the expected statistics at "
        "`params`, or m_step reads them wrongly"
    )


def _q_agrees(case: _Case) -> bool:
    """Fisher's identity: at the parameters of the E-step, q and the log-likelihood have the same slopes."""
    q = getattr(case.model, "q", None)
    if q is None:
        return False
    params = case.m_step(case.e_step(case.start), case.start)
    sums = case.e_step(params)
    best = case.m_step(sums, params)
    top = float(q(as_dict(best), sums.given)) - case.penalty(best, sums)
    for other in _neighbours(case, params, sums):
        there = float(q(as_dict(other), sums.given)) - case.penalty(other, sums)
        require(
            there <= top + CLOSE * (1.0 + abs(top)),
            f"m_step of {case.label} does not maximize q − penalty: other parameters have {there:.12g}, those of "
            f"m_step {top:.12g}",
        )
    h = 2.0**-10
    for other in _neighbours(case, params, sums)[:6]:
        ends = [
            Params(**{name: value + sign * h * (other[name] - value) for name, value in params.items()})
            for sign in (1.0, -1.0)
        ]
        likelihood = [case.e_step(end).log_likelihood for end in ends]
        expected = [float(q(as_dict(end), sums.given)) for end in ends]
        slopes = likelihood[0] - likelihood[1], expected[0] - expected[1]
        bend = abs(expected[0] + expected[1] - 2.0 * float(q(as_dict(params), sums.given)))
        require(
            abs(slopes[0] - slopes[1]) <= 1e-3 * max(map(abs, slopes)) + bend + CLOSE * abs(expected[0]),
            f"log_likelihood rises by {slopes[0] / 2 / h:.6g} nats where q rises by {slopes[1] / 2 / h:.6g} (at the "
            f"parameters of e_step both have the same slope): in {case.label}, log_likelihood is taken at other "
            "parameters than `params` or lacks a term, or the statistics are not the expected ones",
        )
    return True


def _scores_are_slopes(case: _Case) -> bool:
    own = getattr(case.model, "scores", None)
    if own is None:
        return False
    params = case.m_step(case.e_step(case.start), case.start)
    returned = {name: np.asarray(value) for name, value in own(as_dict(params), case.rows).items()}
    n = len(case.rows.x)
    require_shapes(returned, {name: (n, *value.shape) for name, value in params.items()}, f"scores of {case.label}")
    slopes = {name: np.tensordot(case.rows.weight, value, axes=1) for name, value in returned.items()}
    h, here = 2.0**-10, case.e_step(params).log_likelihood
    for other in _neighbours(case, params, case.e_step(params))[:6]:
        way = {name: h * (other[name] - value) for name, value in params.items()}
        up, down = (
            case.e_step(Params(**{name: value + sign * way[name] for name, value in params.items()})).log_likelihood
            for sign in (1.0, -1.0)
        )
        told, found = float(sum(np.sum(slopes[name] * way[name]) for name in way)), (up - down) / 2.0
        slack = 1e-3 * max(abs(told), abs(found)) + abs(up + down - 2.0 * here) + CLOSE * abs(here)
        require(
            abs(told - found) <= slack,
            f"log_likelihood rises by {found / h:.6g} nats along a way on which Σ weight · scores of {case.label} say "
            f"{told / h:.6g}: scores are the slopes of log p(row) by each parameter, at `params`",
        )
    return True


def _neighbours(case: _Case, params: Params, sums: _Sums, nudge: float = 0.1) -> list[Params]:
    """Parameters about those of an M-step: M-steps of the same rows with somewhat other weights, ± in turn."""
    rng = np.random.default_rng(case.seed + 1)
    found = []
    for _ in range(NEIGHBOURS):
        change = nudge * rng.uniform(-1.0, 1.0, len(case.rows.x))
        found += [case.m_step(case.e_step(params, case.weighed(1.0 + sign * change)), params) for sign in (1.0, -1.0)]
    return found


def _ends_at_a_maximum(case: _Case) -> bool:
    """Where EM ends, log-likelihood less penalty has no slope in the directions that M-steps can go."""
    params, sums = case.start, case.e_step(case.start)
    gain = before = np.inf
    for _ in range(MOST_STEPS):
        new = case.m_step(sums, params)
        reached = case.e_step(new)
        before, gain = gain, abs(reached.log_likelihood - sums.log_likelihood)
        params, sums = new, reached
        if gain <= ENDED:
            break
    rate = min(gain / before, 1.0) if 0 < before < np.inf else 0.0
    left = np.inf if rate >= 1.0 and gain > ENDED else gain * rate / max(1.0 - rate, 1e-6)
    if gain > ENDED or left > LEAST_GAIN / 10:
        return False  # so slow that where it ends is not known
    height = sums.log_likelihood - case.penalty(params, sums)
    around = [
        case.e_step(other).log_likelihood - case.penalty(other, sums)
        for other in _neighbours(case, params, sums, NUDGE)
    ]
    for up, down in zip(around[::2], around[1::2], strict=True):
        slope, bend = abs(up - down) / 2.0, max(0.0, 2.0 * height - up - down) / 2.0
        possible = slope**2 / (4.0 * bend) if bend > 0 else np.inf if slope > _rounding(height) else 0.0
        require(
            possible <= LEAST_GAIN or slope <= 100 * _rounding(height),
            f"EM of {case.label} ends where the log-likelihood is no maximum: near parameters are better by about "
            f"{possible:.3g} nats. m_step does not maximize what log_likelihood tells: look for a wrong divisor, a "
            "constant that is not estimated, statistics that are not those at `params`, or a prior without `penalty`",
        )
    return True


def _shown(sums: _Sums, name: str | None) -> str:
    if name in (None, "log_likelihood"):
        return f"{sums.log_likelihood:.9g}"
    value = sums.own[str(name)]
    return f"{float(np.ravel(value)[0]):.9g}{' (the first number)' if value.ndim else ''}"


LAWS: dict[str, Callable[[_Case], bool]] = {
    "the same seed gives the same start": _same_start,
    "e_step leaves its chunk alone": _leaves_alone,
    "e_step and m_step are functions of what they are given": _pure,
    "statistics are sums over rows": _additive,
    "a weight of 2 is the row twice": _weight_two,
    "a weight of 0 removes the row": _weight_zero,
    "log_likelihood is the sum of score_samples": _scores_sum,
    "rows of nothing but missing values add nothing": _missing_rows,
    "m_step(c · stats) is m_step(stats)": _scaled,
    "EM never lowers the log-likelihood": _ascends,
    "m_step maximizes q, and q has the slope of the log-likelihood": _q_agrees,
    "scores are the slopes of the log-likelihood": _scores_are_slopes,
    "EM ends at a maximum": _ends_at_a_maximum,
}
