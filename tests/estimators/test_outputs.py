"""What a fitted mixture says: into arrays, Dask collections and files, complete or not at all; and what it reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
import zarr
from sklearn.mixture import GaussianMixture as Peer

from helpers import subprocess_jobs
from helpers.fit_bits import fitted
from helpers.watched_source import Countdown, WatchedSource
from streamem import GaussianMixture, ReadOptions, open_source
from streamem.core.errors import NonFiniteError, OutputError, ParameterError
from streamem.running.report import FitReport

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_ROWS, N_FEATURES, CHUNK_ROWS, K = 3_000, 3, 256, 3
N_CHUNKS = -(-N_ROWS // CHUNK_ROWS)
CHUNK_BYTES = CHUNK_ROWS * N_FEATURES * 8
NAMES = ["a", "b", "c"]
SUFFIXES = ["zarr", "parquet", "npy"]
QUESTIONS = ["predict", "predict_proba", "score_samples"]
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def x() -> Array:
    rng = np.random.default_rng(6)
    return rng.normal(size=(N_ROWS, N_FEATURES)) * [1, 2, 0.5] + 2.0 * rng.integers(0, K, (N_ROWS, 1))


@pytest.fixture(scope="module")
def weight() -> Array:
    return np.random.default_rng(7).uniform(0, 2, N_ROWS)


def mixture(**settings: Any) -> GaussianMixture:
    fixed = {"n_components": K, "random_state": 0, "chunk_bytes": CHUNK_BYTES, "max_iter": 10, "tol": 0}
    return GaussianMixture(**{**fixed, **settings})


@pytest.fixture(scope="module")
def gm(x: Array) -> GaussianMixture:
    return mixture().fit(x)


@pytest.fixture(scope="module")
def named(x: Array) -> GaussianMixture:
    """Fitted on columns with names."""
    return mixture().fit(pa.table(dict(zip(NAMES, x.T, strict=True))))


@pytest.fixture(scope="module")
def peer(gm: GaussianMixture) -> Peer:
    """scikit-learn's class at the same parameters."""
    peer = Peer(K)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "n_features_in_"):
        setattr(peer, name, getattr(gm, name))
    return peer


def source_of(x: Array) -> Any:
    return open_source(x, options=ReadOptions(chunk_bytes=CHUNK_BYTES))


