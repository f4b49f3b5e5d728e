"""Whether the compressed batches of an Arrow file can be as large as they claim, before one of them is decompressed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from streamem.core.arrow_claims import DECODED_BYTES, DECODED_TIMES, claims_of
from streamem.core.arrow_paths import mapped
from streamem.core.errors import SourceError
from streamem.sources.arrow_footer import DICTIONARIES, RECORD_BATCHES, message_places

SLACK_NBYTES = 2**12
"""Of a column: padding, and where it is short the bits that say what is missing."""


def require_possible_sizes(path: str, schema: pa.Schema) -> None:
    """Refuse a file with a compressed batch that claims to hold more than its rows can.

    Columns of fixed width can take twice what their rows do. Of any other a batch may hold `DECODED_BYTES`, or
    `DECODED_TIMES` its own.

    Raises
    ------
    SourceError : a batch claims more than that
    """
    width = _row_nbytes(schema)
    with mapped(path) as file:
        for number, place in enumerate(message_places(path, DICTIONARIES)):
            _require(f"dictionary {number} of Arrow file {path}", _message(file, place), None, 0)
        for number, place in enumerate(message_places(path, RECORD_BATCHES)):
            message = _message(file, place)
            slack = SLACK_NBYTES * len(schema)
            _require(f"record batch {number} of Arrow file {path}", message, width, slack)


def _message(file: Any, place: int) -> Any:
    file.seek(place)
    return pa.ipc.read_message(file)


def _require(what: str, message: Any, width: int | None, slack: int) -> None:
    claims = claims_of(message)
    most = max(DECODED_BYTES, DECODED_TIMES * message.body.size) if width is None else 2 * claims.rows * width + slack
    if claims.nbytes > most:
        raise SourceError(
            f"cannot read {what}: {claims.rows} rows in {message.body.size} bytes claim to hold {claims.nbytes} bytes, "
            f"decompressed, and at most {most} can be"
        )


def _row_nbytes(schema: pa.Schema) -> int | None:
    """Bytes of a row, with what says of each value whether it is missing; None if a column has no fixed width."""
    widths = [_width(kind) for kind in schema.types]
    known = [width for width in widths if width is not None]
    return sum(known) if len(known) == len(widths) else None


def _width(kind: pa.DataType) -> int | None:
    if pa.types.is_fixed_size_list(kind):
        inner = _width(kind.value_type)
        return None if inner is None else 1 + kind.list_size * inner
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return 1 + -(-int(kind.bit_width) // 8)
    return None
