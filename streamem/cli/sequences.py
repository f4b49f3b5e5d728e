"""``streamem fit hmm``, and what the other commands take for sequences."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, model_output_option, require_writable, start_option, verbosity
from streamem.cli.endings import how_it_ended
from streamem.cli.reading import ReadingOptions, missing_option, reading_options
from streamem.cli.stores import Place
from streamem.core.counting import counted

GAUSSIAN = re.compile(r"gaussian-(diag|full|tied|spherical)")
MIXTURE = re.compile(r"gmm:([1-9]\d*)")
EMISSIONS = "gaussian-diag, gaussian-full, gaussian-tied, gaussian-spherical, gmm:M, categorical, poisson, bernoulli"


@dataclass(frozen=True)
class SequencesSaid:
    """The user's options about where sequences begin."""

    lengths: str | None
    offsets: str | None
    sequence_column: str | None

    def arguments(self, model: Any, remembered: bool = False) -> dict[str, Any]:
        """Keyword arguments of a model's methods that say where sequences begin; refused by models of independent rows.

        With `remembered` and no option, the name that the model remembers: for data that is opened without the model.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if given and not model.structure.is_sequential:
            name = next(iter(given)).replace("_", "-")
            raise click.UsageError(f"--{name} is for models of sequences; this is a {type(model).__name__}")
        return given or (dict(getattr(model, "sequences_by_", {})) if remembered else {})


def sequence_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one argument ``sequences``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        said = SequencesSaid(**{field.name: options.pop(field.name) for field in fields(SequencesSaid)})
        return command(*arguments, sequences=said, **options)

    return functools.reduce(lambda decorated, option: option(decorated), OPTIONS, collected)


OPTIONS = (
    click.option("--sequence-column", metavar="NAME", help="Column that identifies the sequence of each row."),
    click.option("--offsets", metavar="NAME", help="First rows of sequences: an array beside the data, or a file."),
    click.option("--lengths", metavar="FILE", help="Steps of each sequence (.npy or Zarr). [default: one sequence]"),
)


def emission(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """What a state emits, checked.

    Raises
    ------
    BadParameter : none of `EMISSIONS`
    """
    if (
        value is None
        or GAUSSIAN.fullmatch(value)
        or MIXTURE.fullmatch(value)
        or value in ("categorical", "poisson", "bernoulli")
    ):
        return value
    raise click.BadParameter(f"{value!r} is none of {EMISSIONS}")


def covariates(_: click.Context, __: click.Parameter, value: str | None) -> list[str | int] | None:
    """Columns between commas; a whole number is a position."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    return [int(name) if name.isdigit() else name for name in names]


def make_hmm(emission: str, components: int, reg_covar: float, settings: dict[str, Any]) -> Any:
    """The estimator of an emission in words."""
    if gaussian := GAUSSIAN.fullmatch(emission):
        return library.GaussianHMM(components, gaussian[1], reg_covar=reg_covar, **settings)
    if mixture := MIXTURE.fullmatch(emission):
        return library.GMMHMM(components, int(mixture[1]), reg_covar=reg_covar, **settings)
    discrete: dict[str, Any] = {
        "categorical": library.CategoricalHMM,
        "poisson": library.PoissonHMM,
        "bernoulli": library.BernoulliHMM,
    }
    return discrete[emission](components, **settings)


@click.command("hmm")
@click.argument("data", type=click.Path())
@click.option("-k", "--components", type=click.IntRange(1), required=True, help="Number of states.")
@model_output_option
@click.option(
    "--emission",
    callback=emission,
    default="gaussian-diag",
    show_default=True,
    metavar="WHAT",
    help=f"What a state emits: {EMISSIONS}.",
)
@click.option("--topology", type=click.Choice(["ergodic", "left-right"]), default="ergodic", show_default=True)
@click.option(
    "--transition-covariates",
    callback=covariates,
    metavar="NAMES",
    help="Columns that drive the transitions out of each step: names, or positions from 0 on, between commas.",
)
@click.option("--durations", type=click.Choice(["poisson", "negative-binomial"]), help="How long states last.")
@click.option("--max-duration", type=click.IntRange(2), default=100, show_default=True, help="Ages of a state.")
@click.option("--tol", type=float, default=1e-4, show_default=True, help="Nats per row.")
@click.option("--stopping", type=click.Choice(["change", "aitken"]), default="aitken", show_default=True)
@click.option("--reg-covar", type=float, default=0.0, show_default=True)
@click.option("--max-iter", type=click.IntRange(0), default=100, show_default=True)
@click.option("--n-init", type=click.IntRange(1), default=1, show_default=True)
@start_option("start")
@algorithm_option()
@missing_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result repeatable.")
@click.option("--weight", help="Weights of sequences: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every iteration here; resume if it exists.")
@sequence_options
@reading_options
@click.pass_context
def fit_hmm(
    ctx: click.Context,
    /,
    data: Place,
    components: int,
    output: Place,
    emission: str,
    reg_covar: float,
    max_iter: int,
    algorithm: str | None,
    seed: int | None,
    weight: Place | None,
    checkpoint: Place | None,
    sequences: SequencesSaid,
    reading: ReadingOptions,
    **settings: Any,
) -> None:
    """Hidden Markov model of the sequences in DATA."""
    require_writable(output, checkpoint)
    settings |= {"random_state": seed, "n_iter": max_iter, "verbose": verbosity(ctx), **reading.settings}
    model = make_hmm(emission, components, reg_covar, settings)
    with reading.opened(data, weight, sequences.arguments(model)) as (source, arguments):
        model.fit(source, checkpoint=checkpoint, algorithm=algorithm, **arguments)
    model.save(output)
    told = f"{counted(components, 'state')} of {counted(model.n_features_in_, 'feature')}"
    click.echo(f"{output}: {told}, {how_it_ended(model, algorithm)}")
