"""``streamem update`` and ``streamem watch``: a model file that learns from a stream."""

from __future__ import annotations

import functools
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Any

import click

from streamem.cli import library
from streamem.cli.json_log import Pulse, structured
from streamem.cli.metrics import address, served
from streamem.cli.reading import noise_columns_option, noise_of
from streamem.cli.sequences import EMISSIONS, emission, make_hmm
from streamem.cli.stores import Place, storage_option
from streamem.core.redaction import redacted

logger = logging.getLogger("streamem")
MODEL = click.argument("model", type=click.Path(dir_okay=False))


@dataclass(frozen=True)
class Learning:
    """How to learn, and what to write besides the model."""

    half_life: float | None
    batch_rows: int
    columns: str | None
    weight: str | None
    dead_letter: str | None
    poison_limit: float
    dead_letter_limit: str
    history: str | None
    drift: str
    save_every: float
    until_rows: int | None
    components: int | None
    covariance_type: str
    seed: int | None
    sequence_column: str | None
    continued: bool
    emission: str | None
    missing: str | None
    categories: dict[str, list[str]] | None
    noise_columns: list[str] | None
    response: str | None
    metrics: tuple[str, int] | None
    log_json: bool

    def run(self, path: Place, stream: Any, decoder: Any = None) -> None:
        """Update the model file from the stream until it ends, or until SIGTERM or Ctrl-C."""
        with structured(self.log_json):
            self._run(path, stream, decoder)

    def _run(self, path: Place, stream: Any, decoder: Any) -> None:
        model = self._model(path)
        if self.log_json:
            model.on_update(Pulse(self.save_every))
        before = model.report_.n_rows if hasattr(model, "report_") else 0
        sequences = {**self._sequences(model), **noise_of(model, self.noise_columns), **self._response(model)}
        with served(self.metrics, model), _stopping(model):
            model.fit_stream(
                stream,
                half_life=self.half_life,
                batch_rows=self.batch_rows,
                columns=None if self.columns is None else [name.strip() for name in self.columns.split(",")],
                sample_weight=self.weight,
                checkpoint=path,
                save_every_s=self.save_every,
                dead_letter=self.dead_letter,
                poison_limit=self.poison_limit,
                dead_letter_limit=self.dead_letter_limit,
                history=self.history,
                drift=None if self.drift == "off" else library.DriftAlarm(),
                on_drift="log" if self.drift == "off" else self.drift,
                until=self.until_rows,
                categories=self.categories,
                decoder=decoder,
                **sequences,
            )
        told, rows = _told(model, str(path), before), model.report_.n_rows
        if self.log_json:
            logger.info("%s", told, extra={"event": "end", "rows": rows, "learned": rows - before})
        else:
            click.echo(told)

    def _response(self, model: Any) -> dict[str, Any]:
        """The field of responses, where one was named; refused by models without."""
        if self.response is not None and not isinstance(model, library.MixtureOfRegressions):
            raise click.UsageError(f"--response is for regressions; this is a {type(model).__name__}")
        return {} if self.response is None else {"response": self.response}

    def _model(self, path: Any) -> Any:
        if _is_there(path):
            # Its older generations stand in if it is damaged, which `load` would refuse.
            model = library.load_newest(path)
            if self.components not in (None, model.n_components):
                raise click.ClickException(
                    f"{path} holds {model.n_components} components, not {self.components}: leave out -k to go on with "
                    "it, or name another file"
                )
            if self.missing not in (None, model.missing):
                raise click.ClickException(
                    f"{path} was learned with --missing {model.missing}, whose statistics are others: leave out "
                    "--missing to go on with it, or name another file"
                )
            return model
        if self.components is None:
            raise click.ClickException(
                f"{path}: no such model; fit one with `streamem fit gmm`, or pass -k to start from the stream alone"
            )
        settings: dict[str, Any] = {"random_state": self.seed, "missing": self.missing or "error"}
        if self.emission is not None:
            return make_hmm(self.emission, self.components, 0.0, settings)
        return library.GaussianMixture(self.components, covariance_type=self.covariance_type, **settings)

    def _sequences(self, model: Any) -> dict[str, Any]:
        """What models of sequences take besides; refused by models of independent rows."""
        given: dict[str, Any] = {} if self.sequence_column is None else {"sequence_column": self.sequence_column}
        if self.continued:
            given["continued"] = True
        goes_on = "continued" in signature(model.fit_stream).parameters
        if self.continued and model.structure.is_sequential and not goes_on:
            raise click.UsageError(
                f"--continued is for hidden Markov models and Gaussian chains; this is a {type(model).__name__}"
            )
        if given and not model.structure.is_sequential:
            name = next(iter(given)).replace("_", "-")
            raise click.UsageError(f"--{name} is for models of sequences; this is a {type(model).__name__}")
        return given


