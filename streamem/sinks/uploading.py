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
from streamem.core.object_claims import ObjectClaim
from streamem.core.ports import Sink
from streamem.core.stored_objects import PART_NBYTES, PARTS_AT_ONCE, delete, names_below, put, require_writable, size_of

MARKER = "zarr.json"
OF_A_RESULT = re.compile(r"([^/]+/)?(zarr\.json|c(/\d+)*)")
"""What a Zarr result has below its name: an array, or a group of arrays."""
UPLOADS = 8
"""Objects at once: chunks of results are small."""


def clear(address: Address) -> None:
    """Remove a Zarr array, its marker first.

    Raises
    ------
    OutputError : the store refuses
    """
    delete(address.below(MARKER))
    with ThreadPoolExecutor(UPLOADS, "streamem-upload") as pool:
        list(pool.map(lambda name: delete(address.below(name)), names_below(address)))


def require_free_address(address: Address) -> None:
    """Raise `OutputError` where a result lies, or anything else than the chunks that a killed process has left."""
    if not address.text.endswith(".zarr"):
        if size_of(address) is not None:
            raise OutputError(f"{address} exists already; choose another name, or pass overwrite=True")
        return
    names = names_below(address)
    if MARKER in names:
        raise OutputError(f"{address} exists already; choose another name, or pass overwrite=True")
    _refuse_foreign(address, names)


def _refuse_foreign(address: Address, names: list[str]) -> None:
    if foreign := [name for name in names if not OF_A_RESULT.fullmatch(name)]:
        raise OutputError(
            f"{address} holds {foreign[0]} and is no Zarr store of this format, so no result may replace it; choose "
            "another name, or remove it"
        )


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
        self._claim: ObjectClaim | None = None
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
        self._claim = ObjectClaim(self._address)
        self._require_free()
        self._begun = True
        if self._local.is_dir():
            self._upload_folder(self._claim)
        else:
            put(self._address, self._local, create=not self._overwrite)
        self._begun = False
        self._claim.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """Remove every trace, here and there; nothing happens after a commit."""
        self._sink.abort()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._begun and self._is_folder:
            with suppress(OutputError):
                clear(self._address)
        self._begun = False
        if self._claim is not None:
            self._claim.release()

    @property
    def _is_folder(self) -> bool:
        return self._address.text.endswith(".zarr")

    def _upload_folder(self, claim: ObjectClaim) -> None:
        clear(self._address)  # of what is replaced, and of what a killed process left: the marker first
        files = sorted(path for path in self._local.rglob("*") if path.is_file() and path != self._local / MARKER)
        with ThreadPoolExecutor(UPLOADS, "streamem-upload") as pool:
            for _ in pool.map(lambda path: put(self._below(path), path), files):
                claim.renew()
        put(self._address.below(MARKER), self._local / MARKER, create=True)

    def _below(self, path: Path) -> Address:
        return self._address.below(path.relative_to(self._local).as_posix())

    def _require_free(self) -> None:
        if self._overwrite:
            self._require_result()
            return
        require_free_address(self._address)

    def _require_result(self) -> None:
        """Refuse to replace a folder that is no Zarr store."""
        if not self._is_folder or size_of(self._address.below(MARKER)) is not None:
            return
        _refuse_foreign(self._address, names_below(self._address))
