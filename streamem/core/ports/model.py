"""The port of a model: how hidden variables tie components together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import POSTERIOR, Boundary, Endings, Joining, endings_of_states
from streamem.core.chunk import Chunk
from streamem.core.completing import has_own
from streamem.core.extrapolation import kept_signs
from streamem.core.missing import Missing
from streamem.core.stats import Stats

Array = NDArray[Any]


class Model(ABC):
    """How hidden variables tie components together.

    `e_step` always carries ``rows``, ``weight``, ``log_likelihood`` (of the parameters that entered, in nats) and
    ``rounding`` (a bound on its error, in nats).
    """

    allows_missing_steps: bool = False
    """Whether rows without any value (all NaN) are steps at which nothing was observed."""

    integrates: bool = True
    """Whether NaN is taken for a value that was not observed, where the family can integrate over such."""

    @property
    def allows_missing_values(self) -> bool:
        """Whether any value of a row may be NaN, one that was not observed."""
        return False

    @property
    def missing(self) -> Missing:
        """What of a row may be NaN."""
        if self.allows_missing_values:
            return Missing.VALUES
        return Missing.STEPS if self.allows_missing_steps else Missing.NOTHING

    @property
    def estimates(self) -> str:
        """What at least two rows are needed to estimate, for messages."""
        return "a model"

    @abstractmethod
    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """Parameters to start from, estimated on a sample."""

    @abstractmethod
    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """Expected sufficient statistics of a chunk under `params`; `message` is the boundary beyond it."""

    @abstractmethod
    def m_step(self, stats: Stats, previous: Params) -> Params:
        """The next parameters."""

    @abstractmethod
    def workspace_bytes(self, n_features: int) -> int:
        """Bytes that one running `e_step` needs besides its chunk."""

    @abstractmethod
    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics that it returns."""

    def for_pass_of(self, params: Params, rows: int) -> Params:
        """Parameters for E-steps over `rows` rows in all; long passes may take another way than short ones."""
        return params

    def products_a_row(self, n_features: int) -> float:
        """What a row costs, about: numbers of the statistics, each of which takes a product. See `core.small_work`."""
        return self.statistics_bytes(n_features) / 8

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic an E-step runs on rows of `dtype`, in words, for the report; empty if nobody can say."""
        return ""

    @property
    def has_prior(self) -> bool:
        """Whether the model's own parameters, beside those of a family, have a prior."""
        return False

    def shares(self, params: Params) -> Array | None:
        """How much of the data each component takes, (K,) numbers that sum to 1; None if nobody can say."""
        return None

    def penalty(self, params: Params, stats: Stats) -> float:
        """What the M-step subtracts from the expected log-likelihood, in nats."""
        return 0.0

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Bound on how far `new`, of statistics taken at `old`, may be below what `old` achieves, in nats."""
        return 0.0

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components that were kept from degenerating, by kind of intervention."""
        return {}

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """Why the likelihood has no maximum where `params` came to rest; an empty text if nothing is known.

        `log_likelihood` and `weight` are sums over all rows, in nats and in units of weight.
        """
        return ""

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """Statistics taken at `old` as if they had been taken at `new`, the responsibilities unchanged."""
        return stats

    def reanchored(self, params: Params) -> Params:
        """This distribution about a better anchor; `params` itself as long as the present anchor will do."""
        return params

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Statistics extrapolated from those of rows, changed as little as possible so that `m_step` can take them.

        `valid` are the last that rows gave, at `previous`. By default no number changes its sign, or falls below 1/16
        of what it was, so that counts stay counts. It need not catch everything: parameters that are not finite, and
        those with a lower objective, are turned down.
        """
        return kept_signs(stats, valid)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """One sentence for each array that contradicts itself, as a file may hold it, naming it."""
        return []

    # --- sequences that are cut over many chunks ---------------------------------------------------------------------
    #
    # These functions describe a chunk that is one sequence, or a piece of one; results are logarithms up to a constant.
    # Laws: `operator_of` combined with a state before is `forward_of` from it, combined with what follows `backward_of`
    # (combined by `joining`).

    @property
    def joins_pieces(self) -> bool:
        """Whether a sequence may be cut: whether the model has the functions below."""
        return has_own(self, Model, "scans")

    def joining(self, question: str) -> Joining:
        """How messages of pieces are joined; by default those of K states."""
        return Joining(question)

    def scans(self, params: Params, question: str) -> bool:
        """Whether pieces should give their operators in any order (`operator_of`), or be asked in turn."""
        raise NotImplementedError

    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) of the state at the last step, from `boundary.before`, or from the model's own start."""
        raise NotImplementedError

    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) of the chunk and what follows (`boundary.after`, or nothing), given the state before its first step."""
        raise NotImplementedError

    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array | None:
        """(K, K) of the state at the last step (columns) given the state before the first step (rows).

        If it is to be affordable, None where it would cost much more than `forward_of`.
        """
        raise NotImplementedError

    def endings(self, params: Params, chunk: Chunk, before: Array | None) -> Endings:
        """What the next steps of an endless sequence may end in; `before` is the state before them, None at its start.

        By default each of K states. Law: the statistics of all endings, in their shares, are those of the steps, but
        for a transition out of the last of them where they are those of the next step (`Endings.ahead`).
        """
        filtered = self.forward_of(params, chunk, POSTERIOR, Boundary(before=before))
        whole = None if before is None else self.operator_of(params, chunk, POSTERIOR)
        return endings_of_states(filtered, before, whole)
