"""Whether something offers a port, asked of its class once: Python's own answer takes thirty microseconds each time."""

from __future__ import annotations

from typing import Any, TypeGuard, TypeVar

Port = TypeVar("Port")
_ANSWERS: dict[tuple[type, type], bool] = {}
_OWN: dict[tuple[type, type], bool] = {}


def offers(thing: Any, port: type[Port]) -> TypeGuard[Port]:
    """``isinstance(thing, port)`` for a runtime-checkable protocol.

    All instances of a class are taken to agree, unless it hands on what others have (`__getattr__`).
    """
    key = (type(thing), port)
    known = _ANSWERS.get(key)
    if known is None:
        known = isinstance(thing, port)
        if not hasattr(type(thing), "__getattr__"):
            _ANSWERS[key] = known
    return known


def offers_itself(thing: Any, port: type[Port]) -> TypeGuard[Port]:
    """Whether its class has what the port adds: not what `__getattr__` hands on of something that it wraps."""
    key = (type(thing), port)
    if key not in _OWN:
        _OWN[key] = all(hasattr(type(thing), name) for name in vars(port) if not name.startswith("_"))
    return _OWN[key]
