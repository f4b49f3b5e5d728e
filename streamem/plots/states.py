"""The picture of one sequence: its values, and which state a hidden Markov model finds at each step."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.core.errors import ParameterError
from streamem.plots.axes import colour, feature_places, pyplot

MOST_STEPS = 20_000


def plot_states(estimator: Any, X: Any, *, feature: int | str = 0, axes: Any = None) -> Any:
    """Draw a feature of one sequence coloured by the most probable path, above the probability of every state.

    Parameters
    ----------
    estimator : fitted hidden Markov model
    X : (t, d) array-like, one sequence of at most 20,000 steps
    feature : by position or name
    axes : two matplotlib axes, or None for new ones

    Returns
    -------
    array of two matplotlib axes

    Raises
    ------
    ParameterError : no hidden Markov model, or a sequence that is too long to be seen

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianHMM
    >>> from streamem.plots import plot_states
    >>> steps = np.repeat([0.0, 5.0, 0.0], 9)[:, None] + np.linspace(0, 0.1, 27)[:, None]
    >>> axes = plot_states(GaussianHMM(2, random_state=0).fit(steps), steps)
    >>> axes[1].get_ylabel()
    'probability'
    """
    if not hasattr(estimator, "transmat_"):
        raise ParameterError(f"{type(estimator).__name__} has no states; plot_components draws mixtures")
    x = np.asarray(X)
    if len(x) > MOST_STEPS:
        raise ParameterError(f"{len(x):,} steps are too many for a picture; pass at most {MOST_STEPS:,}, X[first:stop]")
    [place], [name] = feature_places(estimator, [feature])
    path, chances = np.asarray(estimator.predict(X)), np.asarray(estimator.predict_proba(X))
    if axes is None:
        figure = {"figsize": (8.0, 4.6), "layout": "constrained", "sharex": True, "height_ratios": (2, 1)}
        axes = pyplot().subplots(2, 1, **figure)[1]
    values, steps = x[:, place].astype(np.float64), np.arange(len(x))
    axes[0].plot(steps, values, color="0.8", linewidth=0.8, zorder=1)
    for k in range(chances.shape[1]):
        own = path == k
        axes[0].scatter(steps[own], values[own], s=6, color=colour(k), linewidths=0, label=f"state {k}", zorder=2)
    axes[0].set_ylabel(name)
    axes[0].set_title(f"{type(estimator).__name__}: most probable path of {chances.shape[1]} states")
    axes[0].legend(frameon=False, markerscale=2)
    axes[1].stackplot(steps, chances.T, colors=[colour(k) for k in range(chances.shape[1])], linewidth=0)
    axes[1].set_ylim(0, 1)
    axes[1].set_ylabel("probability")
    axes[1].set_xlabel("step")
    return axes
