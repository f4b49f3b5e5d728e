"""EM variants: window and update rules over statistics, step sizes, stopping rules. No algorithm knows a model."""

from streamem.algorithms.anderson import AndersonEM
from streamem.algorithms.auto import AutoEM
from streamem.algorithms.batch import BatchEM
from streamem.algorithms.drift import DriftAlarm
from streamem.algorithms.incremental import IncrementalEM
from streamem.algorithms.squarem import SquaredEM
from streamem.algorithms.step_sizes import HalfLife, PowerLaw, StepSize
from streamem.algorithms.stepwise import StepwiseEM, rebased, remember, weight_of, went_online
from streamem.algorithms.stopping import Aitken, Change
from streamem.core.ports import StoppingRule

__all__ = [
    "Aitken",
    "AndersonEM",
    "AutoEM",
    "BatchEM",
    "Change",
    "DriftAlarm",
    "HalfLife",
    "IncrementalEM",
    "PowerLaw",
    "SquaredEM",
    "StepSize",
    "StepwiseEM",
    "StoppingRule",
    "rebased",
    "remember",
    "weight_of",
    "went_online",
]
