"""Where EM starts: a uniform sample, and responsibilities on it."""

from streamem.initialization.ordered import in_order
from streamem.initialization.responsibilities import DISCRETE_STARTS, SHORT_EM, STARTS, Start
from streamem.initialization.sampling import drawn_rows, located_in_source, sample_rows
from streamem.initialization.short_runs import best_of_short_runs

__all__ = [
    "DISCRETE_STARTS",
    "SHORT_EM",
    "STARTS",
    "Start",
    "best_of_short_runs",
    "drawn_rows",
    "in_order",
    "located_in_source",
    "sample_rows",
]
