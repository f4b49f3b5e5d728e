"""NATS JetStream, on a real server: its laws, crashes, what is gone, who may read."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from helpers.forked import exit_code
from helpers.nats_server import NatsServer, nats_server
from streamem import GaussianMixture
from streamem.cli import main
from streamem.conformance import StreamSuite
from streamem.core.errors import MissingDependencyError, ParameterError, StreamError
from streamem.core.message import Message
from streamem.online.append_only_arrow import read_appended
from streamem.streams import nats, nats_link, open_stream
from streamem.streams.nats import NatsStream
from streamem.streams.opening import open_broker

pytestmark = pytest.mark.brokers

DEADLINE_S, WORD = 30.0, "hunter2hunter2"
ARRAYS = ("weights_", "means_", "covariances_")
X = np.random.default_rng(0).normal(size=(600, 2)) + 5.0 * np.random.default_rng(1).integers(2, size=(600, 1))


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def server(running: NatsServer) -> NatsServer:
    running.make("S")
    return running


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What is logged is kept; no thread stays."""
    caplog.set_level(logging.INFO, logger="streamem")
    yield
    assert "streamem-nats" not in {thread.name for thread in threading.enumerate()}


def record(row: Any) -> bytes:
    return json.dumps({"a": row[0], "b": row[1]}).encode()


def records(x: NDArray[np.float64]) -> list[bytes]:
    return [record(row) for row in x.tolist()]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % i for i in range(start, stop)]


class Reader:
    """A running stream, with deadlines."""

    def __init__(self, stream: Any, position: Any = None) -> None:
        self.messages = stream.messages({} if position is None else {"": position})

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.messages.close()

    def take(self, count: int) -> list[Message]:
        taken: list[Message] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(taken) < count:
            assert time.monotonic() < deadline, f"only {len(taken)} of {count} came"
            if (message := next(self.messages)) is not None:
                taken.append(message)
        return taken


def position_after(server: NatsServer, count: int, **options: Any) -> Any:
    with Reader(NatsStream(server.where, "S", **options)) as reader:
        return reader.take(count)[-1].after


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


def bits(model: Any) -> list[bytes]:
    return [getattr(model, name).tobytes() for name in ARRAYS]


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laws(running: NatsServer) -> str:
    """Where a stream is that has messages of other subjects, and from which some were deleted."""
    running.make("LAWS")
    for part in (X[:10], X[10:25]):
        running.send("LAWS", *records(part))
        running.send("LAWS", b"another", subject="y")
    running.delete("LAWS", [3, 14])
    return running.where


class TestNats(StreamSuite):
    expected, starts = 23, 4

    @pytest.fixture(autouse=True)
    def _fill(self, laws: str) -> None:
        self.where = laws

    def make_stream(self) -> NatsStream:
        return NatsStream(self.where, "LAWS", subject="LAWS.x")


def test_messages_in_order_and_the_lag(server: NatsServer) -> None:
    server.send("S", *numbers(0, 2500))  # three pulls
    stream = NatsStream(server.where, "S")
    assert stream.lag({}) is None  # nobody was asked yet
    with Reader(stream) as reader:
        taken = reader.take(2500)
        assert next(reader.messages) is None
        server.send("S", b"late", headers={"kind": "late"})
        (late,) = reader.take(1)
        assert late.headers == (("kind", b"late"),)
        assert (stream.lag({}), stream.lag({"": taken[11].after}), stream.lag({"": late.after})) == (2501, 2489, 0)
    assert payloads(taken) == numbers(0, 2500)
    assert [message.at for message in taken[1:]] == [message.after for message in taken[:-1]]
    again = NatsStream(server.where, "S")
    with Reader(again, taken[999].after) as reader:
        assert payloads(reader.take(1)) == [b"1000"]
        assert again.lag({"": taken[999].after}) == 1501
    assert (stream.name, stream.replayable) == ("nats:S", True)
    assert server.ask(lambda context: context.consumers_info("S")) == []  # none is left behind


