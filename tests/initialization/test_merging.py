"""More components than asked for, merged down: the pair that is merged, and the fits that begin from what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import (
    CategoricalHMM,
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    LatentClass,
    Mixture,
    Poisson,
    PoissonMixture,
    StudentTMixture,
)
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.families import Gaussian
from streamem.initialization import STARTS, Start
from streamem.initialization.merging import Merged, costs_of_mergers, merged_down
from streamem.models import Mixture as MixtureModel

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows(n: int = 300) -> Array:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) + 7.0 * rng.integers(0, 3, (n, 1)) * [1.0, -1.0]


def mixture(k: int, start: Start) -> Any:
    return MixtureModel(Gaussian("diag"), k, start)


def begun(x: Array, k: int) -> Merged:
    model = mixture(k, STARTS["merged_em"])
    return Merged(model, model.init(Chunk(x), np.random.RandomState(0))).improved(Chunk(x), 3)


def test_the_cheapest_merger_loses_least_of_the_expected_log_likelihood() -> None:
    """Of all pairs, by sums over rows of r·(log π + log p) before and after, in NumPy."""
    x, rng = rows(), np.random.RandomState(0)
    found = begun(x, 5)
    resp = found.split(x, None, 5, rng)

    def expected(r: Array) -> float:
        share, mean = r.mean(), r @ x / r.sum()
        variance = r @ (x - mean) ** 2 / r.sum() + 1e-6
        density = -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
        return float(r @ (density + np.log(share)))

    costs = {
        (i, j): expected(resp[:, i]) + expected(resp[:, j]) - expected(resp[:, i] + resp[:, j])
        for i in range(5)
        for j in range(i + 1, 5)
    }
    found_costs = dict(costs_of_mergers(mixture, found, Chunk(x), resp, rng))
    assert found_costs == pytest.approx(costs, abs=0.2)
    assert min(found_costs, key=lambda pair: found_costs[pair]) == min(costs, key=lambda pair: costs[pair])


def test_clusters_are_what_is_left() -> None:
    x = rows()
    for seed in range(4):
        left = merged_down(mixture, STARTS["merged_em"], Chunk(x), 3, np.random.RandomState(seed))
        means = np.sort(Gaussian("diag").means(left.params.components)[:, 0])
        np.testing.assert_allclose(means, [0.0, 7.0, 14.0], atol=0.5)


def test_more_seeds_end_in_the_best_than_from_random_rows() -> None:
    """Five clusters, of which two pairs lie close."""
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 40.0], [50.0, 0.0], [56.0, 0.0]])
    rng = np.random.default_rng(5)
    x = centres[rng.integers(5, size=200)] + rng.normal(size=(200, 2))

    def ends(start: str) -> Array:
        settings = {"init_params": start, "covariance_type": "tied", "max_iter": 300, "stopping": "aitken"}
        return np.array([GaussianMixture(5, random_state=seed, **settings).fit(x).lower_bound_ for seed in range(4)])

    found = {start: ends(start) for start in ("random_from_data", "merged_em")}
    best = max(map(np.max, found.values()))
    assert (found["merged_em"] > best - 1e-3).all()
    assert (found["random_from_data"] < best - 0.05).any()


GAPS = np.where(np.random.default_rng(1).random((300, 2)) < 0.2, np.nan, rows())
CODES = np.arange(80)[:, None] % [2, 3, 2]


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (GaussianMixture(2, init_params="merged_em", missing="integrate", random_state=0), GAPS),
        (PoissonMixture(2, init_params="merged_em", random_state=0), np.arange(80.0)[:, None] % 9),
        (LatentClass(2, init_params="merged_em", random_state=0), CODES),
        (
            Mixture("0:gaussian,1:categorical", 2, init_params="merged_em", random_state=0),
            np.column_stack([rows(80)[:, 0], CODES[:, 1]]),
        ),
        (StudentTMixture(2, init_params="merged_em", random_state=0, max_iter=5), rows()),
        (GaussianHMM(3, start="merged_em", n_iter=3, random_state=0), rows(90)),
        (CategoricalHMM(2, start="merged_em", n_iter=3, random_state=0), (np.arange(80) % 3)[:, None]),
        (GaussianMixture(3, init_params="merged_em", random_state=0), rows(4)),
    ],
    ids=["missing", "counts", "classes", "mixed", "student", "chain", "letters", "few rows"],
)
def test_every_family_and_equal_seeds_equal_bits(model: Any, x: Array) -> None:
    one = model.fit(x)._fitted.state
    assert model.fit(x)._fitted.state == one
    assert model.report_.start_passes == 0


def test_groups_are_not_split_so() -> None:
    with pytest.raises(
        ParameterError, match=r"takes rows for independent ones; rows of one group are not: use 'short_em'"
    ):
        GroupedMixture(Poisson(), 2, init_params="merged_em").fit(CODES[:, :1], lengths=[2] * 40)
