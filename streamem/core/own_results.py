"""What functions of a user's own model returned, checked and frozen: messages name the function and what was needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import SEPARATOR, Params
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.stats import Stats

Array = NDArray[Any]
LOG_LIKELIHOOD = "log_likelihood"
DICT = "a dict of names to numbers and arrays"


def own_params(returned: Any, of: str, like: Params | None = None) -> Params:
    """Parameters that a function gave.

    Parameters
    ----------
    of : the function, for messages: "m_step of Probit"
    like : parameters of the names and shapes that are needed, or None

    Raises
    ------
    ParameterError : no dict, nothing in it, or what is no array of numbers
    NumericalError : numbers that are not finite
    """
    named = _named(returned, of)
    found = Params(**{name: _numbers(value, name, of) for name, value in named.items()})
    if like is not None:
        require_shapes(found, shapes_of(like), of)
    _require_finite(found, of)
    return found


def own_stats(returned: Any, of: str) -> tuple[Stats, float]:
    """Statistics that an E-step gave, and the log-likelihood among them, in nats.

    Raises
    ------
    ParameterError : no dict, without ``log_likelihood``, or what is no array of numbers
    NumericalError : numbers that are not finite
    """
    named = _named(returned, of)
    if LOG_LIKELIHOOD not in named:
        raise ParameterError(
            f"{of} returned {', '.join(named)}, and no 'log_likelihood': add the sum over the rows of weight · log "
            "p(row), in nats, at the parameters that it was given"
        )
    reached = _numbers(named[LOG_LIKELIHOOD], LOG_LIKELIHOOD, of)
    if reached.shape:
        raise ParameterError(
            f"{of} returned log_likelihood of shape {reached.shape}; one number is needed, the weighted sum over the "
            "rows of the chunk"
        )
    if not np.isfinite(reached):
        raise NumericalError(
            f"{of} returned log_likelihood {float(reached)}: some row is impossible at these parameters, or a number "
            "overflowed"
        )
    found = Stats(**{name: _numbers(value, name, of) for name, value in named.items() if name != LOG_LIKELIHOOD})
    _require_finite(found, of)
    return found, float(reached)


def require_shapes(found: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], of: str) -> None:
    """Refuse other names or shapes than those that were seen before.

    Raises
    ------
    ParameterError : naming them
    """
    if found.keys() != shapes.keys():
        raise ParameterError(f"{of} returned {', '.join(found)}, where {', '.join(shapes)} came before; names stay")
    for name, value in found.items():
        now, before = np.shape(value), shapes[name]
        if now != before:
            raise ParameterError(
                f"{of} returned {name!r} of shape {now}, where it was {before} before: shapes must depend neither on "
                "the number of rows nor on what they hold"
            )


def shapes_of(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each array."""
    return {name: np.shape(value) for name, value in values.items()}


def _named(returned: Any, of: str) -> Mapping[str, Any]:
    if not isinstance(returned, Mapping):
        raise ParameterError(f"{of} returned {_kind(returned)}; {DICT} is needed")
    if not returned:
        raise ParameterError(f"{of} returned an empty dict; {DICT} is needed")
    if strange := [name for name in returned if not isinstance(name, str) or not name or SEPARATOR in name]:
        raise ParameterError(f"{of} returned the name {strange[0]!r}; names are texts without {SEPARATOR!r}")
    return returned


def _numbers(value: Any, name: str, of: str) -> Array:
    """A copy as an array that nobody can write to: the user may go on with the original. Whole numbers stay."""
    try:
        found = np.array(value)
    except ValueError as error:
        raise ParameterError(f"{of} returned {name!r}, which is no array of numbers: {error}") from None
    if found.dtype.kind not in "biuf":
        raise ParameterError(f"{of} returned {name!r}, {_kind(value)}; a number or an array of numbers is needed")
    return found.astype(np.float64) if found.dtype.kind == "f" else found


def _kind(value: Any) -> str:
    if value is None:
        return "None (is its return statement missing?)"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"a {type(value).__name__}"


def _require_finite(found: Mapping[str, Any], of: str) -> None:
    for name, value in found.items():
        if not np.isfinite(value).all():
            count = int((~np.isfinite(value)).sum())
            first = float(np.asarray(value)[~np.isfinite(value)][0])
            raise NumericalError(
                f"{of} returned {name!r} with {count} of {np.size(value)} numbers not finite (the first is {first}): a "
                "division by 0, a logarithm of 0, or an overflow"
            )
