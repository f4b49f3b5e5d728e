"""The algorithm of a `fit` that names none: a function of the plan and the settings, never of the machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamem.core.ports import Variant
from streamem.estimators.hyperparameters import ALGORITHMS, budget_of, chosen_algorithm
from streamem.estimators.structure import Opened
from streamem.running.checkpoint import saved_key
from streamem.running.memory import format_bytes, read_bytes, wants_order

Path = str | os.PathLike[str]

TIGHT = "memory_limit leaves no room for more statistics or chunks"


@dataclass(frozen=True)
class Chosen:
    """An algorithm, and in words which it is and why, for the report; "" where the user has named it."""

    algorithm: Variant
    words: str = ""


def of_checkpoint(settings: Any, checkpoint: Path | None) -> Chosen | None:
    """The algorithm of the run that is gone on with; None where there is none, or it had one of a user's own."""
    key = None if checkpoint is None else saved_key(checkpoint)
    known = None if key is None else key.get("algorithm")
    for name in ALGORITHMS if known is not None else ():
        algorithm = chosen_algorithm(settings, name)
        if algorithm.key == known:
            return Chosen(algorithm, f"{name}, as in the checkpoint")
    return None


def by_plan(settings: Any, opened: Opened, fits: Callable[[Variant], bool], why_not: str) -> Chosen:
    """ "batch" where a fit keeps all that it reads, as is scikit-learn's; else what saves passes and fits the limit.

    Mini-batches draw rows from chunks in any order, and leave the neighbourhood of a start that was given.

    Parameters
    ----------
    fits : whether a fit by an algorithm fits the limit that the user set
    why_not : why the call wants no mini-batches, in words; "" if it may have them
    """
    refs, most = opened.source.chunks(), budget_of(settings).kept_by_rule
    nbytes, batch = read_bytes(refs), chosen_algorithm(settings, "batch")
    if nbytes <= most:
        kept = f"a pass reads at most {format_bytes(nbytes)}, and {format_bytes(most)} may be kept"
        return Chosen(batch, f"batch, since {kept if nbytes else 'all rows are in memory'}")
    told = f"since each pass reads {format_bytes(nbytes)}, more than the {format_bytes(most)} that may be kept"
    why_not = why_not or _no_mini_batches(settings, wants_order(refs))
    if not why_not and fits(auto := chosen_algorithm(settings, "auto")):
        return Chosen(auto, f"auto, {told}")
    if fits(anderson := chosen_algorithm(settings, "anderson")):
        return Chosen(anderson, f"anderson, {told}; no mini-batches, since {why_not or TIGHT}")
    return Chosen(batch, f"batch, since {TIGHT}")


def _no_mini_batches(settings: Any, ordered: bool) -> str:
    """Why start or plan want none, in words; "" where there may be."""
    if settings.structure.is_given_wholly(settings):
        return "nothing is drawn for the start"
    return "row groups are decoded in parts, in their order" if ordered else ""
