"""The golden cases: small fits of every family, model, algorithm and path that a fit can take.

Only public names of streamem are used, so that any version can run them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning

from golden.data_sets import DataSet, data_set
from streamem import (
    GMMHMM,
    HMM,
    AutoregressiveGaussian,
    Bernoulli,
    BernoulliHMM,
    Categorical,
    CategoricalHMM,
    Gaussian,
    GaussianHMM,
    GaussianMixture,
    Mixture,
    MixtureFamily,
    Params,
    Poisson,
    PoissonHMM,
    Stats,
)
from streamem.algorithms import IncrementalEM, StepwiseEM

Array = np.ndarray[Any, Any]
Learn = Callable[[Any, DataSet], object]

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


class OwnPoisson:
    """A user's own family: the three functions, and nothing else."""

    def log_prob(self, p: Params, x: Array) -> Array:
        """Log-densities (n, K)."""
        return np.asarray(x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True))

    def stats(self, p: Params, x: Array, resp: Array) -> Stats:
        """Weights and sums of each component."""
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        """Means."""
        return Params(rates=s.x / s.weight[:, None])


@dataclass(frozen=True)
class Case:
    """One fit: an estimator, its data, and how it learns from them."""

    estimator: Callable[[], Any]
    data: str
    dtype: str = "float64"
    learn: Learn = lambda estimator, data: estimator.fit(data.x, **data.options)

    def run(self) -> tuple[Any, DataSet]:
        """The fitted estimator, and the data about which it is asked."""
        estimator, data = self.estimator(), data_set(self.data, self.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.learn(estimator, data)
        return estimator, data


# --- ways to learn ---------------------------------------------------------------------------------------------------


def by(algorithm: Any) -> Learn:
    """`fit` with an algorithm."""
    return lambda estimator, data: estimator.fit(data.x, **data.options, algorithm=algorithm)


STEPWISE = by(StepwiseEM(passes=2, batch_rows=100))
INCREMENTAL = by(IncrementalEM(blocks=5, max_iter=3))


def weighed(estimator: Any, data: DataSet) -> None:
    """`fit` with weights, some of them zero."""
    estimator.fit(data.x, sample_weight=np.arange(len(data.x)) % 5 / 3, **data.options)


def warm(estimator: Any, data: DataSet) -> None:
    """Two fits of the same rows, and one of others, each going on from the one before."""
    for rows in (data.x, data.x, data.x[: len(data.x) // 2]):
        estimator.fit(rows)


def in_batches(estimator: Any, data: DataSet, **options: Any) -> None:
    """`partial_fit`, from nothing on; the first batch is too small to make a start of."""
    for batch in np.split(data.x, [5, 200, 500, 507]):
        estimator.partial_fit(batch, **options)


def after_a_fit(estimator: Any, data: DataSet) -> None:
    """`partial_fit` that goes on from `fit`."""
    estimator.fit(data.x[:600]).partial_fit(data.x[600:900]).partial_fit(data.x[900:], half_life=500)


def streamed(estimator: Any, data: DataSet, **options: Any) -> None:
    """`fit_stream` over ragged messages."""
    estimator.fit_stream(np.array_split(data.x, 13), batch_rows=150, **options)


def in_sequences(estimator: Any, data: DataSet) -> None:
    """`partial_fit` with one sequence or two in each batch."""
    for rows, lengths in ((data.x[:751], [400, 351]), (data.x[751:], [250])):
        estimator.partial_fit(rows, lengths)


def endless(estimator: Any, data: DataSet) -> None:
    """`partial_fit` along one sequence that goes on."""
    for batch in np.split(data.x, [300, 450, 700]):
        estimator.partial_fit(batch, continued=True)


def given_start(estimator: Any, data: DataSet) -> None:
    """A hidden Markov model with its start set by hand, one transition of which is impossible."""
    estimator.transmat_ = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    estimator.means_ = np.array([[0.0, 1], [2, -1], [4, 2]])
    estimator.fit(data.x, **data.options)


# --- estimators ------------------------------------------------------------------------------------------------------

MIXED = {"max_iter": 6, "tol": 0.0, "random_state": 0, "chunk_bytes": 4096, "init_params": "random_from_data"}
CHAIN = {"n_iter": 5, "tol": 0.0, "random_state": 0, "chunk_bytes": 2048}


def gmm(k: int, covariance_type: str = "full", n_threads: int = 2, **settings: Any) -> Callable[[], GaussianMixture]:
    """A Gaussian mixture of few iterations over many small chunks."""
    settings = {**MIXED, "covariance_type": covariance_type, "n_threads": n_threads, **settings}
    return partial(GaussianMixture, k, **settings)


def mix(family: Callable[[], Any], k: int, n_threads: int = 2, **settings: Any) -> Callable[[], Mixture]:
    """A mixture of that family."""
    return lambda: Mixture(family(), k, n_threads=n_threads, **{**MIXED, **settings})


def chain(make: Callable[..., Any], *arguments: Any, n_threads: int = 2, **settings: Any) -> Callable[[], Any]:
    """A hidden Markov model of few iterations over many small chunks."""
    return lambda: make(*arguments, n_threads=n_threads, **{**CHAIN, **settings})


def _gaussian_mixtures() -> Iterator[tuple[str, Case]]:
    for kind in COVARIANCE_TYPES:
        for dtype, n_threads in (("float64", 2), ("float32", 1)):
            yield f"{kind}, {dtype}", Case(gmm(3, kind, n_threads), "overlapping", dtype)
    yield "full, float64, one thread", Case(gmm(3, n_threads=1), "overlapping")
    yield "full, float32, two threads", Case(gmm(3), "overlapping", "float32")
    yield "full, eleven chunks", Case(gmm(3, chunk_bytes=4500), "overlapping")  # three subtrees of unequal size
    yield "diag, one chunk", Case(gmm(3, "diag", chunk_bytes=None), "overlapping")
    yield "weights", Case(gmm(3, stopping="aitken", tol=1e-3, max_iter=40), "overlapping", learn=weighed)
    yield "best of two k-means starts", Case(gmm(3, n_init=2, init_params="kmeans", max_iter=3), "overlapping")
    yield "k-means++", Case(gmm(4, "diag", init_params="k-means++"), "overlapping", "float32")
    yield "random responsibilities", Case(gmm(3, "tied", init_params="random"), "overlapping")
    start = {"weights_init": [0.5, 0.5], "means_init": [[0.0, 0, 0, 0], [3, 6, 0.3, 90]]}
    yield "given start", Case(gmm(2, **start, precisions_init=np.array([np.eye(4)] * 2)), "overlapping")
    yield "warm starts", Case(gmm(3, warm_start=True, max_iter=3), "overlapping", learn=warm)
    for kind, dtype in (("full", "float64"), ("diag", "float32"), ("tied", "float64")):
        yield f"{kind}, stepwise, {dtype}", Case(gmm(3, kind), "overlapping", dtype, STEPWISE)
    for kind, dtype in (("tied", "float64"), ("spherical", "float32"), ("full", "float32")):
        yield f"{kind}, incremental, {dtype}", Case(gmm(3, kind, 1), "overlapping", dtype, INCREMENTAL)
    yield "full, partial_fit", Case(gmm(3), "overlapping", learn=in_batches)
    yield (
        "diag, partial_fit, float32",
        Case(gmm(3, "diag"), "overlapping", "float32", partial(in_batches, half_life=300)),
    )
    yield "partial_fit after fit", Case(gmm(3), "overlapping", learn=after_a_fit)
    yield "full, fit_stream", Case(gmm(3), "overlapping", learn=streamed)
    yield (
        "spherical, fit_stream, float32",
        Case(gmm(3, "spherical"), "overlapping", "float32", partial(streamed, half_life=400, on_drift="reset")),
    )
    for kind in COVARIANCE_TYPES:
        for dtype in ("float64", "float32"):
            yield f"nine, {kind}, {dtype}", Case(gmm(9, kind, max_iter=3, chunk_bytes=30_000), "nine", dtype)
    for dtype in ("float64", "float32"):
        yield f"wide diag, {dtype}", Case(gmm(5, "diag", max_iter=3, chunk_bytes=60_000), "wide", dtype)
        tight = {"init_params": "kmeans", "reg_covar": 1e-12, "max_iter": 4, "chunk_bytes": 8192}
        yield f"tight, full, {dtype}", Case(gmm(3, **tight), "tight", dtype)
        yield f"tight, diag, {dtype}", Case(gmm(3, "diag", **tight), "tight", dtype)
        many = {"init_params": "kmeans", "max_iter": 4, "chunk_bytes": 100_000}
        yield f"many, full, {dtype}", Case(gmm(24, **many), "many", dtype)
        yield f"many, diag, {dtype}", Case(gmm(24, "diag", **many), "many", dtype)
    yield "tight, tied", Case(gmm(2, "tied", init_params="kmeans", reg_covar=1e-12), "tight")


def _mixtures() -> Iterator[tuple[str, Case]]:
    parts = lambda kind: lambda: MixtureFamily(Gaussian(kind), 2)  # noqa: E731
    yield "Poisson", Case(mix(Poisson, 3), "counts")
    yield "Poisson, stepwise", Case(mix(Poisson, 3), "counts", learn=STEPWISE)
    yield "Poisson, partial_fit", Case(mix(Poisson, 3), "counts", learn=in_batches)
    yield "Poisson, fit_stream", Case(mix(Poisson, 3), "counts", learn=streamed)
    yield "Bernoulli", Case(mix(Bernoulli, 2), "answers", "float32")
    yield "Bernoulli, incremental", Case(mix(Bernoulli, 9, n_threads=1), "answers", learn=INCREMENTAL)
    yield "Categorical", Case(mix(Categorical, 3, init_params="random"), "codes")
    yield (
        "Categorical, incremental",
        Case(mix(partial(Categorical, [4, 3, 5], prior=1.5), 3), "codes", learn=INCREMENTAL),
    )
    yield "AutoregressiveGaussian", Case(mix(partial(AutoregressiveGaussian, lag=1), 2), "lagged")
    yield "MixtureFamily, full", Case(mix(parts("full"), 2), "overlapping")
    yield "MixtureFamily, diag, float32", Case(mix(parts("diag"), 2), "overlapping", "float32")
    yield "Gaussian, aitken", Case(mix(lambda: Gaussian("diag"), 2, tol=1e-2, max_iter=50), "overlapping")
    yield "own family", Case(mix(OwnPoisson, 3, init_params="random"), "counts")
    yield "own family, one thread", Case(mix(OwnPoisson, 3, 1, init_params="random"), "counts")
    yield "own family, stepwise", Case(mix(OwnPoisson, 3, init_params="random"), "counts", learn=STEPWISE)
    yield "own family, partial_fit", Case(mix(OwnPoisson, 2), "counts", learn=in_batches)


def _chains() -> Iterator[tuple[str, Case]]:
    for n_threads, kind in enumerate(COVARIANCE_TYPES):
        yield f"Gaussian, {kind}", Case(chain(GaussianHMM, 3, kind, n_threads=1 + n_threads % 2), "series")
    yield "Gaussian, diag, float32", Case(chain(GaussianHMM, 3), "series", "float32")
    yield "Gaussian, diag, seven chunks", Case(chain(GaussianHMM, 3, chunk_bytes=2400), "series")
    yield "Gaussian, diag, one thread", Case(chain(GaussianHMM, 3, n_threads=1), "series")
    yield "Gaussian, full, gaps", Case(chain(GaussianHMM, 3, "full"), "gaps")
    yield "Gaussian, one sequence of many chunks", Case(chain(GaussianHMM, 2, "full"), "one series")
    yield (
        "Gaussian, given start",
        Case(chain(GaussianHMM, 3, init_params="sc", params="stc"), "series", learn=given_start),
    )
    yield "Gaussian, outlier", Case(chain(GaussianHMM, 3, init_params="sc"), "outlier", learn=given_start)
    priors = {"means_weight": 3.0, "covars_prior": 1.0, "covars_weight": 4.0, "transmat_prior": 2.0}
    yield "Gaussian, priors", Case(chain(GaussianHMM, 3, **priors), "series")
    yield "Gaussian, left-right", Case(chain(GaussianHMM, 3, topology="left-right"), "series")
    yield "Gaussian, tied transitions", Case(chain(GaussianHMM, 3, tied_transitions=[[0, 1]], n_init=2), "series")
    yield "Gaussian, stepwise", Case(chain(GaussianHMM, 3, "full"), "series", learn=STEPWISE)
    yield "Gaussian, incremental, float32", Case(chain(GaussianHMM, 3), "series", "float32", by(IncrementalEM(3)))
    yield "Gaussian, partial_fit", Case(chain(GaussianHMM, 3), "series", learn=in_sequences)
    yield "Gaussian, endless", Case(chain(GaussianHMM, 2), "one series", learn=endless)
    yield "Gaussians' mixtures, diag", Case(chain(GMMHMM, 2, 2), "series")
    yield "Gaussians' mixtures, full, float32", Case(chain(GMMHMM, 2, 2, "full", n_threads=1), "series", "float32")
    yield "Gaussians' mixtures, tied, gaps", Case(chain(GMMHMM, 2, 2, "tied"), "gaps")
    yield "Gaussians' mixtures, stepwise", Case(chain(GMMHMM, 2, 2, "spherical"), "series", learn=STEPWISE)
    yield "Categorical", Case(chain(CategoricalHMM, 2), "symbols")
    yield "Categorical, incremental", Case(chain(CategoricalHMM, 2), "symbols", learn=by(IncrementalEM(3)))
    yield "Poisson", Case(chain(PoissonHMM, 2), "counted series")
    yield "Poisson, prior", Case(chain(PoissonHMM, 2, lambdas_prior=3.0, lambdas_weight=2.0), "counted series")
    yield "Poisson, stepwise", Case(chain(PoissonHMM, 2), "counted series", learn=STEPWISE)
    yield "Poisson, partial_fit", Case(chain(PoissonHMM, 2), "counted series", learn=in_sequences)
    yield "Bernoulli", Case(chain(BernoulliHMM, 2), "answered series")
    yield "Bernoulli, partial_fit", Case(chain(BernoulliHMM, 2), "answered series", learn=in_sequences)
    yield "AutoregressiveGaussian", Case(chain(HMM, AutoregressiveGaussian(lag=1), 2), "regimes")
    yield "MixtureFamily of Poisson", Case(chain(HMM, MixtureFamily(Poisson(), 2), 2), "counted series")
    yield "own family", Case(chain(HMM, OwnPoisson(), 2), "counted series")
    yield "own family, stepwise", Case(chain(HMM, OwnPoisson(), 2), "counted series", learn=STEPWISE)


def _named() -> Iterator[tuple[str, Case]]:
    for kind, cases in (("GaussianMixture", _gaussian_mixtures), ("Mixture", _mixtures), ("HMM", _chains)):
        for name, case in cases():
            yield f"{kind}: {name}", case


CASES: dict[str, Case] = dict(_named())

OTHER_VECTORS = [
    name for name in CASES if any(word in name for word in (": nine,", ": many,", "Bernoulli, incremental"))
]
"""Cases of eight components and more: for those, long vectors (AVX-512) and short ones are different code."""
