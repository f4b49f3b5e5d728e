"""The face of `RecordLinkage`: tables of non-matches and of matches, some of which the user may have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.estimators.faces.latent_class import LatentClassFace
from streamem.families import PartlyFixedCategorical
from streamem.initialization import Start
from streamem.running.fitted import Shape

Array = NDArray[Any]


class RecordLinkageFace(LatentClassFace):
    """probabilities_ (2, ΣV) and n_categories_ (d,), which `RecordLinkage` shows as m and u by column."""

    title = "probabilities of the levels (component 0: no match, 1: match)"

    def family(self, settings: Any, shape: Shape | None) -> PartlyFixedCategorical:
        """Levels of every column; tables of u that were given stay."""
        if shape is None:
            return PartlyFixedCategorical(settings.n_levels)
        sizes = _known_sizes(settings, shape)
        given = [(0, j) for j, table in enumerate(given_u(settings, shape)) if table is not None]
        return PartlyFixedCategorical(settings.n_levels, kept=given, least=sizes)

    def vocabulary(self, settings: Any) -> Mapping[str, Sequence[Any]] | str:
        """The levels of columns of text, from no agreement to full agreement."""
        return "text" if settings.levels is None else {name: tuple(own) for name, own in settings.levels.items()}

    def starts(self) -> Mapping[str, Start]:
        """A start that draws nothing: the first tables are those of `started`."""
        return {"agreement": _alike}

    def started(self, settings: Any, components: Params, shape: Shape) -> Params:
        """First tables: the highest level with probability `agreement_init` among matches, the rest alike.

        Among non-matches, the highest level has 1 − `agreement_init`, or the table that was given.

        Raises
        ------
        ParameterError : a given table has fewer levels than the data
        """
        table, starts = np.array(components.probabilities), np.asarray(components.starts).tolist()
        for own, given, name in zip(pairwise(starts), given_u(settings, shape), named(shape), strict=True):
            levels, top = own[1] - own[0], float(settings.agreement_init)
            table[1, slice(*own)], table[0, slice(*own)] = _first(levels, top), _first(levels, 1.0 - top)
            if given is None:
                continue
            if len(given) != levels:
                raise ParameterError(
                    f"u_probabilities[{name!r}] has {len(given)} levels, and the data {levels}; give one probability "
                    "for every level"
                )
            table[0, slice(*own)] = given
        return components.replace(probabilities=table)

    def key(self, settings: Any) -> dict[str, Any]:
        """Whatever a run depends on."""
        u = None if settings.u_probabilities is None else _plain(settings.u_probabilities)
        return {
            "n_levels": repr(None if settings.n_levels is None else np.asarray(settings.n_levels).tolist()),
            "levels": repr(settings.levels),
            "u_probabilities": repr(u),
            "start": repr((float(settings.match_prior_init), float(settings.agreement_init))),
            "compress": repr(settings.compress),
        }


def named(shape: Shape) -> list[Any]:
    """The names of the columns, or their positions."""
    return list(range(shape.features) if shape.names is None else shape.names)


def given_u(settings: Any, shape: Shape) -> list[Array | None]:
    """For every column, the table of u that the user gave.

    Raises
    ------
    ParameterError : tables of columns that are not there, or that are no probabilities
    """
    given = dict(settings.u_probabilities or {})
    found = [_checked(name, given.pop(name)) if name in given else None for name in named(shape)]
    if given:
        raise ParameterError(f"u_probabilities has {list(given)}, which are no columns; these are {named(shape)}")
    return found


def _checked(name: Any, values: Any) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 1 or not len(table) or not (table >= 0).all() or not abs(table.sum() - 1.0) <= 1e-6:
        raise ParameterError(
            f"u_probabilities[{name!r}] is {values!r}; it must be probabilities of the levels, from no agreement to "
            "full agreement, that sum to 1"
        )
    return np.asarray(table / table.sum())


def _known_sizes(settings: Any, shape: Shape) -> list[int]:
    """The fewest levels that every column has, whatever the data hold."""
    texts, tables = shape.categories or {}, given_u(settings, shape)
    return [
        max(1, len(texts.get(name, ())), 0 if table is None else len(table))
        for name, table in zip(named(shape), tables, strict=True)
    ]


def _first(levels: int, top: float) -> Array:
    if levels == 1:
        return np.ones(1)
    return np.append(np.full(levels - 1, (1.0 - top) / (levels - 1)), top)


def _alike(x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
    return np.full((len(x), k), 1.0 / k)


def _plain(tables: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: np.asarray(table).tolist() for name, table in tables.items()}
