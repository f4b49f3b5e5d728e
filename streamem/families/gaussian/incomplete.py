"""Elliptical components on any rows: complete ones go through the ordinary kernel, the others by conditioning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.families.gaussian.apart import choose_kernel, components_apart
from streamem.families.gaussian.arithmetic import about_means, by_variances
from streamem.families.gaussian.conditional import ConditionalKernel, conditional_bytes
from streamem.families.gaussian.corrected import CorrectedKernel, corrected_bytes
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.pattern import Pattern, pattern_bytes
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

PORTION_ROWS, PORTION_BYTES = 16384, 2**22
"""Rows that are sorted out at the same time, and their bytes in float64; a thousand rows at least."""

LEAST_ROWS = 256
"""Of a portion, that lack the same features: from then on a kernel of the others pays."""

MOST_PATTERNS = 8
"""Kernels of patterns at the same time."""


class IncompleteKernel(Kernel):
    """Elliptical components on rows of which some hold NaN.

    Of many rows, those that lack the same features as many others go through the kernel of the features that they have;
    the rest one by one. Which do is a function of the rows and the parameters.

    Parameters
    ----------
    dtype : of the rows
    complete, lacking : kernels of complete rows, and of rows one by one that lack values
    pattern_of : from the observed features (o,) and the dtype of the rows, the kernel of these features
    """

    def __init__(
        self,
        structure: Covariance,
        params: Params,
        dtype: DTypeLike,
        complete: Kernel,
        lacking: Kernel,
        pattern_of: Callable[[Array, np.dtype[Any]], Pattern],
    ) -> None:
        self._complete, self._lacking, self._make_pattern = complete, lacking, pattern_of
        for kernel in (self._complete, self._lacking):
            kernel.n_components, kernel.block_rows = len(params.means), block_rows(*params.means.shape)
        self.dtype, self.float32_products = self._complete.dtype, self._complete.float32_products
        self.rounding = max(self._complete.rounding, self._lacking.rounding)
        self.path = in_words(self._complete.path)
        self._in_patterns = not components_apart(structure, params, dtype).any()
        self._portion_rows = portion_rows(params.means.shape[1])
        self._pattern_dtype = np.dtype(np.float32 if self.float32_products else np.float64)
        self._patterns: dict[bytes, Pattern] = {}
        self._parts: list[tuple[Kernel, Array]] = []
        self._rows = 0

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._rows, lacking = len(x), np.isnan(x).any(axis=1)
        parts = (self._complete, np.flatnonzero(~lacking)), (self._lacking, np.flatnonzero(lacking))
        self._parts = [(kernel, rows) for kernel, rows in parts if len(rows)]
        for kernel, rows in self._parts:
            kernel.load(x[rows])

    def log_prob(self, out: Array) -> None:
        """out (K, b): log-densities of what was observed, 0 where nothing was."""
        for kernel, rows in self._parts:
            part = np.empty((len(out), len(rows)), dtype=kernel.dtype)
            kernel.log_prob(part)
            out[:, rows] = part

    def accumulate(self, resp: Array) -> None:
        """Add expected statistics of the loaded rows, for resp (K, b)."""
        for kernel, rows in self._parts:
            kernel.accumulate(np.ascontiguousarray(resp[:, rows]))

    def restart(self) -> None:
        """Begin anew."""
        self._complete.restart()
        self._lacking.restart()
        for pattern in self._patterns.values():
            pattern.restart()

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), and their statistics; rows without any value change nothing."""
        total = MixtureSums(0.0, 0.0, np.zeros(len(log_weights)))
        for portion, parts in self._sorted_out(x):
            for kernel, rows, own in parts:
                found = kernel.mix(own, None if weight is None else weight[portion][rows], log_weights)
                total = MixtureSums(
                    total.log_likelihood + found.log_likelihood,
                    total.pairs + found.pairs,
                    total.responsibilities + found.responsibilities,
                )
        return total

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        for portion, parts in self._sorted_out(x):
            b[portion, : self.n_components], b[portion, self.n_components :], peaks[portion] = 1.0, 0.0, 0.0
            for kernel, rows, own in parts:
                values, largest = np.empty((len(rows), b.shape[1])), np.empty(len(rows))
                kernel.densities(own, values, largest)
                b[portion][rows], peaks[portion][rows] = values, largest

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        for portion, parts in self._sorted_out(x):
            for kernel, rows, own in parts:
                kernel.accumulate_rows(own, weights[portion][rows], False)

    def stats(self) -> Stats:
        """Statistics of all rows, as the kernel of complete rows has them."""
        used = (pattern for _, pattern in sorted(self._patterns.items()) if pattern.used)
        return sum((pattern.stats() for pattern in used), start=self._complete.stats() + self._lacking.stats())

    # --- inner -------------------------------------------------------------------------------------------------------

    def _sorted_out(self, x: Array) -> Iterator[tuple[slice, list[tuple[Kernel, Array, Array]]]]:
        """Portions of the rows, and for each which kernel takes which of them: kernel, indices, and these rows."""
        for first in range(0, len(x), self._portion_rows):
            portion = slice(first, min(first + self._portion_rows, len(x)))
            yield portion, self._parts_of(x[portion])

    def _parts_of(self, x: Array) -> list[tuple[Kernel, Array, Array]]:
        """Kernels, and which rows x of a portion each takes; rows without any value are left out."""
        lacking = np.isnan(x)
        some = lacking.any(axis=1)
        if not some.any():
            return [(self._complete, np.arange(len(x)), x)]
        rows = np.flatnonzero(~some)
        parts: list[tuple[Kernel, Array, Array]] = [(self._complete, rows, x[rows])] if len(rows) else []
        left = np.asarray(some & ~lacking.all(axis=1))
        for rows in alike(lacking, np.flatnonzero(left)) if self._in_patterns else ():
            pattern = self._pattern_of(lacking[rows[0]])
            if pattern is not None:
                pattern.used, left[rows] = True, False
                own = x[np.ix_(rows, pattern.observed)].astype(self._pattern_dtype, copy=False)
                parts.append((pattern.kernel, rows, own))
        rows = np.flatnonzero(left)
        return [*parts, (self._lacking, rows, x[rows])] if len(rows) else parts

    def _pattern_of(self, missing: Array) -> Pattern | None:
        """The pattern of rows that lack these features (d,); None once a chunk has had as many others as are held."""
        name = missing.tobytes()
        known = self._patterns.get(name)
        if known is None or not known.used:
            used = [name for name, pattern in self._patterns.items() if pattern.used]
            if len(used) >= MOST_PATTERNS:
                return None
            if known is None and len(self._patterns) >= MOST_PATTERNS:
                self._patterns.pop(next(name for name in self._patterns if name not in used))
        if known is None:
            observed = np.flatnonzero(~missing)
            known = self._patterns[name] = self._make_pattern(observed, self._pattern_dtype)
        return known


