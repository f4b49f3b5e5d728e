"""Tests marked `long` run only when they are asked for; a small cluster for whoever names `client`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from distributed import Client

LEFT_OUT = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `long` unless the -m expression speaks of it."""
    if re.search(r"\blong\b", config.option.markexpr):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.stash[LEFT_OUT] = len(long)
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and why."""
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"{left_out} tests marked 'long' were left out: they take minutes or gigabytes. Run them with -m long."
        )


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two workers, for all tests of a process that harm none of them."""
    from helpers.clusters import cluster_of

    with cluster_of(2) as (_, client):
        yield client
