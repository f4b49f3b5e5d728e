"""Gaussians of some features alone: marginals, and draws of the whole row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.families.gaussian.arithmetic import by_variances
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import inverses_of_upper

Array = NDArray[Any]


def marginal(structure: Covariance, params: Params, observed: Array) -> Params:
    """The distribution of the features `observed` (o,) in the same frame.

    With V·Vᵀ = Σ and V_oᵀ = Q·R, Σ_oo = Rᵀ·R and R⁻¹ is the factor of its inverse: no matrix is squared, so it errs by
    eps·√condition.
    """
    return params.replace(
        means=np.ascontiguousarray(params.means[:, observed]),
        center=params.center[observed],
        scale=params.scale[observed],
        **_covariances(structure, params, observed),
    )


def by_pattern(structure: Covariance, params: Params, x: Array, judge: Callable[[Params, Array], Array]) -> Array:
    """What `judge` says, (n, K), of rows x (n, d): of each the features that were observed, and their marginal."""
    lacking = np.isnan(x)
    if not lacking.any():
        return judge(params, x)
    out = np.zeros((len(x), len(params.means)))
    patterns, members = np.unique(lacking, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        rows, observed = np.flatnonzero(members.ravel() == i), np.flatnonzero(~pattern)
        if len(observed):
            out[rows] = judge(marginal(structure, params, observed), x[np.ix_(rows, observed)])
    return out


def _covariances(structure: Covariance, params: Params, observed: Array) -> dict[str, Array]:
    d, covariances, factors = params.means.shape[1], params.covariances, params.precisions_cholesky
    if by_variances(structure, d) and covariances.ndim == 1:
        return {}
    if by_variances(structure, d):
        return {"covariances": covariances[:, observed], "precisions_cholesky": factors[:, observed]}
    roots = inverses_of_upper(np.reshape(factors, (-1, d, d)))[:, :, observed]  # V_oᵀ
    triangles = np.asarray(np.linalg.qr(roots, mode="r"))
    signs = np.where(np.einsum("kii->ki", triangles) < 0, -1.0, 1.0)
    inverses = inverses_of_upper(triangles * signs[:, :, None])
    own = covariances[..., observed[:, None], observed]
    return {"covariances": np.ascontiguousarray(own), "precisions_cholesky": inverses.reshape(own.shape)}


def drawn(structure: Covariance, params: Params, component: Array, noise: Array) -> Array:
    """Rows (n, d) in units of the data of each row's component (n,), made of standard normal noise (n, d)."""
    k, d = params.means.shape
    if by_variances(structure, d):
        deviations = np.sqrt(structure.variances(params.covariances, k, d))
        rows = params.means[component] + noise * deviations[component]
    else:
        rows = np.empty_like(noise)
        uppers = inverses_of_upper(np.reshape(params.precisions_cholesky, (-1, d, d)))
        for own in np.unique(component):
            chosen = component == own
            rows[chosen] = params.means[own] + noise[chosen] @ uppers[min(own, len(uppers) - 1)]
    return np.asarray(params.center + params.scale * rows)
