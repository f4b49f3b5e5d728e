"""A fitted estimator for notebooks and pages: its facts, its components with bars, and the report of its fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from streamem.core import html
from streamem.core.errors import StreamemError
from streamem.estimators.in_words import facts_in_words
from streamem.estimators.making import model_of, n_parameters
from streamem.running.fitted import Fitted

MOST_SHOWN = 50
"""Components of a table in a notebook."""


def estimator_in_html(settings: Any) -> str:
    """A fitted estimator as HTML; scikit-learn's diagram of one that is not fitted, or cannot say what it is."""
    if "_fitted" not in vars(settings) or not settings.__sklearn_is_fitted__():
        return str(BaseEstimator._html_repr(settings))
    try:
        fitted = settings._now()
        head, *facts = facts_in_words(settings, fitted, n_parameters(settings, fitted))
        components = components_in_html(settings, fitted, MOST_SHOWN)
    except StreamemError as error:  # hyperparameters that were changed since
        return html.paragraph(f"{type(settings).__name__}: {error}")
    report = "" if fitted.report is None else html.details("report of the fit", fitted.report._repr_html_())
    told = "".join(html.paragraph(fact) for fact in facts)
    return f"<div><strong>{html.paragraph(head)}</strong>{told}{components}{report}</div>"


def components_in_html(settings: Any, fitted: Fitted, most: int) -> str:
    """The components, the largest first, each with its share of the data as a bar."""
    assert fitted.state is not None
    params, structure, face = fitted.state.params, settings.structure, settings.face
    words = list(face.words(settings, params.components))
    if not structure.has_components:
        return html.table(["parameters"], [[each] for each in words])
    shares = model_of(settings, fitted).shares(params)
    if shares is not None and len(shares) != len(words):  # a line is an item or a factor, not a component
        return html.preformatted("\n".join(structure.table(params, words, face.title)))
    known = np.full(len(words), np.nan) if shares is None else np.asarray(shares, dtype=np.float64)
    order = np.argsort(-np.nan_to_num(known), kind="stable") if not structure.is_sequential else np.arange(len(words))
    largest = float(np.nanmax(known)) if shares is not None else 1.0
    rows: list[list[html.Cell]] = [
        [str(k), html.Bar(known[k] / largest, f"{known[k]:.1%}") if shares is not None else "", words[k]]
        for k in order[:most]
    ]
    more = html.paragraph(f"and {len(words) - most:,} more") if len(words) > most else ""
    return html.table([structure.noun, "share", face.title.strip() or "parameters"], rows) + more
