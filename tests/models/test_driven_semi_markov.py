"""States that last, followed as covariates say: against the chain of all sub-states, written down in NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import poisson

from streamem.conformance.tolerance import assert_close
from streamem.core.arrays import Params
from streamem.core.boundary import PATH, POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.sequences import Sequences
from streamem.families import Poisson
from streamem.models import DrivenSemiMarkov
from streamem.models.durations import Durations
from streamem.models.logit_moves import log_moves

Array = NDArray[Any]

K, D, N = 3, 4, 12


def drawn() -> tuple[DrivenSemiMarkov, Params, Array, Array]:
    """A model, its parameters, counts (N, 1) of which one is missing, and covariates (N, 1)."""
    rng = np.random.default_rng(2)
    model = DrivenSemiMarkov(Poisson(), K, lambda *_: None, 1, Durations("negative-binomial", D))
    params = Params(
        startprob=np.array([0.5, 0.3, 0.2]),
        logits=rng.normal(size=(K, K, 2)),
        box=np.array([[-2.0], [2.0]]),
        kept=np.zeros(K, dtype=np.bool_),
        components=Params(rates=np.array([[1.0], [4.0], [9.0]])),
        duration_logs=np.log([[1.0, 2.0], [2.0, 1.5], [0.5, 3.0]]),
    )
    y, u = rng.poisson(4.0, size=(N, 1)).astype(float), rng.uniform(-2, 2, size=(N, 1))
    y[5] = np.nan
    return model, params, y, u


def chunk(y: Array, u: Array, a: int, b: int) -> Chunk:
    return Chunk(y[a:b], None, Sequences(np.array([0, b - a]), a > 0, b < N), u[a:b])


def whole_chain(model: DrivenSemiMarkov, params: Params, y: Array, u: Array) -> tuple[Array, Array, Array]:
    """Log-densities (N, K·D), starts (K·D,) and transitions (N − 1, K·D, K·D) of sub-states."""
    table = model.durations.table(np.asarray(params.duration_logs))
    rates = np.asarray(params.components.rates).ravel()
    log_prob = np.where(np.isnan(y), 0.0, poisson.logpmf(np.nan_to_num(y), rates))
    moves = np.zeros((N - 1, K, D, K, D))
    for t, k, a in itertools.product(range(N - 1), range(K), range(D)):
        odds = np.asarray(params.logits)[k] @ np.array([1.0, u[t, 0] / 2.0])
        odds[k] = -np.inf
        moves[t, k, a, :, 0] = table.leave[k, a] * np.exp(odds) / np.exp(odds).sum()
        moves[t, k, a, k, min(a + 1, D - 1)] += table.stay[k, a]
    start = np.zeros((K, D))
    start[:, 0] = params.startprob
    return np.repeat(log_prob, D, axis=1), start.ravel(), moves.reshape(N - 1, K * D, K * D)


def smoothed(log_prob: Array, start: Array, moves: Array) -> tuple[float, Array, Array]:
    """Log-likelihood, posteriors (N, K·D) and expected transitions (N − 1, K·D, K·D)."""
    b = np.exp(log_prob)
    alpha, beta = np.empty(b.shape), np.ones(b.shape)
    alpha[0] = start * b[0]
    for t in range(1, N):
        alpha[t] = (alpha[t - 1] @ moves[t - 1]) * b[t]
    for t in range(N - 2, -1, -1):
        beta[t] = moves[t] @ (b[t + 1] * beta[t + 1])
    total = alpha[-1].sum()
    pairs = alpha[:-1, :, None] * moves * (b[1:] * beta[1:])[:, None, :] / total
    return float(np.log(total)), alpha * beta / total, pairs


def test_sums_are_those_of_the_chain_of_sub_states() -> None:
    model, params, y, u = drawn()
    known, posteriors, pairs = smoothed(*whole_chain(model, params, y, u))
    stats, all_of = model.e_step(params, chunk(y, u, 0, N)), chunk(y, u, 0, N)
    np.testing.assert_allclose(stats.log_likelihood, known, rtol=1e-12)
    np.testing.assert_allclose(
        model.posteriors(params, all_of), posteriors.reshape(N, K, D).sum(axis=2), rtol=1e-9, atol=1e-12
    )
    by_parts = pairs.reshape(N - 1, K, D, K, D)
    jumps = by_parts[..., 0].sum(axis=2) * (1 - np.eye(K))
    np.testing.assert_allclose(stats.transitions, jumps.sum(axis=0), rtol=1e-9, atol=1e-12)
    leaves = np.array([by_parts[:, k, :, [j for j in range(K) if j != k], 0].sum(axis=(0, 1)) for k in range(K)])
    np.testing.assert_allclose(stats.leaves, leaves, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((stats.leaves + stats.stays).sum(), N - 1, rtol=1e-12)
    design = np.hstack([np.ones((N, 1)), u / 2.0])[:-1]
    chances = np.exp(log_moves(np.asarray(params.logits), design, jumps=True))
    slope = np.einsum("tij,tq->ijq", jumps - jumps.sum(axis=2, keepdims=True) * chances, design)
    flat = np.asarray(params.logits).reshape(K, -1)
    found = stats.target - np.einsum("iab,ib->ia", stats.curvature, flat)
    np.testing.assert_allclose(found.reshape(K, K, 2), slope, atol=1e-10)


def test_the_best_path_is_that_of_all_paths() -> None:
    model, params, y, u = drawn()
    log_prob, start, moves = whole_chain(model, params, y, u)
    with np.errstate(divide="ignore"):
        best, back = np.log(start) + log_prob[0], []
        for t in range(1, N):
            both = best[:, None] + np.log(moves[t - 1])
            back.append(both.argmax(axis=0))
            best = both.max(axis=0) + log_prob[t]
    path = [int(best.argmax())]
    for pointers in reversed(back):
        path.insert(0, int(pointers[path[0]]))
    whole = chunk(y, u, 0, N)
    np.testing.assert_array_equal(model.path(params, whole), np.array(path) // D)
    walk, rows = model.walk(params, whole), np.arange(N - 1)
    own = model.log_starts(params, walk[:1]).sum() + model.log_moves(params, whole, rows, walk[:-1], walk[1:]).sum()
    np.testing.assert_allclose(own + log_prob[np.arange(N), walk].sum(), best.max(), rtol=1e-12)


def test_shares_weigh_how_often_states_come_by_how_long_they_last() -> None:
    model, params, _, _ = drawn()
    even = params.replace(logits=np.zeros((K, K, 2)))  # each state follows as often
    lasts = model.mean_durations(params)
    np.testing.assert_allclose(model.shares(even), lasts / lasts.sum(), rtol=2e-3)


@pytest.mark.parametrize("cuts", [[0, 5, N], [0, 1, 2, 6, N - 1, N]])
def test_pieces_give_the_uncut_sums(cuts: list[int]) -> None:
    """And the uncut path."""
    model, params, y, u = drawn()
    pieces, found = [chunk(y, u, a, b) for a, b in itertools.pairwise(cuts)], {}
    for question in (POSTERIOR, PATH):
        before: list[Array | None] = [None]
        after: list[Array | None] = [None]
        for one in pieces[:-1]:
            before.append(model.forward_of(params, one, question, Boundary(before[-1])))
        for one in pieces[:0:-1]:
            after.insert(0, model.backward_of(params, one, question, Boundary(after=after[0])))
        found[question] = [Boundary(b, a) for b, a in zip(before, after, strict=True)]
    parts = [model.e_step(params, one, message) for one, message in zip(pieces, found[POSTERIOR], strict=True)]
    whole = model.e_step(params, chunk(y, u, 0, N))
    assert_close(sum(parts[1:], start=parts[0]), whole, 1e-10, "cut", skip=("rounding",))
    paths = [model.path(params, one, message) for one, message in zip(pieces, found[PATH], strict=True)]
    np.testing.assert_array_equal(np.concatenate(paths), model.path(params, chunk(y, u, 0, N)))


def test_em_never_falls() -> None:
    model, params, y, u = drawn()
    heights = []
    for _ in range(30):
        stats = model.e_step(params, chunk(y, u, 0, N))
        heights.append(float(stats.log_likelihood))
        params = model.m_step(stats, params)
    assert (np.diff(heights) > -1e-9).all()
    assert heights[-1] > heights[0] + 1
