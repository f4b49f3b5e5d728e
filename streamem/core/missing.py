"""What rows may lack, marked by NaN: nothing, whole rows (steps at which nothing was observed), or single values."""

from __future__ import annotations

from enum import Enum


class Missing(Enum):
    """What of a row may be NaN."""

    NOTHING = "nothing"
    STEPS = "steps"
    """All values of a row together, or none."""
    VALUES = "values"
    """Any of them: the family integrates over what was not observed."""
