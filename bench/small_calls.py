"""What small work takes beside its arithmetic: questions about a row, mini-batches, small fits, and what a fit crosses.

Ways that are compared run in turn in one process, warm; medians. What a fit crosses is counted, not timed: files of the
package of which a warm fit from Zarr runs a function, and calls from one file into another.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import add_options, recorded

Array = NDArray[Any]
ITERATIONS = 32


def in_turn(ways: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each way; the first tenth of the rounds warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = clock()
            way()
            found[name].append(clock() - began)
    return {name: median(seconds[len(seconds) // 10 :]) for name, seconds in found.items()}


def questions(rounds: int) -> Iterator[str]:
    """A line for every question about one row of iris, K = 3."""
    from sklearn.datasets import load_iris
    from sklearn.mixture import GaussianMixture as Peer

    from streamem import GaussianMixture

    x = load_iris().data
    ours, theirs, row = GaussianMixture(3, random_state=0).fit(x), Peer(3, random_state=0).fit(x), x[:1]
    yield "| one row, K = 3, d = 4 | streamem, µs | scikit-learn, µs | ratio |\n|---|---:|---:|---:|"
    for name in ("predict", "predict_proba", "score_samples", "score"):
        own, peer = getattr(ours, name), getattr(theirs, name)
        took = in_turn({"ours": partial(own, row), "theirs": partial(peer, row)}, rounds, perf_counter)
        yield _line(name, took["ours"] * 1e6, took["theirs"] * 1e6, took["ours"] / took["theirs"], 0)


def mini_batches(count: int) -> Iterator[str]:
    """`partial_fit` of 1,000 × 16, K = 8, between the steps of `fit_stream` of another model."""
    from streamem import GaussianMixture

    rng = np.random.default_rng(0)
    centers = 3.0 * rng.normal(size=(8, 16))
    batches = [rng.normal(size=(1000, 16)) + centers[rng.integers(0, 8, 1000)] for _ in range(count)]
    other, alone, steps = GaussianMixture(8, random_state=0), list[float](), list[float]()

    def stream() -> Iterator[Array]:
        for batch in batches:
            began = perf_counter()
            other.partial_fit(batch)
            alone.append(perf_counter() - began)
            began = perf_counter()
            yield batch
            steps.append(perf_counter() - began)

    GaussianMixture(8, random_state=0).fit_stream(stream(), batch_rows=1000)
    own, step = (median(seconds[count // 10 :]) for seconds in (alone, steps))
    yield "| 1,000 × 16, K = 8 | partial_fit, ms | a step of fit_stream, ms | ratio |\n|---|---:|---:|---:|"
    yield _line("full", own * 1e3, step * 1e3, own / step, 2)


def small_fits(rounds: int) -> Iterator[str]:
    """Warm fits in one process, in NumPy and compiled; processor time."""
    from streamem import GaussianHMM, GaussianMixture

    def mixture(k: int, x: Array) -> Callable[[], object]:
        return lambda: GaussianMixture(k, max_iter=ITERATIONS, tol=0, random_state=0, n_threads=1).fit(x)

    def chain(k: int, x: Array) -> Callable[[], object]:
        return lambda: GaussianHMM(k, n_iter=ITERATIONS, tol=0, random_state=0, n_threads=1).fit(x)

    yield f"| fits of {ITERATIONS} iterations | NumPy, ms | compiled, ms | ratio |\n|---|---:|---:|---:|"
    rng, before = np.random.default_rng(0), os.environ.get("STREAMEM_SMALL_WORK")
    for name, make, n, d, k in (
        ("mixture", mixture, 150, 4, 3),
        ("mixture", mixture, 1000, 4, 3),
        ("chain", chain, 50, 2, 3),
        ("chain", chain, 200, 2, 3),
        ("chain", chain, 400, 2, 3),
    ):
        fit = make(k, rng.normal(size=(n, d)) + 3.0 * rng.integers(0, k, size=(n, 1)))
        took = in_turn({way: _forced(way, fit) for way in ("numpy", "compiled")}, rounds, process_time)
        ratio = took["numpy"] / took["compiled"]
        yield _line(f"{name}, {n:,} × {d}, K = {k}", took["numpy"] * 1e3, took["compiled"] * 1e3, ratio, 1)
    os.environ.pop("STREAMEM_SMALL_WORK", None)
    os.environ.update({} if before is None else {"STREAMEM_SMALL_WORK": before})


def _forced(way: str, fit: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        os.environ["STREAMEM_SMALL_WORK"] = way
        return fit()

    return run


def crossed() -> tuple[set[str], int]:
    """Files of the package of which a warm fit from Zarr runs a function, and calls from one file into another."""
    import zarr

    import streamem

    root, files, calls = str(Path(streamem.__file__).parent), set[str](), 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        if event == "call" and (file := frame.f_code.co_filename).startswith(root):
            files.add(file[len(root) + 1 :])
            calls += frame.f_back is not None and frame.f_back.f_code.co_filename != file

    with TemporaryDirectory() as folder:
        rows = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
        zarr.create_array(f"{folder}/x.zarr", shape=rows.shape, chunks=(2500, 8), dtype="f4")[:] = rows
        model = streamem.GaussianMixture(3, max_iter=3, tol=0, random_state=0, n_threads=1)
        for _ in range(2):
            model.fit(f"{folder}/x.zarr")
        threading.setprofile(seen)
        sys.setprofile(seen)
        try:
            model.fit(f"{folder}/x.zarr")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return files, calls


def _line(name: str, ours: float, theirs: float, ratio: float, digits: int) -> str:
    return f"| {name} | {ours:.{digits}f} | {theirs:.{digits}f} | {ratio:.2f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench small_calls", description=__doc__)
    parser.add_argument("--part", choices=("questions", "mini-batches", "fits", "crossed"), help="one of them alone")
    add_options(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    quick = options.quick
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "questions": lambda: questions(20 if quick else 2000),
        "mini-batches": lambda: mini_batches(20 if quick else 400),
        "fits": lambda: small_fits(2 if quick else 15),
        "crossed": _in_words,
    }
    with recorded("small_calls", options):
        for name, part in parts.items():
            for line in (*part(), "") if options.part in (None, name) else ():
                print(line, flush=True)


def _in_words() -> Iterator[str]:
    files, calls = crossed()
    yield f"A warm fit from Zarr runs functions of {len(files)} files, and {calls:,} calls from one file into another."


if __name__ == "__main__":
    main()
