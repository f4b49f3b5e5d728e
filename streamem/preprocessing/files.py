"""Files of fitted transformers: hyperparameters, moments and attributes in one archive, without pickle."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.errors import ModelFileError, ParameterError
from streamem.preprocessing.moments import Moments

KIND = "transformer"
FIELDS = ("weight", "mean", "scatter", "rows")
Path = str | os.PathLike[str]


def write(path: Path, transformer: Any, moments: Moments) -> None:
    """Write a fitted transformer, atomically.

    Raises
    ------
    ParameterError : a name that does not end in .npz
    OutputError : the disk is full or the folder is missing; an earlier file is left intact
    """
    if not os.fspath(path).endswith(".npz"):
        raise ParameterError(f"{path}: a file of a transformer ends in .npz")
    meta = {
        "class": type(transformer).__name__,
        "parameters": transformer.get_params(deep=False),
        "feature_names_in": [str(name) for name in getattr(transformer, "feature_names_in_", ())],
        "weighted": transformer._weighted,
    }
    shown = {name: np.asarray(value) for name, value in vars(transformer).items() if name.endswith("_")}
    arrays = {name: value for name, value in shown.items() if value.dtype.kind in "iuf"}
    arrays |= {f"moments.{name}": np.asarray(getattr(moments, name)) for name in FIELDS}
    write_archive(path, KIND, meta, arrays)


def read(cls: type[Any], path: Path) -> Any:
    """The transformer of a file; attributes are made anew of its moments.

    Raises
    ------
    ModelFileError : not such a file, damaged, or not to be trusted
    """
    archive = read_archive(path, KIND)
    meta = archive.meta
    if meta.get("class") != cls.__name__:
        raise ModelFileError(f"{path} holds a {meta.get('class')}, not a {cls.__name__}; load it with that class")
    try:
        transformer = cls(**meta["parameters"])
        weight, mean, scatter, rows = (archive.arrays[f"moments.{name}"] for name in FIELDS)
        moments = Moments(weight, mean, scatter, float(rows))
        _require_sound(path, moments, bool(transformer._products))
        names = tuple(str(name) for name in meta["feature_names_in"])
        transformer._show(moments, names or None, bool(meta["weighted"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be trusted as a {cls.__name__}: {error}") from error
    return transformer


def _require_sound(path: Path, moments: Moments, products: bool) -> None:
    d = moments.mean.shape[0] if moments.mean.ndim == 1 else -1
    fits = moments.weight.shape == (d,) and moments.scatter.shape == ((d, d) if products else (d,))
    values = [moments.weight, moments.mean, moments.scatter, np.asarray(moments.rows)]
    variances = np.diagonal(moments.scatter) if products and fits else moments.scatter
    if not fits or not all(np.isfinite(value).all() for value in values) or (variances < 0).any() or moments.rows <= 0:
        raise ModelFileError(f"{path}: its moments contradict each other; fit anew")
