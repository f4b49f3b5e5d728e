"""A model that a user wrote as three NumPy functions, as a `Model`: dicts in, dicts out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.missing import Missing
from streamem.core.numerics import EPS
from streamem.core.own_results import own_params, own_stats, require_shapes, shapes_of
from streamem.core.ports import Model
from streamem.core.ports.own import ModelRows, able, as_dict, label_of, require_model, takes_missing
from streamem.core.stats import Stats

Array = NDArray[Any]

BLOCK_BYTES = 16 * 2**20
"""Of what an E-step of the user may hold besides its rows."""
FEWEST_ROWS, MOST_ROWS = 64, 2**14
COPIES = 16
"""Arrays like the rows that an E-step is taken to hold, where the model does not say."""
UNITS = 1024.0
"""Rounding errors of a log-likelihood of rows, per row and per nat: NumPy code subtracts, and nobody has counted."""
PROBED = 8
"""Rows by which is found out whether an E-step reads weights."""


class OwnModel(Model):
    """A user's own model.

    Parameters
    ----------
    own : see `UserModel`
    names : of the columns of rows, or None

    Notes
    -----
    Parameters: components, the dict of `init` and `m_step`. Statistics: rows, weight, log_likelihood, rounding, and
    own, the dict of `e_step`. Rows come to `own` in blocks, so that what NumPy holds for them is bounded; a chunk's
    statistics are the sum of its blocks in order.
    """

    def __init__(self, own: Any, names: tuple[str, ...] | None = None) -> None:
        require_model(own)
        self.own, self.names = own, names
        self.family = SingleComponent(own)
        self._layout: dict[str, tuple[int, ...]] | None = None
        self._weighs = False

    @property
    def label(self) -> str:
        """The name of the user's class."""
        return label_of(self.own)

    @property
    def missing(self) -> Missing:
        """Any value of a row, if the user's model says so; else nothing."""
        return Missing.VALUES if self.allows_missing_values else Missing.UNDECLARED

    @property
    def allows_missing_values(self) -> bool:
        """Whether the user's model says that it takes NaN."""
        return takes_missing(self.own)

    @property
    def has_prior(self) -> bool:
        """Whether the M-step subtracts something."""
        return hasattr(self.own, "penalty")

    # --- EM ----------------------------------------------------------------------------------------------------------

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """The user's start; an E-step of a few rows from it tells the names and shapes of the statistics."""
        drawn = np.random.default_rng(rng.randint(0, 2**31, size=4, dtype=np.int64))
        with self._named("init"):
            returned = self.own.init(self.rows(sample), drawn)
        params = Params(components=own_params(returned, f"init of {self.label}"))
        self.e_step(params, Chunk(sample.x[:PROBED], None if sample.weight is None else sample.weight[:PROBED]))
        return params

    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """Sums of the blocks of a chunk."""
        if chunk.weight is not None and not self._weighs:
            self._require_weighing(params, chunk)
        given, step = as_dict(params.components), self.block_rows(chunk.x.shape[1])
        if chunk.rows:
            total, reached = self._of_block(given, self.rows(chunk, 0, step))
        else:
            total, reached = self._of_nothing(given, chunk)
        for first in range(step, chunk.rows, step):
            more, also = self._of_block(given, self.rows(chunk, first, first + step))
            total, reached = total + more, reached + also
        weight = float(chunk.rows if chunk.weight is None else chunk.weight.sum(dtype=np.float64))
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=reached,
            rounding=UNITS * EPS * (weight + abs(reached)),
            own=total,
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """The user's next parameters."""
        with self._named("m_step"):
            returned = self.own.m_step(self.statistics(stats), as_dict(previous.components))
        return Params(components=own_params(returned, f"m_step of {self.label}", previous.components))

    def penalty(self, params: Params, stats: Stats) -> float:
        """What the user's M-step subtracts from the expected log-likelihood: minus a log-prior, in nats."""
        if not hasattr(self.own, "penalty"):
            return 0.0
        with self._named("penalty"):
            return float(self.own.penalty(as_dict(params.components), self.statistics(stats)))

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """How far the user says that an inexact M-step may miss, in nats."""
        if not hasattr(self.own, "shortfall"):
            return 0.0
        with self._named("shortfall"):
            given = as_dict(old.components), as_dict(new.components), self.statistics(stats)
            return float(self.own.shortfall(*given))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Numbers of a file that are not finite."""
        found = params.components.items()
        return [f"{name} holds values that are not finite" for name, value in found if not np.isfinite(value).all()]

    # --- what it takes -----------------------------------------------------------------------------------------------

    def block_rows(self, n_features: int) -> int:
        """Rows that the user's functions get at a time: a pure function of the number of columns."""
        return int(min(max(BLOCK_BYTES // self._row_bytes(n_features), FEWEST_ROWS), MOST_ROWS))

    def workspace_bytes(self, n_features: int) -> int:
        """What a block is taken to hold: ``row_bytes`` of the user's model a row, or 16 copies of its rows."""
        return self.block_rows(n_features) * (self._row_bytes(n_features) + 8 * (n_features + 1))

    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics as they were seen; before, as many as of a matrix of the features and 1."""
        if self._layout is None:
            return 8 * (n_features + 1) ** 2
        return 8 * sum(int(np.prod(shape)) for shape in self._layout.values())

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """The user's code, whose rows are float64."""
        return f"float64 code of {self.label}"

    def rows(self, chunk: Chunk, first: int = 0, stop: int | None = None) -> ModelRows:
        """Some rows of a chunk as the user's functions get them."""
        x = np.ascontiguousarray(chunk.x[first:stop], dtype=np.float64).view()
        x.setflags(write=False)
        weight = np.ones(len(x)) if chunk.weight is None else np.asarray(chunk.weight[first:stop], dtype=np.float64)
        return ModelRows(x, weight, self.names)

    def statistics(self, stats: Stats) -> dict[str, Any]:
        """Statistics as the user's functions get them."""
        carried = {name: float(stats[name]) for name in ("rows", "weight", "log_likelihood")}
        return {**carried, **as_dict(stats.own)}

    def described(self, question: str, params: Params, chunk: Chunk) -> Array:
        """What the user's model says of every row of a chunk: (n,) or (n, m).

        Raises
        ------
        NoAbilityError : the model has no such function
        ParameterError : it returned something else
        """
        step, given = self.block_rows(chunk.x.shape[1]), as_dict(params.components)
        function = self.able(question)
        pieces = []
        for first in range(0, max(chunk.rows, 1), step):
            rows = self.rows(chunk, first, first + step)
            with self._named(question):
                found = np.asarray(function(given, rows))
            if found.shape[:1] != (len(rows.x),) or found.ndim > 2 or found.dtype.kind not in "biuf":
                raise ParameterError(
                    f"{question} of {self.label} returned {found.dtype} of shape {found.shape} for {len(rows.x)} rows; "
                    f"numbers ({len(rows.x)},) or ({len(rows.x)}, m) are needed"
                )
            pieces.append(found)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def able(self, question: str) -> Any:
        """A function that the user's model may have.

        Raises
        ------
        NoAbilityError : it has not
        """
        return able(self.own, question)

    def slopes(self, params: Params, chunk: Chunk) -> Array:
        """(n, P) slopes of log p(row) by all numbers of the parameters, of a model that has ``scores``.

        Raises
        ------
        ParameterError : other names or shapes than those of the parameters
        """
        step, given, function = self.block_rows(chunk.x.shape[1]), as_dict(params.components), self.able("scores")
        pieces = [np.zeros((0, sum(int(value.size) for value in params.components.values())))]
        for first in range(0, chunk.rows, step):
            rows = self.rows(chunk, first, first + step)
            with self._named("scores"):
                returned = function(given, rows)
            found = own_params(returned, f"scores of {self.label}")
            n = len(rows.x)
            shapes = {name: (n, *np.shape(value)) for name, value in params.components.items()}
            require_shapes(found, shapes, f"scores of {self.label}")
            pieces.append(np.hstack([np.reshape(found[name], (n, -1)) for name in shapes]))
        return np.concatenate(pieces)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _row_bytes(self, n_features: int) -> int:
        """What a row is taken to cost the user's code."""
        said = getattr(self.own, "row_bytes", None)
        if said is None:
            return COPIES * 8 * (n_features + 1)
        if isinstance(said, bool) or not isinstance(said, int | np.integer) or said < 1:
            raise ParameterError(f"row_bytes of {self.label} is {said!r}; a whole number of bytes >= 1 is needed")
        return int(said)

    def _of_nothing(self, given: Mapping[str, Any], chunk: Chunk) -> tuple[Stats, float]:
        """Zeros for no rows, of which the user's code is asked only where nobody knows its shapes."""
        if self._layout is None:
            return self._of_block(given, self.rows(chunk))
        return Stats(**{name: np.zeros(shape) for name, shape in self._layout.items()}), 0.0

    def _of_block(self, given: Mapping[str, Any], rows: ModelRows) -> tuple[Stats, float]:
        with self._named("e_step"):
            returned = self.own.e_step(given, rows)
        found, reached = own_stats(returned, f"e_step of {self.label}")
        if self._layout is None:
            self._layout = shapes_of(found)
        require_shapes(found, self._layout, f"e_step of {self.label}")
        return found, reached

    def _require_weighing(self, params: Params, chunk: Chunk) -> None:
        """Refuse weights for a model that does not read them, which twice the weights of a few rows tell.

        Raises
        ------
        ParameterError : naming what stays the same
        """
        assert chunk.weight is not None
        picked = np.flatnonzero(chunk.weight > 0)[:PROBED]
        if not len(picked):
            return
        x, weight, given = chunk.x[picked], chunk.weight[picked], as_dict(params.components)
        once, twice = (self._of_block(given, self.rows(Chunk(x, factor * weight))) for factor in (1.0, 2.0))
        pairs = [("log_likelihood", once[1], twice[1]), *((n, v, twice[0][n]) for n, v in once[0].items())]
        for name, one, two in pairs:
            slack = UNITS * EPS * (1.0 + np.abs(one).max(initial=0.0))
            if not (np.abs(two - 2.0 * one) <= slack).all():
                raise ParameterError(
                    f"the data has weights, and e_step of {self.label} does not multiply what a row adds by its "
                    f"chunk.weight: at weights twice as large {name!r} is not twice as large. Multiply it, or leave "
                    "sample_weight out"
                )
        self._weighs = True

    @contextmanager
    def _named(self, function: str) -> Iterator[None]:
        """Say in which function an error was, whatever it is."""
        try:
            yield
        except Exception as error:
            error.add_note(f"in {function} of {self.label}, a model of your own")
            raise


class SingleComponent:
    """What an estimator asks of a family, of a user's own model: one component, whose M-step is the model's."""

    def __init__(self, own: Any) -> None:
        self.own = own

    @property
    def allows_missing(self) -> bool:
        """Whether the model says that it takes NaN."""
        return takes_missing(self.own)

    def log_prob(self, params: Params, x: Array) -> Array:
        """(n, 1) log p(row), in nats, of a model that has ``score_samples``."""
        model = OwnModel(self.own)
        return model.described("score_samples", Params(components=params), Chunk(x))[:, None]

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Statistics of rows x (n, d) of weights resp (n, 1)."""
        return OwnModel(self.own).e_step(Params(components=params), Chunk(x, resp[:, 0]))

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """The parameters of the model's M-step."""
        found: Params = OwnModel(self.own).m_step(stats, Params(components=previous)).components
        return found

    def free_parameters(self, params: Params) -> int:
        """What ``n_parameters(params)`` of the model says; all numbers of the parameters, if it does not."""
        if hasattr(self.own, "n_parameters"):
            return int(self.own.n_parameters(as_dict(params)))
        return sum(int(value.size) for value in params.values())
