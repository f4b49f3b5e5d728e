"""One E-step of a Gaussian mixture on rows that lack values, as a ratio to that on the complete rows.

Times are those of a pass over rows in memory on one thread (process time, the best of several in turn). Missing at
random, nearly every row lacks something else; of patterns, all rows lack one of a few sets of features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.cells import Shape
from bench.results import add_options, recorded
from bench.tight import measured
from streamem import Params
from streamem.core.chunk import Chunk
from streamem.families import Gaussian
from streamem.models import Mixture

Array = NDArray[Any]

SHARE, PATTERNS = 0.1, 5


class Case:
    """Rows of a mixture, the same with holes, and its parameters."""

    def __init__(self, cell: Shape, rows: int) -> None:
        rng = np.random.default_rng(0)
        k, d, family = cell.k, cell.d, Gaussian(cell.covariance_type).integrating()
        means, roots = 2.0 * rng.normal(size=(k, d)), rng.normal(size=(k, d, d)) / np.sqrt(2 * d)
        matrices = np.eye(d) + roots @ np.swapaxes(roots, 1, 2)
        own = {"full": matrices, "tied": matrices[0], "diag": np.einsum("kii->ki", matrices)}
        covariances = own.get(cell.covariance_type, matrices[:, 0, 0])
        self.complete = (means[rng.integers(k, size=rows)] + rng.normal(size=(rows, d))).astype(cell.dtype)
        self.at_random = np.where(rng.random((rows, d)) < SHARE, np.nan, self.complete)
        lacking = rng.random((PATTERNS, d)) < SHARE
        self.patterns = np.where(lacking[rng.integers(PATTERNS, size=rows)], np.nan, self.complete)
        anchor = family.at_anchor(np.zeros(d), np.full(d, 2.0), k)
        components = family.with_means(family.with_covariances(anchor, covariances), means)
        self.model = Mixture(family, k, None)  # type: ignore[arg-type]
        self.params = Params(weights=np.full(k, 1 / k), components=components, active=np.float64(k))

    def e_step(self, x: Array) -> None:
        """Of these rows."""
        self.model.e_step(self.params, Chunk(x))


def show(cells: list[Shape], rows: int, rounds: int) -> None:
    """Print a row of the table for every cell."""
    print(f"| | ns a row, complete | {SHARE:.0%} at random ÷ complete | {PATTERNS} patterns ÷ complete | arithmetic |")
    print("|---|---:|---:|---:|---|")
    for cell in cells:
        case = Case(cell, rows)
        runs: list[Callable[[], None]] = [
            partial(case.e_step, x) for x in (case.complete, case.at_random, case.patterns)
        ]
        for run in runs:
            run()
        complete, at_random, patterns = measured(runs, rounds)
        path = case.model.arithmetic(case.params, np.dtype(cell.dtype))
        ratios = f"{at_random / complete:.2f} | {patterns / complete:.2f}"
        print(f"| {cell.shape} | {complete / rows * 1e9:.0f} | {ratios} | {path} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench missing", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    kinds = ("full",) if options.quick else ("full", "tied", "diag", "spherical")
    k, d, rows = (4, 8, 2000) if options.quick else (16, 32, 65_536)
    cells = [Shape(kind, dtype, k, d) for kind in kinds for dtype in ("float32", "float64")]
    with recorded("missing", options), threadpool_limits(1):
        show(cells, rows, 1 if options.quick else options.rounds)


if __name__ == "__main__":
    main()
