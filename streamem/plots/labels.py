"""The picture of labels on a map: which component each cell of two dimensions belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.machine.importing import import_whole
from streamem.plots.axes import axes_of

Array = NDArray[Any]
MOST_CELLS = 2000
"""Cells along an axis that are drawn: more than a screen has."""
MOST_NAMED = 20
"""Components that a legend can tell apart."""
ACROSS = ("lon", "longitude", "nav_lon", "x", "easting", "column")
"""Names of dimensions that lie across a map."""
NOBODY = "#c8c8c8"


def plot_labels(
    labels: Any, *, x: str | None = None, y: str | None = None, names: Sequence[str] | None = None, ax: Any = None
) -> Any:
    """Draw labels on two dimensions as a map: a colour for each component, and a legend with its share of the cells.

    Cells without a label (NaN, as land in a sea mask) stay empty; negative labels (land; outliers, of a mixture with
    noise) are grey. Of more than 2,000 cells along an axis, evenly spaced ones are drawn.

    Parameters
    ----------
    labels : DataArray of two dimensions, as `predict` gives it for xarray; or (rows, columns) array-like
        Numbers of components. The coordinates of the dimensions are those of the map.
    x, y : names of coordinates to draw along, of one dimension or of both (curvilinear grids)
        By default the dimension of longitudes, or the last one, goes across.
    names : (K,) words for the legend
    ax : matplotlib axes, or None for new ones

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ParameterError : another number of dimensions, labels that are no whole numbers, coordinates that are not there

    Examples
    --------
    >>> import numpy as np
    >>> from streamem.plots import plot_labels
    >>> plot_labels(np.array([[0, 1], [1, np.nan]])).get_legend_handles_labels()[1]
    ['0: 33%', '1: 67%']
    """
    values = _checked(labels)
    across, down, values = _places(labels, values, x, y)
    drawn = np.ma.masked_invalid(values)
    found = np.unique(drawn.compressed()).astype(int)
    if not found.size:
        raise ParameterError("no cell has a label; nothing can be drawn")
    count = max(int(found.max()) + 1, 0 if names is None else len(names))
    ax = axes_of(ax, (7.0, 4.6))
    colours = _colours(count)
    scale = import_whole("matplotlib.colors")
    shown = scale.ListedColormap([NOBODY, *colours])
    limits = scale.BoundaryNorm(np.arange(-1.5, count + 0.5), count + 1)
    mesh = ax.pcolormesh(across, down, np.ma.maximum(drawn, -1), cmap=shown, norm=limits, shading="nearest")
    mesh.set_rasterized(True)
    _decorate(ax, labels, x, y)
    _key(ax, mesh, found, np.asarray(drawn.compressed()), [NOBODY, *colours], names)
    return ax


def _checked(labels: Any) -> Array:
    values = np.asarray(getattr(labels, "values", labels))
    if values.ndim != 2:
        dims = getattr(labels, "dims", ())
        where = f" ({', '.join(map(str, dims))})" if dims else ""
        more = "choose one of the others, as in labels.isel(time=0)" if values.ndim > 2 else "a map needs two"
        raise ParameterError(f"the labels have {values.ndim} dimensions{where}: {more}")
    if values.dtype.kind not in "iuf":
        raise ParameterError(f"labels are numbers of components, and these are {values.dtype}")
    floats = values.astype(np.float64)
    known = floats[np.isfinite(floats)]
    if (known != np.round(known)).any():
        raise ParameterError(f"labels are whole numbers, and {known[known != np.round(known)][0]:g} is none")
    return floats


def _dims(labels: Any, x: str | None, y: str | None) -> tuple[str, str]:
    """The dimensions of the rows and of the columns of the picture."""
    first, second = map(str, labels.dims)
    for name, other in ((x, y), (y, x)):
        if name is not None and name in (first, second) and other in (None, first, second):
            rest = second if name == first else first
            return (rest, name) if name == x else (name, rest)
    return (second, first) if first.lower() in ACROSS else (first, second)


def _places(labels: Any, values: Array, x: str | None, y: str | None) -> tuple[Array, Array, Array]:
    """Coordinates across and down, and the labels of every cell in that order, thinned to what can be seen."""
    if not hasattr(labels, "dims"):
        if x is not None or y is not None:
            raise ParameterError("an array has no coordinates to name; pass a DataArray")
        steps = _steps(values.shape)
        rows, columns = (np.arange(0, size, step) for size, step in zip(values.shape, steps, strict=True))
        return columns, rows, values[:: steps[0], :: steps[1]]
    down, across = _dims(labels, x, y)
    values = values if tuple(map(str, labels.dims)) == (down, across) else values.T
    steps = _steps(values.shape)
    cut = {down: slice(None, None, steps[0]), across: slice(None, None, steps[1])}
    found = [_coordinate(labels, name, (down, across), cut) for name in (x or across, y or down)]
    return found[0], found[1], values[:: steps[0], :: steps[1]]


def _steps(shape: Sequence[int]) -> tuple[int, int]:
    return -(-shape[0] // MOST_CELLS) or 1, -(-shape[1] // MOST_CELLS) or 1


def _coordinate(labels: Any, name: str, order: tuple[str, str], cut: dict[str, slice]) -> Array:
    if name not in labels.dims and name not in labels.coords:
        raise ParameterError(
            f"there is no coordinate {name!r}; there are {', '.join(map(str, labels.coords)) or 'none'}"
        )
    values = labels[name] if name in labels.coords else None
    if values is None or (values.ndim == 1 and values.dtype.kind not in "iufM"):
        return np.arange(labels.sizes[name])[cut[name]]
    own = [dim for dim in order if dim in values.dims]
    return np.asarray(values.transpose(*own).isel({dim: cut[dim] for dim in own}).values)


def _colours(count: int) -> list[Any]:
    """A colour for each component: matplotlib's ten, its twenty, or as many as there are along a wheel."""
    if count <= 10:
        return [f"C{i}" for i in range(count)]
    colormaps = import_whole("matplotlib").colormaps
    if count <= MOST_NAMED:
        return [colormaps["tab20"](i) for i in range(count)]
    return [colormaps["turbo"](i / (count - 1)) for i in range(count)]


