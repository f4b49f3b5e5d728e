"""What is imported is declared, and what of it is not public is listed in core/README.md with a way out."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

import pytest

import streamem
from helpers.syntax import nodes

PACKAGE = Path(streamem.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "confluent_kafka": "confluent-kafka", "nats": "nats-py"}
IMPORTERS = ("import_module", "import_whole", "__import__")
HALF_PUBLIC = ("zarr.core", "numba.core", "dask.core", "cloudpickle.cloudpickle")
"""Without an underscore, and still not for others: their documentation names other ways in, or none."""

pytestmark = pytest.mark.skipif(not PROJECT.exists(), reason="installed without its project file")


@cache
def imported() -> frozenset[str]:
    """Full names of what the package imports, anywhere in it, or by a function with a literal."""
    return frozenset(name for node in every_node() for name in named(node))


def every_node() -> Iterator[ast.AST]:
    return (node for path in PACKAGE.rglob("*.py") for node in nodes(path.read_text()))


def named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in IMPORTERS and isinstance(node.args[0].value, str):
            yield node.args[0].value


def reached() -> set[str]:
    """Dotted names in the code, such as ``cloudpickle.cloudpickle.subimport``."""
    return {name for node in every_node() if isinstance(node, ast.Attribute) and (name := dotted(node))}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    before = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{before}.{node.attr}" if before and isinstance(node, ast.Attribute) else ""


def test_every_import_is_declared() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[\[<>=; ]", entry)[0] for group in groups for entry in group}
    modules = {name.partition(".")[0] for name in imported()} - sys.stdlib_module_names - {"streamem"}
    assert {DISTRIBUTIONS.get(module, module) for module in modules} - declared == set()


def test_every_dependency_has_a_lower_bound_and_no_upper_one() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    for group in [project["dependencies"], *project["optional-dependencies"].values()]:
        for entry in group:
            assert re.fullmatch(r"[\w-]+(\[[\w,]+\])?>=[\d.]+", entry), entry


def private(names: Set[str]) -> set[str]:
    """Modules of other projects, or names in them, that are not for others."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in (
            "zarr",
            "numba",
            "dask",
            "distributed",
            "cloudpickle",
            "sklearn",
            "scipy",
            "pyarrow",
            "numcodecs",
        ):
            hidden = any(part.startswith("_") and not part.startswith("__") for part in parts[1:3])
            if hidden or name.startswith(tuple(f"{module}." for module in HALF_PUBLIC)):
                found.add(".".join(parts[: 3 if parts[0] in ("zarr", "numba") else 2]))
    return found


def test_what_is_not_public_is_listed() -> None:
    decisions = (PACKAGE / "core" / "README.md").read_text()
    paragraph = decisions.partition("## Half-public\n")[2].partition("\n## ")[0]
    used = private(imported() | reached())
    assert used
    assert {name for name in used if f"`{name}`" not in paragraph} == set()


def test_a_private_module_is_seen() -> None:
    assert private({"dask._task_spec.Task", "zarr.core.sync.sync", "zarr.open", "numpy.x", "sklearn.utils._x.y"}) == {
        "dask._task_spec",
        "zarr.core.sync",
        "sklearn.utils",
    }
