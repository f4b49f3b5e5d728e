"""How often 95 % intervals (estimate ± 1.96 standard errors) hold the truth, over simulated data sets.

Mixtures of Gaussians, latent classes, hidden Markov models and mixtures of Poissons, complete and with a tenth of the
values missing at random. Components are put in the order of the truth by their first emission parameter.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import add_options, recorded
from streamem import GaussianHMM, GaussianMixture, LatentClass, Mixture

Array = NDArray[Any]
NORMAL_95 = 1.959963984540054
OPTIONS: dict[str, Any] = {"random_state": 0, "n_threads": 1}


@dataclass(frozen=True)
class Case:
    """A model, its truth, and how data sets are drawn and fitted.

    Attributes
    ----------
    draw : (generator, rows) → rows, and the lengths of sequences or None
    fit : (rows, lengths, options about missing values) → a fitted estimator
    numbers : of an estimator (or its errors), a mapping of names to arrays whose first axis is that of components
    order : (K,) of an estimator, what puts its components in the order of the truth
    truth : name → the true values
    """

    draw: Callable[[np.random.Generator, int], tuple[Array, Any]]
    fit: Callable[..., Any]
    numbers: Callable[[Any], dict[str, Array]]
    order: Callable[[Any], Array]
    truth: dict[str, Array]


WEIGHTS = np.array([0.4, 0.6])
MEANS, VARIANCES = np.array([[0.0, 0.0], [3.0, 2.0]]), np.array([[1.0, 2.0], [1.5, 0.8]])
RATES = np.array([[2.0, 6.0], [8.0, 3.0]])
YES = np.array([[0.15, 0.2, 0.3, 0.25, 0.2, 0.1], [0.85, 0.7, 0.9, 0.75, 0.8, 0.8]])
MOVES, STATE_MEANS, STATE_VARIANCES = np.array([[0.85, 0.15], [0.25, 0.75]]), np.array([[0.0], [3.0]]), [[1.0], [1.5]]
STEPS = 50


def _labels(rng: np.random.Generator, n: int) -> Array:
    return (rng.random(n) >= WEIGHTS[0]).astype(int)


def _gaussians(rng: np.random.Generator, n: int) -> tuple[Array, Any]:
    z = _labels(rng, n)
    return rng.normal(MEANS[z], np.sqrt(VARIANCES[z])), None


def _poissons(rng: np.random.Generator, n: int) -> tuple[Array, Any]:
    return rng.poisson(RATES[_labels(rng, n)]).astype(float), None


def _answers(rng: np.random.Generator, n: int) -> tuple[Array, Any]:
    return (rng.random((n, YES.shape[1])) < YES[_labels(rng, n)]).astype(float), None


def _chains(rng: np.random.Generator, n: int) -> tuple[Array, Any]:
    """Sequences of 50 steps that begin in either state alike."""
    lengths = np.full(n // STEPS, STEPS)
    z = np.empty((len(lengths), STEPS), dtype=int)
    z[:, 0] = rng.random(len(lengths)) < 0.5
    for t in range(1, STEPS):
        z[:, t] = rng.random(len(lengths)) < MOVES[z[:, t - 1], 1]
    states = z.ravel()
    return rng.normal(STATE_MEANS[states], np.sqrt(np.array(STATE_VARIANCES)[states])), lengths


CASES = {
    "two Gaussians, diagonal": Case(
        _gaussians,
        lambda x, _, **o: GaussianMixture(
            2, covariance_type="diag", reg_covar=0, tol=1e-8, max_iter=2000, **OPTIONS, **o
        ).fit(x, algorithm="anderson"),
        lambda e: {"weights": e.weights_, "means": e.means_, "variances": e.covariances_},
        lambda e: np.argsort(e.means_[:, 0]),
        {"weights": WEIGHTS, "means": MEANS, "variances": VARIANCES},
    ),
    "two Poissons": Case(
        _poissons,
        lambda x, _, **o: Mixture("poisson", 2, tol=1e-8, max_iter=2000, **OPTIONS, **o).fit(x, algorithm="anderson"),
        lambda e: {"weights": e.weights_, "rates": e.params_.rates},
        lambda e: np.argsort(e.params_.rates[:, 0]),
        {"weights": WEIGHTS, "rates": RATES},
    ),
    "two latent classes": Case(
        _answers,
        lambda x, _, **o: LatentClass(2, tol=1e-9, max_iter=3000, init_params="random", **OPTIONS, **o).fit(
            x, algorithm="anderson"
        ),
        lambda e: {"weights": e.weights_, "yes": e.probabilities_[:, 1::2]},
        lambda e: np.argsort(e.probabilities_[:, 1]),
        {"weights": WEIGHTS, "yes": YES},
    ),
    "hidden Markov model of two states": Case(
        _chains,
        lambda x, lengths, **o: GaussianHMM(
            2, covariance_type="diag", reg_covar=0, tol=1e-8, n_iter=2000, **OPTIONS, **o
        ).fit(x, lengths, algorithm="anderson"),
        lambda e: {
            "moves": np.diagonal(e.transmat_),
            "means": e.means_,
            "variances": np.diagonal(e.covars_, axis1=1, axis2=2),
        },
        lambda e: np.argsort(e.means_[:, 0]),
        {"moves": np.diagonal(MOVES), "means": STATE_MEANS, "variances": np.array(STATE_VARIANCES)},
    ),
}


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that held the truth.

    Attributes
    ----------
    pooled : of all parameters
    least, most : of the parameter of which fewest, and most, did
    warned : data sets with a warning about their errors
    intervals : how many there were
    """

    pooled: float
    least: float
    most: float
    warned: int
    intervals: int


def coverage(name: str, sets: int, rows: int, missing: bool, seed: int = 0, method: str = "observed") -> Coverage:
    """How often intervals of a case hold the truth."""
    case, held, warned = CASES[name], [], 0
    options = {"missing": "integrate"} if missing else {}
    for s in range(sets):
        rng = np.random.default_rng([seed, s])
        x, lengths = case.draw(rng, rows)
        if missing:
            x[rng.random(x.shape) < 0.1] = np.nan
        data = (x,) if lengths is None else (x, lengths)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            model = case.fit(x, lengths, **options)
            errors = model.standard_errors(*data, method=method)
        warned += bool(found)
        order, own, off = case.order(model), case.numbers(model), case.numbers(errors)
        held.append(
            np.concatenate(
                [
                    (np.abs(own[key][order] - true) <= NORMAL_95 * off[key][order]).ravel()
                    for key, true in case.truth.items()
                ]
            )
        )
    shares = np.mean(held, axis=0)
    return Coverage(float(shares.mean()), float(shares.min()), float(shares.max()), warned, np.size(held))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench standard_errors", description=__doc__)
    add_options(parser)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--method", choices=("observed", "opg", "sandwich"), default="observed")
    options = parser.parse_args()
    sets, rows = (2, 300) if options.quick else (options.sets, options.rows)
    with recorded("standard_errors", options):
        print(f"{sets} data sets of {rows} rows, method {options.method}\n")
        print("| model | missing | coverage | of one parameter, least | most | warned | seconds |")
        print("|---|---|---:|---:|---:|---:|---:|")
        for name in CASES:
            for missing in (False, True):
                begun = time.perf_counter()
                found = coverage(name, sets, rows, missing, method=options.method)
                print(
                    f"| {name} | {'10 %' if missing else 'none'} | {found.pooled:.1%} | {found.least:.1%} | "
                    f"{found.most:.1%} | {found.warned} | {time.perf_counter() - begun:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
