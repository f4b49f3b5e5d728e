"""Names of parameters that a user fixes or ties: which there are, and the values that are given for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Arrays, Params
from streamem.core.completing import as_written
from streamem.core.errors import ParameterError
from streamem.core.ports import FullFamily

Array = NDArray[Any]


def checked_names(family: FullFamily, names: Iterable[str] | None, verb: str) -> tuple[str, ...]:
    """Names in their order; () stands for all parameters of a family that does not say which it has.

    Raises
    ------
    ParameterError : no names, one that the family does not have, or some of a family that does not say
    """
    known, told = family.parameter_names, type(as_written(family)).__name__
    if names is None:
        return known
    if isinstance(names, str):
        raise ParameterError(f"names is {names!r}; it must be a list of names, such as [{names!r}]")
    asked = tuple(dict.fromkeys(names))
    if not asked:
        raise ParameterError(f"there are no parameters to {verb}: name some of {told}, or leave names out for all")
    if not known:
        return asked  # whether these are all is seen once there are parameters
    for name in asked:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ParameterError(f"{told} has no parameter {name!r} to {verb}; it has {', '.join(known)}{hint}")
    return asked


def names_all(family: FullFamily, names: Iterable[str]) -> bool:
    """True where the family has no other parameters; a family that does not say is taken to have no others."""
    return set(names) >= set(family.parameter_names)


def require_all(family: FullFamily, params: Params, names: Iterable[str], verb: str) -> None:
    """Refuse a part of the parameters of a family that does not say which of them go alone.

    Raises
    ------
    ParameterError : naming those that are left
    """
    asked = set(names)
    if family.parameter_names or not asked or asked >= set(params):
        return
    told = type(as_written(family)).__name__
    raise ParameterError(
        f"{told} has the parameters {', '.join(params)}, and does not say how to {verb} {', '.join(sorted(asked))} "
        f"alone: {verb} all of them, or give it holds and maximize_holding, or ties and maximize_tying"
    )


def with_given(family: FullFamily, params: Params, values: Mapping[str, Array], k: int, d: int) -> Params:
    """Parameters with given values in place of those of the same names, in units of the data.

    Raises
    ------
    ParameterError : values of other shapes, or that the parameters cannot have
    """
    for name, value in values.items():
        if name not in params:
            raise ParameterError(f"there is no parameter {name!r}; there are {', '.join(params)}")
        if isinstance(params[name], Arrays):
            raise ParameterError(f"{name!r} has parameters of its own: give the values to its own family")
        if value.shape != np.shape(params[name]) or not np.isfinite(value).all():
            raise ParameterError(
                f"the values of {name!r} have shape {value.shape}; finite numbers {np.shape(params[name])} are needed, "
                "with the component on axis 0"
            )
    given = family.with_values(params, values)
    if found := family.faults(given, k, d):
        raise ParameterError(f"the given values cannot be: {'; '.join(found)}")
    return given


def n_components_of(params: Params) -> int:
    """K: of the flags, or of the first parameter, whose axis 0 is the component."""
    flags = params.get("empty")
    return len(next(iter(params.flatten().values())) if flags is None else flags)
