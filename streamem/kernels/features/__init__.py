"""Kernels whose scores and statistics are products of features of a row and parameters."""
