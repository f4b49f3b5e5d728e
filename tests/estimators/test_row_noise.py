"""`GaussianMixture.fit(X, noise=…)`: what noise of known covariance hides, against identities and an EM in NumPy."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from streamem import GaussianHMM, GaussianMixture
from streamem.cli.main import main
from streamem.core.errors import DataError, ParameterError, SchemaError

Array = NDArray[Any]
MEANS = np.array([[0.0, 0.0], [6.0, 3.0]])
EXACT: dict[str, Any] = {"tol": 1e-12, "max_iter": 3000, "reg_covar": 0.0, "random_state": 0, "algorithm": "batch"}


def fitted(x: Any, k: int = 2, **settings: Any) -> GaussianMixture:
    """A fit that goes on to the end."""
    options = {name: settings.pop(name) for name in ("noise", "executor") if name in settings}
    arguments = {**EXACT, **settings}
    algorithm = arguments.pop("algorithm")
    return GaussianMixture(k, **arguments).fit(x, algorithm=algorithm, **options)


def seen(n: int = 400, seed: int = 0) -> tuple[Array, Array]:
    """Rows (n, 2) of two clusters through noise, and the covariances (n, 2, 2) of it."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, 2, 2)) * rng.uniform(0.1, 1.5, size=(n, 1, 1))
    noise = factors @ np.swapaxes(factors, 1, 2)
    own = rng.normal(size=(n, 2)) + MEANS[(rng.random(n) < 0.4).astype(int)]
    return own + (factors @ rng.normal(size=(n, 2, 1)))[:, :, 0], noise


def by_hand(x: Array, noise: Array, start: GaussianMixture, steps: int) -> tuple[Array, Array, Array, float]:
    """Bovy, Hogg & Roweis (2011), eqs. 15 and 16, row by row: weights, means, covariances, ℓ of those before."""
    w, m, c = np.array(start.weights_), np.array(start.means_), np.array(start.covariances_)
    for _ in range(steps):
        joint = np.array(
            [
                [np.log(w[k]) + multivariate_normal.logpdf(row, m[k], c[k] + s) for k in range(len(w))]
                for row, s in zip(x, noise, strict=True)
            ]
        )
        density = np.logaddexp.reduce(joint, axis=1)
        q = np.exp(joint - density[:, None])
        for k in range(len(w)):
            gain = c[k] @ np.linalg.inv(c[k] + noise)
            b = m[k] + (gain @ (x - m[k])[:, :, None])[:, :, 0]
            spread = c[k] - gain @ c[k]
            m[k] = q[:, k] @ b / q[:, k].sum()
            about = b - m[k]
            c[k] = (np.einsum("n,ni,nj->ij", q[:, k], about, about) + np.einsum("n,nij->ij", q[:, k], spread)) / q[
                :, k
            ].sum()
        w = q.mean(axis=0)
    return w, m, c, float(density.sum())


def test_iterations_are_those_of_bovy_hogg_and_roweis() -> None:
    x, noise = seen(150)
    start = fitted(x, max_iter=3, tol=10.0)
    given = {"weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fitted(x, noise=noise, **given, max_iter=4, tol=0.0)
        before = fitted(x, noise=noise, **given, max_iter=3, tol=0.0)
    w, m, c, total = by_hand(x, noise, start, 4)
    np.testing.assert_allclose(model.weights_, w, rtol=1e-10)
    np.testing.assert_allclose(model.means_, m, rtol=1e-10)
    np.testing.assert_allclose(model.covariances_, c, rtol=1e-9)
    np.testing.assert_allclose(before.score_samples(x, noise=noise).sum(), total, rtol=1e-11)
    assert before.score(x, noise=noise) == pytest.approx(total / len(x), rel=1e-11)


@pytest.mark.parametrize("covariance_type", ["full", pytest.param("diag", marks=pytest.mark.slow)])
def test_equal_noise_is_taken_off_the_covariance(covariance_type: str) -> None:
    x, _ = seen(300)
    own = np.diag([0.3, 0.2])
    plain = fitted(x, 1, covariance_type=covariance_type)
    deep = fitted(x, 1, covariance_type=covariance_type, noise=np.broadcast_to(own, (300, 2, 2)))
    np.testing.assert_allclose(deep.means_, plain.means_, rtol=1e-8)
    off = own if covariance_type == "full" else np.diag(own)
    np.testing.assert_allclose(deep.covariances_, plain.covariances_ - off, atol=1e-5)
    assert deep.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-9)
    many, few = fitted(x, covariance_type=covariance_type), fitted(x, noise=np.tile([0.3, 0.2], (300, 1)))
    if covariance_type == "full":
        order = np.argsort(few.means_[:, 0]), np.argsort(many.means_[:, 0])
        np.testing.assert_allclose(few.covariances_[order[0]], many.covariances_[order[1]] - own, atol=1e-4)
        np.testing.assert_allclose(
            few.predict_proba(x, noise=np.tile([0.3, 0.2], (300, 1)))[:, order[0]],
            many.predict_proba(x)[:, order[1]],
            atol=1e-4,
        )


