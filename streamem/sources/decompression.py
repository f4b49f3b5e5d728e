"""Decompression that never takes more memory than what is decoded may be.

A few kilobytes can decompress to gigabytes, by damage or on purpose. What a stored chunk decodes to is known before: so
what a frame says of itself is checked before it is decoded, and what says nothing is decoded up to that size.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from streamem.core.errors import SourceError
from streamem.machine.importing import uninterrupted

ZSTD_MAGIC, SKIPPABLE_MAGIC = 0xFD2FB528, 0x184D2A50
ZSTD_BLOCK_NBYTES = 2**17
LZMA_NBYTES = 2**28
"""That the decoder may take for its dictionary: xz -9 needs a quarter of it."""


def most_encoded(nbytes: int) -> int:
    """Bytes that so many may take once they are encoded: codecs add little to what they cannot compress."""
    return nbytes + nbytes // 8 + 2**16


def decode_bounded(codec: Any, stored: Any, most: int) -> Any:
    """What a codec of numcodecs decodes bytes to.

    Parameters
    ----------
    codec : numcodecs.abc.Codec
        Bounded are blosc, bz2, gzip, lz4, lzma, zlib and zstd. Any other is called as it is.
    stored : contiguous buffer
    most : bytes that it may decode to

    Raises
    ------
    SourceError : it decodes to more, or not at all
    """
    decode = DECODERS.get(codec.codec_id)
    data = memoryview(stored).cast("B")
    try:
        return codec.decode(stored) if decode is None else decode(codec, data, most)
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # what libraries raise of bytes that their codec did not write
        raise SourceError(f"truncated or corrupt: {error}") from error


def require_fitting(key: str, nbytes: int, most: int) -> None:
    """Raise `SourceError` if a stored chunk is larger than one can be."""
    if nbytes > most:
        raise SourceError(f"stored chunk {key!r} is corrupt: it has {nbytes} bytes, more than the {most} it may take")


def _require(nbytes: int, most: int, codec: Any) -> None:
    name = codec.codec_id
    if nbytes > most:
        found = f"{nbytes} of" if nbytes > most + 1 else "more than"
        raise SourceError(f"truncated or corrupt: it holds {found} {most} bytes ({name})")


def _blosc(codec: Any, data: memoryview, most: int) -> Any:
    """A frame says how long its content (bytes 4–7) and it itself (12–15) are (c-blosc, README_CHUNK_FORMAT)."""
    needed = int.from_bytes(data[12:16], "little")
    if len(data) < max(16, needed):  # decoded, it would be continued by whatever lies behind it in memory
        raise SourceError(f"truncated: {len(data)} of {max(16, needed)} bytes")
    _require(int.from_bytes(data[4:8], "little"), most, codec)
    return codec.decode(data)


def _lz4(codec: Any, data: memoryview, most: int) -> Any:
    """numcodecs puts the size of the content before the block."""
    _require(int.from_bytes(data[:4], "little"), most, codec)
    return codec.decode(data)


def _streamed(start: Callable[[Any], Any]) -> Callable[[Any, memoryview, int], bytes]:
    """Streams that follow each other, decoded piece by piece."""

    def decode(codec: Any, data: memoryview, most: int) -> bytes:
        pieces, left, rest = [], most + 1, data
        while len(rest):
            stream = start(codec)
            pieces.append(stream.decompress(rest, left))
            left -= len(pieces[-1])
            if left <= 0:
                _require(most + 1, most, codec)
            if not stream.eof:
                raise EOFError("the stream has no end")
            rest = memoryview(stream.unused_data.lstrip(b"\0"))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    return decode


def _lzma_stream(codec: Any) -> lzma.LZMADecompressor:
    if codec.format == lzma.FORMAT_RAW:
        return lzma.LZMADecompressor(codec.format, filters=codec.filters)
    return lzma.LZMADecompressor(codec.format, LZMA_NBYTES)


@dataclass(frozen=True)
class ZstdFrame:
    """What a frame says of its content in bytes, if it does, and the most that its blocks can hold."""

    content: int | None
    bound: int


def zstd_frames(data: memoryview) -> Iterator[ZstdFrame]:
    """The frames of zstd data, as far as they are whole (RFC 8878, sections 3.1.1 and 3.1.2)."""
    at = 0
    while at + 5 <= len(data):
        magic = int.from_bytes(data[at : at + 4], "little")
        if magic & ~0xF == SKIPPABLE_MAGIC:
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            continue
        if magic != ZSTD_MAGIC:
            return
        descriptor = data[at + 4]
        single = descriptor >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
        width = (single, 2, 4, 8)[descriptor >> 6]
        content = int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0) if width else None
        bound, at = _zstd_blocks(data, at + width)
        at += 4 * (descriptor >> 2 & 1)
        yield ZstdFrame(content, bound)


def _zstd_blocks(data: memoryview, at: int) -> tuple[int, int]:
    """The most that the blocks of a frame decode to, and where they end."""
    bound, last = 0, 0
    while not last and at + 3 <= len(data):
        head = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        bound += ZSTD_BLOCK_NBYTES if kind == 2 else size
        at += 3 + (1 if kind == 1 else size)
    return bound, at


def _zstd(codec: Any, data: memoryview, most: int) -> Any:
    frames = list(zstd_frames(data))
    if len(frames) == 1 and frames[0].content is not None:
        _require(frames[0].content, most, codec)
    elif sum(frame.bound for frame in frames) > most:
        with uninterrupted("pyarrow"):
            import pyarrow as pa  # numcodecs decodes such frames up to any size

        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            decoded: bytes = stream.read(most + 1)
        _require(len(decoded), most, codec)
        return decoded
    return codec.decode(data)


DECODERS: dict[str, Callable[[Any, memoryview, int], Any]] = {
    "blosc": _blosc,
    "lz4": _lz4,
    "zstd": _zstd,
    "gzip": _streamed(lambda codec: zlib.decompressobj(16 + zlib.MAX_WBITS)),
    "zlib": _streamed(lambda codec: zlib.decompressobj()),
    "bz2": _streamed(lambda codec: bz2.BZ2Decompressor()),
    "lzma": _streamed(_lzma_stream),
}
