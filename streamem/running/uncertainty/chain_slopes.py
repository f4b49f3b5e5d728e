"""Free numbers of a Gaussian chain, and slopes of its log-likelihood by them.

The slope of the log-likelihood at any parameters is that of the expected log-likelihood of states and data there
(Fisher's identity; Louis 1982), which follows from the sums of one E-step.
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
from streamem.core.errors import NumericalError
from streamem.core.ports import ChunkRef, Executor, PassTask
from streamem.core.stats import Stats
from streamem.core.validation import require_finite, where
from streamem.models import GaussianChain
from streamem.models.boundaries import boundaries
from streamem.models.gaussian_setup import LETTERS

Array = NDArray[Any]


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