def test_no_noise_and_infinite_noise() -> None:
    """Noise of 0 is a plain fit; an infinite variance is a value that was not observed."""
    x, _ = seen(300)
    plain = fitted(x, max_iter=40)
    none = fitted(x, max_iter=40, noise=np.zeros_like(x))
    np.testing.assert_allclose(none.covariances_, plain.covariances_, rtol=1e-8)
    hidden = np.random.default_rng(1).random(x.shape) < 0.25
    hidden[hidden.all(axis=1), 0] = False
    holes = fitted(np.where(hidden, np.nan, x), missing="integrate", tol=1e-10)
    variances = np.where(hidden, np.inf, 0.0)
    for noise in (variances, np.where(np.eye(2) > 0, variances[:, :, None], 0.0)):
        projected = fitted(np.where(hidden, 1e6, x), noise=noise, tol=1e-10)
        np.testing.assert_allclose(projected.covariances_, holes.covariances_, atol=1e-5)
        assert projected.lower_bound_ == pytest.approx(holes.lower_bound_, abs=1e-9)
    both = fitted(np.where(hidden, np.nan, x), noise=np.zeros_like(x), missing="integrate", tol=1e-10)
    np.testing.assert_allclose(both.covariances_, holes.covariances_, atol=1e-5)


def test_noise_in_stores(tmp_path: Path, client: Any) -> None:
    """Columns of Parquet and frames, Zarr arrays and arrays in memory, chunk by chunk, on threads and on workers."""
    x, noise = seen(600)
    variances = np.einsum("nii->ni", noise)
    frame = pd.DataFrame({"id": np.arange(600), "x": x[:, 0], "x_var": variances[:, 0], "y": x[:, 1]})
    frame["y_var"] = variances[:, 1]
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "x.parquet", row_group_size=150)
    zarr.save_array(tmp_path / "x.zarr", x)
    zarr.save_array(tmp_path / "s.zarr", variances)
    zarr.save_array(tmp_path / "c.zarr", noise.reshape(600, 4))
    names, columns = ["x_var", "y_var"], ["x", "y"]
    settings: dict[str, Any] = {"random_state": 0, "tol": 0.0, "max_iter": 5, "chunk_bytes": 4096}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = GaussianMixture(2, **settings).fit(x, noise=variances, algorithm="batch")
        for data, told, chosen in (
            (tmp_path / "x.parquet", names, columns),
            (frame, names, columns),
            (frame.drop(columns="id"), names, None),
            (tmp_path / "x.zarr", str(tmp_path / "s.zarr"), None),
        ):
            model = GaussianMixture(2, **settings).fit(data, noise=told, columns=chosen, algorithm="batch")
            np.testing.assert_allclose(model.covariances_, first.covariances_, rtol=1e-9)
            assert model.n_features_in_ == 2
            expected = first.score_samples(x, noise=variances)
            np.testing.assert_allclose(model.score_samples(data, noise=told, columns=chosen), expected, rtol=1e-9)
        whole = GaussianMixture(2, **settings).fit(x, noise=noise, algorithm="batch")
        stored = GaussianMixture(2, **settings).fit(tmp_path / "x.zarr", noise=str(tmp_path / "c.zarr"))
        there = GaussianMixture(2, **settings).fit(x, noise=noise, algorithm="batch", executor=client)
    np.testing.assert_allclose(stored.covariances_, whole.covariances_, rtol=1e-9)
    assert there.covariances_.tobytes() == whole.covariances_.tobytes()
    first.save(tmp_path / "m.npz")
    again = GaussianMixture.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.predict(x, noise=variances), first.predict(x, noise=variances))
    np.testing.assert_array_equal(again.predict(x), first.predict(x))


def test_the_rest_of_an_estimator() -> None:
    """Accelerated and stepwise EM, weights, and standard errors, which noise makes larger."""
    x, noise = seen(300)
    model = fitted(x, noise=noise, tol=1e-10)
    fast = fitted(x, noise=noise, algorithm="squarem", tol=1e-10)
    assert fast.lower_bound_ == pytest.approx(model.lower_bound_, abs=1e-8)
    assert fast.n_iter_ < model.n_iter_
    weight = np.random.default_rng(0).integers(0, 3, 300)
    twice = np.repeat(np.arange(300), weight)
    heavy = GaussianMixture(2, tol=1e-8, max_iter=500, random_state=0, means_init=MEANS)
    heavy.fit(x, sample_weight=weight, noise=noise, algorithm="batch")
    repeated = GaussianMixture(2, tol=1e-8, max_iter=500, random_state=0, means_init=MEANS)
    repeated.fit(x[twice], noise=noise[twice], algorithm="batch")
    np.testing.assert_allclose(heavy.lower_bound_, repeated.lower_bound_, rtol=1e-6)
    errors = model.standard_errors(x, noise=noise)["means_"]
    plain = fitted(x)
    assert (np.sort(errors, axis=0) > 0.5 * np.sort(plain.standard_errors(x)["means_"], axis=0)).all()
    assert np.abs(model.means_[np.argsort(model.means_[:, 0])] - MEANS).max() < 0.4


