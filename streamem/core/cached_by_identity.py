"""What follows from parameters, worked out once for all chunks of a pass."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from numpy.typing import NDArray

Value = TypeVar("Value")
_Key = tuple[int, int, Hashable]

_KNOWN: dict[_Key, tuple[Any, ...]] = {}
"""Answers, each with weak references that take it away with the arrays (`weakref.finalize` takes 5 times as long)."""
_LOCK = threading.RLock()
"""Reentrant, because one thing follows from another; held while working, so that threads wait instead of repeating."""


def cached_by_identity(
    array: NDArray[Any], other: NDArray[Any], question: Hashable, answer: Callable[[], Value]
) -> Value:
    """What `answer` says of two arrays, asked once as long as both live.

    Arrays are recognized by identity: those of parameters are read-only, and a pass hands the same ones to every chunk.
    """
    key = (id(array), id(other), question)
    known = _known(key, array, other)
    if known is None:
        with _LOCK:
            known = _known(key, array, other) or _remember(key, array, other, answer)
    value: Value = known[0]
    return value


def _known(key: _Key, array: NDArray[Any], other: NDArray[Any]) -> tuple[Any, ...] | None:
    """The answer for these very arrays: an interrupt may have kept that of others, gone since, from going too."""
    known = _KNOWN.get(key)
    return known if known is not None and known[1]() is array and known[2]() is other else None


def _remember(key: _Key, array: NDArray[Any], other: NDArray[Any], answer: Callable[[], Any]) -> tuple[Any, ...]:
    forget = partial(_KNOWN.pop, key)  # the dead reference is what pop gives if there is no such key
    known = _KNOWN[key] = (answer(), weakref.ref(array, forget), weakref.ref(other, forget))
    return known


def _begin_anew() -> None:
    """In a forked child: another thread of the parent may have held the lock, and does not exist here."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
