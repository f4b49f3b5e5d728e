"""Hidden Markov models with `durations`: cut sequences, interruptions, clusters, files, streams, what they refuse."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray
from sklearn.base import clone

from helpers.hmm_starts import fitted_quietly
from helpers.watched_source import Countdown, WatchedSource
from streamem import (
    GMMHMM,
    HMM,
    BernoulliHMM,
    CategoricalHMM,
    GaussianHMM,
    PoissonHMM,
    ReadOptions,
    open_sequences,
    open_source,
)
from streamem.core.errors import CheckpointMismatchError, ParameterError
from streamem.families import Poisson

Array = NDArray[Any]
KINDS = ("poisson", "negative-binomial")
LENGTHS = [230, 1, 169]


def drawn(n: int = 400, seed: int = 0) -> tuple[Array, Array]:
    """Counts, and the states that emitted them for 1 + Poisson steps each."""
    rng, states = np.random.default_rng(seed), np.zeros(0, dtype=np.int64)
    while len(states) < n:
        k = (states[-1] + rng.integers(1, 3)) % 3 if len(states) else 0
        states = np.append(states, np.repeat(k, 1 + rng.poisson([3.0, 8.0, 14.0][k])))
    states = states[:n]
    return rng.poisson(np.array([1.0, 6.0, 15.0])[states]).astype(float)[:, None], states


def hmm(**settings: Any) -> PoissonHMM:
    chosen: dict[str, Any] = {"durations": "poisson", "max_duration": 30, "n_iter": 5, "tol": 0, "random_state": 0}
    return PoissonHMM(3, **{**chosen, **settings})


def bits(model: Any) -> dict[str, bytes]:
    names = ("startprob_", "transmat_", "lambdas_", *model.structure.names[2:], "lower_bounds_")
    return {name: np.asarray(getattr(model, name)).tobytes() for name in names}


CUTTING = 8 * 23
"""Bytes of a chunk of 23 counts."""


@pytest.mark.parametrize("kind", KINDS)
def test_cut_sequences_are_those_of_one_chunk(kind: str) -> None:
    """Fits, paths, their log-probabilities and posteriors; missing steps at cuts too."""
    x = drawn()[0]
    x[40:50], x[200] = np.nan, np.nan
    whole = fitted_quietly(hmm(durations=kind), x, lengths=LENGTHS)
    cut = fitted_quietly(hmm(durations=kind, chunk_bytes=CUTTING), x, lengths=LENGTHS)
    np.testing.assert_allclose(cut.lower_bounds_, whole.lower_bounds_, rtol=1e-10)
    for name in ("startprob_", "transmat_", "lambdas_", "duration_means_"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), rtol=1e-6, atol=1e-9, err_msg=name)
    same = whole.set_params(chunk_bytes=None)
    answers = [same.decode(x, LENGTHS), same.predict_proba(x, LENGTHS), same.score(x, lengths=LENGTHS)]
    same.set_params(chunk_bytes=CUTTING)
    log_prob, states = same.decode(x, LENGTHS)
    assert log_prob == pytest.approx(answers[0][0], rel=1e-12)
    assert states.tolist() == answers[0][1].tolist()
    np.testing.assert_allclose(same.predict_proba(x, LENGTHS), answers[1], rtol=1e-9, atol=1e-12)
    assert same.score(x, lengths=LENGTHS) == pytest.approx(answers[2], rel=1e-12)


@pytest.mark.slow
def test_known_durations_are_found() -> None:
    x, states = drawn(6000)
    model = PoissonHMM(3, durations="negative-binomial", max_duration=60, random_state=0, tol=1e-7).fit(x)
    order = np.argsort(model.lambdas_[:, 0])
    np.testing.assert_allclose(model.duration_means_[order], [4, 9, 15], rtol=0.1)
    assert model.transmat_.diagonal().tolist() == [0, 0, 0]
    assert (np.argsort(order)[model.predict(x)] == states).mean() > 0.97
    share = np.bincount(states) / len(states)
    np.testing.assert_allclose(model.get_stationary_distribution()[order], share, atol=0.05)
    plain = PoissonHMM(3, random_state=0, tol=1e-7).fit(x)
    assert model.bic(x) < plain.bic(x) - 100
    again, theirs = model.sample(20_000, random_state=1)
    runs = np.diff(np.flatnonzero(np.diff(theirs) != 0))
    assert runs.mean() == pytest.approx(1 / (np.diff(states) != 0).mean(), rel=0.05)
    assert np.isfinite(model.score(again[:500]))


class CrashError(Exception):
    """The stand-in for a crash."""


@pytest.mark.parametrize("algorithm", ["batch", "squarem", "stepwise", "incremental"])
@pytest.mark.variations(2, 4)
def test_interrupted_and_gone_on(algorithm: str, tmp_path: Path) -> None:
    """A fit that is resumed where it crashed ends with the same bits."""
    x, counted = drawn()[0], []

    def watched(watch: Callable[[Any], object]) -> Any:
        base = open_source(x, options=ReadOptions(chunk_bytes=CUTTING))
        return open_sequences(WatchedSource(base, watch), lengths=LENGTHS)

    def crash() -> None:
        raise CrashError

    whole = fitted_quietly(hmm(), watched(lambda _: counted.append(1)), algorithm=algorithm)
    crashing = watched(Countdown(2 * len(counted) // 3, crash))
    with pytest.raises(CrashError):
        fitted_quietly(hmm(), crashing, checkpoint=tmp_path / "c.npz", algorithm=algorithm)
    source = watched(lambda _: None)
    resumed = fitted_quietly(hmm(), source, checkpoint=tmp_path / "c.npz", algorithm=algorithm)
    assert bits(resumed) == bits(whole)
    with pytest.raises(CheckpointMismatchError, match="max_duration"):
        hmm(max_duration=31).fit(source, checkpoint=tmp_path / "c.npz", algorithm=algorithm)


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits(client: Client) -> None:
    x = drawn()[0]
    settings = {"chunk_bytes": CUTTING, "n_iter": 3}
    here = fitted_quietly(hmm(**settings), x, lengths=LENGTHS)
    there = fitted_quietly(hmm(**settings), x, lengths=LENGTHS, executor=client)
    assert bits(here) == bits(there)
    assert here.decode(x, LENGTHS)[0] == there.decode(x, LENGTHS, executor=client)[0]
    one = fitted_quietly(hmm(**settings, n_threads=1), x, lengths=LENGTHS)
    assert bits(one) == bits(here)


@pytest.mark.parametrize("kind", KINDS)
def test_files_copies_and_values_set_by_hand(kind: str, tmp_path: Path) -> None:
    x = drawn()[0]
    model = fitted_quietly(hmm(durations=kind), x)
    model.save(tmp_path / "m.npz")
    loaded = PoissonHMM.load(tmp_path / "m.npz")
    assert bits(loaded) == bits(model)
    assert loaded.score(x) == model.score(x) == pickle.loads(pickle.dumps(model)).score(x)
    own = clone(model)
    for name in (*model.structure.names, "lambdas_"):
        setattr(own, name, np.array(getattr(model, name)))
    assert own.score(x) == pytest.approx(model.score(x), rel=1e-12)
    assert "lasts" in model.describe()
    own.duration_means_ = np.array([1.0, 5.0, 9.0])
    with pytest.raises(ParameterError, match="duration_means_ is .*3 finite numbers > 1 are needed"):
        own.score(x)
    started = hmm(durations=kind, init_params="l", n_iter=1)
    started.duration_means_ = np.array([4.0, 4.0, 44.0])
    assert fitted_quietly(started, x).lower_bounds_ != fitted_quietly(hmm(durations=kind, n_iter=1), x).lower_bounds_
    with pytest.raises(ParameterError, match="have durations, and the hyperparameter durations names none now"):
        model.set_params(durations=None).score(x)


def test_mini_batches_and_streams() -> None:
    x = drawn(3000)[0]
    batches = np.split(x, 30)
    model = fitted_quietly(hmm(), batches[0])
    before = model.score(x)
    for batch in batches[1:]:
        model.partial_fit(batch, half_life=500)
    assert model.score(x) > before
    learned = hmm().fit_stream(iter(batches), batch_rows=200)
    assert learned.transmat_.diagonal().tolist() == [0, 0, 0]
    with pytest.raises(
        ParameterError, match=r"durations='poisson' excludes an endless sequence: .*sequences of their own"
    ):
        model.partial_fit(batches[0], continued=True)
    with pytest.raises(ParameterError, match="an endless sequence"):
        hmm().fit_stream(iter(batches), continued=True)


@pytest.mark.parametrize(
    "model",
    [
        GaussianHMM(2, durations="poisson", max_duration=20, covariance_type="full"),
        GMMHMM(2, n_mix=2, durations="negative-binomial", max_duration=20),
        HMM(Poisson(), 2, durations="poisson", max_duration=20),
        CategoricalHMM(2, durations="negative-binomial", max_duration=20),
        BernoulliHMM(2, durations="poisson", max_duration=20),
        PoissonHMM(1, durations="poisson", max_duration=20),
        PoissonHMM(3, durations="poisson", max_duration=20, topology="left-right"),
    ],
)
def test_every_kind_of_emissions(model: Any) -> None:
    x = drawn()[0]
    if isinstance(model, CategoricalHMM | BernoulliHMM):
        x = (x > 8).astype(np.int64)
    fitted = fitted_quietly(model.set_params(random_state=0, n_iter=4), x, lengths=LENGTHS)
    assert np.diff(fitted.lower_bounds_).min() > 0 or model.n_components == 1
    assert fitted.predict_proba(x, LENGTHS).shape == (len(x), model.n_components)
    stays = np.diag(fitted.transmat_)
    assert stays.tolist() == (
        [1.0] if model.n_components == 1 else [0, 0, 1] if model.topology == "left-right" else [0, 0]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"durations": "weibull"}, "durations is 'weibull'; it must be \"poisson\""),
        ({"max_duration": 1.5}, "max_duration is 1.5; it must be an integer >= 2"),
        ({"max_duration": 1000}, "3 states of up to max_duration=1000 steps are 3000 sub-states"),
        ({"tied_transitions": [[0, 1]]}, "tied_transitions share rows of transmat"),
    ],
)
def test_hyperparameters_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        hmm(**settings).fit(drawn()[0])


def test_what_durations_refuse() -> None:
    x = drawn()[0]
    model = fitted_quietly(hmm(), x)
    with pytest.raises(ParameterError, match="hmmlearn has no semi-Markov models"):
        model.to_hmmlearn()
    moves = hmm(init_params="l")
    moves.transmat_ = np.full((3, 3), 1 / 3)
    with pytest.raises(ParameterError, match=r"transmat\[0, 0\] is 0.333"):
        moves.fit(x)


def test_other_ages_between_mini_batches() -> None:
    """Counts by age cannot be divided anew: refused, and nothing is lost."""
    x = drawn()[0]
    model = fitted_quietly(hmm(), x)
    model.partial_fit(x[:200])
    before, ages = bits(model), model.max_duration
    for other in (2 * ages, ages // 2):
        model.set_params(max_duration=other)
        with pytest.raises(
            ParameterError, match=f"max_duration is {other}.*up to {ages} steps.*max_duration={ages} to"
        ):
            model.partial_fit(x[200:])
        with pytest.raises(ParameterError, match=f"max_duration is {other}"):
            model.fit_stream([x[200:]])
        assert np.isfinite(model.score(x))
    model.set_params(max_duration=ages)
    assert bits(model) == before
    model.partial_fit(x[200:])
