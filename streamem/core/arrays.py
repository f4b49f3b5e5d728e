"""Immutable named arrays: the value type under `Params` and `Stats`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "."


class Arrays(Mapping[str, Any]):
    """A frozen, possibly nested, set of named NumPy arrays, read as attributes.

    >>> p = Arrays(rates=[1.0, 3.0], inner=Arrays(scale=2.0))
    >>> p.rates
    array([1., 3.])
    >>> sorted(p.flatten())
    ['inner.scale', 'rates']
    """

    __slots__ = ("__dict__", "_items")
    _items: dict[str, Any]
    _dtype: ClassVar[type[np.float64] | None] = None
    """Of all arrays; None if each keeps its own."""

    def __init__(self, **items: Any) -> None:
        self._hold({name: _frozen(value, self._dtype) for name, value in items.items()})

    def _hold(self, items: dict[str, Any]) -> None:
        object.__setattr__(self, "_items", items)
        if RESERVED.isdisjoint(items):  # so that Python finds them without `__getattr__`, which takes ten times as long
            self.__dict__.update(items)

    @classmethod
    def _of_frozen(cls, items: dict[str, Any]) -> Self:
        """A new object of values that `_frozen` would leave as they are."""
        made = object.__new__(cls)
        made._hold(items)
        return made

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._items[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; it holds {', '.join(self._items) or 'nothing'}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; make a new one with .replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._items)

    def __repr__(self) -> str:
        parts = (
            f"{name}={value!r}" if isinstance(value, Arrays) else f"{name}{value.shape}"
            for name, value in self._items.items()
        )
        return f"{type(self).__name__}({', '.join(parts)})"

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        """Whether names, shapes and bits are equal (NaN equals NaN)."""
        if not isinstance(other, Arrays) or type(self) is not type(other):
            return NotImplemented
        mine, theirs = self.flatten(), other.flatten()
        return mine.keys() == theirs.keys() and all(
            mine[name].dtype == theirs[name].dtype
            and mine[name].shape == theirs[name].shape
            and mine[name].tobytes() == theirs[name].tobytes()
            for name in mine
        )

    @property
    def nbytes(self) -> int:
        """Bytes held by all arrays."""
        return sum(int(value.nbytes) for value in self._items.values())

    def replace(self, **changes: Any) -> Self:
        """This value with some arrays exchanged; the others are the very same, so what follows of them stays known."""
        new = {name: _frozen(value, self._dtype) for name, value in changes.items()}
        return self._of_frozen({**self._items, **new})

    def flatten(self) -> dict[str, NDArray[Any]]:
        """Every array under its dotted path."""
        flat: dict[str, NDArray[Any]] = {}
        for name, value in self._items.items():
            if isinstance(value, Arrays):
                flat.update({f"{name}{SEPARATOR}{path}": leaf for path, leaf in value.flatten().items()})
            else:
                flat[name] = value
        return flat

    @classmethod
    def unflatten(cls, flat: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `flatten`."""
        items: dict[str, Any] = {}
        nested: dict[str, dict[str, NDArray[Any]]] = {}
        for path, leaf in flat.items():
            head, _, rest = path.partition(SEPARATOR)
            if rest:
                nested.setdefault(head, {})[rest] = leaf
                items.setdefault(head, None)
            else:
                items[head] = leaf
        items.update({head: cls.unflatten(branch) for head, branch in nested.items()})
        return cls(**items)


RESERVED = frozenset(dir(Arrays))
"""Names that an attribute must not hide."""

_SCALARS = frozenset({float, int, np.float64})


def _frozen(value: Any, dtype: type[np.float64] | None) -> Any:
    if type(value) in _SCALARS:  # isinstance takes Python longer than all the rest
        made = np.array(value, dtype)
    elif type(value) is not np.ndarray and isinstance(value, Arrays) and dtype in (None, value._dtype):
        return value
    else:
        made = np.asarray(value, dtype).view()
    made.setflags(write=False)
    return made


def _rebuild(cls: type[Arrays], items: dict[str, Any]) -> Arrays:
    return cls(**items)


class Params(Arrays):
    """Parameters of a model or family; axis 0 of a component's parameter is the component.

    Examples
    --------
    >>> import numpy as np
    >>> params = Params(rates=np.array([[2.0], [9.0]]))
    >>> params.rates.ravel().tolist()
    [2.0, 9.0]
    """

    __slots__ = ()
