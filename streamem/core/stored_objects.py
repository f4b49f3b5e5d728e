"""Writing to and reading from stores, one object at a time: complete, or absent.

A put makes an object visible at once, and so does the last request of an upload in parts. Nothing in a store can be
renamed, so nothing is written under another name first.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamem.core.addresses import SCHEMES, Address
from streamem.core.errors import OutputError, WriterConflictError
from streamem.core.object_requests import listed
from streamem.machine.importing import import_whole

PROBE = ".streamem-probe-"


PART_NBYTES, PARTS_AT_ONCE = 8 * 2**20, 2
"""Of an upload of a large object, which holds so much memory."""


def put(address: Address, content: bytes | Path, create: bool = False) -> None:
    """Write an object: bytes, or what a file of this machine holds. `create` refuses to replace what is there.

    Raises
    ------
    OutputError : the store refuses
    """
    if address.is_known_to_obstore:
        obstore = import_whole("obstore")
        large = len(content) if isinstance(content, bytes) else content.stat().st_size
        parts: dict[str, Any] = {"chunk_size": PART_NBYTES, "max_concurrency": PARTS_AT_ONCE}
        # Only a single request can be made conditional on that nothing is there.
        how: dict[str, Any] = {"mode": "create"} if create and large <= PART_NBYTES else parts
        _written(address, lambda: obstore.put(address.object_store(), address.key, content, **how))
        return
    if create and size_of(address) is not None:
        raise OutputError(f"cannot write {address}: it exists already")
    filesystem, path = address.file_system()
    if isinstance(content, Path):
        _written(address, lambda: filesystem.put_file(str(content), path))
    else:
        _written(address, lambda: filesystem.pipe_file(path, content))


def put_after(address: Address, content: bytes, etag: str | None) -> str | None:
    """Write an object if the one that is there still has an ETag, or if there is still none; the ETag that it has now.

    Stores that know no ETags, or no conditions, write it all the same.

    Raises
    ------
    WriterConflictError : somebody else has written it meanwhile
    OutputError : the store refuses
    """
    if not address.is_known_to_obstore or etag == "":
        put(address, content)
        return etag_of(address)
    obstore = import_whole("obstore")
    mode: Any = "create" if etag is None else _if_still(address, etag)
    try:
        found = obstore.put(address.object_store(), address.key, content, mode=mode)
    except (obstore.exceptions.PreconditionError, obstore.exceptions.AlreadyExistsError):
        if get(address) != content:  # a request that was answered too late was made twice
            raise _conflict(address) from None
        return etag_of(address)
    except (obstore.exceptions.NotSupportedError, NotImplementedError):
        put(address, content)
        return etag_of(address)
    except Exception as error:
        raise OutputError(f"cannot write {address}: {address.told(error)}; what was there is intact") from None
    return found["e_tag"] or ""


def _if_still(address: Address, etag: str) -> dict[str, str]:
    """What a write is made conditional on; Google's stores ask for a version, which they tell beside the ETag.

    Raises
    ------
    WriterConflictError : the object has another ETag already
    """
    if SCHEMES[address.scheme] != "gs":
        return {"e_tag": etag}
    head = import_whole("obstore").head
    told = _found(address, lambda: head(address.object_store(), address.key))
    if told is None or told["e_tag"] != etag or not told["version"]:
        raise _conflict(address)
    return {"e_tag": etag, "version": told["version"]}


def etag_of(address: Address) -> str | None:
    """The ETag of an object; None if there is none, "" where nobody knows it.

    Raises
    ------
    SourceError : the store refuses
    """
    if not address.is_known_to_obstore:
        return None if size_of(address) is None else ""
    head = import_whole("obstore").head
    found: str | None = _found(address, lambda: head(address.object_store(), address.key)["e_tag"] or "")
    return found


def get(address: Address) -> bytes | None:
    """What an object holds; None if there is none.

    Raises
    ------
    SourceError : the store refuses
    """
    if address.is_known_to_obstore:
        obstore = import_whole("obstore")
        return _found(address, lambda: obstore.get(address.object_store(), address.key).bytes().to_bytes())
    filesystem, path = address.file_system()
    return _found(address, lambda: bytes(filesystem.cat_file(path)))


def size_of(address: Address) -> int | None:
    """Bytes of an object; None if there is none.

    Raises
    ------
    SourceError : the store refuses
    """
    if address.is_known_to_obstore:
        obstore = import_whole("obstore")
        return _found(address, lambda: int(obstore.head(address.object_store(), address.key)["size"]))
    filesystem, path = address.file_system()
    filesystem.invalidate_cache()
    return _found(address, lambda: int(filesystem.info(path)["size"]) if filesystem.isfile(path) else None)


def copy(address: Address, to: Address) -> None:
    """Give an object a second name in the same store; nothing happens if there is none.

    Raises
    ------
    OutputError : the store refuses
    """

    def copied() -> None:
        with suppress(FileNotFoundError):
            if address.is_known_to_obstore:
                import_whole("obstore").copy(address.object_store(), address.key, to.key)
            else:
                filesystem, path = address.file_system()
                filesystem.cp_file(path, to.file_system()[1])

    _written(to, copied)


def delete(address: Address) -> None:
    """Remove an object, if it is there.

    Raises
    ------
    OutputError : the store refuses
    """

    def deleted() -> None:
        with suppress(FileNotFoundError):
            if address.is_known_to_obstore:
                import_whole("obstore").delete(address.object_store(), address.key)
            else:
                filesystem, path = address.file_system()
                filesystem.rm_file(path)

    _written(address, deleted)


def names_below(address: Address) -> list[str]:
    """Names of all objects below an address, relative to it.

    Raises
    ------
    SourceError : the store refuses
    """
    if address.is_known_to_obstore:
        found = address.reached(lambda: list(listed(address.object_store(), f"{address.key}/")))
        return [each["path"].removeprefix(f"{address.key}/") for each in found]
    filesystem, path = address.file_system()
    filesystem.invalidate_cache()
    return [name.removeprefix(f"{path}/") for name in address.reached(lambda: filesystem.find(path))]


def require_writable(address: Address) -> None:
    """Write a small object beside an address and remove it again: what is not permitted is known before hours of work.

    Raises
    ------
    OutputError : the store refuses
    """
    probe = address.at(f"{address.text.rstrip('/')}{PROBE}{secrets.token_hex(4)}")
    put(probe, b"streamem asks whether it may write here")
    delete(probe)


def generations_at(address: Address, most: int = 9) -> list[Address]:
    """The object itself, and its older generations that are there, newest first."""
    older = (address.at(f"{address.text}.{number}") for number in range(1, most + 1))
    found = [address]
    for candidate in older:
        if size_of(candidate) is None:
            break
        found.append(candidate)
    return found


def replace_keeping(address: Address, content: bytes, keep: int, only: SoleWriter | None = None) -> None:
    """Put an object, after its earlier generations were copied to ``.1`` (the newest), ``.2``, …, oldest first.

    Raises
    ------
    WriterConflictError : it is not what `only` knows
    OutputError : the store refuses; the earlier object is intact
    """
    there = size_of(address) is not None if only is None else only.finds()
    if keep and there:
        chain = [address, *(address.at(f"{address.text}.{number}") for number in range(1, keep + 1))]
        for older, newer in reversed(list(zip(chain[1:], chain, strict=False))):
            copy(newer, older)
    if only is None:
        put(address, content)
    else:
        only.put(content)


class SoleWriter:
    """The right of one process to write an object again and again: each write asks for what the last one left.

    Parameters
    ----------
    address : of the object, as it is now
    """

    def __init__(self, address: Address) -> None:
        self._address, self._etag = address, etag_of(address)

    def finds(self) -> bool:
        """Whether the object is there.

        Raises
        ------
        WriterConflictError : somebody else has written it
        """
        if etag_of(self._address) != self._etag:
            raise _conflict(self._address)
        return self._etag is not None

    def put(self, content: bytes) -> None:
        """Write the object.

        Raises
        ------
        WriterConflictError : somebody else has written it
        OutputError : the store refuses
        """
        self._etag = put_after(self._address, content, self._etag)


def _conflict(address: Address) -> WriterConflictError:
    return WriterConflictError(
        f"{address} was written by another process since this one last read or wrote it: two of them would overwrite "
        "each other. What this one has done since then is not saved; stop one of them, and start again"
    )


def _written(address: Address, call: Callable[[], Any]) -> None:
    try:
        call()
    except OutputError:
        raise
    except Exception as error:
        raise OutputError(f"cannot write {address}: {address.told(error)}; what was there is intact") from None


def _found(address: Address, call: Callable[[], Any]) -> Any:
    def asked() -> Any:
        try:
            return call()
        except FileNotFoundError:
            return None

    return address.reached(asked)
