"""Kafka topics on a real broker: Tansu, in memory, and with its records on a real S3 server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_kafka import Reader, merged, numbered, place

from helpers.seaweed import seaweed
from helpers.tansu import Tansu
from helpers.tansu import tansu as started
from streamem import GaussianMixture
from streamem.conformance import StreamSuite
from streamem.core.errors import StreamError
from streamem.streams import kafka
from streamem.streams.kafka import KafkaStream

pytestmark = pytest.mark.brokers

N, BATCH, DEADLINE_S = 600, 100, 60.0
X = np.random.default_rng(0).normal(size=(N, 2)) + 5.0 * np.random.default_rng(1).integers(2, size=(N, 1))


def record(row: Any) -> bytes:
    return json.dumps({"a": row[0], "b": row[1]}).encode()


def bits(model: Any) -> list[bytes]:
    return [getattr(model, name).tobytes() for name in ("weights_", "means_", "covariances_")]


def learned(broker: Tansu, topic: str, checkpoint: Path, until: int) -> GaussianMixture:
    gm = GaussianMixture(2, random_state=0)
    return gm.fit_stream(KafkaStream(broker.servers, topic), batch_rows=BATCH, checkpoint=checkpoint, until=until)


def from_arrays(x: Any) -> GaussianMixture:
    return GaussianMixture(2, random_state=0).fit_stream([x], batch_rows=BATCH)


@pytest.fixture(scope="module")
def laws(tansu: Tansu) -> str:
    """The servers of a topic with 23 messages."""
    tansu.create("laws", 2)
    for partition, count in enumerate((14, 9)):
        tansu.send("laws", partition, *numbered(0, count, partition))
    return tansu.servers


class TestOnTansu(StreamSuite):
    expected, starts = 23, 2

    @pytest.fixture(autouse=True)
    def _fill(self, laws: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kafka, "IDLE_S", 0.2)
        self.servers = laws

    def make_stream(self) -> KafkaStream:
        return KafkaStream(self.servers, "laws", settings={"fetch.wait.max.ms": 20})


def test_a_topic_is_learned_once_and_a_restart_gives_the_same_bits(tansu: Tansu, tmp_path: Path) -> None:
    """Two partitions, tombstones among the records, and a start with what was saved."""
    tansu.create("once", 2)
    half = N // 2
    tansu.send("once", 0, None, *map(record, X[:150]), None, *map(record, X[150:half]))
    tansu.send("once", 1, *map(record, X[half:]))
    gm = learned(tansu, "once", tmp_path / "whole.npz", N)
    order = [(int(partition), offset) for partition, offset in merged(half + 2, half)]
    rows = {(0, offset): offset - 1 - (offset > 151) for offset in (*range(1, 151), *range(152, half + 2))}
    rows |= {(1, offset): half + offset for offset in range(half)}
    assert bits(gm) == bits(from_arrays(X[[rows[at] for at in order if at in rows]]))
    assert (gm.report_.n_rows, gm.report_.events["tombstones"]) == (N, 2)
    for until in (BATCH, 2 * BATCH, N - 3 * BATCH):
        resumed = learned(tansu, "once", tmp_path / "cut.npz", until)
    assert bits(resumed) == bits(gm)
    assert resumed.report_.n_rows == N


def test_an_offset_behind_the_end_is_told(tansu: Tansu) -> None:
    """Tansu answers nothing to it, so that a client would wait for ever."""
    tansu.create("short", 2)
    tansu.send("short", 0, *numbered(0, 5, 0))
    tansu.send("short", 1, *numbered(0, 9, 1))
    with (
        Reader(KafkaStream(tansu.servers, "short"), {"0": {"offset": 1000, "base": 0}}) as reader,
        pytest.raises(
            StreamError, match=r"partition 0 .* from offset 1000, it holds 0 to 4: the topic was made anew, or"
        ),
    ):
        reader.take(10)
    with Reader(KafkaStream(tansu.servers, "short"), {"0": {"offset": 5, "base": 0}}) as reader:
        assert [place(message) for message in reader.rest(9)] == [("1", i) for i in range(9)]


def test_a_topic_made_anew_while_nobody_read(tansu: Tansu, tmp_path: Path) -> None:
    tansu.create("anew", 1)
    tansu.send("anew", 0, *map(record, X[:300]))
    gm = learned(tansu, "anew", tmp_path / "live.npz", 200)
    tansu.delete("anew")
    tansu.create("anew", 1)
    tansu.send("anew", 0, *map(record, X[300:]))
    with pytest.raises(StreamError, match="another topic of this name"):
        learned(tansu, "anew", tmp_path / "live.npz", 200)
    assert bits(GaussianMixture.load(tmp_path / "live.npz")) == bits(gm)
    gm.fit_stream(KafkaStream(tansu.servers, "anew", name="the new one"), batch_rows=BATCH, until=300)
    assert gm.report_.n_rows == 500


@pytest.mark.slow  # test_kafka.py::test_a_cluster_that_restarts always runs: it reads through an outage too
def test_a_broker_killed_in_the_middle_keeps_its_records_on_s3(tmp_path: Path) -> None:
    """The fit waits, and goes on; its bits are those of a fit that nothing disturbed."""
    with seaweed(tmp_path) as bucket:
        options = dict(bucket.options)
        environment = {
            "AWS_ACCESS_KEY_ID": options["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["secret_access_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT": options["endpoint"],
            "AWS_ALLOW_HTTP": "true",
        }
        with started(tmp_path, "s3://bucket/", **environment) as broker:
            broker.create("kept", 1)
            broker.send("kept", 0, *map(record, X[:350]))
            gm = GaussianMixture(2, random_state=0)
            stream, files = KafkaStream(broker.servers, "kept"), {"checkpoint": tmp_path / "live.npz"}
            fit = threading.Thread(target=partial(gm.fit_stream, stream, batch_rows=BATCH, until=N, **files))
            fit.start()
            wait_for(lambda: hasattr(gm, "report_") and gm.report_.n_rows == 300)
            broker.kill()
            time.sleep(1.0)
            broker.start()
            broker.send("kept", 0, *map(record, X[350:]))
            fit.join(DEADLINE_S)
            assert not fit.is_alive()
            with Reader(KafkaStream(broker.servers, "kept")) as reader:
                assert [message.payload for message in reader.rest(N)] == [record(row) for row in X]
    assert bits(gm) == bits(from_arrays(X))


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)
