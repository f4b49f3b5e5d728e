"""Rows in memory are looked at for values that are not finite in a run's first pass; rows in files in every pass."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from streamem import GaussianMixture, ReadOptions, open_source
from streamem.core import loops, validation
from streamem.core.errors import NonFiniteError, NumericalError
from streamem.core.missing import Missing
from streamem.core.validation import Checked

N, D, K = 6144, 4, 8
CHUNK_BYTES = 2**15


def rows(dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(N, D)) + 6 * rng.integers(0, K, size=(N, 1))).astype(dtype)


def as_array(x: Any, folder: Path) -> Any:
    return x


def as_mapped_file(x: Any, folder: Path) -> Any:
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def as_zarr(x: Any, folder: Path) -> Any:
    import zarr

    zarr.create_array(store=str(folder / "x.zarr"), shape=x.shape, chunks=(1024, D), dtype=x.dtype)[:] = x
    return str(folder / "x.zarr")


@pytest.mark.parametrize(
    ("stored", "again"),
    [(as_array, False), (as_mapped_file, True), (as_zarr, True)],
)
def test_how_often(stored: Callable[..., Any], again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = loops.all_finite
    monkeypatch.setattr(validation, "MANY", 4096)
    monkeypatch.setattr(loops, "all_finite", lambda x: bool(looks.append(len(x))) or look(x))
    data, counts = stored(rows(), tmp_path), []
    start = {"weights_init": np.full(K, 1 / K), "means_init": rows()[:K], "precisions_init": np.stack([np.eye(D)] * K)}
    for iterations in (1, 4):
        looks.clear()
        with pytest.warns(ConvergenceWarning):
            GaussianMixture(K, tol=0.0, max_iter=iterations, chunk_bytes=CHUNK_BYTES, n_threads=1, **start).fit(data)
        counts.append(sum(looks))
    assert counts[0] >= N
    assert counts[1] - counts[0] == (3 * N if again else 0)


def test_another_process_looks_for_itself() -> None:
    x = rows()
    checked, first = Checked(), open_source(x, options=ReadOptions(chunk_bytes=CHUNK_BYTES)).chunks()[1]
    checked.require_finite(first.load(), first, None)
    assert np.isfinite(x).all()
    x[first.start + 5, 2] = np.nan
    checked.require_finite(first.load(), first, None)  # has been done
    with pytest.raises(NonFiniteError, match=f"1 in column 2 .*row {first.start + 5}"):
        pickle.loads(pickle.dumps(checked)).require_finite(first.load(), first, None)


WAYS = [
    *((kind, dtype, separation, 10_000) for kind in ("full", "tied", "diag", "spherical")
      for dtype in (np.float64, np.float32) for separation in (0.2, 20.0)),
    ("full", np.float64, 20.0, 150_000),
    ("diag", np.float32, 20.0, 300_000),
]  # fmt: skip
"""Covariance type, dtype, how far the components lie apart, and rows: all arithmetics that a pass may choose from."""
QUICK = [
    ("full", np.float64, 0.2, 10_000),
    ("full", np.float32, 20.0, 10_000),
    ("full", np.float64, 20.0, 150_000),
    ("tied", np.float64, 0.2, 10_000),
    ("diag", np.float64, 20.0, 10_000),
    ("diag", np.float32, 0.2, 10_000),
    ("spherical", np.float64, 0.2, 10_000),
]
"""Each arithmetic once; the others are slow."""


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul")  # NumPy's, of a tied covariance
@pytest.mark.parametrize("value", [np.nan, *(pytest.param(x, marks=pytest.mark.slow) for x in (np.inf, -np.inf))])
@pytest.mark.parametrize(
    ("covariance_type", "dtype", "separation", "n"),
    [pytest.param(*way, marks=() if way in QUICK else pytest.mark.slow) for way in WAYS],
)
def test_what_is_written_meanwhile_is_an_error(
    value: float, covariance_type: str, dtype: Any, separation: float, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes into the array between two passes: no chunk of a later pass is taken as if nothing were wrong."""
    rng = np.random.default_rng(1)
    d, k, at = 32, 16, n // 2 + 7
    means = separation * np.arange(k)[:, None] + np.zeros(d)
    x = rng.standard_normal((n, d), np.float32).astype(dtype) + means[rng.integers(0, k, size=n)].astype(dtype)
    ones = {"full": np.stack([np.eye(d)] * k), "tied": np.eye(d), "diag": np.ones((k, d)), "spherical": np.ones(k)}
    start = {"weights_init": np.full(k, 1 / k), "means_init": means, "precisions_init": ones[covariance_type]}
    gm = GaussianMixture(k, covariance_type=covariance_type, tol=0.0, max_iter=6, **start)
    passes: list[int] = []
    original = Checked.require_finite

    def require(self: Checked, chunk: Any, ref: Any, names: Any, missing: Any = Missing.NOTHING) -> None:
        original(self, chunk, ref, names, missing)
        if ref.start <= at < ref.start + ref.rows:
            passes.append(ref.index)
            if len(passes) == 4:
                chunk.x[at - ref.start, 3] = value

    monkeypatch.setattr(Checked, "require_finite", require)
    with pytest.raises(NumericalError, match=r"has no finite log-density|squares overflow"):
        gm.fit(x)
    assert len(passes) == 4
