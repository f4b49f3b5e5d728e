"""Redis streams, on a real redis-server."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from streamem.core.errors import MissingDependencyError, ParameterError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Stream
from streamem.streams import redis
from streamem.streams.redis import RedisStream
from streamem.streams.redis_places import Extent, Place

pytestmark = pytest.mark.brokers

DEADLINE_S = 30.0
BINARY = shutil.which("redis-server")
needs_server = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A redis-server that can be stopped, damaged and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.where = f"127.0.0.1:{self.port}"
        self.client = redis_py.Redis(port=self.port)
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1"]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen([str(BINARY), *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                assert self.client.ping()
                return
            except redis_py.ConnectionError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline

    def stop(self) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def add(self, *records: Mapping[Any, Any], key: str = "s", **options: Any) -> list[str]:
        pipeline = self.client.pipeline()
        for record in records:
            pipeline.xadd(key, dict(record), **options)
        return [id_.decode() for id_ in pipeline.execute()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="streamem")


class Reader:
    """A running stream, with deadlines."""

    def __init__(self, stream: RedisStream, position: Any = None) -> None:
        self.messages = stream.messages({} if position is None else {"": position})

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.messages.close()

    def step(self) -> Message | None:
        return next(self.messages)

    def take(self, count: int) -> list[Message]:
        taken: list[Message] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(taken) < count:
            assert time.monotonic() < deadline, f"only {len(taken)} of {count} came"
            if (message := self.step()) is not None:
                taken.append(message)
        return taken


def numbers(start: int, stop: int) -> list[dict[str, int]]:
    return [{"x": i} for i in range(start, stop)]


def xs(messages: list[Message]) -> list[float]:
    return [message.payload["x"] for message in messages]


@needs_server
def test_the_lag_is_what_was_added_since(server: Server) -> None:
    server.add(*numbers(0, 30))
    stream = RedisStream(server.where, "s")
    assert stream.lag({}) is None  # nobody was asked yet
    with Reader(stream) as reader:
        taken = reader.take(20)
        assert stream.lag({"": taken[11].after}) == 18
        assert stream.lag({}) == 30
        server.add(*numbers(30, 35))
        assert stream.lag({"": taken[-1].after}) == 15


def position_after(server: Server, count: int, **options: Any) -> Any:
    with Reader(RedisStream(server.where, "s", **options)) as reader:
        return reader.take(count)[-1].after


@needs_server
def test_entries_in_order_from_any_position(server: Server) -> None:
    ids = server.add(*numbers(0, 3000))
    stream = RedisStream(server.where, "s")
    assert isinstance(stream, Stream)
    assert (stream.name, stream.replayable) == ("redis:s", True)
    with Reader(stream) as reader:
        whole = reader.take(3000)
        assert reader.step() is None
    assert xs(whole) == list(range(3000))
    assert [m.after["id"] for m in whole] == ids
    assert [m.after["entries"] for m in whole] == list(range(1, 3001))
    assert [m.at for m in whole] == [{"id": "0-0", "entries": 0}] + [m.after for m in whole[:-1]]
    for first in (0, 1, 15, 16, 17, 1500, 2999):
        with Reader(RedisStream(server.where, "s"), whole[first].at) as reader:
            assert [(m.payload, m.at, m.after) for m in reader.take(3000 - first)] == [
                (m.payload, m.at, m.after) for m in whole[first:]
            ]
            assert reader.step() is None
    stream.commit({"": whole[-1].after})


@needs_server
def test_silence_and_late_entries(server: Server) -> None:
    with Reader(RedisStream(server.where, "s")) as reader:
        for number in range(3):
            start = time.monotonic()
            assert reader.step() is None
            assert 0.3 < time.monotonic() - start < 2
            server.add({"x": number})
            assert xs(reader.take(1)) == [number]


@needs_server
def test_from_the_end_on(server: Server) -> None:
    server.add(*numbers(0, 5))
    with Reader(RedisStream(server.where, "s", start="end")) as reader:
        assert reader.step() is None
        (id_,) = server.add({"x": 5})
        (message,) = reader.take(1)
    assert (message.payload, message.after) == ({"x": 5.0}, {"id": id_, "entries": 6})
    with Reader(RedisStream(server.where, "absent", start="end")) as reader:
        assert reader.step() is None
        server.add({"x": 1}, key="absent")
        assert xs(reader.take(1)) == [1]


@needs_server
def test_payloads(server: Server) -> None:
    entries: list[dict[Any, Any]] = [
        {"data": b"\xff\x00"},
        {"arrow": b"a"},
        {"json": b"{}"},
        {"a": "1.5", "b": "-2e3", "data": "nan"},
        {"a": "warm", "b": "1_000", "c": b"\xff"},
    ]
    server.add(*entries)
    with Reader(RedisStream(server.where, "s")) as reader:
        payloads = [m.payload for m in reader.take(5)]
    assert payloads[:3] == [b"\xff\x00", b"a", b"{}"]
    assert payloads[3] == {"a": 1.5, "b": -2000.0, "data": pytest.approx(float("nan"), nan_ok=True)}
    assert payloads[4] == {"a": "warm", "b": "1_000", "c": "\ufffd"}
    with Reader(RedisStream(server.where, "s", field="a")) as reader:
        assert [m.payload for m in reader.take(5)] == [b"", b"", b"", b"1.5", b"warm"]


@needs_server
@pytest.mark.parametrize(("limit", "count"), [(100_000, 3), (10, 1)])
def test_reads_are_bounded_in_bytes(server: Server, monkeypatch: pytest.MonkeyPatch, limit: int, count: int) -> None:
    monkeypatch.setattr(redis, "BATCH_BYTES", limit)
    server.add(*({"data": b"x" * 30_000} for _ in range(40)))
    stream = RedisStream(server.where, "s")
    with Reader(stream) as reader:
        reader.take(40)
    assert stream._count == count


@needs_server
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_of_ones_own(server: Server, protocol: Any) -> None:
    server.add(*numbers(0, 3))
    client = redis_py.Redis(port=server.port, protocol=protocol, socket_timeout=0.4)
    with Reader(RedisStream("", "s", client=client)) as reader:
        assert xs(reader.take(3)) == [0, 1, 2]
        assert reader.step() is None
    assert client.ping()
    client.close()
    decoding = redis_py.Redis(port=server.port, decode_responses=True)
    with pytest.raises(ParameterError, match="decode_responses=False"):
        RedisStream("", "s", client=decoding)
    decoding.close()


@needs_server
@pytest.mark.parametrize("where", ["redis://127.0.0.1:{}/0", "127.0.0.1:{}"])
def test_addresses(server: Server, where: str) -> None:
    server.add({"x": 1})
    with Reader(RedisStream(where.format(server.port), "s")) as reader:
        assert xs(reader.take(1)) == [1]


def test_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="'middle'"):
        RedisStream("localhost", "s", start="middle")
    with pytest.raises(ParameterError, match="host:port"):
        next(RedisStream("localhost:six", "s").messages({}))
    with pytest.raises(ParameterError, match="host:port"):
        next(RedisStream("http://localhost", "s").messages({}))
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDependencyError, match=r"streamem\[redis\]"):
        RedisStream("localhost", "s")


# --- servers that stop -----------------------------------------------------------------------------------------------


@needs_server
def test_a_restart_in_the_middle(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.add(*numbers(0, 100))
    with Reader(RedisStream(server.where, "s")) as reader:
        taken = reader.take(40)
        server.stop()
        while (message := reader.step()) is not None:
            taken.append(message)  # what was fetched before
        assert "trying again" in caplog.text
        server.start()
        server.add(*numbers(100, 150))
        taken += reader.take(150 - len(taken))
        assert reader.step() is None
    assert xs(taken) == list(range(150))
    assert [m.after["entries"] for m in taken] == list(range(1, 151))
    assert "is there again" in caplog.text


@needs_server
def test_patience_ends(server: Server) -> None:
    server.add({"x": 1})
    with Reader(RedisStream(server.where, "s", patience_s=0.5)) as reader:
        reader.take(1)
        server.stop()
        with pytest.raises(StreamError, match=r"redis:s: no Redis server at 127.0.0.1:\d+ for 0.5 s.*patience_s="):
            reader.take(1)
    server.start()


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "START_S", 0.3)
    reader = Reader(RedisStream(f"127.0.0.1:{free_port()}", "s"))
    with reader, pytest.raises(StreamError, match="no Redis server at .* for 0.3 s"):
        reader.take(1)


@needs_server
def test_what_is_no_stream_or_not_allowed(server: Server) -> None:
    server.client.set("s", "text")
    with Reader(RedisStream(server.where, "s")) as reader, pytest.raises(StreamError, match=r"refuses: .*WRONGTYPE"):
        reader.take(1)
    server.client.config_set("requirepass", "secret")
    with (
        Reader(RedisStream(server.where, "s")) as reader,
        pytest.raises(StreamError, match=r"refuses: .*authenticat"),
    ):
        reader.take(1)
    address = f"redis://:wrong@{server.where}"
    with Reader(RedisStream(address, "s")) as reader, pytest.raises(StreamError, match="refuses") as failure:
        reader.take(1)
    assert "wrong@" not in str(failure.value)
    server.client.close()
    server.client = redis_py.Redis(port=server.port, password="secret")
    server.client.config_set("requirepass", "")


# --- entries that are gone -------------------------------------------------------------------------------------------


@needs_server
@pytest.mark.parametrize(("kept", "lost"), [(41, 0), (40, 0), (39, 1), (5, 35), (0, 40)])
def test_trimmed_before_they_were_read(server: Server, kept: int, lost: int) -> None:
    server.add(*numbers(0, 100))
    position = position_after(server, 60)
    server.client.xtrim("s", maxlen=kept, approximate=False)
    with Reader(RedisStream(server.where, "s"), position) as reader:
        if not lost:
            assert xs(reader.take(40)) == list(range(60, 100))
            return
        with pytest.raises(StreamError, match=rf"after entry {position['id']}.* {lost} entries after it were trimmed"):
            reader.take(1)


@needs_server
def test_trimmed_while_reading(server: Server) -> None:
    server.add(*numbers(0, 10))
    with Reader(RedisStream(server.where, "s")) as reader:
        assert xs(reader.take(10)) == list(range(10))
        server.add(*numbers(10, 40), maxlen=20, approximate=False)
        with pytest.raises(StreamError, match="10 entries after it were trimmed"):
            reader.take(1)


@needs_server
def test_trimmed_before_the_first_was_read(server: Server) -> None:
    server.add(*numbers(0, 50), maxlen=20, approximate=False)
    with Reader(RedisStream(server.where, "s")) as reader:
        taken = reader.take(20)
        server.add(*numbers(50, 60), maxlen=10, approximate=False)
        assert xs(taken + reader.take(10)) == list(range(30, 60))
    assert taken[0].at == {"id": "0-0", "entries": 30}


@needs_server
def test_read_entries_may_go(server: Server) -> None:
    """By MINID, by name, or all."""
    ids = server.add(*numbers(0, 30))
    position = position_after(server, 10)
    server.client.xdel("s", *ids[:10])
    with Reader(RedisStream(server.where, "s"), position) as reader:
        assert xs(reader.take(20)) == list(range(10, 30))
        server.client.xtrim("s", maxlen=0)
        assert reader.step() is None
        server.add(*numbers(30, 33))
        assert xs(reader.take(3)) == [30, 31, 32]


@needs_server
def test_the_last_one_deleted_by_name(server: Server) -> None:
    ids = server.add(*numbers(0, 30))
    position = position_after(server, 10)
    server.client.xdel("s", ids[9])
    with Reader(RedisStream(server.where, "s"), position) as reader:
        assert xs(reader.take(20)) == list(range(10, 30))


@needs_server
@pytest.mark.parametrize("more", [0, 8])
def test_a_lost_tail(server: Server, more: int) -> None:
    server.add(*numbers(0, 20))
    server.client.bgrewriteaof()
    deadline = time.monotonic() + DEADLINE_S
    while server.client.info("persistence")["aof_rewrite_in_progress"]:
        assert time.monotonic() < deadline
    server.add(*numbers(20, 25))
    position = position_after(server, 25)
    server.stop()
    tails = sorted(server.folder.glob("appendonlydir/*.incr.aof"))
    tails[-1].write_bytes(b"")  # as after a power cut without fsync
    server.start()
    assert server.client.xlen("s") == 20
    server.add(*numbers(30, 30 + more))
    with Reader(RedisStream(server.where, "s"), position) as reader, pytest.raises(StreamError, match="newest entries"):
        reader.take(1)


@needs_server
def test_a_deleted_stream(server: Server) -> None:
    server.add(*numbers(0, 20))
    position = position_after(server, 5)
    server.client.delete("s")
    with Reader(RedisStream(server.where, "s"), position) as reader, pytest.raises(StreamError, match="was deleted"):
        reader.take(1)


@needs_server
def test_a_stream_that_was_made_anew(server: Server) -> None:
    """With more entries than were read of the one before, all of them later than those."""
    server.add(*numbers(0, 20))
    position = position_after(server, 5)
    server.client.delete("s")
    server.add(*numbers(0, 30))
    with (
        Reader(RedisStream(server.where, "s"), position) as reader,
        pytest.raises(StreamError, match=r"the stream was deleted and made anew\. .*another name="),
    ):
        reader.take(1)
    with Reader(RedisStream(server.where, "s", name="s of today")) as reader:
        assert xs(reader.take(30)) == list(range(30))


def test_what_an_older_server_does_not_tell() -> None:
    """Redis 6 says neither how many entries were added nor which were deleted."""
    place = Place("5-0", None)
    assert Extent(3, "2-0", "9-0").lost(place) is None
    assert Extent(0, None, "5-0").lost(place) is None
    assert Extent(3, "6-0", "9-0").lost(place) == ""
    for extent in (Extent(0, None, "9-0"), Extent(3, "1-0", "4-0"), Extent()):
        assert extent.lost(place)
    assert Extent.of({"length": 1, "first-entry": (b"1-0", {}), "last-generated-id": b"1-0"}).anchor().entries is None


@needs_server
def test_an_older_server_is_warned_of(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.add(*numbers(0, 100))
    position = position_after(server, 60) | {"entries": None}
    server.client.xtrim("s", maxlen=10, approximate=False)
    with Reader(RedisStream(server.where, "s"), position) as reader:
        assert xs(reader.take(10)) == list(range(90, 100))
        assert reader.step() is None
    assert caplog.text.count("was trimmed; whether others") == 1
