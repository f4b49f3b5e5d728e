"""``streamem fit raters``: true labels of items, and how reliable those are who labelled them."""

from __future__ import annotations

from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import ReadingOptions, missing_option, reading_options, unseen_option
from streamem.cli.stores import Place
from streamem.core.counting import counted


@click.command("raters")
@click.argument("data", type=click.Path())
@model_output_option
@click.option("--item", default="item", show_default=True, help="Column that identifies the item of each vote.")
@click.option("--rater", default="rater", show_default=True, help="Column that identifies who voted.")
@click.option("--label", default="label", show_default=True, help="Column of the labels.")
@click.option("--labels", help="Also write the most probable label of every item (.parquet, .zarr, .npy).")
@click.option("--smoothing", type=click.FloatRange(0.0), default=0.0, show_default=True, help="Votes added to all.")
@click.option("--tol", type=float, default=1e-6, show_default=True, help="Nats per vote.")
@click.option("--max-iter", type=click.IntRange(0), default=1000, show_default=True)
@algorithm_option()
@missing_option
@unseen_option
@click.option("--weight", help="Weights of the items: a column name, or the path of a .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@click.option("--overwrite", is_flag=True, help="Replace --labels if it exists.")
@reading_options
@click.pass_context
def fit_raters(
    ctx: click.Context,
    /,
    data: Place,
    output: Place,
    labels: Place | None,
    weight: Place | None,
    checkpoint: Place | None,
    algorithm: str | None,
    overwrite: bool,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Classes of items and confusion tables of raters (Dawid & Skene), from a table with a row for each vote."""
    require_writable(output, checkpoint)
    model = library.DawidSkene(verbose=verbosity(ctx), **reading.settings, **settings)
    with reading.opened(data, weight) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
        arguments.pop("sample_weight", None)
        if labels is not None:
            model.predict(source, out=labels, overwrite=overwrite, **arguments)
    model.save(output)
    told = f"{counted(len(model.raters_), 'rater')}, {counted(model.n_components, 'class')}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm, 'vote')}")
