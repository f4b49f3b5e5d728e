"""Numbers that float32 holds, and their squares not: fits change to float64 by themselves, attributes too."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.fitted_states import params_now, state_of
from streamem import GMMHMM, GaussianHMM, GaussianMixture, Mixture, open_source
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.stats import Stats
from streamem.families import Gaussian
from streamem.initialization import STARTS
from streamem.models import Mixture as MixtureModel

Array = NDArray[Any]
FILL = np.float32(9.96921e36)
"""What netCDF writes where there is no value."""

RNG = np.random.default_rng(0)
COVARIANCES = ("full", "tied", "diag", "spherical")
PLAIN = np.concatenate([RNG.normal(size=(200, 3)), RNG.normal(size=(200, 3)) + 6]).astype(np.float32)
FILLED = PLAIN.copy()
FILLED[[5, 170, 350], 1] = FILL
ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def learned(model: Any) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in state_of(model).params.flatten().items()}


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_fill_values_are_learned_in_float64(covariance_type: str) -> None:
    """The chunks that hold them, that is: all others stay in float32, and here there is but one."""
    settings: dict[str, Any] = {"covariance_type": covariance_type, "random_state": 0}
    narrow, wide = (GaussianMixture(2, **settings).fit(x) for x in (FILLED, FILLED.astype(np.float64)))
    assert narrow.converged_
    assert learned(narrow) == learned(wide)
    assert narrow.lower_bound_ == wide.lower_bound_
    assert all(np.isfinite(getattr(narrow, name)).all() for name in ATTRIBUTES)
    assert np.array_equal(narrow.predict(FILLED), wide.predict(FILLED.astype(np.float64)))


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
def test_so_are_starts(init: str) -> None:
    """scikit-learn's k-means overflows in float32, and of tiny values it loses all squares."""
    for x in (FILLED, PLAIN * np.float32(1e-30)):
        settings: dict[str, Any] = {"init_params": init, "random_state": 0, "max_iter": 0, "reg_covar": 1e-300}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            narrow, wide = (GaussianMixture(2, **settings).fit(rows) for rows in (x, x.astype(np.float64)))
        np.testing.assert_allclose(narrow.means_, wide.means_, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_chunk_by_chunk(threads: int) -> None:
    """A function of the chunk: threads give the same bits, and only some of the chunks overflow."""
    x, settings = np.tile(PLAIN, (50, 1)), {"covariance_type": "diag", "random_state": 0, "max_iter": 3, "tol": 0.0}
    x[7, 1] = FILL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(3, chunk_bytes=16_384, n_threads=threads, **settings).fit(x)  # type: ignore[arg-type]
        other = GaussianMixture(3, chunk_bytes=16_384, n_threads=3 - threads, **settings).fit(x)  # type: ignore[arg-type]
        wide = GaussianMixture(3, chunk_bytes=32_768, **settings).fit(x.astype(np.float64))  # type: ignore[arg-type]
    assert learned(model) == learned(other)
    assert model.lower_bound_ == pytest.approx(wide.lower_bound_, rel=1e-6)


@pytest.mark.parametrize("algorithm", ["stepwise", "incremental"])
def test_by_other_algorithms(algorithm: str) -> None:
    """Whose blocks and mini-batches without such a value stay in float32, which rounds to 1e-7 of a value."""
    narrow, wide = (
        GaussianMixture(2, random_state=0).fit(x, algorithm=algorithm) for x in (FILLED, FILLED.astype(np.float64))
    )
    assert np.isfinite(narrow.covariances_).all()
    for name in ("weights_", "means_", "covariances_"):
        found, wanted = getattr(narrow, name), getattr(wide, name)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_online() -> None:
    """Batches of `partial_fit`, statistics of sites, and streams."""
    wide = FILLED.astype(np.float64)
    pairs = [
        [GaussianMixture(2, random_state=0).partial_fit(x).partial_fit(x) for x in (FILLED, wide)],
        [GaussianMixture(2, random_state=0).fit_stream([x[:200], x[200:]], batch_rows=200) for x in (FILLED, wide)],
    ]
    for narrow, other in pairs:
        assert learned(narrow) == learned(other)
        assert np.isfinite(narrow.covariances_).all()
    model = GaussianMixture(2, random_state=0).fit(PLAIN)
    assert model.expected_statistics(FILLED).stats == model.expected_statistics(wide).stats


@pytest.mark.parametrize("kind", [GaussianHMM, GMMHMM])
def test_chains(kind: Any) -> None:
    narrow, wide = (
        kind(2, covariance_type="diag", random_state=0, n_iter=5, tol=1e9).fit(x)
        for x in (FILLED, FILLED.astype(np.float64))
    )
    assert learned(narrow) == learned(wide)
    assert np.isfinite(narrow.covars_).all()
    assert narrow.score(FILLED) == wide.score(FILLED.astype(np.float64))


def screened(kind: str) -> tuple[MixtureModel, Params, Array]:
    """A model of 16 components, parameters at which pairs are screened, and its rows."""
    covariance_type, rows = {
        "scores": ("full", 0),
        "bounds": ("full", 10_000_000),
        "bounds by variances": ("diag", 10**7),
    }[kind]
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(16, 32)) * 9
    x = (centers[rng.integers(16, size=1500)] + rng.normal(size=(1500, 32))).astype(np.float32)
    model = MixtureModel(Gaussian(covariance_type, 1e-6), 16, STARTS["kmeans"])
    params = model.init(Chunk(x), np.random.RandomState(0))
    params = model.m_step(model.e_step(params, Chunk(x)), params)
    return model, model.for_pass_of(params, rows) if rows else params, x


