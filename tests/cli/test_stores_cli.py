"""``--storage-option`` reaches every place that a command names: what is read, and what is written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from helpers.object_server import SECRET, ObjectServer
from streamem.cli import main
from streamem.cli.stores import PLACES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(3).normal(size=(200, 2)) + 4.0 * (np.arange(200) % 2)[:, None]
HERE = {("watch", "folder"), ("demo", "picture")}
"""Paths of this machine alone."""


def commands(command: click.Command = main, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands, by the words after ``streamem``."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from commands(below, f"{name} {word}".strip())


def test_every_path_of_a_command_may_be_an_address() -> None:
    for name, command in commands():
        paths = [option.name for option in command.params if isinstance(option.type, click.Path)]
        told = {path for path in paths if (name, path) not in HERE}
        assert told <= set(PLACES), name
        assert not told or "storage_options" in [option.name for option in command.params], name


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A server that is reached with options only."""
    pytest.importorskip("obstore")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with ObjectServer().running() as served:
        yield served


def bytes_of(x: Any) -> bytes:
    written = io.BytesIO()
    np.save(written, x)
    return written.getvalue()


def run(server: ObjectServer, *words: Any) -> str:
    """What the command says; it ends well."""
    options = [f"--storage-option={name}={value}" for name, value in server.storage_options.items()]
    outcome = CliRunner().invoke(main, [*map(str, words), *options], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert SECRET not in outcome.output
    return outcome.output


def test_a_fit_and_its_questions_on_a_store(server: ObjectServer, tmp_path: Path) -> None:
    """Data, weights, checkpoint, model and results all lie there; bits are those of files."""
    here = {"x": tmp_path / "x.npy", "w": tmp_path / "w.npy"}
    np.save(here["x"], X)
    np.save(here["w"], np.linspace(1.0, 2.0, 200))
    server.objects |= {f"{name}.npy": path.read_bytes() for name, path in here.items()}
    there = server.address
    fit = ["-k", 2, "--seed", 0, "--tol", 1e-10, "--max-iter", 2000, "--missing", "integrate"]
    run(
        server,
        "fit",
        "gmm",
        there("x.npy"),
        *fit,
        "--weight",
        there("w.npy"),
        "-o",
        there("m.npz"),
        "--checkpoint",
        there("c.npz"),
    )
    assert {"m.npz", "c.npz"} <= set(server.objects)
    CliRunner().invoke(
        main, list(map(str, ["fit", "gmm", here["x"], *fit, "--weight", here["w"], "-o", tmp_path / "m.npz"]))
    )
    for question, name in (("predict", "l.npy"), ("score", "s.npy"), ("impute", "i.npy")):
        run(server, question, there("m.npz"), there("x.npy"), "-o", there(name))
        arguments = [question, tmp_path / "m.npz", here["x"], "-o", tmp_path / name]
        assert CliRunner().invoke(main, list(map(str, arguments))).exit_code == 0
        assert server.objects[name] == (tmp_path / name).read_bytes()
    run(server, "sample", there("m.npz"), "-n", 5, "--seed", 0, "-o", there("drawn.npy"))
    assert np.load(io.BytesIO(server.objects["drawn.npy"])).shape == (5, 2)
    assert "2 components" in run(server, "show", there("m.npz"))
    assert "log_likelihood" in run(
        server, "summary", there("m.npz"), there("x.npy"), "--weight", there("w.npy"), "--json"
    )
    assert not any(SECRET.encode() in content for content in server.objects.values())


def test_a_page_on_a_store(server: ObjectServer, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    run(server, "fit", "gmm", tmp_path / "x.npy", "-k", 2, "-o", server.address("m.npz"))
    arguments = ["report", server.address("m.npz"), "-o", server.address("page.html")]
    run(server, *arguments)
    assert server.objects["page.html"].startswith(b"<!doctype html>")
    options = [f"--storage-option={name}={value}" for name, value in server.storage_options.items()]
    again = CliRunner().invoke(main, [*arguments, *options])
    assert again.exit_code == 1
    assert "page.html exists; pass --overwrite to replace it" in again.output
    run(server, *arguments, "--overwrite")


def test_a_table_of_candidates_and_its_picture_on_a_store(server: ObjectServer, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    written = {"-o": "best.npz", "--table": "t.parquet", "--plot": "p.png", "--checkpoint": "c.npz"}
    told = [word for option, name in written.items() for word in (option, server.address(name))]
    run(server, "select", "gmm", tmp_path / "x.npy", "-k", "1,2", "--seed", 0, *told)
    assert set(written.values()) <= set(server.objects)
    assert pq.read_table(io.BytesIO(server.objects["t.parquet"])).num_rows == 2
    assert server.objects["p.png"].startswith(b"\x89PNG")


def test_sequences_on_a_store(server: ObjectServer) -> None:
    """Their lengths lie there too."""
    server.objects |= {"x.npy": bytes_of(X), "lengths.npy": bytes_of(np.array([120, 80]))}
    there = server.address
    told = ["--lengths", there("lengths.npy")]
    run(server, "fit", "hmm", there("x.npy"), "-k", 2, "--seed", 0, "--max-iter", 3, "-o", there("m.npz"), *told)
    run(server, "predict", there("m.npz"), there("x.npy"), "-o", there("path.npy"), *told)
    assert len(np.load(io.BytesIO(server.objects["path.npy"]))) == 200


def test_pairs_on_a_store(server: ObjectServer) -> None:
    """All pairs, those drawn at random, the probabilities and the model."""
    levels = np.random.default_rng(5).integers(0, 2, size=(300, 3))
    server.objects |= {"pairs.npy": bytes_of(levels), "random.npy": bytes_of(levels[:100])}
    there = server.address
    told = ["--random-pairs", there("random.npy"), "--model", there("m.npz")]
    run(server, "link", there("pairs.npy"), "-o", there("p.npy"), "--max-iter", 3, *told)
    assert {"p.npy", "m.npz"} <= set(server.objects)


@pytest.mark.parametrize("word", ["-o", "--checkpoint"])
def test_options_are_for_what_is_written_too(server: ObjectServer, tmp_path: Path, word: str) -> None:
    """They are not for files alone; one address is enough."""
    np.save(tmp_path / "x.npy", X)
    fit = ["fit", "gmm", tmp_path / "x.npy", "-k", 2, "--max-iter", 2]
    run(server, *fit, *([] if word == "-o" else ["-o", tmp_path / "m.npz"]), word, server.address("there.npz"))
    assert "there.npz" in server.objects
