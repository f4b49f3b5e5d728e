"""The picture of a mixture's components: ellipses over two features, or densities along one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.machine.importing import import_whole
from streamem.plots.axes import axes_of, colour, feature_places

Array = NDArray[Any]
DRAWN = 20_000
"""Rows drawn from a model to show what its components look like along one feature."""
MOST_POINTS = 5_000


def plot_components(
    estimator: Any, X: Any = None, *, features: Sequence[int | str] = (0, 1), seed: int = 0, ax: Any = None
) -> Any:
    """Draw the components of a fitted mixture over two features, or along one.

    Of two features, a component with a covariance is its ellipses at one and two standard deviations (of a t
    distribution, of its scale matrix), as wide as its weight; others are points that are drawn from it. Of one feature
    every component is the histogram of rows drawn from it, of an area equal to its weight.

    Parameters
    ----------
    estimator : fitted
    X : (n, d) array-like, rows to show as grey points or as a grey histogram, or None
        At most 5,000 of them, evenly spaced, are shown.
    features : one or two, by position or name
    seed : of the rows that are drawn
    ax : matplotlib axes, or None for new ones

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ParameterError : features that the model has not, or more than two; a family that cannot draw, or no components

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> rows = np.concatenate([np.zeros(9), np.ones(9)])[:, None] + np.linspace(0, 0.1, 18)[:, None]
    >>> gm = GaussianMixture(2, random_state=0).fit(rows)
    >>> from streamem.plots import plot_components
    >>> plot_components(gm, rows).get_ylabel()
    'density × weight'
    """
    if not estimator.structure.has_components:
        raise ParameterError(f"{type(estimator).__name__} has no components to draw; plot_convergence shows its fit")
    count = int(estimator.n_features_in_)
    features = features[:1] if count == 1 else features
    if len(features) not in (1, 2):
        raise ParameterError(f"features are {tuple(features)!r}; name one or two of the {count}")
    places, names = feature_places(estimator, features)
    ax = axes_of(ax, (7.0, 4.2) if len(places) == 1 else (6.0, 5.4))
    rows = None if X is None else _few(X)
    if len(places) == 1:
        _densities(estimator, places[0], rows, seed, ax)
    else:
        _pairs(estimator, places, rows, seed, ax)
        ax.set_ylabel(names[1])
    ax.set_xlabel(names[0])
    ax.set_title(f"{type(estimator).__name__}: {len(estimator.weights_)} components")
    if len(estimator.weights_) <= 10:
        ax.legend(frameon=False)
    return ax


def _few(x: Any) -> Array:
    x = np.asarray(x, dtype=np.float64)
    return x[:: max(1, -(-len(x) // MOST_POINTS))]


def _label(estimator: Any, k: int) -> str:
    return f"{k}: {estimator.weights_[k]:.1%}"


def _densities(estimator: Any, place: int, rows: Array | None, seed: int, ax: Any) -> None:
    x, labels = _drawn(estimator, seed)
    values = x[:, place]
    low, high = np.quantile(values, [0.001, 0.999])
    whole = np.array_equal(values, np.round(values)) and high - low < 200
    bins = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.0) if whole else np.linspace(low, high, 80)
    if rows is not None:
        ax.hist(rows[:, place], bins, density=True, color="0.8", label="data")
    for k in range(len(estimator.weights_)):
        own = values[labels == k]
        if len(own):
            share = np.full(len(own), 1.0 / len(values))
            heights, edges = np.histogram(own, bins, weights=share)
            ax.stairs(heights / np.diff(edges), edges, color=colour(k), label=_label(estimator, k), linewidth=1.6)
    ax.set_ylabel("density × weight")


def _pairs(estimator: Any, places: Sequence[int], rows: Array | None, seed: int, ax: Any) -> None:
    if rows is not None:
        ax.scatter(rows[:, places[0]], rows[:, places[1]], s=7, color="0.6", linewidths=0, label="data")
    matrices = _matrices(estimator)
    if matrices is None:
        x, labels = _drawn(estimator, seed, 2000)
        for k in range(len(estimator.weights_)):
            own = x[labels == k]
            at = own[:, places[0]], own[:, places[1]]
            ax.scatter(*at, s=6, color=colour(k), alpha=0.5, linewidths=0, label=_label(estimator, k))
        return
    ellipse = import_whole("matplotlib.patches").Ellipse
    for k, matrix in enumerate(matrices):
        middle = np.asarray(estimator.means_)[k, list(places)]
        values, vectors = np.linalg.eigh(matrix[np.ix_(places, places)])
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        for times in (1.0, 2.0):
            width, height = 2 * times * np.sqrt(values[1]), 2 * times * np.sqrt(values[0])
            style = {"facecolor": "none", "edgecolor": colour(k), "linewidth": 0.8 + 3.0 * float(estimator.weights_[k])}
            ax.add_patch(ellipse(middle, width, height, angle=angle, linestyle="-" if times == 1.0 else "--", **style))
        ax.plot(*middle, marker="+", color=colour(k), label=_label(estimator, k), linestyle="")
    ax.autoscale_view()


def _matrices(estimator: Any) -> Array | None:
    """(K, d, d) covariances or scale matrices of any covariance type; None of other families."""
    found = getattr(estimator, "covariances_", getattr(estimator, "scales_", None))
    if found is None or not hasattr(estimator, "covariance_type") or not hasattr(estimator, "means_"):
        return None
    k, d = np.shape(estimator.means_)
    given = np.asarray(found, dtype=np.float64)
    if estimator.covariance_type == "full":
        return given
    if estimator.covariance_type == "tied":
        return np.broadcast_to(given, (k, d, d))
    variances = given if estimator.covariance_type == "diag" else np.repeat(given[:, None], d, axis=1)
    return variances[:, :, None] * np.eye(d)


def _drawn(estimator: Any, seed: int, rows: int = DRAWN) -> tuple[Array, Array]:
    """Rows of the model and their components; its own random state stays as it is."""
    before = estimator.random_state
    try:
        estimator.random_state = seed
        x, labels = estimator.sample(rows)
    finally:
        estimator.random_state = before
    return np.asarray(x), np.asarray(labels)
