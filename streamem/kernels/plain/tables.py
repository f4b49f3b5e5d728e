"""Codes of categories and counts in NumPy: look-ups in a table, sums by code, and checks of discrete values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from streamem.kernels.plain.features import quietly
from streamem.kernels.plain.steps import PlainSteps, implement
from streamem.kernels.plain.transforms import first_of, has_fraction
from streamem.kernels.tables.codes import Codes

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


implement(Codes, PlainSteps(_load, _scores, _add))
