"""A mixture beside noise: rows that no component explains belong to a constant density over the box of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError
from streamem.core.faults import SUM_TOLERANCE, missing, shaped, within
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, Family, Kernel, PassTask, kernel_of
from streamem.core.stats import Stats
from streamem.core.validation import require_finite
from streamem.kernels.nested.noise_kernel import NoiseKernel
from streamem.models.imputing import completed_rows
from streamem.models.mixture import Mixture, Responsibilities
from streamem.models.weight_prior import WeightPrior

Array = NDArray[Any]

NOISE_LABEL = -1

STARTING_SHARE = 0.05
"""Of noise among the first weights; EM finds the rest."""


class MixtureWithNoise(Mixture):
    """p(x) = Σ_k w_k p_k(x) + w_0 / volume within the box of the data (Banfield & Raftery 1993, §4).

    Parameters
    ----------
    family, n_components, start, prior : as in `Mixture`; K counts the components beside noise, which has no prior
    box : (2, d) smallest and largest value of each column; None takes those of the sample from which `init` starts
    names : of the columns, for messages

    Notes
    -----
    Parameters: those of `Mixture`, whose weights (K,) sum to 1 − w_0; noise_weight (), w_0; box (2, d). Columns of
    counts or codes (`FullFamily.counted`) have a probability for each whole number in the box. Rows outside of the box,
    which later data may hold, have no noise density. EM with a fixed box is that of any mixture, so it is monotone.
    """

    def __init__(
        self,
        family: Family,
        n_components: int,
        start: Responsibilities,
        box: Array | None = None,
        names: Sequence[str] | None = None,
        prior: WeightPrior | None = None,
    ) -> None:
        super().__init__(family, n_components, start, prior)
        self._box, self._names = box, names

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The start of the components, and a small share of noise."""
        return self._beside_noise(super().init(sample, rng), sample)

    def anchor_only(self, sample: Chunk) -> Params | None:
        """The anchor, and a small share of noise."""
        params = super().anchor_only(sample)
        return None if params is None else self._beside_noise(params, sample)

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Weights in proportion to the responsibilities, noise included; the family maximizes the rest."""
        counts = stats.responsibilities
        if self.prior is not None:
            own = self.prior.added(counts[:-1], float(counts.sum()), previous.weights)
            counts = np.append(own, counts[-1])
        shares = counts / counts.sum()
        return Params(
            weights=shares[:-1],
            noise_weight=shares[-1],
            box=previous.box,
            components=self.family.maximize(self._components(stats), previous.components),
        )

    def shares(self, params: Params) -> Array:
        """How much of what is no noise each component takes: (K,)."""
        weights = np.asarray(params.weights)
        return np.asarray(weights / weights.sum())

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """The family's arithmetic, and noise: no pair is left out."""
        return f"{self.family.arithmetic(params.components, dtype)}, and noise"

    def workspace_bytes(self, n_features: int) -> int:
        """The family's for one more component, and where the rows of a block lie in the box."""
        return self.family.workspace_bytes(self.n_components + 1, n_features) + 4096 * (4 * n_features + 16)

    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics of a mixture, and of the responsibility of noise."""
        return 8 + super().statistics_bytes(n_features)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Weights that are none, a box that is none, and what the family finds wrong."""
        if found := missing(params, ("weights", "components", "noise_weight", "box")):
            return found
        found = within("weights", params.weights, (n_components,), 0.0, 1.0 + SUM_TOLERANCE)
        found += within("noise_weight", params.noise_weight, (), 0.0, 1.0 + SUM_TOLERANCE)
        found += shaped("box", params.box, (2, n_features))
        if found:
            return found
        if abs(total := float(params.weights.sum() + params.noise_weight) - 1.0) > SUM_TOLERANCE:
            found.append(f"weights and noise_weight sum to {1.0 + total:.9g}, where 1 is needed")
        if (params.box[1] < params.box[0]).any():
            found.append("box ends before it begins")
        return found + self._family_faults(params, n_components, n_features)

    # --- what a fitted mixture says of rows --------------------------------------------------------------------------

    def labels(self, params: Params, chunk: Chunk) -> Array:
        """The most probable component of every row, −1 for noise: (n,) int64."""
        found = super().labels(params, chunk)
        return np.where(found == self.n_components, NOISE_LABEL, found)

    def responsibilities(self, params: Params, chunk: Chunk) -> Array:
        """Posterior probability of every component: (n, K); what a row lacks to 1 is that of noise."""
        return np.ascontiguousarray(super().responsibilities(params, chunk)[:, : self.n_components])

    def imputed(
        self, params: Params, chunk: Chunk, *, n_draws: int = 0, rng: np.random.RandomState | None = None
    ) -> Array:
        """Rows with values in place of NaN; of the share of noise the middle of the box, or draws from it.

        Codes have no mean, so that noise, which prefers none, leaves them as the components say.
        """
        joint = super().responsibilities(params, chunk)
        own, noise = joint[:, :-1], joint[:, -1:]
        total = own.sum(axis=1, keepdims=True)
        resp = np.where(total > 0, own / np.where(total > 0, total, 1.0), 1.0 / self.n_components)
        found = completed_rows(self.family, params.components, chunk.x, resp, n_draws, rng)
        absent, (low, high) = np.isnan(chunk.x), np.asarray(params.box)
        averaged = absent & ~np.asarray(self.family.coded(chunk.x.shape[1]), dtype=np.bool_)
        for first in range(0, found.shape[1], chunk.x.shape[1]):
            place = found[:, first : first + chunk.x.shape[1]]
            if n_draws:
                assert rng is not None
                drawn = self.noise(params, len(place), rng)
                place[...] = np.where(absent & (rng.uniform(size=noise.shape) < noise), drawn, place)
            else:
                place[...] = np.where(averaged, (1.0 - noise) * place + noise * (low + high) / 2, place)
        return found

    def noise(self, params: Params, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) of noise."""
        low, high = np.asarray(params.box)
        counted = np.asarray(self.family.counted(len(low)), dtype=np.bool_)
        drawn = low + (high - low + counted) * rng.uniform(size=(count, len(low)))
        return np.asarray(np.where(counted, np.floor(drawn), drawn))

    # --- inner -------------------------------------------------------------------------------------------------------

    @property
    def n_terms(self) -> int:
        """Terms of the sum: the components, and noise."""
        return self.n_components + 1

    def _weights(self, params: Params) -> Array:
        joined = lambda: np.append(params.weights, params.noise_weight)  # noqa: E731 - made once for these parameters
        return cached_by_identity(params.weights, params.noise_weight, "with noise", joined)

    def _kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        kernel = kernel_of(self.family, params.components, self.n_components, dtype)
        low, high = np.asarray(params.box)
        return NoiseKernel(kernel, low, high, self._log_lengths(params.box))

    def _screen(self, params: Params, dtype: DTypeLike) -> None:
        """Give no screen: noise matters to every row."""
        return

    def _beside_noise(self, params: Params, sample: Chunk) -> Params:
        box = box_of(sample.x, sample.weight) if self._box is None else self._box
        self._log_lengths(box)
        weights, share = np.asarray(params.weights), np.float64(STARTING_SHARE)
        return params.replace(weights=weights * (1.0 - share), noise_weight=share, box=box)

    def _log_lengths(self, box: Array) -> Array:
        """Log of the sides of the box; of a column of counts the number of values.

        Raises
        ------
        DegenerateDataError : a column of one value, or of none
        """
        low, high = np.asarray(box)
        lengths = high - low + np.asarray(self.family.counted(box.shape[1]), dtype=np.float64)
        if (bad := np.flatnonzero(~((lengths > 0) & np.isfinite(lengths)))).size:
            column = int(bad[0])
            name = f" {str(self._names[column])!r}" if self._names is not None else ""
            raise DegenerateDataError(
                f"noise has no density in column {column}{name}, whose values go from {low[column]:.6g} to "
                f"{high[column]:.6g}: leave the column out, or fit without noise"
            )
        return np.asarray(np.log(lengths))


@dataclass(frozen=True, eq=False)
class BoxTask(PassTask[Array]):
    """The task that finds the smallest and the largest values of a chunk."""

    names: tuple[str, ...] | None
    missing: Missing

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """(2, d)."""
        require_finite(chunk, ref, self.names, self.missing)
        return box_of(chunk.x, chunk.weight)


def box_of(x: Array, weight: Array | None) -> Array:
    """(2, d) smallest and largest value of each column of rows that count; ∞ and −∞ of a column without values."""
    counted = x if weight is None else x[weight > 0]
    low = np.fmin.reduce(counted, axis=0, initial=np.inf)
    return np.stack([low, np.fmax.reduce(counted, axis=0, initial=-np.inf)]).astype(np.float64)


def joined_boxes(boxes: Sequence[Array]) -> Array:
    """The box (2, d) around all."""
    stacked = np.stack(list(boxes))
    return np.stack([stacked[:, 0].min(axis=0), stacked[:, 1].max(axis=0)])
