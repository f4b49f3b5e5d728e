"""Which requests of a server of the tests meet which trouble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Troubles:
    """Draws troubles for requests that read.

    Attributes
    ----------
    shares : how many of the GETs and HEADs meet what: "500", "503", "429", "reset", "short", "slow"
    met : how many met each
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def of(self, method: str) -> str:
        """The trouble of the next request; "" for none."""
        if not self.shares or method not in ("GET", "HEAD"):
            return ""
        at, drawn = 0.0, self._rng.random()
        for kind, share in self.shares.items():
            at += share
            if drawn < at:
                self.met[kind] += 1
                return kind
        return ""
