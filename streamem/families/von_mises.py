"""Independent angles."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e

from streamem.core.arrays import Params
from streamem.families.exponential_family import Bounds, ExponentialFamily
from streamem.families.resultants import concentration
from streamem.families.shape_bounds import MOST

Array = NDArray[Any]


class VonMises(ExponentialFamily):
    """d independent angles in radians: log p(x) = Σ_j κ_j cos(x_j − μ_j) − log(2π I₀(κ_j)).

    SciPy's `vonmises` with ``kappa`` κ and ``loc`` μ; angles may be given in any turn.

    Notes
    -----
    Parameters: locations μ, in −π … π, and kappas κ (K, d). M-step (Mardia & Jupp 2000, §5.3.1): μ is the direction of
    the mean of (cos x, sin x), and κ solves I₁(κ)/I₀(κ) = its length, by safeguarded Newton steps from the
    approximation of Best & Fisher (1981). κ ends at 2²⁶, the maximizer under that bound ("floored"). A component
    without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import VonMises
    >>> VonMises().log_prob(Params(locations=[[1.0]], kappas=[[2.0]]), np.array([[1.5]])).round(4)
    array([[-0.9067]])
    """

    features = ("cos x", "sin x")
    bounds: ClassVar[Bounds] = {"locations": (-np.inf, np.inf), "kappas": (0.0, 2 * MOST)}

    def natural(self, params: Params) -> Array:
        """κ (cos μ, sin μ) (K, d, 2)."""
        turned = np.stack([np.cos(params.locations), np.sin(params.locations)], axis=-1)
        return np.asarray(params.kappas)[..., None] * turned

    def log_partition(self, params: Params) -> Array:
        """log(2π I₀(κ)) (K, d)."""
        return np.asarray(np.log(2 * np.pi * i0e(params.kappas)) + params.kappas)

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """Direction and length of the mean vector."""
        kappas = concentration(np.hypot(means[..., 0], means[..., 1]), 2)
        locations = np.arctan2(means[..., 1], means[..., 0])
        return Params(locations=locations, kappas=kappas, floored=kappas >= 0.999 * MOST)

    held_alone, tied_alone = ("locations", "kappas"), ("kappas",)

    def beside(self, means: Array, overall: Array, previous: Params, names: frozenset[str]) -> Params:
        """The direction for fixed κ; κ from the mean vector's length along fixed directions."""
        if "kappas" in names:
            return Params(locations=np.arctan2(means[..., 1], means[..., 0]), kappas=previous.kappas)
        along = means[..., 0] * np.cos(previous.locations) + means[..., 1] * np.sin(previous.locations)
        kappas = concentration(np.maximum(along, 0.0), 2)
        return Params(locations=previous.locations, kappas=kappas, floored=kappas >= 0.999 * MOST)

    def alike(self, means: Array, shares: Array) -> Array:
        """Mean vectors of one length, the mean of all lengths."""
        length, angle = np.hypot(means[..., 0], means[..., 1]), np.arctan2(means[..., 1], means[..., 0])
        common = (shares * length).sum(axis=0)
        return np.stack([common * np.cos(angle), common * np.sin(angle)], axis=-1)

    def mean(self, params: Params) -> Array:
        """The direction μ (K, d)."""
        return np.asarray(params.locations)

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Rows with mean directions, of the mixture by resp (n, K), instead of NaN: angles have no other means."""
        lengths = np.exp(np.log(np.maximum(params.kappas, 1e-300)) - np.log(1.0 + np.asarray(params.kappas)))
        east, north = (resp @ (lengths * turn(params.locations)) for turn in (np.cos, np.sin))
        return np.where(np.isnan(x), np.arctan2(north, east), x)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Angles (count, d) that a component emits."""
        locations, kappas = (np.asarray(params[name][component]) for name in ("locations", "kappas"))
        return np.asarray(rng.vonmises(locations, kappas, size=(count, len(kappas))))
