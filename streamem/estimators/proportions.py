"""`PROPORTIONS`: rows hold the likelihoods of all components, of which there are as many as columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Source
from streamem.core.state import State
from streamem.estimators.rows import Rows, weight_prior
from streamem.estimators.structure import DataArguments, Opened
from streamem.models.proportions import Proportions
from streamem.running.fitted import Fitted, Shape


class LikelihoodRows(Rows):
    """p(x) = Σ_k w_k x_k: the number of components is that of the columns, which an opened source tells first."""

    least_formula, starts_from_rows = "one", False

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Rows of anything that `streamem.open_source` takes; the estimator is told how many columns there are."""
        opened = super().open(settings, x, arguments, shape)
        self.sized(settings, opened.shape.features)
        return opened

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Rows in memory."""
        self.sized(settings, shape.features)
        return super().reopened(settings, chunk, shape)

    def sized(self, settings: Any, features: int, params: Params | None = None) -> None:
        """Note the number of columns, unless the estimator knows it from a fit."""
        if getattr(settings, "n_components", None) != features:
            settings.__dict__["_columns"] = features

    def model(self, settings: Any, family: Any, fitted: Fitted | None) -> Proportions:
        """The mixture of these likelihoods."""
        return Proportions(family, int(settings.n_components), weight_prior(settings, fitted))

    def least_rows(self, settings: Any, n_features: int) -> int:
        """One, since a start is none of the rows'."""
        return 1

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """Equal weights, or those that were given."""
        params: Params = model.init(sample, rng)
        given = self._given_weights(settings)
        return params if given is None else params.replace(weights=given / given.sum())

    def is_given_wholly(self, settings: Any) -> bool:
        """Always, since a start draws nothing."""
        return True

    def certificate(self, model: Any, state: State) -> float | None:
        """The most by which any weights have a higher mean log-likelihood than the fitted ones, in nats."""
        if state.memory is None or state.log_likelihood is None or "running" not in state.memory:
            return None
        return float(model.excess(state.memory.running))


PROPORTIONS = LikelihoodRows()
