"""The picture of a `Selection`: its criterion against a hyperparameter."""

from __future__ import annotations

from numbers import Real
from typing import Any

from streamem.plots.axes import axes_of

WORDS = {"bic": "BIC", "aic": "AIC", "icl": "ICL", "held-out": "held-out log-likelihood per row in nats"}


def plot_selection(selection: Any, ax: Any = None) -> Any:
    """Draw the criterion against the first hyperparameter of the grid with numbers, a line for each of the others.

    Parameters
    ----------
    selection : what `streamem.select` returned
    ax : matplotlib axes, or None for new ones

    Returns
    -------
    matplotlib axes

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture, select
    >>> from streamem.plots import plot_selection
    >>> rows = np.concatenate([np.zeros(9), np.ones(9)])[:, None] + np.linspace(0, 0.1, 18)[:, None]
    >>> plot_selection(select(GaussianMixture(random_state=0), rows, n_components=[1, 2])).get_ylabel()
    'BIC'
    """
    ax = axes_of(ax)
    points, values = selection.params_, selection.scores_
    fits = [i for i, one in enumerate(selection.estimators_) if one is not None]
    along = next((name for name in points[0] if all(_is_number(points[i][name]) for i in fits)), None)
    lines: dict[str, tuple[list[Any], list[float]]] = {}
    for i in fits:
        rest = ", ".join(f"{value}" for name, value in points[i].items() if name != along)
        places, heights = lines.setdefault(rest, ([], []))
        places.append(i if along is None else points[i][along])
        heights.append(values[i])
    for label, (places, heights) in lines.items():
        ax.plot(places, heights, marker="o", markersize=4, label=label or None)
    best = selection.best_index_
    place = best if along is None else points[best][along]
    ax.plot([place], [values[best]], marker="o", markersize=12, mfc="none", mec="black", ls="", label="best")
    ax.set_xlabel(along or "candidate")
    ax.set_ylabel(WORDS[selection.criterion])
    better = "larger" if selection.criterion == "held-out" else "smaller"
    ax.set_title(f"{type(selection.best_estimator_).__name__}: {better} is better")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    return ax


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
