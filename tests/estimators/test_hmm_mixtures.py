"""`GMMHMM`: priors, covariances of a whole state, parts that are held, beside hmmlearn from the same start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hmmlearn import hmm as oracle
from scipy.stats import dirichlet, invwishart

from helpers.fitted_states import state_of
from helpers.hmm_starts import LENGTHS, Array, D, K, fitted_quietly, gaussian_start, rows, with_attributes
from streamem import GMMHMM
from streamem.algorithms import StepwiseEM
from streamem.core.errors import CheckpointMismatchError, ParameterError
from streamem.estimators.making import n_parameters

M = 2
TYPES = ["diag", "full", "tied", "spherical"]
NAMES = ("startprob_", "transmat_", "weights_", "means_", "covars_")
BESIDE_ITERATIONS = 8
"""Of both, where one of hmmlearn's takes a hundred times as long as one of ours; a fault shows in the first."""
THEIRS: dict[str, Any] = {"init_params": "", "n_iter": BESIDE_ITERATIONS, "tol": -np.inf, "implementation": "scaling"}
OURS: dict[str, Any] = {"init_params": "", "n_iter": 20, "tol": 0, "random_state": 0}
NONE: dict[str, dict[str, float]] = {
    "diag": {"covars_prior": -1.5, "covars_weight": 0.0},
    "full": {"covars_prior": 0.0, "covars_weight": -(D + 2.0)},
    "tied": {"covars_prior": 0.0, "covars_weight": -(M + D + 1.0)},
    "spherical": {"covars_prior": -(D + 2.0) / 2, "covars_weight": 0.0},
}
"""What is no prior for hmmlearn."""


class AboutNewMeans(oracle.GMMHMM):  # type: ignore[misc]
    """hmmlearn's, with squared deviations from the new means, where it takes those from the means before."""

    def _do_mstep(self, stats: dict[str, Array]) -> None:
        if {"m", "c"} <= set(self.params):
            n, pull = stats["post_mix_sum"][:, :, None], self.means_weight[:, :, None]
            first = stats["m_n"] - pull * self.means_prior - n * self.means_
            shift = stats["m_n"] / (n + pull) - self.means_
            crossed = first[..., :, None] * shift[..., None, :]
            change = n[..., None] * shift[..., :, None] * shift[..., None, :] - crossed - np.swapaxes(crossed, -1, -2)
            own = np.einsum("kmii->kmi", change)
            kinds = {"full": change, "tied": change.sum(axis=1), "diag": own, "spherical": own.sum(axis=-1)}
            stats["c_n"] += kinds[self.covariance_type]
        super()._do_mstep(stats)


def mixture_start(covariance_type: str, seed: int = 3) -> dict[str, Array]:
    """Attributes of a model of K states of M Gaussians."""
    rng, start = np.random.default_rng(seed), gaussian_start("diag")
    root = rng.normal(size=(K, M, D, D))
    full = root @ np.swapaxes(root, -1, -2) + np.eye(D)
    full = (full + np.swapaxes(full, -1, -2)) / 2
    variances = rng.uniform(0.5, 2, (K, M, D))
    covars = {"full": full, "tied": full[:, 0], "diag": variances, "spherical": variances[..., 0]}
    return {
        "startprob_": start["startprob_"],
        "transmat_": start["transmat_"],
        "weights_": rng.dirichlet(np.ones(M), size=K),
        "means_": start["means_"][:, None] + rng.normal(size=(K, M, D)),
        "covars_": covars[covariance_type],
    }


def mixture_priors(covariance_type: str, seed: int = 4) -> dict[str, Any]:
    rng, start = np.random.default_rng(seed), mixture_start(covariance_type)
    matrix, shape = covariance_type in ("full", "tied"), start["covars_"].shape
    return {
        "weights_prior": rng.uniform(1, 30, (K, M)),
        "means_prior": start["means_"] + 0.3 * rng.normal(size=(K, M, D)),
        "means_weight": rng.uniform(5, 30, (K, M)),
        "covars_prior": 30 * start["covars_"] if matrix else rng.uniform(5, 9, shape),
        "covars_weight": rng.uniform(5, 30, shape[:-2]) if matrix else rng.uniform(5, 9, shape),
    }


def mixture(covariance_type: str, **settings: Any) -> GMMHMM:
    """With priors, from a start that is given."""
    chosen = {**OURS, **mixture_priors(covariance_type), **settings}
    return with_attributes(GMMHMM(K, M, covariance_type, **chosen), mixture_start(covariance_type))


