"""EM variants: window and update rules over statistics, step sizes, stopping rules. They know no model."""

from streamem.algorithms.batch import BatchEM
from streamem.algorithms.incremental import IncrementalEM
from streamem.algorithms.steps import HalfLife, PowerLaw, StepSize
from streamem.algorithms.stepwise import StepwiseEM, remember, went_online
from streamem.algorithms.stopping import Aitken, Change, StoppingRule

__all__ = [
    "Aitken",
    "BatchEM",
    "Change",
    "HalfLife",
    "IncrementalEM",
    "PowerLaw",
    "StepSize",
    "StepwiseEM",
    "StoppingRule",
    "remember",
    "went_online",
]
