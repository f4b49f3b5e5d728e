"""The laws of answers to items, and of people whose abilities are integrated over."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bernoulli

from streamem.conformance import FamilySuite, ModelSuite
from streamem.conformance.families import Quadrature
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError
from streamem.core.stats import Stats
from streamem.families import ItemCurves
from streamem.models import LatentTrait

Array = NDArray[Any]
D = 4
NODES = np.array([-1.5, 0.2, 1.0])


def curves(rng: np.random.Generator, common: bool) -> Params:
    """Curves of D items."""
    slopes = np.full(D, 1.3) if common else rng.uniform(0.5, 2.0, D)
    return Params(slopes=slopes, intercepts=rng.normal(size=D), nodes=NODES)


@pytest.mark.parametrize("common", [True, False])
class TestItemCurves(FamilySuite):
    shared = frozenset({"slopes", "intercepts"})

    @pytest.fixture(autouse=True)
    def _choose(self, common: bool) -> None:
        self.common = common

    def make_family(self) -> ItemCurves:
        return ItemCurves(NODES, self.common)

    def make_params(self, rng: np.random.Generator) -> Params:
        return curves(rng, self.common)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return (rng.random((n, D)) < 0.6).astype(np.float64)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        slopes = params.slopes + scale * (rng.normal() if self.common else rng.normal(size=D))
        return params.replace(slopes=slopes, intercepts=params.intercepts + scale * rng.normal(size=D))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no row a million spreads away."""

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        chance = 1.0 / (1.0 + np.exp(-(np.outer(NODES, params.slopes) + params.intercepts)))
        return np.array([bernoulli.logpmf(x.astype(int), own).sum(axis=1) for own in chance]).T

    def quadrature(self, params: Params) -> Quadrature:
        x = np.array(list(itertools.product((0.0, 1.0), repeat=D)))
        return Quadrature(x, np.ones(len(x)))


class TestLatentTrait(ModelSuite):
    shared = frozenset({"components.slopes", "components.intercepts"})

    def make_model(self) -> LatentTrait:
        return LatentTrait(ItemCurves(NODES), NODES, np.array([0.3, 0.4, 0.3]))

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        ability = rng.normal(size=(n, 1))
        return Chunk((rng.random((n, D)) < 1.0 / (1.0 + np.exp(-1.5 * ability + 0.3))).astype(np.float64))


def test_items_that_all_answer_alike_end_at_a_bound() -> None:
    right = np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 2.0]])
    stats = Stats(weight=np.ones(3), right=right, asked=np.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]]))
    start = Params(slopes=np.ones(2), intercepts=np.zeros(2), nodes=NODES)
    for common in (True, False):
        found = ItemCurves(NODES, common).maximize(stats, start)
        assert np.isfinite(np.asarray(found.slopes)).all()
        assert np.abs(np.asarray(found.intercepts)).max() <= 40.0


def test_other_answers_are_named() -> None:
    params = curves(np.random.default_rng(0), False)
    with pytest.raises(ImpossibleValueError, match="an answer is 1, right, or 0, wrong"):
        ItemCurves(NODES).log_prob(params, np.array([[1.0, 0.0, 2.0, 1.0]]))
