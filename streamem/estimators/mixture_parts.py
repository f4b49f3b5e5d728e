"""What every mixture estimator holds: weights, a family, and how its rows are read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Family, full_family
from streamem.estimators.inputs import Reading
from streamem.estimators.settings import EMParts
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]


class MixtureParts(EMParts):
    """Hyperparameters of a mixture, and what subclasses say of their family."""

    max_iter: int
    warm_start: bool

    weights_: Array

    @abstractmethod
    def _make_family(self) -> Family:
        """The family at the present hyperparameters."""

    def _make_start(self, model: Mixture, sample: Chunk, rng: np.random.RandomState) -> Params:
        return model.init(sample, rng)

    def _make_model(self) -> Mixture:
        return Mixture(self._make_family(), self.n_components, STARTS[self.init_params])

    def _is_fitted(self) -> bool:
        return hasattr(self, "weights_")

    def _published_dtype(self) -> np.dtype[Any]:
        return self.weights_.dtype

    def _most_iterations(self) -> int:
        return self.max_iter

    def _goes_on(self) -> bool:
        return self.warm_start and hasattr(self, "converged_")

    def _counts_categories(self) -> bool:
        return full_family(self._make_family()).takes_codes

    def _reading(
        self,
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> Reading:
        budget = self._budget()
        return Reading(
            columns,
            feature_axis,
            sample_weight,
            budget.chunk_bytes,
            budget.most_chunk_bytes,
            row_products=self._row_products if self.chunk_bytes is None else None,
        )

    def _row_products(self, n_features: int) -> int:
        """Of scores and statistics of a row, as far as every family has as many."""
        self._check_hyperparameters()
        return int(self.n_components) * (1 + n_features)

    def _counts(self) -> dict[str, int]:
        return {**super()._counts(), "max_iter": 0}

    def _choices(self) -> dict[str, Any]:
        return {"init_params": STARTS, **super()._choices()}

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`: one feature a component."""
        return self.n_components
