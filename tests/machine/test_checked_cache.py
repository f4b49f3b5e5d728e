"""Compiled code on disk that is damaged, stale, foreign or not writable: compiled again, and the folder is named."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from numba import config

import streamem
from streamem.machine import checked_cache
from streamem.machine.checked_cache import CheckedCache

SOURCE = """
from streamem.machine.compiled import compiled

@compiled
def double(x):
    return 2 * x
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A compiled function of a module below a folder, as a new process would load it."""
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # which a source of the same size and second would be taken for
    (tmp_path / "module.py").write_text(SOURCE)
    checked_cache._TOLD.clear()

    def load() -> Any:
        spec = importlib.util.spec_from_file_location("module", tmp_path / "module.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["module"] = module
        spec.loader.exec_module(module)
        return module.double

    yield load
    sys.modules.pop("module", None)


def files(tmp_path: Path, suffix: str) -> list[Path]:
    return sorted((tmp_path / "__pycache__").glob(f"*.{suffix}"))


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def test_what_is_whole_is_loaded(double: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    assert double()(21) == 42
    again = double()
    assert again(21) == 42
    assert again(1.5) == 3.0
    assert hits(again) == 1
    assert caplog.text == ""


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "half": half,
    "a bit": flipped,
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "the checksum": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "longer": lambda data: data + b"0",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damage_is_compiled_again_once(
    double: Callable[[], Any],
    tmp_path: Path,
    suffix: str,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    double()(21)
    for path in files(tmp_path, suffix):
        path.write_bytes(damage(path.read_bytes()))
    again = double()
    with caplog.at_level(logging.WARNING, "streamem"):
        assert again(21) == 42
    assert hits(again) == 0
    assert f"compiled code in {tmp_path / '__pycache__'} is damaged, and compiled again" in caplog.text
    mended = double()
    assert mended(21) == 42
    assert hits(mended) == 1


def test_data_of_another_signature_under_the_same_name(double: Callable[[], Any], tmp_path: Path) -> None:
    """As two processes leave it that write their first files at once."""
    double()(21)
    (of_integers,) = files(tmp_path, "nbc")
    whole = of_integers.read_bytes()
    for path in (*files(tmp_path, "nbi"), of_integers):
        path.unlink()
    double()(1.5)
    of_integers.write_bytes(whole)
    again = double()
    assert again(1.5) == 3.0
    assert hits(again) == 0


def test_a_changed_source_is_compiled(double: Callable[[], Any], tmp_path: Path) -> None:
    double()(21)
    (tmp_path / "module.py").write_text(SOURCE.replace("2 * x", "3 * x"))
    assert double()(21) == 63


def test_another_version_of_numba(double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    double()(21)
    again = double()
    monkeypatch.setattr(again._cache._cache_file, "_version", "another")
    assert again(21) == 42
    assert hits(again) == 0


def test_a_folder_that_takes_nothing(
    double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, or one that was made read-only since: told once, and computed."""

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    function = double()
    monkeypatch.setattr(checked_cache._CheckedFiles, "_open_for_write", full)
    with caplog.at_level(logging.WARNING, "streamem"):
        assert function(21) == 42
        assert function(1.5) == 3.0
    assert caplog.text.count("cannot be written: [Errno 28] No space left") == 1


