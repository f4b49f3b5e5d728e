"""Which tests run without being asked for (README.md here says which are not), and a small cluster for them."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from distributed import Client

    from helpers.tansu import Tansu

LEFT_OUT = pytest.StashKey[Counter[str]]()
WHY = {"slow": "they vary what the others show", "long": "they take minutes or gigabytes"}
KERNEL_ROOMS = ("kernels", "machine")
COMPILED_ROOMS = (*KERNEL_ROOMS, "golden")
FLOAT64_ROOMS = ("kernels", "golden")
"""Where float32 has compiled passes of its own, which take more than half of the compiling; float64 shows the same."""
VARIATIONS = {
    "conformance": (16, 1000),
    "formats": (24, 1000),
    "estimators": (6, 100),
    "executors": (4, 12),
    "families": (2, 4),
    "golden": (4, 12),
    "kernels": (4, 8),
    "machine": (4, 24),
    "plots": (8, 100),
    "whole": (6, 24),
}
"""How many variations of a test run by default, and under `-m "not long"`, evenly spaced among all: more of them where
variations are members of a port. A test says so for itself by `@pytest.mark.variations(default, not_long)`."""
ELSEWHERE = (1, 4)

COMPILED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "streamem-tests")
"""Where compiled code is kept between runs, for all clones, unless `NUMBA_CACHE_DIR` says where."""
KEPT_DAYS = 14

with suppress(OSError):  # of a home that takes nothing; then compiled code lies beside the source, as for users
    COMPILED.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(COMPILED))  # before anything imports Numba, and for every process


def compile_once() -> None:
    """Workers begin at the same time and ask for the same kernels: one compiles each, the others load it."""
    from helpers import compiled_once

    compiled_once.compile_once()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is left out yet; compiled code that nobody may need any more is removed."""
    config.stash[LEFT_OUT] = Counter()
    if "PYTEST_XDIST_WORKER" in os.environ and sys.platform != "win32":
        compile_once()
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
    _mark_further_variations(items)
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


def _mark_further_variations(items: list[pytest.Item]) -> None:
    """Mark what varies a test that runs: `long` beyond those of `.ci/run`, `slow` beyond those of the default."""
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not item.get_closest_marker("long"):
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for variations in functions.values():
        default, not_long = _numbers(variations[0])
        quick = _mark_others("long", variations, not_long)
        quick = [item for item in quick if not item.get_closest_marker("slow")]
        if Path(variations[0].path).parent.name in FLOAT64_ROOMS:
            double = [item for item in quick if "float32" not in item.nodeid]
            quick = _mark_others("slow", quick, double) if double else quick
        _mark_others("slow", quick, default)


def _numbers(item: pytest.Item) -> tuple[int, int]:
    """How many variations of this test run by default, and in `.ci/run`."""
    marker = item.get_closest_marker("variations")
    return marker.args if marker else VARIATIONS.get(Path(item.path).parent.name, ELSEWHERE)


def _mark_others(name: str, items: list[pytest.Item], kept: int | list[pytest.Item]) -> list[pytest.Item]:
    """Mark all but those kept, or but as many, evenly spaced, the first and the last among these; return them."""
    if isinstance(kept, int):
        last, steps = len(items) - 1, max(kept - 1, 1)
        places = range(last + 1) if last < kept else sorted({round(i * last / steps) for i in range(kept)})
        kept = [items[i] for i in places]
    chosen = set(kept)
    for item in items:
        if item not in chosen:
            item.add_marker(name)
    return kept


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


@pytest.fixture(scope="session")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tansu]:
    """A real broker of Kafka's protocol, in memory, for tests that make topics of their own; skips where none is."""
    from helpers.tansu import tansu as started

    with started(tmp_path_factory.mktemp("tansu")) as broker:
        yield broker
