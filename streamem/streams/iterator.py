"""Batches from any Python iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from streamem.core.errors import ParameterError, StreamemError, StreamError
from streamem.core.message import Message
from streamem.core.ports import Stream

PARTITION = ""


class IteratorStream(Stream):
    """Items of an iterable: arrays (n, d), tables, record batches, data frames, mappings of names to numbers or text.

    A function that returns a new iterator, or an iterable that can be iterated again, is replayable: a call with a
    checkpoint passes over the items that were learned already. Of a plain iterator everything that comes is new. Items
    are asked for one at a time, when the model wants them; None says that there is none just now.

    Parameters
    ----------
    items : an iterable, or a function without arguments that returns one
    name : identifies the stream in a checkpoint
    """

    inline = True
    """Read by the thread that learns: nobody else may touch a Python iterator meanwhile."""

    def __init__(self, items: Iterable[Any] | Callable[[], Iterable[Any]], name: str | None = None) -> None:
        self._items = items
        self.name = name or "iterator"
        self.anonymous = name is None
        self.replayable = callable(items) or (hasattr(items, "__iter__") and not hasattr(items, "__next__"))

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Items one after the other; a position is the number of items before."""
        start = int(positions.get(PARTITION, 0))
        number = 0 if self.replayable else start
        for item in self._started():
            if item is None:
                yield None
                continue
            if number >= start:
                yield Message(item, PARTITION, number, number + 1)
            number += 1
        if self.replayable and number < start:
            raise StreamError(
                f"the {self.name} ends after {number} items, and {start} of it were learned: pass all of them again, "
                "or what is new as IteratorStream(items, name) of another name"
            )

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Do nothing: an iterator has no server that counts what was read."""

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