@pytest.mark.variations(1, 3)  # each compiles a pass of its own
@pytest.mark.parametrize("kind", ["scores", "bounds", "bounds by variances"])
def test_screens(kind: str) -> None:
    """Scores and bounds are float32 whatever the rows: of those that overflow, all components are computed."""
    model, params, x = screened(kind)
    assert model.arithmetic(params, np.float32).startswith("float64 pairs")
    x[[3, 700], 1] = FILL
    narrow, wide = (model.e_step(params, Chunk(rows)) for rows in (x, x.astype(np.float64)))
    assert narrow == wide
    assert np.isfinite(narrow.log_likelihood)


class Mean:
    """Student's t with two degrees of freedom, roughly; its centers are means."""

    def log_prob(self, params: Params, x: Array) -> Array:
        return np.asarray(-np.log1p((x - params.centers.astype(x.dtype)) ** 2))

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        return Stats(weight=resp.sum(axis=0), x=x.astype(np.float64).T @ resp)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        return Params(centers=np.array((stats.x / stats.weight)[0]))


@pytest.mark.filterwarnings("ignore:Best performing")
def test_a_family_of_ones_own() -> None:
    """Float32 rows whose squares overflow are handed to it in float64."""
    x = PLAIN[:, :1].copy()
    x[3] = 1e30
    narrow, wide = (Mixture(Mean(), 2, random_state=0, max_iter=2).fit(rows) for rows in (x, x.astype(np.float64)))
    assert narrow.params_.centers.tobytes() == wide.params_.centers.tobytes()


# --- published attributes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCES)
@pytest.mark.parametrize("factor", [1e20, 3e37, 1e-30, 1e-38])
def test_attributes_are_float64_where_float32_does_not_hold_them(factor: float, covariance_type: str) -> None:
    """Covariances of 1e40 were infinite, those of 1e-60 were 0 and their precisions infinite."""
    x = PLAIN * np.float32(factor)
    settings: dict[str, Any] = {"covariance_type": covariance_type, "reg_covar": 0.0, "random_state": 0}
    model, wide = (GaussianMixture(2, **settings).fit(rows) for rows in (x, x.astype(np.float64)))
    for name in ATTRIBUTES:
        assert getattr(model, name).dtype == np.float64
        found, wanted = getattr(model, name), getattr(wide, name)
        # Float32 products round to 1e-7 of the largest entries, at a conditioning of some hundreds.
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(), err_msg=name)
    assert np.array_equal(model.predict(x), wide.predict(x.astype(np.float64)))
    assert params_now(model) == state_of(model).params  # what was published is still known for what it is


def test_ordinary_float32_stays_float32() -> None:
    """Of rows, and of a model read back."""
    model = GaussianMixture(2, random_state=0).fit(PLAIN)
    assert {getattr(model, name).dtype.name for name in ATTRIBUTES} == {"float32"}


def test_they_survive_a_file_and_further_batches(tmp_path: Path) -> None:
    """One sentinel in a stream of float32 rows is enough."""
    model = GaussianMixture(2, random_state=0).partial_fit(PLAIN)
    assert model.means_.dtype == np.float32
    model.partial_fit(FILLED).save(tmp_path / "m.npz")
    again = GaussianMixture.load(tmp_path / "m.npz")
    for each in (model, again):
        assert each.means_.dtype == np.float64
        assert all(np.isfinite(getattr(each, name)).all() for name in ATTRIBUTES)
        assert params_now(each) == state_of(each).params
    assert np.isfinite(again.partial_fit(open_source(PLAIN)).covariances_).all()


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_spreads_without_squares_are_named(covariance_type: str) -> None:
    """Precisions of 1e320 are none; where regularization is added, the data are a point, and fitted as one."""
    x = PLAIN.astype(np.float64) * 1e-160
    settings: dict[str, Any] = {"covariance_type": covariance_type, "random_state": 0}
    with pytest.raises(NumericalError, match=r"column [0-2] spreads over .*e-160 only"):
        GaussianMixture(2, reg_covar=0.0, **settings).fit(x)
    with pytest.raises(NumericalError, match="spreads over"):
        GaussianHMM(2, reg_covar=0.0, **settings).fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(GaussianMixture(1, reg_covar=1e-6, **settings).fit(x).precisions_).all()


def test_no_attribute_is_published_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last look, whatever led there; the model stays as it was."""
    model = GaussianMixture(1, random_state=0).fit(PLAIN)
    before = model.means_.tolist()
    monkeypatch.setattr(Gaussian, "precisions", lambda self, params: np.full((1, 3, 3), np.inf))
    with pytest.raises(NumericalError, match="precisions_ cannot be represented in float64"):
        model.fit(PLAIN + 1)
    assert model.means_.tolist() == before
