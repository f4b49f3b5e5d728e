"""Every family on every algorithm, and on a cluster: the same laws as for Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dask.distributed import Client
from numpy.typing import NDArray

import streamem
from streamem.algorithms import StepwiseEM
from streamem.core.ports import Family
from streamem.families import (
    AutoregressiveGaussian,
    Bernoulli,
    Categorical,
    FactorGaussian,
    Gaussian,
    MixtureFamily,
    Poisson,
)

Array = NDArray[Any]
FAMILIES: dict[str, Family] = {
    "Poisson": Poisson(),
    "Bernoulli": Bernoulli(),
    "Categorical": Categorical(),
    "Categorical with prior": Categorical(prior=2.0),
    "autoregressive": AutoregressiveGaussian(1, 1e-6),
    "mixture of Gaussians": MixtureFamily(Gaussian("diag", 1e-6), 2),
    "factors": FactorGaussian(1, reg_covar=1e-6),
    "mixture of Categoricals": MixtureFamily(Categorical(), 2),
}


def rows_of(family: Family, n: int = 6000) -> Array:
    rng = np.random.default_rng(7)
    high = rng.random((n, 1)) < 0.4
    if isinstance(family, Poisson):
        return rng.poisson(np.where(high, 2.0, 8.0), (n, 4)).astype(np.float64)
    if isinstance(family, AutoregressiveGaussian):
        earlier = rng.normal(size=(n, 1))
        return np.hstack([np.where(high, 0.9, -0.9) * earlier + 0.3 * rng.normal(size=(n, 1)), earlier])
    if isinstance(family, FactorGaussian):
        return np.where(high, 3.0, -3.0) + rng.normal(size=(n, 1)) * [1.0, -1.0, 2.0] + rng.normal(size=(n, 3))
    if isinstance(family, MixtureFamily) and isinstance(family.family, Gaussian):
        return np.where(high, 3.0, -3.0) + rng.normal(size=(n, 2))
    return (rng.random((n, 4)) < np.where(high, 0.2, 0.8)).astype(np.float64)


def mixture(family: Family) -> streamem.Mixture:
    return streamem.Mixture(
        family, 2, random_state=0, init_params="kmeans", chunk_bytes=20_000, max_iter=1000, tol=1e-4
    )


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("name", FAMILIES)
def test_threads_and_cluster_give_the_same_bits(name: str, client: Client) -> None:
    family = FAMILIES[name]
    x = rows_of(family)
    fits = [
        mixture(family).set_params(n_threads=threads).fit(x, executor=executor)
        for threads, executor in ((1, "threads"), (2, "threads"), (None, client))
    ]
    assert fits[0].report_.n_chunks > 3
    assert all(fit.params_ == fits[0].params_ for fit in fits)
    assert (fits[0].predict(x) == fits[2].predict(x, executor=client)).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("algorithm", ["incremental", StepwiseEM(passes=8)], ids=["incremental", "stepwise"])
def test_other_algorithms_reach_the_same_maximum(name: str, algorithm: Any) -> None:
    family = FAMILIES[name]
    x = rows_of(family)
    batch = mixture(family).fit(x)
    other = mixture(family).fit(x, algorithm=algorithm)
    assert other.lower_bound_ == pytest.approx(batch.lower_bound_, abs=0.02)


def test_a_fit_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path: Any) -> None:
    """The survey is made again; numbers of categories identify the run."""
    x = rows_of(Categorical())
    whole = mixture(Categorical()).set_params(tol=1e-6).fit(x)
    with pytest.warns(match="did not converge"):
        mixture(Categorical()).set_params(tol=1e-6, max_iter=3).fit(x, checkpoint=tmp_path / "run.npz")
    resumed = mixture(Categorical()).set_params(tol=1e-6).fit(x, checkpoint=tmp_path / "run.npz")
    assert resumed.params_ == whole.params_
    with pytest.raises(streamem.StreamemError, match="family"):
        mixture(Categorical((2, 2, 2, 3))).fit(x, checkpoint=tmp_path / "run.npz")


@pytest.mark.parametrize("name", ["Poisson", "Bernoulli", "Categorical", "autoregressive"])
def test_partial_fit_approaches_the_batch_fit(name: str) -> None:
    family: Family = Categorical(2) if name == "Categorical" else FAMILIES[name]
    x = rows_of(family, 20_000)
    batch, online = mixture(family).fit(x), mixture(family)
    for rows in np.array_split(x, 100):
        online.partial_fit(rows)
    assert online.score(x) == pytest.approx(batch.score(x), abs=0.02)
