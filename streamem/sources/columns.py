"""Which columns of a table are features, and how wide they are: from an Arrow schema to a layout."""

from __future__ import annotations

import difflib
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from streamem.core.chunk import compute_dtype
from streamem.core.errors import SchemaError
from streamem.core.ports import Schema
from streamem.sources.options import ReadOptions
from streamem.sources.stored_index import default_columns, stored_index

TEXT_NBYTES = 32
DATES = frozenset({"pandas.period"})
"""Extension types whose numbers are days, months, … since an epoch."""
"""Guessed for a short text and its offset."""
MOST_COMPARED = 10_000
"""Names among which one that was meant is looked for."""
MOST_IN_LISTS = 2**20
"""Features of a table that does not hold as many bytes: a schema of 336 bytes can claim a list of 2²⁸ numbers."""


DATES_REMEDY = "Cast dates and times to numbers first, or choose other columns with columns=."

OTHER_REMEDIES: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (
        pa.types.is_null,
        "A column of type null holds no value at all: leave it out, or cast it, for example to float64, where missing "
        "values are integrated over. To leave it out, ",
    ),
    (pa.types.is_struct, "The fields of a struct can be columns of their own: table.flatten(); or "),
    (pa.types.is_map, "A map has no fixed keys, so no fixed features: make a column of each key that is wanted; or "),
    (
        lambda kind: bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)),
        "Bytes are neither numbers nor text: cast them to pa.string() where they are UTF-8, or decode them to numbers; "
        "or ",
    ),
    (
        pa.types.is_fixed_size_list,
        "A fixed-size list is as many features as it is long where it holds numbers, at least one; or ",
    ),
    (pa.types.is_fixed_size_binary, "Bytes are neither numbers nor text: decode them to numbers; or "),
)
"""What to do about types that are neither numbers, text, dates nor lists of any length."""


@dataclass(frozen=True)
class Column:
    """A numeric column.

    Attributes
    ----------
    name : in the table
    size : values a row when the column is a fixed-size list (an embedding), None when it is one number
    dtype : of the values, as they are stored; what a decimal becomes is float64
    values : of a column of categories, in the order of their codes
    unseen : what a value is that is none of these: "error", or "missing"
    """

    name: str
    size: int | None
    dtype: np.dtype[Any]
    values: tuple[Any, ...] | None = None
    unseen: str = "error"

    @property
    def width(self) -> int:
        """Features that the column contributes."""
        return 1 if self.size is None else self.size

    @property
    def kind(self) -> str:
        """The type in words: ``float64``, ``float64[3]`` for lists of three, or ``3 categories``."""
        if self.values is not None:
            return f"{len(self.values)} categories"
        return str(self.dtype) if self.size is None else f"{self.dtype}[{self.size}]"

    @property
    def stored_nbytes(self) -> int:
        """Bytes of a row as Arrow holds it, of text about."""
        return TEXT_NBYTES if self.values is not None else self.width * self.dtype.itemsize + 1

    @property
    def features(self) -> list[str]:
        """Names of its features: its own, or ``name[0]`` … for a fixed-size list."""
        return [self.name] if self.size is None else [f"{self.name}[{i}]" for i in range(self.size)]


