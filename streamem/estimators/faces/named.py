"""A face from a table of names: for families whose parameters users see as they are."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import FullFamily
from streamem.core.validation import numbers
from streamem.estimators.faces.face import Face
from streamem.estimators.in_words import in_short
from streamem.initialization import DISCRETE_STARTS, STARTS, Start
from streamem.running.fitted import Shape

Array = NDArray[Any]


class NamedFace(Face):
    """The parameters of a family under the names of public attributes.

    Parameters
    ----------
    make : makes the family
    table : public name → name of the parameter, (K, d)
    alone : public names of parameters (K,)
    derived : public name → function of the parameters; shown, and not read when set by hand
    discrete : whether equal rows start alike
    """

    def __init__(
        self,
        make: Callable[[], FullFamily],
        table: Mapping[str, str],
        alone: Sequence[str] = (),
        derived: Mapping[str, Callable[[Params], Array]] | None = None,
        discrete: bool = False,
    ) -> None:
        self._make, self._table, self._alone, self._discrete = make, dict(table), frozenset(alone), discrete
        self._derived = dict(derived or {})
        self.names = tuple(table)

    def family(self, settings: Any, shape: Shape | None) -> FullFamily:
        """The family of the table."""
        return self._make()

    def published(self, settings: Any, components: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Copies of the parameters, in float64, and what follows from them."""
        found = {name: np.array(components[own]) for name, own in self._table.items()}
        return found | {name: function(components) for name, function in self._derived.items()}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], shape: Shape | None) -> Params:
        """From the attributes of the table.

        Raises
        ------
        ParameterError : other shapes, values that are not finite, or that the family's parameters cannot be
        """
        k = int(settings.n_components)
        found = {name: numbers(attributes[name], name) for name in self.names}
        width = self.width(settings, found) if shape is None else shape.features
        for name, needed in self.shapes(settings, k, width or 1).items():
            if found[name].shape != needed or not np.isfinite(found[name]).all():
                raise ParameterError(f"{name} has shape {found[name].shape}; finite numbers {needed} are needed")
        none = np.zeros(k, dtype=np.bool_)
        params = Params(**{own: found[name] for name, own in self._table.items()}, empty=none, floored=none)
        if wrong := self._make().faults(params, k, width or 1):
            raise ParameterError(f"attributes that were set by hand cannot be: {'; '.join(wrong)}")
        return params

    def shapes(self, settings: Any, k: int, d: int) -> Mapping[str, tuple[int, ...]]:
        """(K, d), or (K,)."""
        return {name: (k,) if name in self._alone else (k, d) for name in self.names}

    def width(self, settings: Any, attributes: Mapping[str, Any]) -> int | None:
        """The columns of the first attribute."""
        values = np.asarray(attributes[self.names[0]])
        return int(values.shape[-1]) if values.ndim else 0

    def misfit(self, settings: Any, components: Params, k: int, d: int) -> str:
        """Parameters of other shapes."""
        wrong = [
            self._table[name]
            for name, needed in self.shapes(settings, k, d).items()
            if np.shape(components.get(self._table[name], ())) != needed
        ]
        return f"the file's {', '.join(wrong)} do not fit {k} components of {d} features" if wrong else ""

    def starts(self) -> Mapping[str, Start]:
        """Ways to split a sample for the first parameters."""
        return DISCRETE_STARTS if self._discrete else STARTS

    def words(self, settings: Any, components: Params) -> Sequence[str]:
        """The first numbers of every parameter."""
        return [
            "; ".join(f"{own} {in_short(np.atleast_1d(components[own][k]))}" for own in self._table.values())
            for k in range(int(settings.n_components))
        ]

    def key(self, settings: Any) -> dict[str, Any]:
        """The settings of the family."""
        told = repr(sorted(vars(self._make()).items()))
        return {"family": f"{zlib.crc32(told.encode()):08x}"}
