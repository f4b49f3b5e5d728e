"""Functions for compiled callers alone: no machine code is written for them, and the cache of them serves callers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from numba import config
from numba.core.codegen import JitEngine

from streamem.machine import without_machine_code

SOURCE = """
import numpy as np
from streamem.machine.compiled import compiled, compiled_inside

@compiled_inside
def three(x):
    y = np.zeros(3)
    for i in range(3):
        y[i] = x
    return y.sum()

@compiled_inside
def six(x):
    if x > 100:
        raise ValueError("too large")
    return 2 * three(x)

@compiled
def thirty_six(x):
    return six(six(x))

@compiled
def seven(x):
    return six(x) + x
"""


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the libraries for which machine code was written or loaded."""
    names: list[str] = []
    add = JitEngine.add_module

    def watched(self: Any, module: Any) -> Any:
        names.append(module.name)
        return add(self, module)

    monkeypatch.setattr(JitEngine, "add_module", watched)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    return names


def loaded(folder: Path) -> Any:
    """The module, as a new process would load it."""
    path = folder / "called_inside.py"
    if not path.exists():  # another time would be another source
        path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("called_inside", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own(names: list[str]) -> set[str]:
    return {name for name in names if name in ("three", "six", "thirty_six", "seven")}


def test_machine_code_is_written_for_what_python_calls(tmp_path: Path, added: list[str]) -> None:
    """Compiled, then a caller loaded from the cache, then another caller compiled around what the cache holds."""
    assert without_machine_code.IS_POSSIBLE
    module = loaded(tmp_path)
    assert module.thirty_six(2.0) == 72.0
    with pytest.raises(ValueError, match="too large"):
        module.thirty_six(20.0)
    assert own(added) == {"thirty_six"}
    again = loaded(tmp_path)
    assert again.thirty_six(2.0) == 72.0
    assert again.seven(2.0) == 14.0
    with pytest.raises(ValueError, match="too large"):
        again.seven(101.0)
    assert sum(again.six.stats.cache_hits.values()) == 1
    assert "three" not in own(added)
    assert "six" not in own(added)