@dataclass(frozen=True)
class TableLayout:
    """The feature columns in their order, the weight column, and the dtype that they are computed in."""

    columns: tuple[Column, ...]
    weight: Column | None
    dtype: np.dtype[Any]

    @property
    def n_features(self) -> int:
        """Number of features d, the widths of fixed-size lists included."""
        return sum(column.width for column in self.columns)

    @property
    def read(self) -> tuple[Column, ...]:
        """Columns to read: features and weight."""
        return self.columns if self.weight is None else (*self.columns, self.weight)

    @property
    def names(self) -> list[str]:
        """Names of the columns to read."""
        return [column.name for column in self.read]

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row in a chunk: its features, and 8 for its weight."""
        return self.n_features * self.dtype.itemsize + (0 if self.weight is None else 8)

    @property
    def stored_row_nbytes(self) -> int:
        """Bytes of a row of the columns as Arrow holds them."""
        return sum(column.stored_nbytes for column in self.read)

    @property
    def stamp(self) -> str:
        """What a fingerprint says of the columns: their names, and their categories where there are any."""
        known = [(column.name, column.values) for column in self.columns if column.values is not None]
        return ",".join(self.names) + (f"-{zlib.crc32(repr(known).encode()):08x}" if known else "")

    def schema(self, origin: str, named: bool = True) -> Schema:
        """What the rows look like; `named` is False where the columns have numbers, not names."""
        names = tuple(name for column in self.columns for name in column.features)
        known = {column.name: column.values for column in self.columns if column.values is not None}
        weighted = self.weight is not None
        return Schema(self.n_features, self.dtype, names if named else None, weighted, origin, known or None)

    def promoted(self, other: TableLayout) -> TableLayout:
        """This layout with each column in the wider dtype of both layouts."""
        dtypes = {column.name: column.dtype for column in other.read}

        def widened(column: Column) -> Column:
            return replace(column, dtype=np.promote_types(column.dtype, dtypes[column.name]))

        return TableLayout(
            tuple(widened(column) for column in self.columns),
            None if self.weight is None else widened(self.weight),
            np.promote_types(self.dtype, other.dtype),
        )


def plan_columns(
    schema: pa.Schema,
    options: ReadOptions,
    origin: str,
    selectable: pa.Schema | None = None,
    held: Callable[[], int] = lambda: 0,
) -> TableLayout:
    """Choose the columns of a table and check them.

    Parameters
    ----------
    schema : the columns of the table
    options : `columns` (None means all but the weight column, those left out, and a stored index) and `weight_column`
    origin : the table in words, for messages
    selectable : further columns that are features only when they are named (partition keys)
    held : gives the bytes that the table holds, or None

    Raises
    ------
    SchemaError : columns that are missing, occur twice, are not numeric, or claim more features than there can be
    """
    fields = _by_name(schema, selectable, origin)
    weighted_by = options.weight_column
    aside = {weighted_by, *options.left_out}
    wanted = options.columns or tuple(default_columns(schema, aside))
    if weighted_by in wanted:
        raise SchemaError(f"{origin}: column {weighted_by!r} cannot be both a feature and the weight")
    asked = wanted if weighted_by is None else (*wanted, weighted_by)
    if missing := [name for name in asked if name not in fields]:
        raise SchemaError(_describe_missing(missing, list(fields), origin))
    columns = _numeric([fields[name] for name in wanted], origin, options)
    if not columns:
        raise SchemaError(_describe_none(schema, list(fields), origin))
    _require_plausible(columns, held, origin)
    weight = None if weighted_by is None else _weight(fields[weighted_by], origin)
    return TableLayout(columns, weight, _common_dtype(columns))


def _require_plausible(columns: Sequence[Column], held: Callable[[], int], origin: str) -> None:
    """Refuse lists that claim more features than there can be, before anything is made for each of them."""
    claimed = sum(column.size or 0 for column in columns)
    if claimed > MOST_IN_LISTS and claimed > held():
        widest = max(columns, key=lambda column: column.width)
        raise SchemaError(
            f"{origin} claims {claimed} features in lists (column {widest.name!r} holds {widest.kind}) and holds "
            f"{held() or 'an unknown number of'} bytes; more than {MOST_IN_LISTS} need as many bytes of data"
        )


def require_column(name: str, present: Sequence[str], origin: str) -> None:
    """Raise `SchemaError`, with the nearest name, unless a table has the column."""
    if name not in present:
        raise SchemaError(_describe_missing([name], list(present), origin))


def _by_name(schema: pa.Schema, selectable: pa.Schema | None, origin: str) -> dict[str, pa.Field]:
    if repeated := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise SchemaError(f"{origin} has several columns named {_shorten(repeated)}; rename them first")
    extra = {} if selectable is None else {field.name: field for field in selectable}
    return {**extra, **{field.name: field for field in schema}}


def _common_dtype(columns: Sequence[Column]) -> np.dtype[Any]:
    exact = {compute_dtype(column.dtype) for column in columns}
    return np.dtype(np.float32 if exact == {np.dtype(np.float32)} else np.float64)


def _weight(field: pa.Field, origin: str) -> Column:
    (column,) = _numeric([field], origin)
    if column.size is not None:
        raise SchemaError(f"{origin}: weight column {field.name!r} holds {field.type}; one number a row is needed")
    return column


def _numeric(fields: Sequence[pa.Field], origin: str, options: ReadOptions | None = None) -> tuple[Column, ...]:
    known, unseen = ({}, "error") if options is None else (options.vocabularies, options.unseen)
    columns = [_coded(field, known[field.name], unseen) if field.name in known else _column(field) for field in fields]
    if refused := [field for field, column in zip(fields, columns, strict=True) if column is None]:
        raise SchemaError(_describe_refused(refused, origin, list(known)))
    return tuple(column for column in columns if column is not None)


def _coded(field: pa.Field, values: tuple[Any, ...], unseen: str) -> Column:
    return Column(field.name, None, np.min_scalar_type(max(1, len(values)) - 1), values, unseen)


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text, also below a dictionary."""
    kind = _values_of(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def is_number(kind: pa.DataType) -> bool:
    """Whether a type holds one number a row."""
    column = _column(pa.field("", kind))
    return column is not None and column.size is None


def _column(field: pa.Field) -> Column | None:
    if _is_date(field):
        return None
    kind = _values_of(field.type)
    size = None
    if pa.types.is_fixed_size_list(kind):
        kind, size = _values_of(kind.value_type), kind.list_size
    dtype = _number_dtype(kind)
    return None if dtype is None or size == 0 else Column(field.name, size, dtype)


def _is_date(field: pa.Field) -> bool:
    """Whether the numbers of an extension type are dates; without its library a file's field has its mere name."""
    names = {(field.metadata or {}).get(b"ARROW:extension:name", b"").decode()}
    kind = field.type
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind) or pa.types.is_fixed_size_list(kind):
        if isinstance(kind, pa.BaseExtensionType):
            names.add(kind.extension_name)
            kind = kind.storage_type
        else:
            kind = kind.value_type
    return bool(names & DATES)


