"""Sweeps: the fits of a grid in shared passes are those of each point by itself, and the best is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as TheirMixture

from helpers.watched_source import Countdown, WatchedSource
from streamem import (
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    LatentClass,
    Poisson,
    PoissonMixture,
    StreamemError,
    open_source,
    select,
)
from streamem.core.errors import CheckpointMismatchError, DataError, MemoryLimitError, ParameterError
from streamem.running.sweep import packed
from streamem.sources import ReadOptions
from streamem.sources.held_out import Split, SplitSource, hashed

Array = NDArray[Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning"),
]
N, CHUNKS = 3_000, 6
CHUNK_BYTES = 16 * N // CHUNKS


def rows(seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 2)) + 6.0 * rng.integers(0, 3, (N, 1))


def gaussians(**settings: Any) -> GaussianMixture:
    few = {"init_params": "random_from_data", "max_iter": 8, "tol": 1e-6, "chunk_bytes": CHUNK_BYTES}
    return GaussianMixture(random_state=1, **{**few, **settings})


GRID = {"n_components": [1, 2, 3], "covariance_type": ["diag", "spherical"]}


def test_each_candidate_has_the_bits_of_a_fit_by_itself() -> None:
    found = select(gaussians(n_init=2), rows(), **GRID)
    assert len(found.estimators_) == 6
    for one in found.estimators_:
        alone = gaussians(n_init=2, n_components=one.n_components, covariance_type=one.covariance_type).fit(rows())
        assert one._fitted.state == alone._fitted.state
    assert found.table.column("bic").to_pylist() == [one.bic(rows()) for one in found.estimators_]
    assert found.best_index_ == int(np.argmin(found.table.column("bic")))
    assert found.best_estimator_.n_components == 3


def test_criteria_are_those_of_scikit_learn() -> None:
    """Of its own fit, with our parameters; ICL from its responsibilities."""
    found = select(gaussians(), rows(), criterion="icl", n_components=[2, 3])
    for one, line in zip(found.estimators_, found.table.to_pylist(), strict=True):
        theirs = TheirMixture(one.n_components)
        theirs.weights_, theirs.means_ = one.weights_, one.means_
        theirs.covariances_, theirs.precisions_cholesky_ = one.covariances_, one.precisions_cholesky_
        r = theirs.predict_proba(rows())
        entropy = -np.sum(r * np.log(np.maximum(r, 1e-300)))
        np.testing.assert_allclose(line["bic"], theirs.bic(rows()), rtol=1e-10)
        np.testing.assert_allclose(line["aic"], theirs.aic(rows()), rtol=1e-10)
        np.testing.assert_allclose(line["icl"], theirs.bic(rows()) + 2 * entropy, rtol=1e-9)
    assert found.best_score_ == min(found.table.column("icl").to_pylist())


def reads_of(work: Any) -> int:
    read: list[int] = []
    source = open_source(rows(), options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    work(WatchedSource(source, lambda ref: read.append(ref.index)))
    return len(read) // CHUNKS


def test_passes_are_those_of_the_longest_fit() -> None:
    """The sample, the passes, the scores: whatever the number of candidates."""
    fixed = {"tol": 0.0, "max_iter": 4}
    assert reads_of(lambda source: select(gaussians(**fixed), source, **GRID)) == 1 + 5 + 1
    assert reads_of(lambda source: gaussians(**fixed).fit(source)) == 1 + 5
    found = select(gaussians(**fixed), rows(), **GRID)
    assert found.n_reads_ == pytest.approx(5)
    assert found.bytes_read_ == 5 * rows().nbytes
    assert "5 reads of the data" in str(found)


def test_what_memory_cannot_hold_at_once_goes_in_groups() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 40))
    settings: dict[str, Any] = {"max_iter": 0, "chunk_bytes": None, "memory_limit": "90MiB"}
    found = select(gaussians(**settings), x, n_components=[200] * 1, random_state=range(20))
    shared = {one.report_.passes[0].shared for one in found.estimators_}
    assert 1 < max(shared) < 20
    assert 1 < found.n_groups_ < 20
    assert found.n_reads_ == pytest.approx(found.n_groups_)
    assert f"by {found.n_groups_} groups of fits one after the other; with memory_limit=" in str(found)
    with pytest.raises(MemoryLimitError, match="workspaces"):
        select(gaussians(**settings | {"memory_limit": "24MiB"}), x, n_components=[200])


def test_runs_share_reads_in_as_few_groups_as_their_sizes_allow() -> None:
    """Large ones first, each run once, the starts of a candidate together where they fit."""
    sizes = [6.0, 1.0, 6.0, 1.0, 1.0]
    places = [0, 1, 1, 2, 3, 3, 3, 4]
    groups = packed(places, lambda group: sum(sizes[place] for place in group), 8.0)
    assert groups == [[0, 1, 1], [2, 4], [3, 3, 3]]
    assert packed(places, lambda group: 0.0, 0.0) == [places]
    alone = packed([0, 0, 2], lambda group: sum(sizes[place] for place in group), 5.0)
    assert alone == [[0], [0], [2]]


def test_held_out_rows_are_seen_by_no_fit() -> None:
    """Other values of the rows that are held out change no fit, and only they are scored."""
    x = rows()
    held = Split(0.2, 5, held=True).keeps(np.arange(N))
    assert 0.17 < held.mean() < 0.23
    other = x.copy()
    other[held] += 0.25
    one, two = (
        select(gaussians(), data, criterion="held-out", held_out=0.2, seed=5, n_components=[2, 3])
        for data in (x, other)
    )
    for a, b, line in zip(one.estimators_, two.estimators_, one.table.to_pylist(), strict=True):
        weights = np.where(held, 0.0, 1.0)
        np.testing.assert_allclose(
            a.weights_, gaussians(n_components=a.n_components).fit(x, sample_weight=weights).weights_
        )
        assert line["held_out"] == pytest.approx(a.score(x[held]), rel=1e-12)
        assert line["weight"] == held.sum()
        np.testing.assert_allclose(a.means_, b.means_, rtol=1e-9)
    assert one.best_score_ == max(one.table.column("held_out").to_pylist())


def test_sequences_are_held_out_whole() -> None:
    x, lengths = rows(), [50] * 60
    estimator = GaussianHMM(random_state=0, n_iter=2, chunk_bytes=CHUNK_BYTES + 400)
    found = select(estimator, x, lengths=lengths, criterion="held-out", held_out=0.3, n_components=[1, 2])
    held = Split(0.3, 0, held=True).keeps(np.arange(1, 61))
    kept = np.concatenate([x[50 * i : 50 * i + 50] for i in np.flatnonzero(held)])
    for one, line in zip(found.estimators_, found.table.to_pylist(), strict=True):
        assert line["weight"] == 50 * held.sum()
        assert line["held_out"] == pytest.approx(one.score(kept, [50] * int(held.sum())) / len(kept))


def test_a_share_that_holds_nothing_out_is_refused() -> None:
    with pytest.raises(DataError, match=r"none of the sequences of the array is held out; raise held_out"):
        select(GaussianHMM(random_state=0), rows(), criterion="held-out", held_out=1e-9, n_components=[1])


def test_a_split_is_the_same_for_every_plan() -> None:
    parts = []
    for chunk_bytes in (CHUNK_BYTES, 16 * 77):
        base = open_source(rows(), options=ReadOptions(chunk_bytes=chunk_bytes))
        split = SplitSource(base, Split(0.5, 3, held=False))
        parts.append(np.concatenate([ref.load().weight for ref in split.chunks()]))
    np.testing.assert_array_equal(parts[0], parts[1])
    other = hashed(np.arange(N), 4)
    assert abs(np.corrcoef(hashed(np.arange(N), 3), other)[0, 1]) < 0.1


@pytest.mark.variations(2, 100)
@pytest.mark.parametrize(
    ("estimator", "x", "options"),
    [
        (PoissonMixture(random_state=0, max_iter=3), np.arange(60.0)[:, None] % 7, {}),
        (LatentClass(random_state=0, max_iter=3, n_init=2), np.arange(60)[:, None] % [2, 3, 2], {}),
        (GaussianHMM(random_state=0, n_iter=3), rows()[:60], {"lengths": [20, 20, 20]}),
        (GroupedMixture(Poisson(), random_state=0, max_iter=3), np.arange(60.0)[:, None] % 7, {"lengths": [3] * 20}),
    ],
    ids=["counts", "classes", "chains", "groups"],
)
def test_any_estimator_is_swept(estimator: Any, x: Array, options: dict[str, Any]) -> None:
    found = select(estimator, x, n_components=[1, 2], **options)
    lengths = [options["lengths"]] if options else []
    for one, bic in zip(found.estimators_, found.table.column("bic").to_pylist(), strict=True):
        assert bic == pytest.approx(one.bic(x, *lengths), rel=1e-12)


def test_a_candidate_that_fails_does_not_end_the_others() -> None:
    x = np.vstack([rows()[:50], np.zeros((50, 2))])
    found = select(gaussians(chunk_bytes=None), x, n_components=[1, 101])
    assert found.table.column("error").to_pylist()[0] is None
    assert "n_components = 101, n_samples = 100" in found.table.column("error").to_pylist()[1]
    assert found.estimators_[1] is None
    assert "DataError" in str(found)
    with pytest.raises(StreamemError, match="n_components = 101"):
        select(gaussians(), x, n_components=[101, 102])


class Stopped(Exception):
    """What stops a sweep in the middle."""


def stop() -> None:
    raise Stopped


@pytest.mark.variations(1, 100)
@pytest.mark.parametrize("algorithm", ["batch", "anderson"])
def test_a_stopped_sweep_goes_on_with_the_same_bits(algorithm: str, tmp_path: Path) -> None:
    source = open_source(rows(), options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    undisturbed = select(gaussians(n_init=2), source, algorithm=algorithm, **GRID)
    path = tmp_path / "sweep.npz"
    stopping = WatchedSource(source, Countdown(4 * CHUNKS + 2, stop))
    with pytest.raises(Stopped):
        select(gaussians(n_init=2), stopping, algorithm=algorithm, checkpoint=path, **GRID)

    def go_on(watched: Any) -> None:
        require_same(undisturbed, select(gaussians(n_init=2), watched, algorithm=algorithm, checkpoint=path, **GRID))

    reads = reads_of(go_on)
    assert reads == round(undisturbed.n_reads_) + 2 - 3  # the sample and the scores besides, three passes less
    with pytest.raises(CheckpointMismatchError, match="sweep"):
        select(gaussians(n_init=2), source, algorithm=algorithm, checkpoint=path, n_components=[1, 2, 3, 4])


def require_same(one: Any, other: Any) -> None:
    for a, b in zip(one.estimators_, other.estimators_, strict=True):
        assert a._fitted.state == b._fitted.state
    assert one.best_params_ == other.best_params_


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({}, {}, r"the grid is empty; name what to try"),
        ({"n_components": []}, {}, r"the grid is empty: n_components has no value"),
        ({"n_clusters": [2]}, {}, r"GaussianMixture has no hyperparameter 'n_clusters'; it has .*n_components"),
        ({"n_components": 3}, {}, r"n_components is 3; pass the values to try"),
        ({"covariance_type": "full"}, {}, r"covariance_type is 'full'; pass the values to try"),
        ({"n_components": [2, 0]}, {}, r"n_components is 0; it must be an integer >= 1"),
        ({"n_components": [2]}, {"criterion": "dic"}, r"criterion is 'dic'; it must be one of \['bic'"),
        ({"n_components": [2]}, {"criterion": "held-out", "held_out": 1.5}, r"held_out is 1.5; it must be a share"),
        ({"n_components": [2]}, {"seed": -1}, r"seed is -1; it must be an integer from 0"),
        ({"n_components": [2]}, {"seed": "now"}, r"seed is 'now'; it must be an integer from 0"),
        ({"n_components": [2]}, {"halve_after": 2}, r"halve_after is 2; it must be an integer >= 5"),
        ({"memory_limit": ["1GiB", "2GiB"]}, {}, r"memory_limit and chunk_bytes decide the plan"),
    ],
)
def test_bad_grids(grid: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        select(gaussians(), rows(), **options, **grid)


def test_icl_is_not_of_chains() -> None:
    with pytest.raises(ParameterError, match=r"criterion='icl' is for mixtures of rows, not for GaussianHMM"):
        select(GaussianHMM(), rows(), criterion="icl", n_components=[2])


def test_the_picture() -> None:
    """Axes with units, a legend, a title; the best is marked."""
    ax = select(gaussians(), rows(), **GRID).plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("n_components", "BIC")
    assert ax.get_title() == "GaussianMixture: smaller is better"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["diag", "spherical", "best"]
    assert len(ax.lines[0].get_xdata()) == 3
    ax.figure.clear()


def test_a_cluster_gives_the_bits_of_threads(client: Any) -> None:
    asked: dict[str, Any] = {"criterion": "held-out", **GRID}
    here, there = (select(gaussians(n_init=2), rows(), executor=where, **asked) for where in ("threads", client))
    require_same(here, there)
    assert here.table.column("held_out").to_pylist() == there.table.column("held_out").to_pylist()
