"""Records that nobody expects, on every way into a model: put aside, passed over or refused, and never its end."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from streamem import GaussianMixture, open_source
from streamem.core.errors import SourceError, StreamError
from streamem.core.message import Message
from streamem.online.append_only_arrow import read_appended
from streamem.online.records import Decoder
from streamem.streams.byte_stream import ByteStream
from streamem.streams.folder import FolderStream
from streamem.streams.kafka_lane import Lane
from streamem.streams.redis import RedisStream

X = np.random.default_rng(0).normal(size=(400, 2))
RECORDS = [{"a": a, "b": b} for a, b in X.tolist()]
LINES = [json.dumps(record).encode() for record in RECORDS]
Opened = Callable[[str, bytes], Any]
DEEP = b"[" * 10**6


def learned(stream: Any, folder: Path, **settings: Any) -> tuple[GaussianMixture, list[Any]]:
    gm = GaussianMixture(2, random_state=0).fit_stream(stream, dead_letter=folder / "bad.arrows", **settings)
    return gm, read_appended(folder / "bad.arrows").to_pylist()


def bits(gm: GaussianMixture) -> tuple[bytes, ...]:
    return gm.weights_.tobytes(), gm.means_.tobytes()


@pytest.fixture(scope="module")
def whole() -> tuple[bytes, ...]:
    return bits(GaussianMixture(2, random_state=0).fit_stream([X]))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Makes a stream of bytes, on the way that is asked for."""
    with ExitStack() as closing:

        def make(way: str, data: bytes) -> Any:
            if way == "object":
                return io.BytesIO(data)
            if way == "pipe":
                read, write = os.pipe()
                threading.Thread(target=_written, args=(os.fdopen(write, "wb"), data)).start()
                return closing.enter_context(os.fdopen(read, "rb"))
            if way == "socket":
                server = socket.create_server(("127.0.0.1", 0))
                threading.Thread(target=_sent, args=(server, data)).start()
                return f"tcp://127.0.0.1:{server.getsockname()[1]}"
            (tmp_path / "x.data").write_bytes(data)
            return tmp_path / "x.data"

        yield make


def _written(file: Any, data: bytes) -> None:
    with file:
        file.write(data)


def _sent(server: socket.socket, data: bytes) -> None:
    with server, server.accept()[0] as connection:
        connection.sendall(data)


# --- what no parser takes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["file", "pipe", "object", "socket", "messages", "text"])
def test_a_last_line_of_a_million_brackets(way: str, opened: Opened, tmp_path: Path, whole: Any) -> None:
    if way in ("messages", "text"):
        stream: Any = [*LINES, DEEP] if way == "messages" else [*LINES, DEEP.decode()]
    else:
        stream = opened(way, b"\n".join([*LINES, DEEP]))
    gm, letters = learned(stream, tmp_path)
    assert bits(gm) == whole
    if way == "file":  # which may not be complete yet
        assert letters == []
        return
    (letter,) = letters
    assert "JSON of 1000000 levels" in letter["reason"]
    assert letter["payload"] == DEEP


def test_depth_is_that_of_the_json_and_not_of_its_texts() -> None:
    decoder = Decoder(["a"], None, None)
    brackets = json.dumps({"a": 1.0, "t": '"[\\' * 1000}).encode()
    assert len(decoder.decode(brackets).x) == 1
    assert len(decoder.decode(b"[" + brackets + b"," + brackets + b"]").x) == 2
    assert len(decoder.decode(json.dumps([{"a": 1.0, "t": [i]} for i in range(3000)]).encode()).x) == 3000
    (bad,) = decoder.decode(b'{"a": 1, "t": ' + b"[" * 500 + b"]" * 500 + b"}").unusable
    assert "JSON of 501 levels; at most 500" in bad.reason


