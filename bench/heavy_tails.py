"""One E-step of a mixture of t distributions beside that of a Gaussian mixture on the same rows.

Rows in memory on one thread; both in turn, process time, the ratio of medians. Components overlap, and all are worked
out for every row by both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.cells import Shape
from bench.results import add_options, recorded
from streamem import Params
from streamem.core.chunk import Chunk
from streamem.families import Gaussian, StudentT
from streamem.models import Mixture

Array = NDArray[Any]

DOF = 5.0


@dataclass(frozen=True)
class Cell(Shape):
    """A mixture of some rows."""

    rows: int


CELLS = [
    Cell(covariance_type, dtype, k, d, rows)
    for covariance_type, k, d, rows in (
        ("full", 16, 32, 20_000),
        ("tied", 16, 32, 40_000),
        ("diag", 16, 32, 100_000),
        ("spherical", 16, 32, 100_000),
        ("diag", 4, 64, 100_000),
    )
    for dtype in ("float32", "float64")
]
QUICK = [Cell("full", "float32", 8, 4, 2000), Cell("diag", "float64", 4, 3, 2000)]


def e_steps(cell: Cell) -> tuple[list[Callable[[], Any]], str]:
    """The E-steps of a Gaussian and of a t mixture at the same means and matrices; and the arithmetic of the latter."""
    rng = np.random.default_rng(0)
    k, d = cell.k, cell.d
    means = 0.5 * rng.normal(size=(k, d))
    noise = rng.normal(size=(cell.rows, d)) / np.sqrt(rng.chisquare(DOF, (cell.rows, 1)) / DOF)
    chunk = Chunk((means[rng.integers(k, size=cell.rows)] + noise).astype(cell.dtype))
    steps: list[Callable[[], Any]] = []
    path = ""
    for family in (Gaussian(cell.covariance_type), StudentT(cell.covariance_type, 0.0, "estimated")):
        anchored = family.at_anchor(np.zeros(d), np.ones(d), k)
        components = family.with_means(anchored, means)
        if isinstance(family, StudentT):
            components = family.with_dofs(components, np.full(k, DOF))
        params = Params(weights=np.full(k, 1 / k), components=components, active=np.float64(k))
        model = Mixture(family, k, None)  # type: ignore[arg-type]
        path = model.arithmetic(params, np.dtype(cell.dtype))
        steps.append(partial(model.e_step, params, chunk))
    return steps, path


def measured(runs: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of each, in turn; the first round is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for own, run in zip(times, runs, strict=True):
            began = process_time()
            run()
            own.append(process_time() - began)
    return [median(own[1:]) for own in times]


def show(cells: list[Cell], rounds: int) -> None:
    """Print a row of the table for every cell."""
    print("| | Gaussian, ns a row | Student-t, ns a row | ratio | arithmetic |")
    print("|---|---:|---:|---:|---|")
    for cell in cells:
        runs, path = e_steps(cell)
        gaussian, student = (seconds / cell.rows * 1e9 for seconds in measured(runs, rounds))
        print(f"| {cell.shape} | {gaussian:.0f} | {student:.0f} | {student / gaussian:.2f} | {path} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench heavy_tails", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with recorded("heavy_tails", options), threadpool_limits(1):
        show(QUICK if options.quick else CELLS, 1 if options.quick else options.rounds)


if __name__ == "__main__":
    main()
