"""One EM iteration over a grid of shapes, by us and by peers in turn, each cell checked against float64.

``python -m bench grid`` runs all of it (hours); ``--quick`` a few small cells, ``--only`` those with a matching name.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Self

import numpy as np

from bench.cells import CELL_S, ERROR_LIMIT, PEERS, Cell, Row, cells, peers_of
from bench.grid_report import draw, summary, table
from bench.mixtures import store
from bench.peers import interpreter
from bench.results import add_options, recorded

ITERATIONS = 3
LEAST_S = 1e-9
"""Where a long fit took no longer than a short one."""
PATIENCE_S = 4.0
"""An engine that took longer than this for a cell is not asked again: its ratio is far from one."""


class CellFailedError(RuntimeError):
    """Ours has no answer for a cell."""


class Engine:
    """A process that answers requests."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        root = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            [python, "-m", "bench.engines", name], cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, folder: Path, cell: Cell, iterations: int) -> dict[str, Any]:
        """Seconds and parameters of one cell."""
        request = {"folder": str(folder), "covariance_type": cell.covariance_type, "iterations": iterations}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = perf_counter()
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": "the engine died"}
        return {**reply, "wall_s": perf_counter() - began}


Parameters = dict[str, Any]
"""weights, means and covariances by name."""


def measure(
    cell: Cell,
    engines: dict[str, Engine],
    rounds: int,
    peak: dict[str, float],
    iterations: int,
    oracles: dict[Cell, Parameters],
) -> Row:
    """All engines in turn, several rounds; the first round of each is not counted where there are more.

    Raises
    ------
    CellFailedError : ours said why it has no answer
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store(folder, cell.rows, cell.d, cell.k, cell.separation, cell.dtype)
        runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
        for _ in range(rounds):
            for engine in engines.values():
                if all(run["wall_s"] < PATIENCE_S for run in runs[engine.name]):
                    runs[engine.name].append(engine.ask(folder, cell, iterations))
        ours = runs["streamem"]
        if "error" in ours[-1]:
            raise CellFailedError(f"{cell.name}: {ours[-1]['error']}")
        error = _error(folder, cell, oracles)
    seconds = _seconds(ours)
    ratios: dict[str, float | str] = {}
    for peer in peers_of(cell):
        if peer not in runs:
            ratios[peer] = "missing" if interpreter(peer) is None else "not asked"
        elif "error" in runs[peer][-1]:
            ratios[peer] = f"failed: {runs[peer][-1]['error'][:60]}"
        else:
            ratios[peer] = _seconds(runs[peer]) / seconds
    share = cell.flops * cell.rows / seconds / peak[cell.dtype]
    if seconds <= LEAST_S:
        ratios, share = dict.fromkeys(ratios, "no time: give the cell more seconds"), 0.0
    added = median(run["added_bytes"] for run in ours[1:] or ours)
    return Row(cell, seconds, ratios, ours[-1]["note"], error, share, added)


def _seconds(runs: list[dict[str, Any]]) -> float:
    counted = [run["seconds"] for run in (runs[1:] or runs) if "seconds" in run]
    return max(median(counted), LEAST_S)


def _error(folder: Path, cell: Cell, oracles: dict[Cell, Parameters]) -> float:
    """Largest difference of our parameters from scikit-learn's in float64.

    Rows of a float32 cell are those of the float64 cell, rounded (by 6e-8 of themselves).
    """
    key = replace(cell, dtype="float64")
    if key not in oracles:
        oracles[key] = _oracle(folder, cell)
    ours = np.load(folder / "streamem.npz")
    return max(float(np.abs(ours[name] - value).max() / np.abs(value).max()) for name, value in oracles[key].items())


def _oracle(folder: Path, cell: Cell) -> Parameters:
    from bench.engines import scikit_learn

    path = folder / "scikit-learn.npz"
    if cell.dtype == "float64" and path.exists():
        return dict(np.load(path))
    x, means = np.load(folder / "x.npy"), np.load(folder / "means.npy")
    fitted = scikit_learn(x.astype(np.float64), means, cell.covariance_type, 1 + ITERATIONS)
    return {"weights": fitted.weights, "means": fitted.means, "covariances": fitted.covariances}


def matrix_product_peak(dtype: str) -> float:
    """FLOP/s of a square product on all cores: what there is to reach."""
    a, times = np.random.default_rng(0).random((2000, 2000)).astype(dtype), []
    for _ in range(5):
        began = perf_counter()
        np.matmul(a, a)
        times.append(perf_counter() - began)
    return 2 * 2000**3 / min(times)


def run(chosen: list[Cell], rounds: int, peers: list[str]) -> Iterator[Row | str]:
    """Row after row, or why there is none, each engine's process kept alive."""
    wanted = sorted({engine for cell in chosen for engine in peers_of(cell) if engine in peers})
    found = {name: python for name in ["streamem", *wanted] if (python := interpreter(name)) is not None}
    peak = {dtype: matrix_product_peak(dtype) for dtype in ERROR_LIMIT}
    oracles: dict[Cell, Parameters] = {}
    with ExitStack() as stack:
        engines = {name: stack.enter_context(Engine(name, python)) for name, python in found.items()}
        for cell in chosen:
            present = {name: engines[name] for name in ["streamem", *peers_of(cell)] if name in engines}
            try:
                yield measure(cell, present, rounds, peak, ITERATIONS, oracles)
            except CellFailedError as failure:
                yield str(failure)


def main() -> None:
    """Run, print, and write the table and a picture."""
    parser = argparse.ArgumentParser(prog="python -m bench grid", description=__doc__)
    add_options(parser)
    parser.add_argument("--only", default="", help="regular expression that a cell's name holds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cell-seconds", type=float, default=CELL_S, help="that one of our iterations is to take")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, separated by commas")
    parser.add_argument("--json", type=Path, help="write what was measured here, cell by cell")
    parser.add_argument("--picture", type=Path, help="draw the ratios here (needs matplotlib)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    chosen = [
        replace(cell, cell_s=options.cell_seconds)
        for cell in cells(options.quick)
        if re.search(options.only, cell.name)
    ]
    with recorded("grid", options):
        rows, failures = show(chosen, options)
    if options.picture:
        draw(rows, options.picture)
    if failures:
        raise SystemExit("\n".join(["cells without an answer of ours:", *failures]))


def show(chosen: list[Cell], options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Print the figures and the table; on stderr, each cell as it is done. Return rows, and cells that failed."""
    rows, failures = [], []
    for row in run(chosen, 2 if options.quick else options.rounds, options.peers.split(",")):
        if isinstance(row, str):
            failures.append(row)
            print(f"FAILED {row}", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps({**asdict(row), "rows": row.cell.rows}) + "\n")
    print(f"medians of {options.rounds - 1 or 1} rounds\n\n{summary(rows)}\n\n{table(rows)}")
    return rows, failures


if __name__ == "__main__":
    main()
