"""Weights of a mixture that depend on concomitant variables z: π_k(z) = softmax(α_k + z·γ_k), of which a model has one.

Dayton & Macready 1988; Grün & Leisch 2008, §2. The M-step is a safe step of Newton's method, see `logit_moves`.

Letters: K components, p concomitants, q = 1 + p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.faults import shaped
from streamem.core.stats import Stats
from streamem.models.logit_moves import (
    MoveSums,
    box_of_covariates,
    design,
    hidden,
    log_moves,
    maximized,
    plausible,
    require_varying,
)

Array = NDArray[Any]

EXPANSION = ("curvature", "target")
"""Statistics of the logits beside the responsibilities."""


CERTAIN, CERTAIN_A_ROW = 0.5, 2e-6
"""Nats that weights of all rows, and each, may miss of telling a component without error: less than a single surprise,
or what `tol` leaves."""
LEAST_EVENTS = 4.0
"""Rows (or groups) of a component, and of all others, below which nothing is said of what separates it."""

BLOCK_ROWS = 8192
"""Rows that are counted together, as projected."""


@dataclass(frozen=True, eq=False)
class Concomitants:
    """What a mixture knows of its concomitants; parameters of the model hold logits (K, q) and concomitant_box (2, p).

    They hold clarity (K, 2) too, of files of earlier versions excepted: per unit of weight, Σ γ_k and Σ π_k (1 − π_k).

    Attributes
    ----------
    n_components, n_covariates : K and p
    box : (2, p) smallest and largest concomitants of all rows, or None for those of the sample of the start
    """

    n_components: int
    n_covariates: int
    box: Array | None = None

    # --- the M-step --------------------------------------------------------------------------------------------------

    def begun(self, params: Params, sample: Chunk) -> Params:
        """First parameters of a mixture, whose weights do not depend on concomitants yet.

        Raises
        ------
        DegenerateDataError : a concomitant that is the same in all rows
        """
        box = box_of_covariates(sample) if self.box is None else self.box
        if self.box is not None:
            require_varying(box, "weights", "row")
        elif not np.isfinite(box).all():
            box = np.stack([np.zeros(self.n_covariates)] * 2)
        with np.errstate(divide="ignore"):
            first = np.log(np.maximum(np.asarray(params.weights), np.finfo(np.float64).tiny))
        logits = np.zeros((self.n_components, 1 + self.n_covariates))
        logits[:, 0] = first - first.mean()
        return params.replace(logits=logits, concomitant_box=box, clarity=np.ones((self.n_components, 2)))

    def sums(self, params: Params) -> MoveSums:
        """Sums over rows of what the next logits come from, still 0; `add` takes (n, 1, K) responsibilities."""
        return MoveSums(np.asarray(params.logits)[None])

    def told(self, sums: MoveSums) -> dict[str, Array]:
        """curvature (K·q, K·q) and target (K·q,) of the statistics."""
        found = sums.stats()
        return {"curvature": found.curvature[0], "target": found.target[0]}

    def maximized(self, stats: Stats, previous: Params) -> dict[str, Array]:
        """The next logits, and how clear the last ones were; the box stays."""
        own = Stats(
            transitions=np.asarray(stats.responsibilities)[None],
            curvature=np.asarray(stats.curvature)[None],
            target=np.asarray(stats.target)[None],
        )
        logits, _ = maximized(own, np.asarray(previous.logits)[None])
        doubt = np.diagonal(np.asarray(stats.curvature))[:: 1 + self.n_covariates]
        weight = max(float(stats.weight), float(np.finfo(np.float64).tiny))
        clarity = np.column_stack([np.asarray(stats.responsibilities), doubt]) / weight
        return {"logits": logits[0], "concomitant_box": previous.concomitant_box, "clarity": clarity}

    def no_maximum(self, params: Params, weight: float) -> str:
        """Components that concomitants tell from all others without error, as in complete separation of responses."""
        if "clarity" not in params:
            return ""
        events, doubt = weight * np.asarray(params.clarity).T
        told = doubt < max(CERTAIN, CERTAIN_A_ROW * weight)
        told &= np.minimum(events, events.sum() - events) >= LEAST_EVENTS
        if not told.any():
            return ""
        return (
            f"the concomitants tell components {np.flatnonzero(told).tolist()} from the others without error, so that "
            "the likelihood has no maximum, and concomitant_coef_ grew until it gained less than tol. Their signs say "
            "something, their sizes and standard errors do not: leave out concomitants that separate the components, "
            "or fit these rows apart"
        )

    def plausible(self, stats: Stats, valid: Stats) -> dict[str, Array]:
        """curvature and target of extrapolated statistics, or those of `valid`."""
        one, other = (Stats(**{name: own[name][None] for name in EXPANSION}) for own in (stats, valid))
        return {name: value[0] for name, value in plausible(one, other).items()}

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the concomitants, their products and the spread of the weights, of some thousand rows."""
        k, q = self.n_components, 1 + self.n_covariates
        return 8 * BLOCK_ROWS * (2 * k * k + 6 * k + q * q + 2 * q)

    @property
    def statistics_bytes(self) -> int:
        """Bytes of curvature and target."""
        width = self.n_components * (1 + self.n_covariates)
        return 8 * width * (width + 1)

    # --- weights of rows ---------------------------------------------------------------------------------------------

    def rows(self, params: Params, chunk: Chunk) -> Array:
        """ũ (n, q) of the rows of a chunk, NaN where a concomitant is missing.

        Raises
        ------
        ParameterError : the chunk has others, or none
        """
        found = chunk.covariates
        if found is None and not chunk.rows:
            found = np.empty((0, self.n_covariates))
        if found is None or found.shape[1] != self.n_covariates:
            has = 0 if found is None else found.shape[1]
            raise ParameterError(
                f"the weights depend on {self.n_covariates} concomitants, and the chunk has {has}: name the columns by "
                "concomitant="
            )
        return design(found, np.asarray(params.concomitant_box))

    def log_weights(self, params: Params, rows: Array) -> Array:
        """log π (n, K) at rows ũ (n, q); where a concomitant is missing, logarithms of the average weights."""
        found = log_moves(np.asarray(params.logits)[None], rows)[:, 0]
        absent = np.isnan(rows).any(axis=1)
        if absent.any():
            with np.errstate(divide="ignore"):
                found[absent] = np.log(np.asarray(params.weights))
        return found

    def faults(self, params: Params) -> list[str]:
        """Logits or a box of other shapes, or that are no numbers."""
        found = []
        k, p = self.n_components, self.n_covariates
        for name, shape in (("logits", (k, 1 + p)), ("concomitant_box", (2, p))):
            value = np.asarray(params[name])
            if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
                found.append(f"{name} is an array {value.shape} of {value.dtype}; finite numbers {shape} are needed")
        if "clarity" in params:
            found += shaped("clarity", params.clarity, (k, 2))
        return found


def logits_of(intercept: Array, coef: Array, box: Array) -> Array:
    """Logits (K, q) of an intercept (K,) and coefficients (K, p) in units of the data."""
    return hidden(intercept[None], coef[None], box)[0]
