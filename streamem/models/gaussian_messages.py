"""What pieces of a cut Gaussian chain tell each other, and how such messages are joined.

A `Reach` says where a state stands as far as steps before it know: x = B δ + m + N(0, P), where δ is what nobody knows
yet (the state before a piece, or a diffuse start), and of which the steps tell the information J, η. A `Told` is the
information Λ, η that following steps hold about a state. Särkkä & García-Fernández 2021, lemmas 8 and 10.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.boundary import Joining

Array = NDArray[Any]

quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""What overflows is not finite, and an error where it arrives."""

UNKNOWN = 1e-13
"""Share of its information, each direction by its own measure, below which a direction of δ is not told."""


class Told(NamedTuple):
    """Information (k, k) and (k,) about a state."""

    matrix: Array
    vector: Array

    @classmethod
    def nothing(cls, k: int) -> Told:
        """Zeros: information about nothing."""
        return cls(np.zeros((k, k)), np.zeros(k))

    @classmethod
    def unpacked(cls, packed: Array, k: int) -> Told:
        """The inverse of `packed`."""
        return cls(packed[: k * k].reshape(k, k).copy(), packed[k * k :].copy())

    def packed(self) -> Array:
        """All numbers, in one array."""
        return np.concatenate([np.ravel(self.matrix), self.vector])


class Reach(NamedTuple):
    """A state given δ, and what is known of δ; see above.

    Attributes
    ----------
    matrices : (3, k, k) B, P, J
    vectors : (2, k) m, η
    """

    matrices: Array
    vectors: Array

    @classmethod
    def of(cls, b: Array, p: Array, m: Array) -> Reach:
        """A state of which no step has told anything yet."""
        return cls(np.stack([b, p, np.zeros_like(p)]), np.stack([m, np.zeros_like(m)]))

    @classmethod
    def unpacked(cls, packed: Array, k: int) -> Reach:
        """The inverse of `packed`."""
        size = 3 * k * k
        return cls(packed[:size].reshape(3, k, k).copy(), packed[size:].reshape(2, k).copy())

    def packed(self) -> Array:
        """All numbers, in one array."""
        return np.concatenate([np.ravel(self.matrices), np.ravel(self.vectors)])

    @property
    def depends(self) -> bool:
        """Whether the state depends on what nobody knows."""
        return bool(self.matrices[0].any())

    def ahead(self, a: Array, noise: Array) -> Reach:
        """One transition further."""
        b, p, j = self.matrices
        m, eta = self.vectors
        return Reach(np.stack([a @ b, symmetric(a @ p @ a.T + noise), j]), np.stack([a @ m, eta]))

    def then(self, other: Reach) -> Reach:
        """This, and then a piece whose δ is this state."""
        (b, p, j), (m, eta) = self.matrices, self.vectors
        (b2, p2, j2), (m2, eta2) = other.matrices, other.vectors
        one = np.eye(len(m))
        shrunk = np.linalg.solve((one + p @ j2).T, b2.T).T  # B₂(I + P J₂)⁻¹
        back = np.linalg.solve((one + j2 @ p).T, b).T  # Bᵀ(I + J₂ P)⁻¹
        matrices = [shrunk @ b, symmetric(shrunk @ p @ b2.T + p2), symmetric(back @ j2 @ b + j)]
        return Reach(np.stack(matrices), np.stack([shrunk @ (m + p @ eta2) + m2, back @ (eta2 - j2 @ m) + eta]))

    def given(self, told: Told) -> tuple[Array, Array] | None:
        """Mean (k,) and covariance (k, k) of the state given what follows, too; None where that leaves δ open."""
        (b, p, j), (m, eta) = self.matrices, self.vectors
        lam, vector = told
        left = np.linalg.inv(np.eye(len(m)) + p @ lam)  # (I + PΛ)⁻¹
        mean, covariance = left @ (m + p @ vector), left @ p
        if self.depends:
            known = settled(symmetric(j + b.T @ lam @ left @ b), eta + b.T @ left.T @ (vector - lam @ m))
            if known is None:
                return None
            along = left @ b
            mean, covariance = mean + along @ known[0], covariance + along @ known[1] @ along.T
        return mean, symmetric(covariance)

    def resolved(self) -> tuple[Reach, float] | None:
        """The state without δ, and ∫ of what is known of δ in logarithms; None where that is not enough."""
        known = settled(self.matrices[2], self.vectors[1])
        if known is None:
            return None
        mean, covariance, volume, gain = known
        b, p, _ = self.matrices
        m, _ = self.vectors
        return Reach.of(np.zeros_like(b), symmetric(b @ covariance @ b.T + p), m + b @ mean), volume + gain


