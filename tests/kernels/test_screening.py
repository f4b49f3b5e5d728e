"""Pairs that matter against all pairs: the same statistics to rounding, chosen by what a pass has shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.fitted_states import state_of
from streamem import GaussianMixture
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError
from streamem.core.stats import Stats
from streamem.families import Gaussian
from streamem.families.gaussian import screen as gaussian_screen
from streamem.families.gaussian.arithmetic import GaussianKernel
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.screen import ScreenedKernel, SketchedKernel, dense_ns, screened_ns
from streamem.families.gaussian.sketch import sketches
from streamem.models import Mixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
K, D = 24, 16
TYPES = ["full", "diag", "spherical"]
WAYS = ["full", "diag", "spherical", "full, by bounds", "diag, by bounds"]


def mixture(way: str, separation: float, n: int = 3000, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """A model, its parameters with few active pairs, and rows that they emit; as if of many rows where bounds serve."""
    covariance_type, _, by_bounds = way.partition(", ")
    rng = np.random.default_rng(1)
    means = rng.normal(size=(K, D)) * separation
    x = (means[rng.integers(K, size=n)] + rng.normal(size=(n, D))).astype(dtype)
    family = Gaussian(covariance_type)
    crude = family.start(x, None, K)
    shapes = {"full": np.repeat(np.eye(D)[None], K, axis=0), "diag": np.ones((K, D)), "spherical": np.ones(K)}
    components = family.with_covariances(family.with_means(crude, means), shapes[covariance_type])
    weights = rng.dirichlet(np.full(K, 5.0))
    rows = np.float64(1e9 if by_bounds else 0.0)
    params = Params(weights=weights, components=components, active=np.float64(1.0), rows=rows)
    return Mixture(family, K, None), params, x  # type: ignore[arg-type]


def both(model: Any, params: Params, chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> tuple[Stats, Stats]:
    """Statistics over active pairs, and over all in float64."""
    prefer(monkeypatch, 0.0)
    path = SketchedKernel.path if float(params.rows) else ScreenedKernel.path
    assert model.arithmetic(params, chunk.x.dtype) == path
    screened = model.e_step(params.replace(), chunk)
    prefer(monkeypatch, np.inf)
    exact = Chunk(chunk.x.astype(np.float64), chunk.weight)
    assert model.arithmetic(params, np.float64) == "float64 products"
    return screened, model.e_step(params.replace(), exact)  # no kernel is held for these


def prefer(monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
    """Screens at this cost, whatever they take."""
    monkeypatch.setattr(gaussian_screen, "pairs_ns", lambda *_: -np.inf)
    monkeypatch.setattr(gaussian_screen, "screened_ns", lambda *_: cost)
    monkeypatch.setattr(gaussian_screen, "sketched_ns", lambda *_: cost - 1.0)


def assert_same(screened: Stats, dense: Stats, rows: int) -> None:
    bound = float(screened.rounding) + float(dense.rounding)
    assert abs(float(screened.log_likelihood) - float(dense.log_likelihood)) <= bound
    assert bound < 1e-6 * rows
    for name, value in dense.components.flatten().items():
        np.testing.assert_allclose(
            screened.components.flatten()[name], value, rtol=0, atol=1e-11 * np.abs(value).max(), err_msg=name
        )
    np.testing.assert_allclose(screened.responsibilities, dense.responsibilities, rtol=0, atol=1e-11 * rows)
    assert float(screened.pairs) == pytest.approx(float(dense.pairs), rel=1e-3)


@pytest.mark.parametrize("separation", [0.3, 1.0, 5.0])
@pytest.mark.parametrize(
    ("covariance_type", "dtype"),
    [
        pytest.param(way, dtype, marks=() if dtype == np.float64 or "full" in way else pytest.mark.slow)
        for way in WAYS
        for dtype in (np.float64, np.float32)
    ],
)
def test_the_same_statistics(
    covariance_type: str, separation: float, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To rounding, whether components overlap or not; float32 rows are computed as exactly."""
    model, params, x = mixture(covariance_type, separation, dtype=dtype)
    assert_same(*both(model, params, Chunk(x), monkeypatch), len(x))


