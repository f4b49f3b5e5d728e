"""Experiment: how far from converged EM each algorithm is after five passes, from a poor start.

Mixtures of four Gaussians in four dimensions whose means are drawn from N(0, s²·I): with s = 3 most of them lie apart,
with s = 1.5 they overlap. Covariances are the identity, or drawn like the weights (eigenvalues from 0.3 to about 3); a
new mixture for every seed. A start is poor in one of two ways: all means at the grand mean ± 0.1 standard deviations,
or at four random rows, always with the covariance of all rows and equal weights.

The gap is the log-likelihood of *all* rows, in nats, at the best maximum known less that at the result. The best known
is the higher one of EM run to convergence from the true parameters and from the result of the default "stepwise".
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.results import add_options, recorded
from streamem import GaussianMixture
from streamem.algorithms import BatchEM, Change, PowerLaw, StepwiseEM

K, D, PASSES, SEEDS = 4, 4, 5, 6
NEAR = 10.0
"""Nats that the claim allows."""
LEAST = 0.1
"""Nats at which the picture ends."""

ALGORITHMS: dict[str, Any] = {
    "stepwise (default: averages the last half)": "stepwise",
    "stepwise, averaged from the start": StepwiseEM(averaging=1.0),
    "stepwise, no average, exponent 0.7": StepwiseEM(PowerLaw(0.7), averaging=0.0),
    "stepwise, exponent 1": StepwiseEM(PowerLaw(1.0)),
    "stepwise, mini-batches of 2,000": StepwiseEM(batch_rows=2000),
    "incremental": "incremental",
    "batch": "batch",
}
LONGER: dict[str, Any] = {"batch, 100 passes": BatchEM(Change(0.0), 100)}
"""For scale: twenty times the reading."""


@dataclass(frozen=True)
class Setting:
    """How hard it is made: the true covariances, the spread `s` of the true means, where the start's means are."""

    covariances: str
    spread: float
    start: str

    def __str__(self) -> str:
        return f"{self.covariances} covariances, s = {self.spread:g}, from {self.start}"


SETTINGS = [
    Setting(covariances, spread, start)
    for start in ("the grand mean", "random rows")
    for covariances in ("drawn", "unit")
    for spread in (3.0, 1.5)
]


@dataclass(frozen=True)
class Gap:
    """How far one algorithm was from the best known maximum."""

    setting: Setting
    seed: int
    algorithm: str
    nats: float


def mixture(n: int, setting: Setting, seed: int) -> tuple[Any, dict[str, Any]]:
    """Rows, and the true parameters as a start."""
    rng = np.random.default_rng(seed)
    means = setting.spread * rng.normal(size=(K, D))
    roots = rng.normal(size=(K, D, D)) / np.sqrt(D)
    drawn = roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(D)
    covariances = drawn if setting.covariances == "drawn" else np.array([np.eye(D)] * K)
    weights = rng.dirichlet(np.full(K, 5.0))
    labels = rng.choice(K, size=n, p=weights)
    x = means[labels] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[labels], rng.normal(size=(n, D)))
    return x, {"weights_init": weights, "means_init": means, "precisions_init": np.linalg.inv(covariances)}


def poor_start(x: Any, where: str, seed: int) -> dict[str, Any]:
    """A start that knows next to nothing."""
    rng = np.random.default_rng([seed, 1])
    at_mean = x.mean(axis=0) + 0.1 * x.std(axis=0) * rng.normal(size=(K, D))
    means = at_mean if where == "the grand mean" else x[rng.choice(len(x), K, replace=False)]
    precision = np.linalg.inv(np.cov(x.T))
    return {"weights_init": np.full(K, 1 / K), "means_init": means, "precisions_init": np.array([precision] * K)}


def converged(x: Any, start: dict[str, Any]) -> float:
    """Log-likelihood of all rows at the maximum that EM climbs to."""
    gm = GaussianMixture(K, max_iter=5000, tol=1e-9, stopping="aitken", **start).fit(x)
    return len(x) * gm.lower_bound_


