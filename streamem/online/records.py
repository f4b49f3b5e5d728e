"""From what a stream delivers to rows: checked one by one, so that a bad record does not cost the good ones."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamem.core.chunk import as_floats
from streamem.core.errors import DataError, ParameterError, SchemaError, StreamemError
from streamem.core.formats import BYTE_ORDER_MARK, REGISTRY, SCHEMA_HEADER, foreign_format, registry_frame
from streamem.core.json_text import parse_json
from streamem.core.message import KEPT_BYTES, Damaged
from streamem.core.missing import Missing
from streamem.core.validation import usable
from streamem.online.behind import Behind
from streamem.online.kept_bytes import bytes_at, bytes_of, elements_of, shown
from streamem.online.vocabulary import Vocabulary
from streamem.sources import ReadOptions, open_source
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, plan_columns
from streamem.sources.numeric import numbers_in
from streamem.sources.stored_index import default_columns, is_reserved
from streamem.streams.arrow_bytes import CONTINUATION, FILE, arrow_table, require_sound

Array = NDArray[Any]
BYTES, TABLES = (bytes, bytearray, memoryview), (pa.RecordBatch, pa.Table)
PLAIN = frozenset((int, float))
ONE = np.ones(1, dtype=np.int64)
Headers = Sequence[tuple[str, bytes | None]]
Unpack = Callable[[bytes, Headers], Any]
"""What makes something that is read here of bytes, such as mappings of Avro."""
LARGE_BYTES, MOST_TIMES = 2**28, 64
"""Rows that need more memory than both, the second of a table's own bytes (of which a truth value takes a bit), are not
those of the table."""


class RefusedRecordError(DataError):
    """Something is wrong with a record itself, and with nothing else: a dead letter."""


REFUSALS = (DataError, SchemaError, ParameterError)
"""What is wrong with a payload. Any other error is one of a library, a store or the machine, and ends the stream."""


@contextmanager
def judging(*also: type[Exception]) -> Iterator[None]:
    """Take errors of parsers and of conversions for what is wrong with a record; use it around these calls only.

    Parameters
    ----------
    also : further kinds of errors that the call inside raises about its input alone

    Raises
    ------
    RefusedRecordError : for `ValueError`, `OverflowError`, those of Arrow, and `also`
    """
    try:
        yield
    except (StreamemError, MemoryError):
        raise
    except (ValueError, OverflowError, pa.ArrowException, *also) as error:
        raise RefusedRecordError(repr(error)) from error


@dataclass(frozen=True)
class Unusable:
    """A record that cannot be used: which of its message, why, and its bytes as far as they fit.

    A message that is refused as a whole is one `Unusable` of as many `records` as it is known to hold.
    """

    record: int
    reason: str
    data: bytes
    records: int = 1


@dataclass(frozen=True, eq=False)
class Records:
    """The records of a message.

    Attributes
    ----------
    x, weight : the usable ones, (n, d) and (n,) or None
    ends : (n,) for each usable record the number of records of the message up to and including it
    count : records of the message
    unusable : the others
    ids : (n,) of each usable record the sequence of which it is a step; empty where nobody asked
    """

    x: Array
    weight: Array | None
    ends: Array
    count: int
    unusable: tuple[Unusable, ...]
    ids: Sequence[Any] = ()

    def after(self, skipped: int) -> Records:
        """Records without the first `skipped`."""
        if skipped == 0:
            return self
        kept = self.ends > skipped
        weight = None if self.weight is None else self.weight[kept]
        unusable = tuple(bad for bad in self.unusable if bad.record + bad.records > skipped)
        ids = [one for one, keep in zip(self.ids, kept, strict=True) if keep] if self.ids else ()
        return Records(self.x[kept], weight, self.ends[kept], self.count, unusable, ids)


NEEDED = {
    Missing.NEVER: "every value must be finite: the model knows no missing ones",
    Missing.UNDECLARED: 'every value must be finite (a model that says missing = "values" takes NaN)',
    Missing.NOTHING: 'every value must be finite (missing="integrate" takes NaN for values that were not observed)',
    Missing.STEPS_ALONE: "every value must be finite, or all of a step missing",
    Missing.STEPS: "every value must be finite, or all of a step missing",
    Missing.VALUES: "a value may be missing, but not infinite",
}


class Decoder:
    """Makes rows of payloads.

    Parameters
    ----------
    columns : names of the features; None takes those of the first payload that has names
    weight : name of the column or field of sample weights
    n_features : d, once a record has shown it
    missing : what of a record may be null or NaN
    vocabulary : the values of columns of categories
    unpack : what payloads of bytes are passed to, with their headers, instead of being read as JSON or Arrow
    behind : columns that stand behind the features; `columns` and `n_features` count them
    driven : columns that must be finite whatever else is missing, by name or position; also counted
    """

    def __init__(
        self,
        columns: Sequence[str] | None,
        weight: str | None,
        n_features: int | None,
        missing: Missing = Missing.NOTHING,
        vocabulary: Vocabulary | None = None,
        unpack: Unpack | None = None,
        behind: Behind | None = None,
        driven: Sequence[str | int] = (),
    ) -> None:
        self._unpack, self._behind, self._driven = unpack, behind, driven
        self.vocabulary = Vocabulary() if vocabulary is None else vocabulary
        self.names = None if columns is None else tuple(columns)
        self.n_features = n_features
        self._fitted = n_features is not None
        self._weight = weight
        self._missing = missing
        self._layout: tuple[pa.Schema, TableLayout] | None = None

    def decode(self, payload: Any, headers: Headers = ()) -> Records:
        """The records of a payload; one that is refused as a whole counts by the records that it is known to hold.

        Bytes of which nothing can be read count as one record.

        Raises
        ------
        Exception : what is not wrong with the payload: a library, a store or the machine failed
        """
        if isinstance(payload, str):
            payload = payload.encode("utf-8", "surrogatepass")  # which is no UTF-8 then, and refused as such
        held = payload = _sound(payload) if isinstance(payload, TABLES) else payload
        try:
            held = self._opened(payload, headers)
            records = self._decode(held)
        except REFUSALS as error:
            return self._refused(str(error), payload, _records_in(held))
        own = isinstance(payload, BYTES)
        legible = self._unpack is None
        return _with_own_bytes(records, bytes(payload), held, legible) if records.unusable and own else records

    def _opened(self, payload: Any, headers: Headers) -> Any:
        """A payload without its wrapping: what bytes hold."""
        if isinstance(payload, Damaged):
            raise RefusedRecordError(payload.reason)
        if not isinstance(payload, BYTES):
            return payload
        if self._unpack is not None:
            return _unpacked(self._unpack, bytes(payload), headers)
        try:
            return _parsed(bytes(payload))
        except DataError as error:
            if any(name == SCHEMA_HEADER for name, _ in headers):
                raise RefusedRecordError(f"{error}; its header {SCHEMA_HEADER} names a schema: {REGISTRY}") from error
            raise

    def _decode(self, payload: Any) -> Records:
        if payload is None or (isinstance(payload, list | tuple) and len(payload) == 0):
            return self._checked(np.empty((0, self.n_features or 1)), None, payload)
        if isinstance(payload, Mapping):
            return self._object(payload)
        if isinstance(payload, list) and payload and isinstance(payload[0], Mapping):
            return self._objects(payload)
        if self._behind is not None and _is_pair(payload):
            with judging(TypeError):
                payload = _side_by_side(*payload)
            return self._array(payload, self._behind.count)
        if isinstance(payload, list | tuple):
            with judging(TypeError):
                payload = _plain_numbers(payload)
        if isinstance(payload, np.ndarray):
            return self._array(payload)
        return self._table(payload)

    def _object(self, record: Mapping[str, Any]) -> Records:
        """One record with names, the most frequent payload: without arrays of one element as far as that goes."""
        plain = self._weight is None and not self.vocabulary.values
        if plain and self.names is not None and len(self.names) == self.n_features:
            row: list[Any] = [record.get(name) for name in self.names]
            if PLAIN.issuperset(map(type, row)) and _is_finite(row):
                return Records(np.array([row], dtype=np.float64), None, ONE, 1, ())
        return self._objects([record])

    # --- kinds -------------------------------------------------------------------------------------------------------

    def _objects(self, objects: Sequence[Any]) -> Records:
        """Mappings of names to numbers, or to categories."""
        self._require_known()
        if self.names is None:
            self._learn(self._first_names(objects))
        assert self.names is not None
        self._require_width(len(self.names), f"the choice of fields {list(self.names)}")
        wanted = self.names if self._weight is None else (*self.names, self._weight)
        rows, ends, unusable = [], [], []
        for i, record in enumerate(objects):
            try:
                rows.append(_row(record, wanted, self.vocabulary))
                ends.append(i + 1)
            except (ValueError, TypeError, OverflowError) as error:
                unusable.append(Unusable(i, str(error), bytes_of(record)))
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(wanted))
        x, weight = (values, None) if self._weight is None else (values[:, :-1], values[:, -1])
        records = self._checked(x, weight, objects, np.array(ends, dtype=np.int64))
        return Records(records.x, records.weight, records.ends, len(objects), (*unusable, *records.unusable))

    def _first_names(self, objects: Sequence[Any]) -> list[str]:
        """The fields of the first good record: those of one that is none would spoil all others."""
        if self._fitted:
            raise SchemaError(
                "records have names and the fitted features have none: say which fields they are, in their order, with "
                "columns="
            )
        failure: Exception = ValueError("there are no fields")
        for record in objects:
            try:
                names = [str(name) for name in record if self._is_feature(name)]
                "".join(names).encode()  # half of a surrogate pair cannot be written into any file
                _row(record, names if self._behind is None else self._behind.ordered(names), self.vocabulary)
            except (ValueError, TypeError, OverflowError) as error:
                failure = error
                continue
            if names:
                return names if self._behind is None else self._behind.ordered(names)
        raise SchemaError(f"{failure}; say which fields are features with columns=") from failure

    def _is_feature(self, name: Any) -> bool:
        """Whether a field is a feature where nobody says which ones are."""
        return name != self._weight and not is_reserved(name)

    def _array(self, array: Array, paired: int = 0) -> Records:
        """Rows without names, of which so many columns came apart from the features."""
        if array.ndim and len(array) == 0:
            return self._checked(np.empty((0, self.n_features or 1)), None, array)
        if array.ndim == 1:
            array = array[None, :]
        if self._weight is not None:
            raise SchemaError(f"an array has no field {self._weight!r} for the weight; send records with names")
        if self._behind is not None and self._behind.names and not paired:
            raise SchemaError(f"an array has no field {self._behind.names[0]!r}; send records with names, or pairs")
        array = numbers_in(np.array(array, subok=True), "the array")  # a copy: the producer may fill it again
        source = open_source(array)
        self._require_width(source.schema.n_features, "the array")
        x = source.chunks()[0].load().x
        if len(x) != len(array):
            x = as_floats(array, np.dtype(np.float64))
        return self._checked(x, None, array)

    def _table(self, table: Any) -> Records:
        """Anything tabular that `open_source` reads."""
        self._require_known()
        columns = None if self.names is None else list(dict.fromkeys(re.sub(r"\[\d+\]$", "", n) for n in self.names))
        if not getattr(table, "num_rows", 1):
            return self._checked(np.empty((0, self.n_features or 1)), None, table)
        if self.vocabulary.values or self.vocabulary.is_open or self._behind is not None:
            table = _in_arrow(table, columns, self._weight)
        if isinstance(table, TABLES):
            return self._arrow(table, columns)
        if columns is None and self._behind is not None:
            raise SchemaError(f"a {type(table).__name__} needs columns=, the names of the features in their order")
        options = ReadOptions(columns=None if columns is None else tuple(columns), chunk_bytes=2**40)
        with judging():
            source = open_source(table, weight=self._weight, options=options)
        self._require_width(source.schema.n_features, source.schema.origin)
        if source.schema.names is not None:
            self.names = source.schema.names
        refs = source.chunks()
        if not refs:
            return self._checked(np.empty((0, source.schema.n_features)), None, table)
        with judging():
            chunk = refs[0].load()
        return self._checked(chunk.x, chunk.weight, table)

    def _arrow(self, table: Any, columns: Sequence[str] | None) -> Records:
        """Records of an Arrow table, whose layout is planned once a schema."""
        if self._layout is None or not table.schema.equals(self._layout[0]):
            wanted = default_columns(table.schema, {self._weight}) if columns is None else columns
            if columns is None and self._behind is not None:
                columns = wanted = self._behind.ordered(wanted)
            self.vocabulary.require_named(table.schema, wanted, () if self._behind is None else self._behind.names)
            options = ReadOptions(
                columns=None if columns is None else tuple(columns),
                weight_column=self._weight,
                categories=self.vocabulary.values,
                unseen="missing",  # which `unknown_in` tells from nulls, row by row
            )
            layout = plan_columns(table.schema, options, "the record batch", held=table.get_total_buffer_size)
            self._require_width(layout.n_features, "the record batch")
            self.names = tuple(name for column in layout.columns for name in column.features)
            self._layout = (table.schema, layout)
        needed = 8 * table.num_rows * (self.n_features or 1)
        if needed > LARGE_BYTES and needed > MOST_TIMES * table.get_total_buffer_size():
            raise RefusedRecordError(
                f"{table.num_rows} rows of {self.n_features} features need {needed} bytes, and the record batch holds "
                f"{table.get_total_buffer_size()}: dictionaries of lists are read only where they save less"
            )
        with judging():
            chunk = gather(self._layout[1], table.num_rows, [table], "the record batch")
            unknown = self.vocabulary.unknown_in(table, chunk.x, self._layout[1].columns)
        return self._without(unknown, chunk.x, chunk.weight, table)

    def _without(self, unknown: Mapping[int, str], x: Array, weight: Array | None, table: Any) -> Records:
        """Records of a table but for those that hold unknown categories."""
        if not unknown:
            return self._checked(x, weight, table)
        kept = np.delete(np.arange(len(x)), list(unknown))
        rest = self._checked(x[kept], None if weight is None else weight[kept], table, kept + 1)
        refused = [Unusable(i, reason, bytes_at(table, i, x[i])) for i, reason in unknown.items()]
        unusable = tuple(sorted((*rest.unusable, *refused), key=lambda bad: bad.record))
        return Records(rest.x, rest.weight, rest.ends, len(x), unusable)

    def _require_known(self) -> None:
        """Refuse names where nobody says which of them stand behind the features."""
        if self._behind is not None and not self._behind.names:
            raise SchemaError(
                "records have names, and none was told for what stands behind the features: name the response with "
                "response="
            )

    # --- checks ------------------------------------------------------------------------------------------------------

    def _learn(self, names: Sequence[str]) -> None:
        """The names and number of features, which every later payload must have."""
        self._require_width(len(names), f"a record with the fields {list(names)}")
        self.names = tuple(names)

    def _require_width(self, width: int, what: str) -> None:
        if width == 0:
            raise SchemaError(f"{what} has no features")
        if self.n_features is not None and width != self.n_features:
            raise SchemaError(f"{what} has {width} features; {self.n_features} are needed")
        self.n_features = width

    def _checked(self, x: Array, weight: Array | None, payload: Any, ends: Array | None = None) -> Records:
        """Sort out rows with values that are not finite, and weights that are no weights."""
        ends = np.arange(1, len(x) + 1) if ends is None else ends
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(np.sum(x, dtype=np.float64)) or weight is not None
        suspicious = suspicious or (self._behind is not None and bool(self._behind.wrong(x).any()))
        if not suspicious:
            return Records(x, weight, ends, len(x), ())
        good = self._good(x)
        if weight is not None:
            good &= np.isfinite(weight) & (weight >= 0)
        if good.all():
            return Records(x, weight, ends, len(x), ())
        unusable = tuple(
            Unusable(int(ends[i]) - 1, self._fault(x[i], weight, int(i)), bytes_at(payload, int(ends[i]) - 1, x[i]))
            for i in np.flatnonzero(~good)
        )
        return Records(x[good], None if weight is None else weight[good], ends[good], len(x), unusable)

    def _good(self, x: Array) -> NDArray[np.bool_]:
        """Rows (n,) whose values can be used."""
        if self._driven:
            at = self._driven_at(x.shape[1])
            others = usable(np.delete(x, at, axis=1), self._missing).all(axis=1)
            return np.asarray(others & np.isfinite(x[:, at]).all(axis=1))
        if self._behind is None or self._behind.possible is None:
            return np.asarray(usable(x, self._missing).all(axis=1))
        features = x[:, : -self._behind.count]
        return np.asarray(usable(features, self._missing).all(axis=1) & ~self._behind.wrong(x))

    def _driven_at(self, width: int) -> list[int]:
        """Positions of the columns that must be finite, of those that there are."""
        names = self.names or ()
        at = [names.index(one) if isinstance(one, str) and one in names else one for one in self._driven]
        return [one for one in at if isinstance(one, int) and 0 <= one < width]

    def _fault(self, row: Array, weight: Array | None, i: int) -> str:
        if (behind := self._behind) is not None and behind.wrong(row[None])[0]:
            return f"{row[-behind.count :].tolist()} stand behind the features; {behind.needed}"
        checked = row if behind is None or behind.possible is None else row[: -behind.count]
        driven = self._driven_at(len(row)) if self._driven else []
        good = usable(np.delete(checked, driven)[None], self._missing)[0]
        lost = [at for at in driven if not np.isfinite(row[at])]
        bad = np.array(lost or np.delete(np.arange(len(checked)), driven)[~good], dtype=np.int64)
        if len(bad) == 0:
            return f"the weight is {weight[i] if weight is not None else None}; it must be finite and >= 0"
        column = int(bad[0])
        name = f" {self.names[column]!r}" if self.names is not None else ""
        kind = "missing or NaN" if np.isnan(row[column]) else "infinite"
        needed = "every record needs its covariates, which are finite numbers" if lost else NEEDED[self._missing]
        return f"column {column}{name} is {kind}; {needed}"

    def _refused(self, reason: str, payload: Any, records: int) -> Records:
        if isinstance(payload, Damaged):
            payload = payload.data
        whole = f"{reason} (all {records} records of the message)" if records > 1 else reason
        bad = Unusable(0, whole, bytes_of(payload), records)
        return Records(np.empty((0, self.n_features or 1)), None, np.empty(0, np.int64), records, (bad,))


def _is_pair(payload: Any) -> bool:
    """Whether a payload is (X, y), features and what stands behind them, and not a row of two numbers."""
    return isinstance(payload, tuple) and len(payload) == 2 and not any(map(_is_number, payload))


def _side_by_side(features: Any, behind: Any) -> Array:
    """Rows (n, d + m) of X (n, d) and y (n,) or (n, m)."""
    if hasattr(features, "columns"):
        raise ValueError("a data frame in a pair has names that nobody looks at: send a frame that holds all columns")
    x, y = np.asarray(features), np.asarray(behind)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise ValueError(f"a pair holds arrays of shape {x.shape} and {y.shape}; (n, d) and (n,) are needed")
    if y.dtype.kind not in "biuf" or x.dtype.kind not in "biuf":
        raise ValueError(f"a pair holds {x.dtype} and {y.dtype}; numbers are needed")
    return np.column_stack([x, y])


def _records_in(payload: Any) -> int:
    """How many records a payload is known to hold, at least 1."""
    if isinstance(payload, Damaged):
        return max(1, payload.records)
    if isinstance(payload, list | tuple):
        return len(payload) if payload and isinstance(payload[0], Mapping | list | tuple) else 1
    shape = getattr(payload, "shape", ())  # of arrays, frames and tables alike
    known = shape[0] if isinstance(shape, tuple) and len(shape) > 1 else getattr(payload, "num_rows", 1)
    return max(1, known) if isinstance(known, int) else 1


def _with_own_bytes(records: Records, payload: bytes, held: Any, legible: bool) -> Records:
    """Records whose unusable ones show the message's own bytes, where one finds them, not what was parsed of them."""
    if records.count == 1:
        known = {bad.record: payload[:KEPT_BYTES] for bad in records.unusable}
    elif isinstance(held, list) and legible:
        known = elements_of(payload, {bad.record for bad in records.unusable})
    else:  # rows of Arrow, and what a decoder made, have no bytes of their own
        known = {bad.record: bad.data or payload[:KEPT_BYTES] for bad in records.unusable}
    return replace(records, unusable=tuple(replace(bad, data=known[bad.record]) for bad in records.unusable))


