"""`open_stream`: from whatever the user has to a `Stream`, by a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamem.core.completing import completed
from streamem.core.errors import ParameterError
from streamem.core.ports import Stream
from streamem.machine.importing import import_whole


@dataclass(frozen=True)
class Kind:
    """One row of the table: how to recognise a stream, and how to open it (imported on first use)."""

    name: str
    recognises: Callable[[Any], bool]
    open: Callable[[Any, Sequence[str] | None], Stream]


def is_stream(data: Any) -> bool:
    """Whether data is a `Stream` already."""
    if isinstance(data, Stream):
        return True
    of_class = all(hasattr(type(data), name) for name in ("messages", "commit"))
    return of_class and all(hasattr(data, name) for name in ("name", "replayable"))


def _part(module: str, name: str) -> Any:
    return getattr(import_whole(f"streamem.streams.{module}"), name)


def _is_path(data: Any) -> bool:
    return isinstance(data, str | os.PathLike)


def _has_scheme(data: Any, scheme: str) -> bool:
    return isinstance(data, str) and data.startswith(f"{scheme}://")


def _is_dash(data: Any) -> bool:
    return isinstance(data, str) and data == "-"


def open_broker(address: str, start: str = "beginning") -> Stream:
    """The stream that an address of a broker names; `start` is "beginning" or "end", where there is no position.

    Raises
    ------
    ParameterError : it is no such address
    """
    opened: Stream = BROKERS[urlsplit(address).scheme](address, start)
    return opened


def is_broker(data: Any) -> bool:
    """Whether data is an address that `open_broker` takes."""
    return isinstance(data, str) and "://" in data and data.partition("://")[0] in BROKERS


def _parts(address: str, *known: str) -> tuple[SplitResult, dict[str, str]]:
    """An address in parts, and what stands behind its question mark."""
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - set(known)):
        told = f"one of {list(known)}" if known else "none"
        raise ParameterError(f"{address} has the options {unknown} behind its question mark; this address takes {told}")
    return parts, options


def _kafka(address: str, start: str) -> Any:
    parts, _ = _parts(address)
    topic = parts.path.strip("/")
    if not parts.netloc or not topic:
        raise ParameterError(f"{address} is no Kafka topic; write kafka://host:9092/topic")
    if "@" in parts.netloc:
        raise ParameterError(
            f"{address}: the address of a Kafka cluster takes no user and password; pass KafkaStream(servers, topic, "
            "settings={'security.protocol': 'SASL_SSL', 'sasl.username': user, 'sasl.password': word})"
        )
    return _part("kafka", "KafkaStream")(parts.netloc, topic, start=start)


def _redis(address: str, start: str) -> Any:
    parts, _ = _parts(address)
    database, _, key = parts.path.strip("/").rpartition("/")
    if not parts.netloc or not key or not (database.isdigit() or not database):
        raise ParameterError(f"{address} is no Redis stream; write redis://host:6379/key, or …/0/key for a database")
    return _part("redis", "RedisStream")(f"redis://{parts.netloc}/{database or 0}", key, start=start)


def _nats(address: str, start: str) -> Any:
    parts, options = _parts(address, "subject")
    login, _, servers = parts.netloc.rpartition("@")
    stream = parts.path.strip("/")
    if not servers or not stream or options.get("subject") == "":
        raise ParameterError(
            f"{address} is no stream of JetStream; write nats://host:4222/STREAM, or …/STREAM?subject=orders.* for "
            "some of its subjects"
        )
    user, colon, word = (unquote(part) for part in login.partition(":"))
    settings = {"user": user, "password": word} if colon else {"token": user} if user else {}
    return _part("nats", "NatsStream")(servers, stream, subject=options.get("subject"), start=start, settings=settings)


BROKERS: dict[str, Callable[[str, str], Any]] = {"kafka": _kafka, "redis": _redis, "nats": _nats}
"""What opens an address of a broker, by what stands before ``://``."""


def _bytes(data: Any, columns: Sequence[str] | None) -> Stream:
    stream: Stream = _part("byte_stream", "ByteStream")(data)
    return stream


def _folder(data: Any, columns: Sequence[str] | None) -> Stream:
    stream: Stream = _part("folder", "FolderStream")(data, columns)
    return stream


def _iterator(data: Any, columns: Sequence[str] | None) -> Stream:
    stream: Stream = _part("iterator", "IteratorStream")(data)
    return stream


def _other_scheme(data: Any, columns: Sequence[str] | None) -> Stream:
    raise ParameterError(
        f"{data} is no stream that can be opened: of addresses, kafka://, redis://, nats:// and tcp:// can; of others "
        "pass the file object, as fsspec.open(address).open() gives it, and of local files the path"
    )


def _is_file(data: Any) -> bool:
    """A binary file object, or one of text with a binary one below; other things have a `read` too."""
    return hasattr(data, "readinto") or (hasattr(data, "buffer") and hasattr(data, "readline"))


def _is_table(data: Any) -> bool:
    """Whether an object is one batch, not a stream of batches."""
    return hasattr(data, "shape") or hasattr(data, "to_pydict") or isinstance(data, dict)


def _refuse(data: Any, columns: Sequence[str] | None) -> Stream:
    raise ParameterError(
        f"a {type(data).__name__} is one batch, not a stream: pass it to partial_fit, or pass an iterable of batches"
    )


KINDS: list[Kind] = [
    Kind("Kafka, Redis or NATS", is_broker, lambda data, columns: open_broker(data)),
    Kind("socket or standard input", lambda data: _has_scheme(data, "tcp") or _is_dash(data), _bytes),
    Kind("other address", lambda data: isinstance(data, str) and "://" in data, _other_scheme),
    Kind("folder", lambda data: _is_path(data) and Path(data).is_dir(), _folder),
    Kind("file or pipe", lambda data: _is_path(data) or _is_file(data), _bytes),
    Kind("one batch", _is_table, _refuse),
    Kind("iterator", lambda data: hasattr(data, "__iter__") or callable(data), _iterator),
]


def open_stream(data: Any, columns: Sequence[str] | None = None) -> Stream:
    """A stream from a path, an address, a file object, or an iterable of batches.

    Parameters
    ----------
    data : a `Stream`; "-" (standard input), "tcp://host:port", "kafka://host:9092/topic", "redis://host:6379/key",
        "nats://host:4222/STREAM?subject=…"; the path of a folder of Parquet files that grows; the path of, or a binary
        file object with, an Arrow IPC stream or JSON lines; an iterable of arrays, tables or mappings, or a function
        that returns one
    columns : those that will be needed, where reading fewer is cheaper

    Raises
    ------
    ParameterError : nothing of these
    """
    if is_stream(data):
        return completed(data, Stream)
    for kind in KINDS:
        if kind.recognises(data):
            return kind.open(data, columns)
    raise ParameterError(f"a {type(data).__name__} is no stream; pass {', '.join(kind.name for kind in KINDS)}")