def _column_of(path: Place, learning: Learning) -> str | None:
    """The column that identifies sequences: the one that was named, else that of a model file."""
    if learning.sequence_column is not None or learning.continued or not _is_there(path):
        return learning.sequence_column
    column: str | None = getattr(library.load_newest(path), "sequences_by_", {}).get("sequence_column")
    return column


def _columns_of_rows(path: Place, columns: list[str]) -> list[str]:
    """The columns that were named, and those besides on which weights of a model file depend."""
    if not _is_there(path):
        return columns
    model = library.load_newest(path)
    found: list[str] = model.structure.columns_of_rows(model, columns)
    return found


def _is_there(model: Any) -> bool:
    """Whether there is a model file, or an older generation that stands in for it."""
    return any(map(library.is_there, library.generations(library.place_of(model))))


def _told(model: Any, path: str, before: int) -> str:
    rows = model.report_.n_rows
    learned = f"{rows - before:,} rows learned, {rows:,} in all"
    if passed := model.report_.events.get("tombstones", 0):
        learned += f", {passed:,} tombstones (messages without a value) passed over in all"
    if rows == before:
        return f"{path}: nothing new, {learned}"
    return f"{path}: {learned}, the last mini-batch predicted at {model.lower_bound_:.6g} nats per row"


@contextmanager
def _stopping(model: Any) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C ends the run in order; the second at once."""
    earlier: dict[int, Any] = {}

    def stop(number: int, _: Any) -> None:
        logger.info("stopping after this mini-batch", extra={"event": "stop"})
        signal.signal(number, earlier[number])
        model.on_update(lambda update: model.stop())  # should it not run yet
        model.stop()

    try:
        for number in (int(signal.SIGTERM), int(signal.SIGINT)):
            earlier[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread, where nobody sends signals
        earlier.clear()
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _categories(context: click.Context, parameter: click.Parameter, told: tuple[str, ...]) -> Any:
    """Values by column from NAME=A,B,…; None where nobody named any.

    Raises
    ------
    BadParameter : it is not of that form
    """
    found: dict[str, list[str]] = {}
    for text in told:
        name, equals, values = text.partition("=")
        if not (name and equals and values) or name in found:
            raise click.BadParameter(f"{text!r} is not NAME=A,B,… with each name once")
        found[name] = values.split(",")
    return found or None


def learning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one argument ``learning``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        learning = Learning(**{field.name: options.pop(field.name) for field in fields(Learning)})
        return command(*arguments, learning=learning, **options)

    return functools.reduce(lambda decorated, option: option(decorated), reversed(OPTIONS), collected)


OPTIONS = (
    click.option("--half-life", type=float, help="Rows after which what was known counts half. [default: all count]"),
    click.option("--batch-rows", type=click.IntRange(1), default=1000, show_default=True, help="Rows of a mini-batch."),
    click.option("--columns", help="Names of the features, by commas. [default: those fitted]"),
    click.option("--weight", help="Name of the field of sample weights."),
    click.option("--dead-letter", type=click.Path(dir_okay=False), help="Where unusable records go (Arrow stream)."),
    click.option("--poison-limit", type=click.FloatRange(0, 1), default=0.01, show_default=True),
    click.option(
        "--dead-letter-limit", default="1GiB", show_default=True, metavar="SIZE", help="Most that it may hold."
    ),
    click.option("--history", type=click.Path(dir_okay=False), help="One row an update (Arrow stream)."),
    click.option(
        "--drift",
        type=click.Choice(["off", "log", "reset"]),
        default="log",
        show_default=True,
        help="What to do when mini-batches are predicted far worse than before.",
    ),
    click.option("--save-every", type=click.FloatRange(0), default=10.0, show_default=True, metavar="SECONDS"),
    click.option("--until-rows", type=click.IntRange(1), help="End after so many rows. [default: with the stream]"),
    click.option("-k", "--components", type=click.IntRange(1), help="Start a new model if there is no file."),
    click.option(
        "--covariance-type", type=click.Choice(["full", "tied", "diag", "spherical"]), default="full", show_default=True
    ),
    click.option("--sequence-column", metavar="NAME", help="Field that identifies the sequence of each record."),
    click.option("--continued", is_flag=True, help="All records are steps of one endless sequence."),
    click.option(
        "--emission",
        callback=emission,
        metavar="WHAT",
        help=f"Start a new hidden Markov model that emits so: {EMISSIONS}.",
    ),
    click.option(
        "--missing",
        type=click.Choice(["error", "integrate"]),
        help="Of a new model: null and NaN are an error, or integrated over. [default: error, or that of MODEL]",
    ),
    click.option(
        "--categories",
        multiple=True,
        callback=_categories,
        metavar="NAME=A,B,…",
        help="Of a new model: all values of a field of text. [default: those that MODEL was fitted to]",
    ),
    noise_columns_option,
    click.option(
        "--response", metavar="NAME", help="Of regressions, the field that is explained. [default: as fitted]"
    ),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the start of a new model repeatable."),
    click.option(
        "--metrics",
        callback=address,
        metavar="HOST:PORT",
        help="Answer Prometheus here: rows, lag, log-likelihood, drift, dead letters, seconds since the last save.",
    ),
    storage_option,
    click.option("--log-json", is_flag=True, help="Log one JSON object a line, errors too, with an update every save."),
)


@click.command()
@MODEL
@click.argument("stream", default="-")
@click.option("--kafka", metavar="HOST:PORT", help="Read a Kafka topic; with --topic.")
@click.option("--topic", help="The topic.")
@click.option("--group", help="Share the topic's partitions with other members of this consumer group.")
@click.option("--redis", metavar="HOST:PORT", help="Read a Redis stream; with --key.")
@click.option("--key", help="The key of the Redis stream.")
@click.option("--from", "start", type=click.Choice(["beginning", "end"]), default="beginning", show_default=True)
@click.option("--name", metavar="NAME", help="Save its positions under this name. [default: kafka:TOPIC, …]")
@click.option(
    "--schema-registry",
    metavar="URL",
    envvar="STREAMEM_SCHEMA_REGISTRY",
    help="Messages are Avro or JSON, framed by this schema registry (http://user:password@host:8081).",
)
@click.option("--replayed", is_flag=True, help="The pipe starts from its beginning again: pass over what is known.")
@learning_options
def update(
    model: Place,
    stream: str,
    kafka: str | None,
    topic: str | None,
    group: str | None,
    redis: str | None,
    key: str | None,
    start: str,
    name: str | None,
    schema_registry: str | None,
    replayed: bool,
    learning: Learning,
) -> None:
    """Update MODEL from STREAM: Arrow IPC or JSON lines from a file, pipe, tcp://host:port, or standard input; or a
    broker's stream: kafka://host:9092/topic, redis://host:6379/key, nats://host:4222/STREAM?subject=orders.*

    MODEL holds the positions in the stream too: after a crash the same command goes on where it was.
    """
    if (kafka is None) != (topic is None):
        raise click.UsageError("--kafka and --topic belong together")
    if (redis is None) != (key is None):
        raise click.UsageError("--redis and --key belong together")
    if sum([stream != "-", kafka is not None, redis is not None]) > 1:
        raise click.UsageError("one stream at a time: STREAM, --kafka, or --redis")
    if name is not None and kafka is None and redis is None and not library.is_broker(stream):
        raise click.UsageError("--name is for streams of brokers; of files the path is the name")
    decoder = None if schema_registry is None else library.RegistryDecoder(schema_registry)
    source: Any = stream
    if kafka is not None and topic is not None:
        source = library.KafkaStream(kafka, topic, group=group, start=start, name=name)
    elif redis is not None and key is not None:
        source = library.RedisStream(redis, key, start=start, name=name)
    elif library.is_broker(stream):
        source = library.open_broker(stream, start)
        source.name = name or source.name
    elif stream.startswith(("http://", "https://")):
        shown = redacted(stream)
        raise click.UsageError(f"{shown} cannot be read; pipe it: curl {shown} | streamem update {model}")
    elif "://" not in stream or stream.startswith("tcp://"):
        if Path(stream).is_dir():
            raise click.UsageError(f"{stream} is a folder; use: streamem watch {stream} {model}")
        source = library.ByteStream(stream, replayed)
    learning.run(model, source, decoder)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@MODEL
@click.option("--once", is_flag=True, help="End when all files have been read.")
@learning_options
def watch(folder: str, model: Place, once: bool, learning: Learning) -> None:
    """Update MODEL from Parquet files as they appear in FOLDER."""
    columns = None if learning.columns is None else [name.strip() for name in learning.columns.split(",")]
    if columns is not None:
        beside = (learning.weight, _column_of(model, learning), learning.response, *(learning.noise_columns or ()))
        columns = [*_columns_of_rows(model, columns), *(name for name in beside if name is not None)]
    learning.run(model, library.FolderStream(folder, columns, follow=not once))
