"""The options of every command that reads data: what to read, within which limits, where to run."""

from __future__ import annotations

import functools
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from streamem.cli import library
from streamem.cli.stores import Place, storage_option
from streamem.machine.importing import uninterrupted

CLUSTER = re.compile(r"local(?::([1-9]\d*))?")
CONNECT_S = 10


@dataclass(frozen=True)
class ReadingOptions:
    """The user's options about the data and the machines."""

    columns: list[str] | None
    feature_axis: int | str | None
    memory: str | None
    threads: int | None
    missing_chunks: str
    cluster: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """Hyperparameters that follow from the options."""
        return {"memory_limit": self.memory, "n_threads": self.threads}

    @contextmanager
    def opened(
        self, data: Place, weight: Place | None = None, sequences: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The data as X, and the arguments that say how to read X and where to run.

        `sequences` are arguments that say where sequences begin.
        """
        with ExitStack() as closing:
            executor = "threads" if self.cluster is None else closing.enter_context(connected(self.cluster))
            arguments: dict[str, Any] = {} if weight is None else {"sample_weight": weight}
            source = data
            if self.missing_chunks == "fill":
                source, arguments = self._filled(source, weight, sequences or {}), {}
            else:
                chosen = {"columns": self.columns, "feature_axis": self.feature_axis}
                arguments |= {name: value for name, value in chosen.items() if value is not None}
                arguments |= sequences or {}
            yield source, {**arguments, "executor": executor}

    def _filled(self, data: Place, weight: Place | None, sequences: Mapping[str, Any]) -> Any:
        """The source opened with absent Zarr chunks as fill values."""
        options = library.ReadOptions(
            columns=None if self.columns is None else tuple(self.columns),
            feature_axis=self.feature_axis,
            chunk_bytes=library.Budget.of(self.memory).chunk_bytes,
            missing_chunks="fill",
        )
        if sequences:
            return library.open_sequences(data, weight=weight, options=options, **sequences)
        return library.open_source(data, weight=weight, options=options)


unseen_option = click.option(
    "--unseen",
    type=click.Choice(["error", "missing"]),
    default="error",
    show_default=True,
    help="Categories that DATA does not hold, in later data: an error, or missing (with --missing integrate).",
)
missing_option = click.option(
    "--missing",
    type=click.Choice(["error", "integrate"]),
    default="error",
    show_default=True,
    help="Values that were not observed (NaN, null, masked): an error, or integrated over.",
)


def _names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    if value is not None and ctx.params.get("missing_chunks") == "fill":
        raise click.UsageError("--noise-columns does not go together with --missing-chunks fill")
    return _split(ctx, parameter, value)


noise_columns_option = click.option(
    "--noise-columns",
    callback=_names,
    metavar="A,B,C",
    help="Columns that hold the variances of the noise of each row, in the order of the features.",
)


def noise_of(model: Any, names: list[str] | None) -> dict[str, Any]:
    """The argument `noise` of a model's methods, if there are such columns; refused by models without.

    Raises
    ------
    UsageError : another model than a Gaussian mixture
    """
    if names is None:
        return {}
    if not isinstance(model, library.GaussianMixture):
        raise click.UsageError(f"--noise-columns is for Gaussian mixtures; this is a {type(model).__name__}")
    return {"noise": names}


@contextmanager
def connected(cluster: str) -> Iterator[Any]:
    """A client of a running scheduler, or of a cluster of this machine's processes that ends with the command."""
    with uninterrupted():
        from distributed import Client, LocalCluster

    local = CLUSTER.fullmatch(cluster)
    with ExitStack() as closing:
        if local:
            workers = None if local[1] is None else int(local[1])
            address: Any = closing.enter_context(
                LocalCluster(n_workers=workers, dashboard_address=None, silence_logs=logging.ERROR)
            )
        else:
            address = _address(cluster)
            _require_listening(address)
        yield closing.enter_context(Client(address, set_as_default=False))


def _address(cluster: str) -> str:
    """A scheduler's address, checked before a client is made: a client that cannot connect keeps the process alive."""
    if cluster.endswith(".json"):
        try:
            address = str(json.loads(Path(cluster).read_text())["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise click.ClickException(f"{cluster} is no scheduler file: {error!r}") from error
    else:
        address = cluster
    try:
        host, port = address.rpartition("://")[2].rsplit(":", 1)
        if host in ("", "local") or (":" in host and not host.startswith("[")):
            raise ValueError(cluster)
        int(port)
    except ValueError as error:
        raise click.BadParameter(
            f"{cluster!r} is none of tcp://host:port, a scheduler file (.json), local, local:WORKERS (at least 1)",
            param_hint="--cluster",
        ) from error
    return address


def _require_listening(address: str) -> None:
    scheme, _, place = address.rpartition("://")
    if scheme not in ("", "tcp", "tls"):
        return  # of other transports only Dask knows how to ask
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise click.ClickException(
            f"no Dask scheduler answers at {address}: {error}; start one with `dask scheduler`, or pass --cluster local"
        ) from error


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one argument ``reading``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        reading = ReadingOptions(**{field.name: options.pop(field.name) for field in fields(ReadingOptions)})
        return command(*arguments, reading=reading, **options)

    return functools.reduce(lambda decorated, option: option(decorated), OPTIONS, collected)


def _split(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",")]


def _axis(_: click.Context, __: click.Parameter, value: str | None) -> int | str | None:
    if value is None:
        return None
    return int(value) if value.lstrip("-").isdigit() else value


OPTIONS = (
    storage_option,
    click.option(
        "--cluster",
        metavar="WHERE",
        help="Run on a Dask cluster: tcp://host:8786, a scheduler file (.json), local, or local:WORKERS.",
    ),
    click.option(
        "--missing-chunks",
        type=click.Choice(["error", "fill"]),
        default="error",
        show_default=True,
        help="What to do about chunks that a Zarr store does not hold.",
    ),
    click.option("--threads", type=click.IntRange(1), help="Without a cluster. [default: all cores]"),
    click.option("--memory", metavar="SIZE", help="Memory limit, such as 1GiB. [default: half of what is free]"),
    click.option("--feature-axis", callback=_axis, metavar="AXIS", help="Axis of an array that holds the features."),
    click.option("--columns", callback=_split, metavar="A,B,C", help="Feature columns. [default: all, or as fitted]"),
)
