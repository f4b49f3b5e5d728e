"""Bad input: a clear error of the right class, and nothing lost."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from helpers import subprocess_jobs
from helpers.fit_bits import fitted
from helpers.watched_source import Countdown, WatchedSource
from streamem import GaussianMixture, ReadOptions, StreamemError, open_source
from streamem.core.errors import (
    DataError,
    DegenerateDataError,
    MemoryLimitError,
    ModelFileError,
    NonFiniteError,
    SchemaError,
    SourceChangedError,
    SourceError,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_ROWS, N_FEATURES, CHUNK_ROWS, K = 1_000, 3, 100, 2
N_CHUNKS = N_ROWS // CHUNK_ROWS
CHUNK_BYTES = CHUNK_ROWS * N_FEATURES * 8
NAMES = ["a", "b", "c"]
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
Array = np.ndarray[Any, Any]
Break = Callable[[Path], object]


# --- material --------------------------------------------------------------------------------------------------------


@pytest.fixture
def x() -> Array:
    rng = np.random.default_rng(5)
    return rng.normal(size=(N_ROWS, N_FEATURES)) + 3.0 * rng.integers(0, K, (N_ROWS, 1))


@pytest.fixture
def gm(x: Array) -> GaussianMixture:
    """A fitted mixture, which has to stay one."""
    return mixture().fit(x)


def mixture(**settings: Any) -> GaussianMixture:
    fixed = {"n_components": K, "random_state": 0, "chunk_bytes": CHUNK_BYTES, "max_iter": 5, "tol": 0}
    return GaussianMixture(**{**fixed, **settings})


def to_zarr(path: Path, x: Array) -> Path:
    zarr.create_array(str(path), data=x, chunks=(CHUNK_ROWS, *x.shape[1:]))
    return path


def to_parquet(path: Path, x: Array, names: list[str] = NAMES, row_group_size: int = CHUNK_ROWS) -> Path:
    pq.write_table(pa.table(dict(zip(names, x.T, strict=True))), path, row_group_size=row_group_size)
    return path


def to_npy(path: Path, x: Array) -> Path:
    np.save(path, x)
    return path


WRITERS = {"zarr": to_zarr, "parquet": to_parquet, "npy": to_npy}


@contextmanager
def refused(kind: type[StreamemError], builtin: type[Exception], *words: str) -> Iterator[None]:
    """The block raises this error, no public subclass of it; it is the builtin too, and the message has these words."""
    with pytest.raises(kind) as caught:
        yield
    assert isinstance(caught.value, kind)
    assert type(caught.value) is kind or type(caught.value).__name__.startswith("_")
    assert isinstance(caught.value, builtin)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


@contextmanager
def kept(gm: GaussianMixture, x: Array, folder: Path) -> Iterator[None]:
    """Whatever happens in the block: the fitted mixture says what it said before, and no file appears or vanishes."""
    before, labels, files = fitted(gm), gm.predict(x), contents(folder)
    yield
    assert fitted(gm) == before
    np.testing.assert_array_equal(gm.predict(x), labels)
    assert contents(folder) == files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [None, "zarr", "parquet", "npy"])
def test_non_finite_values(gm: GaussianMixture, x: Array, tmp_path: Path, stored: str | None) -> None:
    bad = x.copy()
    bad[[703, 705], 1] = np.nan
    bad[710, 2] = -np.inf
    data = bad if stored is None else WRITERS[stored](tmp_path / f"bad.{stored}", bad)
    column = "column 1 'b'" if stored == "parquet" else "column 1 ("
    words = ("chunk 7 (rows 700–799)", "3 non-finite", f"2 in {column}", "NaN, in row 703", "infinity, in row 710")
    calls: list[Callable[[], object]] = [
        lambda: mixture().fit(data),
        lambda: gm.predict(data),
        lambda: gm.predict_proba(data),
        lambda: gm.score_samples(data),
        lambda: gm.score(data),
        lambda: gm.predict(data, out=tmp_path / "labels.zarr"),
    ]
    with kept(gm, x, tmp_path):
        for call in calls:
            with refused(NonFiniteError, ValueError, *words):
                call()


def test_non_finite_values_met_after_a_checkpoint(x: Array, tmp_path: Path) -> None:
    """The file that was saved before is intact: healed data goes on from it to the same bits."""
    path = tmp_path / "run.npz"
    source = open_source(x, options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    spoil = Countdown(3 * N_CHUNKS + 5, lambda: x.__setitem__((333, 0), np.nan))
    fine = x[333, 0]
    reference = mixture().fit(x)
    with pytest.raises(StreamemError):
        mixture(n_threads=1).fit(WatchedSource(source, spoil), checkpoint=path)
    x[333, 0] = fine
    assert fitted(mixture().fit(source, checkpoint=path)) == fitted(reference)


# --- rows and features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [None, "zarr", "parquet", "npy"])
def test_zero_rows(gm: GaussianMixture, x: Array, tmp_path: Path, stored: str | None) -> None:
    data = x[:0] if stored is None else WRITERS[stored](tmp_path / f"none.{stored}", x[:0])
    with kept(gm, x, tmp_path):
        with refused(DataError, ValueError, "0 sample(s)", "minimum of"):
            mixture().fit(data)
        with refused(DataError, ValueError, "0 sample(s)" if stored is None else "no rows to score"):
            gm.score(data)


@pytest.mark.parametrize("stored", [None, "zarr", "parquet", "npy"])
def test_one_row(gm: GaussianMixture, x: Array, tmp_path: Path, stored: str | None) -> None:
    data = x[:1] if stored is None else WRITERS[stored](tmp_path / f"one.{stored}", x[:1])
    with kept(gm, x, tmp_path):
        with refused(DataError, ValueError, "1 sample(s)", "minimum of 2"):
            mixture().fit(data)
        assert gm.predict(data).shape == (1,)


@pytest.mark.parametrize("stored", [None, "zarr", "parquet", "npy"])
def test_more_components_than_rows(x: Array, tmp_path: Path, stored: str | None) -> None:
    data = x[:5] if stored is None else WRITERS[stored](tmp_path / f"few.{stored}", x[:5])
    with refused(DataError, ValueError, "n_components = 6", "n_samples = 5", "fewer components or more rows"):
        mixture(n_components=6).fit(data)


@pytest.mark.parametrize("stored", [None, "zarr", "npy"])
def test_wrong_number_of_features(gm: GaussianMixture, x: Array, tmp_path: Path, stored: str | None) -> None:
    wide = np.hstack([x, x])
    data = wide if stored is None else WRITERS[stored](tmp_path / f"wide.{stored}", wide)
    with kept(gm, x, tmp_path):
        for call in (gm.predict, gm.predict_proba, gm.score_samples, gm.score, gm.bic):
            with refused(SchemaError, ValueError, "6 features", "expecting 3 features"):
                call(data)
        with refused(SchemaError, ValueError, "6 features", "expecting 3 features"):
            gm.predict(data, out=tmp_path / "labels.npy")


def test_wrong_number_of_features_in_dask(gm: GaussianMixture, x: Array) -> None:
    with refused(SchemaError, ValueError, "6 features", "expecting 3 features"):
        gm.predict(dask.array.from_array(np.hstack([x, x]), chunks=(CHUNK_ROWS, 6)))


@pytest.mark.parametrize("extra", ["constant", "duplicate"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_constant_and_duplicate_columns(x: Array, extra: str, covariance_type: str) -> None:
    column = np.full(N_ROWS, 4.25) if extra == "constant" else x[:, 0]
    data = np.column_stack([x, column])
    gm = mixture(covariance_type=covariance_type).fit(data)
    assert np.isfinite(gm.lower_bounds_).all()
    assert np.isfinite(gm.score_samples(data)).all()
    singular = covariance_type in ("full", "tied") or (extra, covariance_type) == ("constant", "diag")
    bare = mixture(covariance_type=covariance_type, reg_covar=0)
    if not singular:
        assert np.isfinite(bare.fit(data).lower_bound_)
        return
    with refused(DegenerateDataError, ValueError, "reg_covar", "constant or duplicated columns"):
        bare.fit(data)


# --- weights ---------------------------------------------------------------------------------------------------------


def weights_with(value: float) -> Array:
    weight = np.ones(N_ROWS)
    weight[250] = value
    return weight


WEIGHTS = [
    pytest.param(weights_with(-1), DataError, ("chunk 2 (rows 200–299)", "-1.0 in row 250"), id="negative"),
    pytest.param(weights_with(np.nan), DataError, ("chunk 2 (rows 200–299)", "nan in row 250"), id="NaN"),
    pytest.param(weights_with(np.inf), DataError, ("chunk 2 (rows 200–299)", "inf in row 250"), id="infinite"),
    pytest.param(np.ones(N_ROWS - 1), SchemaError, ("(999,)", "1000 rows", "(1000,) is needed"), id="too short"),
    pytest.param(np.ones((N_ROWS, 1)), SchemaError, ("(1000, 1)", "(1000,) is needed"), id="two axes"),
    pytest.param(np.full(N_ROWS, "1"), SchemaError, ("not numeric",), id="text"),
]


@pytest.mark.parametrize(("weight", "kind", "words"), WEIGHTS)
def test_bad_weights(
    gm: GaussianMixture, x: Array, tmp_path: Path, weight: Array, kind: type[StreamemError], words: tuple[str, ...]
) -> None:
    data = to_zarr(tmp_path / "x.zarr", x)
    with kept(gm, x, tmp_path):
        for rows in (x, data):
            for call in (gm.fit, gm.score):
                with refused(kind, ValueError, *words):
                    call(rows, sample_weight=weight)


def test_weights_that_are_all_zero(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    with kept(gm, x, tmp_path):
        with refused(DataError, ValueError, "weight zero", "at least one weight must be > 0"):
            gm.fit(x, sample_weight=np.zeros(N_ROWS))
        with refused(DataError, ValueError, "sum to 0.0", "at least one must be > 0"):
            gm.score(x, sample_weight=np.zeros(N_ROWS))


def test_weights_given_as_a_bad_column(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    table = pa.table({**dict(zip(NAMES, x.T, strict=True)), "w": weights_with(-2), "s": ["text"] * N_ROWS})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=CHUNK_ROWS)
    with kept(gm, x, tmp_path):
        for weight, kind, words in (
            ("w", DataError, ("weights are negative", "-2.0 in row 250")),
            ("ww", SchemaError, ("no column 'ww'", "Did you mean 'w'")),
            ("s", SchemaError, ("'s' (string)", "not numeric")),
        ):
            with refused(kind, ValueError, *words):
                mixture().fit(tmp_path / "x.parquet", columns=NAMES, sample_weight=weight)


def test_a_missing_chunk_of_weights(x: Array, tmp_path: Path) -> None:
    path = to_zarr(tmp_path / "w.zarr", np.ones(N_ROWS))
    (path / "c" / "3").unlink()
    with refused(SourceError, OSError, "missing"):
        mixture().fit(x, sample_weight=str(path))


@pytest.mark.parametrize("name", ["w.zarr", "absent.zarr", "absent.npy"])
def test_weights_that_cannot_be_read(x: Array, tmp_path: Path, name: str) -> None:
    path = to_zarr(tmp_path / "w.zarr", np.ones(N_ROWS))
    truncate(path / "c" / "3")
    with refused(SourceError, OSError, name):
        mixture().fit(x, sample_weight=str(tmp_path / name))


# --- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        "parquet",
        "zarr",
        "pandas",
    ],
)
def test_a_missing_column(gm: GaussianMixture, x: Array, tmp_path: Path, stored: str) -> None:
    data: Any = tmp_path / f"x.{stored}"
    if stored == "parquet":
        to_parquet(data, x)
    elif stored == "zarr":
        group = zarr.create_group(str(data))
        for name, column in zip(NAMES, x.T, strict=True):
            group.create_array(name, data=column)
    else:
        data = pd.DataFrame(x, columns=NAMES)
    with kept(gm, x, tmp_path), refused(SchemaError, ValueError, "depth"):
        gm.fit(data, columns=["a", "depth"])


def test_columns_that_are_not_numeric(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": ["text"] * N_ROWS})
    pq.write_table(table, tmp_path / "x.parquet")
    with kept(gm, x, tmp_path):
        with refused(SchemaError, ValueError, "not numeric", "'c' (string)", "columns="):
            gm.fit(tmp_path / "x.parquet")
        with refused(SchemaError, ValueError, "not numeric", "'c' (string)"):
            gm.fit(table)


def test_a_column_that_is_missing_at_predict(x: Array, tmp_path: Path) -> None:
    gm = mixture().fit(to_parquet(tmp_path / "abc.parquet", x))
    other = to_parquet(tmp_path / "abz.parquet", x, ["a", "b", "z"])
    with kept(gm, tmp_path / "abc.parquet", tmp_path), refused(SchemaError, ValueError, "no column 'c'"):
        gm.predict(other, out=tmp_path / "labels.parquet")


def test_mixed_schemas(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    to_parquet(folder / "1.parquet", x)
    to_parquet(folder / "2.parquet", x, ["a", "b", "d"])
    with kept(gm, x, tmp_path), refused(SchemaError, ValueError, "files differ", "'c'", "1.parquet", "2.parquet"):
        gm.fit(folder)
    assert mixture().fit(folder, columns=["a", "b"]).report_.n_rows == 2 * N_ROWS


def test_mixed_types(x: Array, tmp_path: Path) -> None:
    to_parquet(tmp_path / "1.parquet", x)
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": ["text"] * N_ROWS}), tmp_path / "2.parquet")
    with refused(SchemaError, ValueError, "2.parquet", "'c' (string)"):
        mixture().fit(tmp_path)


def test_null_rows_of_an_embedding(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    """A reader that dropped them would shift every row behind them, in silence."""
    null = np.isin(np.arange(N_ROWS), (412, 477))  # their values lie there all the same, finite ones
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), N_FEATURES, mask=pa.array(null))
    table = pa.table({"e": embedding})
    pq.write_table(table, tmp_path / "e.parquet", row_group_size=CHUNK_ROWS)
    words = ("chunk 4 (rows 400–499)", "6 non-finite", "2 in column 0 'e[0]'", "row 412")
    with kept(gm, x, tmp_path):
        for data in (tmp_path / "e.parquet", table):
            with refused(NonFiniteError, ValueError, *words):
                mixture().fit(data)


def test_nulls_in_a_column(x: Array, tmp_path: Path) -> None:
    table = pa.table({"a": x[:, 0], "b": pa.array([None if i == 99 else 1.5 * i for i in range(N_ROWS)])})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=CHUNK_ROWS)
    with refused(NonFiniteError, ValueError, "chunk 0", "1 in column 1 'b'", "row 99"):
        mixture(chunk_bytes=CHUNK_ROWS * 16).fit(tmp_path / "x.parquet")


# --- stores ----------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 3] = b"\xff" * (len(content) // 3)
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE: dict[str, Break] = {"missing": Path.unlink, "truncated": truncate, "corrupt": scribble, "empty": empty}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_zarr_chunk(gm: GaussianMixture, x: Array, tmp_path: Path, damage: Break) -> None:
    path = to_zarr(tmp_path / "x.zarr", x)
    damage(path / "c" / "6" / "0")
    with kept(gm, x, tmp_path):
        with refused(SourceError, OSError, str(path), "c/6/0" if damage in (Path.unlink, empty) else "rows 600–699"):
            gm.fit(path)
        with refused(SourceError, OSError, str(path)):
            gm.predict(path, out=tmp_path / "labels.zarr")


def test_a_flipped_bit_in_a_zarr_chunk_with_checksums(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    codec = zarr.codecs.ZstdCodec(checksum=True)
    zarr.create_array(str(path), data=x, chunks=(CHUNK_ROWS, N_FEATURES), compressors=codec)
    content = bytearray((path / "c" / "6" / "0").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "c" / "6" / "0").write_bytes(content)
    with kept(gm, x, tmp_path), refused(SourceError, OSError, str(path), "rows 600–699"):
        gm.fit(path)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_zarr_chunk_damaged_during_a_fit(x: Array, tmp_path: Path, damage: Break) -> None:
    """Found at the very read; the checkpoint is that of the pass before."""
    path = to_zarr(tmp_path / "x.zarr", x)
    chunk, run = path / "c" / "9" / "0", tmp_path / "run.npz"
    whole, times = chunk.read_bytes(), os.stat(chunk)
    source = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    reference = mixture().fit(path)
    with refused(SourceError, OSError, "rows 900–999"):
        mixture(n_threads=1).fit(
            WatchedSource(source, Countdown(3 * N_CHUNKS + 2, lambda: damage(chunk))), checkpoint=run
        )
    chunk.write_bytes(whole)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = mixture().fit(path, checkpoint=run)
    assert fitted(again) == fitted(reference)
    assert [record.iteration for record in again.report_.passes] == list(range(6))


@pytest.mark.parametrize("damage", [truncate, empty], ids=["truncated", "empty"])
def test_a_truncated_parquet_file(gm: GaussianMixture, x: Array, tmp_path: Path, damage: Break) -> None:
    path = to_parquet(tmp_path / "x.parquet", x)
    damage(path)
    with kept(gm, x, tmp_path):
        for call in (gm.fit, gm.predict, gm.score):
            with refused(SourceError, OSError, str(path)):
                call(path)
        with refused(SourceError, OSError, str(path)):
            gm.predict(path, out=tmp_path / "labels.npy")


def test_a_flipped_parquet_page(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(dict(zip(NAMES, x.T, strict=True)))
    pq.write_table(table, path, row_group_size=CHUNK_ROWS, write_page_checksum=True, compression=None)
    offset = pq.ParquetFile(path).metadata.row_group(5).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 4
    path.write_bytes(content)
    with kept(gm, x, tmp_path), refused(SourceError, OSError, "row group 5", str(path)):
        mixture().fit(path)


@pytest.mark.parametrize("name", ["x.zarr", "x.parquet", "x.npy", "x.arrow", "x.csv"])
def test_nothing_there(gm: GaussianMixture, x: Array, tmp_path: Path, name: str) -> None:
    with kept(gm, x, tmp_path):
        for call in (gm.fit, gm.predict, gm.score):
            with refused(SourceError, OSError, str(tmp_path / name)):
                call(tmp_path / name)


@pytest.mark.parametrize("name", ["x.zarr", "x.parquet", "x.npy", "x.arrow", "x.orc", "x.txt"])
def test_something_else_there(gm: GaussianMixture, x: Array, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no such format\n" * 100)
    with kept(gm, x, tmp_path), refused(SourceError, OSError, str(tmp_path / name)):
        gm.fit(tmp_path / name)


# --- data that changes -----------------------------------------------------------------------------------------------


def rewrite(stored: str, path: Path, x: Array) -> None:
    """The same shape and other values, in place."""
    if stored == "zarr":
        zarr.open_array(str(path), mode="r+")[:CHUNK_ROWS] = x[:CHUNK_ROWS] + 1
    elif stored == "npy":
        np.load(path, mmap_mode="r+")[...] = x + 1
    else:
        to_parquet(path, x + 1)


@pytest.mark.parametrize("stored", ["zarr", "parquet", "npy"])
def test_data_rewritten_between_passes(x: Array, tmp_path: Path, stored: str) -> None:
    """Nothing of the rewritten data enters the checkpoint, and the checkpoint refuses to go on with it."""
    path, run = WRITERS[stored](tmp_path / f"x.{stored}", x), tmp_path / "run.npz"
    source = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    early = tmp_path / "early.npz"
    mixture(max_iter=2).fit(path, checkpoint=early)
    # Four passes: the sample and three iterations; the last chunk of the third iteration comes with the change.
    watched = WatchedSource(source, Countdown(4 * N_CHUNKS, lambda: rewrite(stored, path, x)))
    gm = mixture(n_threads=1)
    with refused(SourceChangedError, OSError, str(path), "changed while it was being read", "snapshot"):
        gm.fit(watched, checkpoint=run)
    assert not hasattr(gm, "weights_")
    assert saved_means(run) == saved_means(early)
    with pytest.raises(ModelFileError, match="data: "):
        mixture().fit(path, checkpoint=run)


def saved_means(path: Path) -> tuple[int, bytes]:
    with np.load(path, allow_pickle=False) as arrays:
        return int(arrays["state.iteration"]), arrays["state.params.components.means"].tobytes()


@pytest.mark.parametrize("stored", ["zarr", "parquet", "npy"])
def test_data_rewritten_while_predicting(gm: GaussianMixture, x: Array, tmp_path: Path, stored: str) -> None:
    gm.set_params(n_threads=1)  # no other read under way, which would fail by itself on a file half written
    path = WRITERS[stored](tmp_path / f"x.{stored}", x)
    for call in (lambda data: gm.predict(data, out=tmp_path / "labels.zarr"), gm.predict, gm.score):
        source = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES))
        x = x + 1
        watched = WatchedSource(source, Countdown(N_CHUNKS, lambda: rewrite(stored, path, x)))  # noqa: B023
        with refused(SourceChangedError, OSError, "changed while it was being read"):
            call(watched)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("stored", ["parquet", "npy"])
def test_data_that_goes_away(x: Array, tmp_path: Path, stored: str) -> None:
    path = WRITERS[stored](tmp_path / f"x.{stored}", x)
    source = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    watched = WatchedSource(source, Countdown(2 * N_CHUNKS + 1, lambda: path.unlink()))
    with pytest.raises(SourceError, match=rf"x\.{stored}"):
        mixture().fit(watched)


def test_an_npy_file_cut_short_during_a_fit(x: Array, tmp_path: Path) -> None:
    """What np.save over the file does too, for a moment."""
    path = to_npy(tmp_path / "x.npy", x)
    process = subprocess_jobs.start("lose_file", data=path, chunk_bytes=CHUNK_BYTES, load=2 * N_CHUNKS)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert b"SourceError" in out or b"SourceChangedError" in out


def test_data_rewritten_between_starts(x: Array, tmp_path: Path) -> None:
    path = to_zarr(tmp_path / "x.zarr", x)

    class Changing(WatchedSource):
        """Rewritten just after it was found unchanged at the end of the first start."""

        asked = 0

        def fingerprint(self) -> str:
            found = super().fingerprint()
            self.asked += 1
            if self.asked == 7:  # once before the run, once for each of its six passes
                rewrite("zarr", path, x)
            return found

    source = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES))
    with pytest.raises(SourceChangedError):
        mixture(n_init=2).fit(Changing(source, lambda ref: None))


# --- budget ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["parquet", "zarr"])
def test_a_storage_unit_larger_than_the_budget(gm: GaussianMixture, tmp_path: Path, stored: str) -> None:
    big = np.zeros((200_000, N_FEATURES))
    big[:, 0] = np.arange(len(big))
    path = tmp_path / f"big.{stored}"
    if stored == "parquet":
        to_parquet(path, big, row_group_size=len(big))
    else:
        zarr.create_array(str(path), data=big, chunks=big.shape)
    gm.set_params(memory_limit="4MiB")
    files = contents(tmp_path)
    for call in (gm.fit, gm.predict, lambda data: gm.predict(data, out=tmp_path / "labels.zarr")):
        with refused(
            MemoryLimitError, MemoryError, str(path), "exceeds the allowed 4.00 MiB", "in all", "row_group_size"
        ):
            call(path)
    assert contents(tmp_path) == files


# --- model files -----------------------------------------------------------------------------------------------------


def edited(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Rewrite a saved file with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def newer(members: dict[str, bytes]) -> None:
    document = json.loads(members["meta.json"])
    document["schema"] = 99
    document["versions"]["streamem"] = "7.0"
    members["meta.json"] = json.dumps(document).encode()


def with_array(array: Array, declared: tuple[int, ...] | None = None) -> Callable[[dict[str, bytes]], None]:
    """Put an array in place of the weights, pickled if it has to be, with a header that claims another shape."""

    def change(members: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=True)
        content = buffer.getvalue()
        if declared is not None:
            header = io.BytesIO()
            fields = {"descr": array.dtype.str, "fortran_order": False, "shape": declared}
            np.lib.format.write_array_header_1_0(header, fields)
            content = header.getvalue() + array.tobytes()
        members["weights_.npy"] = content

    return change


class Bomb:
    """What would run if anything were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


