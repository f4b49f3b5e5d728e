"""``missing="integrate"``: values that were not observed, in every kind of data, in every way of learning."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.utils import get_tags

from streamem import HMM, GaussianHMM, GaussianMixture, GroupedMixture, Mixture
from streamem.core.errors import CheckpointMismatchError, DataError, NonFiniteError, ParameterError, PoisonError
from streamem.families import Gaussian, Multinomial
from tests.helpers.gappy import GappyNormal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Array = NDArray[Any]
NAMES = ["age", "height", "dose"]


def gaps(n: int = 600, share: float = 0.25, seed: int = 0) -> Array:
    """Rows (n, 3) of three clusters with values taken away at random, some of them all."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) + 6.0 * rng.integers(3, size=n)[:, None]
    x[rng.uniform(size=x.shape) < share] = np.nan
    return x


X = gaps()
EMPTY = np.isnan(X).all(axis=1)


def mixture(**settings: Any) -> Mixture:
    given = {"missing": "integrate", "random_state": 0, **settings}
    return Mixture(GappyNormal(), 3, **given)


def observed_log_likelihood(model: Any, x: Array) -> Array:
    """log p of what was observed of each row, in plain SciPy."""
    means, sd = model.params_.means, np.sqrt(model.params_.variances)
    terms = np.nan_to_num(norm.logpdf(x[:, None, :], means, sd), nan=0.0).sum(axis=2)
    return np.asarray(logsumexp(terms + np.log(model.weights_), axis=1))


# --- what is fitted ---------------------------------------------------------------------------------------------------


def test_one_component_is_the_closed_form() -> None:
    model = Mixture(GappyNormal(), 1, missing="integrate").fit(X)
    np.testing.assert_allclose(model.params_.means[0], np.nanmean(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.params_.variances[0], np.nanvar(X, axis=0), rtol=1e-10)


def test_log_likelihoods_are_of_what_was_observed() -> None:
    model = mixture(tol=1e-9).fit(X)
    expected = observed_log_likelihood(model, X)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=1e-10)
    assert (model.score_samples(X)[EMPTY] == 0).all()
    assert model.lower_bound_ == pytest.approx(expected.sum() / (~EMPTY).sum(), rel=1e-12)
    assert model.score(X) == pytest.approx(expected[~EMPTY].mean(), rel=1e-12) or EMPTY.any()
    np.testing.assert_allclose(model.predict_proba(X)[EMPTY], np.tile(model.weights_, (EMPTY.sum(), 1)), rtol=1e-12)


@pytest.mark.parametrize("start", ["kmeans", "k-means++", "random", "random_from_data"])
def test_rows_without_values_change_the_number_of_rows_only(start: str) -> None:
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(X))
    fits = [
        mixture(init_params=start, max_iter=8, tol=0.0).fit(x, sample_weight=w)
        for x, w in ((X, weight), (X[~EMPTY], weight[~EMPTY]))
    ]
    assert EMPTY.sum() >= 3
    assert fits[0].params_ == fits[1].params_
    np.testing.assert_array_equal(fits[0].weights_, fits[1].weights_)
    assert fits[0].lower_bounds_ == fits[1].lower_bounds_
    assert fits[0].report_.n_rows == fits[1].report_.n_rows + EMPTY.sum()


