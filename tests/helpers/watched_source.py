"""Sources cut into small chunks, and sources that tell which chunk is read: to interrupt a fit where a test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any


def open_data(path: str, chunk_bytes: int) -> Any:
    """A source with chunks of that size."""
    from streamem import ReadOptions, open_source

    return open_source(path, options=ReadOptions(chunk_bytes=chunk_bytes))


class WatchedSource:
    """Another source, that calls `watch(ref)` before it reads a chunk."""

    def __init__(self, base: Any, watch: Callable[[Any], object]) -> None:
        self._base, self._watch = base, watch
        self.schema, self.n_rows = base.schema, base.n_rows

    def fingerprint(self) -> str:
        """That of the other source."""
        return str(self._base.fingerprint())

    def chunks(self) -> list[WatchedRef]:
        """The plan of the other source."""
        return [WatchedRef(ref, self._watch) for ref in self._base.chunks()]


@dataclass(frozen=True, eq=False)
class WatchedRef:
    """A chunk of a `WatchedSource`."""

    base: Any
    watch: Callable[[Any], object]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "base":  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.base, name)

    @property
    def load_nbytes(self) -> int:
        """So few that a fit keeps no chunk and reads all in every pass, also of rows whose weights lie apart."""
        return int(self.base.nbytes) - 8 * int(self.base.rows)

    def load(self) -> Any:
        """Tell, then read."""
        self.watch(self.base)
        return self.base.load()


class Countdown:
    """Calls `act` at the n-th call, whatever threads call, and never again."""

    def __init__(self, n: int, act: Callable[[], object]) -> None:
        self._calls, self._n, self._act = count(1), n, act

    def __call__(self, *_: Any) -> None:
        if next(self._calls) == self._n:  # one step for all threads, where "less one, is it 0?" are two
            self._act()
