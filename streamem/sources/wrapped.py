"""A handle on a chunk of another source, to which something is added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from streamem.core.ports import ChunkRef


@dataclass(frozen=True, eq=False)
class WrappedRef(ChunkRef):
    """A handle with the rows of `base`, in its place of the plan; subclasses say what they load."""

    base: ChunkRef

    @property
    def on_cluster(self) -> Mapping[Any, Any]:
        """Results on a cluster that the base handle rests on."""
        return self.base.on_cluster

    def given(self, values: Mapping[Any, Any]) -> Self:
        """This handle, with values in place of those results."""
        return replace(self, base=self.base.given(values))

    @property
    def index(self) -> int:
        """Position in the plan."""
        return self.base.index

    @property
    def start(self) -> int:
        """First row."""
        return self.base.start

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.base.rows

    @property
    def nbytes(self) -> int:
        """The rows and 8 bytes a weight."""
        return self.base.nbytes + 8 * self.base.rows

    @property
    def paths(self) -> tuple[str, ...]:
        """Files that the base reads."""
        return self.base.paths

    @property
    def innermost(self) -> ChunkRef:
        """The innermost handle of the base."""
        return self.base.innermost

    @property
    def wants_order(self) -> bool:
        """Whether the base does."""
        return self.base.wants_order

    def fetched(self) -> Self:
        """This handle, with the stored bytes of its base in memory."""
        base = self.base.fetched()
        return self if base is self.base else replace(self, base=base)

    def fetches(self) -> tuple[int, int]:
        """Requests and bytes of the base."""
        return self.base.fetches()
