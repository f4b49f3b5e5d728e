"""``streamem fit factor``: columns that a few factors explain, all rows alike or in groups."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import ReadingOptions, missing_option, reading_options
from streamem.cli.stores import Place
from streamem.core.counting import counted


@click.command("factor")
@click.argument("data", type=click.Path())
@click.option("-q", "--factors", type=click.IntRange(1), required=True, help="Number of factors.")
@click.option("-k", "--components", type=click.IntRange(1), help="Number of groups, each with factors of its own.")
@model_output_option
@click.option(
    "--noise",
    type=click.Choice(["diagonal", "isotropic"]),
    default="diagonal",
    show_default=True,
    help="A variance for each column, or one for all (probabilistic principal components).",
)
@click.option(
    "--rotation",
    type=click.Choice(["varimax", "quartimax"]),
    help="Turn the loadings: few large ones of each factor, or of each column. Of factor analysis without -k.",
)
@click.option("--tol", type=float, default=1e-6, show_default=True, help="Nats per row.")
@click.option("--max-iter", type=click.IntRange(0), default=1000, show_default=True)
@algorithm_option()
@missing_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result of -k repeatable.")
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@reading_options
@click.pass_context
def fit_factor(
    ctx: click.Context,
    /,
    data: Place,
    factors: int,
    components: int | None,
    output: Place,
    noise: str,
    rotation: str | None,
    seed: int | None,
    weight: Place | None,
    checkpoint: Place | None,
    algorithm: str | None,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Factor analysis, or probabilistic principal components; -k fits a mixture of such."""
    require_writable(output, checkpoint)
    if rotation is not None and (components is not None or noise != "diagonal"):
        raise click.UsageError(
            "--rotation turns the loadings of one factor analysis: leave out -k, and --noise isotropic, whose "
            "directions are principal axes; or leave out --rotation"
        )
    settings |= {"random_state": seed, "verbose": verbosity(ctx), **reading.settings}
    if components is not None:
        model: Any = library.MixtureOfFactorAnalyzers(components, factors, factor_noise=noise, **settings)
    else:
        kind = partial(library.FactorAnalysis, rotation=rotation) if noise == "diagonal" else library.PPCA
        model = kind(factors, **settings)
    with reading.opened(data, weight) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
    model.save(output)
    groups = "" if components is None else f" in each of {counted(components, 'component')}"
    told = f"{counted(factors, 'factor')} of {counted(model.n_features_in_, 'feature')}{groups}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm)}")
