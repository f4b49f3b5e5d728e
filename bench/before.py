"""EM iterations of this tree beside those of another one, such as a clone of an earlier commit: before ÷ after.

``python -m bench before FOLDER``: CPU time of an iteration, a process for each tree, in turn on the same rows from the
same start. Above 1, this tree is faster; medians, and the least of each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Self

import numpy as np

ROUNDS, QUICK_ROUNDS, ITERATIONS, CELL_S = 7, 1, 3, 0.008

SHAPES: list[tuple[str, str, int, int, float]] = [
    ("full", "float64", 4, 8, 2.0),
    ("full", "float64", 16, 32, 0.5),
    ("full", "float64", 64, 32, 0.5),
    ("full", "float64", 64, 64, 2.0),
    ("full", "float64", 256, 8, 0.5),
    ("full", "float32", 16, 32, 0.5),
    ("full", "float32", 64, 64, 0.5),
    ("full", "float32", 256, 32, 0.5),
    ("diag", "float64", 16, 64, 0.5),
    ("diag", "float64", 4, 8, 2.0),
    ("diag", "float32", 64, 64, 0.5),
    ("diag", "float32", 4, 128, 2.0),
    ("tied", "float64", 16, 32, 0.5),
    ("tied", "float32", 64, 8, 0.5),
    ("spherical", "float64", 16, 8, 0.5),
    ("spherical", "float32", 64, 32, 0.5),
]
"""Covariances, dtype, components, features, and how far apart means lie per axis."""


class Tree:
    """A process that computes with the package of one folder."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "--worker"],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """CPU seconds of an iteration, and the package that took them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a tree ended while it computed {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def seconds(folder: str, covariance_type: str) -> dict[str, Any]:
    """CPU seconds of an iteration: a long fit less a short one, from the same start."""
    import streamem

    x, means = np.load(Path(folder) / "x.npy"), np.load(Path(folder) / "means.npy")
    k, d = means.shape
    identity = {
        "full": np.repeat(np.eye(d)[None], k, axis=0),
        "tied": np.eye(d),
        "diag": np.ones((k, d)),
        "spherical": np.ones(k),
    }[covariance_type]
    took, arithmetic = {}, ""
    for max_iter in (1, 1 + ITERATIONS):
        model = streamem.GaussianMixture(
            k,
            covariance_type=covariance_type,
            tol=0.0,
            max_iter=max_iter,
            weights_init=np.full(k, 1 / k),
            means_init=means,
            precisions_init=identity,
        )
        began = process_time()
        model.fit(x)
        took[model.n_iter_] = process_time() - began
        arithmetic = str(model.report_.setting["arithmetic"])
    few, many = min(took), max(took)
    each = (took[many] - took[few]) / (many - few)
    return {"seconds": each, "arithmetic": arithmetic, "package": str(Path(streamem.__file__).parent)}


def work() -> None:
    """Answer requests until standard input ends."""
    warnings.simplefilter("ignore")
    for request in sys.stdin:
        print(json.dumps(seconds(**json.loads(request))), flush=True)


def measured(trees: list[Tree], folder: Path, covariance_type: str, rounds: int) -> tuple[list[list[float]], str]:
    """CPU seconds of an iteration by tree, of every round but the first, which compiles; and the arithmetic."""
    request = {"folder": str(folder), "covariance_type": covariance_type}
    answers = [[tree.ask(request) for tree in trees] for _ in range(1 + rounds)][1:]
    if answers[0][0]["package"] == answers[0][1]["package"]:
        raise RuntimeError(f"both trees took {answers[0][0]['package']}")
    return [[answer[i]["seconds"] for answer in answers] for i in range(2)], answers[0][1]["arithmetic"]


def show(options: argparse.Namespace) -> None:
    """Print a line for every shape, and the median of all ratios."""
    from bench.cells import Cell
    from bench.mixtures import store

    rounds = QUICK_ROUNDS if options.quick else options.rounds
    here, ratios = Path(__file__).parents[1], []
    print(f"before: {_commit(options.before)}, after: {_commit(here)}; {rounds} rounds\n")
    print("| cell | rows | before, ms | after, ms | before ÷ after | least ÷ least | arithmetic |")
    print("|---|---:|---:|---:|---:|---:|---|")
    with ExitStack() as stack:
        trees = [stack.enter_context(Tree(folder)) for folder in (options.before.absolute(), here)]
        for shape in SHAPES[:1] if options.quick else SHAPES:
            cell = Cell(*shape, cell_s=0.01 if options.quick else CELL_S)
            if options.only not in cell.name:
                continue
            with tempfile.TemporaryDirectory() as name:
                store(Path(name), cell.rows, cell.d, cell.k, cell.separation, cell.dtype)
                (old, new), arithmetic = measured(trees, Path(name), cell.covariance_type, rounds)
            ratios.append(median(a / b for a, b in zip(old, new, strict=True)))
            figures = (
                f"{1e3 * median(old):.1f} | {1e3 * median(new):.1f} | {ratios[-1]:.2f} | {min(old) / min(new):.2f}"
            )
            print(f"| {cell.name} | {cell.rows:,} | {figures} | {arithmetic} |", flush=True)
    print(f"\nmedian {median(ratios):.2f}, least {min(ratios):.2f} of {len(ratios)} cells")


def _commit(folder: Path) -> str:
    """Of a clone; nothing of another folder."""
    command = ["git", "-C", str(folder), "log", "-1", "--format=%h (%cs)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "no clone"


def main() -> None:
    """Measure, or be a tree that does."""
    if "--worker" in sys.argv:
        work()
        return
    from bench.results import add_options, recorded

    parser = argparse.ArgumentParser(prog="python -m bench before", description=__doc__)
    add_options(parser)
    parser.add_argument("before", type=Path, help="folder of the other tree")
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with recorded("before", options):
        show(options)


if __name__ == "__main__":
    main()
