"""The option ``--response`` of commands that fit regressions, or ask such: a column, or a file of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from streamem.cli import library
from streamem.cli.stores import Place


def response_option(required: bool = False) -> Callable[[Any], Any]:
    """Add the option to a command; those that ask a model need it only for a response that lies apart."""
    why = "" if required else " Of regressions, where DATA lacks the column that was fitted."
    return click.option(
        "--response",
        "-y",
        required=required,
        metavar="NAME",
        help=f"Column that the others explain, or the path of a .npy file with a number for each row.{why}",
    )


def response_of(model: Any, response: Place | None) -> dict[str, Any]:
    """The argument ``y`` of a model's methods, if there is a response; refused by models without.

    Raises
    ------
    UsageError : another model than regressions
    """
    if response is None:
        return {}
    if not isinstance(model, library.MixtureOfRegressions):
        raise click.UsageError(f"--response is for regressions; this is a {type(model).__name__}")
    return {"y": response}


def column(_: click.Context, __: click.Parameter, value: str | None) -> int | str | None:
    """A number, or the name of a column."""
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        return value
