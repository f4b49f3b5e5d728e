"""``streamem fit proportions``."""

from __future__ import annotations

from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import model_output_option, require_writable, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import ReadingOptions, reading_options
from streamem.cli.stores import Place
from streamem.core.counting import counted


@click.command("proportions")
@click.argument("data", type=click.Path())
@model_output_option
@click.option("--scale", type=click.Choice(["plain", "log"]), default="plain", show_default=True)
@click.option("--tol", type=float, default=1e-8, show_default=True, help="Nats per row.")
@click.option("--max-iter", type=click.IntRange(0), default=10_000, show_default=True)
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@reading_options
@click.pass_context
def fit_proportions(
    ctx: click.Context,
    /,
    data: Place,
    output: Place,
    weight: Place | None,
    checkpoint: Place | None,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Weights of components whose likelihoods are the columns of DATA."""
    require_writable(output, checkpoint)
    model = library.MixtureProportions(verbose=verbosity(ctx), **reading.settings, **settings)
    with reading.opened(data, weight) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, **arguments)
    model.save(output)
    told, ended = counted(model.n_features_in_, "component"), how_it_ended(model, None)
    click.echo(f"{output}: {told}, {ended}; no weights reach {model.kkt_certificate_:.3g} more")
