"""`CONCOMITANT_REGRESSIONS`: a mixture of regressions whose weights depend on concomitant variables."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Family, Source
from streamem.core.validation import numbers
from streamem.estimators.driven_steps import BoxTask
from streamem.estimators.regressions import REGRESSIONS, Regressions
from streamem.estimators.row_response import open_with_response
from streamem.estimators.structure import DataArguments, Opened
from streamem.models.concomitant_mixture import ConcomitantMixture
from streamem.models.concomitants import logits_of
from streamem.models.logit_moves import shown
from streamem.models.noise import joined_boxes
from streamem.online.behind import Behind
from streamem.running.answers import map_source
from streamem.running.engines import Engine
from streamem.running.fitted import Fitted, Shape
from streamem.sources.apart import Apart
from streamem.sources.driving import CONCOMITANTS, columns_named

Array = NDArray[Any]

NAMES = {"intercept": "concomitant_intercept_", "coef": "concomitant_coef_"}


def concomitants(settings: Any) -> tuple[str | int, ...]:
    """The columns of `concomitant`, by name or position; a model file holds positions as an array.

    Raises
    ------
    ParameterError : neither names nor positions
    """
    chosen = getattr(settings, "concomitant", None)
    if chosen is None:
        return ()
    if isinstance(chosen, str | int | np.integer):
        chosen = [chosen]
    try:
        found = tuple(one if isinstance(one, str) else operator.index(one) for one in chosen)
    except TypeError:
        found = ()
    if not found or len(set(found)) < len(found) or any(isinstance(one, bool | np.bool_) for one in chosen):
        raise ParameterError(
            f"concomitant is {chosen!r}; it must be a list of different columns of X, by name or by position from 0 "
            "on, or None"
        )
    return found


class ConcomitantRegressions(Regressions):
    """p(y | x, z) = Σ_k π_k(z) p_k(y | x), π_k(z) = softmax(α_k + z·γ_k); `weights_` (K,) are shares of all rows."""

    names = ("weights_", *NAMES.values())
    least_formula = "2·K·(p + 3 + concomitants)"

    # --- data --------------------------------------------------------------------------------------------------------

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Covariates with their response, concomitants apart: columns of X that explain the response too if `columns`
        names them."""
        chosen, whole = concomitants(settings), None if shape is None or not shape.covariates else _whole(shape)
        wanted, is_new = arguments.columns, shape is None
        wanted = [wanted] if isinstance(wanted, str) else None if wanted is None else list(wanted)
        named = [one for one in chosen if isinstance(one, str)]
        if wanted is not None and len(named) < len(chosen):
            raise ParameterError(
                f"columns chooses by name, and concomitant is {list(chosen)}: tell it by names too, or leave columns "
                "out"
            )
        columns = None if wanted is None else [*wanted, *(one for one in named if one not in wanted)]
        opened = open_with_response(settings, x, replace(arguments, columns=columns), whole)
        if whole is None:
            shape = _agreeing(_apart(opened, chosen, wanted), shape)
        assert shape is not None
        source = Apart(opened.source, shape.covariates, shape.shared, settings.missing == "integrate")
        found = Opened(source, shape)
        if is_new:
            self.require_rows(settings, found)
        return found

    def behind(self, settings: Any, shape: Shape | None, arguments: DataArguments) -> Behind:
        """Refuse a stream.

        Raises
        ------
        ParameterError : always
        """
        raise ParameterError("a stream's records are not read with concomitant variables: pass batches to partial_fit")

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(p + 3 + concomitants); `n_features` counts the response."""
        return 2 * int(self.count(settings)) * (n_features + 2 + len(concomitants(settings)))

    def needs_box(self, settings: Any) -> bool:
        """Always: concomitants are measured about the middle of theirs."""
        return True

    def box(self, settings: Any, model: Any, source: Source, engine: Engine) -> Array | None:
        """(2, p) smallest and largest concomitants."""
        boxes: list[Array] = []
        map_source(source, BoxTask(), engine, 0, boxes.append)
        return joined_boxes(boxes) if boxes else None

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> ConcomitantMixture:
        """The mixture of regressions, and what its weights depend on."""
        start, box = settings.face.starts()[settings.init_params], None if fitted is None else fitted.box
        return ConcomitantMixture(family, self.count(settings), start, len(concomitants(settings)), box)

    def check(self, settings: Any) -> None:
        """Hyperparameters of all mixtures of regressions, and no prior of weights."""
        super().check(settings)
        concomitants(settings)
        if settings.weight_concentration_prior is not None:
            raise ParameterError(
                "weight_concentration_prior is for weights that are the same in all rows: leave it or concomitant at "
                "None"
            )

    def key(self, settings: Any) -> dict[str, Any]:
        """What tells a mixture, and the concomitants."""
        return {**super().key(settings), "concomitant": repr(list(concomitants(settings)))}

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """weights_ (K,), concomitant_intercept_ (K,) and concomitant_coef_ (K, p), 0 of component 0."""
        own = shown(np.asarray(params.logits)[None], params.concomitant_box)
        return {**super().published(params, dtype), **{NAMES[name]: np.array(own[name][0]) for name in NAMES}}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters from the attributes.

        Raises
        ------
        ParameterError : coefficients of other shapes, or that are no finite numbers
        """
        k, p = int(self.count(settings)), len(concomitants(settings))
        found = {name: numbers(attributes[public], public) for name, public in NAMES.items()}
        for name, shape in (("intercept", (k,)), ("coef", (k, p))):
            if found[name].shape != shape or not np.isfinite(found[name]).all():
                raise ParameterError(
                    f"{NAMES[name]} has shape {found[name].shape}; finite numbers {shape} are needed, of components"
                    + (", concomitants" if name == "coef" else "")
                )
        box = np.stack([np.full(p, -1.0), np.ones(p)])
        logits = logits_of(found["intercept"], found["coef"], box)
        return super().rebuilt(settings, attributes, components).replace(logits=logits, concomitant_box=box)

    def misfit(self, params: Params, k: int) -> str:
        """Weights or logits of another number of components, or none."""
        logits = np.shape(params.get("logits", ()))
        if logits[:1] != (k,) or len(logits) != 2:
            return f"the file's logits do not fit {k} components whose weights depend on concomitants"
        return super().misfit(params, k)

    def n_parameters(self, settings: Any, params: Params) -> int:
        """(K − 1)·(1 + p)."""
        return (int(self.count(settings)) - 1) * np.shape(params.logits)[1]

    # --- in words ----------------------------------------------------------------------------------------------------

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each component, whose weight is its share of all rows, and what shifts it."""
        own = self.published(params, np.dtype(np.float64))
        lines = super().table(params, words, title)
        odds = [
            f"    {k}: {own['concomitant_intercept_'][k]:.6g} "
            + " ".join(f"{value:+.6g}·z{c}" for c, value in enumerate(own["concomitant_coef_"][k]))
            for k in range(1, len(own["weights_"]))
        ]
        return [*lines, *(["log-odds of each component against component 0:", *odds] if odds else [])]


def _whole(shape: Shape) -> Shape:
    """The shape of all columns of X, concomitants among them."""
    return replace(shape, features=shape.width, names=shape.all_names, covariates=(), covariate_names=None, shared=())


def _agreeing(found: Shape, by_hand: Shape | None) -> Shape:
    """The shape found; of a model that was set by hand, one that fits it.

    Raises
    ------
    SchemaError : another number of covariates
    """
    if by_hand is not None and found.features != by_hand.features:
        raise SchemaError(
            f"X has {found.features} covariates beside its concomitants, and coef_ is of {by_hand.features}"
        )
    return found


def _apart(opened: Opened, chosen: Sequence[str | int], wanted: Sequence[str] | None) -> Shape:
    """The shape of features alone, of which concomitants are told apart.

    Raises
    ------
    SchemaError : concomitants that are no columns, or all of them
    """
    whole, names = opened.shape, opened.shape.names
    told = None if names is None else tuple(str(name) for name in names)
    schema = replace(opened.source.schema, n_features=whole.features, names=told)
    at = columns_named(chosen, schema, CONCOMITANTS)
    shared = tuple(i for i in at if wanted is not None and names is not None and names[i] in wanted)
    left = [i for i in range(whole.features) if i not in at or i in shared]
    return replace(
        whole,
        features=len(left),
        names=None if names is None else tuple(names[i] for i in left),
        covariates=at,
        covariate_names=None if names is None else tuple(str(names[i]) for i in at),
        shared=shared,
    )


CONCOMITANT_REGRESSIONS = ConcomitantRegressions()


class OfRegressions:
    """The structure of `MixtureOfRegressions`: with concomitants where it names such."""

    def __get__(self, estimator: Any, kind: type) -> Any:
        return REGRESSIONS if getattr(estimator, "concomitant", None) is None else CONCOMITANT_REGRESSIONS
