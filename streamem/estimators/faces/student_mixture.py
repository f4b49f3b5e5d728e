"""The face of `StudentTMixture`: the names of `GaussianMixture`, with scale matrices and degrees of freedom."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.core.validation import numbers
from streamem.estimators.faces.covariances import covariances_shape
from streamem.estimators.faces.emissions import checked_regularization
from streamem.estimators.faces.face import Face
from streamem.estimators.given_starts import check_means, check_weights
from streamem.families import StudentT
from streamem.running.fitted import Shape

Array = NDArray[Any]
SHOWN = 8
"""Features of a mean that are told in words."""


class StudentTMixtureFace(Face):
    """means_, scales_ shaped as scikit-learn's covariances, and dofs_."""

    names = ("means_", "scales_", "dofs_")
    title = "mean and degrees of freedom"

    # --- the family --------------------------------------------------------------------------------------------------

    def family(self, settings: Any, shape: Shape | None) -> StudentT:
        """Student-t components of the covariance type."""
        family = StudentT(settings.covariance_type, checked_regularization(settings.reg_covar), settings.dof)
        if not isinstance(family.dof, str) and not np.isfinite(family.dof).all():
            raise ParameterError(f"dof is {settings.dof!r}; dofs_ are finite: 1e8 is a Gaussian to eight digits")
        return family

    def row_products(self, settings: Any, n_features: int) -> int:
        """A product for each number of the statistics."""
        return self.family(settings, None).statistics_bytes(int(settings.n_components), n_features) // 8

    # --- public names ↔ parameters -----------------------------------------------------------------------------------

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """In `dtype` where that holds all of them."""
        family = self.family(settings, None)
        exact = {
            "means_": family.means(components),
            "scales_": family.scales(components),
            "dofs_": np.asarray(components.dofs),
        }
        limits = np.finfo(dtype)
        variances = family.variances(exact["scales_"], *exact["means_"].shape)
        held = limits.tiny <= variances.min() and variances.max() <= limits.max
        shown = dtype if held and np.abs(exact["means_"]).max() <= limits.max else np.dtype(np.float64)
        return {name: value.astype(shown) for name, value in exact.items()}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From means_, scales_ and dofs_, about an anchor in their middle."""
        family = self.family(settings, None)
        weights, means, scales = (
            np.asarray(attributes[name], dtype=np.float64) for name in ("weights_", "means_", "scales_")
        )
        family.factors_of(scales)  # refuses matrices that are none
        center = weights @ means
        spread = weights @ (means - center) ** 2 + np.mean(family.variances(scales, *means.shape), axis=0)
        anchored = family.at_anchor(center, family.scale_of(np.sqrt(spread)), len(means))
        moved = family.with_covariances(family.with_means(anchored, means), scales)
        return family.with_dofs(moved, checked_dofs(attributes["dofs_"], len(means), "dofs_"))

    def with_given(self, settings: Any, components: Params, given: Mapping[str, Any]) -> Params:
        """Parameters with the given means, scale matrices and degrees of freedom."""
        family = self.family(settings, None)
        if "means_" in given:
            components = family.with_means(components, np.asarray(given["means_"], dtype=np.float64))
        if "scales_" in given:
            components = family.with_covariances(components, np.asarray(given["scales_"], dtype=np.float64))
        if "dofs_" in given:
            components = family.with_dofs(components, np.asarray(given["dofs_"], dtype=np.float64))
        return components

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the means, the scale matrices and the degrees of freedom."""
        kind = self.family(settings, None).covariance_type
        return {"means_": (k, d), "scales_": covariances_shape(kind, k, d), "dofs_": (k,)}

    def sizes(self, settings: Any) -> str:
        """The number of components and the covariance type."""
        return f"n_components={settings.n_components}, covariance_type={settings.covariance_type!r}"

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the means."""
        means = np.asarray(attributes["means_"])
        return int(means.shape[-1]) if means.ndim else 0

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Arrays of other shapes than the covariance type needs."""
        shapes = self.family(settings, None).shapes(k, d)
        found = {name: np.shape(value) for name, value in components.items()}
        wrong = [name for name, shape in shapes.items() if found.get(name) != shape]
        return f"the file's {', '.join(wrong)} do not fit {k} components of {d} features" if wrong else ""

    # --- starts ------------------------------------------------------------------------------------------------------

    def given(self, settings: Any) -> dict[str, Any]:
        """means_init, scales_init and dofs_init, where the user passed them."""
        values = {"means_": settings.means_init, "scales_": settings.scales_init, "dofs_": settings.dofs_init}
        return {name: value for name, value in values.items() if value is not None}

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether means and scale matrices are given: degrees of freedom start at 10."""
        return settings.means_init is not None and settings.scales_init is not None

    def check_start(self, settings: Any, n_features: int) -> None:
        """Refuse given weights, means, scale matrices and degrees of freedom that cannot be."""
        k = int(settings.n_components)
        check_weights(settings.weights_init, k)
        check_means(settings.means_init, k, n_features)
        if settings.scales_init is not None:
            _check_scales(self.family(settings, None), settings.scales_init, k, n_features)
        if settings.dofs_init is not None:
            checked_dofs(settings.dofs_init, k, "dofs_init")
            if not isinstance(settings.dof, str):
                raise ParameterError("dof fixes the degrees of freedom: leave dofs_init out, or set dof to 'estimated'")

    def settled(self, settings: Any, components: Params) -> Params:
        """The first parameters as they are; an error where a component has no spread, and nothing gives it any."""
        floored = self.family(settings, None).degenerate(components)["floored"]
        if settings.reg_covar == 0 and settings.scales_init is None and floored:
            raise DegenerateDataError(
                f"components {floored} have a scale matrix without spread at the start. Try to decrease the number of "
                "components, increase reg_covar, or scale the input data; look for constant or duplicated columns"
            )
        return components

    # --- in words ----------------------------------------------------------------------------------------------------

    def kind(self, settings: Any) -> str:
        """The covariance type, and what is done about the degrees of freedom."""
        dof = settings.dof if isinstance(settings.dof, str) else "fixed"
        return f"{settings.covariance_type} scales, {dof} degrees of freedom"

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The first numbers of each mean, and the degrees of freedom."""
        means = self.family(settings, None).means(components)
        more = " …" if means.shape[1] > SHOWN else ""
        return [
            f"{' '.join(f'{value:.6g}' for value in mean[:SHOWN])}{more}; dof {dof:.4g}"
            for mean, dof in zip(means, components.dofs, strict=True)
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """Covariance type, degrees of freedom, regularization, and a checksum of the given start."""
        values = settings.weights_init, settings.means_init, settings.scales_init, settings.dofs_init
        given = [np.asarray(v, dtype=np.float64).tobytes() if v is not None else b"" for v in values]
        family = self.family(settings, None)
        return {
            "covariance_type": family.covariance_type,
            "dof": str(family.dof),
            "reg_covar": family.reg_covar,
            "given start": f"{zlib.crc32(b'|'.join(given)):08x}",
        }


def checked_dofs(values: Any, k: int, name: str) -> Array:
    """Degrees of freedom (K,) > 0.

    Raises
    ------
    ParameterError : another shape, or numbers that are not positive
    """
    array = numbers(values, f"The parameter '{name}'")
    if array.shape != (k,) or not (array > 0).all():
        raise ParameterError(f"The parameter '{name}' should hold {k} numbers > 0, one a component, but is {array}")
    return np.asarray(array, dtype=np.float64)


def _check_scales(family: StudentT, scales: Any, k: int, d: int) -> None:
    """Refuse matrices of another shape, or that are not symmetric and positive definite."""
    array, shape = numbers(scales, "The parameter 'scales_init'"), covariances_shape(family.covariance_type, k, d)
    if array.shape != shape:
        raise ParameterError(f"The parameter 'scales_init' should have the shape of {shape}, but got {array.shape}")
    positive = np.isfinite(array).all()
    if positive and family.covariance_type in ("diag", "spherical"):
        positive = (array > 0).all()
    elif positive:
        matrices = array.reshape(-1, d, d)
        positive = np.allclose(matrices, np.swapaxes(matrices, 1, 2)) and (np.linalg.eigvalsh(matrices) > 0).all()
    if not positive:
        raise ParameterError("The parameter 'scales_init' should be positive, and symmetric where it holds matrices")
