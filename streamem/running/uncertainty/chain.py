"""Standard errors of the matrices of a Gaussian chain: slopes of the log-likelihood, differentiated once more.

The slope of the log-likelihood at any parameters is that of the expected log-likelihood of states and data there
(Fisher's identity; Louis 1982), which follows from the sums of one E-step. Central differences of slopes are the
observed information (Meilijson 1989). Steps are small beside the errors that numbers would have if states were seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.ports import ChunkRef, Executor, PassTask, Source
from streamem.core.stats import Stats
from streamem.core.validation import require_finite, where
from streamem.models import GaussianChain
from streamem.models.boundaries import boundaries, chains_of
from streamem.models.gaussian_setup import LETTERS
from streamem.running.answers import reduce_source
from streamem.running.engines import Engine
from streamem.running.uncertainty.inference import FAR, METHODS

Array = NDArray[Any]

STEP = 2.0**-10
"""Of differences, in standard errors that numbers would have if states were seen."""
LEAST_INFORMATION = 1e-7
"""Share of the largest information, each number by its own measure, below which the data tell nothing."""
MOST_FREE = 400
"""Free numbers beyond which twice as many E-steps of every chunk take too long."""


@dataclass(frozen=True)
class Number:
    """A free number of a chain: its matrix, and its place, which of symmetric matrices is in the lower triangle."""

    name: str
    place: tuple[int, ...]

    @property
    def mirror(self) -> tuple[int, ...]:
        """The place of the number that always equals it."""
        return self.place[::-1] if "covariance" in self.name else self.place

    def __str__(self) -> str:
        return f"{self.name}_{list(self.place)}"


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
    ParameterError : another method than "observed", or too many free numbers
    """
    if method not in METHODS:
        raise ParameterError(f"method is {method!r}; it must be one of {sorted(METHODS)}")
    if method != "observed":
        raise ParameterError(
            f"method={method!r} takes products of the slopes of independent sequences, which a LinearGaussianChain "
            'does not give: use method="observed"'
        )
    numbers = [*free_numbers(model, params)]
    if len(numbers) > MOST_FREE:
        raise ParameterError(
            f"the chain has {len(numbers)} free numbers, of which each takes two E-steps of all data; {MOST_FREE} are "
            "allowed: give some matrices, or bootstrap what you need"
        )
    steps = [STEP * size for size in _sizes(model, params, source, engine, numbers)]
    points = [params]
    for number, step in zip(numbers, steps, strict=True):
        points += [moved(params, number, sign * step) for sign in (1.0, -1.0)]
    names, held = source.schema.names, len(points) * model.statistics_bytes(source.schema.n_features)
    found = reduce_source(source, AtPoints(model, tuple(points), names), engine, held)
    sums = [found[f"p{i}"] for i in range(len(points))]
    slopes = np.array([slope(model, point, own, numbers) for point, own in zip(points, sums, strict=True)])
    matrix = np.array([slopes[2 + 2 * i] - slopes[1 + 2 * i] for i in range(len(numbers))]).reshape(
        len(numbers), len(numbers)
    )
    information = matrix / (2.0 * np.array(steps)[:, None]) if numbers else matrix
    cut = bool(chains_of(source.chunks()))
    reads = 2 + cut * (1 + len(points))
    units = int(getattr(source, "n_sequences", source.n_rows))
    return _inferred(params, numbers, (information + information.T) / 2.0, slopes[0], sums[0], units, reads)


def free_numbers(model: GaussianChain, params: Params) -> Iterator[Number]:
    """What the M-step updates; a variance of 0 and what goes with it are at the boundary, and fixed."""
    for name in LETTERS:
        if name not in model.setup.updates:
            continue
        value = np.asarray(params.components[name])
        diagonal = name == "transition_covariance" and model.setup.state_noise == "diag"
        for place in np.ndindex(value.shape):
            if name.endswith("covariance") and value.ndim == 2:
                if place[1] > place[0] or (diagonal and place[0] != place[1]):
                    continue
                if not min(value[place[0], place[0]], value[place[1], place[1]]) > 0:
                    continue
            yield Number(name, place)


def moved(params: Params, number: Number, amount: float) -> Params:
    """Parameters of which one number is another."""
    value = np.array(params.components[number.name], dtype=np.float64)
    value[number.place] += amount
    if number.mirror != number.place:
        value[number.mirror] += amount
    return params.replace(components=params.components.replace(**{number.name: value}))


