"""Ctrl-C within a lazy import: the import ends first, and the same process goes on as if nothing had been."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamem
from helpers.syntax import may_import_later, nodes
from streamem.machine.importing import import_whole, uninterrupted

PACKAGE = Path(streamem.__file__).parent

JOB = """
import json, os, signal, sys
from pathlib import Path
from streamem import GaussianMixture
from streamem.online.append_only_arrow import read_appended
from streamem.streams.folder import FolderStream

folder, moments = Path(sys.argv[1]), [float(m) for m in sys.argv[2:]]
assert not any(name in sys.modules for name in ("numba", "llvmlite", "sklearn.cluster"))
signal.signal(signal.SIGINT, signal.default_int_handler)

def learned(name):
    gm = GaussianMixture(2, random_state=0)
    gm.fit_stream(FolderStream(folder, follow=False), batch_rows=1000, dead_letter=folder.parent / name)
    return gm.means_.tobytes().hex()

def child(at, name):
    events = 0
    def hook(event, arguments):
        nonlocal events
        if event == "import":
            events += 1
            if events == at:
                os.kill(os.getpid(), signal.SIGINT)
    sys.addaudithook(hook)
    answer = {"interrupted": False}
    try:
        answer["bits"] = learned(name + ".first")
    except KeyboardInterrupt:
        answer["interrupted"] = True
        answer["bits"] = learned(name + ".again")
        answer["letters"] = read_appended(folder.parent / (name + ".again")).num_rows
    return {**answer, "events": events}

def forked(at, name):
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writing, json.dumps(child(at, name)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text or '{"died": true}')

whole = forked(0, "whole")
found = [forked(max(1, int(whole["events"] * moment)), str(moment)) for moment in moments]
print(json.dumps([whole, *found]))
"""


@pytest.mark.slow
def test_an_interrupt_within_an_import_spoils_nothing(tmp_path: Path) -> None:
    """Signals at given imports of the first call, each in a process of its own; then the call again."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(2):  # as many columns as are written by a compiled function
        x = np.random.default_rng(i).normal(size=(4096, 4)) + 5 * i
        pq.write_table(pa.table({f"c{j}": x[:, j] for j in range(4)}), folder / f"{i}.parquet")
    moments = ["0.05", "0.4", "0.8"]
    job = subprocess.run(
        [sys.executable, "-W", "error", "-c", JOB, str(folder), *moments], capture_output=True, timeout=120
    )
    assert job.returncode == 0, job.stderr.decode()[-2000:]
    whole, *found = json.loads(job.stdout)
    assert whole["events"] > 200
    for answer in found:
        assert answer["interrupted"]
        assert answer["letters"] == 0
        assert answer["bits"] == whole["bits"]


def test_a_signal_waits_for_the_end_of_the_block_and_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    done: list[str] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_block(done)
        assert done == ["waits", "waits for the outer block too"]
        with pytest.raises(KeyboardInterrupt) as raised:
            interrupted_failure()
        assert isinstance(raised.value.__context__, ImportError)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted_block(done: list[str]) -> None:
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
        with uninterrupted():
            done.append("waits")
        done.append("waits for the outer block too")


def interrupted_failure() -> None:
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ImportError("not there")


def test_a_handler_of_the_user_gets_its_signal_once() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_import_without_touching_signals() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(import_whole("streamem.machine.lanes")))
    thread.start()
    thread.join()
    assert found[0].__name__ == "streamem.machine.lanes"


def test_no_import_in_a_function_can_be_interrupted() -> None:
    """Libraries that are imported within functions come in `uninterrupted`, Numba through one file, ours whole."""
    bare = [place for path in library_files() for place in bare_imports(path)]
    assert bare == []


def library_files() -> list[Path]:
    """Without the command line, whose process ends with an interrupt, and the suites."""
    return [
        path
        for path in PACKAGE.rglob("*.py")
        if not path.name.startswith(("cli", "demo")) and path.parent.name != "conformance"
    ]


def bare_imports(path: Path) -> list[str]:
    code = path.read_text()
    if not may_import_later(code) and "numba" not in code and "llvmlite" not in code:
        return []
    tree, *_ = every = nodes(code)
    guarded = {
        id(node)
        for block in every
        if isinstance(block, ast.With) and "uninterrupted(" in ast.unparse(block.items[0])
        for node in ast.walk(block)
    }
    found = []
    for function in [tree, *(node for node in every if isinstance(node, ast.FunctionDef))]:
        for node in ast.walk(function) if function is not tree else iter(tree.body):
            if not isinstance(node, ast.Import | ast.ImportFrom) or id(node) in guarded:
                continue
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"streamem", "__future__"}
            if tops & {"numba", "llvmlite"} if function is tree else tops:
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    uses = [node for node in every if isinstance(node, ast.Attribute) and node.attr == "import_module"]
    if path.name != "importing.py":
        found += [f"{path.name}:{node.lineno} import_module" for node in uses]
    return found
