"""Same input, same bits: where no starting value is drawn, no seed is needed, though the data exceed the sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.fitted_states import state_of
from streamem import GMMHMM, CategoricalHMM, GaussianHMM, GaussianMixture, Mixture, PoissonHMM
from streamem.algorithms import StepwiseEM
from streamem.families import Gaussian
from streamem.running.memory import Budget

Array = NDArray[Any]
N = 20_000
SAMPLE_BYTES = 2**17
X = np.random.default_rng(0).normal(size=(N, 2)) * [1.0, 30.0] + [5.0, -400.0]
COUNTS = np.abs(X[:, :1]).round()
GIVEN: dict[str, Any] = {
    "weights_init": [0.5, 0.5],
    "means_init": [[4.0, -400.0], [6.0, -390.0]],
    "precisions_init": [[1.0, 1e-3]] * 2,
}


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget under which the data exceed the sample."""
    small = replace(Budget.of(None, None), sample_bytes=SAMPLE_BYTES)
    monkeypatch.setattr(Budget, "of", lambda *limits: small)


def mixture(**settings: Any) -> GaussianMixture:
    """A complete start, one iteration."""
    return GaussianMixture(2, covariance_type="diag", tol=0, max_iter=1, **GIVEN, **settings)


def chain(kind: type[Any], attributes: dict[str, Any], **settings: Any) -> Any:
    """A chain whose emissions are given and its transitions are not."""
    model = kind(2, init_params="st", tol=0, n_iter=1, **settings)
    for name, value in attributes.items():
        setattr(model, name, np.asarray(value))
    return model


def gaussian_chain(**settings: Any) -> GaussianHMM:
    attributes = {"means_": GIVEN["means_init"], "covars_": [[1.0, 900.0]] * 2}
    model: GaussianHMM = chain(GaussianHMM, attributes, covariance_type="diag", **settings)
    return model


def parts_chain(**settings: Any) -> GMMHMM:
    attributes = {
        "weights_": [[1.0], [1.0]],
        "means_": np.array(GIVEN["means_init"])[:, None],
        "covars_": [[[1.0, 900.0]]] * 2,
    }
    model: GMMHMM = chain(GMMHMM, attributes, n_mix=1, covariance_type="diag", **settings)
    return model


def bits(model: Any) -> dict[str, bytes]:
    """Of the exact parameters."""
    return {name: value.tobytes() for name, value in state_of(model).params.flatten().items()}  # type: ignore[attr-defined]


def stored(folder: Path) -> Any:
    np.save(folder / "x.npy", X)
    return folder / "x.npy"


SOURCES: dict[str, Callable[[Path], Any]] = {
    "array": lambda folder: X,
    "float32": lambda folder: X.astype(np.float32),
    "npy": stored,
    "dask": lambda folder: da.from_array(X, chunks=(3000, 2)),
}

STARTS: dict[str, Callable[[], Any]] = {
    "given": mixture,
    "one component": lambda: GaussianMixture(1, max_iter=1, tol=0),
    "one component of a family": lambda: Mixture(Gaussian("tied"), 1, max_iter=1, tol=0),
    "given states": gaussian_chain,
    "given mixtures of states": parts_chain,
    "left-right": lambda: GaussianHMM(2, topology="left-right", n_iter=1, tol=0),
}


@pytest.mark.filterwarnings("ignore:Best performing")
@pytest.mark.parametrize("kind", SOURCES)
def test_a_complete_start_needs_no_seed(kind: str, tmp_path: Path) -> None:
    """Of any source; the anchor's rows used to come from NumPy's global generator."""
    data = SOURCES[kind](tmp_path)
    one, other = (mixture().fit(data) for _ in range(2))
    assert (
        state_of(one).params.components.center.tolist() != np.median(X, axis=0).tolist()
    )  # not all rows are the sample
    assert bits(one) == bits(other)


@pytest.mark.filterwarnings("ignore:Best performing")
@pytest.mark.parametrize("name", STARTS)
def test_no_start_that_draws_nothing_needs_a_seed(name: str) -> None:
    """Mixtures and chains."""
    one, other = (STARTS[name]().fit(X) for _ in range(2))
    assert bits(one) == bits(other)


@pytest.mark.filterwarnings("ignore:Best performing")
@pytest.mark.parametrize("algorithm", [StepwiseEM(passes=1, batch_rows=2000), "incremental"])
def test_neither_do_other_algorithms(algorithm: Any) -> None:
    """Whose order of rows has a seed of its own."""
    one, other = (mixture().fit(X, algorithm=algorithm) for _ in range(2))
    assert bits(one) == bits(other)


def test_nor_do_online_steps() -> None:
    """A first batch that exceeds the sample."""
    one, other = (mixture().partial_fit(X) for _ in range(2))
    assert bits(one) == bits(other)


@pytest.mark.filterwarnings("ignore:Best performing")
def test_seeds_give_the_bits_that_they_gave() -> None:
    """A seed is still asked for the rows of the anchor; so is a generator."""
    seeded, generator = (mixture(random_state=seed).fit(X) for seed in (3, np.random.RandomState(3)))
    assert bits(seeded) == bits(generator)
    assert bits(seeded) != bits(mixture().fit(X))


@pytest.mark.filterwarnings("ignore:Best performing")
def test_starts_that_are_drawn_still_differ() -> None:
    """None means chance where there is something to choose."""
    centers = [GaussianMixture(2, max_iter=0, init_params="random").fit(X).means_ for _ in range(2)]
    assert not np.array_equal(*centers)


@pytest.mark.filterwarnings("ignore:Best performing")
@pytest.mark.parametrize("kind", [PoissonHMM, CategoricalHMM])
def test_discrete_chains(kind: type[Any]) -> None:
    """Their given emissions need no anchor at all."""
    attributes: dict[str, Any] = {"lambdas_": [[3.0], [9.0]]}
    if kind is CategoricalHMM:
        width = int(COUNTS.max()) + 1
        attributes = {"emissionprob_": np.full((2, width), 1 / width)}
    one, other = (chain(kind, attributes).fit(COUNTS) for _ in range(2))
    assert bits(one) == bits(other)