@dataclass(frozen=True, eq=False)
class AtPoints(PassTask[Stats]):
    """Statistics of the E-step at several parameters: ``p0``, ``p1``, …"""

    model: GaussianChain
    points: tuple[Params, ...]
    names: tuple[str, ...] | None
    messages: tuple[Mapping[int, Boundary], ...] = field(default=())

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> AtPoints:
        """This task with the boundaries of cut sequences at every point: each takes a pass over their chunks."""
        found = tuple(boundaries(self.model, point, refs, executor, self.names) for point in self.points)
        return replace(self, messages=found)

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """Sums of one chunk."""
        require_finite(chunk, ref, self.names, self.model.missing)
        known = self.messages or ({},) * len(self.points)
        try:
            found = [self.model.e_step(p, chunk, m.get(ref.index)) for p, m in zip(self.points, known, strict=True)]
        except NumericalError as error:
            raise NumericalError(f"{where(ref)}: {error}") from error
        return Stats(**{f"p{i}": own for i, own in enumerate(found)})


def slope(model: GaussianChain, params: Params, stats: Stats, numbers: Sequence[Number]) -> Array:
    """(p,) slopes of the log-likelihood at the parameters at which the statistics were taken."""
    own = params.components
    found: dict[str, Array] = {}
    wanted = {number.name for number in numbers}
    a, c, offset = (np.asarray(own[name]) for name in ("transition_matrix", "observation_matrix", "observation_offset"))
    if wanted & {"transition_matrix", "transition_covariance"}:
        inverse = np.linalg.pinv(np.asarray(own.transition_covariance), hermitian=True)
        along = stats.across @ a.T
        left = stats.after - along - along.T + a @ stats.before @ a.T
        found["transition_matrix"] = inverse @ (stats.across - a @ stats.before)
        found["transition_covariance"] = _of_covariance(inverse, left, float(stats.moves))
    if wanted & {"observation_matrix", "observation_offset", "observation_covariance"}:
        noise = np.asarray(own.observation_covariance)
        inverse = np.diag(1.0 / noise) if noise.ndim == 1 else np.linalg.inv(noise)
        about = stats.value_states - np.outer(offset, stats.states)
        found["observation_matrix"] = inverse @ (about - c @ stats.state_products)
        shift = stats.totals - c @ stats.states
        found["observation_offset"] = inverse @ (shift - stats.seen * offset)
        diagonal = noise.ndim == 1  # then only the diagonal was summed, which is all that slopes by variances need
        products = np.diag(stats.value_products) if diagonal else stats.value_products
        crossed, shifted = stats.value_states @ c.T, np.outer(shift, offset)
        left = products - crossed - crossed.T + c @ stats.state_products @ c.T - shifted - shifted.T
        left += stats.seen * np.outer(offset, offset)
        variances = 0.5 * (np.diagonal(left) * np.diagonal(inverse) - stats.seen) * np.diagonal(inverse)
        slopes = variances if diagonal else _of_covariance(inverse, left, float(stats.seen))
        found["observation_covariance"] = slopes
    if wanted & {"initial_mean", "initial_covariance"}:
        mean = np.asarray(own.initial_mean)
        inverse = np.linalg.pinv(np.asarray(own.initial_covariance), hermitian=True)
        crossed = np.outer(stats.first, mean)
        left = stats.first_products - crossed - crossed.T + stats.begun * np.outer(mean, mean)
        found["initial_mean"] = inverse @ (stats.first - stats.begun * mean)
        found["initial_covariance"] = _of_covariance(inverse, left, float(stats.begun))
    return np.array([_at(found[number.name], number) for number in numbers])


def _of_covariance(inverse: Array, products: Array, count: float) -> Array:
    return np.asarray(0.5 * (inverse @ products @ inverse - count * inverse))


def _at(slopes: Array, number: Number) -> float:
    own = float(slopes[number.place])
    return own if number.mirror == number.place else own + float(slopes[number.mirror])


def _sizes(
    model: GaussianChain, params: Params, source: Source, engine: Engine, numbers: Sequence[Number]
) -> list[float]:
    """Errors that each number would have by itself, if states were seen: one E-step."""
    if not numbers:
        return []
    names = source.schema.names
    found = reduce_source(source, AtPoints(model, (params,), names), engine, 4096).p0
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
    params: Params, numbers: Sequence[Number], information: Array, score: Array, sums: Stats, units: int, reads: int
) -> ChainInference:
    """Errors of a singular information are those of its other directions; numbers in its null directions have none."""
    size = np.sqrt(np.maximum(np.diagonal(information), 0.0))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(size, size)) if numbers else (size, information)
    kept = values > LEAST_INFORMATION
    half = vectors[:, kept] / np.sqrt(values[kept]) / size[:, None]
    covariance = half @ half.T
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
    shift = np.abs(covariance @ score)
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
