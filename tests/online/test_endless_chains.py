"""One endless sequence of a Gaussian chain, whose steps come in several batches or messages."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.gaussian_chain_oracle import chain_params
from streamem import LinearGaussianChain
from streamem.core.errors import ParameterError
from streamem.estimators.loading import load_model
from streamem.models.gaussian_setup import LETTERS

Array = NDArray[Any]


def steps(n: int, d: int = 2) -> Array:
    rng = np.random.default_rng(4)
    y = np.cumsum(rng.normal(size=(n, d)), axis=0) * 0.3 + rng.normal(size=(n, d))
    y[rng.random(y.shape) < 0.1] = np.nan
    y[5] = np.nan
    return y


def by_hand(k: int, d: int = 2, **options: Any) -> LinearGaussianChain:
    """A chain whose parameters are set, of which the first dimension has no noise."""
    model, own = LinearGaussianChain(k, **options), chain_params(np.random.default_rng(7), k, d, full=False)
    for name in LETTERS:
        setattr(model, f"{name}_", np.array(own[name]))
    return model


def alike(weight: float, seen: float) -> float:
    """All steps count the same."""
    return weight / (weight + seen)


def state_of(model: LinearGaussianChain) -> Any:
    state = model._now().state
    assert state is not None
    return state


CUTS = [(1, [40, 80]), (2, [30, 31, 33, 90]), (3, [50])]


@pytest.mark.variations(2, 3)
@pytest.mark.parametrize(("k", "cuts"), CUTS)
def test_statistics_are_those_of_one_pass_while_parameters_stay(k: int, cuts: list[int]) -> None:
    """And the filtered state is that of the uncut sequence."""
    y, fixed = steps(120), {"params": ""}
    whole = by_hand(k, **fixed).expected_statistics(y).stats
    model = by_hand(k, **fixed)
    model._least_rows = lambda d: 1  # type: ignore[method-assign]
    for first, stop in pairwise([0, *cuts, 120]):
        model.partial_fit(y[first:stop], continued=True, step=alike)
    running = state_of(model).memory.running * 120.0
    for name, value in whole.flatten().items():
        if name not in ("log_likelihood", "rounding"):
            size = max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(running.flatten()[name], value, atol=1e-9 * size, err_msg=name)
    found, expected = model.forecast(None, 3), by_hand(k).forecast(y, 3)
    np.testing.assert_allclose(found.means, expected.means, rtol=1e-9)
    np.testing.assert_allclose(found.covariances, expected.covariances, rtol=1e-9)


def test_the_filtered_state_of_a_diffuse_start() -> None:
    """A level of which all is known but where it is."""
    y = steps(60, 1)
    level = LinearGaussianChain.local_level(params="", transition_covariance=[[0.1]], observation_covariance=[1.0])
    level.fit(y)
    for part in np.split(y, [20, 21, 40]):
        level.partial_fit(part, continued=True)
    np.testing.assert_allclose(level.forecast(None, 2).means, level.forecast(y, 2).means, rtol=1e-10)


def test_messages_of_a_stream_are_batches(tmp_path: Path) -> None:
    """Cut otherwise than the batches; stopped and gone on; saved and loaded; and more is learned than by the first."""
    y, checkpoint = steps(900), tmp_path / "live.npz"
    parts = np.array_split(y, 18)
    taught, options = LinearGaussianChain(1, random_state=0), {"continued": True, "batch_rows": 100}
    for first in range(0, 900, 100):
        taught.partial_fit(y[first : first + 100], continued=True)
    streamed = LinearGaussianChain(1, random_state=0).fit_stream(iter(parts), **options)
    LinearGaussianChain(1, random_state=0).fit_stream(lambda: iter(parts[:8]), checkpoint=checkpoint, **options)
    again = LinearGaussianChain(1, random_state=0).fit_stream(lambda: iter(parts), checkpoint=checkpoint, **options)
    for model in (streamed, again, load_model(checkpoint)):
        assert model.transition_matrix_.tobytes() == taught.transition_matrix_.tobytes()
        assert model.forecast(None, 2).means.tobytes() == taught.forecast(None, 2).means.tobytes()
    first = LinearGaussianChain(1, random_state=0).partial_fit(y[:100], continued=True)
    assert taught.score(y) > first.score(y) + 100


def test_no_endless_sequence() -> None:
    y = steps(60)
    chain = LinearGaussianChain(1, random_state=0, n_iter=0).fit(y)
    with pytest.raises(ParameterError, match="X is None, which stands for the endless sequence.*there is none"):
        chain.forecast(None)
    with pytest.raises(ParameterError, match="one sequence"):
        chain.partial_fit(y, lengths=[30, 30], continued=True)
    chain.partial_fit(y, continued=True).partial_fit(y)
    with pytest.raises(ParameterError, match="there is none"):
        chain.forecast(None)
