"""``--log-json``: each line of the log is one JSON object, for services that collect logs."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import click

from streamem.core.errors import StreamemError
from streamem.core.redaction import redacted

KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
logger = logging.getLogger("streamem")


class JsonFormatter(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, and whatever fields it was logged with."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: _plain(value) for name, value in vars(record).items() if name not in KNOWN}
        if record.exc_info:
            told["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """A value that JSON has: NaN and infinities are text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Pulse:
    """Logs an update now and then: one an interval, and every one with an alarm is logged by the library itself."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._last = every_s, -math.inf

    def __call__(self, update: Any) -> None:
        """Log the update if the interval is over."""
        if monotonic() - self._last >= self._every_s:
            self._last = monotonic()
            logger.info("%d rows learned", update.rows, extra={**vars(update), "event": "update"})


@contextmanager
def structured(wanted: bool) -> Iterator[None]:
    """Log as JSON while the block runs, errors and warnings included; an error ends the program with status 1."""
    if not wanted:
        yield
        return
    for handler in logger.handlers:
        handler.setFormatter(JsonFormatter())
    warnings.showwarning = lambda message, category, *_: logger.warning(
        "%s", message, extra={"event": "warning", "kind": category.__name__}
    )
    try:
        yield
    except StreamemError as error:
        logger.error("%s", error, extra={"event": "error", "kind": type(error).__name__})
        sys.exit(1)
    except click.ClickException as error:
        logger.error("%s", error.format_message(), extra={"event": "error", "kind": "ClickException"})
        sys.exit(error.exit_code)
