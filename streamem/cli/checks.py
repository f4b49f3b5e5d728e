"""Checks of commands that fit, before they start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from streamem.cli import library
from streamem.cli.stores import Place, at_address

ALGORITHMS = ("auto", "batch", "squarem", "anderson", "stepwise", "incremental")


def algorithm_option(default: str | None = None) -> Callable[[Any], Any]:
    """The option ``--algorithm`` of commands that fit; without a default, size decides."""
    return click.option(
        "--algorithm",
        type=click.Choice(ALGORITHMS),
        default=default,
        show_default=default or "auto where each pass reads more than what is kept from the last one, else batch",
        help="One M-step a pass (batch), the same with steps beyond EM's (squarem, anderson), after mini-batches "
        "(stepwise), or after blocks of rows (incremental).",
    )


def _not_by_default(ctx: click.Context, option: click.Parameter, output: str) -> str:
    """The file to write; one that exists is replaced where it was named, never because nobody named another."""
    named = ctx.get_parameter_source(str(option.name)) is not ParameterSource.DEFAULT
    if not named and Path(output).exists():
        raise click.UsageError(f"{output} exists already: name the file to write with -o, or this one to replace it")
    return output


model_output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    default="model.npz",
    show_default=True,
    callback=_not_by_default,
    help="Model file to write (.npz).",
)
"""The option ``--output`` of commands that fit."""

STARTS = ("kmeans", "k-means++", "k-means||", "random", "random_from_data", "short_em", "merged_em", "split_merge")
DISCRETE_STARTS = ("short_em", "merged_em", "split_merge", "random", "kmeans", "k-means++", "random_from_data")


def start_option(name: str, choices: tuple[str, ...] = STARTS) -> Callable[[Any], Any]:
    """The option ``--init`` of commands that fit: sets the hyperparameter `name`, by default to the first choice."""
    return click.option(
        "--init",
        name,
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How a sample is split for the start; k-means|| reads all rows, short_em, merged_em and split_merge "
        "try EM on it.",
    )


def verbosity(ctx: click.Context) -> int:
    """The estimators' `verbose` for the option ``--verbose``."""
    return 1 if ctx.find_root().params.get("verbose") else 0


def require_writable(output: Place, checkpoint: Place | None) -> None:
    """Fail before hours of work, not after."""
    if not os.fspath(output).endswith(".npz"):
        raise click.ClickException(f"{output}: a model file ends in .npz")
    if checkpoint is not None and _whole(checkpoint) == _whole(output):
        raise click.ClickException(f"{output}: the checkpoint and the model need different files")
    if address := at_address(output):
        library.require_writable(address)
        return
    folder = Path(output).absolute().parent
    if not folder.is_dir():
        raise click.ClickException(f"{output}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK):
        raise click.ClickException(f"{output}: the folder {folder} is not writable")


def _whole(place: Place) -> str:
    return os.fspath(place) if at_address(place) else str(Path(place).resolve())
