"""``streamem fit regression``: a response that depends on covariates as one of K regressions says."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, start_option, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import ReadingOptions, missing_option, reading_options
from streamem.cli.responses import column, response_option
from streamem.cli.sequences import covariates
from streamem.cli.stores import Place
from streamem.core.counting import counted

STARTS = ("short_em", "random", "kmeans")


@click.command("regression")
@click.argument("data", type=click.Path())
@response_option(required=True)
@click.option("-k", "--components", type=click.IntRange(1), default=1, show_default=True, help="Number of regressions.")
@model_output_option
@click.option(
    "--family",
    type=click.Choice(["gaussian", "poisson", "binomial", "multinomial"]),
    default="gaussian",
    show_default=True,
    help="Distribution of the response; links are canonical.",
)
@click.option(
    "--concomitant",
    callback=covariates,
    metavar="NAMES",
    help="Columns on which the weights depend: names, or positions from 0 on, between commas. They explain the "
    "response too where --columns names them.",
)
@click.option(
    "--trials", callback=column, default="1", show_default=True, help="Of binomial responses: N, or a column."
)
@click.option("--offset", callback=column, help="Column that is added to the linear predictor (poisson, binomial).")
@click.option("--exposure", callback=column, help="Column that multiplies the mean (poisson).")
@click.option("--n-classes", type=click.IntRange(2), help="Of multinomial responses; by default what DATA holds.")
@click.option("--reg-covar", type=float, default=0.0, show_default=True, help="Added to variances (gaussian).")
@click.option("--tol", type=float, default=1e-6, show_default=True, help="Nats per row.")
@click.option("--stopping", type=click.Choice(["change", "aitken"]), default="aitken", show_default=True)
@click.option("--max-iter", type=click.IntRange(0), default=1000, show_default=True)
@click.option("--n-init", type=click.IntRange(1), default=1, show_default=True)
@start_option("init_params", STARTS)
@algorithm_option()
@missing_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result repeatable.")
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@reading_options
@click.pass_context
def fit_regression(
    ctx: click.Context,
    /,
    data: Place,
    response: Place,
    components: int,
    output: Place,
    seed: int | None,
    weight: Place | None,
    checkpoint: Place | None,
    algorithm: str | None,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Regression of a response on the other columns (or --columns), or a mixture of such (-k).

    Other commands find the response by its name; where it is a .npy file, tell them by --response.
    """
    require_writable(output, checkpoint)
    _require_known(ctx, str(settings["family"]))
    if reading.missing_chunks == "fill":
        raise click.UsageError("regressions do not go together with --missing-chunks fill: write the absent chunks")
    settings |= {"random_state": seed, "verbose": verbosity(ctx), **reading.settings}
    model = library.MixtureOfRegressions(components, **settings)
    with reading.opened(data, weight) as (source, arguments):
        model.fit(source, response, checkpoint=checkpoint, algorithm=algorithm, **arguments)
    model.save(output)
    p = model.coef_.shape[-1]
    shifted = "" if model.concomitant is None else f", weights by {counted(model.concomitant_coef_.shape[1], 'column')}"
    told = f"{counted(components, 'regression')} of {model.family} responses on {counted(p, 'covariate')}{shifted}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm)}")


OF_FAMILY = {"trials": "binomial", "n_classes": "multinomial", "reg_covar": "gaussian"}
"""Options that one distribution alone has."""


def _require_known(ctx: click.Context, family: str) -> None:
    """Refuse options that would change nothing.

    Raises
    ------
    UsageError : an option of another distribution
    """
    for name, only in OF_FAMILY.items():
        if family != only and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is for --family {only}, and this is {family}: leave it out")
