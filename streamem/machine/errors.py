"""Why machine code cannot be had here. `core.lazy_names` turns each into the library's own error."""

from __future__ import annotations


class CompilationDisabledError(ImportError):
    """Numba is set to compile nothing, so no compiled code can be imported."""


class VectorWidthError(ValueError):
    """The environment asks for vectors of a width that there is not."""
