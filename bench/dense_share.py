"""What share of a square product's speed the dense E-step reaches: one thread, rows in the cache, both in turn.

``python -m bench.dense_share``: full covariances, K = 64, d = 64 and K = 16, d = 32, float64 and float32.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench.results import add_options, recorded
from streamem.core.arrays import Params
from streamem.core.blas import one_blas_thread
from streamem.families import Gaussian

CASES = [(64, 64, "float64"), (64, 64, "float32"), (16, 32, "float64"), (16, 32, "float32")]
ROUNDS, QUICK_ROUNDS, SIDE, ROWS_NBYTES = 15, 3, 1000, 2**20


def kernel_of(k: int, d: int, dtype: str) -> tuple[Any, Any, Any]:
    """A kernel of the dense path, rows that it overlaps on, and log-weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS_NBYTES // (np.dtype(dtype).itemsize * d), d)).astype(dtype)
    family = Gaussian("full")
    start = family.start(x.astype(np.float64), None, k)
    means = 0.1 * rng.normal(size=(k, d))
    params: Params = start.replace(means=means)
    return family.kernel(params, np.dtype(dtype)), x, np.full(k, -np.log(k))


def speeds(k: int, d: int, dtype: str, rounds: int) -> tuple[str, list[float], list[float]]:
    """The arithmetic, and FLOP/s of E-steps and of square products, in turn."""
    kernel, x, log_weights = kernel_of(k, d, dtype)
    a = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)
    flops = 4 * k * (1 + d + d * (d + 1) // 2) * len(x)
    ours, products = [], []
    for _ in range(rounds + 1):
        began = perf_counter()
        kernel.mix(x, None, log_weights)
        between = perf_counter()
        np.matmul(a, a)
        ours.append(flops / (between - began))
        products.append(2 * SIDE**3 / (perf_counter() - between))
    return kernel.path, ours[1:], products[1:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench dense_share", description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    with recorded("dense_share", options):
        show(QUICK_ROUNDS if options.quick else ROUNDS)


def show(rounds: int) -> None:
    """Print a line for every case, and before them how many rounds."""
    print(f"{rounds} rounds\n")
    print("| case | arithmetic | GFLOP/s, best | product, best | share of the best | median share of a pair |")
    print("|---|---|---:|---:|---:|---:|")
    with one_blas_thread():
        for k, d, dtype in CASES:
            path, ours, products = speeds(k, d, dtype, rounds)
            best, top = max(ours), max(products)
            share = median(a / b for a, b in zip(ours, products, strict=True))
            shown = f"{best / 1e9:.1f} | {top / 1e9:.1f} | {best / top:.0%} | {share:.0%}"
            print(f"| full {dtype} K={k} d={d} | {path} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
