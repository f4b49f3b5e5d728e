"""An S3 server of the tests: objects in memory, loopback only, every answer as late as is asked; it counts requests.

It knows what sources need: GET with ranges, HEAD, PUT (also If-None-Match: * and If-Match), DELETE, ListObjectsV2 in
pages. It checks no signatures but refuses other access keys than its own with 403. Where it speaks as Google's stores
do (`google`), who writes names generations instead of ETags, and nobody has to log in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import nsmallest
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from helpers.troubles import Troubles

KEY = "KEYOFTESTS"
SECRET = "hiddensecretoftests"
PAGE = 1000
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class ObjectServer:
    """A bucket of objects behind a port of this machine.

    Attributes
    ----------
    latency_s : that every answer takes
    objects : contents by key
    asked : how many requests of each method came
    sent : bytes of objects that were answered
    most_at_once : requests that were answered at the same time
    readonly : whether writes are refused
    google : whether it speaks as Google's stores do
    troubles : what some requests meet
    """

    latency_s: float = 0.0
    bucket: str = "bucket"
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    readonly: bool = False
    google: bool = False
    troubles: Troubles = field(default_factory=Troubles)
    port: int = 0
    most_at_once: int = 0
    _now: int = 0
    _etags: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    @property
    def storage_options(self) -> dict[str, str]:
        """With which a client reaches it."""
        if self.google:
            account = {"gcs_base_url": f"http://127.0.0.1:{self.port}", "disable_oauth": True}
            named = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
            return {"service_account_key": json.dumps(account | named), "allow_http": "true"}
        return {
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": "us-east-1",
            "endpoint": f"http://127.0.0.1:{self.port}",
        }

    def address(self, key: str = "") -> str:
        """The address of an object or folder."""
        return f"{'gs' if self.google else 's3'}://{self.bucket}/{key}"

    @contextmanager
    def running(self) -> Iterator[ObjectServer]:
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
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked[method] += 1
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                kind = self.troubles.of(method)
                if kind == "reset":
                    self._now -= 1
                    writer.transport.abort()
                    return
                answer = error(f"{kind} Trouble", "SlowDown") if kind.isdigit() else None
                status, told, content = answer or self._answer(method, target, headers, body)
                self._now -= 1
                length = told.pop("content-length", str(len(content)))
                lines = [f"HTTP/1.1 {status}", f"content-length: {length}", *(f"{a}: {b}" for a, b in told.items())]
                if kind == "short":
                    content = content[: len(content) // 2]
                writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else content))
                await writer.drain()
                if kind == "short":
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], bytes]:
        parts = urlsplit(target)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if not self.google and f"Credential={KEY}/" not in headers.get("authorization", ""):
            return error("403 Forbidden", "AccessDenied")
        if bucket != self.bucket:
            return error("404 Not Found", "NoSuchBucket")
        if method == "GET" and "list-type" in query:
            return "200 OK", {"content-type": "application/xml"}, self._listing(query).encode()
        if method == "POST" and "delete" in query:
            return self._delete_all(body)
        if method in ("PUT", "DELETE"):
            return self._write(method, key, headers, body)
        if key not in self.objects:
            return error("404 Not Found", "NoSuchKey")
        return self._read(method, key, headers)

    def _delete_all(self, body: bytes) -> tuple[str, dict[str, str], bytes]:
        if self.readonly:
            return error("403 Forbidden", "AccessDenied")
        keys = [unescape(key) for key in re.findall("<Key>(.*?)</Key>", body.decode())]
        for key in keys:
            self.objects.pop(key, None)
        told = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return "200 OK", {"content-type": "application/xml"}, f"<DeleteResult {XMLNS}>{told}</DeleteResult>".encode()

    def _write(self, method: str, key: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        if self.readonly:
            return error("403 Forbidden", "AccessDenied")
        if method == "DELETE":
            self.objects.pop(key, None)
            return "204 No Content", {}, b""
        if source := unquote(headers.get("x-goog-copy-source" if self.google else "x-amz-copy-source", "")):
            if (held := self.objects.get(source.lstrip("/").partition("/")[2])) is None:
                return error("404 Not Found", "NoSuchKey")
            self.objects[key] = held
            told = f"<CopyObjectResult {XMLNS}><ETag>{escape(etag(held))}</ETag></CopyObjectResult>"
            return "200 OK", {"content-type": "application/xml"}, told.encode()
        there = self.objects.get(key)
        if (wanted := headers.get("x-goog-if-generation-match")) not in (None, generation(there)):
            return error("412 Precondition Failed", f"Is{generation(there)}Not{wanted}")
        if headers.get("if-none-match") == "*" and there is not None:
            return error("412 Precondition Failed", "PreconditionFailed")
        if "if-match" in headers and (there is None or etag(there) != headers["if-match"]):
            return error("412 Precondition Failed", "PreconditionFailed")
        self.objects[key] = body
        return "200 OK", {"etag": etag(body), "x-goog-generation": generation(body)}, b""

    def _read(self, method: str, key: str, headers: dict[str, str]) -> tuple[str, dict[str, str], bytes]:
        content, tag = self.objects[key], self._etag(key)
        told = {"etag": tag, "last-modified": "Mon, 30 Nov 2026 00:00:00 GMT", "accept-ranges": "bytes"}
        told["x-goog-generation"] = str(int(tag[1:13], 16))  # as `generation`, without hashing it again
        if method == "HEAD":
            return "200 OK", {**told, "content-length": str(len(content))}, b""
        if headers.get("if-match", tag) != tag:
            return error("412 Precondition Failed", "PreconditionFailed")
        if (asked := RANGE.fullmatch(headers.get("range", ""))) is None:
            self.sent += len(content)
            return "200 OK", told, content
        first, last = asked.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(len(content), int(last) + 1) if first and last else len(content)
        if start >= len(content):
            return error("416 Range Not Satisfiable", "InvalidRange")
        self.sent += stop - start
        told["content-range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return "206 Partial Content", told, content[start:stop]

    def _etag(self, key: str) -> str:
        """Of an object as it is, made once: at 600 MB/s it would be most of what a request costs."""
        content, known = self.objects[key], self._etags.get(key)
        if known is None or known[0] is not content:
            known = self._etags[key] = content, etag(content)
        return known[1]

    def _listing(self, query: dict[str, str]) -> str:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", query.get("start-after", ""))
        keys: dict[str, bool] = {}
        wanted = (key for key in self.objects if key.startswith(prefix))
        for key in sorted(wanted) if delimiter else nsmallest(PAGE + 1, (key for key in wanted if key > after)):
            if key.startswith(prefix):
                rest = key[len(prefix) :]
                folder = delimiter and delimiter in rest
                keys[prefix + rest.partition(delimiter)[0] + delimiter if folder else key] = bool(folder)
        names = [name for name in keys if name > after]
        page, more = names[:PAGE], len(names) > PAGE
        told = "".join(self._entry(name, keys[name]) for name in page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult {XMLNS}><Name>{self.bucket}</Name>'
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{token}{told}"
            "</ListBucketResult>"
        )

    def _entry(self, name: str, folder: bool) -> str:
        if folder:
            return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        content = self.objects[name]
        return (
            f"<Contents><Key>{escape(name)}</Key><Size>{len(content)}</Size><ETag>{escape(self._etag(name))}</ETag>"
            "<LastModified>2026-11-30T00:00:00.000Z</LastModified></Contents>"
        )


def etag(content: bytes) -> str:
    """As S3 has it, for objects put at once."""
    return f'"{hashlib.md5(content).hexdigest()}"'


def generation(content: bytes | None) -> str:
    """What Google's stores tell versions apart by; 0 where there is no object."""
    return "0" if content is None else str(int(hashlib.md5(content).hexdigest()[:12], 16))


def error(status: str, code: str) -> tuple[str, dict[str, str], bytes]:
    """An answer of S3 that says what went wrong."""
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{quote(code)}</Message></Error>'
    return status, {"content-type": "application/xml"}, text.encode()
