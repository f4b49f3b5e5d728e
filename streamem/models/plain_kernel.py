"""Kernels of any family, as models ask for them; families made of families need them too, so they live in the core."""

from streamem.core.plain_kernel import PLAIN_BLOCK_ROWS, PlainKernel, block_rows_of, kernel_of

__all__ = ["PLAIN_BLOCK_ROWS", "PlainKernel", "block_rows_of", "kernel_of"]