def test_no_folder_that_can_be_written(
    double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither beside the source nor in the user's folder: told once, and computed."""

    def nowhere(*_: Any) -> Any:
        raise RuntimeError("cannot cache function 'double': no locator available")

    monkeypatch.setattr(checked_cache, "CheckedCache", nowhere)
    with caplog.at_level(logging.WARNING, "streamem"):
        assert [double()(21), double()(21)] == [42, 42]
    assert caplog.text.count("so that every process compiles anew: set NUMBA_CACHE_DIR to a folder") == 1


def test_files_that_cannot_be_read(double: Callable[[], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    double()(21)
    (index,) = files(tmp_path, "nbi")
    index.unlink()
    index.mkdir()
    with caplog.at_level(logging.WARNING, "streamem"):
        assert double()(21) == 42
    assert "cannot be used: [Errno 21]" in caplog.text


def test_without_the_classes_of_numba(double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's own cache serves."""

    def gone(*_: Any) -> Any:
        raise AttributeError("module 'numba.core.caching' has no attribute 'FunctionCache'")

    monkeypatch.setattr(checked_cache, "CheckedCache", gone)
    function = double()
    assert function(21) == 42
    assert not isinstance(function._cache, CheckedCache)
    assert hits(double()) == 0


def test_without_those_classes_other_widths_are_not_kept(
    double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Numba's own files are the same for all widths of vectors."""
    monkeypatch.setattr(checked_cache, "CheckedCache", property())
    monkeypatch.setattr(checked_cache, "VECTOR_BITS", 512)
    assert double()(21) == 42
    assert not list(tmp_path.rglob("*.nb?"))


def test_code_of_another_version_of_what_a_function_calls(
    double: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert double()(21) == 42
    monkeypatch.setattr(checked_cache, "_stamp_of_rooms", lambda: "other files")
    assert double()(21) == 42
    again = double()
    assert again(21) == 42
    assert hits(again) == 1
    monkeypatch.undo()
    third = double()
    assert third(21) == 42
    assert hits(third) == 0


@pytest.mark.slow
def test_copies_of_one_version_share_a_folder(tmp_path: Path) -> None:
    """Below `NUMBA_CACHE_DIR`, wherever a copy lies and whenever it was written; another version compiles anew."""
    code = (
        "import numpy; from streamem.machine.row_major import scaled; "
        "scaled(numpy.zeros((2, 3)), numpy.zeros((3, 4)), numpy.zeros(3)); "
        "print(sum(scaled.stats.cache_hits.values()))"
    )
    told = []
    for name in ("one", "other", "changed"):
        copy = tmp_path / name / "streamem"
        shutil.copytree(Path(streamem.__file__).parent, copy, copy_function=shutil.copyfile)
        if name == "changed":
            with (copy / "machine" / "lanes.py").open("a") as file:
                file.write("# another version\n")
        path = os.pathsep.join([str(copy.parent), *filter(None, sys.path)])
        environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-P", "-c", code]
        told.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split())
    assert told == [["0"], ["1"], ["0"]]
    assert len(list((tmp_path / "cache").iterdir())) == 2


WIDTH = """
from streamem.machine.lanes import LANES
from streamem.machine.compiled import compiled

@compiled
def lanes():
    return LANES
"""


@pytest.mark.long
@pytest.mark.slow
def test_widths_of_vectors_share_a_folder(tmp_path: Path) -> None:
    """What is frozen into compiled code of one width never serves another; each is compiled once."""
    (tmp_path / "width.py").write_text(WIDTH)
    code = "import width; print(width.lanes(), sum(width.lanes.stats.cache_hits.values()))"
    told = []
    for width in (256, 512, 128, 256, 512):
        path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        environment = {**os.environ, "STREAMEM_VECTORS": str(width), "PYTHONPATH": path}
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
        command = [sys.executable, "-P", "-c", code]
        told.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split())
    assert told == [["4", "0"], ["8", "0"], ["2", "0"], ["4", "1"], ["8", "1"]]


@pytest.mark.parametrize(
    "call", ["GaussianHMM(2)", pytest.param("Mixture(streamem.Poisson(), 2)", marks=pytest.mark.slow)]
)
def test_without_a_compiler_it_is_told_what_to_unset(call: str) -> None:
    code = f"import numpy, streamem; streamem.{call}.fit(numpy.ones((9, 2)))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "MissingDependencyError: NUMBA_DISABLE_JIT is set" in done.stderr.splitlines()[-1]
    assert "unset it" in done.stderr
