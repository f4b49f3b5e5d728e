"""Few protocols, no probing for abilities, and nobody asks for the class of an algorithm, model, source or executor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import streamem
from helpers.syntax import nodes
from streamem.core.ports import (
    Algorithm,
    ChunkRef,
    Executor,
    FullFamily,
    Kernel,
    Mixing,
    Model,
    Source,
    Stream,
    Variant,
)

PACKAGE = Path(streamem.__file__).parent
BASES = (Algorithm, ChunkRef, Executor, FullFamily, Kernel, Mixing, Model, Source, Stream, Variant)
MOST_PORTS, MOST_PROTOCOLS = 16, 18


def files() -> dict[str, str]:
    """Text of every file of the package, by its path within it."""
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def protocols(code: str) -> list[str]:
    """Names of the classes that are protocols."""
    return [
        node.name
        for node in nodes(code)
        if isinstance(node, ast.ClassDef) and any(name(base) == "Protocol" for base in node.bases)
    ]


def name(node: ast.expr) -> str:
    """The last part of what an expression names: of ``typing.Protocol[T]`` it is "Protocol"."""
    if isinstance(node, ast.Subscript):
        return name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def classes() -> list[tuple[str, ast.ClassDef]]:
    """Every class of the package, with its room."""
    return [
        (path.partition("/")[0], node)
        for path, code in files().items()
        for node in nodes(code)
        if isinstance(node, ast.ClassDef)
    ]


def asked(code: str) -> Iterator[str]:
    """Names of the classes that are asked for: by isinstance, issubclass, ``type(x) is``, or a pattern of match."""
    for node in nodes(code):
        if isinstance(node, ast.Call) and name(node.func) in ("isinstance", "issubclass") and len(node.args) == 2:
            yield from named_in(node.args[1])
        elif isinstance(node, ast.Compare) and any(map(is_type_of, sides := [node.left, *node.comparators])):
            yield from (found for side in sides if not is_type_of(side) for found in named_in(side))
        elif isinstance(node, ast.MatchClass):
            yield name(node.cls)


def named_in(node: ast.expr) -> Iterator[str]:
    """Names within an expression."""
    return (name(part) for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute))


def is_type_of(node: ast.expr) -> bool:
    """Whether an expression is ``type(x)``."""
    return isinstance(node, ast.Call) and name(node.func) == "type" and len(node.args) == 1


def homes() -> dict[str, str]:
    """The room of every class that inherits from a base of a port, as far as files say so."""
    bases, known = {base.__name__ for base in BASES}, -1
    found = set(bases)
    while len(found) != known:
        known = len(found)
        found |= {node.name for _, node in classes() if any(name(parent) in found for parent in node.bases)}
    return {node.name: room for room, node in classes() if node.name in found - bases}


def asked_elsewhere(texts: dict[str, str], homes: dict[str, str]) -> list[str]:
    """ "file: class" for every question outside the class's own room."""
    return [
        f"{path}: {asked_for}"
        for path, code in texts.items()
        for asked_for in asked(code)
        if asked_for in homes and homes[asked_for] != path.partition("/")[0]
    ]


def test_protocols_are_few() -> None:
    found = {path: names for path, code in files().items() if (names := protocols(code))}
    in_ports = [name for path, names in found.items() if path.startswith("core/ports/") for name in names]
    everywhere = [name for names in found.values() for name in names]
    assert 0 < len(in_ports) <= MOST_PORTS, in_ports
    assert len(everywhere) <= MOST_PROTOCOLS, everywhere


def test_no_protocol_is_asked_for_at_run_time() -> None:
    assert [path for path, code in files().items() if "runtime_checkable" in code] == []
    assert not (PACKAGE / "core" / "offers.py").exists()


def test_nobody_asks_for_a_class_outside_its_room() -> None:
    known = homes()
    assert {"GaussianKernel", "BatchEM", "HMM", "SequenceSource", "ThreadsExecutor", "RowSelection"} <= known.keys()
    assert asked_elsewhere(files(), known) == []


@pytest.mark.parametrize(
    ("path", "code", "found"),
    [
        ("estimators/base.py", "isinstance(a, BatchEM)", ["estimators/base.py: BatchEM"]),
        ("executors/dask.py", "isinstance(refs[0], RowSelection)", ["executors/dask.py: RowSelection"]),
        ("running/fit.py", "isinstance(m, (int, models.HMM))", ["running/fit.py: HMM"]),
        ("sources/weighted.py", "isinstance(s, SequenceSource)", []),
        ("running/fit.py", "isinstance(m, Model | int)", []),
        ("running/fit.py", "type(m) is not HMM", ["running/fit.py: HMM"]),
        ("running/fit.py", "type(m) in (int, models.HMM)", ["running/fit.py: HMM"]),
        ("running/fit.py", "match m:\n    case HMM(): ...", ["running/fit.py: HMM"]),
        ("models/noise.py", "HMM == type(m)", []),
    ],
)
def test_planted_questions_are_found(path: str, code: str, found: list[str]) -> None:
    known = {"BatchEM": "algorithms", "RowSelection": "core", "HMM": "models", "SequenceSource": "sources"}
    assert asked_elsewhere({path: code}, known) == found


def test_a_planted_protocol_is_counted() -> None:
    code = "class A(Protocol): ...\nclass B(typing.Protocol[T]): ...\nclass C(A): ...\n"
    assert protocols(code) == ["A", "B"]
