"""What told the sequences of the fit tells those of later data; data that lacks it is refused, never one sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray

from streamem import (
    GMMHMM,
    HMM,
    CategoricalHMM,
    Gaussian,
    GaussianHMM,
    PoissonHMM,
    ReadOptions,
    open_sequences,
    open_source,
)
from streamem.cli.main import main
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.errors import ModelFileError, ParameterError, SchemaError
from streamem.core.ports import ChunkRef

Array = NDArray[Any]
S, STEPS = 6, 10
N = S * STEPS
LENGTHS = [STEPS] * S
X = np.random.default_rng(0).normal(size=(N, 2)) + np.tile([0.0, 3.0], (N // 2))[:, None]
FRAME = pd.DataFrame({"a": X[:, 0], "gene": np.repeat([f"g{i}" for i in range(S)], STEPS), "b": X[:, 1]})
REFUSED = r"sequences that column 'gene' told; this data lacks it .*lengths=\[60\] if all rows are steps of one"


@pytest.fixture(scope="module")
def fitted() -> GaussianHMM:
    return GaussianHMM(2, random_state=0).fit(FRAME, sequence_column="gene")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    FRAME.to_parquet(folder / "t.parquet")
    group = zarr.open_group(folder / "g.zarr", mode="w")
    group["a"], group["b"] = X[:, 0], X[:, 1]
    group["gene"], group["starts"] = np.repeat(np.arange(S), STEPS), np.arange(S) * STEPS
    return folder


DATA: dict[str, Callable[[Path], Any]] = {
    "pandas": lambda folder: FRAME,
    "polars": lambda folder: pl.from_pandas(FRAME),
    "Arrow": lambda folder: pa.Table.from_pandas(FRAME),
    "Dask": lambda folder: dask.dataframe.from_pandas(FRAME, npartitions=3),
    "xarray": lambda folder: FRAME.to_xarray(),
    "Parquet": lambda folder: folder / "t.parquet",
    "Zarr": lambda folder: folder / "g.zarr",
    "reader": lambda folder: lambda: pa.Table.from_pandas(FRAME).to_reader(7),
}


@pytest.mark.parametrize("kind", DATA)
def test_the_column_is_remembered(fitted: GaussianHMM, path: Path, kind: str) -> None:
    data = DATA[kind](path)
    assert fitted.score(data) == fitted.score(X, LENGTHS) != fitted.score(X, [N])
    np.testing.assert_array_equal(fitted.predict(data), fitted.predict(X, LENGTHS))


def test_every_question_asks_by_sequence(fitted: GaussianHMM) -> None:
    np.testing.assert_array_equal(fitted.predict_proba(FRAME), fitted.predict_proba(X, LENGTHS))
    assert fitted.decode(FRAME)[0] == fitted.decode(X, LENGTHS)[0]
    assert fitted.score_samples(FRAME)[0] == fitted.score(X, LENGTHS)
    assert fitted.bic(FRAME) == fitted.bic(X, LENGTHS)
    assert fitted.scores(FRAME) == fitted.scores(X, LENGTHS)
    local = fitted.expected_statistics(FRAME).stats
    assert local == fitted.expected_statistics(X, LENGTHS).stats


LACKING: dict[str, Callable[[Path], Any]] = {
    "array": lambda folder: X,
    "rows": lambda folder: X.tolist(),
    "frame": lambda folder: FRAME[["a", "b"]],
    "polars": lambda folder: pl.from_pandas(FRAME[["a", "b"]]),
    "Dask array": lambda folder: dask.array.from_array(X, chunks=(20, 2)),
    "open already": lambda folder: open_source(folder / "t.parquet", options=ReadOptions(columns=("a", "b"))),
}


@pytest.mark.parametrize("kind", LACKING)
def test_data_without_the_column_is_refused(fitted: GaussianHMM, path: Path, kind: str) -> None:
    data = LACKING[kind](path)
    for ask in (fitted.predict, fitted.score, fitted.decode, fitted.predict_proba, fitted.partial_fit):
        with pytest.raises(SchemaError, match=REFUSED):
            ask(data)
    assert fitted.score(data, lengths=[N]) == fitted.score(X, [N])


def test_what_is_said_of_the_data_itself_wins(fitted: GaussianHMM) -> None:
    assert fitted.score(FRAME, lengths=[N]) == fitted.score(X, [N])
    assert fitted.score(FRAME, offsets=[0, 30]) == fitted.score(X, [30, 30])
    assert fitted.score([X[:30], X[30:]]) == fitted.score(X, [30, 30])
    assert fitted.score(X.reshape(S, STEPS, 2)) == fitted.score(X, LENGTHS)
    assert fitted.score(open_sequences(X, lengths=[30, 30])) == fitted.score(X, [30, 30])
    halves = FRAME.assign(half=np.repeat([1, 2], 30))
    assert fitted.score(halves, sequence_column="half") == fitted.score(X, [30, 30])
    assert fitted.score(X[:1]) == fitted.score(X[:1], [1])


def test_a_sequence_that_goes_on_is_one() -> None:
    model = GaussianHMM(2, random_state=0).fit(FRAME, sequence_column="gene")
    model.partial_fit(X, continued=True)
    with pytest.raises(ParameterError, match="X holds several"):
        model.partial_fit(FRAME, continued=True)


def test_learned_online(fitted: GaussianHMM) -> None:
    model = GaussianHMM(2, random_state=0).partial_fit(FRAME, sequence_column="gene")
    told = GaussianHMM(2, random_state=0).partial_fit(X, LENGTHS).partial_fit(X, LENGTHS)
    np.testing.assert_array_equal(model.partial_fit(FRAME).transmat_, told.transmat_)


def test_a_new_fit_forgets() -> None:
    model = GaussianHMM(2, random_state=0).fit(FRAME, sequence_column="gene").fit(X, LENGTHS)
    assert not hasattr(model, "sequences_by_")
    assert model.score(X) == model.score(X, [N])
    kept = model.fit(FRAME, sequence_column="gene").sequences_by_
    with pytest.raises(SchemaError):
        model.fit(FRAME, sequence_column="none")
    assert model.sequences_by_ == kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: GMMHMM(1, 1, random_state=0),
        lambda: HMM(Gaussian(), 1),
        lambda: PoissonHMM(1),
        lambda: CategoricalHMM(1),
    ],
)
def test_every_model_of_sequences(make: Callable[[], Any]) -> None:
    counts = pd.DataFrame({"a": np.arange(N) % 3, "gene": FRAME["gene"]})
    model = make().fit(counts, sequence_column="gene")
    assert model.score(counts) == model.score(counts, LENGTHS)
    with pytest.raises(SchemaError, match=REFUSED):
        model.score(counts[["a"]])


def test_sequences_that_came_open(path: Path) -> None:
    source = open_sequences(path / "t.parquet", sequence_column="gene")
    model = GaussianHMM(2, random_state=0).fit(source)
    assert model.sequences_by_ == {"sequence_column": "gene"}
    assert model.score(path / "t.parquet") == model.score(source)


class OwnSource:
    """Somebody's source of rows that knows where sequences begin."""

    def __init__(self, rows: Array, lengths: list[int]) -> None:
        self._base, self.offsets = open_source(rows), np.cumsum([0, *lengths])
        self.schema, self.n_rows = self._base.schema, self._base.n_rows

    def fingerprint(self) -> str:
        return self._base.fingerprint()

    def chunks(self) -> Sequence[ChunkRef]:
        return self._base.chunks()


