"""Traps: public tables on which published fits are local maxima, and a grid of clusters; what reaches the best one.

Every seed draws one start (``n_init=1``); the fit goes on to its stopping rule (Aitken, 1e-10 nats a row). A fit has
reached the best known maximum where it ends within 0.002 nats of it, of all rows together; without regularization a fit
can also end higher, where a covariance is about to collapse. Passes are all passes over the data, those of the start
included; all algorithms go on from the same starts, but for "auto" from k-means, which first exchanges components on
the sample: that takes no pass, but here the sample is all rows, and the E-steps on it are some 150. So few rows are too
few for the mini-batches of "auto", which is "anderson" from the start that the exchanges made.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench import traps_data
from bench.results import add_options, recorded
from streamem import GaussianMixture, LatentClass, StreamemError

ALGORITHMS = ("squarem", "anderson", "auto")
HEAD = "trap", "start", "algorithm", "best reached", "within passes", "higher", "failed", "passes, median (most)"
SAME = 2e-3
RULE: dict[str, Any] = {"tol": 1e-10, "stopping": "aitken"}
MOST = 5000


@dataclass(frozen=True)
class Trap:
    """Data, its best known log-likelihood in nats, the estimator from a seed and a start, the starts to try, and the
    passes within which it is to be reached."""

    name: str
    x: Any
    best: float
    make: Callable[[int, str], Any]
    starts: tuple[str, ...]
    budget: int


def gaussian(covariance_type: str, k: int = 3, reg_covar: float = 0.0) -> Callable[[int, str], Any]:
    """Of so many components, without regularization."""
    return lambda seed, start: GaussianMixture(
        k, covariance_type=covariance_type, reg_covar=reg_covar, init_params=start, random_state=seed, **RULE
    )


def classes(k: int) -> Callable[[int, str], Any]:
    """Latent classes, over patterns with weights."""
    return lambda seed, start: LatentClass(k, init_params=start, random_state=seed, compress=True, **RULE)


CODES = "random", "short_em", "merged_em", "split_merge"
NUMBERS = "kmeans", "k-means||", *CODES
TRAPS = [
    Trap("iris, full, K=3", traps_data.iris(), -180.18548, gaussian("full"), NUMBERS, 60),
    Trap("Old Faithful, tied, K=3", traps_data.faithful(), -1126.31593, gaussian("tied"), NUMBERS, 60),
    Trap("gss82, K=3", traps_data.codes(traps_data.GSS82), -2754.545, classes(3), CODES, 200),
    Trap("carcinoma, K=4", traps_data.codes(traps_data.CARCINOMA), -289.285849, classes(4), CODES, 200),
    Trap("25 clusters, full, K=25", traps_data.grid(), -15050.034664, gaussian("full", 25, 1e-6), NUMBERS, 60),
]


@dataclass
class Found:
    """What the seeds of one trap, start and algorithm came to."""

    reached: int = 0
    within: int = 0
    higher: int = 0
    failed: int = 0
    passes: list[int] = field(default_factory=list)


def measured(trap: Trap, start: str, algorithms: Sequence[str], seeds: int) -> dict[str, Found]:
    """What each algorithm comes to from one start a seed."""
    found = {algorithm: Found() for algorithm in algorithms}
    for seed in range(seeds):
        try:
            begun = trap.make(seed, start).set_params(max_iter=0).fit(trap.x)
        except StreamemError:
            begun = None  # a covariance that has collapsed already
        for algorithm, own in found.items():
            gone_on(trap, begun, algorithm, own)
    return found


def gone_on(trap: Trap, begun: Any, algorithm: str, found: Found) -> None:
    """Note what one fit from a start comes to; "auto" makes its own of one by k-means."""
    if begun is None:
        found.failed += 1
        return
    anew = algorithm == "auto" and begun.init_params == "kmeans"
    from_here = copy.deepcopy(begun).set_params(max_iter=MOST, warm_start=not anew)
    try:
        model = from_here.fit(trap.x, algorithm=algorithm)
    except StreamemError:
        found.failed += 1
        return
    end, count = float(model.lower_bound_) * len(trap.x), len(model.report_.passes) + begun.report_.start_passes
    same = abs(end - trap.best) < SAME
    found.passes.append(count)
    found.reached += same
    found.within += same and count <= trap.budget
    found.higher += end >= trap.best + SAME


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench traps", description=__doc__)
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--only", default="", help="traps whose name holds this text")
    parser.add_argument("--starts", default="", help="of the starts, these only, with commas between")
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS), help='with commas; "batch" is plain EM')
    options = parser.parse_args()
    seeds, chosen = 2 if options.quick else options.seeds, set(filter(None, options.starts.split(",")))
    warnings.simplefilter("ignore")
    with recorded("traps", options):
        print(f"{seeds} seeds, one start each\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
        for trap in TRAPS:
            for start in trap.starts:
                if options.only not in trap.name or (chosen and start not in chosen):
                    continue
                for algorithm, found in measured(trap, start, options.algorithms.split(","), seeds).items():
                    print(line(trap, start, algorithm, found, seeds), flush=True)


def line(trap: Trap, start: str, algorithm: str, found: Found, seeds: int) -> str:
    """A row of the table."""
    passes = f"{median(found.passes):g} ({max(found.passes)})" if found.passes else "–"
    within = f"{found.within / seeds:.0%} ({trap.budget})"
    counts = f"{found.reached / seeds:.0%} | {within} | {found.higher} | {found.failed}"
    return f"| {trap.name} | {start} | {algorithm} | {counts} | {passes} |"


if __name__ == "__main__":
    main()
