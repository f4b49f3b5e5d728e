"""Where covariances stop shrinking."""

FLOOR = 2.0**-40
"""Smallest eigenvalue of a covariance in the anchored frame, where the data has unit variance: about 9e-13."""
