"""A mixture of regressions, which also says what response to expect where only covariates are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.models.mixture import Mixture

Array = NDArray[Any]


class RegressionMixture(Mixture):
    """p(y | x) = Σ_k w_k p_k(y | x), with components of a family of regressions."""

    def expected_response(self, params: Params, chunk: Chunk) -> Array:
        """Σ_k w_k E_k[y | x] (n,), whatever stands in place of the response; of categories their probabilities."""
        family: Any = self.family  # of which only regressions know a column and what to expect there
        expected = family.expected(params.components, chunk.x)
        return np.asarray(np.einsum("nk,nk...->n...", self.prior_probabilities(params, chunk), expected))

    def prior_probabilities(self, params: Params, chunk: Chunk) -> Array:
        """Probability of every component (n, K) where the response is not known."""
        return np.broadcast_to(np.asarray(params.weights), (chunk.rows, self.n_components))

    def drawn_responses(self, params: Params, chunk: Chunk, rng: np.random.RandomState) -> Array:
        """Responses and their components (n, 2), drawn given covariates alone."""
        family: Any = self.family
        below = np.cumsum(self.prior_probabilities(params, chunk), axis=1)[:, :-1]
        component = (rng.random_sample((chunk.rows, 1)) >= below).sum(axis=1)
        return np.column_stack([family.drawn(params.components, chunk.x, component, rng), component])

    def prior_labels(self, params: Params, chunk: Chunk) -> Array:
        """The most probable component (n,) where the response is not known."""
        return np.asarray(self.prior_probabilities(params, chunk).argmax(axis=1))
