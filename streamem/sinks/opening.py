"""From a path to a place for results, by a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from streamem.core.addresses import address_of, as_address, is_address
from streamem.core.errors import OutputError, ParameterError
from streamem.core.leftovers import remove_leftovers
from streamem.core.ports import Sink
from streamem.core.stored_objects import names_below
from streamem.machine.importing import import_whole
from streamem.sinks.layout import Format, ResultLayout
from streamem.sinks.parts import PartedSink
from streamem.sinks.staging import StagedSink, require_free
from streamem.sinks.uploading import UploadedSink
from streamem.sinks.uploading_parts import PartedUpload

SINKS: dict[str, str] = {
    ".zarr": "streamem.sinks.zarr",
    ".parquet": "streamem.sinks.parquet",
    ".npy": "streamem.sinks.npy",
}
"""By suffix, the module that knows the format (`sinks.layout.Format`); imported on first use."""


def open_sink(
    path: str | os.PathLike[str],
    layout: ResultLayout,
    overwrite: bool = False,
    beside: Mapping[str, Iterable[Any]] | None = None,
) -> Sink:
    """Open a place for results; the suffix of `path` picks the format.

    Everything is written beside `path`, under a hidden name, and renamed by ``commit()``.

    Parameters
    ----------
    path : ``.zarr`` (format 3; see `layout.grid`), ``.parquet`` or ``.npy``, in a folder that exists or at an address
    overwrite : replace what is there, on commit
    beside : by name, columns of the data that a ``.parquet`` holds besides; see `sinks.parquet_beside.ParquetBeside`

    Raises
    ------
    ParameterError : an unknown suffix, or a format that holds no columns of the data
    OutputError : `path` exists, or its folder does not
    """
    if is_address(path := as_address(path)):
        address = address_of(path)
        _require_suffix(address.text)
        return UploadedSink(address, lambda local: open_sink(local, layout, beside=beside), overwrite)
    target, module = _prepared(path, overwrite)
    if beside:
        if target.suffix != ".parquet":
            raise ParameterError(f"{target}: columns {list(beside)} of the data go into .parquet only; use this suffix")
        format = import_whole("streamem.sinks.parquet_beside").ParquetBeside(beside)
        return StagedSink(target, layout, cast(Format, format), overwrite)
    return StagedSink(target, layout, cast(Format, import_whole(module)), overwrite)


def open_parted_sink(
    path: str | os.PathLike[str], layout: ResultLayout, overwrite: bool = False
) -> PartedSink | PartedUpload:
    """Open a place for results that many processes write at once; a ``.parquet`` is a folder with a file a part.

    Raises
    ------
    ParameterError, OutputError : as `open_sink`
    """
    if is_address(path := as_address(path)):
        _require_suffix(address_of(path).text)
        return PartedUpload(address_of(path), layout)
    target, module = _prepared(path, overwrite)
    return PartedSink(target, layout, module, overwrite)


def takes_parts(path: str | os.PathLike[str], overwrite: bool = False) -> bool:
    """Whether many processes can write a result at once: of a store, a Zarr array that replaces nothing.

    A store cannot rename what is complete, so a result of many objects that is written where another lies would be
    neither of them for a while; and a single object has one writer.
    """
    if not is_address(path := as_address(path)):
        return True
    address = address_of(path)
    return address.text.endswith(".zarr") and not (overwrite and names_below(address))


def _prepared(path: str | os.PathLike[str], overwrite: bool) -> tuple[Path, str]:
    target = Path(path)
    _require_suffix(target)
    if not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {target.parent}; create it first")
    remove_leftovers(target)
    require_free(target, overwrite)
    return target, SINKS[target.suffix]


def _require_suffix(target: str | Path) -> None:
    if Path(target).suffix not in SINKS:
        raise ParameterError(f"{target}: results can be written to {', '.join(SINKS)}; use one of these suffixes")
