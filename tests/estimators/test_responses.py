"""`fit(X, y)` of `MixtureOfRegressions`: the forms in which responses come, and labels as scikit-learn has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from sklearn.linear_model import LogisticRegression

from streamem import MixtureOfRegressions
from streamem.core.errors import DataError, DegenerateDataError, ParameterError, SchemaError, SourceError
from streamem.estimators.loading import load_model

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
CODES = np.digitize(X[:, 0] + RNG.normal(size=N), [-0.5, 0.5])
NAMES = np.array(["ape", "bee", "cow"])
TEXT = NAMES[CODES]
YES = CODES > 0


def model(family: str = "binomial", k: int = 1, **settings: Any) -> MixtureOfRegressions:
    return MixtureOfRegressions(k, family, random_state=0, init_params="random", **settings)


def holding(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to make an array of all of something."""

    def whole(self: Any, *args: Any, **options: Any) -> Any:
        raise AssertionError("made an array of all of it")

    monkeypatch.setattr(kind, "__array__", whole)


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "column vector": lambda y: y[:, None],
    "float32": lambda y: y.astype(np.float32),
    "bool": lambda y: y.astype(bool),
    "objects": lambda y: y.astype(object),
    "Series": pd.Series,
    "nullable Series": lambda y: pd.Series(y, dtype="Int64"),
    "Arrow": pa.array,
    "chunked Arrow": lambda y: pa.chunked_array([y[:50], y[50:]]),
    "polars": pl.Series,
    "zarr": lambda y: zarr.array(y, chunks=(13,), config={"write_empty_chunks": True}),
    "Dask": lambda y: da.from_array(y, chunks=13),
    "Dask Series": lambda y: dd.from_pandas(pd.Series(y, name="y"), npartitions=5),
}


