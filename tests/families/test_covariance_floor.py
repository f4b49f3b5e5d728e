"""Floors of covariances: the exact maximizer under them, and accurate factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.core.errors import NumericalError
from streamem.families.covariance_floor import FLOOR
from streamem.families.gaussian.covariance import COVARIANCES

Array = NDArray[Any]
MATRICES = ["full", "tied"]
TYPES = [*MATRICES, "diag", "spherical"]


def turned(values: Array, seed: int = 0) -> Array:
    """A matrix of these eigenvalues."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    matrix = (turn * values) @ turn.T
    return np.asarray((matrix + matrix.T) / 2)


def examples(covariance_type: str, least: float) -> Array:
    """Covariances of which one has so small an eigenvalue."""
    if covariance_type in MATRICES:
        matrices = np.stack([np.eye(4), turned(np.array([least, 1.0, 2.0, 3.0])), 2 * np.eye(4)])
        return matrices[1] if covariance_type == "tied" else matrices
    variances = np.random.default_rng(1).uniform(1, 2, (3, 4) if covariance_type == "diag" else 3)
    variances.reshape(3, -1)[1, 0] = least
    return variances


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("least", [1.0, 4 * FLOOR, 1.5 * FLOOR, 0.9 * FLOOR, FLOOR / 2, 0.0, -1e-3])
def test_no_precision_exceeds_the_floor(covariance_type: str, least: float) -> None:
    """Far above the floor, near it, below it, and of matrices that are not positive definite; others stay."""
    structure, given = COVARIANCES[covariance_type], examples(covariance_type, least)
    floor = structure.least(structure.size(given, 0.0, 0.0))
    kept, floored, factors = structure.floor_and_factor(given.copy(), floor)
    assert np.any(floored) == (least < FLOOR)
    assert (floor == FLOOR).all()
    precisions = structure.precisions(factors)
    largest = np.linalg.eigvalsh(precisions).max() if covariance_type in MATRICES else precisions.max()
    assert largest == pytest.approx(1 / max(least, FLOOR), rel=1e-3)
    assert largest <= (1 + 1e-8) / FLOOR
    same = ~np.broadcast_to(floored, given.shape[:1]) if covariance_type != "tied" else ~floored
    np.testing.assert_array_equal(kept[same], given[same])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("d", [2, 5, 20])
def test_the_factor_of_a_raised_matrix_has_the_floor_to_many_digits(seed: int, d: int) -> None:
    """log|Σ| is not stationary there: the factor of the rounded matrix errs by eps·condition, 2e-4."""
    structure = COVARIANCES["full"]
    values = np.concatenate([np.zeros(d // 2), np.linspace(0.5, 2.0, d - d // 2)])
    given = turned(values, seed)[None]
    _, floored, factors = structure.floor_and_factor(given, np.full((1, d), FLOOR))
    assert floored.all()
    expected = -0.5 * np.log(np.maximum(values, FLOOR)).sum()
    assert abs(float(structure.log_det(factors, d)[0]) - expected) < 1e-8
    assert (np.diag(factors[0]) > 0).all()
    np.testing.assert_array_equal(factors[0], np.triu(factors[0]))


@pytest.mark.parametrize("seed", range(20))
def test_raising_eigenvalues_is_the_maximizer_under_any_diagonal_floor(seed: int) -> None:
    """No other Σ ⪰ F has a larger log|Σ⁻¹| − tr(Σ⁻¹·M)."""
    rng, d = np.random.default_rng(seed), 4
    floor = 10.0 ** rng.uniform(-3, 1, d)
    given = turned(np.concatenate([[0.0], 10.0 ** rng.uniform(-4, 2, d - 1)]), seed)
    kept, floored, _ = COVARIANCES["full"].floor_and_factor(given[None], floor[None])
    assert floored.all()

    def objective(covariance: Array) -> float:
        return -float(np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, given)))

    root = np.sqrt(floor)
    assert np.linalg.eigvalsh(kept[0] / root[:, None] / root).min() > 1 - 1e-9
    for _ in range(50):
        step = rng.normal(size=(d, d)) * 10.0 ** rng.uniform(-4, 0)
        values, vectors = np.linalg.eigh((kept[0] + (step + step.T) * root[:, None] * root) / root[:, None] / root)
        halves = root[:, None] * vectors * np.sqrt(np.maximum(values, 1.0))
        assert objective(halves @ halves.T) <= objective(kept[0]) + 1e-9


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_covariance_that_is_not_finite_is_refused(covariance_type: str, value: float) -> None:
    """The inverse factor of an infinite variance is finite: 0; and a variance of NaN was raised to the floor."""
    places = [(0, 0), (1, 1), (0, 1)] if covariance_type in MATRICES else [(0, 0)]
    for i, j in places:
        given = examples(covariance_type, 1.0)
        if covariance_type == "full":
            given[1, i, j] = given[1, j, i] = value
        else:
            given.reshape(len(given), -1)[[i, j], [j if covariance_type == "tied" else 0, i]] = value
        structure = COVARIANCES[covariance_type]
        with pytest.raises(NumericalError, match="not finite"):
            structure.floor_and_factor(given, structure.least(structure.size(given, 1.0, 1.0)))


@pytest.mark.parametrize("covariance_type", TYPES)
def test_rows_whose_rounding_exceeds_the_floor_raise_it(covariance_type: str) -> None:
    """A variance that is the difference of mean squares of 1e12 has no digits below 1e-3."""
    structure, given = COVARIANCES[covariance_type], examples(covariance_type, 1e-5)
    squares = np.full(structure.size(given, 0.0, 0.0).shape, 1e12)
    kept, floored, factors = structure.floor_and_factor(given, structure.least(structure.size(given, squares, 0.0)))
    assert np.any(floored)
    assert 1e-4 < 1 / np.max(structure.precisions(factors)) < 1e-1
    assert np.isfinite(kept).all()
