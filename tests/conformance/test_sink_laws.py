"""The laws of sinks, on every format in the table; and on planted faults, which they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.typing import NDArray

from streamem.conformance import SinkSuite
from streamem.core.grid import RowGrid
from streamem.core.ports import Sink
from streamem.sinks import ResultGrid, ResultLayout, open_sink
from streamem.sinks.opening import SINKS

Array = NDArray[Any]


def parquet_values(path: Path) -> Array:
    columns = [column.to_numpy() for column in pq.read_table(path).columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def parquet_names(path: Path) -> tuple[str, ...]:
    return tuple(pq.read_schema(path).names)


def zarr_names(path: Path) -> tuple[str, ...]:
    return tuple(zarr.open_array(path, mode="r").attrs["names"])  # type: ignore[arg-type]


READERS: dict[str, tuple[Callable[[Path], Array], Callable[[Path], tuple[str, ...] | None]]] = {
    ".npy": (np.load, lambda path: None),
    ".parquet": (parquet_values, parquet_names),
    ".zarr": (lambda path: np.asarray(zarr.open_array(path, mode="r")[...]), zarr_names),
}
"""By suffix: how values and names are read without streamem."""


@pytest.mark.parametrize("suffix", SINKS)
class TestSinks(SinkSuite):
    @pytest.fixture(autouse=True)
    def _choose(self, suffix: str) -> None:
        self.suffix = suffix
        self.widths = (None, 3) if suffix == ".parquet" else (None, 1, 3)  # a table of one column is one number a row

    def make_sink(
        self, path: Path, rows: int, width: int | None, dtype: np.dtype[Any], names: tuple[str, ...], overwrite: bool
    ) -> Sink:
        chunk_rows = 100 if rows < 10_000 else 5_000  # files enough, not thousands of them
        return open_sink(path, ResultLayout(rows, width, dtype, names, chunk_rows, block_bytes=2**18), overwrite)

    def read(self, path: Path) -> Array:
        return READERS[self.suffix][0](path)

    def read_names(self, path: Path) -> tuple[str, ...] | None:
        return READERS[self.suffix][1](path)


@pytest.mark.parametrize("chunks", [None, (3, 2)], ids=["unknown chunks", "chunks of the data"])
class TestZarrOfAGrid(SinkSuite):
    """Rows that are the points of a grid of four columns, in a group."""

    suffix = ".zarr"

    @pytest.fixture(autouse=True)
    def _choose(self, chunks: tuple[int, int] | None) -> None:
        self.chunks = chunks

    def make_sink(
        self, path: Path, rows: int, width: int | None, dtype: np.dtype[Any], names: tuple[str, ...], overwrite: bool
    ) -> Sink:
        chunk_rows = 100 if rows < 10_000 else 5_000
        chunks = self.chunks if rows < 10_000 or self.chunks is None else (700, 4)
        grid = RowGrid(("y", "x"), (rows // 4, 4), chunks, None, frozenset(), lambda path: _group(path))
        extra = {} if width is None else {"extra": "column", "labels": names}
        layout = ResultLayout(rows, width, dtype, names, chunk_rows, grid=ResultGrid(grid, "answer", **extra))
        return open_sink(path, layout, overwrite)

    def read(self, path: Path) -> Array:
        found = zarr.open_array(path / "answer", mode="r")
        return np.asarray(found[...]).reshape(-1, *found.shape[2:])

    def read_names(self, path: Path) -> tuple[str, ...]:
        return tuple(np.asarray(zarr.open_array(path / "column", mode="r")[...]).tolist())


def _group(path: str) -> None:
    zarr.create_group(path, zarr_format=3)


# --- the suite can fail ----------------------------------------------------------------------------------------------


class Faulty:
    """A sink of npy files without any care: everything is kept in memory, and nothing is checked."""

    held_nbytes = 0

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows, self.pieces = path, rows, [np.empty(0)]
        self.pieces.clear()

    def write(self, values: Array) -> None:
        self.pieces.append(values.copy())

    def commit(self) -> None:
        with self.path.open("wb") as file:
            np.save(file, np.concatenate(self.pieces))

    def abort(self) -> None:
        self.path.unlink(missing_ok=True)


class Early(Faulty):
    def write(self, values: Array) -> None:
        super().write(values)
        self.commit()


class Clumsy(Faulty):
    """It leaves something beside the result."""

    def abort(self) -> None:
        self.path.with_suffix(".rest").touch()


class NoNaN(Faulty):
    def write(self, values: Array) -> None:
        super().write(np.nan_to_num(values))


class DropsEmptyCalls(Faulty):
    """And the first row of every call but the first."""

    def write(self, values: Array) -> None:
        super().write(values[1:] if self.pieces else values)


FAULTS = [
    (NoNaN, "a_result_reads_back_bit_for_bit"),
    (DropsEmptyCalls, "the_cut_into_calls_changes_nothing"),
    (Early, "nothing_is_under_the_name_before_the_commit"),
    (Clumsy, "abort_leaves_nothing"),
    (Faulty, "an_abort_after_the_commit_changes_nothing"),
    (Faulty, "a_result_that_lacks_rows_is_refused"),
    (Faulty, "rows_of_another_kind_are_refused"),
    (Faulty, "an_ended_sink_takes_nothing"),
    (Faulty, "what_exists_is_kept_unless_asked"),
    (Faulty, "overwriting_happens_at_the_commit"),
    (Faulty, "no_more_is_held_than_told"),
]


@pytest.mark.parametrize(("kind", "law"), FAULTS, ids=[law for _, law in FAULTS])
def test_a_planted_fault_breaks_its_law(kind: type[Faulty], law: str) -> None:
    class Planted(SinkSuite):
        suffix = ".npy"

        def make_sink(self, path: Path, rows: int, *_: Any) -> Sink:
            return kind(path, rows)

        def read(self, path: Path) -> Array:
            return np.load(path)

    with pytest.raises((AssertionError, FileNotFoundError)):
        getattr(Planted(), f"test_{law}")()


def test_names_that_are_lost_are_noticed() -> None:
    class Planted(TestSinks):
        suffix = ".npy"

        def read_names(self, path: Path) -> tuple[str, ...]:
            return ("a", "b", "c")

    with pytest.raises(AssertionError, match="names became"):
        Planted().test_names_are_kept()
