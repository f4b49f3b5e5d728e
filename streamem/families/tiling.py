"""How products of features are cut into panels and tiles, and the buffers that they need."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.scratch import scratch
from streamem.families.features import Features

Array = NDArray[Any]

BLOCK_BYTES = 2**20


class _Shape(NamedTuple):
    components: float
    rows: int
    features: int


SHAPES = (_Shape(8, 256, 600), _Shape(32, 128, 288), _Shape(128, 64, 144), _Shape(np.inf, 256, 288))
"""Rows of a tile and most features of a panel, below a number of components."""


class Tiling(NamedTuple):
    """How F features of K components are cut: a function of the shape only, because sums depend on it.

    Attributes
    ----------
    panels : number of panels
    features : features a panel
    rows : rows a tile
    """

    panels: int
    features: int
    rows: int


def tiling(k: int, n_statistics: int) -> Tiling:
    """Measured on the grid of the bench: one panel where it fits, products of less than a million multiplications."""
    rows, most = next((shape.rows, shape.features) for shape in SHAPES if k < shape.components)
    panels = -(-n_statistics // most)
    features = -(-n_statistics // panels)
    return Tiling(panels, -(-features // 8) * 8, rows)


def block_rows(k: int, d: int) -> int:
    """Rows a block: a power of two between 512 and 2048, so that rows and responsibilities stay in the cache.

    A function of the shape only: the summation order, and so the bits, depend on it.
    """
    rows = BLOCK_BYTES // (8 * (k + d))
    return 1 << int(np.clip(rows, 512, 2048)).bit_length() - 1


def products_bytes(k: int, d: int, n_statistics: int) -> int:
    """Bytes that a kernel holds, the responsibilities of a block included."""
    panels, features, rows = tiling(k, n_statistics)
    blocks = block_rows(k, d) * (d + 2 + 3 * k)
    return 8 * (blocks + features * rows + rows * k + 4 * panels * features * k)


class Products(NamedTuple):
    """Natural parameters cut into panels, and what multiplying a block by them needs; compiled code takes it whole.

    Attributes
    ----------
    center, unscale : (d,) float64, x̃ = (x − center) · unscale
    left, right : (F,) features as products of pairs of rows of z
    z_rows : rows of z: 1, x̃ and perhaps |x̃|²
    natural : (panels, K, features of a panel)
    z_buffer : of z
    panel : (features of a panel, rows of a tile) buffer
    scores : (K, rows of a tile) buffer
    """

    center: Array
    unscale: Array
    left: Array
    right: Array
    z_rows: int
    natural: Array
    z_buffer: Array
    panel: Array
    scores: Array


def panels_of(natural: Array, dtype: DTypeLike) -> Array:
    """Natural parameters (K, F) as (panels, K, features of a panel), padded with zeros."""
    k, n_statistics = natural.shape
    cut = tiling(k, n_statistics)
    padded = np.zeros((k, cut.panels * cut.features))
    padded[:, :n_statistics] = natural
    panels = padded.reshape(k, cut.panels, cut.features).transpose(1, 0, 2)
    return np.ascontiguousarray(panels, dtype=dtype)


def products_of(panels: Array, features: Features, center: Array, scale: Array, most_rows: int) -> Products:
    """Of natural parameters in panels, for blocks of at most `most_rows`, in their dtype; buffers are the thread's."""
    _, k, features_of_panel = panels.shape
    z_rows, tile, dtype = 1 + len(center) + features.norm, tiling(k, len(features.left)).rows, panels.dtype
    return Products(
        center=center.copy(),  # copies: parameters are read-only, and would be compiled for once more
        unscale=1.0 / scale,  # exact: scales are powers of two
        left=features.left,
        right=features.right,
        z_rows=z_rows,
        natural=panels,
        z_buffer=scratch("z", (z_rows * most_rows,), dtype),
        panel=scratch("panel", (features_of_panel, tile), dtype),
        scores=scratch("scores", (k, tile), dtype),
    )