def test_a_raised_recursion_limit_does_not_end_the_process() -> None:
    code = (
        "import sys; sys.setrecursionlimit(10**7); from streamem.online.records import Decoder; "
        "print(Decoder(None, None, None).decode(b'[' * 10**6).unusable[0].reason)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "1000000 levels" in done.stdout


def test_a_line_that_is_too_long_is_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any) -> None:
    monkeypatch.setattr("streamem.streams.byte_stream.LARGEST_LINE_BYTES", 200)
    long = b'{"a": 1, "b": 2, "c": "' + b"x" * (200 - 23) + b"[1.5, 2.5]" * 40 + b'"}'
    data = b"\n".join([*LINES[:100], long, *LINES[100:]]) + b"\n"
    gm, letters = learned(ByteStream(io.BytesIO(data)), tmp_path)
    assert bits(gm) == whole
    assert letters[0]["reason"].startswith(f"a line of {len(long) + 1} bytes; at most 200")
    assert letters[0]["position"] == "100"
    assert len(letters) == 1


def test_a_message_of_too_much_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamem.core.json_text.MOST_JSON_BYTES", 100)
    (bad,) = Decoder(None, None, None).decode(b"[" + b"1," * 60 + b"1 ]").unusable
    assert "124 bytes of JSON; at most 100" in bad.reason


def circular() -> list[Any]:
    """Dicts and lists that hold themselves, or nest too deeply, or have keys that are no text."""
    inside: dict[Any, Any] = {"a": 1.0}
    inside["b"] = inside
    around: list[Any] = [1.0]
    around.append(around)
    deep: Any = 1.0
    for _ in range(100_000):
        deep = [deep]
    return [inside, around, [around], [inside, inside], {"a": deep, "b": 1.0}, deep, {"a": {(1, 2): 3}, "b": 1.0}]


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


def test_records_that_hold_themselves(tmp_path: Path, whole: Any) -> None:
    strange = [*circular(), {"a": Unspeakable(), "b": 1.0}]
    records = RECORDS[:100] + strange + RECORDS[100:]
    gm, letters = learned(iter(records), tmp_path)
    assert bits(gm) == whole
    assert len(letters) == 9  # [inside, inside] are two
    assert all(letter["payload"] for letter in letters)


@pytest.mark.parametrize("way", ["file", "pipe", "messages", "text", "objects"])
def test_halves_of_surrogate_pairs(way: str, opened: Opened, tmp_path: Path, whole: Any) -> None:
    strange = [{"a": "\ud800", "b": 1.0}, {"\udcff": 1.0, "b": 2.0}, {"a": {"\udfff": "\ud800"}, "b": 2.0}]
    lines = [*LINES[:100], *(json.dumps(one).encode() for one in strange), *LINES[100:]]
    if way == "objects":
        stream: Any = [*RECORDS[:100], *strange, *RECORDS[100:]]
    elif way == "messages":
        stream = lines
    elif way == "text":
        stream = [*(line.decode() for line in lines), '{"a": "\ud800", "b": 1}']
    else:
        stream = opened(way, b"\n".join(lines) + b"\n")
    gm, letters = learned(stream, tmp_path, checkpoint=tmp_path / "m.npz")
    assert bits(gm) == whole
    assert len(letters) == (4 if way == "text" else 3)


def test_names_that_no_file_takes_are_no_features(tmp_path: Path) -> None:
    records = [{"\udcff": 1.0, "b": 2.0}, *RECORDS]
    gm, letters = learned(iter([records]), tmp_path, checkpoint=tmp_path / "m.npz")
    assert gm.feature_names_in_.tolist() == ["a", "b"]
    assert len(letters) == 1
    assert bits(GaussianMixture.load(tmp_path / "m.npz")) == bits(gm)


# --- byte order marks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["file", "pipe", "object", "socket", "messages"])
def test_a_byte_order_mark_costs_no_record(way: str, opened: Opened, tmp_path: Path, whole: Any) -> None:
    marked = [codecs.BOM_UTF8 + LINES[0], *LINES[1:200], codecs.BOM_UTF8 + LINES[200], *LINES[201:]]
    stream = marked if way == "messages" else opened(way, b"\n".join(marked) + b"\n")
    gm, letters = learned(stream, tmp_path)
    assert letters == []
    assert bits(gm) == whole


