"""An alarm for data that is no longer what the model has learned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamem.core.errors import ParameterError
from streamem.core.stats import Stats

LEAST_DEVIATION = 1e-6
"""Relative to the mean: mini-batches that are all alike show no deviation to measure by."""


@dataclass(frozen=True)
class DriftAlarm:
    """One-sided CUSUM (Page 1954) on the predictive log-likelihood of mini-batches.

    U ← max(0, U + z − delta) with z = (mean − ℓ) / (deviation of a row / √weight); an alarm when U exceeds `threshold`.
    Mean and deviation are learned from the latest mini-batches. A steady drift that the model follows raises no alarm,
    one that becomes faster does.

    Parameters
    ----------
    delta : drops of so many standard deviations count as noise
    threshold : standard deviations in sum that make an alarm; 12 with delta ½ is a false alarm in about 10⁵ of
        mini-batches that are independent and Gaussian
    warmup : mini-batches without alarm, from which mean and deviation are learned
    memory : mini-batches that count for them

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> from streamem.algorithms import DriftAlarm
    >>> rng = np.random.default_rng(0)
    >>> hours = (rng.normal(size=(100, 1)) + (30 if hour == 40 else 0) for hour in range(45))
    >>> gm = GaussianMixture(1).fit_stream(hours, half_life=500, batch_rows=100, drift=DriftAlarm())
    >>> [update["batch"] for update in gm.history_.to_pylist() if update["drift"]]
    [41]
    """

    delta: float = 0.5
    threshold: float = 12.0
    warmup: int = 30
    memory: float = 500.0

    def __post_init__(self) -> None:
        for name in ("delta", "threshold", "warmup", "memory"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} of DriftAlarm is {getattr(self, name)!r}; it must be > 0")

    def start(self) -> Stats:
        """The alarm's state before the first mini-batch."""
        return Stats(n=0.0, mean=0.0, square=0.0, sum=0.0)

    def update(self, watch: Stats, value: float, weight: float) -> tuple[Stats, bool]:
        """The alarm's state after a mini-batch predicted with `value` nats per row, and whether it is an alarm.

        Raised, it starts anew.
        """
        n, mean, square, total = (float(watch[name]) for name in ("n", "mean", "square", "sum"))
        if n >= self.warmup:
            deviation = max(math.sqrt(square / weight), LEAST_DEVIATION * max(1.0, abs(mean)))
            total = max(0.0, total + (mean - value) / deviation - self.delta)
            if total > self.threshold:
                return self.start(), True
        share = 1.0 / min(n + 1.0, self.memory)
        change = value - mean
        mean += share * change
        square = (1.0 - share) * (square + share * weight * change * change)
        return Stats(n=n + 1.0, mean=mean, square=square, sum=total), False
