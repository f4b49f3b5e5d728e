"""Moto as an S3 server of the tests (``pip install "moto[s3]" flask flask-cors``), on a port of this machine.

Its extra "server" installs the same and what other services of AWS need, 300 MB. It keeps all in memory.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streamem import Address

PATIENCE_S = 60.0


@contextmanager
def moto(folder: Path) -> Iterator[Address]:
    """The address of an empty bucket; skips where the server is not installed."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("no moto: pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("obstore")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    options = {"access_key_id": "any", "secret_access_key": "any", "region": "us-east-1"}
    try:
        address = Address("s3://bucket/", {**options, "endpoint": f"http://127.0.0.1:{port}"})
        _wait_for(server, port)
        made = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")  # signatures are not looked at
        urllib.request.urlopen(made).close()
        yield address
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert server.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
