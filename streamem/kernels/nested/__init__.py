"""Kernels of mixtures whose components are mixtures."""
