"""Messages framed by a schema registry: Avro and JSON, new schemas in the middle, and all that may be wrong."""

from __future__ import annotations

import inspect
import json
import sys
import uuid
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import streamem
from helpers.schema_registry import PASSWORD, SchemaRegistry, avro, framed, record_of, schema_registry
from helpers.tansu import Tansu
from streamem import GaussianHMM, GaussianMixture
from streamem.cli import main
from streamem.core.errors import DataError, MissingDependencyError, ParameterError, PoisonError, StreamError
from streamem.core.message import Message
from streamem.online.append_only_arrow import read_appended
from streamem.streams.registry import RegistryDecoder

X = np.random.default_rng(0).normal(size=(300, 2))
RECORD = record_of("a", "b")


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as registry:
        yield registry


def decoder_of(registry: SchemaRegistry) -> RegistryDecoder:
    return RegistryDecoder(registry.url, {"max.retries": 0})


def in_avro(number: int, rows: Any) -> list[bytes]:
    return [framed(number, avro(RECORD, {"a": a, "b": b})) for a, b in rows.tolist()]


def in_json(number: int, rows: Any) -> list[bytes]:
    return [framed(number, json.dumps({"a": a, "b": b}).encode()) for a, b in rows.tolist()]


def learned(messages: Any, decoder: Any, folder: Path, **settings: Any) -> tuple[GaussianMixture, list[Any]]:
    """The model, and its dead letters."""
    gm = GaussianMixture(1)
    gm.fit_stream(messages, decoder=decoder, batch_rows=50, dead_letter=folder / "bad.arrows", **settings)
    letters = folder / "bad.arrows"
    return gm, read_appended(letters).to_pylist() if letters.exists() else []


def plain(rows: Any) -> GaussianMixture:
    return GaussianMixture(1).fit_stream([rows], batch_rows=50)


def same(first: GaussianMixture, second: GaussianMixture) -> bool:
    return first.means_.tobytes() == second.means_.tobytes() and first.report_.n_rows == second.report_.n_rows


def test_avro_and_json_by_the_schema_of_each_message(registry: SchemaRegistry, tmp_path: Path) -> None:
    """A schema with one field more comes in the middle; each is asked for once."""
    old, text = registry.add(RECORD), registry.add({"type": "object"}, "JSON")
    wide = record_of("more", "a", "b")
    new = registry.add(wide)
    added = [framed(new, avro(wide, {"more": 9.0, "a": a, "b": b})) for a, b in X[200:].tolist()]
    messages = [*in_avro(old, X[:100]), *in_json(text, X[100:200]), *added, *in_avro(old, X[:50])]
    gm, letters = learned(messages, decoder_of(registry), tmp_path)
    assert same(gm, plain(np.concatenate([X, X[:50]])))
    assert letters == []
    assert [path.partition("?")[0] for path in registry.asked] == [f"/schemas/ids/{n}" for n in (old, text, new)]


def test_what_is_wrong_with_a_message_is_a_dead_letter(registry: SchemaRegistry, tmp_path: Path) -> None:
    known, other = registry.add(RECORD), registry.add("syntax = ...", "PROTOBUF")
    less, looped = registry.add(record_of("a")), registry.add(LOOPED)
    odd, broken = registry.add({"type": "double"} | {"type": "string"}), registry.add({"type": "nonsense"})
    idle, doubling = registry.add(NULLS), registry.add(doubled(12))
    good = in_avro(known, X[:1])[0]
    bad = {
        framed(99, good[5:]): "knows no schema 99",
        good[:-3]: f"no Avro of schema {known}: EOFError",
        good + b"x": "1 bytes are left behind it",
        b'{"a": 1.0, "b": 2.0}': "a schema registry's frame is a byte 0",
        framed(other, b"abc"): f"schema {other} is PROTOBUF",
        framed(less, avro(record_of("a"), {"a": 1.0})): "there is no field 'b'",
        framed(known, avro(RECORD, {"a": float("nan"), "b": 1.0})): "missing or NaN",
        framed(looped, b"\2" * 10**6): "nests a record in itself",
        framed(idle, b"\x80\x89\x7a"): "an array of values without bytes, such as null",  # a million of them
        framed(doubling, b""): "more than 1000 values without bytes",
        framed(odd, avro("string", "text")): f"schema {odd} is no record",
        framed(broken, b"abc"): f"schema {broken} is no Avro schema",
        b"": "begins with b''",
    }
    messages = [*in_avro(known, X[:150]), *bad, *in_avro(known, X[150:])]
    gm, letters = learned(messages, decoder_of(registry), tmp_path, poison_limit=0.05)
    assert same(gm, plain(X))
    for letter, (payload, reason) in zip(letters, bad.items(), strict=True):
        assert reason in letter["reason"]
        assert letter["payload"] == payload[: 2**20]
    assert PASSWORD not in str(letters)


