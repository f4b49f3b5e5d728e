"""The face of `MixtureOfRegressions`: coefficients in units of the data, whatever the distribution of the response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.families.regression.gaussian import GaussianRegression
from streamem.families.regression.naming import Regression
from streamem.initialization import SHORT_EM, STARTS, Start, from_few_rows
from streamem.running.fitted import Shape

Array = NDArray[Any]

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "gaussian": ("reg_covar",),
    "poisson": ("offset", "exposure"),
    "binomial": ("trials", "offset"),
    "multinomial": ("n_classes",),
}
"""Hyperparameters that a distribution has besides."""

COLUMNS = ("offset", "exposure", "trials")
"""Those that may name a column of X, which is then no covariate."""


def beside(settings: Any) -> dict[str, int | str]:
    """Columns of X that are no covariates, by name or position, by what they say of a row."""
    own = {name: getattr(settings, name) for name in COLUMNS if name in SETTINGS.get(settings.family, ())}
    return {
        name: column
        for name, column in own.items()
        if column is not None and (name != "trials" or isinstance(column, str) or column < 0)
    }


def _from_end(name: str, at: Any, shape: Shape | None) -> Any:
    """Where a column of X lies in rows of its features and the response, counted from the end.

    Raises
    ------
    ParameterError : it is a concomitant too
    """
    if isinstance(at, bool) or not isinstance(at, int | np.integer):
        return at  # which the distribution refuses
    if shape is None:
        return int(at) - (at < 0)
    gone = [one for one in shape.covariates if one not in shape.shared]
    place = int(at) + (shape.width if at < 0 else 0)
    if place in gone:
        raise ParameterError(f"{name}={at} and concomitant name the same column; each needs one of its own")
    return place - sum(one < place for one in gone) - shape.features - 1


class RegressionFace(Face):
    """coef_, intercept_, and of Gaussian responses scale_."""

    names = ("coef_", "intercept_")

    def family(self, settings: Any, shape: Shape | None) -> Any:
        """Regressions of the last column on the others."""
        return Regression(settings.family, -1, **self._settings(settings, shape))

    def _settings(self, settings: Any, shape: Shape | None) -> dict[str, Any]:
        """Settings of the distribution, of rows in which the response stands behind X, without concomitants.

        Raises
        ------
        ParameterError : a column that the distribution does not know
        """
        known = SETTINGS.get(settings.family, ())
        for name in ("offset", "exposure"):
            if getattr(settings, name) is not None and name not in known:
                having = [repr(family) for family, names in SETTINGS.items() if name in names]
                raise ParameterError(
                    f"{name} is {getattr(settings, name)!r}, and {settings.family} responses have none; it is for "
                    f"{' and '.join(having)}"
                )
        moved = {name: _from_end(name, at, shape) for name, at in beside(settings).items() if not isinstance(at, str)}
        return {name: moved.get(name, getattr(settings, name)) for name in known}

    def row_products(self, settings: Any, n_features: int) -> int:
        """Second moments of a row."""
        return int(settings.n_components) * (1 + n_features) ** 2

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Copies in float64, in units of the data."""
        family = self._of(settings, components)
        shown = {"coef_": np.array(family.coef(components)), "intercept_": np.array(family.intercept(components))}
        if (scale := family.scale(components)) is not None:
            shown["scale_"] = np.array(scale)
        return shown

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From the attributes.

        Raises
        ------
        ParameterError : shapes or values that cannot be, or of Gaussian responses no scale_
        """
        names = (*self.names, "scale_") if settings.family == "gaussian" else self.names
        if lacking := [name for name in names if name not in attributes]:
            raise ParameterError(f"{', '.join(lacking)} are neither fitted nor set; set them, or fit")
        found = {name: numbers(attributes[name], name) for name in names}
        k, p = int(settings.n_components), int(found["coef_"].shape[-1]) if found["coef_"].ndim else 0
        for name, value in found.items():
            if not np.isfinite(value).all() or value.shape[:1] != (k,):
                raise ParameterError(
                    f"{name} has shape {value.shape}; finite numbers, {k} components first, are needed"
                )
        if shape is not None and p != (fitted := shape.features - len(beside(settings))):
            raise ParameterError(f"coef_ is of {p} covariates, and {fitted} were fitted")
        if settings.family == "gaussian":
            family = GaussianRegression(-1, settings.reg_covar)
            frame = family.in_frame(np.zeros(1 + p), np.ones(1 + p), k)
            return family.with_parameters(frame, found["coef_"], found["intercept_"], found["scale_"])
        general = self._of(settings, Params(regression=np.zeros((k, *found["intercept_"].shape[1:], 1))))
        frame = general.in_frame(np.zeros(p), np.ones(p), np.zeros((2, p)), k)
        made: Params = general.with_parameters(frame, found["coef_"], found["intercept_"])
        return made

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The covariates, and columns of X beside them."""
        return int(np.shape(attributes["coef_"])[-1]) + len(beside(settings))

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Another number of components or covariates."""
        shape, p = np.shape(components.get("regression", ())), d - len(beside(settings))
        fits = len(shape) == 3 and shape[0] == k and shape[2] == p + 1
        return "" if fits else f"the file's regressions do not fit {k} components of {p} covariates"

    def starts(self) -> Mapping[str, Start]:
        """A few rows of each component, the best of several such, or k-means of rows with their responses."""
        return {SHORT_EM: from_few_rows, "random": from_few_rows, "kmeans": STARTS["kmeans"]}

    def kind(self, settings: Any) -> str:
        """The distribution."""
        return str(settings.family)

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """Intercept and first coefficients of every component."""
        shown = self.published(settings, components, np.dtype(np.float64))
        return [
            "; ".join(f"{name[:-1]} {in_short(np.atleast_1d(value[k]).ravel())}" for name, value in shown.items())
            for k in range(int(settings.n_components))
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """Distribution and its settings."""
        own = {name: repr(getattr(settings, name)) for name in SETTINGS.get(settings.family, ())}
        return {"family": settings.family, **own}

    def _of(self, settings: Any, components: Params) -> Any:
        """The family, which knows its categories by its parameters."""
        if settings.family != "multinomial":
            return self.family(settings, None)
        return Regression("multinomial", -1, n_classes=1 + int(np.shape(components.regression)[1]))
