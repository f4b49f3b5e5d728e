"""`hyperparameters`: settings of estimators, declared once as attributes with defaults; makes their ``__init__``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field
from inspect import get_annotations
from typing import Any, TypeVar, dataclass_transform

C = TypeVar("C", bound=type)
FIELDS = "_hyperparameters"


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
def hyperparameters(priors: Sequence[str] = (), behind: str = "") -> Callable[[C], C]:
    """Give a class an ``__init__`` that takes its hyperparameters and those of its bases, and stores them.

    Hyperparameters are the annotated attributes that have a value: a default, or
    ``dataclasses.field(default=..., kw_only=False)`` for one that can be passed by position too, or
    ``dataclasses.field(init=False)`` for none. The class becomes no dataclass: Dask would take two estimators whose
    fields are equal for the same, also where they are fitted to other data.

    Parameters
    ----------
    priors, behind : own hyperparameters of these names stand behind that one; all others stand before those of
        the bases
    """

    def decorated(cls: C) -> C:
        inherited: dict[str, tuple[Any, Field[Any]]] = getattr(cls, FIELDS, {})
        own = _declared(cls)
        new = [name for name in own if name not in inherited]
        order = [name for name in new if name not in priors] + list(inherited)
        at = order.index(behind) + 1 if behind else len(order)
        order[at:at] = [name for name in new if name in priors]
        declared = {**inherited, **own}
        setattr(cls, FIELDS, {name: declared[name] for name in order})
        setattr(cls, "__init__", _initializer(cls))  # noqa: B010
        return cls

    return decorated


def _declared(cls: type) -> dict[str, tuple[Any, Field[Any]]]:
    """Type and field of each hyperparameter in the body of a class, where the default stays."""
    declared: dict[str, tuple[Any, Field[Any]]] = {}
    for name, kind in get_annotations(cls).items():
        if name not in cls.__dict__ or str(kind).startswith("ClassVar"):
            continue
        value = cls.__dict__[name]
        if not isinstance(value, Field):
            declared[name] = (kind, field(default=value, kw_only=True))
            continue
        if value.default is MISSING:
            delattr(cls, name)
        else:
            setattr(cls, name, value.default)
        if value.init:
            declared[name] = (kind, value)
    return declared


def _initializer(cls: type) -> Callable[..., None]:
    """The ``__init__`` of a dataclass of these fields."""
    declared: dict[str, tuple[Any, Field[Any]]] = getattr(cls, FIELDS)
    body: dict[str, Any] = {name: _again(known) for name, (_, known) in declared.items()}
    body |= {"__annotations__": {name: kind for name, (kind, _) in declared.items()}, "__module__": cls.__module__}
    made: Callable[..., None] = vars(dataclass(eq=False, repr=False)(type(cls.__name__, (), body)))["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _again(known: Field[Any]) -> Any:
    """A field like another, which already belongs to a class."""
    return field(default=known.default, kw_only=known.kw_only is not False)
