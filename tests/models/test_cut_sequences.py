"""A sequence cut over chunks, anywhere: the same expected counts, probabilities and paths as the uncut one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray

from helpers.chain_cases import FADING, PieceRef, Symbols, chain, cut, fading, whole
from helpers.clusters import cluster_of
from streamem import Params, Stats
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.chunk import Chunk
from streamem.core.errors import NonFiniteError, NumericalError
from streamem.core.missing import Missing
from streamem.core.ports import ChunkDone, Executor
from streamem.executors import ThreadsExecutor
from streamem.executors.dask import DaskExecutor
from streamem.families import Gaussian
from streamem.initialization.responsibilities import from_kmeans, from_noise
from streamem.models import HMM
from streamem.models.boundaries import boundaries, chains_of
from streamem.running.fit import EStep
from streamem.running.row_tasks import Apply, ScoreSequences

Array = NDArray[Any]
COUNTED = ("log_likelihood", "startprob", "transitions", "visits", "components")


class OneAfterAnother(HMM):
    """As with many states that forget slowly."""

    def scans(self, params: Params, question: str) -> bool:
        return False


def data(lengths: list[int], seed: int, missing: float = 0.1, d: int = 2, k: int = 3) -> Chunk:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    x = rng.normal(size=(n, d)) + 2.0 * np.repeat(rng.integers(k, size=n // 4 + 1), 4)[:n, None]
    x[rng.uniform(size=n) < missing] = np.nan
    return whole(x, lengths, np.repeat(rng.uniform(0.5, 2.0, len(lengths)), lengths))


def fitted(model: HMM, chunk: Chunk, steps: int = 2) -> Params:
    params = model.init(Chunk(chunk.x), np.random.RandomState(0))
    for _ in range(steps):
        params = model.m_step(model.e_step(params, chunk), params)
    return params


def ignore(done: ChunkDone) -> None:
    pass


def summed(model: HMM, params: Params, refs: Sequence[PieceRef], executor: Executor) -> Stats:
    messages = boundaries(model, params, refs, executor, None)
    return executor.reduce(EStep(model, params, None, messages), refs, ignore)


def applied(describe: Any, params: Params, refs: Any, executor: Executor, question: str, dtype: Any = float) -> Array:
    messages = boundaries(describe.__self__, params, refs, executor, None, question)
    task = Apply(describe, params, None, np.dtype(dtype), 8, Missing.STEPS, messages)
    return np.concatenate(list(executor.map(task, refs, ignore)))


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadsExecutor]:
    with ThreadsExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with cluster_of(2, processes=False) as (_, client):
        yield client


def require_like_uncut(model: HMM, params: Params, chunk: Chunk, cuts: Sequence[int], executor: Executor) -> None:
    refs, rtol = cut(chunk, cuts), tolerance(np.float64, chunk.rows, 100)
    expected, found = model.e_step(params, chunk), summed(model, params, refs, executor)
    for name in COUNTED:
        assert_close(found[name], expected[name], rtol, f"{name}, cut at {list(cuts)}")
    posteriors = applied(model.posteriors, params, refs, executor, "posterior")
    assert_close(np.nan_to_num(posteriors), np.nan_to_num(model.posteriors(params, chunk)), rtol, "posteriors")
    np.testing.assert_array_equal(np.isnan(posteriors), np.isnan(model.posteriors(params, chunk)))
    path = applied(model.path, params, refs, executor, "path", np.int64)
    np.testing.assert_array_equal(path, model.path(params, chunk))


@pytest.mark.parametrize("kind", [HMM, OneAfterAnother])
@pytest.mark.parametrize("structure", ["ergodic", "left-right"])
def test_every_cut_of_one_sequence(kind: type[HMM], structure: Any, threads: ThreadsExecutor) -> None:
    chunk = data([30], seed=1)
    model = kind(Gaussian("diag", 1e-3), 3, from_kmeans, topology=structure)
    params = fitted(model, chunk)
    for at in range(1, 30):
        require_like_uncut(model, params, chunk, [at], threads)


@pytest.mark.parametrize("kind", [HMM, OneAfterAnother])
@pytest.mark.parametrize("structure", ["ergodic", "left-right"])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_many_cuts(kind: type[HMM], structure: Any, seed: int, threads: ThreadsExecutor) -> None:
    """Pieces of one row, pieces in the middle, chunks that end a sequence and begin another, steps missing at cuts."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 25, size=6).tolist()
    chunk = data(lengths, seed, missing=0.3)
    model = kind(Gaussian("diag", 1e-3), 4, from_kmeans, topology=structure)
    params = fitted(model, chunk)
    cuts = np.sort(rng.choice(np.arange(1, chunk.rows), size=min(12, chunk.rows - 1), replace=False)).tolist()
    require_like_uncut(model, params, chunk, cuts, threads)
    require_like_uncut(model, params, chunk, list(range(1, chunk.rows)), threads)


@pytest.mark.parametrize("kind", [HMM, OneAfterAnother])
def test_padding_beyond_a_cut_is_no_steps(kind: type[HMM], threads: ThreadsExecutor) -> None:
    """A padded sequence whose padding begins before, at and after a cut, or fills pieces."""
    for used in range(1, 21):
        chunk = data([20, 20], seed=used, missing=0.2)
        x = chunk.x.copy()
        x[used - 1] = 0.0
        x[used:20] = np.nan
        chunk = whole(x, [20, 20], chunk.weight, padded=True)
        model = kind(Gaussian("diag", 1e-3), 3, from_kmeans)
        params = fitted(model, chunk)
        require_like_uncut(model, params, chunk, [7, 12, 15, 18, 23], threads)


