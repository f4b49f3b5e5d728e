"""The picture of a fit's time: computing, waiting for data, and the rest, pass by pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.plots.axes import axes_of

Array = NDArray[Any]
MOST_BARS = 80
"""Passes beyond which several are drawn as one bar."""
PARTS = (("computing", "C0"), ("waiting for data", "C1"), ("M-steps, compiling, the rest", "0.75"))


def plot_report(report: Any, *, ax: Any = None) -> Any:
    """Draw where a fit's time went: a bar for each pass over the data, in seconds.

    The time that threads worked and that they waited for reads is divided among them; what remains of a pass is
    M-steps, decisions and the start of threads. Passes of several starts that share reads share the seconds, too.

    Parameters
    ----------
    report : fitted estimator, or its `report_`
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
    >>> from streamem.plots import plot_report
    >>> gm = GaussianMixture(1).fit(np.arange(8.0)[:, None])
    >>> plot_report(gm).get_xlabel()
    'pass over the data'
    """
    report = getattr(report, "report_", report)
    passes = getattr(report, "passes", None)
    if not passes:
        raise ParameterError("no passes to draw: the model was not fitted by passes over data")
    ax = axes_of(ax)
    parts = _parts(report)
    step = -(-len(parts) // MOST_BARS)
    bars = np.add.reduceat(parts, np.arange(0, len(parts), step))
    places = np.arange(len(bars)) * step + (step + 1) / 2
    below = np.zeros(len(bars))
    for (word, shade), heights in zip(PARTS, bars.T, strict=True):
        share = heights.sum() / max(parts.sum(), 1e-300)
        ax.bar(places, heights, width=0.9 * step, bottom=below, color=shade, label=f"{word}: {share:.0%}")
        below = below + heights
    ax.set_xlabel("pass over the data" if step == 1 else f"pass over the data, {step} a bar")
    ax.set_ylabel("seconds")
    ax.set_ylim(0, 1.25 * max(below.max(), 1e-9))
    rows = sum(record.rows / record.shared for record in passes)
    total = parts.sum()
    ax.set_title(f"{len(parts):,} passes in {total:.3g} s, {rows / max(total, 1e-9):,.0f} rows/s")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False, ncols=3, loc="upper center", fontsize="small", columnspacing=1.2, handlelength=1.2)
    return ax


def _parts(report: Any) -> Array:
    """(passes, 3) seconds of wall time: computing, waiting, the rest."""
    threads = max(1, int(report.setting.get("threads", report.setting.get("workers", 1)) or 1))
    found = []
    for record in report.passes:
        seconds = record.seconds / record.shared
        busy = np.array([record.compute_s, record.wait_s]) / threads / record.shared
        busy = busy * min(1.0, seconds / max(busy.sum(), 1e-300))
        found.append([*busy, max(0.0, seconds - busy.sum())])
    return np.array(found)
