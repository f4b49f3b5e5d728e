"""Names that a module offers before it imports them: the lookup behind each lazy façade of the package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from streamem.core.errors import MissingDependencyError, ParameterError
from streamem.core.small_work import CHOSEN
from streamem.machine.errors import CompilationDisabledError, VectorWidthError
from streamem.machine.importing import import_whole

NO_HOMES: Mapping[str, str] = {}


def lazy_names(
    facade: str, homes: Mapping[str, str], homes_of_small: Mapping[str, str] = NO_HOMES
) -> Callable[[str], Any]:
    """The `__getattr__` of a module (PEP 562) whose names are imported where they are first asked for, in one piece.

    Parameters
    ----------
    facade : the module's name
    homes : name → module that defines it
    homes_of_small : name → module that defines it for small work, in NumPy; see `small_work`

    Raises
    ------
    AttributeError : at the lookup of a name that is not in `homes`
    MissingDependencyError : at the lookup of compiled code where Numba may not compile
    ParameterError : at any lookup where the environment asks for vectors of an impossible width
    """

    found: dict[tuple[str, str], Any] = {}  # of names with two homes, between which every lookup has the choice

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {facade!r} has no attribute {name!r}")
        small = name in homes_of_small and getattr(CHOSEN, "numpy", False)
        home = homes_of_small[name] if small else homes[name]
        if (home, name) in found:
            return found[home, name]
        try:
            value = getattr(import_whole(home), name)
        except CompilationDisabledError as error:
            raise MissingDependencyError(str(error)) from error
        except VectorWidthError as error:
            raise ParameterError(str(error)) from error
        if name in homes_of_small:
            found[home, name] = value
        else:
            setattr(sys.modules[facade], name, value)
        return value

    return find
