"""The picture of what a model learned from a stream: how well it predicted, alarms, births and deaths."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamem.core.addresses import Address
from streamem.core.appended_parts import read_parts
from streamem.core.archive_reading import place_of
from streamem.core.errors import ParameterError, SourceError
from streamem.plots.axes import colour, pyplot

Array = NDArray[Any]
MOST_POINTS = 1000
"""Updates beyond which several are drawn as one, with their range."""
NEEDED = ("rows", "log_likelihood", "drift", "born", "died")


def plot_history(history: Any, *, axes: Any = None) -> Any:
    """Draw what a stream's updates say: predictive log-likelihood, alarms of drift, births and deaths of components.

    Above, how well each mini-batch was predicted before it was learned, in nats per row, and the alarms. Of more than
    1,000 updates, the mean of as many groups is drawn and their range shaded. Below, components whose share of the data
    rose above a tenth of an equal one, and that fell below it.

    Parameters
    ----------
    history : estimator that learned from a stream; or its `history_`; or the path or address that ``history=`` wrote to
    axes : two matplotlib axes, or None for new ones

    Returns
    -------
    array of two matplotlib axes

    Raises
    ------
    ParameterError : no updates, or something that is no history
    SourceError : a file that cannot be read

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.plots import plot_history
    >>> hours = (np.arange(500.0)[:, None] % 7 + hour for hour in range(6))
    >>> gm = GaussianMixture(1).fit_stream(hours, batch_rows=500)
    >>> plot_history(gm)[0].get_ylabel()
    'nats per row'
    """
    table = history_table(history)
    rows, values = (np.asarray(table.column(name).to_numpy()) for name in ("rows", "log_likelihood"))
    if axes is None:
        figure = {"figsize": (8.0, 4.8), "layout": "constrained", "sharex": True, "height_ratios": (3, 1)}
        axes = pyplot().subplots(2, 1, **figure)[1]
    _likelihood(axes[0], rows.astype(np.float64), values.astype(np.float64))
    alarms = rows[np.asarray(table.column("drift").to_numpy(zero_copy_only=False), dtype=bool)]
    for i, at in enumerate(alarms):
        axes[0].axvline(at, color="C3", linewidth=1.0, linestyle="--", label=None if i else f"drift ({len(alarms)})")
    axes[0].set_title(f"{len(rows):,} updates, {rows[-1]:,} rows")
    axes[0].legend(frameon=False)
    _lives(axes[1], rows, table)
    axes[1].set_xlabel("rows learned")
    return axes


def history_table(history: Any) -> pa.Table:
    """The updates of an estimator, of a table, or of what ``history=`` wrote, a file or in a store, one a row.

    Raises
    ------
    ParameterError : no updates, or something that is no history
    SourceError : a file that cannot be read
    """
    if hasattr(history, "history_"):
        history = history.history_
    if isinstance(history, str | os.PathLike):
        place = place_of(history)
        history = _stored(place) if isinstance(place, Address) else _read(os.fspath(place))
    names = getattr(history, "column_names", ())
    if missing := [name for name in NEEDED if name not in names]:
        raise ParameterError(
            f"this is no history of a stream, it has no {', '.join(missing)}: pass an estimator, its history_, or the "
            "file that history= wrote"
        )
    if not history.num_rows:
        raise ParameterError("no updates to draw: the model has learned nothing from a stream or partial_fit")
    return history


def _stored(address: Address) -> pa.Table:
    try:
        return read_parts(address)
    except FileNotFoundError as error:
        raise SourceError(str(error)) from error


def _read(path: str) -> pa.Table:
    """The updates of a file, up to where it ends; one that still grows may end within an update."""
    batches: list[Any] = []
    try:
        with pa.OSFile(path) as file, pa.ipc.open_stream(file) as reader:
            try:
                batches.extend(reader)
            except (pa.ArrowException, OSError):
                if not batches:
                    raise
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} cannot be read as an Arrow stream: {error}") from error


def _likelihood(ax: Any, rows: Array, values: Array) -> None:
    if len(rows) > MOST_POINTS:
        groups = np.array_split(np.arange(len(rows)), MOST_POINTS)
        low, high = (np.array([edge(values[group]) for group in groups]) for edge in (np.nanmin, np.nanmax))
        rows, values = rows[[group[-1] for group in groups]], np.array([np.nanmean(values[group]) for group in groups])
        ax.fill_between(rows, low, high, color="C0", alpha=0.2, linewidth=0, label="range")
    ax.plot(rows, values, color="C0", linewidth=1.2, label="log-likelihood of the next mini-batch")
    ax.set_ylabel("nats per row")


def _lives(ax: Any, rows: Array, table: pa.Table) -> None:
    """Births and deaths, a line a component."""
    for name, marker, shade in (("born", "^", "C2"), ("died", "v", "C3")):
        lists = table.column(name).to_pylist()
        events = [(at, k) for at, found in zip(rows, lists, strict=True) for k in found or ()]
        if events:
            at, components = zip(*events, strict=True)
            ax.plot(at, components, marker=marker, color=shade, linestyle="", label=f"{name} ({len(events)})")
    ax.set_ylabel("component")
    if ax.lines:
        seen = sorted({int(k) for line in ax.lines for k in line.get_ydata()})
        ax.set_yticks(seen if len(seen) <= 8 else seen[:: -(-len(seen) // 8)])
        ax.set_ylim(seen[0] - 0.7, seen[-1] + 0.7)
        ax.legend(loc="best", fontsize="small")
    else:
        ax.set_yticks([])
        ax.text(
            0.5, 0.5, "no component was born or died", transform=ax.transAxes, ha="center", va="center", color=colour(7)
        )
