"""Operators of pieces, whose rows go on as one where they have come to agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.chain_cases import cut, whole
from streamem import Params
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.boundary import POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkDone, ChunkRef, kernel_of
from streamem.executors import ThreadsExecutor
from streamem.families import Gaussian
from streamem.initialization.responsibilities import from_kmeans
from streamem.kernels.chains.forward_backward import recursions
from streamem.machine.lanes import lanes_for
from streamem.models import HMM
from streamem.models.boundaries import boundaries
from streamem.models.chain_operators import SEGMENT
from streamem.models.emissions import Emissions
from streamem.running.fit import EStep

Array = NDArray[Any]


def sticky(k: int, stay: float) -> Array:
    return np.full((k, k), (1.0 - stay) / k) + stay * np.eye(k)


def two_worlds(k: int) -> Array:
    """No way from the first half of the states to the second, or back."""
    transmat = np.zeros((k, k))
    transmat[: k // 2, : k // 2], transmat[k // 2 :, k // 2 :] = sticky(k // 2, 0.5), sticky(k - k // 2, 0.5)
    return transmat


def round_about(k: int) -> Array:
    return np.roll(np.eye(k), 1, axis=1)


def chain(transmat: Array, n: int, apart: float = 1.0, seed: int = 0) -> tuple[HMM, Params, Chunk]:
    rng, k = np.random.default_rng(seed), len(transmat)
    means = apart * rng.normal(size=(k, 2))
    states = np.zeros(max(n, 100), dtype=np.int64)
    draws = rng.uniform(size=len(states))
    for t in range(1, len(states)):
        states[t] = min(np.searchsorted(np.cumsum(transmat[states[t - 1]]), draws[t]), k - 1)
    x = means[states] + rng.normal(size=(len(states), 2))
    model = HMM(Gaussian("diag", 1e-3), k, from_kmeans)
    params = model.init(Chunk(x), np.random.RandomState(0))
    components = Gaussian("diag", 1e-3).with_means(params.components, means)
    params = params.replace(transmat=transmat, startprob=np.full(k, 1 / k), components=components)
    return model, params, whole(x[:n], [n])


def operator_by_products(model: HMM, params: Params, x: Array) -> Array:
    """(K, K) in logarithms, every row by itself, rescaled after each step."""
    log_prob = model.family.log_prob(params.components, x)
    rows, scales = np.asarray(params.transmat).copy(), np.zeros(len(params.transmat))
    for t in range(len(x)):
        if t:
            rows = rows @ params.transmat
        rows = rows * np.exp(log_prob[t] - log_prob[t].max())
        totals = rows.sum(axis=1)
        rows, scales = rows / totals[:, None], scales + np.log(totals)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(rows) + scales[:, None])


def from_largest(logs: Array) -> Array:
    return np.exp(logs - logs.max())


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 100, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 5])
@pytest.mark.parametrize("transmat", [sticky(5, 0.3), sticky(5, 0.999), two_worlds(5), round_about(5)])
def test_operator_is_the_product_whether_rows_agree_or_not(transmat: Array, n: int) -> None:
    model, params, chunk = chain(transmat, n)
    found = model.operator_of(params, chunk, POSTERIOR)
    assert found is not None
    expected = operator_by_products(model, params, chunk.x)
    assert_close(from_largest(found), from_largest(expected), tolerance(np.float64, n, 100), "operator")


@pytest.mark.parametrize(("transmat", "forgets"), [(sticky(6, 0.5), True), (two_worlds(6), False)])
def test_rows_go_on_as_one_only_if_they_agree(transmat: Array, forgets: bool) -> None:
    n, k = 400, len(transmat)
    model, params, chunk = chain(transmat, n)
    b, peaks, width = np.zeros((n, lanes_for(k))), np.zeros(n), lanes_for(k)
    Emissions(kernel_of(model.family, params.components, k), chunk.x, None).scaled(0, n, b, peaks)
    rows, matrix = np.zeros((k, width)), np.zeros((width, width))
    rows[:, :k] = matrix[:k, :k] = transmat
    agreed = recursions(width).operator(b, matrix, rows, np.zeros(k), np.zeros(1), 0.0)
    assert agreed == forgets
    assert (np.ptp(rows, axis=0).max() == 0.0) == forgets


class Counting(ThreadsExecutor):
    """Counts the chunks that are asked."""

    asked = 0

    def map(self, task: Any, refs: Sequence[ChunkRef], on_chunk: Any) -> Iterator[Any]:
        self.asked += len(refs)
        return super().map(task, refs, on_chunk)


@pytest.mark.parametrize(
    ("transmat", "apart", "asked"),
    [(sticky(20, 0.5), 1.0, 5), (sticky(20, 0.9999), 0.01, 5 + 8), (two_worlds(20), 1.0, 8)],
    ids=["forgets: at once", "slow: tried, then one after another", "zeros: not tried"],
)
def test_many_states_are_scanned_where_they_forget(transmat: Array, apart: float, asked: int) -> None:
    n = 20_000
    model, params, chunk = chain(transmat, n, apart)
    refs = cut(chunk, [4000, 8000, 12_000, 16_000])
    with Counting(2) as executor:
        messages = boundaries(model, params, refs, executor, None)
        found = executor.reduce(EStep(model, params, None, messages), refs, ignored)
    expected = model.e_step(params, chunk)
    for name in ("log_likelihood", "startprob", "transitions", "visits", "components"):
        assert_close(found[name], expected[name], tolerance(np.float64, n, 100), name)
    assert executor.asked == asked


def test_a_pass_meets_the_interpreter_a_few_times_a_chunk() -> None:
    """Short sequences go through the recursions together: many small calls leave two threads as slow as one."""
    model, params, chunk = chain(sticky(4, 0.5), 32_000)
    chunk = whole(chunk.x, [100] * 320)
    calls = []
    kernel = model.family.kernel(params.components)
    own = kernel.densities

    def densities(x: Array, b: Array, peaks: Array) -> None:
        calls.append(len(x))
        own(x, b, peaks)

    kernel.densities = densities
    model.family.kernel = lambda *_: kernel
    stats = model.e_step(params, chunk)
    assert stats.rows == sum(calls) == 32_000
    assert len(calls) <= 4


def ignored(done: ChunkDone) -> None:
    pass


@pytest.mark.parametrize("transmat", [sticky(5, 0.3), two_worlds(5)])
def test_operator_agrees_with_both_directions_over_segments(transmat: Array) -> None:
    model, params, chunk = chain(transmat, SEGMENT + 700)
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(2, 5))
    boundary = Boundary(before, after)
    whole_piece = model.operator_of(params, chunk, POSTERIOR)
    assert whole_piece is not None
    ahead = np.logaddexp.reduce(before[:, None] + whole_piece, axis=0)
    behind = np.logaddexp.reduce(whole_piece + after, axis=1)
    rtol = tolerance(np.float64, chunk.rows, 100)
    forward = model.forward_of(params, chunk, POSTERIOR, boundary)
    backward = model.backward_of(params, chunk, POSTERIOR, boundary)
    assert_close(from_largest(ahead), from_largest(forward), rtol, "forward")
    assert_close(from_largest(behind), from_largest(backward), rtol, "backward")


@pytest.mark.parametrize("transmat", [sticky(5, 0.3), two_worlds(5)])
def test_no_step_changes_nothing(transmat: Array) -> None:
    model, params, chunk = chain(transmat, 1)
    nothing = whole(chunk.x[:0], [0])
    before, after = np.random.default_rng(1).normal(size=(2, 5))
    operator = model.operator_of(params, nothing, POSTERIOR)
    assert operator is not None
    np.testing.assert_array_equal(np.exp(operator), np.eye(5))
    boundary = Boundary(before, after)
    np.testing.assert_array_equal(model.forward_of(params, nothing, POSTERIOR, boundary), before)
    np.testing.assert_array_equal(model.backward_of(params, nothing, POSTERIOR, boundary), after)
