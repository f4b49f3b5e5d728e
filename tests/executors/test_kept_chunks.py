"""Decoded chunks that a fit keeps from pass to pass: read once, bounded, and without a trace in the result."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from helpers.fit_bits import fitted
from streamem import GaussianHMM, GaussianMixture
from streamem.executors import ThreadsExecutor
from streamem.executors.chunk_cache import KeptChunks
from streamem.running import engines
from streamem.running.memory import KEPT_BYTES, Budget, keeping, project
from streamem.sources import ReadOptions, open_source, parquet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Array = NDArray[Any]
N_ROWS, N_FEATURES, N_CHUNKS = 4000, 3, 10
CHUNK_BYTES = 8 * N_FEATURES * N_ROWS // N_CHUNKS
SETTINGS: dict[str, Any] = {"n_components": 2, "max_iter": 4, "tol": 0.0, "random_state": 0, "n_threads": 2}


@pytest.fixture(scope="module")
def x() -> Array:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N_ROWS, N_FEATURES)) + 3.0 * rng.integers(0, 2, (N_ROWS, 1))


@pytest.fixture
def path(x: Array, tmp_path: Path) -> Path:
    table = pa.table({f"c{i}": column for i, column in enumerate(x.T)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=N_ROWS // N_CHUNKS)
    return tmp_path / "x.parquet"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each chunk was read from the file."""
    counted: Counter[int] = Counter()
    load = parquet.ParquetChunkRef.load

    def counting(ref: Any) -> Any:
        counted[ref.index] += 1
        return load(ref)

    monkeypatch.setattr(parquet.ParquetChunkRef, "load", counting)
    return counted


def source_of(path: Path) -> Any:
    return open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES))


def test_chunks_are_decoded_for_the_sample_and_the_first_pass(path: Path, loads: Counter[int]) -> None:
    gm = GaussianMixture(**SETTINGS).fit(source_of(path))
    assert len(gm.report_.passes) == 5
    assert loads == Counter(dict.fromkeys(range(N_CHUNKS), 2))
    assert gm.report_.setting["chunks kept"] == "93.75 kiB"
    assert "chunks kept 93.75 kiB" in str(gm.report_)


def test_what_does_not_fit_is_decoded_in_every_pass(
    path: Path, loads: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamem.running.memory.KEPT_BYTES", 3 * CHUNK_BYTES + 100)
    GaussianMixture(**SETTINGS).fit(source_of(path), algorithm="batch")
    assert sorted(loads.values()) == [2] * 3 + [6] * (N_CHUNKS - 3)


def test_the_same_bits_kept_or_not(path: Path, x: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = GaussianMixture(**SETTINGS).fit(source_of(path))
    monkeypatch.setattr("streamem.running.memory.KEPT_BYTES", 0)
    anew = GaussianMixture(**SETTINGS).fit(source_of(path), algorithm="batch")
    assert "chunks kept" not in anew.report_.setting
    assert fitted(anew) == fitted(kept)


def test_sequences_are_cut_from_kept_chunks(path: Path, loads: Counter[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of whole sequences are made of those of the file, of which neighbours share one."""

    def fit() -> Any:
        hmm = GaussianHMM(2, n_iter=4, tol=0.0, random_state=0, n_threads=2)
        return hmm.fit(source_of(path), algorithm="batch", lengths=[70] * (N_ROWS // 70) + [N_ROWS % 70])

    kept = fit()
    assert max(loads.values()) <= 3
    assert (
        kept.report_.setting["chunks kept"] == "93.75 kiB"
    )  # each chunk of the file once, not once for each neighbour
    loads.clear()
    monkeypatch.setattr("streamem.running.memory.KEPT_BYTES", 0)
    anew = fit()
    assert min(loads.values()) >= 5
    for name in ("startprob_", "transmat_", "means_", "covars_"):
        assert getattr(anew, name).tobytes() == getattr(kept, name).tobytes()


def test_rows_in_memory_are_not_kept_twice(x: Array, path: Path) -> None:
    assert "chunks kept" not in GaussianMixture(**SETTINGS).fit(x).report_.setting
    np.save(path.with_suffix(".npy"), x)
    assert "chunks kept" not in GaussianMixture(**SETTINGS).fit(path.with_suffix(".npy")).report_.setting


def test_answers_keep_nothing(path: Path, x: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read each chunk once."""
    gm = GaussianMixture(**SETTINGS).fit(x)
    asked = []

    def executor(*sizes: Any) -> ThreadsExecutor:
        asked.append(sizes)
        return ThreadsExecutor(*sizes)

    monkeypatch.setattr(engines, "ThreadsExecutor", executor)
    gm.predict(source_of(path))
    gm.score(source_of(path))
    assert [sizes[3] for sizes in asked] == [0, 0]


def test_a_limit_is_shared(path: Path) -> None:
    """Half of what an explicit limit leaves; a constant without one."""
    refs = source_of(path).chunks()
    projection = project(refs, 2, 1000, 1000)
    for left, kept in [(0, 0), (10_000, 5_000), (2**30, N_ROWS * N_FEATURES * 8)]:
        budget = replace(Budget.of("1GiB"), explicit=projection.total + left)
        assert keeping(projection, refs, budget).kept == kept
    assert Budget.of(None).keep_bytes == KEPT_BYTES
    assert Budget.of("64MiB").keep_bytes == 64 * 2**20
    assert keeping(projection, refs, Budget.of("1GiB")).total == projection.total + N_ROWS * N_FEATURES * 8


def test_without_a_limit_large_chunks_leave_less_room(path: Path) -> None:
    """Unless all can be kept: chunks in flight and kept together take no more than a constant."""
    refs = source_of(path).chunks()
    projection, all_of_them = project(refs, 2, 1000, 1000), N_ROWS * N_FEATURES * 8
    budget = replace(Budget.of(None), explicit=2**40)
    assert keeping(projection, refs, budget).kept == all_of_them
    for left, kept in [(all_of_them // 2, all_of_them // 2), (refs[0].nbytes - 1, 0), (-(2**20), 0)]:
        tight = replace(budget, keep_bytes=all_of_them - 1, pass_bytes=projection.total + left)
        assert keeping(projection, refs, tight).kept == kept
    with_sample = replace(projection, sample=2**30)  # which is gone by then
    tight = replace(budget, keep_bytes=all_of_them - 1, pass_bytes=projection.total + all_of_them // 2)
    assert keeping(with_sample, refs, tight).kept == all_of_them // 2


def test_the_first_chunks_stay(path: Path, loads: Counter[int]) -> None:
    """A round of more chunks than there is room for would empty a cache of the latest ones, chunk by chunk."""
    refs = source_of(path).chunks()
    chunks = KeptChunks(2 * refs[0].nbytes)
    first = [chunks.keep(ref) for ref in refs]
    again = [chunks.keep(ref) for ref in refs]
    assert [one is other for one, other in zip(first, again, strict=True)] == [True] * 2 + [False] * (N_CHUNKS - 2)
    assert chunks.nbytes == 2 * refs[0].nbytes
    assert chunks.load(refs[5]) is not chunks.load(refs[5])
