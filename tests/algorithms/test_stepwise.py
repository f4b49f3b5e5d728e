"""fit(algorithm=...): stepwise and incremental EM over data at rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamem import GaussianMixture
from streamem.algorithms import IncrementalEM, PowerLaw, StepwiseEM
from streamem.algorithms.schedule import Schedule
from streamem.core.errors import MemoryLimitError, NonFiniteError, ParameterError
from streamem.models import Mixture as MixtureModel

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CENTRES = np.array([[0.0, 0.0, 0.0], [5.0, 1.0, 0.0], [2.0, 6.0, 1.0]])
ARRAYS = ("weights_", "means_", "covariances_")
SMALL = {"chunk_bytes": 24 * 500}
ORDERS: dict[str, Callable[[Any], Any]] = {
    "as drawn": lambda x: x,
    "sorted": lambda x: x[np.argsort(x[:, 0])],
    "float32": lambda x: x.astype(np.float32),
}
QUICK = {("full", "sorted", 40)}
"""Of types, orders and chunks; the others are slow."""


def rows(n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return CENTRES[rng.choice(3, size=n, p=[0.5, 0.3, 0.2])] + rng.normal(size=(n, 3))


def mixture(**settings: Any) -> GaussianMixture:
    return GaussianMixture(3, **{"random_state": 0, "init_params": "random_from_data", **settings})


def whole_step(weight: float, seen: float) -> float:
    return 1.0


def equal(one: Any, other: Any) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ARRAYS)


# --- the schedule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_rows", [[10], [7, 1, 30, 4, 9, 9], [1] * 40])
@pytest.mark.parametrize("batch_rows", [1, 4, 100])
def test_a_pass_draws_every_row_once(chunk_rows: list[int], batch_rows: int) -> None:
    from streamem.sources import open_source

    starts = np.cumsum([0, *chunk_rows])
    refs = [open_source(np.arange(a, b, dtype=float)[:, None]).chunks()[0] for a, b in pairwise(starts)]
    schedule = Schedule(chunk_rows, batch_rows, passes=2, seed=3, together=2)
    drawn = [[piece.load().x[:, 0] for piece in schedule.pieces(step, refs)] for step in range(schedule.steps)]
    taken = np.concatenate([values for batch in drawn for values in batch])
    assert len(taken) == 2 * sum(chunk_rows)
    np.testing.assert_array_equal(np.sort(taken[: sum(chunk_rows)]), np.arange(sum(chunk_rows)))
    sizes = [sum(len(values) for values in batch) for batch in drawn]
    if batch_rows < min(chunk_rows):
        assert max(sizes) <= 2 * batch_rows + 2
    if batch_rows == 1:
        assert not np.array_equal(taken[: sum(chunk_rows)], taken[sum(chunk_rows) :])


# --- laws ------------------------------------------------------------------------------------------------------------


def test_one_batch_of_all_rows_and_a_whole_step_are_one_iteration() -> None:
    x = rows(2000)
    once = StepwiseEM(whole_step, passes=1, batch_rows=2000, averaging=0)
    stepwise = mixture(**SMALL).fit(x, algorithm=StepwiseEM(whole_step, passes=1, batch_rows=10**6, averaging=0))
    batch = mixture(max_iter=1, tol=0).fit(x)
    together = mixture().fit(x, algorithm=once)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(together, name), getattr(batch, name), rtol=1e-12, atol=1e-12)
    assert together.n_iter_ == 1
    assert together.lower_bound_ == pytest.approx(batch.lower_bound_, rel=1e-12)
    assert together.lower_bound_ == pytest.approx(together.score(x), rel=1e-12)
    assert stepwise.n_iter_ == 1


CLOSE = [
    pytest.param(kind, order, chunks, marks=() if (kind, order, chunks) in QUICK else pytest.mark.slow)
    for kind in ("full", "tied", "diag", "spherical")
    for order in ORDERS
    for chunks in (1, 40)
]


@cache
def converged_score(covariance_type: str) -> float:
    x = rows(20_000)
    settings = {"covariance_type": covariance_type, "tol": 1e-9, "max_iter": 2000, "init_params": "kmeans"}
    return mixture(**settings).fit(x).score(x)


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize(("covariance_type", "order", "chunks"), CLOSE)
def test_it_comes_close_to_converged_em_whatever_the_order_of_rows(
    covariance_type: str, order: str, chunks: int
) -> None:
    x = rows(20_000)
    gm = mixture(covariance_type=covariance_type, init_params="kmeans", **(SMALL if chunks > 1 else {}))
    gap = converged_score(covariance_type) - gm.fit(ORDERS[order](x), algorithm="stepwise").score(x)
    assert -1e-6 < gap < 2e-4, f"{gap * len(x):.1f} nats"


def test_duplicated_data_changes_nothing_but_the_number_of_steps() -> None:
    x = rows(3000)
    rule = StepwiseEM(PowerLaw(1.0), passes=3, batch_rows=10**6, averaging=0)
    start = {"means_init": CENTRES + 0.5, "weights_init": np.full(3, 1 / 3), "precisions_init": [np.eye(3)] * 3}
    one = mixture(**start).fit(x, algorithm=rule)
    two = mixture(**start).fit(np.repeat(x, 2, axis=0), algorithm=rule)
    three = mixture(**start).fit(x, sample_weight=np.full(3000, 2.0), algorithm=rule)
    for other in (two, three):
        for name in ARRAYS:
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-10)
        assert other.n_iter_ == one.n_iter_ == 3


def test_averaging_late_beats_averaging_all_and_batch_from_a_poor_start() -> None:
    rng = np.random.default_rng(0)
    centres = 1.5 * rng.normal(size=(4, 4))
    x = centres[rng.integers(4, size=8000)] + rng.normal(size=(8000, 4))
    start = {"means_init": x.mean(0) + 0.1 * rng.normal(size=(4, 4)), "weights_init": np.full(4, 0.25)}

    def score(algorithm: Any) -> float:
        gm = GaussianMixture(4, random_state=0, max_iter=5, tol=0, precisions_init=[np.eye(4) / 8] * 4, **start)
        return len(x) * gm.fit(x, algorithm=algorithm).lower_bound_

    late, everything = score("stepwise"), score(StepwiseEM(averaging=1.0))
    few, batch = score(StepwiseEM(batch_rows=2000)), score("batch")
    assert late > everything + 80
    assert everything > few + 80
    assert everything > batch + 800
    assert score("incremental") > batch


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.variations(1, 6)
@pytest.mark.parametrize("algorithm", ["stepwise", "incremental"])
def test_threads_do_not_change_the_bits(algorithm: str) -> None:
    x = rows(4000)
    one, many = (mixture(n_threads=n, max_iter=3, **SMALL).fit(x, algorithm=algorithm) for n in (1, 3))
    assert equal(one, many)


@pytest.mark.variations(1, 2)
@pytest.mark.parametrize("algorithm", [StepwiseEM(passes=2, batch_rows=200), "incremental"])
def test_a_run_killed_anywhere_goes_on_with_the_same_bits(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamem.running.checkpoint.INTERVAL_S", 0.0)
    monkeypatch.setattr("streamem.running.checkpoint.Checkpoint.__init__.__defaults__", (0.0,))
    x, e_step = rows(4000), MixtureModel.e_step
    undisturbed = mixture(max_iter=3, **SMALL).fit(x, algorithm=algorithm)
    for calls in (1, 12, 45):
        left = [calls]

        def dies(self: Any, params: Any, chunk: Any, _: Any = None, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return e_step(self, params, chunk)

        path = tmp_path / f"{calls}.npz"
        with monkeypatch.context() as patch:
            patch.setattr("streamem.models.Mixture.e_step", dies)
            with pytest.raises(KeyboardInterrupt):
                mixture(max_iter=3, n_threads=1, **SMALL).fit(x, algorithm=algorithm, checkpoint=path)
        resumed = mixture(max_iter=3, **SMALL).fit(x, algorithm=algorithm, checkpoint=path)
        assert equal(undisturbed, resumed)
        assert resumed.n_iter_ == undisturbed.n_iter_
        assert resumed.lower_bounds_ == undisturbed.lower_bounds_


def test_several_starts_and_a_warm_one() -> None:
    x = rows(3000)
    gm = mixture(n_init=3, warm_start=True).fit(x, algorithm=StepwiseEM(passes=1))
    first = gm.lower_bound_
    gm.fit(x, algorithm=StepwiseEM(passes=2))
    assert gm.lower_bound_ >= first - 1e-3
    assert gm.partial_fit(rows(50, 1)).effective_sample_size_ > 1000
    assert len(gm.report_.passes) == 0
    told = mixture().fit(x, algorithm=StepwiseEM(passes=3)).report_
    assert [record.rows for record in told.passes] == [3000] * 4
    assert told.passes[0].log_likelihood < told.passes[-1].log_likelihood
    without = mixture().fit(x, algorithm=StepwiseEM(passes=3, final_pass=False))
    assert len(without.report_.passes) == 3


# --- incremental -----------------------------------------------------------------------------------------------------


def test_one_block_is_batch_em() -> None:
    x = rows(2000)
    batch = mixture(max_iter=7, tol=0, **SMALL).fit(x)
    incremental = mixture(max_iter=7, tol=0, **SMALL).fit(x, algorithm=IncrementalEM(blocks=1))
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(batch, name), getattr(incremental, name), rtol=1e-12, atol=1e-12)
    assert incremental.lower_bound_ == pytest.approx(batch.lower_bound_, rel=1e-13)


@pytest.mark.parametrize("apart", [1.0, 1e6])
def test_incremental_converges_where_batch_does(apart: float) -> None:
    """Far clusters go by differences, whose statistics move with the means."""
    x = rows(6000)
    x[:2000] += apart * 20
    settings = {"tol": 1e-10, "max_iter": 500, "init_params": "kmeans", "stopping": "aitken"}
    batch = mixture(**settings).fit(x)
    incremental = mixture(**settings).fit(x, algorithm="incremental")
    assert incremental.converged_
    assert incremental.lower_bound_ == pytest.approx(batch.lower_bound_, abs=1e-6)


def test_blocks_beyond_the_budget_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(3000, 40))
    gm = GaussianMixture(8, memory_limit="32MiB", random_state=0, init_params="random_from_data", max_iter=1)
    with pytest.raises(MemoryLimitError, match="use up to 75 blocks"):
        gm.fit(x, algorithm=IncrementalEM(blocks=2000))
    gm.fit(x, algorithm="incremental")


# --- bad input -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    for wrong in ("fast", 3):
        with pytest.raises(ParameterError, match="algorithm is"):
            mixture().fit(rows(100), algorithm=wrong)  # type: ignore[arg-type]
    for settings, words in (({"passes": 0}, "passes"), ({"batch_rows": 0}, "batch_rows"), ({"averaging": 2}, "share")):
        with pytest.raises(ParameterError, match=words):
            StepwiseEM(**settings)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="blocks"):
        IncrementalEM(blocks=0)


def test_a_bad_value_is_named_by_its_row() -> None:
    x = rows(3000)
    x[1234, 2] = np.nan
    gm = mixture(max_iter=1).fit(rows(100))
    before = gm.means_.tobytes()
    gm.set_params(means_init=CENTRES, weights_init=np.full(3, 1 / 3), precisions_init=[np.eye(3)] * 3)
    with pytest.raises(NonFiniteError, match="1 in column 2 .the first, NaN, in row 1234"):
        gm.fit(x, algorithm=StepwiseEM(seed=1))
    assert gm.means_.tobytes() == before
