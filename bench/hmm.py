"""Worker: seconds of one Baum–Welch iteration of a Gaussian hidden Markov model, from a given start.

Engines: ours on both cores or one, hmmlearn in both of its implementations, dynamax and pomegranate
(`bench.hmm_peers`, in their own environments); and ours on one long sequence, cut into chunks, beside the same steps in
short sequences.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench import hmm_peers
from bench.machine import peak_bytes

LONG = "streamem, one sequence"
PATIENCE_S = 20.0
"""A peer whose short and long run took longer than this does not repeat them: its ratio is far from one."""

THREADS = {"streamem": None, "streamem, 1 thread": 1, LONG: None}


def data(n: int, d: int, k: int) -> tuple[Any, dict[str, Any]]:
    """Steps of a chain whose states last ten steps and overlap, and a start some way off."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(k, d)) * 2
    states = np.repeat(rng.integers(k, size=n // 10 + 1), rng.integers(1, 20, size=n // 10 + 1))[:n]
    states = np.resize(states, n)
    x = means[states] + rng.normal(size=(n, d))
    transmat = np.full((k, k), 0.2 / k) + 0.8 * np.eye(k)
    start = {"startprob_": np.full(k, 1 / k), "transmat_": transmat, "means_": means + 0.1 * rng.normal(size=(k, d))}
    return x, {**start, "covars_": np.full((k, d), 1.5)}


def main(engine: str, n: int, d: int, k: int, steps: int, iterations: int, repeats: int) -> dict[str, Any]:
    """Difference of a long and a short run from the same start, each the best of some, by that in iterations."""
    warnings.simplefilter("ignore")
    if engine in hmm_peers.PEERS:  # where memory runs out, the kernel is to end this process, not the bench
        Path("/proc/self/oom_score_adj").write_text("1000")
    x, start = data(n, d, k)
    lengths = None if engine == LONG else [steps] * (n // steps)
    _fit(engine, x[: 2 * steps], None if lengths is None else [steps, steps], start, 1)  # imports and compilation
    before, timed = peak_bytes(), dict[int, float]()
    if engine in hmm_peers.PEERS:
        for count in (1, 1 + iterations) if engine == "dynamax" else (1,):  # compiled for each number of iterations
            _fit(engine, x, lengths, start, count)
    for _ in range(repeats):
        for count in (1, 1 + iterations):
            began = perf_counter()
            model = _fit(engine, x, lengths, start, count)
            timed[count] = min(timed.get(count, np.inf), perf_counter() - began)
        if engine in hmm_peers.PEERS and sum(timed.values()) > PATIENCE_S:
            break
    seconds = (timed[1 + iterations] - timed[1]) / iterations
    found: dict[str, Any] = {
        "seconds": seconds,
        "added_bytes": peak_bytes() - before,
        "note": f"{n / seconds / 1e6:.3g} million steps/s",
    }
    if engine in THREADS and THREADS[engine] is None:
        from bench.bare_loop import scaling

        found["note"] += f"; a bare loop on all cores {scaling():.2f} times one"
    if engine == LONG:
        return found
    log_likelihood = float(model.score(x, lengths))
    if not np.isfinite(log_likelihood):
        raise ValueError(f"{engine}: a log-likelihood of {log_likelihood} after {1 + iterations} iterations")
    return {**found, "log_likelihood": log_likelihood}


def _fit(engine: str, x: Any, lengths: list[int] | None, start: dict[str, Any], iterations: int) -> Any:
    model = _model(engine, len(start["startprob_"]), iterations)
    for name, value in start.items():
        setattr(model, name, value)
    return model.fit(x, lengths)


def _model(engine: str, k: int, iterations: int) -> Any:
    if engine in hmm_peers.PEERS:
        return hmm_peers.PEERS[engine](iterations)
    if engine in THREADS:
        from streamem import GaussianHMM

        return GaussianHMM(k, "diag", init_params="", tol=0, n_iter=iterations, n_threads=THREADS[engine])
    from hmmlearn.hmm import GaussianHMM as Peer

    return Peer(
        k,
        "diag",
        init_params="",
        tol=-np.inf,
        n_iter=iterations,
        min_covar=0,
        covars_prior=0,
        covars_weight=0,
        implementation=engine.rpartition(" ")[2],
    )


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
