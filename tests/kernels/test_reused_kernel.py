"""A thread uses one kernel for many chunks: with the bits of a new one each, and what it handed out stays."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.completing import completed
from streamem.core.ports import Kernel, PlainKernel
from streamem.core.sequences import Sequences
from streamem.families import Categorical, Gaussian, Poisson
from streamem.kernels.plain_kernel import drop_kernel, reused_kernel
from streamem.models.hmm import HMM
from streamem.models.mixture import Mixture

Array = NDArray[Any]
K, D, ROWS = 9, 16, 450


def clusters(spread: float, dtype: Any = np.float64) -> Array:
    """Three chunks of rows from nine places."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(K, D)) * spread
    places[:, 0] = np.arange(K) * spread
    return (places[np.arange(3 * ROWS) % K] + rng.normal(size=(3 * ROWS, D))).astype(dtype)


def by_turns(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    """Responsibilities (n, k), one component a row, those that are near along the first feature together."""
    return np.asarray(np.eye(k)[np.argsort(np.argsort(x[:, 0], kind="stable"), kind="stable") * k // len(x)])


def codes() -> Array:
    return np.random.default_rng(0).integers(0, 3, (3 * ROWS, D)).astype(np.float64)


def mixture(family: Any) -> Callable[[], Any]:
    return lambda: Mixture(family, K, by_turns)


CASES: list[Any] = [
    *[
        pytest.param(mixture(Gaussian(kind)), clusters(1.0, dtype), id=f"{kind} {dtype.__name__}")
        for kind in ("full", "tied", "diag", "spherical")
        for dtype in (np.float64, np.float32)
    ],
    *[pytest.param(mixture(Gaussian(kind)), clusters(100.0), id=f"{kind}, apart") for kind in ("full", "diag")],
    pytest.param(mixture(Gaussian("full")), clusters(1e7), id="differences"),
    pytest.param(mixture(Poisson()), codes(), id="Poisson"),
    pytest.param(mixture(Categorical(n_categories=3)), codes(), id="categorical"),
    pytest.param(lambda: HMM(Gaussian("diag"), K, by_turns), clusters(2.0), id="chain"),
]


def chunks_of(x: Array) -> list[Chunk]:
    sequences = Sequences(np.array([0, 150, ROWS]))
    return [Chunk(x[first : first + ROWS], None, sequences) for first in range(0, len(x), ROWS)]


@pytest.mark.variations(2, 6)
@pytest.mark.parametrize(("make", "x"), CASES)
def test_the_bits_are_those_of_a_new_kernel_for_every_chunk(make: Callable[[], Any], x: Array) -> None:
    model, chunks = make(), chunks_of(x)
    params = model.init(Chunk(x, None, Sequences(np.array([0, len(x)]))), np.random.RandomState(0))
    params = model.for_pass_of(model.m_step(model.e_step(params, chunks[0]), params), 10**9)
    found = [model.e_step(params, chunk) for chunk in chunks]
    for chunk, stats in zip(chunks, found, strict=True):  # after all: what was handed out has not changed
        assert stats == make().e_step(params, chunk)


class Counted:
    """Counts how often it begins anew."""

    reusable = True

    def __init__(self) -> None:
        self.begun = 0

    def restart(self) -> None:
        self.begun += 1


class Once:
    """Serves one chunk."""

    reusable = False


def test_who_is_held() -> None:
    owner, params = object(), Params(a=1.0)
    one = reused_kernel(owner, params, np.float64, Counted)
    assert reused_kernel(owner, params, np.float64, Counted) is one
    assert one.begun == 1
    for other in ((object(), params, np.float64), (owner, Params(a=1.0), np.float64), (owner, params, np.float32)):
        reused_kernel(owner, params, np.float64, Counted)
        assert reused_kernel(*other, Counted) is not one
        one = reused_kernel(owner, params, np.float64, Counted)
        assert one.begun == 0


def test_what_cannot_begin_anew_is_not_held() -> None:
    owner, params = object(), Params(a=1.0)
    first = reused_kernel(owner, params, np.float64, Once)
    assert reused_kernel(owner, params, np.float64, Once) is not first


def test_letting_go() -> None:
    owner, params = object(), Params(a=1.0)
    first = reused_kernel(owner, params, np.float64, Counted)
    drop_kernel()
    assert reused_kernel(owner, params, np.float64, Counted) is not first


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_no_kernel_keeps_the_rows(rate: float) -> None:
    """Chunks are gone once their statistics are there, also where a rate is 0 and a kernel looks at the rows."""
    model = Mixture(Poisson(), 2, by_turns)
    x = codes()[:, :2].copy()
    params = model.init(Chunk(x), np.random.RandomState(0))
    rates = np.array([[rate, 1.0], [1.0, 1.0]])
    params = params.replace(components=params.components.replace(rates=rates))
    gone = weakref.ref(x)
    model.e_step(params, Chunk(x))
    del x
    gc.collect()
    assert gone() is None


class ResidualLike(PlainKernel):
    """Can begin anew."""

    def __init__(self) -> None:
        super().__init__(Poisson(), None)

    def restart(self) -> None:
        """Nothing was accumulated."""


class Handing:
    """Has whatever the thing inside has."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_things_that_hand_on_others_are_asked_one_by_one() -> None:
    kernels = [completed(Handing(PlainKernel(Poisson(), None)), Kernel), completed(Handing(ResidualLike()), Kernel)]
    assert [kernel.reusable for kernel in kernels] == [False, True]
