"""`PAIRS`: pairs of records, each a match or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.estimators.faces.record_linkage import given_u, named
from streamem.estimators.rows import Rows
from streamem.estimators.structure import Asked, Question
from streamem.running.answers import Column
from streamem.running.fitted import Shape
from streamem.running.row_tasks import Apply

Array = NDArray[Any]

FLOATS = np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Odds:
    """What the log-odds of a match say of every pair of a chunk; `read` gets them in bits."""

    family: Any
    read: Callable[[Array], Array]

    def __call__(self, params: Params, chunk: Chunk) -> Array:
        """The answer (n,) or (n, width).

        Raises
        ------
        NumericalError : a pair that is impossible both among matches and among others
        """
        log_prob = self.family.log_prob(params.components, chunk.x)
        with np.errstate(divide="ignore", invalid="ignore"):
            joint = log_prob + np.log(params.weights)
            bits = (joint[:, 1] - joint[:, 0]) / np.log(2.0)
        if np.isnan(bits).any():
            row = int(np.flatnonzero(np.isnan(bits))[0])
            raise NumericalError(
                f"row {row} of the chunk is impossible both among matches and among others: a level of it has "
                "probability 0 in m and u; fit to pairs that have it, or give u_probabilities above 0"
            )
        return self.read(bits)


def asking(read: Callable[[Array], Array]) -> Asked:
    """The task that reads an answer off the log-odds; `read` has to be a function of a module, or a partial of one."""

    def task(model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
        return Apply(Odds(model.family, read), params, names, column.dtype, column.row_nbytes, model.missing)

    return task


def probability(bits: Array) -> Array:
    """Probability of a match: 1 / (1 + 2^−bits)."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp2(-bits)))


def is_match(bits: Array, threshold: float) -> Array:
    """1 where the probability is at least `threshold`."""
    return np.asarray(probability(bits) >= threshold, dtype=np.int64)


def weight_and_probability(bits: Array) -> Array:
    """Bits and probability beside each other (n, 2)."""
    return np.column_stack([bits, probability(bits)])


def _unchanged(bits: Array) -> Array:
    return bits


def one(name: str) -> Callable[[int, np.dtype[Any], bool], Column]:
    """A number a pair."""
    return lambda k, dtype, stored: Column(None, FLOATS, (name,))


def label(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    """0 or 1."""
    return Column(None, np.dtype(np.int32 if stored else np.int64), ("match",))


class Pairs(Rows):
    """p(pair) = (1 − λ) u(pair) + λ m(pair): component 0 is of non-matches, 1 of matches."""

    questions: Mapping[str, Question] = MappingProxyType(
        {
            **Rows.questions,
            "match_probability": Question(one("match_probability"), asking(probability)),
            "match_weight": Question(one("match_weight"), asking(_unchanged)),
            "both": Question(
                lambda k, dtype, stored: Column(2, FLOATS, ("match_weight", "match_probability")),
                asking(weight_and_probability),
            ),
        }
    )

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """Tables that favour agreement among matches, whatever the sample; it tells the number of levels."""
        prior = float(settings.match_prior_init)
        params: Params = model.init(sample, rng)
        components = settings.face.started(settings, params.components, shape)
        return Params(weights=np.array([1.0 - prior, prior]), components=components)

    def is_given_wholly(self, settings: Any) -> bool:
        """Always, since a start draws nothing."""
        return True

    def check(self, settings: Any) -> None:
        """The start lies within (0, 1).

        Raises
        ------
        ParameterError : naming what does not
        """
        super().check(settings)
        if settings.n_components != 2:
            raise ParameterError(f"n_components is {settings.n_components!r}; pairs match or do not, so it stays 2")
        for name in ("match_prior_init", "agreement_init"):
            value = getattr(settings, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < 1:
                raise ParameterError(f"{name} is {value!r}; it must be a number between 0 and 1")

    def check_start(self, settings: Any, shape: Shape) -> None:
        """Columns of text need their levels in order; tables and levels have to be of columns.

        Raises
        ------
        ParameterError : naming the column
        """
        super().check_start(settings, shape)
        given_u(settings, shape)
        levels = settings.levels or {}
        if lost := [name for name in levels if name not in named(shape)]:
            raise ParameterError(f"levels has {lost}, which are no columns; these are {named(shape)}")
        for name, values in (shape.categories or {}).items():
            if name not in levels:
                shown = ", ".join(repr(value) for value in values[:8])
                raise ParameterError(
                    f"column {name!r} is text ({shown}{', …' if len(values) > 8 else ''}), whose order nobody knows: "
                    f"pass levels={{{name!r}: [...]}} from no agreement to full agreement, or id_columns= if it is no "
                    "comparison"
                )


PAIRS = Pairs()
