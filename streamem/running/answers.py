"""What a fitted model says of every row: into arrays, lazily on Dask collections, or to a store chunk by chunk."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import address_of, as_address, is_address
from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk, as_floats
from streamem.core.errors import OutputError
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef, Executor, Family, OnChunk, PassTask, Source, Task, full_family
from streamem.core.stats import Stats
from streamem.initialization import sample_rows
from streamem.machine.importing import import_whole
from streamem.running.engines import Engine, client_of
from streamem.running.fit import require_unchanged
from streamem.running.progress import Progress
from streamem.running.row_tasks import Apply, Score, WritePart
from streamem.running.survey import surveyed_family
from streamem.sinks import (
    Categories,
    PartedSink,
    PartedUpload,
    ResultGrid,
    ResultLayout,
    ResultPart,
    UploadedPart,
    open_parted_sink,
    open_sink,
    takes_parts,
)
from streamem.sources import ReadOptions
from streamem.sources.numeric import numbers_in, numeric_dtype

Array = NDArray[Any]
Out = str | os.PathLike[str]
PART_BYTES = 64 * 2**20
PARTS_PER_THREAD = 4


@dataclass(frozen=True)
class Column:
    """The shape of an answer: how many numbers a row (None: one, without an axis), their dtype and names.

    Attributes
    ----------
    categories : of columns whose numbers are codes the values that they stand for, None for others; () if all are
        numbers. Tables hold these values, arrays the codes.
    """

    width: int | None
    dtype: np.dtype[Any]
    names: tuple[str, ...]
    categories: Categories = ()

    @property
    def row_nbytes(self) -> int:
        """Bytes of the answer for one row."""
        return self.dtype.itemsize * (self.width or 1)

    def on_grid(
        self, noun: str, dims: Sequence[Any]
    ) -> tuple[str | None, str | None, tuple[int, ...] | tuple[str, ...]]:
        """Name of the answer for rows with named dimensions; name and labels of a dimension more for several columns.

        `noun` is what probabilities are numbered by.
        """
        if self.width is None:
            return self.names[0], None, ()
        numbered = all(name == f"probability_{i}" for i, name in enumerate(self.names))
        extra = noun if numbered else "column"
        extra = f"{extra}_of_model" if extra in dims else extra
        return ("probability", extra, tuple(range(self.width))) if numbered else (None, extra, self.names)


def apply_to_array(source: Source, task: Apply, column: Column, engine: Engine) -> Array:
    """The answers for all rows in memory: (n,) or (n, width)."""
    n = source.n_rows
    refs = source.chunks()
    held = column.row_nbytes * max((ref.rows for ref in refs), default=0)
    projection = engine.project(source, refs, held, result=column.row_nbytes * n, summed=False)
    with engine.executor(source, projection) as executor:
        result = np.empty(n if column.width is None else (n, column.width), dtype=column.dtype)
        task = task.ready(executor, refs)
        for ref, values in zip(refs, _answers(source, refs, task, executor, engine), strict=True):
            result[ref.start : ref.start + ref.rows] = values
    return result


def result_grid(source: Source, column: Column, noun: str) -> ResultGrid | None:
    """The grid of the answers for all rows of a source; None where its rows are on none."""
    grid = source.grid
    if grid is None or grid.rows != source.n_rows or not grid.dims:
        return None
    name, extra, labels = column.on_grid(noun, grid.dims)
    taken = grid.coordinates | {*grid.dims, *([] if extra is None else [extra])}
    name = name or "value"
    return ResultGrid(grid, f"{name}_of_model" if name in taken else name, extra, labels)


LIGHT_PRODUCTS = 2**13
"""Of a call that the calling thread answers at once."""

LIGHT_ROWS, LIGHT_PRODUCTS_OF_FEW = 4, 2**22
"""Of so few rows it answers more: there is nothing to share out, and it takes a few milliseconds."""


def is_light(n_rows: int, n_statistics: int, executor: Any) -> bool:
    """Whether threads, a look at free memory and a progress bar would take longer than the answers themselves.

    Parameters
    ----------
    n_statistics : numbers of the model's statistics, each of which costs about a product a row
    executor : as `Engine.choice`
    """
    most = LIGHT_PRODUCTS_OF_FEW if n_rows <= LIGHT_ROWS else LIGHT_PRODUCTS
    return 0 < n_rows * n_statistics <= most and client_of(executor) is None


def apply_here(source: Source, task: Apply) -> Array:
    """The answers for the rows of a light call, by the calling thread; each chunk is answered by itself."""
    with one_blas_thread(brief=True):
        answers = [task(ref.load(), ref) for ref in source.chunks()]
    return answers[0] if len(answers) == 1 else np.concatenate(answers)


def score_here(source: Source, task: Task[Stats]) -> Stats:
    """What a task finds in the one chunk of a light call, by the calling thread."""
    (ref,) = source.chunks()
    with one_blas_thread(brief=True):
        return task(ref.load(), ref)


def apply_to_store(
    source: Source,
    task: Apply,
    column: Column,
    engine: Engine,
    out: Out,
    overwrite: bool,
    beside: Mapping[str, Iterable[Any]] | None = None,
    noun: str = "column",
) -> Out:
    """The answers written to `out` (.zarr, .parquet, .npy): complete, or absent. Returns `out`.

    `beside` are columns of the data, by name, that a ``.parquet`` holds besides; this process writes it then. Rows on a
    grid keep it in a ``.zarr``, where columns that are numbered lie on a dimension `noun`.
    """
    refs = source.chunks()
    largest = max((ref.rows for ref in refs), default=1)
    grid = result_grid(source, column, noun)
    block = engine.budget.block_bytes
    layout = ResultLayout(
        source.n_rows, column.width, column.dtype, column.names, largest, block, grid, column.categories
    )
    if engine.is_remote and not beside and takes_parts(out, overwrite):
        _write_from_workers(source, refs, task, open_parted_sink(out, layout, overwrite), engine)
        return out
    sink = open_sink(out, layout, overwrite, beside)
    try:
        projection = engine.project(source, refs, column.row_nbytes * largest, writing=sink.held_nbytes, summed=False)
        with engine.executor(source, projection) as executor:
            for values in _answers(source, refs, task.ready(executor, refs), executor, engine):
                sink.write(values)
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return out


def apply_to_sequences(
    source: Any,
    task: Apply,
    column: Column,
    engine: Engine,
    added: bool,
    out: Out | None,
    overwrite: bool,
    beside: Mapping[str, Iterable[Any]] | None = None,
) -> Array | Out:
    """One answer for every sequence, in their order: an array, or written to `out` (see `apply_to_store`).

    `added` says that the pieces of a cut sequence have one each, which are added; else the first piece tells it.
    """
    refs, n = source.chunks(), int(source.n_sequences)
    largest = max((len(ref.sequences) for ref in refs if ref.sequences is not None), default=1)
    block = engine.budget.block_bytes
    layout = ResultLayout(n, column.width, column.dtype, column.names, largest, block, categories=column.categories)
    sink = None if out is None else open_sink(out, layout, overwrite, beside)
    held, result = column.row_nbytes * largest, 0 if sink is not None else column.row_nbytes * n
    written = 0 if sink is None else sink.held_nbytes
    found: list[Array] = []
    try:
        projection = engine.project(source, refs, held, result=result, writing=written, summed=False)
        with engine.executor(source, projection) as executor:
            answers = _answers(source, refs, task.ready(executor, refs), executor, engine)
            for values in _of_sequences(refs, answers) if added else answers:
                (found.append if sink is None else sink.write)(values)
        if sink is not None:
            sink.commit()
    except BaseException:
        if sink is not None:
            sink.abort()
        raise
    if out is not None:
        return out
    empty = np.empty(0 if column.width is None else (0, column.width), dtype=column.dtype)
    return np.concatenate([empty, *found])


def _of_sequences(refs: Sequence[ChunkRef], answers: Iterable[Array]) -> Iterator[Array]:
    """Answers of whole sequences, from those of chunks: of a cut one the sum of its pieces."""
    kept: Array | None = None
    for ref, values in zip(refs, answers, strict=True):
        assert ref.sequences is not None
        if kept is not None and ref.sequences.opened and len(values):
            values[0] += kept[0]
        elif kept is not None:
            yield kept
        kept, values = (values[-1:], values[:-1]) if ref.sequences.continued else (None, values)
        yield values
    if kept is not None:
        yield kept


def _write_from_workers(
    source: Source, refs: Sequence[ChunkRef], task: Apply, sink: PartedSink | PartedUpload, engine: Engine
) -> None:
    """Every worker writes the rows that it answers for; only their number comes here."""
    layout, starts = sink.layout, [ref.start for ref in refs]
    held = layout.row_nbytes * layout.chunk_rows + sink.held_nbytes
    try:
        projection = engine.project(source, refs, held, summed=False)
        with engine.executor(source, projection) as executor, _watched(source, engine) as on_chunk:
            parts = sink.parts(_part_rows(source, layout, engine), starts)
            jobs = [WritePart(part, tuple(refs[i] for i in _overlapping(starts, part))) for part in parts]
            for job, rows in executor.work(task.ready(executor, refs), jobs, on_chunk):
                sink.done(cast(WritePart, job).part.first, rows)
        sink.commit()
    except BaseException:
        sink.abort()
        raise


def _overlapping(starts: Sequence[int], part: ResultPart | UploadedPart) -> range:
    """Positions of the chunks that hold rows of a part."""
    return range(bisect_right(starts, part.first) - 1, bisect_left(starts, part.first + part.rows))


def _part_rows(source: Source, layout: ResultLayout, engine: Engine) -> int:
    row = max(layout.row_nbytes, source.schema.n_features * source.schema.dtype.itemsize)
    return max(1, min(PART_BYTES // row, source.n_rows // (PARTS_PER_THREAD * engine.remote_threads)))


def score_source(source: Source, task: Score, engine: Engine) -> tuple[float, float]:
    """Total log-likelihood in nats, and total weight."""
    stats = reduce_source(source, task, engine, held=64)
    return float(stats.log_likelihood), float(stats.weight)


def reduce_source(source: Source, task: PassTask[Stats], engine: Engine, held: int) -> Stats:
    """The sum of a task over all chunks; the statistics of one chunk take `held` bytes."""
    refs = source.chunks()
    with (
        engine.executor(source, engine.project(source, refs, held)) as executor,
        _watched(source, engine) as on_chunk,
    ):
        return executor.reduce(task.ready(executor, refs), refs, on_chunk)


def map_source(
    source: Source, task: PassTask[Any], engine: Engine, held: int, on_result: Callable[[Any], None], result: int = 0
) -> None:
    """Give `on_result` what a task says of every chunk, in plan order; `result` bytes stay in memory besides."""
    refs = source.chunks()
    with (
        engine.executor(source, engine.project(source, refs, held, result=result, summed=False)) as executor,
        _watched(source, engine) as on_chunk,
    ):
        for result in executor.map(task.ready(executor, refs), refs, on_chunk):
            on_result(result)


def survey_source(family: Family, source: Source, engine: Engine) -> Family:
    """The family that has seen all rows, where it must before its first parameters."""
    if source.n_rows == 0 or full_family(family).is_surveyed:
        return family
    refs, held = source.chunks(), 8 * (source.schema.n_features + 1)
    with (
        engine.executor(source, engine.project(source, refs, held, summed=False)) as executor,
        _watched(source, engine) as on_chunk,
    ):
        return surveyed_family(family, refs, executor, source.schema.names, on_chunk)


def take_sample(
    source: Source, size: int, rng: np.random.RandomState, engine: Engine, missing: Missing = Missing.NOTHING
) -> Chunk:
    """A uniform sample of rows, checked; all of them in order if `size` is their number.

    `missing` says what of a row may be NaN.
    """
    refs, names = source.chunks(), source.schema.names
    row = 8 * (source.schema.n_features + 1)
    with (
        engine.executor(source, engine.project(source, refs, held=0, sample=2 * row * size)) as executor,
        _watched(source, engine) as on_chunk,
    ):
        return sample_rows(refs, source.n_rows, size, executor, rng, names, on_chunk, missing, source.offsets)


def require_apart(data: Any, out: Out) -> None:
    """Refuse to write over the data that is being read, or into its folder.

    Raises
    ------
    OutputError : one path holds the other
    """
    data, out = as_address(data), as_address(out)
    if is_address(data) and is_address(out):
        texts = [f"{address_of(each).text.rstrip('/')}/" for each in (data, out)]
        if texts[0].startswith(texts[1]) or texts[1].startswith(texts[0]):
            raise OutputError(f"{out} is, holds, or lies in the data {data} that is read; write the result elsewhere")
        return
    if not isinstance(data, str | os.PathLike) or is_address(data) or is_address(out):
        return
    source, target = Path(data).resolve(), Path(out).resolve()
    if source == target or source in target.parents or target in source.parents:
        raise OutputError(f"{out} is, holds, or lies in the data {data} that is read; write the result elsewhere")


def is_dask(x: Any) -> bool:
    """Whether x is a Dask collection."""
    return type(x).__module__.partition(".")[0] in ("dask", "dask_expr")


def apply_lazily(x: Any, options: ReadOptions, task: Apply, column: Column, plain: bool = True) -> Any:
    """The answers, one block for each block of rows of x: a Dask array.

    Of a DataFrame, unless they shall be `plain`, a Dask Series or DataFrame with the index and the divisions of x.

    Raises
    ------
    SchemaError : x holds no numbers
    """
    if hasattr(x, "to_dask_array"):
        floats = import_whole("streamem.sources.dask_frame").frame_of_floats(x, options)
        if not plain:
            by_partition = _PartitionAnswer(task, column)
            return floats.map_partitions(by_partition, meta=by_partition.like(floats._meta))
        x = floats.to_dask_array()
    numeric_dtype(x.dtype, "the Dask array")
    x = x.rechunk({1: -1}) if x.numblocks[1] > 1 else x
    answer = _BlockAnswer(task)
    if column.width is None:
        return x.map_blocks(answer, dtype=column.dtype, drop_axis=1, meta=np.empty(0, column.dtype))
    chunks = (x.chunks[0], (column.width,))
    return x.map_blocks(answer, dtype=column.dtype, chunks=chunks, meta=np.empty((0, 0), column.dtype))


@dataclass(frozen=True, eq=False)
class _BlockRef(ChunkRef):
    """Stands in for a chunk handle where Dask drives: the position of the block is all that is known."""

    index: int
    rows: int
    start: int = 0
    nbytes: int = 0
    load_nbytes: int = 0

    def load(self) -> Chunk:
        """Dask has loaded it already."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class _BlockAnswer:
    task: Apply

    def __call__(self, block: Any, block_info: Any = None) -> Array:
        location = block_info[0] if block_info else None
        index = location["chunk-location"][0] if location else 0
        x = as_floats(numbers_in(np.asanyarray(block), f"Dask block {index}"), np.dtype(np.float64))
        with one_blas_thread():
            return self.task(Chunk(x), _BlockRef(index, len(x)))


