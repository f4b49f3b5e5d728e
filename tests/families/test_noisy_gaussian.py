"""The laws of Gaussians that are seen through noise, another in every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from streamem.conformance import FamilySuite
from streamem.core.arrays import Params
from streamem.core.stats import Stats
from streamem.families.gaussian.arithmetic import origins
from streamem.families.gaussian.noisy import NoisyGaussian
from streamem.families.gaussian.noisy_prior import NoisyNormalWishart
from streamem.families.gaussian.normal_wishart import NormalWishart
from streamem.families.gaussian.shortfall import expected_log_likelihood

Array = NDArray[Any]
D, K = 2, 3


@pytest.mark.parametrize(
    ("covariance_type", "noise"), [("full", "covariances"), pytest.param("diag", "variances", marks=pytest.mark.slow)]
)
class TestNoisyGaussian(FamilySuite):
    shared = frozenset({"center", "scale"})

    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str, noise: str) -> None:
        self.covariance_type, self.noise = covariance_type, noise

    def make_family(self) -> NoisyGaussian:
        return NoisyGaussian(self.covariance_type, 0.0, self.noise)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        values = 5.0 + rng.normal(size=(n, D)) * [1.0, 2.0]
        if self.noise == "variances":
            return np.hstack([values, rng.uniform(0.0, 2.0, size=(n, D))])
        factors = rng.normal(size=(n, D, D))
        own = factors @ np.swapaxes(factors, 1, 2)
        return np.hstack([values, own[:, [0, 0, 1], [0, 1, 1]]])

    def make_params(self, rng: np.random.Generator) -> Params:
        family, x = self.make_family(), self.make_rows(rng, 200)
        start = family.start(x, None, K)
        assert start is not None
        return family.maximize(family.stats(start, x, rng.dirichlet(np.ones(K), size=200)), start)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        family = self.make_family()
        means = family.means(params) + scale * rng.normal(size=(K, D))
        covariances = family.covariances(params) * np.exp(
            scale * rng.normal(size=(K, *[1] * (params.covariances.ndim - 1)))
        )
        return family.with_covariances(family.with_means(params, means), covariances)

    def expected_log_likelihood(self, case: Any, params: Params, stats: Stats) -> float:
        """Of values without noise, which the statistics are expected moments of."""
        family = self.make_family()
        origin = origins(family._structure, case.params)
        return float(np.sum(expected_log_likelihood(family._structure, params, stats, origin)))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """Rows whose squares overflow are refused: nobody judges them."""

    def test_imputed_rows_keep_what_was_observed(self) -> None:
        """Nothing is imputed."""

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        family = self.make_family()
        means, own = family.means(params), family.covariances(params)
        out = np.empty((len(x), K))
        for i, row in enumerate(x):
            noise = np.diag(row[D:]) if self.noise == "variances" else row[D:][[[0, 1], [1, 2]]]
            for k in range(K):
                covariance = own[k] if self.covariance_type == "full" else np.diag(own[k])
                out[i, k] = multivariate_normal.logpdf(row[:D], means[k], covariance + noise)
        return out


class TestNoisyNormalWishart(TestNoisyGaussian):
    def make_family(self) -> NoisyGaussian:
        scatter: Any = [50.0, 20.0] if self.covariance_type == "diag" else np.array([[50.0, 5.0], [5.0, 20.0]])
        believed: dict[str, Any] = {"covariance_prior": scatter, "degrees_of_freedom_prior": 40.0}
        family = NormalWishart(
            self.covariance_type, 0.0, mean_prior=[9.0, 2.0], mean_precision_prior=30.0, **believed, total_weight=257.0
        )
        return NoisyNormalWishart(family, self.noise)
