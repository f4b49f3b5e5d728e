"""The free numbers of a family, each a direction in which its parameters can move.

Letters in shapes: K components, L numbers of a component, Q coordinates of a component (those that all share included).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.free_form import FreeForm
from streamem.core.ports import FullFamily

Array = NDArray[Any]
NOTHING = -1
"""In a table of positions: no number."""


@dataclass(frozen=True, eq=False)
class Moves:
    """What each coordinate moves: number `up` by a step, number `other` by `sign` times that.

    Attributes
    ----------
    up, other : (R, q) positions among the numbers of a row (a component, or the shared ones), or −1
    sign : (R, q) 1 for the mirror image in a symmetric matrix, −1 for the probability that gives way
    """

    up: Array
    other: Array
    sign: Array

    @property
    def active(self) -> Array:
        """(R, q) which coordinates move anything."""
        return np.asarray(self.up != NOTHING)

    def apply(self, numbers: Array, j: int, amounts: Array) -> None:
        """Move coordinate j of all rows by amounts (R,), in place."""
        rows = np.flatnonzero(self.up[:, j] != NOTHING)
        numbers[rows, self.up[rows, j]] += amounts[rows]
        rows = rows[self.other[rows, j] != NOTHING]
        numbers[rows, self.other[rows, j]] += self.sign[rows, j] * amounts[rows]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The free coordinates of a family about fitted parameters.

    Attributes
    ----------
    family, params, form : the family, its fitted parameters, and the numbers that tell them
    own, shared : (K, L) and (1, L') numbers of each component, and of all together
    held, held_shared : which of these are no free numbers
    moves, moves_shared : what the coordinates move
    steps : (K, Q) of differences; 0 where a coordinate moves nothing
    """

    family: FullFamily
    params: Any
    form: FreeForm
    own: Array
    shared: Array
    held: Array
    held_shared: Array
    moves: Moves
    moves_shared: Moves
    steps: Array

    @classmethod
    def of(cls, family: FullFamily, params: Any, n_components: int) -> Coordinates:
        """Every number free; steps are not known yet."""
        form = family.free_form(params, n_components)
        own = _side_by_side([form.values[name] for name in _names(form, shared=False)], n_components)
        shared = _side_by_side([form.values[name][None] for name in _names(form, shared=True)], 1)
        free, free_shared = np.zeros(own.shape, np.bool_), np.zeros(shared.shape, np.bool_)
        nothing = Moves(*(np.zeros((rows, 0), np.int64) for rows in (1, 1, 1)))
        made = cls(family, params, form, own, shared, free, free_shared, nothing, nothing, np.zeros((n_components, 0)))
        return made.holding(free, free_shared)

    def holding(self, held: Array, held_shared: Array) -> Coordinates:
        """These coordinates where some numbers stay as they are."""
        moves = _moves(self.form, False, self.own, held)
        moves_shared = _moves(self.form, True, self.shared, held_shared)
        width = moves.up.shape[1] + moves_shared.up.shape[1]
        steps = np.zeros((self.n_components, width))
        return replace(self, held=held, held_shared=held_shared, moves=moves, moves_shared=moves_shared, steps=steps)

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.own)

    @property
    def width(self) -> int:
        """Q: coordinates of a component, and those that all share."""
        return int(self.moves.up.shape[1] + self.moves_shared.up.shape[1])

    @property
    def active(self) -> Array:
        """(K, Q) which coordinates move anything."""
        common = np.repeat(self.moves_shared.active, self.n_components, axis=0)
        return np.hstack([self.moves.active, common])

    def index(self) -> Array:
        """(K, Q) position of every coordinate among all free numbers, −1 where there is none."""
        own = np.full(self.moves.up.shape, NOTHING)
        own[self.moves.active] = np.arange(int(self.moves.active.sum()))
        common = np.full(self.moves_shared.up.shape, NOTHING)
        common[self.moves_shared.active] = own.max(initial=-1) + 1 + np.arange(int(self.moves_shared.active.sum()))
        return np.hstack([own, np.repeat(common, self.n_components, axis=0)])

    def value(self) -> Array:
        """(K, Q) numbers that the coordinates move up."""
        own, common = _at(self.own, self.moves.up), _at(self.shared, self.moves_shared.up)
        return np.hstack([own, np.repeat(common, self.n_components, axis=0)])

    def is_shared(self, j: int) -> bool:
        """Whether all components have the coordinate together."""
        return j >= self.moves.up.shape[1]

    def giving(self, j: int) -> Array | None:
        """(K,) probabilities that give way when coordinate j moves up; None where it is no probability."""
        split = self.moves.up.shape[1]
        moves, numbers, place = (
            (self.moves_shared, self.shared, j - split) if self.is_shared(j) else (self.moves, self.own, j)
        )
        if not (moves.sign[:, place] < 0).any():
            return None
        other = moves.other[:, place]
        found = np.take_along_axis(numbers, np.maximum(other, 0)[:, None], axis=1)[:, 0]
        return np.broadcast_to(np.where(other >= 0, found, 1.0), self.n_components)

    def sides(self) -> tuple[Array, Array]:
        """(K, Q) which column of `Slopes` each coordinate moves up, and which gives way, or −1."""
        columns, first = np.append(_columns(self.form), NOTHING), self.own.shape[1]
        own, common = self.moves, self.moves_shared
        up, other = (
            np.hstack([one, np.repeat(np.where(two == NOTHING, NOTHING, first + two), self.n_components, axis=0)])
            for one, two in (
                (own.up, common.up),
                (np.where(own.sign < 0, own.other, NOTHING), np.where(common.sign < 0, common.other, NOTHING)),
            )
        )
        return columns[up], columns[other]

    def array_names(self) -> list[str]:
        """Names of the arrays of a component's numbers, in their order, followed by the shared ones."""
        return [*_names(self.form, shared=False), *_names(self.form, shared=True)]

    def names(self) -> list[str]:
        """Names of all free numbers, in the order of `index`: "means[0, 1]"."""
        own, common = self.element_names()
        found = [own[k][self.moves.up[k, j]] for k, j in np.argwhere(self.moves.active)]
        return found + [common[self.moves_shared.up[0, j]] for _, j in np.argwhere(self.moves_shared.active)]

    def element_names(self) -> tuple[list[list[str]], list[str]]:
        """Names of all numbers: of each component, and of the shared ones."""
        k = self.n_components
        own: list[list[str]] = [[] for _ in range(k)]
        for name in _names(self.form, shared=False):
            for place in np.ndindex(self.form.values[name].shape):
                own[place[0]].append(f"{name}{list(place)}")
        common = [
            f"{name}{list(place)}"
            for name in _names(self.form, shared=True)
            for place in np.ndindex(self.form.values[name].shape)
        ]
        return own, common

    def moved(self, moves: Sequence[tuple[int, float]], steps: Array | None = None) -> Any:
        """Parameters with each coordinate j moved, in all components at once, by so many of its steps."""
        steps, own, shared = self.steps if steps is None else steps, self.own.copy(), self.shared.copy()
        split = self.moves.up.shape[1]
        for j, factor in moves:
            if not self.is_shared(j):
                self.moves.apply(own, j, factor * steps[:, j])
            else:
                self.moves_shared.apply(shared, j - split, factor * steps[:1, j])
        return self.rebuilt(own, shared)

    def moved_alone(self, k: int, j: int, amount: float) -> Any:
        """Parameters with coordinate j of component k (or of all, where they share it) moved by an amount."""
        steps = np.zeros_like(self.steps)
        steps[slice(None) if self.is_shared(j) else k, j] = amount
        return self.moved([(j, 1.0)], steps)

    def inwards(self, k: int, j: int, shared: bool, amount: float) -> Any:
        """Parameters with probability j of component k (or of all) moved up, which the largest of its set gives."""
        own, common = self.own.copy(), self.shared.copy()
        numbers = (common if shared else own)[k]
        places = next(places for places in _all_sets(self.form, shared) if j in places)
        numbers[places[np.argmax(numbers[places])]] -= amount
        numbers[j] += amount
        return self.rebuilt(own, common)

    def rebuilt(self, own: Array, shared: Array) -> Any:
        """Parameters from numbers."""
        values = self.arrays(own, shared)
        return self.family.from_free_form(values, self.params)

    def arrays(self, own: Array, shared: Array) -> dict[str, Array]:
        """Numbers as the arrays of the free form."""
        found: dict[str, Array] = {}
        for is_shared, numbers in ((False, own), (True, shared)):
            first = 0
            for name in _names(self.form, is_shared):
                shape = self.form.values[name].shape
                size = int(np.prod(shape if is_shared else shape[1:]))
                found[name] = np.ascontiguousarray(numbers[:, first : first + size]).reshape(shape)
                first += size
        return found


