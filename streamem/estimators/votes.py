"""Long tables (item, rater, label): who said what of which item, as codes in the order of the items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array

from streamem.core.errors import DataError, ParameterError, SchemaError
from streamem.estimators.row_inputs import is_frame, library_of
from streamem.sources import ReadOptions
from streamem.sources.column_values import numbers_of
from streamem.sources.kinds import is_path_list, kind_of
from streamem.sources.plain_arrow import plain

Array = NDArray[Any]
Ints = NDArray[np.int64]
Pieces = Callable[[], Iterable[Any]]

VOTE_NBYTES = 64
"""Of a vote while votes are gathered: three codes, their order, and what is made of them."""
ABSENT = -1
"""Code of a value that was not observed."""


@dataclass(frozen=True)
class Columns:
    """Names of the three columns of a table of votes."""

    item: str
    rater: str
    label: str

    def check(self) -> None:
        """Refuse what names no three columns.

        Raises
        ------
        ParameterError : naming them
        """
        names = (self.item, self.rater, self.label)
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < 3:
            raise ParameterError(f"item, rater and label are {names}; the names of three columns are needed")


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes in memory, all of one item behind each other, items in the order in which they first came.

    Attributes
    ----------
    columns : the names of the columns
    x : (n, 2) codes of rater and label, NaN for what was not observed
    offsets : (items + 1,) first vote of every item, and n
    items : (items,) identifiers
    raters, labels : what the codes stand for
    order : (n,) which row of the data each vote was
    origin : the data in words
    """

    columns: Columns
    x: Array
    offsets: Ints
    items: pa.Array
    raters: tuple[Any, ...]
    labels: tuple[Any, ...]
    order: Ints
    origin: str

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """A table of the column that identifies the items, in the order of the votes."""
        rows = pa.array(np.repeat(np.arange(len(self.items)), np.diff(self.offsets)))
        return pa.table({self.columns.item: self.items.take(rows)}).__arrow_c_stream__(requested_schema)


class Coder:
    """Codes of the values of a column, numbered as they come, or by a vocabulary.

    Parameters
    ----------
    what : the column in words, for messages
    known : the values that there may be, in the order of their codes; None for any
    skips : whether other values count as not observed
    """

    def __init__(self, what: str, known: Sequence[Any] | None = None, skips: bool = False) -> None:
        self._what, self._skips, self._is_open = what, skips, known is None
        self.codes: dict[Any, int] = {value: code for code, value in enumerate(known or ())}

    def of(self, pieces: Iterable[Any]) -> Ints:
        """The codes of all values, `ABSENT` where there is none.

        Raises
        ------
        DataError : a value that is not in the vocabulary
        SchemaError : values that are neither numbers, text, dates nor truths
        """
        found = [np.empty(0, np.int64)]
        for piece in pieces:
            found.append(self._of_piece(piece, sum(map(len, found))))
        return np.concatenate(found)

    def _of_piece(self, piece: Any, row: int) -> Ints:
        encoded = encode(piece, self._what)
        values = encoded.dictionary.to_pylist()
        places = np.array([*map(self._code, values), ABSENT], dtype=np.int64)
        codes = places[encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)]
        unknown = np.flatnonzero(places[:-1] == ABSENT)
        if len(unknown) and not self._skips:
            indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            at = int(np.argmax(np.isin(indices, unknown)))
            known = ", ".join(repr(value) for value in [*self.codes][:10]) + (" …" if len(self.codes) > 10 else "")
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise DataError(
                f"{self._what} is {values[indices[at]]!r} in row {row + at}{more}, which is none of the "
                f"{len(self.codes)} that are known ({known}): leave such rows out, fit to data that has them, or take "
                "them for missing with unseen='missing'"
            )
        return codes

    def _code(self, value: Any) -> int:
        if value is None:
            return ABSENT
        return self.codes.setdefault(value, len(self.codes)) if self._is_open else self.codes.get(value, ABSENT)

    def sorted(self) -> tuple[tuple[Any, ...], Ints]:
        """The values in their order, and of every code so far its place in it; −1, the last one, stays.

        Raises
        ------
        SchemaError : values that have no order
        """
        if not self._is_open:
            return tuple(self.codes), np.append(np.arange(len(self.codes)), ABSENT)
        try:
            values = sorted(self.codes)
        except TypeError as error:
            raise SchemaError(f"{self._what} holds values of several types: {error}") from error
        places = np.full(len(values) + 1, ABSENT, dtype=np.int64)
        places[[self.codes[value] for value in values]] = np.arange(len(values))
        return tuple(values), places


