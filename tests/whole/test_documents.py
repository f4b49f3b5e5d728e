"""Every example in the README, the examples folder and the docstrings runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamem
from helpers.forked import Forked, run_script
from streamem import algorithms, plots, preprocessing

ROOT = Path(__file__).parents[2]
STRICT = [sys.executable, "-W", "error", "-W", "ignore:Port 8787 is already in use"]
"""Python with warnings as errors, but for one that a cluster of a test beside this one causes."""

MARKED = re.compile(r"<!-- run -->\n```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = MARKED.findall((ROOT / "README.md").read_text())
QUICK_BLOCKS = (0, len(BLOCKS) - 1)
"""The first, which everybody tries, and a family of one's own, in new interpreters; the others are slow."""

PAGES = ["README.md", *(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.md")))]

LONG_EXAMPLES = {"cluster_on_s3.py", "command_line.sh", "vowels_and_consonants.py", "zero_inflated_poisson.py"}
"""Each takes as long as all others together."""

EXAMPLED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "streamem").rglob("*.py"))
    if re.search(r"^\s+>>> ", path.read_text(), re.MULTILINE)
]


def run(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run with this environment's programs first on the path, and warnings as errors."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path, **more}, capture_output=True, text=True, check=False
    )


def test_the_readme_has_its_examples() -> None:
    assert [language for language, _ in BLOCKS] == [*["python"] * 4, "bash", "python"]


def run_block(block: tuple[str, str], folder: Path) -> None:
    """In a new interpreter, or a new shell."""
    language, code = block
    (folder / "block.py").write_text(code)
    command = [*STRICT, "block.py"] if language == "python" else ["bash", "-euc", code]
    done = run(command, folder)
    assert done.returncode == 0, (code, done.stderr)
    assert done.stdout


def run_forked(script: Path, folder: Path) -> None:
    """In a process that has imported streamem already, unless it starts a cluster, whose workers import it anew."""
    if "distributed" in script.read_text():
        done = run([*STRICT, str(script)], folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        return
    forked = Forked(run_script, str(script), str(folder))
    out, err = forked.communicate()
    assert forked.returncode == 0, err.decode()
    assert out


@pytest.mark.parametrize("number", QUICK_BLOCKS)
def test_readme_block(number: int, tmp_path: Path) -> None:
    run_block(BLOCKS[number], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom_in_one_folder(page: str, tmp_path: Path) -> None:
    """What a block leaves harms no later one."""
    blocks = MARKED.findall((ROOT / page).read_text())
    assert blocks
    for number, block in enumerate(blocks):
        if block[0] != "python":
            run_block(block, tmp_path)
            continue
        script = tmp_path / f"block{number}.py"
        script.write_text(block[1])
        run_forked(script, tmp_path)


def test_links_of_pages_lead_somewhere() -> None:
    """From the README every page is reached, and every file that a page names is there."""
    for page in PAGES:
        links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text())
        assert all((ROOT / page).parent.joinpath(link).is_file() for link in links), page
        if page == "README.md":
            assert set(links) >= set(PAGES) - {page}


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path.name, marks=pytest.mark.long if path.name in LONG_EXAMPLES else pytest.mark.slow)
        for path in sorted((ROOT / "examples").iterdir())
        if path.suffix in (".py", ".sh")
    ],
)
def test_example(example: str, tmp_path: Path) -> None:
    script = ROOT / "examples" / example
    if script.suffix == ".py":
        run_forked(script, tmp_path)
        return
    done = run(["bash", str(script)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.variations(1, 1000)
@pytest.mark.parametrize("module", EXAMPLED)
def test_docstring_examples(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.failed == 0
    assert outcome.attempted


def public() -> dict[str, object]:
    """Names that users import, and the methods of estimators, selections and shared sums."""
    names: dict[str, object] = {}
    for room in (streamem, algorithms, plots, preprocessing):
        named = ((name, getattr(room, name)) for name in room.__all__)
        names |= {name: one for name, one in named if isinstance(one, type) or callable(one)}
    kinds = [one for name, one in names.items() if hasattr(one, "structure") or name in ("Selection", "SharedStats")]
    for kind in kinds:
        for base in kind.__mro__:  # type: ignore[attr-defined]
            if base.__module__.startswith("streamem."):
                own = {name: getattr(one, "__func__", one) for name, one in vars(base).items() if name[0] != "_"}
                names |= {f"{base.__name__}.{name}": one for name, one in own.items() if inspect.isfunction(one)}
    return names


BUILDING_BLOCKS = {"StoppingRule", "rebased", "remember", "weight_of", "went_online"}
"""For authors of algorithms; a protocol, and functions of statistics."""


def test_every_public_name_has_an_example() -> None:
    names = public()
    assert len(names) > 150
    assert {name for name, one in names.items() if ">>>" not in (one.__doc__ or "")} - BUILDING_BLOCKS == set()


def test_the_top_level_holds_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "streamem", "tests", "examples", "bench"}
    assert {name for name in top if not name.startswith(".")} <= allowed


@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "bench").glob("*.py")))
def test_every_bench_can_be_imported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they import from the package is there; what they measure is seen by tests that are `long`."""
    monkeypatch.syspath_prepend(str(ROOT))
    importlib.import_module(f"bench.{module}")


@pytest.mark.slow
def test_quick_bench_reports_every_engine(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "bench", "--quick", "--only", "diag", "--out", str(tmp_path / "t.md")], ROOT)
    assert done.returncode == 0, done.stderr
    rows = [line for line in (tmp_path / "t.md").read_text().splitlines() if line.startswith("| EM iteration")]
    assert [row.split("|")[2].strip() for row in rows] == ["streamem", "scikit-learn"]


@pytest.mark.long
def test_quick_bench_of_sequences(tmp_path: Path) -> None:
    """Peers that are missing, or end without an answer, are reported with the reason."""
    killed = tmp_path / "pomegranate" / "bin" / "python"
    killed.parent.mkdir(parents=True)
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    command = [sys.executable, "-m", "bench", "--quick", "--only", "Baum", "--out", str(tmp_path / "t.md")]
    done = run(command, ROOT, STREAMEM_BENCH_PEERS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [line for line in (tmp_path / "t.md").read_text().splitlines() if line.startswith("| Baum")]
    notes = {row.split("|")[2].strip(): row.split("|")[6].strip() for row in rows}
    assert list(notes) == [
        "streamem",
        "streamem, 1 thread",
        "streamem, one sequence",
        "hmmlearn, scaling",
        "hmmlearn, log",
        "dynamax",
        "pomegranate",
    ]
    assert notes.pop("dynamax") == "missing: not installed"
    assert notes.pop("pomegranate") == "failed: ended by signal 9 (out of memory?)"
    assert all("million steps/s" in note or "missing" in note for note in notes.values())


@pytest.mark.long
def test_quick_grid_names_missing_peers_and_checks_parameters(tmp_path: Path) -> None:
    """A peer that is not installed is reported; every cell is compared with float64."""
    command = [sys.executable, "-m", "bench.grid", "--quick", "--out", str(tmp_path / "t.md")]
    done = run(command, ROOT, STREAMEM_BENCH_PEERS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "t.md").read_text()
    cells = [line for line in text.splitlines() if "K=4 d=3" in line and "products" in line]
    assert len(cells) == 4
    assert all("missing" in line for line in cells)
    assert "float32 products" in text
    assert "| parameters other than float64's | 0 of 4 |" in text


FAILING = """
from bench import grid
from bench.cells import Row

