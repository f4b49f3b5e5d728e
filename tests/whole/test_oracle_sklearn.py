"""scikit-learn's `GaussianMixture` as the oracle: the same numbers from the same start, and the same manners."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as Oracle
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from streamem import GaussianMixture
from streamem.conformance import tolerance
from streamem.kernels.tiling import MOST_ROWS, SHAPES

Array = NDArray[Any]
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
DTYPES = [np.float64, np.float32]
ATTRIBUTES = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]
K = 3


def overlapping(n: int = 600, d: int = 4, seed: int = 0, dtype: Any = np.float64) -> Array:
    """Three clusters, two of which overlap."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0] * d, [2.5] * d, [8.0] * d])
    spread = np.eye(d) + 0.1 * rng.normal(size=(3, d, d))
    labels = rng.integers(3, size=n)
    return (centres[labels] + np.einsum("nd,nde->ne", rng.normal(size=(n, d)), spread[labels])).astype(dtype)


def start(x: Array, covariance_type: str) -> dict[str, Any]:
    """Weights, means and precisions, a little off."""
    rng, d = np.random.default_rng(9), x.shape[1]
    precisions = {
        "full": np.stack([np.eye(d) * s for s in (0.5, 1.0, 0.7)]),
        "tied": np.eye(d) * 0.6,
        "diag": rng.uniform(0.4, 1.1, (K, d)),
        "spherical": rng.uniform(0.4, 1.1, K),
    }[covariance_type]
    means = x[rng.choice(len(x), K, replace=False)].astype(np.float64)
    return {"weights_init": np.array([0.2, 0.5, 0.3]), "means_init": means, "precisions_init": precisions}