def _at(numbers: Array, places: Array) -> Array:
    """Numbers at positions, whatever where there is none."""
    if not places.size:
        return np.zeros(places.shape)
    return np.asarray(np.take_along_axis(numbers, np.maximum(places, 0), axis=1))


def _names(form: FreeForm, shared: bool) -> list[str]:
    return [name for name in form.values if (name in form.shared) == shared]


def _columns(form: FreeForm) -> Array:
    """(L,) the column of `Slopes` of every number of a component, and of the shared ones after them."""
    found, first = [], 0
    for shared in (False, True):
        for name in _names(form, shared):
            shape = form.values[name].shape if shared else form.values[name].shape[1:]
            own = np.arange(int(np.prod(shape))).reshape(shape)
            if name in form.symmetric:
                i, j = np.tril_indices(shape[-1])
                own[i, j] = own[j, i] = np.arange(len(i))
            found.append(first + own.ravel())
            first += int(own.max(initial=-1)) + 1
    return np.concatenate([np.zeros(0, np.int64), *found])


def _side_by_side(arrays: Sequence[Array], rows: int) -> Array:
    flat = [np.asarray(array, dtype=np.float64).reshape(rows, -1) for array in arrays]
    return np.hstack([np.zeros((rows, 0)), *flat])


def _moves(form: FreeForm, shared: bool, numbers: Array, held: Array) -> Moves:
    """The coordinates of all arrays that are shared, or of those that are not."""
    tables: list[Moves] = []
    first = 0
    for name in _names(form, shared):
        shape = form.values[name].shape if shared else form.values[name].shape[1:]
        places = first + np.arange(int(np.prod(shape))).reshape(shape)
        first += places.size
        if name in form.simplex:
            sets = _sets(places, form.simplex[name])
            tables += [_probabilities(numbers, held, own) for own in sets]
        elif name in form.symmetric:
            tables += [_symmetric(own, held) for own in places.reshape(-1, *shape[-2:])]
        else:
            tables.append(_plain(places.ravel(), held))
    rows = len(numbers)
    empty = np.zeros((rows, 0), np.int64)
    joined = [np.hstack([empty, *(getattr(table, what) for table in tables)]) for what in ("up", "other", "sign")]
    return Moves(*joined)


