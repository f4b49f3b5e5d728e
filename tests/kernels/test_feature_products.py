"""Products with features, in strips and in panels, against features that NumPy writes down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.families.gaussian.covariance import COVARIANCES
from streamem.kernels import tiling
from streamem.kernels.features.diagonal_rows import BLOCK_ROWS, LEAST_ROW_BYTES, suits_rows
from streamem.kernels.features.exponential import ExponentialKernel
from streamem.kernels.features.features import LEAST_GROUP, features_of_moments, linear_features
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

pytestmark = pytest.mark.widths

KINDS = ["full", "diag", "spherical", "linear"]
LEAST = {np.float64: 1e-13, np.float32: 1e-5}
"""Relative to the sum of sizes; a few units in the last place."""


@pytest.fixture(params=["strips", "panels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How products are made, whatever this processor would choose."""
    monkeypatch.setattr(tiling, "in_strips", lambda k: request.param == "strips")
    return str(request.param)


class Case:
    """Natural parameters and rows with everything that a kernel should find, and the sizes of what was summed."""

    def __init__(self, kind: str, k: int, d: int, rows: int, dtype: Any, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.features = linear_features(d) if kind == "linear" else COVARIANCES[kind].features(d)
        self.dtype, self.k = dtype, k
        self.natural = rng.normal(size=(k, len(self.features.left))) / len(self.features.left)
        self.center, self.scale = rng.normal(size=d), np.exp2(rng.integers(-2, 3, d))
        self.x = (self.center + self.scale * rng.normal(size=(rows, d))).astype(dtype)
        anchored = (self.x.astype(np.float64) - self.center) / self.scale
        z = np.column_stack([np.ones(rows), anchored, (anchored**2).sum(axis=1)])
        self.t = z[:, self.features.left] * z[:, self.features.right]
        self.weight = rng.uniform(0.5, 2.0, rows)
        self.log_weights = np.log(rng.dirichlet(np.ones(k)))

    def kernel(self) -> ExponentialKernel:
        """One of its own."""
        panels = tiling.panels_of(self.natural, self.dtype)
        return ExponentialKernel(panels, self.features, self.center, self.scale, 0.0)

    @property
    def log_prob(self) -> Array:
        """(rows, K)."""
        return np.asarray(self.t @ self.natural.T)

    def posterior(self) -> tuple[Array, Array]:
        """(rows, K) responsibilities and (rows,) log-densities."""
        joint = self.log_prob + self.log_weights
        log_density = np.logaddexp.reduce(joint, axis=1)
        return np.exp(joint - log_density[:, None]), log_density

    def check_log_prob(self, found: Array) -> None:
        """Of shape (rows, K)."""
        size = np.abs(self.t) @ np.abs(self.natural.T)
        assert (np.abs(found - self.log_prob) <= 10 * LEAST[self.dtype] * size).all()

    def check_sums(self, found: Array, resp: Array) -> None:
        """Statistics (K, F) of responsibilities (rows, K)."""
        size = np.abs(resp.T) @ np.abs(self.t)
        assert (np.abs(found - resp.T @ self.t) <= 30 * LEAST[self.dtype] * size).all()


SHAPES = [
    (kind, k, d, rows)
    for kind in KINDS
    for k, d, rows in [
        (1, 1, 1),
        (2, 3, 7),
        (3, 2, 16),
        (4, 5, 8),
        (5, 4, 33),
        (6, 2, 19),
        (7, 3, 50),
        (8, 3, 50),
        (11, 9, 129),
        (13, 4, 40),
        (18, 6, 200),
    ]
]
DTYPES = [np.float64, np.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "k", "d", "rows"), SHAPES)
def test_a_block(way: str, kind: str, k: int, d: int, rows: int, dtype: Any) -> None:
    check_block(Case(kind, k, d, rows, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["full", "spherical", "linear"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7, 13])
@pytest.mark.parametrize("d", [31, 34])
@pytest.mark.parametrize("rows", [1, 8, 61])
def test_groups_of_features(monkeypatch: pytest.MonkeyPatch, kind: str, k: int, d: int, rows: int, dtype: Any) -> None:
    monkeypatch.setattr(tiling, "in_strips", lambda k: True)
    case = Case(kind, k, d, rows, dtype)
    assert len(case.features.groups) == (1 + d if kind == "full" else 1)
    check_block(case)
    check_mix(case, True)


def test_groups_share_a_row_and_have_neighbouring_others() -> None:
    for features in (COVARIANCES["full"].features(40), linear_features(LEAST_GROUP)):
        together = [np.arange(first, first + count) for _, _, first, count in features.groups]
        np.testing.assert_array_equal(np.concatenate(together), np.arange(len(features.left)))
        for (left, right, first, count), found in zip(features.groups, together, strict=True):
            assert (features.left[found] == left).all()
            np.testing.assert_array_equal(features.right[found], right + np.arange(count))
            assert found[0] == first
    apart = features_of_moments(60, np.array([1, 1]), np.array([5, 7])).groups
    np.testing.assert_array_equal(apart, [[0, 0, 0, 61], [1, 5, 61, 1], [1, 7, 62, 1]])
    assert len(COVARIANCES["full"].features(8).groups) == 0
    assert len(COVARIANCES["diag"].features(100).groups) == 0


def check_block(case: Case) -> None:
    """Log-densities of a block, and statistics."""
    k, rows, dtype = case.k, len(case.x), case.dtype
    kernel, found = case.kernel(), np.full((k, rows), np.nan, dtype=dtype)
    kernel.load(case.x)
    kernel.log_prob(found)
    case.check_log_prob(found.T)
    resp = np.random.default_rng(1).uniform(size=(rows, k)).astype(dtype)
    kernel.accumulate(resp.T)
    case.check_sums(kernel.sums(), resp.astype(np.float64))
    kernel.accumulate(resp.T)
    case.check_sums(kernel.sums(), 2 * resp.astype(np.float64))


def check_mix(case: Case, weighted: bool) -> None:
    """An E-step over all rows in one call."""
    kernel, weight = case.kernel(), case.weight if weighted else None
    mixed = kernel.mix(case.x, weight, case.log_weights)
    resp, log_density = case.posterior()
    counted = np.ones(len(case.x)) if weight is None else weight
    rtol = 100 * LEAST[case.dtype]
    np.testing.assert_allclose(mixed.log_likelihood, counted @ log_density, rtol=rtol, atol=rtol * len(case.x))
    np.testing.assert_allclose(mixed.responsibilities, counted @ resp, rtol=rtol)
    np.testing.assert_allclose(mixed.pairs, counted.sum() * case.k, rtol=rtol)  # no component is far from any row
    case.check_sums(kernel.sums(), counted[:, None] * resp)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 1039, 3001])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_chunk_of_several_blocks(way: str, kind: str, rows: int, dtype: Any, weighted: bool) -> None:
    check_mix(Case(kind, 6, 4, rows, dtype), weighted)


