"""Rows of any source as steps of sequences: whole sequences in a chunk where they fit, longer ones cut as stored."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError
from streamem.core.ports import ChunkRef, Schema, Source
from streamem.core.sequences import Sequences
from streamem.sources.driving import driving_columns, require_covariates, without_columns
from streamem.sources.lagged import lagged, lagged_names
from streamem.sources.plan import sequence_cuts
from streamem.sources.sequence_checks import require_constant, require_offsets, require_steps
from streamem.sources.sequence_weights import sequence_weights

Ints = NDArray[np.int64]
POSITIONS_NBYTES = 40
"""For each row, while its position within its sequence is looked at."""


@dataclass(frozen=True)
class Window:
    """How the rows of a base become steps.

    Attributes
    ----------
    row_nbytes : of a row in a chunk, its weight included
    lag : earlier steps that every row carries besides its own
    padded : rows of NaN at the end of a sequence stand for no steps
    covariates : columns of the base that are no features but what drives the transitions, in their order
    names : of all columns of the base, for messages
    """

    row_nbytes: int
    lag: int = 0
    padded: bool = False
    covariates: tuple[int, ...] = ()
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class SequenceRef(ChunkRef):
    """A handle on steps of sequences; executors load each of its bases once for all handles that need it.

    Attributes
    ----------
    bases : chunks of the source below that hold the rows, and the rows `before` them
    index, start : position in the plan, and first row
    lengths : (s,) int64 steps of each sequence within this chunk
    opened, continued : whether the first sequence began earlier, and whether the last one goes on
    window : how rows become steps
    before : rows of the opened sequence that the first steps look back on
    weights : (s,) one for each sequence, or None
    steps : (s,) int64 where the number of steps is known and the rows after them are padding, else None
    """

    bases: tuple[ChunkRef, ...]
    index: int
    start: int
    lengths: Ints
    opened: bool
    continued: bool
    window: Window
    before: int = 0
    weights: NDArray[np.float64] | None = None
    steps: Ints | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.lengths.sum())

    @property
    def nbytes(self) -> int:
        """Rows and weights."""
        return self.rows * self.window.row_nbytes

    @property
    def load_nbytes(self) -> int:
        """One base while it is loaded, the other bases, and the steps made of them unless these are a view."""
        bases = max(base.load_nbytes - base.nbytes for base in self.bases) + sum(base.nbytes for base in self.bases)
        joined = self.rows * self.window.row_nbytes if len(self.bases) > 1 else 0
        counted = POSITIONS_NBYTES * self.rows if self.window.lag or self.steps is not None else 8 * len(self.lengths)
        window = self.window
        changed = window.lag > 0 or window.covariates or self.weights is not None or self.steps is not None
        return bases + joined + counted + (self.nbytes if changed else 0)

    @property
    def made_of(self) -> tuple[ChunkRef, ...]:
        """The chunks of the source below that have the rows."""
        return self.bases

    @property
    def on_cluster(self) -> Mapping[Any, Any]:
        """Results on a cluster that the base handles rest on."""
        return {key: value for base in self.bases for key, value in base.on_cluster.items()}

    def given(self, values: Mapping[Any, Any]) -> SequenceRef:
        """This handle, with values in place of those results."""
        return replace(self, bases=tuple(base.given(values) for base in self.bases))

    def load(self) -> Chunk:
        """Read the bases and take the rows."""
        return self.drawn(lambda base: base.load())

    def drawn(self, load: Callable[[ChunkRef], Chunk]) -> Chunk:
        """The steps, from bases that `load` gives; a view where one base holds them as they are.

        Raises
        ------
        DataError : weights that differ within a sequence, a padded sequence with fewer steps than its lag needs, or
            covariates that are missing
        """
        parts = [self._part(base, load(base)) for base in self.bases]
        sequences = self.sequences
        x, covariates = self._apart(parts)
        return Chunk(self._values(x, sequences.offsets), self._weight(parts, sequences.offsets), sequences, covariates)

    def _part(self, base: ChunkRef, chunk: Chunk) -> Chunk:
        first = max(0, self.start - self.before - base.start)
        stop = min(base.rows, self.start + self.rows - base.start)
        return Chunk(chunk.x[first:stop], None if chunk.weight is None else chunk.weight[first:stop])

    @property
    def sequences(self) -> Sequences:
        """Where each begins among these rows."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        return Sequences(offsets, self.opened, self.continued, self.window.padded)

    def _apart(self, parts: Sequence[Chunk]) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        """The features, and what drives the transitions."""
        x = parts[0].x if len(parts) == 1 else np.concatenate([part.x for part in parts])
        if self.steps is not None:
            x = _without_padding(x, self.lengths, self.steps)
        driven = list(self.window.covariates)
        if not driven:
            return x, None
        covariates = x[self.before :, driven].astype(np.float64)
        absent = None
        if self.window.padded:
            absent = np.isnan(x[self.before :]).all(axis=1)
        require_covariates(covariates, absent, driven, self.window.names, self.place, self.row)
        return np.delete(x, driven, axis=1), covariates

    def _values(self, x: NDArray[Any], offsets: Ints) -> NDArray[Any]:
        if self.window.lag == 0:
            return x
        if self.window.padded:
            require_steps(x, offsets, self.window.lag, self.start)
        return lagged(x, offsets, self.window.lag, self.before)

    def _weight(self, parts: Sequence[Chunk], offsets: Ints) -> NDArray[np.float64] | None:
        if self.weights is not None:
            return np.repeat(self.weights, self.lengths)
        given = [part.weight for part in parts if part.weight is not None]
        if not given:
            return None
        weight = given[0] if len(given) == 1 else np.concatenate(given)
        require_constant(weight[self.before :], offsets, self.start)
        return weight[self.before :]


