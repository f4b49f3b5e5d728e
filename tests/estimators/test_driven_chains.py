"""`transition_covariates` of hidden Markov models: numbers, cuts, engines, files, answers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from sklearn.base import clone

from streamem import HMM, Bernoulli, Gaussian, GaussianHMM, PoissonHMM, Product, open_sequences
from streamem.core.errors import DataError, DegenerateDataError, ParameterError, SchemaError
from streamem.families import AutoregressiveGaussian
from streamem.sources import ReadOptions

pytestmark = pytest.mark.filterwarnings("ignore:Best performing initialization")

DATA = Path(__file__).parents[1] / "data"
LENGTHS = [168, 134, 137]
EXACT: dict[str, Any] = {"random_state": 0, "tol": 1e-11, "n_iter": 500}


@pytest.fixture(scope="module")
def speed() -> pd.DataFrame:
    """Response times, correctness and the pay for accuracy (R package depmixS4, Visser & Speekenbrink 2010)."""
    frame = pd.concat([pd.read_csv(DATA / "speed_pacc.csv"), pd.read_csv(DATA / "speed.csv")], axis=1)
    return frame.assign(corr=(frame["corr"] == "cor").astype(float))[["Pacc", "rt", "corr"]]


def driven(seed: int = 0, n: int = 400) -> tuple[Any, Any]:
    """A chain of two states that a covariate drives, in the column between two features, and its states."""
    rng = np.random.default_rng(seed)
    u, states = rng.normal(size=n), np.zeros(n, dtype=int)
    for t in range(1, n):
        states[t] = rng.random() < 1 / (1 + np.exp(-(4.0 * states[t - 1] - 2.0 + 1.5 * u[t - 1])))
    x = rng.normal(size=(n, 2)) + 2.5 * states[:, None]
    return np.column_stack([x[:, 0], u, x[:, 1]]), states


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_speed_of_depmixs4(speed: pd.DataFrame) -> None:
    """Printed: −44.2. The other maxima are SciPy's, of a log-likelihood that was written apart."""
    alone = GaussianHMM(2, transition_covariates=["Pacc"], **EXACT).fit(speed[["Pacc", "rt"]])
    assert alone.score(speed[["rt", "Pacc"]]) == pytest.approx(-44.199479, abs=2e-6)
    order = np.argsort(alone.means_.ravel())
    assert alone.means_.ravel()[order] == pytest.approx([5.50732, 6.38565], abs=1e-5)
    assert alone.n_features_in_ == 2
    assert alone.feature_names_in_.tolist() == ["Pacc", "rt"]
    assert alone.bic(speed) == pytest.approx(2 * 44.199479 + 9 * np.log(439), abs=1e-4)
    family = Product({"rt": Gaussian(), "corr": Bernoulli()})
    both = HMM(family, 2, transition_covariates=["Pacc"], **EXACT).fit(speed)
    assert both.score(speed) == pytest.approx(-255.533709, abs=2e-6)
    three = HMM(family, 2, transition_covariates="Pacc", **EXACT).fit(speed, lengths=LENGTHS)
    assert three.score(speed, lengths=LENGTHS) == pytest.approx(-248.972203, abs=2e-6)


def test_truth_is_found_and_sampled_again() -> None:
    x, states = driven(n=4000)
    hmm = GaussianHMM(2, transition_covariates=[1], random_state=0).fit(x)
    sign = 1 if hmm.means_[0, 0] < hmm.means_[1, 0] else -1
    assert hmm.transition_coef_[:, 1, 0] * sign == pytest.approx([1.5, 1.5], abs=0.25)
    assert (hmm.predict(x) == (states if sign == 1 else 1 - states)).mean() > 0.97
    odds = hmm.transition_intercept_[:, 1]
    np.testing.assert_allclose(hmm.transmat_[:, 1], 1 / (1 + np.exp(-odds)))
    drawn, _ = hmm.sample(4000, random_state=1, transition_covariates=x[:, [1]])
    np.testing.assert_array_equal(drawn[:, 1], x[:, 1])
    assert drawn.shape == (4000, 3)
    assert hmm.score(drawn) == pytest.approx(hmm.score(x), abs=150)


# --- wherever the rows are --------------------------------------------------------------------------------------------


def parts(hmm: Any) -> list[Any]:
    return [hmm.startprob_, hmm.transition_intercept_, hmm.transition_coef_, hmm.means_, hmm.covars_]


