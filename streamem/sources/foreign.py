"""A source that a user wrote without inheriting: completed, and its handles too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamem.core.completing import completed
from streamem.core.ports import ChunkRef, Source

NEEDED_OF_CLASS, NEEDED = ("chunks", "fingerprint"), ("schema", "n_rows")


def is_source(data: Any) -> bool:
    """Whether data is a `Source` already, or has all that one needs."""
    if isinstance(data, Source):
        return True
    # Looked up on the class first: a dask.delayed object claims to have every attribute.
    of_class = all(hasattr(type(data), name) for name in NEEDED_OF_CLASS)
    return of_class and all(hasattr(data, name) for name in NEEDED)


def full_source(data: Any) -> Source:
    """Data that `is_source`, with everything that is asked of one."""
    return data if isinstance(data, Source) else ForeignSource(data)


class ForeignSource(Source):
    """Hands on what a user's source says."""

    def __init__(self, own: Any) -> None:
        self.own, self.schema, self.n_rows = own, own.schema, int(own.n_rows)
        self.row_shape, self.offsets = tuple(getattr(own, "row_shape", ())), getattr(own, "offsets", None)

    def fingerprint(self) -> str:
        """The user's."""
        return str(self.own.fingerprint())

    def chunks(self) -> Sequence[ChunkRef]:
        """The user's plan."""
        return [_full_ref(ref) for ref in self.own.chunks()]


def _full_ref(ref: Any) -> ChunkRef:
    full = completed(ref, ChunkRef)
    if full is not ref and not hasattr(type(ref), "fetched"):  # what a handle within has fetched is another chunk
        for name in ("fetched", "fetches"):
            vars(full).pop(name, None)
    return full
