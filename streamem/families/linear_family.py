"""What families with a `LinearKernel` share: everything but their parameters."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.free_form import FreeForm, plain_form
from streamem.core.ports import FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.empty_components import EMPTY_FRACTION, empty_components, told_empty
from streamem.families.independent_columns import column_weights, filled_by_draws, filled_by_means, without_holes
from streamem.kernels.features.linear_kernel import BoundaryKernel, linear_bytes, linear_kernel
from streamem.kernels.features.transform_kernel import TransformKernel, transform_bytes
from streamem.kernels.features.transforms import features_of_columns
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

STARTING_SHARE = 0.01
"""How much of the overall mean the first parameters of a component hold.

A start is made from a sample: values that are not in it must not become impossible, and a rate of 0 would never grow.
"""


class Coefficients(NamedTuple):
    """log p_k(x) = Σ_j constants_kj + slopes_kj·x_j.

    Attributes
    ----------
    constants, slopes : (K, d), finite
    terms : (K,) size of the terms of a typical log-density, in nats, from which its rounding follows
    barred, barred_slopes : (K, d), which sum to 1 or more where component k cannot emit the value, else to 0
    """

    constants: Array
    slopes: Array
    terms: Array
    barred: Array
    barred_slopes: Array


class Means(NamedTuple):
    """Weighted means of x.

    Attributes
    ----------
    means : (K, d) of each component; anything where it has seen nothing
    empty : (K,) components without rows
    absent : (K, d) components without values of a column
    overall : (d,) of all rows, a row of ½ among them
    """

    means: Array
    empty: Array
    absent: Array
    overall: Array


class LinearFamily(FullFamily):
    """A family of independent columns whose statistics are the weight and the sum of x.

    An instance from `integrating` takes NaN for values that were not observed, each of which drops its factor of the
    density; its statistics hold the weight of what was observed besides.
    """

    name: str
    """Of the parameter, (K, d)."""

    integrates = False
    """Whether NaN is a value that was not observed; `integrating` sets it."""

    @abstractmethod
    def measure(self, x: Array) -> Array:
        """The base measure h (n,) of rows, or one value for all; refuses what cannot be emitted."""

    @abstractmethod
    def coefficients(self, params: Params) -> Coefficients:
        """The log-density as a linear function of every column."""

    @abstractmethod
    def mean(self, params: Params) -> Array:
        """Expected value (K, d) of every component and column."""

    @abstractmethod
    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """The parameter, and which components were empty."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The one parameter."""
        return (self.name,)

    # --- missing values ----------------------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN: of an instance from `integrating`."""
        return self.integrates

    def integrating(self) -> Self:
        """This family for rows that may hold NaN, each of which drops its factor of the density."""
        other = copy.copy(self)
        other.integrates = True
        return other

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Rows x (n, d) with the components' means, mixed by resp (n, K), instead of NaN."""
        return filled_by_means(x, self.mean(params), resp)

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) with values drawn from each row's component (n,) instead of NaN."""
        return filled_by_draws(self, params, x, component, rng)

    # --- the Family port ---------------------------------------------------------------------------------------------

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Products with the coefficients, in float64 whatever the rows."""
        own = self.coefficients(params)
        if self.integrates:
            return self._kernel_of_holes(own)
        natural = np.column_stack([own.constants.sum(axis=1), own.slopes])
        barred = np.column_stack([own.barred.sum(axis=1), own.barred_slopes])
        return linear_kernel(natural, own.terms, barred, self.measure)

    def _kernel_of_holes(self, own: Coefficients) -> Kernel:
        k, d = own.slopes.shape
        nothing = np.zeros((k, 1))
        natural, barred = (
            np.hstack([nothing, np.stack(pair, axis=-1).reshape(k, 2 * d)])
            for pair in ((own.constants, own.slopes), (own.barred, own.barred_slopes))
        )
        table = features_of_columns(("x",), d, True)
        kernel = TransformKernel(natural, table, d, own.terms, self.measure, _stats_of_holes)
        return BoundaryKernel(kernel, barred) if barred.any() else kernel

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-probabilities (n, K) of rows x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params[self.name]), len(x)))
        step = self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.log_prob(out[:, first : first + step])
        return out.T

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,) and x (K, d), sums weighted by resp (n, K); of an integrating family, also observed (K, d)."""
        self.measure(x)
        if not self.integrates:
            return Stats(weight=resp.sum(axis=0), x=resp.T @ x.astype(np.float64, copy=False))
        seen = (~np.isnan(x)).astype(np.float64)
        sums = resp.T @ np.column_stack([seen.any(axis=1), seen, without_holes(x)]).astype(np.float64)
        d = x.shape[1]
        return Stats(weight=sums[:, 0], observed=sums[:, 1 : 1 + d], x=sums[:, 1 + d :])

    def means(self, stats: Stats) -> Means:
        """Weighted means of x, and what of them means something."""
        empty, weights = empty_components(stats.weight), column_weights(stats, stats.x)
        total = weights.sum(axis=0)
        absent = empty[:, None] | ~(weights > EMPTY_FRACTION * total)
        overall = (stats.x.sum(axis=0) + 0.5) / (total + 1.0)
        return Means(stats.x / np.where(absent, 1.0, weights), empty, absent, overall)

    def counted(self, n_features: int) -> Array:
        """All columns."""
        return np.ones(n_features, dtype=np.bool_)

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        k, d = params[self.name].shape
        return block_rows(k, 2 * d if self.integrates else d)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        if self.integrates:
            return transform_bytes(n_components, n_features, 2 * n_features)
        return linear_bytes(n_components, n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights and sums in float64."""
        return 8 * n_components * (1 + (2 if self.integrates else 1) * n_features)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components that explained nothing in the last M-step, and kept their parameters."""
        return told_empty(params)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """The parameter, every number by itself."""
        return plain_form(params, n_components)

    def free_parameters(self, params: Params) -> int:
        """Number of free parameters: one for every component and feature."""
        return int(params[self.name].size)


def first_means(means: Array, overall: Array) -> Array:
    """Means (K, d) to start from, drawn a little towards the overall mean (d,)."""
    return (1 - STARTING_SHARE) * means + STARTING_SHARE * overall


def _stats_of_holes(sums: Array) -> Stats:
    """Statistics of sums (K, 1 + 2d) of 1, and of observed and x of each column."""
    return Stats(weight=sums[:, 0], observed=sums[:, 1::2], x=sums[:, 2::2])
