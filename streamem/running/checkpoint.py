"""Checkpoints: after every M-step, all that is needed to go on with the same bits."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.addresses import Address
from streamem.core.archive import generations, write_archive
from streamem.core.archive_reading import Archive, is_there, place_of, read_newest
from streamem.core.arrays import Params
from streamem.core.errors import CheckpointMismatchError, ModelFileError
from streamem.core.faults import prefixed
from streamem.core.state import State
from streamem.core.stored_objects import SoleWriter, require_writable
from streamem.running.report import FitReport

logger = logging.getLogger("streamem")

KIND = "checkpoint"
GENERATIONS = 2
INTERVAL_S = 10.0
SAVED_PASSES = 1000
"""Records of passes that a checkpoint keeps, the latest: it is written after each, so it must not grow with them."""


@dataclass(frozen=True)
class Position:
    """Where a fit of several starts stands.

    Attributes
    ----------
    start : index of the first of the current starts
    states : of the current starts, which share their reads
    passes, stopped : how many each has done, and which were given up
    best : the best finished state among earlier starts
    ended : what earlier starts came to that ran to their ends, in nats per unit of weight
    rng_before, rng_after : states of the random generator before the sample was drawn and after the current starts were
        made, as `numpy.random.RandomState.get_state(legacy=False)`
    """

    start: int
    states: tuple[State, ...]
    passes: tuple[int, ...]
    stopped: tuple[bool, ...]
    best: State | None
    rng_before: dict[str, Any]
    rng_after: dict[str, Any]
    ended: tuple[float, ...] = ()


def saved_key(path: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """What identifies the run whose checkpoint lies there; None if there is no file.

    Raises
    ------
    ModelFileError : no generation of the file can be read
    """
    place = place_of(path)
    if not any(map(is_there, generations(place))):
        return None
    key: Mapping[str, Any] = read_newest(place, KIND).meta["key"]
    return key


class Checkpoint:
    """Saves the position of a fit after every window.

    Parameters
    ----------
    path : an ``.npz`` file, or the address of one in a store; two earlier generations stay beside it
    key : what identifies the run (data, plan, hyperparameters); a checkpoint with another key is refused
    report : saved along, so that a resumed fit reports all its passes
    interval_s : how long windows that do not end a pass may go unsaved
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: Mapping[str, Any],
        report: FitReport,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.path = place_of(path)
        self._interval_s, self._saved = interval_s, monotonic()
        self._key = dict(key)
        self._report = report
        self._position: Position | None = None
        self._only: SoleWriter | None = None

    def restore(self, faults: Callable[[Params], list[str]]) -> Position | None:
        """The saved position of this very run, or None if there is no file.

        Parameters
        ----------
        faults : what contradicts itself in parameters, one sentence for each array

        Raises
        ------
        CheckpointMismatchError : the file belongs to another run
        ModelFileError : no generation of the file can be read, or the newest contradicts itself
        OutputError : a store that lets nothing be written at the address
        """
        if isinstance(self.path, Address):
            require_writable(self.path)
            self._only = SoleWriter(self.path)
        if not any(map(is_there, generations(self.path))):
            return None
        archive = read_newest(self.path, KIND)
        self._require_same_run(archive.meta["key"])
        position, saved = _restored(archive, faults)
        self._report.passes[:] = saved.passes
        self._report.events.update(saved.events)
        self._report.short_runs, self._report.start_passes = saved.short_runs, saved.start_passes
        logger.info(
            "resuming from %s at start %d, iteration %d", archive.path, position.start, position.states[0].iteration
        )
        return position

    def place(self, position: Position) -> None:
        """Note where the fit stands, and save it."""
        self._position = position
        self._save()

    def moved(
        self, states: tuple[State, ...], passes: tuple[int, ...], stopped: tuple[bool, ...], pass_over: bool
    ) -> None:
        """Note where the starts stand after a window; save that if a pass is over or the last save long ago."""
        assert self._position is not None
        self._position = replace(self._position, states=states, passes=passes, stopped=stopped)
        if pass_over or monotonic() - self._saved >= self._interval_s:
            self._save()

    def _save(self) -> None:
        assert self._position is not None
        self._saved = monotonic()
        meta, arrays = _to_arrays(self._position)
        meta |= {"key": self._key, "report": self._report.to_dict(SAVED_PASSES)}
        write_archive(self.path, KIND, meta, arrays, keep=GENERATIONS, only=self._only)

    def _require_same_run(self, saved: Mapping[str, Any]) -> None:
        # None asks for nothing: without a seed of its own, a run goes on with the generator in the file.
        differing = [name for name, now in self._key.items() if now is not None and now != saved.get(name)]
        if differing:
            lines = "; ".join(f"{name}: {saved.get(name)!r} there, {self._key.get(name)!r} now" for name in differing)
            by_budget = set(differing) <= {"plan", "sample"}
            hint = (
                " memory_limit and chunk_bytes change the plan and the starting sample, and so may open_source() where "
                "the array itself was passed, or the other way round."
                if by_budget
                else ""
            )
            raise CheckpointMismatchError(
                f"{self.path} is the checkpoint of another run ({lines}).{hint} Resume with the same data and "
                "settings, name another checkpoint file, or delete this one and its older "
                f"generations ({posixpath.basename(str(self.path))}.*) to start anew"
            )


