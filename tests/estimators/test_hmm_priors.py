"""Priors of emissions: hmmlearn's M-step from the same start, a monotone posterior, and what a prior survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from hmmlearn import hmm as oracle
from scipy.stats import invgamma, invwishart, norm
from sklearn.base import clone

from helpers.fitted_states import state_of
from helpers.hmm_starts import LENGTHS, Array, D, K, chain, fitted_quietly, gaussian_start, rows, with_attributes
from streamem import GaussianHMM, PoissonHMM
from streamem.algorithms import IncrementalEM, StepwiseEM
from streamem.core.errors import CheckpointMismatchError, ParameterError

THEIRS: dict[str, Any] = {"init_params": "", "n_iter": 20, "tol": -np.inf}
OURS: dict[str, Any] = {"init_params": "", "n_iter": 20, "tol": 0, "random_state": 0}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
TYPES = ["diag", "full", "tied", "spherical"]
CUTTING = 16 * 37
"""Bytes of a chunk of 37 steps."""


def gaussian_priors(covariance_type: str, seed: int = 8) -> dict[str, Any]:
    """Priors that weigh about as much as the rows of a state."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(K, D, D))
    full = 50 * (root @ np.swapaxes(root, 1, 2) + np.eye(D))
    full = (full + np.swapaxes(full, 1, 2)) / 2
    scatter = {"full": full, "tied": full[0], "diag": rng.uniform(40, 90, (K, D)), "spherical": rng.uniform(40, 90, K)}
    return {
        "means_prior": gaussian_start("diag")["means_"] + 0.7 * rng.normal(size=(K, D)),
        "means_weight": 37.5,
        "covars_prior": scatter[covariance_type],
        "covars_weight": 60.0,
    }


def as_hmmlearn(priors: dict[str, Any]) -> dict[str, Any]:
    """Numbers for each state have two axes there."""
    return {name: value[:, None] if np.shape(value) == (K,) else value for name, value in priors.items()}


def gaussian(covariance_type: str, **settings: Any) -> GaussianHMM:
    """With priors, from a start that is given."""
    chosen = {**OURS, **gaussian_priors(covariance_type), **settings}
    return with_attributes(GaussianHMM(K, covariance_type, **chosen), gaussian_start(covariance_type))


def own_covars(theirs: Any) -> Array:
    """Full matrices; hmmlearn cannot show spherical ones that it has fitted."""
    if theirs.covariance_type != "spherical":
        return np.asarray(theirs.covars_)
    return np.stack([np.diag(variances) for variances in theirs._covars_])


def poisson_data() -> tuple[dict[str, Array], Array]:
    """A start, and counts."""
    rng = np.random.default_rng(3)
    startprob, transmat = chain(rng)
    start = {"startprob_": startprob, "transmat_": transmat, "lambdas_": rng.uniform(1, 9, (K, D))}
    return start, rng.poisson(start["lambdas_"][rng.integers(K, size=sum(LENGTHS))])


def poisson_priors() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    return {"lambdas_prior": rng.uniform(5, 900, (K, D)), "lambdas_weight": rng.uniform(5, 100, (K, 1))}


# --- beside hmmlearn -------------------------------------------------------------------------------------------------


