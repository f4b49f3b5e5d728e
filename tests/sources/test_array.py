"""Chunks of arrays and ``.npy`` files: larger ones where the array is large, smaller ones where it is small and a row
costs much, unless the user said how large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.lib.format import open_memmap

from streamem import Categorical, GaussianMixture, Mixture, ReadOptions, open_sequences, open_source
from streamem.core.errors import ParameterError, SchemaError
from streamem.estimators.asking import narrowed
from streamem.estimators.row_inputs import read_options
from streamem.estimators.structure import DataArguments
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape
from streamem.running.memory import MIB, Budget
from streamem.sources.options import LEAST_PRODUCTS, LEAST_ROWS


def rows_of(megabytes: int, dtype: Any = np.float64, d: int = 32) -> Any:
    """So many megabytes of rows once they are float64 or float32, and none of memory."""
    itemsize = 8 if dtype == np.float64 else 4  # int8 too is computed with in float32
    return np.broadcast_to(np.zeros((), dtype), (megabytes * MIB // (itemsize * d), d))


def options_of(model: Any) -> ReadOptions:
    """How an unfitted estimator reads."""
    return read_options(model, DataArguments(), None)


def largest(source: Any) -> float:
    """Chunk, in MiB."""
    return max(ref.nbytes for ref in source.chunks()) / MIB


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
@pytest.mark.parametrize(("megabytes", "chunk"), [(1, 1), (100, 2), (128, 2), (256, 4), (512, 8), (4096, 8)])
def test_chunks_grow_with_an_array_up_to_four_times(megabytes: int, chunk: int, dtype: Any) -> None:
    source = open_source(rows_of(megabytes, dtype))
    assert largest(source) == chunk
    assert sum(ref.rows for ref in source.chunks()) == source.n_rows
    assert megabytes < 128 or len(source.chunks()) >= 64


def test_a_file_has_the_plan_of_its_array(tmp_path: Path) -> None:
    rows = rows_of(256)
    open_memmap(tmp_path / "x.npy", mode="w+", dtype=rows.dtype, shape=rows.shape)  # sparse: nothing is written
    plans = [
        [(ref.start, ref.rows) for ref in open_source(data).chunks()]
        for data in (rows, tmp_path / "x.npy", np.load(tmp_path / "x.npy", mmap_mode="r"))
    ]
    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("said", ["1MiB", "3MiB", "2MiB"])
def test_a_chunk_size_that_was_given_is_kept(said: str) -> None:
    options = options_of(GaussianMixture(chunk_bytes=said))
    assert largest(open_source(rows_of(1024), options=options)) == pytest.approx(int(said[0]), rel=0.001)


def test_a_limit_bounds_larger_chunks_too() -> None:
    for limit, most in (("64MiB", 1), ("128MiB", 2), ("256MiB", 4), ("1GiB", 8), (None, 8)):
        options = options_of(GaussianMixture(memory_limit=limit))
        assert largest(open_source(rows_of(1024), options=options)) == most
        assert Budget.of(limit).chunk_bytes == min(most, 2) * MIB


def test_answers_wider_than_their_rows_have_small_chunks() -> None:
    gm, fitted = GaussianMixture(64), Fitted(shape=Shape(2))
    for width, most in ((64, 2 / 32), (None, 8)):
        arguments = narrowed(gm, fitted, DataArguments(), Column(width, np.dtype(np.float64), ()))
        options = read_options(gm, arguments, None)
        assert largest(open_source(rows_of(1024, d=2), options=options)) == most


def test_steps_of_sequences_keep_theirs() -> None:
    assert largest(open_sequences(rows_of(1024))) <= 2
    assert largest(open_sequences(rows_of(1024), options=ReadOptions(chunk_bytes=3 * MIB))) <= 3


@pytest.mark.parametrize("most", [0, -5, 2 * MIB - 1])
def test_less_than_a_chunk_is_refused(most: int) -> None:
    with pytest.raises(ParameterError, match=rf"most_chunk_bytes is {most}, less than chunk_bytes, 2097152; give"):
        ReadOptions(most_chunk_bytes=most)


def heavy(data: Any, k: int = 64, kind: str = "full", **settings: Any) -> list[int]:
    """Rows of the chunks that an estimator of many components cuts."""
    options = options_of(GaussianMixture(k, covariance_type=kind, **settings))
    return [ref.rows for ref in open_source(data, options=options).chunks()]


def test_a_small_array_has_many_chunks_where_a_row_costs_much() -> None:
    """Or one thread would work: 64 full components of 16 features, 4 MiB."""
    rows = heavy(rows_of(4, d=16))
    assert rows == [LEAST_ROWS] * 16
    assert len(heavy(rows_of(100, d=16))) == 64
    assert len(heavy(rows_of(1, d=16), k=4, kind="diag")) == 1


@pytest.mark.parametrize(("k", "d", "kind", "each"), [(16, 8, "full", 45), (4, 8, "full", 45), (32, 16, "diag", 33)])
@pytest.mark.parametrize("megabytes", [1, 2, 3, 4])
def test_small_chunks_are_alike_and_cost_millions_of_products(
    megabytes: int, k: int, d: int, kind: str, each: int
) -> None:
    """Statistics a component: 1 + d + d·(d + 1)/2 of full covariances, 1 + 2·d of diagonal ones."""
    data = rows_of(megabytes, d=d)
    rows = heavy(data, k, kind)
    enough = max(1, len(data) * k * each // LEAST_PRODUCTS)
    if enough < 2:
        assert rows == [ref.rows for ref in open_source(data).chunks()]
    else:
        assert len(rows) == max(2 ** int(np.log2(enough)), -(-megabytes // 2))
        assert max(rows) - min(rows) <= len(rows)


def test_chunks_hold_at_least_as_many_values_as_there_are_statistics() -> None:
    """Adding them up would take longer than the rows: 256 full components of 32 features have 143,616."""
    rows = heavy(rows_of(4, np.float32), k=256)
    assert rows == [8192] * 4
    assert heavy(rows_of(4, np.float32, d=128), k=256) == [4096] * 2


def test_tables_in_memory_and_files_are_cut_like_their_array(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(32_768, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    frame = pd.DataFrame(x)
    expected = heavy(x)
    assert expected == [8192] * 4
    for data in (tmp_path / "x.npy", frame, pa.Table.from_pandas(frame.rename(columns=str))):
        assert heavy(data) == expected


def test_a_chunk_size_or_a_limit_bounds_small_chunks_too() -> None:
    data = rows_of(2, d=16)
    assert len(heavy(data, chunk_bytes="2MiB")) == 1
    assert max(heavy(data, memory_limit="8MiB")) <= LEAST_ROWS
    assert len(heavy(data, k=4, kind="diag", memory_limit="64MiB")) == 2


def test_a_cost_that_is_no_function_is_refused() -> None:
    with pytest.raises(ParameterError, match="row_products is 5; it must be a function of the number of features"):
        ReadOptions(row_products=5)  # type: ignore[arg-type]


def test_chunks_drawn_at_random_stay_large() -> None:
    options = read_options(GaussianMixture(64), DataArguments(in_order=False), None)
    assert len(open_source(rows_of(2, d=16), options=options).chunks()) == 1


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8])
def test_any_integer_counts_components(kind: Any) -> None:
    """In 200 × 45 products an 8-bit number would overflow."""
    assert heavy(rows_of(2, d=8), kind(200)) == [2048] * 16


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_plan_does_not_depend_on_what_was_fitted_before() -> None:
    x = np.random.default_rng(0).integers(0, 3, size=(20_000, 10)).astype(float)
    mixture = Mixture(Categorical(), 32, max_iter=1, random_state=0)

    def plan() -> list[int]:
        return [ref.rows for ref in open_source(x, options=options_of(mixture)).chunks()]

    before = plan()
    mixture.fit(x)
    assert plan() == before
    assert len(before) == 1
    with pytest.raises(SchemaError, match="has 7 features, but Mixture is expecting 10"):
        mixture.predict(x[:, :7])


@pytest.mark.parametrize(
    "wrong", [{"n_components": "3"}, {"n_components": None}, {"n_components": 2.5}, {"init_params": "foo"}]
)
def test_wrong_settings_are_told_before_chunks_are_cut(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(wrong))} is"):
        GaussianMixture(**wrong).partial_fit(np.random.default_rng(0).normal(size=(100, 2)))


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("shape", [(500, 40_000), (2_000, 3_000), (50_000, 100), (200_000, 2)])
def test_fingerprints_look_at_all_parts_of_an_array(shape: tuple[int, int], as_list: bool) -> None:
    """Of wide rows at some columns only, others in every row."""
    x = np.zeros(shape, dtype=np.float32)

    def fingerprint() -> str:
        return (open_sequences([x[:300], x[300:]]) if as_list else open_source(x)).fingerprint()

    before, (n, d) = fingerprint(), shape
    some = slice(d - max(1, d // 10), None)
    for rows, columns in ((slice(n - n // 10, None), slice(None)), (slice(None), some), (slice(None), slice(1, 2))):
        x[rows, columns] += 1
        assert fingerprint() != before
        x[rows, columns] -= 1
    assert fingerprint() == before
