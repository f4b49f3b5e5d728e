"""Rows whose squared distances overflow: one rule for all answers, and no row changes those of others.

The density of such a row is below what float64 holds, so `score_samples` says −∞, as scikit-learn does; `predict` names
the component that is nearest in exact arithmetic, and `predict_proba` gives it all, which is the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import sklearn.mixture
from numpy.typing import NDArray

from streamem import GaussianMixture, Mixture, Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, NumericalError
from streamem.core.stats import Stats
from streamem.families import AutoregressiveGaussian, Gaussian, MixtureFamily, Poisson
from streamem.models import Mixture as MixtureModel

Array = NDArray[Any]
COVARIANCES = ("full", "tied", "diag", "spherical")
RNG = np.random.default_rng(0)
X = np.concatenate(
    [
        RNG.normal(size=(100, 3)),
        RNG.normal(size=(100, 3)) * [1.0, 2.0, 0.5] + 4,
        RNG.normal(size=(100, 3)) * 3 - 5,
    ]
)
FAR = np.array(
    [[1e160, 0, 0], [0, -1e200, 0], [1e154, 1e160, -1e154], [-1.7e308] * 3, [1e155, -1e155, 1e155], [1.2e154, 0, 3]]
)
AMONG = np.concatenate([X[:50:5], FAR, X[-5:]])
IS_FAR = np.isin(np.arange(len(AMONG)), np.arange(10, 10 + len(FAR)))


def fitted(covariance_type: str) -> GaussianMixture:
    settings: dict[str, Any] = {"covariance_type": covariance_type, "random_state": 0, "tol": 1e-2}
    return GaussianMixture(3, **settings).fit(X)


def peer(model: GaussianMixture) -> Any:
    """scikit-learn's class with the same parameters."""
    twin = sklearn.mixture.GaussianMixture(model.n_components, covariance_type=model.covariance_type)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(twin, name, getattr(model, name))
    return twin


def nearest(model: GaussianMixture, row: Array) -> int:
    """The most probable component in exact arithmetic, but for constants, which do not matter so far away."""
    d, factor = len(row), np.asarray(model.precisions_cholesky_)
    squares = []
    for k, mean in enumerate(model.means_):
        own = factor if model.covariance_type == "tied" else factor[k]
        matrix = own if np.ndim(own) == 2 else np.diag(np.broadcast_to(own, d))
        moved = [Fraction(float(x)) - Fraction(float(m)) for x, m in zip(row, mean, strict=True)]
        columns = [sum(Fraction(float(matrix[i, j])) * moved[i] for i in range(d)) for j in range(d)]
        squares.append(sum(value * value for value in columns))
    return int(np.argmin(np.array(squares, dtype=object)))


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_all_answers_follow_one_rule(covariance_type: str) -> None:
    """`predict` answered 0, and the others raised."""
    model = fitted(covariance_type)
    density, shares, labels = model.score_samples(AMONG), model.predict_proba(AMONG), model.predict(AMONG)
    assert (density[IS_FAR][:4] == -np.inf).all()
    assert np.isfinite(density[~IS_FAR]).all()
    assert labels[IS_FAR].tolist()[:5] == [nearest(model, row) for row in FAR[:5]]
    lost = density == -np.inf
    assert np.array_equal(shares[lost], np.eye(3)[labels[lost]])
    assert np.array_equal(shares.argmax(axis=1)[lost], labels[lost])
    assert (shares.sum(axis=1).round(12) == 1).all()
    assert model.score(AMONG) == -np.inf
    assert (model.bic(AMONG), model.aic(AMONG)) == (np.inf, np.inf)


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_densities_are_scikit_learns(covariance_type: str) -> None:
    """Finite or not; where its own arithmetic ends in NaN, ours still tells."""
    model = fitted(covariance_type)
    with np.errstate(all="ignore"):
        theirs, its_score = peer(model).score_samples(AMONG), peer(model).score(AMONG[:13])
    told = ~np.isnan(theirs)
    # scikit-learn squares diagonal differences after they are multiplied out, which overflows a little earlier.
    told[15] = covariance_type in ("full", "tied")
    np.testing.assert_allclose(model.score_samples(AMONG)[told], theirs[told], rtol=1e-9)
    assert model.score(AMONG[:13]) == its_score == -np.inf


@pytest.mark.parametrize("covariance_type", COVARIANCES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_rows_keep_their_bits(covariance_type: str, dtype: Any) -> None:
    """With far rows between them, and with others in their places: BLAS may treat a row otherwise in another place."""
    model = fitted(covariance_type)
    with np.errstate(over="ignore"):
        among = np.where(np.abs(AMONG) > 1e38, np.sign(AMONG) * 3e38, AMONG) if dtype == np.float32 else AMONG
    among, alone = among.astype(dtype), np.where(IS_FAR[:, None], AMONG[~IS_FAR][0], AMONG).astype(dtype)
    for answer in (model.predict, model.predict_proba, model.score_samples):
        assert answer(among)[~IS_FAR].tobytes() == answer(alone)[~IS_FAR].tobytes()
        assert not np.isnan(answer(among)).any()


def test_everywhere_that_answers_go(tmp_path: Path) -> None:
    """Lazily on Dask, and into files."""
    model = fitted("full")
    lazily = da.from_array(AMONG, chunks=(4, 3))
    for name in ("predict", "predict_proba", "score_samples"):
        plain = getattr(model, name)(AMONG)
        found = getattr(model, name)(lazily).compute(scheduler="synchronous")
        np.testing.assert_allclose(found, plain, rtol=1e-9)  # of other chunks, so in the last bits
        getattr(model, name)(AMONG, out=tmp_path / f"{name}.npy")
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), plain)


