"""One ability a row, on fixed nodes with fixed weights: marginal maximum likelihood by quadrature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.models.mixture import Mixture

Array = NDArray[Any]


class LatentTrait(Mixture):
    """p(x) = Σ_q w_q Π_j P(x_j | θ_q): a mixture whose components are nodes of the ability, with weights that stay.

    Parameters
    ----------
    family : what an ability emits, of as many components as there are nodes
    nodes, weights : (Q,) of the quadrature of the distribution of abilities
    """

    updates_weights = False

    def __init__(self, family: Family, nodes: Array, weights: Array) -> None:
        super().__init__(family, len(nodes), _equal)
        self._nodes, self._weights_of_nodes = np.asarray(nodes), np.asarray(weights)

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The family's start."""
        known = self._observed(sample)
        components = self.family.start(known.x, known.weight, self.n_components)
        active = np.float64(self.n_components)
        return Params(weights=self._weights_of_nodes.copy(), components=components, active=active)

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """The family maximizes; the weights of the nodes stay."""
        return super().m_step(stats, previous).replace(weights=previous.weights)

    def abilities(self, params: Params, chunk: Chunk) -> Array:
        """(n, 2) the expected ability given the answers, and its standard deviation."""
        resp = self.responsibilities(params, chunk)
        mean = resp @ self._nodes
        variance = resp @ self._nodes**2 - mean**2
        return np.column_stack([mean, np.sqrt(np.maximum(variance, 0.0))])

    def ability(self, params: Params, chunk: Chunk) -> Array:
        """(n, 1) the expected ability given the answers."""
        return self.abilities(params, chunk)[:, :1]


def _equal(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Equal responsibilities; nobody asks for a start by them."""
    return np.full((len(x), k), 1.0 / k)
