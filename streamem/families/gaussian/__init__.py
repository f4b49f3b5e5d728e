"""Gaussians: the distribution, its covariances, the choice of arithmetic, and Gaussians with priors."""

from streamem.families.gaussian.distribution import Gaussian

__all__ = ["Gaussian"]
