"""The E-step of an exponential family as two matrix products.

With features T(x) (F, b) and natural parameters η (K, F), the log-densities of a block are η·T and its statistics R·Tᵀ
(Wainwright & Jordan 2008, §3). Rows lie last, so that features are filled by contiguous vector operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FillMoments = Callable[[Array, Array], None]

FEATURE_BLOCK_BYTES = 8 * 2**20
PADDING = 8


def block_rows(n_statistics: int) -> int:
    """Rows a block: a power of two between 128 and 4096, so that the features of a block stay near the cache.

    A function of the shape only: the summation order, and so the bits, depend on it.
    """
    rows = FEATURE_BLOCK_BYTES // (8 * n_statistics)
    return 1 << int(np.clip(rows, 128, 4096)).bit_length() - 1


class ExponentialKernel:
    """A family with T(x) = [1, x̃, moments(x̃)] at fixed natural parameters, where x̃ = (x − center) / scale.

    Parameters
    ----------
    natural : (K, 1 + d + M) natural parameters
    center, scale : (d,) the anchor
    fill_moments : writes the M further features of x̃ᵀ (d, b) into (M, b)
    rounding : bound on the rounding error of one log-density, in nats
    """

    path = "float64 products"

    def __init__(self, natural: Array, center: Array, scale: Array, fill_moments: FillMoments, rounding: float) -> None:
        n_components, n_statistics = natural.shape
        self.rounding = rounding
        self._natural, self._center = natural, center
        self._unscale = (1.0 / scale)[:, None]  # exact: scales are powers of two
        self._fill_moments = fill_moments
        rows = block_rows(n_statistics)
        # Rows of a power of two bytes would fall on the same cache lines while a block is transposed into them.
        self._features = np.empty((n_statistics, rows + PADDING))[:, :rows]
        self._features[0] = 1.0
        self._block = self._features
        self._product = np.empty((n_components, n_statistics))
        self.sums = np.zeros((n_components, n_statistics))

    def load(self, x: Array) -> None:
        """Compute the features of the next block (b, d)."""
        d = x.shape[1]
        self._block = self._features[:, : x.shape[0]]
        xt = self._block[1 : 1 + d]
        np.subtract(x.T, self._center[:, None], out=xt)
        xt *= self._unscale
        self._fill_moments(xt, self._block[1 + d :])

    def log_prob(self, out: Array) -> None:
        """out (K, b) = η·T."""
        np.matmul(self._natural, self._block, out=out)

    def accumulate(self, resp: Array) -> None:
        """sums += R·Tᵀ."""
        np.matmul(resp, self._block.T, out=self._product)
        self.sums += self._product
