"""`Selection`: what a sweep over hyperparameters has found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamem.core.errors import StreamemError
from streamem.machine.importing import import_whole
from streamem.running.memory import MIB, format_bytes
from streamem.running.sweep import Sharing

WORDS = {"bic": "BIC", "aic": "AIC", "icl": "ICL", "held-out": "held-out log-likelihood per row in nats"}


@dataclass(eq=False)
class Candidate:
    """One point of the grid.

    Attributes
    ----------
    point : its hyperparameters
    estimator : fitted to it, unless there was an error
    log_likelihood : in nats, of the rows that are scored, of so much weight
    entropy : of the responsibilities, in nats; NaN where nobody asked
    """

    point: Mapping[str, Any]
    estimator: Any
    error: StreamemError | None = None
    log_likelihood: float = math.nan
    weight: float = math.nan
    n_parameters: int = 0
    entropy: float = math.nan

    def value(self, criterion: str) -> float:
        """The value of a criterion; NaN where the fit failed."""
        if criterion == "held-out":
            return self.log_likelihood / self.weight if self.weight else math.nan
        fit, p = -2.0 * self.log_likelihood, self.n_parameters
        if criterion == "aic":
            return fit + 2.0 * p
        bic = fit + p * math.log(self.weight) if self.weight > 0 else math.nan
        return bic + 2.0 * self.entropy if criterion == "icl" else bic


class Selection:
    """The fits of a grid, compared by one criterion.

    Attributes
    ----------
    criterion : "bic", "aic", "icl" (the smallest is best) or "held-out" (the largest)
    best_index_ : int, the row of the table
    best_params_ : dict, its point of the grid
    best_estimator_ : fitted
    best_score_ : float, its value of the criterion
    params_, scores_ : list of dict and (m,) array, the point of the grid and the criterion of each candidate
    estimators_ : list, the estimator of each candidate; None where it failed
    n_reads_ : float, how often the data were read by the passes of EM; passes of several fits share one
    bytes_read_ : int, what these reads came to
    n_groups_ : int, groups of fits that each read the data by themselves; more than one where `memory_limit` does not
        hold all fits at once
    one_group_bytes_ : int, about the `memory_limit` in bytes from which on all fits share their reads

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture, select
    >>> rows = np.concatenate([np.zeros(30), np.full(30, 9.0)])[:, None] + np.linspace(0, 1, 60)[:, None]
    >>> select(GaussianMixture(random_state=0), rows, n_components=[1, 2]).best_params_
    {'n_components': 2}
    """

    def __init__(
        self, criterion: str, candidates: Sequence[Candidate], n_reads: float, nbytes: float, sharing: Sharing
    ) -> None:
        self.criterion, self._candidates = criterion, list(candidates)
        self.n_reads_, self.bytes_read_ = float(n_reads), round(nbytes)
        self.n_groups_, self.one_group_bytes_ = sharing.groups, sharing.one_group_bytes
        values = np.array([one.value(criterion) if one.error is None else math.nan for one in candidates])
        self.params_, self.scores_ = [dict(one.point) for one in candidates], values
        self.best_index_ = int(np.nanargmax(values) if criterion == "held-out" else np.nanargmin(values))
        best = self._candidates[self.best_index_]
        self.best_params_, self.best_estimator_ = dict(best.point), best.estimator
        self.best_score_ = float(values[self.best_index_])
        self.estimators_ = [None if one.error is not None else one.estimator for one in candidates]

    @property
    def table(self) -> Any:
        """A pyarrow Table with a row for each candidate: its hyperparameters and what its fit came to.

        Columns besides those of the grid: ``log_likelihood`` (nats, in all), ``weight``, ``n_parameters``, ``aic``,
        ``bic`` (and ``icl``) or ``held_out`` (nats per row), ``iterations``, ``passes``, ``converged``, ``error``;
        with several starts ``reached``, how many came to the best value of the candidate.
        """
        pa = import_whole("pyarrow")
        return pa.table(self._columns())

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianMixture, select
        >>> rows = np.concatenate([np.zeros(30), np.full(30, 9.0)])[:, None] + np.linspace(0, 1, 60)[:, None]
        >>> select(GaussianMixture(random_state=0), rows, n_components=[1, 2]).to_pandas()["n_components"].tolist()
        [1, 2]
        """
        return self.table.to_pandas()

    def plot(self, ax: Any = None) -> Any:
        """The picture of `streamem.plots.plot_selection`; returns matplotlib axes.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianMixture, select
        >>> rows = np.concatenate([np.zeros(30), np.full(30, 9.0)])[:, None] + np.linspace(0, 1, 60)[:, None]
        >>> select(GaussianMixture(random_state=0), rows, n_components=[1, 2]).plot().get_xlabel()
        'n_components'
        """
        return import_whole("streamem.plots").plot_selection(self, ax)

    def __str__(self) -> str:
        """The table, the best candidate marked."""
        columns = self._columns()
        shown = [name for name in columns if name != "error"]
        rows = [[_word(columns[name][i]) for name in shown] for i in range(len(self._candidates))]
        widths = [max(map(len, column)) for column in zip(shown, *rows, strict=True)]
        lines = ["  " + "  ".join(word.rjust(width) for word, width in zip(shown, widths, strict=True))]
        for i, (row, one) in enumerate(zip(rows, self._candidates, strict=True)):
            mark = "* " if i == self.best_index_ else "  "
            told = "" if one.error is None else f"  {type(one.error).__name__}: {one.error}"
            lines.append(mark + "  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) + told)
        reads = f"{self.n_reads_:.0f} reads of the data, {format_bytes(self.bytes_read_)} in all"
        if self.n_groups_ > 1:
            reads += (
                f", by {self.n_groups_} groups of fits one after the other; with memory_limit="
                f"{math.ceil(self.one_group_bytes_ / MIB)}MiB or so all fits would share their reads"
            )
        return "\n".join([*lines, f"best by {WORDS[self.criterion]}; {reads}"])

    __repr__ = __str__

    def describe(self) -> str:
        """The table as text for people, as ``print`` shows it.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianMixture, select
        >>> rows = np.concatenate([np.zeros(30), np.full(30, 9.0)])[:, None] + np.linspace(0, 1, 60)[:, None]
        >>> print(select(GaussianMixture(random_state=0), rows, n_components=[1, 2]).describe().splitlines()[-1][:11])
        best by BIC
        """
        return str(self)

    def _columns(self) -> dict[str, list[Any]]:
        ones = self._candidates
        found: dict[str, list[Any]] = {name: [_plain(one.point[name]) for one in ones] for name in ones[0].point}
        found["log_likelihood"] = [one.log_likelihood for one in ones]
        found["weight"] = [one.weight for one in ones]
        found["n_parameters"] = [one.n_parameters for one in ones]
        if self.criterion == "held-out":
            found["held_out"] = [one.value("held-out") for one in ones]
        else:
            found["aic"], found["bic"] = [one.value("aic") for one in ones], [one.value("bic") for one in ones]
        if self.criterion == "icl":
            found["icl"] = [one.value("icl") for one in ones]
        ended = [None if one.error is not None else one.estimator for one in ones]
        found["iterations"] = [0 if one is None else int(one.n_iter_) for one in ended]
        found["passes"] = [0 if one is None else len(one.report_.passes) for one in ended]
        counted = [None if one is None else one.report_.starts for one in ended]
        if any(counted):
            found["reached"] = [None if one is None else one.reached for one in counted]
        found["converged"] = [one is not None and bool(one.converged_) for one in ended]
        found["error"] = [None if one.error is None else str(one.error) for one in ones]
        return found


def _plain(value: Any) -> Any:
    """A value that a table can hold."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _word(value: Any) -> str:
    return (
        f"{value:.6g}"
        if isinstance(value, float) and abs(value) < 1e5
        else (f"{value:.1f}" if isinstance(value, float) else str(value))
    )
