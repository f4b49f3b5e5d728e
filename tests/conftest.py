"""Which tests run without being asked for (README.md here says which are not), and a small cluster for them."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from distributed import Client

LEFT_OUT = pytest.StashKey[Counter[str]]()
WHY = {"slow": "they vary what the others show", "long": "they take minutes or gigabytes"}
KERNEL_ROOMS = ("kernels", "machine")
COMPILED_ROOMS = (*KERNEL_ROOMS, "golden")
MEMBER_ROOMS = ("conformance", "estimators", "executors", "formats", "plots", "whole")
FLOAT64_ROOMS = ("kernels", "golden")
"""Where float32 has compiled passes of its own, which take more than half of the compiling; float64 shows the same."""
SOME, MORE = 4, 24
"""Variations of a test that run without being asked for, evenly spaced among all; more of them in `MEMBER_ROOMS`, where
variations are members of a port."""

COMPILED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "streamem-tests")
"""Where compiled code is kept between runs, for all clones, unless `NUMBA_CACHE_DIR` says where."""
KEPT_DAYS = 14

with suppress(OSError):  # of a home that takes nothing; then compiled code lies beside the source, as for users
    COMPILED.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(COMPILED))  # before anything imports Numba, and for every process


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is left out yet; compiled code that nobody may need any more is removed."""
    config.stash[LEFT_OUT] = Counter()
    for folder in COMPILED.glob("*"):  # one for each version of the compiled code, and of tests that compile
        with suppress(FileNotFoundError):  # another session may be at it
            if folder.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
                shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what folder or fixture tell; deselect `slow` and `long` unless the -m expression speaks of one of them."""
    for item in items:
        if Path(item.path).parent.name in KERNEL_ROOMS:
            item.add_marker("kernels")
        if Path(item.path).parent.name in COMPILED_ROOMS:
            item.add_marker("compiled")
        if "client" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")
    for item in _further_variations(items):
        item.add_marker("slow")
    if any(name in config.option.markexpr for name in WHY):
        return
    reasons = [next((name for name in WHY if item.get_closest_marker(name)), "") for item in items]
    config.stash[LEFT_OUT].update(filter(None, reasons))
    config.hook.pytest_deselected(items=[item for item, why in zip(items, reasons, strict=True) if why])
    items[:] = [item for item, why in zip(items, reasons, strict=True) if not why]


gc.disable()  # while tests are collected, a sixth of that time


def pytest_collection_finish() -> None:
    """What thousands of tests and all modules hold lives as long as the process: no garbage collection looks at it."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _further_variations(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Tests that vary one which runs: of each function all but some, the first and the last among these."""
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not any(item.get_closest_marker(name) for name in WHY):
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for variations in functions.values():
        room = Path(variations[0].path).parent.name
        if room in FLOAT64_ROOMS:
            single = [item for item in variations if "float32" in item.nodeid]
            if len(single) < len(variations):
                yield from single
                variations = [item for item in variations if item not in single]
        most = MORE if room in MEMBER_ROOMS else SOME
        count = len(variations)
        kept = {round(i * (count - 1) / (most - 1)) for i in range(most)} if count > most else set(range(count))
        yield from (item for i, item in enumerate(variations) if i not in kept)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist, which collects what the others collect too, tells what it left out."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One worker's word is enough."""
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and why."""
    for name, count in config.stash[LEFT_OUT].items():
        terminalreporter.write_line(
            f"{count} tests marked '{name}' were left out: {WHY[name]}. Run them with -m {name}."
        )


@pytest.fixture(autouse=True)
def _small_work(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of compiled code have it for small work too."""
    if request.node.get_closest_marker("compiled"):
        monkeypatch.setenv("STREAMEM_SMALL_WORK", "compiled")


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two workers, for all tests of a process that harm none of them."""
    from helpers.clusters import cluster_of

    with cluster_of(2) as (_, client):
        yield client
