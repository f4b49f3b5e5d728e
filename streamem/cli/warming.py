"""What ``streamem warm-up`` fits, so that it is compiled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import StreamemError
from streamem.core.small_work import VARIABLE
from streamem.estimators import (
    CategoricalHMM,
    GaussianHMM,
    GaussianMixture,
    LatentClass,
    LinearGaussianChain,
    PoissonHMM,
    StudentTMixture,
)

Array = NDArray[Any]
Say = Callable[[str], None]
ROWS, FEATURES = 240, 5
STATES = (3, 6)
"""Recursions are compiled for whole vectors of states: 1 to 4, and 5 to 8."""
NARROW = 1e-7


def warm(chosen: tuple[str, ...], say: Say) -> None:
    """Fit a little of all that is named, compiled."""
    with _compiled():
        for name in chosen:
            say(f"compiling for {name} …")
            for model, rows in WHAT[name]():
                _fit(model, rows, say)


def _rows() -> Array:
    rng = np.random.default_rng(0)
    return np.asarray(rng.normal(size=(ROWS, FEATURES)) + 6.0 * rng.integers(0, 3, size=(ROWS, 1)))


def _counts() -> Array:
    return np.floor(np.abs(_rows()))


def _mixtures() -> Iterator[tuple[Any, Array]]:
    for kind in ("full", "tied", "diag", "spherical"):
        for rows in (_rows(), NARROW * _rows() + _rows()[:, :1]):  # well conditioned ones, and narrow ones
            for dtype in (np.float64, np.float32):
                yield GaussianMixture(3, covariance_type=kind, max_iter=2, random_state=0), rows.astype(dtype)


def _chains() -> Iterator[tuple[Any, Array]]:
    for states in STATES:
        for kind in ("full", "diag"):
            yield GaussianHMM(states, covariance_type=kind, n_iter=2, random_state=0), _rows()
        yield CategoricalHMM(states, n_iter=2, random_state=0), _counts()[:, :1]
        yield PoissonHMM(states, n_iter=2, random_state=0), _counts()


def _gaussian_chains() -> Iterator[tuple[Any, Array]]:
    yield LinearGaussianChain(2, n_iter=2, random_state=0), _rows()


def _classes() -> Iterator[tuple[Any, Array]]:
    yield LatentClass(3, max_iter=2, random_state=0), _counts() % 3


def _students() -> Iterator[tuple[Any, Array]]:
    for kind in ("full", "diag"):
        for dtype in (np.float64, np.float32):
            yield StudentTMixture(3, covariance_type=kind, max_iter=2, random_state=0), _rows().astype(dtype)


def _missing() -> Iterator[tuple[Any, Array]]:
    gaps = np.where(np.random.default_rng(1).random((ROWS, FEATURES)) < 0.1, np.nan, _rows())
    for kind in ("full", "diag"):
        yield GaussianMixture(3, covariance_type=kind, missing="integrate", max_iter=2, random_state=0), gaps


WHAT: dict[str, Callable[[], Iterator[tuple[Any, Array]]]] = {
    "mixtures": _mixtures,
    "chains": _chains,
    "gaussian-chains": _gaussian_chains,
    "classes": _classes,
    "students": _students,
    "missing": _missing,
}


def _fit(model: Any, rows: Array, say: Say) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an iteration limit is meant
        try:
            model.fit(rows)
            for question in ("predict_proba", "predict", "filter"):
                if hasattr(model, question):
                    getattr(model, question)(rows)
        except StreamemError as error:  # a degenerate start ends a fit, not the compilation
            say(f"warning: {error}")


@contextmanager
def _compiled() -> Iterator[None]:
    """Small work is compiled too."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "compiled"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
