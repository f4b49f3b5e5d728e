"""How products of features are cut into strips, or panels and tiles, and the buffers that they need."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.kernels.features.features import Features
from streamem.machine.lanes import VECTOR_BYTES
from streamem.machine.processor import SUMS_AT_ONCE, in_panels
from streamem.machine.thread_buffer import thread_buffers

Array = NDArray[Any]

BLOCK_BYTES, LEAST_ROWS, MOST_ROWS = 2**18, 128, 1024

STRIP_BYTES = 2 * VECTOR_BYTES
"""Of a strip's rows of one feature: two vectors, which wait for each other's sums half as long as one would."""

MOST_AT_ONCE = SUMS_AT_ONCE // 2
"""Components of a strip: six on AVX2, with twelve sums, two features and a factor fifteen of sixteen registers."""

FEW_COMPONENTS = 8
"""Below this, OpenBLAS multiplies at half of its usual speed on any processor."""


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
    rows : rows a tile, 0 for strips
    """

    panels: int
    features: int
    rows: int


def in_strips(k: int) -> bool:
    """Whether features of k components are multiplied in registers (`strips`) instead of panel by panel by BLAS.

    With vectors of AVX2 strips are faster at every shape measured. On AVX-512 panels are, at most shapes.
    """
    return k < FEW_COMPONENTS or not in_panels()


def tiling(k: int, n_statistics: int) -> Tiling:
    """Measured on the grid of the bench: one panel where it fits, products of less than a million multiplications."""
    if in_strips(k):
        return Tiling(1, -(-n_statistics // 8) * 8, 0)
    rows, most = next((shape.rows, shape.features) for shape in SHAPES if k < shape.components)
    panels = -(-n_statistics // most)
    features = -(-n_statistics // panels)
    return Tiling(panels, -(-features // 8) * 8, rows)


@lru_cache  # asked for by each kernel and each block that it takes
def block_rows(k: int, d: int, itemsize: int = 8) -> int:
    """Rows a block, so that rows and responsibilities stay in the cache: an odd multiple of 16.

    A function of the shape only: the summation order, and so the bits, depend on it. With powers of two, the same strip
    of all features would lie in one set of the first-level cache: measured, 14 GFLOP/s instead of 30.
    """
    rows = int(max(LEAST_ROWS, min(MOST_ROWS, BLOCK_BYTES // (itemsize * (k + d)))))
    return (rows // 32 - 1) * 32 + 16


def products_bytes(k: int, d: int, n_statistics: int) -> int:
    """Bytes that a kernel holds, the responsibilities of a block included."""
    panels, features, rows = tiling(k, n_statistics)
    blocks = max(block_rows(k, d), rows) * (d + 2 + 3 * k + MOST_AT_ONCE)
    strip = STRIP_BYTES // 4
    return 8 * (blocks + features * rows + max(rows, strip) * k + strip * (d + 2) + 4 * panels * features * k)


class Products(NamedTuple):
    """Natural parameters cut into panels, and what multiplying a block by them needs; compiled code takes it whole.

    Attributes
    ----------
    center, unscale : (d,) float64, x̃ = (x − center) · unscale
    left, right : (F,) features as products of pairs of rows of z
    z_rows : rows of z: 1, x̃ and perhaps |x̃|²
    natural : (panels, K, features of a panel)
    z_buffer : of z
    panel : (features of a panel, rows of a tile) buffer; of the last strip of a block, (rows of z, rows of a strip)
    scores : (K, rows of a tile or strip) buffer
    groups : of the features
    weighted : (MOST_AT_ONCE, rows) buffer for groups
    strips : whether there are strips instead of tiles; then natural is one panel
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
    groups: Array
    weighted: Array
    strips: bool


def panels_of(natural: Array, dtype: DTypeLike) -> Array:
    """Natural parameters (K, F) as (panels, K, features of a panel), padded with zeros."""
    k, n_statistics = natural.shape
    cut = tiling(k, n_statistics)
    padded = np.zeros((k, cut.panels * cut.features))
    padded[:, :n_statistics] = natural
    panels = padded.reshape(k, cut.panels, cut.features).transpose(1, 0, 2)
    return np.ascontiguousarray(panels, dtype=dtype)


def products_of(panels: Array, features: Features, center: Array, scale: Array, most_rows: int) -> Products:
    """Products of natural parameters in panels, for blocks of at most `most_rows`; buffers are the thread's."""
    _, k, features_of_panel = panels.shape
    z_rows, tile, dtype = 1 + len(center) + features.norm, tiling(k, len(features.left)).rows, panels.dtype
    strips = tile == 0
    panel = (z_rows, STRIP_BYTES // dtype.itemsize) if strips else (features_of_panel, tile)
    z_buffer, panel_buffer, scores, weighted = thread_buffers(
        ("z", (z_rows * most_rows,), dtype),
        ("panel", panel, dtype),
        ("scores", (k, panel[1]), dtype),
        ("weighted", (MOST_AT_ONCE, most_rows), dtype),
    )
    return Products(
        center=center.copy(),  # copies: parameters are read-only, and would be compiled for once more
        unscale=1.0 / scale,  # exact: scales are powers of two
        left=features.left,
        right=features.right,
        z_rows=z_rows,
        natural=panels,
        z_buffer=z_buffer,
        panel=panel_buffer,
        scores=scores,
        groups=features.groups,
        weighted=weighted,
        strips=strips,
    )
