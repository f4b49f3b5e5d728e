"""Log-densities of a few rows straight from the factors of the precisions.

Kernels pack coefficients first, (K, F) numbers, which pays for many rows only: with 256 components in 128 features that
takes longer, and more memory, than thousands of rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.families.gaussian.arithmetic import by_variances, log_constants
from streamem.families.gaussian.covariance import Covariance

Array = NDArray[np.float64]

FEW_ROWS = 4
"""So many rows or fewer."""

LEAST_ENTRIES = 2**20
"""Of all factors, from which on packing is felt: below, a kernel is packed in a millisecond and serves all calls."""


def few_log_prob(structure: Covariance, params: Params, x: Array) -> Array | None:
    """Log-densities (n, K) of rows x (n, d) by differences, in nats: −½·|Uᵀ(x̃ − m)|² and a constant.

    None where rows are many, factors small or diagonal or common to all components, or values not finite: a kernel's
    task. Which of both runs is a function of shapes, and of the rows alone.
    """
    k, d = params.means.shape
    if structure.shared or by_variances(structure, d) or k * d**2 < LEAST_ENTRIES:
        return None
    if not 0 < len(x) <= FEW_ROWS or not np.isfinite(x).all():
        return None
    rows = (x.astype(np.float64) - params.center) / params.scale
    whitened = np.matmul(rows - params.means[:, None, :], params.precisions_cholesky)
    squares = np.einsum("kbd,kbd->bk", whitened, whitened)
    return np.asarray(log_constants(structure, params) - 0.5 * squares)
