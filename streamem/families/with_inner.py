"""`WithInner`: a family that holds another one, and knows of data and of missing values what that one knows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

from numpy.typing import NDArray

from streamem.core.ports import Family, FullFamily, full_family

Array = NDArray[Any]


class WithInner(FullFamily):
    """A family whose columns, surveys, priors and missing values are those of `family`."""

    def __init__(self, family: Family) -> None:
        self.family = full_family(family)

    def _of(self, family: Family) -> Self:
        """This around another family; itself, if that is the same."""
        if family is self.family:
            return self
        other = copy.copy(self)
        other.family = full_family(family)
        return other

    def for_columns(
        self, n_features: int, names: Sequence[str] | None, categories: Mapping[str, Sequence[Any]] | None
    ) -> Family:
        """This around the family that knows the columns."""
        return self._of(self.family.for_columns(n_features, names, categories))

    @property
    def is_surveyed(self) -> bool:
        """Whether the family is."""
        return self.family.is_surveyed

    def survey(self, x: Array, weight: Array | None) -> Array:
        """What the family finds in rows."""
        return self.family.survey(x, weight)

    def surveyed(self, found: Sequence[Array]) -> Family:
        """This around the family that knows what was found."""
        return self._of(self.family.surveyed(found))

    @property
    def takes_codes(self) -> bool:
        """Whether the family does."""
        return self.family.takes_codes

    def counted(self, n_features: int) -> Array:
        """Which columns hold whole numbers, as the family says."""
        return self.family.counted(n_features)

    def coded(self, n_features: int) -> Array:
        """Which columns hold codes, as the family says."""
        return self.family.coded(n_features)

    @property
    def total_weight(self) -> float | None:
        """Σ weights of the rows that a prior of the family is weighed against; None as long as it does not know."""
        known: float | None = getattr(self.family, "total_weight", None)
        return known

    def weighed(self, total_weight: float | None) -> Self:
        """This around the family with its prior weighed against so much data."""
        weigh = getattr(self.family, "weighed", None)
        return self if weigh is None else self._of(weigh(total_weight))

    @property
    def allows_missing(self) -> bool:
        """Whether the family does."""
        return self.family.allows_missing

    def integrating(self) -> Family:
        """This around the family that integrates over what was not observed."""
        return self._of(self.family.integrating())

    def skipping_unseen(self) -> Family:
        """This around the family that skips codes which it has never seen."""
        return self._of(self.family.skipping_unseen())
