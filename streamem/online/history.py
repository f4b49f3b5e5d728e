"""Updates as an Arrow table, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from streamem.online.updates import Update

SCHEMA = pa.schema(
    [
        ("batch", pa.int64()),
        ("rows", pa.int64()),
        ("log_likelihood", pa.float64()),
        ("step_size", pa.float64()),
        ("effective_sample_size", pa.float64()),
        ("drift", pa.bool_()),
        ("born", pa.list_(pa.int32())),
        ("died", pa.list_(pa.int32())),
    ]
)


def as_columns(updates: Sequence[Update]) -> dict[str, list[Any]]:
    """Column by column, as `SCHEMA` names them."""
    rows = [asdict(update) for update in updates]
    return {name: [row[name] for row in rows] for name in SCHEMA.names}


def as_table(updates: Sequence[Update]) -> pa.Table:
    """One row an update."""
    return pa.table(as_columns(updates), schema=SCHEMA)
