"""What rows may lack, marked by NaN: nothing, whole rows (steps at which nothing was observed), or single values."""

from __future__ import annotations

from enum import Enum


class Missing(Enum):
    """What of a row may be NaN."""

    NEVER = "never"
    """Nothing, and the family knows no missing values either."""
    UNDECLARED = "undeclared"
    """Nothing, and a user's own model does not say that it knows missing values."""
    NOTHING = "nothing"
    """Nothing, unless the family is asked to integrate over what is missing."""
    STEPS_ALONE = "steps alone"
    """All values of a row together, or none; the family knows no missing values."""
    STEPS = "steps"
    """All values of a row together, or none, unless the family is asked to integrate."""
    VALUES = "values"
    """Any of them: the family integrates over what was not observed."""

    @property
    def allows_nothing(self) -> bool:
        """Whether every value has to be there."""
        return self in (Missing.NEVER, Missing.UNDECLARED, Missing.NOTHING)
