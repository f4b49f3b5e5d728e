"""Ports of what a component emits. A user's family needs three functions; `FullFamily` has a default for all else.

Letters in shapes: n rows, d features, k components.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.completing import as_written, completed, has_own
from streamem.core.errors import ParameterError
from streamem.core.extrapolation import kept_signs
from streamem.core.free_form import FreeForm, found_form, put_back
from streamem.core.ports.kernel import PLAIN_BLOCK_ROWS, Kernel, Mixing, PlainKernel
from streamem.core.slopes import Slopes
from streamem.core.stats import Stats

Array = NDArray[Any]


class Family(Protocol):
    """What one component emits, for k components at once.

    Laws: `stats` is linear in `resp`; `maximize` maximizes the expected log-likelihood of such statistics;
    ``maximize(c * s) == maximize(s)``. Any method of `FullFamily` may be there besides.
    """

    def log_prob(self, params: Any, x: Array) -> Array:
        """Log-density of every row under every component, (n, k), in nats."""

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """Sufficient statistics of x (n, d) weighted by resp (n, k); may read params."""

    def maximize(self, stats: Stats, previous: Any) -> Params:
        """Parameters of largest expected log-likelihood; `previous` fills what is empty or held fixed."""


def _same(value: Any, parameter: Parameter) -> bool:
    """Whether a setting is the default."""
    return bool(np.array_equal(np.asarray(value, dtype=object), np.asarray(parameter.default, dtype=object)))


class FullFamily(ABC):
    """A family with everything that models, estimators and runs may ask of one: three functions, and defaults."""

    _returns: ClassVar[Mapping[str, type]] = {"stats": Stats, "maximize": Params}
    """What functions of users are checked to return."""

    def __repr__(self) -> str:
        """The class with the settings that are not the default, as a user writes it."""
        known = signature(type(self)).parameters.values()
        own = vars(self)
        given = [f"{one.name}={own[one.name]!r}" for one in known if one.name in own and not _same(own[one.name], one)]
        return f"{type(self).__name__}({', '.join(given)})"

    @abstractmethod
    def log_prob(self, params: Any, x: Array) -> Array:
        """Log-density of every row under every component, (n, k), in nats."""

    @abstractmethod
    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """Sufficient statistics of x (n, d) weighted by resp (n, k); may read params."""

    @abstractmethod
    def maximize(self, stats: Stats, previous: Any) -> Params:
        """Parameters of largest expected log-likelihood; `previous` fills what is empty or held fixed."""

    # --- the columns of the data -------------------------------------------------------------------------------------

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Family:
        """This family for rows of d features, of which the data may tell names, and the categories of text by name.

        Called with what the rows of a fit look like, before a survey, a start, and every later call.

        Raises
        ------
        SchemaError, ParameterError : columns that the family needs are not there, or do not hold what it takes
        """
        return self

    # --- before the first parameters ---------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params | None:
        """Parameters that the first statistics need (an anchor, a scale), equal for every component; None for none."""
        return None

    @property
    def has_start(self) -> bool:
        """Whether the first statistics need the parameters of `start`."""
        return has_own(self, FullFamily, "start")

    @property
    def is_surveyed(self) -> bool:
        """Whether nothing is to be learned from all data before the first parameters: categories are counted."""
        return True

    def survey(self, x: Array, weight: Array | None) -> Array:
        """What a survey finds in rows x (n, d) of weight (n,); rows of all NaN count nothing.

        Raises
        ------
        ImpossibleValueError : values that the family cannot emit
        """
        return np.empty(0)

    def surveyed(self, found: Sequence[Array]) -> Family:
        """The family with what a survey of all chunks found."""
        return self

    @property
    def takes_codes(self) -> bool:
        """Whether rows may be codes of categories, so that text can be read for the family."""
        return False

    def counted(self, n_features: int) -> Array:
        """Which columns (d,) hold whole numbers, each with a probability, rather than a density: counts, codes.

        Noise over the box of the data is measured in the same way as the family.

        Raises
        ------
        ParameterError : rows have neither by themselves, so that no noise is to be compared with them
        """
        return np.zeros(n_features, dtype=np.bool_)

    def coded(self, n_features: int) -> Array:
        """Which columns (d,) hold codes of categories: numbers that have no mean."""
        return np.zeros(n_features, dtype=np.bool_)

    # --- values that were not observed -------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether rows may hold NaN, values that were not observed, over which the family integrates.

        `log_prob` is then of the values that were observed (0 where none were), and `stats` holds the expected
        statistics given these (Dempster, Laird & Rubin 1977, §4.1.1). Rows without any value add nothing.
        """
        return False

    def integrating(self) -> Family:
        """This family for rows that may hold NaN; its parameters have the same names and shapes.

        Raises
        ------
        ParameterError : the family knows no missing values
        """
        if self.allows_missing:
            return self
        raise ParameterError(
            f'{type(as_written(self)).__name__} knows no missing values: leave missing="error" and drop or impute '
            "them, or give the family allows_missing = True and let log_prob and stats read NaN as not observed"
        )

    def skipping_unseen(self) -> Family:
        """This family, which takes codes that it has never seen for missing ones; itself where it has no codes."""
        return self

    @property
    def takes_row_noise(self) -> bool:
        """Whether a form of the family integrates over noise of known covariance that each row brings."""
        return False

    @property
    def can_integrate(self) -> bool:
        """Whether `integrating` gives a family, so that messages may name it as a remedy."""
        try:
            self.integrating()
        except ParameterError:
            return False
        return True

    def filled(self, params: Any, x: Array, resp: Array) -> Array:
        """Rows x (n, d) whose NaN are replaced by conditional means, mixed by resp (n, k), given what was observed.

        Raises
        ------
        ParameterError : the family knows no conditional means
        """
        raise ParameterError(f"{type(as_written(self)).__name__} cannot impute: it has no filled(params, x, resp)")

    def drawn_for_missing(self, params: Any, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) whose NaN are drawn from each row's component (n,), given what was observed.

        Raises
        ------
        ParameterError : the family cannot draw
        """
        raise ParameterError(
            f"{type(as_written(self)).__name__} cannot draw missing values: it has no "
            "drawn_for_missing(params, x, component, rng)"
        )

    # --- how it is computed ------------------------------------------------------------------------------------------

    def block_rows(self, params: Any) -> int:
        """Rows a block, a pure function of the shape of the parameters."""
        return PLAIN_BLOCK_ROWS

    def kernel(self, params: Any, dtype: DTypeLike = np.float64) -> Kernel:
        """The family at these parameters, for rows of `dtype`; on float32 rows it may round more."""
        return PlainKernel(self, params)

    def screen(self, params: Any, dtype: DTypeLike, pairs_per_row: float, rows: float = 0.0) -> Mixing | None:
        """A cheaper E-step where most responsibilities are nil; None where the kernel is faster or more accurate.

        A pure function of its arguments; `pairs_per_row` is what an earlier pass counted, `rows` how many there are in
        this one. What it leaves out changes a log-density by less than its `rounding`.
        """
        return None

    def arithmetic(self, params: Any, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetic the kernel runs on rows of `dtype`, in words, for the report."""
        return self.kernel(params, dtype).path

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """Bytes that a kernel holds."""
        return 8 * PLAIN_BLOCK_ROWS * (3 * n_components + 2 * n_features)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Bytes of the statistics: by default of four numbers a component and feature."""
        return 8 * 4 * n_components * (1 + n_features)

    # --- what the M-step does ----------------------------------------------------------------------------------------

    def penalty(self, params: Any, stats: Stats) -> float:
        """What the M-step subtracts from the expected log-likelihood (a prior, `reg_covar`), in nats."""
        return 0.0

    def shortfall(self, old: Any, new: Any, stats: Stats) -> float:
        """Bound on how far `new`, of statistics taken at `old`, may be below what `old` achieves, in nats.

        Laws: never below 0; where the M-step is exact but for rounding, as on ordinary data, a rounding error and no
        more, so that an M-step which does not maximize is noticed.
        """
        return 0.0

    @property
    def reads_rounding(self) -> bool:
        """Whether `maximize` and `shortfall` read ``rounding`` in the statistics: of one log-density, in nats."""
        return has_own(self, FullFamily, "shortfall")

    def degenerate(self, params: Any) -> Mapping[str, list[int]]:
        """Components that were kept from degenerating, by kind of intervention ("empty", "floored")."""
        return {}

    def no_maximum(self, params: Any, log_likelihood: float, weight: float) -> str:
        """Why the likelihood has no maximum where `params` came to rest; an empty text if nothing is known.

        `log_likelihood` and `weight` are sums over all rows, in nats and in units of weight.
        """
        return ""

    def rebase(self, stats: Stats, old: Any, new: Any) -> Stats:
        """Statistics taken at `old` as if they had been taken at `new`, the responsibilities unchanged."""
        return stats

    def reanchored(self, params: Any) -> Any:
        """This distribution about a better anchor; `params` itself as long as the present anchor will do."""
        return params

    # --- parameters that an M-step leaves, or that components share --------------------------------------------------

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters that an M-step chooses, as users know them; () of a family that does not say."""
        return ()

    def holds(self, names: frozenset[str]) -> bool:
        """Whether `maximize_holding` can leave the parameters of these names and find the others."""
        return False

    def maximize_holding(self, stats: Stats, previous: Any, names: frozenset[str]) -> Params:
        """Parameters of largest expected log-likelihood among those that are as in `previous` under these names."""
        raise NotImplementedError(f"{type(as_written(self)).__name__} holds no {', '.join(sorted(names))}")

    def ties(self, names: frozenset[str]) -> bool:
        """Whether `maximize_tying` can find parameters of these names that all components share, beside the others."""
        return False

    def maximize_tying(self, stats: Stats, previous: Any, names: frozenset[str]) -> Params:
        """Parameters of largest expected log-likelihood among those of which all components share these names."""
        raise NotImplementedError(f"{type(as_written(self)).__name__} ties no {', '.join(sorted(names))}")

    def pooled(self, stats: Stats) -> Stats:
        """Statistics in which every component has the sums over all components.

        Raises
        ------
        ParameterError : statistics that do not have the component on axis 0
        """
        leaves = stats.flatten()
        shapes = {np.shape(leaf)[:1] for leaf in leaves.values()}
        if len(shapes) != 1 or () in shapes:
            told = ", ".join(f"{name} {np.shape(leaf)}" for name, leaf in leaves.items())
            raise ParameterError(
                f"the statistics of {type(as_written(self)).__name__} ({told}) do not all have the component on axis "
                "0, so they cannot be pooled over components: give the family a method pooled(stats)"
            )
        sums = {name: np.repeat(leaf.sum(axis=0, keepdims=True), len(leaf), axis=0) for name, leaf in leaves.items()}
        return Stats.unflatten(sums)

    def with_values(self, params: Any, values: Mapping[str, Array]) -> Params:
        """Parameters in which those of these names have these values, in units of the data."""
        changed: Params = params.replace(**values)
        return changed

    # --- statistics that were extrapolated ---------------------------------------------------------------------------

    def project(self, stats: Stats, valid: Stats, previous: Any) -> Stats:
        """Statistics extrapolated from those of rows, changed as little as possible so that `maximize` can take them.

        `valid` are the last that rows gave, at `previous`. By default no number changes its sign, or falls below 1/16
        of what it was, which suits weights, counts and sums of values >= 0. It need not catch everything: parameters
        that are not finite, and those with a lower objective, are turned down.
        """
        return kept_signs(stats, valid)

    # --- words for messages ------------------------------------------------------------------------------------------

    hides: str = ""
    """What a component hides of every row besides, in words ("factors"); "" where it hides nothing."""

    @property
    def estimates(self) -> str:
        """What at least two rows are needed to estimate, for messages."""
        return "a model"

    @property
    def overflows(self) -> str:
        """Which finite values have no log-density, for messages ("whose squares overflow"); empty if there are none."""
        return ""

    # --- what is asked of parameters ---------------------------------------------------------------------------------

    def free_parameters(self, params: Any) -> int:
        """Numbers that an M-step may choose: probabilities sum to 1, an anchor is none."""
        return sum(int(leaf.size) for leaf in params.flatten().values())

    def free_of(self, params: Any, name: str) -> int:
        """How many of the free parameters are numbers of one parameter; of all components."""
        return int(np.size(params[name]))

    def free_form(self, params: Any, n_components: int) -> FreeForm:
        """The numbers that tell these parameters, in units of the data, and the ties between them: for their errors.

        By default all arrays of floats, with the ties that the numbers show; see `found_form`.
        """
        return found_form(params, n_components)

    def from_free_form(self, values: Mapping[str, Array], params: Any) -> Params:
        """The parameters that other numbers in the arrays of `free_form` tell; `params` gives everything else.

        Law: ``log_prob`` at numbers that are near those of `params` differs by what the numbers say, so that
        differences of it are derivatives. It may be NaN, or this may fail, where the numbers cannot be.
        """
        return put_back(params, values)

    def slopes(self, params: Any) -> Slopes | None:
        """Derivatives of ``log_prob`` by the numbers of `free_form` in closed form; None leaves them to differences."""
        return None

    def faults(self, params: Any, n_components: int, n_features: int) -> list[str]:
        """One sentence for each array that contradicts itself, as a file may hold it, naming it.

        None of parameters that this library made; costs no more than an M-step.
        """
        return []

    def draw(self, params: Any, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits.

        Raises
        ------
        ParameterError : the family cannot draw
        """
        raise ParameterError(f"{type(as_written(self)).__name__} cannot draw rows: it has no draw")

    @property
    def can_draw(self) -> bool:
        """Whether rows can be drawn."""
        return has_own(self, FullFamily, "draw")

    def few_log_prob(self, params: Any, x: Array) -> Array | None:
        """Log-densities (n, k) of rows x (n, d) that are too few to make a kernel for; None where a kernel serves."""
        return None

    def far_log_prob(self, params: Any, x: Array) -> Array | None:
        """Log-densities (n, k) of rows x (n, d) whose squared distances overflow, in nats; −∞ below what float64 holds.

        NaN, or None for all of them, says that the family cannot judge.
        """
        return None

    def far_order(self, params: Any, x: Array) -> Array | None:
        """Numbers (n, k) that order the components of a row as their log-densities do, where all of these are −∞."""
        return None


def full_family(family: Family) -> FullFamily:
    """A user's family, completed by the defaults; one that inherits from `FullFamily`, itself."""
    return family if isinstance(family, FullFamily) else completed(family, FullFamily)


def kernel_of(family: FullFamily, params: Any, n_components: int, dtype: DTypeLike = np.float64) -> Kernel:
    """The family's kernel for rows of `dtype`, which knows how many components and rows of a block there are."""
    kernel = completed(family.kernel(params, dtype), Kernel)
    kernel.n_components, kernel.block_rows = n_components, family.block_rows(params)
    return kernel
