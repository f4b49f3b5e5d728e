"""The laws of missing values name what a family does wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import Params, Stats
from streamem.conformance import check_family
from streamem.core.ports import PlainKernel
from tests.helpers.gappy import GappyNormal

Array = NDArray[Any]
ROWS = np.random.default_rng(0).normal(size=(300, 3))
PARAMS = Params(means=np.random.default_rng(1).normal(size=(2, 3)), variances=np.ones((2, 3)))


def perturbed(params: Params, rng: np.random.Generator, scale: float) -> Params:
    """At a relative distance."""
    shape = params.means.shape
    return Params(
        means=params.means + scale * rng.normal(size=shape),
        variances=params.variances * np.exp(scale * rng.normal(size=shape)),
    )


def test_a_right_family_holds_them() -> None:
    held = check_family(GappyNormal(), PARAMS, ROWS, perturbed=perturbed)
    assert {
        "em with missing values climbs to a maximum",
        "imputed rows keep what was observed",
        "missing values may be split anywhere",
        "rows with missing values do not see each other",
        "rows without values say nothing",
        "the kernel reads missing values",
    } <= set(held)


class ReadsZero(GappyNormal):
    """Takes NaN for 0."""

    def log_prob(self, params: Any, x: Array) -> Array:
        return super().log_prob(params, np.where(np.isnan(x), 0.0, x))


class CountsRows(GappyNormal):
    """Divides by rows where values are to be counted."""

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        weight = np.repeat(resp.sum(axis=0)[:, None], x.shape[1], axis=1)
        return super().stats(params, x, resp).replace(weight=weight)


class FillsIn(GappyNormal):
    """Learns from a constant in place of what is missing."""

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        there = ~np.isnan(x).all(axis=1)
        return super().stats(params, np.where(np.isnan(x), 0.5, x)[there], resp[there])


class Punishes(GappyNormal):
    """A missing value costs."""

    def log_prob(self, params: Any, x: Array) -> Array:
        return super().log_prob(params, x) - 0.1 * np.isnan(x).sum(axis=1, keepdims=True)


class Overwrites(GappyNormal):
    """Imputes what was observed too."""

    def filled(self, params: Any, x: Array, resp: Array) -> Array:
        return np.asarray(resp @ params.means)


class LooksAround(GappyNormal):
    """A gap is read from the other rows."""

    def log_prob(self, params: Any, x: Array) -> Array:
        empty = np.isnan(x).all(axis=1)
        known = np.where(np.isnan(x) & ~empty[:, None], np.nan_to_num(np.nanmean(x[~empty], axis=0)), x)
        return super().log_prob(params, known) if len(x) > 1 else super().log_prob(params, x)


class DeafKernel(GappyNormal):
    """Has a kernel for complete rows only."""

    def kernel(self, params: Any, dtype: Any = np.float64) -> PlainKernel:
        family: Any = ReadsZero()
        return PlainKernel(family, params)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (ReadsZero, "parameters at a relative distance|without any value"),
        (CountsRows, "parameters at a relative distance|lowers the observed"),
        (FillsIn, "parameters at a relative distance|lowers the observed"),
        (Punishes, "log_prob of rows without any value"),
        (Overwrites, "filled changes observed values"),
        (LooksAround, "single rows with NaN|parameters at a relative distance|lowers the observed"),
        (DeafKernel, "kernel.log_prob of rows with NaN"),
    ],
)
def test_a_wrong_family_is_told_which_law_it_breaks(family: type[GappyNormal], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_family(family(), PARAMS, ROWS, perturbed=perturbed)