def test_bad_noise_is_named() -> None:
    x, noise = seen(50)
    variances = np.einsum("nii->ni", noise).copy()
    variances[17, 1] = -0.5
    with pytest.raises(DataError, match=r"a variance of -0.5 in row 17, column 1"):
        GaussianMixture(2).fit(x, noise=variances)
    variances[17, 1] = np.nan
    with pytest.raises(DataError, match=r"a variance of nan in row 17"):
        GaussianMixture(2).fit(x, noise=variances)
    skew = noise.copy()
    skew[3] = [[1.0, 5.0], [5.0, 1.0]]
    with pytest.raises(DataError, match=r"an eigenvalue of -4 in row 3"):
        GaussianMixture(2).fit(x, noise=skew)
    skew[3] = [[1.0, 0.5], [-0.5, 1.0]]
    with pytest.raises(DataError, match=r"is not symmetric in row 3"):
        GaussianMixture(2).fit(x, noise=skew)
    with pytest.raises(SchemaError, match=r"noise has 3 numbers a row for 2 features"):
        GaussianMixture(2).fit(x, noise=np.ones((50, 3)))
    with pytest.raises(SchemaError, match=r"of 50 rows, are needed"):
        GaussianMixture(2).fit(x, noise=np.ones((49, 2)))
    with pytest.raises(ParameterError, match="noise=True is a component for outliers"):
        GaussianMixture(2, noise=True).fit(x, noise=noise)
    with pytest.raises(ParameterError, match="use 'kmeans'"):
        GaussianMixture(2, init_params="split_merge").fit(x, noise=noise)
    with pytest.raises(ParameterError, match="X has no names"):
        GaussianMixture(2).fit(x, noise=["a", "b"])


PRIORS: dict[str, Any] = {"mean_prior": [1.0, 2.0], "mean_precision_prior": 5.0, "degrees_of_freedom_prior": 10.0}
SCATTERS: dict[str, Any] = {"full": 20.0 * np.eye(2), "tied": 20.0 * np.eye(2), "diag": [20.0, 30.0], "spherical": 20.0}


@pytest.mark.parametrize("covariance_type", SCATTERS)
def test_priors_of_what_noise_hides(covariance_type: str) -> None:
    """Noise of 0 is the fit with the prior alone."""
    x, _ = seen(300)
    prior = {**PRIORS, "covariance_prior": SCATTERS[covariance_type], "covariance_type": covariance_type}
    plain, none = fitted(x, **prior, means_init=MEANS), fitted(x, **prior, means_init=MEANS, noise=np.zeros_like(x))
    np.testing.assert_allclose(none.means_, plain.means_, rtol=1e-9)
    np.testing.assert_allclose(none.covariances_, plain.covariances_, rtol=1e-9)
    assert none.objective_ == pytest.approx(plain.objective_, abs=1e-12)
    assert none.objective_ != none.lower_bound_


def test_the_mode_behind_noise() -> None:
    """Of one component the slopes of log-likelihood and log-prior, written down here, are 0; stepwise EM is near."""
    x, noise = seen(200)
    own = {**PRIORS, "covariance_prior": 20.0 * np.eye(2)}
    model = fitted(x, 1, noise=noise, **own)

    def objective(free: Array) -> float:
        mean, factor = free[:2], np.array([[free[2], 0.0], [free[3], free[4]]])
        covariance, about = factor @ factor.T, x - mean
        behind = covariance + noise
        squares = np.einsum("ni,nij,nj->", about, np.linalg.inv(behind), about)
        away, precision = mean - own["mean_prior"], np.linalg.inv(covariance)
        log_prior = (
            10.0 * np.log(np.linalg.det(covariance)) + 20.0 * np.trace(precision) + 5.0 * away @ precision @ away
        )
        return -0.5 * float(squares + np.log(np.linalg.det(behind)).sum() + log_prior)

    factor = np.linalg.cholesky(model.covariances_[0])
    reached = np.array([*model.means_[0], factor[0, 0], factor[1, 0], factor[1, 1]])
    steps = 1e-4 * np.eye(5)
    slopes = [(objective(reached + step) - objective(reached - step)) / 2e-4 for step in steps]
    curvature = [(2 * objective(reached) - objective(reached + s) - objective(reached - s)) / 1e-8 for s in steps]
    assert (np.abs(slopes) / np.sqrt(curvature) < 1e-3).all()  # a thousandth of a standard error
    stepped = fitted(x, 1, noise=noise, algorithm="stepwise", **own)
    assert 0.0 <= 200 * (model.objective_ - stepped.objective_) < 0.1


