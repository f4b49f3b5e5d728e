"""What commands name at addresses: the option for their stores, and what is written there in one piece."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import click

from streamem.cli import library

Place: TypeAlias = str | os.PathLike[str]
"""A path of this machine, or an address."""

PLACES = (
    *(
        "data",
        "model",
        "output",
        "checkpoint",
        "weight",
        "response",
        "sequences",
        "offsets",
        "lengths",
        "random_pairs",
        "table",
        "plot",
    ),
    *("history", "dead_letter", "abilities", "labels", "states"),
)
"""Parameters of commands that name files, or what lies at an address."""


def storage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--storage-option`` to a command, which gets an `Address` for each address that it is told."""

    @functools.wraps(command)
    def located(*arguments: Any, storage_options: dict[str, str], **options: Any) -> Any:
        places = {name: options[name] for name in PLACES if name in options}
        return command(*arguments, **{**options, **with_storage(places, storage_options)})

    return _storage_option(located)


def with_storage(places: Mapping[str, Any], storage_options: dict[str, str]) -> dict[str, Any]:
    """Paths and addresses, these with the options of their store if any were given.

    Raises
    ------
    BadParameter : options, and no address
    """
    if not storage_options:
        return dict(places)
    reached: list[str] = []

    def located(place: Any) -> Any:
        if is_dataclass(place) and not isinstance(place, type):
            return replace(place, **{field.name: located(getattr(place, field.name)) for field in fields(place)})
        if not isinstance(place, str) or "://" not in place:
            return place
        reached.append(place)
        return library.Address(place, storage_options)

    found = {name: located(place) for name, place in places.items()}
    if not reached:
        raise click.BadParameter(
            "is for data at an address such as s3://bucket/folder; leave it out", param_hint="--storage-option"
        )
    return found


def _pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if any(not name or not sign for name, sign, _ in pairs):  # not shown: what was meant may be a secret
        raise click.BadParameter("one is not NAME=VALUE")
    return {name.strip(): value for name, _, value in pairs}


_storage_option = click.option(
    "--storage-option",
    "storage_options",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="A setting of the stores at addresses, read or written, such as endpoint=http://localhost:9000; "
    "may be repeated. Others can see what a command is called with: leave secrets to the environment "
    "(AWS_SECRET_ACCESS_KEY).",
)


def at_address(place: Place) -> Any:
    """The `Address` of what is no path of this machine; None for a path."""
    if "://" not in os.fspath(place):
        return None
    return library.Address(place) if isinstance(place, str) else place


def require_free(place: Place, overwrite: bool) -> None:
    """Refuse to write where something is, where no folder is, or where a store does not let us.

    Raises
    ------
    ClickException : something is there, or no folder
    OutputError : the store refuses
    """
    address = at_address(place)
    there = Path(place).exists() if address is None else library.size_of(address) is not None
    if there and not overwrite:
        raise click.ClickException(f"{place} exists; pass --overwrite to replace it")
    if address is not None:
        library.require_writable(address)
    elif not (folder := Path(place).absolute().parent).is_dir():
        raise click.ClickException(f"{place}: there is no folder {folder}; create it first")


def write_whole(place: Place, content: bytes) -> None:
    """Write a file, or an object at an address: it is there whole, or not at all.

    Raises
    ------
    OutputError : the store refuses
    """
    address = at_address(place)
    if address is not None:
        library.put(address, content)
        return
    path = Path(place)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
