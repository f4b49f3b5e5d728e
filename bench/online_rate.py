"""Experiment: how fast the error of one pass of online EM shrinks with the rows, beside that of maximum likelihood.

Cappé & Moulines (2009): with γ = t^(−α), ½ < α < 1, the averaged estimate of one pass has an
error of order n^(−½), and in the end that of maximum likelihood; without averages the order is n^(−α/2). Averages over
the last half of the steps only hold the noise of half the rows: the same order, √2 times the error.

The mixture is well identified: three components in two dimensions, with start values near the truth, so that what is
left is noise and not a way to go. The error is the Euclidean distance of means and weights from the *true* ones. Every
fit of online EM sees every row once, in mini-batches of 100, and makes no pass at the end. Regressed is the logarithm
of the error, one point a fit, on the logarithm of n.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.results import add_options, recorded
from streamem import GaussianMixture
from streamem.algorithms import PowerLaw, StepwiseEM

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
DEVIATIONS = np.array([1.0, 0.7, 1.3])
BATCH_ROWS, EXPONENT = 100, 0.6

Array = Any


def online(averaging: float) -> StepwiseEM:
    """One pass, and nothing after it."""
    return StepwiseEM(
        PowerLaw(EXPONENT), passes=1, batch_rows=BATCH_ROWS, averaging=averaging, final_pass=False
    )  # fmt: skip


ESTIMATES: dict[str, Any] = {
    "maximum likelihood (batch EM, converged)": "batch",
    "one pass, averages of all steps": online(1.0),
    "one pass, averages of the last half": online(0.5),
    "one pass, no averages": online(0.0),
}
THEORY = dict.fromkeys(ESTIMATES, -0.5) | {"one pass, no averages": -EXPONENT / 2}


@dataclass(frozen=True)
class Line:
    """log error = intercept + slope · log n, by least squares, with the standard error of the slope."""

    slope: float
    deviation: float


def rows(n: int, seed: int) -> Array:
    """A sample of the mixture: (n, 2)."""
    rng = np.random.default_rng([seed, n])
    labels = rng.choice(len(WEIGHTS), size=n, p=WEIGHTS)
    return MEANS[labels] + DEVIATIONS[labels, None] * rng.normal(size=(n, 2))


def error(x: Array, algorithm: Any) -> float:
    """Distance of the estimate from the truth."""
    start: dict[str, Any] = {
        "weights_init": np.full(3, 1 / 3),
        "means_init": MEANS + 0.3,
        "precisions_init": [np.eye(2)] * 3,
    }
    gm = GaussianMixture(3, tol=1e-10, stopping="aitken", max_iter=1000, **start).fit(x, algorithm=algorithm)
    return float(np.sqrt(np.sum((gm.means_ - MEANS) ** 2) + np.sum((gm.weights_ - WEIGHTS) ** 2)))


def regressed(sizes: list[int], errors: Array) -> Line:
    """Errors (sizes, seeds)."""
    x = np.log(np.repeat(sizes, errors.shape[1]))
    y = np.log(errors).ravel()
    slope, intercept = np.polyfit(x, y, 1)
    left = y - intercept - slope * x
    return Line(float(slope), float(np.sqrt(left @ left / (len(x) - 2) / np.sum((x - x.mean()) ** 2))))


def typical(errors: Array) -> Array:
    """Root mean square over the seeds."""
    return np.sqrt(np.mean(np.square(errors), axis=-1))


def table(sizes: list[int], errors: dict[str, Array]) -> str:
    """Markdown: errors, slopes, and how much larger than those of maximum likelihood."""
    heads = " | ".join(f"n = {n:,}" for n in sizes)
    lines = [
        f"| root mean square error | {heads} | slope ± standard error | theory | × maximum likelihood at the last n |",
        f"|---|{'---:|' * len(sizes)}---:|---:|---:|",
    ]
    best = typical(errors[next(iter(ESTIMATES))])[-1]
    for name, found in errors.items():
        line, typicals = regressed(sizes, found), typical(found)
        values = " | ".join(f"{value:.5f}" for value in typicals)
        lines.append(
            f"| {name} | {values} | {line.slope:.3f} ± {line.deviation:.3f} | {THEORY[name]:.2f} | "
            f"{typicals[-1] / best:.2f} |"
        )
    return "\n".join(lines)


def draw(sizes: list[int], errors: dict[str, Array], picture: Path) -> None:
    """Errors over n, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8.5, 5.5), layout="constrained")
    for (name, found), marker in zip(errors.items(), "os^D", strict=True):
        line = regressed(sizes, found)
        axis.loglog(
            sizes, typical(found), marker=marker, label=f"{name}: slope {line.slope:.2f} ± {line.deviation:.2f}"
        )
    first = typical(errors[next(iter(ESTIMATES))])[0]
    guide = 0.6 * first * np.sqrt(sizes[0] / np.array(sizes))
    axis.loglog(sizes, guide, "k--", lw=1, label="n^(−1/2), for the eye")
    axis.set(xlabel="rows n, each seen once by online EM", ylabel="distance of means and weights from the truth")
    axis.set_title(f"Error of one pass of online EM (γ = t^−{EXPONENT:g}), root mean square of {found.shape[1]} seeds")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run, print the table, and draw it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench online_rate", description=__doc__)
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--picture", type=Path, help="draw it here (PNG, needs matplotlib)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with recorded("online_rate", options):
        show(options)


def show(options: argparse.Namespace) -> None:
    """Print errors by number of rows, and draw them if asked to."""
    sizes = [1000, 4000, 16_000] if options.quick else [10_000, 31_600, 100_000, 316_000, 1_000_000]
    seeds = 2 if options.quick else options.seeds
    errors = {name: np.empty((len(sizes), seeds)) for name in ESTIMATES}
    for i, n in enumerate(sizes):
        for seed in range(seeds):
            x = rows(n, seed)
            for name, algorithm in ESTIMATES.items():
                errors[name][i, seed] = error(x, algorithm)
    print(f"3 components in 2 dimensions, γ = t^−{EXPONENT:g}, mini-batches of {BATCH_ROWS} rows, {seeds} seeds\n")
    print(table(sizes, errors))
    if options.picture:
        draw(sizes, errors, options.picture)
        print(f"\npicture: {options.picture}")


if __name__ == "__main__":
    main()
