"""The values everything is made of: immutable, additive, and the same bits after every round trip."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from streamem.core.arrays import Arrays, Params
from streamem.core.chunk import compute_dtype
from streamem.core.reduction import TreeReduction
from streamem.core.state import State
from streamem.core.stats import Stats

SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1 / 3])


def params() -> Params:
    """Nested, of several dtypes and shapes."""
    inner = Params(means=np.arange(6.0).reshape(2, 3), flags=np.array([True, False]), scalar=np.float32(0.1))
    return Params(weights=SPECIAL, components=inner, deep=Params(a=Params(b=np.int64(3))), last=1.0)


def random_stats(rng: np.random.Generator) -> Stats:
    """Magnitudes so unlike that every order of summation has bits of its own."""
    return Stats(
        x=rng.normal(size=3) * 10.0 ** rng.uniform(-8, 8, 3), inner=Stats(y=rng.normal() * 10 ** rng.uniform(-8, 8))
    )


@pytest.mark.parametrize(
    "there_and_back",
    [
        lambda p: pickle.loads(pickle.dumps(p)),
        copy.deepcopy,
        lambda p: type(p).unflatten(p.flatten()),
        lambda p: p.replace(),
    ],
)
def test_round_trips_keep_every_bit(there_and_back: Any) -> None:
    """Type, names, order, dtypes, shapes and bits, NaN and −0 included."""
    before = params()
    after = there_and_back(before)
    assert after == before
    assert type(after) is Params
    assert type(after.components) is Params
    assert list(after) == list(before)


@pytest.mark.parametrize(
    "other",
    [
        params().replace(weights=np.where(SPECIAL == 0.0, 0.0, SPECIAL)),
        params().replace(weights=SPECIAL[:-1]),
        params().replace(weights=SPECIAL.astype(np.float32)),
        params().replace(deep=Params(a=Params(b=np.int64(4)))),
        params().replace(deep=Params(a=Params(b=np.uint64(3)))),
        params().replace(more=1.0),
        Stats(x=1.0),
        Arrays(**params()),
    ],
)
def test_any_difference_is_unequal(other: Arrays) -> None:
    """Sign of zero, shape, dtype, a nested value, a name, the type."""
    assert params() != other


def test_values_cannot_be_changed() -> None:
    """Neither by name nor in the array; not through a view of the stored array."""
    value = params()
    with pytest.raises(AttributeError, match=r"immutable.*replace\(weights="):
        value.weights = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError, match="weights"):
        del value.weights
    with pytest.raises(ValueError, match="read-only"):
        value.weights[0] = 1.0
    with pytest.raises(AttributeError, match="holds weights, components, deep, last"):
        _ = value.wights
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


def test_names_of_methods_are_kept_apart() -> None:
    """A family may call a parameter "values": the mapping stays one, and the array is found by its name."""
    value = Params(values=[2.0], rates=[1.0])
    assert list(value) == list(value.keys()) == ["values", "rates"]
    assert [array.tolist() for array in value.values()] == [[2.0], [1.0]]
    assert (value["values"].tolist(), value.rates.tolist()) == ([2.0], [1.0])
    assert pickle.loads(pickle.dumps(value)) == value


def test_the_given_array_stays_writable() -> None:
    """The caller's own array is not frozen."""
    mine = np.zeros(2)
    Params(a=mine)
    mine[0] = 1.0


def test_statistics_are_float64_and_form_a_vector_space() -> None:
    """Sum, difference and multiple, name by name, nested too."""
    a, b = (Stats(n=np.int32(i), f=np.float32([1, i]), inner=Stats(x=[[i]])) for i in (1, 2))
    assert {leaf.dtype for leaf in a.flatten().values()} == {np.dtype(np.float64)}
    assert a + b == Stats(n=3, f=[2, 3], inner=Stats(x=[[3]]))
    assert a - b == Stats(n=-1, f=[0, -1], inner=Stats(x=[[-1]]))
    assert 2 * a == a * 2.0 == a + a
    assert sum([a, b]) == a + b
    assert a + 0.0 * b == a
    assert (a + b).nbytes == 8 * 4


