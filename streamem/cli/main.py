"""The command line: ``streamem fit``, ``select``, ``predict``, ``score`` and the other commands of a model's life."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from streamem import __version__
from streamem.cli import library
from streamem.cli.chain import fit_chain
from streamem.cli.factor import fit_factor
from streamem.cli.items import fit_items
from streamem.cli.latent_class import fit_latent_class
from streamem.cli.link import link
from streamem.cli.mixtures import fit_gmm, fit_mixture, fit_student
from streamem.cli.proportions import fit_proportions
from streamem.cli.raters import fit_raters
from streamem.cli.reading import ReadingOptions, noise_columns_option, noise_of, reading_options
from streamem.cli.regression import fit_regression
from streamem.cli.report import report
from streamem.cli.responses import response_of, response_option
from streamem.cli.select import select
from streamem.cli.sequences import SequencesSaid, fit_hmm, sequence_options
from streamem.cli.stores import Place, storage_option
from streamem.cli.streaming import update, watch
from streamem.cli.summary import summary
from streamem.cli.warm_up import warm_up
from streamem.core.errors import StreamemError

INTERRUPTED = 130
OPTIONS = {
    "overwrite=True": "--overwrite",
    " (open_source takes it in ReadOptions)": "",
    "feature_axis=": "--feature-axis",
    "sequence_column=": "--sequence-column",
    "continued=True": "--continued",
    "columns=": "--columns",
    "memory_limit": "--memory",
    'missing="integrate"': "--missing integrate",
    'unseen="missing"': "--unseen missing",
    "unseen='missing'": "--unseen missing",
    " with categories={...}": " with --categories NAME=A,B,…",
    "noise names the columns": "--noise-columns names the columns",
    "checkpoint='run.npz'": "--checkpoint run.npz",
    "dead_letter='bad.arrows'": "--dead-letter bad.arrows",
    "dead_letter_limit": "--dead-letter-limit",
    "MixtureOfRegressions requires y to be passed, but the target y is None: pass the responses, or the name of their "
    "column in X": "the response is needed: pass --response, the column, or the .npy file, that was fitted",
    "y is the column": "--response is the column",
    ", which columns names as": ", which --columns names as",
    "y names the column": "--response names the column",
    "it must be an array, the name of a column, or": "it must be the name of a column, or",
    "; pass y as an array": "; pass a .npy file with a number for each row",
    "pass a table, and name the column": "pass data whose columns have names, and name it",
}
OPEN_FILLED = re.compile(
    r"open the data with open_source\(path, options=ReadOptions\([^)]*(?:\([^)]*\))?\)\) and pass that"
)

FITTED_WHOLE = re.compile(
    r'(?:\w+\(missing="integrate"\), or )?set_params\(missing="integrate"\)( of one that is fitted)?'
)


class _Group(click.Group):
    """Turns the library's errors into one message and an exit status, and Ctrl-C into advice."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamemError as error:
            raise click.ClickException(_as_options(str(error))) from error
        except KeyboardInterrupt as interrupt:
            click.echo(
                "\ninterrupted: " + "; ".join(getattr(interrupt, "__notes__", ["nothing was written"])), err=True
            )
            sys.exit(INTERRUPTED)


