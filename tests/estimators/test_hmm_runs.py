"""Fits of hidden Markov models that are interrupted, distributed, online, or given what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from distributed import Client

from helpers.fitted_states import state_of
from helpers.hmm_starts import LENGTHS, Array, D, K, fitted_quietly, gaussian_start, rows, with_attributes
from helpers.watched_source import Countdown, WatchedSource
from streamem import CategoricalHMM, GaussianHMM, PoissonHMM, ReadOptions, StreamemError, open_sequences, open_source
from streamem.algorithms import IncrementalEM, PowerLaw, StepwiseEM
from streamem.core.errors import (
    CheckpointMismatchError,
    DataError,
    NonFiniteError,
    ParameterError,
    SchemaError,
)

NAMES = ("startprob_", "transmat_", "means_", "covars_")
CUTTING = 16 * 37
"""Bytes of a chunk of 37 steps."""


def hmm(**settings: Any) -> GaussianHMM:
    """From a start of its own, in chunks that cut sequences."""
    chosen = {"n_components": K, "n_iter": 6, "tol": 0, "random_state": 0, "chunk_bytes": CUTTING, **settings}
    return GaussianHMM(**chosen)


def bits(model: Any) -> dict[str, bytes]:
    """What two fits must have in common, bit for bit."""
    numbers = {name: getattr(model, name) for name in NAMES} | {"trace": model.lower_bounds_}
    return {name: np.asarray(value).tobytes() for name, value in numbers.items()}


# --- interrupted -----------------------------------------------------------------------------------------------------


class CrashError(Exception):
    """The stand-in for a crash."""


def watched(watch: Callable[[Any], object]) -> Any:
    """Sequences whose rows are read under observation, in chunks that cut them."""
    base = open_source(rows(), options=ReadOptions(chunk_bytes=CUTTING))
    return open_sequences(WatchedSource(base, watch), lengths=LENGTHS)


@pytest.mark.variations(1, 100)
@pytest.mark.parametrize("algorithm", ["batch", "stepwise", "incremental"])
def test_interrupted_runs_end_with_the_same_bits(algorithm: str, tmp_path: Path) -> None:
    source = watched(lambda _: None)
    whole = fitted_quietly(hmm(), source, algorithm=algorithm)
    counted: list[int] = []
    fitted_quietly(hmm(), watched(lambda _: counted.append(1)), algorithm=algorithm)

    def crash() -> None:
        raise CrashError

    crashing = watched(Countdown(2 * len(counted) // 3, crash))
    with pytest.raises(CrashError):
        fitted_quietly(hmm(), crashing, checkpoint=tmp_path / "c.npz", algorithm=algorithm)
    resumed = fitted_quietly(hmm(), source, checkpoint=tmp_path / "c.npz", algorithm=algorithm)
    assert bits(resumed) == bits(whole)
    with pytest.raises(CheckpointMismatchError, match="topology"):
        hmm(topology="left-right").fit(source, checkpoint=tmp_path / "c.npz", algorithm=algorithm)


def test_an_interrupt_says_how_to_go_on() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        hmm().fit(watched(Countdown(30, interrupt)))
    assert "checkpoint=" in caught.value.__notes__[0]


# --- elsewhere -------------------------------------------------------------------------------------------------------


@pytest.mark.variations(1, 2)
@pytest.mark.parametrize("algorithm", ["batch", "stepwise"])
def test_a_cluster_gives_the_bits_of_threads(client: Client, algorithm: str, tmp_path: Path) -> None:
    x = rows(2000)
    store = str(tmp_path / "x.zarr")
    zarr.create_array(store=store, shape=x.shape, chunks=(64, D), dtype="f8")[:] = x
    lengths = [1500, 1, 499]
    here = fitted_quietly(hmm(), store, lengths, executor="threads", algorithm=algorithm)
    one = fitted_quietly(hmm(n_threads=1), store, lengths, executor="threads", algorithm=algorithm)
    there = fitted_quietly(hmm(), store, lengths, executor=client, algorithm=algorithm)
    assert bits(here) == bits(there) == bits(one)
    assert there.report_.setting["workers"] == 2
    assert here.score(store, lengths, executor="threads") == there.score(store, lengths, executor=client)
    np.testing.assert_array_equal(
        here.predict(store, lengths, executor="threads"), there.predict(store, lengths, executor=client)
    )
    out = there.predict_proba(store, lengths, out=tmp_path / "p.zarr", executor=client)
    np.testing.assert_array_equal(zarr.open_array(str(out))[:], here.predict_proba(store, lengths))


def test_surveys_of_symbols_on_a_cluster(client: Client) -> None:
    x = np.random.default_rng(0).integers(4, size=(1000, 2))
    settings: dict[str, Any] = {"n_iter": 3, "tol": 0, "random_state": 0, "chunk_bytes": 1000}
    here = fitted_quietly(CategoricalHMM(2, **settings), x, [300, 700], executor="threads")
    there = fitted_quietly(CategoricalHMM(2, **settings), x, [300, 700], executor=client)
    assert here.n_categories_.tolist() == [4, 4]
    np.testing.assert_array_equal(here.probabilities_, there.probabilities_)


# --- mini-batches ----------------------------------------------------------------------------------------------------


def whole_step(weight: float, seen: float) -> float:
    return 1.0


def test_one_mini_batch_of_everything_is_one_iteration() -> None:
    x = rows()
    batch = fitted_quietly(hmm(n_iter=1, chunk_bytes=None), x, LENGTHS)
    for rule in (StepwiseEM(whole_step, passes=1, batch_rows=10**6, averaging=0), IncrementalEM(1)):
        other = fitted_quietly(hmm(n_iter=1, chunk_bytes=None), x, LENGTHS, algorithm=rule)
        for name in NAMES:
            np.testing.assert_allclose(getattr(other, name), getattr(batch, name), rtol=1e-11, atol=1e-13)


def test_mini_batches_hold_whole_sequences() -> None:
    lengths = [7, 3, 12, 5, 9, 4, 20, 1, 6, 2]
    x = np.arange(sum(lengths), dtype=float)[:, None]
    source = open_sequences(x, lengths=lengths)
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    for window in (None, 4):
        plan = StepwiseEM(passes=1, batch_rows=8, window=window).planned(source.chunks(), limits())
        drawn = [
            piece.load() for step in range(plan.schedule.steps) for piece in plan.schedule.pieces(step, source.chunks())
        ]
        found = []
        for chunk in drawn:
            assert chunk.sequences is not None
            found += [chunk.x[a:b, 0] for a, b in pairwise(chunk.sequences.offsets)]
        assert sorted(np.concatenate(found)) == x.ravel().tolist()
        assert all((np.diff(steps) == 1).all() for steps in found)
        if window is None:
            assert sorted(steps[0] for steps in found) == sorted(first)
        else:
            assert max(map(len, found)) <= window
        assert len(drawn) > 3


def limits() -> Any:
    from streamem.core.ports import Limits

    return Limits(open_bytes=2**20, least_rows=1, statistics_bytes=100, max_iter=10)


@pytest.mark.slow
@pytest.mark.variations(1, 1)
@pytest.mark.parametrize(
    ("lengths", "settings"),
    [
        pytest.param([100] * 60, {"chunk_bytes": 16 * 1500}, id="chunks"),
        pytest.param([100] * 60, {}, marks=pytest.mark.slow, id="one chunk"),
        pytest.param(None, {}, marks=pytest.mark.slow, id="windows of one sequence"),
    ],
)
def test_stepwise_comes_close_to_converged_em(lengths: list[int] | None, settings: dict[str, Any]) -> None:
    x = rows(6_000)
    converged = GaussianHMM(K, random_state=0, tol=1e-8, n_iter=1000).fit(x, lengths)
    quick = GaussianHMM(K, random_state=0, **settings).fit(x, lengths, algorithm="stepwise")
    assert converged.score(x, lengths) - quick.score(x, lengths) < 40


def test_partial_fit_learns_sequences_as_they_come() -> None:
    x = rows(20_000)
    online = GaussianHMM(K, random_state=0)
    for first in range(0, 20_000, 500):
        online.partial_fit(x[first : first + 500], [100] * 5, step=PowerLaw(0.6))
    batch = GaussianHMM(K, random_state=0).fit(x, [100] * 200)
    assert batch.score(x, [100] * 200) - online.score(x, [100] * 200) < 200
    few = GaussianHMM(K, random_state=0).partial_fit(x[:5], [2, 3])
    assert not hasattr(few, "means_")
    few.partial_fit(x[5:500], [495])
    assert state_of(few).rows == 500


def alike(weight: float, seen: float) -> float:
    """All rows count the same."""
    return weight / (weight + seen)


@pytest.mark.parametrize("cuts", [[1000, 2000, 3000], [1, 2, 3, 500], [3999]])
def test_an_endless_sequence_is_known_exactly_while_parameters_stay(cuts: list[int]) -> None:
    """Cappé's recursion: later batches still decide what earlier steps were, as in one pass over everything."""
    x = rows(4000)
    fixed = {"params": "", "init_params": "", "chunk_bytes": None}
    whole = with_attributes(hmm(**fixed), gaussian_start("diag")).expected_statistics(x).stats
    model = with_attributes(hmm(**fixed), gaussian_start("diag"))
    model._least_rows = lambda d: 1  # type: ignore[method-assign]
    for first, stop in pairwise([0, *cuts, 4000]):
        model.partial_fit(x[first:stop], continued=True, step=alike)
    running = state_of(model).memory.running * 4000.0
    for name, value in whole.flatten().items():
        if name not in ("log_likelihood", "rounding"):
            np.testing.assert_allclose(running.flatten()[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(np.exp(state_of(model).memory.endless.filtered), model.predict_proba(x)[-1], rtol=1e-9)


def test_batches_of_one_endless_sequence(tmp_path: Path) -> None:
    """They come as close as an iteration over all of it, whether the model is new or given."""
    x = rows(20_000)
    batch = GaussianHMM(K, random_state=0).fit(x)
    for start in ({}, gaussian_start("diag", seed=3)):
        model = with_attributes(hmm(chunk_bytes=None), start)
        for first in range(0, 20_000, 250):
            model.partial_fit(x[first : first + 250], continued=True, step=PowerLaw(0.6))
        assert batch.score(x) - model.score(x) < 200
    with pytest.raises(ParameterError, match="one sequence"):
        model.partial_fit(x[:400], [200, 200], continued=True)
    model.save(tmp_path / "m.npz")
    loaded = GaussianHMM.load(tmp_path / "m.npz")
    for one in (model, loaded):
        one.partial_fit(x[:500], continued=True)
    assert bits(loaded) == bits(model)
    model.partial_fit(x[:500])
    assert "endless" not in state_of(model).memory


# --- what cannot be --------------------------------------------------------------------------------------------------


def zero_row() -> dict[str, Array]:
    """Transitions of which one row is all zeros."""
    start = gaussian_start("diag")
    start["transmat_"] = np.array([[0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]])
    return start


def by_hand(**wrong: Any) -> GaussianHMM:
    """Three states, set as attributes."""
    return with_attributes(hmm(init_params=""), {**gaussian_start("diag"), **wrong})


def frame(x: Array) -> pd.DataFrame:
    """Columns a and b."""
    return pd.DataFrame(x, columns=["a", "b"])


WRONG = {"means_": np.zeros((2, D))}
BAD: list[tuple[str, type[Exception], str, Any]] = [
    ("sum", DataError, "600", lambda x: hmm().fit(x, [300, 299])),
    ("empty sequence", DataError, "empty|>= 1|0 steps|without", lambda x: hmm().fit(x, [300, 0, 300])),
    ("negative", DataError, "-1|>= 1", lambda x: hmm().fit(x, [601, -1])),
    ("two ways", ParameterError, "one way", lambda x: hmm().fit(x, [600], offsets=[0])),
    ("zero row", ParameterError, "transmat", lambda x: with_attributes(hmm(init_params=""), zero_row()).fit(x)),
    ("shape", ParameterError, "means_", lambda x: with_attributes(hmm(init_params="stc"), WRONG).fit(x)),
    ("one axis", ParameterError, "means_", lambda x: by_hand(means_=np.zeros(3)).score(x)),
    ("other widths", ParameterError, "covars_", lambda x: by_hand(covars_=np.ones((3, D + 1))).score(x)),
    (
        "states",
        ParameterError,
        "n_components",
        lambda x: fitted_quietly(PoissonHMM(2), x * 0).set_params(n_components=3).score(x),
    ),
    ("states drawn", ParameterError, "startprob", lambda x: by_hand().set_params(n_components=2).sample(9)),
    ("none", ParameterError, "startprob_", lambda x: by_hand(startprob_=None).score(x)),
    ("list of vectors", SchemaError, "reshape", lambda x: hmm().fit([x[:200, 0], x[:200, 0]])),
    ("half a step", ParameterError, "n_samples", lambda x: by_hand().sample(1.5)),
    ("letters", ParameterError, "init_params", lambda x: hmm(init_params="xyz").fit(x)),
    ("decoder", ParameterError, "viterbi", lambda x: hmm(algorithm="best").fit(x)),
    ("topology", ParameterError, "topology", lambda x: hmm(topology="ring").fit(x)),
    ("prior", ParameterError, "prior", lambda x: hmm(transmat_prior=0.5).fit(x)),
    ("partly missing", NonFiniteError, "column 1", lambda x: hmm().fit(np.where(np.arange(D) == 1, np.nan, x))),
    ("features", SchemaError, "features", lambda x: fitted_quietly(hmm(), x).predict(x[:, :1])),
    ("no rows", DataError, "0 sample", lambda x: hmm().fit(x[:0])),
    ("negative counts", DataError, "column 0", lambda x: PoissonHMM(2).fit(x)),
    ("column", SchemaError, "nothere", lambda x: hmm().fit(frame(x), columns=["a", "nothere"])),
    ("id", SchemaError, "nothere", lambda x: hmm().fit(frame(x), sequence_column="nothere")),
]


@pytest.mark.parametrize(("name", "kind", "words", "act"), BAD, ids=[bad[0] for bad in BAD])
def test_bad_input(name: str, kind: type[Exception], words: str, act: Any) -> None:
    x = rows()
    with pytest.raises(StreamemError, match=words) as caught:
        act(x)
    assert isinstance(caught.value, kind)


def test_sequences_shorter_than_the_lag() -> None:
    from streamem import HMM
    from streamem.families import AutoregressiveGaussian

    with pytest.raises(DataError, match="lag"):
        HMM(AutoregressiveGaussian(3), 2).fit(rows(), [2, 598])


def test_an_earlier_fit_survives_a_failed_one() -> None:
    x = rows()
    model = fitted_quietly(hmm(), x)
    before = bits(model)
    with pytest.raises(DataError):
        model.fit(x, [1])
    assert bits(model) == before


def test_one_state_is_a_gaussian() -> None:
    x = rows()
    one = GaussianHMM(1, "full").fit(x, LENGTHS)
    np.testing.assert_allclose(one.means_[0], x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(one.covars_[0], np.cov(x.T, bias=True), rtol=1e-12)
    assert one.transmat_.tolist() == [[1.0]]
    assert (one.predict(x) == 0).all()
