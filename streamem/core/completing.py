"""What a user wrote without inheriting from a base class of a port, completed once by the defaults of that class."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, TypeVar, cast

from streamem.core.errors import ParameterError

Base = TypeVar("Base")


def completed(own: Any, base: type[Base]) -> Base:
    """`own` itself where it is a `base`; else a `base` that does what `own` does, and else what `base` does by default.

    Raises
    ------
    ParameterError : `own` lacks a method that `base` cannot do without
    """
    if isinstance(own, base):
        return own
    if isinstance(own, type):
        raise ParameterError(f"{own.__name__} is a class; pass an object of it: {own.__name__}()")
    needed = sorted(getattr(base, "__abstractmethods__", ()))
    if lacking := [name for name in needed if not hasattr(own, name)]:
        raise ParameterError(
            f"{type(own).__name__} has no {', '.join(lacking)}; a {base.__name__} needs {', '.join(needed)}"
        )
    return cast(Base, _adapter_of(cast(Any, base))(own))


def as_written(thing: Any) -> Any:
    """What a user wrote, of something that may have been completed."""
    return thing.own if isinstance(thing, Adapter) else thing


def has_own(thing: Any, base: type, name: str) -> bool:
    """Whether `thing` does not take a method from `base`: a subclass has another one, or the user wrote it."""
    return name in vars(thing) or getattr(type(thing), name) is not getattr(base, name)


class Adapter:
    """Hands every call on to `own` where `own` has the method; its subclasses are made by `completed`."""

    own: Any
    base: type

    def __init__(self, own: Any) -> None:
        self.__dict__["own"] = own
        # Looked up once, here: a call through an adapter costs hardly more than one of the user's own.
        returns = getattr(self.base, "_returns", {})
        for name in _handed_over(self.base):
            if hasattr(own, name):
                method = getattr(own, name)
                self.__dict__[name] = partial(_checked, method, own, name, returns[name]) if name in returns else method

    def __reduce__(self) -> tuple[Any, ...]:
        return completed, (self.own, self.base)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["own"], name)

    def __repr__(self) -> str:
        return repr(self.own)


@cache
def _adapter_of(base: Any) -> type:
    facts = {name: _handed_on(name, fact) for name, fact in _members_of(base).items() if isinstance(fact, property)}
    stubs = dict.fromkeys(getattr(base, "__abstractmethods__", ()), _missing)
    return type(f"Completed{base.__name__}", (Adapter, base), {"base": base, **stubs, **facts})


def _checked(method: Any, own: Any, name: str, needed: type, *arguments: Any, **named: Any) -> Any:
    """What a user's method returns, if it is what the port has it return.

    Raises
    ------
    ParameterError : it is something else, which would fail later, elsewhere, in other words
    """
    found = method(*arguments, **named)
    if isinstance(found, needed):
        return found
    raise ParameterError(
        f"{type(own).__name__}.{name} returned {type(found).__name__}; it must return {needed.__name__}(name=array, "
        "...), with the component on axis 0"
    )


def _handed_on(name: str, default: property) -> property:
    """The fact of `own`, or the default of the base class."""

    def told(self: Any) -> Any:
        own = self.own
        return getattr(own, name) if hasattr(own, name) else default.__get__(self)

    return property(told)


def _missing(self: Any, *arguments: Any) -> Any:
    raise NotImplementedError  # never reached: `completed` has seen that `own` has it


@cache
def _handed_over(base: type) -> tuple[str, ...]:
    return tuple(name for name, value in _members_of(base).items() if not isinstance(value, property))


def _members_of(base: type) -> dict[str, Any]:
    """Public members of a class and of those that it inherits from, by name."""
    names = [name for name in dir(base) if not name.startswith("_")]
    return {name: getattr(base, name) for name in names}
