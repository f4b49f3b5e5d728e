"""The report says how many starts reached the best value, and a fit warns where only one did."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.watched_source import Countdown, WatchedSource
from streamem import GaussianMixture, LatentClass, open_source, select
from streamem.running import starts
from streamem.running.reached import FINEST, LocalMaximumWarning, Reached, reached_by
from streamem.running.report import FitReport
from streamem.sources import ReadOptions

Array = NDArray[Any]
CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 40.0], [50.0, 0.0], [56.0, 0.0]])


def rows(n: int = 400) -> Array:
    """Five clusters, of which two pairs lie close: a start that puts two means into one of the others ends lower."""
    rng = np.random.default_rng(5)
    return CENTRES[rng.integers(5, size=n)] + rng.normal(size=(n, 2))


def gaussians(**settings: Any) -> GaussianMixture:
    few = {"init_params": "random_from_data", "covariance_type": "tied", "max_iter": 300, "stopping": "aitken"}
    return GaussianMixture(5, **{**few, "random_state": 1, **settings})


def interrupted() -> None:
    raise KeyboardInterrupt


def fit(model: Any, x: Any, **options: Any) -> tuple[Any, list[str]]:
    """The fitted model, and the texts of its warnings about maxima."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(x, **options)
    return model, [str(one.message) for one in told if one.category is LocalMaximumWarning]


def test_ends_within_the_tolerance_are_the_best() -> None:
    found = reached_by([-3.0, -1.0, -1.0005, -1.2], given_up=4, tol=1e-3)
    assert found == Reached(2, 4, 4, 1e-3, pytest.approx(0.2))
    assert not found.is_lone
    assert reached_by([-1.0, -1.1]) == Reached(1, 2, 0, FINEST, pytest.approx(0.1))
    assert reached_by([-1.0]) == Reached(1, 1, 0, FINEST, None)
    assert not Reached(1, 1).is_lone
    assert reached_by([]) is None
    told = "2 of 4 starts reached the best value (within 0.001 nats a row; the best of the others is 0.2 lower; 4 more"
    assert found.words("starts").startswith(told)


def test_starts_are_counted_as_separate_fits_show() -> None:
    x, rng = rows(), np.random.RandomState(1)
    ends = [float(gaussians(random_state=rng).fit(x).lower_bound_) for _ in range(6)]
    model, told = fit(gaussians(n_init=6), x)
    reached = model.report_.starts
    assert reached.ended == 6
    assert reached.reached == sum(end > max(ends) - 1e-3 for end in ends)
    assert 1 < reached.reached < 6
    assert f"{reached.reached} of 6 starts reached the best value" in str(model.report_)
    assert not told
    assert gaussians().fit(x).report_.starts is None


def test_a_lone_best_start_warns_once() -> None:
    """Of two starts that end in different maxima; not where the fit has not converged anyway."""
    x = rows()
    seed = next(
        seed
        for seed in range(20)
        if (found := fit(gaussians(n_init=2, random_state=seed), x)[0].report_.starts).reached == 1
        and found.behind > 1e-2
    )
    _, told = fit(gaussians(n_init=2, random_state=seed), x)
    assert len(told) == 1
    assert told[0].startswith("only 1 of 2 starts reached the best value, the next is 0.")
    assert "Raise n_init" in told[0]
    assert fit(gaussians(n_init=2, random_state=seed, max_iter=1, tol=0.0), x)[1] == []
    with pytest.warns(LocalMaximumWarning, match=r"the best candidate, {'n_components': 5}: only 1 of 2 starts"):
        found = select(gaussians(n_init=2, random_state=seed), x, n_components=[5])
    assert found.table.column("reached").to_pylist() == [1]
    assert "reached" not in select(gaussians(), x, n_components=[1]).table.column_names


def test_starts_given_up_are_told_apart() -> None:
    model, told = fit(gaussians(n_init=8, tol=1e-9), rows(), halve_after=5)
    found = model.report_.starts
    assert found.ended + found.given_up == 8
    assert found.given_up >= 4
    assert "more were given up on the way" in str(model.report_)
    assert bool(told) == found.is_lone


@pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning")
def test_a_resumed_fit_counts_the_starts_that_had_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if memory had room for one start at a time, and the fit were interrupted in the third."""
    x, project = rows(), starts._project
    monkeypatch.setattr(starts, "_project", lambda job, *plan: (1, project(job, *plan)[1]))
    source = open_source(x, options=ReadOptions(chunk_bytes=16 * 100))
    whole = gaussians(n_init=4).fit(source)
    passes = sum(record.start < 2 for record in whole.report_.passes) + 3
    stopping = WatchedSource(source, Countdown(4 * passes, interrupted))
    with pytest.raises(KeyboardInterrupt):
        gaussians(n_init=4).fit(stopping, checkpoint=tmp_path / "run.npz")
    resumed = gaussians(n_init=4).fit(source, checkpoint=tmp_path / "run.npz")
    assert resumed.report_.starts == whole.report_.starts
    assert whole.report_.starts.ended == 4
    assert resumed._fitted.state == whole._fitted.state


def test_short_runs_are_counted_for_a_single_start(tmp_path: Path) -> None:
    x = rows(100)
    model, told = fit(gaussians(init_params="short_em"), x)
    assert model.report_.short_runs.ended == 8
    assert "short runs on the sample reached the best value (within 0.001 nats a row" in str(model.report_)
    assert bool(told) == model.report_.short_runs.is_lone
    model.save(tmp_path / "m.npz")
    assert GaussianMixture.load(tmp_path / "m.npz").report_.short_runs == model.report_.short_runs
    assert fit(gaussians(init_params="short_em", n_init=2), x)[0].report_.short_runs is None
    assert LatentClass(2, random_state=0).fit(x > 20).report_.short_runs.reached == 8


def test_reports_without_starts_are_written_as_before() -> None:
    written = FitReport("x", 3, 2, 1).to_dict()
    assert not {"starts", "short_runs", "start_passes"} & written.keys()
    report = FitReport("x", 3, 2, 1, starts=Reached(1, 3), start_passes=7)
    assert FitReport.from_dict(report.to_dict()) == report
    assert report.doubts == ""  # nobody says that the others are behind
