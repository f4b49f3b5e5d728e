"""``streamem select``: the fits of a grid in shared passes, and the best of them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, require_writable, verbosity
from streamem.cli.reading import ReadingOptions, missing_option, reading_options
from streamem.cli.sequences import EMISSIONS, SequencesSaid, emission, make_hmm, sequence_options
from streamem.cli.stores import Place, write_whole

KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "gmm": lambda settings: library.GaussianMixture(**settings),
    "student-t": lambda settings: library.StudentTMixture(**settings),
    "mixture": lambda settings: library.Mixture(**settings),
    "latent-class": lambda settings: library.LatentClass(**settings),
}
RANGE = re.compile(r"(\d+):(\d+)(?::(\d+))?")


def numbers(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    """Numbers of components in words: "2:20" (both ends included), "2:20:3", "2,4,8".

    Raises
    ------
    BadParameter : none of these
    """
    if (found := RANGE.fullmatch(value)) and int(found[3] or 1):
        counts = list(range(int(found[1]), int(found[2]) + 1, int(found[3] or 1)))
    else:
        counts = [int(word) for word in value.split(",")] if re.fullmatch(r"\d+(,\d+)*", value) else []
    if not counts or min(counts) < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers >= 1; write 2:20, 2:20:3 or 2,4,8")
    return counts


def tried(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, list[Any]]:
    """Other hyperparameters in words: "covariance_type=full,diag".

    Raises
    ------
    BadParameter : no such list
    """
    grid: dict[str, list[Any]] = {}
    for word in values:
        name, equals, listed = word.partition("=")
        if not (equals and name.isidentifier() and listed):
            raise click.BadParameter(f"{word!r} is no list of values; write covariance_type=full,diag")
        grid[name] = [_value(item) for item in listed.split(",")]
    return grid


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


@click.command("select")
@click.argument("kind", type=click.Choice([*KINDS, "hmm"]))
@click.argument("data", type=click.Path())
@click.option("-k", "--components", callback=numbers, required=True, metavar="LIST", help="2:20, 2:20:3 or 2,4,8.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="Model file of the best (.npz).")
@click.option("--try", "grid", callback=tried, multiple=True, metavar="NAME=V1,V2", help="Another hyperparameter.")
@click.option("--criterion", type=click.Choice(["bic", "aic", "icl", "held-out"]), default="bic", show_default=True)
@click.option("--held-out", type=float, default=0.1, show_default=True, help="Share that no fit sees.")
@click.option("--family", metavar="WORDS", help="Of a mixture, as in streamem fit mixture.")
@click.option("--emission", callback=emission, metavar="WHAT", help=f"Of an hmm: {EMISSIONS}.")
@click.option("--n-init", type=click.IntRange(1), help="Starts of each candidate.")
@click.option("--tol", type=float, help="Nats per row.")
@click.option("--max-iter", type=click.IntRange(1))
@algorithm_option()
@click.option("--halve-after", type=click.IntRange(5), help="Passes after which the worse half of the starts ends.")
@click.option("--table", type=click.Path(dir_okay=False), help="Also write the table of all candidates (.parquet).")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw the criterion (.png, .svg, .pdf).")
@missing_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the result repeatable.")
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="Save every pass here; resume if it exists.")
@sequence_options
@reading_options
@click.pass_context
def select(
    ctx: click.Context,
    /,
    kind: str,
    data: Place,
    components: list[int],
    output: Place,
    grid: dict[str, list[Any]],
    criterion: str,
    held_out: float,
    algorithm: str | None,
    halve_after: int | None,
    table: Place | None,
    plot: Place | None,
    weight: Place | None,
    checkpoint: Place | None,
    sequences: SequencesSaid,
    reading: ReadingOptions,
    seed: int | None,
    **settings: Any,
) -> None:
    """Fit a grid of models to DATA in shared passes, print the table, and write the best."""
    require_writable(output, checkpoint)
    given = {name: value for name, value in settings.items() if value is not None}
    tries: dict[str, Any] = {"n_components": components, **grid}
    if reading.columns is None and "family" in given:
        reading = replace(reading, columns=library.columns_of_text(given["family"]))
    model = _estimator(kind, {**given, "random_state": seed, "verbose": verbosity(ctx), **reading.settings})
    with reading.opened(data, weight, sequences.arguments(model)) as (source, arguments):
        found = library.select(
            model,
            source,
            criterion=criterion,
            held_out=held_out,
            seed=seed or 0,
            algorithm=algorithm,
            halve_after=halve_after,
            checkpoint=checkpoint,
            **arguments,
            **tries,
        )
    found.best_estimator_.save(output)
    click.echo(str(found))
    if table is not None:
        write_whole(table, _parquet(found.table))
    if plot is not None:
        write_whole(plot, _picture(found, plot))
    click.echo(f"{output}: " + ", ".join(f"{name} {value}" for name, value in found.best_params_.items()))


def _parquet(table: Any) -> bytes:
    written = io.BytesIO()
    library.write_table(table, written)
    return written.getvalue()


def _picture(found: Any, place: Place) -> bytes:
    drawn = io.BytesIO()
    found.plot().figure.savefig(drawn, format=PurePosixPath(place).suffix[1:] or None)
    return drawn.getvalue()


def _estimator(kind: str, settings: dict[str, Any]) -> Any:
    family, emitted = settings.pop("family", None), settings.pop("emission", None)
    if (family is not None) != (kind == "mixture"):
        raise click.UsageError("--family says what a mixture is of: streamem select mixture DATA --family poisson")
    if emitted is not None and kind != "hmm":
        raise click.UsageError("--emission is for hmm")
    if kind == "hmm":
        if "max_iter" in settings:
            settings["n_iter"] = settings.pop("max_iter")
        return make_hmm(emitted or "gaussian-diag", 1, 0.0, settings)
    if family is not None:
        settings["family"] = family
    return KINDS[kind](settings)
