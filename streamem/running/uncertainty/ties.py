"""The probabilities that tie components together, as free numbers: weights, or starts and moves of a chain.

Their part of the expected log-likelihood is Σ counts·log probabilities, for mixtures and chains alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.running.uncertainty.group_ties import group_logit_ties
from streamem.running.uncertainty.logit_ties import logit_ties
from streamem.running.uncertainty.more_ties import DrivenTies, DurationTies, MoreTies

Array = NDArray[Any]

LEAST_EVENTS = 0.01
"""Expected events below which a probability is at 0 as far as the data can tell."""
FINE = 2.0**-14
"""Of a probability: the step of differences."""


@dataclass(frozen=True, eq=False)
class Ties:
    """The free numbers of weights (K,), or of startprob (K,) and transmat (K, K), and of what stands in its place.

    Attributes
    ----------
    names : (S,) of all probabilities
    values : (S,) the probabilities
    moves : (p, S) of 1 and −1: what each free number moves up and down
    at_zero : (S,) probabilities that are held since no event is expected
    parts : names of parameters, and where their numbers are
    more : numbers of other kinds that tie states together, whose free ones come last
    """

    names: list[str]
    values: Array
    moves: Array
    at_zero: Array
    parts: dict[str, slice]
    more: MoreTies | None = None

    @property
    def slopes(self) -> Array:
        """(p, S) derivatives of the log-probabilities by the free numbers."""
        return np.divide(self.moves, self.values, out=np.zeros_like(self.moves), where=self.values > 0)

    @property
    def free_names(self) -> list[str]:
        """(p,)."""
        own = [self.names[int(np.argmax(row))] for row in self.moves]
        return own if self.more is None else own + self.more.free_names

    @property
    def steps(self) -> Array:
        """(p,) of differences."""
        involved = np.where(self.moves != 0, self.values, np.inf)
        own = np.asarray(FINE * involved.min(axis=1, initial=np.inf))
        return own if self.more is None else np.concatenate([own, self.more.steps])

    def counts(self, stats: Stats) -> Array:
        """(S,) expected events in statistics of a model, and what `more` needs of these."""
        if "startprob" not in self.parts:
            return np.asarray(stats.responsibilities)
        found = [np.asarray(stats.startprob)]
        if "transmat" in self.parts:
            found.append(np.asarray(stats.transitions).ravel())
        return np.concatenate(found if self.more is None else [*found, self.more.counts(stats)])

    def score(self, counts: Array) -> Array:
        """(p,) slope of the expected log-likelihood of such counts by the free numbers, at these values."""
        own = self.slopes @ counts[: len(self.values)]
        return own if self.more is None else np.concatenate([own, self.more.score(counts[len(self.values) :])])

    # --- sums over rows, whatever these are ---------------------------------------------------------------------------

    def scores(self, resp: Array, beside: Array | None) -> Array:
        """(n, p) slopes of log-densities, of rows with responsibilities (n, S)."""
        return np.asarray(resp @ self.slopes.T)

    def sums(self, slopes: Array, resp: Array, weight: Array, beside: Array | None) -> dict[str, Array]:
        """counts (S,) of rows with responsibilities (n, S) and weights (n,)."""
        return {"counts": weight @ resp}

    def complete(self, sums: Stats) -> Array:
        """(p, p) minus the second derivatives, if components were known."""
        counts, size, first = np.asarray(sums.counts), len(self.free_names), len(self.moves)
        own = np.asarray((self.slopes * counts[: len(self.values)]) @ self.slopes.T)
        if self.more is None:
            return own
        out = np.zeros((size, size))
        out[:first, :first], out[first:, first:] = own, self.more.information(counts[len(self.values) :])
        return out

    def squares(self, sums: Stats) -> Array:
        """(p, p) expected products of slopes: as many, since events exclude each other."""
        return self.complete(sums)

    def mixed(self, sums: Stats, component: int) -> Array:
        """(Q, p) expected products of the family's slopes of a component and these."""
        return np.outer(np.asarray(sums.slopes)[component], self.slopes[:, component])

    def known(self, sums: Stats) -> Ties:
        """These numbers, of which rows tell no more."""
        return self

    # --- numbers that are moved --------------------------------------------------------------------------------------

    def moved(self, params: Params, s: int, amount: float) -> Params:
        """Parameters of the model with free number s moved."""
        if self.more is not None and s >= len(self.moves):
            return self.more.moved(params, s - len(self.moves), amount)
        values = self.values + amount * self.moves[s]
        found = {name: values[where].reshape(np.shape(params[name])) for name, where in self.parts.items()}
        return params.replace(**found)

    def inwards(self, params: Params, place: int, amount: float) -> Params:
        """Parameters of the model with one probability moved up, which the largest of its set gives."""
        first, stop = 0, len(self.values)
        if "startprob" in self.parts:
            k = self.parts["startprob"].stop
            first = place - place % k
            stop = first + k
        row = np.zeros((1, len(self.values)))
        row[0, first + int(np.argmax(self.values[first:stop]))] = -1.0
        row[0, place] = 1.0
        return replace(self, moves=row).moved(params, 0, amount)