@pytest.mark.parametrize("covariance_type", WAYS)
def test_a_margin_too_small_is_noticed(covariance_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: with 5 nats instead of 39, pairs that matter are left out, and these tests see it."""
    model, params, x = mixture(covariance_type, 0.3)
    monkeypatch.setattr(gaussian_screen, "negligible", lambda k: np.exp(-5.0))
    with pytest.raises(AssertionError):
        assert_same(*both(model, params, Chunk(x), monkeypatch), len(x))


@pytest.mark.parametrize("covariance_type", WAYS)
def test_outliers_get_all_components(covariance_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So far out that float32 scores err by more than the margin: the same responsibilities all the same."""
    model, params, x = mixture(covariance_type, 1.0, 600)
    x[::7] *= np.logspace(1, 5, len(x[::7]))[:, None]
    screened, dense = both(model, params, Chunk(x), monkeypatch)
    assert float(screened.log_likelihood) == pytest.approx(float(dense.log_likelihood), rel=1e-12)
    np.testing.assert_allclose(screened.responsibilities, dense.responsibilities, rtol=0, atol=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_weights_count_like_repeated_rows(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params, x = mixture(way, 1.0, 500)
    weight = np.random.default_rng(0).integers(0, 4, size=len(x)).astype(float)
    weighted, _ = both(model, params, Chunk(x, weight), monkeypatch)
    repeated, _ = both(model, params, Chunk(np.repeat(x, weight.astype(int), axis=0)), monkeypatch)
    for name in ("weight", "log_likelihood", "pairs"):
        assert float(weighted[name]) == pytest.approx(float(repeated[name]), rel=1e-12)
    np.testing.assert_allclose(weighted.components.second, repeated.components.second, rtol=0, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_a_component_without_weight_gets_no_rows(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params, x = mixture(way, 1.0)
    weights = np.array(params.weights)
    weights[3] = 0.0
    screened, dense = both(model, params.replace(weights=weights / weights.sum()), Chunk(x), monkeypatch)
    assert screened.responsibilities[3] == dense.responsibilities[3] == 0.0
    assert_same(screened, dense, len(x))


@pytest.mark.parametrize("way", WAYS)
def test_rows_without_density_are_an_error(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params, x = mixture(way, 1.0, 100)
    x[17] = 1e200
    prefer(monkeypatch, 0.0)
    with pytest.raises(NumericalError, match="row 17"):
        model.e_step(params, Chunk(x))


def test_the_choice_follows_pairs_and_shape() -> None:
    """More pairs, fewer components or features: the dense kernel; a pure function of parameters and pairs."""
    family, structure = Gaussian("full"), COVARIANCES["full"]
    _, params, _ = mixture("full", 1.0, 200)
    chosen = [family.screen(params.components, np.float64, pairs) is not None for pairs in (1.0, 2.0, 8.0, 24.0)]
    assert chosen[0]
    assert not chosen[-1]
    assert chosen == sorted(chosen, reverse=True)
    for k, d, expected in ((64, 64, True), (16, 2, False), (4, 64, False)):
        crude = family.at_anchor(np.zeros(d), np.ones(d), k)
        assert (family.screen(crude, np.float64, 1.5) is not None) is expected
        if k >= 8:
            assert (screened_ns(structure, k, d, 1.5) < dense_ns(structure, crude, np.float64)) is expected
    assert Gaussian("tied").screen(Gaussian("tied").at_anchor(np.zeros(64), np.ones(64), 64), np.float64, 1.0) is None


def test_scores_that_tell_nothing_are_not_used() -> None:
    """Components so tight that float32 scores err by more than they differ."""
    family = Gaussian("full")
    crude = family.at_anchor(np.zeros(D), np.ones(D), K)
    loose, tight = (family.with_covariances(crude, np.repeat(np.eye(D)[None], K, 0) * s) for s in (1.0, 1e-6))
    far = np.random.default_rng(0).normal(size=(K, D))
    assert family.screen(family.with_means(loose, far), np.float64, 1.0) is not None
    assert family.screen(family.with_means(tight, far), np.float64, 1.0) is None


# --- in a fit --------------------------------------------------------------------------------------------------------


def settings(**more: Any) -> dict[str, Any]:
    return {"n_components": K, "random_state": 0, "tol": 0.0, "reg_covar": 1e-3, "chunk_bytes": 2**16, **more}


def test_a_fit_turns_to_active_pairs_and_says_so() -> None:
    """It counts them in its first pass; the next have the log-likelihoods of a fit that never screens."""
    _, params, x = mixture("full", 5.0, 6000)
    start = Gaussian("full").means(params.components)
    fitted = GaussianMixture(**settings(max_iter=4, means_init=start)).fit(x)
    assert fitted.report_.setting["arithmetic"] == ScreenedKernel.path
    assert 1.0 <= float(state_of(fitted).params.active) < 1.1


def test_resumed_and_threaded_runs_have_the_same_bits(tmp_path: Path) -> None:
    """The count is part of the state: saved after two passes, a run goes on with the arithmetic that it had chosen."""
    _, params, x = mixture("full", 5.0, 6000)
    start = Gaussian("full").means(params.components)
    whole = GaussianMixture(**settings(max_iter=5, means_init=start, n_threads=1)).fit(x)
    path = tmp_path / "run.npz"
    GaussianMixture(**settings(max_iter=2, means_init=start, n_threads=3)).fit(x, checkpoint=path)
    resumed = GaussianMixture(**settings(max_iter=5, means_init=start, n_threads=3)).fit(x, checkpoint=path)
    assert resumed.report_.setting["arithmetic"] == ScreenedKernel.path
    for name in ("weights_", "means_", "covariances_", "lower_bound_"):
        assert np.asarray(getattr(resumed, name)).tobytes() == np.asarray(getattr(whole, name)).tobytes(), name


@pytest.mark.parametrize("covariance_type", TYPES)
def test_scores_err_by_less_than_the_margin_allows(covariance_type: str) -> None:
    """Of every pair that matters, in rows up to six standard deviations out; and the bound is not idle."""
    _, params, x = mixture(covariance_type, 1.0, 2000)
    x = x * np.linspace(0.2, 1.6, len(x))[:, None]
    family, structure = Gaussian(covariance_type), COVARIANCES[covariance_type]
    gaussians = gaussian_screen._gaussians(structure, params.components)
    assert gaussians is not None
    error = (gaussians.width + np.log(gaussian_screen.negligible(K))) / 2
    kernel, exact = GaussianKernel(structure, params.components, np.float32), family.log_prob(params.components, x)
    scores = np.empty((len(x), K), dtype=np.float32)
    for first in range(0, len(x), 500):
        out = np.empty((K, 500), dtype=np.float32)
        kernel.load(x[first : first + 500])
        kernel.log_prob(out)
        scores[first : first + 500] = out.T
    best = scores.max(axis=1, keepdims=True)
    matters = (exact > best - gaussians.width) & (best >= gaussians.ordinary)
    assert matters.sum() > len(x)
    found = float(np.abs(scores - exact)[matters].max())
    assert error / 1e4 < found <= error


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_no_bound_lies_below_its_log_density(covariance_type: str) -> None:
    """Of correlated components of unequal shapes; and the expected number of rivals is about what is found."""
    rng, width = np.random.default_rng(3), 40.0
    means = rng.normal(size=(K, D)) * 4.0
    shapes = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariances = shapes @ np.swapaxes(shapes, 1, 2) + 0.1 * np.eye(D)
    if covariance_type == "diag":
        covariances = np.einsum("kii->ki", covariances).copy()
    family = Gaussian(covariance_type)
    params = family.with_covariances(
        family.with_means(family.at_anchor(np.zeros(D), np.ones(D), K), means), covariances
    )
    draws = rng.normal(size=(K, 200, D))
    if covariance_type == "full":
        x = (means[:, None] + draws @ np.swapaxes(np.linalg.cholesky(covariances), 1, 2)).reshape(-1, D)
    else:
        x = (means[:, None] + draws * np.sqrt(covariances)[:, None]).reshape(-1, D)
    exact = family.log_prob(params, x)
    constants = gaussian_screen.log_constants(COVARIANCES[covariance_type], params)
    found = sketches(means, covariances, constants, width)
    assert [sketch.means.shape[1] for sketch in found] == [4, 8]
    for sketch in found:
        z = x @ sketch.directions if sketch.directions.size else x[:, sketch.chosen]
        r = z.shape[1]
        features = sketch.structure.features(r)
        padded = np.column_stack([np.ones(len(z)), z])
        bounds = (padded[:, features.left] * padded[:, features.right]) @ sketch.natural_parameters(constants).T
        assert (bounds >= exact - 1e-9 * np.abs(exact)).all()
        rivals = (bounds > exact.max(axis=1, keepdims=True) - width).sum(axis=1) - 1
        assert sketch.rivals == pytest.approx(rivals.mean(), abs=0.25 + 0.3 * rivals.mean())


def test_bounds_serve_passes_over_many_rows_only() -> None:
    """Looking for directions costs more than a mini-batch; and components that directions cannot tell keep scores."""
    family = Gaussian("full")
    rng = np.random.default_rng(0)
    crude = family.at_anchor(np.zeros(64), np.ones(64), 64)
    apart, alike = (family.with_means(crude, rng.normal(size=(64, 64)) * s) for s in (2.0, 0.05))
    kinds = [type(family.screen(params, np.float64, 1.0, rows)) for params in (apart, alike) for rows in (1e3, 1e6)]
    assert kinds == [ScreenedKernel, SketchedKernel, ScreenedKernel, ScreenedKernel]