def _sound(table: Any) -> Any:
    """The table, `Damaged` in place of one that is not what it claims to be: nothing of it may be read."""
    try:
        require_sound(table)
    except pa.ArrowInvalid as error:
        return Damaged(f"damaged Arrow data: {error}")
    return table


def _unpacked(unpack: Unpack, payload: bytes, headers: Headers) -> Any:
    """What a user's own decoder makes of bytes; bytes again are JSON or Arrow."""
    with judging():
        value = unpack(payload, headers)
    if isinstance(value, str):
        value = value.encode()
    return _parsed(bytes(value)) if isinstance(value, BYTES) else _sound(value) if isinstance(value, TABLES) else value


def _parsed(payload: bytes) -> Any:
    """What bytes hold; None for a blank line."""
    if payload.startswith((CONTINUATION, FILE)):
        return arrow_table(payload)
    if payload[:1] not in (b"{", b"["):
        text = payload.removeprefix(BYTE_ORDER_MARK)
        if payload and not text.strip():
            return None
        if told := foreign_format(payload) or registry_frame(payload):
            raise RefusedRecordError(f"the message is {told}")
        payload = text
    try:
        value = parse_json(payload)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefusedRecordError(repr(error)) from error
    if not isinstance(value, dict | list):
        raise RefusedRecordError(f"JSON of a record is an object or a list of numbers, not {shown(value)}")
    return value


