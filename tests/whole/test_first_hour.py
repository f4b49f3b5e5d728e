"""What a newcomer passes, or asks for, in the first hour: it works, or the error says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from streamem import (
    HMM,
    CategoricalHMM,
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    LatentClass,
    Mixture,
    Poisson,
    Product,
    ReadOptions,
    open_sequences,
    open_source,
)
from streamem.core.errors import DataError, ImpossibleValueError, ParameterError, SchemaError, SourceError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(7).normal(size=(60, 2)) + 4.0 * (np.arange(60)[:, None] % 2)


def mixture() -> GaussianMixture:
    return GaussianMixture(2, random_state=0, max_iter=3)


# --- columns that are no numbers -------------------------------------------------------------------------------------

COLUMNS = {
    "null": (pa.nulls(60), "holds no value at all"),
    "struct": (pa.array([{"u": 1}] * 60), "table.flatten()"),
    "map": (pa.array([[("u", 1)]] * 60, pa.map_(pa.string(), pa.int64())), "a column of each key"),
    "binary": (pa.array([b"u"] * 60), "cast them to pa.string()"),
    "binary of one size": (pa.array([b"u"] * 60, pa.binary(1)), "decode them to numbers"),
    "lists of text": (pa.array([["u", "v"]] * 60, pa.list_(pa.string(), 2)), "where it holds numbers"),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("model", [GaussianMixture(2), LatentClass(2)], ids=["numbers", "codes"])
def test_the_remedy_is_one_for_the_type_of_the_column(model: Any, kind: str) -> None:
    values, remedy = COLUMNS[kind]
    with pytest.raises(SchemaError) as caught:
        model.fit(
            pa.table({"a": pa.array(["x", "y"] * 30) if isinstance(model, LatentClass) else X[:, 0], "n": values})
        )
    assert remedy in str(caught.value)
    assert "columns=" in str(caught.value)
    assert "categories" not in str(caught.value)


def test_text_is_told_how_it_becomes_a_feature() -> None:
    with pytest.raises(SchemaError, match="categories='text'"):
        mixture().fit(pa.table({"a": X[:, 0], "n": ["u"] * 60}))


def test_integers_of_128_bits_are_numbers() -> None:
    frame = pl.DataFrame({"a": pl.Series([1, 2, 30] * 10, dtype=pl.Int128), "b": [0.5, 1.5, 2.0] * 10})
    plain = frame.cast({"a": pl.Float64})
    np.testing.assert_array_equal(mixture().fit(frame).means_, mixture().fit(plain).means_)


# --- words of the class that was used --------------------------------------------------------------------------------


def test_codes_that_are_not_known_name_an_argument_of_every_class() -> None:
    hmm = CategoricalHMM(2, random_state=0, n_iter=2).fit(np.array([[0], [1]] * 20))
    with pytest.raises(ImpossibleValueError, match="pass n_categories=6") as caught:
        hmm.predict([[5]])
    assert "Categorical(" not in str(caught.value)


def test_one_row_of_codes_is_too_few_without_a_covariance() -> None:
    with pytest.raises(DataError, match="required to estimate a model") as caught:
        CategoricalHMM(2).fit([[0]])
    assert "covariance" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture(Poisson, 2).fit(np.ones((9, 1))),  # type: ignore[arg-type]
        lambda: HMM(Poisson, 2).fit(np.ones((9, 1))),  # type: ignore[arg-type]
        lambda: GroupedMixture(Poisson, 2).fit(np.ones((9, 1)), lengths=[3, 6]),  # type: ignore[arg-type]
        lambda: Product({"a": Poisson}),
    ],
)
def test_a_class_in_place_of_a_family_is_named(make: Callable[[], Any]) -> None:
    with pytest.raises(ParameterError, match=r"Poisson is a class; pass an object of it: Poisson\(\)"):
        make()


@pytest.mark.parametrize(
    "model", [CategoricalHMM(2), GaussianHMM(2), GroupedMixture(Poisson(), 2)], ids=["codes", "numbers", "groups"]
)
def test_ragged_lists_say_how_to_pass_sequences(model: Any) -> None:
    with pytest.raises(SchemaError, match=r"\[np.reshape\(one, \(-1, 1\)\) for one in X\]"):
        model.fit([[0, 1, 2], [1, 0]])


@pytest.mark.parametrize(("name", "here"), [("monitor_", "converged_"), ("n_features", "n_features_in_")])
def test_names_of_hmmlearn_are_told_by_those_here(name: str, here: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; here it is {here}"):
        getattr(GaussianHMM(2), name)


def test_an_attribute_that_a_fit_would_leave_is_missing_for_now() -> None:
    with pytest.raises(AttributeError, match="no attribute 'means_' yet: call fit"):
        GaussianMixture().means_  # noqa: B018
    with pytest.raises(AttributeError, match="holds no statistics yet"):  # what a property says is kept
        GaussianMixture().effective_sample_size_  # noqa: B018
    assert not hasattr(GaussianMixture(), "anything")


# --- scikit-learn's y ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [np.arange(60) % 3, np.linspace(0, 1, 60), np.array(["u", "v"] * 30)])
def test_a_target_is_ignored_and_lengths_are_not(y: Any) -> None:
    hmm = GaussianHMM(2, random_state=0, n_iter=3)
    alone = hmm.fit(X).means_
    np.testing.assert_array_equal(hmm.fit(X, y).means_, alone)
    np.testing.assert_array_equal(hmm.fit(X.tolist(), y).means_, alone)
    assert hmm.score(X, y) == hmm.score(X)
    assert hmm.score(X, [21, 39]) != hmm.score(X)
    assert hmm.score(X, np.ones(60, dtype=int)) != hmm.score(X)  # sixty sequences of one step


def test_numbers_that_may_have_been_meant_as_lengths_are_told() -> None:
    with pytest.warns(UserWarning, match="60 numbers for 60 rows"):
        GaussianHMM(2, random_state=0, n_iter=3).fit(X, [3] * 60)


def test_lengths_that_do_not_fit_are_refused_all_the_same() -> None:
    with pytest.raises(DataError, match="must sum to the number of rows"):
        GaussianHMM(2).fit(X, [20, 41])


# --- columns by name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [pd, pl])
def test_columns_of_frames_are_found_by_name(library: Any) -> None:
    frame = library.DataFrame({"a": X[:, 0], "b": X[:, 1] ** 2})
    other = library.DataFrame({"more": ["text"] * 60, "b": X[:, 1] ** 2, "a": X[:, 0], "w": np.ones(60)})
    gm = mixture().fit(frame)
    np.testing.assert_array_equal(gm.predict_proba(other), gm.predict_proba(frame))
    assert gm.score(other, sample_weight="w") == gm.score(frame)
    with pytest.raises(DataError, match="yet now missing"):
        gm.predict(other[["a", "w"]])


# --- files -----------------------------------------------------------------------------------------------------------


def parquet_files(folder: Path) -> list[Path]:
    paths = [folder / f"part{i}.parquet" for i in range(3)]
    for path, rows in zip(paths, np.split(X, 3), strict=True):
        pq.write_table(pa.table({"a": rows[:, 0], "b": rows[:, 1]}), path)
    return paths


def test_lists_of_paths_and_patterns_are_read(tmp_path: Path) -> None:
    paths = parquet_files(tmp_path)
    for i, rows in enumerate(np.split(X, 3)):
        np.save(tmp_path / f"{i}.npy", rows)
    (tmp_path / "_part.parquet").write_bytes(b"hidden, as Spark's marks are")
    whole = mixture().fit(tmp_path / "part*.parquet")
    for data in (paths, tuple(map(str, paths)), str(tmp_path / "*.parquet"), str(tmp_path / "?.npy")):
        np.testing.assert_allclose(mixture().fit(data).means_, whole.means_, rtol=1e-12)
    assert whole.predict(str(tmp_path / "*.npy")).shape == (60,)
    last = pd.DataFrame(X[40:], columns=["a", "b"])
    np.testing.assert_array_equal(whole.predict(paths[::-1])[:20], whole.predict(last))


def test_text_of_several_files_has_one_vocabulary(tmp_path: Path) -> None:
    for name, words in (("1", ["u", "v"]), ("2", ["t", "v"])):
        with pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as file:
            table = pa.table({"word": words * 10})
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
    source = open_source(str(tmp_path / "*.arrow"), options=ReadOptions(categories="text"))
    assert source.schema.categories == {"word": ("t", "u", "v")}
    codes = np.concatenate([ref.load().x.ravel() for ref in source.chunks()])
    np.testing.assert_array_equal(codes, [1.0, 2.0] * 10 + [0.0, 2.0] * 10)


def test_sequences_in_several_files(tmp_path: Path) -> None:
    paths = parquet_files(tmp_path)
    with pytest.raises(ParameterError, match=r"is each file a sequence.*lengths=\[60\]"):
        GaussianHMM(2).fit(paths)
    assert open_sequences(paths, lengths=[20, 40]).n_sequences == 2
    for number, path in enumerate(paths):
        pq.write_table(pq.read_table(path).append_column("id", pa.array([number] * 20)), path)
    assert open_sequences(str(tmp_path / "*.parquet"), sequence_column="id").n_sequences == 3


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ("absent*.npy", SourceError, "no file matches"),
        (["absent.npy"], SourceError, "no such file or folder"),
        (["1.npy", "1.txt"], SourceError, "1.txt is of no known format"),
        (["1.npy", "3.npy"], SchemaError, "3.npy has 3 features"),
        (["1.npy", "part0.parquet"], SchemaError, "without names"),
        ("memory://bucket/*.parquet", SourceError, "no object matches"),
    ],
)
def test_files_that_do_not_go_together_are_refused(
    data: Any, error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parquet_files(tmp_path)
    np.save("1.npy", X)
    np.save("3.npy", np.ones((9, 3)))
    Path("1.txt").write_text("1 2")
    with pytest.raises(error, match=words):
        mixture().fit(data)


def test_a_zipped_zarr_store_is_read(tmp_path: Path) -> None:
    with zarr.storage.ZipStore(tmp_path / "x.zarr.zip", mode="w") as store:
        zarr.create_array(store=store, data=X, chunks=(20, 2))
    path = str(tmp_path / "x.zarr.zip")
    np.testing.assert_allclose(mixture().fit(path).means_, mixture().fit(X).means_, rtol=1e-12)
    assert mixture().fit(X).predict(path, out=tmp_path / "labels.npy") == tmp_path / "labels.npy"
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(SourceError, match=r"bad.zip cannot be opened as Zarr"):
        mixture().fit(str(tmp_path / "bad.zip"))


def test_the_hint_about_absent_chunks_can_be_followed(tmp_path: Path) -> None:
    """Of an array of three axes, too: the options in the message open it."""
    array = zarr.create_array(str(tmp_path / "x.zarr"), shape=(20, 3, 2), chunks=(10, 3, 2), dtype="f8")
    array[:10] = X[:30].reshape(10, 3, 2)
    with pytest.raises(SourceError, match="feature_axis=2") as caught:
        mixture().fit(tmp_path / "x.zarr", feature_axis=2)
    told = str(caught.value)
    options = eval(told[told.index("ReadOptions(") : told.index(" and pass that") - 1], {"ReadOptions": ReadOptions})
    assert mixture().fit(open_source(tmp_path / "x.zarr", options=options)).n_features_in_ == 2
    with pytest.raises(SchemaError, match="open_source takes it in ReadOptions"):
        open_source(tmp_path / "x.zarr", options=ReadOptions(missing_chunks="fill"))


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.string()])
def test_a_hive_key_that_the_files_hold_too(kind: pa.DataType, tmp_path: Path) -> None:
    for year, rows in zip((2020, 2021), np.split(X, 2), strict=True):
        (tmp_path / f"year={year}").mkdir()
        held = pa.array([str(year)] * 30).cast(kind)
        pq.write_table(pa.table({"year": held, "a": rows[:, 0]}), tmp_path / f"year={year}" / "p.parquet")
    assert mixture().fit(tmp_path).feature_names_in_.tolist() == ["a"]
    if kind != pa.string():
        assert mixture().fit(tmp_path, columns=["a", "year"]).means_[:, 1].mean() == pytest.approx(2020.5, abs=0.5)


def test_a_source_says_what_it_is() -> None:
    assert repr(open_source(X)) == "<the array: 60 rows × 2 features, float64>"
    assert "1 feature, float32, with weights" in repr(open_source(X[:, :1].astype("f4"), weight=np.ones(60)))
