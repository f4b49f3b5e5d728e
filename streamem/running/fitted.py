"""`Fitted`: everything that a fit leaves behind, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streamem.algorithms import went_online
from streamem.core.chunk import Chunk
from streamem.core.ports import Family
from streamem.core.state import State
from streamem.running.report import FitReport
from streamem.running.starts import Job, fit_job


@dataclass(frozen=True)
class Shape:
    """What the rows of a fit looked like; later rows are checked against it.

    Attributes
    ----------
    features : d, the features of a row
    names : of the features, or None where the data had none
    categories : of columns that hold categories, the values in the order of their codes
    columns : the features that were chosen among more columns, or None where all were taken
    dtype : in which the public attributes of the fit are shown
    sequences : by which name in the data its sequences are found, such as {"sequence_column": "run"}
    noise : "variances" or "covariances", where the rows of a call hold their noise behind the features; else None
    covariates : columns that are no features but drive transitions or weights, by position among all columns of a row
    covariate_names : their names, in that order, where the data had such
    shared : those of them that are features too
    response : the column that the features explain, which lies behind them; None where it has no name, or there is none
    classes : labels of the response in the order of their codes; None where it holds numbers
    """

    features: int
    names: tuple[str, ...] | None = None
    categories: Mapping[str, tuple[Any, ...]] | None = None
    columns: tuple[str, ...] | None = None
    dtype: np.dtype[Any] = field(default=np.dtype(np.float64))
    sequences: Mapping[str, str] = field(default_factory=dict)
    noise: str | None = None
    covariates: tuple[int, ...] = ()
    covariate_names: tuple[str, ...] | None = None
    shared: tuple[int, ...] = ()
    response: str | None = None
    classes: tuple[Any, ...] | None = None

    @property
    def width(self) -> int:
        """Columns of a row, features and covariates."""
        return self.features + len(self.covariates) - len(self.shared)

    @property
    def all_names(self) -> tuple[str, ...] | None:
        """Names of all columns in the order of the data; None where the data had none."""
        if self.names is None or not self.covariates:
            return self.names
        known = dict(zip(self.covariates, self.covariate_names or (), strict=True))
        driving = {at: name for at, name in known.items() if at not in self.shared}
        rest = iter(self.names)
        return tuple(driving[i] if i in driving else next(rest) for i in range(self.width))


@dataclass(frozen=True)
class PriorWeight:
    """How much data the last fit saw, against which priors are weighed in steps with a part of the data.

    Attributes
    ----------
    data : of all rows, for priors of the family; None where it has no prior
    steps : of all steps, for priors of transitions; None where nothing asks for it
    """

    data: float | None = None
    steps: float | None = None


@dataclass(frozen=True, eq=False)
class Surveyed:
    """What a family became once it had seen all rows.

    Attributes
    ----------
    asked : the family before
    settings : its settings in words: one made anew of equal settings is the same
    family : the family that has seen them
    """

    asked: Family
    settings: str
    family: Family


@dataclass(frozen=True)
class StreamPlace:
    """How far a model has come in streams.

    Attributes
    ----------
    positions : [where, records] of each partition, by the name of the stream
    lengths : [path, bytes] of the files that were written beside the model, by their kind
    """

    positions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lengths: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model as a value: it is saved, compared, rolled back by assignment, handed to threads.

    Attributes
    ----------
    state : where EM stands, the exact parameters included; None while rows are kept for a start
    shape : of the rows; None before any were seen
    report : what the fit did
    seen : fingerprint of the data to which the trace of `state` belongs; "" if to none
    prior_weight : see `PriorWeight`
    surveyed : the family that a survey of the rows made, or None
    box : (2, d) smallest and largest values of the rows of the fit, where noise, or
        covariates of transitions or weights, need them before the first parameters
    stream : see `StreamPlace`; None of a model that never learned from a stream
    pending : rows that are kept until a start can be made of them
    """

    state: State | None = None
    shape: Shape | None = None
    report: FitReport | None = None
    seen: str = ""
    prior_weight: PriorWeight = field(default_factory=PriorWeight)
    surveyed: Surveyed | None = None
    box: Any = None
    stream: StreamPlace | None = None
    pending: Chunk | None = None

    @property
    def lower_bounds(self) -> list[float]:
        """Log-likelihood per row after each iteration of the last fit, in nats."""
        state = self.state
        if state is None or not state.iteration:
            return []
        own = state.trace[max(0, len(state.trace) - state.iteration) :]
        return [*own[1:], *([] if state.log_likelihood is None else [state.log_likelihood])]

    @property
    def learns_online(self) -> bool:
        """Whether the last steps were of mini-batches."""
        return self.state is not None and went_online(self.state)


def fit(job: Job, fitted: Fitted) -> Fitted:
    """Run a job to its end; `fitted` holds what is known of the data and of the family.

    Raises
    ------
    DataError, MemoryLimitError, WriterConflictError : as `fit_job`
    """
    outcome = fit_job(job)
    return replace(fitted, state=outcome.state, report=outcome.report, seen=job.source.fingerprint())
