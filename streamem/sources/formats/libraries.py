"""The libraries of optional formats, asked for when data of the format come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from streamem.core.errors import MissingDependencyError, SourceChangedError, SourceError, StreamemError
from streamem.machine.importing import import_whole


def library(name: str, extra: str, what: str) -> Any:
    """An optional library.

    Parameters
    ----------
    name : of its module
    extra : of this package, that installs it
    what : the data that need it, in words

    Raises
    ------
    MissingDependencyError : it is not installed; the message names the extra
    """
    try:
        return import_whole(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs {name.partition('.')[0]}, which cannot be imported ({error}): "
            f'pip install "streamem[{extra}]"'
        ) from error


@contextlib.contextmanager
def faults(what: str, hint: str = "") -> Iterator[None]:
    """Errors of an optional library as a `SourceError` that names the data.

    Parameters
    ----------
    what : what could not be done, in words ("read rows 0–99 of Lance table x.lance")
    hint : added to the message
    """
    try:
        yield
    except (StreamemError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise SourceChangedError(f"cannot {what}: a file is gone: {error}{hint}") from error
    except Exception as error:  # these libraries raise exceptions of their own, some below Exception only
        raise SourceError(f"cannot {what}: {type(error).__name__}: {error}{hint}") from error


def sound(batch: Any, what: str) -> Any:
    """A record batch whose every value lies where it claims to lie: whatever wrote it may have lied."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{what} gave a damaged record batch: {error}") from error
    return batch
