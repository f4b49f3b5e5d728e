"""Tables and files of formats at addresses of stores, with the options that the store needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from helpers.format_files import FORMATS, Case, iceberg_catalog, needed, quiet, table
from helpers.object_server import SECRET, ObjectServer
from helpers.seaweed import seaweed
from streamem import Address, ReadOptions, open_source
from streamem.core.errors import SourceChangedError, SourceError

KINDS = {"CSV": "x.csv", "CSV, compressed": "x.csv.gz", "ORC": "x.orc", "Delta Lake": "t", "Lance": "x.lance"}


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    needed("obstore")
    with ObjectServer().running() as running:
        yield running


def uploaded(kind: str, server: ObjectServer, folder: Path) -> tuple[Case, str]:
    """What a library wrote on this machine, as objects below a prefix of its own."""
    case = FORMATS[kind](folder)
    name = folder.name
    for file in folder.rglob("*"):
        if file.is_file():
            server.objects[f"{name}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
    return case, server.address(f"{name}/{KINDS[kind]}")


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_are_read_as_paths_are(kind: str, server: ObjectServer, tmp_path: Path) -> None:
    case, address = uploaded(kind, server, tmp_path)
    options = ReadOptions(chunk_bytes=2048, **case.options)
    source = open_source(address, weight=case.weight, options=options, storage_options=server.storage_options)
    np.testing.assert_array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), case.rows)
    again = open_source(Address(address, server.storage_options), weight=case.weight, options=options)
    assert again.fingerprint() == source.fingerprint()
    assert SECRET not in repr(source) + source.fingerprint()


@pytest.mark.parametrize("kind", ["CSV", "ORC"])
def test_a_rewritten_object_is_noticed(kind: str, server: ObjectServer, tmp_path: Path) -> None:
    _, address = uploaded(kind, server, tmp_path)
    source = open_source(Address(address, server.storage_options), options=ReadOptions(columns=("a",)))
    before = source.fingerprint()
    key = address.removeprefix("s3://bucket/")
    server.objects[key] = server.objects[key][:-2] + b"#\n"
    assert source.fingerprint() != before


def test_a_file_of_a_table_that_was_removed_is_named(server: ObjectServer, tmp_path: Path) -> None:
    _, address = uploaded("Delta Lake", server, tmp_path)
    source = open_source(Address(address, server.storage_options), options=ReadOptions(columns=("a",)))
    for key in [key for key in server.objects if key.endswith(".parquet")]:
        del server.objects[key]
    with pytest.raises(SourceChangedError, match="version 3 needs it, and it was removed"):
        source.chunks()[0].load()


@pytest.mark.parametrize("name", ["absent.csv", "absent.orc", "absent.lance"])
def test_what_is_not_there_tells_no_secret(server: ObjectServer, name: str) -> None:
    if name.endswith(".lance"):
        needed("lance")
    with pytest.raises(SourceError, match="absent") as found:
        open_source(server.address(name), storage_options=server.storage_options)
    assert SECRET not in str(found.value)


@pytest.mark.slow
def test_iceberg_on_a_real_server(tmp_path: Path) -> None:
    needed("pyiceberg")
    with seaweed(tmp_path) as bucket:
        given = bucket.options
        properties = {
            "warehouse": "s3://bucket/warehouse",
            "s3.endpoint": given["endpoint"],
            "s3.access-key-id": given["access_key_id"],
            "s3.secret-access-key": given["secret_access_key"],
            "s3.region": given["region"],
        }
        with quiet():
            made = iceberg_catalog(tmp_path, **properties).create_table("n.t", schema=table().schema)
            made.append(table())
            made.delete("id < 100")
        options = ReadOptions(columns=("id",))
        for data in (made, Address(made.location(), given), Address(made.metadata_location, given)):
            source = open_source(data, options=options)
            ids = np.concatenate([ref.load().x for ref in source.chunks()])[:, 0]
            assert sorted(ids) == list(range(100, 600))
        assert isinstance(made.scan().to_arrow(), pa.Table)
