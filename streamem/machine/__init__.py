"""What is particular to a processor or a process: Numba and LLVM, buffers of a thread, imports in one piece."""