def measure(cell, *others):
    if cell.covariance_type == "full":
        raise grid.CellFailedError(f"{cell.name}: overflow")
    return Row(cell, 1.0, {}, "products", 0.0, 0.5, 0.0)

grid.measure = measure
grid.main()
"""


@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        FAILING,
        "--quick",
        "--only",
        "float32",
        "--peers",
        "",
        "--out",
        str(tmp_path / "t.md"),
    ]
    done = run(command, ROOT)
    assert done.returncode == 1
    assert "full float32 K=4 d=3 separation=2: overflow" in done.stderr
    assert "diag float32 K=4 d=3" in (tmp_path / "t.md").read_text()


@pytest.mark.long
def test_quick_dense_share() -> None:
    """It is of the dense path, in the precision of the rows, and shares are of something."""
    done = run([sys.executable, "-m", "bench.dense_share", "--quick"], ROOT)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"\| full (float\d\d) .* \| (float\d\d) products \| .* \| (\d+)% \|$", done.stdout, re.MULTILINE)
    assert len(found) == 4
    assert all(rows == products and int(share) > 0 for rows, products, share in found)


@pytest.mark.long
def test_quick_tight_components() -> None:
    """With one tight component it goes by differences, the others by products."""
    done = run([sys.executable, "-m", "bench.tight", "--quick"], ROOT)
    assert done.returncode == 0, done.stderr
    _, *lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) == 3
    assert "float32 products, float64 differences for 1 of 8 |" in lines[1]


@pytest.mark.long
def test_quick_heavy_tails() -> None:
    """A ratio for every cell."""
    done = run([sys.executable, "-m", "bench.heavy_tails", "--quick"], ROOT)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"\| \d+ \| \d+ \| \d+\.\d\d \| float\d\d products \|$", done.stdout, re.MULTILINE)) == 2


@pytest.mark.long
def test_quick_memory_of_fits() -> None:
    """Of every kind of file, few rows and five times as many."""
    done = run([sys.executable, "-m", "bench.fit_memory", "--quick"], ROOT)
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"^\| ([\d,]+) \| .* \| (Zarr|Parquet).* \| (\d+) \| (\d+) \| (\d+) \| [\d.]+ \|$", done.stdout, re.MULTILINE
    )
    assert [line[:2] for line in found] == [(n, kind) for n in ("20,000", "100,000") for kind in ("Zarr", "Parquet")]
    assert all(
        0 < int(imports) < min(300, int(package)) and int(first) <= int(package)
        for *_, imports, first, package in found
    )


@pytest.mark.long
def test_quick_passes(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "bench.passes", "--quick"], ROOT)
    assert done.returncode == 0, done.stderr
    for words in ("zarr, cold cache", "parquet, warm cache", "100,000 rows", "chunks of 1,024"):
        assert words in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("only", ["online,", "poor start"])
def test_quick_bench_of_streams(only: str, tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "bench", "--quick", "--only", only, "--out", str(tmp_path / "t.md")], ROOT)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "t.md").read_text()
    for words in ("partial_fit", "fit_stream, Arrow pipe", "Kafka") if only == "online," else ("incremental", "batch"):
        assert words in text