def test_one_sequence_over_many_chunks_threads_and_a_cluster(client: Client, tmp_path: Path) -> None:
    x, _ = driven()
    table = pa.table({"a": x[:, 0], "u": x[:, 1], "b": x[:, 2]})
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, row_group_size=50)
    settings: dict[str, Any] = {"transition_covariates": ["u"], "random_state": 0, "n_iter": 6, "tol": 0.0}
    uncut = GaussianHMM(2, **settings).fit(table)
    cut = GaussianHMM(2, chunk_bytes=50 * 24, n_threads=2, **settings).fit(path)
    assert len(open_sequences(path, covariates=["u"], options=ReadOptions(chunk_bytes=50 * 24)).chunks()) == 8
    for one, other in zip(parts(cut), parts(uncut), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)
    there = GaussianHMM(2, chunk_bytes=50 * 24, **settings).fit(path, executor=client)
    for one, other in zip(parts(there), parts(cut), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(cut.predict(path), uncut.predict(table))
    np.testing.assert_allclose(cut.predict_proba(path), uncut.predict_proba(table), atol=1e-7)
    assert cut.decode(path)[0] == pytest.approx(uncut.decode(table)[0], rel=1e-8)
    assert cut.score(path) == pytest.approx(uncut.score(table), rel=1e-9)


def test_weights_lengths_and_repeats() -> None:
    x, _ = driven()
    settings: dict[str, Any] = {"transition_covariates": [1], "random_state": 0, "n_iter": 8, "tol": 0.0}
    start = GaussianHMM(2, **settings).fit(x)
    twice = GaussianHMM(2, **settings, init_params="")
    heavy = clone(twice)
    for hmm in (twice, heavy):
        for name in ("startprob_", "transition_intercept_", "transition_coef_", "means_", "covars_"):
            setattr(hmm, name, getattr(start, name))
    lengths = [100, 150, 150]
    twice.fit(np.vstack([x, x]), lengths=lengths * 2)
    heavy.fit(x, lengths=lengths, sample_weight=[2.0, 2.0, 2.0])
    for one, other in zip(parts(heavy), parts(twice), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_missing_emissions_are_steps_and_missing_covariates_an_error() -> None:
    x, _ = driven()
    gappy = x.copy()
    gappy[10:15, [0, 2]] = np.nan
    hmm = GaussianHMM(2, transition_covariates=[1], random_state=0).fit(gappy)
    assert np.isfinite(hmm.score(gappy))
    gappy[30, 0] = np.nan
    whole = GaussianHMM(2, transition_covariates=[1], random_state=0, missing="integrate").fit(gappy)
    filled = whole.impute(gappy)
    assert filled.shape == (400, 2)
    assert np.isfinite(filled).all()
    gappy[12, 1] = np.nan
    with pytest.raises(
        DataError,
        match=r"column 1, of the covariates of transitions or weights, are not finite \(the first, NaN, in row 12",
    ):
        hmm.fit(gappy)
    cube = np.full((2, 250, 3), np.nan)
    cube[0], cube[1, :150] = x[:250], x[250:]
    padded = GaussianHMM(2, transition_covariates=[1], random_state=0, n_iter=5).fit(cube)
    plain = GaussianHMM(2, transition_covariates=[1], random_state=0, n_iter=5).fit(x, lengths=[250, 150])
    assert padded.score(cube) == pytest.approx(plain.score(x, lengths=[250, 150]), rel=1e-9)


def test_five_and_five_passes_are_ten(tmp_path: Path) -> None:
    x, _ = driven()
    settings: dict[str, Any] = {"transition_covariates": [1], "random_state": 0, "tol": 0.0}
    ten = GaussianHMM(2, n_iter=10, **settings).fit(x)
    path = tmp_path / "run.npz"
    GaussianHMM(2, n_iter=5, **settings).fit(x, checkpoint=path)
    resumed = GaussianHMM(2, n_iter=10, **settings).fit(x, checkpoint=path)
    for one, other in zip(parts(resumed), parts(ten), strict=True):
        np.testing.assert_array_equal(one, other)
    ten.save(tmp_path / "model.npz")
    loaded = GaussianHMM.load(tmp_path / "model.npz")
    assert loaded.score(x) == ten.score(x)
    for one, other in zip(parts(loaded), parts(ten), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("algorithm", ["squarem", "anderson", "incremental", "stepwise"])
def test_every_algorithm(algorithm: str) -> None:
    x, _ = driven(n=600)
    settings: dict[str, Any] = {"transition_covariates": [1], "random_state": 0, "tol": 1e-9, "n_iter": 300}
    plain = GaussianHMM(2, **settings).fit(x, algorithm="batch")
    other = GaussianHMM(2, **settings).fit(x, algorithm=algorithm)
    assert other.score(x) == pytest.approx(plain.score(x), abs=30 if algorithm == "stepwise" else 1e-4)


def test_mini_batches_learn() -> None:
    x, _ = driven(n=3000)
    hmm = GaussianHMM(2, transition_covariates=[1], random_state=0)
    for first in range(0, 3000, 250):
        hmm.partial_fit(x[first : first + 250])
    best = GaussianHMM(2, transition_covariates=[1], random_state=0).fit(x)
    assert hmm.score(x) > best.score(x) - 60


@pytest.mark.parametrize(
    "hmm",
    [
        PoissonHMM(2, transition_covariates=[0], random_state=0),
        pytest.param(
            HMM("poisson", 2, transition_covariates=[0], random_state=0, start="short_em"), marks=pytest.mark.slow
        ),
        HMM(AutoregressiveGaussian(1), 2, transition_covariates=[0], random_state=0),
    ],
)
def test_other_families(hmm: Any) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=300), rng.poisson(np.repeat([1.0, 9.0, 1.0], 100))]).astype(float)
    hmm.fit(x)
    assert hmm.transition_coef_.shape == (2, 2, 1)
    assert hmm.predict(x).shape == (300,)


