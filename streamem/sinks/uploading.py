"""Results at an address of a store: written on this machine, uploaded whole; complete, or absent.

One file is one object, which its last request makes visible. A Zarr store is many: ``zarr.json``, without which it is
none, is uploaded last. A store cannot rename, so nothing could be written there under a hidden name.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from streamem.core.addresses import Address
from streamem.core.errors import OutputError
from streamem.core.ports import Sink
from streamem.core.stored_objects import PART_NBYTES, PARTS_AT_ONCE, delete, names_below, put, require_writable, size_of

MARKER = "zarr.json"
OF_A_RESULT = re.compile(r"([^/]+/)?(zarr\.json|c(/\d+)*)")
"""What a Zarr result has below its name: an array, or a group of arrays."""
UPLOADS = 8
"""Objects at once: chunks of results are small."""


class UploadedSink:
    """A `Sink` over one of this machine, whose result it uploads on commit.

    Parameters
    ----------
    address : of the result
    open_local : opens the sink under a path of this machine
    overwrite : replace what is there, on commit

    Raises
    ------
    OutputError : something is there, or the store lets nothing be written
    """

    def __init__(self, address: Address, open_local: Callable[[Path], Sink], overwrite: bool) -> None:
        self._address, self._overwrite = address, overwrite
        self._require_free()
        require_writable(address)
        self._folder = Path(tempfile.mkdtemp(prefix="streamem-"))
        self._local = self._folder / Path(address.text).name
        self._begun = False
        try:
            self._sink = open_local(self._local)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    @property
    def held_nbytes(self) -> int:
        """What the sink of this machine holds, or the parts of an upload."""
        return max(self._sink.held_nbytes, PART_NBYTES * PARTS_AT_ONCE)

    def write(self, values: NDArray[Any]) -> None:
        """Append the next rows."""
        self._sink.write(values)

    def commit(self) -> None:
        """Upload the result, and make it visible under its address.

        Raises
        ------
        OutputError : rows are missing, or the store refuses; call `abort` then
        """
        self._sink.commit()
        self._require_free()
        self._begun = True
        if self._local.is_dir():
            self._upload_folder()
        else:
            put(self._address, self._local, create=not self._overwrite)
        self._begun = False
        shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """Remove every trace, here and there; nothing happens after a commit."""
        self._sink.abort()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._begun and self._is_folder:
            with suppress(OutputError):
                self._clear()
        self._begun = False

    @property
    def _is_folder(self) -> bool:
        return self._address.text.endswith(".zarr")

    def _upload_folder(self) -> None:
        self._clear()  # of what is replaced, and of what a killed process left: the marker first
        files = sorted(path for path in self._local.rglob("*") if path.is_file() and path != self._local / MARKER)
        with ThreadPoolExecutor(UPLOADS, "streamem-upload") as pool:
            list(pool.map(lambda path: put(self._below(path), path), files))
        put(self._address.below(MARKER), self._local / MARKER, create=True)

    def _below(self, path: Path) -> Address:
        return self._address.below(path.relative_to(self._local).as_posix())

    def _clear(self) -> None:
        delete(self._address.below(MARKER))
        with ThreadPoolExecutor(UPLOADS, "streamem-upload") as pool:
            list(pool.map(lambda name: delete(self._address.below(name)), names_below(self._address)))

    def _require_free(self) -> None:
        if self._overwrite:
            self._require_result()
            return
        taken = size_of(self._address.below(MARKER) if self._is_folder else self._address) is not None
        if taken:
            raise OutputError(f"{self._address} exists already; choose another name, or pass overwrite=True")

    def _require_result(self) -> None:
        """Refuse to replace a folder that is no Zarr store."""
        if not self._is_folder or size_of(self._address.below(MARKER)) is not None:
            return
        names = names_below(self._address)
        if foreign := [name for name in names if not OF_A_RESULT.fullmatch(name)]:
            raise OutputError(
                f"{self._address} holds {foreign[0]} and is no Zarr store, so no result may replace it; choose another "
                "name, or remove it"
            )
