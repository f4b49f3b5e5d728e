"""A fitted estimator as text for people."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.counting import counted
from streamem.running.fitted import Fitted

SHOWN_NAMES, SHOWN_PARTITIONS = 12, 4


def in_short(values: NDArray[Any], most: int = 8) -> str:
    """The first numbers of an array, for a line of text."""
    flat = np.ravel(values)
    return " ".join(f"{value:.6g}" for value in flat[:most]) + (" …" if len(flat) > most else "")


def facts_in_words(settings: Any, fitted: Fitted, n_parameters: int) -> list[str]:
    """A line each: what the model is, its features, what is missing, how sequences are told, and how it came."""
    structure, face, shape = settings.structure, settings.face, fitted.shape
    features = 0 if shape is None else shape.features
    names = [] if shape is None or shape.names is None else [str(name) for name in shape.names]
    kind = face.kind(settings)
    return [
        f"{type(settings).__name__}: {structure.headline(settings, features)}, {f'{kind}, ' if kind else ''}"
        f"{counted(n_parameters, 'free parameter')}",
        f"features: {', '.join(names[:SHOWN_NAMES])}{' …' if len(names) > SHOWN_NAMES else ''}"
        if names
        else "features: unnamed",
        *(["missing values are integrated over"] if settings.missing == "integrate" else []),
        *([] if shape is None else [f"sequences by {way} {name!r}" for way, name in shape.sequences.items()]),
        *_how_it_came(fitted),
    ]


def description(settings: Any, fitted: Fitted, n_parameters: int) -> str:
    """What the model is, how it came, its components, and the report of its fit."""
    assert fitted.state is not None
    head, face = facts_in_words(settings, fitted, n_parameters), settings.face
    params = fitted.state.params
    table = settings.structure.table(params, face.words(settings, params.components), face.title)
    return "\n".join([*head, "", *table, "", *([] if fitted.report is None else [str(fitted.report)])])


def _how_it_came(fitted: Fitted) -> list[str]:
    """How the model came about: iterations over data at rest, mini-batches or by hand, and the position in streams."""
    state = fitted.state
    assert state is not None
    if state.memory is not None and fitted.learns_online:
        lines = [
            f"online for {float(state.memory.batches):,.0f} mini-batches, knows as much as "
            f"{1.0 / float(state.memory.crowding):,.0f} rows tell, the last was predicted at "
            f"{state.last_known:.6g} nats per row"
        ]
        for name, positions in ({} if fitted.stream is None else fitted.stream.positions).items():
            text = ", ".join(
                f"{part} {where}".strip() for part, (where, _) in list(positions.items())[:SHOWN_PARTITIONS]
            )
            lines.append(f"stream {name}: {text[:200]}")
        return lines
    if not state.trace and state.log_likelihood is None:
        return ["set by hand"]
    ended = "converged" if state.converged else "not converged"
    return [
        f"{ended} after {counted(state.iteration, 'iteration')}, log-likelihood {state.last_known:.12g} nats per row"
    ]
