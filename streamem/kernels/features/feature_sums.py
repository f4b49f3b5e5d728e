"""What passes over products of features work with."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from streamem.kernels.tiling import Products

Array = NDArray[Any]


class FeatureSums(NamedTuple):
    """Products of features, and the statistics that are added to.

    Attributes
    ----------
    products : natural parameters and their buffers
    resp, product : buffers for responsibilities of whole tiles (rows, K) and their product with a panel
    sums : (panels, features of a panel, K) float64
    filled : whether the one panel that there is holds the whole block from its scores to its statistics
    """

    products: Products
    resp: Array
    product: Array
    sums: Array
    filled: bool
