"""The laws of a model: an E-step is a sum over rows, and EM never lowers its objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.tolerance import assert_close, assert_equal, relabelled, require, tolerance
from streamem.core.arrays import Params
from streamem.core.ascent import permitted_fall
from streamem.core.chunk import Chunk
from streamem.core.ports import Model
from streamem.core.stats import Stats

Array = NDArray[Any]
CARRIED = ("rows", "weight", "log_likelihood", "rounding")


class ModelSuite:
    """Laws that every model must obey.

    Attributes
    ----------
    seed, n_rows, iterations : of the data and of the batch EM that is watched
    shared : dotted names of parameters whose axis 0 is not the component
    square : dotted names of parameters (K, K), both of whose axes are components
    conditioning : by how much an E- and M-step may amplify rounding
    """

    seed = 0
    n_rows = 300
    iterations = 20
    shared: frozenset[str] = frozenset()
    square: frozenset[str] = frozenset()
    conditioning = 1e3

    # --- to override -------------------------------------------------------------------------------------------------

    def make_model(self) -> Model:
        """The model."""
        raise NotImplementedError

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        """About n rows without weights, such as the model describes."""
        raise NotImplementedError

    def make_params(self, model: Model, chunk: Chunk) -> Params:
        """Parameters with components that differ; by default the model's own start."""
        return model.init(chunk, np.random.RandomState(self.seed))

    def split(self, chunk: Chunk, rng: np.random.Generator) -> Sequence[Chunk]:
        """Parts that follow each other, some empty; override where rows depend on their neighbours."""
        cuts = [0, 0, *np.sort(rng.integers(0, chunk.rows, 5)).tolist(), chunk.rows, chunk.rows]
        return [_rows(chunk, slice(a, b)) for a, b in pairwise(cuts)]

    def repeated(self, chunk: Chunk) -> Chunk:
        """Every row twice; override where rows depend on their neighbours."""
        beside = None if chunk.covariates is None else np.vstack([chunk.covariates, chunk.covariates])
        return Chunk(np.vstack([chunk.x, chunk.x]), covariates=beside)

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        """A weight for every row; override where rows that depend on each other need equal weights."""
        return rng.uniform(0.5, 2.0, chunk.rows)

    def log_density(self, model: Model, params: Params, chunk: Chunk) -> Array | None:
        """Log-densities that sum to the log-likelihood; None if the model has none."""
        describe = getattr(model, "log_density", None)
        return None if describe is None else describe(params, chunk)

    # --- laws of the E-step ------------------------------------------------------------------------------------------

    def test_the_e_step_carries_its_scalars(self) -> None:
        """rows, weight, log_likelihood and rounding are there, finite, and what they say."""
        case = _Case(self)
        stats = case.model.e_step(case.params, case.chunk)
        for name in CARRIED:
            value = np.asarray(stats[name])
            require(value.shape == () and bool(np.isfinite(value)), f"e_step carries {name} = {value!r}")
        require(float(stats.rows) == case.chunk.rows == float(stats.weight), "rows and weight count the rows")
        require(float(stats.rounding) > 0, "rounding is a bound, and no sum is exact")
        weighted = case.model.e_step(case.params, replace(case.chunk, weight=np.full(case.chunk.rows, 0.25)))
        require(float(weighted.rows) == case.chunk.rows, "weights do not change the number of rows")
        assert_close(weighted.weight, 0.25 * case.chunk.rows, case.rtol, "weight")

    def test_the_e_step_is_additive_over_splits(self) -> None:
        """e_step(whole) = Σ e_step(parts), empty parts included."""
        case = _Case(self)
        chunk = replace(case.chunk, weight=self.weights(case.chunk, case.rng))
        parts = [case.model.e_step(case.params, part) for part in self.split(chunk, case.rng)]
        total: Stats = sum(parts[1:], start=parts[0])
        assert_close(total, case.model.e_step(case.params, chunk), case.rtol * self.conditioning, "split")

    def test_a_weight_of_two_is_the_row_twice(self) -> None:
        """e_step under weights of 2 = e_step of the rows repeated, but for the number of rows."""
        case = _Case(self)
        doubled = case.model.e_step(case.params, replace(case.chunk, weight=np.full(case.chunk.rows, 2.0)))
        twice = case.model.e_step(case.params, self.repeated(case.chunk))
        assert_close(doubled, twice, case.rtol * self.conditioning, "weight 2", skip=("rows",))

    def test_a_weight_of_zero_removes_the_row(self) -> None:
        """A row of weight 0 adds nothing but itself to the number of rows."""
        case = _Case(self)
        parts = [part for part in self.split(case.chunk, case.rng) if part.rows]
        if len(parts) < 2:
            raise SkipTest("the chunk has one part only")
        kept = [np.full(part.rows, float(i > 0)) for i, part in enumerate(parts)]
        found = case.model.e_step(case.params, replace(case.chunk, weight=np.concatenate(kept)))
        rest = [case.model.e_step(case.params, part) for part in parts[1:]]
        expected: Stats = sum(rest[1:], start=rest[0])
        assert_close(found, expected, case.rtol * self.conditioning, "weight 0", skip=("rows",))

    def test_the_log_likelihood_is_the_sum_of_log_densities(self) -> None:
        """log_likelihood belongs to the parameters that entered, and is Σ w·log p(x)."""
        case = _Case(self)
        density = self.log_density(case.model, case.params, case.chunk)
        if density is None:
            raise SkipTest("the model has no log_density")
        weight = case.rng.uniform(0.5, 2.0, len(density))
        stats = case.model.e_step(case.params, replace(case.chunk, weight=weight))
        size = float(weight @ np.abs(density)) + float(stats.rounding) / case.rtol
        assert_close(stats.log_likelihood, weight @ density, case.rtol, "log_likelihood", size)

    def test_declared_bytes_hold(self) -> None:
        """Statistics take no more bytes than statistics_bytes says, the four scalars aside."""
        case = _Case(self)
        held = case.model.e_step(case.params, case.chunk).nbytes - 8 * len(CARRIED)
        declared = case.model.statistics_bytes(case.chunk.x.shape[1])
        # The responsibilities of K components are small change that a family does not count.
        require(held <= 2 * declared, f"statistics hold {held} bytes, {declared} were declared")
        require(case.model.workspace_bytes(case.chunk.x.shape[1]) > 0, "an e_step needs a workspace")

    # --- laws of the iteration ---------------------------------------------------------------------------------------

    def test_the_same_seed_gives_the_same_start(self) -> None:
        """init is a function of the sample and the random state."""
        case = _Case(self)
        starts = [case.model.init(case.chunk, np.random.RandomState(3)) for _ in range(2)]
        assert_equal(starts[0], starts[1], "init")

    def test_scaled_statistics_have_the_same_maximum(self) -> None:
        """m_step(c·S) = m_step(S): weights of the rows have no unit."""
        case = _Case(self)
        stats = case.model.e_step(case.params, case.chunk)
        expected = case.model.m_step(stats, case.params)
        for factor in (1e-3, 0.37, 1000.0):
            found = case.model.m_step(factor * stats, case.params)
            assert_close(found, expected, case.rtol * self.conditioning, f"m_step({factor}·S)")

    def test_batch_em_never_lowers_the_objective(self) -> None:
        """The log-likelihood rises from step to step, but for rounding and what a penalty explains."""
        case = _Case(self)
        params, before, allowance, rises = case.params, -np.inf, 0.0, 0
        for iteration in range(self.iterations):
            stats = case.model.e_step(params, case.chunk)
            now, rounding = float(stats.log_likelihood), float(stats.rounding)
            slack = allowance + rounding + tolerance(np.float64, case.chunk.rows) * abs(now)
            require(now >= before - slack, f"iteration {iteration} lowered {before!r} to {now!r}, by more than {slack}")
            rises += now > before + slack
            new = case.model.m_step(stats, params)
            allowance = rounding + permitted_fall(case.model, params, new, stats)
            params, before = new, now
        require(rises > 1, "no iteration raised the log-likelihood: make_params gave a start without anything to learn")

    def test_relabelling_relabels_the_result(self) -> None:
        """Components in another order: the same log-likelihood, and the next parameters in that order."""
        case = _Case(self)
        flat = {name: leaf for name, leaf in case.params.flatten().items() if name not in self.shared and leaf.ndim}
        order = np.roll(np.arange(len(next(iter(flat.values())))), 1)
        other = relabelled(case.params, order, self.shared, self.square)
        ours, theirs = (case.model.e_step(p, case.chunk) for p in (case.params, other))
        size = abs(float(ours.log_likelihood)) + float(ours.rounding) / case.rtol
        assert_close(theirs.log_likelihood, ours.log_likelihood, case.rtol, "log_likelihood, relabelled", size)
        expected = relabelled(case.model.m_step(ours, case.params), order, self.shared, self.square)
        found = case.model.m_step(theirs, other)
        assert_close(found, expected, case.rtol * self.conditioning, "m_step, relabelled")


class _Case:
    """One model, chunk and set of parameters."""

    def __init__(self, suite: ModelSuite) -> None:
        self.rng = np.random.default_rng(suite.seed)
        self.model = suite.make_model()
        self.chunk = suite.make_chunk(self.rng, suite.n_rows)
        self.params = suite.make_params(self.model, self.chunk)
        self.rtol = tolerance(np.float64, self.chunk.rows)


def _rows(chunk: Chunk, rows: slice) -> Chunk:
    weight = None if chunk.weight is None else chunk.weight[rows]
    return Chunk(chunk.x[rows], weight, covariates=chunk.beside(rows))
