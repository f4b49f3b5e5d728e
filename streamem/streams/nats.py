"""Messages of a NATS JetStream stream, by their sequence numbers.

Every read begins with the message that was read last: its time tells whether the stream is still the one that was read.
The server keeps nothing about the reader; where it was is in the model file alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as NoResult
from dataclasses import asdict, dataclass
from typing import Any

from streamem.core.errors import MissingDependencyError, ParameterError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Stream
from streamem.core.redaction import presentable, redacted
from streamem.machine.importing import uninterrupted
from streamem.streams.nats_link import Arrived, Interrupted, Link
from streamem.streams.outages import START_S, Outage

logger = logging.getLogger("streamem")

OURS = {
    *("servers", "error_cb", "disconnected_cb", "closed_cb", "reconnected_cb", "discovered_server_cb"),
    *("allow_reconnect", "max_reconnect_attempts", "reconnect_time_wait"),
}
"""Settings of the client that the stream makes itself."""
SUBJECT = re.compile(r">|([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?")
NO_JETSTREAM = {10039, 10076}
"""Codes of a server, or of an account, that has no JetStream and will have none."""
FORBIDDEN = re.compile(r"(?i)(authori[sz]ation|permissions) violation|authentication (expired|revoked|timeout)")
"""What a server says to whom it does not let in."""
REMOVED = {"KV-Operation": ("DEL", "PURGE"), "Nats-Marker-Reason": ("MaxAge", "Purge", "Remove")}
"""Headers of messages which say that a key is gone, as tombstones of Kafka do."""


def _library() -> Any:
    try:
        with uninterrupted():
            import nats
            import nats.js.errors
    except ImportError as error:
        raise MissingDependencyError(
            'a JetStream stream needs nats-py, which is not installed: pip install "streamem[nats]"'
        ) from error
    return nats


@dataclass(frozen=True)
class Place:
    """How far a stream was read.

    Attributes
    ----------
    sequence : number of the last message read; before the first, that of the message before it
    time : when the stream took that message (nanoseconds since 1970); None before the first
    read : how many messages were read
    """

    sequence: int
    time: int | None = None
    read: int = 0

    def following(self, message: Arrived) -> Place:
        """The place after one more message."""
        return Place(message.sequence, message.time, self.read + 1)


class NatsStream(Stream):
    """A stream of NATS JetStream, read by sequence numbers.

    Parameters
    ----------
    servers : "host:port" or "nats://host:port", several separated by commas or as a list; "tls://…" encrypts
    stream : its name
    subject : of which subjects messages are read ("orders.*", "orders.>"); without, all of them
    start : "beginning" or "end", where there is no position
    settings : of `nats.connect`: user, password, token, user_credentials (a file), nkeys_seed, tls, inbox_prefix, …
    patience_s : for how long the server may be away
    name : under which a model saves its positions, by default ``"nats:" + stream``; with another name than before, a
        model begins anew in the stream

    Notes
    -----
    A position is ``{"sequence": number of the last message read, "time": when the stream took it, "read": how many}``.
    Messages that were purged or expired before they were read are an error; of a `subject`, where they may all
    have been of other subjects, a warning. Messages deleted one by one are passed over. A marker of a deleted key (of a
    key-value store, or of a limit on age) is passed over, too, and counted in ``report_.events["tombstones"]``.

    The stream has to keep its messages (retention "limits"). What is needed of the server: ``$JS.API.STREAM.INFO``,
    ``CONSUMER.CREATE``, ``CONSUMER.INFO``, ``CONSUMER.MSG.NEXT`` and ``CONSUMER.DELETE`` of that stream, and an inbox.
    """

    replayable = True

    def __init__(
        self,
        servers: str | Sequence[str],
        stream: str,
        *,
        subject: str | None = None,
        start: str = "beginning",
        settings: Mapping[str, Any] | None = None,
        patience_s: float = 60.0,
        name: str | None = None,
    ) -> None:
        self._nats = _library()
        self.name = name or f"nats:{stream}" + (f"?subject={subject}" if subject else "")
        given = servers.split(",") if isinstance(servers, str) else list(servers)
        self._servers = [one.strip() if "://" in one else f"nats://{one.strip()}" for one in given]
        self._shown = ", ".join(redacted(one) for one in self._servers)
        self._stream, self._subject, self._start = stream, subject, start
        self._settings, self._patience_s = dict(settings or {}), patience_s
        self._reading: Link | None = None
        self._offset = 0
        self._warned = False
        _check(stream, subject, start, self._settings)

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Messages after the given position, and None when none came for half a second.

        Raises
        ------
        StreamError : a server that stays away or refuses, or messages that are gone before they were read
        """
        place = Place(**positions[""]) if "" in positions else None
        self._reading = link = Link(self._nats, self._servers, self._settings, self._stream, self._subject)
        try:
            yield from self._read(link, place)
        finally:
            self._reading = None
            link.close()

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Do nothing: the server keeps no position of the reader."""

    def lag(self, positions: Mapping[str, Any]) -> int | None:
        """Messages that the stream holds beyond the position."""
        link = self._reading
        found = None if link is None else link.behind()
        if found is None:
            return None
        sent, more = found
        read = Place(**positions[""]).read if "" in positions else 0
        return max(0, self._offset + sent + more - read)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, link: Link, place: Place | None) -> Iterator[Message | None]:
        outage = Outage(self.name, f"no NATS server with JetStream at {self._shown}", self._patience_s, START_S)
        while True:
            try:
                if not link.is_open:
                    place = self._attach(link, place)
                assert place is not None
                arrived = self._unread(place, link.fetch())
                self._require_whole(link, place, arrived)
            except StreamError:
                raise
            except (Interrupted, self._nats.errors.Error, OSError, NoResult) as failure:
                told = isinstance(failure, TimeoutError | self._nats.errors.NoServersError)
                error = link.trouble if told and link.trouble is not None else failure
                link.detach()
                self._require_passing(error)
                outage.goes_on(error)
                yield None
                continue
            outage.over()
            if not arrived:
                yield None
            for one in arrived:
                after = place.following(one)
                headers = tuple((name, text.encode()) for name, text in (one.headers or {}).items())
                yield Message(_payload(one), "", asdict(place), asdict(after), headers)
                place = after

    def _attach(self, link: Link, place: Place | None) -> Place:
        """Connect and begin to read; where that is."""
        info = link.connect()
        retention = str(getattr(info.config.retention, "value", info.config.retention))
        if retention not in ("limits", "None"):
            raise StreamError(
                f"{self.name}: the stream keeps messages only until they are acknowledged (retention {retention!r}): a "
                "model could not go on where it was. Read a stream with retention 'limits', such as one that has this "
                "one as its source"
            )
        first, last = info.state.first_seq, info.state.last_seq
        if place is None:
            place = Place(last if self._start == "end" else max(0, first - 1))
        elif last < place.sequence:
            raise StreamError(
                f"{self.name}: was to be read after message {place.sequence}, the stream has {info.state.messages} "
                f"messages up to number {last}: it was made anew, or lost its newest messages. Restore it, name the "
                "stream that the model learned from, or start a new model"
            )
        else:
            self._require_kept(place, first)
        anchored = place.time is not None and place.sequence > 0
        self._offset = place.read - (1 if anchored and first <= place.sequence else 0)
        link.consume(place.sequence if anchored else place.sequence + 1)
        return place

    def _unread(self, place: Place, arrived: list[Arrived]) -> list[Arrived]:
        """The messages without the one that was read last, with which a consumer begins."""
        if not arrived or arrived[0].sequence != place.sequence:
            return arrived
        if arrived[0].time != place.time:
            raise StreamError(
                f"{self.name}: message {place.sequence}, read last, is another one now: the stream was made anew. "
                "Restore it, name the stream that the model learned from, or start a new model"
            )
        return arrived[1:]

    def _require_whole(self, link: Link, place: Place, arrived: list[Arrived]) -> None:
        """Numbers that are left out are of other subjects or deleted by name; or else the reader came too late."""
        if arrived and arrived[-1].sequence - place.sequence > len(arrived):
            first = link.information().state.first_seq
            before = place.sequence
            for one in arrived:
                if one.sequence > before + 1:
                    self._require_kept(Place(before), first)
                before = one.sequence

    def _require_kept(self, place: Place, first: int) -> None:
        """Whether what comes after the place is still in a stream that begins with message `first`."""
        if first <= place.sequence + 1:
            return
        gone = f"messages {place.sequence + 1} to {first - 1} were purged or expired"
        if self._subject is None:
            raise StreamError(
                f"{self.name}: was to be read after message {place.sequence}, the stream begins with {first}: {gone} "
                "unread. Restore them or start a new model; keep messages longer (max_age, max_msgs, max_bytes)"
            )
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s: %s before they were looked at; whether some of them were of the subject, nobody knows", self.name,
                gone,
            )  # fmt: skip

    def _require_passing(self, error: Exception) -> None:
        """Raise of what no patience helps against."""
        errors, api = self._nats.errors, self._nats.js.errors
        told = redacted(str(error))
        if isinstance(error, api.NotFoundError) and getattr(error, "err_code", None) == 10059:
            raise StreamError(
                f"{self.name}: the server at {self._shown} has no stream {self._stream!r}; check its name and the "
                "account, or create it"
            ) from presentable(error)
        final = isinstance(error, errors.AuthorizationError | errors.InvalidUserCredentialsError | api.BadRequestError)
        final = final or getattr(error, "err_code", None) in NO_JETSTREAM
        final = final or (isinstance(error, api.APIError) and 400 <= (error.code or 500) < 500 and error.code != 404)
        if final or FORBIDDEN.search(told):
            raise StreamError(
                f"{self.name}: the server at {self._shown} refuses: {told}; check user, password and permissions "
                "(settings=), and that JetStream is on"
            ) from presentable(error)


def _check(stream: str, subject: str | None, start: str, settings: Mapping[str, Any]) -> None:
    if not stream or set(stream) & set(" .*>/\\\t\r\n"):
        raise ParameterError(f"{stream!r} is no name of a JetStream stream: one has no spaces, dots, * > / or \\")
    if subject is not None and not SUBJECT.fullmatch(subject):
        raise ParameterError(f"{subject!r} is no subject such as orders.new, orders.* or orders.>")
    if start not in ("beginning", "end"):
        raise ParameterError(f'start is {start!r}; it must be "beginning" or "end"')
    if taken := sorted(OURS & set(settings)):
        raise ParameterError(f"settings has {taken}, which the stream sets itself; leave them out")


def _payload(message: Arrived) -> bytes | None:
    headers = message.headers or {}
    if any(headers.get(name) in values for name, values in REMOVED.items()):
        return None
    return message.data
