"""The laws of a sink: a result is complete under its name or absent, and reads back as it was written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.tolerance import assert_equal, require
from streamem.core.errors import OutputError, ParameterError
from streamem.core.ports import Sink

Array = NDArray[Any]
SMALL_CHANGE_BYTES = 2**20
"""What a format may hold besides what grows with the result: names, handles, threads."""


class SinkSuite:
    """What every sink must obey.

    Attributes
    ----------
    suffix : str
        Of the files.
    n_rows : int
        Of a result.
    dtypes : tuple of str
        That the format writes and reads back.
    widths : tuple of int or None
        Columns of the results that are tried; None is one number a row, which some formats cannot tell from one column.
    seed : int
        Of the values.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem.conformance import SinkSuite
    >>> from streamem.sinks import ResultLayout, open_sink
    >>> class TestNpy(SinkSuite):
    ...     suffix = ".npy"
    ...     def make_sink(self, path, rows, width, dtype, names, overwrite):
    ...         return open_sink(path, ResultLayout(rows, width, dtype, names, 100), overwrite)
    ...     def read(self, path):
    ...         return np.load(path)
    >>> TestNpy().test_nothing_is_under_the_name_before_the_commit()
    """

    suffix = ""
    n_rows = 700
    dtypes: tuple[str, ...] = ("float32", "float64", "int8", "int32", "int64", "uint16", "bool")
    widths: tuple[int | None, ...] = (None, 1, 3)
    seed = 0

    # --- to override -------------------------------------------------------------------------------------------------

    def make_sink(
        self, path: Path, rows: int, width: int | None, dtype: np.dtype[Any], names: tuple[str, ...], overwrite: bool
    ) -> Sink:
        """A sink for `rows` rows of `width` columns (None: one number a row) under the name `path`."""
        raise NotImplementedError

    def read(self, path: Path) -> Array:
        """The whole result, (rows,) or (rows, width), in its dtype."""
        raise NotImplementedError

    def read_names(self, path: Path) -> tuple[str, ...] | None:
        """Names of the columns; None for a format without names."""
        return None

    # --- what is written ---------------------------------------------------------------------------------------------

    def test_a_result_reads_back_bit_for_bit(self) -> None:
        """A result has its shape and dtype again, of one number a row or several, whatever the numbers are."""
        for dtype in map(np.dtype, self.dtypes):
            for width in self.widths:
                values = self._values(dtype, width)
                with self._folder() as path:
                    self._write(path, values)
                    assert_equal(self.read(path), values, f"{dtype}, width {width}")

    def test_names_are_kept(self) -> None:
        """In a format that has names."""
        with self._folder() as path:
            self._write(path, self._values(np.dtype(np.float64), 3))
            found = self.read_names(path)
        require(found in (None, _names(3)), f"the names became {found}")

    def test_the_cut_into_calls_changes_nothing(self) -> None:
        """All rows in one call, or some at a time, or none."""
        values, rng = self._values(np.dtype(np.float32), 2), np.random.default_rng(self.seed)
        for cuts in ([], [0, 0], list(range(len(values))), np.sort(rng.integers(0, len(values), 9)).tolist()):
            with self._folder() as path:
                self._write(path, values, cuts)
                assert_equal(self.read(path), values, f"{len(cuts) + 1} calls of write")

    def test_no_rows_are_a_result_too(self) -> None:
        """A result of no rows has its shape and dtype."""
        values = np.empty((0, 2), np.float64)
        with self._folder() as path:
            self._write(path, values)
            assert_equal(self.read(path), values, "no rows")

    # --- complete or absent ------------------------------------------------------------------------------------------

    def test_nothing_is_under_the_name_before_the_commit(self) -> None:
        """All rows are written, and nobody finds them yet; afterwards nothing else is left."""
        values = self._values(np.dtype(np.float64), None)
        with self._folder() as path:
            sink = self._open(path, values)
            sink.write(values)
            require(not path.exists(), "the result is visible before the commit")
            sink.commit()
            require(list(path.parent.iterdir()) == [path], "something else is left beside the result")

    def test_abort_leaves_nothing(self) -> None:
        """In the middle, twice, or before the first row."""
        values = self._values(np.dtype(np.float64), 2)
        for written in (0, len(values) // 2, len(values)):
            with self._folder() as path:
                sink = self._open(path, values)
                sink.write(values[:written])
                sink.abort()
                sink.abort()
                require(list(path.parent.iterdir()) == [], f"after {written} rows, abort left something")

    def test_an_abort_after_the_commit_changes_nothing(self) -> None:
        """So that a caller may always abort in the end."""
        values = self._values(np.dtype(np.float64), 2)
        with self._folder() as path:
            self._write(path, values).abort()
            assert_equal(self.read(path), values, "after abort")

    def test_a_result_that_lacks_rows_is_refused(self) -> None:
        """At the commit; one that has too many at the write."""
        values = self._values(np.dtype(np.float64), None)
        with self._folder() as path:
            sink = self._open(path, values)
            sink.write(values[:-1])
            _require_raises(OutputError, sink.commit, "a commit without the last row")
            sink.abort()
            require(list(path.parent.iterdir()) == [], "an incomplete result is left")
            sink = self._open(path, values)
            sink.write(values)
            _require_raises(OutputError, lambda: sink.write(values[:1]), "a row too many")
            sink.abort()

    def test_rows_of_another_kind_are_refused(self) -> None:
        """Another width, or numbers that do not fit the dtype."""
        values = self._values(np.dtype(np.int32), 2)
        with self._folder() as path:
            sink = self._open(path, values)
            _require_raises(ParameterError, lambda: sink.write(values[:, :1]), "another width")
            _require_raises(ParameterError, lambda: sink.write(values + 0.5), "floats where integers are kept")
            sink.write(values)
            sink.commit()
            assert_equal(self.read(path), values, "after refused rows")

    def test_an_ended_sink_takes_nothing(self) -> None:
        """A sink that was committed or aborted refuses rows and a second end."""
        values = self._values(np.dtype(np.float64), None)
        with self._folder() as path:
            sink = self._write(path, values)
            _require_raises(OutputError, lambda: sink.write(values[:1]), "a row after the commit")
            _require_raises(OutputError, sink.commit, "a second commit")
            assert_equal(self.read(path), values, "after the end")

    # --- what is there already ---------------------------------------------------------------------------------------

    def test_what_exists_is_kept_unless_asked(self) -> None:
        """Another sink of the same name is refused before it writes."""
        values = self._values(np.dtype(np.float64), 2)
        with self._folder() as path:
            self._write(path, values)
            _require_raises(OutputError, lambda: self._open(path, -values), "a name that is taken")
            assert_equal(self.read(path), values, "after the refusal")
            require(list(path.parent.iterdir()) == [path], "the refused sink left something")

    def test_overwriting_happens_at_the_commit(self) -> None:
        """Until then, and after an abort, the old result is there."""
        old, new = self._values(np.dtype(np.float64), 2), self._values(np.dtype(np.float64), 3)
        with self._folder() as path:
            self._write(path, old)
            for end in ("abort", "commit"):
                sink = self._open(path, new, overwrite=True)
                sink.write(new)
                assert_equal(self.read(path), old, f"before {end}")
                getattr(sink, end)()
            assert_equal(self.read(path), new, "after the commit")
            require(list(path.parent.iterdir()) == [path], "the old result is left somewhere")

    # --- memory ------------------------------------------------------------------------------------------------------

    def test_no_more_is_held_than_told(self) -> None:
        """`held_nbytes` covers what writing takes of memory that Python can trace, however many rows there are."""
        values = np.zeros((8 * SMALL_CHANGE_BYTES // 16, 2))
        with self._folder() as path:
            self._write(path, values[:100])  # imports and caches
        with self._folder() as path:
            tracemalloc.start()
            try:
                sink = self._open(path, values)
                for start in range(0, len(values), 1000):
                    sink.write(values[start : start + 1000])
                taken = tracemalloc.get_traced_memory()[1]
                sink.commit()
            finally:
                tracemalloc.stop()
        told = sink.held_nbytes
        require(isinstance(told, int) and 0 <= told < values.nbytes, f"{told} bytes told for {values.nbytes} of result")
        require(taken <= told + SMALL_CHANGE_BYTES, f"{taken} bytes were taken, {told} are told")

    # --- inner -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            yield Path(folder) / f"result{self.suffix}"

    def _open(self, path: Path, values: Array, overwrite: bool = False) -> Sink:
        width = None if values.ndim == 1 else values.shape[1]
        return self.make_sink(path, len(values), width, values.dtype, _names(width or 1), overwrite)

    def _write(self, path: Path, values: Array, cuts: list[int] | None = None) -> Sink:
        sink = self._open(path, values)
        for piece in np.split(values, [len(values) // 3] if cuts is None else cuts):
            sink.write(piece)
        sink.commit()
        return sink

    def _values(self, dtype: np.dtype[Any], width: int | None) -> Array:
        """Numbers of the whole range, and of floats those that are none."""
        rng = np.random.default_rng(self.seed)
        shape = (self.n_rows,) if width is None else (self.n_rows, width)
        if dtype.kind == "b":
            return rng.random(shape) < 0.5
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        values = rng.normal(size=shape).astype(dtype)
        values.flat[:6] = [np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal]
        return values


def _names(width: int) -> tuple[str, ...]:
    return tuple(f"column {i}" for i in range(width))


def _require_raises(kind: type[Exception], call: Any, what: str) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what} raised no {kind.__name__}")