def test_mini_batches_with_noise() -> None:
    """One of all rows is one iteration; many come near the maximum; rows with noise and without follow each other."""
    x, noise = seen(400)
    given: dict[str, Any] = {"weights_init": [0.5, 0.5], "means_init": MEANS, "precisions_init": [np.eye(2)] * 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        once = fitted(x, noise=noise, **given, max_iter=1, tol=0.0)
    step = GaussianMixture(2, reg_covar=0.0, **given).partial_fit(x, noise=noise)
    np.testing.assert_allclose(step.means_, once.means_, rtol=1e-12)
    np.testing.assert_allclose(step.covariances_, once.covariances_, rtol=1e-12)
    whole = fitted(x, noise=noise, means_init=MEANS)
    gaps = []
    many = GaussianMixture(2, reg_covar=0.0, means_init=MEANS, random_state=0)
    for _ in range(3):
        for low in range(0, 400, 20):
            many.partial_fit(x[low : low + 20], noise=noise[low : low + 20])
        gaps.append(whole.score(x, noise=noise) - many.score(x, noise=noise))
    assert gaps[0] > 2 * gaps[-1] > 0
    variances = np.einsum("nii->ni", noise)
    many.partial_fit(x[:40], noise=variances[:40]).partial_fit(x[40:80])
    assert many.report_.n_rows == 1280


def test_rows_that_wait_for_a_start_have_one_kind_of_noise() -> None:
    x, noise = seen(100)
    waiting = GaussianMixture(2, random_state=0)
    for row in range(6):  # 2·K·(d + 1) = 12 rows make a start
        waiting.partial_fit(x[row : row + 1], noise=noise[row : row + 1])
    with pytest.raises(
        ParameterError, match="the 6 rows that earlier batches .* have noise in covariances, and .* no n"
    ):
        waiting.partial_fit(x[6:40])
    assert not waiting.__sklearn_is_fitted__()
    for row in range(6, 12):
        waiting.partial_fit(x[row : row + 1], noise=noise[row : row + 1])
    assert waiting.report_.n_rows == 12
    assert waiting.partial_fit(x[12:40]).report_.n_rows == 40


def test_noise_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of variances reach fit, predict, score and summary, and other models refuse them."""
    monkeypatch.chdir(tmp_path)
    x, noise = seen(200)
    variances = np.einsum("nii->ni", noise)
    frame = pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "x_var": variances[:, 0], "y_var": variances[:, 1]})
    frame.to_parquet("x.parquet")
    names = ["--noise-columns", "x_var,y_var"]

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments, *names])
        assert result.exit_code == 0, result.output
        return result.output

    assert "2 components of 2 features" in call(*["fit", "gmm", "x.parquet", "-k", "2", "--seed", "0", "-o", "m.npz"])
    model = GaussianMixture(2, random_state=0).fit(x, noise=variances)
    assert f"{model.lower_bound_:.6g}"[:6] in CliRunner().invoke(main, ["show", "m.npz"]).output
    call(*["predict", "m.npz", "x.parquet", "--proba", "-o", "p.npy"])
    np.testing.assert_allclose(np.load("p.npy"), model.predict_proba(x, noise=variances))
    scores = json.loads(call(*["score", "m.npz", "x.parquet", "--json", "-o", "d.npy"]))
    np.testing.assert_allclose(scores["log_likelihood"], model.score_samples(x, noise=variances).sum())
    np.testing.assert_allclose(np.load("d.npy"), model.score_samples(x, noise=variances))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tolerance is loose
        told = json.loads(call(*["summary", "m.npz", "x.parquet", "--json"]))
    np.testing.assert_allclose(told["log_likelihood"], scores["log_likelihood"])
    refused = CliRunner().invoke(
        main, [*["fit", "gmm", "x.parquet", "-k", "2", "-o", "n.npz", "--noise-columns", "x_var"]]
    )
    assert "noise has 1 numbers a row for 3 features" in refused.output
    GaussianHMM(2, random_state=0, n_iter=0).fit(x).save("h.npz")
    refused = CliRunner().invoke(main, [*["score", "h.npz", "x.parquet"], *names])
    assert "--noise-columns is for Gaussian mixtures; this is a GaussianHMM" in refused.output
    refused = CliRunner().invoke(main, [*["score", "m.npz", "x.parquet", "--missing-chunks", "fill"], *names])
    assert "does not go together with --missing-chunks fill" in refused.output
