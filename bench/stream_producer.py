"""The other process of a stream: writes Arrow into a pipe, or serves a Kafka topic from memory.

``python -m bench.stream_producer arrow rows.npy``: the rows, as an Arrow IPC stream, to standard output.
``python -m bench.stream_producer generated ROWS FEATURES``: the same with rows that are drawn on the fly.
``python -m bench.stream_producer kafka rows.npy KIND``: prints the address of a broker, librdkafka's mock cluster, and
fills its topic "rows" with KIND "json" (a message a row) or "arrow" (a message of 100 rows). The mock keeps 5 MiB of a
partition only, so each line on standard input says how many messages were learned: that makes room for more.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

BATCH_ROWS, MESSAGE_ROWS = 1000, 100
TOPIC = "rows"
ROOM_BYTES = 3 * 2**20

Array = Any


# --- the side that reads ---------------------------------------------------------------------------------------------


@contextmanager
def piped(*arguments: str) -> Iterator[IO[bytes]]:
    """Standard output of the producer, which has begun to write."""
    with subprocess.Popen(_command(*arguments), stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as child:
        assert child.stdout is not None
        child.stdout.peek(1)  # type: ignore[attr-defined]
        yield child.stdout


@dataclass(frozen=True)
class Topic:
    """A Kafka topic that another process serves."""

    servers: str
    requests: IO[bytes]

    def learned(self, messages: int) -> None:
        """Make room for more."""
        self.requests.write(b"%d\n" % messages)
        self.requests.flush()


@contextmanager
def topic(rows: Path, kind: str) -> Iterator[Topic]:
    """A topic that fills with rows."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen(_command("kafka", str(rows), kind), cwd=Path(__file__).parents[1], **pipes)
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        yield Topic(child.stdout.readline().decode().strip(), child.stdin)
    finally:
        child.kill()
        child.communicate()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.stream_producer", *arguments]


# --- payloads --------------------------------------------------------------------------------------------------------


def batches(x: Array) -> Iterator[Array]:
    """Mini-batches of 1,000 rows."""
    return (x[i : i + BATCH_ROWS] for i in range(0, len(x), BATCH_ROWS))


def generated(rows: int, features: int) -> Iterator[Array]:
    """Mini-batches that exist one at a time: two clusters."""
    rng = np.random.default_rng(0)
    for _ in range(rows // BATCH_ROWS):
        yield rng.standard_normal((BATCH_ROWS, features)) + 4.0 * rng.integers(2, size=(BATCH_ROWS, 1))


def write_arrow(parts: Iterable[Array], features: int, sink: Any) -> None:
    """An Arrow IPC stream, a record batch a part."""
    import pyarrow as pa

    names = [f"c{i}" for i in range(features)]
    with pa.ipc.new_stream(sink, pa.schema([(name, pa.float64()) for name in names])) as writer:
        for part in parts:
            writer.write_batch(pa.record_batch(list(np.ascontiguousarray(part.T)), names=names))


def json_records(x: Array) -> Iterator[bytes]:
    """One object a row."""
    names = [f"c{i}" for i in range(x.shape[1])]
    for row in x:
        yield json.dumps(dict(zip(names, row.tolist(), strict=True))).encode()


def arrow_messages(x: Array) -> Iterator[bytes]:
    """An Arrow IPC stream of 100 rows each."""
    for i in range(0, len(x), MESSAGE_ROWS):
        sink = io.BytesIO()
        write_arrow([x[i : i + MESSAGE_ROWS]], x.shape[1], sink)
        yield sink.getvalue()


PAYLOADS: dict[str, Callable[[Array], Iterator[bytes]]] = {"json": json_records, "arrow": arrow_messages}


# --- the side that writes --------------------------------------------------------------------------------------------


class _Room:
    """How many bytes may be on their way."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._learned = self._taken = 0
        self._changed = threading.Condition()

    def listen(self) -> None:
        for line in sys.stdin:
            with self._changed:
                self._taken += sum(self._sizes[self._learned : int(line)])
                self._learned = int(line)
                self._changed.notify()

    def wait(self, nbytes: int, sent: int) -> None:
        with self._changed:
            self._sizes.append(nbytes)
            while sent - self._taken > ROOM_BYTES:
                self._changed.wait()


def serve(x: Array, kind: str) -> None:
    """Until the other side ends this process."""
    from confluent_kafka import Producer

    payloads = list(PAYLOADS[kind](x))  # so that making them takes no time from learning them
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 2, "linger.ms": 5})
    known = producer.list_topics(TOPIC, timeout=10)
    broker = next(iter(known.brokers.values()))
    room, sent = _Room(), 0
    threading.Thread(target=room.listen, daemon=True).start()
    print(f"{broker.host}:{broker.port}", flush=True)
    for payload in payloads:
        sent += len(payload)
        room.wait(len(payload), sent)
        producer.produce(TOPIC, payload, partition=0)  # one partition: the order is that of the rows
        producer.poll(0)
    producer.flush()
    threading.Event().wait()


def main(kind: str, *arguments: str) -> None:
    """Write or serve."""
    if kind == "generated":
        rows, features = map(int, arguments)
        write_arrow(generated(rows, features), features, sys.stdout.buffer)
    elif kind == "arrow":
        x = np.load(arguments[0])
        write_arrow(batches(x), x.shape[1], sys.stdout.buffer)
    else:
        serve(np.load(arguments[0]), arguments[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
