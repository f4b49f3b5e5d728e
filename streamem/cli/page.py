"""A page that tells of a model somebody who was not there: one HTML file, with its pictures, without network."""

from __future__ import annotations

import base64
import importlib.util
import io
import time
import warnings
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from streamem import __version__, plots
from streamem.cli import library
from streamem.core import html
from streamem.core.counting import counted
from streamem.core.errors import StreamemError
from streamem.machine.importing import uninterrupted
from streamem.plots.axes import axes_of

MOST_NUMBERS = 2_000
"""Numbers of an array of parameters that are shown."""
MOST_COMPONENTS = 200
VANISHING = 0.1
"""A component with less than this part of an equal share is named."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 0 auto; max-width: 62rem;
  padding: 1rem 1.25rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
table { font-size: 0.9rem; } td, th { overflow-wrap: normal; } tbody tr:nth-child(odd) { background: #f5f7fa; }
th { border-bottom: 1px solid #999; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; } figcaption { color: #555; }
pre { background: #f5f7fa; padding: 0.75rem; overflow-x: auto; font-size: 0.9rem; }
summary { cursor: pointer; } .warning { border-left: 4px solid #d18b00; background: #fff6e0; padding: 0.4rem 0.75rem;
  margin: 0.4rem 0; } .fine { border-left: 4px solid #3a8f4d; background: #eef8f0; padding: 0.4rem 0.75rem; }
footer { margin-top: 3rem; color: #555; font-size: 0.85rem; }
"""


def page_of(model: Any, place: Any, history: Any) -> str:
    """The page as HTML.

    Parameters
    ----------
    model : fitted estimator
    place : of its file: a path of this machine, or an address
    history : file or address of a stream's updates, or None
    """
    facts = model.describe().split("\n\n")[0].splitlines()
    found = warnings_of(model, history)
    notes = [f"<div class='warning'>{escape(note)}</div>" for note in found]
    parts = [
        f"<h1>{escape(_name(place))}</h1>",
        *map(html.paragraph, facts),
        "<h2>Is anything wrong?</h2>",
        *(notes or ["<div class='fine'>Nothing that the model file tells.</div>"]),
        f"<h2>{'States' if hasattr(model, 'transmat_') else 'Components'}</h2>",
        library.components_in_html(model, model._now(), MOST_COMPONENTS),
        *_pictures(model, history),
        "<h2>The fit</h2>",
        model.report_._repr_html_(),
        "<h2>Parameters</h2>",
        *_parameters(model),
        html.details("settings", _settings(model)),
        "<h2>How to use it</h2>",
        f"<pre>{escape(_use(model, place))}</pre>",
        f"<footer>{escape(_origin(place))}</footer>",
    ]
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(_name(place))}: {escape(type(model).__name__)}</title><style>{STYLE}</style>"
    )
    return f"<!doctype html>\n<html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def warnings_of(model: Any, history: Any = None) -> list[str]:
    """Sentences about what somebody should know before the model is trusted."""
    found = []
    learns = getattr(model.report_, "passes", None)
    if learns and not getattr(model, "converged_", True):
        found.append(f"The fit ended after {counted(model.n_iter_, 'iteration')} before it had converged.")
    found += [f"{line[:1].upper()}{line[1:]}." for line in library.events_in_words(model.report_.events)]
    weights = np.asarray(getattr(model, "weights_", 0.0))
    if weights.ndim == 1:
        small = np.flatnonzero(weights < VANISHING / len(weights))
        if small.size:
            named = ", ".join(map(str, small[:20])) + (" …" if small.size > 20 else "")
            found.append(f"Components of less than a tenth of an equal share: {named}.")
    starts = _ends_of_starts(model)
    if len(starts) > 1 and max(starts) - min(starts) > 1e-3:
        found.append(
            f"{len(starts)} starts ended in different maxima, from {min(starts):.6g} to {max(starts):.6g} nats per "
            "row; the best is kept."
        )
    if history is not None:
        alarms = [at for at, raised in zip(*_alarms(history), strict=True) if raised]
        if alarms:
            found.append(f"Drift: {len(alarms)} alarm{'s' * (len(alarms) > 1)}, the last after {alarms[-1]:,} rows.")
    return found


def _ends_of_starts(model: Any) -> list[float]:
    """The log-likelihood of the last pass of each start."""
    ends = {record.start: record.log_likelihood for record in model.report_.passes}
    return list(ends.values())


def _alarms(history: Any) -> tuple[list[int], list[bool]]:
    table = library.history_table(history)
    return table.column("rows").to_pylist(), table.column("drift").to_pylist()


