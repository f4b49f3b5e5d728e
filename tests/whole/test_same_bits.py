"""The result depends on the plan of chunks, and on nothing else: not on threads, order, memory or file format."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from helpers.fit_bits import fitted
from streamem import GaussianMixture
from streamem.executors import ThreadsExecutor
from streamem.running import engines

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_ROWS, N_FEATURES, CHUNK_ROWS = 25_000, 4, 1_000
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def x() -> Array:
    """Overlapping clusters; an odd number of chunks, so that the tree of sums is lopsided."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(N_ROWS, N_FEATURES)) + rng.integers(0, 3, (N_ROWS, 1)) * 1.5


@pytest.fixture(scope="module")
def weight() -> Array:
    return np.random.default_rng(4).uniform(0, 2, N_ROWS)


def mixture(**settings: Any) -> GaussianMixture:
    fixed: dict[str, Any] = {
        "n_components": 3,
        "init_params": "random_from_data",
        "random_state": 0,
        "tol": 0,
        "max_iter": 4,
        "chunk_bytes": CHUNK_ROWS * N_FEATURES * 8,
    }
    return GaussianMixture(**{**fixed, **settings})


def everything(gm: GaussianMixture, data: Any) -> dict[str, bytes]:
    """All that a fitted mixture says, as bytes."""
    said = {
        "labels": gm.predict(data),
        "responsibilities": gm.predict_proba(data),
        "densities": gm.score_samples(data),
        "score": gm.score(data),
        "bic": gm.bic(data),
    }
    return fitted(gm) | {name: np.asarray(value).tobytes() for name, value in said.items()}


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if one[name] != other[name]]


# --- threads and order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_any_number_of_threads(x: Array, weight: Array, covariance_type: str) -> None:
    results = []
    for n_threads in (1, 2, 4):
        gm = mixture(n_threads=n_threads, covariance_type=covariance_type).fit(x, sample_weight=weight)
        assert gm.report_.n_chunks == N_ROWS // CHUNK_ROWS
        assert gm.report_.setting["threads"] == n_threads
        results.append(everything(gm, x))
    assert differing(results[0], results[1]) == []
    assert differing(results[0], results[2]) == []


def shuffled(seed: int) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A permutation, another one at every call."""
    rng = random.Random(seed)

    def shuffle(items: Iterable[Any]) -> list[Any]:
        return rng.sample(listed := list(items), len(listed))

    return shuffle


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_chunks(x: Array, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    reference = everything(mixture(n_threads=1).fit(x), x)
    executor = partial(ThreadsExecutor, shuffle=shuffled(seed))
    monkeypatch.setattr(engines, "ThreadsExecutor", executor)
    assert differing(reference, everything(mixture(n_threads=3).fit(x), x)) == []


def test_several_starts_and_kmeans(x: Array) -> None:
    one, four = (mixture(n_init=2, init_params="kmeans", max_iter=2, n_threads=n).fit(x) for n in (1, 4))
    assert differing(fitted(one), fitted(four)) == []


def test_another_plan_may_differ_in_rounding_only(x: Array) -> None:
    """That the bits above are equal is a property of the tree, not of data that happens to round alike."""
    one, other = mixture().fit(x), mixture(chunk_bytes=CHUNK_ROWS * N_FEATURES * 8 * 3).fit(x)
    assert fitted(one)["means_"] != fitted(other)["means_"]
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-10)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_limits_change_what_is_in_flight_only(x: Array) -> None:
    """Both limits take all rows as the sample for the start; a smaller sample is another start."""
    roomy, tight = (mixture(n_threads=64, memory_limit=limit).fit(x) for limit in ("1GiB", "16MiB"))
    assert roomy.report_.setting["chunks in flight"] == 128
    assert tight.report_.setting["chunks in flight"] < 64
    assert tight.report_.setting["threads"] < 64
    assert differing(everything(roomy, x), everything(tight, x)) == []


# --- formats ---------------------------------------------------------------------------------------------------------


def stored(x: Array, weight: Array, folder: Path) -> dict[str, tuple[Any, Any]]:
    """The same rows in the same chunks everywhere: (data, weights)."""
    np.save(folder / "x.npy", x)
    np.save(folder / "weight.npy", weight)
    zarr.create_array(str(folder / "x.zarr"), data=x, chunks=(CHUNK_ROWS, N_FEATURES))
    zarr.create_array(str(folder / "weight.zarr"), data=weight, chunks=(CHUNK_ROWS,))
    zarr.create_array(
        str(folder / "sharded.zarr"), data=x, chunks=(CHUNK_ROWS // 4, 2), shards=(CHUNK_ROWS, N_FEATURES)
    )
    group = zarr.create_group(str(folder / "columns.zarr"))
    columns = {f"c{i}": x[:, i] for i in range(N_FEATURES)} | {"w": weight}
    for name, column in columns.items():
        group.create_array(name, data=column, chunks=(CHUNK_ROWS,))
    table = pa.table(columns)
    pq.write_table(table, folder / "x.parquet", row_group_size=CHUNK_ROWS)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), N_FEATURES)
    pq.write_table(pa.table({"e": embedding, "w": weight}), folder / "e.parquet", row_group_size=CHUNK_ROWS)
    # Chunks with a weight column count its bytes too, so that an even cut needs its own size.
    return {
        "memory map": (folder / "x.npy", str(folder / "weight.npy")),
        "zarr": (folder / "x.zarr", str(folder / "weight.zarr")),
        "sharded zarr": (folder / "sharded.zarr", weight),
        "zarr columns": (folder / "columns.zarr", "w"),
        "parquet": (folder / "x.parquet", "w"),
        "embedding": (folder / "e.parquet", "w"),
        "array": (x, weight),
    }


@pytest.mark.variations(1, 4)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_any_format(x: Array, weight: Array, tmp_path: Path, covariance_type: str) -> None:
    results = {}
    for name, (data, weights) in stored(x, weight, tmp_path).items():
        row_nbytes = 8 * N_FEATURES + (8 if weights == "w" else 0) if isinstance(weights, str) else 8 * N_FEATURES
        gm = mixture(covariance_type=covariance_type, chunk_bytes=CHUNK_ROWS * row_nbytes)
        gm.fit(data, sample_weight=weights)
        assert gm.report_.n_chunks == N_ROWS // CHUNK_ROWS, name
        results[name] = fitted(gm) | {"score": np.asarray(gm.score(data, sample_weight=weights)).tobytes()}
    reference = results.pop("array")
    assert {name: names for name, result in results.items() if (names := differing(reference, result))} == {}


def test_float32_in_any_format(x: Array, weight: Array, tmp_path: Path) -> None:
    """Only an array publishes its parameters in float32; they are the rounded ones of the files."""
    single = x.astype(np.float32)
    zarr.create_array(str(tmp_path / "x.zarr"), data=single, chunks=(CHUNK_ROWS, N_FEATURES))
    pq.write_table(
        pa.table({f"c{i}": single[:, i] for i in range(N_FEATURES)}),
        tmp_path / "x.parquet",
        row_group_size=CHUNK_ROWS,
    )
    settings = {"chunk_bytes": CHUNK_ROWS * N_FEATURES * 4}
    array, in_zarr, in_parquet = (
        mixture(**settings).fit(data) for data in (single, tmp_path / "x.zarr", tmp_path / "x.parquet")
    )
    assert differing(fitted(in_zarr), fitted(in_parquet)) == []
    assert array.lower_bounds_ == in_zarr.lower_bounds_
    assert array.covariances_.tobytes() == in_zarr.covariances_.astype(np.float32).tobytes()
