"""Categorical variables of which some tables stay: the laws among what is free, and what stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamem import Params
from streamem.conformance import FamilySuite
from streamem.families import Categorical, PartlyFixedCategorical

BOUNDS = np.array([0, 2, 7, 10])
SIZES = (2, 5, 3)
KEPT = slice(2, 7)


class TestPartlyFixedCategorical(FamilySuite):
    shared = frozenset({"starts"})

    def make_family(self) -> PartlyFixedCategorical:
        return PartlyFixedCategorical(SIZES, kept=[(0, 1), (1, 1), (2, 1)])

    def make_params(self, rng: np.random.Generator) -> Params:
        parts = [rng.dirichlet(np.ones(size), size=3) for size in SIZES]
        return Params(probabilities=np.hstack(parts), starts=BOUNDS)

    def make_rows(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return np.column_stack([rng.integers(size, size=n) for size in SIZES]).astype(np.float64)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        changed = params.probabilities * np.exp(scale * rng.normal(size=params.probabilities.shape))
        changed /= np.repeat(np.add.reduceat(changed, BOUNDS[:-1], axis=1), np.diff(BOUNDS), axis=1)
        changed[:, KEPT] = params.probabilities[:, KEPT]
        return params.replace(probabilities=changed)

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no row a million spreads away."""

    def reference_log_prob(self, params: Params, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return Categorical().log_prob(params, x)


def test_given_tables_stay_and_others_are_those_of_categorical() -> None:
    suite, rng = TestPartlyFixedCategorical(), np.random.default_rng(0)
    params, x = suite.make_params(rng), suite.make_rows(rng, 200)
    family, free = PartlyFixedCategorical(SIZES, kept=[(0, 1)]), Categorical(SIZES)
    stats = family.stats(params, x, rng.random((200, 3)))
    found, expected = (each.maximize(stats, params).probabilities for each in (family, free))
    np.testing.assert_array_equal(found[0, KEPT], params.probabilities[0, KEPT])
    expected = expected.copy()
    expected[0, KEPT] = found[0, KEPT]
    np.testing.assert_array_equal(found, expected)
    assert family.free_parameters(params) == free.free_parameters(params) - 4


def test_a_survey_finds_at_least_so_many_categories() -> None:
    family = PartlyFixedCategorical(least=(2, 4), kept=[(0, 1)]).integrating()
    found = family.surveyed([family.survey(np.array([[2.0, 0.0], [np.nan, 1.0]]), None)])
    assert found.n_categories == (3, 4)
    assert isinstance(found, PartlyFixedCategorical)
    assert found.kept == ((0, 1),)