def _restored(archive: Archive, faults: Callable[[Params], list[str]]) -> tuple[Position, FitReport]:
    try:
        position, report = _from_arrays(archive.meta, archive.arrays), FitReport.from_dict(archive.meta["report"])
        for rng in (position.rng_before, position.rng_after):
            np.random.RandomState().set_state(rng)  # which refuses what is no state
        found = [] if position.start >= 0 else [f"start is {position.start}, where a number >= 0 is needed"]
        for name, state in (*((_name(i), state) for i, state in enumerate(position.states)), ("best", position.best)):
            found += [] if state is None else prefixed(name, state.faults() + faults(state.params))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(f"{archive.path} cannot be trusted as a checkpoint: {error!r}") from error
    if found:
        raise ModelFileError(
            f"{archive.path} contradicts itself, although its checksums are right: {'; '.join(found)}. streamem does "
            "not write such files; use an older generation, or delete it to start anew"
        )
    return position, report


def _to_arrays(position: Position) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    meta: dict[str, Any] = {"start": position.start, "has_best": position.best is not None}
    if position.ended:
        meta["ended"] = list(position.ended)
    if len(position.states) > 1:
        meta |= {"passes": list(position.passes), "stopped": list(position.stopped)}
    arrays = {
        f"{_name(i)}.{name}": value
        for i, state in enumerate(position.states)
        for name, value in state.to_arrays().items()
    }
    if position.best is not None:
        arrays |= {f"best.{name}": value for name, value in position.best.to_arrays().items()}
    for label, rng in (("rng_before", position.rng_before), ("rng_after", position.rng_after)):
        arrays[f"{label}.key"] = np.asarray(rng["state"]["key"])
        meta[label] = {
            "bit_generator": rng["bit_generator"],
            "pos": int(rng["state"]["pos"]),
            "has_gauss": int(rng["has_gauss"]),
            "gauss": float(rng["gauss"]).hex(),
        }
    return meta, arrays


def _from_arrays(meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Position:
    def branch(name: str) -> dict[str, NDArray[Any]]:
        return {path[len(name) + 1 :]: value for path, value in arrays.items() if path.startswith(name + ".")}

    stopped = tuple(map(bool, meta.get("stopped", [False])))
    return Position(
        start=int(meta["start"]),
        states=tuple(State.from_arrays(branch(_name(i))) for i in range(len(stopped))),
        passes=tuple(map(int, meta.get("passes", [0]))),
        stopped=stopped,
        best=State.from_arrays(branch("best")) if meta["has_best"] else None,
        rng_before=_rng(meta["rng_before"], arrays["rng_before.key"]),
        rng_after=_rng(meta["rng_after"], arrays["rng_after.key"]),
        ended=tuple(map(float, meta.get("ended", []))),
    )


def _name(place: int) -> str:
    """The name of the state of a start in a file: starts with reads of their own have had "state" since version 0.1."""
    return f"beside_{place}" if place else "state"


def _rng(meta: Mapping[str, Any], key: NDArray[Any]) -> dict[str, Any]:
    return {
        "bit_generator": meta["bit_generator"],
        "state": {"key": key, "pos": meta["pos"]},
        "has_gauss": meta["has_gauss"],
        "gauss": float.fromhex(meta["gauss"]),
    }
