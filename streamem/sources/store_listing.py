"""What lies below an address: listed once, flat, never asked for one by one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from streamem.core.addresses import Address
from streamem.core.errors import SourceError
from streamem.core.object_requests import listed
from streamem.core.retrying import patiently
from streamem.machine.importing import import_whole, uninterrupted


def files_below(address: Address) -> list[str]:
    """Paths of all objects below an address, as its file system names them (with the bucket).

    Raises
    ------
    SourceError : the store refuses, or it lists nothing (``https://``)
    """
    return list(_names(address))


def holds_parquet(address: Address) -> bool:
    """Whether a Parquet file lies below an address; the listing ends at the first."""
    return any(name.endswith((".parquet", ".pq")) for name in _names(address))


def is_folder(address: Address) -> bool:
    """Whether anything lies below an address: one request."""
    return next(_names(address), None) is not None


def names_in(address: Address) -> set[str]:
    """Names of the objects directly in the folder at an address; empty where nothing lies there.

    Raises
    ------
    SourceError : the store refuses
    """
    if address.is_known_to_obstore:
        ask, store = import_whole("obstore").list_with_delimiter, address.object_store()
        found = address.reached(lambda: patiently(lambda: ask(store, prefix=address.key or None)["objects"]))
        return {posixpath.basename(each["path"]) for each in found}
    filesystem, root = address.file_system()
    return {posixpath.basename(path.rstrip("/")) for path in address.reached(lambda: _listed(filesystem, root))}


def matching(address: Address) -> list[Address]:
    """Addresses of the objects that a pattern matches, sorted; ``**`` stands for any number of folders.

    Hidden ones, whose name or folder begins with a dot or an underscore, match only where the pattern says so.

    Raises
    ------
    SourceError : nothing matches, or the store refuses
    """
    with uninterrupted("fsspec.utils"):
        from fsspec.utils import glob_translate

    folder = address.at(_fixed_part(address.text))
    root = f"{address.bucket}/{folder.key}".rstrip("/") + "/" if address.is_known_to_obstore else ""
    if not address.is_known_to_obstore:
        root = folder.file_system()[1].rstrip("/") + "/"
    below = address.text[len(folder.text.rstrip("/")) + 1 :]
    match = re.compile(glob_translate(below)).fullmatch
    names = sorted(path.removeprefix(root) for path in files_below(folder))
    found = [name for name in names if match(name) and not posixpath.basename(name).startswith((".", "_"))]
    if not found:
        raise SourceError(f"no object matches {address}")
    return [folder.below(name) for name in found]


def _fixed_part(text: str) -> str:
    """The folder before the first ``*`` of a pattern."""
    return text[: text.index("*")].rpartition("/")[0]


def _names(address: Address) -> Iterator[str]:
    if not address.is_known_to_obstore:
        filesystem, root = address.file_system()
        yield from address.reached(lambda: filesystem.find(root))
        return
    if address.scheme in ("http", "https"):
        raise SourceError(f"{address}: a web server lists no folders; pass the addresses of the files, as a list")
    found = listed(address.object_store(), address.key)
    while (each := address.reached(lambda: next(found, None))) is not None:
        yield f"{address.bucket}/{each['path']}"


def _listed(filesystem: Any, root: str) -> list[str]:
    try:
        found: list[str] = filesystem.ls(root, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return found
