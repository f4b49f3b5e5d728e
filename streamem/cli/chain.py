"""``streamem fit chain``: Kalman's filter and smoother inside EM."""

from __future__ import annotations

from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import ReadingOptions, reading_options
from streamem.cli.sequences import SequencesSaid, sequence_options
from streamem.cli.stores import Place
from streamem.core.counting import counted


@click.command("chain")
@click.argument("data", type=click.Path())
@model_output_option
@click.option(
    "--form",
    type=click.Choice(["free", "level", "trend"]),
    default="free",
    show_default=True,
    help="All matrices free, or a local level or local linear trend of one column with a diffuse start.",
)
@click.option("-k", "--latent", type=click.IntRange(1), help="Latent dimensions of a free chain. [default: 1]")
@click.option("--params", help="What is estimated, by letters: a q transition, c r d observation, m v first state.")
@click.option(
    "--noise", type=click.Choice(["diag", "full"]), default="diag", show_default=True, help="Of observations."
)
@click.option("--states", help="Also write the smoothed states of every step (.parquet, .zarr, .npy).")
@click.option("--covariances", is_flag=True, help="Write their covariances behind them.")
@click.option("--tol", type=float, default=1e-4, show_default=True, help="Nats per row.")
@click.option("--stopping", type=click.Choice(["change", "aitken"]), default="aitken", show_default=True)
@click.option("--max-iter", type=click.IntRange(0), default=100, show_default=True)
@click.option("--n-init", type=click.IntRange(1), default=1, show_default=True)
@algorithm_option()
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result repeatable.")
@click.option("--weight", help="Weights of sequences: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@click.option("--overwrite", is_flag=True, help="Replace --states if it exists.")
@sequence_options
@reading_options
@click.pass_context
def fit_chain(
    ctx: click.Context,
    /,
    data: Place,
    output: Place,
    form: str,
    latent: int | None,
    noise: str,
    states: Place | None,
    covariances: bool,
    max_iter: int,
    algorithm: str | None,
    seed: int | None,
    weight: Place | None,
    checkpoint: Place | None,
    overwrite: bool,
    sequences: SequencesSaid,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Linear Gaussian chain of the sequences in DATA, in which values may be missing."""
    require_writable(output, checkpoint)
    if form != "free" and latent is not None:
        raise click.UsageError(f"--latent is for free chains; a {form} has as many dimensions as it needs")
    settings |= {"random_state": seed, "n_iter": max_iter, "verbose": verbosity(ctx), **reading.settings}
    kind = library.LinearGaussianChain
    made = {"level": kind.local_level, "trend": kind.local_trend}.get(form)
    model = kind(latent or 1, observation_noise=noise, **settings) if made is None else made(**settings)
    with reading.opened(data, weight, sequences.arguments(model)) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
        arguments.pop("sample_weight", None)
        if states is not None:
            model.smooth(source, covariances=covariances, out=states, overwrite=overwrite, **arguments)
    model.save(output)
    told = f"{counted(model.n_latent, 'latent dimension')} of {counted(model.n_features_in_, 'feature')}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm)}")
