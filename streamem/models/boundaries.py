"""What the pieces of a cut sequence must know of each other, so that each can be worked on by itself.

Every piece is a linear map from the state before it to the state at its last step (for the best path, one in maxima):
the pieces tell theirs in parallel, and a scan over these few gives each what lies before and after it (Blelloch 1990).
Where such maps cost too much (many states, and a chain that forgets slowly), the pieces are asked one after another,
from both ends at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import PATH, POSTERIOR, Boundary, Cut, Joining
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.ports import ChunkDone, ChunkRef, Executor, Model, OnChunk
from streamem.core.sequences import Sequences
from streamem.core.validation import require_finite, where
from streamem.models.steps import missing_rows

Array = NDArray[Any]
Pieces = Sequence[ChunkRef]
"""Chunks that hold one sequence between them, in order."""


def _is_blank(chunk: Chunk) -> bool:
    missing = missing_rows(chunk.x)
    return not chunk.rows or (missing is not None and bool(missing.all()))


def ignored(done: ChunkDone) -> None:
    """The boundary pass reads rows that the pass itself will count."""


def boundaries(
    model: Any,
    params: Params,
    refs: Sequence[ChunkRef],
    executor: Executor,
    names: tuple[str, ...] | None,
    question: str = POSTERIOR,
    on_chunk: OnChunk = ignored,
) -> Mapping[int, Boundary]:
    """What lies beyond every chunk that cuts a sequence, by `ChunkRef.index`, as far as `refs` hold its neighbours.

    Parameters
    ----------
    question : "posterior" or "path"
    on_chunk : called with the chunks that are read for this
    """
    chains = chains_of(refs) if model.joins_pieces else []
    if not chains:
        return {}
    ask = Ask(model, params, names, question, executor, on_chunk)
    scan: Scan | Sweep = Scan(ask, chains) if model.scans(params, question) else Sweep(ask)
    if isinstance(scan, Scan) and not scan.complete(chains):
        scan = Sweep(ask)
    before, blank = scan.forwards(chains)
    kept = [_without_padding(chain, blank) for chain in chains]
    after = scan.backwards(kept, before)
    found: dict[int, Boundary] = {}
    for chain, pieces in zip(chains, kept, strict=True):
        for i, ref in enumerate(chain):
            ended = len(pieces) < len(chain) and len(pieces) - 1 <= i < len(chain) - 1
            # The first piece of a chain may have ended another one.
            earlier = found[ref.index].before if ref.index in found else None
            found[ref.index] = Boundary(before.get(ref.index) if i else earlier, after.get(ref.index), ended)
    return found


def chains_of(refs: Iterable[ChunkRef]) -> list[Pieces]:
    """Neighbouring chunks that share a sequence, two at least; a chunk may end one chain and begin another."""
    chains: list[list[ChunkRef]] = []
    last: ChunkRef | None = None
    for ref in sorted(refs, key=lambda ref: ref.index):
        if last is not None and last.index + 1 == ref.index and _opened(ref):
            if not chains or chains[-1][-1] is not last or not _passes(last):
                chains.append([last])
            chains[-1].append(ref)
        last = ref if _continued(ref) else None
    return [*chains]


def _opened(ref: ChunkRef) -> bool:
    return ref.sequences is not None and ref.sequences.opened


def _continued(ref: ChunkRef) -> bool:
    return ref.sequences is not None and ref.sequences.continued


def _passes(ref: ChunkRef) -> bool:
    """Whether a chunk is the middle piece of a sequence and nothing else."""
    known = ref.sequences
    return known is not None and known.opened and known.continued and len(known) == 1


# --- what a chunk is asked --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Question:
    """The task of a boundary pass.

    Attributes
    ----------
    kind : "posterior" or "path"
    known : what lies beyond the chunks, by index, as far as it has been computed
    forwards, backwards : the chunks, by index, that are to give messages to what precedes, and to what follows them
    operators : whether whole pieces are wanted
    ends : chunks at the ends of chains, by index: where operators are wanted, the other chunks need give nothing else
    """

    model: Model
    params: Params
    names: tuple[str, ...] | None
    kind: str
    known: Mapping[int, Boundary] = field(default_factory=dict)
    ends: frozenset[int] = frozenset()
    forwards: frozenset[int] = frozenset()
    backwards: frozenset[int] = frozenset()
    operators: bool = False

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Cut:
        """What a chunk contributes to the boundaries of the sequences that it cuts."""
        require_finite(chunk, ref, self.names, self.model.missing)
        first, last = part(chunk, 0), part(chunk, -1)
        opened, continued = _of(first).opened, _of(last).continued
        padded, passed = _of(first).padded, self.operators and opened and _of(first).continued
        head = ref.index in self.backwards and opened and (not passed or padded or ref.index in self.ends)
        tail = ref.index in self.forwards and continued and (not passed or ref.index in self.ends)
        try:
            return Cut(
                head=self._head(first, ref) if head else None,
                whole=self.model.operator_of(self.params, first, self.kind, affordable=True) if passed else None,
                tail=self._tail(last, ref) if tail else None,
                blank=opened and padded and _is_blank(first),
            )
        except NumericalError as error:
            raise NumericalError(f"{where(ref)}: {error}") from error

    def _head(self, first: Chunk, ref: ChunkRef) -> Array:
        boundary = self.known.get(ref.index, Boundary())
        if boundary.after is None:  # as far as anybody knows, it ends here
            first = replace(first, sequences=replace(_of(first), continued=False))
        return self.model.backward_of(self.params, first, self.kind, boundary)

    def _tail(self, last: Chunk, ref: ChunkRef) -> Array:
        known = self.known.get(ref.index, Boundary()) if _of(last).opened else Boundary()
        return self.model.forward_of(self.params, last, self.kind, known)


@dataclass(frozen=True, eq=False)
class Ask:
    """Puts questions to chunks."""

    model: Model
    params: Params
    names: tuple[str, ...] | None
    kind: str
    executor: Executor
    on_chunk: OnChunk

    def __call__(
        self,
        forwards: Iterable[ChunkRef],
        backwards: Iterable[ChunkRef],
        known: Mapping[int, Boundary],
        ends: frozenset[int] | None = None,
    ) -> dict[int, Cut]:
        """Answers by index; whole pieces too where `ends` are given."""
        after, before = ({ref.index: ref for ref in refs} for refs in (forwards, backwards))
        refs = [ref for _, ref in sorted((after | before).items())]
        wanted = frozenset(after), frozenset(before), ends is not None
        question = Question(self.model, self.params, self.names, self.kind, known, ends or frozenset(), *wanted)
        answers = self.executor.map(question, refs, self.on_chunk)
        return {ref.index: answer for ref, answer in zip(refs, answers, strict=True)}


def part(chunk: Chunk, s: int) -> Chunk:
    """The first (0) or last (−1) sequence of a chunk."""
    sequences = _of(chunk)
    i = range(len(sequences))[s]
    first, stop = sequences.offsets[i : i + 2].tolist()
    opened, continued = sequences.opened and i == 0, sequences.continued and i == len(sequences) - 1
    own = Sequences(np.array([0, stop - first], dtype=np.int64), opened, continued, sequences.padded)
    weight = None if chunk.weight is None else chunk.weight[first:stop]
    return Chunk(chunk.x[first:stop], weight, own, chunk.beside(slice(first, stop)))


def _of(chunk: Chunk) -> Sequences:
    assert chunk.sequences is not None
    return chunk.sequences


# --- the two ways -----------------------------------------------------------------------------------------------------


class Scan:
    """All pieces give their operators at once."""

    def __init__(self, ask: Ask, chains: Sequence[Pieces]) -> None:
        self._kind, self._joining = ask.kind, ask.model.joining(ask.kind)
        ends = frozenset(ref.index for chain in chains for ref in (chain[0], chain[-1]))
        pieces = _distinct(chains)
        self._cuts = ask(pieces, pieces, {}, ends)

    def complete(self, chains: Sequence[Pieces]) -> bool:
        """Whether all could be had."""
        return all(self._cuts[ref.index].whole is not None for chain in chains for ref in chain[1:-1])

    def forwards(self, chains: Sequence[Pieces]) -> tuple[dict[int, Array], set[int]]:
        """What lies before every piece but the first of its chain, and which hold nothing but missing rows."""
        before: dict[int, Array] = {}
        for chain in chains:
            state = self._cuts[chain[0].index].tail
            for ref in chain[1:]:
                before[ref.index] = _possible(self._joining, state, ref)
                whole = self._cuts[ref.index].whole
                state = None if whole is None else self._joining.forwards(before[ref.index], whole)
        return before, {index for index, cut in self._cuts.items() if cut.blank}

    def backwards(self, chains: Sequence[Pieces], before: dict[int, Array]) -> dict[int, Array]:
        """What lies after every piece but the last of its chain; for paths, `before` too becomes one state."""
        after: dict[int, Array] = {}
        for chain in chains:
            for previous, ref in reversed(list(pairwise(chain))):
                cut, following = self._cuts[ref.index], after.get(ref.index)
                head = cut.head
                if following is not None and cut.whole is not None:
                    head = self._joining.backwards(cut.whole, following)
                _settle(self._kind, self._joining, previous, ref, head, before, after)
        return after


class Sweep:
    """Asks for one piece of every chain at a time, from both ends at once."""

    def __init__(self, ask: Ask) -> None:
        self._ask, self._joining = ask, ask.model.joining(ask.kind)
        self._after: dict[int, Array] = {}
        self._known: set[tuple[int, int]] = set()

    def forwards(self, chains: Sequence[Pieces]) -> tuple[dict[int, Array], set[int]]:
        """The answer of `Scan.forwards`, piece by piece; pieces from the end too, as if none ended with padding."""
        before: dict[int, Array] = {}
        blank: set[int] = set()
        for wave, turned in zip(_waves(chains), _waves([chain[::-1] for chain in chains]), strict=True):
            refs = [chain[i] for chain, i in wave]
            meanwhile = [] if self._ask.kind == PATH else [(chain, i) for chain, i in turned if i + 1 < len(chain)]
            back = [chain[i] for chain, i in meanwhile]
            known = {ref.index: Boundary(before.get(ref.index), self._after.get(ref.index)) for ref in (*refs, *back)}
            cuts = self._ask(refs, back, known)
            blank |= {index for index, cut in cuts.items() if cut.blank}
            for chain, i in wave:
                if i + 1 < len(chain):
                    before[chain[i + 1].index] = _possible(self._joining, cuts[chain[i].index].tail, chain[i + 1])
            self._settle(meanwhile, cuts, before)
        for chain in chains:
            if self._ask.kind != PATH and chain[-1].index not in blank:
                self._known.add(_ends(chain))
            else:
                for ref in chain[:-1]:
                    self._after.pop(ref.index, None)
        return before, blank

    def backwards(self, chains: Sequence[Pieces], before: dict[int, Array]) -> dict[int, Array]:
        """The answer of `Scan.backwards`, piece by piece."""
        for wave in _waves([chain[::-1] for chain in chains if _ends(chain) not in self._known]):
            back = [(chain, i) for chain, i in wave if i + 1 < len(chain)]
            refs = [chain[i] for chain, i in back]  # none in the last wave
            cuts = self._ask((), refs, {ref.index: Boundary(after=self._after.get(ref.index)) for ref in refs})
            self._settle(back, cuts, before)
        return self._after

    def _settle(self, wave: list[tuple[Pieces, int]], cuts: Mapping[int, Cut], before: dict[int, Array]) -> None:
        """What follows the pieces next to those of a wave, in chains from the last piece to the first."""
        for chain, i in wave:
            head, kind = cuts[chain[i].index].head, self._ask.kind
            _settle(kind, self._joining, chain[i + 1], chain[i], head, before, self._after)


def _ends(chain: Pieces) -> tuple[int, int]:
    return chain[0].index, chain[-1].index


def _waves(chains: Sequence[Pieces]) -> list[list[tuple[Pieces, int]]]:
    """(chain, position) of the first piece of every chain, then of the second, and so on."""
    longest = max((len(chain) for chain in chains), default=0)
    return [[(chain, i) for chain in chains if i < len(chain)] for i in range(longest)]


def _settle(
    kind: str,
    joining: Joining,
    previous: ChunkRef,
    ref: ChunkRef,
    head: Array | None,
    before: dict[int, Array],
    after: dict[int, Array],
) -> None:
    """Enter what follows the piece `previous`, from `head` of the next one."""
    head = _possible(joining, head, ref)
    if kind == PATH:
        # One state on both sides of the cut, so that ties are broken alike.
        state = int(np.argmax(before[ref.index] + head))
        head = np.full(len(head), -np.inf)
        head[state] = 0.0
        before[ref.index] = head
    after[previous.index] = head


def _possible(joining: Joining, values: Array | None, ref: ChunkRef) -> Array:
    """The message without the constant that is in it."""
    lowered = None if values is None else joining.lowered(values)
    if lowered is None:
        raise NumericalError(f"{where(ref)}: the sequence that goes on here {joining.impossible}")
    return lowered


def _without_padding(chain: Pieces, blank: set[int]) -> Pieces:
    """The pieces up to the last one that holds more than padding, if the sequence ends with them."""
    stop = len(chain)
    if _passes(chain[-1]):
        return chain
    while stop > 1 and chain[stop - 1].index in blank:
        stop -= 1
    return chain[:stop]


def _distinct(chains: Sequence[Pieces]) -> list[ChunkRef]:
    """Every chunk once, in plan order."""
    known = {ref.index: ref for chain in chains for ref in chain}
    return [known[index] for index in sorted(known)]