def test_offsets_that_a_source_carries(fitted: GaussianHMM) -> None:
    source = OwnSource(X, LENGTHS)
    assert fitted.score(source) == fitted.score(X, LENGTHS)
    assert fitted.score(source, lengths=[N]) == fitted.score(X, [N])
    np.testing.assert_array_equal(
        GaussianHMM(2, random_state=0).fit(source).transmat_, GaussianHMM(2, random_state=0).fit(X, LENGTHS).transmat_
    )


@pytest.mark.parametrize("way", ["offsets", "lengths"])
def test_arrays_beside_the_data_are_remembered(path: Path, way: str) -> None:
    group = zarr.open_group(path / "g.zarr", mode="a")
    group["lengths"] = np.array(LENGTHS)
    name: Any = {"offsets": "starts", "lengths": "lengths"}[way]
    model = GaussianHMM(2, random_state=0).fit(path / "g.zarr", columns=["a", "b"], **{way: name})
    assert model.sequences_by_ == {way: name}
    assert model.score(path / "g.zarr") == model.score(X, LENGTHS)
    with pytest.raises(SchemaError, match=f"sequences that {way}='{name}' told"):
        model.score(FRAME)
    del group["lengths"]


# --- files and the command line ---------------------------------------------------------------------------------------


def test_the_model_file_knows(fitted: GaussianHMM, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.npz")
    loaded = GaussianHMM.load(tmp_path / "m.npz")
    assert loaded.score(FRAME) == fitted.score(FRAME)
    assert "sequences by sequence_column 'gene'" in loaded.describe()


@pytest.mark.parametrize("told", [None, {}, {"sequence_column": 3}, {"gene": "x"}, ["gene"], "gene"])
def test_files_that_are_older_or_lie(fitted: GaussianHMM, tmp_path: Path, told: Any) -> None:
    fitted.save(tmp_path / "m.npz")
    archive = read_archive(tmp_path / "m.npz", "model")
    meta = {name: value for name, value in archive.meta.items() if name != "sequences"}
    write_archive(tmp_path / "m.npz", "model", meta | ({} if told is None else {"sequences": told}), archive.arrays)
    if not told:
        assert GaussianHMM.load(tmp_path / "m.npz").score(X) == fitted.score(X, [N])
    else:
        with pytest.raises(ModelFileError, match="of sequences; one way and one name are needed"):
            GaussianHMM.load(tmp_path / "m.npz")


@pytest.mark.parametrize("data", ["t.parquet", "g.zarr"])
def test_commands(path: Path, tmp_path: Path, data: str) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    model, x = str(tmp_path / "m.npz"), str(path / data)
    run("fit", "hmm", x, "-k", "2", "-o", model, "--columns", "a,b", "--sequence-column", "gene", "--seed", "0")
    fitted = GaussianHMM.load(model)
    run("predict", model, x, "-o", str(tmp_path / "states.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "states.npy"), fitted.predict(X, LENGTHS))
    for filled in ((), ("--missing-chunks", "fill", "--columns", "a,b")):
        assert f"{fitted.score(X, LENGTHS):.12g}" in run("score", model, x, *filled)


# --- grids ------------------------------------------------------------------------------------------------------------

GRID = xarray.Dataset({name: (("trajectory", "obs"), X[:, i].reshape(S, STEPS)) for i, name in enumerate("ab")})
RAGGED = GRID.where(GRID.obs < xarray.DataArray([10, 9, 8, 7, 6, 5], dims="trajectory"))


def test_variables_of_trajectories_are_sequences(fitted: GaussianHMM, tmp_path: Path) -> None:
    GRID.to_zarr(tmp_path / "g.zarr", consolidated=False)
    cube = GRID.to_array("f").transpose("trajectory", "obs", "f")
    for data in (GRID, tmp_path / "g.zarr", cube, GRID.chunk({"trajectory": 2})):
        assert fitted.score(data) == fitted.score(X, LENGTHS)
        assert open_sequences(data).n_sequences == S
    assert fitted.score(GRID.to_array("f"), feature_axis="f") == fitted.score(X, LENGTHS)
    assert fitted.score(open_source(X.reshape(S, STEPS, 2), options=ReadOptions(feature_axis=2))) == fitted.score(
        X, LENGTHS
    )


def test_shorter_trajectories_end_with_padding(fitted: GaussianHMM) -> None:
    steps = [10, 9, 8, 7, 6, 5]
    cut = [X[i * STEPS : i * STEPS + length] for i, length in enumerate(steps)]
    assert fitted.score(RAGGED) == pytest.approx(fitted.score(cut), rel=1e-12)
    assert fitted.score(GRID, lengths=steps) == fitted.score(RAGGED)
    assert fitted.score(GRID, lengths=[30, 30]) == fitted.score(X, [30, 30])
    model = GaussianHMM(2, random_state=0).fit(RAGGED)
    assert model.score(RAGGED) == pytest.approx(model.score(cut), rel=1e-12)


def test_rows_on_three_axes_are_refused(fitted: GaussianHMM) -> None:
    cube = xarray.Dataset({name: (("x", "y", "t"), X[:, i].reshape(2, 3, 10)) for i, name in enumerate("ab")})
    for data, axis in ((cube, None), (X.reshape(2, 3, 10, 2), 3)):
        with pytest.raises(SchemaError, match="rows on 3 axes, .* stack the others, or say with lengths="):
            fitted.score(data, feature_axis=axis)
        assert fitted.score(data, lengths=LENGTHS, feature_axis=axis) == fitted.score(X, LENGTHS)