class SequenceSource(Source):
    """A source whose rows are steps of sequences.

    A chunk of the base ends where the sequence that straddles its end begins, so that sequences stay whole; one that
    began before the chunk did is cut where the base is. No chunk has rows of more than two chunks of the base.
    Padded sequences are never cut.

    Parameters
    ----------
    base : the rows
    offsets : (s + 1,) int64, first row of every sequence, and n_rows
    weights : (s,) one for each sequence, or None
    steps : (s,) how many rows of each sequence are steps, where the other rows are padding
    padded : rows of NaN at the end of a sequence stand for no steps
    lag : earlier steps that every row carries: d · (lag + 1) features
    told : the way and the name in the data by which sequences were found, such as {"sequence_column": "run"}
    covariates : columns, by position, that are no features but what drives transitions or weights (`Chunk.covariates`)

    Raises
    ------
    SchemaError : covariates that are no columns, or all of them
    DataError : offsets that do not fit the rows, empty sequences, sequences that are shorter than lag + 1 steps
    """

    offsets: Ints

    def __init__(
        self,
        base: Source,
        offsets: Ints,
        *,
        weights: NDArray[np.float64] | None = None,
        steps: Ints | None = None,
        padded: bool = False,
        lag: int = 0,
        told: Mapping[str, str] | None = None,
        covariates: Iterable[int] = (),
    ) -> None:
        require_offsets(offsets, steps, base.n_rows, lag, base.schema.origin)
        self.told = dict(told or {})
        self._base, self.offsets, self._weights, self._steps = base, offsets, weights, steps
        self._lag = lag
        self.covariates = driving_columns(covariates, base.schema)
        schema = without_columns(base.schema, self.covariates)
        d = schema.n_features * (lag + 1)
        weighted = schema.weighted or weights is not None
        row_nbytes = d * schema.dtype.itemsize + 8 * len(self.covariates) + (8 if weighted else 0)
        self._window = Window(row_nbytes, lag, padded or steps is not None, self.covariates, base.schema.names)
        self.schema = replace(schema, n_features=d, names=lagged_names(schema, lag), weighted=weighted)
        self.n_rows, self.grid = base.n_rows, getattr(base, "grid", None)

    @property
    def n_sequences(self) -> int:
        """Number of sequences s."""
        return len(self.offsets) - 1

    def weighted(self, weights: NDArray[Any]) -> SequenceSource:
        """This source with weights: (s,), or (n,) and equal within each sequence.

        Raises
        ------
        SchemaError : they have weights already, or these fit neither sequences nor rows
        DataError : weights that are negative, not finite, or differ within a sequence
        """
        if self.schema.weighted:
            raise SchemaError("weights were given twice: with the sequences and now; give one")
        own = sequence_weights(weights, self.offsets, "sample_weight")
        return self._again(weights=own, covariates=self.covariates)

    def driven_by(self, covariates: Iterable[int]) -> SequenceSource:
        """This source with columns of its features as what drives the transitions.

        Raises
        ------
        SchemaError : it has others already, or these are no columns
        """
        chosen = tuple(covariates)
        if self.covariates and chosen != self.covariates:
            raise SchemaError(
                f"{self.schema.origin} is open with covariates in columns {list(self.covariates)}, "
                f"and {list(chosen)} were asked for: open it with these, or without any"
            )
        return self if chosen == self.covariates else self._again(weights=self._weights, covariates=chosen)

    def _again(self, weights: NDArray[np.float64] | None, covariates: Iterable[int]) -> SequenceSource:
        return SequenceSource(
            self._base,
            self.offsets,
            weights=weights,
            steps=self._steps,
            padded=self._window.padded,
            lag=self._lag,
            told=self.told,
            covariates=covariates,
        )

    @property
    def columns(self) -> Schema:
        """The schema of all columns, those that drive the transitions included."""
        return self._base.schema

    def fingerprint(self) -> str:
        """Fingerprint of the rows, and of where sequences begin, end and what they weigh."""
        crc = zlib.crc32(np.ascontiguousarray(self.offsets).tobytes())
        for numbers in (self._weights, self._steps):
            crc = zlib.crc32(b"" if numbers is None else np.ascontiguousarray(numbers).tobytes(), crc)
        window = self._window
        driven = "".join(f"-u{column}" for column in self.covariates)
        told = f"{self.n_sequences}-{window.lag}-{window.padded:d}-{crc:08x}{driven}"
        return f"{self._base.fingerprint()}+sequences-{told}"

    def chunks(self) -> Sequence[SequenceRef]:
        """The base's plan, its cuts moved to where sequences begin."""
        bases = self._base.chunks()
        bounds = np.array([base.start for base in bases] + [self.n_rows], dtype=np.int64)
        cuts = sequence_cuts(bounds, self.offsets, whole=self._window.padded)
        return [self._ref(i, a, b, bases, bounds) for i, (a, b) in enumerate(pairwise(cuts))]

    def _ref(self, index: int, start: int, stop: int, bases: Sequence[ChunkRef], bounds: Ints) -> SequenceRef:
        offsets = self.offsets
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        last = int(np.searchsorted(offsets, stop, side="left"))
        before = min(self._window.lag, start - int(offsets[first]))
        low = int(np.searchsorted(bounds, start - before, side="right")) - 1
        high = int(np.searchsorted(bounds, stop, side="left"))
        edges = np.clip(offsets[first : last + 1], start, stop)
        return SequenceRef(
            bases=tuple(bases[low:high]),
            index=index,
            start=start,
            lengths=edges[1:] - edges[:-1],
            opened=bool(offsets[first] < start),
            continued=bool(offsets[last] > stop),
            window=self._window,
            before=before,
            weights=None if self._weights is None else self._weights[first:last],
            steps=None if self._steps is None else self._steps[first:last],
        )


def _without_padding(x: NDArray[Any], lengths: Ints, steps: Ints) -> NDArray[Any]:
    """A copy in which the rows after the last step of each sequence are NaN."""
    starts = np.cumsum(lengths) - lengths
    position = np.arange(len(x)) - np.repeat(starts, lengths)
    padding = position >= np.repeat(steps, lengths)
    return np.where(padding[:, None], np.asarray(np.nan, x.dtype), x)