LEARNED = [("stmcw", True), ("stmcw", False), ("stmw", True), ("stcw", True), ("m", True), ("w", False)]
BESIDE = [
    pytest.param(kind, *learned, marks=() if j == 0 or (i + j) % 4 == 0 else pytest.mark.slow)
    for i, kind in enumerate(TYPES)
    for j, learned in enumerate(LEARNED)
]
"""Every type with everything learned, and every choice of what is learned with one type or two; the others are slow."""


@pytest.mark.variations(1, 8)
@pytest.mark.parametrize(("covariance_type", "params", "priors"), BESIDE)
def test_beside_hmmlearn(covariance_type: str, params: str, priors: bool) -> None:
    x = rows()
    chosen = mixture_priors(covariance_type) if priors else NONE[covariance_type]
    kind = AboutNewMeans if {"m", "c"} <= set(params) else oracle.GMMHMM
    theirs = kind(K, M, covariance_type=covariance_type, params=params, **chosen, **THEIRS)
    theirs = with_attributes(theirs, mixture_start(covariance_type)).fit(x, LENGTHS)
    own = {"params": params, "n_iter": BESIDE_ITERATIONS, **(chosen if priors else {})}
    ours = with_attributes(GMMHMM(K, M, covariance_type, **{**OURS, **own}), mixture_start(covariance_type))
    fitted_quietly(ours, x, LENGTHS)
    for name in NAMES:
        expected = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_tied_states_answer_as_hmmlearn_has_it() -> None:
    x, start = rows(), mixture_start("tied")
    theirs = with_attributes(oracle.GMMHMM(K, M, covariance_type="tied"), start)
    ours = with_attributes(GMMHMM(K, M, "tied"), start)
    assert ours.score(x, LENGTHS) == pytest.approx(theirs.score(x, LENGTHS), rel=1e-10)
    np.testing.assert_array_equal(ours.predict(x, LENGTHS), theirs.predict(x, LENGTHS))
    fitted = fitted_quietly(GMMHMM(K, M, "tied", random_state=0, n_iter=3), x, LENGTHS)
    assert fitted.covars_.shape == (K, D, D)
    assert n_parameters(fitted, fitted._now()) == K - 1 + K * (K - 1) + K * (M - 1) + K * M * D + K * D * (D + 1) // 2
    assert fitted.sample(5, random_state=0)[0].shape == (5, D)


@pytest.mark.parametrize("given", ["m", "c", "w", "mw"])
@pytest.mark.parametrize("covariance_type", ["tied", "diag"])
def test_a_start_may_be_given_in_part(given: str, covariance_type: str) -> None:
    x, start = rows(), mixture_start(covariance_type)
    names = {"m": "means_", "c": "covars_", "w": "weights_"}
    made = "".join(set("stmcw") - set(given))
    model = GMMHMM(K, M, covariance_type, init_params=made, params="st", random_state=0, n_iter=2, tol=0)
    fitted_quietly(with_attributes(model, {names[letter]: start[names[letter]] for letter in given}), x, LENGTHS)
    for letter in given:
        np.testing.assert_allclose(getattr(model, names[letter]), start[names[letter]], rtol=1e-12)


def log_prior(model: GMMHMM) -> float:
    """By SciPy, of full covariances, up to a constant."""
    prior, total = mixture_priors("full"), 0.0
    for k in range(K):
        total += dirichlet(prior["weights_prior"][k]).logpdf(model.weights_[k])
        for m in range(M):
            off, covariance = model.means_[k, m] - prior["means_prior"][k, m], model.covars_[k, m]
            pull = prior["means_weight"][k, m]
            degrees = prior["covars_weight"][k, m] + 1  # and one more for |Σ|^(−1/2) of the means
            total += invwishart(degrees, prior["covars_prior"][k, m]).logpdf(covariance)
            total -= pull / 2 * off @ np.linalg.solve(covariance, off)
    return float(total)


def test_the_posterior_rises_at_every_iteration() -> None:
    x, model = rows(), mixture("full", n_iter=1)
    posteriors = []
    for _ in range(12):
        posteriors.append(model.score(x, LENGTHS) + log_prior(model))
        fitted_quietly(model, x, LENGTHS)
    assert (np.diff(posteriors) > 0).all()


