"""Compiled helpers: the exponential against NumPy's, log-sum-exp against SciPy's, and no folder to keep code in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from streamem.core.numerics import negligible, normalize_log_rows
from streamem.machine.compiled import LEAST, LEAST_32, compiled, compiled_inside, exp_nonpositive


@compiled
def exponentials(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exp_nonpositive(x[i])


@pytest.mark.parametrize(("dtype", "least"), [(np.float64, LEAST), (np.float32, float(LEAST_32))])
def test_the_exponential(dtype: Any, least: float) -> None:
    """To three units in the last place down to where it is cut off; NaN stays, minus infinity is 0."""
    x = np.concatenate([[0.0], -np.logspace(-12, np.log10(-least) - 1e-3, 20_000)]).astype(dtype)
    found = np.empty_like(x)
    exponentials(x, found)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=3 * np.finfo(dtype).eps)
    special, out = np.array([2 * least, -np.inf, np.nan], dtype=dtype), np.ones(3, dtype=dtype)
    exponentials(special, out)
    assert out[0] == out[1] == 0.0
    assert np.isnan(out[2])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("b", [0, 1, 127, 128, 300])
def test_log_sum_exp(dtype: Any, b: int) -> None:
    """Densities, responsibilities and active components; a weight of zero; rows that no component explains."""
    rng, k = np.random.default_rng(b), 5
    joint, weights = (rng.normal(size=(k, b)) * 20).astype(dtype), rng.dirichlet(np.ones(k))
    weights[2] = 0.0
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    exact = joint.astype(np.float64) + log_weights[:, None]
    density = logsumexp(exact, axis=0)
    known = normalize_log_rows(joint, log_weights)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(known.log_density, density, rtol=0, atol=200 * eps)
    np.testing.assert_allclose(joint, np.exp(exact - density), rtol=0, atol=400 * eps)
    clear = np.abs(exact - density - np.log(negligible(k))) > 0.1
    counted = (exact - density > np.log(negligible(k))).sum(axis=0)
    np.testing.assert_array_equal(known.active[clear.all(axis=0)], counted[clear.all(axis=0)])


def test_rows_without_density_stay_visible() -> None:
    joint = np.array([[-np.inf, 0.0, np.nan], [-np.inf, -1.0, 0.0]])
    density = normalize_log_rows(joint, np.zeros(2)).log_density
    assert np.isfinite(density).tolist() == [False, True, False]


def test_without_a_folder_to_keep_code_in() -> None:
    """Where Numba finds none it refuses to cache; then each process compiles for itself."""
    scope: dict[str, Any] = {}
    exec(compile("def double(x):\n    return 2 * x", "/nowhere/at/all.py", "exec"), scope)
    assert compiled(scope["double"])(21.0) == 42.0


@compiled_inside
def twice(x: float) -> float:
    return 2 * x


@compiled
def four_times(x: float) -> float:
    return twice(twice(x))


def test_what_is_compiled_inside_serves_compiled_callers_alone() -> None:
    for _ in range(2):  # before and after there is machine code for it
        with pytest.raises(TypeError, match="twice is compiled for callers that are compiled, and Python called it"):
            twice(1.0)
        assert four_times(1.0) == 4.0
