"""Faces of models with factors: loadings under scikit-learn's names, in the rotation in which they can be compared."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.families import FactorGaussian
from streamem.families.factors.posterior import noise_of
from streamem.families.factors.rotation import CRITERIA, canonical, simple
from streamem.running.fitted import Shape

Array = NDArray[Any]
SHOWN = 8
"""Numbers of a factor that are told in words."""


def turned(components: Params, rotation: str | None = None) -> Params:
    """Parameters of equal densities, with factors in canonical rotation, and from there in one of `CRITERIA`.

    Simple loadings are those in units of the data, as in scikit-learn.
    """
    noise, scale = noise_of(components), components.scale[:, None]
    loadings = [canonical(own, of_own) for own, of_own in zip(components.loadings, noise, strict=True)]
    if rotation is not None:
        units = scale[:, 0] ** 2
        pairs = zip(loadings, noise, strict=True)
        loadings = [simple(own * scale, of_own * units, rotation) / scale for own, of_own in pairs]
    return components.replace(loadings=np.array(loadings))


def shown_as(dtype: np.dtype[Any], exact: Mapping[str, Array]) -> dict[str, Any]:
    """Attributes in `dtype`, or in float64 where it does not hold all of them."""
    limits = np.finfo(dtype)
    held = all(np.abs(value).max(initial=0.0) <= limits.max for value in exact.values())
    shown = dtype if held and np.min(exact["noise_variance_"]) >= limits.tiny else np.dtype(np.float64)
    return {name: value.astype(shown) for name, value in exact.items()}


class FactorFace(Face):
    """components_ (q, d) and noise_variance_ of one component; mean_ is shown by the structure.

    Parameters
    ----------
    noise : of `FactorGaussian`
    """

    names = ("components_", "noise_variance_")
    title = "share of the variance, loadings"

    def __init__(self, noise: str) -> None:
        self.noise = noise

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> FactorGaussian:
        """Factors as many as asked for; without a number, as many as columns can tell."""
        return FactorGaussian(self.n_factors(settings, 1 if shape is None else shape.features), self.noise)

    def n_factors(self, settings: Any, n_features: int) -> int:
        """q: `n_components`, or as many as so many columns can tell.

        Raises
        ------
        ParameterError : something else than a number of factors
        """
        asked = settings.n_components
        if asked is None:
            return max(1, n_features - (self.noise == "isotropic"))
        if isinstance(asked, bool) or not isinstance(asked, int | np.integer) or asked < 1:
            raise ParameterError(f"n_components is {asked!r}; it must be a number of factors >= 1, or None")
        return int(asked)

    def check_rotation(self, settings: Any) -> None:
        """Refuse a rotation of another name.

        Raises
        ------
        ParameterError : neither None nor one of `CRITERIA`
        """
        if settings.rotation is not None and settings.rotation not in CRITERIA:
            named = ", ".join(map(repr, CRITERIA))
            raise ParameterError(f"rotation is {settings.rotation!r}; it must be {named}, or None")

    def row_products(self, settings: Any, n_features: int) -> int:
        """Two products with each loading, two with each column."""
        return n_features * (2 + 2 * self.n_factors(settings, n_features))

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Loadings and noise in units of the data; isotropic noise is one number."""
        family, own = FactorGaussian(components.loadings.shape[2], self.noise), turned(components, settings.rotation)
        exact = {"components_": family.loadings(own)[0].T, "noise_variance_": family.noise_variances(own)[0]}
        shown = shown_as(dtype, {name: np.asarray(value) for name, value in exact.items()})
        if self.noise == "isotropic":
            shown["noise_variance_"] = float(shown["noise_variance_"])
        return shown

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From mean_, components_ and noise_variance_, about an anchor at the mean.

        Raises
        ------
        ParameterError : other shapes, values that are not finite, or variances that are not > 0
        """
        mean, components, noise = (
            np.asarray(numbers(attributes[name], name), dtype=np.float64) for name in ("mean_", *self.names)
        )
        d = mean.shape[-1] if mean.ndim == 1 else 0
        needed = {"mean_": (d,), "components_": (self.n_factors(settings, d), d)}
        needed["noise_variance_"] = () if self.noise == "isotropic" else (d,)
        for name, value in zip(needed, (mean, components, noise), strict=True):
            if value.shape != needed[name] or not np.isfinite(value).all():
                raise ParameterError(f"{name} has shape {value.shape}; finite numbers {needed[name]} are needed")
        if not (noise > 0).all():
            raise ParameterError(f"noise_variance_ holds {noise.min():.6g}; variances > 0 are needed")
        family = FactorGaussian(len(components), self.noise)
        return family.at_values(mean[None], components.T[None], noise[None])

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """Starting parameters with the given noise."""
        family = FactorGaussian(components.loadings.shape[2], self.noise)
        if "noise_variance_" not in given:
            return components
        return family.with_values(components, {"noise": np.asarray(given["noise_variance_"], dtype=np.float64)[None]})

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """A row a factor; a number a column, or one."""
        noise = () if self.noise == "isotropic" else (d,)
        return {"components_": (self.n_factors(settings, d), d), "noise_variance_": noise}

    def sizes(self, settings: Any) -> str:
        """The number of factors."""
        return f"n_components={settings.n_components}"

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the loadings."""
        components = np.asarray(attributes["components_"])
        return int(components.shape[-1]) if components.ndim else 0

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Parameters of other shapes."""
        return wrong_shapes(FactorGaussian(self.n_factors(settings, d), self.noise), components, k, d)

    # --- starts ------------------------------------------------------------------------------------------------------

    def given(self, settings: Any) -> dict[str, Any]:
        """noise_variance_init, where the user passed it."""
        value = settings.noise_variance_init
        return {} if value is None else {"noise_variance_": value}

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse more factors than columns can tell, and noise that cannot be."""
        self.family(settings, Shape(n_features)).check(n_features)
        if settings.noise_variance_init is None:
            return
        value = numbers(settings.noise_variance_init, "noise_variance_init")
        needed = () if self.noise == "isotropic" else (n_features,)
        if value.shape != needed or not (np.isfinite(value) & (value > 0)).all():
            raise ParameterError(f"noise_variance_init has shape {value.shape}; variances > 0 {needed} are needed")

    # --- in words ----------------------------------------------------------------------------------------------------

    def kind(self, settings: Any) -> str:
        """Which noise there is."""
        return "one noise for all columns" if self.noise == "isotropic" else "noise of each column"

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """A line a factor, with its share of all variance, and one of the noise."""
        family, own = FactorGaussian(components.loadings.shape[2], self.noise), turned(components, settings.rotation)
        loadings, noise = family.loadings(own)[0], np.atleast_1d(family.noise_variances(own)[0])
        explained, every = (loadings**2).sum(axis=0), noise_of(own)[0] * own.scale**2
        total = explained.sum() + every.sum()
        lines = [f"{share / total:6.1%}  {in_short(loadings[:, i], SHOWN)}" for i, share in enumerate(explained)]
        return [*lines, f"{every.sum() / total:6.1%}  {in_short(noise, SHOWN)}{floored_words(components)}"]

    def key(self, settings: Any) -> dict[str, Any]:
        """The number of factors, the noise, and a checksum of the given start."""
        given = settings.noise_variance_init
        told = b"" if given is None else np.asarray(given, dtype=np.float64).tobytes()
        return {"factors": repr(settings.n_components), "noise": self.noise, "given start": f"{zlib.crc32(told):08x}"}


def floored_words(components: Params) -> str:
    """Which columns have no noise left: Heywood cases."""
    floored = np.atleast_1d(components.floored[0])
    if not floored.any():
        return ""
    names = "" if len(floored) == 1 else f" of columns {', '.join(map(str, np.flatnonzero(floored)[:SHOWN]))}"
    return f"; the noise{names} is at its floor (a Heywood case): fewer factors may do"


def wrong_shapes(family: FactorGaussian, components: Params, k: int, d: int) -> str:
    """Why parameters are not of k components of that family in d features, or ""."""
    needed = family.shapes(k, d)
    wrong = [name for name, shape in needed.items() if np.shape(components.get(name, ())) != shape]
    what = f"{k} component{'s' if k > 1 else ''} of {family.n_factors} factors in {d} features"
    return f"the file's {', '.join(wrong)} do not fit {what}" if wrong else ""
