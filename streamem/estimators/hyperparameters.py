"""What follows from the hyperparameters of any estimator: checks, seeds, budgets, engines, algorithms."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from streamem.algorithms import (
    Aitken,
    AndersonEM,
    AutoEM,
    BatchEM,
    Change,
    IncrementalEM,
    SquaredEM,
    StepwiseEM,
    StoppingRule,
)
from streamem.core.errors import ParameterError
from streamem.core.ports import Model, Variant, variant_of
from streamem.estimators.family_facts import kind_of
from streamem.machine.importing import uninterrupted
from streamem.running.engines import Engine
from streamem.running.memory import Budget

STOPPING: dict[str, Callable[[float], StoppingRule]] = {"aitken": Aitken, "change": Change}
MISSING = ("error", "integrate")
"""What a value that was not observed may be."""
UNSEEN = ("error", "missing")
"""What a category may be that the data of the fit did not hold."""
ALGORITHMS = ("auto", "batch", "squarem", "anderson", "stepwise", "incremental")
"""Names of algorithms."""


def check_hyperparameters(settings: Any) -> None:
    """Refuse values that cannot be.

    Raises
    ------
    ParameterError : naming the hyperparameter, its value and what is allowed
    """
    for name, low in {**settings.structure.counts, settings.structure.iterations: 0}.items():
        require_count(name, getattr(settings, name, low), low)  # which data may tell, that were not opened yet
    tol = settings.tol
    if isinstance(tol, bool) or not isinstance(tol, int | float | np.number) or not tol >= 0:
        raise ParameterError(f"tol is {tol!r}; it must be a number >= 0, in nats per row")
    settings.structure.check(settings)
    require_choice(settings, "stopping", STOPPING)
    require_choice(settings, "missing", MISSING)
    require_choice(settings, "unseen", UNSEEN)
    if settings.unseen == "missing" and settings.missing != "integrate":
        raise ParameterError(
            'unseen="missing" takes values that were never seen for missing ones, which missing="error" refuses: pass '
            'missing="integrate" too'
        )


def require_count(name: str, value: Any, low: int) -> None:
    """Refuse what is no whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ParameterError(f"{name} is {value!r}; it must be an integer >= {low}")


def require_choice(settings: Any, name: str, choices: Any) -> None:
    """Refuse a hyperparameter that is none of several words."""
    value = getattr(settings, name)
    if value not in choices:
        raise ParameterError(f"{name} is {value!r}; it must be one of {sorted(choices)}")


def generator_of(settings: Any) -> np.random.RandomState:
    """What starts draw from.

    Where no starting value is drawn but the rows of an anchor are, equal input gives equal bits without a seed.
    """
    structure = settings.structure
    if settings.random_state is None and (structure.count(settings) == 1 or structure.is_given_wholly(settings)):
        return np.random.RandomState(0)
    return check_random_state(settings.random_state)


def budget_of(settings: Any) -> Budget:
    """How the memory limit is spent."""
    return Budget.of(settings.memory_limit, settings.chunk_bytes)


def threads_of(settings: Any) -> int:
    """Threads that a call may use."""
    if settings.n_threads is not None:
        if isinstance(settings.n_threads, bool) or int(settings.n_threads) < 1:
            raise ParameterError(
                f"n_threads is {settings.n_threads}; it must be an integer >= 1, or None for all cores"
            )
        return int(settings.n_threads)
    allowed = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return _cores(allowed, os.environ.get("LOKY_MAX_CPU_COUNT"))


@lru_cache(maxsize=8)
def _cores(allowed: frozenset[int] | None, most: str | None) -> int:
    """Cores of this process, under what may change in its life; joblib reads files of control groups at each call."""
    with uninterrupted("joblib"):
        from joblib import cpu_count

    return int(cpu_count())


def engine_of(settings: Any, what: str, model: Model, row_width: int, executor: Any) -> Engine:
    """How a pass with a model over rows of so many values is run."""
    workspace = model.workspace_bytes(row_width)
    return Engine(executor, threads_of(settings), budget_of(settings), workspace, what, int(settings.verbose))


def run_key(settings: Any) -> dict[str, Any]:
    """What identifies a run besides its data."""
    most, n_init = getattr(settings, settings.structure.iterations), settings.n_init
    ending = f"at most {most} iterations, tol {settings.tol}, stopping {settings.stopping}"
    return {
        "class": kind_of(settings),
        "n_components": int(settings.structure.count(settings)),
        "init_params": settings.init_params,
        "random_state": _seed_key(settings.random_state),
        # Earlier starts of several have ended for good; a single one can go on under another rule.
        "n_init": 1 if n_init == 1 else f"{n_init} starts of {ending}",
        **settings.structure.key(settings),
        **settings.face.key(settings),
    }


def _seed_key(random_state: Any) -> Any:
    """The seed, a checksum of a generator's state, or None."""
    if isinstance(random_state, np.random.RandomState):
        state = random_state.get_state(legacy=False)["state"]
        return f"generator {zlib.crc32(state['key'].tobytes()):08x}-{state['pos']}"
    return None if random_state is None else int(random_state)


def stopping_rule(settings: Any) -> StoppingRule:
    """The rule that `stopping` and `tol` name."""
    return STOPPING[settings.stopping](settings.tol)


def chosen_algorithm(settings: Any, algorithm: Any) -> Variant:
    """The algorithm that the user named or passed, with the hyperparameters of the estimator.

    Raises
    ------
    ParameterError : a name that is none, a class, or hyperparameters that cannot be
    """
    check_hyperparameters(settings)
    stopping, most = stopping_rule(settings), getattr(settings, settings.structure.iterations)
    seed = int(settings.random_state) if isinstance(settings.random_state, int | np.integer) else 0
    table: dict[str, Callable[[], Variant]] = {
        "auto": lambda: AutoEM(
            StepwiseEM(passes=2, final_pass=False, seed=seed, window=settings.structure.window), stopping, most
        ),
        "batch": lambda: BatchEM(stopping, most),
        "squarem": lambda: SquaredEM(stopping, most),
        "anderson": lambda: AndersonEM(stopping, most),
        "stepwise": lambda: StepwiseEM(seed=seed, window=settings.structure.window),
        "incremental": lambda: IncrementalEM(stopping=stopping, max_iter=most),
    }
    if isinstance(algorithm, str) and algorithm in table:
        return table[algorithm]()
    if isinstance(algorithm, type):
        raise ParameterError(f"algorithm is the class {algorithm.__name__}; pass an object, {algorithm.__name__}(...)")
    variant = variant_of(algorithm)
    if variant is None:
        raise ParameterError(
            f"algorithm is {algorithm!r}; it must be one of {sorted(table)}, or an object such as "
            "streamem.algorithms.StepwiseEM(passes=2)"
        )
    if not variant.compares_starts and settings.n_init > 1:
        raise ParameterError("final_pass=False leaves several starts (n_init) without a log-likelihood to compare")
    return variant.with_stopping(stopping)
