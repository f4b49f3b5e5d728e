"""`Fixed`: parameters that are given, or found at the start, and that no M-step changes."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.free_form import FreeForm
from streamem.core.ports import Family, full_family
from streamem.core.stats import Stats
from streamem.core.validation import numbers
from streamem.families.around import Around
from streamem.families.empty_components import empty_components
from streamem.families.named_parameters import checked_names, n_components_of, names_all, require_all, with_given

Array = NDArray[Any]

NOT_YET = "unfixed"
"""Marks the parameters of `start`, after which the first M-step makes what the next ones leave."""


class Fixed(Around):
    """A family of which some parameters stay as they are given, or as the start has made them.

    Parameters
    ----------
    family : of any kind, your own included
    names : names of parameters, a mapping of names to values, or None for all parameters
        Values have the component on axis 0, (K, …), and are in units of the data: ``{"means": [[0.0], [5.0]]}``.
        Without values the first M-step, of the starting responsibilities, makes them. Of a `Product` names are those of
        its factors, and values are given to the factor itself: ``Product({"visits": Fixed(Poisson(), …), …})``.

    Notes
    -----
    Parameters, their names and the attributes of an estimator are those of the family. With some parameters fixed the
    M-step finds the best others *given* these, so EM is monotone: covariances about fixed means, scales for fixed
    shapes. All parameters together can be fixed whatever the family; some of them where the family knows such an
    M-step: means or covariances of `Gaussian`, one of two parameters of `Gamma`, `LogNormal` and `VonMises`, factors of
    a `Product`, weights or parts of a `MixtureFamily`.

    Given values belong to components by their order, and the start does not know that order: where the other columns of
    a `Product` tell components apart too, take several starts (``n_init``).

    Raises
    ------
    ParameterError : names that are none, or parameters that the family cannot leave while it finds the others

    Examples
    --------
    How many of the counts are noise of a known rate:

    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import Fixed, Poisson
    >>> x = np.random.default_rng(0).poisson(np.repeat([1.0, 6.0], [3000, 1000]))[:, None].astype(float)
    >>> mix = Mixture(Fixed(Poisson(), {"rates": [[1.0], [6.0]]}), 2, random_state=0, tol=1e-8).fit(x)
    >>> mix.params_.rates.ravel().tolist(), mix.weights_.round(2).tolist()
    ([1.0, 6.0], [0.75, 0.25])
    """

    def __init__(self, family: Family, names: Sequence[str] | Mapping[str, ArrayLike] | None = None) -> None:
        super().__init__(family)
        given = names if isinstance(names, Mapping) else {}
        self.values = {name: numbers(value, str(name)) for name, value in given.items()}
        self.names = checked_names(self.family, names, "fix")
        self.fixes_all = names_all(self.family, self.names)
        if not self.fixes_all and not self.family.holds(frozenset(self.names)):
            raise ParameterError(
                f"{self.told} has no M-step that leaves {', '.join(self.names)} and finds its other parameters: fix "
                f"all of {', '.join(self.family.parameter_names)}, or none"
            )
        held = b"|".join(name.encode() + value.tobytes() for name, value in sorted(self.values.items()))
        self.identity = f"{zlib.crc32(held):08x}" if held else None
        self._n_features = 0

    @property
    def fixes_what_it_finds(self) -> bool:
        """Whether the first M-step makes the values that stay."""
        return len(self.values) < len(self.names) or not self.names

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Family:
        """This around the family that knows the columns."""
        other = copy.copy(self)
        other.family = full_family(self.family.for_columns(n_features, names, categories))
        other._n_features = n_features
        return other

    # --- before and after the first M-step ---------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params | None:
        """The family's start, marked: nothing is fixed yet."""
        found = self.family.start(x, weight, n_components)
        return None if found is None else found.replace(**{NOT_YET: np.True_})

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """The family's statistics of x, weighted by resp (n, K)."""
        return self.family.stats(_unmarked(params), x, resp)

    def maximize(self, stats: Stats, previous: Any) -> Params:
        """The best of the parameters that are free, given the others."""
        if previous is None or NOT_YET in previous:
            return self._first(stats, _unmarked(previous))
        if not self.fixes_all:
            return self.family.maximize_holding(stats, previous, frozenset(self.names))
        stays: Params = previous
        known = "empty" in stays and "weight" in stats and np.shape(stays.empty) == np.shape(stats.weight)
        return stays.replace(empty=empty_components(stats.weight)) if known else stays

    def shortfall(self, old: Any, new: Any, stats: Stats) -> float:
        """The family's shortfall, in nats; parameters that all stay lose nothing."""
        first = NOT_YET in old
        return 0.0 if self.fixes_all and not first else self.family.shortfall(_unmarked(old), new, stats)

    def free_form(self, params: Any, n_components: int) -> FreeForm:
        """The family's numbers, without those that are fixed."""
        form = self.family.free_form(params, n_components)
        free = {} if self.fixes_all else {n: v for n, v in form.values.items() if n.partition(".")[0] not in self.names}
        simplex = {name: starts for name, starts in form.simplex.items() if name in free}
        return FreeForm(free, form.shared & free.keys(), simplex, form.symmetric & free.keys())

    def from_free_form(self, values: Mapping[str, Array], params: Any) -> Params:
        """The family's parameters, of which those that are fixed stay."""
        form = self.family.free_form(params, n_components_of(params))
        return self.family.from_free_form({**form.values, **values}, params)

    def free_parameters(self, params: Any) -> int:
        """The family's, without those that are fixed."""
        if self.fixes_all:
            return 0
        fixed = sum(self.family.free_of(params, name) for name in self.names)
        return self.family.free_parameters(params) - fixed

    def _first(self, stats: Stats, previous: Any) -> Params:
        """The family's first parameters, with the given values, and the best others beside these."""
        found = self.family.maximize(stats, previous)
        require_all(self.family, found, self.names, "fix")
        if not self.values:
            return found
        k = len(next(iter(self.values.values())))
        given = with_given(self.family, found, self.values, k, self._n_features)
        if self.fixes_all:
            return given
        known = stats if previous is None else self.family.rebase(stats, previous, given)
        return self.family.maximize_holding(known, given, frozenset(self.names))


def _unmarked(params: Any) -> Any:
    """Parameters without the mark of a start."""
    if params is None or NOT_YET not in params:
        return params
    return type(params)(**{name: value for name, value in params.items() if name != NOT_YET})
