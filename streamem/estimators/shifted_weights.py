"""`ShiftedWeights`: what mixtures of rows and of groups share whose weights depend on concomitant variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.core.validation import numbers
from streamem.estimators.driven_steps import BoxTask
from streamem.estimators.named_columns import concomitants
from streamem.estimators.rows import Rows
from streamem.models.concomitants import logits_of
from streamem.models.logit_moves import require_varying, shown
from streamem.models.noise import joined_boxes
from streamem.running.answers import map_source
from streamem.running.engines import Engine

Array = NDArray[Any]

NAMES = {"intercept": "concomitant_intercept_", "coef": "concomitant_coef_"}


class ShiftedWeights(Rows):
    """π_k(z) = softmax(α_k + z·γ_k); `weights_` (K,) are shares of all."""

    names = ("weights_", *NAMES.values())

    def needs_box(self, settings: Any) -> bool:
        """Always: concomitants are measured about the middle of theirs."""
        return True

    def box(self, settings: Any, model: Any, source: Source, engine: Engine) -> Array | None:
        """(2, p) smallest and largest concomitants.

        Raises
        ------
        DegenerateDataError : a concomitant that is the same in all rows, named
        """
        boxes: list[Array] = []
        map_source(source, BoxTask(), engine, 0, boxes.append)
        if not boxes:
            return None
        found = joined_boxes(boxes)
        require_varying(found, "weights", "row", [repr(one) for one in concomitants(settings)])
        return found

    def check(self, settings: Any) -> None:
        """Hyperparameters of all mixtures, and no prior of weights."""
        super().check(settings)
        concomitants(settings)
        if settings.weight_concentration_prior is not None:
            raise ParameterError(
                "weight_concentration_prior is for weights that are the same in all rows: leave it or concomitant at "
                "None"
            )

    def key(self, settings: Any) -> dict[str, Any]:
        """What tells a mixture, and the concomitants."""
        return {**super().key(settings), "concomitant": repr(list(concomitants(settings)))}

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """weights_ (K,), concomitant_intercept_ (K,) and concomitant_coef_ (K, p), 0 of component 0."""
        own = shown(np.asarray(params.logits)[None], params.concomitant_box)
        return {**super().published(params, dtype), **{NAMES[name]: np.array(own[name][0]) for name in NAMES}}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters from the attributes.

        Raises
        ------
        ParameterError : coefficients of other shapes, or that are no finite numbers
        """
        k, p = int(self.count(settings)), len(concomitants(settings))
        found = {name: numbers(attributes[public], public) for name, public in NAMES.items()}
        for name, shape in (("intercept", (k,)), ("coef", (k, p))):
            if found[name].shape != shape or not np.isfinite(found[name]).all():
                raise ParameterError(
                    f"{NAMES[name]} has shape {found[name].shape}; finite numbers {shape} are needed, of components"
                    + (", concomitants" if name == "coef" else "")
                )
        box = np.stack([np.full(p, -1.0), np.ones(p)])
        logits = logits_of(found["intercept"], found["coef"], box)
        return super().rebuilt(settings, attributes, components).replace(logits=logits, concomitant_box=box)

    def misfit(self, params: Params, k: int) -> str:
        """Weights or logits of another number of components, or none."""
        logits = np.shape(params.get("logits", ()))
        if logits[:1] != (k,) or len(logits) != 2:
            return f"the file's logits do not fit {k} components whose weights depend on concomitants"
        return super().misfit(params, k)

    def n_parameters(self, settings: Any, params: Params) -> int:
        """(K − 1)·(1 + p)."""
        return (int(self.count(settings)) - 1) * np.shape(params.logits)[1]

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each component, whose weight is its share of all rows, and what shifts it."""
        own = self.published(params, np.dtype(np.float64))
        lines = super().table(params, words, title)
        odds = [
            f"    {k}: {own['concomitant_intercept_'][k]:.6g} "
            + " ".join(f"{value:+.6g}·z{c}" for c, value in enumerate(own["concomitant_coef_"][k]))
            for k in range(1, len(own["weights_"]))
        ]
        return [*lines, *(["log-odds of each component against component 0:", *odds] if odds else [])]
