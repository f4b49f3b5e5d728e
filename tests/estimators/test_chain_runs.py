"""Fits of Gaussian chains however they run: on a cluster, from a checkpoint, online, accelerated, with weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from helpers.watched_source import Countdown, WatchedSource
from streamem import LinearGaussianChain
from streamem.algorithms import StepwiseEM
from streamem.core.errors import CheckpointMismatchError, NumericalError, ParameterError
from streamem.sources import ReadOptions, open_sequences, open_source

if TYPE_CHECKING:
    from distributed import Client

Array = NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:Best performing")

LENGTHS = np.tile([30, 10], 5)
SETTINGS: dict[str, Any] = {"n_latent": 2, "random_state": 0, "n_iter": 4, "tol": 0.0}


def panel(seed: int = 0) -> Array:
    """Ten sequences of two columns that follow one level each, with gaps."""
    rng = np.random.default_rng(seed)
    x = np.empty((LENGTHS.sum(), 2))
    for first, n in zip(np.cumsum(LENGTHS) - LENGTHS, LENGTHS, strict=True):
        x[first : first + n] = np.cumsum(rng.normal(size=(n, 1)), axis=0) + rng.normal(size=(n, 2)) + 5.0
    x[rng.random(x.shape) < 0.05] = np.nan
    return x


def numbers(chain: LinearGaussianChain) -> list[bytes]:
    """All matrices, bit by bit."""
    return [getattr(chain, name).tobytes() for name in type(chain).structure.names]


def test_a_cluster_gives_the_bits_of_threads(client: Client, tmp_path: Path) -> None:
    """One long sequence in Zarr, cut by every chunk: fit, states and forecast."""
    array = zarr.create_array(tmp_path / "x.zarr", shape=(200, 2), chunks=(50, 2), dtype="f8")
    array[:] = panel()
    found = []
    for executor in ("threads", client):
        chain = LinearGaussianChain(**SETTINGS, chunk_bytes=800).fit(tmp_path / "x.zarr", executor=executor)
        smoothed = chain.smooth(tmp_path / "x.zarr", executor=executor)
        found.append([*numbers(chain), smoothed.tobytes(), chain.forecast(tmp_path / "x.zarr").means.tobytes()])
    assert chain.report_.n_chunks == 4
    assert found[0] == found[1]


class CrashError(Exception):
    """The stand-in for a crash."""


def watched(watch: Callable[[Any], object]) -> Any:
    """Sequences whose rows are read under observation, in chunks that cut them."""
    base = open_source(panel(), options=ReadOptions(chunk_bytes=16 * 37))
    return open_sequences(WatchedSource(base, watch), lengths=LENGTHS)


@pytest.mark.variations(1, 100)
@pytest.mark.parametrize("algorithm", ["batch", "squarem", "stepwise"])
def test_interrupted_runs_end_with_the_same_bits(algorithm: str, tmp_path: Path) -> None:
    whole = LinearGaussianChain(**SETTINGS).fit(watched(lambda _: None), algorithm=algorithm)
    counted: list[int] = []
    LinearGaussianChain(**SETTINGS).fit(watched(lambda _: counted.append(1)), algorithm=algorithm)

    def crash() -> None:
        raise CrashError

    crashing = watched(Countdown(2 * len(counted) // 3, crash))
    path = tmp_path / "c.npz"
    with pytest.raises(CrashError):
        LinearGaussianChain(**SETTINGS).fit(crashing, checkpoint=path, algorithm=algorithm)
    again = watched(lambda _: None)
    resumed = LinearGaussianChain(**SETTINGS).fit(again, checkpoint=path, algorithm=algorithm)
    assert numbers(resumed) == numbers(whole)
    with pytest.raises(CheckpointMismatchError, match="updates"):
        LinearGaussianChain(**SETTINGS, params="a").fit(again, checkpoint=path, algorithm=algorithm)


def test_weights_are_those_of_sequences() -> None:
    """A weight of 2 is the sequence twice, one of 0 none; steps of a sequence have one weight."""
    x, weight = panel(), np.where(np.arange(10) % 2 == 0, 2.0, 0.0)
    pieces = np.split(x, np.cumsum(LENGTHS)[:-1])[::2]
    given: dict[str, Any] = {"observation_matrix": [[1.0], [1.0]], "n_latent": 1, "observation_offset": [0.0, 0.0]}
    start = LinearGaussianChain(
        **{**SETTINGS, **given}, transition_covariance=[[1.0]], observation_covariance=[1.0, 1.0]
    )
    start.set_params(params="aqrmv", transition_matrix=[[0.9]], initial_mean=[0.0], initial_covariance=[[1.0]])
    weighted = LinearGaussianChain(**start.get_params()).fit(x, lengths=LENGTHS, sample_weight=weight)
    twice = LinearGaussianChain(**start.get_params()).fit([*pieces, *pieces])
    for name in type(start).structure.names:
        np.testing.assert_allclose(getattr(weighted, name), getattr(twice, name), rtol=1e-8, err_msg=name)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("auto", "anderson", "incremental")]


@pytest.mark.parametrize("algorithm", ["squarem", *SLOW])
def test_other_algorithms_come_to_the_same_maximum(algorithm: str) -> None:
    """Of a chain without freedom to turn."""
    given: dict[str, Any] = {"observation_matrix": [[1.0], [1.0]], "observation_offset": [0.0, 0.0]}
    settings = {**SETTINGS, **given, "n_latent": 1, "n_iter": 200, "tol": 1e-6}
    x = panel()
    found = [LinearGaussianChain(**settings).fit(x, lengths=LENGTHS, algorithm=way) for way in ("batch", algorithm)]
    np.testing.assert_allclose(found[1].score(x, lengths=LENGTHS), found[0].score(x, lengths=LENGTHS), rtol=1e-5)
    np.testing.assert_allclose(found[1].transition_matrix_, found[0].transition_matrix_, atol=2e-2)


def test_mini_batches_come_near_and_streams_have_their_bits() -> None:
    x, lengths = np.concatenate([panel(seed) for seed in range(5)]), np.tile(LENGTHS, 5)
    given: dict[str, Any] = {"observation_matrix": [[1.0], [1.0]], "n_latent": 1}
    batch = LinearGaussianChain(**{**SETTINGS, **given, "n_iter": 100, "tol": 1e-6}).fit(x, lengths=lengths)
    rule = StepwiseEM(passes=3, batch_rows=100)
    online = LinearGaussianChain(**{**SETTINGS, **given}).fit(x, lengths=lengths, algorithm=rule)
    assert online.score(x, lengths=lengths) > batch.score(x, lengths=lengths) - 20.0
    sequences = np.split(x, np.cumsum(lengths)[:-1])
    piecemeal = LinearGaussianChain(**{**SETTINGS, **given})
    for first in range(0, 50, 5):
        piecemeal.partial_fit(sequences[first : first + 5])
    assert piecemeal.score(x, lengths=lengths) > batch.score(x, lengths=lengths) - 40.0
    streamed = LinearGaussianChain(**{**SETTINGS, **given}).fit_stream(iter(sequences), batch_rows=100)
    one_by_one = LinearGaussianChain(**{**SETTINGS, **given})
    for batch_of in grouped(sequences, 100):
        one_by_one.partial_fit(batch_of)
    assert numbers(streamed) == numbers(one_by_one)


def grouped(sequences: list[Array], rows: int) -> list[list[Array]]:
    """Sequences until there are so many rows."""
    found: list[list[Array]] = [[]]
    for one in sequences:
        if sum(map(len, found[-1])) >= rows:
            found.append([])
        found[-1].append(one)
    return found


def test_sites_share_statistics_instead_of_rows() -> None:
    x = panel()
    chain = LinearGaussianChain(**SETTINGS).fit(x, lengths=LENGTHS)
    half = int(LENGTHS[:5].sum())
    parts = chain.expected_statistics(x[:half], LENGTHS[:5]) + chain.expected_statistics(x[half:], LENGTHS[5:])
    whole = chain.expected_statistics(x, LENGTHS)
    np.testing.assert_allclose(parts.stats.across, whole.stats.across, rtol=1e-10)
    before = chain.score(x, lengths=LENGTHS)
    assert chain.maximize(parts).score(x, lengths=LENGTHS) > before


def test_what_cannot_be_is_said() -> None:
    x = panel()
    trend = LinearGaussianChain.local_trend(n_iter=2)
    with pytest.raises(NumericalError, match=r"sequence 1 of the chunk .*diffuse start of 2 latent dimensions"):
        trend.fit([x[:30, :1], x[30:31, :1], x[31:60, :1]])
    level = LinearGaussianChain.local_level(n_iter=2).fit(x[:30, :1])
    with pytest.raises(ParameterError, match="a diffuse start has no distribution"):
        level.sample(3)
    with pytest.raises(ParameterError, match="steps is 0; it must be an integer >= 1"):
        level.forecast(x[:30, :1], 0)
    with pytest.raises(ParameterError, match="has no diagnose"):
        level.diagnose(x[:30, :1])
    with pytest.raises(AttributeError, match="here it is nothing: hidden states are Gaussian"):
        level.predict_proba(x[:30, :1])
    gap = np.where((np.arange(3000) < 10) | (np.arange(3000) > 2990), 1.0, np.nan)[:, None]
    unstable = LinearGaussianChain(1, transition_matrix=[[1.5]], random_state=0, n_iter=1, chunk_bytes=2000)
    with pytest.raises(NumericalError, match="state explodes where nothing is observed.*powers do not explode"):
        unstable.fit(gap)
    strict = LinearGaussianChain(1, missing="error")
    with pytest.raises(Exception, match="row 1"):
        strict.fit([[1.0, 2.0], [np.nan, 1.0], [2.0, 3.0]])
    constant = LinearGaussianChain(1, random_state=0, n_iter=3).fit(np.ones((20, 2)))
    assert np.isfinite(constant.score(np.ones((20, 2))))
