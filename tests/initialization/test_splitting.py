"""Components that are split and merged: what a split gains, when an exchange is kept, and the fits that begin so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris

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
from streamem.core.errors import NumericalError, ParameterError
from streamem.families import Gaussian
from streamem.initialization import STARTS, Start, split_and_merged, splitting
from streamem.initialization.merging import Merged, of_responsibilities
from streamem.models import Mixture as MixtureModel

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CELLS = STARTS["merged_em"]


def rows(n: int = 300) -> Array:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) + 7.0 * rng.integers(0, 3, (n, 1)) * [1.0, -1.0]


def mixture(k: int, start: Start) -> Any:
    return MixtureModel(Gaussian("diag"), k, start)


def clusters(x: Array, labels: list[int]) -> Start:
    """A start in which rows of cluster i begin in component labels[i]."""
    nearest = np.rint(x[:, 0] / 7.0).astype(int).clip(0, 2)
    return lambda rows, weight, k, rng: np.eye(k)[np.array(labels)[nearest]] * 0.98 + 0.02 / k


def poor(x: Array) -> Merged:
    """Two components share the first cluster, and one has the two others."""
    halves = np.where(np.rint(x[:, 0] / 7.0) > 0, 2, (x[:, 1] > 0).astype(int))
    rng = np.random.RandomState(0)
    return of_responsibilities(mixture, Chunk(x), np.eye(3)[halves], rng).improved(Chunk(x), 10)


def height(found: Merged, x: Array, weight: Array | None = None) -> float:
    return float(found.model.e_step(found.params, Chunk(x, weight)).log_likelihood)


def test_one_exchange_leaves_a_poor_maximum() -> None:
    x = rows()
    begun = poor(x)
    resp = begun.split(x, None, 3, np.random.RandomState(0))
    begin: Start = lambda x, weight, k, rng: resp  # noqa: E731
    for seed in range(3):
        after = split_and_merged(mixture, begin, CELLS, Chunk(x), 3, np.random.RandomState(seed))
        assert after.exchanges == 1
        assert height(after.found, x) > height(begun.improved(Chunk(x), 100), x) + 100.0
        means = np.sort(Gaussian("diag").means(after.found.params.components)[:, 0])
        np.testing.assert_allclose(means, [0.0, 7.0, 14.0], atol=0.5)


def test_a_split_gains_at_least_what_it_promises() -> None:
    """Jensen: of all rows, with the other components as they are; weights count."""
    x, weight = rows(), np.random.default_rng(1).integers(1, 4, 300).astype(float)
    found, sample = poor(x), Chunk(x, weight)
    resp = found.split(x, weight, 3, np.random.RandomState(0))
    gain, share = splitting._halved(mixture, CELLS, found, sample, resp, 2, np.random.RandomState(0))
    assert 50.0 < gain < np.inf
    assert ((share >= 0) & (share <= 1)).all()
    four = np.column_stack([resp[:, :2], resp[:, 2] * share, resp[:, 2] * (1 - share)])
    split = of_responsibilities(mixture, sample, four, np.random.RandomState(0)).improved(sample, 1)
    assert height(split, x, weight) - height(found, x, weight) >= gain - 1.0  # one M-step of two components apart


def test_what_does_not_raise_the_objective_is_not_kept() -> None:
    """From the best maximum nothing is exchanged, and what is left is EM of that start."""
    x = rows()
    begin = clusters(x, [0, 1, 2])
    after = split_and_merged(mixture, begin, CELLS, Chunk(x), 3, np.random.RandomState(0))
    assert after.exchanges == 0
    alone = of_responsibilities(mixture, Chunk(x), begin(x, None, 3, None), np.random.RandomState(0))  # type: ignore[arg-type]
    assert after.found.params == alone.improved(Chunk(x), splitting.BEFORE).params


def test_exchanges_that_fail_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    x, real = rows(), of_responsibilities
    resp = poor(x).split(x, None, 3, np.random.RandomState(0))
    calls: list[int] = []

    def sometimes(mixture: Any, sample: Chunk, own: Array, rng: Any) -> Merged:
        calls.append(len(own))
        if len(calls) > 1 and own.shape[1] == 3:
            raise NumericalError("planted")
        return real(mixture, sample, own, rng)

    monkeypatch.setattr(splitting, "of_responsibilities", sometimes)
    after = split_and_merged(mixture, lambda *_: resp, CELLS, Chunk(x), 3, np.random.RandomState(0))
    assert after.exchanges == 0
    assert len(calls) > 5


def test_many_clusters_are_found_from_every_seed() -> None:
    """Ten of them, where k-means misses some from most seeds."""
    rng = np.random.default_rng(0)
    x = 12.0 * rng.normal(size=(10, 2))[rng.integers(10, size=800)] + rng.normal(size=(800, 2))

    def ends(start: str) -> Array:
        settings: dict[str, Any] = {"init_params": start, "covariance_type": "diag", "max_iter": 100}
        return np.array([GaussianMixture(10, random_state=seed, **settings).fit(x).lower_bound_ for seed in range(4)])

    found = {start: ends(start) for start in ("kmeans", "split_merge")}
    best = max(map(np.max, found.values()))
    assert (found["split_merge"] > best - 1e-2).all()
    assert (found["kmeans"] < best - 2e-2).any()


@pytest.mark.parametrize("seed", [6, 16])
def test_a_covariance_that_collapses_does_not_win(seed: int) -> None:
    """Iris without regularization: 29 petals are as wide as each other, and components of few rows climb too."""
    settings: dict[str, Any] = {"reg_covar": 0.0, "init_params": "split_merge", "tol": 1e-8, "stopping": "aitken"}
    model = GaussianMixture(3, random_state=seed, **settings).fit(load_iris().data)
    assert model.lower_bound_ * 150 == pytest.approx(-180.18548, abs=1e-4)


GAPS = np.where(np.random.default_rng(1).random((300, 2)) < 0.2, np.nan, rows())
CODES = np.arange(80)[:, None] % [2, 3, 2]


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (GaussianMixture(3, init_params="split_merge", missing="integrate", random_state=0), GAPS),
        (PoissonMixture(3, init_params="split_merge", random_state=0), np.arange(80.0)[:, None] % 9),
        (LatentClass(3, init_params="split_merge", random_state=0), CODES),
        (
            Mixture("0:gaussian,1:categorical", 3, init_params="split_merge", random_state=0),
            np.column_stack([rows(80)[:, 0], CODES[:, 1]]),
        ),
        (StudentTMixture(3, init_params="split_merge", random_state=0, max_iter=5), rows()),
        (GaussianHMM(3, start="split_merge", n_iter=3, random_state=0), rows(90)),
        (CategoricalHMM(3, start="split_merge", n_iter=3, random_state=0), (np.arange(80) % 3)[:, None]),
        (GaussianMixture(3, init_params="split_merge", random_state=0), rows(4)),
        (GaussianMixture(1, init_params="split_merge", random_state=0), rows(20)),
        (GaussianMixture(2, init_params="split_merge", random_state=0), rows(20)),
    ],
    ids=["missing", "counts", "classes", "mixed", "student", "chain", "letters", "few rows", "one", "two"],
)
def test_every_family_and_equal_seeds_equal_bits(model: Any, x: Array) -> None:
    one = model.fit(x)._fitted.state
    assert model.fit(x)._fitted.state == one
    assert model.report_.start_passes == 0


def test_the_report_counts_exchanges_and_a_model_file_keeps_the_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = 12.0 * rng.normal(size=(10, 2))[rng.integers(10, size=800)] + rng.normal(size=(800, 2))
    model = GaussianMixture(10, covariance_type="diag", init_params="split_merge", random_state=2).fit(x)
    count = model.report_.start_exchanges
    assert count > 0
    times = "once" if count == 1 else f"{count} times"
    assert f"the start merged two components and split another {times}" in str(model.report_)
    model.save(tmp_path / "model.npz")
    assert GaussianMixture.load(tmp_path / "model.npz").report_.start_exchanges == count
    plain = GaussianMixture(2, random_state=0).fit(x).report_
    assert "start_exchanges" not in plain.to_dict()


def test_groups_are_not_split_so() -> None:
    with pytest.raises(
        ParameterError, match=r"takes rows for independent ones; rows of one group are not: use 'short_em'"
    ):
        GroupedMixture(Poisson(), 2, init_params="split_merge").fit(CODES[:, :1], lengths=[2] * 40)
