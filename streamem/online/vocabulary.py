"""Text in records: the codes of a vocabulary that is known before the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.online.kept_bytes import shown
from streamem.sources.category_codes import listed
from streamem.sources.columns import Column, is_text
from streamem.sources.plain_arrow import plain

REMEDY = (
    "a stream shows its values one by one, and all have to be known before: name those of {0!r} with "
    "categories={{...}}, or fit first on data that has them"
)


@dataclass(frozen=True)
class Vocabulary:
    """How the values of columns of categories become codes.

    Attributes
    ----------
    values : by column, in the order of their codes; no other column may hold text
    unseen : what a value is that is none of its column's: "error", or "missing"
    is_open : whether columns of text may still be named, since the model counts categories and has seen no rows
    """

    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    unseen: str = "error"
    is_open: bool = False

    @cached_property
    def _codes(self) -> dict[str, dict[Any, float]]:
        return {name: {value: float(i) for i, value in enumerate(own)} for name, own in self.values.items()}

    @cached_property
    def _kinds(self) -> dict[str, set[str]]:
        return {name: {_kind(value) for value in own} or {"text"} for name, own in self.values.items()}

    def __contains__(self, name: object) -> bool:
        """Whether a column holds categories."""
        return name in self.values

    def code(self, name: str, value: Any) -> float:
        """The code of a value, NaN of one that is missing, or that was never seen and counts as missing.

        Raises
        ------
        ValueError : a value that is none of its column's
        """
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or (isinstance(value, float) and value != value):
            return float("nan")
        if _kind(value) in self._kinds[name]:
            found = self._codes[name].get(value, float("nan"))
            if found == found or self.unseen == "missing":
                return found
        raise ValueError(self._refused(f"the field {name!r} holds {shown(value)}", name))

    @property
    def known(self) -> dict[str, tuple[Any, ...]] | None:
        """The values as a fitted model keeps them."""
        return {name: tuple(own) for name, own in self.values.items()} or None

    def require_columns(self, names: Sequence[str] | None) -> None:
        """Refuse a vocabulary of columns that the records do not have.

        Raises
        ------
        SchemaError : naming them
        """
        if lost := [name for name in self.values if name not in (names or ())]:
            there = "no names" if names is None else list(names)[:20]
            raise SchemaError(f"categories names {lost}, and the features of the stream have {there}")

    def lacks(self, name: str, value: Any) -> str:
        """What to do about a value of a column without categories that is no number."""
        return f"; {REMEDY.format(name)}" if self.is_open and isinstance(value, str) else ""

    def require_named(self, schema: pa.Schema, wanted: Sequence[str], behind: Sequence[str] = ()) -> None:
        """Refuse columns of text of which nobody knows the values; those that stand `behind` the features always.

        Raises
        ------
        SchemaError : with the remedy
        """
        for name in wanted if self.is_open else behind:
            if name in schema.names and name not in self and is_text(schema.field(name).type):
                raise SchemaError(f"the column {name!r} holds text; {REMEDY.format(name)}")

    def unknown_in(self, table: Any, x: NDArray[Any], columns: Sequence[Column]) -> dict[int, str]:
        """Rows of a table with a value that is none of its column's, and why they cannot be used.

        Parameters
        ----------
        x : (n, d) the codes, NaN of values that are unknown or null
        columns : those of the table that x holds, in their order
        """
        found: dict[int, str] = {}
        first = 0
        for column in columns if self.unseen == "error" else ():
            if column.values is not None and (lost := np.isnan(x[:, first])).any():
                held, name = table.column(column.name), column.name
                for i in np.flatnonzero(lost & _present(held)).tolist():
                    told = f"column {first} {name!r} holds {shown(held[i].as_py())}"
                    found.setdefault(i, self._refused(told, name))
            first += column.width
        return found

    def _refused(self, what: str, name: str) -> str:
        own = tuple(self.values[name])
        more = ', or with missing="integrate" and unseen="missing"' if self.unseen == "error" else ""
        return f"{what}, which is none of its {len(own)} categories ({listed(own)}); fit on data that has it{more}"


def _kind(value: Any) -> str:
    """What values that may be equal have in common."""
    if isinstance(value, str):
        return "text"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__


def _present(column: Any) -> NDArray[np.bool_]:
    """Which values (n,) of an Arrow column are not null."""
    pieces = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = [np.asarray(pc.is_valid(plain(piece)).to_numpy(zero_copy_only=False), dtype=np.bool_) for piece in pieces]
    return np.concatenate([np.empty(0, dtype=np.bool_), *found])
