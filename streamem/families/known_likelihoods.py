"""Components whose likelihoods are given: each row holds them, one a column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.faults import flags, missing
from streamem.core.ports import FullFamily
from streamem.core.stats import Stats
from streamem.families.empty_components import empty_components, told_empty

Array = NDArray[Any]
SCALES = ("plain", "log")


class KnownLikelihoods(FullFamily):
    """Component k has the likelihood that a row says of it: rows are x (n, K), and log p_k(x) is log x_k, or x_k.

    Parameters
    ----------
    scale : "plain" for likelihoods >= 0, "log" for their logarithms, in nats
        Likelihoods may be multiplied by any number > 0, one a row: log-likelihoods then shift, weights do not.

    Notes
    -----
    Parameters: columns (K,), where in a row each component finds its likelihood. There is nothing to estimate.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.families.known_likelihoods import KnownLikelihoods
    >>> KnownLikelihoods("plain").log_prob(Params(columns=[0, 1]), np.array([[0.5, 1.0]])).round(4)
    array([[-0.6931,  0.    ]])
    """

    def __init__(self, scale: str = "plain") -> None:
        if scale not in SCALES:
            raise ParameterError(f"scale is {scale!r}; it must be one of {list(SCALES)}")
        self.scale = scale

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-likelihoods (n, K) as the rows say them, in nats; −∞ where a likelihood is 0."""
        rows = self.checked(x)[:, np.asarray(params.columns, dtype=np.intp)]
        if self.scale == "log":
            return rows
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(rows))

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        """weight (K,), of resp (n, K)."""
        return Stats(weight=resp.sum(axis=0))

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """Columns as they are, and which components have no rows."""
        columns = np.arange(len(stats.weight)) if previous is None else previous.columns
        return Params(columns=columns, empty=empty_components(stats.weight))

    def checked(self, x: Array) -> Array:
        """Rows in float64.

        Raises
        ------
        ImpossibleValueError : a likelihood below 0
        """
        if self.scale == "plain" and x.min(initial=0.0) < 0:
            position = int(np.argmax(x < 0))
            raise ImpossibleValueError(
                float(x.flat[position]),
                position % x.shape[1],
                'likelihoods are numbers >= 0: pass scale="log" if these are logarithms',
            )
        return x.astype(np.float64, copy=False)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """A weight a component."""
        return 8 * n_components

    def free_parameters(self, params: Params) -> int:
        """Number of parameters that are free: none."""
        return 0

    def degenerate(self, params: Params) -> dict[str, list[int]]:
        """Components without rows in the last M-step."""
        return dict(told_empty(params))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Columns that are none."""
        if found := missing(params, ("columns", "empty")):
            return found
        columns = np.asarray(params.columns, dtype=np.float64)
        if columns.shape != (n_components,) or sorted(columns.tolist()) != list(range(n_features)):
            return [f"columns is {columns.tolist()}, where the numbers 0 … {n_features - 1} are needed"]
        return flags("empty", params.empty, (n_components,))
