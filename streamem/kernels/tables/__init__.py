"""Kernels that look log-probabilities of categories up in a table."""
