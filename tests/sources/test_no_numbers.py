"""Text, dates, times, complex numbers and objects are no features and no weights, however they come."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
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
from streamem.core.errors import DataError, ParameterError, PoisonError, SchemaError, SourceError

Array = NDArray[Any]
N = 20
NUMBERS = np.random.default_rng(0).normal(size=(N, 2))
COUNTED = np.arange(2 * N).reshape(N, 2)

ARRAYS: dict[str, tuple[Array, str]] = {
    "text": (COUNTED.astype(str), r"astype\(float\)"),
    "bytes": (COUNTED.astype("S"), r"astype\(float\)"),
    "dates": (COUNTED.astype("M8[s]"), r"x\[0\]\) / np.timedelta64"),
    "time spans": (COUNTED.astype("m8[s]"), "divide by one, as in x / np.timedelta64"),
    "complex": (COUNTED * 1j, "real and imaginary parts as two features"),
    "text as objects": (COUNTED.astype(str).astype(object), "Text is never read as numbers"),
    "bytes as objects": (COUNTED.astype("S").astype(object), "Text is never read as numbers"),
    "dates as objects": (np.array([[1.0, np.datetime64("2020")]] * N, dtype=object), "Dates and times have no zero"),
    "one text": (np.array([[1.0, 2.0]] * (N - 1) + [[1.0, "2"]], dtype=object), "Text is never read as numbers"),
}


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return GaussianMixture(1).fit(NUMBERS)


@pytest.fixture(scope="module")
def chain() -> GaussianHMM:
    return GaussianHMM(1).fit(NUMBERS)


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(mixture: GaussianMixture, chain: GaussianHMM, kind: str) -> None:
    array, remedy = ARRAYS[kind]
    rows = [list(row) for row in array]
    ways: list[Callable[[], Any]] = [
        lambda: mixture.fit(array),
        lambda: mixture.fit(rows),
        lambda: mixture.predict(array),
        lambda: chain.fit(array),
        lambda: chain.fit([array, array]),
        lambda: chain.score(array),
        lambda: open_source(array),
        lambda: open_sequences(rows),
    ]
    for way in ways:
        with pytest.raises(SchemaError, match=remedy):
            way()
    for lazy in (dask.array.from_array(array, chunks=(10, 2)), xarray.DataArray(array)):
        with pytest.raises(SchemaError, match="not numeric"):
            open_source(lazy)


@pytest.mark.parametrize("kind", ["text", "bytes", "dates", "time spans", "complex"])
def test_files(kind: str, tmp_path: Path) -> None:
    array, remedy = ARRAYS[kind]
    np.save(tmp_path / "x.npy", array)
    np.save(tmp_path / "w.npy", array[:, 0])
    with pytest.raises(SchemaError, match=remedy):
        open_source(tmp_path / "x.npy")
    with pytest.raises(SchemaError, match="not numeric"):
        GaussianMixture(1).fit(NUMBERS, sample_weight=tmp_path / "w.npy")


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("kind", ["dates", "time spans", "complex"])
def test_zarr_arrays(kind: str) -> None:
    array, remedy = ARRAYS[kind]
    with pytest.raises(SchemaError, match=remedy):
        open_source(zarr.array(array))


@pytest.mark.parametrize("kind", ARRAYS)
def test_weights_and_lengths(mixture: GaussianMixture, chain: GaussianHMM, kind: str) -> None:
    column = ARRAYS[kind][0][:, -1]
    for sized in (column, list(column)):
        with pytest.raises(SchemaError, match="not numeric"):
            mixture.score(NUMBERS, sample_weight=sized)
        with pytest.raises(SchemaError, match="not numeric"):
            chain.score(NUMBERS[:, None, :], sample_weight=sized)
        with pytest.raises(DataError, match="not whole numbers"):
            chain.score(NUMBERS, lengths=sized)


@pytest.mark.parametrize("kind", ARRAYS)
def test_streams(kind: str) -> None:
    array = ARRAYS[kind][0]
    batches: list[list[Any]] = [[array], [list(array[-1])], [{"a": array[-1, 0], "b": array[-1, 1]}]]
    for batch in batches:
        with pytest.raises(PoisonError, match=r"number|numeric"):
            GaussianMixture(1).fit_stream(batch)


@pytest.mark.parametrize("kind", ["text", "dates", "time spans", "complex"])
def test_dask_blocks_that_are_not_what_they_declare(mixture: GaussianMixture, kind: str) -> None:
    array = ARRAYS[kind][0]
    lies = dask.array.zeros((N, 2), chunks=(10, 2)).map_blocks(lambda block: array[: len(block)], meta=NUMBERS[:0])
    with pytest.raises(SchemaError, match="not numeric"):
        mixture.predict(lies).compute()


@pytest.mark.parametrize("kind", ["text", "dates", "time spans", "complex"])
def test_blocks_below_xarray_that_are_not_what_they_declare(mixture: GaussianMixture, kind: str) -> None:
    array = ARRAYS[kind][0]
    lies = dask.array.zeros((N, 2), chunks=(10, 2)).map_blocks(lambda block: array[: len(block)], meta=NUMBERS[:0])
    with pytest.raises(SourceError, match=r"not numeric|not what|does not fit"):
        mixture.score(xarray.Dataset({"a": ("n", lies[:, 0]), "b": ("n", lies[:, 1])}))


def test_settings() -> None:
    for means in ([["1", "2"]], np.array([["2020", "2021"]], dtype="M8[Y]")):
        with pytest.raises(ParameterError, match="must hold an array of numbers"):
            GaussianMixture(1, means_init=means).fit(NUMBERS)


# --- what are numbers -------------------------------------------------------------------------------------------------


def test_objects_that_are_real_numbers() -> None:
    exact = np.array([[1, True], [Decimal("1.5"), Fraction(1, 4)], [np.float32(2.5), np.int8(3)]], dtype=object)
    floats = [[1, 1], [1.5, 0.25], [2.5, 3]]
    np.testing.assert_array_equal(open_source(exact).chunks()[0].load().x, floats)
    np.testing.assert_array_equal(open_sequences(exact).chunks()[0].load().x, floats)
    assert GaussianMixture(1, tol=1).fit(exact).means_[0, 1] == pytest.approx(4.25 / 3)
    assert GaussianHMM(1).fit([exact, exact]).means_[0, 0] == pytest.approx(5 / 3)


def test_objects_that_are_missing() -> None:
    holes = np.array([[1, None], [2, pd.NA]], dtype=object)
    assert np.isnan(open_source(holes).chunks()[0].load().x[:, 1]).all()
    with pytest.raises(DataError):
        GaussianMixture(1).fit(holes)


@pytest.mark.parametrize(("thing", "error"), [({}, TypeError), ([1], TypeError), (pd.Timestamp(0), TypeError)])
def test_other_objects(thing: Any, error: type[Exception]) -> None:
    objects = np.empty((2, 1), dtype=object)
    objects[:] = 1.0
    objects[1, 0] = thing
    for model in (GaussianMixture(1), GaussianHMM(1)):
        with pytest.raises(error, match=r"argument must be .* string.* number") as refused:
            model.fit(objects)
        assert isinstance(refused.value, SchemaError)
    with pytest.raises(DataError, match="loses digits"):
        open_source(np.array([[2**60 + 1, 1]], dtype=object))


def test_structures() -> None:
    table = np.zeros(N, dtype=[("a", "f8"), ("b", "f8")])
    for fit in (GaussianMixture(1).fit, GaussianHMM(1).fit, open_source):
        with pytest.raises(SchemaError, match=r"structured_to_unstructured\(x\), or pandas.DataFrame"):
            fit(table)


# --- tables -----------------------------------------------------------------------------------------------------------

PERIODS = pd.period_range("2020", periods=N, freq="D")
COLUMNS: dict[str, Any] = {
    "Period": PERIODS,
    "dates": PERIODS.to_timestamp(),
    "time spans": pd.to_timedelta(np.arange(N), unit="s"),
    "categories of Period": pd.Categorical(PERIODS),
    "categories of dates": pd.Categorical(PERIODS.to_timestamp()),
}
TABLES: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda frame: frame,
    "Arrow": pa.Table.from_pandas,
    "polars": pl.from_pandas,
    "Dask": lambda frame: dask.dataframe.from_pandas(frame, npartitions=2),
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", COLUMNS)
def test_dates_in_tables(table: str, kind: str) -> None:
    data = TABLES[table](pd.DataFrame({"a": NUMBERS[:, 0], "p": COLUMNS[kind]}))
    if table == "polars" and data["p"].dtype.is_integer():
        pytest.skip("this polars has made plain integers of it")
    for fit in (GaussianMixture(1).fit, GaussianHMM(1).fit):
        with pytest.raises(SchemaError, match=r"'p' .*Cast dates and times to numbers first"):
            fit(data)
        with pytest.raises(SchemaError, match="not numeric"):
            fit(data, columns=["a"], sample_weight="p")
    assert GaussianMixture(1).fit(data, columns=["a"]).n_features_in_ == 1


@pytest.mark.parametrize("kind", ["Period", "dates", "time spans"])
def test_dates_in_parquet(kind: str, tmp_path: Path) -> None:
    pd.DataFrame({"a": NUMBERS[:, 0], "p": COLUMNS[kind]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SchemaError, match=r"'p' .*Cast dates and times"):
        GaussianMixture(1).fit(tmp_path / "t.parquet")


def test_periods_where_pandas_was_never_imported(tmp_path: Path) -> None:
    """The type is not registered then: what is left of it is its name beside plain integers."""
    named = pa.field(
        "p", pa.int64(), metadata={"ARROW:extension:name": "pandas.period", "ARROW:extension:metadata": '{"freq": "D"}'}
    )
    pq.write_table(pa.table([np.arange(N)], schema=pa.schema([named])), tmp_path / "t.parquet")
    for data in (tmp_path / "t.parquet", pa.table([np.arange(N)], schema=pa.schema([named]))):
        with pytest.raises(SchemaError, match="Cast dates and times"):
            open_source(data)


def test_text_in_a_column_of_weights() -> None:
    table = pa.table({"a": NUMBERS[:, 0], "w": ["1"] * N})
    for fit in (GaussianMixture(1).fit, GaussianHMM(1).fit):
        with pytest.raises(SchemaError, match="not numeric"):
            fit(table, columns=["a"], sample_weight="w")


def test_lazy_answers_about_frames_are_those_of_the_fitted_columns(mixture: GaussianMixture) -> None:
    model = GaussianMixture(1).fit(pd.DataFrame(NUMBERS, columns=["a", "p"]))
    frame = dask.dataframe.from_pandas(pd.DataFrame({"a": NUMBERS[:, 0], "p": COLUMNS["dates"]}), npartitions=2)
    with pytest.raises(SchemaError, match="Cast dates and times"):
        model.predict(frame)
    text = pd.DataFrame({"a": ["5", "7"] * N})
    coded = Mixture(Categorical(), 1, tol=1).fit(text)
    lazy = coded.score_samples(dask.dataframe.from_pandas(text, npartitions=2)).compute()
    np.testing.assert_array_equal(lazy, coded.score_samples(text))


# --- xarray and Zarr --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 3])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A Zarr group as xarray writes it: a measurement in seconds, a time span, a date."""
    spans = np.arange(N).astype("m8[s]").astype("m8[ns]")
    dates = np.datetime64("2020-01-01", "ns") + spans
    data = xarray.Dataset({"a": ("n", NUMBERS[:, 0]), "late": ("n", spans), "when": ("n", dates)})
    data["took"] = ("n", np.arange(float(N)), {"units": "seconds"})
    data.to_zarr(tmp_path / "g.zarr", zarr_format=request.param, consolidated=False)
    zarr.open_group(tmp_path / "g.zarr", mode="a")["late"].attrs["dtype"] = (
        "timedelta64[ns]"  # as xarray does since 2025
    )
    return tmp_path / "g.zarr"


def decodes_units_alone() -> bool:
    """Whether xarray makes time spans of measurements in seconds, which it did (and warned) before 2026."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = xarray.decode_cf(xarray.Dataset({"took": ("n", [1.0], {"units": "seconds"})}))
    return bool(decoded.took.dtype.kind == "m")


def test_times_of_a_group_are_features_neither_by_path_nor_through_xarray(stored: Path) -> None:
    opened = [] if decodes_units_alone() else [xarray.open_zarr(stored, consolidated=False)]
    for data in (stored, *opened):
        source = open_source(data)
        assert sorted(source.schema.names or ()) == ["a", "took"]
        for name in ("late", "when"):
            with pytest.raises(SchemaError, match="not numeric"):
                open_source(data, options=ReadOptions(columns=("a", name)))
            with pytest.raises(SchemaError, match="not numeric"):
                open_source(data, weight=name, options=ReadOptions(columns=("a",)))
    with pytest.raises(SchemaError, match="decode_times=False"):
        open_source(stored, options=ReadOptions(columns=("late",)))
    raw = xarray.open_zarr(stored, consolidated=False, decode_times=False)
    assert open_source(raw, options=ReadOptions(columns=("late",))).chunks()[0].load().x[-1, 0] == N - 1
