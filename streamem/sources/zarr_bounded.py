"""Codecs of a Zarr array that refuse what would decode to more than a chunk."""

from __future__ import annotations

import asyncio
import copy
import math
from dataclasses import dataclass
from typing import Any

import zarr
from numcodecs import get_codec
from numcodecs.abc import Codec as Numcodec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer

from streamem.core.errors import SourceError
from streamem.sources.decompression import DECODERS, decode_bounded, most_encoded

WIDER = 8
"""Times that filters may make an array larger: int8 as float64."""


def bounded_metadata(array: zarr.Array[Any]) -> Any:
    """The metadata of an array, with codecs that decompress no more than its chunks hold.

    The codecs that numcodecs and Zarr have are bounded; others, and those of another pipeline, are left as they are.
    """
    metadata: Any = copy.copy(array.metadata)
    if metadata.zarr_format == 2:
        most = most_encoded(math.prod(metadata.chunks) * array.dtype.itemsize) * (WIDER if metadata.filters else 1)
        filters = metadata.filters and tuple(_bounded_numcodec(codec, most) for codec in metadata.filters)
        object.__setattr__(metadata, "filters", filters)
        object.__setattr__(metadata, "compressor", _bounded_numcodec(metadata.compressor, most))
    else:
        object.__setattr__(metadata, "codecs", tuple(map(_bounded, metadata.codecs)))
    return metadata


def most_stored(array: zarr.Array[Any]) -> int:
    """The most bytes that may lie under one key: a chunk, or a shard with its index and what its chunks add."""
    shape = array.shards or array.chunks
    inner = math.prod(-(-size // chunk) for size, chunk in zip(shape, array.chunks, strict=True))
    wider = WIDER if array.filters else 1
    return wider * most_encoded(math.prod(shape) * array.dtype.itemsize) + 2**12 * (inner - 1)


class BoundedNumcodec(Numcodec):
    """A codec of format 2 that decodes to at most so many bytes."""

    def __init__(self, codec: Any, most: int) -> None:
        self.codec, self.most, self.codec_id = codec, most, codec.codec_id

    def encode(self, buf: Any) -> Any:
        """Encode as the wrapped codec does."""
        return self.codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode as the wrapped codec does; raise `SourceError` where more than the bound would come out."""
        return _decoded(self.codec, buf, self.most)

    def get_config(self) -> Any:
        """The wrapped codec's own answer."""
        return self.codec.get_config()


def _decoded(codec: Any, stored: Any, most: int) -> Any:
    try:
        return decode_bounded(codec, stored, most)
    except SourceError as error:
        raise SourceError(f"a stored chunk is {error}") from error


def _bounded_numcodec(codec: Any, most: int) -> Any:
    return BoundedNumcodec(codec, most) if getattr(codec, "codec_id", None) in DECODERS else codec


@dataclass(frozen=True)
class BoundedCodec(BytesBytesCodec):
    """A codec of format 3 that decodes to little more than the array that its metadata describe."""

    inner: Any
    codec: Any
    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        """The wrapped codec's own answer."""
        configuration: dict[str, Any] = self.inner.to_dict()
        return configuration

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """The wrapped codec's own answer."""
        return int(self.inner.compute_encoded_size(input_byte_length, chunk_spec))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        itemsize = chunk_spec.dtype.to_native_dtype().itemsize
        most = most_encoded(math.prod(chunk_spec.shape) * itemsize)
        decoded = await asyncio.to_thread(_decoded, self.codec, chunk_bytes.as_numpy_array(), most)
        return chunk_spec.prototype.buffer.from_bytes(decoded)


class BoundedSharding(ShardingCodec):
    """Shards whose inner chunks are bounded, in other processes too."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _bounded, (ShardingCodec.from_dict(self.to_dict()),)


def _bounded(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return BoundedSharding(
            chunk_shape=codec.chunk_shape,
            codecs=tuple(map(_bounded, codec.codecs)),
            index_codecs=codec.index_codecs,
            index_location=codec.index_location,
        )
    known = _numcodec_of(codec) if isinstance(codec, BytesBytesCodec) else None
    return codec if known is None or known.codec_id not in DECODERS else BoundedCodec(codec, known)


def _numcodec_of(codec: Any) -> Any:
    """The codec of numcodecs that decodes the bytes; None for a codec that is not in the table."""
    for kind, name in ((ZstdCodec, "zstd"), (BloscCodec, "blosc"), (GzipCodec, "gzip")):
        if isinstance(codec, kind):
            return get_codec({"id": name})
    found = getattr(codec, "_codec", None)
    return found if isinstance(found, Numcodec) else None
