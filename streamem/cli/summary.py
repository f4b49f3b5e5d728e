"""``streamem summary``: parameters with standard errors and intervals."""

from __future__ import annotations

import json
from math import isnan

import click

from streamem.cli import library
from streamem.cli.reading import ReadingOptions, noise_columns_option, noise_of, reading_options
from streamem.cli.responses import response_of, response_option
from streamem.cli.sequences import SequencesSaid, sequence_options
from streamem.cli.stores import Place


@click.command()
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option(
    "--method",
    type=click.Choice(["observed", "opg", "sandwich"]),
    default="observed",
    show_default=True,
    help="Observed information, outer products of scores, or both.",
)
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@noise_columns_option
@response_option()
@sequence_options
@reading_options
def summary(
    model: Place,
    data: Place,
    method: str,
    response: Place | None,
    weight: Place | None,
    as_json: bool,
    noise_columns: list[str] | None,
    sequences: SequencesSaid,
    reading: ReadingOptions,
) -> None:
    """Parameters of MODEL with standard errors and 95 % intervals, from the DATA that it was fitted to."""
    fitted = library.load_model(model).set_params(**reading.settings)
    with reading.opened(data, weight, sequences.arguments(fitted, reading.missing_chunks == "fill")) as (
        source,
        arguments,
    ):
        arguments |= {**noise_of(fitted, noise_columns), **response_of(fitted, response)}
        found = fitted.summary(source, method=method, **arguments)
    if not as_json:
        click.echo(str(found))
        return
    errors, lines = found.errors, found.table.to_pylist()
    for line in lines:
        line.update({name: None for name, value in line.items() if isinstance(value, float) and isnan(value)})
    facts = {"log_likelihood": errors.log_likelihood, "weight": errors.weight, "passes": errors.passes}
    click.echo(json.dumps({**facts, "problems": list(errors.problems), "parameters": lines}))
