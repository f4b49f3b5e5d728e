"""Concomitants that tell components without error, so that no coefficients are best, and those that say the same."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import GroupedMixture, MixtureOfRegressions, Params
from streamem.core.errors import DegenerateDataError
from streamem.families import Gaussian
from streamem.models.concomitants import Concomitants
from streamem.running.reached import NoMaximumWarning

Array = NDArray[Any]
N = 200
RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=N), RNG.choice([-1.0, 1.0], N) * RNG.uniform(0.1, 2.0, N)
NOISE = 0.3 * RNG.normal(size=N)


def responses(first: Array) -> Array:
    return np.where(first, 4.0 + X, -4.0 - X) + NOISE


def regressions(y: Array, k: int = 2, tol: float = 1e-6) -> MixtureOfRegressions:
    model = MixtureOfRegressions(k, concomitant=[1], random_state=0, tol=tol, init_params="random", n_init=3)
    return model.fit(np.column_stack([X, Z]), y)


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_all_components_are_separated(tol: float) -> None:
    with pytest.warns(
        NoMaximumWarning, match=r"the concomitants tell components \[0, 1\] from the others without error"
    ):
        model = regressions(responses(Z > 0), tol=tol)
    assert abs(model.concomitant_coef_[1, 0]) > 20


def test_one_component_of_three_is_separated() -> None:
    mixed = np.where(RNG.random(N) < 0.5, 12.0 + 2.0 * X + NOISE, responses(Z > 0))
    with pytest.warns(NoMaximumWarning) as told:
        model = regressions(np.where(Z > 0, responses(Z > 0), mixed), 3)
    apart = int(np.argmax(model.predict_proba([[0.0, 2.0]])[0]))
    assert f"the concomitants tell components [{apart}] from" in str(told[0].message)


def test_components_that_overlap_are_not() -> None:
    """One row on the other side, and a component of hardly a row, are no separation."""
    first = Z > 0
    first[np.argmin(Z)] = True
    steep = RNG.random(N) < 1.0 / (1.0 + np.exp(-6.0 * Z))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoMaximumWarning)
        for y in (responses(first), responses(steep)):
            regressions(y)
        MixtureOfRegressions(1, concomitant=[1]).fit(np.column_stack([X, Z]), responses(first))
        alone = responses(np.ones(N, dtype=bool))
        alone[np.argmin(Z)] = -40.0  # one row far from all others, a component of its own
        regressions(alone)


@pytest.mark.parametrize(
    ("weight", "doubt", "warns"), [(1e2, 0.4, True), (1e2, 0.6, False), (1e6, 1.9, True), (1e6, 2.1, False)]
)
def test_how_much_doubt_is_none(weight: float, doubt: float, warns: bool) -> None:
    """Half a surprise, or what a fit of many rows leaves at the default tolerance."""
    clarity = np.array([[0.5, doubt / weight], [0.5, doubt / weight]])
    assert bool(Concomitants(2, 1).no_maximum(Params(clarity=clarity), weight)) == warns
    assert not Concomitants(2, 1).no_maximum(Params(), weight)  # of a file of an earlier version


def test_groups() -> None:
    lengths = RNG.integers(1, 40, 60)
    z = RNG.choice([-1.0, 1.0], 60) * RNG.uniform(0.1, 2.0, 60)
    x = np.repeat(np.where(z > 0, 5.0, -5.0), lengths) + RNG.normal(size=lengths.sum())
    rows = np.column_stack([np.repeat(z, lengths), x])
    told: dict[str, Any] = {"concomitant": 0, "random_state": 0, "init_params": "random", "tol": 1e-6, "max_iter": 500}
    with pytest.warns(NoMaximumWarning, match=r"tell components \[0, 1\] from the others"):
        GroupedMixture(Gaussian("diag"), 2, **told).fit(rows, lengths=lengths)
    rows[: lengths[0], 1] *= -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoMaximumWarning)
        GroupedMixture(Gaussian("diag"), 2, **told).fit(rows, lengths=lengths)


@pytest.mark.parametrize("chunk_bytes", [None, 1000])
def test_concomitants_that_say_the_same_are_named(chunk_bytes: int | None) -> None:
    y = responses(Z > 0)
    columns = np.column_stack([X, Z, NOISE, 1e3 * Z + 1e6])
    with pytest.raises(DegenerateDataError, match="concomitant 3 is a linear combination of 1 and the intercept"):
        MixtureOfRegressions(2, concomitant=[1, 2, 3], chunk_bytes=chunk_bytes).fit(columns, y)
    dummies = np.column_stack([np.eye(3)[np.arange(N) % 3], X])
    with pytest.raises(DegenerateDataError, match="concomitant 2 is a linear combination of 0, 1 and the intercept"):
        MixtureOfRegressions(2, concomitant=[0, 1, 2], chunk_bytes=chunk_bytes).fit(dummies, y)
    weight = np.where(np.arange(N) == 5, 0.0, 1.0)  # the row that tells them apart does not count
    almost = np.column_stack([X, Z, 2.0 * Z + (np.arange(N) == 5)])
    with pytest.raises(DegenerateDataError, match="concomitant 2 is a linear combination of 1"):
        MixtureOfRegressions(2, concomitant=[1, 2], chunk_bytes=chunk_bytes).fit(almost, y, weight)
    holes = np.where((np.arange(N) == 5)[:, None], [0.0, np.nan, 1.0], almost)
    with pytest.raises(DegenerateDataError, match="concomitant 2 is a linear combination of 1"):
        MixtureOfRegressions(2, concomitant=[1, 2], missing="integrate", chunk_bytes=chunk_bytes).fit(holes, y)
    groups: dict[str, Any] = {"lengths": np.full(N // 4, 4)}
    z = np.repeat(Z[::4], 4)
    with pytest.raises(DegenerateDataError, match="concomitant 1 is a linear combination of 0"):
        GroupedMixture(Gaussian(), 2, concomitant=[0, 1], chunk_bytes=chunk_bytes).fit(
            np.column_stack([z, -z, y]), **groups
        )
