"""`Tied`: parameters that all components share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.free_form import FreeForm
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.families.around import Around
from streamem.families.named_parameters import checked_names, n_components_of, names_all, require_all

Array = NDArray[Any]


class Tied(Around):
    """A family of which all components share some parameters.

    Parameters
    ----------
    family : of any kind, your own included
    names : names of parameters, or None for all parameters
        Of a `Product` names are those of its factors.

    Notes
    -----
    Parameters, their names and shapes are those of the family, with equal numbers for every component. The M-step of
    what is shared is that of statistics summed over components. All parameters together can be shared whatever the
    family: inside a `Product`, columns that do not tell components apart. Some of them can where sums over components
    are enough, in closed form or by the family's own search: covariances of `Gaussian`, shapes of `Gamma` and
    `LogNormal`, kappas of `VonMises`, factors of a `Product`, parts of a `MixtureFamily` (then a hidden Markov model
    with tied mixtures, Huang & Jack 1989; begin it with ``start="random"``).

    Raises
    ------
    ParameterError : names that are none, or parameters for which sums over components are not enough: the maximum
        depends on the other parameters of each component

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import Gamma, Tied
    >>> x = np.random.default_rng(0).gamma(3.0, np.repeat([1.0, 20.0], 2000))[:, None]
    >>> mix = Mixture(Tied(Gamma(), ["shapes"]), 2, random_state=0).fit(x)
    >>> mix.params_.shapes.round(1).tolist(), sorted(mix.params_.scales.ravel().round().tolist())
    ([[2.9], [2.9]], [1.0, 21.0])
    """

    def __init__(self, family: Family, names: Sequence[str] | None = None) -> None:
        super().__init__(family)
        self.names = checked_names(self.family, names, "tie")
        self.ties_all = names_all(self.family, self.names)
        if not self.ties_all and not self.family.ties(frozenset(self.names)):
            raise ParameterError(
                f"{self.told} cannot tie {', '.join(self.names)} alone: the maximum depends on the other parameters of "
                f"each component, and sums over components do not tell it. Tie all of "
                f"{', '.join(self.family.parameter_names)}, or none"
            )

    def maximize(self, stats: Stats, previous: Any) -> Params:
        """The M-step of statistics that are summed over components, for what these share."""
        if not self.ties_all:
            return self.family.maximize_tying(stats, previous, frozenset(self.names))
        found = self.family.maximize(self.family.pooled(stats), previous)
        require_all(self.family, found, self.names, "tie")
        return found

    def shortfall(self, old: Any, new: Any, stats: Stats) -> float:
        """The family's shortfall, in nats; with pooled statistics as many times as there are components, at most."""
        return self.family.shortfall(old, new, self.family.pooled(stats) if self.ties_all else stats)

    def free_form(self, params: Any, n_components: int) -> FreeForm:
        """The family's numbers, of which those that are shared stand once."""
        form = self.family.free_form(params, n_components)
        shared = form.shared | {name for name in form.values if self.ties_all or name.partition(".")[0] in self.names}
        values = {name: value[0] if name in shared - form.shared else value for name, value in form.values.items()}
        return replace(form, values=values, shared=shared)

    def from_free_form(self, values: Mapping[str, Array], params: Any) -> Params:
        """The family's parameters, with what is shared in every component."""
        form = self.family.free_form(params, n_components_of(params))
        every = {name: np.broadcast_to(value, form.values[name].shape) for name, value in values.items()}
        return self.family.from_free_form(every, params)

    def free_parameters(self, params: Any) -> int:
        """The family's, of which those that are shared count once."""
        every = self.family.free_parameters(params)
        shared = every if self.ties_all else sum(self.family.free_of(params, name) for name in self.names)
        return every - shared + shared // n_components_of(params)
