"""Saving and loading fitted estimators: one archive of arrays and JSON, no pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.archive_reading import read_archive, read_newest
from streamem.core.errors import ModelFileError
from streamem.core.state import State

KIND = "model"
Path = str | os.PathLike[str]


class Parts(NamedTuple):
    """What a model file holds.

    Attributes
    ----------
    parameters : hyperparameters
    meta : everything that is no array
    state : the exact state
    public : fitted attributes under their public names
    """

    parameters: dict[str, Any]
    meta: dict[str, Any]
    state: State
    public: dict[str, NDArray[Any]]


def public_faults(public: Mapping[str, NDArray[Any]], derived: Mapping[str, NDArray[Any]]) -> list[str]:
    """Where fitted attributes in a file are not those of its exact state.

    They are derived from that when a model is loaded, so what differs by rounding (other processors, float32) is no
    matter; nor is what float32 could not hold.
    """
    found = []
    for name, value in derived.items():
        saved = public.get(name)
        if saved is None or saved.shape != np.shape(value):
            found.append(f"{name} is missing, or of another shape than the exact state tells")
        elif not _agree(saved, np.asarray(value, dtype=np.float64)):
            found.append(f"{name} is not what the exact state tells")
    return found


def _agree(saved: NDArray[Any], exact: NDArray[Any]) -> bool:
    limits = np.finfo(np.float32 if saved.dtype == np.float32 else np.float64)
    terms = 1 + (exact.shape[-1] if exact.ndim else 1)
    tolerance = max(64 * float(limits.eps) * terms * np.abs(exact).max(initial=0.0), float(limits.tiny))
    held = np.abs(exact) <= float(limits.max) / 2
    return bool((np.abs(saved[held] - exact[held]) <= tolerance).all())


def load_parts(path: Path, class_name: str, newest: bool = False) -> Parts:
    """What the file of a saved estimator of the given class holds; `newest` takes the newest readable generation.

    Raises
    ------
    ModelFileError : not such a model, or not to be trusted
    """
    archive = read_newest(path, KIND) if newest else read_archive(path, KIND)
    if archive.meta.get("class") != class_name:
        raise ModelFileError(f"{path} holds a {archive.meta.get('class')}, not a {class_name}; load it with that class")
    prefix = "parameter."
    given = {name[len(prefix) :]: value for name, value in archive.arrays.items() if name.startswith(prefix)}
    try:
        state = State.from_arrays(
            {name[6:]: value for name, value in archive.arrays.items() if name.startswith("state.")}
        )
        mappings = {name: dict(pairs) for name, pairs in archive.meta.get("mappings", {}).items()}
        parameters = {**archive.meta["parameters"], **mappings, **given}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} lacks parts of a {class_name}: {error!r}") from error
    own = {name: value for name, value in archive.arrays.items() if not name.startswith(("state.", prefix))}
    return Parts(parameters, archive.meta, state, own)


def one_way(told: Any) -> dict[str, str]:
    """The name in the data that says where sequences begin: a column, offsets or lengths.

    Raises
    ------
    ModelFileError : something else
    """
    fits = isinstance(told, dict) and len(told) == 1 and set(told) <= {"sequence_column", "offsets", "lengths"}
    if not fits or not all(isinstance(name, str) for name in told.values()):
        raise ModelFileError(f"the file says {told!r:.200} of sequences; one way and one name are needed")
    return dict(told)