def test_a_file_of_a_mark_and_blank_lines() -> None:
    decoder = Decoder(None, None, None)
    for text in (codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\n", b" \r\n"):
        assert decoder.decode(text).count == 0
    assert decoder.decode(b"").count == 1


# --- messages that hold nothing --------------------------------------------------------------------------------------


class Queue:
    """A stream of the messages of a Kafka partition, as its lane gives them."""

    name, replayable = "queue", True

    def __init__(self, *values: bytes | None) -> None:
        self._values = values

    def messages(self, positions: Any) -> Any:
        lane = Lane(0, positions.get("0"))
        for offset, value in enumerate(self._values):
            if offset >= (lane.offset or 0):
                lane.put(Fetched(value, offset))
                yield lane.take()

    def commit(self, positions: Any) -> None:
        """Nobody to tell."""


class Fetched:
    def __init__(self, value: bytes | None, offset: int) -> None:
        self.value, self.offset, self.headers = lambda: value, lambda: offset, lambda: None


def test_tombstones_are_passed_over_and_counted(tmp_path: Path, whole: Any) -> None:
    values = [None, *LINES[:150], None, None, *LINES[150:], None]
    gm = GaussianMixture(2, random_state=0).fit_stream(Queue(*values))
    assert bits(gm) == whole
    assert gm.report_.events == {"tombstones": 4}
    assert "4 tombstones (messages without a value) were passed over" in str(gm.report_)
    for stop in (120, 152, 300, len(values)):
        kept = GaussianMixture(2, random_state=0).fit_stream(
            Queue(*values[:stop]), checkpoint=tmp_path / "m.npz", batch_rows=50, save_every_s=0.0
        )
    assert kept.report_.events == {"tombstones": 4}
    assert GaussianMixture.load(tmp_path / "m.npz").report_.events == {"tombstones": 4}
    assert kept.report_.n_rows == 400
    assert kept.partial_fit(pa.table({"a": X[:, 0], "b": X[:, 1]})).report_.events == {"tombstones": 4}


def test_an_empty_value_is_no_tombstone(tmp_path: Path) -> None:
    gm, letters = learned(Queue(*LINES, b""), tmp_path)
    assert gm.report_.events == {}
    assert len(letters) == 1


def test_redis_knows_no_tombstones() -> None:
    stream = RedisStream("localhost", "k", field="x")
    assert stream._payload({b"y": b"1"}) == b""
    assert Message(None, "", 0, 1).payload is None


# --- other formats ---------------------------------------------------------------------------------------------------


def foreign() -> dict[str, tuple[bytes, str]]:
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    sinks: dict[str, Any] = {name: io.BytesIO() for name in ("parquet", "orc", "npy", "csv")}
    pq.write_table(table, sinks["parquet"])
    orc.write_table(table, sinks["orc"])
    np.save(sinks["npy"], X)
    np.savetxt(sinks["csv"], X, delimiter=",", header="a,b", comments="")
    lines = b"\n".join(LINES)
    return {
        "Parquet": (sinks["parquet"].getvalue(), "iter_batches()"),
        "ORC": (sinks["orc"].getvalue(), "format='orc'"),
        "NumPy": (sinks["npy"].getvalue(), "numpy.load"),
        "CSV": (sinks["csv"].getvalue(), "pandas.read_csv(path, chunksize=10_000)"),
        "CSV without a header": (b"1.5,2.5\n3.5,4.5\n", "pandas.read_csv"),
        "CSV with tabs": (b"a\tb\n1\t2\n", "pyarrow.csv.open_csv(path)"),
        "CSV with a mark": (codecs.BOM_UTF8 + b"a;b\n1;2\n", "pandas.read_csv"),
        "gzip": (gzip.compress(lines), "gzip.open(path, 'rb')"),
        "bzip2": (bz2.compress(lines), "bzcat FILE |"),
        "UTF-16": (lines.decode().encode("utf-16"), "write UTF-8"),
    }


@pytest.mark.parametrize("name", foreign())
@pytest.mark.parametrize("way", ["file", "pipe", "object", "socket"])
def test_other_formats_are_named_with_what_reads_them(name: str, way: str, opened: Opened, tmp_path: Path) -> None:
    data, remedy = foreign()[name]
    with pytest.raises(StreamError) as caught:
        learned(opened(way, data), tmp_path)
    assert f"holds {name.partition(' with')[0]}" in str(caught.value)
    assert remedy in str(caught.value)


def test_other_formats_in_messages(tmp_path: Path, whole: Any) -> None:
    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1.0]}), table)
    gm, letters = learned([*LINES, table.getvalue().to_pybytes(), gzip.compress(LINES[0])], tmp_path)
    assert bits(gm) == whole
    assert [one["reason"].split(",")[0] for one in letters] == ["the message is Parquet", "the message is gzip"]


