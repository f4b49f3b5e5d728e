"""The laws of labels of raters, and of items that they label."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.conformance import FamilySuite, ModelSuite
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, ParameterError
from streamem.core.sequences import Sequences
from streamem.families import Categorical, RaterLabels
from streamem.models import DawidSkene

Array = NDArray[Any]
R, V = 4, 3


def tables(rng: np.random.Generator, k: int) -> Params:
    """Tables of k classes, R raters and V labels."""
    chances = rng.dirichlet(np.full(V, 2.0), size=(k, R)).reshape(k, R * V)
    return Params(probabilities=chances, starts=np.arange(R + 1) * V, empty=np.zeros(k, dtype=np.bool_))


class TestRaterLabels(FamilySuite):
    shared = frozenset({"starts"})

    def make_family(self) -> RaterLabels:
        return RaterLabels(R, V, prior=1.5, total_weight=257.0)

    def make_params(self, rng: np.random.Generator) -> Params:
        return tables(rng, 3)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return np.column_stack([rng.integers(R, size=n), rng.integers(V, size=n)]).astype(np.float64)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        changed = np.asarray(params.probabilities).reshape(3, R, V)
        changed = changed * np.exp(scale * rng.normal(size=changed.shape))
        return params.replace(probabilities=(changed / changed.sum(axis=2, keepdims=True)).reshape(3, R * V))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no row a million spreads away."""

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        codes = x.astype(int)
        return np.log(np.asarray(params.probabilities)[:, codes[:, 0] * V + codes[:, 1]]).T

    def test_imputed_rows_keep_what_was_observed(self) -> None:
        """Nothing is imputed."""


class TestDawidSkene(ModelSuite):
    shared = frozenset({"components.starts"})
    LENGTHS = (3, 1, 4, 2, 6) * 12

    def make_model(self) -> DawidSkene:
        return DawidSkene(RaterLabels(R, V), V)

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        truth = np.repeat(rng.integers(V, size=len(self.LENGTHS)), self.LENGTHS)
        label = np.where(rng.random(len(truth)) < 0.7, truth, rng.integers(V, size=len(truth)))
        x = np.column_stack([rng.integers(R, size=len(truth)), label]).astype(np.float64)
        return Chunk(x, None, Sequences(np.cumsum([0, *self.LENGTHS])))

    def make_params(self, model: Any, chunk: Chunk) -> Params:
        """The first M-step: where nothing is known labels number the classes, which no relabelling may change."""
        start = model.init(chunk, np.random.RandomState(0))
        return model.m_step(model.e_step(start, chunk), start)

    def split(self, chunk: Chunk, rng: np.random.Generator) -> list[Chunk]:
        assert chunk.sequences is not None
        offsets = chunk.sequences.offsets.tolist()
        bounds = [(0, 0), *pairwise(offsets), (chunk.rows, chunk.rows)]
        return [Chunk(chunk.x[a:b], None if chunk.weight is None else chunk.weight[a:b]) for a, b in bounds]

    def repeated(self, chunk: Chunk) -> Chunk:
        return Chunk(np.vstack([chunk.x, chunk.x]), None, Sequences(np.cumsum([0, *self.LENGTHS, *self.LENGTHS])))

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        return np.repeat(rng.uniform(0.5, 2.0, len(self.LENGTHS)), self.LENGTHS)


class TestDawidSkeneByVotes(TestDawidSkene):
    """Additivity, weights and ascent of the first pass, which goes by the votes."""

    def make_params(self, model: Any, chunk: Chunk) -> Params:
        return model.init(chunk, np.random.RandomState(0))

    def test_relabelling_relabels_the_result(self) -> None:
        """Labels number the classes."""


def test_a_column_for_each_rater_is_the_same_family() -> None:
    """Sparse rows of a Categorical with R columns, of which all but one are missing."""
    rng = np.random.default_rng(0)
    params, votes = tables(rng, 2), TestRaterLabels().make_rows(rng, 50)
    wide = np.full((50, R), np.nan)
    wide[np.arange(50), votes[:, 0].astype(int)] = votes[:, 1]
    resp = rng.dirichlet(np.ones(2), size=50)
    theirs, ours = Categorical((V,) * R, missing=True), RaterLabels(R, V)
    np.testing.assert_allclose(ours.log_prob(params, votes), theirs.log_prob(params, wide), rtol=1e-14)
    found, expected = ours.stats(params, votes, resp), theirs.stats(params, wide, resp)
    np.testing.assert_allclose(found.counts, expected.counts, rtol=1e-14)
    assert ours.free_parameters(params) == theirs.free_parameters(params) == 2 * R * (V - 1)


@pytest.mark.parametrize("hole", [[np.nan, 1.0], [1.0, np.nan], [np.nan, np.nan]])
def test_votes_with_holes_say_nothing(hole: list[float]) -> None:
    rng = np.random.default_rng(0)
    family, params = RaterLabels(R, V).integrating(), tables(rng, 2)
    whole = TestRaterLabels().make_rows(rng, 5)
    x = np.vstack([whole, [hole]])
    assert (family.log_prob(params, x)[-1] == 0).all()
    resp = np.full((6, 2), 0.5)
    np.testing.assert_array_equal(family.stats(params, x, resp).counts, family.stats(params, whole, resp[:5]).counts)


def test_codes_beyond_the_tables_are_named_or_skipped() -> None:
    params = tables(np.random.default_rng(0), 2)
    for row, words in (
        ([R, 0], r"codes of raters are integers 0 … 3"),
        ([0, V], r"codes of labels are integers 0 … 2"),
    ):
        with pytest.raises(ImpossibleValueError, match=words):
            RaterLabels(R, V).log_prob(params, np.array([row], dtype=np.float64))
        assert (RaterLabels(R, V).skipping_unseen().log_prob(params, np.array([row], dtype=np.float64)) == 0).all()
    with pytest.raises(ParameterError, match=r"raters=\[\.\.\.\] and classes=\[\.\.\.\]"):
        RaterLabels().stats(None, np.zeros((1, 2)), np.ones((1, 2)))


def test_survey_finds_the_largest_codes() -> None:
    family = RaterLabels(prior=2.0)
    parts = [family.survey(np.array([[2.0, 1.0], [np.nan, np.nan]]), None), family.survey(np.array([[0.0, 4.0]]), None)]
    found = family.surveyed(parts)
    assert (found.n_raters, found.n_labels, found.total_weight) == (3, 5, 2.0)
    assert found.is_surveyed
    assert found.for_columns(2, ("a", "b"), {"a": ("x",), "b": ("y",)}) is found
