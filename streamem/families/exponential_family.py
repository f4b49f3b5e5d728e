"""`ExponentialFamily`: independent columns whose statistics are sums of functions of one value, with compiled speed."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.completing import has_own
from streamem.core.errors import DataError, ParameterError
from streamem.core.extrapolation import shrunk
from streamem.core.faults import flags, missing, within
from streamem.core.free_form import FreeForm
from streamem.core.ports import FullFamily, Kernel
from streamem.core.stats import Stats
from streamem.families.empty_components import EMPTY_FRACTION, empty_components
from streamem.families.independent_columns import column_weights, filled_by_draws, filled_by_means
from streamem.families.linear_family import first_means
from streamem.families.support import REALS, Support, require_within
from streamem.kernels.features.transform_kernel import TransformKernel, transform_bytes
from streamem.kernels.features.transforms import FeatureTable, features_of_columns
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

NO_BASE = np.zeros(1)

Best = Callable[[Array, Array, Array], Params]
"""(means of T (K, d, F), weights (K, d), overall means (d, F)) → parameters."""

Bounds = Mapping[str, tuple[float, float]]
"""For the name of each parameter (K, d), the smallest and the largest number that it can be."""


class ExponentialFamily(FullFamily):
    """d independent columns with densities log p(x) = Σ_j Σ_f η_jf T_f(x_j) − A_j + h(x), of any exponential family.

    A subclass names the functions T of one value, and gives three methods; log-densities, statistics, E-steps and
    missing values then run in compiled code that all such families share (Wainwright & Jordan 2008, §3).

    Attributes
    ----------
    features : names of T: "x", "x^2", "1/x", "sqrt x", "|x|", "log x", "(log x)^2", "log(1-x)", "cos x", "sin x"
    bounds : for the name of each parameter (K, d), the smallest and the largest number that it can be
    support : the values that can be emitted (`streamem.families.support`); all numbers by default
    needed : for the error about any other value, which values are possible, and what to do

    Notes
    -----
    Besides the three methods: `base` (h, where there is one), `mean` (for `impute`), `draw` (for `sample`). An instance
    from `integrating` takes NaN for values that were not observed, each of which drops its factor of the density.
    Statistics: weight (K,), sums (K, d, F) of T, and of such an instance observed (K, d), the weight of what was
    observed.

    Examples
    --------
    The Rayleigh distribution, p(x) = x/s² exp(−x²/(2 s²)):

    >>> import numpy as np
    >>> from streamem import Mixture, Params
    >>> from streamem.families import ExponentialFamily
    >>> from streamem.families.support import POSITIVE
    >>> class Rayleigh(ExponentialFamily):
    ...     features, bounds, support = ("x^2", "log x"), {"scales": (0.0, np.inf)}, POSITIVE
    ...     needed = "Rayleigh values are > 0: leave zeros out"
    ...     def natural(self, params):
    ...         return np.stack([-0.5 / params.scales**2, np.ones_like(params.scales)], axis=-1)
    ...     def log_partition(self, params): return 2 * np.log(params.scales)
    ...     def from_means(self, means, overall, previous): return Params(scales=np.sqrt(means[..., 0] / 2))
    >>> x = np.random.default_rng(0).rayleigh(np.repeat([1.0, 9.0], 500))[:, None]
    >>> sorted(Mixture(Rayleigh(), 2, random_state=0).fit(x).params_.scales.ravel().round(1).tolist())
    [1.0, 8.7]
    """

    features: ClassVar[tuple[str, ...]]
    bounds: ClassVar[Bounds]
    support: ClassVar[Support] = REALS
    needed: ClassVar[str] = "the family cannot emit it: leave the row or the column out"

    held_alone: ClassVar[tuple[str, ...]] = ()
    """Parameters each of which can stay while `beside` finds the others."""

    tied_alone: ClassVar[tuple[str, ...]] = ()
    """Parameters each of which components can share, since `alike` knows what sums over components say of it."""

    integrates = False
    """Whether NaN is a value that was not observed; `integrating` sets it."""

    # --- what a subclass gives ---------------------------------------------------------------------------------------

    @abstractmethod
    def natural(self, params: Params) -> Array:
        """Natural parameters η (K, d, F): the coefficients of the features."""

    @abstractmethod
    def log_partition(self, params: Params) -> Array:
        """The log-partition function A (K, d), in nats."""

    @abstractmethod
    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        """Parameters (K, d) of largest Σ_f η_f·means_f − A: the M-step.

        Parameters
        ----------
        means : (K, d, F) weighted means of T over the rows of a component
        overall : (d, F) of all rows, which EM does not change: floors may be relative to them
        previous : the parameters before, None at the start

        A boolean array ``floored`` (K, d) besides them says where a bound stopped the maximum.
        """

    def base(self, x: Array) -> Array:
        """The base measure h (n,) of rows, common to all components, or one number for all; NaN counts nothing."""
        return NO_BASE

    def mean(self, params: Params) -> Array:
        """Expected value (K, d) of every component and column.

        Raises
        ------
        ParameterError : the subclass does not say
        """
        raise ParameterError(f"{type(self).__name__} cannot impute: it has no mean(params) -> (K, d)")

    def typical(self, params: Params) -> Array | None:
        """Values (K, d) that are ordinary for each component, which tell how far log-densities round; None: unknown."""
        return self.mean(params) if has_own(self, ExponentialFamily, "mean") else None

    def counted(self, n_features: int) -> Array:
        """All columns where the support is whole numbers, else none."""
        return np.full(n_features, self.support.whole)

    # --- missing values ----------------------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN: of an instance from `integrating`."""
        return self.integrates

    def integrating(self) -> Self:
        """This family for rows that may hold NaN, each of which drops its factor of the density."""
        other = copy.copy(self)
        other.integrates = True
        return other

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Rows x (n, d) with the components' means, mixed by resp (n, K), instead of NaN."""
        return filled_by_means(x, self.mean(params), resp)

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) with values drawn from each row's component (n,) instead of NaN."""
        return filled_by_draws(self, params, x, component, rng)

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((self._shape(params)[0], len(x)))
        step = self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.log_prob(out[:, first : first + step])
        return out.T

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,), sums (K, d, F) of T and, of an integrating family, observed (K, d); weighted by resp (n, K)."""
        k, d = resp.shape[1], x.shape[1]
        kernel, step = self._kernel_of(self.table(params, d), k, d), self._block_rows(k, d)
        for first in range(0, max(len(x), 1), step):
            kernel.load(x[first : first + step])
            kernel.accumulate(np.ascontiguousarray(resp[first : first + step].T, dtype=np.float64))
        return kernel.stats()

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """The M-step of each component and column; what saw no rows keeps its parameters."""
        return self._maximized(
            stats, previous, lambda means, weights, overall: self.from_means(means, overall, previous)
        )

    def _maximized(
        self, stats: Stats, previous: Params | None, best: Best, shared: frozenset[str] = frozenset()
    ) -> Params:
        sums, weights, empty = np.asarray(stats.sums), column_weights(stats, stats.sums), empty_components(stats.weight)
        total = weights.sum(axis=0)
        if previous is None and not (total > 0).all():
            column = int(np.argmin(total > 0))
            raise DataError(f"column {column} has no observed value in the starting sample; leave the column out")
        absent = empty[:, None] | ~(weights > EMPTY_FRACTION * total)
        overall = sums.sum(axis=0) / np.where(total > 0, total, 1.0)[:, None]
        means = np.where(absent[..., None], overall, sums / np.where(absent, 1.0, weights)[..., None])
        if previous is None or "crude" in previous:
            found = best(first_means(means, overall), weights, overall)
            return self._closed(found, empty, np.zeros_like(absent), found)
        with np.errstate(all="ignore"):  # of columns that nobody has seen
            found = best(means, weights, overall)
        return self._closed(found, empty, absent, previous, shared)

    def _closed(
        self, found: Params, empty: Array, absent: Array, previous: Params, shared: frozenset[str] = frozenset()
    ) -> Params:
        kept = {
            name: np.where(absent, previous.get(name, found[name]), found[name])
            for name in self.bounds
            if name not in shared
        }
        floored = found.get("floored", np.zeros_like(absent)) & ~absent
        return found.replace(**kept, empty=empty, floored=floored.any(axis=1))

    # --- parameters that stay, or that components share --------------------------------------------------------------

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names in `bounds`."""
        return tuple(self.bounds)

    def holds(self, names: frozenset[str]) -> bool:
        """One of `held_alone`."""
        return len(names) == 1 and names <= set(self.held_alone)

    def maximize_holding(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """The M-step of the other parameters."""

        def best(means: Array, weights: Array, overall: Array) -> Params:
            return self.beside(means, overall, previous, names)

        return self._maximized(stats, previous, best).replace(**{name: previous[name] for name in names})

    def beside(self, means: Array, overall: Array, previous: Params, names: frozenset[str]) -> Params:
        """All parameters, of which those in `names` are as in `previous`; arguments as of `from_means`."""
        raise NotImplementedError(f"{type(self).__name__} finds nothing beside {', '.join(sorted(names))}")

    def ties(self, names: frozenset[str]) -> bool:
        """One of `tied_alone`."""
        return len(names) == 1 and names <= set(self.tied_alone)

    def maximize_tying(self, stats: Stats, previous: Params | None, names: frozenset[str]) -> Params:
        """The M-step of means of T that say the same of what components share."""

        def best(means: Array, weights: Array, overall: Array) -> Params:
            found = self.from_means(self.alike(means, weights / weights.sum(axis=0)), overall, previous)
            every = {name: np.broadcast_to(np.asarray(found[name])[:1], np.shape(found[name])) for name in names}
            return found.replace(**every)

        return self._maximized(stats, previous, best, names)

    def alike(self, means: Array, shares: Array) -> Array:
        """Means of T (K, d, F) for which `from_means` gives what components of these shares (K, d) have in common."""
        raise NotImplementedError(f"{type(self).__name__} has nothing in common alone")

    # --- how it is computed ------------------------------------------------------------------------------------------

    def table(self, params: Params | None, d: int) -> FeatureTable:
        """The features of d columns."""
        return features_of_columns(self.features, d, self.integrates)

    def coefficients(self, params: Params) -> Array:
        """Coefficients (K, 1 + F) of [1, T]."""
        eta, a = np.asarray(self.natural(params)), np.asarray(self.log_partition(params))
        if not self.integrates:
            return np.column_stack([-a.sum(axis=1), eta.reshape(len(eta), -1)])
        by_column = np.concatenate([-a[..., None], eta], axis=-1)
        return np.column_stack([np.zeros(len(a)), by_column.reshape(len(a), -1)])

    def as_stats(self, sums: Array) -> Stats:
        """Statistics of sums (K, 1 + F) of [1, T]."""
        by_column = sums[:, 1:].reshape(len(sums), -1, len(self.features) + self.integrates)
        if not self.integrates:
            return Stats(weight=sums[:, 0], sums=by_column)
        return Stats(weight=sums[:, 0], observed=by_column[..., 0], sums=by_column[..., 1:])

    def n_features(self, n_components: int, n_columns: int) -> int:
        """F, of all columns."""
        return n_columns * (len(self.features) + self.integrates)

    def measure(self, x: Array) -> Array:
        """`base` of rows, after a check of all values.

        Raises
        ------
        ImpossibleValueError : a value that cannot be emitted
        """
        require_within(x, self.support, self.needed)
        return self.base(x)

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Products with transformed columns, in float64 whatever the rows."""
        k, d = self._shape(params)
        table, natural = self.table(params, d), self.coefficients(params)
        values, z = self.typical(params), np.ones((natural.shape[1], k))
        if values is not None:
            kernels.fill_features(np.ascontiguousarray(values), table, np.empty(d * k), z)
        terms = np.abs(natural.T * z).sum(axis=0) + np.abs(natural).max(axis=1)
        return self._kernel_of(table, k, d, natural, np.minimum(terms, np.finfo(np.float64).max))

    def _kernel_of(
        self, table: FeatureTable, k: int, d: int, natural: Array | None = None, terms: Array | None = None
    ) -> TransformKernel:
        known = np.zeros((k, 1 + len(table.codes))) if natural is None else natural
        sizes = np.zeros(k) if terms is None else terms
        return TransformKernel(known, table, d, sizes, self.measure, self.as_stats)

    def _shape(self, params: Params) -> tuple[int, int]:
        k, d = np.shape(params[next(iter(self.bounds))])
        return k, d

    def _block_rows(self, k: int, d: int) -> int:
        return block_rows(k, self.n_features(k, d))

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return self._block_rows(*self._shape(params))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What a kernel and the responsibilities of a block hold."""
        return transform_bytes(n_components, n_features, self.n_features(n_components, n_features))

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Weights and sums in float64."""
        return 8 * n_components * (1 + self.n_features(n_components, n_features))

    # --- what the M-step does ----------------------------------------------------------------------------------------

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Means of T that the M-step answers with parameters within their bounds."""
        seen = column_weights(valid, valid.sums) > 0

        def possible(found: Stats) -> NDArray[np.bool_]:
            weights = np.where(seen, column_weights(found, found.sums), 1.0)
            overall = found.sums.sum(axis=0) / weights.sum(axis=0)[:, None]
            with np.errstate(all="ignore"):
                params = self.from_means(found.sums / weights[..., None], overall, previous)
            ok = ~np.asarray(params.get("floored", np.zeros_like(seen)), dtype=np.bool_)
            for name, (low, high) in self.bounds.items():
                ok &= np.isfinite(params[name]) & (params[name] >= low) & (params[name] <= high)
            return np.asarray((ok | ~seen).all(axis=1))

        return shrunk(stats, valid, (stats.weight, valid.weight), possible)

    # --- what is asked of parameters ---------------------------------------------------------------------------------

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components without rows, which kept their parameters, and those that a bound stopped ("floored")."""
        kinds = ("empty", "floored")
        return {kind: np.flatnonzero(params.get(kind, False)).tolist() for kind in kinds}

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """The parameters that have bounds, every number by itself."""
        return FreeForm({name: np.asarray(params[name], dtype=np.float64) for name in self.bounds})

    def free_parameters(self, params: Params) -> int:
        """Numbers that an M-step may choose."""
        return sum(int(np.size(params[name])) for name in self.bounds)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Parameters out of their bounds."""
        shape = (n_components, n_features)
        if found := missing(params, (*self.bounds, "empty", "floored")):
            return found
        found = [fault for name, ends in self.bounds.items() for fault in within(name, params[name], shape, *ends)]
        return found + [fault for name in ("empty", "floored") for fault in flags(name, params[name], shape[:1])]
