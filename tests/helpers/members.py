"""Who belongs to a port, found by walking the package; and which of them the conformance suites in the tests name."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import streamem

TESTS = Path(__file__).parents[1]


@cache
def classes_of_the_package() -> tuple[type, ...]:
    """All classes that files of streamem define, the suites aside."""
    names = [module.name for module in pkgutil.walk_packages(streamem.__path__, "streamem.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    found = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    own = {value for value in found if value.__module__.startswith("streamem.")}
    return tuple(sorted((v for v in own if ".conformance" not in v.__module__), key=lambda v: v.__qualname__))


def members_of(belongs: Callable[[type], bool]) -> set[str]:
    """Names of the classes that belong to a port and that somebody makes objects of: neither private nor abstract."""
    classes = [kind for kind in classes_of_the_package() if belongs(kind) and not inspect.isabstract(kind)]
    return {c.__name__ for c in classes if not c.__name__.startswith("_") and not getattr(c, "_is_protocol", False)}


def named_in_suites(suite: str, tests: Path = TESTS) -> set[str]:
    """Every name that occurs in a class of the tests which inherits from a suite, directly or not."""
    return {name for node in _suites(suite, tests) for name in _names(node)}


@cache
def _classes(tests: Path) -> tuple[ast.ClassDef, ...]:
    nodes = (node for path in sorted(tests.rglob("test_*.py")) for node in ast.walk(ast.parse(path.read_text())))
    return tuple(node for node in nodes if isinstance(node, ast.ClassDef))


def _suites(suite: str, tests: Path) -> Iterator[ast.ClassDef]:
    classes = _classes(tests)
    heirs, size = {suite}, 0
    while size < len(heirs):
        size = len(heirs)
        heirs |= {node.name for node in classes if heirs & {name for base in node.bases for name in _names(base)}}
    return (node for node in classes if node.name in heirs)


def _names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
