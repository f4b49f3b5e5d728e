"""fit_stream and ``streamem update`` on Kafka (protocol mock) and a real Redis: crashes, restarts, two consumers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_kafka import SESSION, MockCluster
from test_redis import Server, needs_server

from helpers import hostile_arrow
from helpers.forked import exit_code
from streamem import GaussianMixture
from streamem.conformance import StreamSuite
from streamem.online.append_only_arrow import read_appended
from streamem.streams.kafka import KafkaStream
from streamem.streams.redis import RedisStream

pytestmark = pytest.mark.brokers

N, DEADLINE_S = 3000, 60.0
ARRAYS = ("weights_", "means_", "covariances_")
X = np.random.default_rng(0).normal(size=(N, 2)) + 5.0 * np.random.default_rng(1).integers(2, size=(N, 1))


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def record(row: Any) -> bytes:
    return json.dumps({"a": row[0], "b": row[1]}).encode()


def arrow(rows: Any) -> bytes:
    table = pa.table({"b": rows[:, 1], "a": rows[:, 0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def fill(cluster: MockCluster, x: Any = X) -> None:
    """JSON on one partition, Arrow of 70 rows a message on the other, a tombstone and nonsense between them."""
    cluster.create("t", 2)
    half = len(x) // 3
    cluster.send("t", 0, *map(record, x[: half // 2]), None, b"nonsense", *map(record, x[half // 2 : half]))
    cluster.send("t", 1, *(arrow(x[start : min(start + 70, len(x))]) for start in range(half, len(x), 70)))


def bits(model: Any) -> list[bytes]:
    return [getattr(model, name).tobytes() for name in ARRAYS]


def learned(stream: Any, folder: Path, **settings: Any) -> GaussianMixture:
    folder.mkdir(exist_ok=True)
    files = {"checkpoint": folder / "live.npz", "dead_letter": folder / "bad.arrows"}
    gm = GaussianMixture(2, random_state=0)
    return gm.fit_stream(stream, batch_rows=110, half_life=1500, **{**files, **settings})


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestKafka(StreamSuite):
    expected = 23

    @pytest.fixture(autouse=True)
    def _fill(self, cluster: MockCluster) -> None:
        cluster.create("laws", 2)
        for partition, values in enumerate((X[:14], X[14 : self.expected])):
            cluster.send("laws", partition, *map(record, values))
        self.servers = cluster.servers

    def make_stream(self) -> KafkaStream:
        return KafkaStream(self.servers, "laws")


@needs_server
class TestRedis(StreamSuite):
    expected = 23

    @pytest.fixture(autouse=True)
    def _fill(self, server: Server) -> None:
        server.add(*({"a": a, "b": b} for a, b in X[: self.expected].tolist()), key="laws")
        self.where = server.where

    def make_stream(self) -> RedisStream:
        return RedisStream(self.where, "laws")


def die_before_commit(servers: str, folder: Path, count: int) -> None:
    """Learn, and end after so many positions were committed: the next one is saved, not committed."""
    left = [count]

    def dies(self: KafkaStream, positions: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)

    KafkaStream.commit = dies  # type: ignore[method-assign]
    learned(KafkaStream(servers, "t"), folder, save_every_s=0.0, until=10**9)


def test_kafka_killed_between_save_and_commit_gives_the_same_bits(cluster: MockCluster, tmp_path: Path) -> None:
    fill(cluster)
    until = N // 110 * 110
    undisturbed = learned(KafkaStream(cluster.servers, "t"), tmp_path / "undisturbed", until=until)
    killed = tmp_path / "killed"
    codes = [exit_code(die_before_commit, cluster.servers, killed, count) for count in (0, 3, 8)]
    assert codes == [9, 9, 9]
    known = GaussianMixture.load(killed / "live.npz").report_.n_rows
    assert 0 < known < until
    resumed = learned(KafkaStream(cluster.servers, "t"), killed, until=until - known)
    assert bits(resumed) == bits(undisturbed)
    assert resumed.report_.n_rows == undisturbed.report_.n_rows == until
    letters = [read_appended(folder / "bad.arrows").to_pylist() for folder in (killed, tmp_path / "undisturbed")]
    assert letters[0] == letters[1]
    assert [letter["payload"] for letter in letters[0]] == [b"nonsense"]
    assert [json.loads(letter["position"])["offset"] for letter in letters[0]] == [501]
    assert resumed.report_.events["tombstones"] == undisturbed.report_.events["tombstones"] == 1


def test_two_consumers_share_a_topic(cluster: MockCluster, tmp_path: Path) -> None:
    """The first reads both partitions, hands one over to a second, and has both again when that one stops."""
    cluster.create("t", 2)
    models = {name: GaussianMixture(2, random_state=0) for name in ("first", "second")}

    def send(count: int) -> None:
        for partition in (0, 1):
            cluster.send("t", partition, *map(record, X[:count]))

    def start(name: str) -> threading.Thread:
        stream = KafkaStream(cluster.servers, "t", group="g", settings=SESSION)
        streams[name] = stream
        call = partial(models[name].fit_stream, stream, batch_rows=50, checkpoint=tmp_path / f"{name}.npz")
        thread = threading.Thread(target=partial(call, save_every_s=0.0))
        thread.start()
        return thread

    def quiet() -> bool:
        return committed(cluster) == sum(rows())  # the mock, unlike Kafka, takes no commits during a rebalance

    def rows() -> list[int]:
        return [int(gm.report_.n_rows) if hasattr(gm, "report_") else 0 for gm in models.values()]

    streams: dict[str, KafkaStream] = {}
    threads = {"first": start("first")}
    sent = 520
    send(sent)
    wait_for(lambda: rows()[0] == 1000 and quiet())
    threads["second"] = start("second")
    wait_for(lambda: len(streams["second"]._lanes) == len(streams["first"]._lanes) == 1)
    sent += 530
    send(530)
    wait_for(lambda: sum(rows()) >= 2 * sent - 2 * 49 and quiet())
    models["second"].stop()
    threads["second"].join(DEADLINE_S)
    wait_for(lambda: len(streams["first"]._lanes) == 2)
    sent += 100
    send(100)
    wait_for(lambda: sum(rows()) > 2 * sent - 50 and quiet())
    models["first"].stop()
    threads["first"].join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads.values())
    # Handed over between messages, each record is learned once; the last few wait for a whole mini-batch.
    assert 2 * sent - 50 < sum(rows()) <= 2 * sent
    assert committed(cluster) == sum(rows())
    assert rows()[1] > 0


def committed(cluster: MockCluster) -> int:
    return sum(max(0, offset) for offset in cluster.committed("g", "t", 2))


def test_kafka_on_the_command_line(cluster: MockCluster, tmp_path: Path) -> None:
    fill(cluster)
    command = ["update", "live.npz", "-k", "2", "--seed", "0", "--kafka", cluster.servers, "--topic", "t"]
    options = ["--until-rows", "3000", "--dead-letter", "bad.arrows", "--columns", "a,b"]
    done = subprocess.run(
        [sys.executable, "-m", "streamem", *command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "3,000 rows learned, 3,000 in all, 1 tombstones" in done.stdout, done.stderr
    expected = GaussianMixture(2, random_state=0).fit_stream(
        f"kafka://{cluster.servers.split(',')[0]}/t", columns=["a", "b"], dead_letter=tmp_path / "b", until=3000
    )
    assert bits(GaussianMixture.load(tmp_path / "live.npz")) == bits(expected)


@needs_server
def test_redis_restarted_in_the_middle(server: Server, tmp_path: Path) -> None:
    entries = [{"a": row[0], "b": row[1]} for row in X[:1000].tolist()]
    entries[500] = {"a": "nonsense", "b": 1.0}  # type: ignore[dict-item]
    server.add(*entries, {"data": arrow(X[1000:1900])})
    clean = np.delete(X[:1900], 500, axis=0)
    gm = GaussianMixture(2, random_state=0)
    restarted: list[int] = []

    def restart(update: Any) -> None:
        if update.rows >= 550 and not restarted:
            server.stop()
            server.start()
            server.add(*[{"a": row[0], "b": row[1]} for row in X[1900:].tolist()])
            restarted.append(update.rows)

    gm.on_update(restart)
    files = {"checkpoint": tmp_path / "live.npz", "dead_letter": tmp_path / "bad.arrows"}
    gm.fit_stream(RedisStream(server.where, "s"), batch_rows=110, until=2970, **files)
    expected = GaussianMixture(2, random_state=0).fit_stream([np.concatenate([clean, X[1900:]])[:2970]], batch_rows=110)
    assert bits(gm) == bits(expected)
    assert restarted == [550]
    (letter,) = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert "'nonsense', which is no number" in letter["reason"]
    again = GaussianMixture(2).fit_stream(f"redis://{server.where}/s", until=1, batch_rows=1, **files)
    assert again.report_.n_rows == 2971


def strange() -> list[bytes]:
    """What brokers may bring: 300 rows behind a mark and in two streams; a lie, brackets, another format."""
    marked = b"\xef\xbb\xbf" + record(X[0])
    streams = arrow(X[1:100]) + arrow(X[100:300])
    return [marked, hostile_arrow.lie("50 million rows"), b"[" * 10**5, streams, b"PAR1 and more", streams + b"rest"]


def require_put_aside(gm: GaussianMixture, letters: Path) -> None:
    assert bits(gm) == bits(GaussianMixture(2, random_state=0).fit_stream([X[:300]]))
    found = read_appended(letters)
    told = ("damaged Arrow", "JSON of 100000 levels", "the message is Parquet", "behind the end of an Arrow stream")
    assert all(part in reason for part, reason in zip(told, found["reason"].to_pylist(), strict=True))
    assert found["payload"].to_pylist() == [one for i, one in enumerate(strange()) if i not in (0, 3)]


def test_strange_messages_of_kafka(cluster: MockCluster, tmp_path: Path) -> None:
    cluster.create("t", 1)
    cluster.send("t", 0, *strange())
    gm = GaussianMixture(2, random_state=0)
    gm.fit_stream(Ending(KafkaStream(cluster.servers, "t")), columns=["a", "b"], dead_letter=tmp_path / "bad.arrows")
    require_put_aside(gm, tmp_path / "bad.arrows")


@needs_server
def test_strange_entries_of_redis(server: Server, tmp_path: Path) -> None:
    server.add(*({"data": one} for one in strange()))
    gm = GaussianMixture(2, random_state=0)
    gm.fit_stream(Ending(RedisStream(server.where, "s")), columns=["a", "b"], dead_letter=tmp_path / "bad.arrows")
    require_put_aside(gm, tmp_path / "bad.arrows")


class Ending:
    """A stream that ends when nothing comes for a while."""

    replayable = True

    def __init__(self, stream: Any) -> None:
        self._stream, self.name = stream, stream.name

    def messages(self, positions: Any) -> Iterator[Any]:
        found = False
        for message in self._stream.messages(positions):
            if message is None and found:
                return
            found |= message is not None
            yield message

    def commit(self, positions: Any) -> None:
        """Nobody to tell."""


# --- values that were not observed -----------------------------------------------------------------------------------


def gappy() -> tuple[np.ndarray[Any, Any], list[bytes]]:
    """Rows of which some lack a value, and messages of them: JSON with null, and Arrow with null."""
    rows = np.array(X[:60], dtype=np.float64)
    rows[::3, 0], rows[1::5, 1] = np.nan, np.nan
    columns = [pa.array(column, mask=np.isnan(column)) for column in rows[40:].T]
    table = pa.table(dict(zip("ab", columns, strict=True)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    told = [record([None if np.isnan(value) else value for value in row]) for row in rows[:40].tolist()]
    return rows, [*told, bytes(sink.getvalue().to_pybytes())]


def require_learned(stream: Any, rows: np.ndarray[Any, Any], folder: Path) -> None:
    """As from an array; nothing is put aside, where the model is asked for missing values, and named where not."""
    learned = GaussianMixture(1, missing="integrate", random_state=0)
    learned.fit_stream(Ending(stream), columns=["a", "b"], dead_letter=folder / "bad.arrows", batch_rows=len(rows))
    known = GaussianMixture(1, missing="integrate", random_state=0).partial_fit(rows)
    assert learned.report_.n_rows == len(rows)
    np.testing.assert_allclose(learned.means_, known.means_, rtol=1e-12)
    np.testing.assert_allclose(learned.covariances_, known.covariances_, rtol=1e-12)


def test_nulls_of_kafka(cluster: MockCluster, tmp_path: Path) -> None:
    rows, messages = gappy()
    cluster.create("t", 1)
    cluster.send("t", 0, *messages)
    require_learned(KafkaStream(cluster.servers, "t"), rows, tmp_path)


@needs_server
def test_nulls_of_redis(server: Server, tmp_path: Path) -> None:
    """Fields have no null: they say "nan"."""
    rows, messages = gappy()
    fields = [{"a": str(a), "b": str(b)} for a, b in rows[:20].tolist()]
    server.add(*fields, *({"data": message} for message in messages[20:]))
    require_learned(RedisStream(server.where, "s"), rows, tmp_path)
