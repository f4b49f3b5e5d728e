"""Fits with tight components: accurate, the same bits however they run, named in report and progress."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import mixture as peer

from streamem import GaussianHMM, GaussianMixture
from streamem.families import Gaussian

Array = NDArray[Any]
K, D, N, TIGHT = 5, 4, 3000, 1e-5
KINDS = ["full", "tied", "diag", "spherical"]


def rows(dtype: Any = np.float64) -> Array:
    """Two of five clusters, a tenth of all rows, are tight."""
    rng = np.random.default_rng(3)
    source = rng.choice(K, size=N, p=[0.05, 0.05, 0.3, 0.3, 0.3])
    spread = np.array([TIGHT, TIGHT, 1.0, 1.0, 0.5])
    return (means()[source] + spread[source, None] * rng.normal(size=(N, D))).astype(dtype)


def means() -> Array:
    return 2.0 * np.random.default_rng(4).normal(size=(K, D))


def fitted(kind: str, x: Array, **settings: Any) -> GaussianMixture:
    chosen = {"means_init": means(), "random_state": 0, "tol": 0.0, "max_iter": 8, "reg_covar": 0.0, **settings}
    return GaussianMixture(K, covariance_type=kind, **chosen)


@pytest.mark.slow
@pytest.mark.variations(1, 2)
@pytest.mark.filterwarnings("ignore:.*converge")
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_parameters_are_those_of_scikit_learn_in_float64(kind: str) -> None:
    x = rows()
    gm = fitted(kind, x).fit(x)
    assert gm.report_.passes[-1].arithmetic == f"float64 products, float64 differences for 2 of {K}"
    start = {"means_init": means(), "tol": 0.0, "max_iter": 8, "reg_covar": 0.0, "random_state": 0}
    sk = peer.GaussianMixture(K, covariance_type=kind, **start).fit(x)
    np.testing.assert_allclose(gm.weights_, sk.weights_, rtol=1e-8)
    np.testing.assert_allclose(gm.means_, sk.means_, rtol=1e-8)
    labels = sk.predict(x)
    for k in (0, 1):  # scikit-learn's own variances there are differences of squares
        exact = x[labels == k].astype(np.longdouble).var(axis=0)
        found = gm.covariances_[k]
        own = found.diagonal() if kind == "full" else found
        np.testing.assert_allclose(own, (exact.mean() if kind == "spherical" else exact).astype(float), rtol=1e-9)
    np.testing.assert_allclose(gm.covariances_[2:], sk.covariances_[2:], rtol=1e-7, atol=1e-7)


@pytest.mark.variations(1, 2)
@pytest.mark.filterwarnings("ignore:.*converge")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_do_not_depend_on_threads_or_interruptions(kind: str, dtype: Any, tmp_path: Path) -> None:
    x = rows(dtype)
    whole = fitted(kind, x, max_iter=6, chunk_bytes=8192, n_threads=1).fit(x)
    threads = fitted(kind, x, max_iter=6, chunk_bytes=8192, n_threads=2).fit(x)
    for iterations in (3, 6):
        again = fitted(kind, x, max_iter=iterations, chunk_bytes=8192, n_threads=2).fit(x, checkpoint=tmp_path / "c")
    for other in (threads, again):
        np.testing.assert_array_equal(other.means_, whole.means_)
        np.testing.assert_array_equal(other.covariances_, whole.covariances_)


@pytest.mark.filterwarnings("ignore:.*converge")
def test_report_and_progress_name_the_arithmetic_of_each_pass(caplog: pytest.LogCaptureFixture) -> None:
    """Which changes as components become tight."""
    x = rows(np.float32)
    precisions = np.ones((K, D))
    with caplog.at_level(logging.INFO, "streamem"):
        gm = fitted("diag", x, precisions_init=precisions, weights_init=np.full(K, 1 / K), verbose=1, max_iter=6).fit(x)
    told = [record.arithmetic for record in gm.report_.passes]
    assert told[0] == "float32 products"
    assert told[-1] == gm.report_.setting["arithmetic"] == f"float32 products, float64 differences for 2 of {K}"
    lines = [r.getMessage() for r in caplog.records if " per row by " in r.getMessage()]  # others tell of rows, if slow
    assert all(f"per row by {each}, " in line for each, line in zip(told, lines, strict=True))
    assert told[-1] in str(gm.report_)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*converge")
def test_chains_name_it_too() -> None:
    x = rows()
    hmm = GaussianHMM(K, covariance_type="diag", init_params="stc", random_state=0, n_iter=3, covars_prior=0.0)
    hmm.means_ = means()
    hmm.fit(x)
    assert "float64 differences for" in hmm.report_.passes[-1].arithmetic
    assert np.isfinite(hmm.score(x))


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_statistics_about_several_origins_move_to_others(kind: str) -> None:
    """Online EM averages those of steps at which other components were tight."""
    x, family = rows(), Gaussian(kind)
    resp = np.random.default_rng(0).dirichlet(np.ones(K), size=N)
    crude = family.start(x, None, K)
    old = family.with_means(family.maximize(family.stats(crude, x, resp), crude), means())
    shrink = np.array([1e-11, 1.0, 1e-11, 1.0, 1.0]).reshape(-1, *[1] * (family.covariances(old).ndim - 1))
    new = family.with_means(family.with_covariances(old, family.covariances(old) * shrink), means() + 0.25)
    for one, other in ((old, new), (new, old)):
        moved, taken = family.rebase(family.stats(one, x, resp), one, other), family.stats(other, x, resp)
        for name in ("weight", "first", "second"):
            np.testing.assert_allclose(moved[name], taken[name], rtol=1e-9, atol=1e-10 * np.abs(taken[name]).max())