def encode(piece: Any, what: str) -> pa.DictionaryArray:
    """A piece of a column as a dictionary and indices; what pandas takes for missing is null.

    Raises
    ------
    SchemaError : values of several types, or several values a row
    """
    try:
        if isinstance(piece, np.ndarray):
            piece = pa.array(piece.astype(object) if piece.dtype.kind in "TU" else piece, from_pandas=True)
        array = plain(piece)
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), None, array)
        return array.dictionary_encode()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(f"{what} cannot tell one from another: numbers or text are needed ({error})") from error


def is_gathered(x: Any) -> bool:
    """Whether votes lie in memory as arrays, lists, data frames or Arrow tables, which need no order."""
    if isinstance(x, list | tuple):
        return not is_path_list(x)
    return isinstance(x, np.ndarray | pa.Table | pa.RecordBatch) or is_frame(x)


def readers(x: Any, columns: Columns) -> tuple[list[Pieces], str]:
    """What reads item, rater and label of X from the beginning, and X in words.

    Raises
    ------
    SchemaError : X has no three columns, or not these
    """
    if isinstance(x, list | tuple | np.ndarray):
        return [lambda own=own: iter([own]) for own in _three(x)], "the votes"  # type: ignore[misc]
    kind = kind_of(x)
    found = [None if kind is None else kind.column_reader(x, name, ReadOptions()) for name in _names(columns)]
    if None in found:
        raise SchemaError(
            f"{library_of(x)}.{type(x).__name__} has no columns with names, so {list(_names(columns))} cannot be read "
            "from it; pass the path or the table itself, or an array (n, 3) of item, rater and label"
        )
    return [read for read in found if read is not None], f"the {type(x).__name__}"


def gather(
    x: Any, columns: Columns, raters: Sequence[Any] | None, labels: Sequence[Any] | None, skips: bool, keeps_null: bool
) -> Votes:
    """All votes of X, put in the order of their items.

    Parameters
    ----------
    raters, labels : the only ones that there may be, in the order of their codes, or None
    skips : whether a vote of others counts as not observed
    keeps_null : whether a rater or a label may be null

    Raises
    ------
    DataError : an item that is null, a rater or label that is null or unknown
    SchemaError : columns that are missing or of unequal length, or hold values of several types
    """
    (read_item, *others), origin = readers(x, columns)
    coders = [
        Coder(f"{origin}: {columns.rater!r}", raters, skips),
        Coder(f"{origin}: {columns.label!r}", labels, skips),
    ]
    names, items = in_order_of_coming(read_item(), f"{origin}: {columns.item!r}")
    codes = [coder.of(read()) for coder, read in zip(coders, others, strict=True)]
    if len({len(items), *map(len, codes)}) > 1:
        raise SchemaError(f"{origin} has columns of {len(items)}, {len(codes[0])} and {len(codes[1])} rows")
    _require_all(items, f"{origin}: {columns.item!r}", "every vote is about an item: fill it in, or drop these rows")
    told = [coder.sorted() for coder in coders]
    out = np.empty((len(items), 2))
    order = by_item(items, len(names))
    for j, (own, (_, places), name) in enumerate(zip(codes, told, _names(columns)[1:], strict=True)):
        if not keeps_null and not skips:
            remedy = 'drop such rows, or pass missing="integrate", and they say nothing'
            _require_all(own, f"{origin}: {name!r}", remedy, lambda row: f" of item {names[int(items[row])].as_py()!r}")
        ordered = places[own[order]]
        out[:, j] = np.where(ordered == ABSENT, np.nan, ordered)
    counts = np.bincount(items, minlength=len(names))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Votes(columns, out, offsets, names, told[0][0], told[1][0], order, origin)


def in_order_of_coming(pieces: Iterable[Any], what: str) -> tuple[pa.Array, Ints]:
    """The different values of a column in the order in which they first came, and the code of each value."""
    own = list(pieces)
    if len(own) == 1:  # without a look at each of perhaps millions of them
        encoded = encode(own[0], what)
        codes = encoded.indices.fill_null(ABSENT).to_numpy(zero_copy_only=False).astype(np.int64)
        return encoded.dictionary, codes
    coder = Coder(what)
    codes = coder.of(own)
    return _ids([*coder.codes], what), codes


