"""The laws of a family that integrates over values that were not observed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.tolerance import assert_close, magnitude_of, require, tolerance
from streamem.core.arrays import Params
from streamem.core.completing import has_own
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, FullFamily, full_family, kernel_of
from streamem.core.stats import Stats

Array = NDArray[Any]

SHARE = 0.3
"""Of values that the laws take away."""
STEPS = 200
"""Most EM steps until nothing changes."""


class MissingValueLaws:
    """Laws of families that allow for NaN, or whose `integrating` does; others skip them. Part of `FamilySuite`."""

    seed: int
    n_rows: int
    conditioning: float

    def make_family(self) -> Family:
        """The family."""
        raise NotImplementedError

    def make_params(self, rng: np.random.Generator) -> Params:
        """Parameters of at least two, different, components."""
        raise NotImplementedError

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        """Rows (n, d) such as the components emit."""
        raise NotImplementedError

    def test_rows_without_values_say_nothing(self) -> None:
        """A row of NaN has log_prob 0 under every component, and no statistics."""
        case = _Case(self)
        nothing = np.full((7, case.x.shape[1]), np.nan)
        log_prob = case.family.log_prob(case.params, nothing)
        # Weights of a mixture within a component sum to 1 but for their rounding.
        least = tolerance(np.float64, log_prob.shape[1])
        require(
            bool((np.abs(log_prob) <= least).all()), f"log_prob of rows without any value is {log_prob!r}; 0 was needed"
        )
        stats = case.family.stats(case.params, nothing, np.ones((7, case.resp.shape[1])))
        for name, leaf in stats.flatten().items():
            require(not np.any(leaf), f"statistics {name} of rows without any value are {leaf!r}; 0 was needed")

    def test_complete_rows_need_no_integral(self) -> None:
        """Where nothing is missing, `integrating` gives the log_prob of the family, and the same M-step."""
        case = _Case(self)
        plain = full_family(self.make_family())
        if plain.allows_missing:
            raise SkipTest("the family itself allows for missing values")
        found, known = (one.log_prob(case.params, case.whole) for one in (case.family, plain))
        rtol = case.rtol * self.conditioning
        assert_close(found, known, rtol, "log_prob of complete rows", np.abs(known).max())
        after, expected = (
            one.maximize(one.stats(case.params, case.whole, case.resp), case.params) for one in (case.family, plain)
        )
        old, new = (plain.log_prob(params, case.whole) for params in (expected, after))
        assert_close(new, old, rtol, "log_prob after an M-step of complete rows", np.abs(old).max())

    def test_missing_values_may_be_split_anywhere(self) -> None:
        """stats(whole) = Σ stats(parts) of rows with NaN."""
        case = _Case(self)
        cuts = [0, 1, *np.sort(case.rng.integers(0, len(case.x), 5)).tolist(), len(case.x)]
        parts = [case.stats(case.x[a:b], case.resp[a:b]) for a, b in pairwise(cuts)]
        total: Stats = sum(parts[1:], start=parts[0])
        rtol = case.rtol * self.conditioning
        assert_close(total, case.stats(case.x, case.resp), rtol, "split of rows with NaN", case.magnitude())

    def test_rows_with_missing_values_do_not_see_each_other(self) -> None:
        """log_prob of a row with NaN is finite, and the same alone and among others."""
        case = _Case(self)
        together = case.family.log_prob(case.params, case.x)
        require(bool(np.isfinite(together).all()), f"log_prob of rows with NaN is {together!r}")
        alone = np.vstack([case.family.log_prob(case.params, row[None]) for row in case.x[:40]])
        rtol = case.rtol * self.conditioning
        assert_close(alone, together[:40], rtol, "log_prob of single rows with NaN", np.abs(together).max())

    def test_em_with_missing_values_climbs_to_a_maximum(self) -> None:
        """Each M-step on expected statistics raises Σ r·log p of what was observed; its fixed point is a maximum.

        It may fall by the family's `shortfall`, as in a fit.
        """
        case = _Case(self)
        params, value = case.params, -np.inf
        for step in range(STEPS):
            stats = case.family.stats(params, case.x, case.resp)
            after = case.family.maximize(stats, params)
            reached = case.objective(after, stats)
            begun = case.objective(params, stats)
            slack = case.rtol * self.conditioning * case.size(after)
            least = begun - slack - case.family.shortfall(params, after, stats)
            require(not reached < least, f"M-step {step} lowers the observed log-likelihood: {begun} → {reached}")
            if reached <= value + slack:
                break
            params, value = after, reached
        perturbed = getattr(self, "perturbed", None)
        if not callable(perturbed) or step + 1 == STEPS:
            return
        stats = case.family.stats(params, case.x, case.resp)
        best = case.objective(params, stats)
        for trial in range(20):
            scale = 10.0 ** -(1 + trial % 3)
            try:
                other = case.objective(perturbed(params, case.rng, scale), stats)
            except NotImplementedError:
                return
            require(
                not other > best + 1e-6 * case.size(params),
                f"EM ends at {best}, and parameters at a relative distance of {scale} have {other}",
            )

    def test_the_kernel_reads_missing_values(self) -> None:
        """The kernel of rows with NaN gives what log_prob and stats give, by block and for many rows in one call."""
        case = _Case(self)
        k = case.resp.shape[1]
        kernel = kernel_of(case.family, case.params, k)
        rows = min(len(case.x), case.family.block_rows(case.params))
        x, out = case.x[:rows], np.empty((k, rows))
        kernel.load(x)
        kernel.log_prob(out)
        kernel.accumulate(np.ascontiguousarray(case.resp[:rows].T))
        rtol = case.rtol * self.conditioning
        log_prob = case.family.log_prob(case.params, x)
        assert_close(out.T, log_prob, rtol, "kernel.log_prob of rows with NaN", np.abs(log_prob).max())
        magnitude = case.magnitude()
        assert_close(kernel.stats(), case.stats(x, case.resp[:rows]), rtol, "kernel.stats of rows with NaN", magnitude)
        weights, counts = case.rng.dirichlet(np.ones(k)), case.rng.uniform(0.5, 2.0, len(case.x))
        joint = case.family.log_prob(case.params, case.x) + np.log(weights)
        known = np.logaddexp.reduce(joint, axis=1)
        resp = np.exp(joint - known[:, None]) * counts[:, None]
        mixing = kernel_of(case.family, case.params, k)
        found = mixing.mix(case.x, counts, np.log(weights))
        total = float(np.abs(known) @ counts)
        assert_close(np.float64(found.log_likelihood), np.float64(counts @ known), rtol, "mix of rows with NaN", total)
        largest = rtol * max(1.0, float(np.abs(joint).max()))
        assert_close(mixing.stats(), case.stats(case.x, resp), largest, "stats after mix with NaN", 2.0 * magnitude)

    def test_imputed_rows_keep_what_was_observed(self) -> None:
        """`filled` and `drawn_for_missing` replace NaN alone, by values that the family can emit or mixes of them."""
        case = _Case(self)
        component = case.resp.argmax(axis=1)
        found: dict[str, Array] = {}
        if has_own(case.family, FullFamily, "filled"):
            found["filled"] = case.family.filled(case.params, case.x, case.resp)
        if has_own(case.family, FullFamily, "drawn_for_missing"):
            rng = np.random.RandomState(0)
            found["drawn_for_missing"] = case.family.drawn_for_missing(case.params, case.x, component, rng)
        if not found:
            raise SkipTest("the family does not impute")
        present = ~np.isnan(case.x)
        for name, rows in found.items():
            require(bool(np.isfinite(rows).all()), f"{name} leaves values that are not finite")
            require(bool((np.asarray(rows)[present] == case.x[present]).all()), f"{name} changes observed values")


class _Case:
    """One draw of parameters and responsibilities, and rows with and without gaps."""

    def __init__(self, suite: MissingValueLaws) -> None:
        self.rng = np.random.default_rng(suite.seed + 1)
        self.family = _integrating(full_family(suite.make_family()))
        self.params = suite.make_params(self.rng)
        self.whole = suite.make_rows(self.rng, suite.n_rows)
        self.x = np.where(self.rng.uniform(size=self.whole.shape) < SHARE, np.nan, self.whole)
        unseen = np.isnan(self.x).all(axis=1)
        self.x[unseen] = self.whole[unseen]
        k = self.family.log_prob(self.params, self.x[:1]).shape[1]
        self.resp = self.rng.dirichlet(np.ones(k), size=len(self.x))
        self.rtol = tolerance(np.float64, len(self.x))

    def stats(self, x: Array, resp: Array) -> Stats:
        return self.family.stats(self.params, x, resp)

    def magnitude(self) -> Stats:
        """About the size of what a sum over rows rounds against."""
        return magnitude_of(self.stats, self.x, self.resp)

    def objective(self, params: Params, stats: Stats) -> float:
        """Σ r·log p of what was observed, less the penalty of the family."""
        total = float((self.resp * self.family.log_prob(params, self.x)).sum())
        return total - self.family.penalty(params, stats)

    def size(self, params: Params) -> float:
        """Σ r·|log p|, against which the objective rounds."""
        return float(np.abs(self.resp * self.family.log_prob(params, self.x)).sum())


def _integrating(family: FullFamily) -> FullFamily:
    if not family.allows_missing and not has_own(family, FullFamily, "integrating"):
        raise SkipTest("the family knows no missing values")
    try:
        return full_family(family.integrating())
    except ParameterError as error:
        raise SkipTest(str(error)) from None
