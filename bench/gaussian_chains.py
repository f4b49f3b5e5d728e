"""An EM iteration of a Gaussian chain beside pykalman's, and the E-step beside the smoother of statsmodels.

All begin from the same matrices and update the same of them. pykalman is NumPy, step by step; statsmodels has no EM for
such models, so that its smoother, which is compiled, stands for one. pykalman goes over a tenth of the steps, and ten
times its seconds are shown: it takes as long for each.
"""

from __future__ import annotations

import argparse
import importlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import add_options, recorded
from streamem import LinearGaussianChain

Array = NDArray[Any]

LATENT = OBSERVED = 4
TENTH = 10
UPDATED = ["transition_matrix", "transition_covariance", "observation_matrix", "observation_covariance"]


def truth(rng: np.random.Generator) -> dict[str, Array]:
    """Matrices of a stable chain."""
    return {
        "transition_matrix": np.diag([0.9, 0.8, 0.7, 0.95]) + 0.05 * rng.normal(size=(LATENT, LATENT)),
        "transition_covariance": np.eye(LATENT),
        "observation_matrix": rng.normal(size=(OBSERVED, LATENT)),
        "observation_covariance": np.eye(OBSERVED),
        "observation_offset": np.zeros(OBSERVED),
        "initial_mean": np.zeros(LATENT),
        "initial_covariance": np.eye(LATENT),
    }


def steps(own: dict[str, Array], n: int, rng: np.random.Generator) -> Array:
    """Values (n, d) of one sequence."""
    state, y = np.zeros(LATENT), np.empty((n, OBSERVED))
    driven, noise = rng.normal(size=(n, LATENT)), rng.normal(size=(n, OBSERVED))
    for t in range(n):
        state = own["transition_matrix"] @ state + driven[t]
        y[t] = own["observation_matrix"] @ state + noise[t]
    return y


def ours(own: dict[str, Any], y: Array) -> Callable[[], float]:
    """Seconds of one iteration: the median of those after the first of a fit."""

    def run() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chain = LinearGaussianChain(LATENT, params=UPDATED, observation_noise="full", n_iter=4, tol=0.0, **own)
            passes = chain.fit(y).report_.passes
        return float(np.median([each.seconds for each in passes[1:]]))

    return run


def pykalman(own: dict[str, Array], y: Array) -> Callable[[], float] | None:
    """Seconds of one iteration."""
    try:
        kalman = importlib.import_module("pykalman").KalmanFilter
    except ImportError as error:
        print(f"pykalman is missing ({error}): pip install pykalman")
        return None
    names = {
        "transition_matrix": "transition_matrices",
        "observation_matrix": "observation_matrices",
        "observation_offset": "observation_offsets",
        "initial_mean": "initial_state_mean",
        "initial_covariance": "initial_state_covariance",
    }
    y = y[: len(y) // TENTH]
    model = kalman(**{names.get(name, name): value for name, value in own.items()})
    parts = [names.get(name, name) for name in UPDATED]
    rows = np.ma.masked_invalid(y)
    run = timed(lambda: model.em(rows, n_iter=1, em_vars=parts))
    return lambda: TENTH * run()


def statsmodels(own: dict[str, Array], y: Array) -> Callable[[], float] | None:
    """Seconds of its smoother."""
    try:
        smoother = importlib.import_module("statsmodels.tsa.statespace.kalman_smoother").KalmanSmoother
    except ImportError as error:
        print(f"statsmodels is missing ({error}): pip install statsmodels")
        return None
    model = smoother(k_endog=OBSERVED, k_states=LATENT)
    model["design"], model["obs_cov"] = own["observation_matrix"], own["observation_covariance"]
    model["transition"], model["state_cov"] = own["transition_matrix"], own["transition_covariance"]
    model["selection"] = np.eye(LATENT)
    model.initialize_known(own["initial_mean"], own["initial_covariance"])
    model.bind(np.ascontiguousarray(y))
    return timed(model.smooth)


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """Seconds of a call."""

    def taken() -> float:
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun

    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench gaussian_chains", description=__doc__)
    add_options(parser)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng, n = np.random.default_rng(0), 2_000 if options.quick else options.steps
    own = truth(rng)
    y = steps(own, n, rng)
    gaps = np.where(rng.random(y.shape) < 0.05, np.nan, y)
    with recorded("gaussian chains", options):
        print(f"| {n:,} steps, {LATENT} latent, {OBSERVED} observed, seconds | streamem | peer | ÷ |")
        print("|---|---:|---:|---:|", flush=True)
        for rows, kind in ((y, "all observed"), (gaps, "5 % missing")):
            own_run = ours(own, rows)
            own_run()  # compiles
            first = float(np.median([own_run() for _ in range(options.rounds)]))
            for name, make, rounds in (
                ("statsmodels' smoother", statsmodels, options.rounds),
                ("pykalman", pykalman, 1),
            ):
                peer = make(own, rows)
                if peer is not None:
                    found = float(np.median([peer() for _ in range(rounds)]))
                    print(f"| {kind}, beside {name} | {first:.4f} | {found:.3f} | {found / first:.1f} |", flush=True)


if __name__ == "__main__":
    main()
