"""Gaussians with a prior that are seen through noise of known covariance, another in every row."""

from __future__ import annotations

from typing import Any

from streamem.families.gaussian.noisy import NoisyGaussian
from streamem.families.gaussian.normal_wishart import NormalWishart


class NoisyNormalWishart(NoisyGaussian, NormalWishart):
    """`NormalWishart` of values that rows show through noise: its M-step on the E-step of `NoisyGaussian`.

    The prior is one of the values without noise (Bovy, Hogg & Roweis 2011, §3, regularize so by a Wishart prior).

    Parameters
    ----------
    family : whose covariance type, regularization and prior these are, with the data that it is weighed against
    noise : "variances" or "covariances"
    """

    def __init__(self, family: NormalWishart, noise: str) -> None:
        vars(self).update(vars(family))
        self.noise = noise


def seen_through_noise(family: Any, kind: str) -> NoisyGaussian:
    """The family of rows that have noise of their own, of this kind, for one that `takes_row_noise`."""
    if isinstance(family, NormalWishart):
        return NoisyNormalWishart(family, kind)
    return NoisyGaussian(family.covariance_type, family.reg_covar, kind)
