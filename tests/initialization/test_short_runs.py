"""The best of short runs of EM on a sample, as a start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from streamem import CategoricalHMM, GaussianHMM, GaussianMixture, LatentClass, PoissonMixture
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, NumericalError, ParameterError
from streamem.core.sequences import Sequences
from streamem.families import Gaussian
from streamem.initialization import STARTS, best_of_short_runs
from streamem.initialization.short_runs import RUNS, drawn
from streamem.models import Mixture

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows(seed: int = 0, n: int = 300) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 7.0 * rng.integers(0, 3, (n, 1)) * [1.0, -1.0]


def likely(estimator: Any, x: Array) -> float:
    return float(estimator.fit(x).lower_bound_)


def test_starts_that_end_in_different_maxima_end_in_the_best() -> None:
    """Of two clusters that lie close and one apart, single random starts find the best maximum now and then."""
    rng = np.random.default_rng(5)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 30.0], [40.0, 0.0], [45.0, 0.0]])
    x = centres[rng.integers(5, size=500)] + rng.normal(size=(500, 2))
    found = {
        start: [
            likely(GaussianMixture(5, init_params=start, random_state=seed, reg_covar=1e-2, max_iter=200), x)
            for seed in range(4)
        ]
        for start in ("random", "short_em")
    }
    best = max(found["short_em"])
    assert min(found["short_em"]) > best - 1e-3
    assert min(found["random"]) < best - 0.05


@pytest.mark.parametrize(
    ("estimator", "x"),
    [
        (GaussianMixture(3, init_params="short_em", random_state=0), rows()),
        (
            GaussianMixture(2, init_params="short_em", missing="integrate", random_state=0),
            np.where(rows() > 9, np.nan, rows()),
        ),
        (PoissonMixture(2, init_params="short_em", random_state=0), np.arange(80.0)[:, None] % 9),
        (LatentClass(2, n_init=1, init_params="short_em", random_state=0), np.arange(80)[:, None] % [2, 3, 2]),
        (GaussianHMM(2, start="short_em", n_iter=3, random_state=0), rows(n=60)),
        (CategoricalHMM(2, start="short_em", n_iter=3, random_state=0), (np.arange(80) % 3)[:, None]),
    ],
    ids=["gaussian", "missing", "counts", "classes", "chain", "letters"],
)
def test_equal_seeds_give_equal_bits(estimator: Any, x: Array) -> None:
    one = estimator.fit(x)._fitted.state
    assert estimator.fit(x)._fitted.state == one


def test_a_start_is_better_than_what_it_began_from() -> None:
    x = np.random.default_rng(1).standard_t(3, size=(300, 2))  # no clusters
    model = Mixture(Gaussian(), 3, STARTS["short_em"])
    sample = Chunk(x)
    begun: list[float] = []

    def begin(part: Chunk, rng: np.random.RandomState) -> Params:
        params = model.init(part, rng)
        begun.append(float(model.e_step(params, part).log_likelihood))
        return params

    found = best_of_short_runs(model, sample, np.random.RandomState(0), begin, 1000).params
    assert len(begun) == RUNS
    assert float(model.e_step(found, sample).log_likelihood) > max(begun)


def test_runs_that_fail_are_passed_over_and_if_all_do_the_last_tells() -> None:
    x, model = rows(), Mixture(Gaussian(), 3, STARTS["short_em"])
    calls = iter(range(10**6))

    def begin(part: Chunk, rng: np.random.RandomState) -> Params:
        if next(calls) < RUNS - 1:
            raise NumericalError("planted")
        return model.init(part, rng)

    assert best_of_short_runs(model, Chunk(x), np.random.RandomState(0), begin, 1000).params.weights.shape == (3,)

    def never(part: Chunk, rng: np.random.RandomState) -> Params:
        raise DegenerateDataError("no start at all")

    with pytest.raises(DegenerateDataError, match="no start at all"):
        best_of_short_runs(model, Chunk(x), np.random.RandomState(0), never, 1000)


def test_runs_see_a_part_of_a_large_sample() -> None:
    """Rows in their order, with their weights, and each in its sequence."""
    x = np.arange(50.0)[:, None]
    sample = Chunk(x, np.arange(50.0), Sequences(np.array([0, 20, 20, 50])))
    part = drawn(sample, 25, np.random.RandomState(0))
    assert part.rows == 25
    np.testing.assert_array_equal(part.x[:, 0], part.weight)
    assert (np.diff(part.x[:, 0]) > 0).all()
    assert part.sequences is not None
    np.testing.assert_array_equal(part.sequences.offsets, [0, (part.x < 20).sum(), (part.x < 20).sum(), 25])
    assert drawn(sample, 50, np.random.RandomState(0)) is sample


@pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning")  # how many runs agree is rounding's
def test_a_covariance_of_few_rows_does_not_win() -> None:
    """Iris without regularization, where likelihoods of components of 4 and 5 rows are higher by 17 and more nats."""
    x = load_iris().data
    settings: dict[str, Any] = {"reg_covar": 0.0, "init_params": "short_em", "tol": 1e-8, "stopping": "aitken"}
    for seed in range(5):
        model = GaussianMixture(3, random_state=seed, **settings).fit(x)
        np.testing.assert_allclose(model.lower_bound_ * 150, -180.18548, atol=1e-4)


def test_chains_name_it_as_their_start() -> None:
    with pytest.raises(ParameterError, match=r"start is 'best'; it must be one of .*'short_em'"):
        GaussianHMM(2, start="best").fit(rows())
