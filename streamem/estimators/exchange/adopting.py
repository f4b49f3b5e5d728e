"""Parameters from another library, taken over as if they had been fitted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamem.core.errors import ParameterError
from streamem.core.state import State
from streamem.estimators.attributes import attributes_of, set_by_hand
from streamem.estimators.model_files import require_savable
from streamem.running.fitted import Fitted
from streamem.running.report import FitReport


def adopted(settings: Any, names: Sequence[str] | None, facts: Mapping[str, Any], origin: str) -> Fitted:
    """What the attributes of an estimator amount to, which were set to those of another library's model.

    Parameters
    ----------
    names : of the features, or None
    facts : fields of `State` that the other model knows: iteration, converged, trace
    origin : where the parameters come from, for the report

    Raises
    ------
    ParameterError : attributes that contradict each other or the hyperparameters
    """
    for name, value in attributes_of(settings).items():
        if not np.isfinite(np.asarray(value, dtype=np.float64)).all():
            raise ParameterError(f"{origin}: {name} holds values that are not finite; fit that model anew")
    found = set_by_hand(settings, Fitted(), {})
    assert found.state is not None
    assert found.shape is not None
    shape = replace(found.shape, names=None if names is None else tuple(str(name) for name in names))
    state = State(found.state.params, **facts)
    fitted = replace(found, state=state, shape=shape, report=FitReport(origin, 0, shape.features))
    require_savable(settings, fitted)
    return fitted
