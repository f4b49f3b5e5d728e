"""What users write without inheriting is completed once, and goes on being theirs."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from golden.cases import OwnPoisson
from streamem import HMM, GroupedMixture, Mixture, MixtureFamily
from streamem.algorithms import StepwiseEM
from streamem.core.chunk import Chunk
from streamem.core.completing import as_written, completed
from streamem.core.errors import ParameterError
from streamem.core.ports import Algorithm, FullFamily, full_family, variant_of
from streamem.estimators.family_facts import settings_of
from streamem.models import Mixture as MixtureModel

X = np.random.default_rng(0).poisson([[3.0]], (200, 1)).astype(np.float64)


class Drawing(OwnPoisson):
    """Can do one thing more than it must, and counts how often."""

    takes_codes = True

    def __init__(self) -> None:
        self.penalties = 0

    def penalty(self, params: Any, stats: Any) -> float:
        """A constant."""
        self.penalties += 1
        return 2.5


class Handing:
    """Has whatever the thing inside has."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_own_methods_and_facts_are_used_and_others_are_neutral() -> None:
    own = Drawing()
    for full in (full_family(own), full_family(Handing(own))):
        before = own.penalties
        assert full.penalty(None, None) == 2.5
        assert own.penalties == before + 1
        assert full.takes_codes
        assert full.is_surveyed
        assert [full.has_start, full.can_draw, full.reads_rounding] == [False] * 3
        assert full.degenerate(None) == {}
        with pytest.raises(ParameterError, match="cannot draw rows"):
            full.draw(None, 0, 1, np.random.RandomState(0))


def test_one_that_inherits_is_itself_and_one_that_was_completed_is_known() -> None:
    own = OwnPoisson()
    full = full_family(own)
    assert full_family(full) is full
    assert as_written(full) is own
    assert settings_of(full) == settings_of(own)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_models_with_such_a_family_travel(again: Any) -> None:
    for family in (OwnPoisson(), MixtureFamily(OwnPoisson(), 2)):
        model = MixtureModel(family, 2, halves)
        params = model.init(Chunk(X), np.random.RandomState(0))
        assert again(model).e_step(params, Chunk(X)) == model.e_step(params, Chunk(X))


def halves(x: Any, weight: Any, k: int, rng: np.random.RandomState) -> Any:
    """Rows in the order of their values, an equal number for each component."""
    ranks = np.argsort(np.argsort(x[:, 0], kind="stable"), kind="stable")
    return np.eye(k)[ranks * k // len(x)]


def test_an_estimator_keeps_the_family_that_it_was_given() -> None:
    own = OwnPoisson()
    fitted = Mixture(own, 2, random_state=0).fit(X)
    assert fitted.family is own
    assert type(clone(fitted).family) is OwnPoisson


class ForOneComponent(OwnPoisson):
    """Forgets that there are several."""

    def log_prob(self, params: Any, x: Any) -> Any:
        return super().log_prob(params, x)[:, :1]


class ReturnsArrays(OwnPoisson):
    """Leaves out the names of statistics."""

    def stats(self, params: Any, x: Any, resp: Any) -> Any:
        return resp.T @ x


class ReturnsDict(OwnPoisson):
    """Leaves out Params."""

    def maximize(self, stats: Any, previous: Any) -> Any:
        return {"rates": stats.x}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (ForOneComponent(), r"ForOneComponent.log_prob returned .* of shape \(200, 1\) .*; it must be \(200, 2\)"),
        (ReturnsArrays(), r"ReturnsArrays.stats returned ndarray; it must return Stats\(name=array"),
        (ReturnsDict(), r"ReturnsDict.maximize returned dict; it must return Params\(name=array"),
    ],
)
def test_what_functions_return_is_told_where_it_is_something_else(own: Any, words: str) -> None:
    """In every structure, and by name; (n, 1) would be broadcast, and all components would be alike."""
    for fit in (
        Mixture(own, 2, random_state=0).fit,
        HMM(own, 2, random_state=0).fit,
        partial(GroupedMixture(own, 2, random_state=0).fit, lengths=[50] * 4),
    ):
        with pytest.raises(ParameterError, match=words):
            fit(X)


def test_what_is_lacking_is_named() -> None:
    with pytest.raises(ParameterError, match="object has no log_prob, maximize, stats"):
        completed(object(), FullFamily)


def test_algorithms_are_completed_too() -> None:
    class Once:
        """Visits the rows once."""

        def start(self, params: Any) -> Any:
            return params

        def window(self, state: Any, refs: Any) -> Any:
            return refs

        def update(self, model: Any, state: Any, stats: Any) -> Any:
            return state

    known = variant_of(Once())
    assert isinstance(known, Algorithm)
    assert (known.reads_in_order, known.can_end_unconverged, known.sees_all_rows) == (True, False, False)
    assert known.planned((), None) is known  # type: ignore[arg-type]
    assert known.reopen(7) == 7  # type: ignore[arg-type, comparison-overlap]
    rule = StepwiseEM(final_pass=False)
    assert variant_of(rule) is rule
    assert not rule.compares_starts
    assert variant_of("batch") is None
