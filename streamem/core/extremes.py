"""E-steps near the ends of what floats hold: weights are brought near 1, and float32 gives way to float64.

Both are functions of the chunk alone, so no bit depends on who computes it, or when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.stats import Stats

Array = NDArray[Any]

EPS_32 = float(np.finfo(np.float32).eps)

MOST_EXPONENT = 64
"""Weights beyond 2^±64 are scaled: multiplied by rows they may leave the range of float32."""


def expected(chunk: Chunk, e_step: Callable[[Chunk], Stats]) -> Stats:
    """The statistics of a chunk, whatever the scale of its weights, and where float32 overflows in float64."""
    near, factor = balanced(chunk)
    stats = _wide_enough(near, e_step)
    if factor == 1.0:
        return stats
    with np.errstate(over="ignore"):  # a sum of weights that is infinite is an error where it arrives
        return (stats * factor).replace(rows=chunk.rows)


def balanced(chunk: Chunk) -> tuple[Chunk, float]:
    """The chunk with its largest weight near 1, if that is far off, and the power of two that was taken out."""
    if chunk.weight is None or not chunk.rows:
        return chunk, 1.0
    exponent = exponent_of(chunk.weight)
    if abs(exponent) <= MOST_EXPONENT:
        return chunk, 1.0
    return replace(chunk, weight=np.ldexp(chunk.weight, -exponent)), float(np.ldexp(1.0, exponent))


def far_rounding(kernel: Any, log_likelihood: float) -> float:
    """What rows far from all components add to the rounding of a log-likelihood by float32 products, in nats.

    A kernel's own bound counts rows that some component explains; of others the terms are as large as their density.
    """
    return EPS_32 * abs(float(log_likelihood)) if kernel.float32_products else 0.0


def exponent_of(values: Array) -> int:
    """e such that the largest of the absolute values lies in [2^e, 2^(e + 1)); 0 if all are 0."""
    largest = max(float(np.max(values, initial=0.0)), -float(np.min(values, initial=0.0)))
    return int(np.frexp(largest)[1]) - 1 if largest > 0 else 0


def _wide_enough(chunk: Chunk, e_step: Callable[[Chunk], Stats]) -> Stats:
    if chunk.x.dtype != np.float32:
        return e_step(chunk)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return e_step(chunk)
    except NumericalError:  # a row whose square float32 cannot hold, say
        return e_step(replace(chunk, x=chunk.x.astype(np.float64)))
