"""Every kind of model of rows, regressions, raters, items, chains and of a user's own does what any estimator does.

A line of `KINDS` is a kind, a line of `COLUMNS` what is asked of all of them. A pair runs, unless `REFUSED` holds the
words with which it is refused, and these are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import streamem
from helpers.members import named_in_suites
from helpers.users_model import Censored, censored_rows, two_clusters
from streamem import (
    EM,
    HMM,
    PPCA,
    DawidSkene,
    FactorAnalysis,
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    ItemResponse,
    LinearGaussianChain,
    Mixture,
    MixtureOfFactorAnalyzers,
    MixtureOfRegressions,
)
from streamem.core.errors import DataError, ParameterError
from streamem.estimators.estimator import Estimator
from streamem.families import FactorGaussian, Regression

ROWS, STEPS = 160, 40
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Kind:
    """One kind of model, tiny data for it, and what its calls take besides."""

    make: Callable[..., Any]
    data: Any
    laws: tuple[str, ...]
    """Classes that stand in suites of laws."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What `fit` takes besides the rows, and questions with it."""
    holes: Any = None
    """The same rows, some of whose values were not observed."""
    holes_told: Mapping[str, Any] | None = None
    """What `fit` takes besides those, where it is not `told`."""
    units: int = ROWS
    """Weights there are: of rows, of sequences, of items."""
    messages: list[Any] | None = None
    """Of a stream, two halves of the rows; by default those of `data`."""
    batches: list[Mapping[str, Any]] | None = None
    """What `partial_fit` takes for each of them; by default the message."""
    streamed: Mapping[str, Any] = field(default_factory=dict)
    """Settings without which a stream cannot begin."""
    followed: Mapping[str, Any] = field(default_factory=dict)
    """What `fit_stream` takes besides messages."""
    passes: str = "max_iter"

    def fresh(self, passes: int, **settings: Any) -> Any:
        """An estimator that makes so many passes."""
        return self.make(**{"random_state": 0, "tol": 0.0, self.passes: passes, **settings})

    def halves(self) -> list[Any]:
        """The data in two pieces."""
        middle = len(self.data) // 2
        return [self.data[:middle], self.data[middle:]]

    def scored(self, model: Any, **how: Any) -> Any:
        """A score of the data."""
        return model.score(self.data, **self.told, **how)


