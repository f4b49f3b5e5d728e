"""A connection to a NATS server and one ordered consumer of a stream, on an event loop in a thread of its own.

The client is asynchronous; whoever reads a stream is a plain thread. Requests are pulls that say how many messages and
how many bytes may come, so what waits here is bounded however fast the server is. The consumer acknowledges nothing and
belongs to this connection: where it is lost with it, another one begins at the message that was read last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
from collections import deque
from collections.abc import Coroutine, Mapping
from concurrent.futures import TimeoutError as NoResult
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("streamem")

WAIT_S = 0.5
"""For which a pull waits at the server where nothing is there."""
ANSWER_S = 5.0
"""Within which a server answers, else the connection is given up."""
FETCH, FETCH_BYTES = 1000, 2**23
"""Messages and bytes that a pull asks for: all that may wait here, a message that is larger by itself apart."""
IDLE_S = 120.0
"""After which the server forgets the consumer of a process that died."""
NOTHING_CAME = {"404", "408"}


class Interrupted(Exception):
    """The consumer, or the way to it, is lost; another one may be made."""


@dataclass(frozen=True)
class Arrived:
    """A message of the stream.

    Attributes
    ----------
    sequence, time : its number in the stream, and when the stream took it (nanoseconds since 1970)
    data, headers : what it holds
    """

    sequence: int
    time: int
    data: bytes
    headers: Mapping[str, str] | None


@dataclass(eq=False)
class _Pull:
    """What was asked for, and what came of it."""

    inbox: str
    number: int = 0
    due: int = 0
    waiting: deque[Arrived] = field(default_factory=deque)
    status: tuple[str, str] | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    delivered: int = 0
    whole: bool = False

    @property
    def reply(self) -> str:
        """Where words about the latest request go."""
        return f"{self.inbox}.{self.number}"

    def take(self, message: Any) -> None:
        """A message, or a word about the pull."""
        if message.reply.startswith("$JS.ACK."):
            # $JS.ACK.(domain.account.)stream.consumer.deliveries.stream sequence.consumer sequence.time.pending(.token)
            told = message.reply.split(".")
            at = 2 if len(told) == 9 else 4
            sequence, number, time_ = (int(each) for each in told[at + 3 : at + 6])
            self.due -= 1
            if number != self.delivered + 1:
                self.status = ("", f"message {self.delivered + 1} of the consumer was lost on the way")
            elif self.status is None:
                self.delivered = number
                self.waiting.append(Arrived(sequence, time_, message.data, message.headers))
        elif message.subject == self.reply:  # no word about an earlier one, which was complete already
            headers = message.headers or {}
            self.due, told = 0, (headers.get("Status", ""), headers.get("Description", ""))
            if told[1] != "Batch Completed":
                self.status = told
        self.came.set()


class Link:
    """The way to a stream. All methods are called by the thread that reads, `behind` by any.

    Parameters
    ----------
    library : the module nats
    servers, settings : as nats.connect takes them
    stream, subject : what is read; None for all subjects
    """

    def __init__(
        self, library: Any, servers: list[str], settings: Mapping[str, Any], stream: str, subject: str | None
    ) -> None:
        self._library, self._servers, self._settings = library, servers, dict(settings)
        self._stream, self._subject = stream, subject
        self._client: Any = None
        self._context: Any = None
        self._consumer: str | None = None
        self._pull = _Pull("")
        self.trouble: Exception | None = None
        self._loop = asyncio.new_event_loop()
        self._refused = asyncio.Event()
        self._loop.set_exception_handler(lambda loop, told: logger.debug("nats: %s", told.get("message")))
        self._thread = threading.Thread(target=self._loop.run_forever, name="streamem-nats", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether a consumer was made and not given up."""
        return self._consumer is not None

    def connect(self) -> Any:
        """Connect, and what the server says about the stream."""
        return self._call(self._connect(), 2 * ANSWER_S)

    def consume(self, sequence: int) -> None:
        """Make a consumer that begins with the message of that number, or the next one that is there."""
        self._call(self._consume(sequence), 2 * ANSWER_S)

    def information(self) -> Any:
        """What the server says about the stream now."""
        return self._call(self._context.stream_info(self._stream), 2 * ANSWER_S)

    def fetch(self) -> list[Arrived]:
        """Messages that are here, or else those that come within half a second.

        Raises
        ------
        Interrupted : the consumer is lost
        """
        return self._call(self._fetch(), WAIT_S + 2 * ANSWER_S)

    def behind(self) -> tuple[int, int] | None:
        """How many messages this consumer was sent, and how many more there are; None where there is none."""
        if self._consumer is None:
            return None
        info = self._call(self._context.consumer_info(self._stream, self._consumer), ANSWER_S)
        return int(info.delivered.consumer_seq), int(info.num_pending)

    def detach(self) -> None:
        """Give up the connection."""
        with suppress(Exception):
            self._call(self._leave(), ANSWER_S)
        self._client = self._context = self._consumer = None

    def close(self) -> None:
        """Give up the connection and end the thread."""
        self.detach()
        with suppress(Exception):
            self._call(_cancel_others(), ANSWER_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        if not self._loop.is_running():
            self._loop.close()

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, Any], most_s: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(most_s)
        except NoResult:
            future.cancel()
            raise

    async def _connect(self) -> Any:
        self.trouble = None
        self._refused.clear()
        self._client = client = self._library.NATS()
        ours: dict[str, Any] = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.01}
        timeout = self._settings.get("connect_timeout", ANSWER_S / 2)
        settings = {"name": "streamem", **self._settings, **ours, "connect_timeout": timeout}
        await client.connect(self._servers, error_cb=self._note, **settings)
        self._context = client.jetstream(timeout=ANSWER_S)
        return await self._unless_refused(self._context.stream_info(self._stream))

    async def _note(self, error: Exception) -> None:
        """What the client reports and does not raise: why it could not connect, what it may not do."""
        self.trouble = error
        if "permissions violation" in str(error).lower():  # to what was asked there will be no answer
            self._refused.set()
            self._pull.came.set()

    async def _unless_refused(self, work: Coroutine[Any, Any, Any]) -> Any:
        asked, refused = asyncio.create_task(work), asyncio.create_task(self._refused.wait())
        await asyncio.wait({asked, refused}, return_when=asyncio.FIRST_COMPLETED)
        refused.cancel()
        if not asked.done() and self.trouble is not None:
            asked.cancel()
            raise self.trouble
        return await asked

    async def _consume(self, sequence: int) -> None:
        name = f"streamem-{secrets.token_hex(6)}"
        self._pull = pull = _Pull(self._client.new_inbox())

        async def take(message: Any) -> None:
            pull.take(message)

        await self._client.subscribe(f"{pull.inbox}.*", cb=take, pending_msgs_limit=0, pending_bytes_limit=0)
        making = self._context.add_consumer(
            self._stream,
            name=name,
            deliver_policy="by_start_sequence",
            opt_start_seq=max(1, sequence),
            ack_policy="none",
            filter_subject=self._subject,
            inactive_threshold=IDLE_S,
            mem_storage=True,
            num_replicas=1,
        )
        await self._unless_refused(making)
        self._consumer = name

    async def _fetch(self) -> list[Arrived]:
        pull, end = self._pull, self._loop.time() + WAIT_S + ANSWER_S
        while not pull.waiting and pull.status is None:
            if self._refused.is_set() and self.trouble is not None:
                raise self.trouble
            if self._client.is_closed:
                raise Interrupted("the connection was closed")
            if self._loop.time() > end:
                raise Interrupted("the server does not answer")
            pull.came.clear()
            if pull.due <= 0:
                await self._ask(pull)
            with suppress(TimeoutError):
                await asyncio.wait_for(pull.came.wait(), WAIT_S)
        if pull.waiting:
            found = list(pull.waiting)
            pull.waiting.clear()
            return found
        assert pull.status is not None
        status, pull.status = pull.status, None
        if status[0] == "409" and "MaxBytes" in status[1] and not pull.whole:
            pull.whole = True  # a message that is larger than all that is asked for comes alone
        elif status[0] not in NOTHING_CAME:
            raise Interrupted(" ".join(filter(None, status)))
        return []

    async def _ask(self, pull: _Pull) -> None:
        wanted: dict[str, int] = {"batch": 1} if pull.whole else {"batch": FETCH, "max_bytes": FETCH_BYTES}
        pull.due, pull.whole, pull.number = wanted["batch"], False, pull.number + 1
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        request = json.dumps({**wanted, "expires": int(WAIT_S * 1e9)})
        await self._client.publish(subject, request.encode(), reply=pull.reply)

    async def _leave(self) -> None:
        client, context, consumer = self._client, self._context, self._consumer
        if client is None:
            return
        if consumer is not None and not client.is_closed:
            with suppress(Exception):
                await asyncio.wait_for(context.delete_consumer(self._stream, consumer), ANSWER_S / 5)
        with suppress(Exception):
            await client.close()


async def _cancel_others() -> None:
    """End what the client left behind on the loop."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
