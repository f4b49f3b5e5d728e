"""CSV, ORC, HDF5, AnnData and netCDF files: what they hold by which name, in slabs, and what is refused."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.orc as orc
import pytest
from click.testing import CliRunner

from helpers.format_files import needed, write_h5ad
from streamem import GaussianMixture, ReadOptions, open_sequences, open_source
from streamem.cli.main import main
from streamem.core.errors import DataError, ParameterError, SchemaError, SourceChangedError, SourceError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(300, 3))


def read(data: Any, *, columns: Any = None, **options: Any) -> np.ndarray:
    source = open_source(data, options=ReadOptions(columns=columns, chunk_bytes=2048, **options))
    return np.concatenate([ref.load().x for ref in source.chunks()])


# --- CSV -------------------------------------------------------------------------------------------------------------


def text(path: Path, content: str, name: str = "x.csv") -> Path:
    (path / name).write_text(content)
    return path / name


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_the_separator_is_that_of_the_first_line(sign: str, packed: str, tmp_path: Path) -> None:
    content = "\ufeff" + '"a, b";"b";c\n1;2.5;x\n-3;;"y\n;z"\n\n'.replace(";", sign).replace(f"\n{sign}z", "\n;z")
    path = tmp_path / f"x.csv{packed}"
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    found = read(path, columns=("a, b", "b"))
    np.testing.assert_array_equal(found, [[1, 2.5], [-3, np.nan]])
    texts = open_source(path, options=ReadOptions(categories="text")).schema.categories
    assert texts == {"c": ("x", "y\n;z")}


def test_blocks_end_with_a_record_and_types_hold_all_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are whole in the first block and fractions in the last, and line ends within quotes."""
    from streamem.sources.formats import csv_blocks

    monkeypatch.setattr(csv_blocks, "LEAST_NBYTES", 64)
    lines = [f'{i},"note\n{i}, ""quoted""\n"' for i in range(100)] + ['0.5,"end"']
    path = text(tmp_path, "a,note\n" + "\n".join(lines))
    found = read(path, columns=("a",))
    np.testing.assert_array_equal(found[:, 0], [*range(100), 0.5])
    assert len(open_source(path, options=ReadOptions(columns=("a",), chunk_bytes=80)).chunks()) > 5
    np.testing.assert_array_equal(
        open_sequences(path, sequence_column="a", options=ReadOptions(columns=("a",))).offsets, range(102)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2\n3,4\n", "only numbers.*write a line with the names"),
        ("", "empty"),
        ("a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ('a,b\n1,"2\n3,4\n', "begins at byte 4 a quotation mark is never closed"),
    ],
)
def test_what_is_no_table_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(text(tmp_path, content))


def test_text_and_missing_columns_are_named(tmp_path: Path) -> None:
    path = text(tmp_path, "a,b\n1,2\nx,3\n")
    with pytest.raises(SchemaError, match="'a' \\(string\\)"):
        open_source(path)
    with pytest.raises(SchemaError, match="no column 'c'; it holds 'a', 'b'"):
        open_source(path, options=ReadOptions(columns=("c",)))
    with pytest.raises(SchemaError, match="several columns named 'a'"):
        open_source(text(tmp_path, "a,a\n1,2\n"))


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = text(tmp_path, "a\n" + "\n".join(map(str, range(1000))))
    source = open_source(path)
    before = source.fingerprint()
    text(tmp_path, "a\n1\n2\n")
    assert source.fingerprint() != before
    with pytest.raises(SourceChangedError, match="shorter"):
        source.chunks()[0].load()


def test_a_pattern_of_csv_files_is_one_table_and_the_command_line_reads_it(tmp_path: Path) -> None:
    for part in range(3):
        pd.DataFrame(X[100 * part : 100 * part + 100], columns=list("abc")).to_csv(
            tmp_path / f"{part}.csv", index=False
        )
    ours = GaussianMixture(2, random_state=0, max_iter=2).fit(str(tmp_path / "*.csv"))
    theirs = GaussianMixture(2, random_state=0, max_iter=2).fit(X)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-9)
    arguments = ["fit", "gmm", str(tmp_path / "0.csv"), "-k", "2", "-o", str(tmp_path / "m.npz")]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0


# --- ORC -------------------------------------------------------------------------------------------------------------


def test_orc_stripes_are_chunks_and_a_rewritten_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.orc"
    table = pa.table({"a": X[:, 0], "b": pa.array(range(300), pa.int16()), "c": ["x", "y", None] * 100})
    orc.write_table(table, path, stripe_size=1, batch_size=50)
    np.testing.assert_array_equal(read(path, columns=("b", "a")), np.column_stack([range(300), X[:, 0]]))
    codes = read(path, columns=("c",), categories="text")[:, 0]
    np.testing.assert_array_equal(codes, [0, 1, np.nan] * 100)
    source = open_source(path, options=ReadOptions(columns=("a",)))
    before = source.fingerprint()
    orc.write_table(table.slice(1), path)
    assert source.fingerprint() != before
    path.write_bytes(b"ORC is no word")
    with pytest.raises(SourceError, match="ORC file"):
        open_source(path)


