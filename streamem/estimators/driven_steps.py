"""`DRIVEN_SEQUENCES`: steps of sequences whose transitions depend on covariates of the step that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import ChunkRef, Family, PassTask, Source
from streamem.core.stats import Stats
from streamem.estimators.apart_columns import told_apart
from streamem.estimators.attributes import attributes_of
from streamem.estimators.family_facts import weighed_by
from streamem.estimators.sequence_inputs import driving
from streamem.estimators.steps import SEQUENCES, Sequences, tied_groups
from streamem.models import DrivenHMM
from streamem.models.driven_hmm import require_moves
from streamem.models.logit_moves import box_of_covariates, hidden, log_moves, shown
from streamem.models.noise import joined_boxes
from streamem.models.transitions import probabilities
from streamem.running.answers import map_source
from streamem.running.engines import Engine
from streamem.running.fitted import Fitted, Shape
from streamem.sources.driving import TRANSITIONS

Array = NDArray[Any]

MOVES = {"intercept": "transition_intercept_", "coef": "transition_coef_"}

SHOWN_MOVES = 12
"""Transitions that `describe` writes out."""

INSTEAD = {
    "a copy for hmmlearn": "its transitions are the same in every step",
    "rows in pieces": "pass sample(n_samples, transition_covariates=U)",
}
"""What to do where transitions are driven, by what cannot be done."""


@dataclass(frozen=True, eq=False)
class BoxTask(PassTask[Array]):
    """The task that finds the smallest and the largest covariates of a chunk."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """(2, p)."""
        return box_of_covariates(chunk)


class DrivenSequences(Sequences):
    """z_1, z_2, … is a Markov chain whose transition out of step t depends on the covariates u_t."""

    is_driven = True
    names = ("startprob_", *MOVES.values())
    least_formula = "2·K·(d + 1 + K·(1 + p))"

    # --- data --------------------------------------------------------------------------------------------------------

    def apart(self, settings: Any, whole: Shape, columns: Sequence[str] | None) -> Shape:
        """The shape of what is emitted alone."""
        return told_apart(whole, driving(settings), TRANSITIONS)

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Any:
        """The chain with what the family says of each state."""
        box = None if fitted is None else fitted.box
        return self.driven_chain(settings, family, box, None if fitted is None else fitted.prior_weight.steps)

    def model_of_all(self, settings: Any, family: Family, fitted: Fitted, stats: Stats) -> Any:
        """The model whose priors are weighed against these statistics."""
        return self.driven_chain(settings, weighed_by(family, stats), fitted.box, None)

    def driven_chain(self, settings: Any, family: Family, box: Array | None, total_weight: float | None) -> DrivenHMM:
        """The model of the hyperparameters, about a box of covariates."""
        return DrivenHMM(
            family,
            int(settings.n_components),
            settings.face.starts()[settings.start],
            len(driving(settings)),
            box=box,
            startprob_prior=settings.startprob_prior,
            startprob_init=None if "s" in settings.init_params else getattr(settings, "startprob_", None),
            moves_init=moves_given(settings),
            params=settings.params,
            total_weight=total_weight,
        )

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(d + 1 + K·(1 + p))."""
        k = int(settings.n_components)
        return 2 * k * (n_features + 1 + k * (1 + len(driving(settings))))

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """The start of a chain without covariates, and logits of 0 or those that the user gave."""
        params: Params = model.driven(super().start(settings, model, sample, rng, shape), sample)
        return params

    def needs_box(self, settings: Any) -> bool:
        """Always: covariates are measured about the middle of theirs."""
        return True

    def box(self, settings: Any, model: Any, source: Source, engine: Engine) -> Array | None:
        """(2, p) smallest and largest covariates."""
        boxes: list[Array] = []
        map_source(source, BoxTask(), engine, 0, boxes.append)
        return joined_boxes(boxes) if boxes else None

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """startprob_ (K,), transition_intercept_ (K, K), transition_coef_ (K, K, p), and transmat_ (K, K) at 0."""
        own = shown(params.logits, params.box, self.has_durations)
        found = {public: np.array(own[name]) for name, public in MOVES.items()}
        at_zero = np.exp(log_moves(found["transition_intercept_"][:, :, None], np.ones((1, 1)), self.has_durations))[0]
        return {"startprob_": np.array(params.startprob), **found, "transmat_": at_zero}

    def check_by_hand(self, settings: Any, attributes: Mapping[str, Any]) -> None:
        """Probabilities and coefficients of so many states."""
        self.rebuilt(settings, attributes, Params())

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters of the published attributes."""
        k, p = int(settings.n_components), len(driving(settings))
        given = require_moves({name: attributes[public] for name, public in MOVES.items()}, k, p)
        box = np.stack([np.full(p, -1.0), np.ones(p)])
        return Params(
            startprob=probabilities(attributes["startprob_"], (k,), "startprob_"),
            logits=hidden(np.asarray(given.intercept), np.asarray(given.coef), box),
            box=box,
            kept=np.zeros(k, dtype=np.bool_),
            components=components,
        )

    def misfit(self, params: Params, k: int) -> str:
        """Probabilities or logits of another number of states, or no emissions."""
        if told := self.other_kind(params):
            return told
        logits = np.shape(params.get("logits", ()))
        if np.shape(params.get("startprob", ())) != (k,) or logits[:2] != (k, k) or len(logits) != 3:
            return f"the file's startprob and logits do not fit {k} states whose transitions depend on covariates"
        return "" if "components" in params else "the file holds no emissions"

    def n_parameters(self, settings: Any, params: Params) -> int:
        """K − 1 of the first state, and (K − 1)·(1 + p) of the transitions out of each."""
        k = int(settings.n_components)
        return k - 1 + k * (k - 1) * np.shape(params.logits)[2]

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """Hyperparameters of all sequences, and none that covariates of the transitions exclude."""
        super().check(settings)
        driving(settings)
        asked = {
            "topology": settings.topology != "ergodic",
            "tied_transitions": bool(tied_groups(settings)),
            "transmat_prior": not np.array_equal(np.asarray(settings.transmat_prior), np.asarray(1.0)),
        }
        if wrong := [name for name, is_asked in asked.items() if is_asked]:
            raise ParameterError(
                f"{wrong[0]} is {getattr(settings, wrong[0])!r}, which is for transitions that are the same in every "
                f"step: leave {wrong[0]} or transition_covariates at its default"
            )

    def check_start(self, settings: Any, shape: Shape) -> None:
        """Coefficients that do not fit the states and covariates, and what the face finds wrong."""
        super().check_start(settings, shape)
        moves_given(settings)

    def key(self, settings: Any) -> dict[str, Any]:
        """The key of all sequences, the covariates, and where their coefficients start."""
        given, told = moves_given(settings), list(driving(settings))
        held = None if given is None else [np.asarray(given[name]).tolist() for name in MOVES]
        return {**super().key(settings), "transition_covariates": repr(told), "given moves": repr(held)}

    def refuse(self, settings: Any, what: str) -> None:
        """Copies for hmmlearn."""
        if what in INSTEAD:
            raise ParameterError(f"transition_covariates exclude {what}: {INSTEAD[what]}")

    # --- in words ----------------------------------------------------------------------------------------------------

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each state, of which "stays" is at covariates of 0, and one for each transition."""
        own = self.published(params, np.dtype(np.float64))
        k = len(own["startprob_"])
        lines = super().table(params.replace(transmat=own["transmat_"]), words, title)
        moves = [(i, j) for i in range(k) for j in range(1, k)]
        if len(moves) > SHOWN_MOVES:
            return [*lines, "log-odds of transitions: transition_intercept_, transition_coef_"]
        return [*lines, "log-odds of each transition against that to state 0:", *(odds(own, i, j) for i, j in moves)]

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """One step, which has no transition."""
        if n_rows > 1:
            self.refuse(settings, "rows in pieces")
        yield self.drawn(settings, fitted, n_rows, rng)[0]

    def moves_at(self, settings: Any, n_rows: int, covariates: Any) -> Array:
        """(n − 1, K, K) transition matrices out of all steps but the last.

        Raises
        ------
        ParameterError : covariates that are missing, or no (n, p) finite numbers
        """
        attributes, p = attributes_of(settings), len(driving(settings))
        if covariates is None and n_rows > 1:
            raise ParameterError(
                f"transitions depend on {p} covariates: pass transition_covariates, an array ({n_rows}, {p})"
            )
        u = np.zeros((n_rows, p)) if covariates is None else np.asarray(covariates, dtype=np.float64)
        if u.shape != (n_rows, p) or not np.isfinite(u).all():
            raise ParameterError(
                f"transition_covariates has shape {u.shape}; finite numbers ({n_rows}, {p}) are needed"
            )
        logits = np.concatenate([attributes[MOVES["intercept"]][:, :, None], attributes[MOVES["coef"]]], axis=2)
        return np.exp(log_moves(logits, np.hstack([np.ones((n_rows - 1, 1)), u[:-1]]), self.has_durations))


