"""Standard errors of the matrices of a Gaussian chain: slopes of the log-likelihood, differentiated once more.

Central differences of slopes are the observed information (Meilijson 1989). Steps are small beside the errors that
numbers would have if states were seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.core.stats import Stats
from streamem.models import GaussianChain
from streamem.models.boundaries import chains_of
from streamem.models.gaussian_setup import LETTERS
from streamem.running.answers import map_source, reduce_source
from streamem.running.engines import Engine
from streamem.running.uncertainty.chain_scores import SequenceProducts, StepProducts
from streamem.running.uncertainty.chain_slopes import AtPoints, Number, free_numbers, moved, slope
from streamem.running.uncertainty.inference import FAR, asked_of
from streamem.running.uncertainty.information import Pieces

Array = NDArray[Any]

STEP = 2.0**-10
"""Of differences, in standard errors that numbers would have if states were seen."""
LEAST_INFORMATION = 1e-7
"""Share of the largest information, each number by its own measure, below which the data tell nothing."""
MOST_FREE = 400
"""Free numbers beyond which twice as many E-steps of every chunk take too long."""


@dataclass(frozen=True, eq=False)
class ChainInference:
    """Errors by name: arrays like the matrices, 0 of what is fixed, NaN of what the data do not tell."""

    errors: Mapping[str, Array]
    covariance: Array
    free: tuple[str, ...]
    problems: tuple[str, ...]
    log_likelihood: float
    weight: float
    units: int
    reads: int


def chain_inference(
    model: GaussianChain, params: Params, source: Source, engine: Engine, method: str
) -> ChainInference:
    """The errors of fitted matrices.

    Raises
    ------
    ParameterError : a method that is none, too many free numbers, or too few steps or sequences for a method
    """
    asked, numbers = asked_of(method), tuple(free_numbers(model, params))
    if len(numbers) > MOST_FREE:
        raise ParameterError(
            f"the chain has {len(numbers)} free numbers, of which each takes two E-steps of all data; {MOST_FREE} are "
            "allowed: give some matrices, or bootstrap what you need"
        )
    sequences = int(getattr(source, "n_sequences", 1))
    if method == "sandwich" and sequences < len(numbers):
        raise ParameterError(
            f'method="sandwich" needs at least as many sequences as free parameters, and there are {sequences} for '
            f'{len(numbers)} parameters, whose scores tell too little of how scores vary; use method="observed", or '
            '"opg", which takes the scores of steps'
        )
    data = _Data(model, params, source, engine, numbers)
    products, units = None, sequences
    if method == "sandwich":
        products = data.of_sequences()
    elif asked.products:
        products, units = data.of_steps()
    if method == "opg" and units < len(numbers):
        raise ParameterError(
            f'method="opg" needs at least as many observed steps as free parameters, and there are {units} for '
            f'{len(numbers)} parameters; use method="observed"'
        )
    information = data.curvature() if asked.curvature else products
    assert information is not None
    meat = products if asked.curvature else None
    score = slope(model, params, data.sums, numbers)
    return _inferred(params, numbers, (information + information.T) / 2.0, meat, score, data.sums, units, data.reads)


class _Data:
    """Passes over the data; `sums` are those of an E-step at the parameters, and `reads` how often data was read."""

    def __init__(
        self, model: GaussianChain, params: Params, source: Source, engine: Engine, numbers: tuple[Number, ...]
    ) -> None:
        self._model, self._source, self._engine, self._numbers = model, source, engine, numbers
        self._names, self._cut = source.schema.names, bool(chains_of(source.chunks()))
        self.reads = 0
        self.sums = self._at((params,), 4096)[0]
        self._steps = [STEP * size for size in _sizes(params, self.sums, numbers)]
        self._points = [params]
        for number, step in zip(numbers, self._steps, strict=True):
            self._points += [moved(params, number, sign * step) for sign in (1.0, -1.0)]

    def curvature(self) -> Array:
        """(p, p) observed information."""
        p = len(self._numbers)
        points = tuple(self._points[1:])
        sums = self._at(points, len(points) * self._model.statistics_bytes(self._source.schema.n_features))
        slopes = [slope(self._model, point, own, self._numbers) for point, own in zip(points, sums, strict=True)]
        matrix = np.array([down - up for up, down in zip(slopes[::2], slopes[1::2], strict=True)]).reshape(p, p)
        return np.asarray(matrix / (2.0 * np.array(self._steps)[:, None])) if p else matrix

    def of_steps(self) -> tuple[Array, int]:
        """(p, p) products of the scores of steps, and how many steps there are."""
        p, rows = len(self._numbers), max((ref.rows for ref in self._source.chunks()), default=0)
        task = StepProducts(self._model, tuple(self._points), self._names, steps=tuple(self._steps))
        engine = replace(self._engine, workspace=self._engine.workspace + 8 * rows * 4 * (p + 1))
        self.reads += 1 + self._cut * len(self._points)
        found = reduce_source(self._source, task, engine, 8 * (p * p + 1))
        return np.asarray(found.products), round(float(found.units))

    def of_sequences(self) -> Array:
        """(p, p) products of the scores of sequences."""
        p, pieces = len(self._numbers), Pieces(len(self._numbers))
        task = SequenceProducts(self._model, self._points[0], self._names, self._numbers)
        self.reads += 1 + self._cut
        map_source(self._source, task, self._engine, 8 * p * (p + 2), pieces.add, 8 * p * p)
        return np.asarray(pieces.total.sums.products + pieces.finished())

    def _at(self, points: tuple[Params, ...], held: int) -> list[Stats]:
        self.reads += 1 + self._cut * len(points)
        found = reduce_source(self._source, AtPoints(self._model, points, self._names), self._engine, held)
        return [found[f"p{i}"] for i in range(len(points))]


def _sizes(params: Params, found: Stats, numbers: Sequence[Number]) -> list[float]:
    """Errors that each number would have by itself, if states were seen, from the sums of an E-step."""
    own = params.components
    products = {
        "transition_matrix": (own.transition_covariance, found.before, found.moves),
        "observation_matrix": (own.observation_covariance, found.state_products, found.seen),
    }
    counts = {
        "transition_covariance": found.moves,
        "observation_covariance": found.seen,
        "observation_offset": found.seen,
        "initial_mean": found.begun,
        "initial_covariance": found.begun,
    }
    sizes = []
    for number in numbers:
        i, j = number.place[0], number.place[-1]
        if number.name in products:
            noise, squares, count = products[number.name]
            share = _variance(noise, i) / max(float(squares[j, j]), np.finfo(np.float64).tiny)
            sizes.append(np.sqrt(share) if share > 0 else 1.0 / np.sqrt(float(count)))
            continue
        value = own[number.name]
        if number.name.endswith("covariance"):
            share = _variance(value, i) * _variance(value, j)
        else:
            beside = {"observation_offset": "observation_covariance", "initial_mean": "initial_covariance"}
            share = _variance(own[beside[number.name]], i)
        sizes.append(np.sqrt(share / float(counts[number.name])))
    return [float(size) for size in sizes]


def _variance(covariance: Array, i: int) -> float:
    return float(covariance[i] if np.ndim(covariance) == 1 else covariance[i, i])


def _inferred(
    params: Params,
    numbers: Sequence[Number],
    information: Array,
    products: Array | None,
    score: Array,
    sums: Stats,
    units: int,
    reads: int,
) -> ChainInference:
    """Errors of a singular information are those of its other directions; numbers in its null directions have none."""
    size = np.sqrt(np.maximum(np.diagonal(information), 0.0))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(size, size)) if numbers else (size, information)
    kept = values > LEAST_INFORMATION
    half = vectors[:, kept] / np.sqrt(values[kept]) / size[:, None]
    inverse = half @ half.T
    covariance = inverse if products is None else inverse @ products @ inverse
    unknown = np.asarray((np.abs(vectors[:, ~kept]) > 1e-4).any(axis=1), dtype=np.bool_)
    told = np.sqrt(np.diagonal(covariance))
    told = np.where(unknown, np.nan, told)
    errors = {f"{name}_": np.zeros(np.shape(params.components[name])) for name in LETTERS}
    for number, error in zip(numbers, told, strict=True):
        errors[f"{number.name}_"][number.place] = errors[f"{number.name}_"][number.mirror] = error
    names = tuple(str(number) for number in numbers)
    problems = []
    if unknown.any():
        which = ", ".join(name for name, lost in zip(names, unknown, strict=True) if lost)
        problems.append(
            f"the information is singular: the data do not tell {which[:400]}, or the fit is no maximum in their "
            "directions; they have no standard errors. Of a chain with free matrices the states can be turned and "
            "stretched: give some of the matrices"
        )
    shift = np.abs(inverse @ score)
    far = ~unknown & (shift > FAR * np.where(told > 0, told, np.inf))
    if far.any():
        worst = float((shift[far] / told[far]).max())
        which = ", ".join(name for name, lost in zip(names, far, strict=True) if lost)
        problems.append(
            f"the log-likelihood of these data has its maximum elsewhere, up to {worst:.2g} standard errors away in "
            f"{which[:400]}: the fit has not converged (lower tol, raise the number of iterations), or it was fitted "
            "to other data"
        )
    return ChainInference(
        errors,
        covariance,
        names,
        tuple(problems),
        float(sums.log_likelihood),
        float(sums.weight),
        units,
        reads,
    )
