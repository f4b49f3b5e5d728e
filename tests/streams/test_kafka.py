"""Kafka topics, on librdkafka's own mock cluster: a protocol mock that serves from memory, in this process."""

from __future__ import annotations

import ctypes
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamem.core.errors import MissingDependencyError, ParameterError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Stream
from streamem.streams import kafka
from streamem.streams.kafka import KafkaStream
from streamem.streams.kafka_lane import MESSAGE_BYTES, QUANTUM

pytestmark = pytest.mark.brokers

DEADLINE_S = 60.0
Place = tuple[str, int]


class MockCluster:
    """librdkafka's `rdkafka_mock.h`, which the Python client links but does not wrap."""

    def __init__(self, brokers: int = 2) -> None:
        self._library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
        self._brokers = range(1, brokers + 1)
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        conf = self._call("conf_new", pointer)
        self._call("conf_set", ctypes.c_int, pointer(conf), b"log_level", b"2", None, ctypes.c_size_t(0))
        self._call("conf_set", ctypes.c_int, pointer(conf), b"bootstrap.servers", b"none", None, ctypes.c_size_t(0))
        self._host = pointer(self._call("new", pointer, 0, pointer(conf), None, ctypes.c_size_t(0)))
        self._cluster = pointer(self._call("mock_cluster_new", pointer, self._host, brokers))
        self._call("mock_group_initial_rebalance_delay_ms", None, self._cluster, 0)
        self._call("mock_set_controller_id", None, self._cluster, 1)  # which tells the ids of topics
        self.servers: str = self._call("mock_cluster_bootstraps", text, self._cluster).decode()
        self._producer = Producer({"bootstrap.servers": self.servers, "log_level": 2, "linger.ms": 1})

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._library, f"rd_kafka_{name}")
        function.restype = result
        return function(*arguments)

    def create(self, topic: str, partitions: int) -> None:
        assert self._call("mock_topic_create", ctypes.c_int, self._cluster, topic.encode(), partitions, 1) == 0

    def delete(self, topic: str) -> None:
        assert self._call("mock_topic_delete", ctypes.c_int, self._cluster, topic.encode()) == 0

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition."""
        name = topic.encode()
        assert self._call("mock_partition_set_leader", ctypes.c_int, self._cluster, name, partition, broker) == 0

    def coordinate(self, group: str, broker: int) -> None:
        """Make a broker the coordinator of a group."""
        name = group.encode()
        assert self._call("mock_coordinator_set", ctypes.c_int, self._cluster, b"group", name, broker) == 0

    def delay(self, broker: int, milliseconds: int) -> None:
        assert self._call("mock_broker_set_rtt", ctypes.c_int, self._cluster, broker, milliseconds) == 0

    def stop(self, *brokers: int) -> None:
        for broker in brokers or self._brokers:
            assert self._call("mock_broker_set_down", ctypes.c_int, self._cluster, broker) == 0

    def start(self, *brokers: int) -> None:
        for broker in brokers or self._brokers:
            assert self._call("mock_broker_set_up", ctypes.c_int, self._cluster, broker) == 0

    def send(self, topic: str, partition: int, *values: bytes | None) -> None:
        for value in values:
            self._producer.produce(topic, value, partition=partition)
            self._producer.poll(0)
        assert self._producer.flush(DEADLINE_S) == 0

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        """Committed offsets, as a stranger sees them."""
        stranger = Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 2})
        places = stranger.committed([TopicPartition(topic, i) for i in range(partitions)], timeout=DEADLINE_S)
        stranger.close()
        return [place.offset for place in places]

    def close(self) -> None:
        self._producer.flush(1)
        del self._producer
        self._call("mock_cluster_destroy", None, self._cluster)
        self._call("destroy", None, self._host)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.close()


def numbered(start: int, stop: int, partition: int) -> list[bytes]:
    return [b"%d:%d" % (partition, number) for number in range(start, stop)]


def fill(cluster: MockCluster, topic: str, *lengths: int) -> None:
    cluster.create(topic, len(lengths))
    for partition, length in enumerate(lengths):
        cluster.send(topic, partition, *numbered(0, length, partition))


def place(message: Message) -> Place:
    return message.partition, message.at["offset"]


def spot(position: Mapping[str, Any]) -> tuple[int, int]:
    return position["offset"], position["base"]


def merged(*lengths: int) -> list[Place]:
    """The order that is promised."""
    places = [(str(p), number) for p, length in enumerate(lengths) for number in range(length)]
    return sorted(places, key=lambda place: (place[1] // QUANTUM, int(place[0]), place[1]))


class Reader:
    """A running stream, with deadlines."""

    def __init__(self, stream: KafkaStream, positions: Mapping[str, Any] | None = None) -> None:
        self.stream = stream
        self.messages = stream.messages(positions or {})
        self.positions = dict(positions or {})

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.messages.close()

    def step(self) -> Message | None:
        message = next(self.messages)
        if message is not None:
            self.positions[message.partition] = message.after
        return message

    def take(self, count: int) -> list[Message]:
        return self.until(lambda taken: len(taken) == count)

    def until(self, enough: Callable[[list[Message]], bool]) -> list[Message]:
        taken: list[Message] = []
        deadline = time.monotonic() + DEADLINE_S
        while not enough(taken):
            assert time.monotonic() < deadline, f"only {len(taken)} messages came"
            if (message := self.step()) is not None:
                taken.append(message)
        return taken

    def rest(self, count: int) -> list[Message]:
        """So many, and then nothing."""
        taken = self.take(count)
        assert self.step() is None
        return taken


def test_it_is_a_stream() -> None:
    stream = KafkaStream("localhost:1", "t")
    assert isinstance(stream, Stream)
    assert (stream.name, stream.replayable) == ("kafka:t", True)
    stream.commit({"0": {"offset": 3, "base": 0}})


def test_the_order_follows_from_offsets(cluster: MockCluster) -> None:
    fill(cluster, "t", 450, 130, 0, 290)
    for slow in (1, 2):
        cluster.delay(slow, 150)
        with Reader(KafkaStream(cluster.servers, "t")) as reader:
            messages = reader.rest(870)
        assert [place(m) for m in messages] == merged(450, 130, 0, 290)
        assert [m.payload for m in messages] == [b"%s:%d" % (m.partition.encode(), m.at["offset"]) for m in messages]
        cluster.delay(slow, 0)


def test_the_lag_is_what_lies_beyond_the_positions(cluster: MockCluster) -> None:
    fill(cluster, "t", 150, 40)
    stream = KafkaStream(cluster.servers, "t")
    assert stream.lag({}) is None  # nobody was asked yet
    with Reader(stream) as reader:
        taken, deadline = 60, time.monotonic() + 20
        reader.take(60)
        while stream.lag(reader.positions) is None and time.monotonic() < deadline:
            reader.take(1)  # the client has not heard of both partitions yet
            taken += 1
            time.sleep(0.05)
        assert stream.lag(reader.positions) == 190 - taken
        reader.rest(190 - taken)
        assert stream.lag(reader.positions) == 0
        assert stream.lag({}) == 190
    assert stream.lag({}) is None


def test_a_restart_goes_on_in_the_same_order(cluster: MockCluster) -> None:
    fill(cluster, "t", 350, 120)
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        whole = reader.rest(470)
    for first in (1, 100, 101, 219, 220, 257):
        positions = {m.partition: m.after for m in whole[:first]}
        for given in (positions, positions | {whole[first].partition: whole[first].at}):
            with Reader(KafkaStream(cluster.servers, "t"), given) as reader:
                again = reader.take(470 - first)
            assert [(m.at, m.after, m.payload) for m in again] == [(m.at, m.after, m.payload) for m in whole[first:]]


def test_fewest_read_counts_from_where_this_model_began(cluster: MockCluster) -> None:
    fill(cluster, "t", 1000, 300)
    positions = {"0": {"offset": 700, "base": 700}}
    with Reader(KafkaStream(cluster.servers, "t"), positions) as reader:
        order = [place(m) for m in reader.rest(600)]
    expected = [("0", 700 + i) for i in range(300)] + [("1", i) for i in range(300)]
    assert order == sorted(expected, key=lambda p: ((p[1] - 700 * (p[0] == "0")) // QUANTUM, p[0], p[1]))


def test_partitions_of_unequal_weight_are_held_back(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "BUFFER_BYTES", 0)
    monkeypatch.setattr(kafka, "LANE_BYTES", 40_000)
    monkeypatch.setattr(kafka, "FETCH", 50)
    monkeypatch.setitem(kafka.DEFAULTS, "fetch.message.max.bytes", 30_000)
    cluster.create("t", 2)
    cluster.send("t", 0, *numbered(0, 3000, 0))
    cluster.send("t", 1, *itertools.repeat(b"x" * 1000, 800))
    pauses: list[int] = []
    stream = KafkaStream(cluster.servers, "t")
    with Reader(stream) as reader:
        taken = []
        for _ in range(3800):
            taken += reader.take(1)
            pauses.append(sum(lane.paused for lane in stream._lanes.values()))
            most = kafka.LANE_BYTES + (kafka.FETCH + 1) * (MESSAGE_BYTES + 1000)
            assert all(lane.nbytes <= most for lane in stream._lanes.values())
        assert reader.step() is None
    assert [place(m) for m in taken] == merged(3000, 800)
    assert any(pauses)


def test_silence_and_late_messages(cluster: MockCluster) -> None:
    fill(cluster, "t", 2, 0)
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        assert len(reader.take(2)) == 2
        for number, partition in enumerate([1, 0, 1]):
            start = time.monotonic()
            assert reader.step() is None
            assert 0.3 < time.monotonic() - start < 5
            cluster.send("t", partition, b"late %d" % number)
            assert reader.take(1)[0].payload == b"late %d" % number


def test_a_topic_without_messages(cluster: MockCluster) -> None:
    cluster.create("t", 3)
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        assert reader.step() is None
        cluster.send("t", 2, b"x")
        assert [spot(m.after) for m in reader.take(1)] == [(1, 0)]


def test_tombstones_count(cluster: MockCluster) -> None:
    cluster.create("t", 1)
    cluster.send("t", 0, b"a", None, b"b")
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        assert [m.payload for m in reader.take(3)] == [b"a", None, b"b"]


def test_from_the_end_on(cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    fill(cluster, "t", 5, 7)
    with Reader(KafkaStream(cluster.servers, "t", start="end")) as reader:
        assert reader.step() is None
        cluster.send("t", 1, b"new")
        assert [(place(m), spot(m.after)) for m in reader.take(1)] == [(("1", 7), (8, 7))]
    with Reader(KafkaStream(cluster.servers, "t", start="end"), reader.positions) as reader:
        assert reader.step() is None
    assert "no saved positions of partitions [0]" in caplog.text


def test_offsets_that_are_gone(cluster: MockCluster) -> None:
    cluster.create("t", 1)
    cluster.send("t", 0, *itertools.repeat(b"x" * 50_000, 200))  # the mock keeps the last 5 MiB
    with (
        Reader(KafkaStream(cluster.servers, "t"), {"0": {"offset": 3, "base": 0}}) as reader,
        pytest.raises(
            StreamError, match=r"kafka:t: partition 0 .* from offset 3, it holds \d\d+ to 199: records .*retention"
        ),
    ):
        reader.take(1)
    with (
        Reader(KafkaStream(cluster.servers, "t"), {"0": {"offset": 201, "base": 0}}) as reader,
        pytest.raises(StreamError, match="from offset 201.*made anew"),
    ):
        reader.take(1)


@pytest.mark.usefixtures("prompt")
def test_a_member_of_a_group_whose_offsets_are_gone(cluster: MockCluster) -> None:
    cluster.create("t", 1)
    cluster.send("t", 0, *itertools.repeat(b"x" * 50_000, 200))
    stream = KafkaStream(cluster.servers, "t", group="g", settings=SESSION)
    with (
        Reader(stream, {"0": {"offset": 3, "base": 0}}) as reader,
        pytest.raises(StreamError, match=r"from offset 3, it holds \d\d+ to 199: records were deleted"),
    ):
        reader.take(1)


def test_a_topic_that_was_made_anew(cluster: MockCluster) -> None:
    """It holds more than was read of the one before, so that no offset tells."""
    fill(cluster, "t", 20)
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        reader.take(10)
    cluster.delete("t")
    fill(cluster, "t", 50)
    with pytest.raises(StreamError, match=r"kafka:t: .* another topic of this name \(id \S+, now \S+\).*another name="):
        next(KafkaStream(cluster.servers, "t").messages(reader.positions))
    with Reader(KafkaStream(cluster.servers, "t", name="second t")) as anew:
        assert anew.stream.name == "second t"
        assert len(anew.rest(50)) == 50


def test_what_is_not_there(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cluster, "t", 1)
    with pytest.raises(StreamError, match="has no topic 'nope'"):
        next(KafkaStream(cluster.servers, "nope").messages({}))
    with pytest.raises(StreamError, match=r"partitions \['7'\], the topic has 1"):
        next(KafkaStream(cluster.servers, "t").messages({"7": {"offset": 1, "base": 0}}))
    monkeypatch.setattr(kafka, "START_S", 1.0)
    with pytest.raises(StreamError, match=r"no Kafka broker at 127.0.0.1:1 .*refused"):
        next(KafkaStream("127.0.0.1:1", "t").messages({}))


def test_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="'middle'"):
        KafkaStream("s", "t", start="middle")
    with pytest.raises(ParameterError, match="enable.auto.commit"):
        KafkaStream("s", "t", settings={"enable.auto.commit": True})
    with pytest.raises(ParameterError, match="group.id"):
        KafkaStream("s", "t", group="g", settings={"group.id": "h"})
    with pytest.raises(ParameterError, match="no.such"):
        next(KafkaStream("s", "t", settings={"no.such": 1}).messages({}))
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingDependencyError, match=r"streamem\[kafka\]"):
        KafkaStream("s", "t")


def test_a_cluster_that_restarts(cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    fill(cluster, "t", 30, 20)
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        before = reader.take(10)
        cluster.stop()
        before += reader.until(lambda _: "trying again" in caplog.text)
        cluster.start()
        cluster.send("t", 0, *numbered(30, 40, 0))
        messages = before + reader.take(60 - len(before))
        assert reader.step() is None
    assert sorted(place(m) for m in messages) == sorted(merged(40, 20))
    assert caplog.text.count("trying again") == 1


def test_a_partition_whose_leader_is_down(cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    fill(cluster, "t", 250, 250)
    cluster.lead("t", 0, 1)
    cluster.lead("t", 1, 2)
    cluster.stop(1)
    with Reader(KafkaStream(cluster.servers, "t", patience_s=1.5)) as reader:
        assert reader.step() is None
        assert [place(m) for m in reader.take(250)] == [("1", i) for i in range(250)]
        assert "partition 0 did not answer" in caplog.text
        cluster.start(1)
        assert [place(m) for m in reader.take(250)] == [("0", i) for i in range(250)]


def test_commits_are_seen_by_the_broker(cluster: MockCluster) -> None:
    fill(cluster, "t", 30, 20)
    for group, shown in ((None, "streamem-t"), ("g", "g")):
        stream = KafkaStream(cluster.servers, "t", group=group)
        with Reader(stream) as reader:
            reader.take(50)
            stream.commit({"0": {"offset": 25, "base": 0}, "1": {"offset": 20, "base": 0}})
            deadline = time.monotonic() + DEADLINE_S
            while cluster.committed(shown, "t", 2) != [25, 20]:
                assert time.monotonic() < deadline
                reader.step()
            stream.commit({"0": {"offset": 27, "base": 0}, "1": {"offset": 20, "base": 0}})
        assert cluster.committed(shown, "t", 2) == [27, 20]
        stream.commit({"0": {"offset": 30, "base": 0}})
        assert cluster.committed(shown, "t", 2) == [27, 20]


def test_commits_while_no_broker_is_there(cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    fill(cluster, "t", 5)
    stream = KafkaStream(cluster.servers, "t", settings={"session.timeout.ms": 1000})
    with Reader(stream) as reader:
        reader.take(5)
        cluster.stop()
        reader.until(lambda _: "trying again" in caplog.text)
        stream.commit(reader.positions)
        assert reader.step() is None
        start = time.monotonic()
    assert time.monotonic() - start < 10


# --- groups ----------------------------------------------------------------------------------------------------------

# The mock waits for members to come back for as long as a session may last, less a second.
SESSION = {"session.timeout.ms": 2500, "heartbeat.interval.ms": 200}


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread drives all members here: each must ask often enough while it waits for the others."""
    monkeypatch.setattr(kafka, "IDLE_S", 0.1)


