"""Multivariate t distributions.

README.md here tells what was decided, why, and what was measured.
"""
