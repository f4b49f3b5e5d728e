"""Worker: EM iterations by one engine, request after request; runs in the engine's own environment.

``python -m bench.engines NAME`` answers one line of JSON with another: the folder of `mixtures.store`, the covariance
type and the number of iterations; seconds of one iteration, memory and the file of the parameters reached. An engine
stays alive between requests, so that what it imports and compiles is no part of an iteration.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from bench.cells import STORES


class Fitted(NamedTuple):
    """Parameters after some iterations, how many there were, and in words how they were computed."""

    weights: Any
    means: Any
    covariances: Any
    iterations: int
    note: str = ""


Fit = Callable[[Any, Any, str, int], Fitted]
"""(rows, means to start from, covariance type, iterations) → parameters."""


MOST_PAIRS, ENOUGH_S = 7, 2.0
"""Pairs of a short and a long fit whose median difference counts, and seconds after which no further one is begun."""

COMPILED = ("streamem", *STORES)
"""Engines that compile what they need; the others are not asked for a fit of few rows that would be one of all rows."""

QUICK_S, SLOW_S = 1.0, 4.0
"""A fit of one iteration that takes no longer than the first is followed by a long one that is not counted either. One
that takes longer than the second, and compiled nothing, counts itself as the short one of the only pair."""


def streamem(x: Any, means: Any, covariance_type: str, iterations: int) -> Fitted:
    """Ours."""
    from streamem import GaussianMixture

    gm = _like_scikit_learn(GaussianMixture, means, covariance_type, iterations).fit(x)
    return Fitted(gm.weights_, gm.means_, gm.covariances_, gm.n_iter_, gm.report_.setting["arithmetic"])


def scikit_learn(x: Any, means: Any, covariance_type: str, iterations: int) -> Fitted:
    """The oracle too, on float64 rows."""
    from sklearn.mixture import GaussianMixture

    gm = _like_scikit_learn(GaussianMixture, means, covariance_type, iterations).fit(x)
    return Fitted(gm.weights_, gm.means_, gm.covariances_, gm.n_iter_)


def _like_scikit_learn(kind: Any, means: Any, covariance_type: str, iterations: int) -> Any:
    k, d = means.shape
    precisions = {
        "full": np.repeat(np.eye(d)[None], k, axis=0),
        "tied": np.eye(d),
        "diag": np.ones((k, d)),
        "spherical": np.ones(k),
    }
    return kind(
        k,
        covariance_type=covariance_type,
        tol=0.0,
        max_iter=iterations,
        weights_init=np.full(k, 1 / k),
        means_init=means,
        precisions_init=precisions[covariance_type],
    )


def onedal(x: Any, means: Any, covariance_type: str, iterations: int) -> Fitted:
    """Intel's em_gmm, as daal4py has it."""
    import daal4py

    k, d = means.shape
    full = covariance_type == "full"
    algorithm = daal4py.em_gmm(
        k,
        maxIterations=iterations,
        accuracyThreshold=0.0,
        covarianceStorage="full" if full else "diagonal",
        fptype="float" if x.dtype == np.float32 else "double",
        regularizationFactor=1e-6,
    )
    start = np.repeat(np.eye(d)[None], k, axis=0) if full else np.ones((k, 1, d))
    result = algorithm.compute(x, np.full((1, k), 1 / k, x.dtype), means.astype(x.dtype), list(start.astype(x.dtype)))
    covariances = np.array(result.covariances).reshape((k, d, d) if full else (k, d))
    return Fitted(result.weights[0], result.means, covariances, int(result.nIterations[0, 0]))


def pomegranate(x: Any, means: Any, covariance_type: str, iterations: int) -> Fitted:
    """torch on all cores."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    k, d = means.shape
    full = covariance_type == "full"
    start = np.eye(d) if full else np.ones(d)
    parts = [Normal(m.astype(x.dtype), start.astype(x.dtype), covariance_type=covariance_type) for m in means]
    model, rows = GeneralMixtureModel(parts, priors=np.full(k, 1 / k, x.dtype)), torch.from_numpy(x)
    for _ in range(iterations):
        model.summarize(rows)
        model.from_summaries()
    found = [(part.means.numpy(), part.covs.numpy()) for part in model.distributions]
    return Fitted(model.priors.numpy(), np.array([m for m, _ in found]), np.array([c for _, c in found]), iterations)


ENGINES: dict[str, Fit] = {
    "streamem": streamem,
    "scikit-learn": scikit_learn,
    "oneDAL": onedal,
    "pomegranate": pomegranate,
}


def answer(engine: str, folder: str, covariance_type: str, iterations: int) -> dict[str, Any]:
    """Median difference of a long and a short run from the same start, divided by the difference in iterations.

    Raises
    ------
    RuntimeError : the engine stopped early
    """
    x, means = np.load(Path(folder) / "x.npy"), np.load(Path(folder) / "means.npy")
    fit = ENGINES["streamem" if engine in STORES else engine]
    few = x[: 4 * means.size + 1000]
    if engine in COMPILED or len(few) < len(x) // 4:
        fit(few, means, covariance_type, 3)  # what it compiles is no part of an iteration
    rows = written(x, Path(folder) / STORES[engine]) if engine in STORES else x
    short, short_s = _timed(fit, rows, means, covariance_type, 1)  # nor is memory that it asks for, for the first time
    counts = short_s >= SLOW_S and engine not in COMPILED
    if short_s < QUICK_S:
        fit(rows, means, covariance_type, 1 + iterations)  # nor what it compiles for so many rows, iterations later
    before = _reset_peak()
    gains: list[float] = []
    began = perf_counter()
    while len(gains) < MOST_PAIRS and (not gains or perf_counter() - began < ENOUGH_S):
        if not counts:
            short, short_s = _timed(fit, rows, means, covariance_type, 1)
        long, long_s = _timed(fit, rows, means, covariance_type, 1 + iterations)
        gains.append(long_s - short_s)
    path = Path(folder) / f"{engine}.npz"
    np.savez(path, weights=long.weights, means=long.means, covariances=long.covariances)
    done = long.iterations - short.iterations
    if done < 1:
        raise RuntimeError(f"{engine} stopped after {long.iterations} iterations of {1 + iterations}")
    return {
        "seconds": median(gains) / done,
        "iterations": long.iterations,
        "added_bytes": _peak_bytes() - before,
        "parameters": str(path),
        "note": long.note,
    }


def written(x: Any, path: Path) -> str:
    """The rows in a store, in pieces of 2 MiB."""
    if path.exists():
        return str(path)
    rows = max(1, 2**21 // (x.itemsize * x.shape[1]))
    if path.suffix == ".zarr":
        import zarr

        chunks = (min(rows, len(x)), x.shape[1])
        zarr.create_array(store=str(path), shape=x.shape, chunks=chunks, dtype=x.dtype)[:] = x
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({f"c{j}": x[:, j] for j in range(x.shape[1])})
        pq.write_table(table, path, row_group_size=rows, use_dictionary=False)
    return str(path)


def _timed(fit: Fit, x: Any, means: Any, covariance_type: str, iterations: int) -> tuple[Fitted, float]:
    began = perf_counter()
    fitted = fit(x, means, covariance_type, iterations)
    return fitted, perf_counter() - began


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("ignore")
    engine = sys.argv[1]
    for line in sys.stdin:
        try:
            reply = answer(engine, **json.loads(line))
        except Exception as error:  # told to the one who asked; the next request may succeed
            reply = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
