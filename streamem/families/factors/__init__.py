"""Gaussians whose covariance is a few factors and a diagonal.

README.md here tells what was decided, why, and what was measured.
"""
