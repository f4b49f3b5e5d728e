"""Starts that share their reads end as each of them would by itself; half of them can be given up on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.watched_source import WatchedSource
from streamem import CategoricalHMM, GaussianMixture, LatentClass, PoissonMixture, open_source
from streamem.algorithms import BatchEM, Change
from streamem.core.chunk import Chunk
from streamem.core.errors import MonotonicityError, ParameterError
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor
from streamem.families import Gaussian
from streamem.initialization import STARTS
from streamem.models import Mixture
from streamem.running import starts
from streamem.running.loop import Lane, Race, halve
from streamem.sources import ReadOptions

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
N, CHUNKS = 4_000, 8


def rows(seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 2)) + 3.0 * rng.integers(0, 3, (N, 1))


def gaussians(n_components: int = 3, **settings: Any) -> GaussianMixture:
    few = {"init_params": "random_from_data", "max_iter": 6, "tol": 0.0, "chunk_bytes": 16 * N // CHUNKS}
    return GaussianMixture(n_components, random_state=1, **{**few, **settings})


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if memory had room for one start only."""
    project = starts._project
    monkeypatch.setattr(starts, "_project", lambda job, *plan: (1, project(job, *plan)[1]))


def counts() -> Array:
    return np.random.default_rng(2).poisson([[1.0], [6.0]], size=(2, N // 2)).reshape(-1, 1).astype(float)


def fitted(estimator: Any) -> Any:
    """The state of a fit: parameters, trace, statistics; equal ones are equal bit for bit."""
    return estimator._fitted.state


FITS: dict[str, Callable[[], Any]] = {
    "batch": lambda: gaussians(n_init=3).fit(rows()),
    "stepwise": lambda: gaussians(n_init=3).fit(rows(), algorithm="stepwise"),
    "incremental": lambda: gaussians(n_init=2).fit(rows(), algorithm="incremental"),
    "ending at different times": lambda: gaussians(n_init=4, tol=1e-3, max_iter=50).fit(rows()),
    "counts": lambda: PoissonMixture(2, n_init=3, max_iter=5, random_state=0, init_params="random").fit(counts()),
    "classes": lambda: LatentClass(2, n_init=3, max_iter=5, random_state=0).fit(counts() > 2),
    "a chain that chunks cut": lambda: CategoricalHMM(
        2, n_init=2, n_iter=3, random_state=0, chunk_bytes=8 * N // CHUNKS
    ).fit((counts() > 2).astype(np.int64)),
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_bits_are_those_of_starts_alone(fit: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    together = fit()
    alone(monkeypatch)
    apart = fit()
    assert fitted(together) == fitted(apart)
    ranked = sorted(together.report_.passes, key=lambda record: record.start)
    assert [(record.start, record.iteration, record.log_likelihood) for record in ranked] == [
        (record.start, record.iteration, record.log_likelihood) for record in apart.report_.passes
    ]


def reads_of(estimator: GaussianMixture) -> int:
    read: list[int] = []
    source = open_source(rows(), options=ReadOptions(chunk_bytes=16 * N // CHUNKS))
    estimator.fit(WatchedSource(source, lambda ref: read.append(ref.index)))
    return len(read) // CHUNKS


def test_every_chunk_is_read_once_for_all_starts() -> None:
    many = gaussians(n_init=8)
    assert reads_of(many) == reads_of(gaussians(n_init=1)) == 1 + 7  # the sample; six steps, and what they came to
    assert {record.shared for record in many.report_.passes} == {8}
    assert "56 passes of several starts shared 7 reads, " in str(many.report_)


def test_starts_that_memory_cannot_hold_at_once_go_in_groups() -> None:
    many = gaussians(n_init=5, memory_limit="3MiB", max_iter=2)
    few = gaussians(200, n_init=20, max_iter=0, memory_limit="90MiB", chunk_bytes=None)
    few.fit(np.random.default_rng(0).normal(size=(3000, 40)))
    assert reads_of(many) == 1 + 3
    groups = {record.start: record.shared for record in few.report_.passes}
    assert len(groups) == 20
    assert 1 < max(groups.values()) < 20


def lanes_of(log_likelihoods: list[float], done: list[int]) -> list[Lane]:
    model = Mixture(Gaussian(), 2, STARTS["random_from_data"])
    algorithm = BatchEM(Change(0.0), 100)
    states = [algorithm.start(model.init(Chunk(rows()[:50]), np.random.RandomState(0))) for _ in done]
    return [
        Lane(model, algorithm, starts.replace(state, trace=(value,)), passes=passes)
        for state, value, passes in zip(states, log_likelihoods, done, strict=True)
    ]


@pytest.mark.parametrize(
    ("done", "stopped"),
    [
        ([5] * 5, [1, 3]),  # of an odd number the middle one stays; of equal ones the earlier
        ([10] * 5, [1, 3]),
        ([4] * 5, []),
        ([0] * 5, []),
        ([5, 5, 5, 5, 4], []),
    ],
)
def test_the_worse_half_is_given_up(done: list[int], stopped: list[int]) -> None:
    lanes = lanes_of([-1.0, -5.0, -2.0, -3.0, -3.0], done)
    lanes[4].state, lanes[3].state = lanes[3].state, lanes[4].state
    lanes[3].state = starts.replace(lanes[3].state, trace=(-3.5,))
    halve(lanes, 5)
    assert [i for i, lane in enumerate(lanes) if lane.stopped] == stopped


def test_halving_leaves_the_best_of_the_field() -> None:
    whole = gaussians(n_init=8, max_iter=30).fit(rows())
    halved = gaussians(n_init=8, max_iter=30).fit(rows(), halve_after=5)
    after_five = {record.start: record.log_likelihood for record in halved.report_.passes if record.iteration == 4}
    went_on = {record.start for record in halved.report_.passes if record.iteration == 5}
    assert went_on == set(sorted(after_five, key=lambda start: -after_five[start])[:4])
    assert len({record.start for record in halved.report_.passes if record.iteration == 15}) == 1
    assert len(halved.report_.passes) == 8 * 5 + 4 * 5 + 2 * 5 + 16
    assert halved.lower_bound_ <= whole.lower_bound_
    assert fitted(halved) == fitted(gaussians(n_init=8, max_iter=30).fit(rows(), halve_after=5))


def test_halving_too_early_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"halve_after is 4; it must be an integer >= 5"):
        gaussians(n_init=2).fit(rows(), halve_after=4)


def test_a_run_that_fails_does_not_end_the_others() -> None:
    """In a sweep: the error is that run's; alone it is the caller's."""

    class Falling(BatchEM):
        def update(self, model: Any, state: Any, stats: Stats) -> Any:
            if state.iteration == 1:
                raise MonotonicityError("planted")
            return super().update(model, state, stats)

    x = rows()
    source = open_source(x, options=ReadOptions(chunk_bytes=16 * N // CHUNKS))
    model = Mixture(Gaussian(), 2, STARTS["random_from_data"])
    start = model.init(Chunk(x), np.random.RandomState(0))

    def run(tolerant: bool, *lanes: Lane) -> list[Lane]:
        with ThreadsExecutor(2) as executor:
            Race(source, source.chunks(), executor, source.fingerprint(), tolerant=tolerant).run(lanes)
        return list(lanes)

    def lane(model: Mixture, kind: type[BatchEM] = BatchEM) -> Lane:
        algorithm = kind(Change(0.0), 3)
        return Lane(model, algorithm, algorithm.start(start))

    [expected] = run(False, lane(model))
    one, two = run(True, lane(model, Falling), lane(model))
    assert isinstance(one.failed, MonotonicityError)
    assert two.failed is None
    assert two.state == expected.state
    with pytest.raises(MonotonicityError, match="planted"):
        run(False, lane(model, Falling), lane(model))


def test_a_checkpoint_of_starts_that_share_reads_is_one_file(tmp_path: Path) -> None:
    gaussians(n_init=3).fit(rows(), checkpoint=tmp_path / "run.npz")
    again = gaussians(n_init=3).fit(rows(), checkpoint=tmp_path / "run.npz")
    assert fitted(again) == fitted(gaussians(n_init=3).fit(rows()))
    assert len(again.report_.passes) == 3 * 7  # nothing was done twice
