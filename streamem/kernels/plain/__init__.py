"""The compiled functions of this room in NumPy, for small work: nothing is compiled, and Numba is not imported."""
