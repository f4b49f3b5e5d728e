"""What the pass after this one will read first, fetched while this one ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from streamem.core.ports import ChunkRef

Loading = Future[Any]


class Following:
    """Fetches for a pass that has not been asked for: passes of a fit read the same chunks in the same order.

    Without them nothing is on its way while a pass ends, parameters are made and the data are found to be unchanged:
    at 100 ms a request that is a third of a pass over 200 objects. A guess that turns out wrong is the last one.
    What is fetched too early is old at worst: that the data have changed is asked after every pass, before its
    statistics count.

    Parameters
    ----------
    guesses : whether the chunks of a pass will be read again
    fetch : begins to fetch a chunk; None for one that does not have to be
    """

    def __init__(self, guesses: bool, fetch: Callable[[ChunkRef], Loading | None]) -> None:
        self._guesses, self._fetch = guesses, fetch
        self._now: dict[int, tuple[ChunkRef, Loading]] = {}
        self._next: dict[int, tuple[ChunkRef, Loading]] = {}
        self._left: Iterator[ChunkRef] = iter(())
        self.coming = 0
        """Chunks that are fetched for the pass after this one."""

    def begin(self, refs: Sequence[ChunkRef]) -> None:
        """Begin a pass: `take` gives what was fetched for it, `fetch_one` fetches for the one after it."""
        self._now, self._next, self.coming = self._next, {}, 0
        unwanted = set(self._now)
        for ref in refs if unwanted else ():
            unwanted.discard(id(ref))
            if not unwanted:  # what was fetched is wanted first, or nearly
                break
        if unwanted:
            self.drop()
        self._left = iter(refs if self._guesses else ())

    def take(self, ref: ChunkRef) -> Loading | None:
        """The fetch of a chunk of this pass, if it has begun."""
        found = self._now.pop(id(ref), None)
        return None if found is None else found[1]

    def fetch_one(self) -> bool:
        """Begin the next fetch for the pass after this one; whether there was one to begin."""
        for ref in self._left:
            if id(ref) not in self._next and (loading := self._fetch(ref)) is not None:
                self._next[id(ref)] = ref, loading  # the handle, so that no other gets its place in memory
                self.coming += 1
                return True
        return False

    def drop(self) -> None:
        """Let go of all, and guess no more: the guess was wrong, or the end has come."""
        self._guesses = False
        for _, loading in (*self._now.values(), *self._next.values()):
            loading.cancel()
        self._now, self._next, self._left, self.coming = {}, {}, iter(()), 0
