"""The house of the estimators: how many classes, methods and private attributes each has, and what it can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import streamem
from helpers.users_model import blend
from streamem import (
    EM,
    GMMHMM,
    HMM,
    PPCA,
    BernoulliHMM,
    BernoulliMixture,
    CategoricalHMM,
    DawidSkene,
    FactorAnalysis,
    GammaMixture,
    GaussianHMM,
    GaussianMixture,
    GroupedMixture,
    ItemResponse,
    LatentClass,
    LinearGaussianChain,
    Mixture,
    MixtureOfFactorAnalyzers,
    MixtureOfRegressions,
    MixtureProportions,
    MultinomialMixture,
    NegativeBinomialMixture,
    PoissonHMM,
    PoissonMixture,
    RecordLinkage,
    StudentTMixture,
    VonMisesFisherMixture,
)
from streamem.estimators.estimator import Estimator
from streamem.families import Gaussian

MOST_CLASSES, MOST_METHODS, MOST_PRIVATE = 3, 50, 3

ABILITIES = (
    "fit",
    "fit_predict",
    "predict",
    "predict_proba",
    "score_samples",
    "score",
    "scores",
    "bic",
    "aic",
    "sample",
    "sample_to",
    "describe",
    "partial_fit",
    "fit_stream",
    "on_update",
    "history_",
    "expected_statistics",
    "maximize",
    "save",
    "load",
)

LACKING: dict[str, set[str]] = {"LinearGaussianChain": {"predict_proba"}}
"""What an estimator cannot have: a Gaussian state has no probabilities."""

X = np.concatenate([np.random.default_rng(seed).normal(5.0 * seed, 1.0, size=(60, 2)) for seed in (0, 1)])

ESTIMATORS: dict[str, Any] = {
    "GaussianMixture": GaussianMixture(2, random_state=0),
    "StudentTMixture": StudentTMixture(2, random_state=0),
    "Mixture": Mixture(Gaussian("diag"), 2, random_state=0),
    "GaussianHMM": GaussianHMM(2, random_state=0),
    "GMMHMM": GMMHMM(2, 2, random_state=0),
    "CategoricalHMM": CategoricalHMM(2, n_categories=2, random_state=0),
    "PoissonHMM": PoissonHMM(2, random_state=0),
    "BernoulliHMM": BernoulliHMM(2, random_state=0),
    "HMM": HMM(Gaussian("diag"), 2, random_state=0),
    "ItemResponse": ItemResponse(n_nodes=5),
    "LatentClass": LatentClass(2, n_categories=2, random_state=0),
    "MixtureProportions": MixtureProportions(scale="log", random_state=0),
    "RecordLinkage": RecordLinkage(n_levels=2, random_state=0),
    "DawidSkene": DawidSkene(random_state=0),
    "EM": EM(blend(), random_state=0),
    "LinearGaussianChain": LinearGaussianChain(1, tol=1.0, random_state=0),
    "GroupedMixture": GroupedMixture(Gaussian("diag"), 2, random_state=0),
    "PoissonMixture": PoissonMixture(2, random_state=0),
    "BernoulliMixture": BernoulliMixture(2, random_state=0),
    "GammaMixture": GammaMixture(2, random_state=0),
    "NegativeBinomialMixture": NegativeBinomialMixture(2, random_state=0),
    "MultinomialMixture": MultinomialMixture(2, random_state=0),
    "VonMisesFisherMixture": VonMisesFisherMixture(2, random_state=0),
    "FactorAnalysis": FactorAnalysis(1),
    "PPCA": PPCA(1),
    "MixtureOfFactorAnalyzers": MixtureOfFactorAnalyzers(2, random_state=0),
    "MixtureOfRegressions": MixtureOfRegressions(2, random_state=0),
}


def own_classes(cls: type) -> list[type]:
    """Classes of this package that an estimator inherits from, itself included."""
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] != "sklearn" and base is not object]


def own_methods(cls: type) -> list[str]:
    """Names of methods that one of these classes defines."""
    return [
        name
        for name in dir(cls)
        if callable(getattr(cls, name, None)) and any(name in vars(base) for base in own_classes(cls))
    ]


def private_state(estimator: Any) -> list[str]:
    """Private attributes of an object."""
    return [name for name in vars(estimator) if name.startswith("_")]


def trained(name: str) -> Any:
    """An estimator that was fitted, learned online and was followed."""
    model = unfitted(ESTIMATORS[name]).on_update(lambda update: None)
    x, told = rows(name), response(name)
    batches = [(x, told["y"])] if told else x if isinstance(x, list) else [x]
    return model.fit(x, **told).partial_fit(x, **told).fit_stream(batches, batch_rows=60)


def response(name: str) -> dict[str, Any]:
    """What `fit` takes besides: of regressions, a response."""
    return {"y": X[:, 0] + 0.1 * X[:, 1]} if name == "MixtureOfRegressions" else {}


def rows(name: str) -> Any:
    """Data that the estimator takes."""
    if name == "DawidSkene":
        votes = (X > 2.5) ^ (np.arange(240).reshape(120, 2) % 7 == 0)
        return pa.table({"item": np.arange(240) // 2, "rater": np.arange(240) % 2, "label": votes.ravel().astype(int)})
    if name == "ItemResponse":  # of three items at least, which people answer by chance too
        rng = np.random.default_rng(0)
        chance = 1.0 / (1.0 + np.exp([-0.5, 0.0, 0.2, 0.5] - rng.normal(size=(120, 1))))
        return (rng.random((120, 4)) < chance).astype(np.float64)
    if name == "GroupedMixture":
        return list(X.reshape(30, 4, 2))
    if name in ("CategoricalHMM", "BernoulliHMM", "BernoulliMixture", "LatentClass", "RecordLinkage"):
        return (X > 2.5).astype(np.float64)
    if name in ("GammaMixture", "VonMisesFisherMixture"):
        return np.abs(X) + 0.1 if name == "GammaMixture" else X / np.linalg.norm(X, axis=1, keepdims=True)
    return np.abs(X).round() if name.startswith(("Poisson", "NegativeBinomial", "Multinomial")) else X


def unfitted(estimator: Any) -> Any:
    """An unfitted estimator of the same hyperparameters."""
    return type(estimator)(**estimator.get_params(deep=False))


def _is_estimator(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Estimator)


def violations(cls: type, estimator: Any) -> list[str]:
    """What an estimator has too much of, or lacks."""
    found = [f"{len(own_classes(cls))} classes"] if len(own_classes(cls)) > MOST_CLASSES else []
    found += [f"{len(own_methods(cls))} methods"] if len(own_methods(cls)) > MOST_METHODS else []
    found += [f"state {private_state(estimator)}"] if len(private_state(estimator)) > MOST_PRIVATE else []
    lacking = LACKING.get(cls.__name__, set())
    return found + [f"no {name}" for name in ABILITIES if name not in lacking and not hasattr(cls, name)]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_is_small_and_can_do_all(name: str) -> None:
    model = trained(name)
    assert violations(type(model), model) == []


def test_more_than_that_is_found() -> None:
    """The check can fail: a tower, a large class, state beside the value, an ability that is gone."""

    class Tower(GaussianMixture):
        sample = property()

    for i in range(MOST_METHODS):
        setattr(Tower, f"method_{i}", lambda self: None)
    tower = Tower(2, random_state=0).fit(X)
    tower._one = tower._two = 1
    found = violations(Tower, tower)
    assert [text.split()[-1] for text in found[:2]] == ["classes", "methods"]
    assert "_one" in found[2]
    del Tower.sample
    Tower.sample_to = property(lambda self: None)  # type: ignore[assignment, method-assign]
    assert violations(type("Bare", (), {}), object.__new__(Tower))[-len(ABILITIES) :] == [
        f"no {name}" for name in ABILITIES
    ]


def test_every_public_estimator_is_looked_at() -> None:
    public = {name for name in dir(streamem) if _is_estimator(getattr(streamem, name))}
    assert public == ESTIMATORS.keys()


ARRAYS = [name for name in ESTIMATORS if name != "EM" and name not in LACKING]
"""Estimators of components whose first attribute is an array; others have tests of their own."""


ONE_COMPONENT = ("FactorAnalysis", "PPCA", "ItemResponse")
"""Estimators of which rows have no classes."""


@pytest.mark.parametrize("name", ARRAYS)
def test_attributes_are_read_only_and_known_by_identity(name: str) -> None:
    model, x = trained(name), rows(name)
    shown = type(model).structure.names[0]
    with pytest.raises(ValueError, match="read-only"):
        getattr(model, shown)[0] = 0.5
    ask = model.score_samples if name in ONE_COMPONENT else model.predict_proba
    before = ask(x)
    setattr(model, shown, getattr(model, shown).copy())  # another object, the same numbers: nothing was changed
    assert model._now() is model._fitted
    assert np.array_equal(ask(x), before)
    setattr(model, shown, np.linspace(0.3, 0.7, len(getattr(model, shown))))
    assert model._now() is not model._fitted
    assert not np.array_equal(ask(x), before)