# --- HDF5 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def h5(tmp_path: Path) -> str:
    h5py = needed("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["run/first/x"] = X
        file["run/first/y"] = X[:, 0]
        file["run/turned"] = X.T
        file["run/cube"] = X[:240].reshape(4, 60, 3)
        packed = file.create_dataset("packed", data=np.array([[1, -1], [3, 4]], np.int16))
        packed.attrs["scale_factor"], packed.attrs["_FillValue"] = 0.5, np.int16(-1)
        file["fields"] = np.rec.fromarrays([X[:, 0], X[:, 1], [b"a"] * 300], names="u,v,name")
        file["one/a"], file["one/b"], file["one/w"] = X[:, 0], X[:, 1], np.arange(300)
        file["empty"] = 3.0
    return str(tmp_path / "x.h5")


def test_paths_go_on_within_a_file(h5: str) -> None:
    np.testing.assert_array_equal(read(f"{h5}/run/first/x"), X)
    np.testing.assert_array_equal(read(Path(h5) / "run" / "turned", feature_axis=0), X)
    np.testing.assert_array_equal(read(f"{h5}/run/cube", feature_axis=-1), X[:240])
    np.testing.assert_array_equal(read(f"{h5}/packed"), [[0.5, np.nan], [1.5, 2.0]])
    np.testing.assert_array_equal(read(f"{h5}/fields", columns=("v", "u")), X[:, [1, 0]])
    np.testing.assert_array_equal(read(f"{h5}/run/first", columns=("y", "x")), np.column_stack([X[:, 0], X]))
    source = open_source(f"{h5}/one", weight="w")
    assert source.schema.names == ("a", "b")
    np.testing.assert_array_equal(source.chunks()[0].load().weight, np.arange(300))


def test_sequences_are_an_axis_or_a_dataset_beside(h5: str) -> None:
    assert open_sequences(f"{h5}/run/cube").offsets.tolist() == [0, 60, 120, 180, 240]
    by_column = open_sequences(f"{h5}/one", sequence_column="w")
    assert by_column.schema.names == ("a", "b")
    assert len(by_column.offsets) == 301


@pytest.mark.parametrize("given", ["", "/run", "/run/first"])
def test_a_choice_that_was_not_made_lists_what_there_is(h5: str, given: str) -> None:
    with pytest.raises(SchemaError, match=r"x \(300, 3\) float64.*Name one, '.*/x.h5/run/.*columns="):
        open_source(h5 + (given or "/run"))


def test_names_that_are_not_there_are_answered_with_those_that_are(h5: str) -> None:
    with pytest.raises(
        SchemaError, match=r"has no 'run/first/xx'; it holds.*run/turned \(3, 300\).*Did you mean 'run/first/x'"
    ):
        open_source(f"{h5}/run/first/xx")
    with pytest.raises(SchemaError, match="no dataset 'aa'; it holds a .*Did you mean 'a'"):
        open_source(f"{h5}/one", options=ReadOptions(columns=("aa",)))
    with pytest.raises(SchemaError, match="no field 'z'; it has u, v, name"):
        open_source(f"{h5}/fields", options=ReadOptions(columns=("z",)))
    with pytest.raises(SchemaError, match="text|numeric"):
        open_source(f"{h5}/fields", options=ReadOptions(columns=("name",)))
    with pytest.raises(SchemaError, match=r"shape \(300,\)"):
        open_source(f"{h5}/run/first/y")
    with pytest.raises(SourceError, match="no such file"):
        open_source("absent.h5/run")


def test_objects_of_h5py_are_read_in_slabs(h5: str, tmp_path: Path) -> None:
    h5py = needed("h5py")
    with h5py.File(h5) as file:
        np.testing.assert_array_equal(read(file["run/first/x"]), X)
        assert open_source(file["one"]).schema.names == ("a", "b", "w")
        ref = open_source(file["run/first/x"]).chunks()[0]
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(ref)).load().x, X)
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["x"] = X
        np.testing.assert_array_equal(read(file["x"]), X)
    with h5py.File(tmp_path / "memory.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = X
        np.testing.assert_array_equal(read(file), X)


def test_a_file_from_another_folder_is_read_on_workers(h5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(h5).parent)
    ref = open_source("x.h5/run/first/x").chunks()[0]
    os.chdir("/")
    np.testing.assert_array_equal(ref.load().x, X)


def test_what_is_no_hdf5_is_named(tmp_path: Path) -> None:
    needed("h5py")
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(SourceError, match="HDF5 file"):
        open_source(tmp_path / "x.h5")


# --- AnnData ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def h5ad(tmp_path: Path) -> str:
    needed("h5py")
    write_h5ad(tmp_path / "x.h5ad", X * (X > 0))
    return str(tmp_path / "x.h5ad")


def test_matrices_of_anndata(h5ad: str) -> None:
    dense = X * (X > 0)
    source = open_source(h5ad, weight="w")
    assert source.schema.names == ("a", "b", "c")
    np.testing.assert_array_equal(read(h5ad), dense)
    np.testing.assert_array_equal(read(h5ad, columns=("c", "a")), dense[:, [2, 0]])
    np.testing.assert_array_equal(read(h5ad, columns=("w",))[:, 0], source.chunks()[0].load().weight)
    assert read(f"{h5ad}/obsm/X_pca").shape[1] == 3


def test_what_cannot_be_read_of_anndata_is_told(h5ad: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no column 'gene'; it has 3, such as 'a', 'b', 'c'"):
        open_source(h5ad, options=ReadOptions(columns=("gene",)))
    with pytest.raises(SchemaError, match="no 'obsm/X_umap'; it holds .*obsm/X_pca"):
        open_source(f"{h5ad}/obsm/X_umap")
    with pytest.raises(SchemaError, match="obs has no column 'v'; it has _index, w"):
        open_source(h5ad, weight="v")
    write_h5ad(tmp_path / "columns.h5ad", X, "csc_matrix")
    with pytest.raises(SchemaError, match="stored by columns.*tocsr"):
        open_source(tmp_path / "columns.h5ad")


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")  # of anndata 0.12 beside pandas 3
def test_objects_and_files_of_anndata_are_read(tmp_path: Path) -> None:
    anndata = needed("anndata")
    import scipy.sparse

    obs = pd.DataFrame(
        {"w": np.arange(1.0, 301), "kind": pd.Categorical(np.repeat(["t", "b", "n"], 100))},
        [f"c{i}" for i in range(300)],
    )
    for name, matrix in (("dense", X), ("sparse", scipy.sparse.csr_matrix(X * (X > 0)))):
        path = tmp_path / f"{name}.h5ad"
        made = anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=["a", "b", "c"]))
        made.obsm["X_pca"] = X[:, :2]
        with anndata.settings.override(allow_write_nullable_strings=True):  # pandas 3 makes no others
            made.write_h5ad(path)
        backed = anndata.read_h5ad(path, backed="r")
        dense = matrix.toarray() if name == "sparse" else matrix
        for data in (path, backed, *([made] if name == "dense" else [])):
            np.testing.assert_array_equal(read(data), dense)
            assert open_source(data, weight="w").schema.names == ("a", "b", "c")
        np.testing.assert_array_equal(read(f"{path}/obsm/X_pca"), X[:, :2])
        assert len(open_sequences(path, sequence_column="kind").offsets) == 4
    with pytest.raises(ParameterError, match="pass the path"):
        open_source(made)


