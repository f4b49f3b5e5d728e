"""Student-t components on rows that hold NaN: densities of what was observed, and statistics given it.

Of d_o observed values with squared distance δ_o in their marginal, the density is that of a t in d_o features with the
same ν, and the precision has the mean u = (ν + d_o)/(ν + δ_o). Conditional means are those of a Gaussian; moments about
them have the weight r·u, and the conditional scale matrix, which a precision w divides, has r (Liu 1996, §2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.numerics import EPS
from streamem.core.ports import Kernel
from streamem.core.stats import Stats
from streamem.families.gaussian.conditional import ConditionalKernel
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.incomplete import IncompleteKernel
from streamem.families.gaussian.pattern import Pattern
from streamem.families.gaussian.rounding import SAFETY
from streamem.families.student.arithmetic import largest_logarithm, student_kernel
from streamem.families.student.dofs import expected_log, normalizing
from streamem.kernels.features.heavy_tails import LIGHTEST
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]


class ConditionalTails(Kernel):
    """Components t(m_k, Σ_k, ν_k) on rows that hold NaN, in float64, by differences from the means."""

    path, dtype = ConditionalKernel.path, np.dtype(np.float64)

    def __init__(self, structure: Covariance, params: Params) -> None:
        self._inner = ConditionalKernel(structure, params)
        self.n_components, d = params.means.shape
        self.block_rows = block_rows(self.n_components, d)
        self.rounding = 2.0 * self._inner.rounding + SAFETY * EPS * largest_logarithm(params.dofs, d)
        self._dofs = np.minimum(params.dofs, LIGHTEST)
        counts = range(1, d + 1)
        nothing = np.zeros(self.n_components)
        self._normalizing = np.array([nothing, *(normalizing(params.dofs, seen) for seen in counts)]).T
        self._expected_log = np.array([nothing, *(expected_log(params.dofs, seen) for seen in counts)]).T
        self._seen: Array = np.empty(0, dtype=np.int64)
        self._begin()

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._inner.load(x)
        self._seen, self._is_bent = (~np.isnan(x)).sum(axis=1), False

    def log_prob(self, out: Array) -> None:
        """out (K, b): log-densities of what was observed, 0 where nothing was."""
        constants, distances = np.empty((2, self.n_components, len(self._seen)))
        self._inner.distances(constants, distances)
        nu, seen = self._dofs[:, None], self._seen
        ratio = -2.0 * distances / nu
        logs = np.log1p(ratio)
        out[...] = self._normalizing[:, seen] + constants - 0.5 * (nu + seen) * logs
        self._precisions = (1.0 + seen / nu) / (1.0 + ratio)
        self._log_precisions = self._expected_log[:, seen] - logs
        self._is_bent = True

    def accumulate(self, resp: Array) -> None:
        """Add expected statistics of the loaded rows, for resp (K, b)."""
        if not self._is_bent:
            self.log_prob(np.empty((self.n_components, len(self._seen))))
        weights = np.where(self._seen > 0, resp, 0.0)
        self._sums += weights.sum(axis=1), (weights * self._log_precisions).sum(axis=1)
        self._inner.accumulate_scaled(weights * self._precisions, weights)

    def precisions_of(self, x: Array) -> Array:
        """Means u (K, n) of the precisions of rows x (n, d), and half of ν + d_o, (K, n)."""
        self.load(x)
        self.log_prob(np.empty((self.n_components, len(x))))
        return np.stack([self._precisions, 0.5 * (self._dofs[:, None] + self._seen)])

    def restart(self) -> None:
        """Begin anew."""
        self._inner.restart()
        self._begin()

    def stats(self) -> Stats:
        """weight (K,), log_precision (K,) and scaled, moments with r·u for r."""
        weight, log_precision = self._sums.copy()
        return Stats(weight=weight, log_precision=log_precision, scaled=self._inner.stats())

    def _begin(self) -> None:
        self._sums = np.zeros((2, self.n_components))
        self._precisions = self._log_precisions = np.empty((self.n_components, 0))
        self._is_bent = False


class StudentPattern(Pattern):
    """One set of observed features, of t distributions at fixed parameters; their marginals are such too."""

    def stats(self) -> Stats:
        """weight (K,), log_precision (K,) and scaled, moments of all features with r·u for r."""
        own = self.kernel.stats()
        return own.replace(scaled=self.completed(own.scaled, own.weight))


def incomplete_students(structure: Covariance, params: Params, dtype: DTypeLike) -> IncompleteKernel:
    """Student-t components on rows of `dtype`, of which some hold NaN."""
    return IncompleteKernel(
        structure,
        params,
        dtype,
        student_kernel(structure, params, dtype),
        ConditionalTails(structure, params),
        lambda observed, dtype: StudentPattern(
            structure, params, observed, lambda own: student_kernel(structure, own, dtype)
        ),
    )
