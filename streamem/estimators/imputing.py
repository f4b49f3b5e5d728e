"""`impute`: what was not observed of every row, as conditional means or as draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from streamem.core.completing import has_own
from streamem.core.errors import ParameterError
from streamem.core.ports import FullFamily, full_family
from streamem.estimators.asking import Target, answered, opened_for, text_of
from streamem.estimators.making import family_of
from streamem.estimators.row_inputs import published_dtype
from streamem.estimators.structure import DataArguments, Question
from streamem.machine.importing import import_whole
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape


def impute(settings: Any, fitted: Fitted, x: Any, arguments: DataArguments, n_draws: int, target: Target) -> Any:
    """X without NaN: (n, d); of draws (n_draws, n, d), in files (n, n_draws·d).

    Raises
    ------
    ParameterError : missing="error", a family that cannot impute, or a number of draws that is none
    """
    _require_possible(settings, fitted, n_draws)
    if fitted.shape is None:
        fitted = opened_for(settings, fitted, x, arguments)[1]
    assert fitted.shape is not None
    column = _column(fitted.shape, published_dtype(x), n_draws)
    seed = int(check_random_state(settings.random_state).randint(2**32, dtype=np.uint64)) if n_draws else None
    asked = Question(lambda *_: column, settings.structure.imputing(n_draws, seed))
    target = replace(target, plain=n_draws > 0)
    found = answered(settings, fitted, "impute", asked, x, arguments, column, target)
    if not n_draws or target.out is not None:
        return found
    d = fitted.shape.features
    if isinstance(found, np.ndarray):
        return np.ascontiguousarray(found.reshape(len(found), n_draws, d).transpose(1, 0, 2))
    own = [found[:, draw * d : (draw + 1) * d] for draw in range(n_draws)]
    return import_whole("dask.array").stack(own, allow_unknown_chunksizes=True)


def _column(shape: Shape, dtype: np.dtype[Any], n_draws: int) -> Column:
    """The columns of the data; of several draws, those of one after the other, numbered."""
    names = [str(name) for name in shape.names or (f"x{j}" for j in range(shape.features))]
    if n_draws > 1:
        names = [f"{name}_{draw}" for draw in range(n_draws) for name in names]
    return Column(len(names), dtype, tuple(names), text_of(shape) * max(1, n_draws))


def _require_possible(settings: Any, fitted: Fitted, n_draws: int) -> None:
    if isinstance(n_draws, bool) or not isinstance(n_draws, int | np.integer) or n_draws < 0:
        raise ParameterError(f"n_draws is {n_draws!r}; it must be an integer >= 0, where 0 asks for conditional means")
    if settings.missing != "integrate":
        full_family(settings.face.family(settings, fitted.shape)).integrating()  # which says why, if it cannot
        raise ParameterError(
            f'impute needs a model that knows missing values: {type(settings).__name__}(missing="integrate"), or '
            'set_params(missing="integrate") of one that is fitted'
        )
    assert fitted.state is not None
    family, components = full_family(family_of(settings, fitted)), fitted.state.params.components
    if not n_draws and not has_own(family, FullFamily, "filled"):
        family.filled(components, np.empty((0, 0)), np.empty((0, 0)))
    if n_draws and not has_own(family, FullFamily, "drawn_for_missing"):
        family.drawn_for_missing(components, np.empty((0, 0)), np.empty(0), np.random.RandomState(0))
