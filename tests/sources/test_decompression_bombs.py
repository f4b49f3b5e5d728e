"""What a stored chunk decompresses to is bounded before it is decompressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from helpers import subprocess_jobs
from streamem import GaussianMixture, ReadOptions, open_source
from streamem.core import parquet_pages
from streamem.core.errors import MemoryLimitError, SourceError
from streamem.core.message import Damaged
from streamem.sources.decompression import decode_bounded, zstd_frames
from streamem.streams.folder import FolderStream

MIB = 2**20
BOMB, PAGE = 256 * MIB, 96 * MIB
ROWS = np.random.default_rng(0).normal(size=(1000, 4)).astype("f4")


def zstd_bomb(nbytes: int = BOMB) -> bytes:
    """A frame that states its content, all of it in blocks that repeat a byte (RFC 8878)."""
    count = nbytes // 2**17
    blocks = [(2**17 << 3 | 2 | (i == count - 1)).to_bytes(3, "little") + b"\0" for i in range(count)]
    return b"\x28\xb5\x2f\xfd" + bytes([2 << 6, 0x80]) + nbytes.to_bytes(4, "little") + b"".join(blocks)


def unstated_zstd_bomb() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        for _ in range(BOMB // MIB):
            file.write(bytes(MIB))
    return bytes(sink.getvalue().to_pybytes())


def many(encode: Callable[[bytes], bytes]) -> bytes:
    return encode(bytes(BOMB // 64)) * 64


def blosc_bomb() -> bytes:
    return bytes(numcodecs.Blosc("zstd").encode(np.zeros(BOMB, "u1")))


def zlib_bomb() -> bytes:
    packing = zlib.compressobj(1)
    return b"".join(packing.compress(bytes(MIB)) for _ in range(BOMB // MIB)) + packing.flush()


def lz4_bomb() -> bytes:
    return bytes(numcodecs.LZ4().encode(np.zeros(BOMB, "u1")))


def array(path: Path, chunk: bytes | None, **settings: Any) -> str:
    """A store of one chunk, which is replaced."""
    kept = {"shape": ROWS.shape, "chunks": ROWS.shape, "dtype": "f4", "zarr_format": 3, **settings}
    zarr.create_array(path, **kept)[:] = ROWS
    if chunk is not None:
        (path / ("c/0/0" if kept["zarr_format"] == 3 else "0.0")).write_bytes(chunk)
    return str(path)


def shard(path: Path, chunk: bytes) -> str:
    index = np.array([0, len(chunk)], "<u8").tobytes()
    return array(path, chunk + bytes(numcodecs.CRC32C().encode(index)), shards=ROWS.shape, compressors=[ZstdCodec()])


def sparse(path: Path, **settings: Any) -> str:
    store = array(path, None, compressors=None, **settings)
    os.truncate(path / "c/0/0", BOMB)
    return store


def zipped(path: Path) -> str:
    store = array(path.with_suffix(".zarr"), None, compressors=None)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.write(f"{store}/zarr.json", "zarr.json")
        with file.open("c/0/0", "w") as member:
            for _ in range(BOMB // MIB):
                member.write(bytes(MIB))
    return str(path)


BOMBS: dict[str, Callable[[Path], str]] = {
    "zstd": lambda path: array(path, zstd_bomb()),
    "zstd, two frames": lambda path: array(path, zstd_bomb(2**17) + zstd_bomb()),
    "zstd, unstated": lambda path: array(path, unstated_zstd_bomb()),
    "zstd, inner chunk of a shard": lambda path: shard(path, zstd_bomb()),
    "zstd, checksum behind": lambda path: array(
        path, bytes(numcodecs.CRC32C().encode(zstd_bomb())), compressors=[ZstdCodec(), Crc32cCodec()]
    ),
    "blosc": lambda path: array(path, blosc_bomb(), compressors=[BloscCodec()]),
    "blosc in zstd": lambda path: array(
        path, bytes(numcodecs.Zstd().encode(blosc_bomb())), compressors=[BloscCodec(), ZstdCodec()]
    ),
    "zstd for blosc": lambda path: array(path, zstd_bomb(), compressors=[BloscCodec(), ZstdCodec()]),
    "gzip": lambda path: array(path, many(gzip.compress), compressors=[GzipCodec()]),
    "zlib 2": lambda path: array(path, zlib_bomb(), zarr_format=2, compressors=numcodecs.Zlib()),
    "zstd 2": lambda path: array(path, zstd_bomb(), zarr_format=2, compressors=numcodecs.Zstd()),
    "zstd as a filter": lambda path: array(
        path, zstd_bomb(), zarr_format=2, filters=[numcodecs.Zstd()], compressors=None
    ),
    "bz2": lambda path: array(path, many(bz2.compress), zarr_format=2, compressors=numcodecs.BZ2()),
    "lzma": lambda path: array(
        path, many(lambda data: lzma.compress(data, preset=0)), zarr_format=2, compressors=numcodecs.LZMA()
    ),
    "lz4": lambda path: array(path, lz4_bomb(), zarr_format=2, compressors=numcodecs.LZ4()),
    "a file of holes": sparse,
    "a file of holes, by Zarr": lambda path: sparse(path, serializer=BytesCodec(endian="big")),
    "zip": lambda path: zipped(path.with_suffix(".zip")),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    folder = tmp_path_factory.mktemp("bombs")
    paths = {make(folder / f"{i}.zarr"): name for i, (name, make) in enumerate(BOMBS.items())}
    good = array(folder / "good.zarr", None)
    found = subprocess_jobs.run("open_hostile", paths=[good, *paths])
    assert found[good][1] == "no error"
    return {paths[path]: tuple(outcome) for path, outcome in found.items() if path != good}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_unpacks(name: str, outcomes: dict[str, tuple[int, str]]) -> None:
    taken, error = outcomes[name]
    assert error.startswith("SourceError")
    assert "corrupt" in error
    assert taken < 60 * MIB


CODECS = {
    "zstd": numcodecs.Zstd(),
    "zstd with a checksum": numcodecs.Zstd(checksum=True),
    "blosc": numcodecs.Blosc(),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
    "raw lzma": numcodecs.LZMA(format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}]),
    "lz4": numcodecs.LZ4(),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [1, 255, 256, 200_000])
def test_what_fits_is_decoded_and_a_byte_more_is_not(name: str, size: int) -> None:
    data = np.random.default_rng(size).integers(0, 9, size).astype("u1")
    codec = CODECS[name]
    stored = codec.encode(data)
    assert bytes(decode_bounded(codec, stored, size)) == data.tobytes()
    with pytest.raises(SourceError, match=f"corrupt: it holds ({size} of|more than) {size - 1} bytes"):
        decode_bounded(codec, stored, size - 1)
    with pytest.raises(SourceError, match="truncated"):
        decode_bounded(codec, stored[: len(stored) // 2], size)


def test_frames_of_zstd_are_told_apart() -> None:
    codec = numcodecs.Zstd(checksum=True)
    data = np.random.default_rng(0).integers(0, 9, 300_000).astype("u1")
    frames = list(
        zstd_frames(memoryview(codec.encode(data) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + codec.encode(data[:9])))
    )
    assert [frame.content for frame in frames] == [300_000, 9]
    assert all(frame.bound > 0 for frame in frames)
    both = codec.encode(data) + codec.encode(data)
    assert bytes(decode_bounded(codec, both, 600_000)) == 2 * data.tobytes()
    with pytest.raises(SourceError, match="more than 599999 bytes"):
        decode_bounded(codec, both, 599_999)


def test_a_truncated_blosc_frame_within_a_shard_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    frame = bytes(numcodecs.Blosc(clevel=0, shuffle=0).encode(ROWS))
    index = np.array([0, len(frame) // 2], "<u8").tobytes()
    stored = frame[: len(frame) // 2] + bytes(numcodecs.CRC32C().encode(index))
    array(path, stored, shards=ROWS.shape, compressors=[BloscCodec()])
    with pytest.raises(SourceError, match="truncated"):
        open_source(str(path)).chunks()[0].load()


def parquet_bomb(path: Path, rows: int, nbytes: int = PAGE, **settings: Any) -> str:
    """The footer of a small file over the pages of a large one."""
    written = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, **settings}
    large, small = path.with_name("large.parquet"), path
    one_page = {"data_page_size": 2**30, "max_rows_per_page": 2**31 - 1}
    pq.write_table(pa.table({"a": np.zeros(nbytes // 8)}), large, row_group_size=nbytes // 8, **written, **one_page)
    pq.write_table(pa.table({"a": np.random.default_rng(0).normal(size=rows)}), small, **written)
    footers = [8 + int.from_bytes(each.read_bytes()[-8:-4], "little") for each in (large, small)]
    stored = small.read_bytes()
    pages = large.read_bytes()[: -footers[0]][: len(stored) - footers[1]]
    small.write_bytes(pages.ljust(len(stored) - footers[1], b"\0") + stored[-footers[1] :])
    large.unlink()
    return str(small)


@pytest.fixture(scope="module")
def parquet_outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    folder = tmp_path_factory.mktemp("parquet")
    pq.write_table(pa.table({"a": np.arange(1000.0)}), folder / "good.parquet")
    cases = {
        parquet_bomb(folder / "whole.parquet", 20_000): "whole",
        parquet_bomb(folder / "v2.parquet", 20_000, data_page_version="2.0"): "v2",
        parquet_bomb(folder / "parts.parquet", 2**20): "parts",
    }
    found = subprocess_jobs.run("open_hostile", paths=[str(folder / "good.parquet"), *cases])
    return {cases[path]: tuple(outcome) for path, outcome in found.items() if path in cases}


@pytest.mark.parametrize("name", ["whole", "v2", "parts"])
def test_a_page_of_parquet_is_refused_before_it_unpacks(
    name: str, parquet_outcomes: dict[str, tuple[int, str]]
) -> None:
    taken, error = parquet_outcomes[name]
    assert re.search(f"^SourceError: .*a page of column 'a' in row group 0, at byte 4, claims {PAGE // 1000}", error)
    assert taken < 60 * MIB


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", "lz4", "brotli", "none"])
def test_pages_of_every_kind_are_walked_to_their_end(codec: str, version: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "number": rng.normal(size=5000),
            "few": rng.integers(0, 5, 5000),
            "text": [f"{i:05}" * 500 for i in range(5000)],
            "null": pa.nulls(5000, pa.float32()),
            "list": pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=15000)), 3),
            "flag": rng.random(5000) < 0.5,
            "decimal": pa.array(np.arange(5000)).cast(pa.decimal128(38, 2)),
        }
    )
    path = str(tmp_path / "x.parquet")
    pq.write_table(table, path, compression=codec, data_page_version=version, row_group_size=2000, data_page_size=4096)
    footer = pq.ParquetFile(path).metadata
    with open(path, "rb", buffering=0) as file:
        for number in range(footer.num_row_groups):
            for column in map(footer.row_group(number).column, range(footer.num_columns)):
                pages = list(parquet_pages._pages(file, column))
                assert sum(nbytes for _, nbytes in pages) <= column.total_uncompressed_size
                assert len(pages) > 1 or column.total_uncompressed_size < 4200
            parquet_pages.require_modest_pages(path, footer, number, table.column_names)


def test_a_folder_stream_does_not_unpack_such_a_page(tmp_path: Path) -> None:
    parquet_bomb(tmp_path / "x.parquet", 20_000, 16 * MIB)
    (message,) = FolderStream(tmp_path, follow=False, patience_s=0).messages({})
    assert message is not None
    assert isinstance(message.payload, Damaged)
    assert "decompressed; the column has at most" in message.payload.reason


def arrow_bomb(path: Path, rows: int, codec: str) -> str:
    """A record batch of many zeros that says that it has few rows; its values lie where they should."""
    honest = pa.record_batch({"a": np.zeros(PAGE // 8), "b": np.zeros(PAGE // 8)})
    with pa.ipc.new_file(path, honest.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as file:
        file.write_batch(honest)
    if rows:
        raw = path.read_bytes()
        assert raw.count((PAGE // 8).to_bytes(8, "little")) >= 3  # the batch, and each column
        path.write_bytes(raw.replace((PAGE // 8).to_bytes(8, "little"), rows.to_bytes(8, "little")))
    return str(path)


def test_a_batch_of_an_arrow_file_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    feather.write_feather(pa.table({"a": np.arange(1000.0)}), tmp_path / "good.arrow", compression="zstd")
    paths = [arrow_bomb(tmp_path / f"{codec}.arrow", 2000, codec) for codec in ("zstd", "lz4")]
    found = subprocess_jobs.run("open_hostile", paths=[str(tmp_path / "good.arrow"), *paths])
    for path in paths:
        taken, error = found[path]
        assert "2000 rows in " in error
        assert f"claim to hold {2 * PAGE} bytes, decompressed, and at most 80192 can be" in error
        assert taken < 50 * MIB


def test_a_large_batch_that_is_what_it_says_is_projected_and_read(tmp_path: Path) -> None:
    path = arrow_bomb(tmp_path / "x.arrow", 0, "zstd")
    with pytest.raises(MemoryLimitError):
        GaussianMixture(1, memory_limit="100MiB").fit(path)
    (ref,) = open_source(path).chunks()
    assert ref.rows == PAGE // 8


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("rows", [0, 1, 7, 5000])
def test_sizes_of_honest_batches_of_every_kind_are_within_the_bound(rows: int, codec: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "number": rng.normal(size=rows),
            "flag": rng.random(rows) < 0.5,
            "null": pa.array([None] * rows, pa.float32()),
            "list": pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=3 * rows)), 3),
            "decimal": pa.array(np.arange(rows)).cast(pa.decimal128(38, 2)),
        }
    )
    for fields in (table, table.append_column("text", pa.array(["abc"] * rows, pa.string()))):
        feather.write_feather(fields, tmp_path / "x.arrow", compression=codec, chunksize=1000)
        source = open_source(str(tmp_path / "x.arrow"), options=ReadOptions(columns=("number", "list")))
        assert source.n_rows == rows