# --- netCDF ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nc(tmp_path: Path) -> str:
    xarray = needed("xarray")
    needed("h5netcdf")
    values = X.copy()
    values[3, 0] = np.nan
    dataset = xarray.Dataset(
        {"t": (("time", "x"), values), "s": (("time",), X[:, 1])}, {"time": pd.date_range("2020", periods=300)}
    )
    packed = {"t": {"dtype": "i4", "scale_factor": 1e-4, "_FillValue": -999999}}
    dataset.to_netcdf(tmp_path / "x.nc", engine="h5netcdf", encoding=packed)
    dataset[["s"]].to_netcdf(tmp_path / "x.nc", engine="h5netcdf", group="deep", mode="a")
    return str(tmp_path / "x.nc")


def test_variables_of_netcdf_are_unpacked(nc: str) -> None:
    found = read(f"{nc}/t", feature_axis="x")
    assert np.isnan(found[3, 0])
    np.testing.assert_allclose(np.delete(found, 3, 0), np.delete(X, 3, 0), atol=1e-4)
    np.testing.assert_array_equal(read(f"{nc}/deep")[:, 0], X[:, 1])
    np.testing.assert_array_equal(read(nc, columns=("s",))[:, 0], X[:, 1])
    assert read(nc, feature_axis="x").shape == (300, 4)
    with pytest.raises(SchemaError, match="has no 'absent'; it holds .*t .*s "):
        open_source(f"{nc}/absent")


def test_objects_of_h5netcdf_are_their_files(nc: str) -> None:
    h5netcdf = needed("h5netcdf")
    with h5netcdf.File(nc) as file:
        np.testing.assert_array_equal(read(file, columns=("s",))[:, 0], X[:, 1])
        assert read(file["t"], feature_axis="x").shape == (300, 3)
        np.testing.assert_array_equal(read(file["deep"])[:, 0], X[:, 1])


def test_objects_of_netcdf4_are_their_files(nc: str) -> None:
    library = needed("netCDF4")
    with library.Dataset(nc) as file:
        np.testing.assert_array_equal(read(file, columns=("s",))[:, 0], X[:, 1])
        assert read(file["t"], feature_axis="x").shape == (300, 3)
        np.testing.assert_array_equal(read(file["deep"])[:, 0], X[:, 1])


def test_integers_that_lose_digits_are_refused(tmp_path: Path) -> None:
    h5py = needed("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.array([[2**53 + 1], [0]])
    with pytest.raises(DataError, match="lose digits"):
        read(tmp_path / "x.h5")
