"""Profiles of Amazon's command line: by option, by environment, by default; renewed, and nowhere shown."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from helpers.object_server import KEY, SECRET, ObjectServer
from streamem import Address, open_source
from streamem.cli import main
from streamem.core import aws_profiles
from streamem.core.aws_profiles import Profile
from streamem.core.errors import SourceError

X = np.random.default_rng(3).normal(size=(60, 2))


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    """A server that refuses strangers."""
    pytest.importorskip("obstore")
    with ObjectServer().running() as served:
        written = io.BytesIO()
        np.save(written, X)
        served.objects["x.npy"] = written.getvalue()
        yield served


@pytest.fixture
def files(tmp_path: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two profiles, one of which the server knows; nothing else says who one is."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION", "ENDPOINT_URL"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    config = "".join(
        f"[{name}]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{server.port}\n"
        for name in ("profile known", "profile stranger", "profile asks", "default")
    )
    (tmp_path / "config").write_text(config.replace("asks]\n", "asks]\nsso_session = of tests\n"))
    write_keys(tmp_path, known=KEY, stranger="STRANGER")
    return tmp_path


def write_keys(folder: Path, **keys: str) -> None:
    """The file of keys, by profile."""
    told = (f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n" for name, key in keys.items())
    (folder / "credentials").write_text("".join(told))


def rows(**options: Any) -> Any:
    """What lies there."""
    return open_source(Address("s3://bucket/x.npy", options)).chunks()[0].load().x


def test_a_profile_by_its_name(files: Path) -> None:
    assert np.array_equal(rows(profile="known"), X)
    with pytest.raises(SourceError, match="403") as caught:
        rows(profile="stranger")
    assert SECRET not in str(caught.value)


def test_a_profile_of_the_environment_and_the_default(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "known")
    assert np.array_equal(rows(), X)
    monkeypatch.setenv("AWS_PROFILE", "stranger")
    with pytest.raises(SourceError, match="403"):
        rows()
    monkeypatch.delenv("AWS_PROFILE")
    write_keys(files, default=KEY)
    assert np.array_equal(rows(), X)


def test_keys_go_before_profiles(files: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the options, then a profile that is named, then keys of the environment, then its profile."""
    own = server.storage_options
    monkeypatch.setenv("AWS_PROFILE", "stranger")
    assert np.array_equal(rows(**own), X)
    assert np.array_equal(rows(**own, profile="stranger"), X)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert np.array_equal(rows(endpoint=own["endpoint"], region="us-east-1"), X)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "STRANGER")
    assert np.array_equal(rows(profile="known"), X)


def test_keys_that_are_renewed_in_the_file(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_profiles, "KEPT", timedelta(seconds=0))
    address = Address("s3://bucket/x.npy", {"profile": "known"})
    source = open_source(address)
    write_keys(files, known="STRANGER")
    with pytest.raises(SourceError, match="403"):
        source.chunks()[0].load()
    write_keys(files, known=KEY)
    assert np.array_equal(source.chunks()[0].load().x, X)
    assert Profile("known")()["expires_at"] <= datetime.now(UTC)


def test_what_travels_is_the_name_of_a_profile(files: Path) -> None:
    source = open_source(Address("s3://bucket/x.npy", {"profile": "known"}))
    for told in (source, source.chunks()[0]):
        sent = pickle.dumps(told)
        assert SECRET.encode() not in sent
        assert KEY.encode() not in sent
    assert np.array_equal(pickle.loads(sent).load().x, X)


def test_libraries_that_ask_nobody_get_the_keys(files: Path) -> None:
    told = Address("s3://bucket/table", {"profile": "known"}).text_options
    assert (told["access_key_id"], told["secret_access_key"], told["region"]) == (KEY, SECRET, "us-east-1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "no AWS profile 'absent' in .*credentials or .*config; there are asks, default, known, stranger"),
        ("asks", r"the AWS profile 'asks' gets its keys by sso_session: pip install 'streamem\[boto3\]'"),
        ("default", "the AWS profile 'default' has neither keys nor another way"),
    ],
)
def test_profiles_that_do_not_help(name: str, words: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_profiles, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=words):
        rows(profile=name)


def test_a_file_that_cannot_be_read_is_named(files: Path) -> None:
    (files / "credentials").write_text(f"aws_secret_access_key = {SECRET}\n")
    with pytest.raises(SourceError, match="credentials is no file of AWS profiles") as caught:
        rows(profile="known")
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_profile_on_the_command_line(files: Path, server: ObjectServer) -> None:
    told = ["--storage-option", "profile=known", "--max-iter", "2"]
    told += ["-o", "s3://bucket/m.npz", "--checkpoint", "s3://bucket/c.npz"]
    outcome = CliRunner().invoke(main, ["fit", "gmm", "s3://bucket/x.npy", "-k", "2", *told])
    assert outcome.exit_code == 0, outcome.output
    assert {"m.npz", "c.npz"} <= set(server.objects)
    told[1] = "profile=absent"
    outcome = CliRunner().invoke(main, ["fit", "gmm", "s3://bucket/x.npy", "-k", "2", *told])
    assert "no AWS profile 'absent' in" in outcome.output