@dataclass(frozen=True, eq=False)
class _PartitionAnswer:
    task: Apply
    column: Column

    def __call__(self, partition: Any, partition_info: Any = None) -> Any:
        index = (partition_info or {}).get("number", 0)
        x = as_floats(np.asarray(partition), np.dtype(np.float64))
        with one_blas_thread():
            return self._framed(self.task(Chunk(x), _BlockRef(index, len(x))), partition)

    def like(self, meta: Any) -> Any:
        """An answer without rows."""
        return self._framed(np.empty((0, self.column.width or 1), self.column.dtype), meta.iloc[:0])

    def _framed(self, values: Array, partition: Any) -> Any:
        values = values.reshape(len(partition), self.column.width or 1)
        framed = type(partition)(values, index=partition.index, columns=list(self.column.names))
        return framed if self.column.width is not None else framed[self.column.names[0]]


def _answers(
    source: Source, refs: Sequence[ChunkRef], task: Apply, executor: Executor, engine: Engine
) -> Iterator[Array]:
    with _watched(source, engine) as on_chunk:
        yield from executor.map(task, refs, on_chunk)


@contextmanager
def _watched(source: Source, engine: Engine) -> Iterator[OnChunk]:
    """Progress during a pass, and the check that the data stayed as it was."""
    progress = Progress(engine.what, engine.verbose)
    progress.begin(source.n_rows, engine.what)
    fingerprint = source.fingerprint()
    try:
        yield progress.chunk_done
        require_unchanged(source, fingerprint)
    finally:
        progress.end()
