"""Which objects a data set consists of, remembered in eight bytes each: so that the one that was rewritten is named."""

from __future__ import annotations

import hashlib
from array import array as packed
from collections.abc import Iterable
from typing import Any

import numpy as np

SHOWN = 3


class Marks:
    """What a store said of objects, as hashes of their names and marks."""

    def __init__(self) -> None:
        self._hashes = packed("Q")

    def add(self, told: str) -> None:
        """Note the name of an object with its mark."""
        self._hashes.append(_hash(told))

    def known(self) -> np.ndarray[Any, Any]:
        """The hashes, sorted."""
        return np.sort(np.frombuffer(self._hashes, np.uint64)) if self._hashes else np.empty(0, np.uint64)


def differences(known: np.ndarray[Any, Any], now: Iterable[tuple[str, str]]) -> str:
    """Which objects are not what they were, in words; "" if all are.

    Parameters
    ----------
    known : what `Marks` noted
    now : names of objects, and each again with its mark, as `Marks.add` would be given it
    """
    told, others, same = "", 0, 0
    for name, mark in now:
        hashed = np.uint64(_hash(mark))
        place = int(np.searchsorted(known, hashed))
        if place < len(known) and known[place] == hashed:
            same += 1
            continue
        others += 1
        told += f"{', ' if told else ''}{name}" if others <= SHOWN else ""
    rest = f" and {others - SHOWN} more" if others > SHOWN else ""
    if others:
        return f"{told}{rest} {'was' if others == 1 else 'were'} rewritten, truncated or added"
    return f"{len(known) - same} object{'s are' if len(known) - same > 1 else ' is'} gone" if same < len(known) else ""


def _hash(told: str) -> int:
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "little")


class OfThisProcess:
    """Something that handles carry about in this process, and leave behind when they travel to another."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return OfThisProcess, ()
