"""k-means||: what it draws, weighs and sums, and the fits that begin from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import (
    CategoricalHMM,
    GammaMixture,
    Gaussian,
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    LatentClass,
    Mixture,
    StudentTMixture,
    open_source,
    select,
)
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.missing import Missing
from streamem.initialization import Cells, parallel_means
from streamem.initialization.parallel_means import OVERSAMPLED, ROUNDS, Draw, Drawn, _clustered
from streamem.initialization.partly_observed import Frame
from streamem.running import starts
from streamem.sources import ReadOptions

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
N, CHUNKS = 2_000, 8
PASSES = ROUNDS + 2


def rows(seed: int = 0, n: int = N) -> Array:
    """Three clusters far apart, the last of 4 rows in 2,000."""
    rng = np.random.default_rng(seed)
    labels = np.where(np.arange(n) % 500 == 7, 2, rng.integers(2, size=n))
    return rng.normal(size=(n, 2)) + np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 60.0]])[labels]


def gaussians(**settings: Any) -> GaussianMixture:
    few = {"n_components": 3, "init_params": "k-means||", "random_state": 0, "chunk_bytes": 16 * N // CHUNKS}
    return GaussianMixture(**{**few, **settings})


def refs(x: Array, weight: Array | None = None) -> Any:
    return open_source(x, weight=weight, options=ReadOptions(chunk_bytes=16 * N // CHUNKS)).chunks()


def test_a_round_draws_what_it_would_draw_if_the_cost_were_known() -> None:
    """Each row with probability min(1, ℓ·w·d²/φ) (Bahmani et al. 2012, algorithm 2), whatever is told of chunks."""
    x, weight = rows(), np.random.default_rng(1).random(N)
    centres, factor = np.array([[0.0, 0.0]]), 40.0
    plan = refs(x, weight)
    task = Draw(Cells(centres, Frame.of_centres(2)), factor, 5, 0, None, Missing.NOTHING)
    told = [task(ref.load(), ref) for ref in plan]
    held = told[0]
    for own in told[1:]:
        held = held.beside(own)
        held = held.within(held.cost, factor)
    cost = weight * (x**2).sum(axis=1)
    chances = np.concatenate([np.random.default_rng([5, ref.index]).random(ref.rows) for ref in plan])
    np.testing.assert_allclose(held.cost, cost.sum())
    np.testing.assert_array_equal(held.rows, x[chances < factor * cost / cost.sum()])
    assert max(len(one.rows) for one in told) < 3 * factor  # a chunk tells about ℓ rows, not all
    expected = np.minimum(1.0, factor * cost / cost.sum()).sum()
    drawn = [int((np.random.default_rng(i).random(N) < factor * cost / cost.sum()).sum()) for i in range(50)]
    np.testing.assert_allclose(np.mean(drawn), expected, rtol=0.1)


def test_rows_drawn_are_about_two_for_each_component_a_round_and_never_of_weight_zero() -> None:
    x, weight = rows(), np.ones(N)
    weight[:1000], k = 0.0, 6
    candidates: list[int] = []

    def mapped(task: Any) -> Iterator[Any]:
        candidates.append(len(task.cells.centres))
        return (task(ref.load(), ref) for ref in refs(x, weight))

    cells = parallel_means(mapped, Chunk(x, weight), k, np.random.RandomState(0), None, Missing.NOTHING)
    assert len(candidates) == ROUNDS + 1
    assert candidates[0] == 1
    assert candidates[-1] <= 1 + 2 * ROUNDS * OVERSAMPLED * k
    assert candidates[-1] > k
    assert cells.centres.shape == (k, 2)
    one = Cells(cells.frame.centres(x[1000:]), cells.frame)
    assert one.labels(x[1000:])[1].max() < 1e-12


def test_candidates_count_with_the_rows_that_are_nearest_and_the_first_is_drawn() -> None:
    """A known implementation forgets the weights, and begins at row 0 (Bahmani et al. 2012 do neither)."""
    candidates, counts = np.array([[0.0], [1.0], [50.0]]), np.array([99.0, 1.0, 7.0])
    centres = _clustered(candidates, counts, 2, np.random.RandomState(0))
    np.testing.assert_allclose(np.sort(centres[:, 0]), [0.01, 50.0])
    first: list[Array] = []

    def mapped(task: Any) -> Iterator[Any]:
        first.append(task.cells.centres[0])
        return (task(ref.load(), ref) for ref in plan)

    x, plan = rows(), refs(rows())
    for seed in range(3):
        parallel_means(mapped, Chunk(x), 3, np.random.RandomState(seed), None, Missing.NOTHING)
    assert len(np.unique(first, axis=0)) == 3


def test_equal_rows_have_fewer_candidates_than_components() -> None:
    x = np.repeat([[1.0, 2.0], [3.0, 4.0]], 500, axis=0)
    cells = parallel_means(
        lambda task: (task(ref.load(), ref) for ref in refs(x)),
        Chunk(x),
        4,
        np.random.RandomState(0),
        None,
        Missing.NOTHING,
    )
    assert len(np.unique(cells.centres.round(9), axis=0)) == 2


@pytest.mark.parametrize("weighed", [False, True])
def test_the_first_parameters_are_those_of_the_cells_of_all_rows(weighed: bool) -> None:
    x = rows()
    weight = np.random.default_rng(2).integers(1, 4, N).astype(float) if weighed else np.ones(N)
    model = gaussians(max_iter=0, reg_covar=0.0).fit(x, sample_weight=weight if weighed else None)
    labels = ((x[:, None] - model.means_) ** 2).sum(axis=2).argmin(axis=1)
    assert sorted(np.bincount(labels))[0] == 4
    for k in range(3):
        own, w = x[labels == k], weight[labels == k]
        np.testing.assert_allclose(model.means_[k], w @ own / w.sum(), rtol=1e-12)
        np.testing.assert_allclose(model.covariances_[k], np.cov(own.T, bias=True, aweights=w), atol=1e-9)
    np.testing.assert_allclose(model.weights_, np.bincount(labels, weight) / weight.sum())
    assert model.report_.start_passes == PASSES
    assert f"the start took {PASSES} passes over the data" in str(model.report_)


def test_small_clusters_are_found_that_a_sample_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "sample_size", lambda job: 64)

    def least(**settings: Any) -> list[float]:
        return [float(min(gaussians(random_state=seed, **settings).fit(rows()).weights_)) for seed in range(4)]

    np.testing.assert_allclose(least(), 4 / N)
    assert sorted(least(init_params="kmeans"))[1] > 0.01


def test_threads_do_not_change_a_bit_and_seeds_do() -> None:
    one, four = (gaussians(n_threads=n, max_iter=2).fit(rows())._fitted.state for n in (1, 4))
    assert one == four
    assert one != gaussians(random_state=1, max_iter=2).fit(rows())._fitted.state


@pytest.mark.slow
def test_a_cluster_gives_the_bits_of_threads(client: Any) -> None:
    here, there = (gaussians(max_iter=2).fit(rows(), executor=where) for where in ("threads", client))
    assert here._fitted.state == there._fitted.state
    assert there.report_.start_passes == PASSES


def test_each_start_and_each_candidate_counts_its_passes() -> None:
    assert gaussians(n_init=2, max_iter=1).fit(rows()).report_.start_passes == 2 * PASSES
    found = select(gaussians(max_iter=1), rows(), n_components=[1, 3])
    assert [one.report_.start_passes for one in found.estimators_] == [1, PASSES]


@pytest.mark.parametrize(
    "model",
    [
        gaussians(missing="integrate", max_iter=20),
        gaussians(noise=True, max_iter=20),
        StudentTMixture(3, init_params="k-means||", random_state=0, max_iter=20),
        GaussianHMM(3, start="k-means||", random_state=0, n_iter=20),
        Mixture("gaussian", 3, init_params="k-means||", random_state=0, max_iter=20),
    ],
    ids=["missing", "noise", "student", "chain", "words"],
)
def test_families_of_numbers_and_chains(model: Any) -> None:
    """Clusters far apart are found by the start, whatever stands beside it."""
    x = rows()
    if getattr(model, "missing", "error") == "integrate":
        x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    labels = model.fit(x).predict(x)
    far = x[:, 1] > 30
    assert len(set(labels[far])) == 1
    assert not set(labels[far]) & set(labels[x[:, 1] < 30])


def test_groups_positive_numbers_and_mini_batches() -> None:
    x = rows()
    panel = GroupedMixture(Gaussian("diag"), 3, init_params="k-means||", random_state=0)
    assert panel.fit(x, lengths=[1] * N).report_.start_passes == PASSES
    assert GammaMixture(2, init_params="k-means||", random_state=0).fit(np.exp(x[:, :1] / 9)).converged_
    online = gaussians().partial_fit(x)
    assert abs(sorted(online.means_[:, 1])[2] - 60.0) < 2.0


def test_the_scale_of_weights_says_nothing() -> None:
    near, far = (gaussians(max_iter=1).fit(rows(), sample_weight=np.full(N, scale)) for scale in (1.0, 2.0**600))
    np.testing.assert_allclose(near.means_, far.means_, rtol=1e-12)
    assert far.report_.start_passes == PASSES


def test_given_means_stay() -> None:
    means = [[1.0, 1.0], [8.0, 0.0], [0.0, 50.0]]
    model = gaussians(means_init=means, weights_init=[0.2, 0.3, 0.5], max_iter=0).fit(rows())
    np.testing.assert_allclose(model.means_, means)
    np.testing.assert_allclose(model.weights_, [0.2, 0.3, 0.5])


CODES = np.arange(60)[:, None] % [2, 3]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LatentClass(2, init_params="k-means||"), r"init_params is 'k-means\|\|'; it must be one of .*'merged_em'"),
        (CategoricalHMM(2, start="k-means||"), r"start is 'k-means\|\|'; it must be one of .*'short_em'"),
        (
            Mixture("0:gaussian,1:categorical", 2, init_params="k-means||", random_state=0),
            r"init_params is 'k-means\|\|', which measures distances between rows, and categories of Product have "
            "none; use 'short_em' or 'merged_em'",
        ),
    ],
    ids=["classes", "letters", "mixed"],
)
def test_codes_have_no_distances(model: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        model.fit(CODES[:, :1] if isinstance(model, CategoricalHMM) else CODES)


def test_what_is_drawn_of_two_parts_is_drawn_of_both() -> None:
    one = Drawn(2.0, np.array([1.0, 1.0]), np.array([0.1, 0.9]), np.zeros((2, 1)))
    both = one.beside(one)
    assert both.cost == 4.0
    assert len(both.within(4.0, 2.0).rows) == 2
