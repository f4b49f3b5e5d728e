"""Rates with gamma priors."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Family
from streamem.core.stats import Stats
from streamem.core.validation import numbers
from streamem.families.around import Around
from streamem.families.prior_scaling import Weighed

Array = NDArray[Any]


class GammaPrior(Weighed, Around):
    """A family of rates, each with the prior Gamma(α, β), of density λ^(α − 1) exp(−β λ) up to a constant.

    Parameters
    ----------
    family : `Poisson`, of rates λ, or `Exponential`, of rates λ = 1/scale
    shape, rate : α >= 1 and β >= 0, numbers or arrays that broadcast to (K, d); 1 and 0 are no prior
        The prior counts as much as β rows whose values sum to α − 1 (`Poisson`), or α − 1 rows whose values sum to β
        (`Exponential`).
    total_weight : float or None
        Σ weights of the rows that the prior is weighed against; a fit finds it in one pass beforehand. Online, and in
        stepwise EM, which average statistics, the prior counts in proportion.

    Notes
    -----
    Parameters are those of the family. The M-step adds the pseudo-statistics to those of the rows, so it finds the mode
    of the posterior (Gelman et al. 2013, §2.6); `objective_` of an estimator is the log-posterior up to a constant.

    Raises
    ------
    ParameterError : another family, or values below 1 and 0

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import GammaPrior, Poisson
    >>> x = np.array([[0.0], [0.0], [3.0]])
    >>> fit = Mixture(GammaPrior(Poisson(), shape=3.0, rate=1.0)).fit(x)
    >>> fit.params_.rates.tolist()  # (3 + 3 - 1) / (3 + 1)
    [[1.25]]
    """

    total_weight: float | None = None

    def __init__(
        self, family: Family, shape: ArrayLike = 1.0, rate: ArrayLike = 0.0, total_weight: float | None = None
    ) -> None:
        super().__init__(family)
        self.shape, self.rate = _at_least(shape, "shape", 1.0), _at_least(rate, "rate", 0.0)
        self.total_weight = total_weight
        if not hasattr(self.family, "with_gamma_prior"):
            raise ParameterError(
                f"{self.told} has no rates that a gamma prior could be of; Poisson and Exponential have: leave the "
                "prior out"
            )
        self.identity = f"{zlib.crc32(self.shape.tobytes() + b'|' + self.rate.tobytes()):08x}"

    @property
    def _rates(self) -> Any:
        return self.family

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        """The M-step of rows and prior together."""
        known: Stats = self._rates.with_gamma_prior(stats, self.share(stats.weight), self.shape, self.rate)
        return self.family.maximize(known, previous)

    def penalty(self, params: Params, stats: Stats) -> float:
        """Minus the logarithm of the prior's density up to a constant, in nats, or its share."""
        rates = np.asarray(self._rates.rates(params), dtype=np.float64)
        seen = np.where(rates > 0, rates, 1.0)  # a rate of 0 stays
        log_prior = (self.shape - 1.0) * np.log(seen) - self.rate * rates
        return self.family.penalty(params, stats) - self.share(stats.weight) * float(np.sum(log_prior))

    def holds(self, names: frozenset[str]) -> bool:
        """All or none."""
        return False


def _at_least(value: ArrayLike, name: str, least: float) -> Array:
    values = numbers(value, name)
    if not (np.isfinite(values).all() and (values >= least).all()):
        raise ParameterError(
            f"{name} holds values down to {values.min()}; finite numbers >= {least:g} are needed ({least:g}: no prior)"
        )
    return values
