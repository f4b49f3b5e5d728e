"""``streamem warm-up`` fills the folder of compiled code; compiling is said once."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
from click.testing import CliRunner

from streamem.cli.main import main
from streamem.cli.warm_up import WHAT
from streamem.cli.warming import WHAT as FITTED
from streamem.core.small_work import VARIABLE
from streamem.machine import compiling


def test_classes_are_compiled() -> None:
    """Whatever its size, the work is compiled; the environment is left as it was."""
    done = CliRunner().invoke(main, ["warm-up", "--what", "classes"])
    assert done.exit_code == 0, done.output
    assert "compiling for classes" in done.output
    folder = done.output.rpartition("compiled code lies in ")[2].strip()
    assert any(name.startswith("block_passes.mixture_pass") for _, _, files in os.walk(folder) for name in files)
    assert VARIABLE not in os.environ


def test_what_can_be_named_is_what_is_fitted() -> None:
    assert tuple(FITTED) == WHAT


def test_compiling_is_said_once_where_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(compiling, "monotonic", lambda: now[0])
    announcer: Any = compiling.Announcer()
    with caplog.at_level(logging.INFO, logger="streamem"):
        announcer.on_start(None)
        announcer.on_start(None)
        now[0] += 0.4
        announcer.on_end(None)
        announcer.on_end(None)
        now[0] += 60.0  # in which nothing was compiled
        announcer.on_start(None)
        now[0] += 0.5
        announcer.on_start(None)
        assert not caplog.records
        now[0] += 0.5
        announcer.on_end(None)
        now[0] += 5.0
        announcer.on_end(None)
    assert [record.getMessage() for record in caplog.records] == [compiling.WORDS]
