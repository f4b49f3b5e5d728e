"""Entries of a Redis stream.

Every read begins with the entry that was read last: as long as that one is there, trimming, which takes the oldest
first, has taken nothing that was not read. Where it is gone, what the server tells about the stream decides.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from streamem.core.errors import MissingDependencyError, ParameterError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Stream
from streamem.core.redaction import redacted
from streamem.machine.importing import uninterrupted
from streamem.streams.outages import START_S, Outage
from streamem.streams.redis_places import BEGINNING, Extent, Place, text_of

logger = logging.getLogger("streamem")

BLOCK_S = 0.5
FIRST_COUNT, MOST_COUNT, BATCH_BYTES = 16, 1000, 2**23
"""Entries read at once: first, and later at most, as long as they stay below so many bytes."""
PAYLOADS = (b"data", b"arrow", b"json")
Fields = Mapping[bytes, bytes]


def _library() -> Any:
    try:
        with uninterrupted():
            import redis
    except ImportError as error:
        raise MissingDependencyError(
            'a Redis stream needs redis-py, which is not installed: pip install "streamem[redis]"'
        ) from error
    return redis


class RedisStream(Stream):
    """A stream of a Redis server, read with plain XRANGE and XREAD.

    Parameters
    ----------
    url_or_host : "redis://…", "rediss://…", "unix://…", or a host with or without a port; unused if there is a client
    key : of the stream
    start : "beginning" or "end", where there is no position
    field : the one that holds Arrow or JSON. Without, an entry with a single field "data", "arrow" or "json" is taken
        as such, any other one as a record of numbers by field name.
    client : a redis.Redis of one's own (Sentinel, Cluster, certificates), which stays open
    patience_s : for how long the server may be away
    name : under which a model saves its positions, by default ``"redis:" + key``; with another name than before, a
        model begins anew in the stream

    Notes
    -----
    A position is ``{"id": of the last entry read, "entries": added to the stream up to that one}``. Entries that were
    trimmed unread are an error from Redis 7 on; before Redis 7, where it is not certain, a warning. Entries deleted
    one by one (XDEL) are left out without a word as long as older ones are there. An entry without the field is
    unusable: Redis takes entries out of a stream and knows no tombstones.
    """

    replayable = True

    def __init__(
        self,
        url_or_host: str,
        key: str,
        *,
        start: str = "beginning",
        field: str | None = None,
        client: Any = None,
        patience_s: float = 60.0,
        name: str | None = None,
    ) -> None:
        self._redis = _library()
        self.name = name or f"redis:{key}"
        self._url, self._shown = url_or_host, redacted(url_or_host)
        self._key, self._start, self._patience_s = key, start, patience_s
        self._field = None if field is None else field.encode()
        self._given = client
        self._reading: Any = None
        self._warned, self._count = "", FIRST_COUNT
        if start not in ("beginning", "end"):
            raise ParameterError(f'start is {start!r}; it must be "beginning" or "end"')
        if client is not None and client.get_encoder().decode_responses:
            raise ParameterError(
                "client decodes what it reads, and Arrow is no text; give one with decode_responses=False"
            )

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Entries after the given position, and None when none came for half a second.

        Raises
        ------
        StreamError : a server that stays away or refuses, or entries that were trimmed before they were read
        """
        self._reading = client = self._client()
        try:
            yield from self._read(client, Place(**positions[""]) if "" in positions else None)
        finally:
            self._reading = None
            if client is not self._given:
                client.close()

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Do nothing: plain reads leave no trace on the server."""

    def lag(self, positions: Mapping[str, Any]) -> int | None:
        """Entries added since the position; None of servers before Redis 7, which do not count them."""
        if self._reading is None:
            return None
        extent = Extent.of(self._reading.xinfo_stream(self._key))
        place = Place(**positions[""]) if "" in positions else extent.anchor()
        return None if extent.added is None or place.entries is None else max(0, extent.added - place.entries)

    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        with uninterrupted():
            from redis.backoff import NoBackoff
            from redis.retry import Retry

        options = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 3, "socket_connect_timeout": 3}
        try:
            if "://" in self._url:
                return self._redis.Redis.from_url(self._url, **options)
            host, _, port = self._url.partition(":")
            return self._redis.Redis(host=host, port=int(port or 6379), **options)
        except ValueError as error:
            raise ParameterError(f'{self._shown!r} is no Redis server ({error}); give "host:port" or a URL') from error

    def _read(self, client: Any, place: Place | None) -> Iterator[Message | None]:
        outage = Outage(self.name, f"no Redis server at {self._shown}", self._patience_s, START_S)
        while True:
            try:
                place = place or self._origin(client)
                place, entries = self._following(client, place)
                came = bool(entries) or self._wait(client, place)
            except self._redis.RedisError as error:
                if not self._passes(error):
                    raise StreamError(f"{self.name}: the Redis server at {self._shown} refuses: {error}") from error
                outage.goes_on(error)
                yield None
                continue
            outage.over()
            if not came:
                yield None
            for id_, fields in entries:
                after = place.following(text_of(id_))
                yield Message(self._payload(fields), "", asdict(place), asdict(after))
                place = after

    def _passes(self, error: Exception) -> bool:
        kinds = self._redis.exceptions
        if isinstance(error, kinds.AuthenticationError | kinds.AuthorizationError):
            return False
        passing = (kinds.ConnectionError, kinds.TimeoutError, kinds.ClusterDownError, kinds.TryAgainError)
        # A server that becomes a replica wakes those that wait on it.
        return isinstance(error, passing) or str(error).startswith("UNBLOCKED")

    def _origin(self, client: Any) -> Place:
        if self._start == "beginning":
            return Place(BEGINNING, None)
        extent, _ = self._extent(client, BEGINNING)
        return Place(extent.last, extent.added)

    def _following(self, client: Any, place: Place) -> tuple[Place, list[tuple[bytes, Fields]]]:
        """The place that was read to, and the entries after it as far as they fit."""
        if place.id != BEGINNING:
            entries = client.xrange(self._key, min=place.id, count=self._count + 1)
            if entries and text_of(entries[0][0]) == place.id:
                return place, self._sized(entries[1:])
        extent, entries = self._extent(client, place.id)
        if place.fresh:
            return extent.anchor(), self._sized(entries)
        self._verify(extent, place)
        return place, self._sized(entries)

    def _extent(self, client: Any, id_: str) -> tuple[Extent, list[tuple[bytes, Fields]]]:
        """Extent of the stream, and entries from an id on, at one moment."""
        pipeline = client.pipeline(transaction=True)
        pipeline.xinfo_stream(self._key)
        pipeline.xrange(self._key, min=id_, count=self._count)
        info, entries = pipeline.execute(raise_on_error=False)
        if isinstance(entries, Exception):
            raise entries
        if isinstance(info, Exception):
            if "no such key" not in str(info):
                raise info
            return Extent(), []
        return Extent.of(info), entries

    def _verify(self, extent: Extent, place: Place) -> None:
        """The entry read last is gone: was anything after it, too?"""
        lost = extent.lost(place)
        if lost:
            raise StreamError(
                f"{self.name}: was to be read after entry {place.id}, the stream now has {extent.length} entries from "
                f"{extent.first} to {extent.last}: {lost}. Restore them, start a new model, or go on "
                "with this one as with a new stream: another name= of the stream begins where start= says. Keep more "
                "entries (MAXLEN, MINID), and let the server sync them to disk"
            )
        if lost == "" and self._warned != place.id:
            self._warned = place.id
            logger.warning(
                "%s: entry %s, read last, was trimmed; whether others after it were, too, the server does not tell "
                "(Redis 7 does). Going on with %s", self.name, place.id, extent.first,
            )  # fmt: skip

    def _wait(self, client: Any, place: Place) -> bool:
        """Whether an entry comes in time."""
        patience_s = client.get_connection_kwargs().get("socket_timeout") or 2 * BLOCK_S
        block_ms = max(1, int(1000 * min(BLOCK_S, patience_s / 2)))
        return bool(client.xread({self._key: place.id}, count=1, block=block_ms))

    def _sized(self, entries: list[tuple[bytes, Fields]]) -> list[tuple[bytes, Fields]]:
        """The entries as they are; their size says how many to read next time."""
        if entries:
            nbytes = sum(len(value) for _, fields in entries for value in fields.values())
            fitting = BATCH_BYTES * len(entries) // max(1, nbytes)
            self._count = max(1, min(fitting, 2 * self._count, MOST_COUNT))
        return entries

    def _payload(self, fields: Fields) -> Any:
        if self._field is not None:
            return fields.get(self._field, b"")
        if len(fields) == 1:
            ((name, value),) = fields.items()
            if name in PAYLOADS:
                return value
        return {name.decode(errors="replace"): _number(value) for name, value in fields.items()}


def _number(value: bytes) -> float | str:
    """A field's text as a number if it is one; texts that only Python takes for one (1_000) stay, to be refused."""
    try:
        return float(value) if b"_" not in value else value.decode(errors="replace")
    except ValueError:
        return value.decode(errors="replace")
