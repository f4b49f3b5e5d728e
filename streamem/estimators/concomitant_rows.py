"""`CONCOMITANT_REGRESSIONS`: a mixture of regressions whose weights depend on concomitant variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Family
from streamem.estimators.named_columns import concomitants
from streamem.estimators.regressions import REGRESSIONS, Regressions
from streamem.estimators.row_response import open_with_response
from streamem.estimators.shifted_weights import ShiftedWeights
from streamem.estimators.structure import DataArguments, Opened
from streamem.models.concomitant_mixture import ConcomitantMixture
from streamem.online.behind import Behind
from streamem.running.fitted import Fitted, Shape
from streamem.sources.apart import Apart
from streamem.sources.driving import CONCOMITANTS, columns_named


class ConcomitantRegressions(ShiftedWeights, Regressions):
    """p(y | x, z) = Σ_k π_k(z) p_k(y | x), π_k(z) = softmax(α_k + z·γ_k); `weights_` (K,) are shares of all rows."""

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

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> ConcomitantMixture:
        """The mixture of regressions, and what its weights depend on."""
        start, box = settings.face.starts()[settings.init_params], None if fitted is None else fitted.box
        return ConcomitantMixture(family, self.count(settings), start, len(concomitants(settings)), box)


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
