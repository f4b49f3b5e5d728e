"""The blocks of a lazy Dask collection: each with the tasks that it needs, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask
import dask.threaded
import numpy as np
from dask._task_spec import DataNode
from dask.core import get_dependencies

from streamem.core.chunk import Chunk
from streamem.core.errors import MemoryLimitError, SourceError, StreamemError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.sources.plan import group_pieces

Graph = dict[Any, Any]
MIN_SHARED = 10


@dataclass(frozen=True, eq=False)
class Block:
    """One block: its own part of the graph, and how many rows it should have.

    As picklable as the user's functions are; Dask itself uses cloudpickle, which takes lambdas too.
    """

    number: int
    key: Any
    graph: Graph = field(repr=False)
    rows: int

    def given(self, values: Mapping[Any, Any]) -> Block:
        """This block, with values in place of futures."""
        nodes = {key: DataNode(key, values[key]) for key in self.graph if key in values}
        return replace(self, graph={**self.graph, **nodes})

    def compute(self) -> Any:
        """Run the tasks in the calling thread, whatever scheduler is configured and whatever client is active.

        Raises
        ------
        SourceError : a task failed
        """
        try:
            return dask.get({key: _fetched(value) for key, value in self.graph.items()}, self.key)
        except StreamemError:
            raise
        except Exception as error:
            raise SourceError(f"Dask block {self.number} failed: {type(error).__name__}: {error}") from error


def _is_future(value: Any) -> bool:
    return type(value).__module__.startswith("distributed.") and hasattr(value, "result")


def _fetched(value: Any) -> Any:
    """Results of a persisted collection on a cluster, fetched to this process."""
    return value.result() if _is_future(value) else value


MOST_BLOCKS = 2**20
"""Each is a graph of its own here, of some kilobytes."""


def require_few_blocks(number: int, origin: str, remedy: str) -> None:
    """Raise `MemoryLimitError` if a collection has more than `MOST_BLOCKS` blocks."""
    if number > MOST_BLOCKS:
        raise MemoryLimitError(
            f"{origin} has {number} blocks; the graphs of more than {MOST_BLOCKS} do not fit into memory. Join blocks "
            f"with {remedy} first"
        )


def blocks_of(optimized: Any, original: Any, lengths: Sequence[int] | None) -> list[Block]:
    """The blocks of a collection whose blocks follow each other along the rows.

    Two things cannot be left to each block alone and are computed now, with the scheduler or client that Dask is
    configured for: tasks that join many blocks and that many blocks need, such as the mean in ``x - x.mean(axis=0)``
    (each block would otherwise compute them again), and the lengths of the blocks where Dask does not know them.

    Parameters
    ----------
    optimized, original : the collection after and before Dask's optimization
    lengths : rows of each block; None where they are unknown

    Raises
    ------
    SourceError : a task failed
    """
    keys = list(_flat(optimized.__dask_keys__()))
    # Optimization of a persisted collection may lose the futures that its tasks refer to.
    futures = {key: value for key, value in dict(original.__dask_graph__()).items() if _is_future(value)}
    graph = {**futures, **dict(optimized.__dask_graph__())}
    dependencies = {key: get_dependencies(graph, key) for key in graph}
    shared = _shared_tasks(dependencies, len(keys))
    for key, value in zip(shared, _compute(graph, shared, "its shared tasks"), strict=True):
        graph[key], dependencies[key] = DataNode(key, value), set()
    if lengths is None:
        lengths = _count_rows(graph, keys)
    return [
        Block(number, key, cull(graph, dependencies, key), rows)
        for number, (key, rows) in enumerate(zip(keys, lengths, strict=True))
    ]


def _count_rows(graph: Graph, keys: Sequence[Any]) -> list[int]:
    name = f"streamem-rows-{dask.base.tokenize(keys)}"
    counts = {(name, number): (len, key) for number, key in enumerate(keys)}
    return _compute({**graph, **counts}, list(counts), "the number of rows of its blocks")


def _compute(graph: Graph, keys: list[Any], what: str) -> list[Any]:
    """Several results at once, each task run once, as ``dask.compute`` would run them."""
    if not keys:
        return []
    get = dask.base.get_scheduler() or dask.threaded.get
    try:
        return list(get(graph, keys))
    except Exception as error:
        raise SourceError(f"the Dask collection failed at {what}: {type(error).__name__}: {error}") from error


def _flat(keys: Any) -> Iterable[Any]:
    for key in keys:
        if isinstance(key, list):
            yield from _flat(key)
        else:
            yield key


def cull(graph: Mapping[Any, Any], dependencies: Mapping[Any, Iterable[Any]], key: Any) -> Graph:
    """The tasks that `key` needs, found from the key down: the cost is their number, not the size of the graph."""
    needed: Graph = {}
    waiting = [key]
    while waiting:
        if (task := waiting.pop()) not in needed:
            needed[task] = graph[task]
            waiting.extend(dependencies[task])
    return needed


def _shared_tasks(dependencies: Mapping[Any, Iterable[Any]], n_blocks: int) -> list[Any]:
    """Tasks that join at least half of the blocks and that at least half of the blocks need."""
    least = max(MIN_SHARED, n_blocks // 2)
    needed_by = Counter(needed for needs in dependencies.values() for needed in needs)
    candidates = [key for key, times in needed_by.items() if times >= least]
    sizes = {key: len(cull(dependencies, dependencies, key)) for key in candidates}
    return [key for key in candidates if sizes[key] >= least]


@dataclass(frozen=True, eq=False)
class BlockChunkRef(ChunkRef):
    """One large block, or several small ones that follow each other.

    `decode` turns what a block computes to into a chunk.
    """

    blocks: tuple[Block, ...]
    decode: Callable[[Any, Block], Chunk]
    schema: Schema
    index: int
    start: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(block.rows for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Features and weights."""
        return self.rows * row_nbytes(self.schema)

    @property
    def load_nbytes(self) -> int:
        """The chunk, and three times the largest block: what goes into its last task, comes out, and is converted.

        An estimate: a user's tasks may hold more.
        """
        return self.nbytes + 3 * max(block.rows for block in self.blocks) * row_nbytes(self.schema)

    @property
    def on_cluster(self) -> dict[Any, Any]:
        """Futures of what a persisted collection has of these blocks, by key."""
        return {key: value for block in self.blocks for key, value in block.graph.items() if _is_future(value)}

    def given(self, values: Mapping[Any, Any]) -> BlockChunkRef:
        """This handle, with values in place of futures."""
        return replace(self, blocks=tuple(block.given(values) for block in self.blocks))

    def load(self) -> Chunk:
        """Compute block after block."""
        if len(self.blocks) == 1:
            return self.decode(self.blocks[0].compute(), self.blocks[0])
        x = np.empty((self.rows, self.schema.n_features), self.schema.dtype)
        weight = np.empty(self.rows) if self.schema.weighted else None
        stop = 0
        for block in self.blocks:
            start, stop = stop, stop + block.rows
            part = self.decode(block.compute(), block)
            x[start:stop] = part.x
            if weight is not None:
                weight[start:stop] = part.weight
        return Chunk(x, weight)


