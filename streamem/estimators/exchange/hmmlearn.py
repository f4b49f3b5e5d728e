"""Hidden Markov models as hmmlearn's, and hmmlearn's as ours; hmmlearn is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from streamem.core.errors import MissingDependencyError, ParameterError
from streamem.estimators.exchange.adopting import adopted
from streamem.machine.importing import import_whole
from streamem.running.fitted import Fitted

CHAIN = ("startprob_", "transmat_")
SETTINGS = ("n_components", "startprob_prior", "transmat_prior", "algorithm", "random_state")
"""Hyperparameters that all have on both sides. Tolerances are in other units (total nats there, nats a row here)."""


@dataclass(frozen=True)
class Counterpart:
    """What is common to a class here and the class of that name in hmmlearn.

    Attributes
    ----------
    attributes : of the emissions
    settings : hyperparameters of the emissions with equal meaning
    """

    attributes: tuple[str, ...]
    settings: tuple[str, ...] = ()


COUNTERPARTS: Mapping[str, Counterpart] = MappingProxyType(
    {
        "GaussianHMM": Counterpart(
            ("means_", "covars_"),
            ("covariance_type", "means_prior", "means_weight", "covars_prior", "covars_weight"),
        ),
        "GMMHMM": Counterpart(
            ("weights_", "means_", "covars_"),
            (
                "n_mix",
                "covariance_type",
                "weights_prior",
                "means_prior",
                "means_weight",
                "covars_prior",
                "covars_weight",
            ),
        ),
        "CategoricalHMM": Counterpart(("emissionprob_",), ("emissionprob_prior",)),
        "PoissonHMM": Counterpart(("lambdas_",), ("lambdas_prior", "lambdas_weight")),
    }
)


def as_hmmlearn(settings: Any, fitted: Fitted) -> Any:
    """An object of hmmlearn's class of that name, with the parameters of a fitted hidden Markov model.

    Raises
    ------
    MissingDependencyError : hmmlearn is not installed
    ParameterError : a class that hmmlearn has not, or several columns of symbols
    """
    name, counterpart = _counterpart(type(settings).__name__)
    settings.structure.refuse(settings, "a copy for hmmlearn")
    hmm = _library()
    given = {option: getattr(settings, option) for option in (*SETTINGS, *counterpart.settings)}
    theirs = getattr(hmm, name)(**given, n_iter=settings.n_iter, verbose=bool(settings.verbose))
    assert fitted.shape is not None
    if name == "CategoricalHMM":
        if fitted.shape.features != 1:
            raise ParameterError(
                f"this CategoricalHMM emits {fitted.shape.features} columns of symbols, and hmmlearn's one; number the "
                "combinations of symbols, and fit that one column"
            )
        theirs.n_features = int(settings.emissionprob_.shape[1])
    else:
        theirs.n_features = fitted.shape.features
    for attribute in (*CHAIN, *counterpart.attributes):
        value = np.array(getattr(settings, attribute), dtype=np.float64)
        setattr(theirs, attribute, _in_their_shape(settings, attribute, value))
    return theirs


def hyperparameters_of(cls: type, theirs: Any) -> dict[str, Any]:
    """The hyperparameters of a fitted model of hmmlearn, for the class of its name here.

    Raises
    ------
    MissingDependencyError : hmmlearn is not installed
    ParameterError : a model of another class, or one that is not fitted
    """
    name, counterpart = _counterpart(cls.__name__)
    hmm = _library()
    if not isinstance(theirs, getattr(hmm, name)):
        found = type(theirs).__name__
        more = f"; use streamem.{found}.from_hmmlearn" if found in COUNTERPARTS else ""
        raise ParameterError(f"a fitted hmmlearn.hmm.{name} is needed, not {found}{more}")
    if lacking := [attribute for attribute in (*CHAIN, *counterpart.attributes) if not _has(theirs, attribute)]:
        raise ParameterError(f"the {name} of hmmlearn has no {', '.join(lacking)}; fit it, or set them")
    chosen = {option: getattr(theirs, option) for option in (*SETTINGS, *counterpart.settings)}
    if name == "CategoricalHMM":
        chosen["n_categories"] = int(np.shape(theirs.emissionprob_)[1])
    return chosen


def take_over(settings: Any, theirs: Any) -> Fitted:
    """The parameters of a fitted model of hmmlearn, as those of an estimator with its hyperparameters.

    Raises
    ------
    ParameterError : parameters that contradict each other
    """
    for attribute in (*CHAIN, *COUNTERPARTS[type(settings).__name__].attributes):
        setattr(settings, attribute, np.array(getattr(theirs, attribute), dtype=np.float64))
    monitor = getattr(theirs, "monitor_", None)
    facts = {"converged": bool(getattr(monitor, "converged", False)), "iteration": int(getattr(monitor, "iter", 0))}
    return adopted(settings, None, facts, "taken over from hmmlearn")


def _counterpart(name: str) -> tuple[str, Counterpart]:
    if name not in COUNTERPARTS:
        raise ParameterError(f"hmmlearn has no {name}; it has {', '.join(COUNTERPARTS)}")
    return name, COUNTERPARTS[name]


def _library() -> Any:
    try:
        return import_whole("hmmlearn.hmm")
    except ImportError as error:
        raise MissingDependencyError("models of hmmlearn need hmmlearn: pip install 'streamem[hmmlearn]'") from error


def _has(theirs: Any, attribute: str) -> bool:
    """Whether an attribute is there; properties of an unfitted model raise what they like."""
    try:
        return getattr(theirs, attribute) is not None
    except (AttributeError, ValueError, TypeError):
        return False


def _in_their_shape(settings: Any, attribute: str, value: Any) -> Any:
    """Covariances of a GaussianHMM, which it shows as full matrices, in the shape in which hmmlearn takes them."""
    if attribute != "covars_" or type(settings).__name__ != "GaussianHMM":
        return value
    kind = settings.covariance_type
    if kind == "full":
        return value
    if kind == "tied":
        return value[0]
    variances = np.diagonal(value, axis1=1, axis2=2).copy()
    return variances if kind == "diag" else variances[:, 0]
