"""Durations together with covariates that decide which state follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import GaussianHMM, PoissonHMM
from streamem.core.errors import ParameterError
from streamem.estimators.loading import load_model

Array = NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = {"durations": "poisson", "max_duration": 12, "transition_covariates": [1]}


def drawn(n: int = 600) -> tuple[Array, Array]:
    """Counts with a covariate (n, 2), and the states, of which a high covariate makes the third follow."""
    rng, states = np.random.default_rng(1), []
    u = rng.uniform(10.0, 14.0, n)
    state = 0
    while len(states) < n:
        states += [state] * (1 + rng.poisson(3.0 + state))
        at = min(len(states), n) - 1
        one, other = [j for j in range(3) if j != state]
        state = other if rng.random() < 1 / (1 + np.exp(-2.0 * (u[at] - 12.0))) else one
    found = np.array(states[:n])
    return np.column_stack([rng.poisson(np.array([1.0, 8.0, 25.0])[found]), u]).astype(float), found


def hmm(**settings: Any) -> PoissonHMM:
    return PoissonHMM(3, **{"random_state": 0, "n_iter": 60, **BOTH, **settings})


def parts(model: Any) -> list[Array]:
    names = ("startprob_", "transition_intercept_", "transition_coef_", "duration_means_", "lambdas_")
    return [np.asarray(getattr(model, name)) for name in names]


def test_truth_is_found_and_sampled_again(tmp_path: Path) -> None:
    x, states = drawn(1500)
    model = hmm().fit(x)
    order = np.argsort(model.lambdas_.ravel())
    np.testing.assert_allclose(model.lambdas_.ravel()[order], [1.0, 8.0, 25.0], rtol=0.15)
    np.testing.assert_allclose(model.duration_means_[order], [4.0, 5.0, 6.0], rtol=0.15)
    assert (np.argsort(order)[model.predict(x)] == states).mean() > 0.95
    # Of the two states that may follow, the higher one does so the more, the larger the covariate is.
    coef = model.transition_coef_[order][:, order, 0]
    for i, (one, other) in enumerate(((1, 2), (0, 2), (0, 1))):
        assert 1.0 < coef[i, other] - coef[i, one] < 3.5
    assert np.diff(model.lower_bounds_).min() > -1e-9
    for own in (model.transition_intercept_, model.transition_coef_[:, :, 0]):  # 0 of what others are measured against
        assert [own[0, 1], own[1, 0], own[2, 0], *np.diag(own)] == [0] * 6
    assert np.diag(model.transmat_).tolist() == [0, 0, 0]
    shares = model.get_stationary_distribution()
    assert shares.shape == (3,)
    u = np.full((2000, 1), 14.0)
    drawn_rows, drawn_states = model.sample(2000, random_state=1, transition_covariates=u)
    assert drawn_rows.shape == (2000, 2)
    jumps = np.flatnonzero(np.diff(drawn_states))
    assert abs(len(jumps) - 2000 / model.duration_means_[drawn_states].mean()) < 80
    model.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    assert loaded.score(x) == model.score(x)


def test_cut_sequences_weights_and_runs_that_go_on(tmp_path: Path) -> None:
    x, _ = drawn(300)
    whole, cut = hmm(n_iter=6).fit(x), hmm(n_iter=6, chunk_bytes=1200).fit(x)
    assert cut.report_.n_chunks > 1
    for one, other in zip(parts(whole), parts(cut), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(cut.predict(x), whole.predict(x))
    np.testing.assert_allclose(cut.predict_proba(x), whole.predict_proba(x), atol=1e-8)
    again = hmm(n_iter=3)
    again.fit(x, checkpoint=tmp_path / "c.npz")
    again = hmm(n_iter=6).fit(x, checkpoint=tmp_path / "c.npz")
    for one, other in zip(parts(whole), parts(again), strict=True):
        np.testing.assert_array_equal(other, one)
    for twice in (
        whole.score(np.vstack([x, x]), lengths=[300, 300]),
        whole.score(x, lengths=[300], sample_weight=[2.0]),
        2.0 * cut.score(x),
    ):
        np.testing.assert_allclose(twice, 2.0 * whole.score(x), rtol=1e-8)


def test_mini_batches_and_files_of_other_hyperparameters() -> None:
    x, _ = drawn(600)
    model = hmm(n_iter=4).fit(x[:300])
    before = model.score(x)
    model.partial_fit(x[300:])
    assert np.isfinite(model.score(x))
    assert model.score(x) > before - 50
    with pytest.raises(ParameterError, match="max_duration is 20"):
        model.set_params(max_duration=20).partial_fit(x[300:])
    for other in ({"durations": None}, {"durations": "negative-binomial"}):
        with pytest.raises(ParameterError, match="set (it|them) back, or fit anew"):
            hmm(n_iter=2).fit(x[:200]).set_params(**other).score(x)


def test_what_cannot_be_is_refused() -> None:
    x, _ = drawn(200)
    model = hmm(n_iter=2).fit(x)
    with pytest.raises(ParameterError, match="together exclude standard errors"):
        model.standard_errors(x)
    with pytest.raises(ParameterError, match="exclude an endless sequence"):
        model.partial_fit(x, continued=True)
    with pytest.raises(ParameterError, match="two states at least"):
        GaussianHMM(1, random_state=0, **BOTH).fit(x)
    with pytest.raises(ParameterError, match="topology is .* the same in every step"):
        hmm(topology="left-right").fit(x)
    with pytest.raises(ParameterError, match="3 states of up to max_duration=1000 steps"):
        hmm(max_duration=1000).fit(x)