NULLS = {"type": "record", "name": "Nulls", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}


def doubled(times: int) -> Any:
    """A record of two records of two records …, in the end of nothing: a message of no bytes has 2 ** times nulls."""
    schema: Any = {"type": "record", "name": "Leaf", "fields": [{"name": "a", "type": "null"}]}
    for i in range(times):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": schema["name"]}]
        schema = {"type": "record", "name": f"Twice{i}", "fields": fields}
    return schema


LOOPED = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


@pytest.mark.variations(7, 7)
@pytest.mark.parametrize(
    ("items", "reads"),
    [
        ("double", True),
        (["null", "double"], True),
        ({"type": "map", "values": "null"}, True),
        ({"type": "record", "name": "Empty", "fields": []}, False),
        ({"type": "fixed", "name": "None", "size": 0}, False),
        ({"type": "record", "name": "Both", "fields": [{"name": "a", "type": {"type": "null"}}]}, False),
        ({"type": "array", "items": "null"}, False),
    ],
)
def test_arrays_of_what_takes_no_bytes(registry: SchemaRegistry, items: Any, reads: bool) -> None:
    """They may claim any length in a few bytes."""
    message = framed(registry.add({"type": "array", "items": items}), b"\0")
    if reads:
        assert decoder_of(registry)(message) == []
    else:
        with pytest.raises(DataError, match="an array of values without bytes"):
            decoder_of(registry)(message)


def test_a_registry_that_fails_loses_no_record(registry: SchemaRegistry, tmp_path: Path) -> None:
    """Nothing is put aside, and the same call goes on where it was; a schema that is known needs no registry."""
    old, new = registry.add(RECORD), registry.add({"type": "object"}, "JSON")
    messages = [*in_avro(old, X[:200]), *in_json(new, X[200:])]
    files = {"checkpoint": tmp_path / "live.npz"}
    for status, told in ((503, "refuses when asked for schema 8"), (401, "told to fail"), (404, "status code 404")):
        decoder = decoder_of(registry)
        decoder(messages[0])
        registry.fails = status
        with pytest.raises(StreamError, match=told) as caught:
            learned(messages, decoder, tmp_path, **files)
        registry.fails = None
        assert type(caught.value) is StreamError  # no PoisonError, which dead letters are
        assert "No record is lost" in str(caught.value)
        assert PASSWORD not in "".join([str(caught.value), repr(caught.value.__cause__), repr(decoder)])
        assert GaussianMixture.load(tmp_path / "live.npz").report_.n_rows == 200
    away = RegistryDecoder("http://reader:secretword@127.0.0.1:1", {"max.retries": 0})
    with pytest.raises(StreamError, match=r"registry at http://\*\*\*@127.0.0.1:1 does not answer .*refused"):
        learned(messages, away, tmp_path, **files)
    gm, letters = learned(messages, decoder_of(registry), tmp_path, **files)
    assert same(gm, plain(X))
    assert letters == []
    with zipfile.ZipFile(tmp_path / "live.npz") as model:
        assert not any(PASSWORD.encode() in model.read(name) for name in model.namelist())


