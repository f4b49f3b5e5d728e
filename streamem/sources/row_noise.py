"""Rows with the covariance of their noise, checked, as families of noisy rows read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, SchemaError
from streamem.core.ports import ChunkRef, Source
from streamem.sources.wrapped import WrappedRef

Array = NDArray[Any]

HIDDEN = -1.0
"""In place of an infinite variance: the value beside it was not observed."""

NOISE_NEEDED = (
    "variances are numbers >= 0, covariances symmetric and without negative eigenvalues; an infinite variance says "
    "that the value was not observed"
)

TOLERANCE = 1e-6
"""By which matrices may be asymmetric, or have eigenvalues below 0, relative to their largest variance."""


@dataclass(frozen=True, eq=False)
class NoisyRef(WrappedRef):
    """A chunk of values and noise."""

    features: int
    names: tuple[str, ...] | None
    width: int

    @property
    def nbytes(self) -> int:
        """What rows are made, and 8 bytes a weight."""
        return self.rows * (8 * self.width + 8)

    @property
    def load_nbytes(self) -> int:
        """The chunk, its noise looked at, and the rows that are made."""
        return 4 * self.base.load_nbytes + self.nbytes

    def load(self) -> Chunk:
        """Values, and their variances, or the upper triangles of their covariances.

        Raises
        ------
        DataError : noise that is negative, not a number, or no covariance, naming the row
        """
        chunk = self.base.load()
        d = self.features
        made = _variances if chunk.x.shape[1] == 2 * d else _covariances
        x = made(chunk.x[:, :d], chunk.x[:, d:], self.base, self.names)
        return replace(chunk, x=np.ascontiguousarray(x, dtype=chunk.x.dtype))


class NoisyRows(Source):
    """Values of d features, behind which the noise of each row lies: variances (d), or covariances (d·d).

    Infinite variances become `HIDDEN`, with a value of 0; a row of which nothing was observed becomes NaN.

    Raises
    ------
    SchemaError : neither as many columns of noise as features, nor d·d
    """

    def __init__(self, base: Source, features: int, names: tuple[str, ...] | None) -> None:
        beside = base.schema.n_features - features
        if beside not in (features, features**2):
            raise SchemaError(
                f"noise has {beside} numbers a row for {features} features; {features} variances, or {features}×"
                f"{features} covariances, are needed"
            )
        self._base, self._features, self._names = base, features, names
        self.kind = "variances" if beside == features else "covariances"
        width = 2 * features if beside == features else features + features * (features + 1) // 2
        self.schema = replace(base.schema, n_features=width, names=None)
        self.n_rows = base.n_rows

    def fingerprint(self) -> str:
        """The base's."""
        return f"{self._base.fingerprint()}+noise-{self.kind}"

    def chunks(self) -> Sequence[NoisyRef]:
        """The plan of the base."""
        width = self.schema.n_features
        return [NoisyRef(ref, self._features, self._names, width) for ref in self._base.chunks()]


def possible_noise(x: Array, noise: Array) -> Array:
    """Which rows (n,) have noise that can be: variances (n, d), or covariances (n, d·d), of values x (n, d)."""
    d, found = x.shape[1], np.ones(len(x), dtype=np.bool_)
    if noise.shape[1] == d:
        return np.asarray(((noise >= 0) | (np.isnan(noise) & np.isnan(x))).all(axis=1))
    if noise.shape[1] != d * d or _are_covariances(x, noise):
        return found
    return np.array([_are_covariances(x[i : i + 1], noise[i : i + 1]) for i in range(len(x))], dtype=np.bool_)


def _are_covariances(x: Array, noise: Array) -> bool:
    try:
        _covariances(x, noise, None, None)
    except DataError:
        return False
    return True


def _variances(x: Array, noise: Array, ref: ChunkRef, names: tuple[str, ...] | None) -> Array:
    lost = np.isnan(x)
    if (wrong := (noise < 0) | (np.isnan(noise) & ~lost)).any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise _refused(f"a variance of {noise[row, column]:.6g}", row, ref, column, names)
    hidden = np.isinf(noise)
    values = np.where(hidden, 0.0, x)
    own = np.where(hidden, HIDDEN, np.where(lost, 0.0, noise))
    return _said(values, own, hidden | lost)


def _covariances(x: Array, noise: Array, ref: ChunkRef | None, names: tuple[str, ...] | None) -> Array:
    d, lost = x.shape[1], np.isnan(x)
    matrices = noise.reshape(-1, d, d).astype(np.float64)
    diagonal = np.einsum("bii->bi", matrices).copy()
    hidden = np.isinf(diagonal) & (diagonal > 0)
    unseen = hidden | lost
    matrices = np.where(unseen[:, :, None] | unseen[:, None, :], 0.0, matrices)
    own = np.where(unseen, 0.0, diagonal)
    if not np.isfinite(matrices).all() or (own < 0).any():
        wrong = ~np.isfinite(matrices).all(axis=(1, 2)) | (own < 0).any(axis=1)
        row = int(np.argmax(wrong))
        raise _refused(f"a covariance with variances {diagonal[row].tolist()}", row, ref)
    size = TOLERANCE * own.max(axis=1, initial=0.0)
    skew = np.abs(matrices - np.swapaxes(matrices, 1, 2)).max(axis=(1, 2), initial=0.0)
    least = np.linalg.eigvalsh(matrices)[:, 0]
    if (wrong := (skew > size) | (least < -size)).any():
        row = int(np.argmax(wrong))
        kind = "is not symmetric" if skew[row] > size[row] else f"has an eigenvalue of {least[row]:.6g}"
        raise _refused(f"a covariance that {kind}", row, ref)
    matrices[:, np.arange(d), np.arange(d)] = np.where(hidden, HIDDEN, own)
    rows, columns = np.triu_indices(d)
    return _said(np.where(hidden, 0.0, x), matrices[:, rows, columns], unseen)


def _said(values: Array, noise: Array, unseen: Array) -> Array:
    """Values and noise side by side; NaN where nothing of a row was observed."""
    out = np.hstack([values, noise])
    out[unseen.all(axis=1)] = np.nan
    return out


def _refused(
    what: str, row: int, ref: ChunkRef | None, column: int | None = None, names: tuple[str, ...] | None = None
) -> DataError:
    where = "" if column is None else f", column {column}" + ("" if names is None else f" {names[column]!r}")
    return DataError(f"noise holds {what} in row {row if ref is None else ref.row(row)}{where}: {NOISE_NEEDED}")