@pytest.mark.variations(2, 8)
@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("chunk_bytes", [None, CUTTING])
def test_gaussian(covariance_type: str, chunk_bytes: int | None) -> None:
    start, x = gaussian_start(covariance_type), rows()
    priors = as_hmmlearn(gaussian_priors(covariance_type))
    theirs = oracle.GaussianHMM(K, covariance_type, min_covar=0, **priors, **THEIRS)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = fitted_quietly(gaussian(covariance_type, chunk_bytes=chunk_bytes), x, LENGTHS)
    np.testing.assert_allclose(ours.covars_, own_covars(theirs), **CLOSE)
    for name in ("startprob_", "transmat_", "means_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), **CLOSE, err_msg=name)


@pytest.mark.variations(2, 8)
@pytest.mark.parametrize("priors", [{"covars_prior": 1e-2, "covars_weight": 1}, {"covars_prior": 7.0}], ids=str)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_numbers_serve_all(covariance_type: str, priors: dict[str, Any]) -> None:
    """hmmlearn's own defaults among them; a number fills the whole of a matrix there."""
    start, x = gaussian_start(covariance_type), rows()
    chosen = {"means_prior": 0, "means_weight": 0, "covars_prior": 0, "covars_weight": 0, **priors}
    theirs = oracle.GaussianHMM(K, covariance_type, min_covar=0, **chosen, **THEIRS)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = fitted_quietly(gaussian(covariance_type, **chosen), x, LENGTHS)
    np.testing.assert_allclose(ours.covars_, own_covars(theirs), **CLOSE)
    np.testing.assert_allclose(ours.means_, theirs.means_, **CLOSE)


@pytest.mark.variations(2, 100)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_means_alone(covariance_type: str) -> None:
    """Covariances are held; that of means which are held, hmmlearn takes about nothing at all."""
    start, x = gaussian_start(covariance_type), rows()
    priors = as_hmmlearn(gaussian_priors(covariance_type))
    theirs = oracle.GaussianHMM(K, covariance_type, min_covar=0, params="stm", **priors, **THEIRS)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = fitted_quietly(gaussian(covariance_type, params="stm"), x, LENGTHS)
    np.testing.assert_allclose(ours.means_, theirs.means_, **CLOSE)
    np.testing.assert_allclose(ours.transmat_, theirs.transmat_, **CLOSE)


def test_poisson() -> None:
    start, x = poisson_data()
    priors = poisson_priors()
    theirs = with_attributes(oracle.PoissonHMM(K, **priors, **THEIRS), start).fit(x, LENGTHS)
    ours = fitted_quietly(with_attributes(PoissonHMM(K, **priors, **OURS), start), x, LENGTHS)
    for name in ("startprob_", "transmat_", "lambdas_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), **CLOSE, err_msg=name)


def test_a_state_without_rows_goes_where_the_priors_say() -> None:
    """As in hmmlearn, and its covariance, too."""
    start, x = gaussian_start("diag"), rows()
    start["startprob_"], start["transmat_"] = (
        np.array([0.5, 0.5, 0]),
        np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 1]]),
    )
    priors = gaussian_priors("diag")
    theirs = oracle.GaussianHMM(K, "diag", min_covar=0, params="mc", **priors, **THEIRS)
    theirs = with_attributes(theirs, start).fit(x, LENGTHS)
    ours = fitted_quietly(with_attributes(gaussian("diag", params="mc"), start), x, LENGTHS)
    np.testing.assert_allclose(ours.means_, theirs.means_, **CLOSE)
    np.testing.assert_allclose(ours.covars_, theirs.covars_, **CLOSE)
    np.testing.assert_allclose(ours.means_[2], priors["means_prior"][2])
    without = fitted_quietly(with_attributes(gaussian("diag", params="mc", means_weight=0, covars_weight=0), start), x)
    np.testing.assert_allclose(without.means_[2], start["means_"][2])
    np.testing.assert_allclose(np.diag(without.covars_[2]), start["covars_"][2])


# --- the objective ---------------------------------------------------------------------------------------------------


def log_prior(model: GaussianHMM) -> float:
    """By SciPy, up to a constant: hmmlearn's M-step with degrees of freedom to suit."""
    priors, count = (
        gaussian_priors(model.covariance_type),
        60.0 - (D if model.covariance_type in ("full", "tied") else 1),
    )
    variances, total = np.diagonal(model.covars_, axis1=1, axis2=2), 0.0
    for k in range(K):
        off = model.means_[k] - priors["means_prior"][k]
        if model.covariance_type == "full":  # of N(m | m₀, Σ/w) the factor |Σ|^(−1/2) belongs to the other
            total += invwishart(count - D - 1, priors["covars_prior"][k]).logpdf(model.covars_[k])
            total -= 37.5 / 2 * off @ np.linalg.solve(model.covars_[k], off)
        else:
            scatter = priors["covars_prior"][k]
            total += invgamma(count / 2 - 1, scale=scatter / 2).logpdf(variances[k]).sum()
            total += norm(0, np.sqrt(variances[k] / 37.5)).logpdf(off).sum() + np.log(variances[k]).sum() / 2
    return total


