"""One Gaussian with missing values is the EM of the multivariate normal: cholesterol, in every kind of data."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from streamem import GaussianHMM, GaussianMixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Array = NDArray[Any]
NAN = np.nan
CHOLESTEROL = np.array(
    [
        [270, 218, 156.0],
        [236, 234, NAN],
        [210, 214, 242.0],
        [142, 116, NAN],
        [280, 200, NAN],
        [272, 276, 256.0],
        [160, 146, 142.0],
        [220, 182, 216.0],
        [226, 238, 248.0],
        [242, 288, NAN],
        [186, 190, 168.0],
        [266, 236, 236.0],
        [206, 244, NAN],
        [318, 258, 200.0],
        [294, 240, 264.0],
        [282, 294, NAN],
        [234, 220, 264.0],
        [224, 200, NAN],
        [276, 220, 188.0],
        [282, 186, 182.0],
        [360, 352, 294.0],
        [310, 202, 214.0],
        [280, 218, NAN],
        [278, 248, 198.0],
        [288, 278, NAN],
        [288, 248, 256.0],
        [244, 270, 280.0],
        [236, 242, 204.0],
    ]
)
"""Days 2, 4 and 14 after a heart attack (Ryan & Joiner 1994; Schafer 1997, §5.3)."""


def _parquet(path: Path) -> str:
    columns = {name: pa.array(column, mask=np.isnan(column)) for name, column in zip("abc", CHOLESTEROL.T, strict=True)}
    pq.write_table(pa.table(columns), path / "cholesterol.parquet")
    return str(path / "cholesterol.parquet")


KINDS: dict[str, Callable[[Path], Any]] = {
    "array": lambda path: CHOLESTEROL,
    "masked": lambda path: np.ma.masked_invalid(CHOLESTEROL),
    "parquet": _parquet,
    "xarray": lambda path: xarray.DataArray(CHOLESTEROL, dims=("patient", "day")),
    "dask": lambda path: dask.array.from_array(CHOLESTEROL, chunks=(10, 3)),
}


def _maximum(x: Array, steps: int) -> tuple[Array, Array]:
    """Mean and covariance by EM, row by row as Dempster, Laird & Rubin 1977, §4.1.1, write it down."""
    mean, covariance = np.nanmean(x, axis=0), np.diag(np.nanvar(x, axis=0))
    for _ in range(steps):
        filled, left = x.copy(), np.zeros_like(covariance)
        for row in filled:
            o, m = ~np.isnan(row), np.isnan(row)
            slopes = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
            row[m] = mean[m] + slopes @ (row[o] - mean[o])
            left[np.ix_(m, m)] += covariance[np.ix_(m, m)] - slopes @ covariance[np.ix_(o, m)]
        mean = filled.mean(axis=0)
        covariance = ((filled - mean).T @ (filled - mean) + left) / len(x)
    return mean, covariance


@pytest.mark.variations(1, 5)
@pytest.mark.parametrize("kind", KINDS)
def test_cholesterol(kind: str, tmp_path: Path) -> None:
    """Published covariances end where their program stopped: day 14 has 1952.218 there, 1952.2326 at the maximum."""
    given = {"missing": "integrate", "reg_covar": 0.0, "tol": 0.0, "max_iter": 300}
    model = GaussianMixture(1, **given).fit(KINDS[kind](tmp_path))
    mean, covariance = _maximum(CHOLESTEROL, 300)
    np.testing.assert_allclose(model.means_[0], mean, rtol=1e-10)
    np.testing.assert_allclose(model.covariances_[0], covariance, rtol=1e-10)
    published = [[2194.9949, 1454.6173, 835.3973], [1454.6173, 2127.158, 1515.458], [835.3973, 1515.458, 1952.218]]
    np.testing.assert_allclose(model.means_[0], [253.9286, 230.6429, 222.2371], atol=6e-5)
    np.testing.assert_allclose(model.covariances_[0], published, rtol=1e-5)
    assert 28 * model.lower_bound_ == pytest.approx(-376.915465, abs=1e-6)


@pytest.mark.variations(1, 100)
@pytest.mark.parametrize("kind", ["partial_fit", "records", "arrays"])
def test_cholesterol_from_a_stream(kind: str) -> None:
    """All patients again and again, each time a whole step: batch EM, so the published estimates."""
    nulls = ([None if np.isnan(value) else value for value in row] for row in CHOLESTEROL.tolist())
    patients = [json.dumps(dict(zip("abc", row, strict=True))) for row in nulls]
    model = GaussianMixture(1, missing="integrate", reg_covar=0.0, random_state=0)
    whole: dict[str, Any] = {"step": lambda weight, seen: 1.0}
    if kind == "partial_fit":
        for _ in range(60):
            model.partial_fit(CHOLESTEROL, **whole)
    else:
        batches = patients * 60 if kind == "records" else [CHOLESTEROL] * 60
        model.fit_stream(batches, batch_rows=28, columns=list("abc") if kind == "records" else None, **whole)
    assert model.report_.n_rows == 60 * 28
    mean, covariance = _maximum(CHOLESTEROL, 300)
    np.testing.assert_allclose(model.means_[0], mean, rtol=1e-7)
    np.testing.assert_allclose(model.covariances_[0], covariance, rtol=1e-6)


def test_chains_of_gaussians_with_partly_missing_steps_are_brute_force() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) @ [[1.0, 0.7], [0.0, 1.0]] + 3.0 * rng.integers(2, size=60)[:, None]
    x[rng.uniform(size=x.shape) < 0.2] = NAN
    chain = GaussianHMM(2, "full", missing="integrate", n_iter=3, tol=0.0, random_state=0).fit(x)
    steps, paths = x[:7], np.array(list(product(range(2), repeat=7)))
    log_prob = np.zeros((7, 2))
    for t, k in product(range(7), range(2)):
        there = ~np.isnan(steps[t])
        if there.any():
            own = chain.covars_[k][np.ix_(there, there)]
            log_prob[t, k] = multivariate_normal(chain.means_[k][there], own).logpdf(steps[t, there])
    joint = np.log(chain.startprob_[paths[:, 0]]) + log_prob[np.arange(7), paths].sum(axis=1)
    joint += np.log(chain.transmat_[paths[:, :-1], paths[:, 1:]]).sum(axis=1)
    assert chain.score(steps) == pytest.approx(logsumexp(joint), rel=1e-10)
    assert np.diff(chain.lower_bounds_).min() > -1e-9
