"""Messages framed by a schema registry, as Confluent's serializers write them: Avro and JSON.

The frame is a byte 0 and the schema's id in 4 bytes, big end first, or a byte 1 and the 16 bytes of its GUID; at the
start of the payload, or in the header ``__value_schema_id``. Source: "Schema Registry, wire format" of Confluent's
documentation. The registry is asked by Confluent's own client (security, several addresses, retries, cache), and Avro
is read by fastavro.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from streamem.core.errors import DataError, MissingDependencyError, ParameterError, StreamError
from streamem.core.formats import SCHEMA_HEADER
from streamem.core.redaction import presentable, redacted
from streamem.machine.importing import uninterrupted

UNKNOWN = range(40400, 40500)
"""Codes with which a registry that is there says that it has no such schema (40403), subject or version."""
DEFAULTS = {"timeout": 10.0}
WRAPPER, FIELD = "streamem_message", "value"
UNREADABLE = (ValueError, TypeError, LookupError, EOFError, ArithmeticError)
"""What fastavro raises about bytes that are not of a schema; it is a function of both alone."""

Key = int | str


def _libraries() -> tuple[Any, Any]:
    try:
        with uninterrupted():
            import confluent_kafka.schema_registry
            import fastavro
    except ImportError as error:
        raise MissingDependencyError(
            "messages framed by a schema registry need confluent-kafka's client of it and fastavro, which are not "
            f'installed ({error}): pip install "streamem[registry]"'
        ) from error
    return confluent_kafka.schema_registry, fastavro


class RegistryDecoder:
    """Reads messages framed by a schema registry (Confluent's, or one that speaks its protocol): Avro and JSON.

    Pass it to `fit_stream` as `decoder`. Each message is read by the schema with which it was written: fields are found
    by name, so that a schema may get fields, while one that loses a field of the model makes dead letters. JSON is not
    validated against its schema: records are checked by what the model needs of them.

    Parameters
    ----------
    registry : its URL, or several separated by commas; or a client, as ``confluent_kafka.schema_registry`` has it
    settings : of Confluent's client ("basic.auth.user.info", "ssl.ca.location", "timeout" in seconds), if there is none

    Notes
    -----
    A message without a frame, with an id that the registry does not know, in Protobuf, or whose bytes are not of its
    schema, is a dead letter. A registry that does not answer, or refuses, is an error, and no record is lost. Decimals
    become floats; of other logical types (dates, times) fastavro makes objects that are no numbers.

    Examples
    --------
    >>> from streamem.streams.registry import RegistryDecoder
    >>> decoder = RegistryDecoder("http://registry:8081")  # doctest: +SKIP
    >>> gm.fit_stream("kafka://host:9092/telemetry", decoder=decoder)  # doctest: +SKIP
    """

    def __init__(self, registry: Any, settings: Mapping[str, Any] | None = None) -> None:
        self._registry, self._avro = _libraries()
        self._readers: dict[Key, Callable[[bytes], Any]] = {}
        if not isinstance(registry, str):
            if settings:
                raise ParameterError("a client of a schema registry has its settings already; leave out settings=")
            self._client, self._shown = registry, "of the given client"
            return
        self._shown = f"at {redacted(registry)}"
        try:
            # What makes clients, unlike their class, knows "mock://…" too.
            make = self._registry.SchemaRegistryClient.new_client
            self._client = make({**DEFAULTS, **(settings or {}), "url": registry})
        except (ValueError, TypeError, OSError) as error:
            raise ParameterError(
                f"the schema registry {self._shown} cannot be used: {error}; give http://host:8081, and settings= as "
                "confluent_kafka.schema_registry.SchemaRegistryClient takes them"
            ) from presentable(error)

    def __repr__(self) -> str:
        """The address, without passwords."""
        return f"RegistryDecoder({self._shown})"

    def __call__(self, payload: bytes, headers: Sequence[tuple[str, bytes | None]] = ()) -> Any:
        """The record in a message, or several: of Avro mappings, of JSON its bytes.

        Raises
        ------
        DataError : the message is not framed, or cannot be read by its schema
        StreamError : the registry does not answer, or refuses
        """
        key, body = _split(payload, headers)
        reader = self._readers.get(key)
        if reader is None:
            reader = self._readers[key] = self._reader(key)
        return reader(body)

    def _reader(self, key: Key) -> Callable[[bytes], Any]:
        schema = self._asked(f"schema {key}", self._schema, key)
        if schema.schema_type == "JSON":
            return bytes
        if schema.schema_type not in ("AVRO", None):
            raise DataError(f"schema {key} is {schema.schema_type}; Avro and JSON are read")
        named: dict[str, Any] = {}
        try:
            parsed = self._parsed(schema, named, wrapped=True)
        except (ValueError, TypeError, LookupError, self._avro.schema.SchemaParseException) as error:
            raise DataError(f"schema {key} is no Avro schema that fastavro reads: {error!r}") from error
        if _nests_itself(parsed, frozenset()):
            raise DataError(f"schema {key} nests a record in itself, which no row of features does")
        if (much := _much_from_nothing(parsed, named)) is not None:
            raise DataError(
                f"schema {key} {much}, which no row of features has: a few bytes of it would be read for ever"
            )
        return _Avro(self._avro, f"schema {key}", parsed, "decimal" in (schema.schema_str or ""))

    def _schema(self, key: Key) -> Any:
        return self._client.get_schema(key) if isinstance(key, int) else self._client.get_schema_by_guid(key)

    def _parsed(self, schema: Any, named: dict[str, Any], wrapped: bool = False) -> Any:
        """A schema as fastavro wants it, with those to which it refers; `wrapped` in a record of one field.

        Such a record has the bytes of its field, and fastavro parses schemas that are no record at every message.
        """
        for reference in schema.references or ():
            place = f"{reference.subject!r} version {reference.version}"
            found = self._asked(place, self._client.get_version, reference.subject, reference.version)
            if _nests_itself(self._parsed(found.schema, named), frozenset()):
                raise ValueError(f"{place} nests a record in itself")
        told = json.loads(schema.schema_str)
        if wrapped:
            told = {"type": "record", "name": WRAPPER, "fields": [{"name": FIELD, "type": told}]}
        return self._avro.parse_schema(told, named_schemas=named)

    def _asked(self, what: str, ask: Callable[..., Any], *arguments: Any) -> Any:
        """What the registry answers; that it does not know a schema is the fault of a message."""
        try:
            return ask(*arguments)
        except self._registry.SchemaRegistryError as error:
            if error.error_code in UNKNOWN:
                raise DataError(f"the schema registry {self._shown} knows no {what}") from presentable(error)
            raise self._failed(what, "refuses", error) from presentable(error)
        except Exception as error:  # of whatever its client stands on
            raise self._failed(what, "does not answer", error) from presentable(error)

    def _failed(self, what: str, how: str, error: Exception) -> StreamError:
        return StreamError(
            f"the schema registry {self._shown} {how} when asked for {what}: {type(error).__name__}: {error}; check "
            "the address, and in settings= the security. No record is lost: start again when it answers"
        )


@dataclass(frozen=True)
class _Avro:
    """Reads bodies of one Avro schema."""

    library: Any
    name: str
    schema: Any
    has_decimals: bool

    def __call__(self, body: bytes) -> Any:
        stream = io.BytesIO(body)
        try:
            value = self.library.schemaless_reader(stream, self.schema, None)[FIELD]
        except UNREADABLE as error:
            raise DataError(f"the message is no Avro of {self.name}: {error!r}") from error
        if left := len(body) - stream.tell():
            raise DataError(f"the message is no Avro of {self.name}: {left} bytes are left behind it")
        if not isinstance(value, dict | list):
            raise DataError(f"{self.name} is no record: fields with names are needed, or an array of records")
        return _with_floats(value) if self.has_decimals else value


def _split(payload: bytes, headers: Sequence[tuple[str, bytes | None]]) -> tuple[Key, bytes]:
    """The id or GUID of a message's schema, and what it frames."""
    held = next((value for name, value in headers if name == SCHEMA_HEADER), None)
    frame, where = (payload, "the message") if held is None else (held, f"the header {SCHEMA_HEADER}")
    if frame[:1] == b"\0" and len(frame) >= 5:
        key: Key = int.from_bytes(frame[1:5], "big")
        size = 5
    elif frame[:1] == b"\1" and len(frame) >= 17:
        key, size = str(uuid.UUID(bytes=frame[1:17])), 17
    else:
        raise DataError(
            f"{where} begins with {frame[:5]!r}: a schema registry's frame is a byte 0 and an id of 4 bytes, or a byte "
            "1 and one of 16; leave out the decoder for messages without it"
        )
    return key, payload[size:] if held is None else payload


def _with_floats(value: Any) -> Any:
    """Records with floats instead of decimals."""
    if isinstance(value, list):
        return [_with_floats(record) for record in value]
    if isinstance(value, dict):
        return {name: float(one) if isinstance(one, Decimal) else one for name, one in value.items()}
    return float(value) if isinstance(value, Decimal) else value


def _nests_itself(node: Any, around: frozenset[str]) -> bool:
    """Whether a parsed schema holds itself: a few bytes of it would nest more deeply than any reader's stack."""
    if isinstance(node, str):
        return node in around
    if isinstance(node, list):
        return any(_nests_itself(one, around) for one in node)
    if not isinstance(node, dict):
        return False
    kind = node.get("type")
    if kind in ("record", "error"):
        around = around | {node["name"]}
        return any(_nests_itself(field["type"], around) for field in node["fields"])
    held = {"array": "items", "map": "values"}.get(kind) if isinstance(kind, str) else "type"
    return held is not None and _nests_itself(node[held], around)


MOST_IDLE = 1000


def _much_from_nothing(schema: Any, named: Mapping[str, Any]) -> str | None:
    """Where few bytes of a parsed schema may claim any number of values, in words.

    Nulls, `fixed` of no bytes and records of these alone take no bytes: an array of them says how many it has and holds
    nothing, and records that each have two of the next double at every step.
    """
    known: dict[str, tuple[bool, int]] = {}

    def size(node: Any) -> tuple[bool, int]:
        """Whether a value takes bytes, and how many values in it take none."""
        if isinstance(node, str):
            if node not in named:
                return node != "null", int(node == "null")
            if node not in known:
                known[node] = size(named[node])
            return known[node]
        if isinstance(node, list):
            return True, max((size(one)[1] for one in node), default=0)
        kind = node["type"]
        if kind in ("record", "error"):
            told = [size(field["type"]) for field in node["fields"]]
            idle = sum(number for _, number in told)
            if idle > MOST_IDLE:
                raise OverflowError(f"has records of more than {MOST_IDLE} values without bytes")
            return any(takes for takes, _ in told), idle
        if kind == "array":
            if not size(node["items"])[0]:
                raise OverflowError("has an array of values without bytes, such as null")
            return True, 0
        if kind == "map":
            size(node["values"])
            return True, 0
        if kind == "fixed":
            return node["size"] > 0, int(node["size"] == 0)
        return (True, 0) if kind == "enum" else size(kind)

    try:
        size(schema)
    except OverflowError as error:
        return str(error)
    return None
