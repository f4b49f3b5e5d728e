"""The face of `MixtureOfFactorAnalyzers`: means, loadings and noise of every component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.emissions import checked_regularization
from streamem.estimators.faces.face import Face
from streamem.estimators.faces.factors import shown_as, turned, wrong_shapes
from streamem.estimators.in_words import in_short
from streamem.families import FactorGaussian
from streamem.families.factors.posterior import noise_of
from streamem.running.fitted import Shape

Array = NDArray[Any]
SHOWN = 8
"""Features of a mean that are told in words."""


class FactorMixtureFace(Face):
    """means_ (K, d), components_ (K, q, d) and noise_variance_, (K, d) or (K,)."""

    names = ("means_", "components_", "noise_variance_")
    title = "mean"

    def family(self, settings: Any, shape: Shape | None) -> FactorGaussian:
        """Factors as many as asked for."""
        return FactorGaussian(settings.n_factors, settings.factor_noise, checked_regularization(settings.reg_covar))

    def n_factors(self, settings: Any, n_features: int) -> int:
        """q."""
        return int(settings.n_factors)

    def row_products(self, settings: Any, n_features: int) -> int:
        """Two products with each loading, two with each column, of every component."""
        return int(settings.n_components) * n_features * (2 + 2 * int(settings.n_factors))

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """In units of the data, factors in canonical rotation."""
        family, own = self.family(settings, None), turned(components)
        exact = {
            "means_": family.means(own),
            "components_": np.swapaxes(family.loadings(own), 1, 2),
            "noise_variance_": family.noise_variances(own),
        }
        return shown_as(dtype, exact)

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From means_, components_ and noise_variance_, about an anchor in their middle.

        Raises
        ------
        ParameterError : other shapes, values that are not finite, or variances that are not > 0
        """
        family, k = self.family(settings, shape), int(settings.n_components)
        found = {name: np.asarray(numbers(attributes[name], name), dtype=np.float64) for name in self.names}
        width = self.width(settings, found) or 0
        for name, needed in self.shapes(settings, k, width).items():
            if found[name].shape != needed or not np.isfinite(found[name]).all():
                raise ParameterError(f"{name} has shape {found[name].shape}; finite numbers {needed} are needed")
        means, components, noise = found.values()
        if not (noise > 0).all():
            raise ParameterError(f"noise_variance_ holds {noise.min():.6g}; variances > 0 are needed")
        return family.at_values(means, np.swapaxes(components, 1, 2), noise)

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the means, the loadings and the noise."""
        noise = (k,) if settings.factor_noise == "isotropic" else (k, d)
        return {"means_": (k, d), "components_": (k, int(settings.n_factors), d), "noise_variance_": noise}

    def sizes(self, settings: Any) -> str:
        """The number of components, of factors, and the noise."""
        return (
            f"n_components={settings.n_components}, n_factors={settings.n_factors}, "
            f"factor_noise={settings.factor_noise!r}"
        )

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the means."""
        means = np.asarray(attributes["means_"])
        return int(means.shape[-1]) if means.ndim else 0

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Parameters of other shapes."""
        return wrong_shapes(self.family(settings, None), components, k, d)

    # --- starts ------------------------------------------------------------------------------------------------------

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse more factors than columns can tell."""
        self.family(settings, None).check(n_features)

    def settled(self, settings: Any, components: Params) -> Params:
        """The first parameters as they are; an error where a component has no spread, and nothing gives it any."""
        floored = self.family(settings, None).degenerate(components)["floored"]
        if settings.reg_covar == 0 and floored:
            raise DegenerateDataError(
                f"components {floored} have columns without noise at the start. Try to decrease the number of "
                "components or factors, or increase reg_covar; look for constant or duplicated columns"
            )
        return components

    # --- in words ----------------------------------------------------------------------------------------------------

    def kind(self, settings: Any) -> str:
        """How many factors, and which noise."""
        many = "s" if int(settings.n_factors) > 1 else ""
        return f"{settings.n_factors} factor{many} each, {settings.factor_noise} noise"

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The first numbers of each mean, and what share of its variance factors explain."""
        family = self.family(settings, None)
        explained = (family.loadings(components) ** 2).sum(axis=(1, 2))
        every = explained + (noise_of(components) * components.scale**2).sum(axis=1)
        return [
            f"{in_short(mean, SHOWN)}; factors explain {share:.1%}"
            for mean, share in zip(family.means(components), explained / every, strict=True)
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """Factors, noise and regularization."""
        family = self.family(settings, None)
        return {"n_factors": family.n_factors, "factor_noise": family.noise, "reg_covar": family.reg_covar}