@pytest.mark.parametrize("start", ["kmeans", "random"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_starts_see_through_the_gaps(start: str, dtype: Any) -> None:
    model = mixture(init_params=start, n_init=3, max_iter=300, tol=1e-7).fit(X.astype(dtype))
    np.testing.assert_allclose(np.sort(model.params_.means, axis=0), [[0] * 3, [6] * 3, [12] * 3], atol=0.4)


def test_chunks_add_up() -> None:
    whole, cut = (mixture(chunk_bytes=size, max_iter=5, tol=0.0).fit(X) for size in (None, 240))
    np.testing.assert_allclose(cut.params_.means, whole.params_.means, rtol=1e-9)


# --- every kind of data ----------------------------------------------------------------------------------------------


def _frame() -> pd.DataFrame:
    return pd.DataFrame(X, columns=NAMES)


def _zarr(path: Path) -> str:
    array = zarr.create_array(store=str(path / "x.zarr"), shape=X.shape, chunks=(100, 3), dtype="f8")
    array.attrs["_FillValue"] = -999.0
    array[:] = np.where(np.isnan(X), -999.0, X)
    return str(path / "x.zarr")


def _npy(path: Path) -> str:
    np.save(path / "x.npy", X)
    return str(path / "x.npy")


def _table() -> pa.Table:
    return pa.table({name: pa.array(X[:, j], mask=np.isnan(X[:, j])) for j, name in enumerate(NAMES)})


def _parquet(path: Path) -> str:
    pq.write_table(_table(), path / "x.parquet", row_group_size=100)
    return str(path / "x.parquet")


KINDS: dict[str, Callable[[Path], Any]] = {
    "array": lambda path: X,
    "list": lambda path: [[None if np.isnan(v) else v for v in row] for row in X.tolist()],
    "masked": lambda path: np.ma.array(np.where(np.isnan(X), -999.0, X), mask=np.isnan(X)),
    "list of masked": lambda path: list(np.ma.array(np.where(np.isnan(X), -999.0, X), mask=np.isnan(X))),
    "pandas": lambda path: _frame(),
    "pandas nullable": lambda path: _frame().convert_dtypes(),
    "polars": lambda path: pl.from_arrow(_table()),
    "arrow": lambda path: _table(),
    "parquet": _parquet,
    "zarr": _zarr,
    "npy": _npy,
    "dask array": lambda path: dask.array.from_array(X, chunks=(200, 3)),
    "dask frame": lambda path: dask.dataframe.from_pandas(_frame(), npartitions=3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_says_the_same(kind: str, tmp_path: Path) -> None:
    data, known = KINDS[kind](tmp_path), mixture(max_iter=5, tol=0.0).fit(X)
    model = mixture(max_iter=5, tol=0.0).fit(data)
    np.testing.assert_allclose(model.params_.means, known.params_.means, rtol=1e-9)
    np.testing.assert_array_equal(model.predict(data), known.predict(X))
    filled = np.asarray(model.impute(data))
    np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    np.testing.assert_allclose(filled, known.impute(X), rtol=1e-9)
    with pytest.raises(DataError, match=r'missing="integrate"'):
        np.asarray(model.set_params(missing="error").predict(data))


# --- every way of learning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["batch", "stepwise", "incremental"])
def test_every_algorithm_learns(algorithm: str) -> None:
    model = mixture(chunk_bytes=2400, max_iter=50).fit(gaps(4000), algorithm=algorithm)
    np.testing.assert_allclose(np.sort(model.params_.means, axis=0), [[0] * 3, [6] * 3, [12] * 3], atol=0.4)


def test_streams_hold_nulls() -> None:
    rows = gaps(3000)
    records = [json.dumps({n: None if np.isnan(v) else v for n, v in zip(NAMES, row, strict=True)}) for row in rows]
    model = mixture().fit_stream(records, batch_rows=300)
    again = mixture()
    for first in range(0, len(rows), 300):
        again.partial_fit(rows[first : first + 300])
    assert model.params_ == again.params_
    assert model.report_.n_rows == 3000
    np.testing.assert_allclose(np.sort(model.params_.means, axis=0), [[0] * 3, [6] * 3, [12] * 3], atol=0.4)


def test_infinite_records_are_no_missing_ones(tmp_path: Path) -> None:
    rows = gaps(300)
    rows[7, 1] = np.inf
    model = mixture().fit_stream([rows], batch_rows=100, dead_letter=tmp_path / "bad.arrows", poison_limit=0.5)
    assert model.report_.n_rows == 299
    with pytest.raises(PoisonError, match="may be missing, but not infinite"):
        mixture().fit_stream([rows], batch_rows=100)
    with pytest.raises(NonFiniteError, match=r"1 in column 1 \(the first, infinity, in row 7\)"):
        mixture().fit(rows)


def test_sites_share_statistics() -> None:
    alone = mixture(max_iter=3, tol=0.0).fit(X)
    shared = mixture(max_iter=0).fit(X)
    for _ in range(3):
        shared.maximize(sum(shared.expected_statistics(part) for part in (X[:250], X[250:])))
    np.testing.assert_allclose(shared.params_.means, alone.params_.means, rtol=1e-9)
    with pytest.raises(ParameterError):
        mixture(max_iter=0, missing="error").fit(X[~np.isnan(X).any(axis=1)]).maximize(shared.expected_statistics(X))


def test_files_remember_it(tmp_path: Path) -> None:
    model = mixture(max_iter=4).fit(X, checkpoint=tmp_path / "run.npz")
    model.save(tmp_path / "m.npz")
    loaded = Mixture.load(tmp_path / "m.npz", family=GappyNormal())
    assert loaded.missing == "integrate"
    assert "missing values are integrated over" in loaded.describe()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert mixture(max_iter=4).fit(X, checkpoint=tmp_path / "run.npz").params_ == model.params_
    complete = np.nan_to_num(X)
    mixture(max_iter=4).fit(complete, checkpoint=tmp_path / "other.npz")
    with pytest.raises(CheckpointMismatchError, match="integrate"):
        mixture(max_iter=4, missing="error").fit(complete, checkpoint=tmp_path / "other.npz")


# --- errors ----------------------------------------------------------------------------------------------------------


def test_the_default_is_an_error_that_names_the_remedy() -> None:
    for model in (GaussianMixture(2), mixture(missing="error"), GaussianHMM(2), HMM(GappyNormal(), 2)):
        with pytest.raises(NonFiniteError, match=r'missing="integrate"'):
            model.fit(X)
    with pytest.raises(DataError, match=r'1 masked values.*missing="integrate"'):
        GaussianMixture(2).fit(np.ma.masked_equal([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], 4.0))
    assert not get_tags(mixture(missing="error")).input_tags.allow_nan
    assert get_tags(mixture()).input_tags.allow_nan


def test_a_family_that_knows_no_missing_values_is_no_remedy() -> None:
    """The boundary asks the family before it says what to pass."""
    counts = np.random.default_rng(0).multinomial(9, [0.2, 0.3, 0.5], size=40).astype(np.float64)
    gappy = counts.copy()
    gappy[3, 1] = np.nan
    for fit in (
        Mixture(Multinomial(), 2).fit,
        HMM(Multinomial(), 2).fit,
        partial(GroupedMixture(Multinomial(), 2).fit, lengths=[20, 20]),
    ):
        with pytest.raises(NonFiniteError, match=r"drop or impute|impute these values") as caught:
            fit(gappy)
        assert "integrate" not in str(caught.value)
        with pytest.raises(DataError, match=r"masked|non-finite") as hidden:
            fit(np.ma.masked_invalid(gappy))
        assert "integrate" not in str(hidden.value)
    with pytest.raises(PoisonError, match="knows no missing ones"):
        Mixture(Multinomial(), 2).fit_stream([gappy], batch_rows=20)
    with pytest.raises(ParameterError, match="Multinomial"):
        Mixture(Multinomial(), 2, max_iter=1, tol=1e9).fit(counts).impute(gappy)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ParameterError, match="missing is 'drop'"):
        mixture(missing="drop").fit(X)
    unseen = X.copy()
    unseen[:, 1] = np.nan
    with pytest.raises(DataError, match=r"column 1 'height': missing in all \d+ rows"):
        mixture().fit(pd.DataFrame(unseen, columns=NAMES))
    with pytest.raises(DataError, match=r"column 0, 1, 2: missing in all"):
        mixture().fit(np.full((50, 3), np.nan))
    with pytest.raises(DataError, match="column 1: missing in all"):
        HMM(GappyNormal(), 2, missing="integrate").fit(unseen)

    class Deaf:
        log_prob, stats, maximize = GappyNormal.log_prob, GappyNormal.stats, GappyNormal.maximize

    with pytest.raises(ParameterError, match="Deaf knows no missing values"):
        Mixture(Deaf(), 2, missing="integrate").fit(X)


def test_components_that_start_without_a_column_are_finite() -> None:
    x = np.full((40, 2), np.nan)
    x[:20, 0], x[20:, 1] = np.arange(20.0), np.arange(20.0)
    for start in ("kmeans", "k-means++", "random_from_data"):
        model = Mixture(GappyNormal(), 2, missing="integrate", init_params=start, random_state=0).fit(x)
        assert np.isfinite(model.params_.means).all()


# --- chains ----------------------------------------------------------------------------------------------------------


def test_chains_with_partly_missing_steps_are_brute_force() -> None:
    x = gaps(6, 0.4, seed=3)
    x[2] = np.nan
    chain = HMM(GappyNormal(), 2, missing="integrate", n_iter=0, random_state=0).fit(gaps(100))
    params, k = chain.params_, 2
    log_prob = GappyNormal().log_prob(params, x)
    paths = np.array(list(product(range(k), repeat=len(x))))
    joint = np.log(chain.startprob_[paths[:, 0]]) + log_prob[np.arange(len(x)), paths].sum(axis=1)
    joint += np.log(chain.transmat_[paths[:, :-1], paths[:, 1:]]).sum(axis=1)
    assert chain.score(x) == pytest.approx(logsumexp(joint), rel=1e-12)
    chances = np.exp(joint - logsumexp(joint))
    posterior = np.array([[chances[paths[:, t] == j].sum() for j in range(k)] for t in range(len(x))])
    np.testing.assert_allclose(chain.predict_proba(x), posterior, atol=1e-12)
    np.testing.assert_array_equal(chain.predict(x), paths[joint.argmax()])
    assert chain.decode(x)[0] == pytest.approx(joint.max(), rel=1e-12)
    np.testing.assert_allclose(chain.impute(x)[np.isnan(x)], (posterior @ params.means)[np.isnan(x)], rtol=1e-10)


def test_chains_climb_and_may_be_cut() -> None:
    x = np.concatenate([gaps(300, seed=seed) for seed in (1, 2)])
    given = {"missing": "integrate", "random_state": 0, "n_iter": 4, "tol": 0.0}
    whole = HMM(GappyNormal(), 3, **given).fit(x, [350, 250])
    cut = HMM(GappyNormal(), 3, chunk_bytes=2400, **given).fit(x, [350, 250])
    assert np.diff(whole.lower_bounds_).min() > -1e-9
    np.testing.assert_allclose(cut.params_.means, whole.params_.means, rtol=1e-8)
    np.testing.assert_allclose(cut.transmat_, whole.transmat_, rtol=1e-8)


def test_groups_are_imputed_from_their_component() -> None:
    x, lengths = X[:200], [7, 93, 100]
    model = GroupedMixture(GappyNormal(), 2, missing="integrate", random_state=0).fit(x, lengths)
    chances = np.repeat(model.predict_proba(x, lengths), lengths, axis=0)
    expected = np.where(np.isnan(x), chances @ model.params_.means, x)
    np.testing.assert_allclose(model.impute(x, lengths), expected, rtol=1e-10)
    cut = model.set_params(chunk_bytes=480).impute(x, lengths)
    np.testing.assert_allclose(cut, expected, rtol=1e-10)
    assert np.isfinite(model.impute(x, lengths, n_draws=2)).all()


# --- imputing --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> Mixture:
    return mixture(tol=1e-9).fit(X)


@pytest.fixture(scope="module")
def named() -> Mixture:
    return mixture(tol=1e-9).fit(pd.DataFrame(X, columns=NAMES))


def test_conditional_means(fitted: Mixture) -> None:
    expected = np.where(np.isnan(X), fitted.predict_proba(X) @ fitted.params_.means, X)
    np.testing.assert_allclose(fitted.impute(X), expected, rtol=1e-12)
    narrow = X.astype(np.float32)
    found = fitted.impute(narrow)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[~np.isnan(X)], narrow[~np.isnan(X)])


def test_draws_do_not_depend_on_threads_but_on_the_seed(fitted: Mixture) -> None:
    settings = {"n_threads": 1, "chunk_bytes": 1200}
    one = fitted.set_params(**settings).impute(X, n_draws=4)
    two = fitted.set_params(n_threads=3).impute(X, n_draws=4)
    np.testing.assert_array_equal(one, two)
    other = fitted.set_params(random_state=1).impute(X, n_draws=4)
    fitted.set_params(random_state=0, n_threads=None, chunk_bytes=None)
    assert (other != one).any()
    assert one.shape == (4, *X.shape)
    for draw in one:
        np.testing.assert_array_equal(draw[~np.isnan(X)], X[~np.isnan(X)])
    many = fitted.impute(X[EMPTY][:1], n_draws=4000)[:, 0]
    mean = fitted.weights_ @ fitted.params_.means
    second = fitted.weights_ @ (fitted.params_.variances + fitted.params_.means**2)
    np.testing.assert_allclose(many.mean(axis=0), mean, atol=5 * np.sqrt(second.max() / 4000))


@pytest.mark.parametrize("suffix", ["parquet", "zarr", "npy"])
def test_imputed_files_have_the_names_of_the_data(named: Mixture, suffix: str, tmp_path: Path) -> None:
    frame, out = pd.DataFrame(X, columns=NAMES), tmp_path / f"filled.{suffix}"
    assert named.impute(frame, out=out) == out
    drawn = tmp_path / f"drawn.{suffix}"
    named.impute(frame, n_draws=2, out=drawn)
    means, draws = named.impute(frame), named.impute(frame, n_draws=2)
    if suffix == "parquet":
        found, both = pd.read_parquet(out), pd.read_parquet(drawn)
        assert list(found) == NAMES
        assert list(both) == [f"{name}_{draw}" for draw in range(2) for name in NAMES]
    else:
        read = np.load if suffix == "npy" else lambda path: zarr.open_array(path)[:]
        found, both = read(out), read(drawn)
    np.testing.assert_array_equal(np.asarray(found), means)
    np.testing.assert_array_equal(np.asarray(both), draws.transpose(1, 0, 2).reshape(len(X), 6))


def test_dask_is_imputed_lazily(fitted: Mixture, named: Mixture) -> None:
    lazy = fitted.impute(dask.array.from_array(X, chunks=(200, 3)))
    assert isinstance(lazy, dask.array.Array)
    np.testing.assert_allclose(lazy.compute(), fitted.impute(X), rtol=1e-12)
    frame = dask.dataframe.from_pandas(pd.DataFrame(X, columns=NAMES), npartitions=2)
    drawn = named.impute(frame, n_draws=3).compute()
    assert drawn.shape == (3, *X.shape)
    assert np.isfinite(drawn).all()


def test_what_cannot_be_imputed_is_refused(fitted: Mixture) -> None:
    with pytest.raises(ParameterError, match="n_draws is -1"):
        fitted.impute(X, n_draws=-1)
    complete = mixture(missing="error").fit(np.nan_to_num(X))
    with pytest.raises(ParameterError, match="impute needs a model that knows missing values"):
        complete.impute(X)

    class Mute:
        allows_missing = True
        log_prob, stats, maximize = GappyNormal.log_prob, GappyNormal.stats, GappyNormal.maximize
        start = GappyNormal.start

    mute = Mixture(Mute(), 2, missing="integrate", max_iter=1, tol=1e9).fit(X)
    with pytest.raises(ParameterError, match="Mute cannot impute"):
        mute.impute(X)
    with pytest.raises(ParameterError, match="Mute cannot draw missing values"):
        mute.impute(X, n_draws=1)


def test_rows_without_any_value_are_refused_with_the_remedy() -> None:
    x = np.full((12, 2), np.nan)
    for model, what in ((GroupedMixture(Gaussian("diag"), 1), "groups of which rows"), (GaussianHMM(1), "steps that")):
        for learn in (model.fit, model.partial_fit):
            with pytest.raises(ParameterError, match=f"every row of the sample is missing.*pass {what} have values"):
                learn(x, lengths=[4, 4, 4])
