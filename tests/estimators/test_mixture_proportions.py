"""Weights over known likelihoods: the laws, the convex optimum, the certificate, sources, what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm

from streamem import MixtureProportions
from streamem.cli.main import main
from streamem.conformance import FamilySuite, ModelSuite
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, NumericalError, ParameterError, SchemaError
from streamem.core.ports import Model
from streamem.core.stats import Stats
from streamem.estimators.loading import load_model
from streamem.families.known_likelihoods import KnownLikelihoods
from streamem.models import Proportions

Array = NDArray[Any]
GRID = np.array([-3.0, -1.0, 0.0, 1.5, 4.0])


def likelihoods(n: int = 800, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    seen = rng.choice([0.0, 3.0], p=[0.7, 0.3], size=n) + rng.normal(size=n)
    return norm.pdf(seen[:, None] - GRID)


@pytest.mark.parametrize("scale", ["plain", "log"])
class TestKnownLikelihoods(FamilySuite):
    @pytest.fixture(autouse=True)
    def _choose(self, scale: str) -> None:
        self.scale = scale

    def make_family(self) -> KnownLikelihoods:
        return KnownLikelihoods(self.scale)

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(columns=np.arange(3))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        logs = rng.normal(size=(n, 3))
        return logs if self.scale == "log" else np.exp(logs)

    def make_far_row(self, x: Array) -> Array:
        return np.full((1, 3), -1e6 if self.scale == "log" else 1e-300)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return params

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        rows = x[:, np.asarray(params.columns, dtype=int)]
        return rows if self.scale == "log" else np.log(rows)

    unchecked = ("columns",)


@pytest.mark.parametrize("scale", ["plain", "log"])
class TestProportions(ModelSuite):
    @pytest.fixture(autouse=True)
    def _choose(self, scale: str) -> None:
        self.scale = scale

    def make_model(self) -> Proportions:
        return Proportions(KnownLikelihoods(self.scale), len(GRID))

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        rows = likelihoods(n)
        return Chunk(np.log(rows) if self.scale == "log" else rows)

    def make_params(self, model: Model, chunk: Chunk) -> Params:
        start = model.init(chunk, np.random.RandomState(0))
        return start.replace(weights=np.array([0.1, 0.3, 0.2, 0.25, 0.15]))


# --- the optimum -----------------------------------------------------------------------------------------------------


def test_two_components_are_a_line_search() -> None:
    rows = likelihoods()[:, [1, 3]]
    best = minimize_scalar(
        lambda w: -np.log(rows @ [w, 1 - w]).mean(), bounds=(0, 1), method="bounded", options={"xatol": 1e-12}
    )
    fit = MixtureProportions(tol=1e-14).fit(rows)
    assert fit.weights_[0] == pytest.approx(best.x, abs=1e-5)
    assert fit.lower_bound_ == pytest.approx(-best.fun, abs=1e-11)


@pytest.mark.parametrize("scale", ["plain", "log"])
def test_the_convex_optimum_with_weights(scale: str) -> None:
    """SciPy's SLSQP on the simplex; the certificate bounds what is left wherever EM stops, and vanishes at the end."""
    rows, counted = likelihoods(), np.random.default_rng(1).uniform(0.5, 2.0, 800)
    x = np.log(rows) if scale == "log" else rows * np.random.default_rng(2).uniform(1e-3, 1e3, (800, 1))
    shift = 0.0 if scale == "log" else counted @ np.log(x[:, 0] / rows[:, 0]) / counted.sum()
    best = minimize(
        lambda w: -(counted @ np.log(rows @ w)) / counted.sum(),
        np.full(5, 0.2),
        bounds=[(0, 1)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    for most in (3, 30):
        with pytest.warns(match="did not converge"):
            early = MixtureProportions(scale=scale, tol=0.0, max_iter=most).fit(x, sample_weight=counted)
        left = -best.fun + shift - early.lower_bound_
        assert 0 < left < early.kkt_certificate_
    fit = MixtureProportions(scale=scale, tol=1e-13, max_iter=100_000).fit(x, sample_weight=counted)
    assert fit.lower_bound_ == pytest.approx(-best.fun + shift, abs=1e-8)
    assert fit.weights_ == pytest.approx(best.x, abs=2e-3)
    gradient = counted @ (rows / (rows @ fit.weights_)[:, None]) / counted.sum()
    assert fit.kkt_certificate_ == pytest.approx(gradient.max() - 1, abs=1e-10)
    assert fit.report_.certificate == fit.kkt_certificate_ < 1e-6
    assert "certificate (KKT): no weights are better by more than" in str(fit.report_)


def test_scales_and_sources_agree(tmp_path: Path) -> None:
    """Plain and log, floats of both kinds, Zarr, Parquet and Dask; answers and files."""
    rows, settings = likelihoods(), {"tol": 1e-6, "chunk_bytes": 8_000}
    plain = MixtureProportions(**settings).fit(rows)
    assert plain.report_.n_chunks > 2
    log = MixtureProportions(scale="log", **settings).fit(np.log(rows))
    assert log.weights_ == pytest.approx(plain.weights_, abs=1e-4)
    assert log.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-9)
    store = zarr.open(str(tmp_path / "x.zarr"), mode="w", shape=rows.shape, chunks=(100, 5), dtype="f8")
    store[:] = rows
    pd.DataFrame(rows, columns=[f"at {g}" for g in GRID]).to_parquet(tmp_path / "x.parquet")
    for other in (tmp_path / "x.zarr", tmp_path / "x.parquet", da.from_array(rows, chunks=(100, 5))):
        found = MixtureProportions(**settings).fit(other)
        assert found.weights_ == pytest.approx(plain.weights_, abs=1e-12)
    narrow = MixtureProportions(**settings).fit(rows.astype(np.float32))
    assert narrow.weights_ == pytest.approx(plain.weights_, abs=1e-3)
    posterior = rows * plain.weights_
    assert plain.predict_proba(rows) == pytest.approx(posterior / posterior.sum(axis=1, keepdims=True), abs=1e-12)
    assert plain.score(rows) == pytest.approx(plain.lower_bound_, abs=1e-12)
    plain.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert (again.n_components, again.kkt_certificate_) == (5, plain.kkt_certificate_)
    assert (again.predict(rows) == plain.predict(rows)).all()
    assert plain.bic(rows) == pytest.approx(-2 * plain.lower_bound_ * 800 + 4 * np.log(800))
    assert "column 4" in plain.describe()


def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = MixtureProportions(tol=1e-5).fit(likelihoods())
    with pytest.warns(match="did not converge"):
        MixtureProportions(tol=1e-5, max_iter=5).fit(likelihoods(), checkpoint=tmp_path / "run.npz")
    resumed = MixtureProportions(tol=1e-5).fit(likelihoods(), checkpoint=tmp_path / "run.npz")
    assert resumed.weights_.tobytes() == whole.weights_.tobytes()


def test_the_number_of_components_is_that_of_the_columns() -> None:
    fit = MixtureProportions()
    assert not hasattr(fit, "n_components")
    assert fit.fit(likelihoods()).n_components == 5
    with pytest.raises(SchemaError, match="4 features"):
        fit.predict(likelihoods()[:, :4])
    with pytest.raises(NumericalError):
        fit.fit(np.zeros((9, 3)))
    assert fit.n_components == 5  # a fit that fails leaves the model as it was
    assert fit.fit(likelihoods()[:, :4]).n_components == 4
    fit.weights_ = np.array([0.5, 0.5, 0.0, 0.0])
    assert fit.predict(likelihoods()[:9, :4]).max() <= 1


def test_accelerated_steps_and_standard_errors() -> None:
    """SQUAREM ends where EM does, in fewer passes; the error of one free weight is that of its own information."""
    rows = likelihoods()[:, [2, 3]]
    plain, fast = (MixtureProportions(tol=1e-9).fit(rows, algorithm=name) for name in ("batch", "squarem"))
    assert fast.weights_ == pytest.approx(plain.weights_, abs=1e-3)
    assert len(fast.report_.passes) < len(plain.report_.passes)
    assert fast.kkt_certificate_ < 1e-4
    gap = (rows[:, 0] - rows[:, 1]) / (rows @ plain.weights_)
    assert plain.standard_errors(rows).weights_ == pytest.approx([(gap @ gap) ** -0.5] * 2, rel=1e-5)


def test_more_columns_than_rows() -> None:
    rows = norm.pdf(np.array([0.0, 4.0, 8.0])[:, None] - np.linspace(-2, 10, 25))
    fit = MixtureProportions(tol=1e-6).fit(rows)
    assert fit.weights_[[4, 12, 20]].sum() == pytest.approx(1.0, abs=0.1)


def test_weights_of_zero_stay_and_the_certificate_tells() -> None:
    fit = MixtureProportions(weights_init=[0.5, 0.0, 0.0, 0.0, 0.5], tol=1e-12).fit(likelihoods())
    assert fit.weights_[1:4].tolist() == [0.0, 0.0, 0.0]
    assert fit.kkt_certificate_ > 0.5
    far = np.log(likelihoods())
    far[:, 1] += 5000.0  # beside which the others vanish
    fit = MixtureProportions(scale="log", weights_init=[0.5, 0.0, 0.0, 0.0, 0.5], tol=1e-6).fit(far)
    assert np.isfinite(fit.lower_bound_)
    assert fit.kkt_certificate_ > 1e100


def test_likelihoods_of_any_size() -> None:
    """Factors of a row, far beyond what products of floats hold, change nothing."""
    rows, steps = likelihoods(200), {"tol": 0.0, "max_iter": 20}
    logs = np.log(rows) + np.linspace(-1e5, 1e5, 200)[:, None]
    found = []
    for scale, x in (("plain", rows), ("plain", rows * 1e-270), ("plain", rows * 1e290), ("log", logs)):
        with pytest.warns(match="did not converge"):
            found.append(MixtureProportions(scale=scale, **steps).fit(x).weights_)
    for weights in found[1:]:
        assert weights == pytest.approx(found[0], abs=1e-9)


def test_batches_learn_on() -> None:
    fit = MixtureProportions(tol=1e-10).fit(likelihoods(4000))
    before = fit.weights_.copy()
    for seed in range(1, 5):
        fit.partial_fit(likelihoods(500, seed))
    assert fit.weights_ == pytest.approx(before, abs=0.1)
    with pytest.raises(AttributeError, match="no pass has seen all rows"):
        _ = fit.kkt_certificate_
    assert MixtureProportions().partial_fit(likelihoods(50)).n_components == 5


def spoiled(value: float) -> Array:
    rows = likelihoods(60)
    rows[7] = value
    return rows


@pytest.mark.parametrize(
    ("settings", "rows", "error", "message"),
    [
        ({}, spoiled(0.0), NumericalError, "row 7 of the chunk is impossible: its likelihood is 0 under every"),
        ({}, spoiled(-1.0), ImpossibleValueError, r'column 0 of row 7 holds -1; likelihoods .* pass scale="log"'),
        ({}, spoiled(np.nan), ValueError, "NaN"),
        ({"scale": "log"}, spoiled(-np.inf), ValueError, "infinity"),
        ({"scale": "bits"}, likelihoods(60), ParameterError, "scale is 'bits'; it must be one of"),
        ({"weights_init": [0.5, 0.5]}, likelihoods(60), ParameterError, r"\(5,\) numbers >= 0 that sum to 1"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], rows: Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MixtureProportions(**settings).fit(rows)


def test_a_row_without_weight_may_be_impossible() -> None:
    counted = np.ones(60)
    counted[7] = 0.0
    fit = MixtureProportions(tol=1e-5).fit(spoiled(0.0), sample_weight=counted)
    rest = MixtureProportions(tol=1e-5).fit(np.delete(likelihoods(60), 7, axis=0))
    assert fit.weights_ == pytest.approx(rest.weights_, abs=1e-9)


def test_at_the_command_line(tmp_path: Path) -> None:
    pd.DataFrame(np.log(likelihoods())).rename(columns=str).to_parquet(tmp_path / "x.parquet")
    ask = ["fit", "proportions", str(tmp_path / "x.parquet"), "-o", str(tmp_path / "m.npz"), "--scale", "log"]
    done = CliRunner().invoke(main, ask)
    assert done.exit_code == 0, done.output
    assert "5 components, converged" in done.output
    assert "no weights reach" in done.output


def test_statistics_of_sites_are_those_of_all_rows() -> None:
    rows = likelihoods()
    with pytest.warns(match="did not converge"):
        model, whole = (MixtureProportions(tol=0.0, max_iter=most).fit(rows) for most in (1, 2))
    parts: list[Stats] = [model.expected_statistics(part) for part in np.split(rows, 4)]
    assert model.maximize(sum(parts)).weights_ == pytest.approx(whole.weights_, abs=1e-14)