def row_nbytes(schema: Schema) -> int:
    """Bytes of a row in a chunk."""
    return schema.n_features * schema.dtype.itemsize + (8 if schema.weighted else 0)


class BlockSource(Source):
    """Rows of a Dask collection, block by block; `row_shape` are the axes that were flattened to rows."""

    row_shape: tuple[int, ...] = ()

    def __init__(
        self,
        blocks: Sequence[Block],
        decode: Callable[[Any, Block], Chunk],
        schema: Schema,
        chunk_bytes: int,
        token: str,
    ) -> None:
        self._blocks, self._decode, self._chunk_bytes, self._token = blocks, decode, chunk_bytes, token
        self.schema = schema
        self.n_rows = sum(block.rows for block in blocks)

    def fingerprint(self) -> str:
        """Dask's own name of the collection, a hash of what it is computed from, and its blocks."""
        lengths = dask.base.tokenize([block.rows for block in self._blocks])
        return f"dask-{self.n_rows}-{self._token}-{lengths[:16]}"

    def chunks(self) -> Sequence[BlockChunkRef]:
        """Blocks, neighbours joined up to `chunk_bytes`."""
        lengths = [block.rows for block in self._blocks]
        refs: list[BlockChunkRef] = []
        start = 0
        for index, group in enumerate(group_pieces(lengths, row_nbytes(self.schema), self._chunk_bytes)):
            taken = tuple(self._blocks[i] for i in group if lengths[i])
            refs.append(BlockChunkRef(taken, self._decode, self.schema, index, start))
            start += refs[-1].rows
        return refs
