"""Mixtures of Gaussian regressions beside what R's flexmix computes, written in NumPy: an iteration, and whole fits.

flexmix (Grün & Leisch 2008) holds all posteriors, and fits each component by weighted least squares, `lm.wfit`: a QR
decomposition of all rows with the roots of their weights. It ends where |Δℓ| / (|ℓ| + 0.1) < 1e-6. Both begin at
random. A second table tells by how much three iterations raise the peak memory of a process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.results import add_options, recorded
from streamem import MixtureOfRegressions

Array = NDArray[Any]

ROWS, QUICK_ROWS, COVARIATES, K, ITERATIONS = 1_000_000, 20_000, 10, 3, (3, 8)
MOST_PASSES = 500


def rows_of(n: int, p: int) -> tuple[Array, Array]:
    """Covariates (n, p) and responses (n,) of K regressions."""
    rng = np.random.default_rng(0)
    x, component = rng.normal(size=(n, p)), rng.choice(K, size=n, p=[0.5, 0.3, 0.2])
    coef = rng.normal(size=(K, p))
    return x, np.einsum("np,np->n", x, coef[component]) + np.array([1.0, -2.0, 4.0])[component] + rng.normal(size=n)


def flexmix(x: Array, y: Array, tol: float, max_iter: int) -> tuple[int, float]:
    """Iterations and log-likelihood a row of the peer."""
    n = len(x)
    design = np.column_stack([np.ones(n), x])
    posterior, before = np.random.default_rng(1).dirichlet(np.ones(K), size=n), -np.inf
    iteration = 0
    while iteration < max_iter:
        iteration += 1
        joint = np.empty((n, K))
        for k in range(K):
            weight = posterior[:, k]
            root = np.sqrt(weight)
            q, r = np.linalg.qr(design * root[:, None])
            residual = y - design @ np.linalg.solve(r, q.T @ (y * root))
            scale = np.sqrt(weight @ residual**2 / weight.sum())
            joint[:, k] = np.log(weight.mean()) - np.log(scale) - 0.5 * (residual / scale) ** 2
        peak = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - peak)
        total = posterior.sum(axis=1, keepdims=True)
        posterior /= total
        now = float((np.log(total) + peak).sum()) - 0.5 * n * np.log(2 * np.pi)
        if abs(now - before) / (abs(now) + 0.1) < tol:
            break
        before = now
    return iteration, now / n


def streamem(x: Any, y: Any, tol: float, max_iter: int, **settings: Any) -> tuple[int, float]:
    """Iterations and log-likelihood a row of ours, on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixtureOfRegressions(
            K, init_params="random", random_state=1, tol=tol, max_iter=max_iter, n_threads=1, **settings
        )
        model.fit(x, y, algorithm="batch")
    return int(model.n_iter_), float(model.lower_bound_)


RUNS: dict[str, Callable[..., tuple[int, float]]] = {"streamem": streamem, "flexmix in NumPy": flexmix}


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Processor seconds of a call, the median of some."""
    taken = []
    for _ in range(rounds):
        begun = process_time()
        run()
        taken.append(process_time() - begun)
    return median(taken)


def beside_peer(x: Array, y: Array, rounds: int) -> None:
    """The first table."""
    few, many = ITERATIONS
    streamem(x, y, 0.0, 2)  # what is compiled is compiled now
    each, wholes = [], []
    for run in RUNS.values():
        taken = [seconds(lambda run=run, count=count: run(x, y, 0.0, count), rounds) for count in ITERATIONS]  # type: ignore[misc]
        each.append((taken[1] - taken[0]) / (many - few))
        found: list[tuple[int, float]] = []
        whole = seconds(lambda run=run, found=found: found.append(run(x, y, 1e-6, MOST_PASSES)), rounds)  # type: ignore[misc]
        wholes.append((whole, *found[-1]))
    print(f"| processor seconds, one core | {' | '.join(RUNS)} | ÷ |\n|---|{'---:|' * len(RUNS)}---:|")
    print(f"| an iteration | {' | '.join(f'{own:.4f}' for own in each)} | {each[1] / each[0]:.1f} |")
    print(f"| a whole fit | {' | '.join(f'{own[0]:.2f}' for own in wholes)} | {wholes[1][0] / wholes[0][0]:.1f} |")
    print(f"| its iterations | {' | '.join(str(own[1]) for own in wholes)} | |")
    print(f"| nats a row | {' | '.join(f'{own[2]:.6f}' for own in wholes)} | |")
    with_z = np.column_stack([x, np.random.default_rng(2).normal(size=len(x))])
    shifted = [
        seconds(lambda count=count: streamem(with_z, y, 0.0, count, concomitant=[-1 + with_z.shape[1]]), rounds)  # type: ignore[misc]
        for count in ITERATIONS
    ]
    print(f"| an iteration with one concomitant | {(shifted[1] - shifted[0]) / (many - few):.4f} | | |", flush=True)


def peak_of(name: str, folder: str, from_file: bool) -> float:
    """MiB by which three iterations raise the peak of this process, in a new interpreter."""
    paths = [f"{folder}/{part}.npy" for part in "xy"]
    streamem(np.ones((40, 2)) * np.arange(40)[:, None] ** [1, 2], np.arange(40.0) ** 3, 0.0, 2)
    data: list[Any] = list(paths) if from_file else [np.load(path) for path in paths]
    before = peak_mib()
    with threadpool_limits(1):
        RUNS[name](*data, 0.0, 3)
    return peak_mib() - before


def peak_mib() -> float:
    """Peak memory of this process; `ru_maxrss` would be that of the one that started it."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def memory(x: Array, y: Array) -> None:
    """The second table."""
    print(f"\n| {(x.nbytes + y.nbytes) / 2**20:.0f} MiB of data | MiB beyond |\n|---|---:|")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", x)
        np.save(Path(folder) / "y.npy", y)
        for name, where in (("streamem", True), ("streamem", False), ("flexmix in NumPy", False)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                beyond = pool.apply(peak_of, (name, folder, where))
            told = "the data on disk" if where else "the data in memory"
            print(f"| {name}, {told} | {beyond:.0f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench regressions", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with recorded("regressions", options):
        n = QUICK_ROWS if options.quick else ROWS
        print(f"{n:,} rows × {COVARIATES} covariates, {K} Gaussian regressions, float64\n")
        x, y = rows_of(n, COVARIATES)
        with threadpool_limits(1):
            beside_peer(x, y, 1 if options.quick else options.rounds)
        memory(x, y)


if __name__ == "__main__":
    main()
