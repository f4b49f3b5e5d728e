"""`ShiftedWeights`: what mixtures of rows and of groups share whose weights depend on concomitant variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.core.ports import ChunkRef, PassTask, Source
from streamem.core.validation import numbers
from streamem.estimators.named_columns import concomitants
from streamem.estimators.rows import Rows
from streamem.families.regression.design import Design, first_combination, joined
from streamem.models.concomitants import logits_of
from streamem.models.logit_moves import require_varying, shown
from streamem.running.answers import map_source
from streamem.running.engines import Engine

Array = NDArray[Any]

NAMES = {"intercept": "concomitant_intercept_", "coef": "concomitant_coef_"}


@dataclass(frozen=True, eq=False)
class DesignTask(PassTask[Array]):
    """The task that finds how far the concomitants of a chunk reach, and how they go together."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """A `Design`, packed, of rows that count and lack none."""
        z = chunk.covariates
        assert z is not None  # of a model that asks for it
        counts = ~np.isnan(z).any(axis=1)
        if chunk.weight is not None:
            counts &= chunk.weight > 0
        return Design.of(z[counts], np.zeros(int(counts.sum()))).packed()


class ShiftedWeights(Rows):
    """π_k(z) = softmax(α_k + z·γ_k); `weights_` (K,) are shares of all."""

    has_concomitants = True
    names = ("weights_", *NAMES.values())

    def needs_box(self, settings: Any) -> bool:
        """Always: concomitants are measured about the middle of theirs."""
        return True

    def survey(self) -> PassTask[Array]:
        """The task that finds a packed `Design` of a chunk, and behind it what `require_shared` needs."""
        return DesignTask()

    def require_shared(self, settings: Any, ends: Sequence[Array]) -> None:
        """Refuse concomitants that are not what chunks have to share; by default chunks share nothing."""

    def box(self, settings: Any, model: Any, source: Source, engine: Engine) -> Array | None:
        """(2, p) smallest and largest concomitants.

        Raises
        ------
        DegenerateDataError : a concomitant that is the same in all rows, or a combination of others, named
        """
        seen: list[Array] = []
        map_source(source, self.survey(), engine, 0, seen.append)
        if not seen:
            return None
        names = [repr(one) for one in concomitants(settings)]
        own = 3 + 3 * len(names) + len(names) ** 2  # numbers of a packed design
        self.require_shared(settings, [one[own:] for one in seen])
        design = joined([one[:own] for one in seen])
        box = np.stack([design.low, design.high])
        require_varying(box, "weights", "row", names)
        if (combined := first_combination(design)) is not None:
            column, others = combined
            raise DegenerateDataError(
                f"concomitant {names[column]} is a linear combination of {', '.join(names[i] for i in others)} and the "
                "intercept, so that no data tell their coefficients; leave one of these columns out (of dummy "
                "variables, those of one category)"
            )
        return box

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
        beside = {"logits": logits, "concomitant_box": box, "clarity": np.ones((k, 2))}
        return super().rebuilt(settings, attributes, components).replace(**beside)

    def misfit(self, params: Params, k: int) -> str:
        """Weights or logits of another number of components, or none."""
        logits = np.shape(params.get("logits", ()))
        if logits[:1] != (k,) or len(logits) != 2:
            if "logits" not in params:
                return "the weights that were fitted depend on no concomitants, and concomitant names columns now"
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
