"""When to stop: rules over the trace of log-likelihoods, in nats per unit of weight.

The trace holds the log-likelihood of the parameters that entered each M-step, over all calls of fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 2.0**-48
"""Relative difference of two log-likelihoods that says nothing any more: sixteen units in the last place."""

FLIPS = 1000.0
"""How many times a change that is taken back has to go into `tol`: more than rounding, and it is none."""


@dataclass(frozen=True)
class Aitken:
    """Stop when the gain that is still to come, predicted by Aitken's rule, is below `tol` twice running.

    With a = (ℓ₂ − ℓ₁)/(ℓ₁ − ℓ₀) the limit is ℓ∞ = ℓ₁ + (ℓ₂ − ℓ₁)/(1 − a) (Böhning et al. 1994, eq. 8), so that a slowly
    converging run is not taken for a converged one.

    Parameters
    ----------
    tol : nats per unit of weight

    Examples
    --------
    >>> Aitken(tol=1e-3).met([-10.0, -9.0, -8.9, -8.89]), Aitken(tol=0.1).met([-10.0, -9.0, -8.9, -8.89])
    (False, True)
    """

    tol: float

    def met(self, trace: Sequence[float]) -> bool:
        """Whether to stop; needs four log-likelihoods for two predictions."""
        if len(trace) < 4:
            return False
        return self._gain(*trace[-4:-1]) < self.tol and self._gain(*trace[-3:]) < self.tol

    @staticmethod
    def _gain(first: float, second: float, third: float) -> float:
        """Predicted change of log-likelihood still to come after `third`; infinite where the rule does not apply."""
        # Sizes: under a penalty the log-likelihood may approach its limit from above.
        before, last = abs(second - first), abs(third - second)
        if last <= ROUNDING * abs(third):
            return 0.0
        if (second - first) * (third - second) < 0:
            return FLIPS * last  # EM does not turn back: what does so is rounding, of which no sum is to come
        if last >= before:
            return float("inf")
        ratio = last / before
        return last * ratio / (1.0 - ratio)


@dataclass(frozen=True)
class Change:
    """Stop when the log-likelihood changed by less than `tol` in one iteration: scikit-learn's rule.

    Parameters
    ----------
    tol : nats per unit of weight

    Examples
    --------
    >>> Change(tol=0.05).met([-9.0, -8.9]), Change(tol=0.05).met([-8.9, -8.88])
    (False, True)
    """

    tol: float

    def met(self, trace: Sequence[float]) -> bool:
        """Whether to stop; needs two log-likelihoods."""
        return len(trace) >= 2 and abs(trace[-1] - trace[-2]) < self.tol
