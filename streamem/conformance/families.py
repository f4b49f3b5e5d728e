"""The laws of a family: statistics are a linear sum, and `maximize` maximizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.missing_values import MissingValueLaws
from streamem.conformance.tolerance import assert_close, magnitude_of, relabelled, require, tolerance
from streamem.core.arrays import Params
from streamem.core.completing import has_own
from streamem.core.free_form import FreeForm
from streamem.core.ports import Family, FullFamily, Kernel, full_family, kernel_of
from streamem.core.small_work import Running
from streamem.core.stats import Stats

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Points x (q, d) whose densities times `volume` (q,) sum to 1, up to a relative error of the rule itself."""

    x: Array
    volume: Array
    error: float = 0.0


MOST_MISSED = 1e-7
"""Share of the expected log-likelihood that an M-step on ordinary data may miss by rounding."""


STEP = 2.0**-16
"""Of a number, for differences."""


class FamilySuite(MissingValueLaws):
    """Laws that every family must obey.

    Attributes
    ----------
    seed, n_rows : of the rows that are drawn
    shared : names of parameters whose axis 0 is not the component
    conditioning : by how much `maximize` may amplify rounding of the statistics
    unchecked : arrays of the parameters in which `faults` cannot tell what is wrong
    """

    seed = 0
    n_rows = 257
    shared: frozenset[str] = frozenset()
    conditioning = 1e3
    unchecked: tuple[str, ...] = ()

    # --- to override -------------------------------------------------------------------------------------------------

    def make_family(self) -> Family:
        """The family."""
        raise NotImplementedError

    def make_params(self, rng: np.random.Generator) -> Params:
        """Parameters of at least two, different, components."""
        raise NotImplementedError

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        """Rows (n, d) such as the components emit."""
        raise NotImplementedError

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        """Other valid parameters, at a distance of about `scale` relative to their own size."""
        raise NotImplementedError

    def make_far_row(self, x: Array) -> Array:
        """A row (1, d) a million spreads away from rows x."""
        return np.asarray(x.mean(axis=0) + 1e6 * x.std(axis=0))[None]

    def reference_log_prob(self, params: Params, x: Array) -> Array | None:
        """Log-densities (n, k) from elsewhere; give this or `quadrature`."""
        return None

    def quadrature(self, params: Params) -> Quadrature | None:
        """Where densities are to be summed to 1; give this or `reference_log_prob`."""
        return None

    def relabelled(self, params: Params, order: Array) -> Params:
        """Parameters with their components in another order."""
        return relabelled(params, order, self.shared)

    def expected_log_likelihood(self, case: Any, params: Params, stats: Stats) -> float:
        """What `maximize` maximizes but for the penalty, in nats: Σ r·log p of the rows of a case.

        Override it where statistics hold expectations of what no row shows, given the parameters of the case.
        """
        return float((case.resp * case.family.log_prob(params, case.x)).sum())

    # --- laws of the statistics --------------------------------------------------------------------------------------

    def test_zero_responsibilities_give_zero_statistics(self) -> None:
        """stats(x, 0) = 0."""
        case = _Case(self)
        for name, leaf in case.stats(case.x, np.zeros_like(case.resp)).flatten().items():
            require(not leaf.any(), f"statistics {name} of zero responsibilities are {leaf!r}")

    def test_statistics_are_linear_in_responsibilities(self) -> None:
        """stats(x, a·r + b·q) = a·stats(x, r) + b·stats(x, q)."""
        case = _Case(self)
        other = case.rng.uniform(size=case.resp.shape)
        combined = case.stats(case.x, 0.3 * case.resp + 1.7 * other)
        separate = 0.3 * case.stats(case.x, case.resp) + 1.7 * case.stats(case.x, other)
        magnitude = case.magnitude(case.x, 0.3 * case.resp + 1.7 * other)
        assert_close(combined, separate, case.rtol, "linearity", magnitude)

    def test_statistics_of_the_whole_are_the_sum_over_any_split(self) -> None:
        """stats(whole) = Σ stats(parts), empty parts included."""
        case = _Case(self)
        n = len(case.x)
        inner = np.sort(case.rng.integers(0, n, 6)).tolist()
        cuts = [0, 0, 1, *inner, n, n]
        parts = [case.stats(case.x[a:b], case.resp[a:b]) for a, b in pairwise(sorted(cuts))]
        total: Stats = sum(parts[1:], start=parts[0])
        assert_close(total, case.stats(case.x, case.resp), case.rtol, "split", case.magnitude(case.x, case.resp))

    def test_a_weight_of_two_is_the_row_twice(self) -> None:
        """stats(x, 2r) = stats([x, x], [r, r])."""
        case = _Case(self)
        twice = case.stats(np.vstack([case.x, case.x]), np.vstack([case.resp, case.resp]))
        doubled = case.stats(case.x, 2.0 * case.resp)
        assert_close(twice, doubled, 2 * case.rtol, "weight 2", 2.0 * case.magnitude(case.x, case.resp))

    # --- laws of the M-step ------------------------------------------------------------------------------------------

    def test_scaled_statistics_have_the_same_maximum(self) -> None:
        """maximize(c·S) = maximize(S)."""
        case = _Case(self)
        stats = case.stats(case.x, case.resp)
        expected = case.family.maximize(stats, case.params)
        for factor in (0.37, 1e-3, 4096.0):
            found = case.family.maximize(factor * stats, case.params)
            assert_close(found, expected, case.rtol * self.conditioning, f"maximize({factor}·S)")

    def test_the_maximum_beats_perturbations(self) -> None:
        """Σ r·log p at maximize(S), less the penalty, is not exceeded anywhere near or far."""
        case = _Case(self)
        stats = case.stats(case.x, case.resp)
        best = case.family.maximize(stats, case.params)
        highest = case.expected_log_likelihood(best, stats)
        slack = case.rtol * float(np.abs(case.resp * case.family.log_prob(best, case.x)).sum())
        for trial in range(60):
            scale = 10.0 ** -(trial % 6)
            other = case.expected_log_likelihood(self.perturbed(best, case.rng, scale), stats)
            require(
                not other > highest + slack,
                f"parameters at a relative distance of {scale} have an expected log-likelihood of {other!r}, more than "
                f"{highest!r} of what maximize returned",
            )

    def test_the_shortfall_is_a_rounding_error(self) -> None:
        """`shortfall` is at least 0, and on ordinary data no more than rounding; an M-step loses no more than that."""
        case = _Case(self)
        stats = case.stats(case.x, case.resp)
        if case.family.reads_rounding:
            stats = stats.replace(rounding=case.kernel().rounding)
        best = case.family.maximize(stats, case.params)
        missed = case.family.shortfall(case.params, best, stats)
        size = float(np.abs(case.resp * case.family.log_prob(best, case.x)).sum())
        require(0.0 <= missed <= MOST_MISSED * self.conditioning * size, f"shortfall is {missed} nats of {size}")
        lost = case.expected_log_likelihood(case.params, stats) - case.expected_log_likelihood(best, stats)
        require(lost <= missed + case.rtol * size, f"maximize loses {lost} nats, and shortfall says {missed}")

    def test_parameters_of_an_m_step_have_no_faults(self) -> None:
        """`faults` finds nothing in what `maximize` makes, and something in numbers that are none."""
        case = _Case(self)
        best = case.family.maximize(case.stats(case.x, case.resp), case.params)
        k, d = case.resp.shape[1], case.x.shape[1]
        require(case.family.faults(best, k, d) == [], f"faults: {case.family.faults(best, k, d)}")
        if not has_own(case.family, FullFamily, "faults"):
            raise SkipTest("the family looks for no faults")
        leaves = best.flatten()
        for name, leaf in leaves.items():
            if leaf.dtype.kind == "f" and name not in self.unchecked:
                spoiled = Params.unflatten({**leaves, name: np.full_like(leaf, np.nan)})
                require(bool(case.family.faults(spoiled, k, d)), f"{name} is NaN everywhere, and faults finds nothing")

    # --- laws of the density -----------------------------------------------------------------------------------------

    def test_relabelling_relabels_the_result(self) -> None:
        """Components in another order: log_prob and maximize come out in that order, nothing else changes."""
        case = _Case(self)
        order = np.roll(np.arange(case.resp.shape[1]), 1)
        other = self.relabelled(case.params, order)
        log_prob = case.family.log_prob(case.params, case.x)
        assert_close(case.family.log_prob(other, case.x), log_prob[:, order], case.rtol, "log_prob, relabelled")
        best = case.family.maximize(case.stats(case.x, case.resp), case.params)
        found = case.family.maximize(case.family.stats(other, case.x, case.resp[:, order]), other)
        expected = self.relabelled(best, order)
        assert_close(found, expected, case.rtol * self.conditioning, "maximize, relabelled")

    def test_the_free_form_rebuilds_the_parameters(self) -> None:
        """Numbers of `free_form` give the same log_prob; other numbers, moved along their ties, another one."""
        case = _Case(self)
        form = case.family.free_form(case.params, case.resp.shape[1])
        log_prob = case.family.log_prob(case.params, case.x)
        again = case.family.from_free_form(form.values, case.params)
        assert_close(case.family.log_prob(again, case.x), log_prob, 16 * case.rtol, "log_prob, rebuilt")
        if not form.values:
            return
        halfway = {name: _towards_alike(name, value, form) for name, value in form.values.items()}
        other = case.family.log_prob(case.family.from_free_form(halfway, case.params), case.x)
        require(bool(np.abs(other - log_prob).max() > 0), "from_free_form ignores its numbers")

    def test_slopes_are_derivatives(self) -> None:
        """What `slopes` tells in closed form are differences of log_prob, and of its own first derivatives."""
        case = _Case(self)
        family, k = case.family, case.resp.shape[1] - 1
        slopes = family.slopes(case.params)
        if slopes is None:
            raise SkipTest("the family leaves derivatives to differences")
        form, weight = family.free_form(case.params, k + 1), case.resp[:, k]
        first, second = slopes.first(k, case.x), slopes.second(k, case.x, weight)
        for name in form.values:
            for column in {0, first[name].shape[1] // 2, first[name].shape[1] - 1}:
                down, up = (family.from_free_form(_moved(form, name, k, column, h), case.params) for h in (-STEP, STEP))
                change = (family.log_prob(up, case.x) - family.log_prob(down, case.x))[:, k] / (2 * STEP)
                told = first[name][:, column]
                assert_close(change, told, 1e-5, f"slopes by {name}, {column}", float(np.abs(told).max()) + 1.0)
                after, before = (family.slopes(one) for one in (up, down))
                if after is None or before is None:
                    raise AssertionError("slopes are known at some parameters only")
                for other in form.values:
                    block = second[name, other] if (name, other) in second else second[other, name].T
                    bend = weight @ (after.first(k, case.x)[other] - before.first(k, case.x)[other]) / (2 * STEP)
                    size = float(np.abs(block).max()) + 1.0
                    assert_close(bend, block[column], 1e-5, f"second slopes by {name}, {column}, and {other}", size)

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """log_prob is finite, and low, a million spreads away."""
        case = _Case(self)
        far = case.family.log_prob(case.params, self.make_far_row(case.x))
        require(bool(np.isfinite(far).all()), f"log_prob of a far row is {far!r}")
        require(bool((far < case.family.log_prob(case.params, case.x).min()).all()), f"a far row is likely: {far!r}")

    def test_far_judgement_is_that_of_near_rows(self) -> None:
        """`far_log_prob` is `log_prob` where both can tell, and `far_order` orders the components of far rows alike."""
        case = _Case(self)
        found = case.family.far_log_prob(case.params, case.x)
        if found is None or np.isnan(found).any():
            raise SkipTest("the family does not judge far rows")
        near = case.family.log_prob(case.params, case.x)
        assert_close(found, near, case.rtol * self.conditioning, "far_log_prob of near rows", np.abs(near).max())
        far = self.make_far_row(case.x)
        order, known = case.family.far_order(case.params, far), case.family.log_prob(case.params, far)
        require(order is not None and not np.isnan(order).any(), f"far_order of a far row is {order!r}")
        require(order is None or int(order.argmax()) == int(known.argmax()), "far_order prefers another component")

    def test_rows_do_not_see_each_other(self) -> None:
        """log_prob of a row is the same alone and among others."""
        case = _Case(self)
        together = case.family.log_prob(case.params, case.x)
        require(together.shape == case.resp.shape, f"log_prob has shape {together.shape}, not {case.resp.shape}")
        alone = np.vstack([case.family.log_prob(case.params, row[None]) for row in case.x[:20]])
        assert_close(alone, together[:20], case.rtol, "log_prob of single rows", np.abs(together).max())

    def test_log_prob_is_a_normalized_density(self) -> None:
        """Densities integrate to 1, or log_prob equals a reference."""
        case = _Case(self)
        reference, rule = self.reference_log_prob(case.params, case.x), self.quadrature(case.params)
        require(reference is not None or rule is not None, "override reference_log_prob or quadrature")
        if reference is not None:
            found = case.family.log_prob(case.params, case.x)
            assert_close(found, reference, case.rtol * self.conditioning, "log_prob against the reference")
        if rule is not None:
            mass = rule.volume @ np.exp(case.family.log_prob(case.params, rule.x))
            rtol = tolerance(np.float64, len(rule.x), self.conditioning) + rule.error
            assert_close(mass, np.ones_like(mass), rtol, "total probability")

    # --- laws of a kernel --------------------------------------------------------------------------------------------

    def test_the_kernel_is_log_prob_and_stats(self) -> None:
        """A `Kernel` over blocks of any raggedness gives what log_prob and stats give."""
        case = _Case(self)
        family = case.family
        most = family.block_rows(case.params)
        cuts = np.cumsum([0, 1, min(2, most), min(most, 113), 1, min(most, 61)])
        kernel, size = case.kernel(), int(cuts[-1])
        x, resp, log_prob = case.x[:size], case.resp[:size], np.empty((case.resp.shape[1], size))
        for a, b in pairwise(cuts):
            kernel.load(x[a:b])
            out = np.empty((resp.shape[1], b - a))
            kernel.log_prob(out)
            kernel.accumulate(np.ascontiguousarray(resp[a:b].T))
            log_prob[:, a:b] = out
        assert_close(log_prob.T, family.log_prob(case.params, x), case.rtol * self.conditioning, "kernel.log_prob")
        assert_close(kernel.stats(), case.stats(x, resp), case.rtol, "kernel.stats", case.magnitude(x, resp))

    def test_a_full_block_fits_the_kernel(self) -> None:
        """A kernel takes block_rows rows at once; a log-density is within `rounding` of the reference."""
        case = _Case(self)
        family = case.family
        x = self.make_rows(case.rng, family.block_rows(case.params))
        kernel, out = case.kernel(), np.empty((case.resp.shape[1], len(x)))
        kernel.load(x)
        kernel.log_prob(out)
        assert_close(out.T, family.log_prob(case.params, x), case.rtol * self.conditioning, "a full block")
        require(0.0 < kernel.rounding < 1.0 and bool(kernel.path), f"rounding {kernel.rounding}, path {kernel.path!r}")

    def test_rows_of_the_kernel_in_one_call(self) -> None:
        """What a kernel says of many rows in one call is log_prob and stats too, whatever the width of the rows."""
        case = _Case(self)
        kernel = case.kernel()
        k = case.resp.shape[1]
        log_prob = case.family.log_prob(case.params, case.x)
        highest = log_prob.max(axis=1)
        expected, peaks = np.exp(log_prob - highest[:, None]), np.empty(len(case.x))
        for width in (k, k + 1, k + 4):
            b, weights = np.full((len(case.x), width), np.nan), np.zeros((len(case.x), width))
            kernel.densities(case.x, b, peaks)
            assert_close(peaks, highest, case.rtol * self.conditioning, "peaks of kernel.densities")
            error = float(np.abs(b[:, :k] - expected).max())
            most = case.rtol * self.conditioning * max(1.0, float(np.abs(log_prob).max()))
            require(
                error <= most, f"kernel.densities, {width} wide, differ by {error} from log_prob; {most} is allowed"
            )
            require(not b[:, k:].any(), "kernel.densities leaves something beyond the components")
            weights[:, :k] = case.resp
            for again in (True, False):
                kernel.accumulate_rows(case.x, weights, again)
        six = case.stats(np.vstack([case.x] * 6), np.vstack([case.resp] * 6))
        magnitude = 6.0 * case.magnitude(case.x, case.resp)
        assert_close(kernel.stats(), six, 6 * case.rtol, "six times kernel.accumulate_rows", magnitude)

    def test_the_kernel_mixes_rows_in_one_call(self) -> None:
        """The E-step of a mixture that a kernel runs is that of its log-densities and statistics."""
        case = _Case(self)
        kernel = case.kernel()
        k = case.resp.shape[1]
        weights, counts = case.rng.dirichlet(np.ones(k)), case.rng.uniform(0.5, 2.0, len(case.x))
        joint = case.family.log_prob(case.params, case.x) + np.log(weights)
        known = np.logaddexp.reduce(joint, axis=1)
        resp = np.exp(joint - known[:, None]) * counts[:, None]
        rtol = case.rtol * self.conditioning * max(1.0, float(np.abs(joint).max()))
        found = kernel.mix(case.x, counts, np.log(weights))
        total = float(np.abs(known) @ counts)
        assert_close(np.float64(found.log_likelihood), np.float64(counts @ known), case.rtol, "kernel.mix", total)
        assert_close(found.responsibilities, resp.sum(axis=0), rtol, "responsibilities of kernel.mix", counts.sum())
        require(found.pairs > 0.0, f"kernel.mix found {found.pairs} pairs that matter")
        magnitude = case.magnitude(case.x, np.tile(counts[:, None], (1, k)))
        assert_close(kernel.stats(), case.stats(case.x, resp), rtol, "kernel.stats after mix", magnitude)

    def test_small_work_is_the_same(self) -> None:
        """What small work computes in NumPy is what compiled functions compute, and obeys the laws of a kernel."""
        case = _Case(self)
        log_prob, stats = (case.family.log_prob(case.params, case.x), case.stats(case.x, case.resp))
        with Running(numpy=True):
            found = case.family.log_prob(case.params, case.x)
            assert_close(found, log_prob, case.rtol * self.conditioning, "log_prob in NumPy", np.abs(log_prob).max())
            magnitude = case.magnitude(case.x, case.resp)
            assert_close(case.stats(case.x, case.resp), stats, case.rtol, "stats in NumPy", magnitude)
            self.test_the_kernel_is_log_prob_and_stats()
            self.test_rows_of_the_kernel_in_one_call()
            self.test_the_kernel_mixes_rows_in_one_call()

    def test_a_kernel_begins_anew(self) -> None:
        """A kernel that can be restarted forgets what it accumulated, and nothing else."""
        case = _Case(self)
        kernel = case.kernel()
        if not kernel.reusable:
            raise SkipTest("the kernel serves one chunk only")
        found = []
        for _ in range(2):
            kernel.load(case.x[:61])
            kernel.accumulate(np.ascontiguousarray(case.resp[:61].T))
            found.append(kernel.stats())
            kernel.restart()
        require(found[0] == found[1], "statistics after a restart differ from those before")
        require(not any(leaf.any() for leaf in kernel.stats().flatten().values()), "statistics outlive a restart")

    def test_declared_bytes_hold(self) -> None:
        """Statistics take no more bytes than statistics_bytes says."""
        case = _Case(self)
        declared = case.family.statistics_bytes(case.resp.shape[1], case.x.shape[1])
        held = case.stats(case.x, case.resp).nbytes
        require(held <= declared, f"statistics hold {held} bytes, {declared} were declared")


class _Case:
    """One draw of parameters, rows and responsibilities."""

    def __init__(self, suite: FamilySuite) -> None:
        self._suite, self.rng = suite, np.random.default_rng(suite.seed)
        self.family = full_family(suite.make_family())
        self.params = suite.make_params(self.rng)
        self.x = suite.make_rows(self.rng, suite.n_rows)
        k = self.family.log_prob(self.params, self.x[:1]).shape[1]
        self.resp = self.rng.dirichlet(np.ones(k), size=len(self.x))
        self.rtol = tolerance(np.float64, len(self.x))

    def stats(self, x: Array, resp: Array) -> Stats:
        return self.family.stats(self.params, x, resp)

    def magnitude(self, x: Array, resp: Array) -> Stats:
        """About the size of what a sum over rows rounds against."""
        return magnitude_of(self.stats, x, resp)

    def expected_log_likelihood(self, params: Params, stats: Stats) -> float:
        """Σ r·log p, less the penalty of the family."""
        total = self._suite.expected_log_likelihood(self, params, stats)
        return total - self.family.penalty(params, stats)

    def kernel(self) -> Kernel:
        """The family at the parameters of the case."""
        return kernel_of(self.family, self.params, self.resp.shape[1])


def _towards_alike(name: str, value: Array, form: FreeForm) -> Array:
    """Numbers a little nearer to the mean over components, which keeps all ties; shared ones a little smaller."""
    if name not in form.shared:
        return np.asarray(0.9 * value + 0.1 * value.mean(axis=0, keepdims=True))
    return value if name in form.simplex else np.asarray(0.9 * value)


def _moved(form: FreeForm, name: str, component: int, column: int, amount: float) -> dict[str, Array]:
    """Numbers where one column of `Slopes` moved."""
    values = {known: np.array(value) for known, value in form.values.items()}
    own = values[name] if name in form.shared else values[name][component, ...]  # of a number a component too, a view
    if name in form.symmetric:
        i, j = (int(side[column]) for side in np.tril_indices(own.shape[-1]))
        own[i, j] += amount
        own[j, i] = own[i, j]
    else:
        own.reshape(-1)[column] += amount
    return values
