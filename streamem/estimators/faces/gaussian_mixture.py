"""The face of `GaussianMixture`: scikit-learn's names for Gaussian components."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.estimators.faces.face import Face
from streamem.estimators.given_starts import check_means, check_precisions, check_weights, precisions_to_covariances
from streamem.families import Gaussian, NormalWishart
from streamem.running.fitted import Shape

Array = NDArray[Any]
SHOWN = 8
"""Features of a mean that are told in words."""


class GaussianMixtureFace(Face):
    """means_, covariances_, precisions_, precisions_cholesky_ as scikit-learn shapes them."""

    names = ("means_", "precisions_cholesky_")
    priors = ("mean_prior", "mean_precision_prior", "covariance_prior", "degrees_of_freedom_prior")
    title = "mean"

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> Gaussian:
        """Gaussian components of the covariance type."""
        if isinstance(settings.reg_covar, bool) or not isinstance(settings.reg_covar, int | float | np.number):
            raise ParameterError(f"reg_covar is {settings.reg_covar!r}; it must be a number >= 0")
        given = {name: value for name in self.priors if (value := getattr(settings, name)) is not None}
        if not given:
            return Gaussian(settings.covariance_type, float(settings.reg_covar))
        return NormalWishart(settings.covariance_type, float(settings.reg_covar), **given)

    def row_products(self, settings: Any, n_features: int) -> int:
        """A product for each number of the statistics."""
        return self.family(settings, None).statistics_bytes(int(settings.n_components), n_features) // 8

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """In `dtype` where that holds all of them: squares of data that float32 holds may leave it."""
        family = self.family(settings, None)
        exact = {
            "means_": family.means(components),
            "covariances_": family.covariances(components),
            "precisions_": family.precisions(components),
            "precisions_cholesky_": family.precisions_cholesky(components),
        }
        shown = dtype if _holds(family, dtype, exact) else np.dtype(np.float64)
        return {name: np.asarray(value).astype(shown) for name, value in exact.items()}

    def completed(self, settings: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes with factors of the precisions that were set, or of the inverses of the covariances."""
        known = dict(attributes)
        if "precisions_cholesky_" in known or not {"covariances_", "precisions_"} & known.keys():
            return known
        if "precisions_" in known:
            precisions = np.asarray(known["precisions_"], dtype=np.float64)
            covariances = precisions_to_covariances(settings.covariance_type, precisions)
        else:
            covariances = np.asarray(known["covariances_"], dtype=np.float64)
        return {**known, "precisions_cholesky_": self.family(settings, None).factors_of(covariances)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From means_ and precisions_cholesky_ alone, as scikit-learn predicts; about an anchor in their middle."""
        family = self.family(settings, None)
        weights, means, factor = (
            np.asarray(attributes[name], dtype=np.float64) for name in ("weights_", "means_", "precisions_cholesky_")
        )
        matrices = settings.covariance_type in ("full", "tied")
        precisions = factor @ np.swapaxes(factor, -1, -2) if matrices else factor**2
        covariances = precisions_to_covariances(settings.covariance_type, precisions)
        center = weights @ means
        spread = weights @ (means - center) ** 2 + np.mean(family.variances(covariances, *means.shape), axis=0)
        components = family.at_anchor(center, family.scale_of(np.sqrt(spread)), len(means))
        return family.with_covariances(family.with_means(components, means), covariances)

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """Parameters with the given means and precisions."""
        family = self.family(settings, None)
        if "means_" in given:
            components = family.with_means(components, np.asarray(given["means_"], dtype=np.float64))
        if "precisions_" in given:
            precisions = np.asarray(given["precisions_"], dtype=np.float64)
            covariances = precisions_to_covariances(settings.covariance_type, precisions)
            components = family.with_covariances(components, covariances)
        return components

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the means and of the factors of the precisions."""
        kinds = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}
        kind = self.family(settings, None).covariance_type
        return {"means_": (k, d), "precisions_cholesky_": kinds[kind]}

    def sizes(self, settings: Any) -> str:
        """The number of components and the covariance type."""
        return f"n_components={settings.n_components}, covariance_type={settings.covariance_type!r}"

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the means."""
        means = np.asarray(attributes["means_"])
        return int(means.shape[-1]) if means.ndim else 0

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Arrays of other shapes than the covariance type needs."""
        if np.shape(components.get("means", ())) != (k, d):
            return f"the file's means do not fit {k} components of {d} features"
        shapes = self.family(settings, None).shapes(k, d)
        found = {name: np.shape(value) for name, value in components.items()}
        wrong = [name for name, shape in shapes.items() if found.get(name) != shape]
        return f"the file's {', '.join(wrong)} do not fit {k} components of {d} features" if wrong else ""

    # --- starts ------------------------------------------------------------------------------------------------------

    def given(self, settings: Any) -> dict[str, Any]:
        """means_init and precisions_init, where the user passed them."""
        values = {"means_": settings.means_init, "precisions_": settings.precisions_init}
        return {name: value for name, value in values.items() if value is not None}

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether both are given."""
        return len(self.given(settings)) == 2

    def check_start(self, settings: Any, n_features: int) -> None:
        """scikit-learn's checks of given weights, means and precisions."""
        check_weights(settings.weights_init, settings.n_components)
        check_means(settings.means_init, settings.n_components, n_features)
        check_precisions(settings.precisions_init, settings.covariance_type, settings.n_components, n_features)

    def settled(self, settings: Any, components: Params) -> Params:
        """The first parameters as they are; an error where a component has no spread, and nothing gives it any."""
        floored = self.family(settings, None).degenerate(components)["floored"]
        if settings.reg_covar == 0 and settings.precisions_init is None and floored:
            raise DegenerateDataError(
                "Fitting the mixture model failed because some components have ill-defined empirical covariance (for "
                "instance caused by singleton or collapsed samples). Try to decrease the number of components, "
                f"increase reg_covar, or scale the input data. Components without spread at the start: {floored}; "
                "look for constant or duplicated columns"
            )
        return components

    # --- rows --------------------------------------------------------------------------------------------------------

    def draw(
        self,
        settings: Any,
        family: Any,
        components: Params,
        attributes: Mapping[str, Any],
        component: int,
        count: int,
        rng: np.random.RandomState,
    ) -> Array:
        """From means_ and covariances_ where there are such, as scikit-learn draws; else from the parameters."""
        if "covariances_" not in attributes:
            return np.asarray(family.draw(components, component, count, rng))
        mean, covariances = np.asarray(attributes["means_"])[component], np.asarray(attributes["covariances_"])
        if settings.covariance_type in ("full", "tied"):
            own = covariances if settings.covariance_type == "tied" else covariances[component]
            return np.asarray(rng.multivariate_normal(mean, own, count))
        noise = rng.standard_normal(size=(count, len(mean)))
        return np.asarray(mean + noise * np.sqrt(covariances[component]))

    # --- in words ----------------------------------------------------------------------------------------------------

    def kind(self, settings: Any) -> str:
        """The covariance type."""
        return f"{settings.covariance_type} covariance"

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The first numbers of each mean."""
        means = self.family(settings, None).means(components)
        more = " …" if means.shape[1] > SHOWN else ""
        return [f"{' '.join(f'{value:.6g}' for value in mean[:SHOWN])}{more}" for mean in means]

    def key(self, settings: Any) -> dict[str, Any]:
        """Covariance type, regularization, and a checksum of the given start."""
        values = settings.weights_init, settings.means_init, settings.precisions_init
        given = [np.asarray(v, dtype=np.float64).tobytes() if v is not None else b"" for v in values]
        prior = getattr(self.family(settings, None), "identity", None)
        return {
            **({} if prior is None else {"priors": prior}),
            "covariance_type": settings.covariance_type,
            "reg_covar": float(settings.reg_covar),
            "given start": f"{zlib.crc32(b'|'.join(given)):08x}",
        }


def _holds(family: Gaussian, dtype: np.dtype[Any], exact: Mapping[str, Array]) -> bool:
    """Whether attributes stay finite and positive in `dtype`."""
    shape, limits = exact["means_"].shape, np.finfo(dtype)
    if dtype == np.float64 or not np.abs(exact["means_"]).max() <= limits.max:
        return bool(dtype == np.float64)
    squares = [family.variances(exact[name], *shape) for name in ("covariances_", "precisions_")]
    factors = family.variances(exact["precisions_cholesky_"], *shape)
    return all(limits.tiny <= values.min() and values.max() <= limits.max for values in (*squares, factors))
