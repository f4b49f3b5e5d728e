"""``python -m bench``: every case against its peers, as a Markdown table, and the experiments.

``python -m bench NAME``: one of the benches `ALONE`, with options of its own.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench import hmm_peers
from bench.hmm import LONG
from bench.measure import Case, Experiment, run_case, run_experiment, table
from bench.online_throughput import WAYS
from bench.results import add_options, recorded

PEERS = ("streamem", "scikit-learn")
EXPERIMENTS = [
    Experiment("Stepwise EM from a poor start", "bench.poor_start"),
    Experiment("Error of one online pass", "bench.online_rate"),
    Experiment("Grid of shapes", "bench.grid"),
    Experiment("Passes", "bench.passes", draws=False),
    Experiment("Share of a product's speed", "bench.dense_share", draws=False),
    Experiment("Paths of the dense E-step", "bench.paths", draws=False),
    Experiment("Memory of fits", "bench.fit_memory", draws=False),
    Experiment("Tight components", "bench.tight", draws=False),
    Experiment("Heavy tails", "bench.heavy_tails", draws=False),
    Experiment("Missing values", "bench.missing", draws=False),
    Experiment("Chains of other families", "bench.chain_families", draws=False),
    Experiment("Mixtures of exponential families", "bench.exponential_families", draws=False),
    Experiment("Latent classes", "bench.latent_classes", draws=False),
    Experiment("Record linkage", "bench.record_linkage", draws=False),
    Experiment("Factor models", "bench.factor_models", draws=False),
    Experiment("Raters", "bench.raters", draws=False),
    Experiment("Mixtures of regressions", "bench.regressions", draws=False),
    Experiment("Gaussian chains", "bench.gaussian_chains", draws=False),
    Experiment("Starts and sweeps that share reads", "bench.shared_reads", draws=False),
    Experiment("Coverage of intervals", "bench.standard_errors", draws=False),
    Experiment("Passes of accelerated EM", "bench.acceleration"),
    Experiment("First fits of a new interpreter", "bench.first_fit", draws=False),
    Experiment("Small calls", "bench.small_calls", draws=False),
    Experiment("Whole fits from Parquet", "bench.whole_fit", draws=False),
    Experiment("Traps", "bench.traps", draws=False),
    Experiment("Work of all cores", "bench.bare_loop", draws=False),
]
ALONE = {experiment.module.rpartition(".")[2] for experiment in EXPERIMENTS} | {"before", "remote_store"}
"""Benches that run by their name; `before` needs another tree, `remote_store` a server of the tests."""


def cases(quick: bool) -> list[Case]:
    """The cases; quick ones are small."""
    n, d, k = (20_000, 8, 4) if quick else (400_000, 32, 16)
    shape = f"{n // 1000}k×{d}, K={k}"
    found = [
        Case(
            f"EM iteration, {covariance_type}, {dtype}, {shape}",
            "bench.em_iteration",
            PEERS,
            {
                "n": n,
                "d": d,
                "k": k,
                "covariance_type": covariance_type,
                "iterations": 20 if quick else 4,
                "dtype": dtype,
            },
        )
        for covariance_type in ("full", "tied", "diag", "spherical")
        for dtype in (("float64",) if quick or covariance_type in ("tied", "spherical") else ("float64", "float32"))
    ]
    return [
        *found,
        *sequence_cases(quick),
        Case(
            f"EM iteration from Parquet, full, float64, {shape}",
            "bench.parquet_iteration",
            ("streamem", "Spark"),
            {"n": n, "d": d, "k": k, "iterations": 4},
        ),
        *cluster_cases(quick),
        *online_cases(quick),
        Case("import of the package", "bench.bare_import", PEERS, {"estimator": False}),
        Case("import of the estimator", "bench.bare_import", PEERS, {"estimator": True}),
    ]


def sequence_cases(quick: bool) -> list[Case]:
    """Baum–Welch iterations beside peers, on two cores and one, and of one long sequence beside short ones."""
    steps = 100 if quick else 1000
    engines = ("streamem", "streamem, 1 thread", LONG, "hmmlearn, scaling", "hmmlearn, log", *hmm_peers.PEERS)
    return [
        Case(
            f"Baum–Welch iteration, K={k} d={d}, {n // 1000}k steps in sequences of {steps}",
            "bench.hmm",
            engines,
            {"n": n, "d": d, "k": k, "steps": steps, "iterations": 2 if quick else 4, "repeats": 1 if quick else 3},
        )
        for k, d, n in (((4, 2, 5_000),) if quick else ((10, 1, 1_000_000), (8, 10, 500_000), (32, 16, 200_000)))
    ]


def cluster_cases(quick: bool) -> list[Case]:
    """A pass on workers beside threads, its overhead on a large cluster, and what else a Dask user could do."""
    n, d, k = (20_000, 8, 4) if quick else (800_000, 32, 16)
    sizes = (100,) if quick else (1_000, 10_000, 100_000)
    return [
        Case(
            f"EM iteration from Zarr, full, float32, {n // 1000}k×{d}, K={k}",
            "bench.cluster_pass",
            ("1 thread", "2 threads", "1 worker", "2 workers"),
            {"n": n, "d": d, "k": k, "iterations": 4},
        ),
        *(
            Case(
                f"pass of {chunks:,} chunks that wait 5 ms each, 32 threads",
                "bench.cluster_overhead",
                ("threads", "Dask, 2 workers of 16"),
                {"chunks": chunks, "seconds": 0.005, "workers": 2, "threads": 16},
            )
            for chunks in sizes
        ),
        Case(
            f"20 iterations from Parquet, full, {n // 2000}k×8, K=8",
            "bench.cluster_peers",
            ("streamem", "scikit-learn on a Dask sample of 5 %", "Spark"),
            {"n": n // 2, "d": 8, "k": 8, "iterations": 20},
        ),
    ]


def online_cases(quick: bool) -> list[Case]:
    """Learning from rows as they arrive: how fast, and whether memory stays as it is."""
    n, records = (10_000, 40_000) if quick else (400_000, 20_000_000)
    return [
        Case(
            f"online, {n // 1000}k×16, K=8, full, mini-batches of 1,000",
            "bench.online_throughput",
            tuple(WAYS),
            {"n": n, "d": 16, "k": 8},
        ),
        Case(
            f"online, memory added by the second half of {records:,}×16 records, K=8",
            "bench.online_memory",
            ("generator", "Arrow pipe"),
            {"rows": records, "d": 16, "k": 8},
        ),
    ]


def main() -> None:
    """Run one bench by its name, or all cases and experiments."""
    if len(sys.argv) > 1 and sys.argv[1] in ALONE:
        name = sys.argv.pop(1)
        importlib.import_module(f"bench.{name}").main()
        return
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Every case against its peers, as a Markdown table; then the experiments: "
        + "; ".join(f"“{experiment.name}” ({experiment.module})" for experiment in EXPERIMENTS)
        + f". One bench alone: python -m bench NAME, of {', '.join(sorted(ALONE))}",
    )
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases and experiments whose name holds this text")
    parser.add_argument("--pictures", type=Path, help="a folder for the experiments' pictures (needs matplotlib)")
    options = parser.parse_args()
    with recorded("", options):
        show(options)


def show(options: argparse.Namespace) -> None:
    """Print the table of all cases, then every experiment; on stderr, each case as it is done."""
    rounds, results = 1 if options.quick else options.rounds, []
    for case in cases(options.quick):
        if options.only in case.name:
            results += run_case(case, rounds)
            print(*table(results[-len(case.engines) :]).splitlines()[2:], sep="\n", file=sys.stderr, flush=True)
    if results:
        print(f"medians of {rounds} rounds\n\n{table(results)}\n")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    for experiment in EXPERIMENTS:
        if options.only in experiment.name:
            print(run_experiment(experiment, options.quick, options.pictures) + "\n")


if __name__ == "__main__":
    main()