def _decorate(ax: Any, labels: Any, x: str | None, y: str | None) -> None:
    if not hasattr(labels, "dims"):
        ax.set_xlabel("column")
        ax.set_ylabel("row")
        ax.set_title("components")
        return
    down, across = _dims(labels, x, y)
    ax.set_xlabel(_named(labels, x or across))
    ax.set_ylabel(_named(labels, y or down))
    aside = [f"{name} = {value.values}" for name, value in labels.coords.items() if value.ndim == 0]
    ax.set_title(", ".join([str(labels.name or "components"), *aside])[:90])


def _named(labels: Any, name: str) -> str:
    attributes = labels[name].attrs if name in labels.coords else {}
    units = attributes.get("units")
    told = str(attributes.get("long_name", name))
    return f"{told} ({units})" if units and "since" not in str(units) else told


def _key(ax: Any, mesh: Any, found: Array, cells: Array, colours: Sequence[Any], names: Sequence[str] | None) -> None:
    """A legend, or a bar of colours where there are too many to be told apart."""
    if len(found) > MOST_NAMED:
        ax.figure.colorbar(mesh, ax=ax, label="component")
        return
    for k in found:
        word = "no component" if k < 0 else str(k) if names is None or k >= len(names) else f"{k} {names[k]}"
        share = np.count_nonzero(np.maximum(cells, -1) == k) / cells.size
        ax.plot([], [], marker="s", linestyle="", color=colours[max(k, -1) + 1], label=f"{word}: {share:.0%}")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), borderaxespad=0.6)
