"""``streamem fit gmm | student-t | mixture``: mixtures of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, start_option, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import (
    ReadingOptions,
    missing_option,
    noise_columns_option,
    noise_of,
    reading_options,
    unseen_option,
)
from streamem.cli.stores import Place
from streamem.core.counting import counted

weight_prior_option = click.option(
    "--weight-concentration-prior",
    type=click.FloatRange(1.0),
    help="Parameter of a symmetric Dirichlet prior of the weights; 1 is none.",
)


def mixture_options(stopping: str, *own: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What fitting any mixture takes, in the order of help: `stopping` is its default, `own` are a kind's."""
    options = (
        click.argument("data", type=click.Path()),
        click.option("-k", "--components", type=click.IntRange(1), required=True, help="Number of components."),
        model_output_option,
        *own,
        click.option("--tol", type=float, default=1e-3, show_default=True, help="Nats per row."),
        click.option("--stopping", type=click.Choice(["change", "aitken"]), default=stopping, show_default=True),
        click.option("--max-iter", type=click.IntRange(0), default=100, show_default=True),
        click.option("--n-init", type=click.IntRange(1), default=1, show_default=True),
        weight_prior_option,
        start_option("init_params"),
        algorithm_option(),
        missing_option,
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result repeatable."),
        click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file."),
        click.option(
            "--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists."
        ),
        reading_options,
    )

    def decorated(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


covariance_options = (
    click.option(
        "--covariance-type",
        type=click.Choice(["full", "tied", "diag", "spherical"]),
        default="full",
        show_default=True,
    ),
    click.option("--reg-covar", type=float, default=1e-6, show_default=True),
)
noise_option = click.option(
    "--noise", is_flag=True, help="A constant density over the box of the data beside; predict writes -1."
)


@click.command("gmm")
@mixture_options("change", *covariance_options)
@noise_option
@noise_columns_option
@click.pass_context
def fit_gmm(ctx: click.Context, /, **given: Any) -> None:
    """Gaussian mixture; with --noise-columns of what lies behind the noise of each row (extreme deconvolution)."""
    _fit_mixture(ctx, library.GaussianMixture, **given)


@click.command("student-t")
@mixture_options("aitken", *covariance_options)
@click.option(
    "--dof",
    default="estimated",
    show_default=True,
    help="Degrees of freedom: estimated, tied, or a number to fix them.",
)
@noise_option
@click.pass_context
def fit_student(ctx: click.Context, /, dof: str, **given: Any) -> None:
    """Mixture of t distributions, which outliers do not move."""
    _fit_mixture(ctx, library.StudentTMixture, dof=_dof_of(dof), **given)


@click.command("mixture")
@mixture_options("aitken")
@click.option(
    "--family",
    required=True,
    metavar="WORDS",
    help='One for all columns, "poisson", or one for each, "income:lognormal,lat+lon:gaussian,region:categorical".',
)
@noise_option
@unseen_option
@click.pass_context
def fit_mixture(ctx: click.Context, /, family: str, reading: ReadingOptions, **given: Any) -> None:
    """Mixture of any family, or of a family for each column; text columns are categorical."""
    if reading.columns is None:
        reading = replace(reading, columns=library.columns_of_text(family))
    _fit_mixture(ctx, library.Mixture, reading=reading, family=family, **given)


def _dof_of(dof: str) -> str | float:
    try:
        return float(dof)
    except ValueError:
        return dof


def _fit_mixture(
    ctx: click.Context,
    kind: Any,
    /,
    data: Place,
    components: int,
    output: Place,
    seed: int | None,
    weight: Place | None,
    checkpoint: Place | None,
    algorithm: str | None,
    reading: ReadingOptions,
    noise_columns: list[str] | None = None,
    **settings: Any,
) -> None:
    """Fit a mixture to data, and write it to a file."""
    require_writable(output, checkpoint)
    model = kind(
        n_components=components,
        random_state=seed,
        verbose=verbosity(ctx),
        **reading.settings,
        **settings,
    )
    with reading.opened(data, weight) as (source, arguments):
        arguments |= noise_of(model, noise_columns)
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
    model.save(output)
    told = f"{counted(components, 'component')} of {counted(model.n_features_in_, 'feature')}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm)}")
