"""``--metrics``: what a model that lives on a stream is doing, for Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from streamem.cli import library
from streamem.core.errors import MissingDependencyError
from streamem.machine.importing import import_whole

ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]/]+):(?P<port>\d{1,5})")

COUNTERS = {
    "rows": "Rows learned by the model, in all runs.",
    "updates": "Mini-batches learned in this run.",
    "records": "Records that came in this run.",
    "dead_letters": "Records of this run that could not be used.",
    "drift_alarms": "Alarms of drift in this run.",
    "components_born": "Components whose share rose above a tenth of an equal one, in this run.",
    "components_died": "Components whose share fell below a tenth of an equal one, in this run.",
}
GAUGES = {
    "log_likelihood_nats_per_row": "How well the last mini-batch was predicted before it was learned.",
    "effective_sample_size_rows": "Rows, weighed alike, of as much information as the model holds.",
    "drift": "1 if the last mini-batch raised the alarm of drift, else 0.",
    "lag_messages": "Messages (of a folder, files) that wait in the stream; absent where nobody knows.",
    "last_update_timestamp_seconds": "When the last mini-batch was learned, in seconds since 1970.",
    "seconds_since_save": "Seconds since the model was saved, or since the run began.",
}


def address(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Host and port of ``host:port``."""
    if value is None:
        return None
    found = ADDRESS.fullmatch(value)
    if found is None or int(found["port"]) > 65535:
        raise click.BadParameter(f"{value!r} is no host:port; give one, such as 127.0.0.1:9100")
    return found["host"].strip("[]"), int(found["port"])


class Watch:
    """Collects what Prometheus asks for: totals of the updates, and a look at the running stream.

    Parameters
    ----------
    model : the estimator that learns
    core : the module ``prometheus_client.core``
    """

    def __init__(self, model: Any, core: Any) -> None:
        self._model, self._core = model, core
        self._totals = dict.fromkeys(("updates", "drift_alarms", "components_born", "components_died"), 0)
        self._last: Any = None
        self._at = 0.0
        model.on_update(self.note)

    def note(self, update: Any) -> None:
        """Take note of a mini-batch."""
        self._last, self._at = update, time.time()
        self._totals["updates"] += 1
        self._totals["drift_alarms"] += update.drift
        self._totals["components_born"] += len(update.born)
        self._totals["components_died"] += len(update.died)

    def values(self) -> dict[str, float]:
        """Every number that is known now, by name."""
        found: dict[str, float] = dict(self._totals)
        if (last := self._last) is not None:
            found |= {
                "rows": last.rows,
                "log_likelihood_nats_per_row": last.log_likelihood,
                "effective_sample_size_rows": last.effective_sample_size,
                "drift": float(last.drift),
                "last_update_timestamp_seconds": self._at,
            }
        if (watched := library.followers_of(self._model).watched) is not None:
            found |= {"records": watched.came.records, "dead_letters": watched.came.refused}
            found["seconds_since_save"] = watched.seconds_since_save
            if (lag := watched.lag) is not None:
                found["lag_messages"] = lag
        return found

    def collect(self) -> Iterator[Any]:
        """The families of metrics, as prometheus_client asks for them."""
        values = self.values()
        for names, kind in ((COUNTERS, self._core.CounterMetricFamily), (GAUGES, self._core.GaugeMetricFamily)):
            for name, told in names.items():
                if name in values:
                    yield kind(f"streamem_{name}", told, value=values[name])


@contextmanager
def served(where: tuple[str, int] | None, model: Any) -> Iterator[None]:
    """Answer Prometheus at an address while the block runs; no address, no server.

    Raises
    ------
    MissingDependencyError : prometheus_client is not installed
    click.ClickException : the address cannot be used
    """
    if where is None:
        yield
        return
    try:
        client, core = import_whole("prometheus_client"), import_whole("prometheus_client.core")
    except ImportError as error:
        raise MissingDependencyError(
            "--metrics needs prometheus_client, which is not installed: pip install 'streamem[metrics]'"
        ) from error
    registry = client.CollectorRegistry()
    registry.register(Watch(model, core))
    client.ProcessCollector(registry=registry)
    host, port = where
    try:
        server, thread = client.start_http_server(port, host, registry)
    except OSError as error:
        raise click.ClickException(
            f"--metrics {host}:{port} cannot be listened at ({error}); name an address of this machine that is free"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"metrics at http://{shown}:{server.server_port}/metrics", err=True)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
