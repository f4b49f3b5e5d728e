"""BLAS has one thread as long as anyone computes, whichever threads come and go, and its own number afterwards."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_info, threadpool_limits

from streamem.core.blas import one_blas_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> object:
    """Pools of two threads, on whatever machine."""
    with threadpool_limits(limits=2):
        if blas_threads() != {2}:
            pytest.skip(f"this BLAS does not take two threads: {threadpool_info()}")
        yield


def seen_inside(index: int) -> set[int]:
    with one_blas_thread():
        before = blas_threads()
        time.sleep(0.0005 * (index % 5))
        return before | blas_threads()


def test_overlapping_threads_see_one() -> None:
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert set().union(*pool.map(seen_inside, range(100))) == {1}
        assert blas_threads() == {2}


def test_the_last_out_need_not_be_the_first_in() -> None:
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        pool.submit(second.__exit__, None, None, None).result()
    assert blas_threads() == {2}


def seen_briefly(index: int) -> set[int]:
    with one_blas_thread(brief=index % 3 > 0):
        before = blas_threads()
        time.sleep(0.0005 * (index % 5))
        with one_blas_thread(brief=True):
            return before | blas_threads()


def test_brief_and_long_blocks_see_one() -> None:
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert set().union(*pool.map(seen_briefly, range(100))) == {1}
        assert blas_threads() == {2}


def test_a_limit_of_a_thread_that_has_left_does_not_reach_those_who_stay() -> None:
    brief, other = one_blas_thread(brief=True), one_blas_thread(brief=True)
    brief.__enter__()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other.__enter__).result()
        brief.__exit__(None, None, None)
        with threadpool_limits(limits=2):
            found = blas_threads()
        pool.submit(other.__exit__, None, None, None).result()
    assert found == {1}
    assert blas_threads() == {2}


def test_a_brief_block_starts_no_thread() -> None:
    before = threading.active_count()
    with one_blas_thread(brief=True):
        assert (blas_threads(), threading.active_count()) == ({1}, before)
    assert blas_threads() == {2}
