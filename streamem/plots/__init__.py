"""Pictures of fitted models, drawn with matplotlib (``pip install 'streamem[plot]'``), imported when asked for.

Each function draws on the axes that it is given, or on new ones, and returns them; axes have units, a title, a legend.
"""

from streamem.plots.components import plot_components
from streamem.plots.convergence import plot_convergence
from streamem.plots.history import plot_history
from streamem.plots.labels import plot_labels
from streamem.plots.report import plot_report
from streamem.plots.selection import plot_selection
from streamem.plots.states import plot_states

__all__ = [
    "plot_components",
    "plot_convergence",
    "plot_history",
    "plot_labels",
    "plot_report",
    "plot_selection",
    "plot_states",
]
