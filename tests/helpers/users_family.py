"""A family of a user's own, as the README has it: what tests of mixtures of any family share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaln

from streamem import Params, Stats


class Poisson:
    """Independent Poisson counts with rates (K, d)."""

    def log_prob(self, p: Any, x: Any) -> Any:
        return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)

    def stats(self, p: Any, x: Any, resp: Any) -> Stats:
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Any, previous: Any) -> Params:
        return Params(rates=s.x / s.weight[:, None])
