"""Where a Redis stream was read to, and what its server says of its entries: is anything lost between?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BEGINNING = "0-0"


def text_of(id_: bytes) -> str:
    """An id as text."""
    return id_.decode()


def order_of(id_: str) -> tuple[int, int]:
    """An id as numbers that sort like ids."""
    time_, _, sequence = id_.partition("-")
    return int(time_), int(sequence or 0)


@dataclass(frozen=True)
class Place:
    """How far a stream was read.

    Attributes
    ----------
    id : of the last entry read
    entries : how many had been added up to that one, whatever was trimmed since; None if the server does not tell
    """

    id: str
    entries: int | None

    @property
    def fresh(self) -> bool:
        """Whether nothing was read of the stream yet."""
        return self.id == BEGINNING and self.entries is None

    def following(self, id_: str) -> Place:
        """The place after one more entry."""
        return Place(id_, None if self.entries is None else self.entries + 1)


@dataclass(frozen=True)
class Extent:
    """What a server says about a stream. Before Redis 7, neither `added` nor `deleted`."""

    length: int = 0
    first: str | None = None
    last: str = BEGINNING
    added: int | None = None
    deleted: str | None = None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Extent:
        """The extent that XINFO STREAM reports."""
        deleted = info.get("max-deleted-entry-id")
        return cls(
            length=info["length"],
            first=text_of(info["first-entry"][0]) if info["first-entry"] else None,
            last=text_of(info["last-generated-id"]),
            added=info.get("entries-added"),
            deleted=None if deleted is None else text_of(deleted),
        )

    def anchor(self) -> Place:
        """The place before the first entry, with the number of those that are gone already."""
        if self.added is None or self.deleted is None:
            return Place(BEGINNING, None)
        # What was deleted amid those that are there would count as gone before them.
        amid = self.first is not None and order_of(self.deleted) > order_of(self.first)
        return Place(BEGINNING, None if amid else self.added - self.length)

    def lost(self, place: Place) -> str | None:
        """In words, what was lost unread after a `place` whose own entry is gone; None: nothing; "": unknown."""
        behind = self.added is not None and place.entries is not None and self.added < place.entries
        if behind or order_of(self.last) < order_of(place.id):
            return "the server no longer has what it had: the stream was deleted, or its newest entries were lost"
        if self.first is not None and order_of(self.first) < order_of(place.id):
            # Trimming would have taken those before it first: it was deleted by name, or never reached the disk.
            tail = self.deleted is not None and order_of(self.deleted) < order_of(place.id)
            return "the server lost its newest entries and has taken others since" if tail else None
        if self.last == place.id:
            return None
        if self.added is not None and place.entries is not None:
            missing = self.added - self.length - place.entries
            if missing < 0:  # trimming takes the oldest first: with this one all before it would be gone
                return "the stream was deleted and made anew"
            return f"{missing} entries after it were trimmed or deleted unread" if missing > 0 else None
        return "" if self.length else "all entries after it were trimmed or deleted unread"
