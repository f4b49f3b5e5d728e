"""Tied Gaussians: the compiled pass over a chunk gives what scipy's densities give, with weights or without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from streamem.core.chunk import Chunk
from streamem.families.gaussian.distribution import Gaussian
from streamem.models.mixture import Mixture


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("apart", [1, 30])
@pytest.mark.parametrize(("k", "d", "n"), [(1, 1, 7), (3, 2, 5003), (4, 7, 3001), (5, 33, 1500)])
def test_statistics_of_a_chunk(k: int, d: int, n: int, apart: float, weighted: bool, dtype: Any) -> None:
    rng = np.random.default_rng(k + d)
    means, factor = apart * rng.normal(size=(k, d)), np.eye(d) + 0.3 * np.tril(rng.normal(size=(d, d)))
    x = (means[rng.integers(k, size=n)] + rng.normal(size=(n, d)) @ factor.T).astype(dtype)
    weight = rng.uniform(0.0, 2.0, n) if weighted else None
    family = Gaussian("tied", reg_covar=0.0)
    model = Mixture(family, k, lambda x, w, k, r: r.dirichlet(np.ones(k), len(x)))
    params = model.init(Chunk(x, weight), np.random.RandomState(0))
    kernel = family.kernel(params.components, dtype)
    assert kernel.path.endswith(" products")

    center, scale = params.components.center, params.components.scale
    precision = params.components.precisions_cholesky @ params.components.precisions_cholesky.T
    anchored = (x.astype(np.float64) - center) / scale
    joint = np.column_stack(
        [multivariate_normal.logpdf(anchored, m, np.linalg.inv(precision)) for m in params.components.means]
    ).reshape(n, k)
    joint += np.log(params.weights) - np.log(scale).sum()
    density = logsumexp(joint, axis=1)
    w = np.ones(n) if weight is None else weight
    resp = np.exp(joint - density[:, None]) * w[:, None]

    # Errors of densities are those of responsibilities, once in the kernel and once in scipy's way by an inverse.
    tolerance = n * (1e-12 + 4 * kernel.rounding) * max(1.0, float((anchored**2).max()))
    for _ in range(2):  # the second time the kernel begins anew
        stats = model.e_step(params, Chunk(x, weight))
        assert float(stats.log_likelihood) == pytest.approx(w @ density, abs=kernel.rounding * w.sum(), rel=1e-13)
        for found, expected in (
            (stats.responsibilities, resp.sum(axis=0)),
            (stats.components.weight, resp.sum(axis=0)),
            (stats.components.first, resp.T @ anchored),
            (stats.components.second, ((anchored * w[:, None]).T @ anchored)[np.triu_indices(d)]),
        ):
            np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