def _values_of(kind: pa.DataType) -> pa.DataType:
    """The type below extension types and dictionaries."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def _number_dtype(kind: pa.DataType) -> np.dtype[Any] | None:
    if pa.types.is_decimal(kind):
        return np.dtype(np.float64)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return dtype
    return None


def _describe_missing(missing: list[str], present: list[str], origin: str) -> str:
    close = {name: difflib.get_close_matches(name, present[:MOST_COMPARED], n=1) for name in missing[:10]}
    hints = [f"{match[0]!r} instead of {name!r}" for name, match in close.items() if match]
    hint = f" Did you mean {', '.join(hints)}?" if hints else ""
    return f"{origin} has no column {_shorten(missing)}; it holds {_shorten(present) or 'none'}.{hint}"


def _describe_none(schema: pa.Schema, present: list[str], origin: str) -> str:
    index = sorted(stored_index(schema))
    remedy = f". {_shorten(index)} held the index of a DataFrame: name it with columns= to use it" if index else ""
    return f"{origin} has no feature columns; it holds {_shorten(present) or 'none'}{remedy}"


def _describe_refused(fields: Sequence[pa.Field], origin: str, known: list[str]) -> str:
    listed = ", ".join(f"{field.name!r} ({field.type})" for field in fields[:10])
    more = f" and {len(fields) - 10} more" if len(fields) > 10 else ""
    remedies = " ".join(dict.fromkeys(DATES_REMEDY if _is_date(field) else _remedy(field.type) for field in fields))
    if known and any(is_text(_values_of(field.type)) for field in fields):
        given = _shorten(known)
        remedies = f"Categories are given for {given} only: name their values too, or leave them out with columns=."
    return f"{origin}: columns that are not numeric: {listed}{more}. {remedies}"


def _remedy(kind: pa.DataType) -> str:
    kind = _values_of(kind)
    if pa.types.is_temporal(kind):
        return DATES_REMEDY
    if any(is_list(kind) for is_list in (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view)):
        return (
            "Lists of variable length have no fixed number of features: cast them to a fixed-size list such as "
            "pa.list_(pa.float32(), 384) (a Parquet file keeps that in its Arrow schema only)."
        )
    if is_text(kind):
        return (
            "Text and categories are features only with ReadOptions(categories='text'), which encodes them as 0, 1, …; "
            "or choose other columns with columns=."
        )
    return (
        f"{next((words for is_kind, words in OTHER_REMEDIES if is_kind(kind)), '')}choose other columns with columns=."
    )


def _shorten(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more
