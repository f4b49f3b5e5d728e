"""``streamem warm-up``: compile beforehand what fits will need, into the folder from which every process loads it."""

from __future__ import annotations

from time import perf_counter

import click

from streamem.cli import library

WHAT = ("mixtures", "chains", "gaussian-chains", "classes", "students", "missing")
USUAL = ("mixtures", "chains")


@click.command("warm-up")
@click.option(
    "--what",
    "chosen",
    multiple=True,
    type=click.Choice(WHAT),
    default=USUAL,
    show_default=True,
    help="What is to be fitted later; may be repeated.",
)
def warm_up(chosen: tuple[str, ...]) -> None:
    """Compile beforehand what fits need: while an image of a container is built, or on a shared disk of a cluster.

    Code is kept below NUMBA_CACHE_DIR, or beside the package, or in the user's cache folder; it serves processors of
    the same kind. Shapes that choose another arithmetic (many components, screens) are compiled when they come.
    """
    began = perf_counter()
    library.warm(chosen, lambda line: click.echo(line, err=True))
    click.echo(f"ready in {perf_counter() - began:.0f} s: compiled code lies in {library.folder_of_code()}")