def test_frames_without_a_decoder_are_named() -> None:
    for payload, told in ((in_avro(7, X[:1])[0], "id 7"), (b"\1" + bytes(range(16)) + b"abc", "00010203")):
        with pytest.raises(PoisonError, match=rf"framed by a schema registry \(schema.*{told}.*--schema-registry URL"):
            GaussianMixture(1).fit_stream([payload])


def test_references_decimals_and_lists(registry: SchemaRegistry, tmp_path: Path) -> None:
    """A record of which a field has the type of another subject; decimals are floats; arrays are several records."""
    price = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    registry.add({"type": "record", "name": "far.Place", "fields": [{"name": "q", "type": "int"}]}, subject="place")
    fields = [
        {"name": "a", "type": price},
        {"name": "b", "type": ["null", "float"]},
        {"name": "at", "type": "far.Place"},
    ]
    refers = [{"name": "far.Place", "subject": "place", "version": 1}]
    number = registry.add(
        {"type": "array", "items": {"type": "record", "name": "r", "fields": fields}}, references=refers
    )
    records = [{"a": Decimal("1.25"), "b": 0.5, "at": {"q": 1}}, {"a": Decimal(2), "b": None, "at": {"q": 1}}]
    place = json.loads(registry.schemas[7]["schema"])
    fields[2]["type"] = place
    each = [avro({"type": "record", "name": "r", "fields": fields}, one) for one in records]
    message = framed(number, b"\4" + b"".join(each) + b"\0")  # a block of two, and no more
    assert decoder_of(registry)(message) == [{**record, "a": float(record["a"])} for record in records]
    gm, letters = learned([message] * 8, decoder_of(registry), tmp_path, columns=["a", "b"], poison_limit=1.0)
    assert gm.means_.tolist() == [[1.25, 0.5]]
    assert [json.loads(letter["payload"])["a"] for letter in letters] == [2.0] * 8


def test_an_id_in_a_header(registry: SchemaRegistry) -> None:
    """As Confluent's newer serializers write it: a byte 1 and a GUID; or as the payload has it."""
    number = registry.add(RECORD)
    body, decoder = avro(RECORD, {"a": 1.0, "b": 2.0}), decoder_of(registry)
    guid = b"\1" + uuid.UUID(registry.schemas[number]["guid"]).bytes
    for header in (guid, framed(number, b"")):
        assert decoder(body, [("other", b"x"), ("__value_schema_id", header)]) == {"a": 1.0, "b": 2.0}
    assert decoder(guid + body) == {"a": 1.0, "b": 2.0}
    for header, told in (
        (b"\1abc", "the header __value_schema_id begins"),
        (b"\1" + bytes(16), "knows no schema 0000"),
    ):
        with pytest.raises(DataError, match=told):
            decoder(body, [("__value_schema_id", header)])


