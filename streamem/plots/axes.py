"""What every picture needs: matplotlib, axes, colours of components."""

from __future__ import annotations

from typing import Any

from streamem.core.errors import MissingDependencyError, ParameterError
from streamem.machine.importing import import_whole

SIZE = (7.0, 4.2)


def pyplot() -> Any:
    """matplotlib's pyplot.

    Raises
    ------
    MissingDependencyError : it is not installed
    """
    try:
        return import_whole("matplotlib.pyplot")
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'streamem[plot]'") from error


def axes_of(ax: Any, size: tuple[float, float] = SIZE) -> Any:
    """The axes given, or new ones."""
    return pyplot().subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def colour(place: int) -> str:
    """The colour of a component, one of matplotlib's ten in turn."""
    return f"C{place % 10}"


def feature_places(estimator: Any, features: Any) -> tuple[list[int], list[str]]:
    """Positions and names of features that are named, or numbered.

    Raises
    ------
    ParameterError : a feature that the model has not
    """
    count = int(estimator.n_features_in_)
    names = [str(name) for name in getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(count)])]
    places = []
    for wanted in features:
        if wanted in names:
            places.append(names.index(wanted))
        elif isinstance(wanted, int) and -count <= wanted < count:
            places.append(wanted % count)
        else:
            raise ParameterError(f"feature {wanted!r} is none of {', '.join(names)}, nor a position below {count}")
    return places, [names[place] for place in places]
