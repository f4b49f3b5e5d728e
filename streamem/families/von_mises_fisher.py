"""Directions: rows that are unit vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.extrapolation import MOST_FALL, shrunk
from streamem.core.faults import flags, missing, within
from streamem.core.free_form import FreeForm
from streamem.core.stats import Stats
from streamem.families.linear_family import Coefficients, LinearFamily, first_means
from streamem.families.resultants import concentration, log_bessel
from streamem.families.shape_bounds import MOST

Array = NDArray[Any]

TOLERANCE = 1e-4
"""How far the square of a row's length may be off 1: float32, or the mean of rounded values."""

NO_MEASURE = np.zeros(1)


class VonMisesFisher(LinearFamily):
    """Unit vectors x of d ≥ 2 dimensions: log p(x) = κ μ·x + (d/2 − 1) log κ − (d/2) log 2π − log I_{d/2−1}(κ).

    SciPy's `vonmises_fisher` with ``mu`` and ``kappa``.

    Notes
    -----
    Parameters: directions μ (K, d), kappas κ (K,). M-step (Banerjee et al. 2005, §3): μ is the direction of the mean
    vector, and κ solves I_{d/2}(κ)/I_{d/2−1}(κ) = its length, by safeguarded Newton steps (Sra 2012). κ ends at 2²⁶,
    the maximizer under that bound ("floored"). A component without rows keeps its parameters. A vector of which a part
    was not observed has no density in closed form, so there is no form for missing values.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import VonMisesFisher
    >>> p = Params(directions=[[0.0, 0.0, 1.0]], kappas=[2.0])
    >>> VonMisesFisher().log_prob(p, np.array([[0.0, 0.6, 0.8]])).round(4)
    array([[-1.5262]])
    """

    name, parameter_names = "directions", ("directions", "kappas")

    def integrating(self) -> Self:
        """Refuse: a part of a unit vector has no density in closed form.

        Raises
        ------
        ParameterError : always
        """
        raise ParameterError(
            "VonMisesFisher knows no missing values, because a part of a unit vector has no density in closed form: "
            'leave missing="error" and drop such rows'
        )

    def counted(self, n_features: int) -> Array:
        """Refuse: densities are those on a sphere.

        Raises
        ------
        ParameterError : always
        """
        raise ParameterError(
            "VonMisesFisher has no noise beside it: its densities are those on a sphere, and noise has one over the "
            "box of the data. Fit without noise; a component of small kappa is a nearly constant density"
        )

    def measure(self, x: Array) -> Array:
        """Zero for every row, after a check of all lengths.

        Raises
        ------
        ImpossibleValueError : a row whose length is not 1; the largest value of that row
        """
        squares = np.einsum("nd,nd->n", x, x, dtype=np.float64)
        wrong = np.abs(squares - 1.0) > TOLERANCE
        if wrong.any():
            row = int(np.argmax(wrong))
            column = int(np.argmax(np.abs(x[row])))
            raise ImpossibleValueError(
                float(x[row, column]),
                column,
                f"von Mises–Fisher rows have the length 1, and this one has {squares[row] ** 0.5:.6g}: "
                "divide each row by its length (sklearn.preprocessing.normalize), and leave out rows of zeros",
            )
        return NO_MEASURE

    def coefficients(self, params: Params) -> Coefficients:
        """κμ, and the normalizing constant, which belongs to the row, beside the first column."""
        directions, kappas = np.asarray(params.directions), np.asarray(params.kappas)
        nu = 0.5 * directions.shape[1] - 1.0
        constant = nu * np.log(kappas) - (nu + 1.0) * np.log(2 * np.pi) - log_bessel(kappas, nu) - kappas
        constants, nothing = np.zeros_like(directions), np.zeros_like(directions)
        constants[:, 0] = constant
        slopes = kappas[:, None] * directions
        return Coefficients(constants, slopes, np.abs(constant) + 2 * kappas, nothing, nothing)

    def mean(self, params: Params) -> Array:
        """μ (K, d)."""
        return np.asarray(params.directions)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Mean vectors that lack at least 1/16 of what they lacked to the length 1."""
        filled = valid.weight > 0
        most = 1.0 - (1.0 - _lengths(valid, filled)) / MOST_FALL

        def possible(found: Stats) -> NDArray[np.bool_]:
            return ~filled | (_lengths(found, filled) < most)

        return shrunk(stats, valid, (stats.weight, valid.weight), possible)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Direction and length of the mean vectors."""
        known = self.means(stats)
        means, d = known.means, np.shape(stats.x)[1]
        if previous is None:
            overall = stats.x.sum(axis=0) / stats.weight.sum()
            means = first_means(np.where(known.empty[:, None], overall, means), overall)
            before = np.zeros_like(means)
            before[:, 0] = 1.0
        else:
            before = np.asarray(previous.directions)
        length = np.linalg.norm(means, axis=1)
        directions = np.where(length[:, None] > 0, means / np.where(length > 0, length, 1.0)[:, None], before)
        kappas = concentration(length, d)
        floored = (kappas >= 0.999 * MOST) & ~known.empty
        if previous is not None:
            directions = np.where(known.empty[:, None], before, directions)
            kappas = np.where(known.empty, previous.kappas, kappas)
        return Params(directions=directions, kappas=kappas, empty=known.empty, floored=floored)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """κμ (K, d): direction and length are free together, where directions alone have the length 1."""
        return FreeForm({"kappas * directions": np.asarray(params.kappas)[:, None] * np.asarray(params.directions)})

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """Lengths and directions of the vectors."""
        (vectors,) = values.values()
        kappas = np.linalg.norm(vectors, axis=1)
        return params.replace(directions=vectors / kappas[:, None], kappas=kappas)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components without rows, which kept their parameters, and those whose κ a bound stopped ("floored")."""
        return {kind: np.flatnonzero(params.get(kind, False)).tolist() for kind in ("empty", "floored")}

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Directions that are no unit vectors, and concentrations that are none."""
        if found := missing(params, ("directions", "kappas", "empty", "floored")):
            return found
        shape = (n_components, n_features)
        found = within("directions", params.directions, shape, -1.0 - TOLERANCE, 1.0 + TOLERANCE)
        if not found and (np.abs(np.square(params.directions).sum(axis=1) - 1.0) > TOLERANCE).any():
            found = ["directions holds vectors whose length is not 1"]
        found += within("kappas", params.kappas, shape[:1], 0.0, 2 * MOST)
        return found + [fault for name in ("empty", "floored") for fault in flags(name, params[name], shape[:1])]

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Unit vectors (count, d) that a component emits."""
        direction = np.asarray(params.directions[component])
        along = _along(float(params.kappas[component]), len(direction), count, rng)
        across = rng.standard_normal((count, len(direction)))
        across -= np.outer(across @ direction, direction)
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        return np.asarray(along[:, None] * direction + np.sqrt(1.0 - along**2)[:, None] * across)

    def free_parameters(self, params: Params) -> int:
        """d − 1 numbers of a direction, and κ."""
        return int(np.size(params.directions))


def _lengths(stats: Stats, filled: NDArray[np.bool_]) -> Array:
    """Lengths of mean vectors (K,)."""
    return np.asarray(np.linalg.norm(stats.x, axis=1) / np.where(filled, stats.weight, 1.0))


def _along(kappa: float, d: int, count: int, rng: np.random.RandomState) -> Array:
    """Components of unit vectors in the mean direction (count,), by rejection (Wood 1994, algorithm VM*)."""
    b = (d - 1.0) / (2.0 * kappa + np.sqrt(4.0 * kappa**2 + (d - 1.0) ** 2))
    x = (1.0 - b) / (1.0 + b)
    most = kappa * x + (d - 1.0) * np.log1p(-(x**2))
    out, left = np.empty(count), np.arange(count)
    while len(left):
        z = rng.beta(0.5 * (d - 1.0), 0.5 * (d - 1.0), size=len(left))
        w = (1.0 - (1.0 + b) * z) / (1.0 - (1.0 - b) * z)
        fine = kappa * w + (d - 1.0) * np.log1p(-x * w) - most >= np.log(rng.uniform(size=len(left)))
        out[left[fine]] = w[fine]
        left = left[~fine]
    return out