@pytest.mark.brokers
def test_headers_of_a_real_broker_on_the_command_line(
    registry: SchemaRegistry, tansu: Tansu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tombstones among them; without the address of the registry an error that names it."""
    number = registry.add(RECORD)
    guid = b"\1" + uuid.UUID(registry.schemas[number]["guid"]).bytes
    tansu.create("avro", 1)
    bodies = [message[5:] for message in in_avro(number, X[:200])]
    tansu.send("avro", 0, None, *bodies, None, headers=[("__value_schema_id", guid)])
    tansu.send("avro", 0, *in_avro(number, X[200:]))
    monkeypatch.chdir(tmp_path)
    command = ["update", "live.npz", "-k", "1", "--kafka", tansu.servers, "--topic", "avro", "--batch-rows", "50"]
    done = CliRunner().invoke(main, [*command, "--until-rows", "300"])
    assert done.exit_code == 1
    assert "its header __value_schema_id names a schema: pass decoder=RegistryDecoder(url)" in done.output
    done = CliRunner().invoke(main, [*command, "--until-rows", "100", "--schema-registry", registry.url])
    assert "100 rows learned, 100 in all" in done.output
    environment = {"STREAMEM_SCHEMA_REGISTRY": registry.url}
    done = CliRunner().invoke(main, [*command, "--until-rows", "200"], env=environment)
    assert "200 rows learned, 300 in all, 2 tombstones" in done.output
    assert same(GaussianMixture.load(tmp_path / "live.npz"), plain(X))
    assert PASSWORD not in done.output


class Queued:
    """A stream of payloads with headers."""

    name, replayable = "queue", True

    def __init__(self, *messages: tuple[Any, Any]) -> None:
        self._messages = messages

    def messages(self, positions: Any) -> Iterator[Message]:
        for i, (payload, headers) in enumerate(self._messages):
            yield Message(payload, "", i, i + 1, headers)

    def commit(self, positions: Any) -> None:
        """Nobody to tell."""


def test_a_decoder_of_ones_own(tmp_path: Path) -> None:
    """It gets bytes and headers, may give anything that is read here, and says by ValueError what is no record."""

    def halves(payload: bytes, headers: Any) -> Any:
        if payload == b"bad":
            raise ValueError("told so")
        if payload == b"none":
            return None
        scale = float(dict(headers).get("scale", b"1"))
        values = np.frombuffer(payload).reshape(-1, 2) * scale
        return {"j": b'[{"a": 1, "b": 2}]', "n": values}.get(dict(headers).get("as", b"n").decode(), values)

    rows = [(X[:100].tobytes(), ()), (b"bad", ()), ((X[100:] / 2).tobytes(), [("scale", b"2")]), (b"none", ())]
    gm, letters = learned(Queued(*rows, (b"", [("as", b"j")])), halves, tmp_path)
    assert same(gm, plain(np.concatenate([X, [[1.0, 2.0]]])))
    assert [(letter["payload"], "told so" in letter["reason"]) for letter in letters] == [(b"bad", True)]

    def broken(payload: bytes, headers: Any) -> Any:
        raise KeyError("a fault of its own")

    with pytest.raises(KeyError, match="a fault of its own"):
        learned(Queued(*rows), broken, tmp_path)
    with pytest.raises(ParameterError, match="decoder is 7"):
        GaussianMixture(1).fit_stream([X], decoder=7)  # type: ignore[arg-type]


def test_steps_of_sequences_in_avro(registry: SchemaRegistry) -> None:
    schema = record_of("run", "a")
    number = registry.add(schema)
    steps = [(i // 10, float(x)) for i, x in enumerate(X[:40, 0])]
    messages = [framed(number, avro(schema, {"run": run, "a": a})) for run, a in steps]
    settings = {"sequence_column": "run", "batch_rows": 20}
    hmm = GaussianHMM(1).fit_stream(messages, decoder=decoder_of(registry), **settings)
    expected = GaussianHMM(1).fit_stream([{"run": run, "a": a} for run, a in steps], **settings)
    assert hmm.means_.tobytes() == expected.means_.tobytes()
    assert hmm.report_.n_rows == 40


def test_every_estimator_takes_a_decoder() -> None:
    """The command line passes one on to whatever model it loads."""
    faces = [getattr(streamem, name) for name in streamem.__all__]
    learners = [face for face in faces if hasattr(face, "fit_stream")]
    assert len(learners) > 5
    assert [face.__name__ for face in learners if "decoder" not in inspect.signature(face.fit_stream).parameters] == []


def test_arguments(registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match=r"at ftp://\*\*\*@host cannot be used"):
        RegistryDecoder("ftp://user:secretword@host")
    with pytest.raises(ParameterError, match="cannot be used: .*nonsense"):
        RegistryDecoder(registry.url, {"nonsense": 1})
    with pytest.raises(ParameterError, match="leave out settings="):
        RegistryDecoder(object(), {"timeout": 1})
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(MissingDependencyError, match=r"streamem\[registry\]"):
        RegistryDecoder(registry.url)
