"""Factor analysis beside scikit-learn's, from the same rows, in one run: whole fits, and what an iteration takes."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import decomposition
from threadpoolctl import threadpool_limits

from bench.results import add_options, recorded
from streamem import FactorAnalysis

Array = NDArray[Any]

ROWS, QUICK_ROWS, FEATURES, FACTORS, ROUNDS = 100_000, 5_000, 200, 10, 3


def rows_of_factors(n: int, d: int, q: int) -> Array:
    """Rows (n, d) of q factors, and noise of each column."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(q, d)) / np.sqrt(q)
    return rng.normal(size=(n, q)) @ loadings + rng.normal(size=(n, d)) * rng.uniform(0.5, 2.0, size=d)


def whole_fits(x: Array, q: int, rounds: int) -> None:
    """Fits that end by tolerances of 1e-6 nats a row, in turn, on one core each, in processor seconds."""
    given: dict[str, Any] = {"tol": 1e-6 * len(x), "random_state": 0}
    table: dict[str, Callable[[], Any]] = {
        "streamem": lambda: FactorAnalysis(q, n_threads=1).fit(x, algorithm="batch"),
        "scikit-learn, lapack": lambda: decomposition.FactorAnalysis(q, svd_method="lapack", **given).fit(x),
        "scikit-learn, randomized": lambda: decomposition.FactorAnalysis(q, **given).fit(x),
    }
    taken: dict[str, list[float]] = {name: [] for name in table}
    models: dict[str, Any] = {}
    FactorAnalysis(q, n_threads=1).fit(x[:500], algorithm="batch").score(x[:500])  # imports what is needed
    with threadpool_limits(1):
        for _ in range(rounds):
            for name, fit in table.items():
                began = process_time()
                models[name] = fit()
                taken[name].append(process_time() - began)
        scores = {name: float(model.score(x)) for name, model in models.items()}
    ours = median(taken["streamem"])
    print("| | seconds | ÷ | iterations | ms an iteration, start included | ÷ | nats a row below the best |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, model in models.items():
        own, steps = median(taken[name]), int(model.n_iter_)
        each, of_ours = 1e3 * own / steps, 1e3 * ours / int(models["streamem"].n_iter_)
        below = max(scores.values()) - scores[name]
        print(f"| {name} | {own:.2f} | {own / ours:.1f} | {steps} | {each:.1f} | {each / of_ours:.1f} | {below:.1e} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench factor_models", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # few iterations do not converge
    with recorded("factor_models", chosen):
        n, d = (QUICK_ROWS, FEATURES // 4) if chosen.quick else (ROWS, FEATURES)
        print(f"{n:,} rows × {d} features, {FACTORS} factors, float64, one core\n")
        x = rows_of_factors(n, d, FACTORS)
        whole_fits(x, FACTORS, chosen.rounds)


if __name__ == "__main__":
    main()
