"""Compiled E-steps over blocks of rows. Kernels know no family and no model."""
