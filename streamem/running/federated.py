"""Federated fits: sites send expected statistics, never rows; whoever has all of them maximizes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamem.algorithms import BatchEM, StoppingRule, rebased, remember, went_online
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ModelFileError, ParameterError
from streamem.core.faults import require_faultless
from streamem.core.ports import Model, Source
from streamem.core.state import State
from streamem.core.stats import Stats, stats_faults
from streamem.running.answers import reduce_source
from streamem.running.engines import Engine
from streamem.running.fit import EStep

KIND = "statistics"
Path = str | os.PathLike[str]
UNLIMITED = 2**62


@dataclass(frozen=True, eq=False)
class SharedStats:
    """Expected sufficient statistics of some rows, and the parameters that they belong to.

    Those of several sites can be added, also by ``sum([...])``, if they belong to the same parameters. They hold sums
    over rows (for a Gaussian: weights, first and second moments of each component) and no row; of very few rows sums
    can still reveal much, so ask a site for many.

    Attributes
    ----------
    stats : the sums
    basis : identifies the model and its parameters

    Examples
    --------
    >>> from streamem import GaussianMixture
    >>> gm = GaussianMixture(1).fit([[0.0], [1.0], [5.0]])
    >>> sites = gm.expected_statistics([[0.0], [1.0]]) + gm.expected_statistics([[5.0]])
    >>> gm.maximize(sites).means_.ravel().tolist()
    [2.0]
    """

    stats: Stats
    basis: str

    @property
    def rows(self) -> int:
        """How many rows were summed."""
        return int(self.stats.rows)

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of these rows under the parameters that the statistics belong to, in nats."""
        return float(self.stats.log_likelihood)

    def __add__(self, other: SharedStats) -> SharedStats:
        if not isinstance(other, SharedStats):
            return NotImplemented
        if other.basis != self.basis:
            raise ParameterError(
                f"statistics of different parameters cannot be added ({self.basis} and {other.basis}): every site has "
                "to load the model of the same round"
            )
        return SharedStats(self.stats + other.stats, self.basis)

    def __radd__(self, other: object) -> SharedStats:
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def save(self, path: Path) -> None:
        """Write to one ``.npz`` file, atomically and without pickle.

        Raises
        ------
        ParameterError : the path does not end in .npz
        OutputError : the disk is full or the folder is missing

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).fit([[0.0], [1.0], [5.0]])
        >>> path = os.path.join(tempfile.mkdtemp(), "site.npz")
        >>> gm.expected_statistics([[0.0], [1.0]]).save(path)
        >>> SharedStats.load(path).rows
        2
        """
        if not os.fspath(path).endswith(".npz"):
            raise ParameterError(f"{path}: a file of statistics ends in .npz")
        write_archive(path, KIND, {"basis": self.basis}, self.stats.flatten())

    @classmethod
    def load(cls, path: Path) -> SharedStats:
        """Read what `save` wrote.

        Raises
        ------
        ModelFileError : not such a file, damaged, or not to be trusted

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).fit([[0.0], [1.0], [5.0]])
        >>> path = os.path.join(tempfile.mkdtemp(), "site.npz")
        >>> gm.expected_statistics([[0.0], [5.0]]).save(path)
        >>> gm.maximize(SharedStats.load(path)).means_.ravel().tolist()
        [2.5]
        """
        archive = read_archive(path, KIND)
        try:
            stats = Stats.unflatten(archive.arrays)
            shared = cls(stats, str(archive.meta["basis"]))
            require_faultless(path, stats_faults(stats))
            if not (shared.rows >= 0 and np.isfinite(shared.log_likelihood)):
                raise ValueError(f"{shared.rows} rows, log-likelihood {shared.log_likelihood}")
        except ModelFileError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelFileError(f"{path} cannot be trusted as statistics: {error!r}") from error
        return shared


def basis_of(name: str, params: Params, feature_names: Sequence[Any], reg_covar: float | None) -> str:
    """What identifies the parameters to which statistics belong: the same text in every process.

    Parameters
    ----------
    name : of the estimator's class
    feature_names : empty where there are none
    reg_covar : regularization, which the M-step reads, or None
    """
    digest = hashlib.blake2b(digest_size=8)
    for path, value in sorted(params.flatten().items()):
        digest.update(f"{path}{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    digest.update(repr(([str(feature) for feature in feature_names], reg_covar)).encode())
    return f"{name}-{digest.hexdigest()}"


def expected_statistics(model: Model, params: Params, source: Source, engine: Engine, basis: str) -> SharedStats:
    """The expected sufficient statistics of a source under given parameters.

    Raises
    ------
    DataError : the source has no rows
    """
    if source.n_rows == 0:
        raise DataError(f"{source.schema.origin} has no rows")
    task = EStep(model, model.for_pass_of(params, source.n_rows), source.schema.names)
    held = model.statistics_bytes(source.schema.n_features)
    return SharedStats(reduce_source(source, task, engine, held), basis)


def require_statistics_of(statistics: Any, basis: str) -> None:
    """Refuse what is no `SharedStats`, or belongs to other parameters.

    Raises
    ------
    ParameterError : saying which
    """
    if not isinstance(statistics, SharedStats):
        raise ParameterError(
            f"maximize takes what expected_statistics gives, not a {type(statistics).__name__}; of several sites "
            "pass sum([...]), which must not be empty"
        )
    if statistics.basis != basis:
        raise ParameterError(
            f"the statistics belong to other parameters ({statistics.basis}) than this model has "
            f"({basis}): make them with this very model"
        )


def maximize(model: Model, state: State, stats: Stats, stopping: StoppingRule, row_width: int) -> State:
    """The state after an M-step with statistics of all sites, taken at the parameters of `state`.

    Parameters
    ----------
    row_width : values of a row as the model reads it

    Raises
    ------
    ParameterError : statistics of other shapes than those of the model
    MonotonicityError : of as many rows, the log-likelihood fell since the round before
    """
    opened = replace(state, closing=False, converged=False, log_likelihood=None, memory=None)
    seen = (int(stats.rows), float(stats.weight))
    if seen != (state.rows, state.weight) or went_online(state):
        opened = replace(opened, trace=(), iteration=0)
    _require_own_shapes(model, state.params, stats, row_width)
    updated = BatchEM(stopping, UNLIMITED).update(model, opened, stats)
    return remember(updated, rebased(model, stats, state.params, updated.params))


def _require_own_shapes(model: Model, params: Params, stats: Stats, row_width: int) -> None:
    """Refuse statistics that a file says are those of this model, and that are of other shapes."""
    nothing = model.e_step(params, Chunk(np.empty((0, row_width))))
    own, found = ({name: value.shape for name, value in each.flatten().items()} for each in (nothing, stats))
    wrong = [name for name in own.keys() | found.keys() if own.get(name) != found.get(name)]
    if wrong:
        raise ParameterError(
            f"the statistics are not of this model, whatever they say: {', '.join(sorted(wrong))} have other shapes"
        )
