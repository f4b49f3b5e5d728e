"""Independent categorical variables: latent classes, and hidden Markov models of symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.faults import SUM_TOLERANCE, flags, missing, shares, within
from streamem.core.free_form import FreeForm
from streamem.core.ports import FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.covariance_floor import FLOOR
from streamem.families.empty_components import empty_components, told_empty
from streamem.families.known_codes import KnownCodesKernel, known_codes
from streamem.families.linear_family import first_means
from streamem.kernels.features.features import as_rows
from streamem.kernels.tables.table_kernel import CategoricalKernel, places_in
from streamem.kernels.tiling import block_rows
from streamem.machine.lanes import in_lanes

Array = NDArray[Any]


class Categorical(FullFamily):
    """d independent columns of codes 0 … V_j − 1: log p(x) = Σ_j log p_j(x_j).

    Parameters
    ----------
    n_categories : int, one int a column, or None
        V_j. None leaves it to the data: the largest code of every column, which a fit looks for in one pass beforehand.
        Later data may hold no others, so give it where rare codes may be absent.
    prior : float >= 1
        Parameter of a symmetric Dirichlet prior on every distribution: prior − 1 observations of every category are
        added. 1 is maximum likelihood.
    total_weight : float or None
        Σ weights of the rows that the prior is weighed against, so that sums of statistics and averages (online EM) get
        the same prior. A fit finds it; online it has to be given.
    missing : bool, default False
        Whether a code may be NaN, one that was not observed: it drops its column from the row, which is exact where
        codes are missing at random (Little & Rubin 2019, §13.2). Estimators set it by ``missing="integrate"``.

    Notes
    -----
    Parameters: probabilities (K, ΣV_j), of which column j has those from starts[j] to starts[j + 1]; starts (d + 1,).
    Probabilities of exactly 0 can be given, and stay; an M-step makes none below 2⁻⁴⁰, the maximizer under that bound,
    so that no code becomes impossible online. A component without rows keeps its probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import Categorical
    >>> p = Params(probabilities=[[0.5, 0.5, 0.25, 0.75]], starts=[0, 2, 4])
    >>> Categorical().log_prob(p, np.array([[1.0, 0.0]])).round(4)
    array([[-2.0794]])
    """

    missing: bool = False
    skips_unseen: bool = False

    def __init__(
        self,
        n_categories: int | Sequence[int] | None = None,
        prior: float = 1.0,
        total_weight: float | None = None,
        missing: bool = False,
    ) -> None:
        if not prior >= 1.0:
            raise ParameterError(f"prior is {prior}; it must be a number >= 1 (1 is maximum likelihood)")
        if total_weight is not None and not total_weight > 0:
            raise ParameterError(f"total_weight is {total_weight}; it must be a number > 0, or None")
        self.n_categories = _checked(n_categories)
        self.prior = float(prior)
        self.total_weight = None if total_weight is None else float(total_weight)
        if missing:  # only then: checkpoints of earlier versions name the settings of a family
            self.missing = True

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-probabilities (n, K) of codes x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params.probabilities), len(x)))
        step = self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.log_prob(out[:, first : first + step])
        return out.T

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,) and counts (K, ΣV_j), weighted by resp (n, K)."""
        starts = _starts(self._sizes(x.shape[1])) if params is None else params.starts.copy()
        codes = int(starts[-1])
        x = known_codes(x, starts) if self.skips_unseen else x
        if self.missing:  # rows without any value say nothing
            resp = np.where(np.asarray(np.isnan(x).all(axis=1))[:, None], 0.0, resp)
        places = places_in(starts, x, np.empty(x.shape, dtype=np.int32), codes if self.missing else -1)
        k, resp = resp.shape[1], in_lanes(np.ascontiguousarray(resp, dtype=np.float64))
        sums, weight = np.zeros((codes + self.missing, resp.shape[1])), np.zeros(resp.shape[1])
        kernels.add_at(places, resp, sums, weight)
        return Stats(weight=weight[:k], counts=sums[:codes, :k].T)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Weighted shares of every code, with the pseudo-counts of the prior."""
        empty = empty_components(stats.weight)
        counts = stats.counts + self._pseudo_counts(stats)
        if previous is None:
            starts = self._starts_of(counts.shape[1])
            overall = _shares(stats.counts.sum(axis=0, keepdims=True) + 0.5, starts)
            shares = _shares(np.where(empty[:, None], 1.0, counts), starts)
            shares = np.where(empty[:, None] | (_sums(counts, starts) == 0), overall, shares)
            return Params(probabilities=first_means(shares, overall), starts=starts, empty=empty)
        starts, before = previous.starts, previous.probabilities
        counts = np.where(before == 0, 0.0, counts)
        shares = _floored(counts, before > 0, starts)
        kept = empty[:, None] | (_sums(counts, starts) == 0)  # a column of which the component saw nothing
        return Params(probabilities=np.where(kept, before, shares), starts=starts, empty=empty)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Tables that are none: of each column the probabilities of its codes, which begin at `starts`."""
        if found := missing(params, ("probabilities", "starts", "empty")):
            return found
        starts, table = np.asarray(params.starts), params.probabilities
        rising = starts.shape == (n_features + 1,) and starts.dtype.kind == "i" and starts[0] == 0
        if not rising or (np.diff(starts) < 1).any():
            return [f"starts is {starts.tolist()}, where {n_features + 1} integers that rise from 0 are needed"]
        found = within("probabilities", table, (n_components, int(starts[-1])), 0.0, 1.0 + SUM_TOLERANCE)
        found += flags("empty", params.empty, (n_components,))
        return found or [
            fault
            for first, stop in pairwise(starts.tolist())
            for fault in shares("probabilities", np.asarray(table)[:, first:stop], (n_components, stop - first))
        ]

    takes_codes, parameter_names = True, ("probabilities",)

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Categorical:
        """The family with the number of categories of every column, where all columns are text."""
        known = None if names is None else [categories.get(name) for name in names] if categories else None
        if self.n_categories is not None or known is None or None in known:
            return self
        sizes = tuple(max(1, len(values)) for values in known if values is not None)
        return self._with(n_categories=sizes)

    @property
    def allows_missing(self) -> bool:
        """Whether NaN is a code that was not observed."""
        return self.missing

    def integrating(self) -> Categorical:
        """This family for rows in which codes may be NaN."""
        return self._with(missing=True)

    def skipping_unseen(self) -> Categorical:
        """This family for rows in which codes may be NaN, or beyond those that are known, which then counts alike."""
        return self._with(missing=True, skips_unseen=True)

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Codes x (n, d) whose NaN are replaced by the most probable code, mixed by resp (n, K): codes have no mean."""
        out, mixed = np.array(x, dtype=np.float64), resp @ np.asarray(params.probabilities)
        for j, (first, stop) in enumerate(pairwise(np.asarray(params.starts).tolist())):
            absent = np.isnan(out[:, j])
            out[absent, j] = np.argmax(mixed[absent, first:stop], axis=1)
        return out

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Codes x (n, d) whose NaN are drawn from each row's component (n,)."""
        out, table = np.array(x, dtype=np.float64), np.asarray(params.probabilities)
        for j, (first, stop) in enumerate(pairwise(np.asarray(params.starts).tolist())):
            absent = np.flatnonzero(np.isnan(out[:, j]))
            sums = np.cumsum(table[component[absent], first:stop], axis=1)
            below = rng.random_sample(len(absent))[:, None] * sums[:, -1:] >= sums
            out[absent, j] = np.minimum(below.sum(axis=1), stop - first - 1)
        return out

    @property
    def is_surveyed(self) -> bool:
        """Whether the number of categories, and for a prior the weight of the data, have been found."""
        return self.n_categories is not None and (self.prior == 1.0 or self.total_weight is not None)

    def survey(self, x: Array, weight: Array | None) -> Array:
        """The largest code of every column (−1 if there is none), and the weight: (d + 1,).

        Raises
        ------
        ImpossibleValueError : a negative or fractional value
        """
        bad = kernels.first_beyond(as_rows(x), np.full(x.shape[1], np.inf))
        if bad >= 0:
            needed = "codes of categories are integers >= 0: number the categories from 0"
            raise ImpossibleValueError(float(x.flat[bad]), bad % x.shape[1], needed)
        present = ~np.isnan(x).all(axis=1)
        total = present.sum() if weight is None else weight[present].sum()
        return np.append(np.fmax.reduce(x, axis=0, initial=-1.0).astype(np.float64), total)

    def surveyed(self, found: Sequence[Array]) -> Categorical:
        """The family with the categories that all chunks hold together, and their weight."""
        told = np.stack(list(found))
        seen = tuple(int(code) + 1 for code in np.maximum(told[:, :-1].max(axis=0), 0.0))
        sizes, total = (seen if self.n_categories is None else self.n_categories), float(told[:, -1].sum())
        return self._with(n_categories=sizes, total_weight=self.total_weight or total or None)

    def weighed(self, total_weight: float) -> Categorical:
        """The family with its prior weighed against so much data."""
        return self._with(total_weight=float(total_weight))

    def counted(self, n_features: int) -> Array:
        """All columns."""
        return np.ones(n_features, dtype=np.bool_)

    def coded(self, n_features: int) -> Array:
        """All columns."""
        return np.ones(n_features, dtype=np.bool_)

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return block_rows(len(params.probabilities), len(params.starts) - 1)

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Look-ups, in float64 whatever the rows."""
        return KnownCodesKernel(params) if self.skips_unseen else CategoricalKernel(params, self.missing)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """Table, sums, and a block's codes and responsibilities."""
        rows = block_rows(n_components, n_features)
        return 2 * self.statistics_bytes(n_components, n_features) + rows * (24 * n_components + 8 * n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """A weight and a number for every code, in float64; before a survey, for 64 codes a column."""
        codes = 64 * n_features if self.n_categories is None else sum(self._sizes(n_features))
        return 8 * n_components * (1 + codes)

    def penalty(self, params: Params, stats: Stats) -> float:
        """−(prior − 1) Σ log p, in nats, for statistics of all rows; in proportion for others."""
        p = params.probabilities
        return -self._pseudo_counts(stats) * float(np.log(p[p > 0]).sum())

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Codes (count, d) that a component emits."""
        columns = np.split(np.asarray(params.probabilities[component]), params.starts[1:-1])
        drawn = [rng.choice(len(chances), size=count, p=chances / chances.sum()) for chances in columns]
        return np.column_stack(drawn).astype(np.float64)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components that explained nothing in the last M-step, and kept their probabilities."""
        return told_empty(params)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Probabilities, which sum to 1 over the categories of every column."""
        return FreeForm({"probabilities": params.probabilities}, simplex={"probabilities": np.asarray(params.starts)})

    def free_parameters(self, params: Params) -> int:
        """Probabilities of a column sum to 1."""
        k, codes = params.probabilities.shape
        return k * (codes - (len(params.starts) - 1))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _with(self, **settings: Any) -> Self:
        """This family with other settings."""
        made = copy(self)
        vars(made).update(settings)
        return made

    def _sizes(self, d: int) -> tuple[int, ...]:
        """V_j of d columns."""
        if self.n_categories is None:
            raise ParameterError(
                "the number of categories is not known yet: fit finds it in a pass of its own, mini-batches have no "
                "such pass; give it beforehand, one for all columns or one for each, as n_categories=... (of pairs of "
                "records n_levels=...)"
            )
        if isinstance(self.n_categories, int):
            return (self.n_categories,) * d
        if len(self.n_categories) != d:
            raise ParameterError(
                f"n_categories has {len(self.n_categories)} numbers for {d} columns; give one for every column, or one "
                "for all"
            )
        return self.n_categories

    def _starts_of(self, codes: int) -> Array:
        """The starts of so many codes in all."""
        d = codes // self.n_categories if isinstance(self.n_categories, int) else len(self.n_categories or ())
        return _starts(self._sizes(d))

    def _pseudo_counts(self, stats: Stats) -> float:
        """What the prior adds to every count: prior − 1 for all of the data, its share of that for averages."""
        if self.prior == 1.0:
            return 0.0
        if self.total_weight is None:
            raise ParameterError(
                f"a prior of {self.prior} is weighed against the data, of which nobody has told how much there is: fit "
                "first, or pass total_weight=rows to the family, or leave the prior at 1"
            )
        return (self.prior - 1.0) * float(stats.weight.sum()) / self.total_weight


def _checked(n_categories: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
    if n_categories is None:
        return None
    sizes = np.atleast_1d(np.asarray(n_categories))
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ParameterError(f"n_categories is {n_categories!r}; it must be an integer >= 1, or one for every column")
    return int(sizes[0]) if np.ndim(n_categories) == 0 else tuple(int(size) for size in sizes)


def _starts(sizes: Sequence[int]) -> Array:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _sums(values: Array, starts: Array) -> Array:
    """Sums over the codes of each column, repeated for every code: (K, ΣV_j)."""
    return np.repeat(np.add.reduceat(values, starts[:-1], axis=1), np.diff(starts), axis=1)


def _shares(counts: Array, starts: Array) -> Array:
    total = _sums(counts, starts)
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)


def _floored(counts: Array, allowed: Array, starts: Array) -> Array:
    """Shares of counts that are at least FLOOR where they are allowed to be above 0.

    Raising what lies below and scaling down the rest is the maximizer of Σ counts·log p under that bound.
    """
    shares = _shares(counts, starts)
    low = allowed & ~(shares >= FLOOR)
    if not low.any():
        return shares
    raised = _sums(np.where(low, FLOOR, 0.0), starts)
    rest = _sums(np.where(low, 0.0, shares), starts)
    kept = np.divide(shares * (1.0 - raised), rest, out=np.zeros_like(shares), where=rest > 0)
    return np.where(low, FLOOR, kept)
