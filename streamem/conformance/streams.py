"""The laws of a stream: going on anywhere gives what followed, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from unittest import SkipTest

from streamem.conformance.tolerance import require
from streamem.core.message import Message
from streamem.core.ports import Stream

MOST_PAUSES = 20


class StreamSuite:
    """Laws that every stream must obey, on a store that does not grow meanwhile.

    Attributes
    ----------
    expected : how many messages there are
    starts : of how many positions going on is tried
    """

    expected = 0
    starts = 7

    # --- to override -------------------------------------------------------------------------------------------------

    def make_stream(self) -> Stream:
        """The stream, opened anew at every call, over the same messages."""
        raise NotImplementedError

    # --- laws --------------------------------------------------------------------------------------------------------

    def test_all_messages_come_once(self) -> None:
        """From the beginning, `expected` messages come, no position twice."""
        found = self._read({})
        require(len(found) == self.expected > 0, f"{len(found)} messages came where {self.expected} are")
        places = [(message.partition, json.dumps(message.at, sort_keys=True)) for message in found]
        require(len(set(places)) == len(places), "a position came twice")

    def test_the_same_messages_in_the_same_order(self) -> None:
        """A second reading gives the first again."""
        self._require_replayable()
        require(self._shown(self._read({})) == self._shown(self._read({})), "a second reading differs from the first")

    def test_going_on_gives_what_followed(self) -> None:
        """After any message, the positions behind it, as JSON gives them back, lead to the next one."""
        self._require_replayable()
        whole = self._read({})
        for stop in self._stops(len(whole)):
            rest = self._read(_after(whole[:stop]), len(whole) - stop)
            require(
                self._shown(rest) == self._shown(whole[stop:]),
                f"after {stop} of {len(whole)} messages, {len(rest)} came that are not those that followed",
            )

    def test_a_message_can_be_had_again(self) -> None:
        """Started at the position of a message, it comes first of its partition."""
        self._require_replayable()
        whole = self._read({})
        for stop in self._stops(len(whole) - 1):
            wanted = whole[stop]
            positions = {**_after(whole[:stop]), wanted.partition: wanted.at}
            rest = self._read(positions, len(whole) - stop)
            again = next(m for m in rest if m.partition == wanted.partition)
            require(self._shown([again]) == self._shown([wanted]), f"message {stop} did not come again at its position")

    def test_commit_may_be_called_at_any_time(self) -> None:
        """`commit` never raises: it is for displays only."""
        stream = self.make_stream()
        stream.commit({})
        stream.commit(_after(self._read({})))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _read(self, positions: Mapping[str, Any], to_come: int | None = None) -> list[Message]:
        """All messages from the positions on, until the end or a pause when all came that were `to_come`.

        Where none is to come, or some do not, a longer pause is waited for.
        """
        wanted = self.expected if to_come is None else to_come
        found: list[Message] = []
        pauses = 0
        messages = self.make_stream().messages(json.loads(json.dumps(positions)))
        for message in messages:
            if message is not None:
                found.append(message)
            pauses = pauses + 1 if message is None else 0
            if pauses and (len(found) >= wanted > 0 or pauses > MOST_PAUSES):
                break
            if pauses > 2 and positions:
                break
        close = getattr(messages, "close", None)
        if close is not None:
            close()
        return found

    def _stops(self, count: int) -> list[int]:
        return sorted({round(i * count / self.starts) for i in range(self.starts + 1)})

    def _shown(self, messages: list[Message]) -> list[tuple[str, str, str, str]]:
        return [(m.partition, json.dumps(m.at), json.dumps(m.after), _text(m.payload)) for m in messages]

    def _require_replayable(self) -> None:
        if not self.make_stream().replayable:
            raise SkipTest("what this stream has delivered cannot be had again")


def _after(messages: list[Message]) -> dict[str, Any]:
    return {message.partition: message.after for message in messages}


def _text(payload: Any) -> str:
    return str(payload.to_pylist()) if hasattr(payload, "to_pylist") else repr(payload)
