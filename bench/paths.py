"""Dense E-steps by every path that can compute them, at every vector width, in turn: which path pays where?

``python -m bench paths``: panels of features multiplied by BLAS; strips of rows, feature by feature and group by group;
rows as they lie. CPU time of one thread, rows in the cache, the least of several rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from time import thread_time
from typing import Any, Self
from unittest import mock

import numpy as np

from bench.cells import Shape
from bench.results import add_options, recorded
from streamem.core.blas import one_blas_thread
from streamem.families import Gaussian
from streamem.families.gaussian.arithmetic import natural_parameters
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.kernels import tiling
from streamem.kernels.features.diagonal_rows import suits_rows
from streamem.kernels.features.exponential import ExponentialKernel
from streamem.kernels.features.features import NO_GROUPS, Features
from streamem.machine.processor import VARIABLE, _has_vectors_of_512

ROUNDS, QUICK_ROUNDS, ROWS_NBYTES, LEAST_ROWS, MOST_PRODUCTS, TURN_S = 4, 1, 2**19, 512, 2**28, 0.03
PATHS = ("panels", "strips", "groups", "rows")
WIDTHS = (256, 512)


def shapes(quick: bool) -> list[Shape]:
    """Components with covariances of their own."""
    if quick:
        return [Shape("full", "float64", 8, 4), Shape("diag", "float32", 8, 64)]
    dtypes = ("float64", "float32")
    return [
        *(Shape("full", *each) for each in product(dtypes, (4,), (32, 128))),
        *(Shape("full", *each) for each in product(dtypes, (8, 16, 64, 256), (8, 32, 64, 128))),
        *(Shape("diag", *each) for each in product(dtypes, (4, 16, 64), (8, 32, 64, 128, 512))),
    ]


class Worker:
    """A process whose vectors have one width."""

    def __init__(self, width: int) -> None:
        environment = {**os.environ, VARIABLE: str(width)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.paths", "--worker"],
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

    def ask(self, shape: Shape) -> dict[str, float]:
        """Nanoseconds a row by path."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"covariance_type": shape.covariance_type, "dtype": shape.dtype, "k": shape.k, "d": shape.d}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer


def kernels_of(shape: Shape, start: Any) -> Iterator[tuple[str, Any]]:
    """Kernels of one shape by path, those that it has."""
    structure = COVARIANCES[shape.covariance_type]
    natural, features = natural_parameters(structure, start), structure.features(shape.d)
    plain = features._replace(groups=NO_GROUPS, squares=False)
    ways: dict[str, Features] = {"strips": plain}
    if shape.k >= tiling.FEW_COMPONENTS:
        ways["panels"] = plain
    if len(features.groups):
        ways["groups"] = features._replace(squares=False)
    if features.squares and suits_rows(1, shape.d * np.dtype(shape.dtype).itemsize):
        ways["rows"] = features
    for path, own in ways.items():
        with by(path):
            panels = tiling.panels_of(natural, shape.dtype)
            yield path, ExponentialKernel(panels, own, start.center, start.scale, 0.0)


@contextmanager
def by(path: str) -> Iterator[None]:
    """Kernels that are made, and first used, within compute by this path."""
    with mock.patch.object(tiling, "in_panels", return_value=path == "panels"):
        yield


def answer(shape: Shape) -> dict[str, float]:
    """Nanoseconds a row of CPU time by path, the least of some turns."""
    rng = np.random.default_rng(0)
    rows_in_cache = ROWS_NBYTES // (np.dtype(shape.dtype).itemsize * shape.d)
    n = max(LEAST_ROWS, min(rows_in_cache, MOST_PRODUCTS // (shape.k * shape.d**2)))
    x = rng.normal(size=(n, shape.d)).astype(shape.dtype)
    started = Gaussian(shape.covariance_type).start(x.astype(np.float64), None, shape.k)
    start = started.replace(means=0.1 * rng.normal(size=(shape.k, shape.d)))
    log_weights, kernels = np.full(shape.k, -np.log(shape.k)), dict(kernels_of(shape, start))
    least, spent = dict.fromkeys(kernels, np.inf), dict.fromkeys(kernels, 0.0)
    for path, kernel in kernels.items():
        with by(path):
            kernel.mix(x, None, log_weights)
    while min(spent.values()) < TURN_S:
        for path, kernel in kernels.items():
            began = thread_time()
            kernel.mix(x, None, log_weights)
            took = thread_time() - began
            spent[path] += took
            least[path] = min(least[path], took)
    return {path: 1e9 * took / n for path, took in least.items()}


def measured(shape: Shape, workers: dict[int, Worker], rounds: int) -> dict[tuple[int, str], float]:
    """Nanoseconds a row by width and path, the widths in turn."""
    least: dict[tuple[int, str], float] = {}
    for _ in range(rounds):
        for width, worker in workers.items():
            for path, took in worker.ask(shape).items():
                least[width, path] = min(took, least.get((width, path), np.inf))
    return least


def line(shape: Shape, found: dict[tuple[int, str], float]) -> str:
    """A line of the table: the best, and each path beside it."""
    best = min(found.values())
    name = next(f"{path} {width}" for (width, path), took in found.items() if took == best)
    ratios = [found.get((width, path)) for path in PATHS for width in WIDTHS]
    shown = ["" if took is None else f"{took / best:.2f}" for took in ratios]
    return f"| {' | '.join([shape.shape, f'{best:.4g}', name, *shown])} |"


def show(options: argparse.Namespace) -> None:
    """Print the table; on stderr, each line as it is done."""
    widths = [width for width in WIDTHS if width < 512 or _has_vectors_of_512()]
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    columns = [f"{path} {width}" for path in PATHS for width in WIDTHS]
    print(f"the least of {rounds} rounds; a path's time ÷ the best\n")
    print(f"| shape | best, ns a row | by | {' | '.join(columns)} |\n|---|---:|---|{'---:|' * len(columns)}")
    with ExitStack() as stack:
        workers = {width: stack.enter_context(Worker(width)) for width in widths}
        for shape in shapes(options.quick):
            if options.only in shape.shape:
                print(line(shape, measured(shape, workers, rounds)), flush=True)


def work() -> None:
    """Answer requests until standard input ends."""
    with one_blas_thread():
        for request in sys.stdin:
            print(json.dumps(answer(Shape(**json.loads(request)))), flush=True)


def main() -> None:
    """Measure, or be a worker that does."""
    parser = argparse.ArgumentParser(prog="python -m bench paths", description=__doc__)
    add_options(parser)
    parser.add_argument("--only", default="", help="shapes whose name holds this text")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    with recorded("paths", options):
        show(options)


if __name__ == "__main__":
    main()
