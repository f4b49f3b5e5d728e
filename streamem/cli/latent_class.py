"""``streamem fit latent-class``: surveys, tests and records."""

from __future__ import annotations

from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import (
    DISCRETE_STARTS,
    algorithm_option,
    model_output_option,
    require_writable,
    start_option,
    verbosity,
)
from streamem.cli.endings import how_it_ended
from streamem.cli.mixtures import weight_prior_option
from streamem.cli.reading import ReadingOptions, missing_option, reading_options, unseen_option
from streamem.cli.stores import Place
from streamem.core.counting import counted

COMPRESS = {"auto": "auto", "yes": True, "no": False}
compress_option = click.option(
    "--compress",
    type=click.Choice(list(COMPRESS)),
    default="auto",
    show_default=True,
    help="Whether EM runs over different rows with weights, found in one pass.",
)


@click.command("latent-class")
@click.argument("data", type=click.Path())
@click.option("-k", "--classes", type=click.IntRange(1), required=True, help="Number of classes.")
@model_output_option
@click.option("--prior", type=click.FloatRange(1.0), default=1.0, show_default=True, help="Dirichlet prior; 1 is none.")
@weight_prior_option
@click.option("--tol", type=float, default=1e-7, show_default=True, help="Nats per row.")
@click.option("--max-iter", type=click.IntRange(0), default=1000, show_default=True)
@click.option(
    "--n-init", type=click.IntRange(1), default=1, show_default=True, help="Starts, each the best of short runs."
)
@start_option("init_params", DISCRETE_STARTS)
@compress_option
@algorithm_option()
@missing_option
@unseen_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result repeatable.")
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@reading_options
@click.pass_context
def fit_latent_class(
    ctx: click.Context,
    /,
    data: Place,
    classes: int,
    output: Place,
    compress: str,
    seed: int | None,
    weight: Place | None,
    checkpoint: Place | None,
    algorithm: str | None,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Latent classes of columns of text or of codes 0, 1, …"""
    require_writable(output, checkpoint)
    settings |= {"random_state": seed, "verbose": verbosity(ctx), "compress": COMPRESS[compress], **reading.settings}
    model = library.LatentClass(classes, **settings)
    with reading.opened(data, weight) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
    model.save(output)
    told = f"{counted(classes, 'class')} of {counted(model.n_features_in_, 'column')}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm)}")