@pytest.mark.parametrize("kind", KINDS)
def test_many_components_in_tiles_of_more_rows_than_a_block(way: str, kind: str) -> None:
    check_mix(Case(kind, 130, 4, 700, np.float64), False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8, 18])
@pytest.mark.parametrize("d", [64, 67, 130])
@pytest.mark.parametrize("rows", [1, 3, BLOCK_ROWS, 2 * BLOCK_ROWS + 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_squares_of_rows_as_they_lie(
    monkeypatch: pytest.MonkeyPatch, k: int, d: int, rows: int, dtype: Any, weighted: bool
) -> None:
    monkeypatch.setattr(tiling, "in_panels", lambda: False)
    assert suits_rows(k, d * np.dtype(dtype).itemsize)
    check_mix(Case("diag", k, d, rows, dtype), weighted)


def test_rows_stay_as_they_lie_where_they_are_long_and_no_longer_vectors_are_at_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiling, "in_panels", lambda: False)
    assert suits_rows(64, LEAST_ROW_BYTES)
    assert not suits_rows(1, LEAST_ROW_BYTES - 1)
    monkeypatch.setattr(tiling, "in_panels", lambda: True)
    assert not suits_rows(64, LEAST_ROW_BYTES)


def test_what_a_thread_left_in_its_buffer_is_no_column_of_narrower_rows() -> None:
    thread_buffer("squares z", (BLOCK_ROWS, 400))[...] = np.nan
    check_mix(Case("diag", 4, 65, 100, np.float64), False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [2, 5, 8])
@pytest.mark.parametrize("rows", [1, 500, 2500])
def test_row_after_row(way: str, kind: str, k: int, rows: int) -> None:
    case = Case(kind, k, 4, rows, np.float64)
    kernel, width = case.kernel(), -(-k // 4) * 4
    b, peaks = np.empty((rows, width)), np.empty(rows)
    kernel.densities(case.x, b, peaks)
    case.check_log_prob(np.log(b[:, :k]) + peaks[:, None])
    weights = np.zeros((rows, width))
    weights[:, :k] = np.random.default_rng(1).uniform(size=(rows, k))
    for again in (True, False):
        kernel.accumulate_rows(case.x, weights, again)
    case.check_sums(kernel.sums(), 2 * weights[:, :k])


@pytest.mark.parametrize("dtype", DTYPES)
def test_row_after_row_in_any_width(way: str, dtype: Any) -> None:
    """What is no multiple of four columns, or no float64, is not read beyond its end."""
    case = Case("diag", 5, 3, 300, np.float64)
    kernel, b, peaks = case.kernel(), np.empty((300, 5), dtype=dtype), np.empty(300)
    b.view(np.uint32)[...] = 0x7F80_0001  # what memory may hold: a NaN of float32 that signals where it is read
    kernel.densities(case.x, b, peaks)
    np.testing.assert_allclose(np.log(b) + peaks[:, None], case.log_prob, rtol=1e-5, atol=1e-5)
    weights = np.random.default_rng(1).uniform(size=(300, 5)).astype(dtype)
    kernel.accumulate_rows(case.x, weights, False)
    case.check_sums(kernel.sums(), weights.astype(np.float64))


def test_rows_of_a_strip_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last strip of a block, with rows after it or none, a row has the same log-density."""
    monkeypatch.setattr(tiling, "in_strips", lambda k: True)
    case = Case("full", 5, 6, 40, np.float64)
    kernel, whole = case.kernel(), np.empty((5, 40))
    kernel.load(case.x)
    kernel.log_prob(whole)
    for rows in range(1, 40):
        part = np.empty((5, rows))
        kernel.load(case.x[:rows])
        kernel.log_prob(part)
        np.testing.assert_array_equal(part, whole[:, :rows])


def test_strips_are_chosen_where_blas_has_no_longer_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "in_panels", lambda: True)
    assert tiling.in_strips(tiling.FEW_COMPONENTS - 1)
    assert not tiling.in_strips(tiling.FEW_COMPONENTS)
    monkeypatch.setattr(tiling, "in_panels", lambda: False)
    assert tiling.in_strips(1000)
