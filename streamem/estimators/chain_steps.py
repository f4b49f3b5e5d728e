"""`CHAIN_STEPS`: steps of sequences that a Gaussian state moves along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import POSTERIOR
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, Source, Task
from streamem.core.stats import Stats
from streamem.estimators.chain_setup import check_setup, require_arrays, setup_of
from streamem.estimators.in_words import in_short
from streamem.estimators.sequence_inputs import open_steps, step_options
from streamem.estimators.steps import asking
from streamem.estimators.structure import Asked, DataArguments, Opened, Question, Structure
from streamem.models.gaussian_chain import GaussianChain
from streamem.models.gaussian_pass import root_of
from streamem.models.gaussian_setup import LETTERS
from streamem.running.fitted import Fitted, Shape
from streamem.running.sequence_tasks import ScoreAlong
from streamem.sources import open_sequences

Array = NDArray[Any]

WINDOW = 1000
"""Steps of a long sequence that stepwise EM draws together."""


class ChainSteps(Structure):
    """Matrices of a linear Gaussian chain, under their names and an underscore."""

    questions: Mapping[str, Question] = MappingProxyType({})
    names = tuple(f"{name}_" for name in LETTERS)
    iterations, noun, window = "n_iter", "chain", WINDOW
    starts_from_rows, has_components, is_sequential = False, False, True
    least_formula = "2·(d + k + 1)"

    # --- data --------------------------------------------------------------------------------------------------------

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Sequences of anything that `streamem.open_sequences` takes."""
        check_setup(settings)
        return open_steps(settings, x, arguments, shape)

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Sequences in memory."""
        offsets = np.array([0, chunk.rows]) if chunk.sequences is None else chunk.sequences.offsets
        options = step_options(settings, chunk.x, DataArguments(), shape)
        return open_sequences(chunk.x, offsets=offsets, weight=chunk.weight, options=options)

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Any:
        """The chain of the hyperparameters."""
        return GaussianChain(setup_of(settings))

    def least_rows(self, settings: Any, n_features: int) -> int:
        """2·(d + k + 1)."""
        return 2 * (n_features + int(settings.n_latent) + 1)

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """What is given, and moments of the sample for the rest."""
        params: Params = model.init(sample, rng)
        return params

    def is_given_wholly(self, settings: Any) -> bool:
        """Whether nothing is drawn, as only the observation matrix is."""
        return settings.observation_matrix is not None

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> Task[Stats]:
        """The weighted log-likelihood of the sequences."""
        return ScoreAlong(model, params, names)

    def imputing(self, n_draws: int, seed: int | None) -> Asked:
        """Conditional means given the whole sequence."""
        made: Asked = asking("imputed", POSTERIOR)
        return made

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """The matrices, in the units and about the zero of the data."""
        own = {name: np.array(params.components[name]) for name in LETTERS}
        shift = params.anchor - own["observation_matrix"] @ params.origin
        own["observation_offset"] = own["observation_offset"] + shift
        own["initial_mean"] = own["initial_mean"] + params.origin
        return {f"{name}_": value for name, value in own.items()}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters that were set by hand, about their own offset."""
        d, k = np.shape(components.observation_matrix)
        offset = np.asarray(components.observation_offset)
        centred = components.replace(observation_offset=np.zeros(d))
        return Params(components=centred, anchor=offset, origin=np.zeros(k), scale=np.ones(d))

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes follow from the face's hyperparameters."""
        return {}

    def misfit(self, params: Params, k: int) -> str:
        """Parameters of a file that are of no chain."""
        lacking = [name for name in ("components", "anchor", "origin", "scale") if name not in params]
        return f"the file holds no {', '.join(lacking)} of a chain" if lacking else ""

    def n_parameters(self, settings: Any, params: Params) -> int:
        """0: all parameters are those of the one chain."""
        return 0

    # --- rows that are drawn -----------------------------------------------------------------------------------------

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """One sequence, so many steps at a time."""
        state = None
        for first in range(0, n_rows, step):
            rows, states = self.drawn(settings, fitted, min(step, n_rows - first), rng, state, first > 0)
            state = states[-1]
            yield rows

    def drawn(
        self,
        settings: Any,
        fitted: Fitted,
        n_rows: int,
        rng: np.random.RandomState,
        state: Array | None = None,
        follows: bool = False,
    ) -> tuple[Array, Array]:
        """Steps (n, d) and their states (n, k), of a first state that is given, or of the steps after it (`follows`).

        Raises
        ------
        ParameterError : a number of rows that is none, or a diffuse start, which has no distribution
        """
        if isinstance(n_rows, bool) or not isinstance(n_rows, int | np.integer) or n_rows < 1:
            raise ParameterError(f"n_samples is {n_rows!r}; it must be an integer >= 1")
        if state is None and settings.diffuse:
            raise ParameterError(
                "a diffuse start has no distribution from which a first state could be drawn: pass currstate=, or set "
                "diffuse=False with initial_mean= and initial_covariance="
            )
        assert fitted.state is not None
        own = self.published(fitted.state.params, np.dtype(np.float64))
        a, g = own["transition_matrix_"], root_of(own["transition_covariance_"])
        noise = own["observation_covariance_"]
        k, states = len(a), np.empty((n_rows, len(a)))
        drawn = rng.normal(size=(n_rows, k)) @ g.T
        if state is None:
            state = own["initial_mean_"] + root_of(own["initial_covariance_"]) @ rng.normal(size=k)
        for t in range(n_rows):
            state = a @ state + drawn[t] if t or follows else np.asarray(state)
            states[t] = state
        far = rng.normal(size=(n_rows, len(noise)))
        far = far * np.sqrt(noise) if noise.ndim == 1 else far @ root_of(noise).T
        return states @ own["observation_matrix_"].T + own["observation_offset_"] + far, states

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """Given arrays, names and letters."""
        check_setup(settings)

    def check_start(self, settings: Any, shape: Shape) -> None:
        """Given arrays fit the columns of the data."""
        require_arrays(setup_of(settings), shape.features)

    # --- in words ----------------------------------------------------------------------------------------------------

    def headline(self, settings: Any, features: int) -> str:
        """Latent dimensions and features."""
        return f"{counted(settings.n_latent, 'latent dimension')}, {counted(features, 'feature')}"

    def table(self, params: Params, words: Sequence[str], title: str) -> list[str]:
        """A line for each matrix, in the units and about the zero of the data."""
        own = self.published(params, np.dtype(np.float64)).items()
        return [title, *(f"    {name} {'×'.join(map(str, value.shape))}: {in_short(value)}" for name, value in own)]


CHAIN_STEPS = ChainSteps()