def incomplete_gaussians(structure: Covariance, params: Params, dtype: DTypeLike) -> IncompleteKernel:
    """Gaussians on rows of `dtype`, of which some hold NaN."""
    products = by_products(structure, params) and not by_variances(structure, len(params.scale))
    return IncompleteKernel(
        structure,
        params,
        dtype,
        choose_kernel(structure, params, dtype),
        CorrectedKernel(structure, params, dtype) if products else ConditionalKernel(structure, params),
        lambda observed, dtype: Pattern(structure, params, observed, lambda own: choose_kernel(structure, own, dtype)),
    )


def portion_rows(d: int) -> int:
    """Rows of a portion."""
    return min(PORTION_ROWS, max(1024, PORTION_BYTES // (8 * d)))


def by_products(structure: Covariance, params: Params) -> bool:
    """Whether products lose no digits that matter of any component."""
    return not about_means(structure, params).any()


def alike(lacking: Array, rows: Array) -> list[Array]:
    """Indices among `rows` of lacking (n, d) bool, pattern by pattern: of rows that lack the same as many others."""
    packed = np.packbits(lacking[rows], axis=1)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    keys = words.view(np.uint64)
    order = np.argsort(keys[:, 0], kind="stable") if keys.shape[1] == 1 else np.lexsort(keys.T)
    turned = keys[order]
    cuts = np.concatenate([[0], 1 + np.flatnonzero((turned[1:] != turned[:-1]).any(axis=1)), [len(order)]])
    common = np.flatnonzero(np.diff(cuts) >= LEAST_ROWS)
    return [rows[order[cuts[i] : cuts[i + 1]]] for i in common]


def in_words(complete: str) -> str:
    """The arithmetic, given that of complete rows."""
    return f"{complete}, conditional expectations of missing values"


def incomplete_bytes(structure: Covariance, dense: int, k: int, d: int) -> int:
    """What the kernel holds besides that of complete rows, which takes `dense`; a portion of rows included."""
    patterns = MOST_PATTERNS * pattern_bytes(dense, k, d)
    one_by_one = max(conditional_bytes(structure, k, d), dense + corrected_bytes(structure, k, d))
    return patterns + one_by_one + 8 * portion_rows(d) * (3 * d + 2 * k + 4)
