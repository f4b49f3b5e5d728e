"""Where EM starts: a uniform sample, and responsibilities on it."""

from streamem.initialization.responsibilities import STARTS
from streamem.initialization.sampling import sample_rows

__all__ = ["STARTS", "sample_rows"]
