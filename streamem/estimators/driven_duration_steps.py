"""Steps of sequences whose states last, and where covariates decide which state follows one that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Family
from streamem.estimators.attributes import attributes_of
from streamem.estimators.driven_steps import DRIVEN_SEQUENCES, DrivenSequences, OfSequences, moves_given, odds
from streamem.estimators.duration_steps import SEMI_MARKOV, Lasting, given_durations
from streamem.estimators.sequence_inputs import driving
from streamem.models import DrivenSemiMarkov
from streamem.models.durations import KINDS, Durations
from streamem.running.fitted import Fitted

Array = NDArray[Any]

SHOWN_MOVES = 12
"""Transitions that `describe` writes out."""

INSTEAD = {
    "an endless sequence": "with ages there are too many states to learn it for; pass sequences of their own",
    "standard errors": "leave durations or transition_covariates at None, each of which has them, or refit resampled "
    "sequences",
}
"""What to do with both, by what cannot be done, and can be with one of them."""


class DrivenSemiMarkovSteps(Lasting, DrivenSequences):
    """Steps whose states last as a distribution says, and are followed as covariates say; see `DrivenSemiMarkov`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.names = (*DRIVEN_SEQUENCES.names, *self.own_names)

    # --- model -------------------------------------------------------------------------------------------------------

    def driven_chain(
        self, settings: Any, family: Family, box: Array | None, total_weight: float | None
    ) -> DrivenSemiMarkov:
        """The model of the hyperparameters, about a box of covariates."""
        return DrivenSemiMarkov(
            family,
            int(settings.n_components),
            settings.face.starts()[settings.start],
            len(driving(settings)),
            self.durations_of(settings),
            box=box,
            startprob_prior=settings.startprob_prior,
            startprob_init=None if "s" in settings.init_params else getattr(settings, "startprob_", None),
            moves_init=moves_given(settings),
            duration_means_init=given_durations(settings, "duration_means_"),
            duration_sizes_init=given_durations(settings, "duration_sizes_") if len(self.own_names) > 1 else None,
            params=settings.params,
            total_weight=total_weight,
        )

    def check_online(self, model: Any, fitted: Fitted) -> None:
        """What a chain needs, and as many ages as were counted so far."""
        super().check_online(model, fitted)
        self.require_ages(model, fitted)

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Attributes of the driven chain, and durations."""
        return {**super().published(params, dtype), **self.lasting(params)}

    def check_by_hand(self, settings: Any, attributes: Mapping[str, Any]) -> None:
        """Probabilities and coefficients of so many states, and durations."""
        self.rebuilt(settings, attributes, Params())

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters of the published attributes."""
        params = super().rebuilt(settings, attributes, components)
        return params.replace(duration_logs=self.logs_of(settings, attributes))

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """(K,) each."""
        return {**super().shapes(k), **dict.fromkeys(self.own_names, (k,))}

    def misfit(self, params: Params, k: int) -> str:
        """A misfit of the driven chain, or durations that are none or of another kind."""
        return super().misfit(params, k) or self.duration_misfit(params, k)

    def n_parameters(self, settings: Any, params: Params) -> int:
        """K − 1 of the first state, (K − 2)·(1 + p) of what follows each, and those of the durations."""
        k = int(settings.n_components)
        return k - 1 + k * (k - 2) * np.shape(params.logits)[2] + k * len(self.own_names)

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """What the driven chain checks, and the number of sub-states."""
        super().check(settings)
        self.durations_of(settings)

    def key(self, settings: Any) -> dict[str, Any]:
        """The key of the driven chain, and that of durations."""
        return {**super().key(settings), **self.duration_key(settings)}

    def refuse(self, settings: Any, what: str) -> None:
        """What driven chains refuse, and standard errors."""
        super().refuse(settings, what)
        if what in INSTEAD:
            raise ParameterError(f"durations and transition_covariates together exclude {what}: {INSTEAD[what]}")

    # --- in words ----------------------------------------------------------------------------------------------------

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each state: its share of starts, its mean duration, its emissions; and one for each transition."""
        own = self.published(params, np.dtype(np.float64))
        start, means, k = (
            own["startprob_"],
            Durations(self._kind, 2).means(np.asarray(params.duration_logs)),
            len(words),
        )
        lines = [f"{i:5d}{start[i]:9.4f}{means[i]:9.2f}  {told}" for i, told in enumerate(words)]
        moves = [(i, j) for i in range(k) for j in range(1 if i else 2, k) if i != j]
        told = [odds(own, i, j) for i, j in moves] if len(moves) <= SHOWN_MOVES else []
        head = "log-odds of what follows a state against state 0 (of state 0: against state 1): "
        beside = [head + ("transition_intercept_, transition_coef_" if not told else "")] if moves else []
        return [f"state    start    lasts  {title}", *lines, *beside, *told]

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def drawn_states(
        self, settings: Any, n_rows: int, rng: np.random.RandomState, chances: Array | None, covariates: Any
    ) -> Array:
        """States (n,) of one sequence, the first of which begins there."""
        moves = self.moves_at(settings, n_rows, covariates)
        return np.fromiter(self._states(settings, moves, n_rows, rng, chances), dtype=np.int64, count=n_rows)

    def _states(
        self, settings: Any, moves: Array, n_rows: int, rng: np.random.RandomState, chances: Array | None
    ) -> Iterator[int]:
        attributes = attributes_of(settings)
        first = np.asarray(attributes["startprob_"] if chances is None else chances)
        leave = self.durations_of(settings).table(self.logs_of(settings, attributes)).leave
        state, age = int(rng.choice(len(first), p=first)), 0
        for t in range(n_rows):
            yield state
            age += 1
            if t < n_rows - 1 and rng.uniform() < leave[state, min(age, leave.shape[1]) - 1]:
                state, age = int(rng.choice(len(first), p=moves[t, state])), 0

    def long_run(self, settings: Any, fitted: Fitted, visits: Array) -> Array:
        """(K,) shares of time where covariates are 0, from those of visits: these times mean durations."""
        return self.times(self.model(settings, settings.face.family(settings, fitted.shape), fitted), fitted, visits)


DRIVEN_SEMI_MARKOV = {kind: DrivenSemiMarkovSteps(kind) for kind in KINDS}


class OfSequencesByDurations(OfSequences):
    """The structure of an estimator of sequences: semi-Markov where `durations` names a kind."""

    def __get__(self, estimator: Any, kind: type) -> Any:
        durations = getattr(estimator, "durations", None)
        driven = getattr(estimator, "transition_covariates", None) is not None
        own = (DRIVEN_SEMI_MARKOV if driven else SEMI_MARKOV).get(durations) if isinstance(durations, str) else None
        return super().__get__(estimator, kind) if own is None else own
