"""Factor components: the laws of a family, dense Gaussians as oracle, and the M-step against plain EM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from streamem.conformance import FamilySuite, ModelSuite
from streamem.conformance.tolerance import require
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.stats import Stats
from streamem.families import FactorGaussian
from streamem.families.factors.m_step import central, inverse_roots
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]
CASES = [(1, "diagonal", 0.0), (2, "diagonal", 1e-3), (2, "isotropic", 0.0), (4, "diagonal", 0.0)]


class Laws(FamilySuite):
    """Five columns about 1000, of two factors, with anchors that are not at the means."""

    family: FactorGaussian
    shared = frozenset({"center", "scale"})

    def make_family(self) -> FactorGaussian:
        return self.family

    def make_params(self, rng: np.random.Generator) -> Params:
        params = self.family.start(self.make_rows(rng, 50), None, 3)
        return self._moved(params, rng, 0.5)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return 1000.0 + rng.normal(size=(n, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(n, 5))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return self._moved(params, rng, scale)

    def _moved(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return params.replace(
            means=params.means + scale * rng.normal(size=params.means.shape),
            loadings=params.loadings + scale * rng.normal(size=params.loadings.shape),
            noise=params.noise * np.exp(scale * rng.normal(size=params.noise.shape)),
        )

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return dense(self.family, params, x)

    def test_the_maximum_beats_perturbations(self) -> None:
        """What rows and factors together are expected to have, with mean and covariance of the factors free."""
        rng = np.random.default_rng(self.seed)
        old = self.make_params(rng)
        x = self.make_rows(rng, self.n_rows)
        stats = self.family.stats(old, x, rng.dirichlet(np.ones(3), size=len(x)))
        best = self.family.maximize(stats, old)
        known = central(stats)
        slopes = best.loadings @ inverse_roots(known.spread)
        own = stats.factors / stats.weight[:, None]
        expanded = {"slopes": slopes, "at": best.means - np.einsum("kdq,kq->kd", slopes, own), "noise": best.noise}
        expanded |= {"spread": known.spread, "mean": own}
        highest = self._expected(stats, old, expanded)
        for trial in range(60):
            scale = 10.0 ** -(trial % 6)
            other = {name: value + scale * rng.normal(size=value.shape) for name, value in expanded.items()}
            other["noise"] = best.noise * np.exp(scale * rng.normal(size=best.noise.shape))
            turn = np.eye(self.family.n_factors) + scale * rng.normal(size=known.spread.shape)
            other["spread"] = turn @ known.spread @ np.swapaxes(turn, 1, 2)
            found = self._expected(stats, old, other)
            require(not found > highest + 1e-9 * abs(highest), f"{found!r} exceeds {highest!r}")

    def _expected(self, stats: Stats, old: Params, own: dict[str, Array]) -> float:
        """By its definition, up to a constant."""
        n = stats.weight
        noise = np.broadcast_to(np.reshape(own["noise"], (len(n), -1)), stats.x.shape)
        b, a = own["slopes"], own["at"]
        left = stats.squares - 2 * a * stats.x - 2 * np.einsum("kdq,kdq->kd", b, stats.crossed)
        left += 2 * a * np.einsum("kdq,kq->kd", b, stats.factors) + n[:, None] * a**2
        left += np.einsum("kdq,kqr,kdr->kd", b, stats.products, b)
        left += n[:, None] * self.family.reg_covar / old.scale**2
        m, f = own["mean"], stats.factors
        about = stats.products - m[:, :, None] * f[:, None] - f[:, :, None] * m[:, None]
        about = about + n[:, None, None] * m[:, :, None] * m[:, None]
        trace = np.einsum("kij,kji->k", np.linalg.inv(own["spread"]), about)
        of_factors = -0.5 * (n * np.linalg.slogdet(own["spread"])[1] + trace)
        return float((of_factors - 0.5 * (n[:, None] * np.log(noise) + left / noise).sum(axis=1)).sum())


def dense(family: FactorGaussian, params: Params, x: Array) -> Array:
    """SciPy's log-densities (n, K), of what was observed of each row."""
    parts = list(zip(family.means(params), family.covariances(params), strict=True))
    out = np.zeros((len(x), len(parts)))
    for i, row in enumerate(x):
        seen = ~np.isnan(row)
        for k, (mean, covariance) in enumerate(parts) if seen.any() else ():
            own = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
            out[i, k] = own.logpdf(row[seen])
    return out


@pytest.mark.parametrize(("q", "noise", "reg_covar"), CASES)
class TestFactorGaussian(Laws):
    """Some factors, as many as matter, more, and one noise for all."""

    @pytest.fixture(autouse=True)
    def _choose(self, q: int, noise: str, reg_covar: float) -> None:
        self.family = FactorGaussian(q, noise, reg_covar)


class TestMixtureOfFactors(ModelSuite):
    """Rows of three groups."""

    shared = frozenset({"components.center", "components.scale"})

    def make_model(self) -> Mixture:
        return Mixture(FactorGaussian(1, reg_covar=1e-6), 3, STARTS["k-means++"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        means = np.array([[-8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [8.0, 0.0, 3.0]])[rng.integers(3, size=n)]
        return Chunk(means + rng.normal(size=(n, 1)) * [1.0, 2.0, 0.5] + rng.normal(size=(n, 3)))