@pytest.mark.parametrize("form", NUMBERS)
def test_numbers_in_every_form(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    y = YES.astype(int)
    known = model(k=2, max_iter=5, tol=1.0).fit(X, y)
    responses = NUMBERS[form](y)
    if form in ("zarr", "Dask"):
        holding(type(responses), monkeypatch)
    found = model(k=2, max_iter=5, tol=1.0, chunk_bytes=600).fit(X, responses)
    assert found.report_.n_chunks > 3
    np.testing.assert_allclose(found.coef_, known.coef_, rtol=1e-10)
    assert found.score(X, responses) == pytest.approx(known.score(X, y))


def test_responses_in_files(tmp_path: Path) -> None:
    y = YES.astype(float)
    stored: dict[str, Any] = {"shape": (N,), "chunks": (13,), "dtype": "f8"}
    zarr.create_array(tmp_path / "y.zarr", **stored, config={"write_empty_chunks": True})[:] = y
    zarr.create_array(tmp_path / "hollow.zarr", **stored)[:] = 0.0
    np.save(tmp_path / "y.npy", y)
    known = model().fit(X, y)
    for name in ("y.zarr", "y.npy"):
        for path in (tmp_path / name, str(tmp_path / name)):
            assert np.array_equal(model().fit(X, path).coef_, known.coef_)
    with pytest.raises(SchemaError, match=r"y has shape \(120,\); one number for each of 119 rows"):
        model().fit(X[:-1], tmp_path / "y.zarr")
    with pytest.raises(SourceError, match=r"y: .*10 of 10 stored chunks are missing.*zarr_array\[:\], is taken"):
        model().fit(X, tmp_path / "hollow.zarr")
    with pytest.raises(
        ParameterError, match=r"y is '.*y.txt'; an array, the name of a column, or a .npy or .zarr file"
    ):
        model().fit(X, tmp_path / "y.txt")


def test_lazy_responses_on_a_cluster(client: Any, tmp_path: Path) -> None:
    """Also those that lie there already, in other blocks than the rows."""
    y = YES.astype(float)
    stored = {"shape": (N,), "chunks": (13,), "dtype": "f8", "config": {"write_empty_chunks": True}}
    zarr.create_array(tmp_path / "y.zarr", **stored)[:] = y  # type: ignore[arg-type]
    settings: dict[str, Any] = {"k": 2, "max_iter": 9, "tol": 9.0, "chunk_bytes": 600}
    known = model(**settings).fit(X, y)
    there = da.from_array(y, chunks=17).persist()
    for rows, responses in ((X, tmp_path / "y.zarr"), (X, there), (da.from_array(X, chunks=(40, 2)).persist(), there)):
        found = model(**settings).fit(rows, responses, executor=client)
        np.testing.assert_allclose(found.coef_, known.coef_, rtol=1e-8)


TEXTS: dict[str, Callable[[], Any]] = {
    "array": lambda: TEXT,
    "list": lambda: TEXT.tolist(),
    "Series": lambda: pd.Series(TEXT),
    "categories": lambda: pd.Series(TEXT, dtype=pd.CategoricalDtype(["cow", "ape", "bee"])),
    "Arrow": lambda: pa.array(TEXT),
    "dictionary": lambda: pa.array(TEXT).dictionary_encode(),
    "polars": lambda: pl.Series(TEXT.tolist(), dtype=pl.Categorical),
}


@pytest.mark.parametrize("form", TEXTS)
def test_labels_in_every_form(form: str) -> None:
    known, found = model("multinomial").fit(X, CODES), model("multinomial").fit(X, TEXTS[form]())
    assert np.array_equal(found.coef_, known.coef_)
    assert found.classes_.tolist() == NAMES.tolist()
    assert found.score(X, TEXTS[form]()) == known.score(X, CODES)
    assert np.array_equal(found.predict_class(X), NAMES[known.predict_class(X)])


def test_labels_in_columns_and_model_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": X[:, 0], "animal": TEXT, "b": X[:, 1]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet", row_group_size=25)
    known = model("multinomial").fit(X, TEXT)
    for data in (tmp_path / "t.parquet", frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        found = model("multinomial").fit(data, "animal")
        np.testing.assert_allclose(found.coef_, known.coef_, rtol=1e-10)
        assert found.classes_.tolist() == NAMES.tolist()
    found.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    assert loaded.classes_.tolist() == NAMES.tolist()
    assert loaded.score(tmp_path / "t.parquet") == pytest.approx(known.score(X, TEXT))
    assert np.array_equal(loaded.predict_class(frame[["a", "b"]]), known.predict_class(X))
    with pytest.raises(DataError, match="'dog' .*is none of its 3 categories"):
        loaded.score(frame.assign(animal=frame.animal.replace("ape", "dog")))
    assert not hasattr(found.fit(frame.assign(animal=CODES), "animal"), "classes_")


@pytest.mark.parametrize("y", [TEXT, np.where(YES, "yes", "no"), YES, CODES + 4], ids=["text", "two", "bool", "from 4"])
def test_labels_are_those_of_scikit_learn(y: Any) -> None:
    found = model("multinomial" if len(np.unique(y)) > 2 else "binomial", tol=1e-12).fit(X, y)
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, y)
    assert np.array_equal(found.classes_, other.classes_)
    assert found.predict_class(X).dtype == other.predict(X).dtype
    assert np.array_equal(found.predict_class(X), other.predict(X))
    chances = found.predict_response(X)
    expected = other.predict_proba(X) if chances.ndim == 2 else other.predict_proba(X)[:, 1]
    np.testing.assert_allclose(chances, expected, atol=1e-5)


def test_labels_that_are_missing_say_nothing() -> None:
    gappy = np.append(TEXT.astype(object), [None, float("nan")])
    rows = np.vstack([X, X[:2]])
    found = model("multinomial", missing="integrate").fit(rows, gappy)
    np.testing.assert_allclose(found.coef_, model("multinomial").fit(X, TEXT).coef_, rtol=1e-6)
    with pytest.raises(DataError, match="NaN"):
        model("multinomial").fit(rows, gappy)


