"""From information to the covariance of estimates, and what stands in the way, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.running.uncertainty.information import Asked, Information

Array = NDArray[Any]

METHODS = ("observed", "opg", "sandwich")
LEAST_INFORMATION = 1e-7
"""Share of what known components would tell, below which a direction is not identified: differences are no finer."""
LEAST_PRODUCT = 1e-11
NAMED = 8
"""Parameters that a message names at most."""
FAR = 0.1
"""Standard errors that the maximum may be away."""


def asked_of(method: str) -> Asked:
    """What a method needs.

    Raises
    ------
    ParameterError : another name
    """
    if method not in METHODS:
        raise ParameterError(f"method is {method!r}; it must be one of {list(METHODS)}")
    return Asked(method in ("observed", "sandwich"), method in ("opg", "sandwich"))


@dataclass(frozen=True, eq=False)
class Inference:
    """The covariance of p free numbers.

    Attributes
    ----------
    covariance : (p, p), within the identified directions
    unidentified : (r, p) directions of which the data tell nothing, in units of each number's own scale
    scale : (p,) these units
    problems : sentences for people
    """

    covariance: Array
    unidentified: Array
    scale: Array
    problems: tuple[str, ...]

    def touches(self, jacobian: Array) -> Array:
        """(m,) which functions of the free numbers, with these derivatives (m, p), depend on what is not identified."""
        scaled = jacobian * self.scale
        moved = np.abs(scaled @ self.unidentified.T).max(axis=1, initial=0.0)
        return np.asarray(moved > 1e-6 * np.abs(scaled).sum(axis=1))


def inferred(information: Information, method: str) -> Inference:
    """The covariance of the estimates: the inverse of the observed information, of the outer products, or both.

    Raises
    ------
    ParameterError : fewer scores than free numbers, for ``method="opg"``
    """
    p = len(information.names)
    if method == "opg" and information.units < p:
        raise ParameterError(
            f'method="opg" needs at least as many rows (or sequences, groups) as free parameters, and there are '
            f'{information.units} for {p} parameters; use method="observed"'
        )
    problems = _held(information)
    if method == "opg":
        assert information.products is not None
        matrix, scale, least = information.products, _scale_of(information.products), LEAST_PRODUCT
    else:
        assert information.observed is not None
        assert information.complete is not None
        matrix, scale, least = information.observed, _scale_of(information.complete), LEAST_INFORMATION
    inverse, lost = _inverse(matrix, scale, least)
    problems += _unidentified(lost, information.names)
    covariance = inverse
    if method == "sandwich":
        assert information.products is not None
        covariance = inverse @ information.products @ inverse
    problems += _not_at_maximum(information, inverse)
    return Inference((covariance + covariance.T) / 2.0, lost, scale, tuple(problems))


def _scale_of(matrix: Array) -> Array:
    """(p,) one over the root of the diagonal; 1 where nothing is known."""
    own = np.diagonal(matrix)
    known = np.isfinite(own) & (own > 0)
    return np.where(known, 1.0 / np.sqrt(np.where(known, own, 1.0)), 1.0)


def _inverse(matrix: Array, scale: Array, least: float) -> tuple[Array, Array]:
    """The inverse within the identified directions, and the others (r, p) in scaled units."""
    if not len(matrix):
        return matrix, matrix
    scaled = matrix * scale[:, None] * scale
    broken = ~np.isfinite(scaled).all(axis=1)
    scaled = np.where(broken[:, None] | broken, 0.0, scaled)
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2.0)
    lost = values < least
    kept = vectors[:, ~lost]
    inverse = (kept / values[~lost]) @ kept.T
    return inverse * scale[:, None] * scale, vectors[:, lost].T


def _held(information: Information) -> list[str]:
    """What was left out before the pass."""
    found, prepared = list(information.prepared.problems), information.prepared
    own, common = prepared.coordinates.element_names()
    at_zero = [own[k][j] for k, j in np.argwhere(prepared.at_zero)]
    at_zero += [common[j] for _, j in np.argwhere(prepared.at_zero_shared)]
    at_zero += [information.ties.names[i] for i in np.flatnonzero(information.ties.at_zero)]
    if at_zero:
        found.append(
            f"at 0, the boundary, where estimates have no normal distribution: {_listed(at_zero)}; these have no "
            "standard error, and those of the others hold as if these were known"
        )
    return found


def _unidentified(lost: Array, names: Sequence[str]) -> list[str]:
    """Parameters that directions without information involve."""
    if not len(lost):
        return []
    involved = (np.abs(lost) > 0.1 * np.abs(lost).max(axis=1, keepdims=True)).any(axis=0)
    return [
        f"the information is singular: the data do not tell {_listed(names, involved)}, or the fit is no maximum in "
        "their directions; they have no standard errors. Fit fewer components, fix some of these, or go on fitting "
        "with a smaller tol"
    ]


def _not_at_maximum(information: Information, inverse: Array) -> list[str]:
    """Parameters from which a Newton step would lead far."""
    error = np.sqrt(np.maximum(np.diagonal(inverse), 0.0))
    shift = np.abs(inverse @ information.score)
    far = shift > FAR * np.where(error > 0, error, np.inf)
    if not far.any():
        return []
    worst = float((shift[far] / error[far]).max())
    return [
        f"the log-likelihood of these data has its maximum elsewhere, up to {worst:.2g} standard errors away in "
        f"{_listed(information.names, far)}: the fit has not converged (lower tol, raise "
        "the number of iterations), it had a prior, or it was fitted to other data"
    ]


def _listed(names: Sequence[str], which: Array | None = None) -> str:
    if which is not None:
        names = [name for name, own in zip(names, which, strict=True) if own]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