def test_other_formats_on_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamem", "update", "m.npz", "-", "-k", "2"],
        input=gzip.compress(b"\n".join(LINES)), cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert b"standard input holds gzip" in done.stderr
    assert b"zcat FILE |" in done.stderr


def test_what_the_remedies_say_works(tmp_path: Path, whole: Any) -> None:
    with gzip.open(tmp_path / "x.gz", "wb") as file:
        file.write(b"\n".join(LINES) + b"\n")
    with gzip.open(tmp_path / "x.gz", "rb") as stream:
        assert bits(learned(stream, tmp_path)[0]) == whole
    for packed in ("zstd", "lz4"):
        with pa.output_stream(tmp_path / "x.data", compression=packed) as file:
            file.write(b"\n".join(LINES) + b"\n")
        with pytest.raises(StreamError, match=rf"pyarrow.input_stream\(path, compression='{packed}'\)"):
            learned(tmp_path / "x.data", tmp_path)
        with pa.input_stream(tmp_path / "x.data", compression=packed) as stream:
            assert bits(learned(stream, tmp_path)[0]) == whole
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert bits(learned(pq.ParquetFile(tmp_path / "x.parquet").iter_batches(), tmp_path)[0]) == whole
    pa.csv.write_csv(table, tmp_path / "x.csv")
    assert bits(learned(pa.csv.open_csv(tmp_path / "x.csv"), tmp_path)[0]) == whole


def test_a_damaged_file_object_is_a_stream_error(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"\n".join(LINES)))
    data[40] ^= 255
    with pytest.raises(StreamError, match="byte stream cannot be read: "):
        learned(gzip.GzipFile(fileobj=io.BytesIO(bytes(data))), tmp_path)


def test_a_text_that_begins_with_something_else_is_still_read(tmp_path: Path, whole: Any) -> None:
    for first in (b"started, 5 workers", b"a,b", b"nonsense", b"ARROW"):
        gm, letters = learned(io.BytesIO(b"\n".join([first, *LINES])), tmp_path)
        assert bits(gm) == whole
        assert letters[-1]["payload"].strip() == first


# --- names of files --------------------------------------------------------------------------------------------------


def test_a_file_whose_name_is_no_text(tmp_path: Path, whole: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    name = os.fsdecode(b"\xff.parquet")
    with open(folder / name, "wb") as file:
        pq.write_table(table, file, row_group_size=100)
    with open(folder / os.fsdecode(b"\xfe.parquet"), "wb") as file:
        file.write(b"PAR1 is not all")
    settings: dict[str, Any] = {"checkpoint": tmp_path / "m.npz", "batch_rows": 50, "columns": ["a", "b"]}
    for until in (150, 400):
        stream = FolderStream(folder, follow=False, patience_s=0.0)
        gm, letters = learned(stream, tmp_path, until=until, **settings)
    assert gm.report_.n_rows == 400
    assert all("\\udcfe.parquet" in letter["reason"] for letter in letters)
    with pytest.raises(SourceError, match="names that are no UTF-8.*rename"):
        open_source(folder)
    with pytest.raises(SourceError, match="names that are no UTF-8.*rename"):
        open_source(folder / name)
    with open(folder / os.fsdecode(b"\xff.arrow"), "wb") as file:
        feather.write_feather(table, file, compression="uncompressed")
    np.testing.assert_array_equal(open_source(folder / os.fsdecode(b"\xff.arrow")).chunks()[0].load().x, X)
