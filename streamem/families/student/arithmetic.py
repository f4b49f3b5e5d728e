"""The kernel of Student-t components: squared distances as a Gaussian's kernels compute them, bent by a logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.ports import Kernel
from streamem.families.gaussian.apart import choose_kernel, workspace_bytes
from streamem.families.gaussian.arithmetic import GaussianKernel, TiedKernel, log_constants
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.rounding import SAFETY
from streamem.families.student.dofs import expected_log, normalizing
from streamem.kernels.features.heavy_tails import LIGHTEST, CommonDistances
from streamem.kernels.features.heavy_tails_kernel import HeavyTailsKernel, HeavyTailsOfProducts
from streamem.kernels.tiling import block_rows
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]


def student_constants(structure: Covariance, params: Params) -> Array:
    """Log-densities at the means (K,), in nats (Kotz & Nadarajah 2004, eq. 1.1)."""
    return np.asarray(normalizing(params.dofs, params.means.shape[1]) + log_constants(structure, params))


def student_kernel(structure: Covariance, params: Params, dtype: DTypeLike) -> Kernel:
    """The fastest kernel that is accurate at these parameters, for rows of `dtype`.

    A log-density changes by u/2 for a change of δ, and δ errs in proportion to 1 + δ/d. Over the rows of a component
    u and u·δ/d are 1 in the mean, so the bound is that of a Gaussian twice, and the arithmetic the same.
    """
    d = params.means.shape[1]
    inner = choose_kernel(structure, params, dtype, distances=True)
    rounding = 2.0 * inner.rounding + SAFETY * float(np.finfo(inner.dtype).eps) * largest_logarithm(params.dofs, d)
    own = params.dofs, student_constants(structure, params), expected_log(params.dofs, d), d, rounding
    if isinstance(inner, TiedKernel):
        return _TiedTails(inner, *own)
    return HeavyTailsOfProducts(inner, *own) if isinstance(inner, GaussianKernel) else HeavyTailsKernel(inner, *own)


def largest_logarithm(dofs: Array, d: int) -> float:
    """½(ν + d)·log(1 + δ/ν) where δ is d, in nats: the largest of degrees of freedom (K,)."""
    nu = np.minimum(dofs, LIGHTEST)
    return float((0.5 * (nu + d) * np.log1p(d / nu)).max())


def student_workspace_bytes(structure: Covariance, k: int, d: int) -> int:
    """Bytes of a Gaussian's kernel, and of what is kept of every row of a block and component."""
    rows = max(block_rows(k, d), 256)
    return workspace_bytes(structure, k, d) + 8 * (rows * (4 * k + 2 * d + 2) + 3 * d * d)


class _TiedTails(HeavyTailsOfProducts):
    """Components with one scale matrix: one product for the quadratic terms of all, and one for second moments."""

    _inner: TiedKernel

    def _inner_steps(self) -> CommonDistances:
        place, d = self._inner.workplace, self._d
        rows, dtype = place.scratch.shape[1], self.dtype
        whitened, weighted = thread_buffer("whitened and weighted", (2, d * rows), dtype)
        return CommonDistances(
            linear=self._inner.feature_sums(place.products),
            whitening=self._inner.whitening,
            whitened=whitened,
            weighted=weighted,
            quadratic=thread_buffer("quadratic", (rows,), dtype),
            product=thread_buffer("tied product", (d, d), dtype),
            moments=self._inner.moments,
        )