@pytest.mark.variations(4, 100)
@pytest.mark.parametrize("params", ["stmcw", "stcw", "stm", "stw"])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_fall_that_the_prior_does_not_explain_would_be_an_error(covariance_type: str, params: str) -> None:
    """From the maximum of the likelihood, which falls at the first step."""
    x = rows()
    free = with_attributes(GMMHMM(K, M, covariance_type, init_params=""), mixture_start(covariance_type))
    free.set_params(n_iter=30, tol=0)
    fitted_quietly(free, x, LENGTHS)
    model = mixture(covariance_type, n_iter=40, params=params)
    with_attributes(model, {name: getattr(free, name) for name in NAMES})
    before = model.score(x, LENGTHS)
    fitted_quietly(model, x, LENGTHS)
    assert model.lower_bounds_[0] * len(x) < before


def whole_step(weight: float, seen: float) -> float:
    return 1.0


def test_what_priors_survive(tmp_path: Path) -> None:
    x, path = rows(), tmp_path / "c.npz"
    whole = fitted_quietly(mixture("tied"), x, LENGTHS)
    for iterations in (7, 20):
        resumed = fitted_quietly(mixture("tied", n_iter=iterations), x, LENGTHS, checkpoint=path)
    assert state_of(resumed).params == state_of(whole).params
    for name in GMMHMM.face.priors:
        with pytest.raises(CheckpointMismatchError, match="priors"):
            mixture("tied", **{name: 2.0 * mixture_priors("tied")[name]}).fit(x, LENGTHS, checkpoint=path)
    whole.save(tmp_path / "m.npz")
    loaded = GMMHMM.load(tmp_path / "m.npz")
    for model in (whole, loaded):
        model.partial_fit(x[:300])
    assert state_of(loaded).params == state_of(whole).params


@pytest.mark.parametrize("changed", [{"weights_prior": 90.0}, {"means_weight": 200.0}], ids=str)
def test_priors_that_are_changed_after_a_fit_are_those_of_the_next_step(
    changed: dict[str, float], tmp_path: Path
) -> None:
    """Though what the fit found out of the data is remembered."""
    x = rows()
    model = fitted_quietly(mixture("diag"), x, LENGTHS)
    model.save(tmp_path / "m.npz")
    same, loaded = GMMHMM.load(tmp_path / "m.npz"), GMMHMM.load(tmp_path / "m.npz").set_params(**changed)
    for one in (model.set_params(**changed), same, loaded):
        one.partial_fit(x[:300])
    assert state_of(model).params == state_of(loaded).params
    assert state_of(model).params != state_of(same).params


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_mini_batch_of_everything_counts_the_prior_as_a_pass_does(covariance_type: str) -> None:
    x = rows()
    rule = StepwiseEM(whole_step, passes=1, batch_rows=10**6, averaging=0)
    batch, other = (
        fitted_quietly(mixture(covariance_type, n_iter=1), x, LENGTHS, algorithm=algorithm)
        for algorithm in ("batch", rule)
    )
    for name in NAMES[2:]:
        np.testing.assert_allclose(getattr(other, name), getattr(batch, name), rtol=1e-11, atol=1e-13)


WRONG: dict[str, tuple[str, Any]] = {
    "weights below 1": ("weights_prior has values down to 0.5", lambda: mixture("diag", weights_prior=0.5)),
    "weights of states": (r"or \(3, 2\)", lambda: mixture("diag", weights_prior=[2.0, 1.0, 2.0])),
    "alpha": (r"covars_prior has values down to -2.0; they must be >= -1.5", lambda: mixture("diag", covars_prior=-2)),
    "beta": (r"covars_weight has values down to -1.0; they must be >= 0", lambda: mixture("diag", covars_weight=-1)),
    "nu": (r"covars_weight has values down to -9.0; they must be >= -5", lambda: mixture("tied", covars_weight=-9)),
    "psi": ("symmetric, positive semidefinite", lambda: mixture("full", covars_prior=-np.eye(D))),
    "means": ("means_prior must hold an array", lambda: mixture("full", means_prior="here")),
    "pull": ("means_weight holds nan", lambda: mixture("full", means_weight=np.nan)),
    "parts": ("n_mix is 1.5", lambda: mixture("tied").set_params(n_mix=1.5)),
    "kind": ("covariance_type is 'round'", lambda: mixture("tied").set_params(covariance_type="round")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_prior_is_refused(name: str) -> None:
    words, make = WRONG[name]
    with pytest.raises(ParameterError, match=words):
        make().fit(rows())
