"""The picture of a `Selection`: its criterion against a hyperparameter."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from streamem.core.errors import MissingDependencyError
from streamem.estimators.selection import WORDS, Candidate
from streamem.machine.importing import import_whole


def plot(selection: Any, candidates: Sequence[Candidate], ax: Any) -> Any:
    """Draw it on `ax`, or on new axes; see `Selection.plot`."""
    if ax is None:
        try:
            pyplot = import_whole("matplotlib.pyplot")
        except ImportError as error:
            raise MissingDependencyError("plot() needs matplotlib: pip install 'streamem[plot]'") from error
        ax = pyplot.subplots(figsize=(7, 4.2), layout="constrained")[1]
    fits = [one for one in candidates if one.error is None]
    along = next((name for name in fits[0].point if all(_is_number(one.point[name]) for one in fits)), None)
    lines: dict[str, tuple[list[Any], list[float]]] = {}
    for i, one in enumerate(fits):
        rest = ", ".join(f"{value}" for name, value in one.point.items() if name != along)
        places, values = lines.setdefault(rest, ([], []))
        places.append(i if along is None else one.point[along])
        values.append(one.value(selection.criterion))
    for label, (places, values) in lines.items():
        ax.plot(places, values, marker="o", markersize=4, label=label or None)
    best = candidates[selection.best_index_]
    place = fits.index(best) if along is None else best.point[along]
    ax.plot([place], [selection.best_score_], marker="o", markersize=12, mfc="none", mec="black", ls="", label="best")
    ax.set_xlabel(along or "candidate")
    ax.set_ylabel(WORDS[selection.criterion])
    better = "larger" if selection.criterion == "held-out" else "smaller"
    ax.set_title(f"{type(best.estimator).__name__}: {better} is better")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    return ax


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
