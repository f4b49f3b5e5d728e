"""``python -m bench``: every case against its peers, as a Markdown table."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.measure import Case, machine, run_case, table

PEERS = ("streamem", "scikit-learn")


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
        *cluster_cases(quick),
        Case("import of the package", "bench.bare_import", PEERS, {"estimator": False}),
        Case("import of the estimator", "bench.bare_import", PEERS, {"estimator": True}),
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


def main() -> None:
    """Run, print, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small cases, one round: a check that the bench works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    results = []
    for case in cases(options.quick):
        if options.only in case.name:
            results += run_case(case, 1 if options.quick else options.rounds)
            print(table(results[-len(case.engines) :]).splitlines()[2:], flush=True)
    text = f"{machine()}; medians of {1 if options.quick else options.rounds} rounds\n\n{table(results)}\n"
    print("\n" + text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