def _pictures(model: Any, history: Any) -> list[str]:
    """Figures as images within the page; a sentence where they cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        return [html.paragraph("Pictures need matplotlib: pip install 'streamem[plot]'.")]
    wanted: list[tuple[str, str, Callable[[], Any]]] = []
    codes, alone = hasattr(model, "n_categories_"), not model.structure.is_sequential
    if np.ndim(getattr(model, "weights_", 0.0)) == 1 and alone and not codes:  # points of codes lie on each other
        wanted.append(("What each component emits", "components", lambda: plots.plot_components(model)))
    if model.report_.passes:
        wanted.append(("How the log-likelihood rose", "convergence", lambda: plots.plot_convergence(model)))
        wanted.append(("Where the time went", "time", lambda: plots.plot_report(model)))
    if hasattr(model, "transmat_"):
        wanted.insert(0, ("From state to state", "transitions", lambda: _transitions(model)))
    if history is not None:
        wanted.append(("What the stream taught", "history", lambda: plots.plot_history(history)[0]))
    figures = [_figure(title, name, draw) for title, name, draw in wanted]
    return ["<h2>Pictures</h2>", *figures] if figures else []


def _figure(title: str, name: str, draw: Callable[[], Any]) -> str:
    with uninterrupted():
        import matplotlib as mpl
        from matplotlib import pyplot

    settings = {"svg.hashsalt": name, "svg.fonttype": "path", "savefig.facecolor": "white"}
    try:
        with warnings.catch_warnings(), mpl.rc_context({**settings, "backend": "Agg"}):
            warnings.simplefilter("ignore")
            figure = draw().figure
            written = io.BytesIO()
            figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
    except StreamemError as error:
        return html.paragraph(f"{title}: no picture ({error}).")
    image = base64.b64encode(written.getvalue()).decode()
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f"<img alt='{escape(title)}' src='data:image/svg+xml;base64,{image}'></figure>"
    )


def _transitions(model: Any) -> Any:
    """The matrix of transitions, with its numbers where there are few."""
    moves = np.asarray(model.transmat_)
    ax = axes_of(None, (5.2, 4.4))
    image = ax.imshow(moves, vmin=0, vmax=1, cmap="Blues")
    if len(moves) <= 10:
        for (i, j), value in np.ndenumerate(moves):
            ax.text(j, i, f"{value:.3f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    ax.set_xlabel("to state")
    ax.set_ylabel("from state")
    ax.set_title("probability of each step")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax)
    return ax


def _parameters(model: Any) -> list[str]:
    """Each public array, folded."""
    shown: Mapping[str, Any] = model._published
    found = []
    for name in sorted(shown):
        value = shown[name]
        if not isinstance(value, np.ndarray):
            found.append(html.details(name, f"<pre>{escape(str(value)[:20_000])}</pre>"))
            continue
        text = np.array2string(value, precision=6, threshold=MOST_NUMBERS, edgeitems=3, max_line_width=100)
        shape = " × ".join(map(str, value.shape))
        found.append(html.details(f"{name} ({shape or 'a number'})", f"<pre>{escape(text)}</pre>"))
    return found


def _settings(model: Any) -> str:
    return html.table(["setting", "value"], [[name, repr(v)[:300]] for name, v in model.get_params(deep=False).items()])


def _use(model: Any, place: Any) -> str:
    kind = type(model).__name__
    names = [str(name) for name in getattr(model, "feature_names_in_", [])]
    needs = (
        f"columns {', '.join(names[:12])}{' …' if len(names) > 12 else ''}"
        if names
        else f"{model.n_features_in_} columns"
    )
    by = "".join(f", and sequences by {way} {name!r}" for way, name in getattr(model, "sequences_by_", {}).items())
    return (
        f"from streamem import {kind}\n\n"
        f"model = {kind}.load({_name(place)!r})\n"
        f'labels = model.predict("new.parquet")  # {needs}{by}\n\n'
        f"streamem predict {_name(place)} new.parquet -o labels.parquet"
    )


def _name(place: Any) -> str:
    return place.name if isinstance(place, Path) else str(place)


def _origin(place: Any) -> str:
    by = f"Page by streamem {__version__}."
    if not isinstance(place, Path):
        return f"{place}. {by}"
    written = time.strftime("%Y-%m-%d %H:%M", time.gmtime(place.stat().st_mtime))
    return f"{place.name}, {place.stat().st_size:,} bytes, last written {written} UTC. {by}"
