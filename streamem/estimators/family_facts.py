"""What an estimator has to know of any family: its settings in words, and how many of its parameters are free."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.completing import as_written
from streamem.core.ports import Family, full_family
from streamem.core.stats import Stats


def settings_of(family: Any) -> str:
    """What identifies a family in another process too: its class and settings, families within included."""
    family = as_written(family)
    told = {name: _told(value) for name, value in sorted(vars(family).items())}
    return f"{type(family).__name__}{ {name: value for name, value in told.items() if value is not None} }"


def _told(value: Any) -> Any:
    """A setting, with families in it by their own settings; None for what is none."""
    if hasattr(value, "log_prob"):
        return settings_of(value)
    if isinstance(value, tuple):  # of families, perhaps, in records
        return tuple(
            {field.name: _told(getattr(item, field.name)) for field in fields(item)}
            if is_dataclass(item)
            else _told(item)
            for item in value
        )
    return value if isinstance(value, str | int | float | np.generic) else None


def kind_of(settings: Any) -> str:
    """The class of an estimator, and how it takes missing values, if it does: statistics depend on both."""
    name = type(settings).__name__
    return f'{name}(missing="integrate")' if settings.missing == "integrate" else name


def integrated(settings: Any, family: Any) -> Any:
    """The family as `missing` asks for it.

    Raises
    ------
    ParameterError : missing="integrate", of a family that knows no missing values
    """
    if settings.missing != "integrate":
        return family
    found = full_family(full_family(family).integrating())
    return found.skipping_unseen() if settings.unseen == "missing" else found


def has_codes(family: Any) -> bool:
    """Whether rows hold codes of categories, in some column at least, which have no distances."""
    if hasattr(family, "parts"):
        return any(has_codes(part.family) for part in family.parts)
    within = getattr(family, "family", None)
    return bool(full_family(family).takes_codes) if within is None else has_codes(within)


def weighed_against(family: Any, weight: float | None) -> Any:
    """The family with its prior weighed against so much data, where it has one and does not know better."""
    if weight is None or getattr(family, "total_weight", weight) is not None:
        return family
    return family.weighed(weight)


def weighed_by(family: Any, stats: Stats) -> Any:
    """The family whose prior, where it has one, is weighed against these statistics of a model: all the data."""
    if not hasattr(family, "weighed") or "weight" not in stats.components:
        return family
    return family.weighed(float(np.sum(stats.components.weight)))


def free_parameters(family: Family, params: Params) -> int:
    """Numbers that an M-step may choose; every number of the parameters, if the family does not tell."""
    return full_family(family).free_parameters(params)
