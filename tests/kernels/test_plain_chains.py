"""Recursions of chains in NumPy beside a loop over steps, where the first guess of the factors does not serve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.kernels.plain import chains
from streamem.kernels.plain.chains import recursions

Array = NDArray[Any]
WIDTH = 4
RNG = np.random.default_rng(0)


def matrix_of(kind: str) -> Array:
    """Transitions of three states, filled up."""
    found = np.zeros((WIDTH, WIDTH))
    if kind == "any":
        found[:3, :3] = RNG.dirichlet(np.ones(3), 3)
    else:
        found[:3, :3] = np.eye(3) if kind == "stay" else np.triu(RNG.dirichlet(np.ones(3), 3))
    return found / np.where(found.sum(axis=1, keepdims=True) > 0, found.sum(axis=1, keepdims=True), 1.0)


def one_by_one(b: Array, entry: Array, exit: Array, matrix: Array) -> tuple[float, Array, Array]:
    """Log-likelihood but for peaks, γ, and Σ ξ / A of one sequence, by scaled recursions step after step."""
    n, v, ahead, total = len(b), np.empty_like(b), np.empty_like(b), 0.0
    now = entry * b[0]
    for t in range(n):
        now = now if t == 0 else (v[t - 1] @ matrix) * b[t]
        total += np.log(now.sum())
        v[t] = now / now.sum()
    ahead[-1] = exit
    for t in range(n - 1, 0, -1):
        ahead[t - 1] = matrix @ (b[t] * ahead[t])
        ahead[t - 1] /= ahead[t - 1].max()
    gamma = v * ahead
    gamma /= gamma.sum(axis=1, keepdims=True)
    shared = np.zeros((WIDTH, WIDTH))
    for t in range(1, n):
        xi = np.outer(v[t - 1], b[t] * ahead[t])
        shared += xi / (xi * matrix).sum()
    return total, gamma, shared


def emitted(n: int, kind: str) -> Array:
    """Densities (n, width), the largest of each step 1: of all alike, or of a state that is not there, or outliers."""
    b = np.zeros((n, WIDTH))
    b[:, :3] = RNG.random((n, 3))
    if kind == "another state's":
        b[:, :2] *= 1e-4
    elif kind == "outliers":
        b[::17, :2] *= 1e-150
    b /= b.max(axis=1, keepdims=True)
    return b


@pytest.mark.parametrize("moves", ["any", "stay", "onwards"])
@pytest.mark.parametrize("rows", ["any", "another state's", "outliers"])
def test_many_sequences_are_those_of_a_loop(moves: str, rows: str) -> None:
    matrix, lengths = matrix_of(moves), [1, 300, 0, 7, 60]
    stops = np.cumsum(lengths)
    spans = np.column_stack([stops - lengths, stops])
    b = np.vstack([emitted(n, rows) for n in lengths])
    peaks, weights = RNG.normal(size=len(b)), RNG.random(len(lengths)) + 0.5
    entries, exits = np.zeros((2, len(lengths), WIDTH))
    entries[:, :3], exits[:, :3] = [0.45, 0.45, 0.1], 1.0
    exits[-1, :3] = [0.2, 1.0, 0.4]
    v, known = np.empty_like(b), np.empty(len(lengths))
    shared, visits, begun = np.zeros((WIDTH, WIDTH)), np.zeros(WIDTH), np.zeros(WIDTH)
    own, passed = recursions(WIDTH), b.copy()
    own.forward(passed, peaks, spans, entries, exits, matrix, v, known)
    own.backward(passed, spans, exits, weights, matrix.T.copy(), v, known, shared, visits, begun, 0)
    assert np.isfinite(known).all()
    expected = np.zeros((WIDTH, WIDTH))
    for s, (first, stop) in enumerate(spans.tolist()):
        if first == stop:
            continue
        total, gamma, sums = one_by_one(b[first:stop], entries[s], exits[s], matrix)
        np.testing.assert_allclose(known[s], total + peaks[first:stop].sum(), rtol=1e-12)
        np.testing.assert_allclose(v[first:stop], weights[s] * gamma, atol=1e-13)
        expected += weights[s] * sums
    np.testing.assert_allclose(shared * matrix, expected * matrix, rtol=1e-11, atol=1e-13)


def test_what_no_factor_serves_needs_logarithms() -> None:
    """An impossible sequence between two others, whose own values are untouched."""
    matrix, spans = matrix_of("stay"), np.array([[0, 20], [20, 40], [40, 60]])
    b = emitted(60, "any")
    b[30, :2] = 0.0
    entries, exits = np.zeros((2, 3, WIDTH))
    entries[:, :2], exits[:, :3] = 0.5, 1.0
    v, known = np.empty_like(b), np.empty(3)
    recursions(WIDTH).forward(b.copy(), np.zeros(60), spans, entries, exits, matrix, v, known)
    assert np.isneginf(known[1])
    for s in (0, 2):
        total = one_by_one(b[spans[s, 0] : spans[s, 1]], entries[s], exits[s], matrix)[0]
        np.testing.assert_allclose(known[s], total, rtol=1e-12)


def test_a_sequence_that_needs_logarithms_leaves_those_before_it() -> None:
    """Of a state that nothing reaches, β overflows where all rows are its own."""
    matrix, lengths = matrix_of("stay"), [20, 300, 20]
    stops = np.cumsum(lengths)
    spans = np.column_stack([stops - lengths, stops])
    b = np.vstack([emitted(n, "another state's") for n in lengths])
    entries, exits = np.zeros((2, 3, WIDTH))
    entries[:, :2], exits[:, :3] = 0.5, 1.0
    v, known, sums = np.empty_like(b), np.empty(3), np.zeros((WIDTH, WIDTH))
    own, passed = recursions(WIDTH), b.copy()
    own.forward(passed, np.zeros(len(b)), spans, entries, exits, matrix, v, known)
    own.backward(passed, spans, exits, np.ones(3), matrix, v, known, sums, np.zeros(WIDTH), np.zeros(WIDTH), 0)
    assert np.isfinite(known).tolist() == [True, False, True]
    for s in (0, 2):
        first, stop = spans[s].tolist()
        total, gamma, _ = one_by_one(b[first:stop], entries[s], exits[s], matrix)
        np.testing.assert_allclose(known[s], total, rtol=1e-12)
        np.testing.assert_allclose(v[first:stop], gamma, atol=1e-13)


def test_the_first_guess_is_not_enough_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases above do guess again."""
    solved: list[int] = []
    solution = chains._solution

    def counted(*told: Any, **how: Any) -> Array:
        solved.append(1)
        return solution(*told, **how)

    monkeypatch.setattr(chains, "_solution", counted)
    matrix, b = matrix_of("stay"), emitted(300, "another state's")
    entries = np.array([[0.5, 0.5, 0.0, 0.0]])
    v, known = np.empty_like(b), np.empty(1)
    recursions(WIDTH).forward(b, np.zeros(300), np.array([[0, 300]]), entries, np.ones((1, WIDTH)), matrix, v, known)
    assert 1 < len(solved) < chains.GUESSES
    assert np.isfinite(known).all()


def test_a_solution_that_lacks_digits_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "GUESSES", 1)
    matrix, entries = matrix_of("stay"), np.array([[0.5, 0.5, 0.0, 0.0]])
    for n, taken in ((2, True), (20, False)):  # a step leaves a ten thousandth of what was guessed
        b, v, known = emitted(n, "another state's"), np.empty((n, WIDTH)), np.empty(1)
        recursions(WIDTH).forward(b, np.zeros(n), np.array([[0, n]]), entries, np.ones((1, WIDTH)), matrix, v, known)
        assert bool(np.isfinite(known[0])) is taken
