"""`SEQUENCES`: steps of sequences, each emitted by one of K states of a hidden Markov chain."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import PATH, POSTERIOR
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, Source, Task
from streamem.core.stats import Stats
from streamem.estimators.attributes import attributes_of
from streamem.estimators.family_facts import integrated, weighed_by
from streamem.estimators.hyperparameters import require_choice
from streamem.estimators.making import family_of
from streamem.estimators.sequence_inputs import open_steps, step_options
from streamem.estimators.structure import Asked, DataArguments, Opened, Question, Structure, imputing
from streamem.initialization import Start, in_order
from streamem.models import HMM as ChainModel
from streamem.models.durations import Durations
from streamem.models.steps import missing_rows
from streamem.models.transitions import Transitions
from streamem.running.answers import Column, map_source
from streamem.running.engines import Engine
from streamem.running.fitted import Fitted, Shape
from streamem.running.sequence_tasks import ApplyAlong, ScoreAlong, WeighAlong
from streamem.sources import open_sequences

Array = NDArray[Any]
DECODERS = ("viterbi", "map")
CHAIN = {"startprob_": "s", "transmat_": "t"}
"""hmmlearn's letters of what ties the states together."""
WINDOW = 1000
"""Steps of a long sequence that stepwise EM draws together."""


def asking(method: str, kind: str) -> Any:
    """The task that asks a model's method of every step, with messages of a kind about what lies beyond a chunk."""

    def task(model: Any, params: Params, names: tuple[str, ...] | None, column: Column) -> ApplyAlong:
        dtype, nbytes = column.dtype, column.row_nbytes
        describe = getattr(model, method)
        return ApplyAlong(describe, params, names, dtype, nbytes, missing=model.missing, model=model, kind=kind)

    return task


def _state_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, np.dtype(np.int32 if stored else np.int64), ("state",))


