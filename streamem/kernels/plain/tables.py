"""Codes of categories and counts in NumPy: look-ups in a table, sums by code, and checks of discrete values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem.kernels.plain.features import quietly
from streamem.kernels.plain.steps import FINE, PlainSteps, implement
from streamem.kernels.plain.transforms import first_of, has_fraction
from streamem.kernels.tables.codes import Codes, GroupCodes

Array = NDArray[Any]


@quietly
def places_of(x: Array, starts: Array, absent: int, places: Array) -> int:
    """places (b, d) in the table of codes x (b, d); the position of the first that is no known code, or −1.

    NaN has the place `absent`, and is taken for code 0 where that is −1.
    """
    bad = first_beyond(x, np.diff(starts))
    if bad < 0:
        missing = np.isnan(x)
        found = np.where(missing, 0, x).astype(np.int64) + starts[:-1]
        if absent >= 0:
            found[missing] = absent
        places[: len(x)] = found
    return bad


@quietly
def pair_places(x: Array, sizes: Array, absent: int, skips: bool, places: Array) -> int:
    """places (b, 1) of pairs of codes x (b, 2) in a table of sizes[0] × sizes[1]; else as `places_of`.

    Where either code is NaN the place is `absent`, and 0 where that is −1. With `skips` codes beyond the sizes are NaN.
    """
    if skips:
        x = np.where(x >= sizes, np.nan, x)
    bad = first_beyond(x, sizes)
    if bad < 0:
        missing = np.isnan(x).any(axis=1)
        found = np.where(missing, 0.0, x[:, 0].astype(np.float64) * sizes[1] + x[:, 1])
        found[missing] = max(absent, 0)
        places[: len(x), 0] = found
    return bad


def look_up(places: Array, table: Array, near: Array, out: Array) -> None:
    """out (K, b) = Σ_j table[places_j] for places (b, d), table (V, at least K)."""
    own = table[:, : len(out)]
    out[...] = 0.0
    for column in places.T:
        out += own[column].T


def add_at(places: Array, resp: Array, sums: Array, weight: Array) -> None:
    """sums (V, width)[places_j] += resp and weight (width,) += resp, of places (b, d) and resp (b, at most width)."""
    own = resp[: len(places), : weight.size]
    weight[: own.shape[1]] += own.sum(axis=0)
    for k, values in enumerate(own.T):
        repeated = np.repeat(values, places.shape[1])
        sums[:, k] += np.bincount(places.reshape(-1), repeated, minlength=len(sums))


@quietly
def log_factorials(x: Array, table: Array, out: Array) -> int:
    """out (n,) = −Σ_j log x_ij!; the position of the first value of x that is no count, or −1. NaN is let through."""
    bad = first_of((x < 0) | has_fraction(x))
    if bad < 0:
        np.negative(gammaln(x.astype(np.float64) + 1.0).sum(axis=1), out=out)
    return bad


def first_beyond(x: Array, sizes: Array) -> int:
    """The position of the first value that is no integer of 0 … sizes[column] − 1, or −1. NaN is let through."""
    return first_of((x < 0) | (x >= sizes) | has_fraction(x))


def _load(own: Codes, x: Array) -> tuple[int, Array]:
    places = np.empty(x.shape, dtype=np.int64)
    return places_of(x, own.starts, own.absent, places), places


def _scores(own: Codes, places: Array) -> Array:
    out = np.empty((own.table.shape[1], len(places)))
    look_up(places, own.table, own.near, out)
    return out


def _add(own: Codes, places: Array, posterior: Array) -> None:
    add_at(places, posterior.T, own.sums, own.occupied)


def _load_groups(own: GroupCodes, spans: Array) -> tuple[int, Array]:
    return FINE, spans


def _group_scores(own: GroupCodes, spans: Array) -> Array:
    rows = np.empty((own.table.shape[1], int(spans[-1, 1] - spans[0, 0])))
    look_up(own.places[spans[0, 0] : spans[-1, 1]], own.table, own.near, rows)
    out, held = np.zeros((len(rows), len(spans))), np.flatnonzero(spans[:, 1] > spans[:, 0])
    if len(held):
        out[:, held] = np.add.reduceat(rows, spans[held, 0] - spans[0, 0], axis=1)
    return out


def _add_groups(own: GroupCodes, spans: Array, posterior: Array) -> None:
    own.occupied[: len(posterior)] += posterior.sum(axis=1)
    of_rows = np.repeat(posterior.T, spans[:, 1] - spans[:, 0], axis=0)
    add_at(own.places[spans[0, 0] : spans[-1, 1]], of_rows, own.sums, own.weight)


implement(Codes, PlainSteps(_load, _scores, _add))
implement(GroupCodes, PlainSteps(_load_groups, _group_scores, _add_groups))