def lines() -> tuple[Any, Any]:
    """Covariates (n, 1), and responses on one of two lines."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, 1))
    far = rng.random(ROWS) < 0.4
    return x, np.where(far, 4.0 - x[:, 0], -4.0 + 2.0 * x[:, 0]) + 0.5 * rng.normal(size=ROWS)


def choices() -> Any:
    """Rows [stimulus, choice] of an animal that has two strategies (n, 2)."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=ROWS)
    slope = np.where(np.arange(ROWS) % STEPS < STEPS // 2, 3.0, -1.0)
    return np.column_stack([x, rng.random(ROWS) < 1.0 / (1.0 + np.exp(-slope * x))]).astype(np.float64)


def states(driven: bool = False) -> Any:
    """Rows of two states that last some ten steps; a covariate beside them drives the states."""
    rng = np.random.default_rng(5)
    state = np.cumsum(rng.random(ROWS) < 0.1) % 2
    x = 3.0 * state[:, None] + rng.normal(size=(ROWS, 2))
    return np.column_stack([x, np.roll(state, -1) + rng.normal(size=ROWS)]) if driven else x


def factors() -> Any:
    """Rows (n, 5) of one factor, about one of two points."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(ROWS, 1)) * [1.0, -1.0, 2.0, 0.5, 1.0] + 0.7 * rng.normal(size=(ROWS, 5))
    return x + 8.0 * (np.arange(ROWS) % 2)[:, None]


def votes(label: bool = True) -> pa.Table:
    """Five raters' labels of 32 items, some of which vote on a part only."""
    rng = np.random.default_rng(7)
    item, rater = np.divmod(np.arange(ROWS), 5)
    right = rng.random(ROWS) < 0.85
    codes = np.where(right, item % 2, 1 - item % 2)
    names = pa.array([f"r{r}" for r in rater])
    labels = pa.array([("no", "yes")[c] for c in codes], mask=np.zeros(ROWS, bool) if label else item % 3 == rater)
    return pa.table({"item": item, "rater": names, "label": labels})


def answers() -> Any:
    """Right or wrong answers (n, 4) to items of other difficulties."""
    rng = np.random.default_rng(8)
    ability = 1.5 * rng.normal(size=(ROWS, 1))
    return (rng.random((ROWS, 4)) < 1.0 / (1.0 + np.exp([-1.0, -0.5, 0.5, 1.0] - ability))).astype(np.float64)


def level() -> Any:
    """A level that wanders, as two sensors see it (n, 2)."""
    rng = np.random.default_rng(9)
    return np.cumsum(rng.normal(size=(ROWS, 1)), axis=0) + rng.normal(size=(ROWS, 2))


def gaps(x: Any, columns: Any = slice(None)) -> Any:
    """Rows of which every eighth value was not observed."""
    out = np.array(x, dtype=np.float64)
    holes = np.random.default_rng(0).random(out.shape) < 0.12
    out[..., columns] = np.where(holes, np.nan, out)[..., columns]
    return out


def own(missing: str = "error", **settings: Any) -> EM:
    """A user's model, which says itself that it integrates missing values."""
    return EM(Censored(missing="values" if missing == "integrate" else None), **settings)


def made(model: Callable[..., Any], *positional: Any, **fixed: Any) -> Callable[..., Any]:
    """What makes an estimator of further settings."""
    return lambda **settings: model(*positional, **{**fixed, **settings})


SEQUENCES: dict[str, Any] = {"lengths": np.full(ROWS // STEPS, STEPS)}
CHAIN: dict[str, Any] = {"told": SEQUENCES, "units": ROWS // STEPS, "passes": "n_iter"}
X, Y = lines()
PAIRS = np.column_stack([X, Y])
SHIFTED = np.column_stack([X, Y + np.random.default_rng(2).normal(size=ROWS)])
COUNTED = np.column_stack([np.floor(np.abs(PAIRS[:, 1])), 1.0 + np.arange(ROWS) % 3, X])
GROUPS = list(PAIRS.reshape(-1, 4, 2))
NOISE = 0.1 + np.random.default_rng(1).random((ROWS, 2))
LEVEL: dict[str, Any] = {"observation_matrix": [[1.0], [1.0]], "observation_offset": [0.0, 0.0]}

KINDS: dict[str, Kind] = {
    "EM(own)": Kind(own, censored_rows(ROWS), ("OwnModel",), holes=censored_rows(ROWS, holes=True)),
    "FactorAnalysis": Kind(made(FactorAnalysis, 1), factors(), ("FactorGaussian",), holes=gaps(factors())),
    "PPCA": Kind(made(PPCA, 1), factors(), ("FactorGaussian",), holes=gaps(factors())),
    "MixtureOfFactorAnalyzers": Kind(
        made(MixtureOfFactorAnalyzers, 2, 1), factors(), ("FactorGaussian",), holes=gaps(factors())
    ),
    "MixtureOfRegressions": Kind(
        made(MixtureOfRegressions, 2, init_params="random"),
        X,
        ("GaussianRegression", "PoissonRegression", "BinomialRegression", "MultinomialRegression", "RegressionMixture"),
        told={"y": Y},
        holes=gaps(X),
        holes_told={"y": gaps(Y)},
        messages=[(X[: ROWS // 2], Y[: ROWS // 2]), (X[ROWS // 2 :], Y[ROWS // 2 :])],
        batches=[{"X": X[: ROWS // 2], "y": Y[: ROWS // 2]}, {"X": X[ROWS // 2 :], "y": Y[ROWS // 2 :]}],
    ),
    "MixtureOfRegressions with concomitant": Kind(
        made(MixtureOfRegressions, 2, concomitant=[1], init_params="random"),
        SHIFTED,
        ("ConcomitantMixture",),
        told={"y": Y},
        holes=gaps(np.column_stack([X, Y])),
        holes_told={"y": gaps(Y)},
        messages=list(zip(np.split(SHIFTED, 2), np.split(Y, 2), strict=True)),
        batches=[{"X": x, "y": y} for x, y in zip(np.split(SHIFTED, 2), np.split(Y, 2), strict=True)],
    ),
    "Mixture(Regression)": Kind(
        made(Mixture, Regression("gaussian"), 2, init_params="random"),
        PAIRS,
        ("GaussianRegression",),
        holes=gaps(PAIRS),
    ),
    "Mixture(Regression with exposure)": Kind(
        made(Mixture, Regression("poisson", 0, exposure=1), 2, init_params="random"),
        COUNTED,
        ("PoissonRegression",),
        holes=gaps(COUNTED),
    ),
    "HMM(Regression)": Kind(
        made(HMM, Regression("binomial"), 2),
        choices(),
        ("BinomialRegression", "HMM"),
        holes=gaps(choices()),
        **CHAIN,
    ),
    "GroupedMixture(Regression)": Kind(
        made(GroupedMixture, Regression("gaussian"), 2, init_params="random"),
        PAIRS,
        ("GaussianRegression", "GroupedMixture"),
        holes=gaps(PAIRS),
        told={"lengths": np.full(ROWS // 4, 4)},
        units=ROWS // 4,
        messages=GROUPS,
        batches=[{"X": GROUPS[: ROWS // 8]}, {"X": GROUPS[ROWS // 8 :]}],
    ),
    "GroupedMixture with concomitant": Kind(
        made(GroupedMixture, Regression("gaussian"), 2, concomitant=[0], init_params="random"),
        np.column_stack([np.repeat(np.random.default_rng(2).normal(size=ROWS // 4), 4), PAIRS]),
        ("ConcomitantGroups",),
        holes=np.column_stack([np.repeat(np.random.default_rng(2).normal(size=ROWS // 4), 4), gaps(PAIRS)]),
        told={"lengths": np.full(ROWS // 4, 4)},
        units=ROWS // 4,
    ),
    "HMM(FactorGaussian)": Kind(
        made(HMM, FactorGaussian(1), 2), factors(), ("FactorGaussian", "HMM"), holes=gaps(factors()), **CHAIN
    ),
    "HMM with transition_covariates": Kind(
        made(GaussianHMM, 2, transition_covariates=[2]),
        states(driven=True),
        ("DrivenHMM",),
        holes=gaps(states(driven=True), [0, 1]),
        **CHAIN,
    ),
    "HMM with durations": Kind(
        made(GaussianHMM, 2, durations="poisson", max_duration=15),
        states(),
        ("SemiMarkov",),
        holes=gaps(states()),
        **CHAIN,
    ),
    "HMM with durations and transition_covariates": Kind(
        made(GaussianHMM, 2, durations="poisson", max_duration=15, transition_covariates=[2]),
        states(driven=True),
        ("DrivenSemiMarkov",),
        holes=gaps(states(driven=True), [0, 1]),
        **CHAIN,
    ),
    "DawidSkene": Kind(
        made(DawidSkene),
        votes(),
        ("RaterLabels", "DawidSkene"),
        holes=votes(label=False),
        units=ROWS // 5,
        streamed={"raters": [f"r{r}" for r in range(5)], "classes": ["no", "yes"]},
    ),
    "ItemResponse": Kind(
        made(ItemResponse, n_nodes=7), answers(), ("ItemCurves", "LatentTrait"), holes=gaps(answers())
    ),
    "GaussianMixture with noise": Kind(
        made(GaussianMixture, 2),
        two_clusters(ROWS),
        ("NoisyGaussian",),
        told={"noise": NOISE},
        messages=list(zip(np.split(two_clusters(ROWS), 2), np.split(NOISE, 2), strict=True)),
        batches=[
            {"X": x, "noise": noise}
            for x, noise in zip(np.split(two_clusters(ROWS), 2), np.split(NOISE, 2), strict=True)
        ],
        followed={"noise": ["v0", "v1"]},
        holes=gaps(two_clusters(ROWS)),
    ),
    "LinearGaussianChain": Kind(
        made(LinearGaussianChain, 1, **LEVEL), level(), ("GaussianChain",), holes=gaps(level()), **CHAIN
    ),
}


# --- what is asked of all --------------------------------------------------------------------------------------------


def bits(model: Any) -> list[bytes]:
    """All parameters."""
    found = model._fitted.state.params.flatten()
    return [np.asarray(found[name]).tobytes() for name in sorted(found)]


def fitted(kind: Kind, passes: int, how: Mapping[str, Any] = NOTHING, **settings: Any) -> Any:
    """A fit of so many passes."""
    return kind.fresh(passes, **settings).fit(kind.data, **kind.told, **how)


def laws(kind: Kind, client: Any, folder: Path) -> None:
    """Its family and its model stand in suites."""
    assert set(kind.laws) <= named_in_suites("FamilySuite") | named_in_suites("ModelSuite")


def missing(kind: Kind, client: Any, folder: Path) -> None:
    """Values that were not observed are refused, or integrated, and EM stays monotone."""
    told = kind.told if kind.holes_told is None else kind.holes_told
    with pytest.raises(DataError, match="NaN|null|missing"):
        kind.fresh(2, missing="error").fit(kind.holes, **told)
    model = kind.fresh(4, missing="integrate").fit(kind.holes, **told)
    assert (np.diff(model.lower_bounds_) > -1e-10).all()
    assert np.isfinite(model.score(kind.holes, **told))


def resume(kind: Kind, client: Any, folder: Path) -> None:
    """Three passes and two more from a checkpoint are five, bit by bit."""
    fitted(kind, 3, {"checkpoint": folder / "run.npz"})
    assert bits(fitted(kind, 5, {"checkpoint": folder / "run.npz"})) == bits(fitted(kind, 5))


def dask(kind: Kind, client: Any, folder: Path) -> None:
    """One thread, two and a cluster give the same bits, of a fit and of the scores of its rows."""
    found = []
    for threads, executor in ((1, None), (2, None), (None, client)):
        model = fitted(kind, 3, {"executor": executor}, n_threads=threads, chunk_bytes=600)
        found.append([*bits(model), kind.scored(model, executor=executor)])
    assert model.report_.n_chunks > 1
    assert found[1] == found[0]
    assert found[2] == found[0]


def streams(kind: Kind, client: Any, folder: Path) -> None:
    """Two messages are two mini-batches, bit by bit."""
    messages = kind.messages if kind.messages is not None else kind.halves()
    batches = kind.batches if kind.batches is not None else [{"X": message} for message in messages]
    followed = kind.fresh(1, **kind.streamed).fit_stream(messages, batch_rows=ROWS // 2, **kind.followed)
    step_by_step = kind.fresh(1, **kind.streamed)
    for batch in batches:
        step_by_step.partial_fit(**batch)
    assert followed.n_iter_ == 2
    assert bits(followed) == bits(step_by_step)


def accelerated(algorithm: str) -> Callable[[Kind, Any, Path], None]:
    """An algorithm comes to the maximum of plain EM, or to a better one."""

    def ask(kind: Kind, client: Any, folder: Path) -> None:
        plain, other = (fitted(kind, 300, {"algorithm": way}, tol=1e-8) for way in ("batch", algorithm))
        assert other.lower_bound_ > plain.lower_bound_ - 1e-4

    return ask


def errors(kind: Kind, client: Any, folder: Path) -> None:
    """Finite, and with everything twice less by √2."""
    model = fitted(kind, 300, tol=1e-8)
    once = model.standard_errors(kind.data, **kind.told)
    twice = model.standard_errors(kind.data, **kind.told, sample_weight=np.full(kind.units, 2.0))
    assert len(once) > 0
    variances = np.diag(once.covariance)
    np.testing.assert_allclose(twice.covariance, once.covariance / 2.0, rtol=1e-4, atol=1e-6 * variances.max())
    assert np.isfinite(variances).all()
    assert (variances >= 0).all()
    assert (variances > 0).any()


COLUMNS: dict[str, Callable[[Kind, Any, Path], None]] = {
    "laws": laws,
    "missing": missing,
    "resume": resume,
    "dask": dask,
    "streams": streams,
    "squarem": accelerated("squarem"),
    "auto": accelerated("auto"),
    "errors": errors,
}

REFUSED: dict[tuple[str, str], str] = {
    ("GroupedMixture with concomitant", "streams"): "concomitant excludes a stream: pass batches",
    ("HMM with durations and transition_covariates", "errors"): "together exclude standard errors",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Few passes do not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


EARLIER = {
    "BernoulliHMM",
    "BernoulliMixture",
    "CategoricalHMM",
    "GMMHMM",
    "GammaMixture",
    "LatentClass",
    "MixtureProportions",
    "MultinomialMixture",
    "NegativeBinomialMixture",
    "PoissonHMM",
    "PoissonMixture",
    "RecordLinkage",
    "StudentTMixture",
    "VonMisesFisherMixture",
}
"""Estimators of the families of `families/test_everywhere.py` and of tables beside it."""


def test_every_estimator_has_a_line_here_or_there() -> None:
    public = {name for name in dir(streamem) if isinstance(getattr(streamem, name), type)}
    every = {name for name in public if issubclass(getattr(streamem, name), Estimator)}
    assert {type(kind.fresh(1)).__name__ for kind in KINDS.values()} == every - EARLIER
    assert REFUSED.keys() <= {(name, column) for name in KINDS for column in COLUMNS}


OFTEN = ("EM(own)", "MixtureOfRegressions", "HMM(Regression)", "DawidSkene", "GaussianMixture with noise")
"""Kinds of which every column runs by default but "auto"; of the others those that cost most are `slow`."""
PAIRS_ASKED = [
    pytest.param(name, column, marks=pytest.mark.slow if column == "auto" or rare else (), id=f"{name}-{column}")
    for name in KINDS
    for column in COLUMNS
    for rare in [name not in OFTEN and column in ("dask", "squarem", "errors") and (name, column) not in REFUSED]
]


@pytest.mark.variations(1000, 1000)
@pytest.mark.parametrize(("name", "column"), PAIRS_ASKED)
def test_every_kind_does_it_or_says_why_not(name: str, column: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue("client") if column == "dask" else None
    folder = request.getfixturevalue("tmp_path")
    if (name, column) not in REFUSED:
        COLUMNS[column](KINDS[name], client, folder)
        return
    with pytest.raises(ParameterError, match=REFUSED[name, column]):
        COLUMNS[column](KINDS[name], client, folder)
