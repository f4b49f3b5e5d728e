"""``streamem report``: a page about a model."""

from __future__ import annotations

import os
from pathlib import Path

import click

from streamem.cli import library
from streamem.cli.stores import Place, at_address, require_free, storage_option, write_whole


@click.command()
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="The page to write (.html).")
@click.option("--history", type=click.Path(dir_okay=False), help="Updates that `update --history` wrote.")
@storage_option
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def report(model: Place, output: Place, history: Place | None, overwrite: bool) -> None:
    """Write a page about MODEL for people who were not there: parameters, pictures, passes, events and warnings.

    One file that loads nothing from anywhere. Pictures need matplotlib.
    """
    if not os.fspath(output).endswith((".html", ".htm")):
        raise click.ClickException(f"{output}: a page ends in .html")
    require_free(output, overwrite)
    if history is not None and at_address(history) is None and not Path(history).exists():
        raise click.BadParameter(f"file {history!r} does not exist", param_hint="--history")
    text = library.page_of(library.load_model(model), library.place_of(model), history)
    write_whole(output, text.encode())
    click.echo(output)
