"""Labels that raters give to items of a class: each rater has a confusion table of its own (Dawid & Skene 1979)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.ports import FullFamily, Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.families.categorical import Categorical
from streamem.kernels.features.features import as_rows
from streamem.kernels.tables.table_kernel import CategoricalKernel
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]


class RaterLabels(Categorical):
    """Rows (rater, label), as codes: log p(row) = log P(label | class, rater).

    A categorical variable with a column for each rater, of whose columns a row holds one; so statistics are counts of
    raters × classes × labels, whatever the number of rows.

    Parameters
    ----------
    n_raters, n_labels : int or None
        R and V. None leaves it to the data: the largest codes, which a fit looks for in one pass beforehand.
    prior : float >= 1
        Parameter of a symmetric Dirichlet prior on every row of every table: prior − 1 votes are added to every entry.
    total_weight : float or None
        Σ weights of the votes that the prior is weighed against; see `Categorical`.
    missing : bool, default False
        Whether a rater or a label may be NaN: such a row says nothing.

    Notes
    -----
    Parameters: probabilities (K, R·V), rater after rater; starts (R + 1,), multiples of V. Bounds and empty classes are
    as in `Categorical`. The family describes labels given who rates: it does not say which rater rates which item.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families import RaterLabels
    >>> p = Params(probabilities=[[0.9, 0.1, 0.5, 0.5], [0.2, 0.8, 0.5, 0.5]], starts=[0, 2, 4])
    >>> RaterLabels().log_prob(p, np.array([[0.0, 1.0], [1.0, 0.0]])).round(4).tolist()
    [[-2.3026, -0.2231], [-0.6931, -0.6931]]
    """

    def __init__(
        self,
        n_raters: int | None = None,
        n_labels: int | None = None,
        prior: float = 1.0,
        total_weight: float | None = None,
        missing: bool = False,
    ) -> None:
        super().__init__(None, prior, total_weight, missing)
        self.n_raters, self.n_labels = n_raters, n_labels

    @property
    def n_categories(self) -> int | tuple[int, ...] | None:
        """V for each rater, once both numbers are known."""
        if self.n_raters is None or self.n_labels is None:
            return None
        return (self.n_labels,) * self.n_raters

    @n_categories.setter
    def n_categories(self, value: Any) -> None:
        """Ignore what `Categorical` sets: `n_raters` and `n_labels` tell it."""

    # --- the Family port ---------------------------------------------------------------------------------------------

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,) and counts (K, R·V), weighted by resp (n, K)."""
        starts = _starts(*self._numbers()) if params is None else params.starts
        votes = codes_of(x, starts, self.skips_unseen)
        return super().stats(Params(starts=_one_column(starts)), votes, resp)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def counted(self, n_features: int) -> Array:
        """Refuse: probabilities are those of a label, given its rater.

        Raises
        ------
        ParameterError : always
        """
        raise ParameterError(
            "RaterLabels has no noise beside it: its probabilities are those of a label, given its rater, and noise is "
            "over both. Fit without noise; `uninformative_raters_` of DawidSkene names raters whose votes tell nothing"
        )

    filled, drawn_for_missing = FullFamily.filled, FullFamily.drawn_for_missing

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Tables that are none."""
        starts = np.asarray(params.get("starts", ()))
        if starts.ndim != 1 or len(starts) < 2 or len(set(np.diff(starts).tolist())) != 1:
            return [f"starts is {starts.tolist()!s:.100}, where multiples of the number of labels are needed"]
        return super().faults(params, n_components, len(starts) - 1)

    def alike(self, n_components: int) -> Params:
        """Tables in which every label is as likely as any other, whatever the class and the rater."""
        starts = _starts(*self._numbers())
        labels, codes = int(starts[1]), int(starts[-1])
        chances = np.full((n_components, codes), 1.0 / labels)
        return Params(probabilities=chances, starts=starts, empty=np.zeros(n_components, dtype=np.bool_))

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> RaterLabels:
        """The family with the numbers of raters and labels that the vocabularies of both columns have."""
        known = [] if names is None or not categories else [categories.get(name) for name in names]
        if self.n_categories is not None or len(known) != 2 or known[0] is None or known[1] is None:
            return self
        return self._with(n_raters=len(known[0]), n_labels=len(known[1]))

    def survey(self, x: Array, weight: Array | None) -> Array:
        """The largest rater and label (−1 if there is none), and the weight of the votes: (3,).

        Raises
        ------
        ImpossibleValueError : a negative or fractional value
        """
        told = super().survey(x, weight)
        present = ~np.isnan(x).any(axis=1)
        told[-1] = present.sum() if weight is None else weight[present].sum()
        return told

    def surveyed(self, found: Sequence[Array]) -> RaterLabels:
        """The family with the raters and labels that all chunks hold together, and the weight of their votes."""
        told = np.stack(list(found))
        raters, labels = (int(code) + 1 for code in np.maximum(told[:, :-1].max(axis=0), 0.0))
        total = float(told[:, -1].sum())
        return self._with(
            n_raters=self.n_raters or raters,
            n_labels=self.n_labels or labels,
            total_weight=self.total_weight or total or None,
        )

    def block_rows(self, params: Params) -> int:
        """Rows a block: each is one look-up."""
        return block_rows(len(params.probabilities), 1)

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Look-ups, in float64 whatever the rows."""
        return RaterKernel(params, self.missing, self.skips_unseen)

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """Table, sums, and a block's codes and responsibilities."""
        rows = block_rows(n_components, 1)
        return 2 * self.statistics_bytes(n_components, n_features) + rows * (24 * n_components + 40)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Votes (count, 2) on items of a class, each by any rater, all being equally likely."""
        starts = np.asarray(params.starts)
        rater = rng.randint(len(starts) - 1, size=count)
        table = np.cumsum(np.asarray(params.probabilities[component]).reshape(len(starts) - 1, -1), axis=1)
        below = rng.random_sample(count)[:, None] * table[rater, -1:] >= table[rater]
        label = np.minimum(below.sum(axis=1), table.shape[1] - 1)
        return np.column_stack([rater, label]).astype(np.float64)

    def places(self, params: Params, x: Array) -> Array:
        """Places (n,) of rows x (n, 2) in a table of raters × labels; R·V where a rater or a label was not observed."""
        starts, out = np.asarray(params.starts), np.empty((len(x), 1), dtype=np.int32)
        return _placed(x, starts, int(starts[-1]), self.skips_unseen, out)[:, 0]

    # --- inner -------------------------------------------------------------------------------------------------------

    def _sizes(self, d: int) -> tuple[int, ...]:
        """V for each rater."""
        raters, labels = self._numbers()
        return (labels,) * raters

    def _numbers(self) -> tuple[int, int]:
        """R and V.

        Raises
        ------
        ParameterError : they are not known
        """
        if self.n_raters is None or self.n_labels is None:
            raise ParameterError(
                "who the raters are and which labels there are is not known yet: fit finds both in a pass of its own, "
                "mini-batches have no such pass; name them beforehand, raters=[...] and classes=[...]"
            )
        return self.n_raters, self.n_labels


class RaterKernel(CategoricalKernel):
    """Look-ups in one table of raters × labels."""

    def __init__(self, params: Params, missing: bool = False, skips: bool = False) -> None:
        self._raters, self._skips = np.asarray(params.starts), skips
        super().__init__(Params(probabilities=params.probabilities, starts=_one_column(params.starts)), missing)

    def _placed(self, x: Array, out: Array) -> Array:
        """Places (b, 1) of votes x (b, 2)."""
        return _placed(x, self._raters, self._absent, self._skips, out)

    def rows_log_prob(self, x: Array) -> Array:
        """log P(label | class, rater) of all votes x (n, 2)."""
        places = self._placed(x, np.empty((len(x), 1), dtype=np.int32))
        return np.asarray(self._table.take(places[:, 0], axis=0)[:, : self._k])

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all votes x (n, 2), block by block, and their statistics."""
        return super().mix(codes_of(x, self._raters, self._skips), weight, log_weights)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all votes x (n, 2), row after row."""
        super().densities(codes_of(x, self._raters, self._skips), b, peaks)

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all votes x (n, 2) with weights (n, at least K)."""
        super().accumulate_rows(codes_of(x, self._raters, self._skips), weights, again)

    def stats(self) -> Stats:
        """weight (K,), of votes without holes, and counts (K, R·V)."""
        counts = super().stats().counts
        return Stats(weight=counts.sum(axis=1), counts=counts)