def tuples() -> Any:
    found = np.empty(N, dtype=object)
    found[:] = [("ape",)] * N
    return found


BAD: dict[str, tuple[Any, Callable[[], Any], type[Exception], str]] = {
    "wrong length": ("gaussian", lambda: X[:5, 0], SchemaError, r"y has shape \(5,\); one number for each of 120 rows"),
    "Dask of another length": (
        "gaussian",
        lambda: da.zeros(50),
        SchemaError,
        r"y has shape \(50,\); one number for each of 120 rows",
    ),
    "two columns": ("gaussian", lambda: X, SchemaError, r"y has shape \(120, 2\)"),
    "text to a Gaussian": (
        "gaussian",
        lambda: TEXT,
        SchemaError,
        "y holds labels, such as '...'; gaussian responses are",
    ),
    "text in trials": (
        ("binomial", {"trials": 3}),
        lambda: TEXT,
        SchemaError,
        "binomial responses of several trials are numbers",
    ),
    "dates": ("poisson", lambda: np.full(N, "2026-12-01", "M8[D]"), SchemaError, "y holds datetime64"),
    "three labels of two": (
        "binomial",
        lambda: TEXT,
        SchemaError,
        r"3 label\(s\).*two are needed, or family='multinomial'",
    ),
    "one label": ("multinomial", lambda: np.full(N, "ape"), SchemaError, r"1 label\(s\), \['ape'\]; two are needed"),
    "another number of labels": (
        ("multinomial", {"n_classes": 4}),
        lambda: TEXT,
        SchemaError,
        "y holds 3 labels, .*and n_classes is 4",
    ),
    "labels of two kinds": (
        "multinomial",
        lambda: np.array(["ape", 1] * 60, dtype=object),
        SchemaError,
        "y mixes int and str",
    ),
    "lazy text": (
        "multinomial",
        lambda: da.from_array(TEXT, chunks=50),
        SchemaError,
        r"pass y.compute\(\), whose labels are looked at",
    ),
    "objects": ("multinomial", tuples, SchemaError, "y holds a tuple"),
    "negative counts": ("poisson", lambda: CODES - 1, DataError, "holds -1; .* a count, a whole number >= 0"),
    "too many successes": (("binomial", {"trials": 1}), lambda: CODES, DataError, "holds 2; .* from 0 to 1"),
    "codes from 1": (
        ("multinomial", {"n_classes": 4}),
        lambda: CODES + 1,
        DegenerateDataError,
        "the smallest category is 1, and 0 is the one that others are compared with",
    ),
}


@pytest.mark.variations(100, 100)
@pytest.mark.parametrize("name", BAD)
def test_responses_that_cannot_be(name: str) -> None:
    told, make, error, words = BAD[name]
    family, settings = (told, {}) if isinstance(told, str) else told
    with pytest.raises(error, match=words):
        model(family, **settings).fit(X, make())


def test_labels_that_the_fit_did_not_know() -> None:
    found = model("multinomial").fit(X, TEXT)
    with pytest.raises(DataError, match=r"y holds 'dog' in row 1, which the fit did not know; it knows \['ape'"):
        found.score(X[:2], ["ape", "dog"])
    with pytest.raises(SchemaError, match="y holds labels, such as '...', and the fit knew codes"):
        model("multinomial").fit(X, CODES).score(X, TEXT)
    with pytest.raises(ParameterError, match="predict_class is for labels, and poisson responses here count"):
        model("poisson").fit(X, CODES).predict_class(X)


