"""Compiled recursions of Gaussian chains against those in NumPy, and covariances that no longer change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.gaussian_chain_oracle import chain_params, framed
from streamem.conformance.tolerance import assert_close
from streamem.core.boundary import POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.sequences import Sequences
from streamem.core.small_work import VARIABLE
from streamem.models import GaussianChain
from streamem.models.gaussian_setup import Setup

Array = NDArray[Any]

SIZES = [(3, 2), (1, 1), (2, 5), (8, 3), pytest.param(9, 2, marks=pytest.mark.slow), (4, 4)]
"""Latent and observed dimensions: up to eight latent ones matrices are written out, beyond there are loops."""


def steps(d: int) -> Chunk:
    """Three sequences, of which one has a step and one is long enough for covariances to settle, with gaps."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=(500, d))
    y[20:25], y[250, 0] = np.nan, np.nan
    weight = np.repeat([1.0, 0.5, 2.0], [30, 1, 469])
    return Chunk(y, weight, Sequences(np.array([0, 30, 31, 500])))


def answers(monkeypatch: pytest.MonkeyPatch, way: str, k: int = 3, d: int = 2) -> dict[str, Any]:
    """All that recursions give, in NumPy or compiled."""
    monkeypatch.setenv(VARIABLE, way)
    model = GaussianChain(Setup(k, observation_noise="full"))
    params, chunk = framed(chain_params(np.random.default_rng(0), k, d)), steps(d)
    long = Chunk(chunk.x[31:], None, Sequences(np.array([0, 469]), True, True))
    operator = model.operator_of(params, long, POSTERIOR)
    assert operator is not None
    return {
        "stats": model.e_step(params, chunk),
        "smoothed": model.smoothed_moments(params, chunk),
        "filtered": model.filtered_moments(params, chunk),
        "densities": model.step_densities(params, chunk),
        "operator": operator,
        "ahead": model.forward_of(params, long, POSTERIOR, Boundary(operator)),
        "back": model.backward_of(params, long, POSTERIOR, Boundary()),
    }


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for rounding."""
    assert_close(found.pop("stats"), expected.pop("stats"), 1e-11, "stats", skip=("rounding",))
    for name, value in found.items():
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(value, expected[name], atol=1e-11 * size, rtol=0, err_msg=name)


@pytest.mark.variations(2, 6)
@pytest.mark.parametrize(("k", "d"), SIZES)
def test_compiled_recursions_are_those_in_numpy(monkeypatch: pytest.MonkeyPatch, k: int, d: int) -> None:
    same(answers(monkeypatch, "compiled", k, d), answers(monkeypatch, "numpy", k, d))


def test_what_settled_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Covariances that are worked out at every step are those that were kept."""
    found = answers(monkeypatch, "numpy")
    monkeypatch.setattr("streamem.kernels.plain.gaussian_chains.SETTLED", -1.0)
    same(found, answers(monkeypatch, "numpy"))
