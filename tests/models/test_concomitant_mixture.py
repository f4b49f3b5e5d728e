"""Mixtures of regressions whose weights depend on concomitant variables: laws, and the likelihood one row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from streamem import Params
from streamem.conformance import ModelSuite
from streamem.core.chunk import Chunk
from streamem.core.small_work import Running
from streamem.families import Regression
from streamem.initialization import STARTS
from streamem.models.concomitant_mixture import ConcomitantMixture
from streamem.models.logit_moves import design, shown

Array = NDArray[Any]
K, P = 3, 2
BOX = np.array([[-4.0, 1.0], [4.0, 9.0]])


def rows_of(distribution: str, rng: np.random.Generator, n: int) -> Chunk:
    """Regressions that a covariate beside them tells apart."""
    z = np.column_stack([rng.normal(size=n).clip(-4, 4), rng.uniform(1.0, 9.0, n)])
    state = (softmax(np.column_stack([np.zeros(n), z[:, 0], -z[:, 0]]), axis=1).cumsum(1) < rng.random((n, 1))).sum(1)
    x = rng.normal(size=(n, 1))
    eta = np.choose(state, [1.5, -1.0, 0.0]) * x[:, 0] + np.choose(state, [0.3, 1.0, -1.0])
    y = eta + 0.3 * rng.normal(size=n) if distribution == "gaussian" else rng.poisson(np.exp(eta)).astype(float)
    return Chunk(np.column_stack([x, y]), covariates=z)


def begun(model: ConcomitantMixture, chunk: Chunk) -> Params:
    """Parameters whose weights differ much from row to row."""
    params = model.init(chunk, np.random.RandomState(0))
    logits = np.random.default_rng(0).normal(size=params.logits.shape)
    return params.replace(logits=logits - logits.mean(axis=0))


@pytest.mark.parametrize("distribution", ["gaussian", "poisson"])
class TestConcomitantMixture(ModelSuite):
    """The laws of a model."""

    names = ("center", "scale", "covariate_center", "covariate_scale", "reach")
    shared = frozenset({"concomitant_box", *(f"components.{own}" for own in names)})

    @pytest.fixture(autouse=True)
    def _choose(self, distribution: str) -> None:
        self.distribution = distribution

    def make_model(self) -> ConcomitantMixture:
        return ConcomitantMixture(Regression(self.distribution), K, STARTS["random"], P, BOX)

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        return rows_of(self.distribution, rng, n)

    def make_params(self, model: Any, chunk: Chunk) -> Params:
        return begun(model, chunk)


@pytest.mark.parametrize("small", [True, False])
def test_one_row_at_a_time(small: bool) -> None:
    """Responsibilities, log-densities, and the expansion of the weights by differences."""
    chunk = rows_of("gaussian", np.random.default_rng(1), 60)
    model = ConcomitantMixture(Regression(), K, STARTS["random"], P, BOX)
    params = begun(model, chunk)
    own = shown(params.logits[None], params.concomitant_box)
    prior = log_softmax(own.intercept[0] + chunk.covariates @ own.coef[0].T, axis=1)  # type: ignore[operator]
    joint = prior + model.family.log_prob(params.components, chunk.x)
    resp = softmax(joint, axis=1)
    with Running(small):
        stats = model.e_step(params, chunk)
        assert model.prior_probabilities(params, chunk) == pytest.approx(np.exp(prior), rel=1e-12)
        assert model.responsibilities(params, chunk) == pytest.approx(resp, abs=1e-12)
        assert model.labels(params, chunk).tolist() == joint.argmax(axis=1).tolist()
        assert model.log_density(params, chunk) == pytest.approx(logsumexp(joint, axis=1), rel=1e-12)
    assert stats.responsibilities == pytest.approx(resp.sum(axis=0), rel=1e-12)
    assert float(stats.log_likelihood) == pytest.approx(logsumexp(joint, axis=1).sum(), rel=1e-12)
    rows = design(chunk.covariates, params.concomitant_box)  # type: ignore[arg-type]

    def objective(logits: Array) -> float:
        return float((resp * log_softmax(rows @ logits.T, axis=1)).sum())

    flat, width, h = params.logits.ravel(), K * (1 + P), 1e-4
    unit = h * np.eye(width)
    at = lambda step: objective((flat + step).reshape(K, -1))  # noqa: E731
    slope = np.array([at(u) - at(-u) for u in unit]) / (2 * h)
    bend = np.array([[at(u + v) - at(u - v) - at(v - u) + at(-u - v) for v in unit] for u in unit]) / (4 * h * h)
    assert stats.curvature == pytest.approx(-bend, abs=1e-5)
    assert stats.target - stats.curvature @ flat == pytest.approx(slope, abs=1e-7)
