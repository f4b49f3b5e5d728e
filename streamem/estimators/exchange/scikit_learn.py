"""Gaussian mixtures as scikit-learn's, and scikit-learn's as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from streamem.core.errors import ParameterError
from streamem.estimators.attributes import shown_facts, shown_parameters
from streamem.estimators.exchange.adopting import adopted
from streamem.machine.importing import import_whole
from streamem.running.fitted import Fitted

SHARED = (
    "n_components",
    "covariance_type",
    "tol",
    "reg_covar",
    "max_iter",
    "n_init",
    "init_params",
    "weights_init",
    "means_init",
    "precisions_init",
    "random_state",
    "warm_start",
    "verbose",
    "verbose_interval",
)
"""Hyperparameters that both have, with equal meaning."""

STARTS = "kmeans", "k-means++", "random", "random_from_data"
"""scikit-learn's own; a copy whose start has none of these names begins as by default, if it is fitted anew."""

OF_A_LIST = re.compile(r".+\[\d+\]")
PARAMETERS = ("weights_", "means_", "precisions_cholesky_")


def as_scikit_learn(settings: Any, fitted: Fitted) -> Any:
    """A `sklearn.mixture.GaussianMixture` with the parameters of a fitted mixture.

    Raises
    ------
    ParameterError : a mixture with noise, which scikit-learn has not
    """
    if settings.noise:
        raise ParameterError(
            "noise=True: scikit-learn has no component of constant density, so no copy could answer alike; fit with "
            "noise=False, or save() the model: its file can be read with NumPy alone"
        )
    given = {name: getattr(settings, name) for name in SHARED}
    if given["init_params"] not in STARTS:
        given["init_params"] = "kmeans"
    theirs = _library().GaussianMixture(**given)
    assert fitted.state is not None
    assert fitted.shape is not None
    shown = {**shown_facts(fitted), **shown_parameters(settings, fitted.state.params, fitted.shape.dtype)}
    shown.pop("report_", None)
    shown.pop("stream_positions_", None)
    return with_attributes(theirs, shown)


def with_attributes(theirs: Any, shown: Mapping[str, Any]) -> Any:
    """An object of scikit-learn with copies of fitted attributes.

    Names of features go along where a frame can have such columns: not those of the values of lists ("e[0]", "e[1]"),
    which are passed as an array, of which scikit-learn would warn in every call.
    """
    for name, value in shown.items():
        if name != "feature_names_in_" or not all(map(OF_A_LIST.fullmatch, value)):
            setattr(theirs, name, value.copy() if isinstance(value, np.ndarray) else value)
    return theirs


def take_over(settings: Any, theirs: Any) -> Fitted:
    """What is fitted in a `sklearn.mixture.GaussianMixture`, for an estimator with its hyperparameters.

    Raises
    ------
    ParameterError : parameters that contradict each other
    """
    for name in PARAMETERS:
        setattr(settings, name, np.array(getattr(theirs, name)))
    bounds = [float(value) for value in getattr(theirs, "lower_bounds_", ())]  # each before an M-step, as in a trace
    facts = {
        "iteration": int(getattr(theirs, "n_iter_", 0)),
        "converged": bool(getattr(theirs, "converged_", False)),
        "trace": tuple(bounds) if np.isfinite(bounds).all() else (),
    }
    names = getattr(theirs, "feature_names_in_", None)
    return adopted(settings, names, facts, "taken over from scikit-learn")


def hyperparameters_of(theirs: Any) -> dict[str, Any]:
    """The hyperparameters of a fitted `sklearn.mixture.GaussianMixture`.

    Raises
    ------
    ParameterError : another class, or a Bayesian mixture, which no mixture with one set of parameters equals
    NotFittedError : it is not fitted
    """
    library = _library()
    if isinstance(theirs, library.BayesianGaussianMixture):
        raise ParameterError(
            "a BayesianGaussianMixture averages densities over a posterior of the parameters, so no GaussianMixture "
            "has its densities; fit GaussianMixture(weight_concentration_prior=..., mean_prior=..., ...), which finds "
            "the posterior's mode, or set weights_, means_ and precisions_cholesky_ to its point estimates"
        )
    if not isinstance(theirs, library.GaussianMixture):
        raise ParameterError(f"a fitted sklearn.mixture.GaussianMixture is needed, not {type(theirs).__name__}")
    check_is_fitted(theirs)
    return {name: getattr(theirs, name) for name in SHARED}


def _library() -> Any:
    """scikit-learn's mixtures, imported when they are asked for: it takes a while."""
    return import_whole("sklearn.mixture")
