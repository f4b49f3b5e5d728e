"""Families of this library as data: names and arguments, which a model file can hold, and which run no code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

import numpy as np

from streamem import families
from streamem.core.errors import ModelFileError
from streamem.core.ports import FullFamily
from streamem.families import Fixed, NormalWishart, Product

DEEPEST = 64
"""Values within values that a file may hold: some twenty families in each other."""

KNOWN: dict[str, Any] = {name: getattr(families, name) for name in families.__all__ if name != "ExponentialFamily"}
"""All that a file can name."""


def data_of(family: Any) -> dict[str, Any] | None:
    """Name and arguments of a family, as JSON can hold them; None of one that is code, or holds code.

    Examples
    --------
    >>> from streamem.families import Gaussian, Poisson, Product
    >>> data_of(Product({"visits": Poisson(), ("lat", "lon"): Gaussian("diag")}))["family"]
    'Product'
    >>> data_of(Gaussian("diag"))
    {'family': 'Gaussian', 'arguments': {'covariance_type': 'diag'}}
    """
    try:
        told = _told(family, 0)
    except _CodeError:
        return None
    # What it was told while it was used (that rows may lack values, how much data there is) is no argument.
    return told if _same(family_of_data(told), family) else None


def family_of_data(data: Any) -> FullFamily:
    """The family that `data_of` told.

    Raises
    ------
    ModelFileError : a name that is not `KNOWN`, or something else than arguments
    ParameterError : arguments that the family refuses
    """
    family: FullFamily = _read(data, 0)
    if not isinstance(family, FullFamily):
        raise ModelFileError(f"the file holds {data!r:.200} where a family is needed")
    return family


class _CodeError(Exception):
    """A value that data cannot tell."""


# --- writing ---------------------------------------------------------------------------------------------------------


def _told(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise _CodeError
    if isinstance(value, FullFamily):
        if KNOWN.get(type(value).__name__) is not type(value):  # a class of the user, perhaps derived from ours
            raise _CodeError
        return {"family": type(value).__name__, "arguments": _arguments(value, depth + 1)}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {"items": [[_told(key, depth + 1), _told(entry, depth + 1)] for key, entry in value.items()]}
    if isinstance(value, tuple | list):
        return [_told(entry, depth + 1) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _CodeError


def _arguments(family: FullFamily, depth: int) -> dict[str, Any]:
    """Arguments that are not the default, by name."""
    known = signature(type(family)).parameters
    given = ARGUMENTS.get(type(family), vars)(family)
    return {
        name: _told(given[name], depth)
        for name, parameter in known.items()
        if name in given and not _is_default(given[name], parameter)
    }


def _is_default(value: Any, parameter: Parameter) -> bool:
    return type(value) is type(parameter.default) and _same(value, parameter.default)


def _of_product(family: Any) -> dict[str, Any]:
    return {"families": {part.asked: part.family for part in family.parts}}


def _of_fixed(family: Any) -> dict[str, Any]:
    whole = set(family.values) == set(family.names)
    names = {"names": family.values if whole and family.values else family.names} if family.names else {}
    return {"family": family.family, **names}


def _of_normal_wishart(family: Any) -> dict[str, Any]:
    prior = family.prior
    told = {"mean_prior": prior.means, "covariance_prior": prior.scatter}
    counts = {"mean_precision_prior": prior.means_weight, "degrees_of_freedom_prior": prior.count}
    return {**vars(family), **told, **counts}


ARGUMENTS: dict[Any, Callable[[Any], Mapping[str, Any]]] = {
    Product: _of_product,
    Fixed: _of_fixed,
    NormalWishart: _of_normal_wishart,
}
"""Where arguments are not attributes under their names."""


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(data: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise ModelFileError("the file holds families too deep in each other")
    if isinstance(data, list):
        return tuple(_read(entry, depth + 1) for entry in data)
    if not isinstance(data, dict):
        return data
    if data.keys() == {"array", "shape"}:
        return np.asarray(data["array"], dtype=np.float64).reshape(data["shape"])
    if data.keys() == {"items"}:
        return {_read(key, depth + 1): _read(entry, depth + 1) for key, entry in data["items"]}
    if data.keys() != {"family", "arguments"} or not isinstance(data["arguments"], dict):
        raise ModelFileError(f"the file holds {data!r:.200} where a family is needed")
    if data["family"] not in KNOWN:
        raise ModelFileError(f"the file names a family {data['family']!r:.100}; this version knows {sorted(KNOWN)}")
    return KNOWN[data["family"]](**{name: _read(value, depth + 1) for name, value in data["arguments"].items()})


# --- comparing -------------------------------------------------------------------------------------------------------


def _same(one: Any, other: Any) -> bool:
    """Whether two settings, or families with all that they hold, are alike."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, FullFamily):
        return _same(vars(one), vars(other))
    if dataclasses.is_dataclass(one):
        return all(_same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
