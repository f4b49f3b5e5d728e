"""Weights that depend on concomitants, as free numbers: intercepts and coefficients of all components but the first.

With z̃ = (1, z) and π the weights of a row, the slope of log π_k by the numbers of component j is (1{k = j} − π_j) z̃,
and minus its second derivative by those of j and l is π_j (1{j = l} − π_l) z̃ z̃ᵀ, whatever k (Böhning 1992, eq. 2).

Letters: K components, p concomitants, q = 1 + p, T = (K − 1)·q free numbers, Q of the family for each component.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.models.concomitants import logits_of
from streamem.models.logit_moves import shown

Array = NDArray[Any]

FINE = 2.0**-10
"""Step of differences, of the log-odds of a row."""


@dataclass(frozen=True, eq=False)
class LogitTies:
    """The free numbers of logits, in units of the data.

    Attributes
    ----------
    intercept, coef : (K,) and (K, p), 0 of component 0
    box : (2, p) smallest and largest concomitants
    shares : (T, K) derivatives of the average weights, once the rows were read
    """

    intercept: Array
    coef: Array
    box: Array
    shares: Array

    # --- numbers -----------------------------------------------------------------------------------------------------

    @property
    def free_names(self) -> list[str]:
        """(T,)."""
        k, p = self.coef.shape
        names = ["concomitant_intercept{0}", *(f"concomitant_coef{{0}}{c}" for c in range(p))]
        return [_named(name, j) for j in range(1, k) for name in names]

    @property
    def names(self) -> list[str]:
        """(T,) of all numbers, which are free."""
        return self.free_names

    @property
    def moves(self) -> Array:
        """(T, T) what each free number moves: itself."""
        return np.eye(len(self.shares))

    @property
    def values(self) -> Array:
        """(T,)."""
        return np.column_stack([self.intercept, self.coef])[1:].ravel()

    @property
    def at_zero(self) -> Array:
        """(T,) none is held."""
        return np.zeros(len(self.shares), dtype=np.bool_)

    @property
    def steps(self) -> Array:
        """(T,) of differences."""
        reach = np.maximum(np.abs(self.box).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
        return np.tile(FINE / np.append(1.0, reach), len(self.intercept) - 1)

    def moved(self, params: Params, s: int, amount: float) -> Params:
        """Parameters of the model with free number s moved, and the average weights with it."""
        own = np.column_stack([self.intercept, self.coef])
        own[1:].reshape(-1)[s] += amount
        logits = logits_of(own[:, 0], own[:, 1:], self.box)
        return params.replace(logits=logits, weights=np.asarray(params.weights) + amount * self.shares[s])

    def inwards(self, params: Params, place: int, amount: float) -> Params:
        """Parameters as they are: no number lies at a boundary."""
        return params

    # --- sums over rows ----------------------------------------------------------------------------------------------

    def scores(self, resp: Array, beside: Array | None) -> Array:
        """(n, T) slopes of log-densities, of rows with responsibilities (n, K) and concomitants (n, p)."""
        rows, chances = self._rows(beside)
        return _spread(resp[:, 1:] - chances[:, 1:], rows)

    def sums(self, slopes: Array, resp: Array, weight: Array, beside: Array | None) -> dict[str, Array]:
        """Sums for `complete`, `squares` and `mixed`; slopes (K, n, Q) are those of the family."""
        rows, chances = self._rows(beside)
        k, n = resp.shape[1], len(rows)
        pi, gamma = chances[:, 1:], resp[:, 1:]
        eye = np.eye(k - 1)
        bend = pi[:, :, None] * (eye - pi[:, None, :])
        square = gamma[:, :, None] * (eye - pi[:, None, :]) + pi[:, :, None] * (pi - gamma)[:, None, :]
        mixed = []
        for component in range(k):
            own = _spread((np.arange(1, k) == component) - pi, rows)
            mixed.append(slopes[component].T @ (own * (weight * resp[:, component])[:, None]))
        products = (weight[:, None, None] * rows[:, :, None] * rows[:, None, :]).reshape(n, -1)
        return {
            "counts": weight @ resp,
            "tied_complete": _joined(bend, products, rows.shape[1]),
            "tied_squares": _joined(square, products, rows.shape[1]),
            "tied_mixed": np.stack(mixed),
        }

    def complete(self, sums: Stats) -> Array:
        """(T, T) minus the second derivatives, if components were known."""
        return np.asarray(sums.tied_complete)

    def squares(self, sums: Stats) -> Array:
        """(T, T) expected products of slopes."""
        return np.asarray(sums.tied_squares)

    def mixed(self, sums: Stats, component: int) -> Array:
        """(Q, T) expected products of the family's slopes of a component and these."""
        return np.asarray(sums.tied_mixed)[component]

    def units(self, sums: Stats) -> float:
        """Weight of all that has weights of its own: of rows."""
        return float(sums.weight)

    def known(self, sums: Stats) -> LogitTies:
        """These numbers, which know how the average weights move with them."""
        q = 1 + self.coef.shape[1]
        others = self.complete(sums)[:, ::q] / self.units(sums)  # by intercepts
        return replace(self, shares=np.column_stack([-others.sum(axis=1), others]))

    def _rows(self, beside: Array | None) -> tuple[Array, Array]:
        """z̃ (n, q), 0 where a concomitant is missing, and the weights (n, K)."""
        assert beside is not None  # of a model that asks for it
        rows = np.column_stack([np.ones(len(beside)), beside])
        rows[np.isnan(beside).any(axis=1)] = 0.0
        return rows, np.asarray(softmax(rows @ np.column_stack([self.intercept, self.coef]).T, axis=1))


def logit_ties(params: Params) -> LogitTies:
    """The free numbers of fitted parameters."""
    own = shown(np.asarray(params.logits)[None], params.concomitant_box)
    k, p = own.coef[0].shape
    nothing = np.zeros(((k - 1) * (1 + p), k))
    return LogitTies(own.intercept[0], own.coef[0], np.asarray(params.concomitant_box), nothing)


def _named(name: str, component: int) -> str:
    place = name.partition("{0}")[2]
    return name.partition("{0}")[0] + (f"[{component}, {place}]" if place else f"[{component}]")


def _spread(first: Array, rows: Array) -> Array:
    """(n, T) products of (n, K − 1) and z̃ (n, q)."""
    return np.asarray((first[:, :, None] * rows[:, None, :]).reshape(len(rows), -1))


def _joined(bend: Array, products: Array, q: int) -> Array:
    """(T, T) sums over rows of bend (n, K − 1, K − 1) and products (n, q²) of z̃."""
    n, j = bend.shape[:2]
    found = (bend.reshape(n, j * j).T @ products).reshape(j, j, q, q)
    return np.asarray(found.transpose(0, 2, 1, 3).reshape(j * q, j * q))
