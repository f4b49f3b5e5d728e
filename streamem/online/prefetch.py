"""Reading ahead of a stream in a thread of its own, a bounded way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self

from streamem.core.message import Damaged, Message
from streamem.core.ports import Stream

MESSAGES, NBYTES = 1024, 2**20
WAIT_S = 0.25
JOIN_S = 5.0
HANDOVER_S = 30.0


@dataclass(eq=False)
class Handover:
    """Partitions that go to another reader as soon as `done` is set."""

    partitions: tuple[str, ...]
    done: threading.Event = field(default_factory=threading.Event)


class Prefetch:
    """Messages of a stream, with a bounded number of them waiting: a fast producer waits for the model.

    Parameters
    ----------
    stream, positions : what to read, from where
    """

    def __init__(self, stream: Stream, positions: Mapping[str, Any]) -> None:
        self._stream, self._positions = stream, positions
        self._changed = threading.Condition()
        self._waiting: list[Message | Handover] = []
        self._held = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        stream.on_handover(self._hand_over)
        self._thread = threading.Thread(target=self._read, name="streamem-stream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        # One that blocks in a pipe cannot be woken: it is a daemon, and what it reads is not learned.
        self._thread.join(JOIN_S if self._stream.replayable else WAIT_S)

    def groups(self) -> Iterator[list[Message | Handover]]:
        """Messages in order, those that are there; an empty group whenever none came for a while.

        Between them, partitions that are to be handed over: the stream waits until that is done.

        Raises
        ------
        StreamError, … : whatever ended the stream, after all messages before it
        """
        while True:
            with self._changed:
                if not self._waiting and not self._ended:
                    self._changed.wait(WAIT_S)
                group, self._waiting, self._held = self._waiting, [], 0
                over = self._ended and not group
                self._changed.notify_all()
            if over:
                if self._error is not None:
                    raise self._error
                return
            yield group

    def remaining(self) -> list[Message]:
        """Stop the reader; what it has read and nobody has taken."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(WAIT_S)  # unless it blocks, in which case it has nothing
        with self._changed:
            waiting, self._waiting = self._waiting, []
        return [message for message in waiting if isinstance(message, Message)]

    def _read(self) -> None:
        messages = self._stream.messages(self._positions)
        try:
            for message in messages:
                if not self._put(message):
                    return
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(messages, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, message: Message | None) -> bool:
        """Wait for room; False if nobody wants it any more."""
        with self._changed:
            if message is not None:
                while not self._stopped and (self._held >= NBYTES or len(self._waiting) >= MESSAGES):
                    self._changed.wait()
                # Also after the stop: what was read is never thrown away here.
                self._waiting.append(message)
                self._held += _nbytes(message.payload)
                self._changed.notify_all()
            return not self._stopped

    def _hand_over(self, partitions: Sequence[str]) -> None:
        """Wait until what was learned of the partitions is saved, or nobody learns any more."""
        request = Handover(tuple(partitions))
        with self._changed:
            if self._stopped:
                return
            self._waiting.append(request)
            self._changed.notify_all()
        deadline = monotonic() + HANDOVER_S
        while not (request.done.wait(WAIT_S) or self._stopped or monotonic() > deadline):
            pass


class Inline:
    """`Prefetch` without a thread, for streams that are read by the thread that learns."""

    def __init__(self, stream: Stream, positions: Mapping[str, Any]) -> None:
        self._messages = stream.messages(positions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: no thread reads ahead."""

    def groups(self) -> Iterator[list[Message | Handover]]:
        """One message at a time."""
        for message in self._messages:
            yield [] if message is None else [message]

    def remaining(self) -> list[Message]:
        """An empty list: no message was read ahead."""
        return []


def reading(stream: Stream, positions: Mapping[str, Any]) -> Prefetch | Inline:
    """How to read a stream."""
    return Inline(stream, positions) if getattr(stream, "inline", False) else Prefetch(stream, positions)


def _nbytes(payload: Any) -> int:
    """About what a payload holds."""
    if isinstance(payload, bytes | str):
        return len(payload)
    if isinstance(payload, Damaged):
        return len(payload.data)
    if hasattr(payload, "get_total_buffer_size"):  # of Arrow, which to find nbytes reads values: they may lie
        return int(payload.get_total_buffer_size())
    try:
        return int(payload.nbytes)
    except (AttributeError, TypeError, NotImplementedError, ValueError):
        return 256