def quietly(estimator: Any, x: Any, **options: Any) -> Any:
    """Fit without the warning that max_iter was reached."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(x, **options)


def rounding(n: int, dtype: Any, conditioning: float) -> float:
    """Relative error of what follows from sums over n rows in float64 of sums over blocks of rows in `dtype`."""
    most = max(MOST_ROWS, *(shape.rows for shape in SHAPES))
    products = 0.0 if dtype == np.float64 else tolerance(dtype, min(n, most), conditioning)
    return tolerance(np.float64, n, conditioning) + products


def assert_same_fit(ours: Any, theirs: Any, n: int, dtype: Any = np.float64, slowness: float = 1.0) -> None:
    """Every fitted array relative to its largest value: sums over n rows in float64, results in `dtype`.

    Rounding is amplified by the condition of the covariances, and by `slowness`, the steps that a run remembers.
    """
    condition = float(np.abs(theirs.precisions_).max() * np.abs(theirs.covariances_).max())
    rtol = rounding(n, dtype, condition * slowness)
    for name in ATTRIBUTES:
        expected, found = getattr(theirs, name), getattr(ours, name)
        assert found.shape == expected.shape, name
        np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max(), err_msg=name)


# --- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("max_iter", [1, 10])
def test_steps_from_the_same_start(covariance_type: str, dtype: Any, max_iter: int) -> None:
    """One E- and M-step, and ten; on float32, what scikit-learn gets in float64, for sums are float64 here."""
    x = overlapping(dtype=dtype)
    options = {"covariance_type": covariance_type, "max_iter": max_iter, "tol": 0.0, **start(x, covariance_type)}
    ours, theirs = quietly(GaussianMixture(K, **options), x), quietly(Oracle(K, **options), x.astype(np.float64))
    assert_same_fit(ours, theirs, len(x), dtype)
    assert {getattr(ours, name).dtype for name in ATTRIBUTES} == {np.dtype(dtype)}
    assert ours.n_iter_ == theirs.n_iter_ == max_iter


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_to_convergence_from_the_same_start(covariance_type: str, dtype: Any) -> None:
    """The same iteration, parameters, labels, probabilities, densities and criteria."""
    x, fresh = overlapping(dtype=dtype), overlapping(200, seed=1)
    options = {"covariance_type": covariance_type, "max_iter": 500, "tol": 1e-4, **start(x, covariance_type)}
    exact = x.astype(np.float64)
    ours, theirs = GaussianMixture(K, **options).fit(x), Oracle(K, **options).fit(exact)
    assert ours.n_iter_ == theirs.n_iter_ > 3
    assert ours.converged_
    rtol = rounding(len(x), dtype, 10.0)
    assert_same_fit(ours, theirs, len(x), dtype)
    assert np.array_equal(ours.predict(fresh), theirs.predict(fresh))
    np.testing.assert_allclose(ours.predict_proba(fresh), theirs.predict_proba(fresh), rtol=0, atol=10 * rtol)
    np.testing.assert_allclose(ours.score_samples(fresh), theirs.score_samples(fresh), rtol=10 * rtol)
    for name in ("score", "bic", "aic"):
        assert getattr(ours, name)(x) == pytest.approx(getattr(theirs, name)(exact), rel=rtol)
    assert ours.lower_bound_ == pytest.approx(theirs.score(exact), rel=rtol), "exact at the parameters returned"


@pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning")
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("covariance_type", ["full", "spherical"])
def test_the_same_seed_gives_the_same_fit(covariance_type: str, init_params: str) -> None:
    """Its own start from its own random numbers; the better of two, where two do not end at the same maximum."""
    x = overlapping(300)
    options = {
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 7,
        "max_iter": 300,
        # Two runs of k-means end at one maximum with other labels, and rounding would choose between them.
        "n_init": 1 if init_params == "kmeans" else 2,
    }
    ours, theirs = GaussianMixture(K, stopping="change", **options).fit(x), Oracle(K, **options).fit(x)
    assert ours.n_iter_ == theirs.n_iter_
    assert_same_fit(ours, theirs, len(x), slowness=ours.n_iter_)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_weight_is_a_number_of_rows(covariance_type: str) -> None:
    """scikit-learn has no weights: rows repeated there, weights here."""
    x = overlapping(300)
    weight = np.random.default_rng(3).integers(0, 4, len(x))
    options = {"covariance_type": covariance_type, "max_iter": 300, "tol": 1e-5, **start(x, covariance_type)}
    ours = GaussianMixture(K, **options).fit(x, sample_weight=weight)
    theirs = Oracle(K, **options).fit(np.repeat(x, weight, axis=0))
    assert ours.n_iter_ == theirs.n_iter_
    assert_same_fit(ours, theirs, weight.sum())
    assert ours.score(x, sample_weight=weight) == pytest.approx(theirs.score(np.repeat(x, weight, axis=0)), rel=1e-12)


# --- traps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_data_far_from_the_origin_keep_their_covariances(covariance_type: str) -> None:
    """Shifted by 1e6: unchanged to 1e-8. The shift itself rounds the data at 1e-10, so it is undone exactly first."""
    near = overlapping()
    far = near + 1e6
    near = far - 1e6
    options = {"covariance_type": covariance_type, "max_iter": 20, "tol": 0.0, "init_params": "kmeans"}
    one = quietly(GaussianMixture(K, random_state=0, **options), near)
    other = quietly(GaussianMixture(K, random_state=0, **options), far)
    np.testing.assert_allclose(other.covariances_, one.covariances_, rtol=0, atol=1e-8 * np.abs(one.covariances_).max())
    np.testing.assert_allclose(other.means_ - 1e6, one.means_, rtol=0, atol=1e-8 * np.abs(one.means_).max())
    assert other.lower_bound_ == pytest.approx(one.lower_bound_, abs=1e-8)


@pytest.mark.parametrize("stopping", ["change", "aitken"])
def test_a_thousand_times_the_data_stop_at_the_same_iteration(stopping: str) -> None:
    """`tol` is per row; sums a thousand times as large change nothing else."""
    x = overlapping(80, d=2)
    options = {"covariance_type": "full", "max_iter": 500, "tol": 1e-5, "stopping": stopping, **start(x, "full")}
    one = GaussianMixture(K, **options).fit(x)
    thousand = GaussianMixture(K, chunk_bytes=100_000, **options).fit(np.tile(x, (1000, 1)))
    assert len(thousand.report_.passes) == len(one.report_.passes)
    assert thousand.n_iter_ == one.n_iter_ > 3
    assert thousand.report_.n_chunks > 1
    assert_same_fit(thousand, one, 80_000)


def test_the_plan_changes_rounding_only_and_threads_change_nothing() -> None:
    """The same bits on one, two and three threads; the same numbers for other chunks."""
    x = overlapping(3000)
    options = {"max_iter": 30, "tol": 0.0, "random_state": 0}
    fits = [quietly(GaussianMixture(K, n_threads=n, chunk_bytes=8000, **options), x) for n in (1, 2, 3)]
    for name in ATTRIBUTES:
        assert len({getattr(fit, name).tobytes() for fit in fits}) == 1, name
    assert_same_fit(quietly(GaussianMixture(K, **options), x), fits[0], len(x))


# --- the same manners ------------------------------------------------------------------------------------------------


def results(estimator: Any) -> dict[str, set[str]]:
    """Names of scikit-learn's checks by status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = check_estimator(estimator, on_skip=None, on_fail=None)
    return {status: {entry["check_name"] for entry in log if entry["status"] == status} for status in STATUSES}


STATUSES = ("passed", "failed", "skipped", "xfail")


def test_check_estimator_passes_without_exceptions_of_our_own() -> None:
    """No failure, and no skip that scikit-learn's own class does not have."""
    ours, theirs = results(GaussianMixture()), results(Oracle())
    assert ours["failed"] == set()
    assert ours["xfail"] == set()
    assert ours["skipped"] <= theirs["skipped"]
    assert ours["passed"] >= theirs["passed"]
    assert len(ours["passed"]) > 30


