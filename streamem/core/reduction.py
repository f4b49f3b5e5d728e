"""The fixed reduction tree: the same bits in whatever order partial sums arrive."""

from __future__ import annotations

from streamem.core.stats import Stats


class TreeReduction:
    """Sums statistics along a binary tree over chunk positions.

    Node (level, i) covers positions i·2^level … (i+1)·2^level − 1 and is the sum of its two children, left first. What
    has arrived is merged at once, so that the memory is one value per gap plus one per level, not one per chunk.

    >>> tree = TreeReduction(3)
    >>> for position in (2, 0, 1):
    ...     tree.add(position, Stats(x=float(position)))
    >>> tree.result().x
    array(3.)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._nodes: dict[tuple[int, int], Stats] = {}
        self._added = 0

    def add(self, position: int, value: Stats) -> None:
        """Put the statistics of one position into the tree."""
        self._added += 1
        level = 0
        while (sibling := self._nodes.pop((level, position ^ 1), None)) is not None:
            value = sibling + value if position & 1 else value + sibling
            level, position = level + 1, position >> 1
        self._nodes[level, position] = value

    def result(self) -> Stats:
        """The sum over all positions; roots of incomplete subtrees are joined from the right."""
        if self._added != self._size or not self._nodes:
            raise ValueError(f"{self._added} of {self._size} chunks arrived; a sum needs them all, and at least one")
        roots = [self._nodes[key] for key in sorted(self._nodes)]
        total = roots[0]
        for root in roots[1:]:
            total = root + total
        return total
