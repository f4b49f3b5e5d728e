"""What every estimator of hidden Markov models holds: settings, attributes that may be given, parameters."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ModelFileError, ParameterError
from streamem.core.ports import Family, full_family
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.emissions import EmissionFace
from streamem.estimators.family_facts import free_parameters, settings_of, weighed_against
from streamem.estimators.sequence_inputs import SequenceReading
from streamem.estimators.settings import EMParts
from streamem.initialization import Start, in_order
from streamem.models import HMM as ChainModel
from streamem.models.chain_operators import CHEAP
from streamem.models.transitions import Transitions
from streamem.running.fitted import Shape

Array = NDArray[Any]
DECODERS = ("viterbi", "map")
START, MOVES = "s", "t"
WINDOW = 1000
"""Steps of a long sequence that stepwise EM draws together."""


@hyperparameters()
class HMMParts(EMParts):
    """Hyperparameters of a hidden Markov model, declared here for all of them; its face says what it emits."""

    startprob_prior: ArrayLike = 1.0
    transmat_prior: ArrayLike = 1.0
    algorithm: str = "viterbi"
    random_state: int | np.random.RandomState | None = None
    n_iter: int = 100
    tol: float = 1e-4
    verbose: int = 0
    params: str = "ste"
    init_params: str = "ste"
    start: str = "kmeans"
    n_init: int = 1
    topology: Any = "ergodic"
    tied_transitions: Sequence[Sequence[int]] | None = None
    stopping: str = "aitken"
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    startprob_: Array = field(init=False)
    transmat_: Array = field(init=False)

    face: ClassVar[EmissionFace]

    # --- what the face says ------------------------------------------------------------------------------------------

    def _shape(self) -> Shape | None:
        """None before any data has told the number of features."""
        return Shape(int(self.n_features_in_)) if hasattr(self, "n_features_in_") else None

    def _asked_family(self) -> Family:
        """The family at the present hyperparameters, before it has seen any data."""
        return self.face.family(self, self._shape())

    def _emissions_rebuilt(self) -> Params:
        """Emissions from the attributes."""
        return self.face.rebuilt(self, self._emission_attributes(), self._shape())

    def _emission_attributes(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.face.names}

    # --- the model ---------------------------------------------------------------------------------------------------

    @property
    def _lag(self) -> int:
        """Earlier steps that the emissions look back on."""
        return int(getattr(self._make_family(), "lag", 0))

    def _make_family(self) -> Family:
        """The family at the present hyperparameters, with what a survey of the data told."""
        asked = self._asked_family()
        key, known = self.__dict__.get("_known_family", (None, None))
        surveyed = known if known is not None and key == settings_of(asked) else asked
        return weighed_against(surveyed, self.__dict__.get("_data_weight"))

    def _free_family(self) -> Family:
        """The family whose M-step holds nothing fixed: for starts."""
        return self.face.free_family(self, self._shape()) if self.face.priors else self._make_family()

    def _model_of_all(self, stats: Stats) -> ChainModel:
        """The model whose priors are weighed against these statistics."""
        family: Any = self._make_family()
        if hasattr(family, "weighed"):
            family = family.weighed(float(np.sum(stats.components.weight)))
        model = self._make_model(family)
        model.total_weight = None
        return model

    def _make_model(self, family: Family | None = None, start: Start | None = None) -> ChainModel:
        return ChainModel(
            family or self._make_family(),
            int(self.n_components),
            start or self.face.starts()[self.start],
            topology=self.topology,
            tied_transitions=self.tied_transitions or (),
            startprob_prior=self.startprob_prior,
            transmat_prior=self.transmat_prior,
            startprob_init=self.startprob_ if self._is_given(START, "startprob_") else None,
            transmat_init=self.transmat_ if self._is_given(MOVES, "transmat_") else None,
            params=self.params,
            total_weight=self.__dict__.get("_steps_weight"),
        )

    def _is_given(self, letter: str, name: str) -> bool:
        """Whether `fit` starts from an attribute: it is there, and `init_params` does not say to make it anew."""
        return letter not in self.init_params and hasattr(self, name)

    def _given_wholly(self) -> bool:
        return self.face.is_given_wholly(self)

    def _is_chance_free(self) -> bool:
        """Also of a left-right chain, whose states start with equal shares of every sequence."""
        return self.topology == "left-right" or super()._is_chance_free()

    def _make_start(self, model: ChainModel, sample: Chunk, rng: np.random.RandomState) -> Params:
        given = self.face.given(self)
        if self._given_wholly():
            first = model.transitions.first()
            kept = np.zeros(self.n_components, dtype=np.bool_)
            anchored = model.anchor_only(sample)
            known = None if anchored is None else self.face.with_given(self, anchored.components, given)
            components = self._emissions_rebuilt() if known is None else known
            return Params(startprob=first.startprob, transmat=first.transmat, kept=kept, components=components)
        params = self._starter(sample).init(sample, rng)
        components = self.face.with_given(self, self.face.settled(self, params.components), given)
        return params.replace(components=components)

    def _starter(self, sample: Chunk) -> ChainModel:
        """The model that makes the first parameters: states of a left-right chain share each sequence evenly."""
        if self.topology != "left-right" or sample.sequences is None:
            return self._make_model(self._free_family())
        present = ~np.isnan(sample.x[:, 0])
        states = in_order(present, sample.sequences.offsets, int(self.n_components))[present]
        return self._make_model(self._free_family(), lambda x, weight, k, rng: np.eye(k)[states])

    # --- the ports of EMParts ----------------------------------------------------------------------------------------

    def _params(self) -> Params:
        """As everywhere, and of as many states as the hyperparameters say."""
        params = super()._params()
        if len(params.startprob) != int(self.n_components):
            raise ParameterError(
                f"{len(params.startprob)} states were fitted, and n_components is {self.n_components} now: set it "
                "back, or fit anew"
            )
        return params

    def _published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        chain = {"startprob_": np.array(params.startprob), "transmat_": np.array(params.transmat)}
        emissions = self.face.published(self, params.components, dtype)
        return {**chain, **{name: value for name, value in emissions.items() if name != "params_"}}

    def _rebuilt(self) -> Params:
        """From the attributes alone; what they hold is checked."""
        missing = [
            name for name in ("startprob_", "transmat_", *self.face.letters) if getattr(self, name, None) is None
        ]
        if missing:
            raise ParameterError(f"{', '.join(missing)} are neither fitted nor set; call fit, or set them all")
        model = ChainModel(
            self._make_family(),
            int(self.n_components),
            self.face.starts()[self.start],
            startprob_init=self.startprob_,
            transmat_init=self.transmat_,
        )
        first, kept = model.transitions.first(), np.zeros(self.n_components, dtype=np.bool_)
        components = self._emissions_rebuilt()
        return Params(startprob=first.startprob, transmat=first.transmat, kept=kept, components=components)

    def _n_parameters(self) -> int:
        """Those of the emissions, and of the chain, as many as its topology has; zeros that were given count, too."""
        params, first = self._params(), Transitions(int(self.n_components), self.topology).first()
        start, moves = np.asarray(first.startprob) > 0, np.asarray(first.transmat) > 0
        tied = [state for group in self.tied_transitions or () for state in list(group)[1:]]
        free = np.maximum(moves.sum(axis=1) - 1, 0)
        free[tied] = 0
        own = max(int(start.sum()) - 1, 0) + int(free.sum())
        return own + free_parameters(self._make_family(), params.components)

    def _is_fitted(self) -> bool:
        return all(hasattr(self, name) for name in ("startprob_", "transmat_", *self.face.letters))

    def _row_width(self) -> int:
        return self.n_features_in_ * (self._lag + 1)

    def _most_iterations(self) -> int:
        return self.n_iter

    def _iterations_name(self) -> str:
        return "n_iter"

    def _window(self) -> int | None:
        return WINDOW

    def _least_rows(self, n_features: int) -> int:
        return 2 * int(self.n_components) * (n_features + 1 + int(self.n_components))

    def _counts(self) -> dict[str, int]:
        return {**super()._counts(), "n_iter": 0}

    def _choices(self) -> dict[str, Any]:
        return {"start": self.face.starts(), "algorithm": DECODERS, **super()._choices()}

    def _check_hyperparameters(self) -> None:
        super()._check_hyperparameters()
        allowed = {START, MOVES, *self.face.letters.values()}
        for name in ("params", "init_params"):
            value = getattr(self, name)
            if not isinstance(value, str) or not set(value) <= allowed:
                raise ParameterError(
                    f"{name} is {value!r}; it must be of the letters {''.join(sorted(allowed))!r}: s startprob, "
                    "t transmat, "
                    f"{', '.join(f'{letter} {attribute[:-1]}' for attribute, letter in self.face.letters.items())}"
                )

    def _check_given(self, n_features: int) -> None:
        self._make_model().transitions.first()  # which refuses probabilities that are none
        self.face.check_start(self, n_features)

    def _run_key(self) -> dict[str, Any]:
        given = [getattr(self, name) for name in self._given_attributes()]
        given += [getattr(self, name) for name in ("startprob_prior", "transmat_prior", *self.face.priors)]
        held = b"|".join(np.ascontiguousarray(np.asarray(value, dtype=np.float64)).tobytes() for value in given)
        return {
            **super()._run_key(),
            "start": self.start,
            "params": "".join(sorted(set(self.params))),
            "init_params": "".join(sorted(set(self.init_params))),
            "topology": repr(self.topology),
            "tied_transitions": repr([list(group) for group in self.tied_transitions or ()]),
            "given start and priors": f"{zlib.crc32(held):08x}",
            **self.face.key(self),
        }

    def _given_attributes(self) -> list[str]:
        chain = [name for letter, name in ((START, "startprob_"), (MOVES, "transmat_")) if self._is_given(letter, name)]
        return chain + [name for name in self.face.given(self) if name in self.face.keyed]

    def _check_loaded(self, params: Params, n_features: int) -> None:
        k = int(self.n_components)
        shapes = {"startprob": (k,), "transmat": (k, k)}
        wrong = [name for name, shape in shapes.items() if np.shape(params.get(name, ())) != shape]
        if wrong or "components" not in params:
            raise ModelFileError(f"the file's {', '.join(wrong) or 'emissions'} do not fit {k} states")
        if found := self.face.misfit(self, params.components, k, n_features):
            raise ModelFileError(found)

    def _not_saved(self) -> set[str]:
        return set(self.face.objects)

    def _counts_categories(self) -> bool:
        return full_family(self._make_family()).takes_codes

    def _reading(
        self,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> SequenceReading:
        return SequenceReading(
            lengths,
            offsets,
            sequence_column,
            self._lag,
            columns,
            feature_axis,
            sample_weight,
            self._budget().chunk_bytes,
            in_order=not self._may_sweep(),
        )

    def _may_sweep(self) -> bool:
        """Whether the pieces of a long sequence may be asked one after another from its end (`boundaries.Sweep`)."""
        return isinstance(self.n_components, int | np.integer) and self.n_components > CHEAP

    def _exact_state(self) -> State:
        """The state of the last fit, or one of the parameters that were set since."""
        known: State | None = getattr(self, "_state", None)
        params = self._params()
        return known if known is not None and known.params == params else State(params)
