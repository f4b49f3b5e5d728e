"""What a fitted model says of every row: into arrays, lazily on Dask collections, or to a store chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import OutputError
from streamem.core.ports import ChunkRef, Executor, Source
from streamem.estimators.engines import Engine
from streamem.fit import require_unchanged
from streamem.progress import Progress
from streamem.sinks import open_sink
from streamem.tasks import Apply, Score

Array = NDArray[Any]
Out = str | os.PathLike[str]


@dataclass(frozen=True)
class Column:
    """The shape of an answer: how many numbers a row (None: one, without an axis), their dtype and names."""

    width: int | None
    dtype: np.dtype[Any]
    names: tuple[str, ...]

    @property
    def row_nbytes(self) -> int:
        """Bytes of the answer for one row."""
        return self.dtype.itemsize * (self.width or 1)


def apply_to_array(source: Source, task: Apply, column: Column, engine: Engine) -> Array:
    """The answers for all rows in memory: (n,) or (n, width)."""
    n = source.n_rows
    refs = source.chunks()
    held = column.row_nbytes * max((ref.rows for ref in refs), default=0)
    projection = engine.project(source, refs, held, result=column.row_nbytes * n, summed=False)
    with engine.executor(source, projection) as executor:
        result = np.empty(n if column.width is None else (n, column.width), dtype=column.dtype)
        for ref, values in zip(refs, _answers(source, refs, task, executor, engine), strict=True):
            result[ref.start : ref.start + ref.rows] = values
    return result


def apply_to_store(source: Source, task: Apply, column: Column, engine: Engine, out: Out, overwrite: bool) -> Out:
    """The answers written to `out` (.zarr, .parquet, .npy): complete, or absent. Returns `out`."""
    refs = source.chunks()
    largest = max((ref.rows for ref in refs), default=1)
    sink = open_sink(
        out,
        rows=source.n_rows,
        width=column.width,
        dtype=column.dtype,
        names=column.names,
        chunk_rows=largest,
        block_bytes=engine.budget.block_bytes,
        overwrite=overwrite,
    )
    try:
        projection = engine.project(source, refs, column.row_nbytes * largest, writing=sink.held_nbytes, summed=False)
        with engine.executor(source, projection) as executor:
            for values in _answers(source, refs, task, executor, engine):
                sink.write(values)
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return out


def score_source(source: Source, task: Score, engine: Engine) -> tuple[float, float]:
    """Total log-likelihood in nats, and total weight."""
    refs = source.chunks()
    progress = Progress(engine.what, engine.verbose)
    fingerprint = source.fingerprint()
    with engine.executor(source, engine.project(source, refs, held=64)) as executor:
        progress.begin(source.n_rows, engine.what)
        try:
            stats = executor.reduce(task, refs, progress.chunk_done)
        finally:
            progress.end()
    require_unchanged(source, fingerprint)
    return float(stats.log_likelihood), float(stats.weight)


def require_apart(data: Any, out: Out) -> None:
    """Refuse to write over the data that is being read, or into its folder.

    Raises
    ------
    OutputError : one path holds the other
    """
    if not isinstance(data, str | os.PathLike) or "://" in str(data):
        return
    source, target = Path(data).resolve(), Path(out).resolve()
    if source == target or source in target.parents or target in source.parents:
        raise OutputError(f"{out} is, holds, or lies in the data {data} that is read; write the result elsewhere")


def is_dask(x: Any) -> bool:
    """Whether x is a Dask collection."""
    return type(x).__module__.partition(".")[0] in ("dask", "dask_expr")


def apply_lazily(x: Any, names: Sequence[str] | None, task: Apply, column: Column) -> Any:
    """A Dask array of the answers, one block for each block of rows of x (Dask array or DataFrame)."""
    if hasattr(x, "to_dask_array"):
        x = (x if names is None else x[list(names)]).to_dask_array()
    x = x.rechunk({1: -1}) if x.numblocks[1] > 1 else x
    answer = _BlockAnswer(task)
    if column.width is None:
        return x.map_blocks(answer, dtype=column.dtype, drop_axis=1, meta=np.empty(0, column.dtype))
    chunks = (x.chunks[0], (column.width,))
    return x.map_blocks(answer, dtype=column.dtype, chunks=chunks, meta=np.empty((0, 0), column.dtype))


@dataclass(frozen=True, eq=False)
class _BlockRef:
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
        x = np.ascontiguousarray(np.asarray(block), dtype=np.float64)
        location = block_info[0] if block_info else None
        index = location["chunk-location"][0] if location else 0
        with one_blas_thread():
            return self.task(Chunk(x), _BlockRef(index, len(x)))


def _answers(
    source: Source, refs: Sequence[ChunkRef], task: Apply, executor: Executor, engine: Engine
) -> Iterator[Array]:
    progress = Progress(engine.what, engine.verbose)
    progress.begin(source.n_rows, engine.what)
    fingerprint = source.fingerprint()
    try:
        yield from executor.map(task, refs, progress.chunk_done)
        require_unchanged(source, fingerprint)
    finally:
        progress.end()
