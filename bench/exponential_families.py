"""Poisson and Gamma mixtures: an EM iteration beside the same in NumPy and SciPy, and in pomegranate, in one run."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, polygamma, psi

from bench.results import add_options, recorded
from streamem import GammaMixture, PoissonMixture

Array = NDArray[Any]

ROWS, QUICK_ROWS, FEATURES, COMPONENTS, ITERATIONS, ROUNDS = 200_000, 10_000, 4, 8, 4, 5


def poisson_in_numpy(x: Array, k: int, iterations: int) -> None:
    """EM from rows as rates."""
    weights, rates, constant = np.full(k, 1 / k), x[:k] + 1.0, gammaln(x + 1.0).sum(axis=1)
    for _ in range(iterations):
        joint = x @ np.log(rates).T - rates.sum(axis=1) - constant[:, None] + np.log(weights)
        resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        weights, rates = resp.mean(axis=0), resp.T @ x / resp.sum(axis=0)[:, None]


def gamma_in_numpy(x: Array, k: int, iterations: int) -> None:
    """EM with four of Minka's steps; logarithms of the data are taken once."""
    weights, shapes, scales, logs = np.full(k, 1 / k), np.ones((k, x.shape[1])), x[:k] + 0.1, np.log(x)
    for _ in range(iterations):
        constant = (shapes * np.log(scales) + gammaln(shapes)).sum(axis=1)
        joint = logs @ (shapes - 1).T - x @ (1 / scales).T - constant + np.log(weights)
        resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        total = resp.sum(axis=0)[:, None]
        weights, means = total[:, 0] / len(x), resp.T @ x / total
        gap = np.log(means) - resp.T @ logs / total
        for _ in range(4):
            slope = shapes**2 * (1 / shapes - polygamma(1, shapes))
            shapes = 1 / (1 / shapes + (np.log(shapes) - psi(shapes) - gap) / slope)
        scales = means / shapes


def pomegranate_of(kind: str, x: Array, k: int) -> Callable[[int], object] | None:
    """So many iterations of pomegranate's mixture of one kind, in float64, on all cores; None where it is missing."""
    try:
        import torch
        from pomegranate import distributions
        from pomegranate.gmm import GeneralMixtureModel
    except ImportError:
        print(f"pomegranate is missing: pip install pomegranate ({kind})")
        return None
    rows = torch.from_numpy(x)

    def fit(iterations: int) -> None:
        starts = [(row + 1.0,) if kind == "Poisson" else (np.ones_like(row), 1 / (row + 0.1)) for row in x[:k]]
        parts = [getattr(distributions, kind)(*map(torch.from_numpy, start)) for start in starts]
        model = GeneralMixtureModel(parts, priors=torch.full((k,), 1 / k, dtype=torch.float64))
        for _ in range(iterations):
            model.summarize(rows)
            model.from_summaries()

    return fit


def seconds_an_iteration(fit: Callable[[int], object]) -> float:
    """Time of a long fit less that of a short one, by the difference in iterations."""
    times = []
    for count in (1, 1 + ITERATIONS):
        began = perf_counter()
        fit(count)
        times.append(perf_counter() - began)
    return (times[1] - times[0]) / ITERATIONS


def show(rows: int) -> None:
    """Print a line for each family: medians of rounds in which both take turns."""
    rng = np.random.default_rng(0)
    part = rng.integers(COMPONENTS, size=(rows, 1))
    counts = rng.poisson(2.0 + 3.0 * part, (rows, FEATURES)).astype(np.float64)
    sizes = rng.gamma(2.0 + 3.0 * part, 1.0, (rows, FEATURES))
    own: dict[str, Any] = {"tol": 0, "random_state": 0, "init_params": "random_from_data"}
    engines: dict[str, list[Callable[[int], object] | None]] = {
        "Poisson": [
            lambda n: PoissonMixture(COMPONENTS, max_iter=n, **own).fit(counts),
            lambda n: poisson_in_numpy(counts, COMPONENTS, n),
            pomegranate_of("Poisson", counts, COMPONENTS),
        ],
        "Gamma": [
            lambda n: GammaMixture(COMPONENTS, max_iter=n, **own).fit(sizes),
            lambda n: gamma_in_numpy(sizes, COMPONENTS, n),
            pomegranate_of("Gamma", sizes, COMPONENTS),
        ],
    }
    print(f"{rows:,} rows × {FEATURES}, K = {COMPONENTS}, float64, one EM iteration\n")
    print("| family | streamem, ms | NumPy and SciPy, ms | ÷ | pomegranate, ms | ÷ |\n|---|---:|---:|---:|---:|---:|")
    for name, all_of_them in engines.items():
        present = [fit for fit in all_of_them if fit is not None]
        for fit in present:
            fit(1)
        found = [[seconds_an_iteration(fit) for fit in present] for _ in range(ROUNDS)]
        mine, *others = (median(times) for times in zip(*found, strict=True))
        cells = [f"{1e3 * other:.1f} | {other / mine:.1f}" for other in others] + ["- | -"] * (3 - len(present))
        print(f"| {name} | {1e3 * mine:.1f} | {' | '.join(cells)} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench exponential_families", description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    with recorded("exponential_families", options):
        show(QUICK_ROWS if options.quick else ROWS)


if __name__ == "__main__":
    main()
