"""The picture of a fit's passes: how the log-likelihood rose, start by start."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.core.errors import ParameterError
from streamem.plots.axes import axes_of, colour

LEAST = 1e-12
"""Nats per row below which a gap is drawn as this: rounding."""


def plot_convergence(estimator: Any, ax: Any = None) -> Any:
    """Draw how far each pass of each start was below the best log-likelihood, on a logarithmic scale.

    A straight line is the linear convergence of EM; its slope is the rate. A start whose line stays level
    has ended in a poorer maximum.

    Parameters
    ----------
    estimator : fitted
    ax : matplotlib axes, or None for new ones

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ParameterError : the model was set by hand, or learned from streams only, so there are no passes

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> rows = np.concatenate([np.zeros(9), np.ones(9)])[:, None] + np.linspace(0, 0.1, 18)[:, None]
    >>> gm = GaussianMixture(2, random_state=0).fit(rows)
    >>> from streamem.plots import plot_convergence
    >>> plot_convergence(gm).get_yscale()
    'log'
    """
    passes = estimator.report_.passes
    if not passes:
        raise ParameterError("no passes to draw: the model was not fitted by passes over data")
    ax = axes_of(ax)
    best = max(record.log_likelihood for record in passes)
    for start in sorted({record.start for record in passes}):
        values = np.array([record.log_likelihood for record in passes if record.start == start])
        gaps = np.maximum(best - values, LEAST)
        ax.semilogy(np.arange(1, len(values) + 1), gaps, color=colour(start), marker=".", label=f"start {start}")
    ax.set_xlabel("pass over the data")
    ax.set_ylabel("nats per row below the best")
    ax.set_title(f"{type(estimator).__name__}: log-likelihood {best:.6g} nats per row at best")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len({record.start for record in passes}) <= 10:
        ax.legend(frameon=False)
    return ax