class Settled(NamedTuple):
    """What s informations J, η amount to: NaN where one is singular.

    Attributes
    ----------
    means, covariances : (s, k), (s, k, k) J⁻¹η, J⁻¹
    volumes : (s,) ½ log |2πJ⁻¹|
    gains : (s,) ½ ηᵀJ⁻¹η
    """

    means: Array
    covariances: Array
    volumes: Array
    gains: Array


@quietly
def settled_all(matrices: Array, vectors: Array) -> Settled:
    """Means and covariances of informations (s, k, k), (s, k)."""
    k = vectors.shape[1]
    size = np.sqrt(np.maximum(np.diagonal(matrices, axis1=1, axis2=2), 0.0))
    possible = (size > 0).all(axis=1) & np.isfinite(matrices).all(axis=(1, 2))
    scaled = np.where(possible[:, None, None], matrices / (size[:, :, None] * size[:, None, :]), np.eye(k))
    values, axes = np.linalg.eigh(scaled)
    values[~possible | ~(values[:, 0] > UNKNOWN * k)] = np.nan
    half = axes / np.sqrt(values)[:, None, :] / size[:, :, None]
    told = np.einsum("sij,si->sj", half, vectors)
    volumes = 0.5 * (k * np.log(2.0 * np.pi) - np.log(values).sum(axis=1)) - np.log(size).sum(axis=1)
    covariances = half @ np.swapaxes(half, 1, 2)
    return Settled(np.einsum("sij,sj->si", half, told), covariances, volumes, 0.5 * np.einsum("sj,sj->s", told, told))


def settled(matrix: Array, vector: Array) -> tuple[Array, Array, float, float] | None:
    """Mean and covariance J⁻¹ of an information, ½ log |2πJ⁻¹|, ½ ηᵀJ⁻¹η; None where a direction is open."""
    mean, covariance, volume, gain = (value[0] for value in settled_all(matrix[None], vector[None]))
    return None if np.isnan(volume) else (mean, covariance, float(volume), float(gain))


class Step(NamedTuple):
    """A transition, given what the state after it and all that follows tell: a slot of `gaussian_information`.

    Attributes
    ----------
    gain : (k, k) M⁻¹Gᵀ
    back : (k, k) M⁻¹GᵀΛA
    forward : (k, k) F
    noise : (k, k) Σ
    volume : log |M|
    told : about the state before
    driven : (k,) M⁻¹Gᵀη
    """

    gain: Array
    back: Array
    forward: Array
    noise: Array
    volume: float
    told: Told
    driven: Array


def step_of(told: Told, a: Array, g: Array) -> Step:
    """The transition into a state about which so much is told."""
    one, (lam, vector) = np.eye(len(a)), told
    b = lam @ g
    m = one + g.T @ b
    y, gain = np.linalg.solve(m, b.T), np.linalg.solve(m, g.T)
    back, forward = y @ a, (one - g @ y) @ a
    before = symmetric(forward.T @ lam @ forward + back.T @ back)
    volume = float(np.linalg.slogdet(m)[1])
    return Step(gain, back, forward, symmetric(g @ gain), volume, Told(before, vector @ forward), gain @ vector)


def symmetric(matrix: Array) -> Array:
    """A matrix that is symmetric but for rounding, and now is."""
    return np.asarray((matrix + np.swapaxes(matrix, -1, -2)) / 2.0)


class GaussianJoining(Joining):
    """Messages of Gaussian chains with k latent dimensions, packed."""

    impossible = (
        "leaves what float64 holds: its state explodes where nothing is observed, or squares of values overflow; "
        "rescale the data, or use a transition_matrix whose powers do not explode"
    )

    def __init__(self, k: int) -> None:
        self._k = k

    def lowered(self, message: Array) -> Array | None:
        """The message as it is, if it is finite."""
        return message if np.isfinite(message).all() else None

    @quietly
    def forwards(self, before: Array, whole: Array) -> Array:
        """The `Reach` at the end of a piece."""
        return Reach.unpacked(before, self._k).then(Reach.unpacked(whole, self._k)).packed()

    @quietly
    def backwards(self, whole: Array, after: Array) -> Array:
        """What a piece and all that follows it tell of the state before."""
        reach, told = Reach.unpacked(whole, self._k), Told.unpacked(after, self._k)
        (b, p, j), (m, eta) = reach
        left = np.linalg.inv(np.eye(self._k) + p @ told.matrix)
        matrix = symmetric(j + b.T @ told.matrix @ left @ b)
        return Told(matrix, eta + b.T @ left.T @ (told.vector - told.matrix @ m)).packed()
