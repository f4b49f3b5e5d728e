"""A family whose log-densities and slopes are known row by row: an E-step of any model then gives expected scores."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.ports import FullFamily
from streamem.core.stats import Stats

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tables:
    """What is known of the rows of a chunk.

    Attributes
    ----------
    model : of sequences or groups
    log_prob : (n, K) of every row
    slopes : (K, n, Q) of the log-densities of every row
    """

    model: Any
    log_prob: Array
    slopes: Array

    def expected(self, params: Params, places: Chunk, message: Boundary | None, log_prob: Array | None = None) -> Stats:
        """Statistics of an E-step, whose ``components.scores`` (K, Q) are expected slopes.

        Parameters
        ----------
        places : the rows as their own positions (n, 1), NaN where nothing was observed
        log_prob : instead of those that are known
        """
        return self._run(self._family(log_prob), params, places, message)

    def weights(self, params: Params, places: Chunk, message: Boundary | None) -> Array:
        """(n, K) posteriors of every row, times the weight of its sequence; 0 where nothing was observed."""
        family = self._family(None)
        family.kept = np.zeros_like(self.log_prob)
        self._run(family, params, places, message)
        return family.kept

    def _family(self, log_prob: Array | None) -> _Tabulated:
        known = self.log_prob if log_prob is None else log_prob
        return _Tabulated(known, self.slopes, self.model.family.allows_missing)

    def _run(self, family: _Tabulated, params: Params, places: Chunk, message: Boundary | None) -> Stats:
        model = copy.copy(self.model)
        model.family = family
        with np.errstate(all="ignore"):
            found: Stats = model.e_step(params, places, message)
        return found


class _Tabulated(FullFamily):
    """Rows are their own positions (n, 1) in tables; NaN is a row that was not observed.

    Parameters
    ----------
    log_prob : (n, K) of every row
    slopes : (K, n, Q) of every row
    integrates : whether the family that it stands for integrates over missing values
    """

    def __init__(self, log_prob: Array, slopes: Array, integrates: bool) -> None:
        self._log_prob, self._slopes, self._integrates = log_prob, slopes, integrates
        self.kept: Array | None = None

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN."""
        return self._integrates

    def log_prob(self, params: Any, x: Array) -> Array:
        """Log-densities (n, K) of the rows at positions x (n, 1)."""
        return np.asarray(self._log_prob[_places(x)])

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """scores (K, Q): the sums of slopes weighted by resp (n, K)."""
        places = _places(x)
        if self.kept is not None:
            self.kept[places] = resp
        found = [resp[:, k] @ own[places] for k, own in enumerate(self._slopes)]
        return Stats(weight=resp.sum(axis=0), scores=np.array(found).reshape(len(self._slopes), -1))

    def maximize(self, stats: Stats, previous: Any) -> Params:
        """Refuse: nothing is fitted."""
        raise NotImplementedError


def _places(x: Array) -> slice | Array:
    found = x[:, 0].astype(np.int64)
    if len(found) and found[-1] - found[0] == len(found) - 1:
        return slice(int(found[0]), int(found[-1]) + 1)
    return found
