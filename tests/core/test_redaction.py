"""Passwords, keys and tokens appear in no message, log, name, report or file of streamem."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from streamem import GaussianMixture, open_source
from streamem.cli.main import main
from streamem.core.errors import ImpossibleValueError, SourceError, StreamemError, StreamError
from streamem.core.message import Damaged, Message
from streamem.core.ports import Schema
from streamem.core.redaction import redacted
from streamem.online.append_only_arrow import read_appended
from streamem.running.report import FitReport
from streamem.streams import open_stream
from streamem.streams.byte_stream import ByteStream

WORD = "hunter2"
X = np.random.default_rng(0).normal(size=(300, 2))

TEXTS = [
    ("redis://:hunter2@h:6379/0/k", "redis://***@h:6379/0/k"),
    ("at rediss://me:hunter2@h!", "at rediss://***@h!"),
    ("redis://me:hun/hunter2@h/k", "redis://***@h/k"),
    ("https://hunter2@github.com/x", "https://***@github.com/x"),
    ("s3:/AK:hunter2@bucket/x", "s3:/***@bucket/x"),
    ("https://h/x?password=hunter2&n=1", "https://h/x?password=***&n=1"),
    ("https://b/k?X-Amz-Signature=hunter2&X-Amz-Expires=9", "https://b/k?X-Amz-Signature=***&X-Amz-Expires=9"),
    ("https://b/k?X-Goog-Credential=hunter2%2Fx", "https://b/k?X-Goog-Credential=***"),
    ("https://a.blob/c?sv=2020&sig=hunter2%3D&se=1", "https://a.blob/c?sv=2020&sig=***&se=1"),
    ("brokers u:hunter2@h:9092,v:hunter2@i:9092 are away", "brokers ***@h:9092,***@i:9092 are away"),
    ("sasl.password=hunter2", "sasl.password=***"),
    ("{'sasl.password': 'hun ter2', 'n': 1}".replace("hun ter2", "a hunter2"), "{'sasl.password': ***, 'n': 1}"),
    ("storage_options={'key': 'hunter2', 'secret': 'hunter2'}", "storage_options={'key': ***, 'secret': ***}"),
    ('{"aws_secret_access_key": "hunter2"}', '{"aws_secret_access_key": ***}'),
    ("AccountKey=hunter2==;EndpointSuffix=x", "AccountKey=***;EndpointSuffix=x"),
    ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
    ("session_token=hunter2 and AKIAIOSFODNN7EXAMPLE", "session_token=*** and ***"),
]
HARMLESS = [
    "chunk 17 (rows 1114112–1179647): 3 non-finite values in column 2 'depth'; pass missing_chunks=\"fill\"",
    "column 'token' is missing; there are ['password', 'secret']",
    "tokens: 5 of 7, token_count: 3, monkey: 4, design=1, author: me",
    "s3://bucket/folder@2/x.parquet at http://h:80/a@b",
    "/data/run:3@home/x.zarr",
    "tcp://127.0.0.1:8786 and file:/tmp/x.arrows",
    "positions {'': [{'file': 'a.parquet', 'group': 0}, 5]}",
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_what_opens_doors_is_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redacted(text) == text


def refusals(folder: Path) -> dict[str, Callable[[], object]]:
    gm = GaussianMixture(2, random_state=0)
    url = f"https://me:{WORD}@127.0.0.1:9/x"
    return {
        "no format": lambda: open_source(f"{url}.data"),
        "parquet": lambda: open_source(f"{url}.parquet"),
        "parquet that cannot be parsed": lambda: open_source(f"s3://AK:{WORD} @b/x.parquet"),
        "zarr": lambda: open_source(f"{url}.zarr"),
        "npy": lambda: open_source(f"{url}.npy"),
        "arrow": lambda: open_source(f"s3://b/x.arrow?secret_key={WORD}"),
        "weights": lambda: open_source(X, weight=f"{url}.npy"),
        "kafka": lambda: open_stream(f"kafka://me:{WORD}@h:9092/topic"),
        "no topic": lambda: open_stream(f"kafka://me:{WORD}@h:9092"),
        "no key": lambda: open_stream(f"redis://:{WORD}@h"),
        "tcp": lambda: gm.fit_stream(f"tcp://me:{WORD}@127.0.0.1:9"),
        "stream": lambda: gm.fit_stream(url),
        "load": lambda: GaussianMixture.load(f"{url}.npz"),
        "save": lambda: gm.fit(X).save(f"{url}.npz"),
        "out": lambda: gm.fit(X).predict(X, out=f"{url}.npy"),
        "checkpoint": lambda: gm.fit_stream([X], checkpoint=f"{url}.npz"),
        "executor": lambda: gm.fit(X, executor=f"tcp://me:{WORD}@h:8786"),
    }


@pytest.mark.parametrize("name", refusals(Path()))
def test_errors_tell_no_password(name: str, tmp_path: Path) -> None:
    with pytest.raises(StreamemError) as raised:
        refusals(tmp_path)[name]()
    error = raised.value
    assert WORD not in f"{error} {error!r} {error.args} {getattr(error, '__notes__', '')}"
    assert "***" in str(error)
    assert WORD not in "".join(traceback.format_exception(error))  # causes, too
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_errors_with_other_arguments() -> None:
    error = ImpossibleValueError(0.5, 3, f"needed by redis://:{WORD}@h", f"chunk of s3://a:{WORD}@b")
    assert WORD not in f"{error!r}{error}"
    assert SourceError(2, f"password={WORD}").args == (2, "password=***")
    assert str(SourceError()) == ""


def test_logs_tell_no_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "streamem"):
        logging.getLogger("streamem").warning("%s: %s is away", "kafka:t", f"me:{WORD}@h:9092")
        logging.getLogger("streamem").info("100 %% of %d", 3)
        logging.getLogger("streamem").info(f"plain % text sasl.password={WORD}")
    assert caplog.messages == ["kafka:t: ***@h:9092 is away", "100 % of 3", "plain % text sasl.password=***"]


def test_names_that_are_no_text_can_be_written_to_any_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="streamem"):
        logging.getLogger("streamem").info("%s is not complete yet", "\udcfe.parquet")
    assert caplog.messages[-1] == "\\udcfe.parquet is not complete yet"
    assert str(SourceError("no \udcff.parquet")) == "no \\udcff.parquet"


def test_origins_and_reports_hold_no_password() -> None:
    schema = Schema(2, np.dtype("f8"), None, False, f"Zarr array s3://a:{WORD}@b/x")
    assert WORD not in repr(schema)
    old = {**FitReport("x").to_dict(), "origin": f"Zarr array s3://a:{WORD}@b/x"}
    report = FitReport.from_dict(old)
    assert WORD not in f"{report} {report!r} {report.to_dict()}"
    assert report.origin == schema.origin == "Zarr array s3://***@b/x"


class Pushed:
    """A stream of one's own whose name holds a password."""

    replayable = True

    def __init__(self, name: str, items: list[Any]) -> None:
        self.name, self._items = name, items

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """From a position on."""
        for number in range(positions.get("", 0), len(self._items)):
            yield Message(self._items[number], "", number, number + 1)

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Nobody to tell."""


def test_model_files_hold_no_password_and_go_on(tmp_path: Path) -> None:
    path, name = tmp_path / "live.npz", f"amqp://me:{WORD}@h/queue"
    settings: dict[str, Any] = {"checkpoint": path, "dead_letter": tmp_path / "bad.arrows", "batch_rows": 50}
    bad = Damaged(f"https://h/1.parquet?sig={WORD} is torn")
    GaussianMixture(2, random_state=0).fit_stream(Pushed(name, [X[:200], bad]), **settings)
    for file in tmp_path.iterdir():
        assert WORD.encode() not in file.read_bytes(), file
    (letter,) = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert letter["reason"] == "https://h/1.parquet?sig=*** is torn"
    other = f"amqp://me:changed-{WORD}@h/queue"
    gm = GaussianMixture(2, random_state=0).fit_stream(Pushed(other, [X[:200], bad, X[200:]]), **settings)
    assert gm.report_.n_rows == 300
    assert list(gm.stream_positions_) == ["amqp://***@h/queue"]


def test_positions_that_were_saved_under_a_name_with_a_password_are_found() -> None:
    name = f"amqp://me:{WORD}@h/queue"
    gm = GaussianMixture(2, random_state=0).fit_stream(Pushed(name, [X[:200]]))
    gm.stream_positions_ = {name: gm.stream_positions_["amqp://***@h/queue"]}  # as earlier versions had it
    gm.fit_stream(Pushed(name, [X[:200], X[200:]]))
    assert gm.report_.n_rows == 300
    assert list(gm.stream_positions_) == ["amqp://***@h/queue"]


def test_a_failure_that_is_no_error_of_ours_gets_a_note_without_passwords() -> None:
    class Failing(Pushed):
        def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
            yield Message(X, "", 0, 1)
            raise RuntimeError("the client broke")

    with pytest.raises(RuntimeError) as raised:
        GaussianMixture(2, random_state=0).fit_stream(Failing(f"amqp://me:{WORD}@h/queue", []))
    assert "amqp://***@h/queue" in "".join(raised.value.__notes__)
    assert WORD not in "".join(raised.value.__notes__)


def test_names_of_sockets_and_files() -> None:
    assert ByteStream(f"tcp://me:{WORD}@h:1").name == "socket:***@h:1"
    assert WORD not in ByteStream(f"https://me:{WORD}@h/x").name
    assert ByteStream("tcp://h:1").name == "socket:h:1"


@pytest.mark.parametrize(
    "command",
    [
        ["update", "m.npz", f"https://me:{WORD}@h/x.jsonl", "-k", "2"],
        ["update", "m.npz", f"tcp://me:{WORD}@127.0.0.1:9", "-k", "2"],
        ["fit", "gmm", f"s3://AK:{WORD}@b/x.data", "-k", "2", "-o", "m.npz"],
        ["fit", "gmm", f"https://h/x.parquet?token={WORD}", "-k", "2", "-o", "m.npz"],
    ],
)
def test_the_command_line_tells_no_password(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, command)
    assert done.exit_code != 0
    assert WORD not in done.output
    assert "***" in done.output


def test_a_saved_model_of_data_behind_a_url(tmp_path: Path) -> None:
    """`show` of a file of an earlier version, whose report has the URL."""
    path = tmp_path / "m.npz"
    GaussianMixture(2, random_state=0).fit(X).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["meta.json"])
    document["meta"]["report"]["origin"] = f"Parquet file s3://AK:{WORD}@b/x.parquet"
    members["meta.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    done = CliRunner().invoke(main, ["show", str(path)])
    assert "s3://***@b/x.parquet" in done.output
    assert WORD not in done.output


def test_a_stream_that_ends_for_good_names_no_password() -> None:
    redis = pytest.importorskip("redis")
    assert redis is not None
    from streamem.streams.redis import RedisStream

    with pytest.raises(StreamError, match=r"redis://\*\*\*@127.0.0.1:9") as raised:
        GaussianMixture(2).fit_stream(RedisStream(f"redis://:{WORD}@127.0.0.1:9/0", "k", patience_s=0.01))
    assert WORD not in repr(raised.value)
