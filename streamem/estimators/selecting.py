"""`select`: the fits of a grid of hyperparameters in shared passes, and the best of them by a criterion."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError, StreamemError
from streamem.core.ports import ChunkRef, PassTask, Variant
from streamem.core.stats import Stats
from streamem.estimators.default_algorithm import Chosen
from streamem.estimators.family_facts import settings_of
from streamem.estimators.fitting import (
    by_moments,
    chosen_for,
    compressed,
    job_of,
    steps_weighed,
    surveyed,
    with_algorithm,
)
from streamem.estimators.hyperparameters import check_hyperparameters, chosen_algorithm, require_count
from streamem.estimators.making import engine_for, model_of, n_parameters
from streamem.estimators.selection import Candidate, Selection
from streamem.estimators.structure import DataArguments, Opened
from streamem.running.answers import reduce_source
from streamem.running.fitted import Fitted
from streamem.running.loop import FEWEST_PASSES, JointEStep
from streamem.running.reached import LocalMaximumWarning
from streamem.running.row_tasks import Apply
from streamem.running.starts import Outcome
from streamem.running.sweep import Sweep, reads
from streamem.sources.held_out import Split, SplitSource

Path = str | os.PathLike[str]
SHARED = "fits of a sweep share their reads"
"""Why none of them makes mini-batches of its own unless asked to."""
CRITERIA = ("bic", "aic", "icl", "held-out")


def select(
    estimator: Any,
    X: Any,
    *,
    criterion: str = "bic",
    held_out: float = 0.1,
    seed: int = 0,
    algorithm: str | Variant | None = None,
    halve_after: int | None = None,
    checkpoint: Path | None = None,
    executor: Any = None,
    sample_weight: Any = None,
    columns: Sequence[str] | None = None,
    feature_axis: int | str | None = None,
    lengths: Any = None,
    offsets: Any = None,
    sequence_column: str | None = None,
    **grid: Iterable[Any],
) -> Selection:
    """Fit an estimator at every point of a grid in shared passes over the data, and choose the best fit.

    Each chunk is read once a pass for all candidates that have not ended, as many as fit the memory limit at a time;
    those that do not fit follow in groups. All start from one sample of rows. Where this sample is all the data (up to
    64 MiB, or an eighth of `memory_limit`), each candidate ends with the bits of a fit by itself.

    Parameters
    ----------
    estimator : not fitted; clones of it are
    X : anything that `fit` takes
    criterion : "bic" (Schwarz 1978) | "aic" (Akaike 1974) | "icl" | "held-out"
        The smallest −2ℓ + p·log(weight), −2ℓ + 2p, or BIC + 2·entropy of the responsibilities (Biernacki, Celeux &
        Govaert 2000; for mixtures of rows); or the largest log-likelihood per row of rows (for chains and groups: of
        whole sequences) that no fit has seen.
    held_out : share of the rows or sequences that "held-out" keeps from the fits, picked by a hash of their number
    seed : of this hash, and of the starting sample
    algorithm, halve_after, executor : as in `fit`
        None is "batch" or, where each pass reads more than is kept, "anderson": mini-batches would share no reads.
    sample_weight, columns, feature_axis, lengths, offsets, sequence_column : as in `fit`
    checkpoint : path of an ``.npz`` file, saved after every pass
        The same call goes on from it, and ends with the bits of one that was never stopped; its report counts the
        passes since.
    grid : hyperparameters with the values to try, as in ``n_components=range(2, 20), covariance_type=("full", "diag")``

    Returns
    -------
    Selection : its `table` has a row for each candidate, `best_estimator_` is the fitted estimator of the best
        A candidate that cannot be fitted (more components than rows, covariances that collapse) says why in the column
        ``error``, and does not end the others.

    Raises
    ------
    ParameterError : an empty grid, a hyperparameter that the estimator has not, a criterion that does not fit
    MemoryLimitError : one candidate alone exceeds `memory_limit`
    StreamemError : that of the first candidate, if all of them fail

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture, select
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(8, 1, (200, 2))])
    >>> found = select(GaussianMixture(random_state=0), X, n_components=range(1, 4), covariance_type=("full", "diag"))
    >>> found.best_params_
    {'n_components': 2, 'covariance_type': 'diag'}
    """
    if halve_after is not None:
        require_count("halve_after", halve_after, FEWEST_PASSES)
    points = points_of(estimator, grid)
    clones = [clone(estimator).set_params(**point) for point in points]
    asked = [None if algorithm is None else chosen_algorithm(one, algorithm) for one in clones]
    for one in clones:
        check_hyperparameters(one)
    _check(clones, criterion, held_out, seed)
    arguments = DataArguments(sample_weight, columns, feature_axis, lengths, offsets, sequence_column)
    if not all(one is None or one.reads_in_order for one in asked):
        arguments = replace(arguments, in_order=False)
    opened = clones[0].structure.open(clones[0], X, arguments, None)
    scored = opened.source
    if criterion == "held-out":
        scored = SplitSource(opened.source, Split(held_out, seed, held=True))
        opened = replace(opened, source=SplitSource(opened.source, Split(held_out, seed, held=False)))
    else:
        opened = _condensed(clones, asked, opened, executor)
        scored = opened.source
    known, chosen, jobs = _jobs(clones, asked, opened, executor)
    outcomes, sharing = Sweep(jobs, seed, halve_after, checkpoint).run()
    candidates = [
        _shown(point, one, by, fitted, outcome)
        for point, one, by, fitted, outcome in zip(points, clones, chosen, known, outcomes, strict=True)
    ]
    fitted_ones = [candidate for candidate in candidates if candidate.error is None]
    if not fitted_ones:
        raise next(candidate.error for candidate in candidates if candidate.error is not None)
    _score(fitted_ones, scored, criterion, executor)
    n_reads, nbytes = reads([one.estimator.report_ for one in fitted_ones])
    found = Selection(criterion, candidates, n_reads, nbytes, sharing)
    best = found.best_estimator_
    if best.converged_ and (told := best.report_.doubts):
        warnings.warn(f"the best candidate, {found.best_params_}: {told}", LocalMaximumWarning, stacklevel=2)
    return found


def _condensed(clones: Sequence[Any], asked: Sequence[Variant | None], opened: Opened, executor: Any) -> Opened:
    """Different rows with weights, or a few rows with the moments of all, where that is the same to all candidates."""
    opened = compressed(clones[0], opened, executor)
    by_rows = [one for one in asked if one is not None and not one.sees_all_rows]
    if by_rows or not all(one.structure.needs_moments_alone(one) for one in clones):
        return opened
    return by_moments(clones[0], opened, None, None, executor)


def points_of(estimator: Any, grid: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """The points of a grid, the last hyperparameter fastest.

    Raises
    ------
    ParameterError : no point, or a name that is no hyperparameter
    """
    if not grid:
        raise ParameterError("the grid is empty; name what to try, such as n_components=range(2, 10)")
    known = estimator.get_params()
    values: dict[str, list[Any]] = {}
    for name, wanted in grid.items():
        if name not in known:
            raise ParameterError(
                f"{type(estimator).__name__} has no hyperparameter {name!r}; it has {', '.join(sorted(known))}"
            )
        if isinstance(wanted, str) or not isinstance(wanted, Iterable):
            raise ParameterError(f"{name} is {wanted!r}; pass the values to try, such as {name}=[{wanted!r}]")
        values[name] = list(wanted)
        if not values[name]:
            raise ParameterError(f"the grid is empty: {name} has no value to try")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def _check(clones: Sequence[Any], criterion: str, held_out: float, seed: int) -> None:
    if criterion not in CRITERIA:
        raise ParameterError(f"criterion is {criterion!r}; it must be one of {list(CRITERIA)}")
    if not isinstance(held_out, int | float) or not 0 < held_out < 1:
        raise ParameterError(f"held_out is {held_out!r}; it must be a share between 0 and 1")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ParameterError(f"seed is {seed!r}; it must be an integer from 0 to 2³² − 1")
    first = clones[0]
    if criterion == "icl" and ("responsibilities" not in first.structure.questions or first.structure.is_sequential):
        raise ParameterError(f"criterion='icl' is for mixtures of rows, not for {type(first).__name__}; use 'bic'")
    budgets = {(one.memory_limit, one.chunk_bytes) for one in clones}
    if len(budgets) > 1:
        raise ParameterError(
            "memory_limit and chunk_bytes decide the plan, which all candidates share; set one value of each"
        )


def _jobs(
    clones: Sequence[Any], asked: Sequence[Variant | None], opened: Opened, executor: Any
) -> tuple[list[Fitted], list[Chosen], list[Any]]:
    """What passes before the starts have found, once for all candidates of one family; and how each is fitted."""
    known: dict[str, Fitted] = {}
    found, chosen, jobs = [], [], []
    for one, algorithm in zip(clones, asked, strict=True):
        one.structure.check_start(one, opened.shape)
        key = f"{settings_of(one.face.family(one, opened.shape))} {getattr(one, 'noise', False)}"
        if key not in known:
            known[key] = surveyed(one, opened, executor)
        by = Chosen(algorithm) if algorithm is not None else chosen_for(one, opened, known[key], executor, SHARED)
        steps = f"{key} steps" if not by.algorithm.sees_all_rows else key
        if steps not in known:
            known[steps] = steps_weighed(one, opened, known[key], by.algorithm, executor)
        found.append(known[steps])
        chosen.append(by)
        jobs.append(job_of(one, opened, known[steps], by.algorithm, executor))
    return found, chosen, jobs


def _shown(
    point: Mapping[str, Any], estimator: Any, chosen: Chosen, known: Fitted, outcome: Outcome | StreamemError
) -> Candidate:
    if isinstance(outcome, StreamemError):
        return Candidate(point, estimator, error=outcome)
    fitted = replace(known, state=outcome.state, report=outcome.report)
    estimator._show(with_algorithm(fitted, chosen))
    return Candidate(point, estimator)


@dataclass(frozen=True, eq=False)
class Entropy(PassTask[Stats]):
    """The weighted sum of the entropies of responsibilities, in nats."""

    responsibilities: Apply

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        """entropy of one chunk."""
        r = self.responsibilities(chunk, ref)
        entropy = -np.sum(np.where(r > 0, r * np.log(np.where(r > 0, r, 1.0)), 0.0), axis=1)
        return Stats(entropy=entropy.sum() if chunk.weight is None else chunk.weight @ entropy)


def _score(candidates: Sequence[Candidate], source: Any, criterion: str, executor: Any) -> None:
    """Fill in what the criteria are made of, in one pass for all candidates."""
    names, tasks = source.schema.names, []
    for candidate in candidates:
        one, fitted = candidate.estimator, candidate.estimator._fitted
        model = model_of(one, fitted)
        params = model.for_pass_of(fitted.state.params, source.n_rows)
        tasks.append(one.structure.score_task(model, params, names))
        if criterion == "icl":
            asked = one.structure.questions["responsibilities"]
            column = asked.column(int(one.structure.count(one)), np.dtype(np.float64), False)
            tasks.append(Entropy(asked.task(model, params, names, column)))
    largest = max(candidates, key=lambda one: int(one.estimator.structure.count(one.estimator))).estimator
    engine = engine_for(largest, "score", model_of(largest, largest._fitted), largest._fitted, executor)
    total = reduce_source(source, JointEStep(tuple(tasks)), engine, held=64 * len(tasks))
    if not float(total["0"].weight) > 0:
        units = "sequences" if candidates[0].estimator.structure.is_sequential else "rows"
        raise DataError(
            f"none of the {units} of {source.schema.origin} is held out; raise held_out, or choose another seed"
        )
    step = 2 if criterion == "icl" else 1
    for i, candidate in enumerate(candidates):
        stats = total[str(step * i)]
        candidate.weight, candidate.log_likelihood = float(stats.weight), float(stats.log_likelihood)
        candidate.n_parameters = n_parameters(candidate.estimator, candidate.estimator._fitted)
        if criterion == "icl":
            candidate.entropy = float(total[str(step * i + 1)].entropy)
