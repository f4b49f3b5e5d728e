"""Where a fit begins: the start that the user named, on a sample, by short runs of EM, or by passes over all rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.completing import as_written
from streamem.core.errors import ParameterError
from streamem.core.stats import Stats
from streamem.estimators.family_facts import has_codes
from streamem.initialization import (
    MERGED,
    PARALLEL,
    SHORT_EM,
    SPLIT_MERGE,
    SumCells,
    best_of_short_runs,
    merged_down,
    most_rows,
    parallel_means,
    part_of,
    split_and_merged,
)
from streamem.initialization.merging import Mixtures
from streamem.initialization.splitting import FAILURES
from streamem.models import Mixture
from streamem.models.observed import observed
from streamem.running.fitted import Shape
from streamem.running.reached import reached_by
from streamem.running.reads import Reads, of_sample

ENOUGH = 20
"""Times the rows that are enough to estimate every component: as many tell short runs of EM apart."""
ALIKE = 1e-3
"""Nats a row within which short runs, which have not converged, are taken for the same maximum."""


def begun(
    settings: Any,
    model: Any,
    sample: Chunk,
    rng: np.random.RandomState,
    shape: Shape,
    reads: Reads | None,
    exchanges: bool = False,
) -> Params:
    """The first parameters by the start that the estimator names.

    Parameters
    ----------
    reads : passes over all chunks; None where there are no rows but the sample
    exchanges : whether a start by k-means may go on through exchanges of components, where the model can
    """
    structure = settings.structure
    name = getattr(settings, structure.starting)
    way = WAYS.get(name)
    if name == "kmeans" and exchanges and _may_exchange(settings, shape):
        way = _by_exchanges_or_not
    if way is None or structure.is_given_wholly(settings):
        return _started(settings, model, sample, rng, shape)
    return way(settings, model, sample, rng, shape, reads)


def _may_exchange(settings: Any, shape: Shape) -> bool:
    """Whether k-means alone makes the start of three components or more, of independent rows without noise."""
    structure, face = settings.structure, settings.face
    if not structure.can_exchange or int(structure.count(settings)) < 3:
        return False
    given = getattr(settings, "weights_init", None) is not None or bool(face.given(settings))
    starts, has_noise = face.starts(), structure.needs_box(settings) or shape.noise is not None
    return not given and not has_noise and starts[SPLIT_MERGE] is starts["kmeans"]


def _started(settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
    params: Params = settings.structure.start(settings, model, sample, rng, shape)
    return params


def _enough(settings: Any, sample: Chunk) -> int:
    return ENOUGH * int(settings.structure.least_rows(settings, sample.x.shape[1]))


def _by_short_runs(
    settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape, reads: Reads | None
) -> Params:
    def begin(rows: Chunk, rng: np.random.RandomState) -> Params:
        return _started(settings, model, rows, rng, shape)

    best = best_of_short_runs(model, sample, rng, begin, _enough(settings, sample))
    if reads is not None and settings.n_init == 1:
        reads.report.short_runs = reached_by(best.ends, tol=ALIKE)
    return best.params


def _by_mergers(
    settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape, reads: Reads | None
) -> Params:
    """The start of a mixture of rows, of which components were merged."""
    part, k = _part(settings, sample, rng), int(settings.n_components)
    begin = settings.face.starts()[MERGED]
    merged = merged_down(_mixtures(model), begin, observed(part), k, rng)
    return _started(settings, model.starting_from(merged.split), part, rng, shape)


def _by_exchanges(
    settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape, reads: Reads | None
) -> Params:
    """The start of a mixture of rows, of which components were split and merged."""
    part, k, starts = _part(settings, sample, rng), int(settings.n_components), settings.face.starts()
    exchanged = split_and_merged(_mixtures(model), starts[SPLIT_MERGE], starts[MERGED], observed(part), k, rng)
    if reads is not None:
        reads.report.start_exchanges += exchanged.exchanges
    return _started(settings, model.starting_from(exchanged.found.split), part, rng, shape)


def _by_exchanges_or_not(
    settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape, reads: Reads | None
) -> Params:
    """The start of `_by_exchanges`, or the start as it is where EM on the sample fails."""
    try:
        return _by_exchanges(settings, model, sample, rng, shape, reads)
    except FAILURES:
        return _started(settings, model, sample, rng, shape)


def _part(settings: Any, sample: Chunk, rng: np.random.RandomState) -> Chunk:
    return part_of(sample, min(_enough(settings, sample), most_rows(int(settings.n_components))), rng)


def _mixtures(model: Any) -> Mixtures:
    """Mixtures of rows of the family of a model."""

    def mixture(k: int, split: Any) -> Mixture:
        made = Mixture(model.family, k, split)
        made.integrates = model.integrates
        return made

    return mixture


def _by_parallel_means(
    settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape, reads: Reads | None
) -> Params:
    """Cells of all rows by k-means||, and the M-step from them, in one more pass."""
    _require_distances(settings, model)
    mapped, total = of_sample(sample) if reads is None else (reads.map, reads.reduce)
    names = shape.names
    cells = parallel_means(mapped, sample, int(settings.n_components), rng, names, model.missing)
    params = _started(settings, model.starting_from(cells.split), sample, rng, shape)
    stats = total(SumCells(cells, model.family, params.components, names, model.missing))
    return _refined(settings, model, params, stats)


def _refined(settings: Any, model: Any, params: Params, stats: Stats) -> Params:
    """The M-step from the cells of all rows; what the user gave stays, and so do the transitions of a chain."""
    face, components = settings.face, model.family.maximize(stats.components, params.components)
    components = face.with_given(settings, face.settled(settings, components), face.given(settings))
    params = params.replace(components=components)
    if settings.structure.is_sequential or getattr(settings, "weights_init", None) is not None:
        return params
    beside = 1.0 - float(params.get("noise_weight", 0.0))
    return params.replace(weights=beside * stats.weight / stats.weight.sum())


def _require_distances(settings: Any, model: Any) -> None:
    """Refuse families of categories, whose codes have no distances."""
    if has_codes(model.family):
        raise ParameterError(
            f"{settings.structure.starting} is {PARALLEL!r}, which measures distances between rows, and categories of "
            f"{type(as_written(model.family)).__name__} have none; use {SHORT_EM!r} or {MERGED!r}, which ask the "
            "family alone"
        )


WAYS = {SHORT_EM: _by_short_runs, MERGED: _by_mergers, SPLIT_MERGE: _by_exchanges, PARALLEL: _by_parallel_means}
