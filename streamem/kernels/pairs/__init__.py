"""Kernels that work out only the pairs of row and component that matter."""
