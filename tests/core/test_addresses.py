"""Addresses of stores: what is known of them, and that their options are shown nowhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from streamem import Address
from streamem.core.addresses import as_address, is_address
from streamem.core.errors import ParameterError, SourceError

SECRETS = {"access_key_id": "me-myself", "secret_access_key": "hidden-secret", "token": "hidden-token"}


def test_parts_of_an_address() -> None:
    address = Address("s3://bucket/a/b.zarr/", SECRETS)
    assert (address.scheme, address.bucket, address.key) == ("s3", "bucket", "a/b.zarr")
    assert address.below("c", "0").text == "s3://bucket/a/b.zarr/c/0"
    assert address.below("c").options == SECRETS
    assert pickle.loads(pickle.dumps(address)) == address != Address("s3://bucket/a/b.zarr/")


def test_options_are_shown_nowhere() -> None:
    address = Address("s3://me:hidden-password@bucket/a", SECRETS)
    for text in (repr(address), str(address), f"{address}", address.told(OSError("denied to hidden-secret"))):
        assert "hidden-" not in text
        assert "me-myself" not in text


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("bucket/a", None, "is no address"),
        ("s3://bucket/a", "key=value", "pass a mapping"),
        ("s3://bucket/a", {"a b": "hidden-secret"}, "no names of options"),
        ("s3://bucket/a", {3: "hidden-secret"}, "no names of options"),
    ],
)
def test_mistakes(text: str, options: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        Address(text, options)
    assert "hidden-" not in str(caught.value)


def test_files_of_this_machine(tmp_path: Path) -> None:
    name = tmp_path / "with space.parquet"
    assert as_address(name.as_uri()) == str(name)
    assert as_address(f"file://localhost{tmp_path}") == str(tmp_path)
    with pytest.raises(SourceError, match="names the machine 'elsewhere'"):
        as_address("file://elsewhere/x")


def test_what_is_no_address_stays_as_it_is(tmp_path: Path) -> None:
    for data in (str(tmp_path), tmp_path, [1.0], None, "s3://bucket/a"):
        assert as_address(data) is data
    assert not is_address(tmp_path)
    assert is_address("s3://bucket/a")


class Remote:
    """What a UPath of a store says of itself."""

    protocol = "s3"
    storage_options = {"key": "hidden-key"}  # noqa: RUF012

    def __str__(self) -> str:
        return "s3://bucket/a"


def test_a_upath_is_an_address() -> None:
    address = as_address(Remote())
    assert address == Address("s3://bucket/a", {"key": "hidden-key"})


def test_names_of_options_of_s3fs_are_known() -> None:
    given = {"key": "k", "secret": "s", "anon": False, "endpoint_url": "http://127.0.0.1:1", "timeout": "9s"}
    assert Address("s3://bucket/a", given)._sorted_options() == {
        "config": {
            "access_key_id": "k",
            "secret_access_key": "s",
            "skip_signature": "false",
            "endpoint": "http://127.0.0.1:1",
        },
        "client_options": {"timeout": "9s", "allow_http": True},
    }
