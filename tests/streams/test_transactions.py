"""Transactions: what was aborted is never learned, and the marks of commits and aborts hold nothing up.

Neither Tansu nor librdkafka's mock tells a client which transactions were aborted; a proxy before the mock does.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from test_kafka import MockCluster, Reader

from helpers.aborting_proxy import FETCH, VERSION, AbortingProxy
from streamem import GaussianMixture
from streamem.core.errors import ParameterError
from streamem.streams.kafka import KafkaStream

pytestmark = pytest.mark.brokers

X = np.random.default_rng(0).normal(size=(200, 2))


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    cluster = MockCluster(brokers=1)
    cluster._call("mock_set_apiversion", ctypes.c_int, cluster._cluster, FETCH, VERSION, VERSION)
    yield cluster
    cluster.close()


@pytest.fixture
def proxy(cluster: MockCluster) -> Iterator[AbortingProxy]:
    proxy = AbortingProxy(int(cluster.servers.rpartition(":")[2]))
    yield proxy
    proxy.close()


def transact(cluster: MockCluster, *transactions: tuple[list[bytes], bool]) -> None:
    """One transaction after the other, each committed or aborted."""
    producer = Producer({"bootstrap.servers": cluster.servers, "transactional.id": "x", "log_level": 2})
    producer.init_transactions(30)
    for values, commits in transactions:
        producer.begin_transaction()
        for value in values:
            producer.produce("t", value, partition=0)
        assert producer.flush(30) == 0
        (producer.commit_transaction if commits else producer.abort_transaction)(30)


def show(cluster: MockCluster, proxy: AbortingProxy) -> None:
    """Have everything go by the proxy, and let clients come by it from now on."""
    cluster._call("mock_broker_set_host_port", None, cluster._cluster, 1, b"127.0.0.1", proxy.port)
    with Reader(KafkaStream(cluster.servers, "t")) as reader:
        while reader.step() is not None:
            pass


def records(rows: Any) -> list[bytes]:
    return [json.dumps({"a": a, "b": b}).encode() for a, b in rows.tolist()]


def test_aborted_records_are_never_learned(cluster: MockCluster, proxy: AbortingProxy) -> None:
    cluster.create("t", 1)
    absurd = records(1000 + X[:30])
    transact(cluster, (records(X[:90]), True), (absurd, False), (records(X[90:]), True), (absurd, False))
    show(cluster, proxy)
    stream, lags = KafkaStream(cluster.servers, "t"), []
    gm = GaussianMixture(1).on_update(lambda update: lags.append(stream.lag({"0": {"offset": 90, "base": 0}})))
    gm.fit_stream(stream, batch_rows=50, until=200)
    expected = GaussianMixture(1).fit_stream([X], batch_rows=50)
    assert gm.means_.tobytes() == expected.means_.tobytes()
    assert gm.report_.n_rows == 200
    assert proxy.told >= 2
    assert lags[-1] is not None


def test_marks_at_the_end_are_no_lag(cluster: MockCluster, proxy: AbortingProxy) -> None:
    """Offsets that hold nothing to read do not count, nor do they keep the end from being seen."""
    cluster.create("t", 1)
    transact(cluster, ([b"a", b"b"], True), ([b"c"], False))
    show(cluster, proxy)
    stream = KafkaStream(cluster.servers, "t")
    with Reader(stream) as reader:
        assert [message.payload for message in reader.rest(2)] == [b"a", b"b"]
        assert reader.positions["0"]["offset"] == 2  # of 5: a mark, the aborted record, and its mark
        end = time.monotonic() + 20
        while stream.lag(reader.positions) != 0:
            assert reader.step() is None
            assert time.monotonic() < end, stream.lag(reader.positions)
        assert stream.lag({"0": {"offset": 1, "base": 0}}) == 4
        transact(cluster, ([b"d"], True))
        assert reader.take(1)[0].payload == b"d"
    with Reader(KafkaStream(cluster.servers, "t"), {"0": {"offset": 2, "base": 0}}) as reader:
        assert [message.payload for message in reader.rest(1)] == [b"d"]


def test_what_was_not_committed_cannot_be_asked_for() -> None:
    with pytest.raises(ParameterError, match="isolation.level"):
        KafkaStream("s", "t", settings={"isolation.level": "read_uncommitted"})
