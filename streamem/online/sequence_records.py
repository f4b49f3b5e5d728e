"""From what a stream delivers to steps of sequences: rows, and for each the sequence that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.core.missing import Missing
from streamem.online.kept_bytes import bytes_at
from streamem.online.records import TABLES, Decoder, Records, Unpack, Unusable, judging
from streamem.online.vocabulary import Vocabulary

Array = NDArray[Any]


class StepDecoder(Decoder):
    """Makes steps of payloads: a record whose features are all missing is a step without observation.

    Parameters
    ----------
    columns, weight, n_features, missing, vocabulary, unpack, driven : as in `Decoder`
    sequence_column : name of the field that identifies the sequence of a record; None where nobody asks
    """

    def __init__(
        self,
        columns: Sequence[str] | None,
        weight: str | None,
        n_features: int | None,
        sequence_column: str | None = None,
        missing: Missing = Missing.STEPS,
        vocabulary: Vocabulary | None = None,
        unpack: Unpack | None = None,
        driven: Sequence[str | int] = (),
    ) -> None:
        super().__init__(columns, weight, n_features, missing, vocabulary, unpack, driven=driven)
        self._column = sequence_column

    def _is_feature(self, name: Any) -> bool:
        return name != self._column and super()._is_feature(name)

    def _decode(self, payload: Any) -> Records:
        column = self._column
        if column is None:
            return super()._decode(payload)
        ids = _ids(payload, column)
        records = super()._decode(payload if self.names is not None else _without(payload, column))
        own = [ids[end - 1] for end in records.ends]
        lost = [i for i, one in enumerate(own) if one is None or one != one]
        if not lost:
            return replace(records, ids=own)
        reason = f"the field {column!r}, which identifies its sequence, is missing"
        unusable = [
            Unusable(int(records.ends[i]) - 1, reason, bytes_at(payload, int(records.ends[i]) - 1, records.x[i]))
            for i in lost
        ]
        kept = np.ones(len(own), dtype=np.bool_)
        kept[lost] = False
        return Records(
            records.x[kept],
            None if records.weight is None else records.weight[kept],
            records.ends[kept],
            records.count,
            tuple(sorted((*records.unusable, *unusable), key=lambda bad: bad.record)),
            [one for one, keep in zip(own, kept, strict=True) if keep],
        )


def _ids(payload: Any, column: str) -> list[Any]:
    """The sequence of each record; None where its field is missing.

    Raises
    ------
    SchemaError : a payload without names, or a table without the column
    """
    if payload is None or (isinstance(payload, list | tuple) and len(payload) == 0):
        return []
    if isinstance(payload, Mapping):
        return [payload.get(column)]
    if isinstance(payload, list) and isinstance(payload[0], Mapping):
        return [record.get(column) if isinstance(record, Mapping) else None for record in payload]
    if isinstance(payload, TABLES):
        _require_column(payload.schema.names, column)
        with judging(KeyError):
            ids: list[Any] = payload.column(column).to_pylist()
        return ids
    if hasattr(payload, "columns"):
        _require_column([str(name) for name in payload.columns], column)
        return list(payload[column].to_list())
    raise SchemaError(f"an array has no field {column!r} that identifies sequences; send records with names")


def _require_column(names: Sequence[str], column: str) -> None:
    if column not in names:
        raise SchemaError(f"there is no column {column!r} that identifies sequences; there are {list(names)[:20]}")


def _without(payload: Any, column: str) -> Any:
    """A table without the column, before anybody has said which columns are features."""
    if isinstance(payload, TABLES):
        kept = [name for name in payload.schema.names if name != column]
        return payload.select(kept)
    if hasattr(payload, "columns"):
        return payload[[name for name in payload.columns if name != column]]
    return payload
