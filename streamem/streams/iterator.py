"""Batches from any Python iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from streamem.core.errors import ParameterError, StreamemError, StreamError
from streamem.core.message import Message

PARTITION = ""


class IteratorStream:
    """Items of an iterable: arrays (n, d), tables, record batches, data frames, mappings of names to numbers.

    A function that returns a new iterator, or an iterable that can be iterated again, is replayable: items learned
    already are passed over. Of a plain iterator everything that comes is new.

    Parameters
    ----------
    items : an iterable, or a function without arguments that returns one
    name : identifies the stream in a checkpoint
    """

    def __init__(self, items: Iterable[Any] | Callable[[], Iterable[Any]], name: str = "iterator") -> None:
        self._items = items
        self.name = name
        self.replayable = callable(items) or (hasattr(items, "__iter__") and not hasattr(items, "__next__"))

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """One item after the other; a position is the number of items before."""
        start = int(positions.get(PARTITION, 0))
        for number, item in enumerate(self._started(), start=0 if self.replayable else start):
            if number >= start:
                yield None if item is None else Message(item, PARTITION, number, number + 1)

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Nobody to tell."""

    def _started(self) -> Iterator[Any]:
        items = self._items() if callable(self._items) else self._items
        try:
            iterator = iter(items)
        except TypeError:
            raise ParameterError(
                f"the stream's function gave a {type(items).__name__}; an iterable of batches is needed"
            ) from None
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except StreamemError:
                raise
            except Exception as error:
                raise StreamError(f"the {self.name} failed: {type(error).__name__}: {error}") from error
            yield item
