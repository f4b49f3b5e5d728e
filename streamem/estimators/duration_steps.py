"""Steps of sequences whose states have durations: hidden semi-Markov models, by the hyperparameter `durations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Family
from streamem.estimators.attributes import attributes_of
from streamem.estimators.steps import SEQUENCES, Sequences, given_chain, tied_groups
from streamem.initialization import Start
from streamem.models import HMM, SemiMarkov
from streamem.models.durations import KINDS, Durations
from streamem.models.semi_markov import Jumps, positive, require_substates
from streamem.running.fitted import Fitted

Array = NDArray[Any]


INSTEAD = {
    "an endless sequence": "with ages there are too many states to learn it for; pass sequences of their own",
    "a copy for hmmlearn": "hmmlearn has no semi-Markov models",
}
"""What to do with durations, by what cannot be done."""


class Lasting:
    """What structures whose states last have in common.

    Attributes
    ----------
    own_names : public attributes of durations
    """

    has_durations = True

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.own_names = ("duration_means_", "duration_sizes_") if kind == "negative-binomial" else ("duration_means_",)

    def lasting(self, params: Params) -> dict[str, Array]:
        """duration_means_ (K,) and, where the kind has such, duration_sizes_ (K,)."""
        durations, logs = Durations(self._kind, 2), np.asarray(params.duration_logs)
        sizes = durations.sizes(logs)
        found = {"duration_means_": durations.means(logs)}
        return found if sizes is None else {**found, "duration_sizes_": sizes}

    def duration_key(self, settings: Any) -> dict[str, Any]:
        """Kind, ages and given starts of the durations."""
        given = [given_durations(settings, name) for name in self.own_names]
        starts = [None if value is None else np.asarray(value, dtype=np.float64).tolist() for value in given]
        return {"durations": self._kind, "max_duration": int(settings.max_duration), "given durations": repr(starts)}

    def duration_misfit(self, params: Params, k: int) -> str:
        """Durations that are none, or of another kind."""
        fits = np.shape(params.get("duration_logs", ())) == (k, len(self.own_names))
        return "" if fits else f"durations is {self._kind!r} now, and states were fitted with another kind"

    def require_ages(self, model: Any, fitted: Fitted) -> None:
        """Statistics so far must count as many ages as the hyperparameters say."""
        memory = None if fitted.state is None else fitted.state.memory
        if memory is None or memory.running.leaves.shape[1] == model.durations.most_ages:
            return
        counted = memory.running.leaves.shape[1]
        raise ParameterError(
            f"max_duration is {model.durations.most_ages}, and what was learned so far counts states of up to "
            f"{counted} steps apart, which cannot be divided anew: set max_duration={counted} to go on, or fit again"
        )

    def times(self, model: Any, fitted: Fitted, visits: Array) -> Array:
        """(K,) shares of time, from those of visits: these times mean durations."""
        assert fitted.state is not None
        shares = visits * model.mean_durations(fitted.state.params)
        return np.asarray(shares / shares.sum())

    def logs_of(self, settings: Any, attributes: Mapping[str, Any]) -> Array:
        k = int(settings.n_components)
        means = positive(attributes["duration_means_"], k, "duration_means_", 1.0)
        sizes = positive(attributes["duration_sizes_"], k, "duration_sizes_", 0.0) if len(self.own_names) > 1 else None
        return self.durations_of(settings).logs(means, sizes)

    def durations_of(self, settings: Any) -> Durations:
        durations = Durations(self._kind, settings.max_duration)
        require_substates(int(settings.n_components), durations)
        return durations


class SemiMarkovSteps(Lasting, Sequences):
    """Steps whose states last as a distribution of a kind says; see `SemiMarkov`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.names = (*SEQUENCES.names, *self.own_names)

    # --- model -------------------------------------------------------------------------------------------------------

    def chain(self, settings: Any, family: Family, total_weight: float | None, start: Start | None = None) -> HMM:
        """The model of the hyperparameters."""
        return SemiMarkov(
            family,
            int(settings.n_components),
            start or settings.face.starts()[settings.start],
            self.durations_of(settings),
            topology=settings.topology,
            startprob_prior=settings.startprob_prior,
            transmat_prior=settings.transmat_prior,
            startprob_init=given_chain(settings, "startprob_"),
            transmat_init=given_chain(settings, "transmat_"),
            duration_means_init=given_durations(settings, "duration_means_"),
            duration_sizes_init=given_durations(settings, "duration_sizes_") if len(self.own_names) > 1 else None,
            params=settings.params,
            total_weight=total_weight,
        )

    def check_online(self, model: Any, fitted: Fitted) -> None:
        """What a chain needs, and as many ages as were counted so far."""
        super().check_online(model, fitted)
        self.require_ages(model, fitted)

    def long_run(self, settings: Any, fitted: Fitted, visits: Array) -> Array:
        """(K,) shares of time, from those of visits: these times mean durations."""
        return self.times(self.model(settings, settings.face.family(settings, fitted.shape), fitted), fitted, visits)

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Attributes of the chain, duration_means_ (K,) and, where the kind has such, duration_sizes_ (K,)."""
        return {**super().published(params, dtype), **self.lasting(params)}

    def check_by_hand(self, settings: Any, attributes: Mapping[str, Any]) -> None:
        """Probabilities of so many states, and durations."""
        super().check_by_hand(settings, attributes)
        self.logs_of(settings, attributes)

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters of the published attributes."""
        params = super().rebuilt(settings, attributes, components)
        return params.replace(duration_logs=self.logs_of(settings, attributes))

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """(K,) each."""
        return {**super().shapes(k), **dict.fromkeys(self.own_names, (k,))}

    def misfit(self, params: Params, k: int) -> str:
        """A misfit of the chain, or durations that are none or of another kind."""
        if wrong := super().misfit(params, k):
            return wrong
        return self.duration_misfit(params, k)

    def n_parameters(self, settings: Any, params: Params) -> int:
        """The free parameters of a chain that never stays, and those of the durations."""
        first = Jumps(int(settings.n_components), settings.topology).first()
        start, moves = np.asarray(first.startprob) > 0, np.asarray(first.transmat) > 0
        own = int(settings.n_components) * (len(self.own_names))
        return max(int(start.sum()) - 1, 0) + int(np.maximum(moves.sum(axis=1) - 1, 0).sum()) + own

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """What the chain checks, the number of sub-states, and that no transitions are tied."""
        super().check(settings)
        self.durations_of(settings)
        if tied_groups(settings):
            raise ParameterError(
                "tied_transitions share rows of transmat, which with durations have a 0 each at the state itself, so "
                "that no two are alike; leave tied_transitions at None, or durations"
            )

    def key(self, settings: Any) -> dict[str, Any]:
        """Hyperparameters of the chain, and kind, ages and given starts of the durations."""
        return {**super().key(settings), **self.duration_key(settings)}

    def refuse(self, settings: Any, what: str) -> None:
        """Endless sequences and copies for hmmlearn."""
        if what in INSTEAD:
            raise ParameterError(f"durations={self._kind!r} excludes {what}: {INSTEAD[what]}")

    # --- in words ----------------------------------------------------------------------------------------------------

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each state: its share of starts, its mean duration, and its emissions in words."""
        start, means = np.asarray(params.startprob), Durations(self._kind, 2).means(np.asarray(params.duration_logs))
        lines = (f"{k:5d}{start[k]:9.4f}{means[k]:9.2f}  {told}" for k, told in enumerate(words))
        return [f"state    start    lasts  {title}", *lines]

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """One sequence, so many steps at a time."""
        walk = self._states(settings, rng, None)
        for first in range(0, n_rows, step):
            states = np.fromiter(walk, dtype=np.int64, count=min(step, n_rows - first))
            yield self.emitted(settings, fitted, states, rng)

    def drawn_states(
        self, settings: Any, n_rows: int, rng: np.random.RandomState, chances: Array | None, covariates: Any
    ) -> Array:
        """States (n,) of one sequence, the first of which begins there."""
        self.moves_at(settings, n_rows, covariates)  # refuses covariates
        return np.fromiter(self._states(settings, rng, chances), dtype=np.int64, count=n_rows)

    def _states(self, settings: Any, rng: np.random.RandomState, chances: Array | None) -> Iterator[int]:
        """The states of step after step, without end."""
        attributes = attributes_of(settings)
        first = np.asarray(attributes["startprob_"] if chances is None else chances)
        cumulated = np.cumsum(np.vstack([first, attributes["transmat_"]]), axis=1)
        cumulated /= cumulated[:, -1:]
        leave = self.durations_of(settings).table(self.logs_of(settings, attributes)).leave
        row, ages = 0, leave.shape[1]
        while True:
            state, age = int(np.searchsorted(cumulated[row], rng.uniform(), side="right")), 0
            yield state
            while rng.uniform() >= leave[state, min(age, ages - 1)]:
                yield state
                age += 1
            row = state + 1


SEMI_MARKOV = {kind: SemiMarkovSteps(kind) for kind in KINDS}


def given_durations(settings: Any, name: str) -> Any:
    """Durations from which `fit` starts: they are set, and "t" is not to be made anew; else None."""
    return None if "t" in settings.init_params else getattr(settings, name, None)