def gaps(setting: Setting, n: int, seed: int, algorithms: dict[str, Any]) -> Iterator[Gap]:
    """Every algorithm on the same rows from the same start."""
    x, truth = mixture(n, setting, seed)
    start = poor_start(x, setting.start, seed)
    reached = {}
    for name, algorithm in algorithms.items():
        gm = GaussianMixture(K, max_iter=PASSES, tol=0, random_state=0, **start).fit(x, algorithm=algorithm)
        reached[name] = n * gm.lower_bound_
        if algorithm == "stepwise":
            own = {"weights_init": gm.weights_, "means_init": gm.means_, "precisions_init": gm.precisions_}
    best = max(converged(x, truth), converged(x, own))
    for name, value in reached.items():
        yield Gap(setting, seed, name, best - value)


def table(found: list[Gap]) -> str:
    """Markdown: median and range over the seeds, and how many came near."""
    lines = [
        "| setting | algorithm | median gap (nats) | from | to | within 10 nats |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for setting in dict.fromkeys(gap.setting for gap in found):
        for name in dict.fromkeys(gap.algorithm for gap in found):
            nats = [gap.nats for gap in found if gap.setting == setting and gap.algorithm == name]
            near = sum(value <= NEAR for value in nats)
            lines.append(
                f"| {setting} | {name} | {median(nats):,.1f} | {min(nats):,.1f} | {max(nats):,.1f} | "
                f"{near} of {len(nats)} |"
            )
    return "\n".join(lines)


def draw(found: list[Gap], picture: Path) -> None:
    """One panel a setting: a dot for every seed, a bar at the median."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = list(dict.fromkeys(gap.setting for gap in found))
    names = list(dict.fromkeys(gap.algorithm for gap in found))
    columns = min(4, len(settings))
    shape = (-(-len(settings) // columns), columns)
    size = (3.5 + 3.5 * columns, 1.0 + 3.2 * shape[0])
    figure, axes = plt.subplots(*shape, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
    for axis, setting in zip(axes.flat, settings, strict=True):
        axis.axvspan(LEAST / 2, NEAR, color="tab:green", alpha=0.12, lw=0)
        for row, name in enumerate(names):
            nats = [max(LEAST, gap.nats) for gap in found if gap.setting == setting and gap.algorithm == name]
            colour = "tab:blue" if row == 0 else "tab:gray"
            axis.plot(nats, row + np.linspace(-0.2, 0.2, len(nats)), "o", color=colour, ms=5, alpha=0.8)
            axis.plot([median(nats)] * 2, [row - 0.36, row + 0.36], color=colour, lw=2.5)
        axis.set_title(str(setting), fontsize=9.5)
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].set(xscale="log", yticks=range(len(names)), yticklabels=names, xlim=(LEAST / 2, 1e5))
    axes[0, 0].invert_yaxis()
    figure.supxlabel(
        "gap to the best known maximum, all rows together (nats); smaller ones are drawn at 0.1", fontsize=10
    )
    seeds = 1 + max(gap.seed for gap in found)
    figure.suptitle(
        f"After {PASSES} passes from a poor start: {seeds} mixtures (dots) and their median (bar); "
        f"shaded: within {NEAR:g} nats"
    )
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def main() -> None:
    """Run, print the table, and draw it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench poor_start", description=__doc__)
    add_options(parser)
    parser.add_argument("--picture", type=Path, help="draw it here (PNG, needs matplotlib)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # five passes do not converge: that is the point
    with recorded("poor_start", options):
        show(options)


def show(options: argparse.Namespace) -> None:
    """Print the gaps of every algorithm, and draw them if asked to."""
    n, seeds, settings = (2000, 1, SETTINGS[:1]) if options.quick else (20_000, SEEDS, SETTINGS)
    algorithms = ALGORITHMS if options.quick else ALGORITHMS | LONGER
    found = [gap for setting in settings for seed in range(seeds) for gap in gaps(setting, n, seed, algorithms)]
    print(f"{n:,} rows × {D}, K={K}, {PASSES} passes, {seeds} mixtures a setting\n\n{table(found)}")
    if options.picture:
        draw(found, options.picture)
        print(f"\npicture: {options.picture}")


if __name__ == "__main__":
    main()