def test_rows_without_weight_have_no_part_in_a_score() -> None:
    """0 · −∞ would not be a number."""
    model, weight = fitted("diag"), (~IS_FAR).astype(float)
    assert model.score(AMONG, sample_weight=weight) == pytest.approx(model.score(AMONG[~IS_FAR]), rel=1e-14)


def test_a_component_without_weight_is_never_chosen() -> None:
    """However wide it is."""
    model = fitted("diag")
    wide = model.predict([[1e160, 0, 0]])[0]
    model.weights_ = np.where(np.arange(3) == wide, 0.0, 0.5)
    assert model.predict([[1e160, 0, 0]])[0] != wide
    assert model.predict_proba([[1e160, 0, 0]])[0, wide] == 0


# --- other families --------------------------------------------------------------------------------------------------


def test_mixtures_as_components() -> None:
    """A component is as near as its nearest part that has weight."""
    gaussian = Gaussian("diag")
    parts = gaussian.at_anchor(np.zeros(1), np.ones(1), 4)
    parts = gaussian.with_covariances(parts, np.array([[1.0], [100.0], [9.0], [16.0]]))
    family = MixtureFamily(gaussian, 2)
    for share, label in ((0.5, 0), (1.0, 1)):
        weights = np.array([[share, 1 - share], [0.5, 0.5]])
        params = Params(weights=np.array([0.5, 0.5]), components=Params(weights=weights, parts=parts))
        model, far = MixtureModel(family, 2, None), Chunk(np.array([[1e170], [0.5]]))  # type: ignore[arg-type]
        assert model.labels(params, far)[0] == label
        assert model.responsibilities(params, far)[0].tolist() == np.eye(2)[label].tolist()
        assert model.log_density(params, far)[0] == -np.inf
        np.testing.assert_allclose(
            np.exp(family.far_log_prob(params.components, far.x[1:])),
            np.exp(family.log_prob(params.components, far.x[1:])),
            rtol=1e-13,
        )


def test_autoregression() -> None:
    """A step that follows from the one before under one component is near to it, however large."""
    family = AutoregressiveGaussian(1)
    params = family.with_parameters(
        family.at_anchor(np.zeros(1), np.ones(1), 2),
        np.zeros((2, 1)),
        np.array([[[[0.5]]], [[[2.0]]]]),
        np.ones((2, 1, 1)),
    )
    model = MixtureModel(family, 2, None)  # type: ignore[arg-type]
    whole = Params(weights=np.array([0.5, 0.5]), components=params)
    rows = Chunk(np.array([[2.1e200, 1e200], [0.6e200, 1e200], [0.3, 0.1]]))
    assert model.labels(whole, rows)[:2].tolist() == [1, 0]
    assert model.log_density(whole, rows)[:2].tolist() == [-np.inf, -np.inf]
    np.testing.assert_allclose(family.far_log_prob(params, rows.x[2:]), family.log_prob(params, rows.x[2:]), rtol=1e-13)


class Cauchy:
    """A family of four lines, that knows nothing of far rows; its densities vanish where squares overflow."""

    def log_prob(self, params: Params, x: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(-np.log1p((x - params.centers) ** 2))

    def stats(self, params: Params | None, x: Array, resp: Array) -> Stats:
        return Stats(weight=resp.sum(axis=0), x=x.T @ resp)

    def maximize(self, stats: Stats, previous: Params | None) -> Params:
        return Params(centers=(stats.x / stats.weight)[0])


def answers(model: Any, x: Array) -> Iterator[Any]:
    yield from (lambda: model.predict(x), lambda: model.predict_proba(x), lambda: model.score_samples(x))


def test_a_family_that_cannot_tell_names_the_row() -> None:
    """Also in `predict`, which took NaN and −∞ for a label."""
    model = Mixture(Cauchy(), 2, random_state=0, max_iter=3, tol=1)
    model.weights_, model.params_, model.n_features_in_ = np.full(2, 0.5), Params(centers=np.array([0.0, 5.0])), 1
    for ask in answers(model, np.array([[0.0], [3.0], [1e200]])):
        with pytest.raises(NumericalError, match=r"row 2 of the chunk has no finite log-density .* 1e\+200"):
            ask()


def test_impossible_values_keep_their_errors() -> None:
    """They are no matter of range."""
    model = Mixture(Poisson(), 2, random_state=0)
    model.weights_, model.params_ = np.full(2, 0.5), Params(rates=np.array([[0.0], [0.0]]), empty=np.zeros(2, bool))
    model.n_features_in_ = 1
    for ask in answers(model, np.array([[0.0], [4.0]])):
        with pytest.raises(NumericalError, match="row 1 of the chunk has no finite log-density"):
            ask()
    for ask in answers(model, np.array([[0.0], [0.5]])):
        with pytest.raises(ImpossibleValueError, match="row 1"):
            ask()


def test_fits_still_refuse_them() -> None:
    """No moments can be taken of such a row."""
    model = fitted("full")
    with pytest.raises(NumericalError, match="row 10 of the chunk"):
        model.expected_statistics(AMONG)
    with pytest.raises(NumericalError, match="overflow"):
        GaussianMixture(2, random_state=0).fit(AMONG)
