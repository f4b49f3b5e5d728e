"""Where EM starts: a uniform sample, and responsibilities on it."""

from streamem.initialization.ordered import in_order
from streamem.initialization.responsibilities import DISCRETE_STARTS, STARTS, Start
from streamem.initialization.sampling import drawn_rows, located_in_source, sample_rows

__all__ = ["DISCRETE_STARTS", "STARTS", "Start", "drawn_rows", "in_order", "located_in_source", "sample_rows"]
