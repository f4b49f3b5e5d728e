"""A proxy between a client and a server of objects, on this machine: latency, errors, resets, short and slow bodies."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from helpers.object_server import error
from helpers.troubles import Troubles

PIECE = 2**20


@dataclass
class TroubledProxy:
    """Passes requests on, and troubles a share of those that read.

    Attributes
    ----------
    upstream : port of the server on this machine
    latency_s : that every answer takes besides
    troubles : what some of them meet
    slow_s : how long a slow body stops in its middle
    asked : requests by method
    most_at_once : requests that were answered at the same time
    """

    upstream: int
    latency_s: float = 0.0
    troubles: Troubles = field(default_factory=Troubles)
    slow_s: float = 5.0
    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    _now: int = 0

    @contextmanager
    def running(self) -> Iterator[TroubledProxy]:
        """Answer until the end of the block."""
        loop, started = asyncio.new_event_loop(), threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            server = loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=2**26))
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            loop.run_forever()
            server.close()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above: asyncio.StreamWriter | None = None
        try:
            below, above = await asyncio.open_connection("127.0.0.1", self.upstream, limit=2**26)
            while (asked := await _message(reader)) is not None:
                head, body = asked
                method = head.partition(b" ")[0].decode()
                self.asked[method] += 1
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                try:
                    if not await self._answer(method, head + body, below, above, writer):
                        return
                finally:
                    self._now -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            if above is not None:
                above.close()

    async def _answer(
        self,
        method: str,
        request: bytes,
        below: asyncio.StreamReader,
        above: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer a request; whether the connection lives on."""
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        kind = self.troubles.of(method)
        if kind == "reset":
            writer.transport.abort()
            return False
        if kind.isdigit():
            status, told, text = error(f"{kind} Trouble", "SlowDown")
            lines = [f"HTTP/1.1 {status}", f"content-length: {len(text)}", *(f"{a}: {b}" for a, b in told.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else text))
            await writer.drain()
            return True
        above.write(request)
        await above.drain()
        answered = await _message(below, method)
        if answered is None:
            return False
        head, body = answered
        if kind in ("short", "slow") and len(body) > 1:
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            if kind == "short":
                return False
            await asyncio.sleep(self.slow_s)
            body = body[len(body) // 2 :]
            head = b""
        writer.write(head)
        for first in range(0, len(body), PIECE):
            writer.write(memoryview(body)[first : first + PIECE])
            await writer.drain()
        await writer.drain()
        return True


async def _message(reader: asyncio.StreamReader, of: str = "") -> tuple[bytes, bytes] | None:
    """Head and body of a request, or of the answer to one of the method `of`; None at the end of a connection."""
    lines = [await reader.readline()]
    if not lines[0]:
        return None
    headers: dict[str, str] = {}
    while (line := await reader.readline()) not in (b"\r\n", b""):
        lines.append(line)
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    head = b"".join([*lines, b"\r\n"])
    if of == "HEAD" or lines[0].split()[1:2] == [b"204"] or lines[0].split()[1:2] == [b"304"]:
        return head, b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            size = await reader.readline()
            body += size + await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
            if size.strip().startswith(b"0"):
                return head, body
    if of and "content-length" not in headers and lines[0].startswith(b"HTTP"):
        return head, await reader.read()
    if headers.get("expect", "").lower() == "100-continue":
        raise ConnectionError("this proxy does not wait for bodies")
    return head, await reader.readexactly(int(headers.get("content-length", 0)))
