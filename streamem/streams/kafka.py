"""Messages of a Kafka topic, its partitions merged in an order that follows from offsets alone.

The message that comes next is of the partition of which this model has read the fewest quanta of `QUANTUM` offsets,
ties by number: a merge of the partitions by (quanta read, partition, offset), whatever order the brokers answer in. A
partition at its end is not waited for, any other one is.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from streamem.core.errors import MissingDependencyError, ParameterError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Stream
from streamem.machine.importing import uninterrupted
from streamem.streams.kafka_lane import Lane
from streamem.streams.kafka_marks import START_S, Marks

logger = logging.getLogger("streamem")

IDLE_S = 0.5
FETCH = 1000
BUFFER_BYTES, LANE_BYTES = 2**26, 2**20
"""Of messages that wait for their turn: in all, and at least of each partition."""
QUIET_S = 60.0
"""Between two warnings about the same trouble."""

FIXED = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
}
DEFAULTS = {"fetch.message.max.bytes": 2**18, "queued.max.messages.kbytes": 2**13, "log_level": 2}
GONE = {"_AUTO_OFFSET_RESET", "_LOG_TRUNCATION", "OFFSET_OUT_OF_RANGE"}
TRANSIENT = {
    "_ALL_BROKERS_DOWN", "_TRANSPORT", "_RESOLVE", "_TIMED_OUT", "_MAX_POLL_EXCEEDED", "_WAIT_COORD",
    "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "REQUEST_TIMED_OUT", "BROKER_NOT_AVAILABLE",
    "REPLICA_NOT_AVAILABLE", "NETWORK_EXCEPTION", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS",
}  # fmt: skip
"""Errors that pass, or that the client gets over by itself."""


def _library() -> Any:
    try:
        with uninterrupted():
            import confluent_kafka
            import confluent_kafka.admin
    except ImportError as error:
        raise MissingDependencyError(
            'a Kafka topic needs confluent-kafka, which is not installed: pip install "streamem[kafka]"'
        ) from error
    return confluent_kafka


class KafkaStream(Stream):
    """A topic of a Kafka cluster.

    Parameters
    ----------
    servers : "host:port", several separated by commas
    topic : its name
    group : a consumer group whose members share the partitions; without one, all partitions are read. Members start at
        what the group has committed or at the saved position, whichever is later. A member hands over what it has
        saved; only what one that dies has learned since its last save is learned by its successor again.
    start : "beginning" or "end", for partitions without a position or a commit
    settings : of librdkafka (security, timeouts). Without a group, "group.id" only says under which name `commit` shows
        up in displays of lag.
    patience_s : for how long one partition that does not answer may hold up the others
    name : under which a model saves its positions, by default ``"kafka:" + topic``; with another name than before, a
        model begins anew in the topic

    Notes
    -----
    Tombstones (messages whose value is null, which say that a key is gone) are no records: they are passed over, and
    counted in ``report_.events["tombstones"]``. An empty value is none of them, and unusable.

    Of transactions only what was committed is read. The headers of a message go to the decoder of `fit_stream`.

    A position is ``{"offset": the next to read, "base": the first that this model read, "topic": its id}``, without the
    id where the cluster tells none. Saved offsets that the topic no longer holds, and positions in another topic of its
    name, are an error, also where a broker would let its reader wait for ever. Without a group, partitions
    that are added to the topic are read from the next start on. What waits for its turn is bounded by 64 MiB, or 1 MiB
    a partition. With `start` "end", a partition that has delivered nothing before a save has no position in it: a
    restart without a group begins at its end again, and logs that.
    """

    replayable = True

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        group: str | None = None,
        start: str = "beginning",
        settings: Mapping[str, Any] | None = None,
        patience_s: float = 60.0,
        name: str | None = None,
    ) -> None:
        self._kafka = _library()
        self.name = name or f"kafka:{topic}"
        self._servers, self._topic, self._group, self._start = servers, topic, group, start
        self._settings = _checked(start, group, dict(settings or {}))
        self._patience_s = patience_s
        self._reading = False
        self._known: dict[int, Lane] = {}
        self._lanes: dict[int, Lane] = {}
        self._awaited: Lane | None = None
        self._awaited_since = self._warned = float("-inf")
        self._trouble: Any = None
        self._topic_id: str | None = None
        self._failure: StreamError | None = None
        self._marks = Marks(self._kafka, self.name, topic, {**self._settings, "bootstrap.servers": servers})
        self.handover: Callable[[Sequence[str]], None] | None = None
        self._saved: Mapping[str, Any] = {}
        self._sent: Mapping[str, Any] = self._saved

    def on_handover(self, hand_over: Callable[[Sequence[str]], None]) -> None:
        """Have `hand_over` called when the group gives partitions of this reader to another."""
        self.handover = hand_over

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Messages from the given offsets on, and None when none came for half a second.

        Raises
        ------
        StreamError : no broker answered, the topic or an offset is not there, or the cluster refuses
        """
        consumer = self._open()
        self._reading = True
        try:
            with self._faults():
                self._begin(consumer, positions)
                yield from self._deliver(consumer)
        finally:
            self._reading = False
            if self._group is None:
                self._send(consumer, list(self._lanes), wait=True)
            consumer.close()  # which revokes, and so commits, in a group

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Commit offsets to the group: its lag shows, and later members know where to start.

        Sent by the thread that reads, at most twice a second and not waited for; when partitions go to another member
        or the stream is closed, the last is sent again and waited for.
        """
        self._saved = dict(positions)

    def lag(self, positions: Mapping[str, Any]) -> int | None:
        """Messages beyond the positions in the partitions that this reader has, by what its client heard last."""
        if not self._reading:
            return None
        # The client is not asked here: while one thread polls, it keeps others that ask waiting without an end.
        behind = [
            lane.lag((positions.get(str(number)) or {"offset": 0})["offset"])
            for number, lane in list(self._lanes.items())
        ]
        return None if None in behind else sum(filter(None, behind))

    # --- start -------------------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        self._failure = None
        fixed = {"bootstrap.servers": self._servers, "error_cb": self._on_error, "on_commit": _on_commit, **FIXED}
        group = self._group or self._settings.get("group.id", f"streamem-{self._topic}")
        # Without a group there is no session, but closing waits as long for commits that no broker takes.
        session = {} if self._group else {"session.timeout.ms": 6000}
        settings = {**DEFAULTS, **session, **self._settings, **fixed, "group.id": group}
        try:
            return self._kafka.Consumer(settings, logger=logger)
        except self._kafka.KafkaException as error:
            raise ParameterError(f"{self.name}: librdkafka refuses its settings: {error.args[0].str()}") from error

    def _begin(self, consumer: Any, positions: Mapping[str, Any]) -> None:
        metadata = self._metadata(consumer)
        partitions = sorted(metadata.topics[self._topic].partitions)
        if unknown := sorted(set(positions) - {str(number) for number in partitions}):
            raise StreamError(
                f"{self.name}: the saved positions name partitions {unknown}, the topic has {len(partitions)}: it is "
                "not the one that the model was fitted on; name that one, or start a new model"
            )
        self._topic_id = self._marks.identify(positions, metadata)
        self._known = {number: self._lane(number, positions.get(str(number))) for number in partitions}
        if self._group is not None:
            consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            return
        fresh = [lane.partition for lane in self._known.values() if lane.offset is None]
        if positions and fresh and self._start == "end":
            logger.warning("%s: no saved positions of partitions %s: they start at their ends", self.name, fresh)
        self._marks.require_kept(consumer, self._known.values())
        consumer.assign(self._starts(consumer, partitions))

    def _lane(self, number: int, position: Mapping[str, Any] | None = None) -> Lane:
        return Lane(number, position, self._topic_id)

    def _metadata(self, consumer: Any) -> Any:
        """What the cluster tells of itself and of the topic, which can be read."""
        try:
            metadata = consumer.list_topics(self._topic, timeout=START_S)
        except self._kafka.KafkaException as error:
            consumer.poll(0)  # tells what is wrong, through _on_error
            raise StreamError(
                f"{self.name}: no Kafka broker at {self._servers} answered within {START_S:g} s "
                f"({(self._trouble or error.args[0]).str()}); check the address, and in settings= the security"
            ) from error
        topic = metadata.topics[self._topic]
        if not topic.partitions:
            raise StreamError(
                f"{self.name}: {self._servers} has no topic {self._topic!r} that can be read ({topic.error.str()}); "
                "check its name and who may read it, or create it"
            )
        return metadata

    def _starts(self, consumer: Any, partitions: list[int]) -> list[Any]:
        """Where to start each partition that this member has from now on."""
        lanes = {number: self._known.setdefault(number, self._lane(number)) for number in partitions}
        for lane in lanes.values():
            lane.drop()
            if lane.offset is None and self._start == "end":
                # A number, not "the end": that would be another one if the partition comes back after a rebalance.
                _, end = consumer.get_watermark_offsets(self._place(lane.partition), timeout=self._patience_s)
                lane.begin(end)
            lane.start = lane.offset
        self._lanes = self._lanes | lanes
        first = self._kafka.OFFSET_BEGINNING
        return [self._place(n, first if lane.offset is None else lane.offset) for n, lane in lanes.items()]

    def _place(self, partition: int, *offset: int) -> Any:
        return self._kafka.TopicPartition(self._topic, partition, *offset)

    # --- group -------------------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Any, places: list[Any]) -> None:
        numbers = [place.partition for place in places]
        uncommitted = []
        for place in consumer.committed(places, timeout=self._patience_s) if places else ():
            self._known.setdefault(place.partition, self._lane(place.partition)).assigned(place.offset)
            if place.offset < 0:
                uncommitted.append(place.partition)
        self._sent = {}
        try:
            self._marks.require_kept(consumer, [self._known[number] for number in numbers])
        except StreamError as error:  # raised by the code that reads, whatever the library does with those of callbacks
            self._failure = error
        starts = self._starts(consumer, numbers)
        (consumer.incremental_assign if self._incremental else consumer.assign)(starts)
        if self._start == "end" and uncommitted:
            # So that a later owner begins where this one did, not at an end that has moved on.
            consumer.commit(offsets=[place for place in starts if place.partition in uncommitted], asynchronous=True)
        logger.info("%s: reads partitions %s", self.name, sorted(self._lanes))

    def _on_revoke(self, consumer: Any, places: list[Any]) -> None:
        numbers = [place.partition for place in places]
        if self.handover is not None:
            self.handover([str(number) for number in numbers])
        self._send(consumer, numbers, wait=True)
        for number in numbers if self.handover is not None else ():
            if number in self._lanes:  # should it come back, what was delivered and given up is delivered again
                saved = self._saved.get(str(number))
                self._lanes[number].offset = saved["offset"] if saved else self._lanes[number].start
        self._on_lost(consumer, places)

    def _on_lost(self, _: Any, places: list[Any]) -> None:
        lost = {place.partition for place in places}
        for number in lost & set(self._lanes):
            self._lanes[number].drop()
        self._lanes = {number: lane for number, lane in self._lanes.items() if number not in lost}

    @property
    def _incremental(self) -> bool:
        """Whether a rebalance names only the partitions that change hands."""
        strategy = self._settings.get("partition.assignment.strategy", "")
        return "cooperative" in strategy or self._settings.get("group.protocol") == "consumer"

    def _send(self, consumer: Any, partitions: list[int], wait: bool) -> None:
        """Commit saved offsets, of those partitions of which they are this member's own progress."""
        self._sent, places = self._saved, []
        for number in partitions:
            lane, saved = self._lanes.get(number), self._sent.get(str(number))
            if lane is not None and saved is not None and saved["offset"] > lane.reread:
                places.append(self._place(number, saved["offset"]))
        if not places:
            return
        try:
            consumer.commit(offsets=places, asynchronous=not wait)
        except self._kafka.KafkaException as error:
            _on_commit(error.args[0], places)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _deliver(self, consumer: Any) -> Iterator[Message | None]:
        heard = fetched = sent = time.monotonic()
        while True:
            lane = self._next()
            if lane is not None:
                # While messages wait, asking now and then is enough; but that must be, to keep the place in a group.
                yield from self._take(consumer, lane, fetched + IDLE_S)
                heard = time.monotonic()
            elif time.monotonic() >= heard + IDLE_S:
                yield None
                heard = time.monotonic()
            if lane is None or time.monotonic() >= fetched + IDLE_S:
                self._fetch(consumer, 0.0 if lane else max(0.0, heard + IDLE_S - time.monotonic()))
                fetched = time.monotonic()
            if self._sent is not self._saved and fetched >= sent + IDLE_S:
                self._send(consumer, list(self._lanes), wait=False)
                sent = fetched

    def _next(self) -> Lane | None:
        """The partition whose message is next, None if it did not arrive yet."""
        open_ = [lane for lane in self._lanes.values() if lane.waiting or not (lane.at_end or lane.given_up)]
        lane = min(open_, key=Lane.turn, default=None)
        if lane is None or lane.waiting:
            self._awaited = None
            return lane
        if self._awaited is not lane:
            self._awaited, self._awaited_since = lane, time.monotonic()
        held_up = any(other.waiting for other in open_)
        if held_up and time.monotonic() - self._awaited_since > self._patience_s:
            lane.given_up = True
            logger.warning(
                "%s: partition %d did not answer for %g s; going on without it until it does. After a restart, the "
                "order of messages may be another one",
                self.name, lane.partition, self._patience_s,
            )  # fmt: skip
        return None

    def _take(self, consumer: Any, lane: Lane, deadline: float) -> Iterator[Message]:
        """Messages of one quantum that wait in a partition, until the deadline."""
        turn = lane.turn()
        while lane.waiting and lane.turn() == turn:
            yield lane.take()
            if time.monotonic() >= deadline:
                break
        if lane.paused and lane.nbytes <= self._lane_bytes // 2:
            lane.paused = False
            consumer.resume([self._place(lane.partition)])

    @property
    def _lane_bytes(self) -> int:
        return max(LANE_BYTES, BUFFER_BYTES // len(self._lanes))

    def _fetch(self, consumer: Any, timeout_s: float) -> None:
        """Sort what has arrived, or arrives first within the time."""
        first = consumer.poll(timeout_s)
        for message in ([first] if first is not None else []) + consumer.consume(FETCH, 0):
            lane = self._lanes.get(message.partition())
            if message.error() is not None:
                self._on_event(consumer, message, lane)
            elif lane is not None:
                lane.put(message)
        if self._failure is not None:
            raise self._failure
        if self._trouble is not None and self._trouble.fatal():
            raise StreamError(f"{self.name}: the Kafka client gave up: {self._trouble.str()}; start again")
        for lane in self._lanes.values():
            if not lane.paused and lane.nbytes > self._lane_bytes:
                lane.paused, lane.at_end = True, False
                consumer.pause([self._place(lane.partition)])
        self._marks.hear(consumer, self._lanes.values())

    def _on_event(self, consumer: Any, message: Any, lane: Lane | None) -> None:
        error = message.error()
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
            if lane is not None and not lane.paused:
                lane.end(message.offset())
        elif error.name() in GONE:
            raise StreamError(self._marks.lost(consumer, message))
        elif error.name() in TRANSIENT or error.retriable():
            self._on_error(error)
        else:
            raise StreamError(
                f"{self.name}: the cluster at {self._servers} refuses to deliver: {error.str()} ({error.name()}); "
                "check that the topic exists, who may read it, and settings="
            )

    # --- trouble -----------------------------------------------------------------------------------------------------

    def _on_error(self, error: Any) -> None:
        """What the client reports and gets over itself, again and again while it lasts."""
        self._trouble = error
        if self._warned + QUIET_S < time.monotonic():
            self._warned = time.monotonic()
            logger.warning("%s: %s; trying again", self.name, error.str())

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except self._kafka.KafkaException as error:
            raise StreamError(
                f"{self.name}: the cluster at {self._servers} failed: {error.args[0].str()}; when it is up "
                "again, start from the last save"
            ) from error


def _checked(start: str, group: str | None, settings: dict[str, Any]) -> dict[str, Any]:
    if start not in ("beginning", "end"):
        raise ParameterError(f'start is {start!r}; it must be "beginning" or "end"')
    ours = {"bootstrap.servers", "error_cb", "on_commit", *FIXED} | ({"group.id"} if group else set())
    if taken := sorted(ours & set(settings)):
        raise ParameterError(f"settings has {taken}, which the stream sets itself; leave them out")
    return settings


def _on_commit(error: Any, places: list[Any]) -> None:
    if error is not None:
        logger.debug("offsets were not committed: %s %s", error, places)