def test_likelihood_of_cut_sequences(threads: ThreadsExecutor) -> None:
    chunk = data([50, 20], seed=3)
    model = HMM(Gaussian("full", 1e-3), 3, from_kmeans)
    params, refs = fitted(model, chunk), cut(chunk, [10, 11, 40, 60])
    messages = boundaries(model, params, refs, threads, None)
    found = threads.reduce(ScoreSequences(model, params, None, messages), refs, ignore)
    expected = model.log_likelihood(params, chunk)
    assert_close(found.log_likelihood, expected.log_likelihood, tolerance(np.float64, 70, 10), "log-likelihood")
    assert_close(found.weight, expected.weight, 1e-14, "weight")


@pytest.mark.parametrize(
    ("k", "kind"),
    [
        (9, HMM),
        (3, OneAfterAnother),
        pytest.param(3, HMM, marks=pytest.mark.slow),
        pytest.param(9, OneAfterAnother, marks=pytest.mark.slow),
    ],
)
def test_threads_and_dask_give_the_same_bits(kind: type[HMM], k: int, cluster: Client) -> None:
    chunk = data([200, 3, 90], seed=4, missing=0.05)
    model = kind(Gaussian("diag", 1e-3), k, from_kmeans)
    params, refs = fitted(model, chunk), cut(chunk, [20, 60, 61, 130, 199, 202, 220, 291])
    found = []
    for executor in (ThreadsExecutor(1), ThreadsExecutor(2, shuffle=lambda refs: reversed(list(refs)))):
        with executor:
            found.append(answers(model, params, refs, executor))
    with DaskExecutor(cluster) as executor:
        found += [answers(model, params, refs, executor) for _ in range(2)]
    assert all(other == found[0] for other in found[1:])


def answers(model: HMM, params: Params, refs: Sequence[PieceRef], executor: Executor) -> tuple[Stats, bytes, bytes]:
    path = applied(model.path, params, refs, executor, "path", np.int64)
    posteriors = applied(model.posteriors, params, refs, executor, "posterior")
    return summed(model, params, refs, executor), path.tobytes(), posteriors.tobytes()


def test_equal_paths_are_chosen_alike_on_both_sides_of_a_cut(threads: ThreadsExecutor) -> None:
    """Two cycles of equal probability that must not be mixed."""
    transmat = np.array([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    params = chain(np.full(4, 0.25), transmat, Params(table=np.ones((4, 1))))
    chunk = whole(np.zeros((9, 1)))
    for kind in (HMM, OneAfterAnother):
        model = kind(Symbols(), 4, from_noise)
        path = applied(model.path, params, cut(chunk, [2, 3, 6]), threads, "path", np.int64)
        assert (transmat[path[:-1], path[1:]] == 1).all()


@pytest.mark.parametrize("kind", [HMM, OneAfterAnother])
@pytest.mark.parametrize("cuts", [[1], [3], [1, 37], [1, 5, 37], [1, 20], list(range(1, 39))])
def test_a_state_that_fades_and_comes_back(kind: type[HMM], cuts: list[int], threads: ThreadsExecutor) -> None:
    params, chunk = fading()
    model, refs = kind(Symbols(), 4, from_noise), cut(chunk, cuts)
    found = summed(model, params, refs, threads)
    assert float(found.log_likelihood) == pytest.approx(FADING, rel=1e-14)
    assert_close(found.transitions[3], [0.0, 1.0, 0.0, 0.0], 1e-14, "where the chain went first")


def test_pieces_without_their_neighbours_begin_anew(threads: ThreadsExecutor) -> None:
    chunk = data([40], seed=5, missing=0.0)
    model = HMM(Gaussian("diag", 1e-3), 3, from_kmeans)
    params, refs = fitted(model, chunk), cut(chunk, [10, 20, 30])
    assert boundaries(model, params, [refs[0], refs[2]], threads, None) == {}
    assert [[ref.index for ref in pieces] for pieces in chains_of([refs[3], refs[2], refs[0]])] == [[2, 3]]
    alone = summed(model, params, [refs[2], refs[3]], threads)
    expected = model.e_step(params, replace(chunk, x=chunk.x[20:], weight=chunk.weight[20:], sequences=None))
    for name in COUNTED:
        assert_close(alone[name], expected[name], tolerance(np.float64, 20, 10), name)


def test_an_impossible_cut_sequence_is_named(threads: ThreadsExecutor) -> None:
    params = chain([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], Params(table=[[1.0, 0.0], [0.0, 1.0]]))
    refs = cut(whole(np.array([[0.0], [1.0], [1.0], [0.0]])), [1, 3])
    for kind in (HMM, OneAfterAnother):
        with pytest.raises(NumericalError, match=r"chunk 1 \(rows 1–2\): the sequence that goes on here"):
            summed(kind(Symbols(), 2, from_noise), params, refs, threads)


def test_rows_missing_in_part_are_refused(threads: ThreadsExecutor) -> None:
    chunk = data([10], seed=6, missing=0.0)
    model = HMM(Gaussian("diag", 1e-3), 2, from_kmeans)
    params = fitted(model, chunk)
    for value, kind in ((np.nan, "NaN"), (np.inf, "infinity")):
        x = chunk.x.copy()
        x[2] = np.nan
        x[4, 1] = value
        with pytest.raises(NonFiniteError, match=rf"1 in column 1 \(the first, {kind}, in row 4\).*not in part"):
            summed(model, params, cut(whole(x), []), threads)