def _probability_columns(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(k, np.dtype(np.float64), tuple(f"probability_{i}" for i in range(k)))


class Sequences(Structure):
    """z_1, z_2, … is a Markov chain, and step t is emitted by the component z_t of the family."""

    questions = MappingProxyType(
        {
            "path": Question(_state_column, asking("path", PATH)),
            "labels": Question(_state_column, asking("labels", POSTERIOR)),
            "posteriors": Question(_probability_columns, asking("posteriors", POSTERIOR)),
        }
    )
    names = tuple(CHAIN)
    has_durations = False
    """Whether states last as a distribution says: see `duration_steps`."""

    is_driven = False
    """Whether covariates drive the transitions."""

    is_sequential = True
    iterations, starting, noun, window = "n_iter", "start", "state", WINDOW
    least_formula = "2·K·(d + 1 + K)"

    # --- data --------------------------------------------------------------------------------------------------------

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Sequences of anything that `streamem.open_sequences` takes."""
        return open_steps(settings, x, arguments, shape)

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Sequences in memory, each with the steps on which its family looks back."""
        offsets = np.array([0, chunk.rows]) if chunk.sequences is None else chunk.sequences.offsets
        lag = int(getattr(settings.face.family(settings, shape), "lag", 0))
        options = step_options(settings, chunk.x, DataArguments(), shape)
        driven = shape.covariates
        return open_sequences(
            chunk.x, offsets=offsets, lag=lag, weight=chunk.weight, options=options, covariates=driven
        )

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> ChainModel:
        """The chain with what the family says of each state."""
        return self.chain(settings, family, None if fitted is None else fitted.prior_weight.steps)

    def model_of_all(self, settings: Any, family: Family, fitted: Fitted, stats: Stats) -> ChainModel:
        """The model whose priors are weighed against these statistics."""
        return self.chain(settings, weighed_by(family, stats), None)

    def chain(
        self, settings: Any, family: Family, total_weight: float | None, start: Start | None = None
    ) -> ChainModel:
        """The model of the hyperparameters."""
        return ChainModel(
            family,
            int(settings.n_components),
            start or settings.face.starts()[settings.start],
            topology=settings.topology,
            tied_transitions=tied_groups(settings),
            startprob_prior=settings.startprob_prior,
            transmat_prior=settings.transmat_prior,
            startprob_init=given_chain(settings, "startprob_"),
            transmat_init=given_chain(settings, "transmat_"),
            params=settings.params,
            total_weight=total_weight,
        )

    def row_width(self, family: Any, features: int) -> int:
        """The width of a row as the family sees it: with the values of earlier steps that the family looks back on."""
        return features * (int(getattr(family, "lag", 0)) + 1)

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·K·(d + 1 + K)."""
        return 2 * int(settings.n_components) * (n_features + 1 + int(settings.n_components))

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """An M-step from the sample's responsibilities, with the given attributes put in."""
        face = settings.face
        given = face.given(settings)
        if face.is_given_wholly(settings):
            anchor = model.anchor_only(sample)
            known = None if anchor is None else face.with_given(settings, anchor.components, given)
            components = face.rebuilt(settings, given, shape) if known is None else known
            return Params(**model.first_chain(), components=components)
        params: Params = self._starter(settings, model, sample, shape).init(sample, rng)
        components = face.with_given(settings, face.settled(settings, params.components), given)
        return params.replace(components=components)

    def _starter(self, settings: Any, model: Any, sample: Chunk, shape: Shape) -> ChainModel:
        """The model that makes the first parameters: states of a left-right chain share each sequence evenly."""
        face, k = settings.face, int(settings.n_components)
        family = integrated(settings, face.free_family(settings, shape)) if face.priors else model.family
        if settings.topology != "left-right" or sample.sequences is None:
            return self.chain(settings, family, model.total_weight, model._start)
        missing = missing_rows(sample.x)
        present = np.ones(sample.rows, dtype=np.bool_) if missing is None else ~missing
        states = in_order(present, sample.sequences.offsets, k)[present]
        return self.chain(settings, family, model.total_weight, lambda x, weight, k, rng: np.eye(k)[states])

    def check_online(self, model: Any, fitted: Fitted) -> None:
        """Priors of the chain need the number of all steps."""
        if fitted.prior_weight.steps is None and model.transitions.has_prior:
            raise ParameterError(
                "startprob_prior and transmat_prior are weighed against the data, of which nobody has told how much "
                "there is: fit first, or leave them at 1"
            )

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether all emissions are given, or states of a left-right chain start with equal shares of a sequence."""
        return settings.topology == "left-right" or bool(settings.face.is_given_wholly(settings))

    def steps_weight(self, settings: Any, model: Any, source: Source, engine: Engine) -> float | None:
        """The weight of all steps, if a prior of the chain asks for it."""
        if not model.transitions.has_prior:
            return None
        weights: list[float] = []
        map_source(source, WeighAlong(model), engine, 0, weights.append)
        return sum(weights) or None

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> Task[Stats]:
        """The weighted log-likelihood of the sequences."""
        return ScoreAlong(model, params, names)

    def imputing(self, n_draws: int, seed: int | None) -> Asked:
        """From the probabilities of the states of each step given its whole sequence."""
        return imputing(asking("imputed", POSTERIOR), n_draws, seed)

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """startprob_ (K,) and transmat_ (K, K)."""
        return {"startprob_": np.array(params.startprob), "transmat_": np.array(params.transmat)}

    def check_by_hand(self, settings: Any, attributes: Mapping[str, Any]) -> None:
        """Probabilities of so many states."""
        self._by_hand(settings, attributes)

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters of the published attributes; probabilities enter as they are, of whatever topology."""
        chain, kept = self._by_hand(settings, attributes), np.zeros(int(settings.n_components), dtype=np.bool_)
        return Params(startprob=chain.startprob, transmat=chain.transmat, kept=kept, components=components)

    @staticmethod
    def _by_hand(settings: Any, attributes: Mapping[str, Any]) -> Params:
        k = int(settings.n_components)
        return Transitions(k, startprob=attributes["startprob_"], transmat=attributes["transmat_"]).first()

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """(K,), which tells the number of states."""
        return {"startprob_": (k,)}

    def other_kind(self, params: Params) -> str:
        """Which hyperparameter was another one when parameters were fitted, since they are of another kind of chain."""
        if ("duration_logs" in params) != self.has_durations:
            was, now = ("no durations", "a kind") if self.has_durations else ("durations", "none")
            return f"the states that were fitted have {was}, and the hyperparameter durations names {now} now"
        if ("logits" in params) != self.is_driven:
            was, now = ("no covariates", "names columns") if self.is_driven else ("covariates", "is None")
            return f"the transitions that were fitted depend on {was}, and transition_covariates {now} now"
        return ""

    def misfit(self, params: Params, k: int) -> str:
        """Probabilities of another number of states, or no emissions."""
        shapes = {"startprob": (k,), "transmat": (k, k)}
        wrong = [name for name, shape in shapes.items() if np.shape(params.get(name, ())) != shape]
        if told := self.other_kind(params):
            return told
        if wrong or "components" not in params:
            return f"the file's {', '.join(wrong) or 'emissions'} do not fit {k} states"
        return ""

    def n_parameters(self, settings: Any, params: Params) -> int:
        """The free parameters of a chain: as many as its topology has; zeros that were given count, too."""
        first = Transitions(int(settings.n_components), settings.topology).first()
        start, moves = np.asarray(first.startprob) > 0, np.asarray(first.transmat) > 0
        tied = [state for group in tied_groups(settings) for state in group[1:]]
        free = np.maximum(moves.sum(axis=1) - 1, 0)
        free[tied] = 0
        return max(int(start.sum()) - 1, 0) + int(free.sum())

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """`start` and `algorithm` are names, `params` and `init_params` letters."""
        require_choice(settings, "start", settings.face.starts())
        require_choice(settings, "algorithm", DECODERS)
        if settings.durations is not None and not self.has_durations:
            Durations(settings.durations, 2)  # refuses what is no kind of them
        letters: dict[str, str] = dict(settings.face.letters)
        for name in ("params", "init_params"):
            value = getattr(settings, name)
            if not isinstance(value, str) or not set(value) <= {*CHAIN.values(), *letters.values()}:
                raise ParameterError(
                    f"{name} is {value!r}; it must be of the letters "
                    f"{''.join(sorted({*CHAIN.values(), *letters.values()}))!r}: s startprob, t transmat, "
                    f"{', '.join(f'{letter} {attribute[:-1]}' for attribute, letter in letters.items())}"
                )

    def check_start(self, settings: Any, shape: Shape) -> None:
        """Probabilities that are none, and what the face finds wrong."""
        self.chain(settings, settings.face.family(settings, shape), None).first_chain()
        settings.face.check_start(settings, shape.features)

    def key(self, settings: Any) -> dict[str, Any]:
        """Hyperparameters of the chain, and a checksum of given values and priors."""
        face = settings.face
        given = [value for name in CHAIN if (value := given_chain(settings, name)) is not None]
        given += [value for name, value in face.given(settings).items() if name in face.keyed]
        given += [getattr(settings, name) for name in ("startprob_prior", "transmat_prior", *face.priors)]
        held = b"|".join(np.ascontiguousarray(np.asarray(value, dtype=np.float64)).tobytes() for value in given)
        return {
            "start": settings.start,
            "params": "".join(sorted(set(settings.params))),
            "init_params": "".join(sorted(set(settings.init_params))),
            "topology": repr(settings.topology),
            "tied_transitions": repr(tied_groups(settings)),
            "given start and priors": f"{zlib.crc32(held):08x}",
        }

    # --- in words ----------------------------------------------------------------------------------------------------

    def headline(self, settings: Any, features: int) -> str:
        """States and features."""
        return f"{counted(settings.n_components, 'state')}, {counted(features, 'feature')}"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each state: its share of starts, its probability to stay, and its emissions in words."""
        start, moves = np.asarray(params.startprob), np.asarray(params.transmat)
        lines = (f"{k:5d}{start[k]:9.4f}{moves[k, k]:9.4f}  {told}" for k, told in enumerate(words))
        return [f"state    start    stays  {title}", *lines]

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """One sequence, so many steps at a time."""
        chances, moves = None, np.asarray(attributes_of(settings)["transmat_"])
        for first in range(0, n_rows, step):
            rows, states = self.drawn(settings, fitted, min(step, n_rows - first), rng, chances)
            chances = moves[states[-1]]
            yield rows

    def drawn(
        self,
        settings: Any,
        fitted: Fitted,
        n_rows: int,
        rng: np.random.RandomState,
        chances: Array | None = None,
        covariates: Any = None,
    ) -> tuple[Array, Array]:
        """Steps (n, d) and their states (n,); the first is drawn with the given chances, those of startprob_ if None.

        `covariates` (n, p) drive the transitions, where these depend on such.

        Raises
        ------
        ParameterError : a number of rows that is none, a family that cannot draw, or that looks back on earlier steps
        """
        if isinstance(n_rows, bool) or not isinstance(n_rows, int | np.integer) or n_rows < 1:
            raise ParameterError(f"n_samples is {n_rows!r}; it must be an integer >= 1")
        states = self.drawn_states(settings, int(n_rows), rng, chances, covariates)
        return self.emitted(settings, fitted, states, rng), states

    def drawn_states(
        self, settings: Any, n_rows: int, rng: np.random.RandomState, chances: Array | None, covariates: Any
    ) -> Array:
        """States (n,) of one sequence, of which the first has the given chances, those of startprob_ if None."""
        attributes = attributes_of(settings)
        first = np.asarray(attributes["startprob_"] if chances is None else chances)
        return _draw_states(rng, n_rows, first, self.moves_at(settings, n_rows, covariates))

    def emitted(self, settings: Any, fitted: Fitted, states: Array, rng: np.random.RandomState) -> Array:
        """Rows (n, d) that states (n,) emit.

        Raises
        ------
        ParameterError : a family that cannot draw, or that looks back on earlier steps
        """
        assert fitted.state is not None
        attributes, components = attributes_of(settings), fitted.state.params.components
        family, draw = family_of(settings, fitted), settings.face.draw
        if lag := int(getattr(family, "lag", 0)):
            raise ParameterError(f"steps of {type(settings).__name__} depend on {lag} before; they cannot be drawn yet")
        counts = [int((states == k).sum()) for k in range(int(settings.n_components))]
        drawn = [draw(settings, family, components, attributes, k, n, rng) for k, n in enumerate(counts)]
        rows = np.empty((len(states), drawn[0].shape[1]))
        for k, own in enumerate(drawn):
            rows[states == k] = own
        return rows

    def moves_at(self, settings: Any, n_rows: int, covariates: Any) -> Array:
        """(K, K) transition probabilities, or (n − 1, K, K) where they differ from step to step.

        Raises
        ------
        ParameterError : covariates of a chain that has none
        """
        if covariates is not None:
            raise ParameterError(
                "transition_covariates were passed to a chain whose transitions depend on none: leave them out"
            )
        return np.asarray(attributes_of(settings)["transmat_"])


def _draw_states(rng: np.random.RandomState, n: int, first: Array, moves: Array) -> Array:
    """(n,) int64 states of one sequence of a Markov chain; moves (K, K), or (n − 1, K, K) out of each step."""
    begin, ends = np.cumsum(first), np.cumsum(moves, axis=-1)
    begin, ends = begin / begin[-1], ends / ends[..., -1:]
    states, draws = np.empty(n, dtype=np.int64), rng.uniform(size=n)
    chances = begin
    for t in range(n):
        if t:
            chances = ends[states[t - 1]] if moves.ndim == 2 else ends[t - 1, states[t - 1]]
        states[t] = np.searchsorted(chances, draws[t], side="right")
    return states


def tied_groups(settings: Any) -> list[list[int]]:
    """The groups of states that share their transitions; a model file holds groups of one size as an array."""
    groups = settings.tied_transitions
    return groups.tolist() if isinstance(groups, np.ndarray) else [list(group) for group in groups or ()]


def given_chain(settings: Any, name: str) -> Any:
    """An attribute of the chain from which `fit` starts: it is set, and not to be made anew; else None."""
    return None if CHAIN[name] in settings.init_params else getattr(settings, name, None)


SEQUENCES = Sequences()
