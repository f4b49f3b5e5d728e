"""A small schema registry: it speaks what readers of messages ask of one, over HTTP on a port of this machine."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro

USER, PASSWORD = "reader", "hiddenwordoftests"
NOT_FOUND = {"error_code": 40403, "message": "Schema not found"}


class SchemaRegistry:
    """Schemas by id, GUID, and subject with version; `asked` are the paths that were asked for.

    Attributes
    ----------
    fails : an HTTP status with which everything is answered, or None
    """

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.fails: int | None = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                status, body = registry._answer(self.path.partition("?")[0], self.headers.get("Authorization", ""))
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, schema: Any, kind: str = "AVRO", subject: str = "", references: Any = ()) -> int:
        """The id of a new schema."""
        number = 7 + len(self.schemas)
        text = schema if isinstance(schema, str) else json.dumps(schema)
        self.schemas[number] = {"schema": text, "guid": str(uuid.UUID(int=number)), "id": number, "version": 1}
        self.schemas[number] |= {"schemaType": kind} if kind != "AVRO" else {}
        self.schemas[number] |= {"subject": subject, "references": list(references)}
        return number

    def _answer(self, path: str, authorization: str) -> tuple[int, Any]:
        if self.fails is not None:
            return self.fails, {"error_code": self.fails, "message": "told to fail"}
        if authorization != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
            return 401, {"error_code": 401, "message": "Unauthorized"}
        found = [one for one in self.schemas.values() if path in _paths(one)]
        return (200, found[0]) if found else (404, NOT_FOUND)


def _paths(schema: dict[str, Any]) -> tuple[str, ...]:
    by_id = f"/schemas/ids/{schema['id']}", f"/schemas/guids/{schema['guid']}"
    return *by_id, f"/subjects/{schema['subject']}/versions/{schema['version']}"


@contextmanager
def schema_registry() -> Iterator[SchemaRegistry]:
    registry = SchemaRegistry()
    try:
        yield registry
    finally:
        registry.close()


def record_of(*names: str, kind: Any = "double") -> dict[str, Any]:
    """An Avro schema of a record with these fields."""
    return {"type": "record", "name": "Reading", "fields": [{"name": name, "type": kind} for name in names]}


def avro(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def framed(number: int, body: bytes) -> bytes:
    return struct.pack(">bI", 0, number) + body