def by_item(items: Ints, count: int) -> Ints:
    """The rows (n,) item by item, those of one in their order: a counting sort, which a sparse matrix does."""
    rows = np.arange(len(items))
    placed = coo_array((np.ones(len(items), dtype=np.int8), (items, rows)), shape=(count, max(1, len(items))))
    return np.asarray(placed.tocsr().indices, dtype=np.int64)


def vocabulary(pieces: Iterable[Any], what: str) -> tuple[Any, ...]:
    """The different values of a column in their order; nulls are none."""
    coder = Coder(what)
    for piece in pieces:
        for value in encode(piece, what).dictionary.to_pylist():
            coder._code(value)
    return coder.sorted()[0]


def items_of(x: Any, columns: Columns) -> list[Any]:
    """The different items of X, in the order in which they first came."""
    if isinstance(x, Votes):
        return list(x.items.to_pylist())
    (read, *_), origin = readers(x, columns)
    coder = Coder(f"{origin}: {columns.item!r}")
    for piece in read():
        for value in encode(piece, f"{origin}: {columns.item!r}").dictionary.to_pylist():
            coder._code(value)
    return [*coder.codes]


def weights_of(x: Any, name: str) -> Array:
    """(n,) the weights that a column of X holds.

    Raises
    ------
    SchemaError : there is no such column, or it holds no numbers
    """
    kind = None if isinstance(x, list | tuple | np.ndarray) else kind_of(x)
    read = None if kind is None else kind.column_reader(x, name, ReadOptions())
    if read is None:
        raise SchemaError(f"an array of votes has no column {name!r}; pass the weights as an array")
    return np.concatenate([np.empty(0), *(numbers_of(piece, f"weight {name!r}") for piece in read())])


def _names(columns: Columns) -> tuple[str, str, str]:
    return columns.item, columns.rater, columns.label


def _require_all(codes: Ints, what: str, remedy: str, of: Callable[[int], str] = lambda row: "") -> None:
    if (absent := codes == ABSENT).any():
        row = int(np.argmax(absent))
        raise DataError(f"{what} is null in row {row}{of(row)} ({int(absent.sum())} in all): {remedy}")


def require_single(source: Any, raters: Sequence[Any], item_of: Callable[[int], str]) -> None:
    """Refuse votes of which a rater gave several on an item.

    Parameters
    ----------
    source : of votes, item by item
    item_of : from the row of a vote, its item in words

    Raises
    ------
    DataError : naming the first
    """
    before = np.empty(0)
    for ref in source.chunks():
        chunk = ref.load()
        offsets = np.asarray(chunk.sequences.offsets)
        held = before if chunk.sequences.opened else before[:0]
        rater = np.concatenate([held, chunk.x[:, 0]])
        item = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        item = np.concatenate([np.zeros(len(held), item.dtype), item])
        order = np.lexsort((rater, item))
        again = np.flatnonzero((np.diff(item[order]) == 0) & (np.diff(rater[order]) == 0))
        if len(again):
            row = int(order[again + 1].min())
            where = item_of(ref.start + row - len(held))
            raise DataError(
                f"rater {raters[int(rater[row])]!r} voted more than once on {where}: drop such votes, or pass "
                'repeated="count", and each counts by itself'
            )
        before = rater[item == item[-1]] if len(item) else before


def _ids(values: Sequence[Any], what: str) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(f"{what} holds values of several types: {error}") from error


def _three(x: Any) -> Iterator[Any]:
    """The columns of an array (n, 3), or of a list of as many values a row."""
    if isinstance(x, np.ndarray):
        if x.ndim != 2 or x.shape[1] != 3:
            raise SchemaError(f"an array of shape {x.shape} holds no votes; (n, 3) is needed: item, rater, label")
        return iter([pa_ready(x[:, j]) for j in range(3)])
    widths = {len(row) if isinstance(row, list | tuple | np.ndarray) else 0 for row in x}
    if widths != {3}:
        raise SchemaError("a list of votes needs three values a row: item, rater, label")
    return iter([pa_ready(np.array([row[j] for row in x], dtype=object)) for j in range(3)])


def pa_ready(column: Array) -> Array:
    """A column of Python objects, or of numbers."""
    return column if column.dtype.kind in "biufOTU" else column.astype(object)
