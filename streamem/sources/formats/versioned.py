"""Rows of another source, whose fingerprint names the version of the data that it reads."""

from __future__ import annotations

from collections.abc import Sequence

from streamem.core.ports import ChunkRef, Source


class VersionedSource(Source):
    """A source over one version of a store."""

    def __init__(self, base: Source, version: str) -> None:
        self._base, self._version = base, version
        self.schema, self.n_rows, self.row_shape, self.offsets = base.schema, base.n_rows, base.row_shape, base.offsets

    def fingerprint(self) -> str:
        """The version, and what the base says of its data."""
        return f"{self._version}: {self._base.fingerprint()}"

    def chunks(self) -> Sequence[ChunkRef]:
        """The plan of the base."""
        return self._base.chunks()
