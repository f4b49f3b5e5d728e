"""``streamem fit items``: how hard the items of a test are, and how well they tell people apart."""

from __future__ import annotations

from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.latent_class import COMPRESS, compress_option
from streamem.cli.reading import ReadingOptions, missing_option, reading_options
from streamem.cli.stores import Place
from streamem.core.counting import counted


@click.command("items")
@click.argument("data", type=click.Path())
@model_output_option
@click.option(
    "--model",
    type=click.Choice(["2pl", "rasch"]),
    default="2pl",
    show_default=True,
    help="A discrimination for each item, or one for all.",
)
@click.option(
    "-k", "--nodes", "n_nodes", type=click.IntRange(2), default=41, show_default=True, help="Nodes of the quadrature."
)
@click.option("--abilities", help="Also write the ability of every person, with its standard deviation.")
@click.option("--tol", type=float, default=1e-8, show_default=True, help="Nats per person.")
@click.option("--max-iter", type=click.IntRange(0), default=1000, show_default=True)
@compress_option
@algorithm_option()
@missing_option
@click.option("--weight", help="Weights of the rows: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@click.option("--overwrite", is_flag=True, help="Replace --abilities if it exists.")
@reading_options
@click.pass_context
def fit_items(
    ctx: click.Context,
    /,
    data: Place,
    output: Place,
    abilities: Place | None,
    compress: str,
    weight: Place | None,
    checkpoint: Place | None,
    algorithm: str | None,
    overwrite: bool,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Difficulties of items (item response theory) from a table of people × items: 1 is right, 0 is wrong."""
    require_writable(output, checkpoint)
    settings |= {"verbose": verbosity(ctx), "compress": COMPRESS[compress], **reading.settings}
    model = library.ItemResponse(**settings)
    with reading.opened(data, weight) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
        arguments.pop("sample_weight", None)
        if abilities is not None:
            model.abilities(source, out=abilities, overwrite=overwrite, **arguments)
    model.save(output)
    told = counted(model.n_features_in_, "item")
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm, 'person')}")