@pytest.mark.parametrize("factor", [np.longdouble(0.5), np.float32(0.5), Fraction(1, 2), 0.5])
def test_whatever_scales_statistics_leaves_them_float64(factor: Any) -> None:
    scaled = Stats(a=[1.0, 2.0], b=3, c=Stats(d=1.0)) * factor
    assert all(leaf.dtype == np.float64 and not leaf.flags.writeable for leaf in scaled.flatten().values())
    assert scaled == Stats(a=[0.5, 1.0], b=1.5, c=Stats(d=0.5))


def test_statistics_of_other_models_are_refused() -> None:
    """Other names, or no statistics at all."""
    with pytest.raises(ValueError, match=r"\['x'\] against \['y'\]"):
        Stats(x=1.0) + Stats(y=1.0)
    with pytest.raises(TypeError):
        Stats(x=1.0) + 1.0  # type: ignore[operator]
    with pytest.raises(TypeError):
        sum([Stats(x=1.0)], start=1)  # type: ignore[call-overload]


@pytest.mark.parametrize("log_likelihood", [None, -1.25, np.nan])
def test_a_state_survives_as_arrays(log_likelihood: float | None) -> None:
    """Every field, exactly; a log-likelihood of NaN is not an unknown one."""
    state = State(
        params=params(),
        iteration=7,
        trace=(-3.0, -1 / 3, 1e-300),
        log_likelihood=log_likelihood,
        allowance=0.1,
        closing=True,
        converged=True,
        rows=2**40 + 1,
        weight=0.3,
    )
    back = State.from_arrays(state.to_arrays())
    assert back.to_arrays().keys() == state.to_arrays().keys()
    assert Arrays(**back.to_arrays()) == Arrays(**state.to_arrays())
    assert back.params == state.params
    assert (back.log_likelihood is None) == (log_likelihood is None)
    assert (back.trace, back.iteration, back.rows, back.weight) == (state.trace, 7, 2**40 + 1, 0.3)
    assert back.finished == (log_likelihood is not None)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 100, 257])
def test_the_reduction_tree_has_the_same_bits_in_every_order(size: int) -> None:
    """And nothing is kept but one value a gap and one a level."""
    rng = np.random.default_rng(size)
    values = [random_stats(rng) for _ in range(size)]
    totals = []
    for order in [np.arange(size), np.arange(size)[::-1], *(rng.permutation(size) for _ in range(8))]:
        tree = TreeReduction(size)
        for position in order.tolist():
            tree.add(position, values[position])
        totals.append(tree.result())
    assert all(total == totals[0] for total in totals)
    np.testing.assert_allclose(totals[0].x, np.sum([value.x for value in values], axis=0), rtol=1e-12)


def test_the_order_of_addition_would_matter() -> None:
    """The test above can fail: the same values have other bits in another tree."""
    values = [random_stats(np.random.default_rng(i)) for i in range(100)]
    assert sum(values) != sum(values[::-1])


def test_the_tree_in_order_keeps_one_value_a_level() -> None:
    """Memory of a pass is the logarithm of the number of chunks."""
    tree = TreeReduction(1000)
    for position in range(1000):
        tree.add(position, Stats(x=1.0))
        assert len(tree._nodes) <= 10
    assert tree.result().x == 1000


@pytest.mark.parametrize("arrived", [[], [0], [0, 2]])
def test_a_sum_that_lacks_chunks_is_refused(arrived: list[int]) -> None:
    """Never a partial sum."""
    tree = TreeReduction(3)
    for position in arrived:
        tree.add(position, Stats(x=1.0))
    with pytest.raises(ValueError, match=f"{len(arrived)} of 3 chunks arrived"):
        tree.result()


def test_values_are_computed_in_the_narrowest_exact_dtype() -> None:
    """float32 where every value fits it, else float64; text is refused."""
    narrow = ["?", "i1", "u1", "i2", "u2", "f2", "f4", ">f4"]
    wide = ["i4", "u4", "i8", "u8", "f8", ">f8"]
    assert {compute_dtype(np.dtype(name)) for name in narrow} == {np.dtype(np.float32)}
    assert {compute_dtype(np.dtype(name)) for name in wide} == {np.dtype(np.float64)}
    for name in ("U1", "O", "c16", "M8[s]"):
        with pytest.raises(TypeError):
            compute_dtype(np.dtype(name))


def test_statistics_may_lie_within_parameters_but_not_the_reverse() -> None:
    inner = Stats(weight=[1.0])
    assert Params(memory=inner).memory is inner
    with pytest.raises(ValueError, match="means"):
        Stats(components=Params(means=[1.0]))
