"""`Summary`: estimates with standard errors and 95 % intervals, as a table and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from streamem.core.arrays import Params
from streamem.estimators.uncertainty import StandardErrors
from streamem.machine.importing import import_whole

Array = NDArray[Any]

DERIVED = ("precisions_", "precisions_cholesky_")
"""Attributes that follow from others in the table."""
COLUMNS = ("estimate", "std err", "z", "P>|z|", "[0.025", "0.975]")


@dataclass(frozen=True, eq=False)
class Line:
    """One parameter.

    Attributes
    ----------
    name : "means_[0, 1]"
    estimate, error : the number and its standard error
    """

    name: str
    estimate: float
    error: float

    @property
    def z(self) -> float:
        """The estimate in standard errors."""
        return self.estimate / self.error if self.error > 0 else float("nan")

    @property
    def p(self) -> float:
        """Probability of an estimate so far from 0, were 0 the truth."""
        return float(2.0 * ndtr(-abs(self.z)))

    def end(self, level: float) -> float:
        """The end of the interval that a share `level` of normal estimates stays below."""
        return float(self.estimate + ndtri(level) * self.error)


@dataclass(frozen=True, eq=False)
class Summary:
    """What a fit says of its parameters; ``print(summary)`` shows it.

    Attributes
    ----------
    head : lines about the model and the data
    lines : the parameters
    errors : the standard errors, with the covariance of the free parameters
    """

    head: tuple[str, ...]
    lines: tuple[Line, ...]
    errors: StandardErrors

    @property
    def table(self) -> Any:
        """A pyarrow Table: parameter, estimate, standard_error, z, p, lower, upper (of 95 % intervals)."""
        arrow = import_whole("pyarrow")
        return arrow.table(
            {
                "parameter": [line.name for line in self.lines],
                "estimate": [line.estimate for line in self.lines],
                "standard_error": [line.error for line in self.lines],
                "z": [line.z for line in self.lines],
                "p": [line.p for line in self.lines],
                "lower": [line.end(0.025) for line in self.lines],
                "upper": [line.end(0.975) for line in self.lines],
            }
        )

    def __str__(self) -> str:
        width = max([len("parameter"), *(len(line.name) for line in self.lines)])
        title = f"{'parameter':{width}}" + "".join(f"{column:>12}" for column in COLUMNS)
        rule, thin = "=" * len(title), "-" * len(title)
        body = [
            f"{line.name:{width}}"
            + "".join(f"{value:12.4g}" for value in (line.estimate, line.error))
            + f"{line.z:12.3f}{line.p:12.3f}"
            + "".join(f"{line.end(level):12.4g}" for level in (0.025, 0.975))
            for line in self.lines
        ]
        notes = [f"Note: {problem}" for problem in self.errors.problems]
        return "\n".join([rule, *self.head, rule, title, thin, *body, rule, *notes])

    __repr__ = __str__

    def describe(self) -> str:
        """What ``print`` shows."""
        return str(self)


def summary_of(settings: Any, errors: StandardErrors, features: int) -> Summary:
    """The table of a fitted estimator."""
    words = {
        "observed": "observed information",
        "opg": "outer products of scores",
        "sandwich": "sandwich of both",
    }[errors.method]
    noun = "rows" if not settings.structure.is_sequential else "sequences or groups"
    reads = "one pass" if errors.passes == 1 else f"{errors.passes} passes"
    head = (
        f"{type(settings).__name__}: {settings.structure.headline(settings, features)}",
        f"{len(errors.free_parameters)} free parameters, {errors.n_units:,} {noun} of weight {errors.weight:.10g}",
        f"log-likelihood {errors.log_likelihood:.10g} nats",
        f"standard errors by the {words}, {reads} over the data",
    )
    lines: list[Line] = []
    for name, own in errors.items():
        if name in DERIVED:
            continue
        estimate = errors.estimates[name]
        if isinstance(own, Params):
            known = estimate.flatten()
            for path, value in own.flatten().items():
                lines += _lines(f"{name}.{path}", known[path], value)
        else:
            lines += _lines(name, np.asarray(estimate), np.asarray(own))
    return Summary(head, tuple(lines), errors)


def _lines(name: str, estimates: Array, errors: Array) -> list[Line]:
    """A line for each number that is not fixed; of symmetric matrices those on and below the diagonal."""
    square = estimates.ndim >= 2 and estimates.shape[-1] == estimates.shape[-2]
    mirrored = square and bool((estimates == np.swapaxes(estimates, -1, -2)).all())
    found = []
    for place in np.ndindex(estimates.shape):
        if errors[place] == 0 or (mirrored and place[-1] > place[-2]):
            continue
        shown = f"{name}{list(place)}" if place else name
        found.append(Line(shown, float(estimates[place]), float(errors[place])))
    return found
