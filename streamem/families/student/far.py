"""Log-densities of rows so far away that squared distances overflow: a logarithm of them does not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.families.far_rows import Residuals

Array = NDArray[Any]

ALONE = 2.0**60
"""δ/ν from which on 1 + δ/ν is δ/ν."""


@np.errstate(over="ignore", under="ignore", divide="ignore")
def far_log_prob(residuals: Residuals, dofs: Array, constants: Array, d: int) -> Array:
    """Log-densities (n, K) in nats, of degrees of freedom and log-densities at the means, both (K,)."""
    exponents, nu = residuals.exponents, np.minimum(dofs, 2.0**60)
    out = np.empty((len(exponents), len(constants)))
    for k, constant in enumerate(constants):
        whitened = residuals.leading(k) + np.ldexp(residuals.own[k][:, None], -exponents)
        share = (whitened**2).sum(axis=0) / nu[k]
        ratio = np.ldexp(share, 2 * exponents)
        log = np.where(ratio < ALONE, np.log1p(ratio), np.log(share) + 2.0 * np.log(2.0) * exponents)
        out[:, k] = constant - 0.5 * (nu[k] + d) * log
    return out