def codes_of(x: Array, starts: Array, skips_unseen: bool = False) -> Array:
    """Places (n, 1) of votes x (n, 2) in a table of raters × labels; NaN where either was not observed.

    Raises
    ------
    ImpossibleValueError : a negative or fractional code, or one beyond those known, unless these are skipped
    """
    sizes = _sizes(starts)
    if skips_unseen:
        x = np.where(x >= sizes, np.nan, x)
    bad = kernels.first_beyond(as_rows(x), sizes)
    if bad >= 0:
        what, known = ("raters", "labels")[bad % 2], int(sizes[bad % 2])
        needed = f"codes of {what} are integers 0 … {known - 1} here: name all {what} beforehand, or fit to all of them"
        raise ImpossibleValueError(float(x.flat[bad]), bad % 2, needed)
    return np.asarray(x[:, :1].astype(np.float64) * sizes[1] + x[:, 1:])


def _placed(x: Array, starts: Array, absent: int, skips_unseen: bool, out: Array) -> Array:
    """Places (n, 1) of votes x (n, 2) in a table of raters × labels, `absent` where either was not observed."""
    if kernels.pair_places(as_rows(x), _sizes(starts), absent, skips_unseen, out) >= 0:
        codes_of(x, starts, skips_unseen)  # names the wrong one
    return out[: len(x)]


def _sizes(starts: Array) -> Array:
    """Numbers of raters and labels (2,)."""
    return np.array([len(starts) - 1, starts[1]], dtype=np.float64)


def _starts(raters: int, labels: int) -> Array:
    return np.arange(raters + 1, dtype=np.int64) * labels


def _one_column(starts: Array) -> Array:
    return np.array([0, int(starts[-1])], dtype=np.int64)