def test_other_columns_of_a_file_matter_to_no_question(tmp_path: Path) -> None:
    """Such as text, which no fit could read."""
    rng = np.random.default_rng(0)
    x, z = rng.uniform(-1.0, 1.0, size=(2, 300))
    y = np.where(rng.random(300) < 1.0 / (1.0 + np.exp(-4.0 * z)), 1.0 + x, 5.0 - x) + 0.1 * rng.normal(size=300)
    table = pa.table({"name": ["a"] * 300, "x": x, "z": z, "y": y})
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)
    for concomitant in (None, ["z"]):
        model = MixtureOfRegressions(2, random_state=0, concomitant=concomitant).fit(path, y="y", columns=["x"])
        inside = MixtureOfRegressions(2, random_state=0, concomitant=concomitant).fit(table, y="y", columns=["x"])
        for question in ("predict", "predict_proba", "score_samples", "predict_response"):
            found, expected = getattr(model, question)(path), getattr(inside, question)(table)
            np.testing.assert_array_equal(found, expected)
        assert model.score(path) == pytest.approx(model.lower_bound_, abs=1e-5)


# --- responses that are drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "settings"),
    [("gaussian", {}), ("poisson", {"exposure": -1}), ("binomial", {"trials": -1}), ("multinomial", {})],
)
def test_responses_drawn_given_covariates(family: str, settings: Any) -> None:
    """Their moments, or shares, are those that the model expects; a fit to them finds it again."""
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(size=20_000), rng.integers(1, 5, size=20_000)]).astype(float)
    x = x if settings else x[:, :1]
    start = model(family, k=2, n_classes=3 if family == "multinomial" else None, **settings)
    start.weights_ = np.array([0.3, 0.7])
    slopes, firsts = [[1.0], [-0.5]], [2.0, -1.0]
    if family == "multinomial":
        slopes, firsts = [[[1.0], [-1.0]], [[0.0], [2.0]]], [[0.5, 0.0], [0.0, -0.5]]  # type: ignore[list-item]
    start.coef_, start.intercept_ = np.array(slopes), np.array(firsts)
    if family == "gaussian":
        start.scale_ = np.array([0.5, 0.25])
    y, component = start.sample(x)
    assert np.array_equal(start.sample(x)[0], y)
    assert component.mean() == pytest.approx(0.7, abs=0.02)
    expected = start.predict_response(x)
    if family == "multinomial":
        np.testing.assert_allclose((y[:, None] == np.arange(3)).mean(axis=0), expected.mean(axis=0), atol=0.02)
        high = x[:, 0] > 1.0
        np.testing.assert_allclose((y[high, None] == [0, 1, 2]).mean(axis=0), expected[high].mean(axis=0), atol=0.03)
        return
    spread = (y - expected).std() / np.sqrt(len(y))
    assert abs((y - expected).mean()) < 4.0 * spread
    assert abs(((y - expected) * x[:, 0]).mean()) < 4.0 * ((y - expected) * x[:, 0]).std() / np.sqrt(len(y))
    again = model(family, k=2, **settings).fit(x, y)
    order = np.argsort(again.coef_[:, 0])[::-1]
    np.testing.assert_allclose(again.coef_[order], start.coef_, atol=0.1)
    if family == "gaussian":
        left = y - start.intercept_[component] - start.coef_[component, 0] * x[:, 0]
        np.testing.assert_allclose([left[component == k].std() for k in (0, 1)], start.scale_, rtol=0.05)
        np.testing.assert_allclose(again.scale_[order], start.scale_, atol=0.03)


def test_labels_that_are_drawn_and_rows_that_cannot_be(tmp_path: Path) -> None:
    found = model("multinomial").fit(X, TEXT)
    y, _ = found.sample(X)
    assert set(y) == set(NAMES)
    assert y.dtype == NAMES.dtype
    with pytest.raises(ParameterError, match=r"X is 5, and covariates have no distribution: .* pictured; sample\(X\)"):
        found.sample(5)
    with pytest.raises(ParameterError, match="covariates of a regression have no distribution"):
        found.sample_to(tmp_path / "x.npy", 5)
    with pytest.raises(DataError, match="NaN"):
        found.sample([[0.0, np.nan]])
    lenient = model("multinomial", missing="integrate").fit(X, TEXT)
    drawn = lenient.sample([[0.0, np.nan], [0.0, 0.0]])[0]
    assert drawn[0] is None
    assert drawn[1] in NAMES
