"""Ranges of bytes that requests of a store ask for: neighbours joined, long ones cut."""

from __future__ import annotations

from collections.abc import Sequence

GAP_NBYTES = 2**16
"""Between ranges that one request reads: a request costs as much time as megabytes."""

REQUEST_NBYTES = 2**23
"""Of one request; S3 gives one connection about 100 MB/s."""


def joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ranges (first, stop), those with little between them as one.

    >>> joined([(0, 10), (10, 20), (100, 110), (10**6, 10**6 + 1)])
    [(0, 110), (1000000, 1000001)]
    """
    found = list(spans[:1])
    for first, stop in spans[1:]:
        if first <= found[-1][1] + GAP_NBYTES:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((first, stop))
    return found


def in_requests(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges, cut where one is so large that several requests bring it sooner."""
    return [
        (first, min(stop, first + REQUEST_NBYTES))
        for begin, stop in spans
        for first in range(begin, stop, REQUEST_NBYTES)
    ]