def test_subjects_and_the_end(server: NatsServer) -> None:
    server.send("S", *numbers(0, 3))
    server.send("S", b"other", subject="y.z")
    with Reader(open_stream(f"nats://{server.where}/S?subject=S.y.*")) as reader:
        assert payloads(reader.take(1)) == [b"other"]
        assert next(reader.messages) is None
    with Reader(NatsStream(server.where, "S", start="end")) as reader:
        assert next(reader.messages) is None
        server.send("S", b"new")
        (message,) = reader.take(1)
    assert (message.payload, message.after["sequence"], message.after["read"]) == (b"new", 5, 1)


def test_markers_of_deleted_keys_are_no_records(server: NatsServer) -> None:
    server.send("S", b"[1, 2]")
    server.send("S", b"", headers={"KV-Operation": "DEL"})
    server.send("S", b"")
    with Reader(NatsStream(server.where, "S")) as reader:
        assert payloads(reader.take(3)) == [b"[1, 2]", None, b""]


def test_what_waits_is_bounded_in_bytes(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_link, "FETCH_BYTES", 10_000)
    sizes = [3000] * 10 + [50_000, 3000]  # one is larger than all that is asked for
    server.send("S", *(b"x" * size for size in sizes))
    fetched: list[int] = []
    fetch = nats_link.Link.fetch

    def counted(self: Any) -> Any:
        time.sleep(0.02)  # meanwhile what may come comes
        found = fetch(self)
        fetched.append(sum(len(one.data) for one in found))
        return found

    monkeypatch.setattr(nats_link.Link, "fetch", counted)
    with Reader(NatsStream(server.where, "S")) as reader:
        assert [len(message.payload) for message in reader.take(12)] == sizes
    assert max(size for size in fetched if size != 50_000) <= 10_000


# --- crashes ---------------------------------------------------------------------------------------------------------


def test_a_server_killed_in_the_middle(server: NatsServer, tmp_path: Path) -> None:
    sent = records(X)
    sent[300] = b"nonsense"
    server.send("S", *sent[:400])
    killed: list[int] = []

    def kill(update: Any) -> None:
        if update.rows >= 150 and not killed:
            killed.append(update.rows)
            server.kill()
            server.start()
            server.send("S", *sent[400:])

    gm = GaussianMixture(2, random_state=0)
    gm.on_update(kill)
    files = {"checkpoint": tmp_path / "live.npz", "dead_letter": tmp_path / "bad.arrows"}
    gm.fit_stream(f"nats://{server.where}/S", batch_rows=50, until=550, **files)
    clean = np.delete(X, 300, axis=0)
    assert bits(gm) == bits(GaussianMixture(2, random_state=0).fit_stream([clean[:550]], batch_rows=50))
    assert killed == [150]
    (letter,) = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert (json.loads(letter["position"])["sequence"], letter["payload"]) == (300, b"nonsense")  # it comes after 300


def die_before_commit(where: str, checkpoint: Path) -> None:
    """Learn, and end after the third save."""
    left = [3]

    def dies(self: NatsStream, positions: Any) -> None:
        left[0] -= 1
        if not left[0]:
            os._exit(9)

    NatsStream.commit = dies  # type: ignore[method-assign]
    learned(where, checkpoint, save_every_s=0.0)


def learned(where: str, checkpoint: Path, **settings: Any) -> GaussianMixture:
    given = {"batch_rows": 50, "half_life": 400, "checkpoint": checkpoint, **settings}
    return GaussianMixture(2, random_state=0).fit_stream(f"nats://{where}/S", **given)


def test_a_reader_killed_behind_a_save_goes_on_with_equal_bits(server: NatsServer, tmp_path: Path) -> None:
    server.send("S", *records(X))
    whole = learned(server.where, tmp_path / "whole.npz", until=600)
    assert exit_code(die_before_commit, server.where, tmp_path / "live.npz") == 9
    known = GaussianMixture.load(tmp_path / "live.npz").report_.n_rows
    assert known == 150
    resumed = learned(server.where, tmp_path / "live.npz", until=600 - known)
    assert bits(resumed) == bits(whole)
    assert WORD not in str(resumed.stream_positions_)


