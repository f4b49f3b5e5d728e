"""Rows by their moments: a few rows with the weight, mean and covariance of all give the fit of all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from streamem import PPCA, FactorAnalysis, select
from streamem.core.errors import DataError
from streamem.running import moments

Array = NDArray[Any]
N, D, Q = 3000, 12, 2
EXACT: dict[str, Any] = {"tol": 1e-12, "max_iter": 400}


def rows(seed: int = 0) -> Array:
    """Rows of two factors in columns of very different units and places."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, Q)) @ rng.normal(size=(Q, D)) + rng.normal(size=(N, D)) * rng.uniform(0.5, 2.0, D)
    return np.asarray(x * np.logspace(-3, 3, D) + np.linspace(-5.0, 1e4, D))


@pytest.fixture(autouse=True)
def few_rows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "LEAST_ROWS", 1000)


def fitted(x: Array, model: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [FactorAnalysis, PPCA])
def test_the_fit_is_that_of_all_rows(kind: Any, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = rows(), np.random.default_rng(1).uniform(0.0, 2.0, N) if weighted else None
    few = fitted(x, kind(Q, **EXACT, chunk_bytes=50_000), sample_weight=weight)
    assert (few.report_.n_rows, few.report_.n_patterns) == (N, 2 * D)
    scores = few.scores(x, sample_weight=weight)
    assert few.lower_bound_ == pytest.approx(scores["log_likelihood"] / scores["weight"], rel=1e-12)
    np.testing.assert_allclose(few.mean_, np.average(x, axis=0, weights=weight), rtol=1e-11)
    monkeypatch.setattr(moments, "LEAST_ROWS", N + 1)
    every = fitted(x, kind(Q, **EXACT, chunk_bytes=50_000), sample_weight=weight)
    assert every.report_.n_patterns is None
    assert few.lower_bound_ == pytest.approx(every.lower_bound_, rel=1e-10)
    np.testing.assert_allclose(few.noise_variance_, every.noise_variance_, rtol=1e-3)
    bounds = np.diff(few.lower_bounds_)
    assert (bounds >= -1e-12 * abs(few.lower_bound_)).all()


def test_bits_depend_on_the_plan_alone(tmp_path: Path) -> None:
    """Threads do not matter, and ten iterations are five, saved, and five more."""
    x, ten = rows(), {"tol": 0.0, "max_iter": 10, "chunk_bytes": 50_000}
    first = fitted(x, FactorAnalysis(Q, **ten, n_threads=1))
    assert fitted(x, FactorAnalysis(Q, **ten, n_threads=3)).components_.tobytes() == first.components_.tobytes()
    fitted(x, FactorAnalysis(Q, **{**ten, "max_iter": 5}), checkpoint=tmp_path / "run.npz")
    resumed = fitted(x, FactorAnalysis(Q, **ten), checkpoint=tmp_path / "run.npz")
    assert resumed.components_.tobytes() == first.components_.tobytes()


@pytest.mark.parametrize("moved", [(3, slice(None), 1e10), (0, slice(0, 600), 1e10)])
def test_rows_stay_where_moments_would_lose_digits(moved: tuple[int, slice, float]) -> None:
    """A column far from 0 for its spread; a first chunk of hardly any weight that is far from all others."""
    column, which, distance = moved
    x, weight = rows(), np.ones(N)
    x[which, column] += distance
    weight[:600] = 1e-9
    model = fitted(x, FactorAnalysis(Q, max_iter=2, chunk_bytes=50_000), sample_weight=weight)
    assert model.report_.n_patterns is None


def test_rows_stay_where_more_than_moments_matters() -> None:
    x = rows()
    for settings, algorithm in (({"missing": "integrate"}, None), ({}, "stepwise"), ({}, "auto")):
        model = fitted(x, FactorAnalysis(Q, max_iter=2, random_state=0, **settings), algorithm=algorithm)
        assert model.report_.n_patterns is None
    assert fitted(x, FactorAnalysis(Q, max_iter=2), algorithm="squarem").report_.n_patterns == 2 * D


def test_a_value_that_is_none_is_named() -> None:
    x = rows()
    x[2000, 4] = np.nan
    with pytest.raises(DataError, match="column 4"):
        FactorAnalysis(Q, chunk_bytes=50_000).fit(x)


def test_a_sweep_over_numbers_of_factors_takes_them_once() -> None:
    """Each candidate is the fit by itself; mini-batches, and rows that are held out, need rows."""
    x, grid = rows(), {"n_components": [1, 2, 3]}
    for options, few in (({}, True), ({"algorithm": "stepwise"}, False), ({"criterion": "held-out"}, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = select(FactorAnalysis(max_iter=20, random_state=0), x, **options, **grid)
        best = found.best_estimator_
        assert (best.report_.n_patterns is not None) == few
        if few:
            alone = fitted(x, FactorAnalysis(**found.best_params_, max_iter=20, random_state=0))
            assert best.components_.tobytes() == alone.components_.tobytes()
            assert found.table["bic"].to_pylist()[best.n_components - 1] == pytest.approx(alone.bic(x), rel=1e-10)
