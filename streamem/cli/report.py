"""``streamem report``: a page about a model."""

from __future__ import annotations

import os
from pathlib import Path

import click

from streamem.cli import library
from streamem.cli.reading import located, storage_option


@click.command()
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="The page to write (.html).")
@click.option("--history", type=click.Path(dir_okay=False), help="Updates that `update --history` wrote.")
@storage_option
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def report(model: str, output: str, history: str | None, storage_options: dict[str, str], overwrite: bool) -> None:
    """Write a page about MODEL for people who were not there: parameters, pictures, passes, events and warnings.

    One file that loads nothing from anywhere. Pictures need matplotlib.
    """
    path = Path(output)
    if path.suffix not in (".html", ".htm"):
        raise click.ClickException(f"{output}: a page ends in .html")
    if path.exists() and not overwrite:
        raise click.ClickException(f"{output} exists; pass --overwrite to replace it")
    if not path.absolute().parent.is_dir():
        raise click.ClickException(f"{output}: there is no folder {path.absolute().parent}; create it first")
    if history is not None and "://" not in history and not Path(history).exists():
        raise click.BadParameter(f"file {history!r} does not exist", param_hint="--history")
    places = located({"model": model, "history": history}, storage_options)
    fitted = library.load_model(places["model"])
    text = library.page_of(fitted, library.place_of(places["model"]), places["history"])
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    click.echo(output)
