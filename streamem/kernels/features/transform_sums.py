"""What passes over features that are functions of columns work with."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from streamem.kernels.features.feature_sums import FeatureSums
from streamem.kernels.features.transforms import FeatureTable

Array = NDArray[Any]


class TransformSums(NamedTuple):
    """Products of features that are filled from a table.

    Attributes
    ----------
    linear : products whose z is [1, T(x)]
    table : the features T
    columns : buffer for the columns of a block
    """

    linear: FeatureSums
    table: FeatureTable
    columns: Array
