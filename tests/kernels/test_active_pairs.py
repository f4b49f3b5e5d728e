"""Log-densities and statistics of chosen pairs of row and component, against NumPy, and the blocks they come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.families import Gaussian
from streamem.families.gaussian import screen as screens
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.sketch import sketches
from streamem.kernels.features.feature_products import rows_of_block
from streamem.kernels.pairs.active_pairs import matrix_log_prob, matrix_statistics
from streamem.kernels.pairs.pair_buffers import (
    BLOCK_ROWS,
    GROUP_ROWS,
    Gaussians,
    buffers_bytes,
    moment_columns,
    pair_buffers,
)

Array = NDArray[Any]

pytestmark = pytest.mark.widths

COUNTS = (0, 1, 3, 4, 5, 8, 9, GROUP_ROWS - 1, GROUP_ROWS, GROUP_ROWS + 1, 2 * GROUP_ROWS + 5)
"""Rows of the components: none, parts of a vector and of a strip, whole and several groups."""

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 24, 31, 33)


class Pairs:
    """Components with so many rows each, in a buffer that holds nonsense elsewhere."""

    def __init__(self, d: int) -> None:
        rng = np.random.default_rng(d)
        self.d, k = d, len(COUNTS)
        self.x = rng.normal(size=(200, d))
        self.rows = np.concatenate([rng.permutation(200)[:count] for count in COUNTS]).astype(np.int32)
        self.starts = np.concatenate([[0], np.cumsum(COUNTS)])
        self.owner = np.repeat(np.arange(k), COUNTS)
        shapes = rng.normal(size=(k, d, d + 3))
        self.lower = np.linalg.inv(np.linalg.cholesky(shapes @ np.swapaxes(shapes, 1, 2)))
        self.gaussians = Gaussians(
            rng.normal(size=(k, d)), self.lower, rng.normal(size=k), 40.0, -1e9, np.zeros((k, d))
        )
        self.buffers = pair_buffers(k, d)
        for buffer in (self.buffers.strips, self.buffers.squares, self.buffers.plain, self.buffers.weighted):
            buffer[...] = np.nan
        self.resp = rng.random(len(self.rows))


@pytest.mark.parametrize("d", WIDTHS)
def test_log_densities_of_pairs(d: int) -> None:
    """In whole and partial groups, strips and triangles."""
    pairs, values = Pairs(d), np.full(sum(COUNTS), np.nan)
    arguments = pairs.rows, pairs.starts[:-1], pairs.starts[1:], values, pairs.buffers
    matrix_log_prob(pairs.x, pairs.gaussians, *arguments)
    differences = pairs.x[pairs.rows] - pairs.gaussians.means[pairs.owner]
    whitened = np.einsum("pij,pj->pi", pairs.lower[pairs.owner], differences)
    expected = pairs.gaussians.constants[pairs.owner] - 0.5 * (whitened**2).sum(axis=1)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)


def test_log_densities_of_some_pairs_leave_the_others() -> None:
    """From `begins` on, as rivals are after the nominated ones."""
    pairs, values = Pairs(9), np.full(sum(COUNTS), np.nan)
    whole = np.full(sum(COUNTS), np.nan)
    begins, ends = pairs.starts[:-1], pairs.starts[1:]
    matrix_log_prob(pairs.x, pairs.gaussians, pairs.rows, begins, ends, whole, pairs.buffers)
    later = np.minimum(begins + 2, ends)
    matrix_log_prob(pairs.x, pairs.gaussians, pairs.rows, later, ends, values, pairs.buffers)
    left = np.concatenate([np.arange(count) < 2 for count in COUNTS])
    assert np.isnan(values[left]).all()
    np.testing.assert_allclose(values[~left], whole[~left], rtol=1e-12)


@pytest.mark.parametrize("d", WIDTHS)
def test_statistics_of_pairs(d: int) -> None:
    """They are added to what is there, twice as much after the second time; about any origins."""
    pairs, k = Pairs(d), len(COUNTS)
    origins = np.random.default_rng(0).normal(size=(k, d))
    sums, moments = np.zeros((k, 1 + d)), np.zeros((k, d, moment_columns(d)))
    one_hot = np.zeros((len(pairs.rows), k))
    one_hot[np.arange(len(pairs.rows)), pairs.owner] = pairs.resp
    rows = pairs.x[pairs.rows] - origins[pairs.owner]
    for times in (1, 2):
        matrix_statistics(pairs.x, pairs.rows, pairs.starts, pairs.resp, origins, sums, moments, pairs.buffers)
        np.testing.assert_allclose(sums[:, 0], times * one_hot.sum(axis=0), rtol=1e-12)
        np.testing.assert_allclose(sums[:, 1:], times * one_hot.T @ rows, rtol=1e-12, atol=1e-12)
        second = times * np.einsum("pk,pi,pj->kij", one_hot, rows, rows)
        np.testing.assert_allclose(np.triu(moments[:, :, :d]), np.triu(second), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 63, 64, 65, 128, 1000, 1024, 2047, 2048, BLOCK_ROWS, 4096, 5000])
@pytest.mark.parametrize("most", [112, 1008, BLOCK_ROWS])
def test_blocks_in_strips_are_no_multiple_of_64_rows(n: int, most: int) -> None:
    """And all rows belong to one; in tiles, which are whole anyway, they are cut as they come."""
    left, sizes = n, []
    while left > 0:
        sizes.append(rows_of_block(left, most, True))
        left -= sizes[-1]
    assert left == 0
    assert all(0 < size <= most and size % 64 for size in sizes)
    assert rows_of_block(n, most, False) == min(n, most)


@pytest.mark.parametrize(("k", "d"), [(8, 1), (16, 13), (64, 32), (70, 67)])
def test_buffers_are_as_large_as_they_say(k: int, d: int) -> None:
    assert buffers_bytes(k, d) == sum(buffer.nbytes for buffer in pair_buffers(k, d))


def test_no_buffer_is_another_one() -> None:
    """Those of a screened pass are alive together."""
    k, d = 16, 24
    family = Gaussian("full")
    params = family.at_anchor(np.zeros(d), np.ones(d), k)
    structure = COVARIANCES["full"]
    panels = screens.natural_panels(structure, params, np.float32)
    products = screens.products_of(panels, structure.features(d), params.center, params.scale, BLOCK_ROWS)
    own = [products.z_buffer, products.panel, products.scores, products.weighted, *pair_buffers(k, d)]
    for i, one in enumerate(own):
        assert not any(np.shares_memory(one, other) for other in own[:i])


@pytest.mark.parametrize(("n", "d"), [(64, 16), (128, 13), (2048, 11), (2 * BLOCK_ROWS + 64, 16)])
@pytest.mark.parametrize("kind", ["screened", "sketched"])
def test_correlated_components_in_blocks_of_all_kinds(n: int, d: int, kind: str) -> None:
    """Weighted and not, against the dense kernel; some rows between two components."""
    rng, k = np.random.default_rng(n), 8
    means, shapes = 4.0 * rng.normal(size=(k, d)), rng.normal(size=(k, d, d)) / np.sqrt(d)
    covariances = shapes @ np.swapaxes(shapes, 1, 2) + 0.1 * np.eye(d)
    family = Gaussian("full")
    params = family.with_means(family.at_anchor(np.zeros(d), np.ones(d), k), means)
    params = family.with_covariances(params, covariances)
    x = means[rng.integers(k, size=n)] + 2.0 * rng.normal(size=(n, d))
    x[::7] = 0.5 * (means[0] + means[1]) + 0.1 * rng.normal(size=x[::7].shape)
    structure, log_weights = COVARIANCES["full"], np.full(k, -np.log(k))
    for weight in (None, rng.random(n)):
        if kind == "screened":
            gaussians = screens._gaussians(structure, params)
            assert gaussians is not None
            screened: Any = screens.ScreenedKernel(structure, params, gaussians)
        else:
            bounds = screens._bounds(structure, params)
            assert bounds is not None
            screened = screens.SketchedKernel(structure, params, bounds)
        dense: Any = family.kernel(params)
        found, expected = (kernel.mix(x, weight, log_weights) for kernel in (screened, dense))
        assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12)
        assert found.pairs == pytest.approx(expected.pairs, rel=1e-12)
        np.testing.assert_allclose(found.responsibilities, expected.responsibilities, rtol=1e-10, atol=1e-10)
        for name in ("weight", "first", "second"):
            one, other = screened.stats()[name], dense.stats()[name]
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)


def test_narrow_sketches_are_not_judged_where_wide_ones_leave_too_many() -> None:
    """Components that no direction tells apart; and the widest is there to be weighed."""
    rng, k, d = np.random.default_rng(0), 16, 32
    means, covariances = 0.1 * rng.normal(size=(k, d)), np.repeat(np.eye(d)[None], k, axis=0)
    every = sketches(means, covariances, np.zeros(k), 40.0)
    few = sketches(means, covariances, np.zeros(k), 40.0, most_rivals=10.0)
    assert [len(sketch.means.T) for sketch in every] == [4, 8, 12, 16]
    assert [len(sketch.means.T) for sketch in few] == [16]
    assert few[0].rivals == every[-1].rivals > 10.0
