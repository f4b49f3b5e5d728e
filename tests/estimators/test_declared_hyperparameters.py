"""Hyperparameters that are declared once: the signature that users see, and what scikit-learn makes of it."""

from __future__ import annotations

import inspect
from dataclasses import field, is_dataclass
from typing import Any

import pytest
from sklearn.base import BaseEstimator, clone

from streamem import GMMHMM, HMM, BernoulliHMM, CategoricalHMM, GaussianHMM, PoissonHMM
from streamem.estimators.declaring import hyperparameters
from streamem.families import Poisson

CHAIN = ("startprob_prior", "transmat_prior")
RUN = (
    *("algorithm", "random_state", "n_iter", "tol", "verbose", "params", "init_params", "start", "n_init"),
    *("topology", "tied_transitions", "transition_covariates", "durations", "max_duration"),
    *("stopping", "missing", "n_threads", "memory_limit", "chunk_bytes"),
)
WITH_CODES = (*RUN[:-3], "unseen", *RUN[-3:])
GAUSSIAN = ("means_prior", "means_weight", "covars_prior", "covars_weight")
SIGNATURES: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {
    GaussianHMM: (("n_components", "covariance_type"), ("reg_covar", *CHAIN, *GAUSSIAN, *RUN)),
    GMMHMM: (("n_components", "n_mix", "covariance_type"), ("reg_covar", *CHAIN, "weights_prior", *GAUSSIAN, *RUN)),
    CategoricalHMM: (("n_components",), ("n_categories", "emissionprob_prior", *CHAIN, *WITH_CODES)),
    PoissonHMM: (("n_components",), (*CHAIN, "lambdas_prior", "lambdas_weight", *RUN)),
    BernoulliHMM: (("n_components",), (*CHAIN, *RUN)),
    HMM: (("family", "n_components"), (*CHAIN, *WITH_CODES)),
}
LETTERS = {GaussianHMM: "stmc", GMMHMM: "stmcw", PoissonHMM: "stl"}


@pytest.mark.parametrize("kind", SIGNATURES, ids=lambda kind: kind.__name__)
def test_the_signature_is_in_the_order_of_hmmlearn(kind: Any) -> None:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    by_position = tuple(one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD)
    by_keyword = tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
    assert (by_position, by_keyword) == SIGNATURES[kind]
    assert tuple(one.name for one in parameters) == (*by_position, *by_keyword)


@pytest.mark.parametrize("kind", SIGNATURES, ids=lambda kind: kind.__name__)
def test_defaults_are_stored_and_cloned(kind: Any) -> None:
    model = kind(Poisson(), 3) if kind is HMM else kind(3)
    assert model.get_params()["params"] == LETTERS.get(kind, "ste")
    assert model.start == ("random" if kind in (CategoricalHMM, BernoulliHMM) else "kmeans")
    again = clone(model.set_params(n_iter=7, tol=0.5))
    assert again.get_params(deep=False).keys() == model.get_params(deep=False).keys()
    assert (again.n_components, again.n_iter, again.tol) == (3, 7, 0.5)
    assert "n_iter=7" in repr(again)


def test_no_estimator_is_a_dataclass() -> None:
    # Dask takes two dataclasses of equal fields for the same, also where they are fitted to other data.
    assert not any(is_dataclass(kind) for kind in SIGNATURES)


def test_own_declarations_join_those_of_the_bases() -> None:
    @hyperparameters()
    class Base(BaseEstimator):
        first: float = 1.0
        second: str = "b"
        fitted_: int = field(init=False)

    @hyperparameters(priors=("third",), behind="first")
    class Own(Base):
        zeroth: int = field(default=0, kw_only=False)
        third: float = 3.0
        second: str = "own"

    own = Own(5, third=2.0)
    assert list(inspect.signature(Own).parameters) == ["zeroth", "first", "third", "second"]
    assert (own.zeroth, own.first, own.second, own.third) == (5, 1.0, "own", 2.0)
    assert Base().second == "b"
    assert not hasattr(own, "fitted_")
    with pytest.raises(TypeError, match="positional"):
        Own(5, 1.0)  # type: ignore[misc]


def test_what_has_no_default_must_be_passed() -> None:
    with pytest.raises(TypeError, match="family"):
        HMM()  # type: ignore[call-arg]
