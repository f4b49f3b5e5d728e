"""`Diagnosis`: how fast EM converges at a fit, which components the data do not tell apart, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import known_of
from streamem.running.fitted import Fitted
from streamem.running.uncertainty import Information, inferred

Array = NDArray[Any]

TWIN, CLOSE = 0.95, 0.5
"""Cosines of the responsibilities of two components: from here they are one, or hard to tell apart."""
SLOW = 0.9
"""Rate of convergence from which plain EM takes more than 20 passes for a digit."""
LEAST = 1e-12
"""Information, of the largest, that is none."""
NAMED = 0.5
"""Share of the largest part in the slowest direction from which a parameter is named."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the data say about a fit; ``print(diagnosis)`` shows it.

    Attributes
    ----------
    rate : largest eigenvalue of the EM map at the fit, by which the distance from the maximum shrinks in each pass
        (Dempster, Laird & Rubin 1977, §3): the largest share of information that is missing. 1 or more is no maximum.
    passes_per_digit : passes of plain EM that divide that distance by ten
    slowest : names of the free parameters in the direction that converges slowest
    similarity : (K, K) cosines of the responsibilities of components; 1 is the same component twice
    advice : sentences that say what to do
    """

    rate: float
    passes_per_digit: float
    slowest: tuple[str, ...]
    similarity: Array
    advice: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"EM converges by a factor of {self.rate:.6g} a pass: {self.passes_per_digit:.3g} passes a digit",
            f"slowest in {', '.join(self.slowest) or 'nothing'}",
            *(self.advice or ("nothing stands out",)),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def describe(self) -> str:
        """What ``print`` shows."""
        return str(self)


def diagnosis_of(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, executor: Any) -> Diagnosis:
    """The diagnosis of what is fitted, from the pass of its standard errors."""
    known = known_of(settings, fitted, x, arguments, "observed", executor)
    information = known.information
    rate, slowest = _slowest(information)
    similarity = _similarity(information.overlap)
    noun = str(settings.structure.noun)
    advice = [*inferred(information, "observed").problems, *_pairs(similarity, noun), *_small(information, noun)]
    if hidden := getattr(known.model.family, "hides", ""):
        advice.append(
            f"the factor counts what is hidden of components alone: {hidden} are hidden too, and EM is slower by what "
            "they hold; report_ tells how many passes it took"
        )
    passes = -np.log(10.0) / np.log(rate) if 0 < rate < 1 else (0.0 if rate <= 0 else np.inf)
    if SLOW < rate < 1:
        advice.append(
            f"plain EM is slow here ({passes:.3g} passes a digit), and a tolerance that stops it stops far from the "
            'maximum: fit with algorithm="squarem"'
        )
    return Diagnosis(rate, float(passes), slowest, similarity, tuple(advice))


def _slowest(information: Information) -> tuple[float, tuple[str, ...]]:
    """The largest eigenvalue of 1 − I_complete⁻¹ I_observed, and the names in its direction."""
    complete, observed = information.complete, information.observed
    if complete is None or observed is None or not (np.diagonal(complete) > 0).any():
        return 0.0, ()
    known = np.flatnonzero(np.diagonal(complete) > 0)
    complete, observed = complete[np.ix_(known, known)], observed[np.ix_(known, known)]
    scale = 1.0 / np.sqrt(np.diagonal(complete))
    values, vectors = np.linalg.eigh(complete * scale[:, None] * scale)
    kept = values > LEAST
    root = vectors[:, kept] / np.sqrt(values[kept])
    missing, directions = np.linalg.eigh(np.eye(int(kept.sum())) - root.T @ (observed * scale[:, None] * scale) @ root)
    direction = np.abs(root @ directions[:, -1])
    named = direction >= NAMED * direction.max()
    return float(missing[-1]), tuple(information.names[i] for i in known[named].tolist())


def _similarity(overlap: Array) -> Array:
    size = np.sqrt(np.maximum(np.diagonal(overlap), np.finfo(np.float64).tiny))
    return np.asarray(overlap / size[:, None] / size)


def _pairs(similarity: Array, noun: str) -> list[str]:
    """Advice about components that share their rows."""
    found = []
    for k, other in np.argwhere(np.triu(similarity > CLOSE, 1)).tolist():
        cosine = similarity[k, other]
        if cosine > TWIN:
            found.append(
                f"{noun}s {k} and {other} are twins, with responsibilities alike to {cosine:.1%}: one would do; fit "
                f"one {noun} less, or from another start"
            )
        else:
            found.append(
                f"{noun}s {k} and {other} are hard to tell apart (responsibilities alike to {cosine:.0%}): compare the "
                f"BIC of one {noun} less"
            )
    return found


def _small(information: Information, noun: str) -> list[str]:
    """Advice about components of fewer rows than free numbers."""
    rows, needed = information.overlap.sum(axis=1), information.prepared.coordinates.moves.active.sum(axis=1)
    return [
        f"{noun} {k} explains {rows[k]:.3g} rows, for {needed[k]} parameters of its own: it may fit single rows"
        for k in np.flatnonzero(rows < needed).tolist()
    ]
