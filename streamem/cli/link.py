"""``streamem link``: pairs of records with the probability that they match."""

from __future__ import annotations

import click

from streamem.cli import library
from streamem.cli.checks import algorithm_option, require_writable, verbosity
from streamem.cli.reading import ReadingOptions, reading_options, unseen_option
from streamem.cli.stores import Place
from streamem.core.counting import counted


@click.command("link")
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), required=True, help="Where to write (.parquet, .zarr, .npy).")
@click.option("--ids", help="Columns that identify the pair, separated by commas; a .parquet output holds them too.")
@click.option(
    "--levels",
    multiple=True,
    metavar="COLUMN:LEVEL,LEVEL,…",
    help="Levels of a column of text, from no agreement to full agreement. May be repeated.",
)
@click.option("--random-pairs", type=click.Path(), help="Pairs drawn at random, of which u is estimated and then kept.")
@click.option("--model", type=click.Path(dir_okay=False), help="Also write the fitted model (.npz).")
@click.option("--match-prior", type=float, default=0.01, show_default=True, help="Share of matches to start from.")
@click.option("--tol", type=float, default=1e-9, show_default=True, help="Nats per pair.")
@click.option("--max-iter", type=click.IntRange(0), default=1000, show_default=True)
@algorithm_option()
@unseen_option
@click.option("--weight", help="Sample weights: a column name, or the path of a Zarr array or .npy file.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@reading_options
@click.pass_context
def link(
    ctx: click.Context,
    /,
    data: Place,
    output: Place,
    ids: str | None,
    levels: tuple[str, ...],
    random_pairs: Place | None,
    model: Place | None,
    match_prior: float,
    tol: float,
    max_iter: int,
    algorithm: str | None,
    unseen: str,
    weight: Place | None,
    overwrite: bool,
    reading: ReadingOptions,
) -> None:
    """Match weight and match probability of every pair of records in DATA, whose columns are levels of agreement."""
    if model is not None:
        require_writable(model, None)
    linkage = library.RecordLinkage(
        match_prior_init=match_prior,
        levels=dict(map(_parted, levels)) or None,
        id_columns=ids.split(",") if ids else None,
        unseen=unseen,
        tol=tol,
        max_iter=max_iter,
        verbose=verbosity(ctx),
        **reading.settings,
    )
    if random_pairs is not None:
        with reading.opened(random_pairs) as (source, arguments):
            linkage.estimate_u(source, **arguments)
    with reading.opened(data, weight) as (source, arguments):
        linkage.fit(source, algorithm=algorithm, **arguments)
        arguments.pop("sample_weight", None)
        linkage.score_pairs(source, out=output, overwrite=overwrite, **arguments)
    if model is not None:
        linkage.save(model)
    state = "converged" if linkage.converged_ else "not converged"
    told = counted(linkage.n_features_in_, "comparison"), state, counted(linkage.n_iter_, "iteration")
    click.echo("{}: {}, {} after {}, {:.3%} of the pairs match".format(output, *told, linkage.match_prior_))


def _parted(text: str) -> tuple[str, list[str]]:
    column, colon, values = text.rpartition(":")
    if not colon or not column or not all(values.split(",")):
        raise click.BadParameter(f"{text!r} is not COLUMN:LEVEL,LEVEL,…", param_hint="--levels")
    return column, values.split(",")
