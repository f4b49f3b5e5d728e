"""Federated fits: sites send expected statistics, never rows; whoever has all of them maximizes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from streamem.algorithms import BatchEM, rebased, remember, went_online
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ModelFileError, ParameterError
from streamem.core.ports import Model, Source
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.estimators.base import EMEstimator
from streamem.estimators.settings import STOPPING
from streamem.running.answers import reduce_source
from streamem.running.federated import SharedStats
from streamem.running.fit import EStep

UNLIMITED = 2**62


class SharingEstimator(EMEstimator):
    """E-step and M-step as two calls that may happen in different places."""

    def _model_of_all(self, stats: Stats) -> Model:
        """The model for statistics of all rows that there are, whatever it was fitted to before."""
        return self._make_model()

    def _expected(self, source: Source, executor: Any) -> SharedStats:
        """Expected sufficient statistics of a source under the present parameters."""
        if source.n_rows == 0:
            raise DataError(f"{source.schema.origin} has no rows")
        model = self._make_model()
        engine = self._engine("expected statistics", executor)
        task = EStep(model, self._params(), source.schema.names)
        held = model.statistics_bytes(source.schema.n_features)
        return SharedStats(reduce_source(source, task, engine, held), self._basis())

    def maximize(self, statistics: SharedStats) -> Self:
        """M-step: the parameters that maximize the expected log-likelihood of these statistics.

        `n_iter_` counts these calls on from the last fit, or from 1 if the statistics are of another number of rows
        than those before (a site that is missing): log-likelihoods of other rows cannot be compared. `lower_bound_`
        becomes the log-likelihood per row of the parameters that *entered*, which is what the statistics tell, and
        `converged_` what the stopping rule says of it; only the next round knows more.

        Parameters
        ----------
        statistics : of all sites, ``sum([...])``, under the present parameters; a site that is in it twice counts twice

        Raises
        ------
        ParameterError : the statistics belong to other parameters
        MonotonicityError : of as many rows, the log-likelihood fell since the round before: not the same rows
        """
        check_is_fitted(self)
        self._require_fitting_shapes()
        if not isinstance(statistics, SharedStats):
            raise ParameterError(
                f"maximize takes what expected_statistics gives, not a {type(statistics).__name__}; of several sites "
                "pass sum([...]), which must not be empty"
            )
        if statistics.basis != self._basis():
            raise ParameterError(
                f"the statistics belong to other parameters ({statistics.basis}) than this model has "
                f"({self._basis()}): make them with this very model"
            )
        known: State | None = getattr(self, "_state", None)
        params = self._params()
        state = known if known is not None and known.params == params else State(params)
        open_state = replace(state, closing=False, converged=False, log_likelihood=None, memory=None)
        seen = (int(statistics.stats.rows), float(statistics.stats.weight))
        if seen != (state.rows, state.weight) or went_online(state):
            open_state = replace(open_state, trace=(), iteration=0)
        self._require_own_shapes(statistics.stats, params)
        model, algorithm = self._model_of_all(statistics.stats), BatchEM(STOPPING[self.stopping](self.tol), UNLIMITED)
        updated = algorithm.update(model, open_state, statistics.stats)
        self._adopt(
            remember(updated, rebased(model, statistics.stats, params, updated.params)), self._published_dtype()
        )
        self._seen = ""
        return self

    def _require_own_shapes(self, stats: Stats, params: Params) -> None:
        """Refuse statistics that a file says are those of this model, and that are of other shapes."""
        nothing = self._make_model().e_step(params, Chunk(np.empty((0, self._row_width()))))
        own, found = ({name: value.shape for name, value in each.flatten().items()} for each in (nothing, stats))
        wrong = [name for name in own.keys() | found.keys() if own.get(name) != found.get(name)]
        if wrong:
            raise ParameterError(
                f"the statistics are not of this model, whatever they say: {', '.join(sorted(wrong))} have other shapes"
            )

    def _require_fitting_shapes(self) -> None:
        """Refuse parameters that were fitted with other hyperparameters."""
        state: State | None = getattr(self, "_state", None)
        if state is None:
            return
        try:
            self._check_loaded(state.params, self.n_features_in_)
        except (ModelFileError, AttributeError, ValueError) as error:
            raise ParameterError(
                f"the fitted parameters do not fit the hyperparameters as they are now ({error}): set them back, or "
                "fit anew"
            ) from error

    def _basis(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for name, value in sorted(self._params().flatten().items()):
            digest.update(f"{name}{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        names = list(getattr(self, "feature_names_in_", []))
        digest.update(repr(([str(name) for name in names], self._run_key().get("reg_covar"))).encode())
        return f"{type(self).__name__}-{digest.hexdigest()}"