@pytest.mark.variations(1, 2)
@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_members_share_the_partitions(cluster: MockCluster, strategy: str) -> None:
    lengths = (450, 350, 400, 300)
    fill(cluster, "t", *lengths)
    settings = SESSION | {"partition.assignment.strategy": strategy}
    seen: dict[str, list[Place]] = {"a": [], "b": [], "c": []}

    def run(readers: dict[str, Reader], enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not enough():
            assert time.monotonic() < deadline, {name: len(places) for name, places in seen.items()}
            for name, reader in readers.items():
                if (message := reader.step()) is not None:
                    seen[name].append(place(message))
                    reader.stream.commit(reader.positions)

    def member() -> Reader:
        return Reader(KafkaStream(cluster.servers, "t", group="g", settings=settings))

    with member() as a:
        run({"a": a}, lambda: len(seen["a"]) > 150)
        run({"a": a}, lambda: sum(cluster.committed("g", "t", 4)[:3]) >= 150)
        with member() as b:
            run({"a": a, "b": b}, lambda: len(seen["b"]) > 100 and len(a.stream._lanes) == len(b.stream._lanes) == 2)
        run({"a": a}, lambda: set(seen["a"]) | set(seen["b"]) == set(merged(*lengths)))
    for places in seen.values():
        assert len(places) == len(set(places))
        for partition in "0123":
            offsets = [offset for name, offset in places if name == partition]
            assert offsets == sorted(offsets)
    # The mock, unlike Kafka, takes no commits while a member is awaited; only what was read then is read again.
    assert len(set(seen["a"]) & set(seen["b"])) < 50
    assert cluster.committed("g", "t", 4) == list(lengths)
    with member() as c:
        assert c.step() is None
        cluster.send("t", 3, b"one more")
        run({"c": c}, lambda: bool(seen["c"]))
    assert seen["c"] == [("3", 300)]


@pytest.mark.usefixtures("prompt")
def test_a_member_starts_at_the_later_of_saved_and_committed(cluster: MockCluster) -> None:
    fill(cluster, "t", 50, 50)
    stream = KafkaStream(cluster.servers, "t", group="g", settings=SESSION)
    with Reader(stream) as reader:
        reader.take(100)
        stream.commit({"0": {"offset": 30, "base": 0}, "1": {"offset": 30, "base": 0}})
    positions = {"0": {"offset": 20, "base": 4}, "1": {"offset": 40, "base": 4}}
    stream = KafkaStream(cluster.servers, "t", group="g", settings=SESSION)
    with Reader(stream, positions) as reader:
        messages = reader.take(30)
        stream.commit(positions)  # a save from before: what the group has is not taken back
        assert reader.step() is None
    assert [place(m) for m in messages] == [("0", i) for i in range(30, 50)] + [("1", i) for i in range(40, 50)]
    assert spot(messages[0].at) == (30, 14)  # 16 read by this model, as before
    assert cluster.committed("g", "t", 2) == [30, 30]


@pytest.mark.usefixtures("prompt")
def test_a_member_from_the_end_on_leaves_no_gap(cluster: MockCluster) -> None:
    fill(cluster, "t", 5)
    stream = KafkaStream(cluster.servers, "t", group="g", start="end", settings=SESSION)
    with Reader(stream) as reader:
        deadline = time.monotonic() + DEADLINE_S
        while cluster.committed("g", "t", 1) != [5]:
            assert reader.step() is None
            assert time.monotonic() < deadline
    cluster.send("t", 0, b"between")
    with Reader(KafkaStream(cluster.servers, "t", group="g", start="end", settings=SESSION)) as reader:
        assert reader.take(1)[0].payload == b"between"


@pytest.mark.usefixtures("prompt")
def test_what_waits_is_not_delivered_once_the_partition_is_lost(cluster: MockCluster) -> None:
    fill(cluster, "t", 600, 600)
    stream = KafkaStream(cluster.servers, "t", group="g", settings=SESSION)
    with Reader(stream) as first, Reader(KafkaStream(cluster.servers, "t", group="g", settings=SESSION)) as second:
        own = first.take(150)
        others: list[Message] = []
        deadline = time.monotonic() + DEADLINE_S
        while len(stream._lanes) != 1 or len(second.stream._lanes) != 1 or len(others) < 20:
            assert time.monotonic() < deadline
            others += filter(None, [second.step()])
            if (message := first.step()) is not None:
                assert int(message.partition) in stream._lanes
                own.append(message)
        assert stream._lanes.keys().isdisjoint(second.stream._lanes)
    places = [place(m) for m in own]
    assert len(places) == len(set(places))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="streamem")
