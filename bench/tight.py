"""One E-step of a Gaussian mixture where no, one, or a quarter of the components are tight.

A tight component's log-density would lose its digits in products of features. Times are those of a pass over rows in
memory on one thread (process time, the best of several in turn), as a ratio to the pass where no component is tight,
and to scikit-learn's E-step and M-step on the same rows and parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from bench.cells import Shape
from bench.results import add_options, recorded
from streamem import Params
from streamem.core.chunk import Chunk
from streamem.families import Gaussian
from streamem.models import HMM, Mixture

Array = NDArray[Any]

TIGHT = 1e-6
"""Variance of a tight component, where others have 1."""


@dataclass(frozen=True)
class Cell(Shape):
    """A mixture of some rows, or a chain where `chain` is set."""

    rows: int
    chain: bool = False

    @property
    def name(self) -> str:
        """As the table shows it."""
        return f"HMM {self.shape}" if self.chain else self.shape


CELLS = [
    Cell(covariance_type, dtype, k, d, rows, chain)
    for covariance_type, k, d, rows, chain in (
        ("diag", 64, 64, 20_000, False),
        ("spherical", 64, 64, 20_000, False),
        ("full", 16, 32, 20_000, False),
        ("diag", 256, 384, 4_000, False),
        ("diag", 8, 16, 50_000, True),
    )
    for dtype in ("float32", "float64")
]
QUICK = [
    Cell("diag", "float64", 8, 4, 2000),
    Cell("full", "float32", 8, 4, 2000),
    Cell("diag", "float64", 4, 3, 2000, True),
]


class Case:
    """Rows of a mixture some of whose components are tight, and its parameters."""

    def __init__(self, cell: Cell, tight: int) -> None:
        rng = np.random.default_rng(0)
        k, d, family = cell.k, cell.d, Gaussian(cell.covariance_type)
        self.means, self.variances = 3.0 * rng.normal(size=(k, d)), np.ones(k)
        self.variances[rng.choice(k, tight, replace=False)] = TIGHT
        source = rng.integers(k, size=cell.rows)
        noise = np.sqrt(self.variances)[source, None] * rng.normal(size=(cell.rows, d))
        self.x, self.cell = (self.means[source] + noise).astype(cell.dtype), cell
        covariances = self.covariances
        anchor = family.at_anchor(np.zeros(d), np.full(d, 4.0), k)
        components = family.with_means(family.with_covariances(anchor, covariances), self.means)
        even = np.full(k, 1 / k)
        if cell.chain:
            self.model: Any = HMM(family, k, None)  # type: ignore[arg-type]
            self.params = Params(startprob=even, transmat=np.tile(even, (k, 1)), components=components)
        else:
            self.model = Mixture(family, k, None)  # type: ignore[arg-type]
            self.params = Params(weights=even, components=components, active=np.float64(k))
        self.e_step()

    @property
    def covariances(self) -> Array:
        """Shaped as scikit-learn's."""
        d = self.means.shape[1]
        return {
            "full": self.variances[:, None, None] * np.eye(d),
            "diag": np.repeat(self.variances[:, None], d, axis=1),
            "spherical": self.variances,
        }[self.cell.covariance_type]

    def e_step(self) -> None:
        """Ours."""
        self.model.e_step(self.params, Chunk(self.x))

    def scikit_learn(self) -> None:
        """An iteration of scikit-learn's at the same parameters."""
        k, kind = self.cell.k, self.cell.covariance_type
        peer = GaussianMixture(k, covariance_type=kind)
        peer.weights_, peer.means_ = np.full(k, 1 / k), self.means
        deviations = np.sqrt(self.variances)
        peer.covariances_, peer.precisions_cholesky_ = (
            self.covariances,
            {
                "full": np.eye(self.cell.d) / deviations[:, None, None],
                "diag": np.repeat(1.0 / deviations[:, None], self.cell.d, axis=1),
                "spherical": 1.0 / deviations,
            }[kind],
        )
        _, log_resp = peer._e_step(self.x)
        peer._m_step(self.x, log_resp)


def measured(runs: list[Callable[[], None]], rounds: int) -> list[float]:
    """The least seconds of each, in turn."""
    best = [np.inf] * len(runs)
    for _ in range(rounds):
        for i, run in enumerate(runs):
            began = process_time()
            run()
            best[i] = min(best[i], process_time() - began)
    return best


def show(cells: list[Cell], rounds: int) -> None:
    """Print a row of the table for every cell."""
    print("| | ns a row, none tight | one tight ÷ none | a quarter ÷ none | scikit-learn ÷ one tight | arithmetic |")
    print("|---|---:|---:|---:|---:|---|")
    for cell in cells:
        cases = [Case(cell, tight) for tight in (0, 1, cell.k // 4)]
        peers = [] if cell.chain else [cases[1].scikit_learn]
        none, one, quarter, *peer = measured([*(case.e_step for case in cases), *peers], rounds)
        path = cases[1].model.arithmetic(cases[1].params, np.dtype(cell.dtype))
        ratio, ns = f"{peer[0] / one:.1f}" if peer else "", none / cell.rows * 1e9
        print(f"| {cell.name} | {ns:.0f} | {one / none:.2f} | {quarter / none:.2f} | {ratio} | {path} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench tight", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with recorded("tight", options), threadpool_limits(1):
        show(QUICK if options.quick else CELLS, 1 if options.quick else options.rounds)


if __name__ == "__main__":
    main()
