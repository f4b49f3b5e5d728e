"""EM variants: window and update rules over statistics. They know no model."""

from streamem.algorithms.batch import BatchEM
from streamem.algorithms.stopping import Aitken, Change, StoppingRule

__all__ = ["Aitken", "BatchEM", "Change", "StoppingRule"]
