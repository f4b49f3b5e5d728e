"""Standard errors of Gaussian chains by products of scores, against differences of the log-likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import LinearGaussianChain
from streamem.core.errors import ParameterError

Array = NDArray[Any]

LEVEL = {"observation_matrix": [[1.0]], "observation_offset": [0.0]}
TREND = {"transition_matrix": [[1.0, 1.0], [0.0, 1.0]], "observation_matrix": [[1.0, 0.0]], "observation_offset": [0.0]}
AT = np.array([0.7, 0.5, 0.8])


def level(at: Array, **options: Any) -> LinearGaussianChain:
    """A, Q and R of one dimension."""
    given = {"transition_matrix": [[at[0]]], "transition_covariance": [[at[1]]], "observation_covariance": [at[2]]}
    start = {"initial_mean": [0.3], "initial_covariance": [[1.0]]}
    return LinearGaussianChain(1, n_iter=0, params="aqr", **LEVEL, **given, **start, **options)


def trend(at: Array, **options: Any) -> LinearGaussianChain:
    """Q of two and R of one dimension."""
    given = {"transition_covariance": np.diag(at[:2]), "observation_covariance": at[2:]}
    options = {"transition_noise": "diag", "diffuse": True, **options}
    return LinearGaussianChain(2, n_iter=0, params="qr", **TREND, **given, **options)


def steps(n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    y = np.cumsum(0.7 * rng.normal(size=(n, 1)), axis=0) * 0.7 + rng.normal(size=(n, 1))
    y[6:8] = np.nan
    return y


def scores(make: Callable[[Array], LinearGaussianChain], pieces: list[Array], y: Array) -> Array:
    """(pieces, 3) central differences of the log-likelihoods of data."""
    found = []
    for i in range(3):
        step = 1e-4 * np.eye(3)[i]
        up, down = make(AT + step).fit(y), make(AT - step).fit(y)
        found.append([(up.score(piece) - down.score(piece)) / 2e-4 for piece in pieces])
    return np.array(found).T


@pytest.mark.filterwarnings("ignore:the log-likelihood of these data")
@pytest.mark.parametrize("make", [level, trend])
def test_products_of_the_scores_of_steps(make: Callable[..., LinearGaussianChain]) -> None:
    """One sequence with a gap: what each step adds; a diffuse start is one step with those that make it known."""
    y, first = steps(14), 1 if make is level else 2
    heights = scores(make, [y[:stop] for stop in range(first, len(y) + 1)], y)
    each = np.diff(heights, axis=0, prepend=0.0)
    found = make(AT).fit(y).standard_errors(y, method="opg")
    np.testing.assert_allclose(found.covariance, np.linalg.inv(each.T @ each), rtol=1e-4)
    assert found.n_units == 12
    cut = make(AT, chunk_bytes=40).fit(y).standard_errors(y, method="opg")
    np.testing.assert_allclose(cut.covariance, found.covariance, rtol=1e-5)
    doubled = make(AT).fit(y).standard_errors(y, method="opg", sample_weight=np.full(len(y), 2.0))
    np.testing.assert_allclose(doubled.covariance, found.covariance / 2.0, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:the log-likelihood of these data")
def test_products_of_the_scores_of_sequences() -> None:
    """Curvature on both sides, in chunks that cut sequences too; and too few sequences."""
    y, lengths = np.vstack([steps(9 + s % 3, s) for s in range(8)]), [9 + s % 3 for s in range(8)]
    each = scores(level, np.split(y, np.cumsum(lengths)[:-1]), y)
    model = level(AT).fit(y, lengths=lengths)
    bread = model.standard_errors(y, lengths).covariance
    found = model.standard_errors(y, lengths, method="sandwich")
    np.testing.assert_allclose(found.covariance, bread @ each.T @ each @ bread, rtol=1e-4)
    assert found.n_units == 8
    cut = level(AT, chunk_bytes=40).fit(y, lengths=lengths).standard_errors(y, lengths, method="sandwich")
    np.testing.assert_allclose(cut.covariance, found.covariance, rtol=1e-5)
    with pytest.raises(ParameterError, match='"sandwich" needs at least as many sequences.*there are 1 for 3.*"opg"'):
        model.standard_errors(y, method="sandwich")
    with pytest.raises(ParameterError, match='"opg" needs at least as many observed steps.*there are 2 for 3'):
        model.standard_errors(y[:2], method="opg")
    with pytest.raises(ParameterError, match="method is 'hessian'"):
        model.standard_errors(y, method="hessian")
