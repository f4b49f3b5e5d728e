"""The face of `GMMHMM`: weights_, means_ and covars_ of the Gaussians of each state, as hmmlearn shapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.covariances import own_covariances
from streamem.estimators.faces.emissions import EmissionFace, checked_regularization
from streamem.estimators.faces.priors import mixture_prior, prior_values
from streamem.estimators.in_words import in_short
from streamem.families import Gaussian, MixtureFamily
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.with_prior import PriorGaussian
from streamem.families.prior_mixture import PriorMixture
from streamem.running.fitted import Shape

Array = NDArray[Any]
TYPES = ("diag", "full", "spherical", "tied")
FIXED = {(True, True): "nothing", (False, True): "means", (True, False): "covars", (False, False): "both"}
"""By whether means and covariances are updated, the part of a Gaussian that stays."""


class GMMHMMFace(EmissionFace):
    """weights_ (K, M), means_ (K, M, d), covars_ in the shape of the covariance type."""

    names = ("weights_", "means_", "covars_")
    keyed = names
    letters = MappingProxyType({"weights_": "w", "means_": "m", "covars_": "c"})
    priors = ("weights_prior", "means_prior", "means_weight", "covars_prior", "covars_weight")

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> MixtureFamily:
        """Mixtures of Gaussians, with the priors, and with fixed what `params` leaves out."""
        updated = set("mcw") & set(settings.params)
        prior, alpha = _gaussian_prior(self, settings, shape), _weights_prior(settings, shape)
        if not updated or (prior is None and alpha is None and updated == set("mcw")):
            return self.free_family(settings, shape)
        parts = _gaussian(settings, FIXED["m" in updated, "c" in updated], prior)
        return PriorMixture(parts, settings.n_mix, alpha, holds_weights="w" not in updated)

    def free_family(self, settings: Any, shape: Shape | None) -> MixtureFamily:
        """Mixtures of Gaussians."""
        return MixtureFamily(_gaussian(settings), settings.n_mix)

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Gaussians by state; one matrix a state where it is shared."""
        gaussian, (k, m) = _gaussian(settings), np.shape(components.weights)
        means, covariances = gaussian.means(components.parts), np.asarray(gaussian.covariances(components.parts))
        covars = covariances.reshape(k, m, *covariances.shape[1:])
        return {
            "weights_": np.array(components.weights),
            "means_": means.reshape(k, m, -1),
            "covars_": np.array(covars[:, 0]) if settings.covariance_type == "tied" else covars,
        }

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From the attributes alone, about an anchor in their middle."""
        own = {name: attributes[name] for name in self.names}
        known = _checked(settings, own, None if shape is None else shape.features)
        gaussian, (k, m, d) = _gaussian(settings), known["means_"].shape
        flat, covariances = known["means_"].reshape(k * m, d), _of_parts(settings, known["covars_"])
        center = flat.mean(axis=0)
        spread = ((flat - center) ** 2).mean(axis=0) + np.mean(gaussian.variances(covariances, k * m, d), axis=0)
        anchored = gaussian.at_anchor(center, gaussian.scale_of(np.sqrt(spread)), k * m)
        return self.with_given(settings, Params(weights=known["weights_"], parts=anchored), own)

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """Parameters with the given weights, means and covariances."""
        parts, gaussian = components.parts, _gaussian(settings)
        known = _checked(settings, given, np.shape(parts.means)[1])
        if "means_" in known:
            parts = gaussian.with_means(parts, known["means_"].reshape(-1, known["means_"].shape[-1]))
        if "covars_" in known:
            parts = gaussian.with_covariances(parts, _of_parts(settings, known["covars_"]))
        return Params(weights=known.get("weights_", components.weights), parts=parts)

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of weights, means and covariances."""
        m = int(settings.n_mix)
        covars = {"full": (k, m, d, d), "diag": (k, m, d), "spherical": (k, m), "tied": (k, d, d)}
        return {"weights_": (k, m), "means_": (k, m, d), "covars_": covars[settings.covariance_type]}

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The last axis of the means."""
        own = {name: attributes[name] for name in self.names}
        return int(_checked(settings, own, None)["means_"].shape[-1])

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Other numbers of states, Gaussians or features."""
        m = int(settings.n_mix)
        if np.shape(components.get("weights", ())) != (k, m) or "parts" not in components:
            return f"the file's weights do not fit {k} states of {m} Gaussians"
        if np.shape(components.parts.means) != (k * m, d):
            return f"the file's means do not fit {k} states of {m} Gaussians in {d} features"
        return ""

    # --- in words ----------------------------------------------------------------------------------------------------

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """Weight and mean of each Gaussian of a state."""
        shown = self.published(settings, components, np.dtype(np.float64))
        return [
            "; ".join(f"{w:.3f} at {in_short(m, 3)}" for w, m in zip(weights, means, strict=True))
            for weights, means in zip(shown["weights_"], shown["means_"], strict=True)
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """Number of Gaussians, covariance type and regularization."""
        return {
            "n_mix": int(settings.n_mix),
            "covariance_type": settings.covariance_type,
            "reg_covar": float(settings.reg_covar),
        }


def _gaussian(settings: Any, fixed: str = "nothing", prior: GaussianPrior | None = None) -> Gaussian:
    """The family of the Gaussians of all states."""
    if settings.covariance_type not in TYPES:
        raise ParameterError(f"covariance_type is {settings.covariance_type!r}; it must be one of {list(TYPES)}")
    regularization, tied = checked_regularization(settings.reg_covar), settings.covariance_type == "tied"
    kind, together = ("full", _n_parts(settings)) if tied else (settings.covariance_type, 1)
    if prior is not None:
        return PriorGaussian(kind, regularization, prior, fixed, together)
    if fixed != "nothing" or together > 1:
        return HeldGaussian(kind, regularization, fixed, together)
    return Gaussian(kind, regularization)


def _n_parts(settings: Any) -> int:
    """M, checked."""
    return MixtureFamily(Gaussian(), settings.n_mix).n_mix


def _gaussian_prior(face: GMMHMMFace, settings: Any, shape: Shape | None) -> GaussianPrior | None:
    """The prior of the Gaussians; None where there is none, or the number of features is still open."""
    if shape is None or settings.covariance_type not in TYPES:
        return None
    sizes = (int(settings.n_components), _n_parts(settings), shape.features)
    priors = (getattr(settings, name) for name in face.priors[1:])
    prior = mixture_prior(settings.covariance_type, sizes, *priors)
    return None if prior.says_nothing else prior


def _weights_prior(settings: Any, shape: Shape | None) -> Array | None:
    if shape is None:
        return None
    sizes = (int(settings.n_components), _n_parts(settings))
    alpha = prior_values(settings.weights_prior, "weights_prior", sizes, least=1.0)
    return alpha if (alpha > 1).any() else None


def _of_parts(settings: Any, covars: Array) -> Array:
    """Covariances of all Gaussians, one after the other."""
    if settings.covariance_type == "tied":
        return np.repeat(covars, int(settings.n_mix), axis=0)
    return covars.reshape(-1, *covars.shape[2:])


def _checked(settings: Any, given: Mapping[str, Any], width: int | None) -> dict[str, Array]:
    """Given attributes in the shapes of the hyperparameters, of so many features if the means do not tell."""
    known = {name: numbers(value, name) for name, value in given.items()}
    k, m = int(settings.n_components), int(settings.n_mix)
    means = known.get("means_")
    d = means.shape[-1] if means is not None and means.ndim == 3 else width or 1
    shapes = GMMHMMFace().shapes(settings, k, d)
    for name, value in known.items():
        if value.shape != shapes[name] or not np.isfinite(value).all():
            raise ParameterError(f"{name} has shape {value.shape}; finite numbers {shapes[name]} are needed")
    sums = known["weights_"].sum(axis=1) if "weights_" in known else np.ones(k)
    if (np.abs(sums - 1) > 1e-6).any() or ("weights_" in known and (known["weights_"] < 0).any()):
        raise ParameterError(f"weights_ must be >= 0 and sum to 1 in every row; they sum to {sums}")
    if "covars_" in known:
        own_covariances(_of_parts(settings, known["covars_"]), _gaussian(settings).covariance_type, k * m)
    return known
