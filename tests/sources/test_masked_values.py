"""What a mask hides is missing, everywhere: never learned, never scored, never a code or a weight."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from numpy.typing import NDArray

from streamem import Categorical, GaussianHMM, GaussianMixture, Mixture, ReadOptions, open_sequences, open_source
from streamem.conformance import assert_close, assert_equal
from streamem.core.errors import DataError, NonFiniteError, ParameterError
from streamem.core.ports import Source

Array = NDArray[Any]
HIDDEN = 999


def rows_with_a_hole() -> Array:
    x = np.random.default_rng(0).normal(size=(60, 2)).round(2)
    x[[7, 8, 41]] = HIDDEN
    return x


BAD = rows_with_a_hole()
MASKED = np.ma.masked_equal(BAD, HIDDEN)
SHOWN = np.where(BAD == HIDDEN, np.nan, BAD)


def rows_of(source: Source) -> Array:
    return np.concatenate([ref.load().x for ref in source.chunks()])


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return GaussianMixture(1).fit(np.nan_to_num(SHOWN))


def chain() -> GaussianHMM:
    return GaussianHMM(2, random_state=0, n_iter=5, tol=1e3, stopping="change")


@pytest.fixture(scope="module")
def fitted() -> GaussianHMM:
    return chain().fit(SHOWN)


# --- sources ----------------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[], Any]] = {
    "float64": lambda: MASKED,
    "float32": lambda: MASKED.astype(np.float32),
    "column by column": lambda: MASKED.copy(order="F"),
    "objects": lambda: np.ma.array(BAD.astype(object), mask=BAD == HIDDEN),
    "Dask": lambda: dask.array.from_array(MASKED, chunks=(10, 2)),
    "xarray": lambda: xarray.DataArray(MASKED),
    "xarray on Dask": lambda: xarray.DataArray(dask.array.from_array(MASKED, chunks=(10, 2))),
    "variables on Dask": lambda: xarray.Dataset(
        {name: ("t", dask.array.from_array(MASKED, chunks=10)[:, i]) for i, name in enumerate("ab")}
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_shows_nan_where_a_mask_hides_something(kind: str) -> None:
    source = open_source(KINDS[kind]())
    np.testing.assert_array_equal(rows_of(source), SHOWN.astype(source.schema.dtype))


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint8, np.bool_])
def test_integers_become_floats_that_can_be_missing(dtype: Any) -> None:
    whole = np.ma.array(np.abs(BAD).astype(dtype), mask=BAD == HIDDEN)
    expected = np.where(BAD == HIDDEN, np.nan, np.abs(BAD).astype(dtype))
    for data in (whole, dask.array.from_array(whole, chunks=(10, 2))):
        np.testing.assert_array_equal(rows_of(open_source(data)), expected)


def test_what_is_hidden_may_be_anything() -> None:
    hidden = np.ma.array([[2**60, 1], [3, 4]], mask=[[True, False], [False, False]])
    np.testing.assert_array_equal(rows_of(open_source(hidden)), [[np.nan, 1], [3, 4]])


def test_a_mask_that_hides_nothing_costs_nothing() -> None:
    x = np.nan_to_num(SHOWN)
    idle = open_source(np.ma.array(x, mask=False))
    assert idle.fingerprint() == open_source(x).fingerprint()
    assert np.shares_memory(idle.chunks()[0].load().x, x)


def test_masks_travel_and_belong_to_the_fingerprint() -> None:
    ref = open_source(MASKED).chunks()[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ref)).load().x, SHOWN)
    assert open_source(MASKED).fingerprint() != open_source(BAD).fingerprint()
    parts = open_sequences([MASKED[:30], MASKED[30:]])
    np.testing.assert_array_equal(rows_of(pickle.loads(pickle.dumps(parts))), SHOWN)
    assert parts.fingerprint() != open_sequences([BAD[:30], BAD[30:]]).fingerprint()


def test_fill_values_of_zarr_are_missing_in_weights_and_identifiers_too(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", data=np.arange(8.0).reshape(4, 2))
    for name, values in {"w": [1.0, 1.0, HIDDEN, HIDDEN], "id": [1, 1, HIDDEN, HIDDEN], "n": [2, HIDDEN]}.items():
        group.create_array(name, data=np.array(values)).attrs["_FillValue"] = HIDDEN
    ways: dict[str, dict[str, Any]] = {
        "'w' is nan": {"lengths": [2, 2], "weight": "w"},
        "is null in row 2": {"sequence_column": "id"},
        "not whole numbers": {"lengths": "n"},
    }
    for message, way in ways.items():
        with pytest.raises(DataError, match=message):
            open_sequences(group, options=ReadOptions(columns=("x",)), **way)


# --- mixtures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["fit", "partial_fit", "predict", "score", "predict_proba", "expected_statistics"])
@pytest.mark.parametrize("kind", ["array", "source", "list"])
def test_mixtures_refuse_missing_values(mixture: GaussianMixture, what: str, kind: str) -> None:
    data: Any = {"array": MASKED, "source": open_source(MASKED), "list": list(MASKED)}[kind]
    with pytest.raises(DataError, match=r"drop or impute"):
        getattr(mixture, what)(data)


def test_lazy_answers_about_masked_blocks(mixture: GaussianMixture) -> None:
    with pytest.raises(NonFiniteError):
        mixture.predict(dask.array.from_array(MASKED, chunks=(10, 2))).compute()
    frame = dask.dataframe.from_pandas(pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [1, 2]}), npartitions=1)
    with pytest.raises(NonFiniteError, match="row 1"):
        mixture.score_samples(frame).compute()


@pytest.mark.parametrize(
    "batch", [MASKED, np.ma.array((10 * BAD).astype(int), mask=BAD == HIDDEN)], ids=["floats", "integers"]
)
def test_masked_rows_of_a_stream_are_dead_letters(batch: Array, tmp_path: Path) -> None:
    model = GaussianMixture(1, random_state=0)
    model.fit_stream([batch] * 5, dead_letter=tmp_path / "bad.arrows", checkpoint=tmp_path / "m.npz", poison_limit=1.0)
    assert model.means_.max() < 10
    assert model.report_.n_rows == 5 * 57


# --- chains -----------------------------------------------------------------------------------------------------------

STEPS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "array": (lambda: MASKED, lambda: SHOWN),
    "source": (lambda: open_source(MASKED), lambda: SHOWN),
    "list": (lambda: [MASKED[:30], MASKED[30:]], lambda: [SHOWN[:30], SHOWN[30:]]),
    "list, one masked": (lambda: [MASKED[:30], SHOWN[30:]], lambda: [SHOWN[:30], SHOWN[30:]]),
    "padded": (lambda: MASKED.reshape(3, 20, 2), lambda: SHOWN.reshape(3, 20, 2)),
    "Dask": (lambda: dask.array.from_array(MASKED, chunks=(10, 2)), lambda: SHOWN),
}


@pytest.mark.parametrize("kind", STEPS)
def test_masked_rows_are_missing_steps(fitted: GaussianHMM, kind: str) -> None:
    masked, shown = STEPS[kind]
    assert_equal(chain().fit(masked()).means_, chain().fit(shown()).means_, "means")
    assert fitted.score(masked()) == fitted.score(shown())
    assert_equal(fitted.predict(masked()), fitted.predict(shown()), "states")


def test_masked_rows_learned_online() -> None:
    one, other = (chain().fit(SHOWN).partial_fit(x) for x in (MASKED, SHOWN))
    assert_equal(one.means_, other.means_, "means")


def test_half_a_step_cannot_be_missing(fitted: GaussianHMM) -> None:
    half = np.ma.array(BAD, mask=np.stack([BAD[:, 0] == HIDDEN, np.zeros(60, bool)], axis=1))
    with pytest.raises(NonFiniteError, match="not in part"):
        fitted.score(half)


# --- weights, lengths, settings ---------------------------------------------------------------------------------------

WEIGHT = np.ma.array(np.ones(60), mask=[i == 3 for i in range(60)])
NO_WEIGHTS: dict[str, Callable[[], Any]] = {
    "masked": lambda: WEIGHT,
    "whole numbers": lambda: WEIGHT.astype(int),
    "Dask": lambda: dask.array.from_array(WEIGHT, chunks=7),
    "xarray": lambda: xarray.DataArray(WEIGHT),
    "pandas": lambda: pd.Series([1] * 59 + [None], dtype="Int64"),
    "Arrow": lambda: pa.array([1] * 59 + [None]),
    "polars": lambda: pl.Series([1] * 59 + [None]),
    "bool": lambda: pa.array([True] * 59 + [None]),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_a_weight_cannot_be_missing(mixture: GaussianMixture, fitted: GaussianHMM, kind: str) -> None:
    x = np.nan_to_num(SHOWN)
    for ask in (
        lambda: mixture.fit(x, sample_weight=NO_WEIGHTS[kind]()),
        lambda: mixture.score(x, sample_weight=NO_WEIGHTS[kind]()),
        lambda: fitted.score(x.reshape(60, 1, 2), sample_weight=NO_WEIGHTS[kind]()),
    ):
        with pytest.raises(ValueError, match=r"masked|not finite|must be finite|not numeric"):
            ask()


def test_a_fill_value_of_zarr_is_no_weight() -> None:
    weight = zarr.array(np.array([1, 9.96921e36, 1]))
    weight.attrs["_FillValue"] = 9.96921e36
    with pytest.raises(DataError, match="nan in row 1"):
        GaussianMixture(1).fit(np.arange(6.0).reshape(3, 2), sample_weight=weight)


def test_a_null_in_a_column_of_weights(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(60.0), "w": [1] * 59 + [None]})
    pq.write_table(table, tmp_path / "t.parquet")
    for data in (table, tmp_path / "t.parquet", pl.from_arrow(table)):
        with pytest.raises(DataError, match="nan in row 59"):
            GaussianMixture(1).fit(data, sample_weight="w")
        with pytest.raises(DataError, match="nan in row 59"):
            chain().fit(data, sample_weight="w")


@pytest.mark.parametrize("what", ["lengths", "offsets"])
def test_where_sequences_begin_cannot_be_missing(what: str) -> None:
    given: dict[str, Any] = {what: np.ma.array([0, 30], mask=[False, True])}
    with pytest.raises(DataError, match=f"{what} has 1 masked values, the first at 1"):
        chain().fit(BAD, **given)


def test_settings_cannot_be_missing() -> None:
    means = np.ma.array([[0.0, HIDDEN]], mask=[[False, True]])
    with pytest.raises(ParameterError, match="1 of them are masked"):
        GaussianMixture(1, means_init=means).fit(np.nan_to_num(SHOWN))
    with pytest.raises(ParameterError, match="1 of them are masked"):
        GaussianHMM(1, means_prior=means).fit(np.nan_to_num(SHOWN))


# --- tables -----------------------------------------------------------------------------------------------------------

NULLS: dict[str, Callable[[], Any]] = {
    "pandas Int64": lambda: pd.DataFrame({"a": pd.array([5, None], "Int64")}),
    "pandas boolean": lambda: pd.DataFrame({"a": pd.array([True, None], "boolean")}),
    "pandas categories": lambda: pd.DataFrame({"a": pd.Categorical([5, None])}),
    "polars": lambda: pl.DataFrame({"a": [5, None]}),
    "xarray of pandas Int64": lambda: pd.DataFrame({"a": pd.array([5, None], "Int64")}).to_xarray(),
    "xarray of pandas boolean": lambda: pd.DataFrame({"a": pd.array([True, None], "boolean")}).to_xarray(),
    "Arrow": lambda: pa.table({"a": pa.array([5, None])}),
    "Arrow dictionary": lambda: pa.table({"a": pa.array([5, None]).dictionary_encode()}),
    "Dask": lambda: dask.dataframe.from_pandas(pd.DataFrame({"a": pd.array([5, None], "Int64")}), npartitions=2),
}


@pytest.mark.parametrize("kind", NULLS)
def test_nulls_are_nan(kind: str) -> None:
    assert np.isnan(rows_of(open_source(NULLS[kind]()))[:, 0]).tolist() == [False, True]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_missing_text_is_no_category(library: Callable[[Any], Any]) -> None:
    with pytest.raises(NonFiniteError, match="10 in column 0 'a'"):
        Mixture(Categorical(), 1).fit(library({"a": ["x", "y", None] * 10}))


# --- conformance ------------------------------------------------------------------------------------------------------


def test_helpers_of_tests_see_masks() -> None:
    for differ in (lambda: assert_equal(BAD, MASKED, "rows"), lambda: assert_close(BAD, MASKED, 1.0, "rows")):
        with pytest.raises(AssertionError):
            differ()
    assert_equal(SHOWN, MASKED, "rows")