def test_patience_ends(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.send("S", b"1")
    monkeypatch.setattr(nats_link, "ANSWER_S", 1.0)
    with Reader(NatsStream(server.where, "S", patience_s=0.3)) as reader:
        reader.take(1)
        server.kill()
        with pytest.raises(StreamError, match=r"nats:S: no NATS server .*127.0.0.1:\d+ for 0.3 s.*patience_s="):
            reader.take(1)
    monkeypatch.setattr(nats, "START_S", 0.2)
    where = f"nats://:{WORD}@{server.where}"
    with Reader(NatsStream(where, "S")) as reader, pytest.raises(StreamError, match="for 0.2 s") as failure:
        reader.take(1)
    assert WORD not in str(failure.value)
    server.start()


# --- what is gone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("below", "lost"), [(61, ""), (62, "messages 61 to 61"), (101, "messages 61 to 100")])
def test_purged_before_they_were_read(server: NatsServer, below: int, lost: str) -> None:
    server.send("S", *numbers(0, 100))
    position = position_after(server, 60)
    server.purge("S", below)
    with Reader(NatsStream(server.where, "S"), position) as reader:
        if not lost:
            assert payloads(reader.take(40)) == numbers(60, 100)
            return
        with pytest.raises(
            StreamError, match=rf"after message 60, .* begins with {below}: {lost} were purged.*max_age"
        ):
            reader.take(1)


def test_purged_while_reading(server: NatsServer) -> None:
    server.send("S", *numbers(0, 10))
    with Reader(NatsStream(server.where, "S")) as reader:
        assert len(reader.take(10)) == 10
        server.kill()  # so that nobody reads
        server.start()
        server.send("S", *numbers(10, 40))
        server.purge("S", 31)
        with pytest.raises(StreamError, match="messages 11 to 30 were purged or expired"):
            reader.take(1)


def test_a_slow_reader_is_overtaken(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pulls of one consumer, limits of the stream remove what nobody has read."""
    monkeypatch.setattr(nats_link, "FETCH", 5)
    server.make("S", max_msgs=10)
    with Reader(NatsStream(server.where, "S")) as reader:
        server.send("S", *numbers(0, 5))
        assert len(reader.take(5)) == 5
        server.send("S", *numbers(5, 50))
        with pytest.raises(StreamError, match="messages 6 to 40 were purged or expired"):
            reader.take(6)


def test_deleted_ones_are_passed_over(server: NatsServer) -> None:
    server.send("S", *numbers(0, 20))
    position = position_after(server, 5)
    server.delete("S", [5, 9, 10])  # the one read last, too
    with Reader(NatsStream(server.where, "S"), position) as reader:
        taken = reader.take(13)
    assert [message.after["sequence"] for message in taken] == [6, 7, 8, *range(11, 21)]
    assert [message.after["read"] for message in taken] == list(range(6, 19))


def test_of_a_subject_what_was_purged_is_told(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    server.send("S", b"first")
    position = position_after(server, 1, subject="S.x")
    server.send("S", *numbers(0, 10), subject="y")
    server.send("S", b"second")
    server.purge("S", 8)
    with Reader(NatsStream(server.where, "S", subject="S.x"), position) as reader:
        assert payloads(reader.take(1)) == [b"second"]
    assert caplog.text.count("messages 2 to 7 were purged or expired before they were looked at") == 1


@pytest.mark.parametrize(("more", "told"), [(3, "up to number 3: it was made anew"), (30, "message 5, read last, is")])
def test_a_stream_made_anew(server: NatsServer, more: int, told: str) -> None:
    server.send("S", *numbers(0, 5))
    position = position_after(server, 5)
    server.make("S")
    server.send("S", *numbers(0, more))
    with Reader(NatsStream(server.where, "S"), position) as reader, pytest.raises(StreamError, match=told):
        reader.take(1)


# --- who may read, and what ------------------------------------------------------------------------------------------


def test_streams_that_cannot_be_read(server: NatsServer) -> None:
    with Reader(NatsStream(server.where, "ABSENT")) as reader, pytest.raises(StreamError, match="no stream 'ABSENT'"):
        reader.take(1)
    server.make("WORK", retention="workqueue")
    with Reader(NatsStream(server.where, "WORK")) as reader, pytest.raises(StreamError, match="retention 'workqueue'"):
        reader.take(1)


SEED, PUBLIC = (
    "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
)
"""A pair of keys from the documentation of NATS."""


def test_a_login_by_key(tmp_path: Path) -> None:
    pytest.importorskip("nkeys", reason="no keys of NATS: pip install 'nats-py[nkeys]'")
    users = f"{{ user: me, password: {WORD} }}, {{ nkey: {PUBLIC} }}"
    with nats_server(tmp_path, f"authorization {{ users: [ {users} ] }}\n") as server:
        server.login = {"user": "me", "password": WORD}
        server.make("S")
        server.send("S", b"1")
        with Reader(NatsStream(server.where, "S", settings={"nkeys_seed_str": SEED})) as reader:
            assert payloads(reader.take(1)) == [b"1"]


def test_logins(tmp_path: Path) -> None:
    users = f"""
        {{ user: me, password: {WORD} }},
        {{ user: other, password: {WORD}, permissions: {{ publish: "x" }} }},
        {{ user: third, password: {WORD}, permissions: {{ publish: {{ deny: "$JS.API.CONSUMER.MSG.>" }} }} }},
    """
    with nats_server(tmp_path, f"authorization {{ users: [ {users} ] }}\n") as server:
        server.login = {"user": "me", "password": WORD}
        server.make("S")
        server.send("S", b"1")
        with Reader(open_stream(f"nats://me:{WORD}@{server.where}/S")) as reader:
            assert payloads(reader.take(1)) == [b"1"]
        for login in ("", f"me:{WORD}not@", f"{WORD}@", f"other:{WORD}@", f"third:{WORD}@"):
            stream = open_stream(f"nats://{login}{server.where}/S")
            with (
                Reader(stream) as reader,
                pytest.raises(StreamError, match=r"refuses: .*([Aa]uthoriz|permissions)") as no,
            ):
                reader.take(1)
            assert WORD not in str(no.value)


def test_addresses_and_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Any = open_stream(f"nats://me:{WORD}@a:1,b:2/S?subject=S.%3E")
    assert (opened.name, opened._servers) == ("nats:S?subject=S.>", ["nats://a:1", "nats://b:2"])
    assert opened._settings == {"user": "me", "password": WORD}
    for address in ("nats://host/S", "redis://host/key", "kafka://host/topic"):
        assert open_broker(address, "end")._start == "end"  # type: ignore[attr-defined]
    for address in ("nats://host", "nats:///S", "nats://host/S?subject="):
        with pytest.raises(ParameterError, match="no stream of JetStream; write"):
            open_stream(address)
    for address in ("nats://host/S?from=end", "redis://host/key?start=end", "kafka://host/topic?x=1"):
        with pytest.raises(ParameterError, match="behind its question mark"):
            open_stream(address)
    with pytest.raises(ParameterError, match="'a.b' is no name"):
        NatsStream("host", "a.b")
    for subject in ("a..b", "", "a.>.b", "a b", ".a", ">.a"):
        with pytest.raises(ParameterError, match="is no subject such as"):
            NatsStream("host", "S", subject=subject)
    with pytest.raises(ParameterError, match="'middle'"):
        NatsStream("host", "S", start="middle")
    with pytest.raises(ParameterError, match="allow_reconnect"):
        NatsStream("host", "S", settings={"allow_reconnect": True})
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(MissingDependencyError, match=r"streamem\[nats\]"):
        NatsStream("host", "S")


def test_on_the_command_line(server: NatsServer, tmp_path: Path) -> None:
    server.send("S", *records(X[:200]))
    address = f"nats://{server.where}/S"
    options = ["-k", "2", "--seed", "0", "--batch-rows", "50", "--until-rows", "200", "--columns", "a,b"]
    done = CliRunner().invoke(main, ["update", str(tmp_path / "live.npz"), address, *options])
    assert "200 rows learned, 200 in all" in done.output
    assert bits(GaussianMixture.load(tmp_path / "live.npz")) == bits(
        GaussianMixture(2, random_state=0).fit_stream([X[:200]], batch_rows=50)
    )
