"""The memory promise: projected before the first read, kept by bounding what is in flight.

The limit is what a fit may take *on top of* what the process holds when it starts (interpreter, libraries, the user's
own arrays).
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from streamem.core.errors import MemoryLimitError, ParameterError
from streamem.core.ports import ChunkRef
from streamem.executors.chunk_cache import is_decoded
from streamem.machine.importing import import_whole
from streamem.running.free_memory import FreeMemory, free_memory
from streamem.sources.options import DEFAULT_CHUNK_BYTES, MOST_CHUNK_BYTES

MIB = 2**20

KEPT_BYTES = 96 * MIB
"""Of decoded chunks that a fit keeps from pass to pass if the user set no limit."""

UNASKED_BYTES = 16 * MIB
"""What a call may take without a look at free memory, which takes longer than a small call; if nobody set a limit."""

REQUESTS_AHEAD = 32
"""Requests that wait for a network at once: 200 objects of 1.3 MB at 100 ms each take 11.5 s with 2 and 1.3 with 32."""

AHEAD_BYTES = 128 * MIB
"""Of what is fetched ahead; but four chunks always, where the limit allows."""

M_ARENA_MAX = -8
TRIMMED_BYTES = 16 * MIB
"""Of chunks from a store that come and go, at least, before free memory is returned; half of a limit that was set."""

PASS_BYTES = 144 * MIB
"""Of what is in flight, and of chunks kept where these are not all there are, together, if the user set no limit."""


def parse_bytes(size: str | int | float | None) -> int | None:
    """ "1GiB", "500 MB" or a number of bytes; None stays None.

    Raises
    ------
    ParameterError : not a positive size
    """
    if size is None:
        return None
    if isinstance(size, float) and not size.is_integer():
        raise ParameterError(f"{size!r} is not a memory size in whole bytes; write for example '1.5GiB'")
    try:
        number = int(_words_of_sizes().parse_bytes(size))
    except (ValueError, TypeError, AttributeError) as error:
        raise ParameterError(f"{size!r} is not a memory size; write for example '1GiB' or a number of bytes") from error
    if number <= 0:
        raise ParameterError(f"a memory size of {size!r} leaves nothing to work with; it must be positive")
    return number


def format_bytes(number: float) -> str:
    """1536 → '1.50 kiB'."""
    return str(_words_of_sizes().format_bytes(int(number)))


@cache
def _words_of_sizes() -> ModuleType:
    return import_whole("dask.utils")


def peak_bytes() -> int:
    """Largest resident memory of this process so far (VmHWM)."""
    try:
        _, found, rest = Path("/proc/self/status").read_bytes().partition(b"VmHWM:")
    except OSError:
        found = b""
    if found:
        return int(rest.split(maxsplit=1)[0]) * 1024
    import resource  # which not every system has

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def forget_peak() -> int:
    """Begin a new `peak_bytes` where the system can (Linux: clear_refs, proc(5)); what it is now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def share_one_heap() -> None:
    """Have threads that begin from now on allocate from the heaps that there are (mallopt(3), M_ARENA_MAX).

    glibc gives each thread that fetches a heap of its own, and freed chunks stay in all of them: a fit over a store
    held 95 MiB where 64 were projected, and 57 with one heap.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


class Trimming:
    """Gives free memory back to the system each time that so many bytes of chunks have come and gone."""

    def __init__(self, every: int) -> None:
        share_one_heap()
        self._every, self._gone = every, 0

    def gone(self, nbytes: int) -> None:
        """Note that a chunk was worked on."""
        self._gone += nbytes
        if self._gone >= self._every:
            self._gone = 0
            return_free_memory()


def return_free_memory() -> None:
    """Give back what allocators hold without a use: glibc's heaps (malloc_trim(3)) and Arrow's pool."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Budget:
    """How a limit is spent.

    Attributes
    ----------
    explicit : the limit that the user gave, or None
    chunk_bytes, most_chunk_bytes, block_bytes, sample_bytes : target sizes of chunks read, of those of large
        arrays (see `ReadOptions`), of blocks written, and of samples
        Functions of an explicit limit only, so that the plan and the start, and with them every bit of the result, are
        the same on a machine with more or less free memory.
    keep_bytes, pass_bytes : most that decoded chunks may take from pass to pass, which no bit depends on; and, unless
        these are all, together with what is in flight
    """

    explicit: int | None
    chunk_bytes: int
    most_chunk_bytes: int
    block_bytes: int
    sample_bytes: int
    keep_bytes: int
    pass_bytes: int

    @classmethod
    def of(cls, limit: str | int | float | None, chunk_bytes: str | int | float | None = None) -> Budget:
        """From the user's limit and chunk size; None for the defaults."""
        explicit = parse_bytes(limit)
        spread = explicit if explicit is not None else 2**40
        chunk = parse_bytes(chunk_bytes)
        return cls(
            explicit=explicit,
            chunk_bytes=chunk or _between(spread // 64, MIB // 4, DEFAULT_CHUNK_BYTES),
            most_chunk_bytes=chunk or _between(spread // 64, MIB // 4, MOST_CHUNK_BYTES),
            block_bytes=_between(spread // 32, MIB // 4, 32 * MIB),
            sample_bytes=_between(spread // 8, MIB // 4, 64 * MIB),
            keep_bytes=KEPT_BYTES if explicit is None else min(explicit, free_memory().nbytes // 2),
            pass_bytes=PASS_BYTES if explicit is None else explicit,
        )

    @property
    def kept_by_rule(self) -> int:
        """What decoded chunks may take from pass to pass at most, where a choice must not depend on the machine."""
        return KEPT_BYTES if self.explicit is None else self.explicit // 2

    @property
    def limit_bytes(self) -> int:
        """What a fit may take; half of what is free if the user gave no limit."""
        return self._free.nbytes // 2 if self.explicit is None else self.explicit

    @property
    def limit_of(self) -> str:
        """Where the limit comes from, in words."""
        return "memory_limit" if self.explicit is not None else f"half of what {self._free.of} leaves free"

    @cached_property
    def _free(self) -> FreeMemory:
        """What is free, looked up when it is first asked for: that takes longer than to predict a row."""
        return free_memory()


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


@dataclass(frozen=True)
class Projection:
    """What a run will hold at most, term by term, in bytes."""

    n_threads: int
    in_flight: int
    chunk: int
    loading: int
    workspace: int
    statistics: int
    levels: int
    sample: int
    result: int
    writing: int
    opened: int = 0
    kept: int = 0
    ahead: int = 0
    fetching: int = 0
    again: bool = False

    @property
    def terms(self) -> list[tuple[str, int]]:
        """Each term in words, and its bytes."""
        words = (
            *(f"{count} {what} × {format_bytes(size)}" for count, what, size in self._counted),
            "sample for the start",
            "result held in memory",
            "writing the result",
            "chunks or statistics in use by several",
            "decoded chunks kept for the next pass",
        )
        return list(zip(words, self._sizes, strict=True))

    @property
    def _counted(self) -> tuple[tuple[int, str, int], ...]:
        """Terms of which there are several: how many, of what, and the bytes of one."""
        readers = min(self.n_threads, self.in_flight)
        return (
            (readers, "chunks being read", self.loading),
            (self.in_flight - readers, "chunks in work", self.chunk),
            (self.n_threads, "workspaces", self.workspace),
            (self.in_flight + self.levels, "results of chunks", self.statistics),
            (self.ahead, "chunks fetched ahead", self.fetching),
        )

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Bytes of each term."""
        several = (count * size for count, _, size in self._counted)
        return (*several, self.sample, self.result, self.writing, self.opened, self.kept)

    @property
    def total(self) -> int:
        """Sum of all terms."""
        return sum(self._sizes)

    def explain(self) -> str:
        """The arithmetic, one term a line."""
        lines = [f"  {format_bytes(size):>12}  {words}" for words, size in self.terms if size]
        return "\n".join([*lines, f"  {format_bytes(self.total):>12}  in all"])


def project(
    refs: Sequence[ChunkRef],
    n_threads: int,
    workspace: int,
    statistics: int,
    sample: int = 0,
    result: int = 0,
    writing: int = 0,
    summed: bool = True,
    opened: int = 0,
) -> Projection:
    """The projection at full parallelism: twice as many chunks in flight as threads.

    `statistics` are the bytes that a chunk leaves behind; unless they are `summed`, they go when their turn comes.
    """
    ahead, fetching = _ahead(refs)
    return Projection(
        n_threads=n_threads,
        in_flight=2 * n_threads,
        chunk=max((ref.nbytes for ref in refs), default=0),
        loading=max((ref.load_nbytes for ref in refs), default=0),
        workspace=workspace,
        statistics=statistics,
        levels=len(refs).bit_length() if summed else 0,
        sample=sample,
        result=result,
        writing=writing,
        opened=opened,
        ahead=ahead,
        fetching=fetching,
    )


def _ahead(refs: Sequence[ChunkRef]) -> tuple[int, int]:
    """How many chunks to fetch ahead of the workers, by requests instead of cores, and the bytes of the largest."""
    told = [ref.fetches() for ref in refs]
    if not told or not all(requests for requests, _ in told):
        return 0, 0
    requests, large = (max(each) for each in zip(*told, strict=True))
    return max(1, min(len(refs), -(-REQUESTS_AHEAD // requests), max(4, AHEAD_BYTES // max(1, large)))), large


def shared_bytes(refs: Sequence[ChunkRef], n_threads: int) -> int:
    """Bytes of chunks to keep so that chunks which neighbours share are loaded once: one a thread, and one."""
    bases = [made_of for ref in refs if (made_of := ref.made_of)]
    shared = [own[0].nbytes for before, own in pairwise(bases) if before[-1].index == own[0].index]
    return (n_threads + 1) * max(shared, default=0)


def fit_into(projection: Projection, budget: Budget, origin: str) -> Projection:
    """Lower the numbers of chunks fetched ahead, in flight and of threads, in turn, until the projection fits.

    The result's bits never change.

    Raises
    ------
    MemoryLimitError : one chunk at a time is still too much; the message shows the arithmetic
    """
    if budget.explicit is None and projection.total <= UNASKED_BYTES:
        return projection
    # First by fetching less far ahead, which costs time only where all else is quick.
    for ahead in range(projection.ahead, 0, -1):
        if (less := replace(projection, ahead=ahead)).total <= budget.limit_bytes:
            return less
    projection = replace(projection, ahead=0)
    for in_flight in range(projection.in_flight, 0, -1):
        smaller = replace(projection, in_flight=in_flight, n_threads=min(projection.n_threads, in_flight))
        if smaller.total <= budget.limit_bytes:
            return smaller
    largest = max(smaller.terms, key=lambda term: term[1])[0]
    raise MemoryLimitError(
        f"reading {origin}: projected {format_bytes(smaller.total)} exceeds the allowed "
        f"{format_bytes(budget.limit_bytes)} ({budget.limit_of}) even with one chunk at a time:\n"
        f"{smaller.explain()}\n{_remedy(largest)}"
    )


def keeping(projection: Projection, refs: Sequence[ChunkRef], budget: Budget) -> Projection:
    """The projection with decoded chunks kept from pass to pass: all, or half of what the limit leaves."""
    sizes = [base.nbytes for base in _bases(refs) if is_decoded(base)]
    most = min((budget.limit_bytes - projection.total) // 2, budget.keep_bytes)
    if sum(sizes) > most:  # of large chunks those in flight take much, and few could be kept besides
        room = budget.pass_bytes - (projection.total - projection.sample)
        most = min(most, room if room >= max(sizes) else 0)
    return replace(projection, kept=min(sum(sizes), most), again=True)


def read_bytes(refs: Sequence[ChunkRef]) -> int:
    """Bytes of chunks that a pass reads or decodes, if they are not kept: rows of arrays in memory are none of them."""
    return sum(base.nbytes for base in _bases(refs) if base.paths or is_decoded(base.innermost))


def wants_order(refs: Sequence[ChunkRef]) -> bool:
    """Whether some chunks cost much more in another order than that of the plan."""
    return any(base.wants_order for base in _bases(refs))


def _bases(refs: Sequence[ChunkRef]) -> list[ChunkRef]:
    """The chunks of a plan, or those that they are made of, each once."""
    return list({base.index: base for ref in refs for base in ref.made_of or (ref,)}.values())


def _remedy(largest: str) -> str:
    if largest.startswith("result"):
        return "Pass out='….zarr' or '….parquet' to write the result chunk by chunk, or raise the memory limit."
    if largest.startswith("writing"):
        return "Write to a '….zarr' or '….npy', which take less than Parquet, or raise the memory limit."
    if "being read" in largest or "in work" in largest:
        return (
            "Storage units are read whole (Dask blocks; of Zarr, all chunks or shards that share positions of the "
            "first row axis), or in parts by a decoder that holds pages of every column (large Parquet row groups): "
            "rewrite the data with smaller ones (for Parquet, pyarrow.parquet.write_table(..., row_group_size=...); "
            "for Dask, x.rechunk({0: rows, 1: -1})), choose fewer columns, or raise the memory limit."
        )
    return (
        "Use fewer components, fewer columns or fewer categories, a simpler covariance_type where the model has one, "
        "or raise the memory limit."
    )