def _is_finite(row: list[Any]) -> bool:
    try:
        return math.isfinite(sum(row))
    except OverflowError:  # an integer that no float holds
        return False


def _plain_numbers(values: Any) -> Array:
    """Lists of numbers as an array: (d,) or (n, d)."""
    for row in values if values and isinstance(values[0], list | tuple) else [values]:
        for value in row:
            if value is not None and not _is_number(value):
                raise ValueError(f"{shown(value)} is no number")
    return np.array(values, dtype=np.float64)


def _is_number(value: Any) -> bool:
    """A real number: of NumPy's, time spans and complex ones are none."""
    is_none = isinstance(value, bool | np.timedelta64)
    return isinstance(value, int | float | np.integer | np.floating) and not is_none


def _in_arrow(table: Any, columns: Sequence[str] | None, weight: str | None) -> Any:
    """A data frame as an Arrow table, whose text is encoded row by row; anything else as it is."""
    library = type(table).__module__.partition(".")[0]
    if library not in ("pandas", "polars") or not all(isinstance(name, str) for name in table.columns):
        return table
    there = list(table.columns)
    wanted = there if columns is None else [*columns, *([] if weight is None else [weight])]
    if missing := [name for name in wanted if name not in there]:
        raise SchemaError(f"the data frame has no column {missing[0]!r}; it holds {there[:20]}")
    with judging(TypeError):
        held = table[wanted]
        return held.to_arrow() if hasattr(held, "to_arrow") else pa.Table.from_pandas(held, preserve_index=False)


def _row(record: Any, names: Sequence[str], vocabulary: Vocabulary) -> list[float]:
    if not isinstance(record, Mapping):
        raise ValueError(f"{shown(record)} is no record with names")
    try:
        row = [record[name] for name in names]
    except KeyError:
        row = [None]
    if not vocabulary.values and PLAIN.issuperset(map(type, row)):
        return list(map(float, row))
    row = []
    for name in names:
        if name not in record:
            raise ValueError(f"there is no field {name!r}; there are {list(record)[:20]}")
        value = record[name]
        if name in vocabulary:
            value = vocabulary.code(name, value)
        elif value is None:
            value = float("nan")
        elif not _is_number(value):
            more = vocabulary.lacks(name, value)
            raise ValueError(f"the field {name!r} holds {shown(value)}, which is no number{more}")
        row.append(float(value))
    return row
