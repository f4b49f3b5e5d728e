"""Formats that are no stream of records, recognized by their first bytes, and the calls that read them."""

from __future__ import annotations

import re

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Of UTF-8; some programs begin every text with it."""

_UNPACK = "it is compressed: unpack it on the way, with {0} as the stream, or in a shell with `{1} FILE |`"
_PARQUET = (
    "pass its path to fit(), the folder that holds it to fit_stream(), or pyarrow.parquet.ParquetFile(path)"
    ".iter_batches() as the stream"
)
_CSV = "pass pandas.read_csv(path, chunksize=10_000) as the stream, or pyarrow.csv.open_csv(path)"

FORMATS = (
    (b"PAR1", "Parquet", _PARQUET),
    (b"\x1f\x8b", "gzip", _UNPACK.format("gzip.open(path, 'rb')", "zcat")),
    (b"\x28\xb5\x2f\xfd", "zstd", _UNPACK.format("pyarrow.input_stream(path, compression='zstd')", "zstdcat")),
    (b"\x04\x22\x4d\x18", "lz4", _UNPACK.format("pyarrow.input_stream(path, compression='lz4')", "lz4cat")),
    (b"BZh", "bzip2", _UNPACK.format("bz2.open(path, 'rb')", "bzcat")),
    (b"\xfd7zXZ", "xz", _UNPACK.format("lzma.open(path, 'rb')", "xzcat")),
    (b"PK\x03\x04", "zip", "unpack it first"),
    (b"\x93NUMPY", "NumPy", "pass its path to fit(), or numpy.load(path) to partial_fit()"),
    (b"\x89HDF", "HDF5 or netCDF", "open it with xarray.open_dataset(path, chunks={}) and pass that to fit()"),
    (b"CDF\x01", "netCDF", "open it with xarray.open_dataset(path, chunks={}) and pass that to fit()"),
    (b"CDF\x02", "netCDF", "open it with xarray.open_dataset(path, chunks={}) and pass that to fit()"),
    (b"ORC", "ORC", "pass pyarrow.dataset.dataset(path, format='orc') to fit()"),
    (b"FEA1", "Feather version 1", "pass pyarrow.feather.read_table(path) to fit()"),
    (b"Obj\x01", "Avro", "read its records with fastavro.reader(file) and pass that as the stream"),
)
SCHEMA_HEADER = "__value_schema_id"
"""Of a message, with the id of its schema, where that is not at the start of the payload."""
REGISTRY = (
    "pass decoder=RegistryDecoder(url) of streamem.streams.registry to fit_stream(), on the command line "
    "--schema-registry URL"
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SEPARATOR = re.compile(rb"[,;\t]")
"""Of the columns of a text."""


def foreign_format(start: bytes) -> str | None:
    """The format in words, and what reads it, if bytes begin one that is neither Arrow nor JSON; else None."""
    for magic, name, remedy in FORMATS:
        if start.startswith(magic):
            return _told(name, remedy)
    if start.startswith(_UTF_16) and b"\0" in start[2:4]:
        return _told("UTF-16 text", "write UTF-8; open(path, encoding='utf-16') reads lines for json.loads")
    return None


def registry_frame(payload: bytes) -> str | None:
    """What begins like a message framed by a schema registry (0, an id of 4 bytes; or 1, one of 16), in words."""
    if payload[:2] == b"\0\0" and len(payload) > 5:
        told = f"schema id {int.from_bytes(payload[1:5], 'big')}"
    elif payload[:1] == b"\1" and len(payload) > 17:
        told = f"schema {payload[1:17].hex()}"
    else:
        return None
    return f"framed by a schema registry ({told}), by its first bytes, which are neither JSON nor Arrow: {REGISTRY}"


def table_of_text(first: bytes, second: bytes) -> str | None:
    """A message if the first two lines of a text are CSV (equally many separators, no JSON); else None."""
    separators = [SEPARATOR.findall(line) for line in (first, second)]
    if any(line.lstrip()[:1] in (b"{", b"[") for line in (first, second)) or not separators[0]:
        return None
    return _told("CSV", _CSV) if not second.strip() or len(separators[0]) == len(separators[1]) else None


def _told(name: str, remedy: str) -> str:
    return f"{name}, which is no stream of Arrow record batches or lines of JSON: {remedy}"