def test_clone_and_parameters() -> None:
    """A clone is unfitted and has equal parameters; scikit-learn's parameters all exist here with its defaults."""
    x = overlapping(100)
    fitted = GaussianMixture(2, covariance_type="diag", random_state=0).fit(x)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(x)
    assert Oracle().get_params().items() <= GaussianMixture().get_params().items()
    assert GaussianMixture().set_params(n_components=4).n_components == 4


def test_a_pipeline_with_pandas_output() -> None:
    """Names flow through a scaler that gives frames."""
    frame = pd.DataFrame(overlapping(), columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), GaussianMixture(K, random_state=0))
    oracle = make_pipeline(StandardScaler(), Oracle(K, random_state=0)).fit(frame)
    pipeline.fit(frame)
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c", "d"]
    assert np.array_equal(pipeline.predict(frame), oracle.predict(frame))
    assert pipeline.score(frame) == pytest.approx(oracle.score(frame), rel=1e-10)


def test_a_grid_search_agrees_with_that_of_scikit_learn() -> None:
    """Mean test scores of every candidate."""
    x = overlapping(300)
    grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "diag"]}
    ours = GridSearchCV(GaussianMixture(random_state=0, n_threads=1), grid, cv=3).fit(x)
    theirs = GridSearchCV(Oracle(random_state=0), grid, cv=3).fit(x)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9)


def test_transform_gives_probabilities_in_the_container_wanted() -> None:
    """set_output applies to transform; names are one a component."""
    frame = pd.DataFrame(overlapping(100), columns=["a", "b", "c", "d"], index=range(5, 105))
    model = GaussianMixture(2, random_state=0).fit(frame)
    assert isinstance(model.transform(frame), np.ndarray)
    out = model.set_output(transform="pandas").transform(frame)
    assert list(out.columns) == list(model.get_feature_names_out()) == ["gaussianmixture0", "gaussianmixture1"]
    assert list(out.index) == list(frame.index)
    assert np.array_equal(out.to_numpy(), model.predict_proba(frame))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score_samples", "score", "bic", "transform"])
def test_features_other_than_at_fit_are_errors(method: str) -> None:
    """Another name, or fewer; another order is put right by the names."""
    frame = pd.DataFrame(overlapping(60), columns=["a", "b", "c", "d"])
    model = GaussianMixture(2, random_state=0).fit(frame)
    call = getattr(model, method)
    for wrong in (frame.rename(columns={"a": "z"}), frame[["a", "b"]]):
        with pytest.raises(ValueError, match="feature names should match"):
            call(wrong)
    assert np.array_equal(call(frame[["b", "a", "c", "d"]]), call(frame))
    with pytest.raises(ValueError, match=r"3 features, but GaussianMixture is expecting 4"):
        GaussianMixture(2, random_state=0).fit(frame.to_numpy()).predict(frame.to_numpy()[:, :3])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        call(frame.to_numpy())


def test_pickling_keeps_every_bit() -> None:
    """Fitted attributes, predictions, and where a warm start goes on."""
    x = overlapping(200)
    model = GaussianMixture(K, random_state=0).fit(x)
    copy = pickle.loads(pickle.dumps(model))
    for name in ATTRIBUTES:
        assert getattr(copy, name).tobytes() == getattr(model, name).tobytes()
    assert np.array_equal(copy.predict_proba(x), model.predict_proba(x))
    one, other = (quietly(m.set_params(warm_start=True, tol=0.0, max_iter=5), x) for m in (model, copy))
    assert one.means_.tobytes() == other.means_.tobytes()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_attributes_set_by_hand_are_used(covariance_type: str) -> None:
    """As in scikit-learn, weights_, means_ and precisions_cholesky_ decide what is predicted."""
    x = overlapping(200)
    ours = GaussianMixture(K, covariance_type=covariance_type, random_state=0).fit(x)
    theirs = Oracle(K, covariance_type=covariance_type, random_state=0).fit(x)
    for model in (ours, theirs):
        model.means_ = theirs.means_ + 0.5
        model.precisions_cholesky_ = theirs.precisions_cholesky_ * 1.1
        model.weights_ = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(ours.score_samples(x), theirs.score_samples(x), rtol=tolerance(np.float64, 4, 1e3))


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_samples_come_from_the_fitted_distribution(covariance_type: str) -> None:
    """The same rows as scikit-learn draws from the same seed and parameters."""
    x = overlapping(400)
    options = {"covariance_type": covariance_type, "random_state": 0}
    ours, theirs = GaussianMixture(K, **options).fit(x), Oracle(K, **options).fit(x)
    for model in (ours, theirs):
        model.weights_, model.means_, model.covariances_ = theirs.weights_, theirs.means_, theirs.covariances_
    (rows, labels), (expected, expected_labels) = ours.sample(500), theirs.sample(500)
    assert np.array_equal(labels, expected_labels)
    np.testing.assert_allclose(rows, expected, rtol=1e-12)