@pytest.mark.parametrize("covariance_type", ["diag", "full"])
def test_the_posterior_rises_at_every_iteration(covariance_type: str) -> None:
    """Where the likelihood falls: from its own maximum."""
    x, model = rows(), gaussian(covariance_type, n_iter=1)
    free = with_attributes(GaussianHMM(K, covariance_type, init_params=""), gaussian_start(covariance_type))
    free.fit(x, LENGTHS)
    with_attributes(model, {name: getattr(free, name) for name in ("startprob_", "transmat_", "means_", "covars_")})
    likelihoods, posteriors = [], []
    for _ in range(12):
        likelihoods.append(model.score(x, LENGTHS))
        posteriors.append(likelihoods[-1] + log_prior(model))
        fitted_quietly(model, x, LENGTHS)
    assert (np.diff(posteriors) > 0).all()
    assert np.diff(likelihoods)[0] < -0.1


@pytest.mark.variations(2, 4)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_em_may_run_until_it_rests(covariance_type: str) -> None:
    """A fall that the prior does not explain would be an error."""
    x = rows()
    model = gaussian(covariance_type, n_iter=3000, tol=1e-7).fit(x, LENGTHS)
    start, y = poisson_data()
    counts = with_attributes(PoissonHMM(K, **{**OURS, "n_iter": 3000, "tol": 1e-7}, **poisson_priors()), start)
    assert model.converged_
    assert counts.fit(y, LENGTHS).converged_


# --- mini-batches ----------------------------------------------------------------------------------------------------


def whole_step(weight: float, seen: float) -> float:
    return 1.0


