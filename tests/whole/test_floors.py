"""Imports point down only, and the light ways in stay light."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamem
from helpers.syntax import may_import_later, nodes

PACKAGE = Path(streamem.__file__).parent
FLOORS = {
    "machine": 0,
    "core": 1,
    "kernels": 2,
    "conformance": 3,
    **dict.fromkeys(
        ("families", "models", "sources", "sinks", "streams", "executors", "algorithms", "initialization"), 3
    ),
    "running": 4,
    "online": 5,
    "estimators": 6,
    "appending": 6,
    "cli": 7,
    "preprocessing": 7,
    "xarray": 7,
    "plots": 5,
    "__main__": 8,
}
ROOT_MAY_IMPORT_ANYTHING = "__init__"


def test_imports_point_down() -> None:
    """No import goes up a floor, or sideways between rooms."""
    assert violations(PACKAGE) == []


def test_every_part_has_a_floor() -> None:
    """A new file or folder must be given its floor here."""
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {ROOT_MAY_IMPORT_ANYTHING} <= FLOORS.keys()


def violations(package: Path) -> list[str]:
    """ "file: imported module" for every import that may not be."""
    found = []
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).with_suffix("").parts
        if module == (ROOT_MAY_IMPORT_ANYTHING,):
            continue
        found += [f"{'/'.join(module)}: {name}" for name in imported(path, module) if not may(module[0], name)]
    return found


def imported(path: Path, module: tuple[str, ...]) -> Iterator[str]:
    """Every name below streamem that a file imports: anywhere in it, relative, or by importlib with a literal."""
    for node in nodes(path.read_text()):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "streamem")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = ("streamem", *module)[: -node.level]
                base = ".".join([*parents, *([base] if base else [])])
            if base == "streamem":
                yield from (f"streamem.{alias.name}" for alias in node.names)
            elif base.startswith("streamem."):
                yield base
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and names_a_part(node.value):
            yield node.value


def names_a_part(text: str) -> bool:
    """Names of modules in tables are imports too; other texts ("streamem.json") name no part."""
    head, _, rest = text.partition(".")
    return head == "streamem" and text.replace(".", "").isidentifier() and rest.split(".")[0] in FLOORS


def test_numba_is_imported_where_machine_code_is_made() -> None:
    """Numba and llvmlite come in through two files, so that an interrupt cannot leave them half imported."""
    found = [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py")) if imports_numba(path)]
    assert found == ["machine/processor.py", "machine/whole_numba.py"]


def imports_numba(path: Path) -> bool:
    """Whether a file imports Numba or llvmlite anywhere in it."""
    return any(
        name.partition(".")[0] in ("numba", "llvmlite")
        for node in nodes(path.read_text())
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    )


def may(part: str, name: str) -> bool:
    """Whether a part of the package may import a module of it."""
    # A public name counts as what it is; the package as a whole, as the highest that it holds.
    home = streamem._HOMES.get(name.removeprefix("streamem."), name) if "." in name else "streamem.estimators"
    target = home.split(".")[1]
    if target == part:
        return True
    if part == "conformance":
        return target == "core"
    if target not in FLOORS or target == "conformance":
        return target == "__version__"
    floor, below = FLOORS[part], FLOORS[target]
    return below < floor


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("core/chunk.py", "from streamem.families import Gaussian", "core/chunk: streamem.families"),
        (
            "models/mixture.py",
            "from streamem.families.gaussian.distribution import Gaussian",
            "models/mixture: streamem.families",
        ),
        ("models/mixture.py", "from ..families import Gaussian", "models/mixture: streamem.families"),
        ("models/mixture.py", "from .. import families", "models/mixture: streamem.families"),
        ("models/mixture.py", "import streamem.running.fit", "models/mixture: streamem.running.fit"),
        ("models/mixture.py", "def f():\n    from streamem import GaussianMixture", "models/mixture: streamem.Gauss"),
        ("models/mixture.py", "import streamem", "models/mixture: streamem"),
        ("running/fit.py", "import streamem.estimators as e", "running/fit: streamem.estimators"),
        ("running/fit.py", "import streamem.online.records", "running/fit: streamem.online"),
        ("kernels/tiling.py", "from streamem.families import Gaussian", "kernels/tiling: streamem.families"),
        ("machine/lanes.py", "from streamem.core.stats import Stats", "machine/lanes: streamem.core"),
        ("sources/opening.py", "MODULE = 'streamem.sinks.npy'", "sources/opening: streamem.sinks.npy"),
        ("conformance/models.py", "from streamem.algorithms import BatchEM", "conformance/models: streamem.algo"),
        ("estimators/base.py", "from streamem.conformance import ModelSuite", "estimators/base: streamem.conf"),
        ("estimators/base.py", "from streamem import cli", "estimators/base: streamem.cli"),
        ("core/chunk.py", "from streamem.core.stats import Stats", None),
        ("models/mixture.py", "from .transitions import Transitions", None),
        ("running/fit.py", "from streamem.models import Mixture\nfrom streamem.running.memory import Budget", None),
        ("cli/main.py", "from streamem import GaussianMixture, __version__", None),
        ("core/loops.py", "HOMES = {'find_pairs': 'streamem.kernels.pairs'}", "core/loops: streamem.kernels.pairs"),
        ("__init__.py", "from streamem.estimators import GaussianMixture", None),
    ],
)
def test_planted_violations_are_found(tmp_path: Path, file: str, text: str, expected: str | None) -> None:
    """The check itself can fail, and does not cry wolf."""
    path = tmp_path / "streamem" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = violations(tmp_path / "streamem")
    assert found == [] if expected is None else len(found) == 1 and expected in found[0]


FACADES = ("__init__.py", "kernels/__init__.py", "core/loops.py", "cli/library.py")
"""Modules that import what they offer when it is asked for (`core.lazy_names`)."""

MISSING_SOMEWHERE = {"resource"}
"""Modules of the standard library that not every system has."""


def test_no_import_within_a_function() -> None:
    """Ours are imported at the top of a file or through a façade, optional libraries in one piece (`uninterrupted`)."""
    found = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in hidden_imports(path)
    ]
    assert found == []


def hidden_imports(path: Path) -> Iterator[str]:
    """Modules that a file imports within a function, other than libraries in a block that waits for interrupts."""
    if not may_import_later(code := path.read_text()):
        return
    whole = {inner for node in nodes(code) if lets_interrupts_wait(node) for inner in ast.walk(node)}
    functions = [node for node in nodes(code) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in dict.fromkeys(inner for function in functions for inner in ast.walk(function)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        relative = isinstance(node, ast.ImportFrom) and node.level
        for name in [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]:
            ours = relative or name.partition(".")[0] == "streamem"
            if name not in MISSING_SOMEWHERE and (ours or node not in whole):
                yield name


def lets_interrupts_wait(node: ast.AST) -> bool:
    """Whether this is a block `with uninterrupted(…)`."""
    return isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "uninterrupted"
        for item in node.items
    )


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("from streamem.kernels.tiling import tiling", ["streamem.kernels.tiling"]),
        ("import streamem.core", ["streamem.core"]),
        ("from . import tiling", [""]),
        ("with uninterrupted():\n        from streamem import kernels", ["streamem"]),
        ("import psutil", ["psutil"]),
        ("def g():\n        import psutil", ["psutil"]),
        ("with uninterrupted('psutil'):\n        import psutil", []),
        ("import resource", []),
        ("pass", []),
    ],
)
def test_planted_hidden_imports_are_found(tmp_path: Path, body: str, found: list[str]) -> None:
    path = tmp_path / "planted.py"
    path.write_text(f"import psutil\nfrom streamem import kernels\ndef f():\n    {body}\n")
    assert list(hidden_imports(path)) == found


@pytest.mark.parametrize("facade", FACADES)
def test_facades_import_what_they_show_to_type_checkers(facade: str) -> None:
    """Names, where they are defined, and where a façade looks for them."""
    tree = ast.parse((PACKAGE / facade).read_text())
    [shown] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in shown.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(shown.body)
    module = importlib.import_module(
        ".".join(["streamem", *Path(facade).with_suffix("").parts]).removesuffix(".__init__")
    )
    assert {alias.name: node.module for node in imports for alias in node.names} == module._HOMES
    assert set(module.__all__) == set(module._HOMES)
    for name, home in module._HOMES.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match=f"{module.__name__}.*nothing_like_it"):
        getattr(module, "nothing_like_it")  # noqa: B009


@pytest.mark.variations(2, 6)
@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import streamem", "distributed dask numba pandas matplotlib sklearn zarr pyarrow scipy numpy"),
        ("from streamem import GaussianMixture", "distributed dask numba pandas matplotlib zarr pyarrow xarray polars"),
        ("import streamem.kernels, streamem.core.loops", "numba scipy sklearn"),
        ("import streamem.cli.main", "distributed dask numba pandas matplotlib sklearn zarr pyarrow scipy numpy"),
        ("from streamem import open_source", "distributed dask numba pandas matplotlib sklearn zarr pyarrow xarray"),
        ("import streamem.conformance", "pytest sklearn dask zarr pandas pyarrow"),
    ],
)
def test_imports_stay_light(statement: str, heavy: str) -> None:
    """What is not needed is not imported: the statement works where those packages cannot be imported.

    (scikit-learn imports pandas by itself where it can, so that looking into sys.modules would blame the wrong one.)
    """
    assert imports_without(statement, heavy.split())
    name = heavy.split()[0]
    assert not imports_without(f"{statement}; import {name}", [name]), "the check itself can fail"


def imports_without(statement: str, blocked: list[str]) -> bool:
    """Whether a fresh interpreter that cannot import `blocked` runs the statement."""
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or "ModuleNotFoundError" in done.stderr, done.stderr
    return done.returncode == 0
