"""Gaussian chains against one normal distribution of all steps, and the laws of a model."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.gaussian_chain_oracle import Joint, chain_params, framed, joint
from streamem.conformance import ModelSuite
from streamem.conformance.tolerance import assert_close
from streamem.core.arrays import Params
from streamem.core.boundary import POSTERIOR, Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.sequences import Sequences
from streamem.models import GaussianChain, gaussian_filter
from streamem.models.gaussian_setup import Setup
from streamem.running.uncertainty.chain_slopes import free_numbers, moved, slope

Array = NDArray[Any]


def gappy(rng: np.random.Generator, n: int, d: int) -> Array:
    """Values of which some were not observed, and all of step 2."""
    y = 2.0 * rng.normal(size=(n, d))
    y[rng.random((n, d)) < 0.2] = np.nan
    y[2] = np.nan
    return y


@pytest.mark.parametrize(("k", "d", "noise"), [(3, 4, "full"), (3, 2, "diag"), (1, 1, "diag"), (2, 5, "full")])
def test_moments_and_sums_are_those_of_the_joint_normal(k: int, d: int, noise: str) -> None:
    """Smoothed states, sums of the E-step with missing values, and log-likelihood; the first state has no noise."""
    rng = np.random.default_rng(k + d)
    own, y, model = (
        chain_params(rng, k, d, noise == "full"),
        gappy(rng, 9, d),
        GaussianChain(Setup(k, observation_noise=noise)),
    )
    truth, params = joint(own, y), framed(own)
    stats = model.e_step(params, Chunk(y))
    found = model.smoothed_moments(params, Chunk(y))
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(stats.log_likelihood, truth.log_likelihood, rtol=1e-11)
    np.testing.assert_allclose(found[:, :k], truth.means, **close)
    np.testing.assert_allclose(found[:, k:].reshape(-1, k, k), truth.covariances, **close)
    np.testing.assert_allclose(model.imputed(params, Chunk(y)), truth.values, **close)
    for name, value in expected_sums(truth, y).items():
        value = np.diagonal(value) if name == "value_products" and noise == "diag" else value
        np.testing.assert_allclose(stats[name], value, err_msg=name, **close)
    densities = model.step_densities(params, Chunk(y))
    np.testing.assert_allclose(densities.sum(), truth.log_likelihood, rtol=1e-11)
    np.testing.assert_allclose(
        model.filtered_moments(params, Chunk(y))[5], model.smoothed_moments(params, Chunk(y[:6]))[5]
    )


def expected_sums(truth: Joint, y: Array) -> dict[str, Array]:
    """What the E-step sums, of one sequence."""
    squares = truth.covariances + np.einsum("ti,tj->tij", truth.means, truth.means)
    seen = ~np.isnan(y).all(axis=1)
    return {
        "first": truth.means[0],
        "first_products": squares[0],
        "before": squares[:-1].sum(axis=0),
        "after": squares[1:].sum(axis=0),
        "across": (truth.across + np.einsum("ti,tj->tij", truth.means[1:], truth.means[:-1])).sum(axis=0),
        "states": truth.means[seen].sum(axis=0),
        "state_products": squares[seen].sum(axis=0),
        "totals": truth.values[seen].sum(axis=0),
        "value_states": truth.with_states[seen].sum(axis=0),
        "value_products": truth.of_values[seen].sum(axis=0),
    }


@pytest.mark.parametrize("diffuse", [False, True])
def test_messages_between_pieces_give_the_uncut_sums(diffuse: bool) -> None:
    """Operators joined with what is before are the forward messages, with what follows the backward ones."""
    rng = np.random.default_rng(5)
    own, y, model = (
        chain_params(rng, 2, 2),
        gappy(rng, 17, 2),
        GaussianChain(Setup(2, diffuse=diffuse, observation_noise="full")),
    )
    params, whole = framed(own), model.e_step(framed(own), Chunk(y))
    cuts = [0, 1, 2, 4, 11, 17]
    pieces = [piece(y, a, b, a > 0, b < 17) for a, b in itertools.pairwise(cuts)]
    joining, before, after = model.joining(POSTERIOR), [None], [None]
    for one in pieces[:-1]:
        before.append(model.forward_of(params, one, POSTERIOR, Boundary(before[-1])))
    for one in pieces[:0:-1]:
        after.insert(0, model.backward_of(params, one, POSTERIOR, Boundary(after=after[0])))
    for i in range(1, len(pieces) - 1):
        operator = model.operator_of(params, pieces[i], POSTERIOR)
        np.testing.assert_allclose(joining.forwards(before[i], operator), before[i + 1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(joining.backwards(operator, after[i]), after[i - 1], rtol=1e-9, atol=1e-9)
    parts = [model.e_step(params, one, Boundary(b, a)) for one, b, a in zip(pieces, before, after, strict=True)]
    assert_close(sum(parts[1:], start=parts[0]), whole, 1e-11, "cut", skip=("rounding",))
    densities = [model.step_densities(params, one, Boundary(b)) for one, b in zip(pieces, before, strict=True)]
    np.testing.assert_allclose(np.concatenate(densities).sum(), whole.log_likelihood, rtol=1e-11)


def piece(y: Array, first: int, stop: int, opened: bool, continued: bool) -> Chunk:
    return Chunk(y[first:stop], None, Sequences(np.array([0, stop - first]), opened, continued))


@pytest.mark.parametrize("forgets", [True, False])
def test_long_pieces_say_by_few_rows_what_their_neighbours_need(monkeypatch: pytest.MonkeyPatch, forgets: bool) -> None:
    """Sums are those of the uncut sequence; a state that never moves does not forget, and all rows are asked."""
    monkeypatch.setattr(gaussian_filter, "WINDOWS", (20, 150))
    rng = np.random.default_rng(5)
    own, y = chain_params(rng, 2, 2), np.cumsum(rng.normal(size=(900, 2)), axis=0)
    y[rng.random(y.shape) < 0.1] = np.nan
    if not forgets:
        own = own.replace(transition_matrix=np.eye(2), transition_covariance=np.zeros((2, 2)))
    params, model = framed(own), GaussianChain(Setup(2, observation_noise="full"))
    parts = [piece(y, 0, 320, False, True), piece(y, 320, 640, True, True), piece(y, 640, 900, True, False)]
    joining, middle = model.joining(POSTERIOR), model.operator_of(params, parts[1], POSTERIOR)
    first, last = (
        model.forward_of(params, parts[0], POSTERIOR, Boundary()),
        model.backward_of(params, parts[2], POSTERIOR, Boundary()),
    )
    asked = [
        Boundary(None, joining.backwards(middle, last)),
        Boundary(first, last),
        Boundary(joining.forwards(first, middle)),
    ]
    found = [model.e_step(params, one, message) for one, message in zip(parts, asked, strict=True)]
    whole = model.e_step(params, Chunk(y))
    assert_close(sum(found[1:], start=found[0]), whole, 1e-9, "cut", skip=("rounding",))
    other = y.copy()
    other[460:500] = 7.0
    unlike = model.operator_of(params, piece(other, 320, 640, True, True), POSTERIOR)
    assert np.array_equal(unlike, middle) == forgets


def test_a_diffuse_start_is_the_limit_of_a_wide_one() -> None:
    """Up to the density of the wide start itself; and one that is not told is an error that says so."""
    rng = np.random.default_rng(2)
    own, y = chain_params(rng, 2, 1), rng.normal(size=(8, 1))
    wide = own.replace(initial_covariance=1e7 * np.eye(2), initial_mean=np.zeros(2))
    exact, near = GaussianChain(Setup(2, diffuse=True, observation_noise="full")), joint(wide, y)
    found = exact.e_step(framed(own), Chunk(y))
    shift = np.log(2 * np.pi) + np.log(1e7)  # −½ log |2π V|
    np.testing.assert_allclose(found.log_likelihood, near.log_likelihood + shift, rtol=1e-6)
    np.testing.assert_allclose(exact.smoothed(framed(own), Chunk(y)), near.means, rtol=1e-5, atol=1e-5)
    with pytest.raises(NumericalError, match="does not tell where it began.*diffuse start of 2"):
        exact.e_step(framed(own), Chunk(y[:1]))


def test_a_far_offset_changes_nothing() -> None:
    """Data shifted by 1e6: the same noise to 1e-8, where the offset is estimated and where the state takes it."""
    y = np.cumsum(np.random.default_rng(3).normal(size=(60, 1)), axis=0)
    level = {"transition_matrix": np.eye(1), "observation_matrix": np.eye(1), "observation_offset": np.zeros(1)}
    noise = frozenset({"transition_covariance", "observation_covariance"})
    for setup in (Setup(1), Setup(1, level, noise, diffuse=True)):
        model, found = GaussianChain(setup), []
        for shift in (0.0, 1e6):
            chunk = Chunk(y + shift)
            params = model.init(chunk, np.random.RandomState(0))
            for _ in range(5):
                params = model.m_step(model.e_step(params, chunk), params)
            found.append(np.concatenate([np.ravel(params.components[name]) for name in sorted(noise)]))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-8)


@pytest.mark.parametrize("noise", ["full", "diag"])
def test_slopes_by_every_number_are_differences_of_the_log_likelihood(noise: str) -> None:
    """What standard errors differentiate, of matrices of which some are symmetric, and with missing values."""
    rng = np.random.default_rng(11)
    own = chain_params(rng, 2, 2, noise == "full").replace(transition_covariance=np.array([[1.0, 0.3], [0.3, 0.5]]))
    model, params, chunk = GaussianChain(Setup(2, observation_noise=noise)), framed(own), Chunk(gappy(rng, 12, 2))
    numbers = list(free_numbers(model, params))
    assert len(numbers) == 4 + 3 + 4 + (3 if noise == "full" else 2) + 2 + 2 + 3
    found = slope(model, params, model.e_step(params, chunk), numbers)
    for number, expected in zip(numbers, found, strict=True):
        ends = [model.e_step(moved(params, number, step), chunk).log_likelihood for step in (1e-5, -1e-5)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, expected, rtol=1e-6, atol=1e-6, err_msg=str(number))


class ChainLaws(ModelSuite):
    """Sequences are what rows are to a mixture."""

    setup = Setup(2)
    LENGTHS, n_rows = (30, 2, 45, 3, 40), 120
    missing, iterations = 0.1, 8

    def make_model(self) -> GaussianChain:
        return GaussianChain(self.setup)

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        x = 50.0 + np.cumsum(rng.normal(size=(n, 2)), axis=0) + rng.normal(size=(n, 2))
        x[rng.random((n, 2)) < self.missing] = np.nan
        return Chunk(x, None, Sequences(np.cumsum([0, *self.LENGTHS])))

    def split(self, chunk: Chunk, rng: np.random.Generator) -> list[Chunk]:
        assert chunk.sequences is not None
        offsets = chunk.sequences.offsets
        spans = [(0, 0), *itertools.pairwise(offsets), (chunk.rows, chunk.rows)]
        weight = chunk.weight
        return [Chunk(chunk.x[a:b], None if weight is None else weight[a:b]) for a, b in spans]

    def repeated(self, chunk: Chunk) -> Chunk:
        return Chunk(np.vstack([chunk.x, chunk.x]), None, Sequences(np.cumsum([0, *self.LENGTHS, *self.LENGTHS])))

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        return np.repeat(rng.uniform(0.5, 2.0, len(self.LENGTHS)), self.LENGTHS)

    def test_relabelling_relabels_the_result(self) -> None:
        """Latent dimensions in another order: the same log-likelihood, and the next parameters in that order."""
        model, rng = self.make_model(), np.random.default_rng(0)
        chunk = self.make_chunk(rng, self.n_rows)
        params = self.make_params(model, chunk)
        ours, theirs = model.e_step(params, chunk), model.e_step(reordered(params), chunk)
        np.testing.assert_allclose(theirs.log_likelihood, ours.log_likelihood, rtol=1e-12)
        expected = reordered(model.m_step(ours, params))
        assert_close(model.m_step(theirs, reordered(params)), expected, 1e-9, "m_step, relabelled")


def reordered(params: Params) -> Params:
    """Latent dimensions from the last to the first."""
    own = dict(params.components.items())
    for name in ("transition_matrix", "transition_covariance", "initial_covariance"):
        own[name] = own[name][::-1, ::-1]
    own["observation_matrix"], own["initial_mean"] = own["observation_matrix"][:, ::-1], own["initial_mean"][::-1]
    return params.replace(components=Params(**own), origin=params.origin[::-1])


class TestGaussianChain(ChainLaws):
    """All matrices free."""


class TestGaussianChainOfFullNoise(ChainLaws):
    setup = Setup(2, observation_noise="full")


class TestGaussianChainFromADiffuseStart(ChainLaws):
    """A level for each column, without missing values, which would leave starts open."""

    setup = Setup(
        2,
        {"transition_matrix": np.eye(2), "observation_matrix": np.eye(2), "observation_offset": np.zeros(2)},
        frozenset({"transition_covariance", "observation_covariance"}),
        diffuse=True,
        state_noise="diag",
    )
    missing = 0.0

    def make_params(self, model: GaussianChain, chunk: Chunk) -> Params:
        """About another anchor than the mean, about which sums are 0 but for rounding."""
        params = super().make_params(model, chunk)
        return params.replace(anchor=params.anchor + 1.0, origin=params.origin + 1.0)
