"""Factor analyses as scikit-learn's, and scikit-learn's as ours; probabilistic principal components as its `PCA`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from streamem.core.errors import ParameterError
from streamem.estimators.attributes import shown_facts, shown_parameters
from streamem.estimators.exchange.adopting import adopted
from streamem.estimators.exchange.scikit_learn import with_attributes
from streamem.machine.importing import import_whole
from streamem.running.fitted import Fitted

KEPT = ("mean_", "n_features_in_", "feature_names_in_")


def as_scikit_learn(settings: Any, fitted: Fitted) -> Any:
    """A `sklearn.decomposition.FactorAnalysis`, or a `PCA`, that answers as a fitted model does."""
    assert fitted.state is not None
    assert fitted.shape is not None
    own = shown_parameters(settings, fitted.state.params, fitted.shape.dtype)
    facts = shown_facts(fitted)
    shown = {name: value for name, value in {**own, **facts}.items() if name in KEPT}
    components, noise = np.asarray(own["components_"]), own["noise_variance_"]
    if _is_pca(settings.face):
        lengths = np.sqrt((components**2).sum(axis=1))
        directions = components / np.where(lengths > 0, lengths, 1.0)[:, None]
        ours = {"components_": directions, "explained_variance_": lengths**2 + noise, "noise_variance_": noise}
        theirs = _library().PCA(n_components=len(components))
        return with_attributes(theirs, {**shown, **ours, "n_components_": len(components)})
    theirs = _library().FactorAnalysis(
        n_components=len(components), tol=settings.tol, max_iter=settings.max_iter, rotation=settings.rotation
    )
    weight = float(fitted.state.weight or 1.0)
    bounds = [float(bound) * weight for bound in fitted.lower_bounds]
    learned = {"loglike_": bounds, "n_iter_": fitted.state.iteration}
    return with_attributes(theirs, {**shown, "components_": components, "noise_variance_": noise, **learned})


def hyperparameters_of(face: Any, theirs: Any) -> dict[str, Any]:
    """The hyperparameters of a fitted `FactorAnalysis` or `PCA` of scikit-learn. Tolerances are in other units there.

    Raises
    ------
    ParameterError : another class, or a PCA without noise
    NotFittedError : it is not fitted
    """
    name = "PCA" if _is_pca(face) else "FactorAnalysis"
    if not isinstance(theirs, getattr(_library(), name)):
        raise ParameterError(f"a fitted sklearn.decomposition.{name} is needed, not {type(theirs).__name__}")
    check_is_fitted(theirs)
    if name == "PCA" and not theirs.noise_variance_ > 0:
        raise ParameterError(
            f"this PCA keeps {theirs.n_components_} components of {theirs.n_features_in_} columns, which leave no "
            "noise: no density of rows follows from it; keep fewer components"
        )
    found = {"n_components": len(theirs.components_)}
    return found if name == "PCA" else {**found, "rotation": theirs.rotation}


def take_over(settings: Any, theirs: Any) -> Fitted:
    """What is fitted in a `FactorAnalysis` or `PCA` of scikit-learn, for an estimator with its hyperparameters."""
    settings.mean_ = np.array(theirs.mean_)
    components, noise = np.array(theirs.components_), theirs.noise_variance_
    if _is_pca(settings.face):
        lengths = np.sqrt(np.maximum(np.asarray(theirs.explained_variance_) - noise, 0.0))
        settings.components_, settings.noise_variance_ = components * lengths[:, None], float(noise)
    else:
        settings.components_, settings.noise_variance_ = components, np.array(noise)
    facts = {"converged": True, "iteration": int(getattr(theirs, "n_iter_", 0))}
    return adopted(settings, getattr(theirs, "feature_names_in_", None), facts, "taken over from scikit-learn")


def _is_pca(face: Any) -> bool:
    return bool(face.noise == "isotropic")


def _library() -> Any:
    """scikit-learn's decompositions, imported when they are asked for."""
    return import_whole("sklearn.decomposition")
