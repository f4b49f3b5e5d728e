"""`FACTORS`: independent rows that a few factors explain: a mixture of one component, under other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.core.ports import Family
from streamem.estimators.asking import Target, answered
from streamem.estimators.faces.factors import turned
from streamem.estimators.making import family_of
from streamem.estimators.row_inputs import published_dtype
from streamem.estimators.rows import Rows
from streamem.estimators.structure import DataArguments, Question
from streamem.families.factors.m_step import FLOOR
from streamem.families.factors.posterior import noise_of
from streamem.models import Mixture
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape
from streamem.running.row_tasks import Apply

Array = NDArray[Any]

ROWS_A_FACTOR = 10
"""Rows that are enough for a start, for each factor and the mean."""


class FactorMixtureRows(Rows):
    """p(x) = Σ_k w_k N(x; μ_k, Λ_kΛ_kᵀ + Ψ_k), which far fewer rows than columns can begin."""

    least_formula = f"{ROWS_A_FACTOR}·K·(q + 1)"

    def least_rows(self, settings: Any, n_features: int) -> int:
        """Ten for each factor and mean."""
        return ROWS_A_FACTOR * int(self.count(settings)) * (1 + int(settings.face.n_factors(settings, n_features)))


class FactorRows(FactorMixtureRows):
    """p(x) = N(x; μ, ΛΛᵀ + Ψ): `mean_` (d,) is the structure's, so that there are no weights to show."""

    names, noun = ("mean_",), "factor"
    counts: Mapping[str, int] = MappingProxyType({"n_init": 1})
    least_formula = f"{ROWS_A_FACTOR}·(q + 1)"

    def count(self, settings: Any) -> int:
        """One component."""
        return 1

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Mixture:
        """A mixture of one component."""
        return Mixture(family, 1, all_in_one)

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """The principal directions of a sample.

        Raises
        ------
        DegenerateDataError : a column of one value
        """
        params: Params = model.anchor_only(sample)
        components = params.components
        variances = (components.loadings**2).sum(axis=2) + noise_of(components)
        if constant := np.flatnonzero(variances[0] <= 2.0 * FLOOR).tolist():
            names = constant if shape.names is None else [str(shape.names[j]) for j in constant]
            raise DegenerateDataError(
                f"columns {names} hold one value only, in the rows of which a start is made: they have neither "
                "loadings nor noise, and the likelihood has no maximum. Leave them out"
            )
        return params.replace(components=settings.face.with_given(settings, components, settings.face.given(settings)))

    def needs_moments_alone(self, settings: Any) -> bool:
        """Whether rows are complete."""
        return bool(settings.missing == "error")

    def is_given_wholly(self, settings: Any) -> bool:
        """Always, since a start draws nothing."""
        return True

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """mean_ (d,), in `dtype` where that holds it."""
        own = params.components
        mean = np.asarray(own.center + own.scale * own.means[0])
        return {"mean_": mean.astype(dtype if np.abs(mean).max() <= np.finfo(dtype).max else np.float64)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """The one component."""
        return Params(weights=np.ones(1), components=components)

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """An empty mapping: shapes of the face are enough."""
        return {}

    def drawn(self, settings: Any, fitted: Fitted, n_rows: int, rng: np.random.RandomState) -> tuple[Array, Array]:
        """Rows (n, d), all of component 0."""
        assert fitted.state is not None
        family: Any = family_of(settings, fitted)
        return family.draw(fitted.state.params.components, 0, n_rows, rng), np.zeros(n_rows, dtype=np.int64)

    def check(self, settings: Any) -> None:
        """`n_components` is a number of factors, or None; a rotation has a known name."""
        settings.face.n_factors(settings, 2)
        settings.face.check_rotation(settings)

    def headline(self, settings: Any, features: int) -> str:
        """Factors and features."""
        return f"{counted(settings.face.n_factors(settings, features), 'factor')} of {counted(features, 'feature')}"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line a factor, and one of the noise."""
        *factors, noise = words
        return [f"factor  {title}", *(f"{i:6d}  {own}" for i, own in enumerate(factors)), f" noise  {noise}"]


def no_classes(settings: Any) -> Any:
    """Say that rows have no classes, where a mixture would name them.

    Raises
    ------
    AttributeError : always
    """
    name = type(settings).__name__
    raise AttributeError(
        f"{name} has one component, so that there is no class to predict: ask transform for factors, score_samples for "
        "log-densities; MixtureOfFactorAnalyzers has classes"
    )


def all_in_one(x: Array, weight: Array | None, n_components: int, rng: np.random.RandomState) -> Array:
    """Responsibilities (n, 1) of the one component."""
    return np.ones((len(x), n_components))


def posterior_means(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, target: Target) -> Any:
    """E[z | x] of every row of X: (n, q), or where `target` says."""
    assert fitted.state is not None
    q = fitted.state.params.components.loadings.shape[2]
    column = Column(q, published_dtype(x), tuple(f"factor_{i}" for i in range(q)))
    question = Question(lambda k, dtype, stored: column, partial(_asked, settings.rotation))
    return answered(settings, fitted, "factors", question, x, arguments, column, target)


def inverse_transformed(settings: Any, factors: Any) -> Array:
    """Rows μ + Λz (n, d) of factors z (n, q).

    Raises
    ------
    ParameterError : another number of columns
    """
    z, components = np.asarray(factors, dtype=np.float64), np.asarray(settings.components_)
    if z.ndim != 2 or z.shape[1] != len(components):
        raise ParameterError(f"factors have shape {z.shape}; (n, {len(components)}) is needed")
    return np.asarray(settings.mean_ + z @ components)


def _asked(rotation: str | None, model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> Apply:
    shown = params.replace(components=turned(params.components, rotation))
    return Apply(_Factors(model), shown, names, column.dtype, column.row_nbytes, model.missing)


class _Factors:
    """E[z | x] of the rows of a chunk, by the family of a model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, params: Params, chunk: Chunk) -> Array:
        return np.asarray(self._model.family.factors(params.components, chunk.x)[:, 0])


FACTORS, FACTOR_MIXTURE = FactorRows(), FactorMixtureRows()
