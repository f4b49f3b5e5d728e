"""Columns of text stay text where tables are imputed or drawn: in Parquet, pandas and polars; arrays hold codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamem import Mixture
from streamem.families import Categorical, Gaussian, Product

ROWS = 200


def gappy() -> pa.Table:
    rng = np.random.default_rng(0)
    part = rng.integers(0, 2, ROWS)
    region = [None if rng.random() < 0.1 else ("north", "south")[k] for k in part]
    income = np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(8.0 * part))
    return pa.table({"id": np.arange(ROWS), "region": region, "income": pa.array(income, from_pandas=True)})


@pytest.fixture(scope="module")
def model() -> Mixture:
    family = Product({"region": Categorical(), "income": Gaussian("diag")})
    return Mixture(family, 2, missing="integrate", tol=1e-2, random_state=0).fit(gappy(), columns=["region", "income"])


def expected(model: Mixture) -> list[str]:
    codes = np.asarray(model.impute(gappy()))[:, 0]
    told = [model.categories_["region"][int(code)] for code in codes]
    given = gappy()["region"].to_pylist()
    assert [own for own, text in zip(told, given, strict=True) if text] == [text for text in given if text]
    return told


def test_parquet(model: Mixture, tmp_path: Path) -> None:
    model.impute(gappy(), out=tmp_path / "alone.parquet")
    alone = pq.read_table(tmp_path / "alone.parquet")
    assert alone.schema.types == [pa.string(), pa.float64()]
    assert alone["region"].to_pylist() == expected(model)
    assert np.isfinite(alone["income"].to_numpy()).all()
    model.impute(gappy(), out=tmp_path / "beside.parquet", id_columns="id")
    beside = pq.read_table(tmp_path / "beside.parquet")
    assert beside["id"].to_pylist() == list(range(ROWS))
    assert beside.drop_columns("id").equals(alone)


def test_draws(model: Mixture, tmp_path: Path) -> None:
    model.impute(gappy(), out=tmp_path / "x.parquet", n_draws=2)
    drawn = pq.read_table(tmp_path / "x.parquet")
    assert drawn.column_names == ["region_0", "income_0", "region_1", "income_1"]
    for text in (drawn["region_0"], drawn["region_1"]):
        assert {text[i].as_py() for i, own in enumerate(gappy()["region"].to_pylist()) if own == "north"} == {"north"}


def test_rows_that_are_drawn(model: Mixture, tmp_path: Path) -> None:
    model.sample_to(tmp_path / "drawn.parquet", 50)
    drawn = pq.read_table(tmp_path / "drawn.parquet")
    assert drawn.column_names == ["region", "income"]
    assert set(drawn["region"].to_pylist()) == {"north", "south"}
    assert np.isfinite(model.score_samples(tmp_path / "drawn.parquet")).all()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(model: Mixture, library: str) -> None:
    try:
        frame: Any = model.set_output(library).impute(gappy())
    finally:
        model.set_output("default")
    assert list(frame["region"]) == expected(model)


def test_arrays_hold_codes(model: Mixture, tmp_path: Path) -> None:
    model.impute(gappy(), out=tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), model.impute(gappy()))