def with_covariates(settings: Any, fitted: Fitted, rows: Array, covariates: Any) -> Array:
    """Rows (n, d) with the covariates (n, p) of the transitions at their places: those of the fit, else the named ones,
    or behind the features where these are names.

    Raises
    ------
    ParameterError : there are none
    """
    told = driving(settings)
    if not told:
        return rows
    if covariates is None:
        raise ParameterError(
            f"transitions depend on {len(told)} covariates: pass transition_covariates, an array (n, p)"
        )
    n, width = len(rows), rows.shape[1] + len(told)
    places = None if fitted.shape is None or not fitted.shape.covariates else fitted.shape.covariates
    if places is None:
        behind = range(rows.shape[1], width)
        places = tuple(one if isinstance(one, int) else at for one, at in zip(told, behind, strict=True))
    out = np.empty((n, width))
    out[:, list(places)] = np.asarray(covariates, dtype=np.float64)
    out[:, [i for i in range(width) if i not in places]] = rows
    return out


def odds(own: Mapping[str, Array], i: int, j: int) -> str:
    slopes = " ".join(f"{value:+.6g}·u{c}" for c, value in enumerate(own["transition_coef_"][i, j]))
    return f"    {i} → {j}: {own['transition_intercept_'][i, j]:.6g} {slopes}"


def moves_given(settings: Any) -> Params | None:
    """The coefficients from which a fit starts: set, and not to be made anew."""
    if "t" in settings.init_params or not all(hasattr(settings, public) for public in MOVES.values()):
        return None
    given = {name: getattr(settings, public) for name, public in MOVES.items()}
    return require_moves(given, int(settings.n_components), len(driving(settings)))


DRIVEN_SEQUENCES = DrivenSequences()


class OfSequences:
    """The structure of an estimator of sequences: driven where it names covariates of the transitions."""

    def __get__(self, estimator: Any, kind: type) -> Any:
        return SEQUENCES if getattr(estimator, "transition_covariates", None) is None else DRIVEN_SEQUENCES