def _as_options(message: str) -> str:
    """The library's messages name Python arguments; here they are options."""
    message = OPEN_FILLED.sub("pass --missing-chunks fill", message)
    message = FITTED_WHOLE.sub("fit it with --missing integrate", message)
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    return message


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamem")
@click.option("-v", "--verbose", is_flag=True, help="Show every pass, and debug messages.")
def main(verbose: bool) -> None:
    """Expectation-maximization for data of any size."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("streamem")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)


@main.group()
def fit() -> None:
    """Fit a model to DATA (.zarr, .parquet file or folder, .npy, .arrow) and write it to a file."""


fit.add_command(fit_gmm)
fit.add_command(fit_student)
fit.add_command(fit_mixture)
fit.add_command(fit_hmm)
fit.add_command(fit_latent_class)
fit.add_command(fit_proportions)
fit.add_command(fit_raters)
fit.add_command(fit_items)
fit.add_command(fit_chain)
fit.add_command(fit_factor)
fit.add_command(fit_regression)


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), required=True, help="Where to write (.zarr, .parquet, .npy).")
@click.option("--proba", is_flag=True, help="Write the probability of every component instead of the label.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@noise_columns_option
@response_option()
@sequence_options
@reading_options
def predict(
    model: Place,
    data: Place,
    output: Place,
    proba: bool,
    overwrite: bool,
    response: Place | None,
    noise_columns: list[str] | None,
    sequences: SequencesSaid,
    reading: ReadingOptions,
) -> None:
    """Label every row of DATA with its most probable component, or the most probable path of states.

    Of a model of factors without components the factors of every row are written, of items the ability of every
    person with its standard deviation.
    """
    fitted = _load(model).set_params(**reading.settings)
    if proba and not hasattr(fitted, "predict_proba"):
        raise click.UsageError(f"{type(fitted).__name__} has no probabilities of components: leave --proba out")
    asked = ["predict_proba"] if proba else ["predict", "abilities", "transform"]
    question, given = (
        next(getattr(fitted, name) for name in asked if hasattr(fitted, name)),
        response_of(fitted, response),
    )
    with reading.opened(data, None, sequences.arguments(fitted, reading.missing_chunks == "fill")) as (
        source,
        arguments,
    ):
        question(source, out=output, overwrite=overwrite, **arguments, **noise_of(fitted, noise_columns), **given)
    click.echo(output)


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Also write the log-density of every row.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@noise_columns_option
@response_option()
@sequence_options
@reading_options
def score(
    model: Place,
    data: Place,
    output: Place | None,
    overwrite: bool,
    response: Place | None,
    weight: Place | None,
    as_json: bool,
    noise_columns: list[str] | None,
    sequences: SequencesSaid,
    reading: ReadingOptions,
) -> None:
    """Log-likelihood, AIC and BIC of DATA."""
    fitted = _load(model).set_params(**reading.settings)
    if output is not None and hasattr(fitted, "startprob_"):
        raise click.UsageError("rows of a sequence have no density of their own; see `streamem predict --proba`")
    with reading.opened(data, weight, sequences.arguments(fitted, reading.missing_chunks == "fill")) as (
        source,
        arguments,
    ):
        arguments |= {**noise_of(fitted, noise_columns), **response_of(fitted, response)}
        scores = fitted.scores(source, **arguments)
        if output is not None:
            arguments.pop("sample_weight", None)
            fitted.score_samples(source, out=output, overwrite=overwrite, **arguments)
    if as_json:
        click.echo(json.dumps(scores))
        return
    for name, value in scores.items():
        click.echo(f"{name:24} {value:.12g}")


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), required=True, help="Where to write (.zarr, .parquet, .npy).")
@click.option("--draws", type=click.IntRange(0), default=0, show_default=True, help="Draws; 0 for conditional means.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the draws repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@sequence_options
@reading_options
def impute(
    model: Place,
    data: Place,
    output: Place,
    draws: int,
    seed: int | None,
    overwrite: bool,
    sequences: SequencesSaid,
    reading: ReadingOptions,
) -> None:
    """Write DATA with values in place of those that were not observed; MODEL was fitted with --missing integrate."""
    fitted = _load(model).set_params(random_state=seed, **reading.settings)
    with reading.opened(data, None, sequences.arguments(fitted, reading.missing_chunks == "fill")) as (
        source,
        arguments,
    ):
        fitted.impute(source, n_draws=draws, out=output, overwrite=overwrite, **arguments)
    click.echo(output)


main.add_command(select)
main.add_command(summary)
main.add_command(report)
main.add_command(link)
main.add_command(update)
main.add_command(watch)
main.add_command(warm_up)


@main.command()
@click.argument("model", type=click.Path())
@storage_option
def show(model: Place) -> None:
    """What a model file holds, and how its fit went."""
    click.echo(_load(model).describe())


@main.command()
@click.argument("model", type=click.Path())
@click.option("-n", "--rows", type=click.IntRange(1), required=True, help="How many rows to draw.")
@click.option("-o", "--output", type=click.Path(), required=True, help="Where to write (.zarr, .parquet, .npy).")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the draw repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@storage_option
def sample(model: Place, rows: int, output: Place, seed: int | None, overwrite: bool) -> None:
    """Draw rows from a model."""
    _load(model).set_params(random_state=seed).sample_to(output, rows, overwrite=overwrite)
    click.echo(output)


@main.command()
@click.option("--memory", default="64MiB", show_default=True, metavar="SIZE", help="Memory limit of the fit.")
@click.option("--picture", type=click.Path(dir_okay=False), default="streamem-demo.png", show_default=True)
@click.option("--components", "-k", type=click.IntRange(1), default=16, show_default=True)
def demo(memory: str, picture: str, components: int) -> None:
    """Fit a mixture to half a million patches of photographs, in less memory than they take."""
    library.run_demo(memory, Path(picture), components, click.echo)


def _load(path: Any) -> Any:
    return library.load_model(path)
