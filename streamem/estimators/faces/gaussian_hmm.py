"""The face of `GaussianHMM`: hmmlearn's means_ and covars_."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.covariances import covariances_shape, full_covariances, own_covariances
from streamem.estimators.faces.emissions import EmissionFace, checked_regularization, matrix_of
from streamem.estimators.faces.priors import gaussian_prior
from streamem.estimators.in_words import in_short
from streamem.families import Gaussian
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.with_prior import PriorGaussian
from streamem.running.fitted import Shape

Array = NDArray[Any]


class GaussianHMMFace(EmissionFace):
    """means_ (K, d), and covars_ as full matrices (K, d, d) whatever the covariance type."""

    names = ("means_", "covars_")
    keyed = names
    letters = MappingProxyType({"means_": "m", "covars_": "c"})
    priors = ("means_prior", "means_weight", "covars_prior", "covars_weight")

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> Gaussian:
        """Gaussians of the covariance type, with the priors, and with fixed what `params` leaves out."""
        kind, regularization = settings.covariance_type, checked_regularization(settings.reg_covar)
        fixed = sorted(name for name, letter in self.letters.items() if letter not in settings.params)
        if len(fixed) == 2:  # all or nothing is the model's to decide
            return Gaussian(kind, regularization)
        part, prior = fixed[0].rstrip("_") if fixed else "nothing", self._prior(settings, shape)
        if prior is not None:
            return PriorGaussian(kind, regularization, prior, part)
        return HeldGaussian(kind, regularization, part) if fixed else Gaussian(kind, regularization)

    def free_family(self, settings: Any, shape: Shape | None) -> Gaussian:
        """Gaussians of the covariance type."""
        return Gaussian(settings.covariance_type, float(settings.reg_covar))

    def _prior(self, settings: Any, shape: Shape | None) -> GaussianPrior | None:
        """The prior of the Gaussians; None where there is none, or the number of features is still open."""
        if shape is None:
            return None
        sizes = (settings.covariance_type, int(settings.n_components), shape.features)
        prior = gaussian_prior(*sizes, *(getattr(settings, name) for name in self.priors))
        return None if prior.says_nothing else prior

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Means and full covariance matrices."""
        family = self.free_family(settings, None)
        own, means = np.asarray(family.covariances(components)), np.asarray(family.means(components))
        return {"means_": means, "covars_": full_covariances(own, settings.covariance_type, *means.shape)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From means and covariances alone, about an anchor in their middle."""
        family = self.free_family(settings, None)
        means = matrix_of(settings, attributes, "means_", shape)
        covariances = _own(settings, attributes["covars_"], means)
        center = means.mean(axis=0)
        spread = ((means - center) ** 2).mean(axis=0) + np.mean(family.variances(covariances, *means.shape), axis=0)
        components = family.at_anchor(center, family.scale_of(np.sqrt(spread)), len(means))
        return family.with_covariances(family.with_means(components, means), covariances)

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """Parameters with the given means and covariances."""
        family, shape = self.free_family(settings, None), Shape(np.shape(components.means)[1])
        if "means_" in given:
            components = family.with_means(components, matrix_of(settings, given, "means_", shape))
        if "covars_" in given:
            covariances = _own(settings, given["covars_"], components.means)
            components = family.with_covariances(components, covariances)
        return components

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the means and of the covariances as full matrices."""
        return {"means_": (k, d), "covars_": (k, d, d)}

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the means."""
        return int(matrix_of(settings, attributes, "means_").shape[1])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Arrays of other shapes than the covariance type needs."""
        if np.shape(components.means) != (k, d):  # before anything of that size is made
            return f"the file's means do not fit {k} states of {d} features"
        like = self.free_family(settings, None).at_anchor(np.zeros(d), np.ones(d), k).flatten()
        found = components.flatten()
        wrong = [name for name, value in like.items() if name not in found or found[name].shape != value.shape]
        return f"the file's {', '.join(wrong)} do not fit {k} states of {d} features" if wrong else ""

    # --- starts ------------------------------------------------------------------------------------------------------

    def settled(self, settings: Any, components: Params) -> Params:
        """States whose rows have no spread get the covariance of all rows: no iteration would widen them."""
        family = self.free_family(settings, None)
        floored = family.degenerate(components)["floored"]
        if not floored or settings.covariance_type == "tied":
            return components
        means, own = np.asarray(family.means(components)), np.array(family.covariances(components))
        wide = np.var(means, axis=0) + family.variances(own, *means.shape).mean(axis=0)
        wide = np.where(wide > 0, wide, 1.0)
        values = {"full": np.diag(wide), "diag": wide, "spherical": wide.mean()}
        own[floored] = values[settings.covariance_type]
        return family.with_covariances(components, own)

    # --- in words ----------------------------------------------------------------------------------------------------

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """Mean and standard deviations of each state."""
        family = self.free_family(settings, None)
        means = np.asarray(family.means(components))
        deviations = np.sqrt(family.variances(np.asarray(family.covariances(components)), *means.shape))
        return [f"mean {in_short(m, 6)}; std {in_short(s, 6)}" for m, s in zip(means, deviations, strict=True)]

    def key(self, settings: Any) -> dict[str, Any]:
        """Covariance type and regularization."""
        return {"covariance_type": settings.covariance_type, "reg_covar": float(settings.reg_covar)}


def _own(settings: Any, covars: Any, means: Array) -> Array:
    """Covariances in the shape of their type, checked against the means."""
    kind, shape = settings.covariance_type, covariances_shape(settings.covariance_type, *means.shape)
    own = own_covariances(covars, kind, len(means))
    if own.shape != shape:
        raise ParameterError(f"covars_ has shape {own.shape}; {kind} needs {shape}")
    return own
