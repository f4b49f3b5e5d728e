"""Buffers that a thread uses again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from streamem.machine.thread_buffer import LINE_BYTES, empty_lines, thread_buffer


@pytest.mark.parametrize("shape", [(1,), (7, 3), (100_003,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_they_begin_with_a_line_of_the_cache(shape: tuple[int, ...], dtype: Any) -> None:
    """Also where memory is handed out again."""
    for _ in range(5):
        for found in (empty_lines(shape, dtype), thread_buffer("test", shape, dtype)):
            assert found.shape == shape
            assert found.dtype == dtype
            assert found.flags.c_contiguous
            assert found.ctypes.data % LINE_BYTES == 0
            found[...] = 1


def test_a_purpose_has_one_and_a_thread_its_own() -> None:
    mine = thread_buffer("test", (50,))
    assert np.shares_memory(mine, thread_buffer("test", (5, 10)))
    assert not np.shares_memory(mine, thread_buffer("other test", (50,)))
    others: list[Any] = []
    thread = threading.Thread(target=lambda: others.append(thread_buffer("test", (50,))))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])


def test_much_memory_is_not_held_for_little() -> None:
    large = thread_buffer("test", (2**20,))
    assert not np.shares_memory(large, thread_buffer("test", (10,)))
