"""Parts of Zarr shards far away: the index of a shard is read once and kept, then ranges of its inner chunks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import ShardingCodec

from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.object_requests import Fetched, Piece
from streamem.sources.decompression import most_encoded
from streamem.sources.ranges import in_requests, joined
from streamem.sources.zarr_far import FarObjects

KEPT_NBYTES = 2**25
"""Of indices of shards, 16 bytes an inner chunk: those of 2 TB in inner chunks of a megabyte."""

ABSENT = 2**64 - 1


@dataclass(frozen=True)
class Sharding:
    """How inner chunks lie in the shards of an array.

    Attributes
    ----------
    counts : inner chunks along each axis of a shard
    index_nbytes : of the index, 16 an inner chunk and perhaps a checksum
    at_end : whether it lies at the end of a shard, or at the beginning
    most : bytes that an inner chunk may take
    """

    counts: tuple[int, ...]
    index_nbytes: int
    at_end: bool
    most: int

    def index_of(self, key: str) -> Piece:
        """What to ask for an index."""
        return Piece(key, -self.index_nbytes) if self.at_end else Piece(key, 0, self.index_nbytes)

    def spans(self, index: Fetched, axis: int, within: slice) -> list[tuple[int, int]]:
        """Where the inner chunks lie whose numbers along an axis are `within`, sorted; absent ones lie nowhere.

        Raises
        ------
        SourceError : the index says what cannot be
        """
        described = np.frombuffer(index.content, "<u8", 2 * math.prod(self.counts)).reshape(*self.counts, 2)
        chosen = described[(slice(None),) * axis + (within,)].reshape(-1, 2)
        found = sorted((int(first), int(first) + int(size)) for first, size in chosen.tolist() if first != ABSENT)
        end = index.size or 2**63
        if any(stop > end or stop - first > self.most for first, stop in found):
            raise SourceError("the index of the shard is corrupt: it names bytes beyond its end, or too many")
        return found


def sharding_of(array: zarr.Array[Any]) -> Sharding | None:
    """How to read parts of an array's shards; None where there are none, or no parts of them can be read."""
    codecs: Any = getattr(array.metadata, "codecs", ())
    if array.shards is None or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    index_codecs = [type(codec).__name__ for codec in codecs[0].index_codecs]
    endian = getattr(codecs[0].index_codecs[0], "endian", None)
    if index_codecs not in (["BytesCodec"], ["BytesCodec", "Crc32cCodec"]):
        return None
    if getattr(endian, "value", endian) not in (None, "little"):
        return None
    counts = tuple(size // inner for size, inner in zip(array.shards, array.chunks, strict=True))
    location = codecs[0].index_location
    return Sharding(
        counts,
        16 * math.prod(counts) + 4 * (len(index_codecs) - 1),
        getattr(location, "value", location) == "end",
        most_encoded(math.prod(array.chunks) * array.dtype.itemsize),
    )


@dataclass(frozen=True, eq=False)
class HeldShard:
    """Parts of a shard in memory: its index, and some of the inner chunks.

    Attributes
    ----------
    index : the stored bytes
    at_end : where it lies
    starts, contents : where the other parts begin, in order, and their bytes
    """

    index: bytes | memoryview
    at_end: bool
    starts: tuple[int, ...]
    contents: tuple[bytes | memoryview, ...]

    def part(self, asked: ByteRequest | None) -> bytes | memoryview | None:
        """The bytes of a range; None where not all of them are here."""
        if isinstance(asked, SuffixByteRequest):
            return self.index if self.at_end and asked.suffix == len(self.index) else None
        if not isinstance(asked, RangeByteRequest):
            return None
        if not self.at_end and (asked.start, asked.end) == (0, len(self.index)):
            return self.index
        return self._between(asked.start, asked.end)

    def _between(self, first: int, stop: int) -> bytes | memoryview | None:
        pieces, number = [], bisect_right(self.starts, first) - 1
        while number >= 0 and first < stop:
            if number >= len(self.starts) or not self.starts[number] <= first:
                return None
            begin = first - self.starts[number]
            piece = memoryview(self.contents[number])[begin : begin + stop - first]
            if not len(piece):
                return None
            pieces.append(piece)
            first, number = first + len(piece), number + 1
        if number < 0:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Indices:
    """Indices of shards that this process has read, least recently used first out.

    Each is used for the version of its object alone that it was read from: requests of its chunks name the ETag.
    """

    def __init__(self) -> None:
        self._lock, self._nbytes = Lock(), 0
        self._known: OrderedDict[tuple[str, str], Fetched] = OrderedDict()
        self._coming: dict[tuple[str, str], Future[Fetched | None]] = {}

    def of(self, objects: FarObjects, sharding: Sharding, keys: Sequence[str]) -> dict[str, Fetched]:
        """The indices of those shards that are there; what several threads want is read by the first of them."""
        place, mine = f"{objects.store}/{objects.path}", list[str]()
        known: dict[str, Fetched] = {}
        coming: dict[str, Future[Fetched | None]] = {}
        with self._lock:
            for key in keys:
                if (place, key) in self._known:
                    self._known.move_to_end((place, key))
                    known[key] = self._known[place, key]
                    continue
                if (place, key) not in self._coming:
                    self._coming[place, key] = Future()
                    mine.append(key)
                coming[key] = self._coming[place, key]
        if mine:
            self._read(objects, sharding, place, mine, coming)
        return known | {key: index for key, future in coming.items() if (index := future.result()) is not None}

    def _read(
        self,
        objects: FarObjects,
        sharding: Sharding,
        place: str,
        keys: Sequence[str],
        coming: Mapping[str, Future[Fetched | None]],
    ) -> None:
        try:
            found = objects.read_pieces([sharding.index_of(key) for key in keys])
            for key, index in zip(keys, found, strict=True):
                if index is not None and len(index.content) != sharding.index_nbytes:
                    raise SourceError(f"stored chunk {key!r} is truncated: it is shorter than the index of a shard")
        except BaseException as error:
            self._end(place, keys)
            for key in keys:
                coming[key].set_exception(error)
            raise
        self._end(place, keys)
        for key, index in zip(keys, found, strict=True):
            if index is not None and index.etag:
                self._keep((place, key), index)
            coming[key].set_result(index)

    def _end(self, place: str, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                del self._coming[place, key]

    def _keep(self, name: tuple[str, str], index: Fetched) -> None:
        with self._lock:
            if name not in self._known:
                self._known[name] = index
                self._nbytes += len(index.content)
            while self._nbytes > KEPT_NBYTES:
                self._nbytes -= len(self._known.popitem(last=False)[1].content)

    def drop(self, objects: FarObjects, keys: Sequence[str]) -> bool:
        """Let go of indices; whether there were any."""
        names = [(f"{objects.store}/{objects.path}", key) for key in keys]
        with self._lock:
            gone = [self._known.pop(name) for name in names if name in self._known]
            self._nbytes -= sum(len(index.content) for index in gone)
        return bool(gone)


INDICES = _Indices()


def read_parts(objects: FarObjects, sharding: Sharding, axis: int, wanted: Mapping[str, slice]) -> dict[str, HeldShard]:
    """Inner chunks of those shards that are there: their indices at once, and then all ranges at once.

    Parameters
    ----------
    wanted : for each shard, by its key, the numbers along `axis` of the inner chunks

    Raises
    ------
    SourceChangedError : a shard was rewritten between the two
    SourceError : a shard is truncated or its index corrupt, or the store refuses
    """
    try:
        return _read(objects, sharding, axis, wanted)
    except SourceChangedError:
        if not INDICES.drop(objects, list(wanted)):  # else it may be data that was opened after it was rewritten
            raise
    return _read(objects, sharding, axis, wanted)


def _read(objects: FarObjects, sharding: Sharding, axis: int, wanted: Mapping[str, slice]) -> dict[str, HeldShard]:
    indices = INDICES.of(objects, sharding, list(wanted))
    pieces: list[Piece] = []
    for key, index in indices.items():
        try:
            spans = in_requests(joined(sharding.spans(index, axis, wanted[key])))
        except SourceError as error:
            raise SourceError(f"stored chunk {key!r}: {error}") from None
        pieces += [Piece(key, first, stop, index.etag) for first, stop in spans]
    found = objects.read_pieces(pieces)
    held: dict[str, HeldShard] = {}
    for key, index in indices.items():
        own = [each for piece, each in zip(pieces, found, strict=True) if piece.key == key and each is not None]
        starts = tuple(each.first for each in own)
        held[key] = HeldShard(index.content, sharding.at_end, starts, tuple(each.content for each in own))
    return held
