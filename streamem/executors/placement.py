"""Which worker gets which item: the worker that had it before, as far as this keeps all workers busy."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Placement(Generic[Item]):
    """Hands out items, each with a worker.

    Every item has a home by rendezvous hashing (Thaler & Ravishankar 1998), so that few move when a worker joins or
    leaves. The worker with the least in flight for its threads is served next, from its own items; once it has none
    left, from those of the worker with most left.

    Parameters
    ----------
    workers : threads of each worker, by address
    items, names : what to do, and the name of each in every pass
    """

    def __init__(self, workers: Mapping[str, int], items: Sequence[Item], names: Sequence[str]) -> None:
        self._threads = dict(workers)
        self._in_flight = dict.fromkeys(workers, 0)
        self._queues: dict[str, deque[Item]] = {worker: deque() for worker in workers}
        addresses = sorted(workers)
        for item, name in zip(items, names, strict=True):
            self._queues[preferred(addresses, name)].append(item)
        self._left = len(items)

    def __len__(self) -> int:
        return self._left

    def take(self) -> tuple[Item, str]:
        """The next item, and the worker that should do it."""
        worker = min(self._threads, key=lambda address: (self._in_flight[address] / self._threads[address], address))
        own = self._queues[worker]
        item = own.popleft() if own else max(self._queues.values(), key=len).pop()
        self._in_flight[worker] += 1
        self._left -= 1
        return item, worker

    def done(self, worker: str) -> None:
        """Note that one item of a worker has ended."""
        self._in_flight[worker] -= 1


def preferred(workers: Sequence[str], what: str) -> str:
    """The home of `what`: of all workers the one with the largest hash of both."""
    return max(workers, key=lambda worker: hashlib.blake2b(f"{worker}|{what}".encode(), digest_size=8).digest())
