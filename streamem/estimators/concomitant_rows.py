"""`CONCOMITANT_REGRESSIONS`: a mixture of regressions whose weights depend on concomitant variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Family, Source
from streamem.estimators.apart_columns import told_apart
from streamem.estimators.named_columns import concomitants
from streamem.estimators.regressions import REGRESSIONS, Regressions
from streamem.estimators.row_response import open_with_response
from streamem.estimators.shifted_weights import ShiftedWeights
from streamem.estimators.structure import DataArguments, Opened
from streamem.models.concomitant_mixture import ConcomitantMixture
from streamem.running.fitted import Fitted, Shape
from streamem.sources.apart import Apart
from streamem.sources.driving import CONCOMITANTS


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
            shape = _agreeing(told_apart(opened.shape, chosen, CONCOMITANTS, wanted, opened.source.schema), shape)
        assert shape is not None
        source = Apart(opened.source, shape.covariates, shape.shared, settings.missing == "integrate")
        found = Opened(source, shape)
        if is_new:
            self.require_rows(settings, found)
        return found

    def columns_of_rows(self, settings: Any, columns: Sequence[str]) -> list[str]:
        """The columns that explain, and concomitants that are none of them."""
        return [*columns, *(one for one in concomitants(settings) if isinstance(one, str) and one not in columns)]

    def apart(self, settings: Any, whole: Shape, columns: Sequence[str] | None) -> Shape:
        """The shape of covariates alone; concomitants are covariates too if `columns` names them."""
        return told_apart(whole, concomitants(settings), CONCOMITANTS, columns)

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Rows in memory, the response behind its covariates, concomitants apart."""
        rows = super().reopened(settings, chunk, shape)
        return Apart(rows, shape.covariates, shape.shared, settings.missing == "integrate")

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


CONCOMITANT_REGRESSIONS = ConcomitantRegressions()


class OfRegressions:
    """The structure of `MixtureOfRegressions`: with concomitants where it names such."""

    def __get__(self, estimator: Any, kind: type) -> Any:
        return REGRESSIONS if getattr(estimator, "concomitant", None) is None else CONCOMITANT_REGRESSIONS
