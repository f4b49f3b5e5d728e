"""Messages speak of covariances and squares only where a family has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from golden.cases import OwnPoisson
from streamem import CategoricalHMM, Gaussian, GaussianHMM, GaussianMixture, Mixture, MixtureFamily, Params, PoissonHMM
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, NumericalError
from streamem.models import Mixture as MixtureModel


@pytest.mark.parametrize("model", [GaussianMixture(), GaussianHMM(), Mixture(MixtureFamily(Gaussian(), 2), 1)])
def test_gaussians_need_two_rows_for_a_covariance(model: Any) -> None:
    with pytest.raises(DataError, match="a minimum of 2 is required to estimate a covariance"):
        model.fit(np.ones((1, 2)))


@pytest.mark.parametrize("model", [CategoricalHMM(), PoissonHMM(), Mixture(OwnPoisson(), 1)])
def test_others_need_two_rows_for_a_model(model: Any) -> None:
    with pytest.raises(DataError, match="a minimum of 2 is required to estimate a model"):
        model.fit(np.ones((1, 2)))


class Positive(OwnPoisson):
    """Cannot emit 0, as a gamma distribution."""

    def log_prob(self, p: Params, x: Any) -> Any:
        """Log-densities (n, K), −∞ of rows with a 0."""
        return np.where((x > 0).all(axis=1, keepdims=True), super().log_prob(p, x), -np.inf)


def test_a_value_that_cannot_be_has_no_square_that_overflows() -> None:
    model = MixtureModel(Positive(), 1, lambda x, weight, k, rng: np.ones((len(x), k)))
    params = model.init(Chunk(np.ones((4, 1))), np.random.RandomState(0))
    with pytest.raises(NumericalError, match="row 2 of the chunk has no finite .* remove values that nothing can emit"):
        model.e_step(params, Chunk(np.array([[1.0], [2.0], [0.0]])))