MODEL_FILES: dict[str, tuple[Break, str]] = {
    "absent": (Path.unlink, "no such file"),
    "empty": (empty, "cannot be trusted"),
    "truncated": (truncate, "cannot be trusted"),
    "corrupt": (scribble, "cannot be trusted"),
    "text": (lambda path: path.write_text("not a model"), "cannot be trusted"),
    "other arrays": (lambda path: np.savez(path, a=np.ones(3)), "meta.json"),
    "newer": (lambda path: edited(path, newer), "schema 99"),
    "objects": (lambda path: edited(path, with_array(np.array([Bomb(), Bomb()]))), "holds object"),
    "absurd shape": (lambda path: edited(path, with_array(np.ones(2), (2**40, 2**10))), "declares shape"),
    "negative shape": (lambda path: edited(path, with_array(np.ones(2), (-2, -1))), "declares shape"),
    "lost member": (lambda path: edited(path, lambda members: members.pop("weights_.npy")), "weights_"),
    "other size": (
        lambda path: edited(
            path, lambda m: m.update({"state.params.weights.npy": m["state.params.components.means.npy"]})
        ),
        "do not fit",
    ),
}


@pytest.mark.parametrize(("damage", "words"), MODEL_FILES.values(), ids=MODEL_FILES.keys())
def test_a_model_file_that_cannot_be_trusted(gm: GaussianMixture, tmp_path: Path, damage: Break, words: str) -> None:
    path = tmp_path / "model.npz"
    gm.save(path)
    damage(path)
    with refused(ModelFileError, ValueError, str(path) if words != "do not fit" else "", words):
        GaussianMixture.load(path)


def test_a_checkpoint_is_no_model(x: Array, tmp_path: Path) -> None:
    mixture().fit(x, checkpoint=tmp_path / "run.npz")
    with refused(ModelFileError, ValueError, "is a checkpoint, not a model"):
        GaussianMixture.load(tmp_path / "run.npz")


# --- nothing lost ----------------------------------------------------------------------------------------------------


def test_a_failed_refit_with_other_features_keeps_the_fit(gm: GaussianMixture, x: Array, tmp_path: Path) -> None:
    bad = np.hstack([x, x])
    bad[0, 0] = np.nan
    with kept(gm, x, tmp_path), pytest.raises(NonFiniteError):
        gm.fit(bad)


def test_a_failed_refit_with_other_names_keeps_the_fit(x: Array, tmp_path: Path) -> None:
    bad = x.copy()
    bad[0, 0] = np.nan
    gm = mixture().fit(to_parquet(tmp_path / "x.parquet", x))
    to_parquet(tmp_path / "bad.parquet", bad, ["d", "e", "f"])
    with pytest.raises(NonFiniteError):
        gm.fit(tmp_path / "bad.parquet")
    assert gm.feature_names_in_.tolist() == NAMES
