"""Compiled code assigns no array to a slice: Numba would compile a message about shapes into every caller."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamem

PACKAGE = Path(streamem.__file__).parent
FILES = sorted(path for room in ("machine", "kernels") for path in (PACKAGE / room).rglob("*.py"))


def compiled_functions(source: str, all_of_them: bool) -> Iterator[ast.FunctionDef]:
    """Those that a decorator compiles, or all."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            decorators = {name.id for name in node.decorator_list if isinstance(name, ast.Name)}
            if all_of_them or decorators & {"compiled", "compiled_inside"}:
                yield node


def has_slice(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and any(isinstance(part, ast.Slice) for part in ast.walk(node.slice))


def copies(function: ast.FunctionDef) -> list[int]:
    """Lines that assign what is an array by its looks, a name or a slice, to a slice."""
    found = []
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for target in node.targets:
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            pairs = zip(targets, values, strict=False)
            if any(has_slice(left) and (isinstance(right, ast.Name) or has_slice(right)) for left, right in pairs):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_array_is_assigned_to_a_slice(path: Path) -> None:
    functions = compiled_functions(path.read_text(), all_of_them=path.stem.endswith("_steps"))
    assert [line for function in functions for line in copies(function)] == []


@pytest.mark.parametrize("line", ["out[:] = x", "out[1:] = x[:-1]", "high[:], low[:] = x[0, :b], x[1, :b]"])
def test_such_a_line_is_found(line: str) -> None:
    source = f"@compiled\ndef f(x, out, high, low, b):\n    out[:] = 0.0\n    {line}\n"
    assert [copies(function) for function in compiled_functions(source, all_of_them=False)] == [[4]]
