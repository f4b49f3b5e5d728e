"""`fit`: from an opened source and hyperparameters to what is fitted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Algorithm, Variant, full_family
from streamem.core.state import State
from streamem.estimators.attributes import require_fit
from streamem.estimators.default_algorithm import Chosen, by_plan, of_checkpoint
from streamem.estimators.family_facts import integrated, settings_of
from streamem.estimators.hyperparameters import generator_of, run_key
from streamem.estimators.making import engine_for, for_rows_of, model_of, start_of
from streamem.estimators.structure import Opened
from streamem.machine.importing import import_whole
from streamem.running.answers import survey_source
from streamem.running.fitted import Fitted, PriorWeight, Surveyed, fit
from streamem.running.objective import objective
from streamem.running.reached import LocalMaximumWarning, NoMaximumWarning
from streamem.running.reads import Reads
from streamem.running.starts import Job, fits_limit

Path = str | os.PathLike[str]

CALLER = 4
"""Frames from here to the line of the user that called `fit`."""


def fit_to(
    settings: Any,
    opened: Opened,
    algorithm: Variant | None,
    earlier: Fitted | None,
    checkpoint: Path | None,
    executor: Any,
    halve_after: int | None = None,
) -> Fitted:
    """What is fitted to the source.

    Parameters
    ----------
    algorithm : what the user asked for; None leaves it to the checkpoint, or to the plan
    earlier : a fit to go on from, or None to start anew
    """
    settings.structure.check_start(settings, opened.shape)
    opened = by_moments(settings, compressed(settings, opened, executor), algorithm, checkpoint, executor)
    known = surveyed(settings, opened, executor)
    chosen = Chosen(algorithm) if algorithm is not None else of_checkpoint(settings, checkpoint)
    if chosen is None:
        why_not = "" if earlier is None else "it goes on from a fit"
        chosen = chosen_for(settings, opened, known, executor, why_not)
    known = steps_weighed(settings, opened, known, chosen.algorithm, executor)
    job = job_of(settings, opened, known, chosen.algorithm, executor)
    if earlier is not None:
        job = replace(job, n_init=1, warm=_warm(settings, earlier, opened))
    key = {**job.key, "halve_after": halve_after} if halve_after else job.key
    fitted = fit(replace(job, checkpoint=checkpoint, halve_after=halve_after, key=key), known)
    if fitted.state is not None and fitted.report is not None and job.has_prior:
        reached = objective(job.model, fitted.state)
        told = None if reached == fitted.state.log_likelihood else reached  # a flat prior is none
        fitted = replace(fitted, report=replace(fitted.report, objective=told))
    if fitted.state is not None and fitted.report is not None:
        certificate = settings.structure.certificate(job.model, fitted.state)
        fitted = replace(fitted, report=replace(fitted.report, certificate=certificate))
    # Noise belongs to the rows of a call: later ones have their own, or none.
    shape = None if fitted.shape is None else replace(fitted.shape, noise=None)
    return with_algorithm(replace(fitted, shape=shape), chosen)


def chosen_for(settings: Any, opened: Opened, known: Fitted, executor: Any, why_not: str) -> Chosen:
    """The algorithm of a fit that names none; `why_not`: why it wants no mini-batches, in words, or ""."""

    def fits(algorithm: Variant) -> bool:
        return fits_limit(job_of(settings, opened, known, algorithm, executor), opened.source.chunks())

    return by_plan(settings, opened, fits, why_not)


def job_of(settings: Any, opened: Opened, known: Fitted, algorithm: Variant, executor: Any) -> Job:
    """The starts of an estimator on a source, of which `known` is what passes before them have found."""
    structure, source = settings.structure, opened.source
    model = model_of(settings, known)
    return Job(
        model=model,
        source=source,
        algorithm=algorithm,
        make_start=_maker(settings, model, opened, algorithm.exchanges and settings.n_init == 1),
        n_components=structure.count(settings),
        n_init=settings.n_init,
        rng=generator_of(settings),
        engine=engine_for(settings, type(settings).__name__, model, known, executor),
        least_rows=structure.least_rows(settings, source.schema.n_features),
        max_iter=getattr(settings, structure.iterations),
        key={**run_key(settings), "algorithm": algorithm.key},
        starts_from_rows=structure.starts_from_rows,
        has_prior=bool(model.has_prior) or known.prior_weight.data is not None,
        tol=float(settings.tol),
    )


def with_algorithm(fitted: Fitted, chosen: Chosen) -> Fitted:
    """A fit that tells its algorithm if nobody named it, and the weight of all rows if that saw them in one pass."""
    if chosen.words and fitted.report is not None:
        told = {**fitted.report.setting, "algorithm": chosen.words}
        fitted = replace(fitted, report=replace(fitted.report, setting=told))
    if not chosen.algorithm.sees_all_rows or fitted.state is None:
        return fitted
    return replace(fitted, prior_weight=replace(fitted.prior_weight, steps=fitted.state.weight))


def compressed(settings: Any, opened: Opened, executor: Any) -> Opened:
    """Different rows with weights in place of rows, where the estimator has `compress` and it pays."""
    wanted = getattr(settings, "compress", False)
    if not wanted:
        return opened
    known = Fitted(shape=opened.shape)
    model: Any = model_of(settings, known)
    engine = engine_for(settings, "patterns", model, known, executor)
    compress = import_whole("streamem.running.compress")
    source = compress.compressed(opened.source, model.family, model.missing, engine, wanted is True)
    return replace(opened, source=source)


def by_moments(
    settings: Any, opened: Opened, algorithm: Variant | None, checkpoint: Path | None, executor: Any
) -> Opened:
    """A few rows with mean and covariance of all, where nothing else matters to the model or the algorithm."""
    chosen = algorithm or (found.algorithm if (found := of_checkpoint(settings, checkpoint)) else None)
    if not settings.structure.needs_moments_alone(settings) or not (chosen is None or chosen.sees_all_rows):
        return opened
    known = Fitted(shape=opened.shape)
    model: Any = model_of(settings, known)
    engine = engine_for(settings, "moments", model, known, executor)
    moments = import_whole("streamem.running.moments")
    return replace(opened, source=moments.condensed(opened.source, model.missing, engine))


def _maker(
    settings: Any, model: Any, opened: Opened, exchanges: bool
) -> Callable[[Chunk, np.random.RandomState, Reads], Params]:
    def start(sample: Chunk, rng: np.random.RandomState, reads: Reads) -> Params:
        return start_of(settings, model, sample, rng, opened.shape, reads, exchanges)

    return start


def surveyed(settings: Any, opened: Opened, executor: Any) -> Fitted:
    """Passes before the first start: the survey of a family, with the weight of the data for its prior, and a box."""
    known, source = Fitted(shape=opened.shape), opened.source
    asked = settings.face.family(settings, opened.shape)
    resolved = for_rows_of(asked, opened.shape)
    if not full_family(resolved).is_surveyed:
        engine = engine_for(settings, "survey", model_of(settings, known), known, executor)
        family: Any = survey_source(integrated(settings, resolved), source, engine)
        seen = Surveyed(asked, settings_of(asked), family)
        data = getattr(family, "total_weight", None)
        known = replace(known, surveyed=seen, prior_weight=PriorWeight(data))
    if settings.structure.needs_box(settings):
        model = model_of(settings, known)
        engine = engine_for(settings, "box", model, known, executor)
        known = replace(known, box=settings.structure.box(settings, model, source, engine))
    return known


def steps_weighed(settings: Any, opened: Opened, known: Fitted, algorithm: Variant, executor: Any) -> Fitted:
    """What is known, with the weight of all steps if a prior asks for it and no M-step sees all rows."""
    if algorithm.sees_all_rows:
        return known
    model = model_of(settings, known)
    engine = engine_for(settings, "survey", model, known, executor)
    steps = settings.structure.steps_weight(settings, model, opened.source, engine)
    return replace(known, prior_weight=replace(known.prior_weight, steps=steps))


def _warm(settings: Any, earlier: Fitted, opened: Opened) -> Callable[[Algorithm], State]:
    """From the algorithm, the state to go on from: of the same data, the trace goes on too."""
    require_fit(settings, earlier, opened.shape.features)
    state = earlier.state
    assert state is not None
    if earlier.seen != opened.source.fingerprint():
        return lambda algorithm: algorithm.start(state.params)
    return lambda algorithm: algorithm.resume(state)


def warn_of_ends(settings: Any, fitted: Fitted, asked: Variant | None) -> None:
    """Warn of a fit by an algorithm that was asked for (None: by one that was chosen) that has not converged."""
    limit = settings.structure.iterations
    may_end = asked is not None and asked.can_end_unconverged
    if not settings.converged_ and getattr(settings, limit) and not may_end:
        warnings.warn(
            "Best performing initialization did not converge. Try different init parameters, or increase "
            f"{limit}, tol, or check for degenerate data.",
            ConvergenceWarning,
            stacklevel=CALLER,
        )
    if settings.converged_ and (told := settings.report_.doubts):
        warnings.warn(told, LocalMaximumWarning, stacklevel=CALLER)
    if told := _no_maximum(settings, fitted):  # coefficients that grow without end may never converge
        warnings.warn(told, NoMaximumWarning, stacklevel=CALLER)


def _no_maximum(settings: Any, fitted: Fitted) -> str:
    """Why the likelihood has no maximum where the fit came to rest; "" if it is not known to have none."""
    state = fitted.state
    assert state is not None
    total = settings.lower_bound_ * state.weight
    return model_of(settings, fitted).no_maximum(state.params, total, state.weight)