def _all_sets(form: FreeForm, shared: bool) -> Iterator[Array]:
    """Positions of all sets of probabilities."""
    first = 0
    for name in _names(form, shared):
        shape = form.values[name].shape if shared else form.values[name].shape[1:]
        places = first + np.arange(int(np.prod(shape))).reshape(shape)
        first += places.size
        if name in form.simplex:
            yield from _sets(places, form.simplex[name])


def _sets(places: Array, starts: Array) -> Iterator[Array]:
    """Positions of each set of probabilities that sums to 1."""
    for row in places.reshape(-1, places.shape[-1]):
        for first, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            yield row[first:stop]


def _plain(places: Array, held: Array) -> Moves:
    up = np.where(held[:, places], NOTHING, places)
    return Moves(up, np.full_like(up, NOTHING), np.zeros_like(up))


def _symmetric(places: Array, held: Array) -> Moves:
    i, j = np.tril_indices(len(places))
    own = _plain(places[i, j], held)
    other = np.where((i == j) | (own.up == NOTHING), NOTHING, places[j, i])
    return Moves(own.up, other, np.where(other == NOTHING, 0, 1))


def _probabilities(numbers: Array, held: Array, places: Array) -> Moves:
    """One coordinate less than there are probabilities: the largest that is free gives way."""
    up = np.full((len(numbers), len(places) - 1), NOTHING)
    other = up.copy()
    for k, (own, kept) in enumerate(zip(numbers[:, places], held[:, places], strict=True)):
        if (~kept).sum() < 2:
            continue
        reference = int(np.argmax(np.where(kept, -1.0, own)))
        rest = np.delete(np.arange(len(places)), reference)
        up[k] = np.where(kept[rest], NOTHING, places[rest])
        other[k] = np.where(up[k] == NOTHING, NOTHING, places[reference])
    return Moves(up, other, np.where(other == NOTHING, 0, -1))