@pytest.mark.parametrize("rule", [StepwiseEM(whole_step, passes=1, batch_rows=10**6, averaging=0), IncrementalEM(1)])
def test_a_mini_batch_of_everything_counts_the_prior_as_a_pass_does(rule: Any) -> None:
    x, (start, y) = rows(), poisson_data()
    x[5] = np.nan
    fits = []
    for algorithm in ("batch", rule):
        one = fitted_quietly(gaussian("full", n_iter=1), x, LENGTHS, algorithm=algorithm)
        two = with_attributes(PoissonHMM(K, **{**OURS, "n_iter": 1}, **poisson_priors()), start)
        fits.append((one, fitted_quietly(two, y, LENGTHS, algorithm=algorithm)))
    (batch, counts), (other, other_counts) = fits
    for name in ("means_", "covars_"):
        np.testing.assert_allclose(getattr(other, name), getattr(batch, name), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(other_counts.lambdas_, counts.lambdas_, rtol=1e-11)


def test_batches_that_arrive_count_the_prior_in_proportion() -> None:
    """A prior of 1e6 rows holds the means wherever they come from; of no fit, nobody knows how much data there is."""
    x, priors = rows(2000), {"means_prior": 9.0, "means_weight": 1e6}
    model = fitted_quietly(GaussianHMM(2, random_state=0, n_iter=3, **priors), x)
    for first in range(0, 2000, 500):
        model.partial_fit(x[first : first + 500])
    np.testing.assert_allclose(model.means_, 9.0, rtol=1e-2)
    with pytest.raises(ParameterError, match="fit first"):
        GaussianHMM(2, random_state=0, **priors).partial_fit(x)


# --- what a prior survives -------------------------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path: Path) -> None:
    x, (start, y) = rows(), poisson_data()
    one = fitted_quietly(gaussian("full"), x, LENGTHS)
    two = fitted_quietly(with_attributes(PoissonHMM(K, **OURS, **poisson_priors()), start), y, LENGTHS)
    for model, data in ((one, x), (two, y)):
        model.save(tmp_path / "m.npz")
        loaded = type(model).load(tmp_path / "m.npz")
        for name in model.face.priors:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
        for both in (model, loaded):
            both.partial_fit(data[:300])
        assert state_of(loaded).params == state_of(model).params


def test_clones_have_the_priors() -> None:
    model, x = gaussian("diag"), rows()
    copied = with_attributes(clone(model), gaussian_start("diag"))
    assert state_of(fitted_quietly(copied, x)).params == state_of(fitted_quietly(model, x)).params
    model.set_params(means_weight=0.0, covars_weight=0.0, covars_prior=0.0)
    plain = with_attributes(GaussianHMM(K, "diag", **OURS), gaussian_start("diag"))
    again = with_attributes(model, gaussian_start("diag"))
    assert state_of(fitted_quietly(again, x)).params == state_of(fitted_quietly(plain, x)).params


@pytest.mark.parametrize("algorithm", ["batch", "stepwise"])
def test_runs_go_on_with_the_same_priors_only(algorithm: str, tmp_path: Path) -> None:
    x, path = rows(), tmp_path / "c.npz"
    whole = fitted_quietly(gaussian("diag"), x, LENGTHS, algorithm=algorithm)
    for iterations in (7, 20):
        resumed = gaussian("diag", n_iter=iterations)
        fitted_quietly(resumed, x, LENGTHS, algorithm=algorithm, checkpoint=path)
    assert state_of(resumed).params == state_of(whole).params
    for name in GaussianHMM.face.priors:
        with pytest.raises(CheckpointMismatchError, match="priors"):
            gaussian("diag", **{name: 61.0}).fit(x, LENGTHS, algorithm=algorithm, checkpoint=path)


@pytest.mark.slow
def test_threads_and_cluster_give_the_same_bits(client: Client) -> None:
    x, (start, y) = rows(), poisson_data()
    for algorithm in ("batch", "stepwise"):
        fits = []
        for executor in ("threads", client):
            settings = {"executor": executor, "algorithm": algorithm}
            one = fitted_quietly(gaussian("tied", chunk_bytes=16 * 150, n_iter=2), x, LENGTHS, **settings)
            two = PoissonHMM(K, chunk_bytes=16 * 150, **{**OURS, "n_iter": 2}, **poisson_priors())
            with_attributes(two, start)
            fits.append((state_of(one).params, state_of(fitted_quietly(two, y, LENGTHS, **settings)).params))
        assert fits[0] == fits[1]


# --- what is refused -------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, Any]] = {
    "words": ("means_prior must hold an array of numbers", lambda x: gaussian("diag", means_prior="low").fit(x)),
    "nothing": ("covars_prior holds nan; finite", lambda x: gaussian("diag", covars_prior=None).fit(x)),
    "NaN": ("means_weight holds nan", lambda x: gaussian("diag", means_weight=np.nan).fit(x)),
    "infinite": ("means_prior holds inf", lambda x: gaussian("diag", means_prior=np.inf).fit(x)),
    "negative weight": (
        r"means_weight has values down to -1.0; .* >= 0",
        lambda x: gaussian("diag", means_weight=-1).fit(x),
    ),
    "negative count": (r"covars_weight has values down to -2", lambda x: gaussian("full", covars_weight=-2).fit(x)),
    "negative scatter": (
        r"covars_prior has values down to -3",
        lambda x: gaussian("spherical", covars_prior=-3).fit(x),
    ),
    "four means": (
        r"means_prior has shape \(4, 2\); a number or \(3, 2\)",
        lambda x: gaussian("diag", means_prior=np.zeros((4, 2))).fit(x),
    ),
    "two weights": (
        r"means_weight has shape \(2,\); a number or \(3,\)",
        lambda x: gaussian("diag", means_weight=[1, 2]).fit(x),
    ),
    "weights of one covariance": (
        r"covars_weight has shape \(3,\); a number or \(\)",
        lambda x: gaussian("tied", covars_weight=[1, 2, 3]).fit(x),
    ),
    "skew": ("symmetric, positive semidefinite", lambda x: gaussian("full", covars_prior=[[1, 2], [0, 1]]).fit(x)),
    "indefinite": (r"smallest eigenvalue is -1", lambda x: gaussian("tied", covars_prior=[[1, 2], [2, 1]]).fit(x)),
    "negative rates": (r"lambdas_prior has values down to -1", lambda x: PoissonHMM(2, lambdas_prior=-1).fit(x)),
    "rates in words": ("lambdas_weight must hold", lambda x: PoissonHMM(2, lambdas_weight="much").fit(x)),
    "shape of rates": (
        r"\(2, 2\) are needed|or \(2, 2\)",
        lambda x: PoissonHMM(2, lambdas_prior=np.ones((3, 2))).fit(x),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_prior_is_refused(name: str) -> None:
    words, act = WRONG[name]
    with pytest.raises(ParameterError, match=words):
        act(rows())
