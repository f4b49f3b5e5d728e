"""Pictures of fitted models, drawn with matplotlib (``pip install 'streamem[plot]'``), imported when asked for.

Each function draws on the axes that it is given, or on new ones, and returns them; axes have units, a title, a legend.
"""

from streamem.plots.components import plot_components
from streamem.plots.convergence import plot_convergence
from streamem.plots.selection import plot_selection
from streamem.plots.states import plot_states

__all__ = ["plot_components", "plot_convergence", "plot_selection", "plot_states"]