def ties_of(model: Any, params: Params, rows: float, units: float) -> Any:
    """The free numbers of fitted parameters, for so many rows and sequences (or rows) in the data.

    What a chain's structure, its own start or `params` keeps as it is, is not free; nor is what is 0.
    """
    if "concomitant_box" in params:
        return group_logit_ties(params) if model.joins_pieces else logit_ties(params)
    if "logits" in params and "startprob" in params:
        return _of_driven(model, params, units)
    if "startprob" in params:
        ties = _of_chain(model, params, rows, units)
        timed = "duration_logs" in params and model.updates_moves
        return replace(ties, more=DurationTies.of(model.durations, params)) if timed else ties
    weights = np.asarray(params.weights, dtype=np.float64)
    names, parts = [f"weights{[k]}" for k in range(len(weights))], {"weights": slice(0, len(weights))}
    if "noise_weight" in params:
        names, parts = [*names, "noise_weight"], {**parts, "noise_weight": slice(len(weights), len(weights) + 1)}
        weights = np.append(weights, float(params.noise_weight))
    free = bool(getattr(model, "updates_weights", True))
    at_zero = (weights * units < LEAST_EVENTS) & free
    moves = _moves([np.arange(len(weights))[None]] if free else [], weights, at_zero)
    return Ties(names, weights, moves, at_zero, parts)


def _of_chain(model: Any, params: Params, rows: float, units: float) -> Ties:
    start, moves = np.asarray(params.startprob), np.asarray(params.transmat)
    k = len(start)
    names = [f"startprob{[i]}" for i in range(k)] + [f"transmat{[i, j]}" for i in range(k) for j in range(k)]
    values = np.concatenate([start, moves.ravel()])
    share = np.asarray(model.shares(params))
    expected = np.concatenate([units * start, (max(rows - units, 0.0) * share[:, None] * moves).ravel()])
    at_zero = (values > 0) & (expected < LEAST_EVENTS)
    places = k + np.arange(k * k).reshape(k, k)
    tied = [list(group) for group in model.transitions.tied]
    alone = [[i] for i in range(k) if not any(i in group for group in tied)]
    sets = [np.arange(k)[None]] if model.updates_start else []
    sets += [places[group] for group in (*alone, *tied)] if model.updates_moves else []
    table = _moves(sets, values, at_zero | (values == 0))
    return Ties(names, values, table, at_zero, {"startprob": slice(0, k), "transmat": slice(k, k + k * k)})


def _of_driven(model: Any, params: Params, units: float) -> Ties:
    start = np.asarray(params.startprob)
    k = len(start)
    at_zero = (start > 0) & (units * start < LEAST_EVENTS)
    moves = _moves([np.arange(k)[None]] if model.updates_start else [], start, at_zero | (start == 0))
    more = DrivenTies(np.asarray(params.logits)) if model.updates_moves else None
    return Ties([f"startprob{[i]}" for i in range(k)], start, moves, at_zero, {"startprob": slice(0, k)}, more)


def _moves(sets: list[Array], values: Array, held: Array) -> Array:
    """One row for each free number; a set (r, s) is of r rows alike that sum to 1."""
    found = []
    for places in sets:
        free = [j for j in range(places.shape[1]) if not held[places[0, j]]]
        if len(free) < 2:
            continue
        reference = max(free, key=lambda j: values[places[0, j]])
        for j in free:
            if j != reference:
                row = np.zeros(len(values))
                row[places[:, j]], row[places[:, reference]] = 1.0, -1.0
                found.append(row)
    return np.array(found).reshape(len(found), len(values))
