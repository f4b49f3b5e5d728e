"""Mixed columns: a component is a product of distributions, each of its own columns."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DataError, ParameterError
from streamem.core.extrapolation import kept_signs
from streamem.core.faults import flags, missing, prefixed
from streamem.core.free_form import FreeForm, own_part
from streamem.core.ports import Family, FullFamily, Kernel, full_family, kernel_of
from streamem.core.stats import Stats
from streamem.families.empty_components import empty_components
from streamem.families.packed import packed, unpacked
from streamem.families.product_columns import asked_columns, keys_of
from streamem.families.product_parts import Part, drawn_values, integrating_part, located, looked_up
from streamem.kernels.nested.product_kernel import Factor, ProductKernel, in_columns_of_row, no_values, own_columns

Array = NDArray[Any]


class Product(FullFamily):
    """Mixed columns, independent given the component: p_k(x) = Π_j p_jk(x_j), with a family for each group of columns.

    Parameters
    ----------
    families : mapping of columns to families
        A column by name or index, or a tuple of them for a family of several columns:
        ``{"income": Gaussian(), ("lat", "lon"): Gaussian(), "visits": Poisson(), "region": Categorical()}``. Every
        column of the data (or of those chosen with ``columns=``) belongs to exactly one family. Text is read as codes
        of one vocabulary, kept with the model as ``categories_``, for families that count categories.

    Notes
    -----
    Parameters and statistics are nested: those of each family under the names of its columns, joined by "_", with "_"
    for characters that Python allows in no name and "x3" for column 3; beside them empty (K,), the components that
    explained nothing in the last M-step. `sample` draws the codes of text.

    With missing values a NaN drops its factor where the family has one column, whatever the family; families of several
    columns integrate over what was not observed, if they can.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import Gaussian, Poisson, Product
    >>> rng = np.random.default_rng(0)
    >>> busy = rng.random(1000) < 0.5
    >>> x = np.column_stack([rng.normal(np.where(busy, 5.0, 0.0)), rng.poisson(np.where(busy, 9.0, 1.0))])
    >>> mix = Mixture(Product({0: Gaussian(), 1: Poisson()}), 2, random_state=0).fit(x)
    >>> sorted(mix.params_.x1.rates.ravel().round().tolist())
    [1.0, 9.0]
    """

    def __init__(self, families: Mapping[Any, Family]) -> None:
        if not isinstance(families, Mapping) or not families:
            raise ParameterError(f"a product takes a mapping of columns to families, not {families!r:.100}")
        asked = [asked_columns(named) for named in families]
        self.parts = tuple(
            Part(key, columns, full_family(family), ())
            for key, columns, family in zip(keys_of(asked), asked, families.values(), strict=True)
        )
        for part in self.parts:
            if getattr(part.family, "lag", 0):
                raise ParameterError(f"{part.told}: it looks back on earlier rows, which a factor of a product cannot")

    def __repr__(self) -> str:
        """The families by their columns, as a user writes them."""
        named = [repr(part.asked[0] if len(part.asked) == 1 else tuple(part.asked)) for part in self.parts]
        told = (f"{name}: {part.family!r}" for name, part in zip(named, self.parts, strict=True))
        return f"Product({{{', '.join(told)}}})"

    # --- the columns -------------------------------------------------------------------------------------------------

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Self:
        """The product that knows where its columns are."""
        return self._of(looked_up(self.parts, n_features, names, categories))

    def _of(self, parts: Sequence[Part]) -> Self:
        other = copy.copy(self)
        other.parts = tuple(parts)
        return other

    def _located(self, n_features: int) -> tuple[Part, ...]:
        """The parts with their columns."""
        return located(self.parts, n_features)

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d), in nats: the sum over the factors."""
        total: Any = 0.0
        for part in self._located(x.shape[1]):
            own, present = part.observed(x)
            with in_columns_of_row(np.array(part.columns)):
                found = np.asarray(part.family.log_prob(params[part.key], own))
            if not isinstance(present, slice):
                found, known = np.zeros((len(x), found.shape[1])), found
                found[present] = known
            total = total + found
        return np.asarray(total)

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,), and the factors' statistics of their columns of x, weighted by resp (n, K)."""
        factors = {}
        for part in self._located(x.shape[1]):
            own, present = part.observed(x)
            with in_columns_of_row(np.array(part.columns)):
                factors[part.key] = part.family.stats(_known(params, part.key), own, resp[present])
        seen = np.delete(resp, no_values(x), axis=0) if self._gaps else resp
        return Stats(weight=np.sum(seen, axis=0, dtype=np.float64), factors=Stats(**factors))

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """The M-step of every factor: independent factors are maximized one by one."""
        factors = {
            part.key: part.family.maximize(self._own(stats, part), _known(previous, part.key)) for part in self.parts
        }
        return Params(empty=empty_components(stats.weight), **factors)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the factors."""
        return tuple(part.key for part in self.parts)

    def holds(self, names: frozenset[str]) -> bool:
        """Any factors."""
        return bool(names) and names <= set(self.parameter_names)

    def maximize_holding(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """The M-step of the other factors."""
        return self.maximize(stats, previous).replace(**{name: previous[name] for name in names})

    def ties(self, names: frozenset[str]) -> bool:
        """Any factors: columns that do not tell components apart."""
        return bool(names) and names <= set(self.parameter_names)

    def maximize_tying(self, stats: Stats, previous: Params | None, names: frozenset[str]) -> Params:
        """The M-step, for factors that are tied of statistics summed over components."""
        parts = {part.key: part.family for part in self.parts}
        pooled = {name: parts[name].pooled(stats.factors[name]) for name in names}
        return self.maximize(stats.replace(factors=stats.factors.replace(**pooled)), previous)

    def pooled(self, stats: Stats) -> Stats:
        """The factors' statistics summed over components."""
        weight = np.asarray(stats.weight)
        factors = {part.key: part.family.pooled(stats.factors[part.key]) for part in self.parts}
        every = np.repeat(weight.sum(keepdims=True), len(weight))
        return stats.replace(weight=every, factors=stats.factors.replace(**factors))

    def free_of(self, params: Params, name: str) -> int:
        """The factor's."""
        part = next(part for part in self.parts if part.key == name)
        return part.family.free_parameters(params[name])

    # --- before the first parameters ---------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params | None:
        """Starts of the factors that have one; None where none has."""
        found = {}
        for part in self._located(x.shape[1]):
            own, present = part.observed(x)
            if not len(own):
                raise DataError(
                    f"{part.told}: no row of the sample has a value there; leave the column out, or use more rows"
                )
            counted = None if weight is None else weight[present]
            if (known := part.family.start(own, counted, n_components)) is not None:
                found[part.key] = known
        return Params(empty=np.zeros(n_components, dtype=np.bool_), **found) if found else None

    @property
    def has_start(self) -> bool:
        """Whether any factor has."""
        return any(part.family.has_start for part in self.parts)

    @property
    def is_surveyed(self) -> bool:
        """Whether every factor is."""
        return all(part.family.is_surveyed for part in self.parts)

    def survey(self, x: Array, weight: Array | None) -> Array:
        """What a survey of rows finds for the factors that need one, one after the other."""
        found = []
        for part in self._located(x.shape[1]):
            if not part.family.is_surveyed:
                with in_columns_of_row(np.array(part.columns)):
                    found.append(part.family.survey(own_columns(x, np.array(part.columns)), weight))
        return packed(found)

    def surveyed(self, found: Sequence[Array]) -> Self:
        """The product whose factors know what the survey of all chunks found."""
        chunks, parts = [unpacked(one) for one in found], []
        for part in self.parts:
            if not part.family.is_surveyed:
                own = [chunk.pop(0) for chunk in chunks]
                part = replace(part, family=full_family(part.family.surveyed(own)))
            parts.append(part)
        return self._of(parts)

    def counted(self, n_features: int) -> Array:
        """Which columns hold whole numbers, as the factors say."""
        out = np.zeros(n_features, dtype=np.bool_)
        for part in self._located(n_features):
            out[list(part.columns)] = part.family.counted(part.width)
        return out

    def coded(self, n_features: int) -> Array:
        """Which columns hold codes, as the factors say."""
        out = np.zeros(n_features, dtype=np.bool_)
        for part in self._located(n_features):
            out[list(part.columns)] = part.family.coded(part.width)
        return out

    takes_codes = True  # so that text under another family is refused by name (`for_columns`)

    @property
    def total_weight(self) -> float | None:
        """Σ weights of the rows that priors of the factors are weighed against; None as long as one does not know."""
        prior = [part.family for part in self.parts if hasattr(part.family, "total_weight")]
        known = [family.total_weight for family in prior if family.total_weight is not None]
        asks = any(family.total_weight is None and not family.is_surveyed for family in prior)
        return None if asks or not known else float(known[0])

    def weighed(self, total_weight: float | None) -> Self:
        """The product whose factors weigh their priors against so much data."""
        weigh = [getattr(part.family, "weighed", None) for part in self.parts]
        return self._of(
            [
                part if how is None else replace(part, family=full_family(how(total_weight)))
                for part, how in zip(self.parts, weigh, strict=True)
            ]
        )

    # --- values that were not observed -------------------------------------------------------------------------------

    @property
    def allows_missing(self) -> bool:
        """Whether every factor either drops rows without a value or integrates over what was not observed."""
        return all(part.drops or part.family.allows_missing for part in self.parts)

    @property
    def _gaps(self) -> bool:
        """Whether any factor reads NaN as a value that was not observed."""
        return any(part.drops or part.family.allows_missing for part in self.parts)

    def integrating(self) -> Self:
        """The product for rows that may hold NaN.

        Raises
        ------
        ParameterError : a family of several columns that knows no missing values
        """
        return self._of([integrating_part(part) for part in self.parts])

    def skipping_unseen(self) -> Self:
        """The product whose factors skip codes that they have never seen."""
        return self._of([replace(part, family=full_family(part.family.skipping_unseen())) for part in self.parts])

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Rows x (n, d) whose NaN are replaced by conditional means, mixed by resp (n, K)."""
        out = np.array(x, dtype=np.float64)
        for part in self._located(x.shape[1]):
            columns = np.array(part.columns)
            rows = np.flatnonzero(np.isnan(x[:, columns]).any(axis=1))
            if len(rows):
                own = np.ascontiguousarray(x[rows][:, columns])
                out[np.ix_(rows, columns)] = part.family.filled(params[part.key], own, resp[rows])
        return out

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) whose NaN are drawn from each row's component (n,)."""
        out = np.array(x, dtype=np.float64)
        for part in self._located(x.shape[1]):
            columns = np.array(part.columns)
            rows = np.flatnonzero(np.isnan(x[:, columns]).any(axis=1))
            if len(rows):
                own = np.ascontiguousarray(x[rows][:, columns])
                out[np.ix_(rows, columns)] = drawn_values(part, params[part.key], own, component[rows], rng)
        return out

    # --- how it is computed ------------------------------------------------------------------------------------------

    def block_rows(self, params: Params) -> int:
        """Rows a block: those of the factor that takes fewest."""
        return min(part.family.block_rows(params[part.key]) for part in self.parts)

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """The factors' kernels, each on its own columns."""
        k = _n_components(params)
        located = self._located(sum(part.width for part in self.parts))
        factors = [
            Factor(
                part.key,
                kernel_of(part.family, params[part.key], k, dtype),
                np.array(part.columns),
                part.drops,
            )
            for part in located
        ]
        return ProductKernel(factors, k, self.block_rows(params), self._gaps)

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Which arithmetics the factors run on rows of `dtype`, in words."""
        return "; ".join(dict.fromkeys(part.family.arithmetic(params[part.key], dtype) for part in self.parts))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """The factors' kernels, and what a block of columns and log-densities holds."""
        own = 8 * 1024 * (2 * n_components + n_features)
        return own + sum(part.family.workspace_bytes(n_components, part.width) for part in self.parts)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """The factors' statistics, and a weight a component."""
        return 8 * n_components + sum(part.family.statistics_bytes(n_components, part.width) for part in self.parts)

    # --- what the M-step does ----------------------------------------------------------------------------------------

    def penalty(self, params: Params, stats: Stats) -> float:
        """The sum of the factors', in nats."""
        return sum(part.family.penalty(params[part.key], stats.factors[part.key]) for part in self.parts)

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """The sum of the factors', in nats."""
        return sum(
            part.family.shortfall(old[part.key], new[part.key], self._own(stats, part))
            for part in self.parts
            if part.key in old
        )

    @property
    def reads_rounding(self) -> bool:
        """Whether any factor reads how the statistics were rounded."""
        return any(part.family.reads_rounding for part in self.parts)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components that were kept from degenerating, by kind of intervention and columns."""
        return {
            f"{kind} in {part.key}": components
            for part in self.parts
            for kind, components in part.family.degenerate(params[part.key]).items()
        }

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """The factors' statistics as if they had been taken at `new`."""
        found = {
            part.key: part.family.rebase(stats.factors[part.key], old[part.key], new[part.key]) for part in self.parts
        }
        same = all(stats.factors[key] is value for key, value in found.items())
        return stats if same else stats.replace(factors=Stats(**found))

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """The weights as weights, and the statistics of every factor as that says."""
        found = {
            part.key: part.family.project(stats.factors[part.key], valid.factors[part.key], previous[part.key])
            for part in self.parts
        }
        return kept_signs(stats.replace(factors=valid.factors), valid).replace(factors=Stats(**found))

    def reanchored(self, params: Params) -> Params:
        """The factors about better anchors, where theirs have come to lie far off."""
        found = {part.key: part.family.reanchored(params[part.key]) for part in self.parts}
        return params if all(params[key] is value for key, value in found.items()) else params.replace(**found)

    # --- words for messages ------------------------------------------------------------------------------------------

    @property
    def estimates(self) -> str:
        """What the first factor needs two rows to estimate that says so."""
        told = [part.family.estimates for part in self.parts]
        return next((what for what in told if what != "a model"), "a model")

    @property
    def overflows(self) -> str:
        """Which finite values some factor has no log-density for."""
        return next((part.family.overflows for part in self.parts if part.family.overflows), "")

    # --- what is asked of parameters ---------------------------------------------------------------------------------

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """The numbers of every factor, under its name."""
        found = FreeForm({})
        for part in self.parts:
            found = found.joined(part.family.free_form(params[part.key], n_components).below(part.key))
        return found

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The factors that their numbers tell."""
        factors = {
            part.key: part.family.from_free_form(own_part(values, part.key), params[part.key]) for part in self.parts
        }
        return params.replace(**factors)

    def free_parameters(self, params: Params) -> int:
        """The sum of the factors'."""
        return sum(part.family.free_parameters(params[part.key]) for part in self.parts)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What the factors find wrong."""
        if found := missing(params, ("empty", *(part.key for part in self.parts))):
            return found
        return flags("empty", params.empty, (n_components,)) + [
            fault
            for part in self.parts
            for fault in prefixed(part.key, part.family.faults(params[part.key], n_components, part.width))
        ]

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits, factor after factor.

        Raises
        ------
        ParameterError : a factor that cannot draw
        """
        d = sum(part.width for part in self.parts)
        out = np.empty((count, d))
        for part in self._located(d):
            out[:, part.columns] = part.family.draw(params[part.key], component, count, rng)
        return out

    @property
    def can_draw(self) -> bool:
        """Whether every factor can."""
        return all(part.family.can_draw for part in self.parts)

    def far_log_prob(self, params: Params, x: Array) -> Array | None:
        """Log-densities (n, K) of rows whose squared distances overflow in some factor, in nats."""
        return sum((found for _, found in self._far(params, x)), start=np.zeros((len(x), _n_components(params))))

    def far_order(self, params: Params, x: Array) -> Array | None:
        """Numbers (n, K) that order components: those of the factor that is far, and NaN where several are."""
        known, order = np.zeros((2, len(x), _n_components(params)))
        far_factors = np.zeros(len(x), dtype=np.intp)
        for part, found in self._far(params, x):
            lost = np.isneginf(found).all(axis=1)
            known[~lost] += found[~lost]
            if not lost.any():
                continue
            own = part.family.far_order(params[part.key], own_columns(x[lost], np.array(part.columns)))
            order[lost] = np.nan if own is None else own
            far_factors[lost] += 1
        order[far_factors > 1] = np.nan
        return np.where((far_factors == 0)[:, None], known, np.where(np.isneginf(known), -np.inf, order))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _far(self, params: Params, x: Array) -> Iterator[tuple[Part, Array]]:
        """Every factor with its log-densities (n, K) of rows that may be far; NaN where nobody can tell."""
        for part in self._located(x.shape[1]):
            own, present = part.observed(x)
            found = np.zeros((len(x), _n_components(params)))
            with np.errstate(over="ignore", invalid="ignore"):
                far = part.family.far_log_prob(params[part.key], own) if len(own) else None
                if len(own):
                    found[present] = part.family.log_prob(params[part.key], own) if far is None else far
            yield part, found

    def _own(self, stats: Stats, part: Part) -> Stats:
        """A factor's statistics, of which it may have to know how they were rounded."""
        own: Stats = stats.factors[part.key]
        told = "rounding" in stats and part.family.reads_rounding
        return own.replace(rounding=stats.rounding) if told else own


def _known(params: Params | None, key: str) -> Params | None:
    """A factor's own parameters, where it has any yet."""
    return None if params is None else params.get(key)


def _n_components(params: Params) -> int:
    """K."""
    return len(params.empty)