def read(path: Path) -> Array:
    """What a reader who knows nothing of streamem finds."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".zarr":
        found: Any = zarr.open(str(path), mode="r")
        return np.asarray(found[...] if isinstance(found, zarr.Array) else found["label"][...].reshape(-1))
    columns = [column.to_numpy() for column in pq.read_table(path).columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def assert_said(question: str, found: Array, wanted: Array) -> None:
    """Labels are equal; what is computed agrees to rounding, and probabilities of almost nothing absolutely."""
    assert found.shape == wanted.shape
    if question == "predict":
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


# --- the same numbers everywhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_arrays(gm: GaussianMixture, peer: Peer, x: Array, question: str) -> None:
    assert_said(question, getattr(gm, question)(x), getattr(peer, question)(x))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_files(gm: GaussianMixture, peer: Peer, x: Array, tmp_path: Path, question: str, suffix: str) -> None:
    out = tmp_path / f"said.{suffix}"
    assert getattr(gm, question)(x, out=out) == out
    found = read(out)
    assert found.dtype == (np.int32 if question == "predict" else np.float64)
    assert_said(question, found, getattr(peer, question)(x))
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("question", QUESTIONS)
def test_float32_stays_float32(gm: GaussianMixture, peer: Peer, x: Array, tmp_path: Path, question: str) -> None:
    single = x.astype(np.float32)
    found, wanted = getattr(gm, question)(single), getattr(peer, question)(single)
    assert found.dtype == (np.int64 if question == "predict" else np.float32)
    if question == "predict":
        assert np.mean(found == wanted) > 0.999
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    getattr(gm, question)(single, out=tmp_path / "said.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "said.npy"), found)


def test_score_bic_aic(gm: GaussianMixture, peer: Peer, x: Array, weight: Array) -> None:
    assert gm.score(x) == pytest.approx(peer.score(x), rel=1e-12)
    assert gm.bic(x) == pytest.approx(peer.bic(x), rel=1e-12)
    assert gm.aic(x) == pytest.approx(peer.aic(x), rel=1e-12)
    wanted = np.average(peer.score_samples(x), weights=weight)
    assert gm.score(x, sample_weight=weight) == pytest.approx(wanted, rel=1e-12)
    assert gm.score(x) == pytest.approx(gm.lower_bound_, rel=1e-14)


def test_names_of_the_columns(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    gm.predict_proba(x, out=tmp_path / "p.parquet")
    assert pq.read_schema(tmp_path / "p.parquet").names == [f"probability_{k}" for k in range(K)]
    gm.predict(x, out=tmp_path / "l.parquet")
    assert pq.read_schema(tmp_path / "l.parquet").names == ["label"]
    gm.score_samples(x, out=tmp_path / "d.zarr")
    assert zarr.open_array(str(tmp_path / "d.zarr"), mode="r").attrs["names"] == ["log_density"]


# --- Dask ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_dask_arrays(gm: GaussianMixture, x: Array, question: str) -> None:
    """Lazy, block by block, also where blocks cut through the features."""
    computed: list[int] = []

    def seen(block: Array) -> Array:
        computed.append(len(block))
        return block

    lazy = dask.array.from_array(x, chunks=(700, 2)).map_blocks(seen, dtype=x.dtype, meta=x[:0])
    answer = getattr(gm, question)(lazy)
    assert isinstance(answer, dask.array.Array)
    assert computed == []
    wanted = getattr(gm, question)(x)
    assert (answer.shape, answer.dtype) == (wanted.shape, wanted.dtype)
    assert answer.numblocks[0] == 5
    assert_said(question, answer.compute(scheduler="synchronous"), wanted)
    assert len(computed) == 10


@pytest.mark.parametrize("question", QUESTIONS)
def test_dask_frames(named: GaussianMixture, x: Array, question: str) -> None:
    """Columns are found by name, and the index stays."""
    frame = dask.dataframe.from_pandas(pd.DataFrame(x[:, ::-1], columns=NAMES[::-1]), npartitions=4)
    answer = getattr(named, question)(frame)
    assert answer.divisions == frame.divisions
    wanted = getattr(named, question)(pa.table(dict(zip(NAMES, x.T, strict=True))))
    assert_said(question, answer.compute(scheduler="synchronous").to_numpy(), wanted)


def test_two_models_in_one_graph(gm: GaussianMixture, x: Array) -> None:
    """Answers of different models, and to different questions, have different keys."""
    other = mixture(random_state=1, init_params="random", max_iter=1).fit(x)
    lazy = dask.array.from_array(x, chunks=(700, 3))
    both = dask.compute(gm.score_samples(lazy), other.score_samples(lazy), gm.predict(lazy), scheduler="synchronous")
    np.testing.assert_allclose(both[0], gm.score_samples(x), rtol=1e-9)
    np.testing.assert_allclose(both[1], other.score_samples(x), rtol=1e-9)
    np.testing.assert_array_equal(both[2], gm.predict(x))
    assert np.abs(both[0] - both[1]).max() > 0.1


def test_dask_to_files(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    gm.predict(dask.array.from_array(x, chunks=(700, 3)), out=tmp_path / "labels.zarr")
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), gm.predict(x))


def test_a_dask_block_with_nan(gm: GaussianMixture, x: Array) -> None:
    bad = x.copy()
    bad[1500, 2] = np.nan
    answer = gm.predict(dask.array.from_array(bad, chunks=(700, 3)))
    with pytest.raises(NonFiniteError, match=r"chunk 2 .*1 in column 2"):
        answer.compute(scheduler="synchronous")


# --- complete, or not at all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_bad_chunk_in_the_middle_leaves_nothing(gm: GaussianMixture, x: Array, tmp_path: Path, suffix: str) -> None:
    bad = x.copy()
    bad[N_ROWS // 2, 0] = np.inf
    for question in QUESTIONS:
        with pytest.raises(NonFiniteError):
            getattr(gm, question)(bad, out=tmp_path / f"said.{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kill_in_the_middle_leaves_nothing_under_the_name(
    gm: GaussianMixture, x: Array, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"labels.{suffix}"
    np.save(tmp_path / "x.npy", x)
    gm.save(tmp_path / "model.npz")
    arguments = {"data": tmp_path / "x.npy", "model": tmp_path / "model.npz", "out": out}
    process = subprocess_jobs.start("predict", **arguments, chunk_bytes=CHUNK_BYTES, pause_at=N_CHUNKS - 2)
    assert subprocess_jobs.kill_after(process, N_CHUNKS - 2)
    assert any(".partial" in entry.name for entry in tmp_path.iterdir()), "it was killed before it wrote anything"
    assert not out.exists()
    gm.predict(x, out=out)  # what was left over is in nobody's way
    np.testing.assert_array_equal(read(out), gm.predict(x))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_exists_is_kept_unless_asked(gm: GaussianMixture, x: Array, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"labels.{suffix}"
    gm.predict(x[:500], out=out)
    reads: list[int] = []
    watched = WatchedSource(source_of(x), lambda ref: reads.append(ref.index))
    with pytest.raises(OutputError, match=r"exists already; .*overwrite=True"):
        gm.predict(watched, out=out)
    assert reads == [], "refused before the work, not after it"
    np.testing.assert_array_equal(read(out), gm.predict(x[:500]))
    gm.predict(x, out=out, overwrite=True)
    np.testing.assert_array_equal(read(out), gm.predict(x))
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_overwrite_keeps_the_old_result(gm: GaussianMixture, x: Array, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"labels.{suffix}"
    gm.predict(x, out=out)

    def fail() -> None:
        raise OSError("the cable")

    with pytest.raises(OSError, match="the cable"):
        gm.predict(WatchedSource(source_of(x + 1), Countdown(N_CHUNKS - 1, fail)), out=out, overwrite=True)
    np.testing.assert_array_equal(read(out), gm.predict(x))
    assert list(tmp_path.iterdir()) == [out]


def test_places_that_cannot_be(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"\.zarr, \.parquet, \.npy"):
        gm.predict(x, out=tmp_path / "labels.csv")
    with pytest.raises(OutputError, match="there is no folder"):
        gm.predict(x, out=tmp_path / "nowhere" / "labels.zarr")
    assert list(tmp_path.iterdir()) == []


def test_onto_its_own_input(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    """The data is what `out` exists for already."""
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(OutputError, match="write the result elsewhere"):
        gm.predict(tmp_path / "x.npy", out=tmp_path / "x.npy", overwrite=True)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x)


# --- weights, columns, axes ------------------------------------------------------------------------------------------


def test_weights_from_anywhere(x: Array, weight: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", weight)
    zarr.create_array(str(tmp_path / "w.zarr"), data=weight, chunks=(999,))
    table = pa.table({**dict(zip(NAMES, x.T, strict=True)), "w": weight})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=CHUNK_ROWS)
    frame = table.to_pandas()
    reference = mixture().fit(x, sample_weight=weight)
    same_plan: list[tuple[Any, Any, dict[str, Any]]] = [
        (x, str(tmp_path / "w.npy"), {}),
        (x, str(tmp_path / "w.zarr"), {}),
        (x, weight.tolist(), {}),
        (tmp_path / "x.parquet", weight, {"columns": NAMES}),
    ]
    for data, given, options in same_plan:
        assert fitted(mixture().fit(data, sample_weight=given, **options)) == fitted(reference)
    wider = mixture(chunk_bytes=CHUNK_ROWS * 8 * (N_FEATURES + 1))  # chunks with a weight column count it
    for data in (tmp_path / "x.parquet", table, frame, pl.from_pandas(frame)):
        assert fitted(wider.fit(data, sample_weight="w")) == fitted(reference)
        assert wider.feature_names_in_.tolist() == NAMES


def test_a_weight_of_two_is_the_row_twice(x: Array) -> None:
    counts = np.random.default_rng(8).integers(0, 3, N_ROWS)
    start = {"means_init": x[:K], "weights_init": [0.2, 0.3, 0.5], "precisions_init": [np.eye(N_FEATURES)] * K}
    weighted = mixture(**start).fit(x, sample_weight=counts)
    repeated = mixture(**start).fit(np.repeat(x, counts, axis=0))
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-8)
    np.testing.assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, rtol=1e-10)


def test_chosen_columns(x: Array, tmp_path: Path) -> None:
    table = pa.table({"note": ["text"] * N_ROWS, **dict(zip(NAMES, x.T, strict=True))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=CHUNK_ROWS)
    reference = mixture().fit(x[:, [2, 0, 1]])
    for data in (tmp_path / "x.parquet", table, table.to_pandas()):
        chosen = mixture().fit(data, columns=["c", "a", "b"])
        assert fitted(chosen) == fitted(reference)
        assert chosen.feature_names_in_.tolist() == ["c", "a", "b"]
    np.testing.assert_array_equal(chosen.predict(tmp_path / "x.parquet"), reference.predict(x[:, [2, 0, 1]]))


def test_names_are_matched_at_predict(named: GaussianMixture, x: Array, tmp_path: Path) -> None:
    """Another order of columns, and further ones, make no difference."""
    reference = named.predict(pa.table(dict(zip(NAMES, x.T, strict=True))))
    table = pa.table({"c": x[:, 2], "other": x[:, 0] * 9, "a": x[:, 0], "b": x[:, 1]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=500)
    group = zarr.create_group(str(tmp_path / "x.zarr"))
    for name, column in zip(NAMES[::-1], x.T[::-1], strict=True):
        group.create_array(name, data=column)
    data_set = xarray.Dataset({name: ("row", column) for name, column in zip(NAMES[::-1], x.T[::-1], strict=True)})
    for data in (tmp_path / "x.parquet", table, tmp_path / "x.zarr", data_set):
        np.testing.assert_array_equal(named.predict(data), reference)
        assert named.score(data) == pytest.approx(named.lower_bound_, rel=1e-12)
    loaded = _saved_and_loaded(named, tmp_path)
    np.testing.assert_array_equal(loaded.predict(tmp_path / "x.parquet"), reference)


def _saved_and_loaded(gm: GaussianMixture, folder: Path) -> GaussianMixture:
    gm.save(folder / "model.npz")
    loaded = GaussianMixture.load(folder / "model.npz")
    assert fitted(loaded) == fitted(gm)
    assert loaded.feature_names_in_.tolist() == gm.feature_names_in_.tolist()
    return loaded


@pytest.mark.parametrize("kind", ["array", "zarr", "npy", "dask", "xarray"])
def test_three_dimensions(x: Array, tmp_path: Path, kind: str) -> None:
    """(30, 3, 100) with the features in the middle: rows are the other axes, flattened in C order."""
    cube = np.ascontiguousarray(np.moveaxis(x.reshape(30, 100, N_FEATURES), 2, 1))
    opened: dict[str, Callable[[], Any]] = {
        "array": lambda: cube,
        "zarr": lambda: (zarr.create_array(str(tmp_path / "c.zarr"), data=cube), tmp_path / "c.zarr")[1],
        "npy": lambda: (np.save(tmp_path / "c.npy", cube), tmp_path / "c.npy")[1],
        "dask": lambda: dask.array.from_array(cube, chunks=(10, 3, 100)),
        "xarray": lambda: xarray.DataArray(cube, dims=("time", "level", "place")),
    }
    data, axis = opened[kind](), "level" if kind == "xarray" else 1
    cut = mixture().fit(data, feature_axis=axis)
    flat = mixture().fit(x)
    np.testing.assert_allclose(cut.means_, flat.means_, rtol=1e-9)
    labels = cut.predict(data, feature_axis=axis)
    assert np.shape(labels) == ((30, 100) if kind == "xarray" else (3000,))
    np.testing.assert_array_equal(np.asarray(labels).ravel(), flat.predict(x))
    cut.predict(data, feature_axis=axis, out=tmp_path / "labels.zarr")
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), flat.predict(x))


# --- report and progress ---------------------------------------------------------------------------------------------


def test_the_report(x: Array) -> None:
    gm = mixture(n_init=2).fit(x)
    report = gm.report_
    assert (report.n_rows, report.n_features, report.n_chunks) == (N_ROWS, N_FEATURES, N_CHUNKS)
    assert [record.start for record in report.passes] == [0] * 11 + [1] * 11
    assert [record.iteration for record in report.passes] == [*range(11), *range(11)]
    for start in (0, 1):
        values = [record.log_likelihood for record in report.passes if record.start == start]
        assert all(one < other for one, other in pairwise(values))
    best = max((report.passes[10], report.passes[21]), key=lambda record: record.log_likelihood)
    assert best.log_likelihood == gm.lower_bound_
    own = [record.log_likelihood for record in report.passes if record.start == best.start]
    assert own[1:] == gm.lower_bounds_
    for record in report.passes:
        assert (record.rows, record.nbytes) == (N_ROWS, x.nbytes)
        assert record.seconds > 0
        assert record.compute_s > 0
        assert record.wait_s >= 0
        # The kernel counts pages by thread and adds up late: the peak may seem to fall by some.
        assert 10 * 2**20 < record.peak_memory_bytes < subprocess_jobs.memory("VmHWM") + 2**22


def test_the_report_in_words(x: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", x)
    gm = mixture(max_iter=4, n_threads=2, memory_limit="1GiB").fit(tmp_path / "x.npy")
    text = str(gm.report_)
    assert f"{tmp_path / 'x.npy'}: 3,000 rows × 3 features in 12 chunks" in text
    assert "threads 2" in text
    assert "limit 1.00 GiB" in text
    head, *lines = text[text.index(" start") :].splitlines()
    for word in ("iter", "log-likelihood/row", "seconds", "rows/s", "bytes/s", "waiting", "peak memory"):
        assert word in head
    assert len(lines) == 5
    assert [line.split()[2] for line in lines[1:]] == [f"{value:.9f}" for value in gm.lower_bounds_]
    assert max(len(line) for line in [head, *lines]) <= 100


def test_the_report_is_saved(gm: GaussianMixture, tmp_path: Path) -> None:
    gm.save(tmp_path / "model.npz")
    loaded = GaussianMixture.load(tmp_path / "model.npz")
    assert loaded.report_ == gm.report_
    assert FitReport.from_dict(gm.report_.to_dict()) == gm.report_


def test_the_report_reads_the_same_when_loaded(gm: GaussianMixture, tmp_path: Path) -> None:
    gm.save(tmp_path / "model.npz")
    assert str(GaussianMixture.load(tmp_path / "model.npz").report_) == str(gm.report_)


def test_events_of_degenerate_components_are_reported(x: Array) -> None:
    """A component far from everything gets no rows, and keeps its mean."""
    far = np.vstack([x[: K - 1], np.full((1, N_FEATURES), 1e6)])
    start = {"means_init": far, "weights_init": np.full(K, 1 / K), "precisions_init": [np.eye(N_FEATURES)] * K}
    gm = mixture(**start).fit(x)
    assert gm.report_.events["empty"] > 0
    assert "component-passes without rows" in str(gm.report_)
    np.testing.assert_allclose(gm.means_[-1], 1e6)


def test_progress_is_logged(x: Array, caplog: pytest.LogCaptureFixture) -> None:
    """A line a pass for those who ask; nobody else's logger is touched."""
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.INFO, "streamem"):
        gm = mixture(verbose=1, max_iter=3).fit(x)
    lines = [record.getMessage() for record in caplog.records if record.name == "streamem"]
    passes = [line for line in lines if line.startswith("GaussianMixture, pass ")]
    assert len(passes) == 4
    for number, (line, value) in enumerate(zip(passes[1:], gm.lower_bounds_, strict=True), start=2):
        assert f"log-likelihood {value:.9g} per row" in line, number
    assert "going on" in passes[0]
    assert passes[-2].endswith("last")
    assert passes[-1].endswith("final")
    assert logging.getLogger().handlers == handlers


def test_long_passes_log_their_rows(
    x: Array, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes two seconds a look: a line every five seconds at most."""
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr("streamem.running.progress.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "streamem"):
        mixture(max_iter=1).fit(x)
    lines = [record.getMessage() for record in caplog.records if f"of {N_ROWS:,} rows" in record.getMessage()]
    assert any("sampling" in line for line in lines)
    assert any("pass 1" in line for line in lines)
    assert len(lines) < 3 * N_CHUNKS / 2


def test_quiet_by_default(x: Array, capfd: pytest.CaptureFixture[str]) -> None:
    mixture(max_iter=2).fit(x).predict(x)
    assert capfd.readouterr() == ("", "")
