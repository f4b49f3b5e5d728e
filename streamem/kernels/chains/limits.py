"""How far the scaled recursions of a hidden Markov chain go before logarithms are needed; see `forward_backward`."""

from __future__ import annotations

FLOOR = 1e-270
TAINTED = 1e-15
LEAST_SUM = 1e-200
AGREEING = 1e-15
"""How far rows that sum to 1 may differ, entry by entry, relative to the entry: what rounding makes of equal ones. From
there on they only come closer (Birkhoff 1957: positive matrices contract the logarithms of such ratios)."""

SETTLED = 4 * 2.0**-52
"""By how much covariances may differ, for each dimension that a sum runs over: what rounding makes of equal ones."""
FORGOTTEN = 1e-30
"""Share of its first effect below which what a state was before no longer counts."""
