"""What families with a `LinearKernel` share: everything but their parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.ports import FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.empty_components import told_empty
from streamem.kernels.features.linear_kernel import linear_bytes
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

STARTING_SHARE = 0.01
"""How much of the overall mean the first parameters of a component hold.

A start is made from a sample: values that are not in it must not become impossible, and a rate of 0 would never grow.
"""


class LinearFamily(FullFamily):
    """A family whose statistics are the weight and the sum of x."""

    name: str
    """Of the parameter, (K, d)."""

    @abstractmethod
    def measure(self, x: Array) -> Array:
        """The base measure h (n,) of rows, or one value for all; refuses what cannot be emitted."""

    @abstractmethod
    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """The family at these parameters, in float64 whatever the rows."""

    @abstractmethod
    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """The parameter, and which components were empty."""

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-probabilities (n, K) of rows x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params[self.name]), len(x)))
        step = self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.log_prob(out[:, first : first + step])
        return out.T

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,) and x (K, d), sums weighted by resp (n, K)."""
        self.measure(x)
        return Stats(weight=resp.sum(axis=0), x=resp.T @ x.astype(np.float64, copy=False))

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return block_rows(*params[self.name].shape)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        return linear_bytes(n_components, n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights and sums in float64."""
        return 8 * n_components * (1 + n_features)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components that explained nothing in the last M-step, and kept their parameters."""
        return told_empty(params)

    def free_parameters(self, params: Params) -> int:
        """Number of free parameters: one for every component and feature."""
        return int(params[self.name].size)


def first_means(means: Array, overall: Array) -> Array:
    """Means (K, d) to start from, drawn a little towards the overall mean (d,)."""
    return (1 - STARTING_SHARE) * means + STARTING_SHARE * overall
