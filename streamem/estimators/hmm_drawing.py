"""Drawing sequences from a hidden Markov model, and describing it in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from streamem.core.completing import as_written
from streamem.core.errors import ParameterError
from streamem.core.ports import full_family
from streamem.estimators.hmm_learning import LearningHMM
from streamem.sinks import ResultLayout, open_sink

Array = NDArray[Any]
SAMPLE_PIECE_BYTES = 8 * 2**20


class SamplingHMM(LearningHMM):
    """A hidden Markov model that has been fitted: its sequences and its words."""

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        currstate: int | None = None,
    ) -> tuple[Array, Array]:
        """Draw one sequence of `n_samples` steps.

        Parameters
        ----------
        random_state : None uses that of the estimator
        currstate : the state of the first step; None draws it from startprob

        Returns
        -------
        X (n_samples, d), states (n_samples,)
        """
        check_is_fitted(self)
        self._check_drawable(n_samples, currstate)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        return self._draw_steps(rng, int(n_samples), None if currstate is None else self._certain(currstate))

    def sample_to(self, out: str | os.PathLike[str], n_samples: int, *, overwrite: bool = False) -> None:
        """Draw one sequence and write it to `out` (.zarr, .parquet, .npy) piece by piece.

        Columns are named as in fit; the memory does not grow with the number of steps.
        """
        check_is_fitted(self)
        self._check_drawable(n_samples, None)
        d = int(self.n_features_in_) if hasattr(self, "n_features_in_") else self.sample(1)[0].shape[1]
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(d)])
        layout = ResultLayout(
            rows=n_samples,
            width=d,
            dtype=np.dtype(np.float64),
            names=tuple(str(name) for name in names),
            chunk_rows=max(1, SAMPLE_PIECE_BYTES // (8 * d)),
        )
        sink = open_sink(out, layout, overwrite)
        try:
            for piece in self._sample_pieces(n_samples, layout.chunk_rows):
                sink.write(piece)
            sink.commit()
        except BaseException:
            sink.abort()
            raise

    def _sample_pieces(self, n_samples: int, step: int) -> Iterator[Array]:
        rng, chances = check_random_state(self.random_state), None
        for first in range(0, n_samples, step):
            rows, states = self._draw_steps(rng, min(step, n_samples - first), chances)
            chances = np.asarray(self.transmat_[states[-1]])
            yield rows

    def _draw_steps(self, rng: np.random.RandomState, n: int, chances: Array | None) -> tuple[Array, Array]:
        """Steps whose first state is drawn with the given chances, those of startprob if None."""
        states = draw_states(rng, n, np.asarray(self.startprob_ if chances is None else chances), self.transmat_)
        family, components = full_family(self._make_family()), self._params().components
        if not family.can_draw:
            raise ParameterError(
                f"{type(as_written(family)).__name__} cannot draw rows; give it draw(params, component, count, rng) -> "
                "(count, d)"
            )
        drawn = [family.draw(components, k, int((states == k).sum()), rng) for k in range(int(self.n_components))]
        rows = np.empty((n, drawn[0].shape[1]))
        for k, own in enumerate(drawn):
            rows[states == k] = own
        return rows, states

    def _certain(self, state: int) -> Array:
        return np.eye(int(self.n_components))[int(state)]

    def _check_drawable(self, n_samples: int, currstate: int | None) -> None:
        if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer) or n_samples < 1:
            raise ParameterError(f"n_samples is {n_samples!r}; it must be an integer >= 1")
        self._params()  # which refuses attributes that do not fit together
        if currstate is not None and not 0 <= currstate < self.n_components:
            raise ParameterError(f"currstate is {currstate!r}; it must be a state from 0 to {self.n_components - 1}")
        if self._lag:
            raise ParameterError(
                f"steps of {type(self).__name__} depend on {self._lag} before; they cannot be drawn yet"
            )

    # --- in words ----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The fitted model and its report as text for people."""
        check_is_fitted(self)
        names = list(getattr(self, "feature_names_in_", []))
        head = [
            f"{type(self).__name__}: {self.n_components} states, {self.n_features_in_} features, "
            f"{self._n_parameters():,} free parameters",
            f"features: {', '.join(names[:12])}{' …' if len(names) > 12 else ''}" if names else "features: unnamed",
            *[f"sequences by {way} {name!r}" for way, name in getattr(self, "sequences_by_", {}).items()],
            *self._how_it_came(),
            "",
            "state    start    stays  emissions",
        ]
        lines = [
            f"{k:5d}{self.startprob_[k]:9.4f}{self.transmat_[k, k]:9.4f}  {words}"
            for k, words in enumerate(self.face.words(self, self._params().components))
        ]
        report = [str(self.report_)] if hasattr(self, "report_") else []
        return "\n".join([*head, *lines, "", *report])

    def _how_it_came(self) -> list[str]:
        if not hasattr(self, "converged_"):
            return ["set by hand"]
        state = "converged" if self.converged_ else "not converged"
        return [f"{state} after {self.n_iter_} iterations, log-likelihood {self.lower_bound_:.12g} nats per row"]


def draw_states(rng: np.random.RandomState, n: int, first: Array, transmat: Array) -> Array:
    """(n,) int64 states of one sequence of a Markov chain."""
    cumulated = np.cumsum(np.vstack([first, transmat]), axis=1)
    cumulated /= cumulated[:, -1:]
    states, draws = np.empty(n, dtype=np.int64), rng.uniform(size=n)
    row = 0
    for t in range(n):
        state = int(np.searchsorted(cumulated[row], draws[t], side="right"))
        states[t] = state
        row = state + 1
    return states
