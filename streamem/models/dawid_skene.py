"""Items of an unknown class, which raters label with errors of their own; EM begins from the votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.chunk import Chunk
from streamem.models.emissions import Emissions
from streamem.models.grouped_mixture import RUN_ROWS, Group, GroupedMixture
from streamem.models.steps import Steps

Array = NDArray[Any]


class DawidSkene(GroupedMixture):
    """p(votes on an item) = Σ_k w_k Π_votes P(label | k, rater) (Dawid & Skene 1979): as many classes as labels.

    Parameters
    ----------
    family : labels of raters, whose `alike` gives tables that tell no classes apart and whose `labels` reads those of
        votes
    n_components : K, the number of labels

    Notes
    -----
    A start knows nothing: all classes, and all rows of all tables, are alike. There, and only there, the E-step takes
    the shares q of an item's votes for its posterior, and reports the bound Σ_k q_k log(w_k p_k / q_k) in place of the
    log-likelihood; the M-step from any q achieves at least that (Neal & Hinton 1998), so that EM rises from there too.
    """

    def __init__(self, family: Any, n_components: int) -> None:
        super().__init__(family, n_components, _by_votes)

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """Parameters that know nothing, whatever the sample."""
        family: Any = self.family
        return self._assembled(np.ones(self.n_components), family.alike(self.n_components))

    def _at_once(self, params: Params, emissions: Emissions, steps: Steps, message: Boundary) -> slice:
        """Items whose E-step a kernel makes in one call; none where they go by the votes."""
        return slice(0, 0) if knows_nothing(params) else super()._at_once(params, emissions, steps, message)

    def _groups(
        self,
        params: Params,
        priors: Array,
        emissions: Emissions,
        steps: Steps,
        message: Boundary,
        runs: Sequence[slice] | None = None,
    ) -> Iterator[Group]:
        """Runs of items, or all, with posteriors; by the votes where the parameters know nothing."""
        if knows_nothing(params):
            return self._by_votes(params, emissions, steps, runs)
        return super()._groups(params, priors, emissions, steps, message, runs)

    def _by_votes(
        self, params: Params, emissions: Emissions, steps: Steps, runs: Sequence[slice] | None
    ) -> Iterator[Group]:
        family: Any = self.family
        k, log_weight = self.n_components, float(np.log(params.weights[0]))
        rows = max(RUN_ROWS, emissions.kernel.block_rows)
        with np.errstate(divide="ignore"):
            chances = np.append(np.log(params.components.probabilities[0]), 0.0)  # all classes are alike
        for run in steps.groups(rows) if runs is None else runs:
            spans = steps.spans[run]
            first, stop = int(spans[0, 0]), int(spans[-1, 1])
            places = family.places(params.components, emissions.x[first:stop])
            item = np.repeat(np.arange(len(spans)), np.diff(np.append(spans[:, 0], stop)))
            likely = np.bincount(item, weights=chances[places], minlength=len(spans))
            if (silent := places == len(chances) - 1).any():
                item, places = item[~silent], places[~silent]
            votes = np.bincount(item * k + places % k, minlength=k * len(spans)).reshape(-1, k).astype(np.float64)
            votes[~votes.any(axis=1)] = 1.0
            shares = votes / votes.sum(axis=1, keepdims=True)
            entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
            yield Group(run.start, spans, likely + log_weight + entropy, shares)


def knows_nothing(params: Params) -> bool:
    """Whether all classes are alike, so that votes tell them apart, and nothing else does."""
    weights, chances = params.weights, params.components.probabilities
    return cached_by_identity(weights, chances, "knows nothing", lambda: _are_alike(weights, chances))


def _are_alike(weights: Array, chances: Array) -> bool:
    return bool((weights == weights[0]).all() and (chances == chances[0]).all())


def _by_votes(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Equal responsibilities (n, k) of rows: the votes of whole items come with the first pass."""
    return np.full((len(x), k), 1.0 / k)
