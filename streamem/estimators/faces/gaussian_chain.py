"""The face of `LinearGaussianChain`: matrices of a chain, which the structure shows."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.chain_setup import setup_of
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.models.gaussian_chain import OneStep
from streamem.models.gaussian_setup import LETTERS, chain_faults, shapes_of
from streamem.running.fitted import Shape


class GaussianChainFace(Face):
    """A face without attributes of components: matrices are shown by the structure."""

    names = ()
    title = "matrices"

    def family(self, settings: Any, shape: Shape | None) -> Any:
        """Rows as sequences of one step each."""
        return OneStep(setup_of(settings))

    def row_products(self, settings: Any, n_features: int) -> int:
        """What a step of the recursions costs."""
        k = int(settings.n_latent)
        return k * (4 * k + n_features)

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """An empty mapping: matrices are shown by the structure."""
        return {}

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """d, of the observation matrix."""
        shape = np.shape(attributes["observation_matrix_"])
        return int(shape[0]) if len(shape) == 2 else None

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """Parameters of attributes that were set by hand.

        Raises
        ------
        ParameterError : other shapes than n_latent needs, numbers that are not finite, covariances that are none
        """
        found = {name: np.array(attributes[f"{name}_"], dtype=np.float64) for name in LETTERS}
        d = self.width(settings, attributes)
        if faults := chain_faults(found, self._shapes(settings, d or 0)):
            raise ParameterError("; ".join(f"{fault} (set by hand)" for fault in faults))
        return Params(**found)

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """Shape of every matrix."""
        return {f"{name}_": shape for name, shape in self._shapes(settings, d).items()}

    def sizes(self, settings: Any) -> str:
        """What shapes depend on, in words."""
        return f"n_latent={settings.n_latent}, observation_noise={settings.observation_noise!r} and the columns"

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Why parameters are not of so many latent dimensions and columns, or ""."""
        wrong = [
            f"{name} has shape {np.shape(components.get(name, ()))}, {shape} is needed"
            for name, shape in self._shapes(settings, d).items()
            if np.shape(components.get(name, ())) != shape
        ]
        return "; ".join(wrong)

    @staticmethod
    def _shapes(settings: Any, d: int) -> dict[str, tuple[int, ...]]:
        return shapes_of(int(settings.n_latent), d, (d, d) if settings.observation_noise == "full" else (d,))

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The name, the shape and the first numbers of each matrix."""
        return [
            f"{name} {'×'.join(map(str, np.shape(value)))}: {in_short(np.asarray(value))}"
            for name, value in components.items()
        ]

    def kind(self, settings: Any) -> str:
        """The start and the noise."""
        start = "diffuse start, " if settings.diffuse else ""
        return f"{start}{settings.transition_noise} noise of states, {settings.observation_noise} of observations"

    def key(self, settings: Any) -> dict[str, Any]:
        """Hyperparameters, and a checksum of what is given."""
        setup = setup_of(settings)
        held = b"|".join(name.encode() + own.tobytes() for name, own in sorted(setup.given.items()))
        return {
            "n_latent": setup.n_latent,
            "updates": "".join(sorted(LETTERS[name] for name in setup.updates)),
            "diffuse": setup.diffuse,
            "noise": f"{setup.state_noise}, {setup.observation_noise}",
            "given": f"{zlib.crc32(held):08x}",
        }