def test_set_by_hand() -> None:
    x, _ = driven()
    fitted = GaussianHMM(2, transition_covariates=[1], random_state=0).fit(x)
    own = GaussianHMM(2, transition_covariates=[1])
    for name in ("startprob_", "transition_intercept_", "transition_coef_", "means_", "covars_"):
        setattr(own, name, getattr(fitted, name))
    assert own.score(x) == pytest.approx(fitted.score(x), rel=1e-10)
    assert own.n_features_in_ == 3
    own.transition_coef_ = np.zeros((2, 2, 2))
    with pytest.raises(ParameterError, match=r"transition_coef_ has shape \(2, 2, 2\); finite numbers \(2, 2, 1\)"):
        own.score(x)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused(speed: pd.DataFrame) -> None:
    frame = speed[["Pacc", "rt"]]
    hmm = GaussianHMM(2, transition_covariates=["Pacc"], random_state=0, n_iter=2).fit(frame)
    with pytest.raises(ParameterError, match="exclude a copy for hmmlearn"):
        hmm.to_hmmlearn()
    with pytest.raises(ParameterError, match=r"pass transition_covariates, an array \(4, 1\)"):
        hmm.sample(4)
    with pytest.raises(ParameterError, match="transitions depend on none"):
        GaussianHMM(1, random_state=0).fit([[0.0], [1.0]]).sample(2, transition_covariates=[[0.0], [1.0]])
    for setting in ({"topology": "left-right"}, {"tied_transitions": [[0, 1]]}, {"transmat_prior": 2.0}):
        with pytest.raises(ParameterError, match=f"{next(iter(setting))} is .* the same in every step"):
            GaussianHMM(2, transition_covariates=["Pacc"], **setting).fit(frame)
    with pytest.raises(SchemaError, match=r"no column 'pay' to drive transitions or weights; it has \['Pacc', 'rt'\]"):
        GaussianHMM(2, transition_covariates=["pay"]).fit(frame)
    with pytest.raises(
        SchemaError, match="all covariates of transitions or weights; states and components need a column to emit"
    ):
        GaussianHMM(2, transition_covariates=["Pacc"]).fit(frame[["Pacc"]])
    for wrong in ([], [0, 0], [1.5], [True]):
        with pytest.raises(ParameterError, match="transition_covariates is .*; it must be a list of different columns"):
            GaussianHMM(2, transition_covariates=wrong).fit(frame)
    with pytest.raises(DegenerateDataError, match="covariate 0 of the transitions is 1 in every step"):
        GaussianHMM(2, transition_covariates=["Pacc"]).fit(frame.assign(Pacc=1.0))
    with pytest.raises(SchemaError, match="has 1 features, but GaussianHMM is expecting 2|no column 'Pacc'|lacks"):
        hmm.score(frame[["rt"]])
    opened = open_sequences(frame, covariates=["rt"])
    with pytest.raises(SchemaError, match=r"in columns \[1\], and \[0\] were asked for"):
        hmm.score(opened)
