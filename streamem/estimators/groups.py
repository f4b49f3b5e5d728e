"""`GROUPS`: rows of one identifier belong to one of K components together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from streamem.estimators.attributes import attributes_of
from streamem.estimators.making import family_of
from streamem.estimators.rows import Rows, weight_prior
from streamem.estimators.sequence_inputs import open_steps, step_options
from streamem.estimators.steps import asking
from streamem.estimators.structure import Asked, DataArguments, Opened, Question, imputing
from streamem.initialization import MERGED, SPLIT_MERGE
from streamem.models import GroupedMixture
from streamem.running.answers import Column
from streamem.running.fitted import Fitted, Shape
from streamem.running.sequence_tasks import ScoreAlong
from streamem.sources import is_source, open_sequences

Array = NDArray[Any]

WINDOW = 2**16
"""Rows of a group that "stepwise" draws together; pieces of a larger one count as groups of their own."""


def _label_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, np.dtype(np.int32 if stored else np.int64), ("label",))


def _probability_columns(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(k, np.dtype(np.float64), tuple(f"probability_{i}" for i in range(k)))


def _density_column(k: int, dtype: np.dtype[Any], stored: bool) -> Column:
    return Column(None, np.dtype(np.float64), ("log_density",))


class Groups(Rows):
    """p(group) = Σ_k w_k Π_rows p_k(x): `weights_` (K,) are shares of groups."""

    questions: Mapping[str, Question] = MappingProxyType(
        {
            "labels": Question(_label_column, asking("group_labels", POSTERIOR), per_sequence=True),
            "responsibilities": Question(
                _probability_columns, asking("group_responsibilities", POSTERIOR), per_sequence=True
            ),
            "log_density": Question(
                _density_column, asking("group_log_density", POSTERIOR), per_sequence=True, added=True
            ),
        }
    )
    is_sequential, answers_lazily, window = True, False, WINDOW

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Groups of anything that `streamem.open_sequences` takes.

        Raises
        ------
        ParameterError : nobody says which rows are one group
        """
        opened = open_steps(settings, x, arguments, shape)
        source: Any = opened.source
        said = arguments.lengths, arguments.offsets, arguments.sequence_column
        silent = all(value is None for value in said) and not source.told and not isinstance(x, list | tuple)
        if silent and not is_source(x) and source.n_sequences == 1 < source.n_rows:
            raise ParameterError(
                f"which of the {source.n_rows} rows of {source.schema.origin} are one group? Pass lengths=, offsets= "
                "or sequence_column=, or a list of arrays; where every row is by itself, use Mixture"
            )
        return opened

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Groups in memory."""
        offsets = np.array([0, chunk.rows]) if chunk.sequences is None else chunk.sequences.offsets
        options = step_options(settings, chunk.x, DataArguments(), shape)
        return open_sequences(chunk.x, offsets=offsets, weight=chunk.weight, options=options)

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> Any:
        """The mixture of groups."""
        start, prior = settings.face.starts()[settings.init_params], weight_prior(settings, fitted)
        return GroupedMixture(family, int(settings.n_components), start, prior)

    def check(self, settings: Any) -> None:
        """A start that takes rows for independent ones is refused, where there are groups."""
        super().check(settings)
        if settings.init_params in (MERGED, SPLIT_MERGE):
            raise ParameterError(
                f"init_params is {settings.init_params!r}, which takes rows for independent ones; rows of one "
                "group are not: use 'short_em'"
            )

    def imputing(self, n_draws: int, seed: int | None) -> Asked:
        """From the probabilities of the components given the whole group."""
        return imputing(asking("imputed", POSTERIOR), n_draws, seed)

    def score_task(self, model: Any, params: Params, names: tuple[str, ...] | None) -> Task[Stats]:
        """The weighted log-likelihood of the groups."""
        return ScoreAlong(model, params, names)

    def pieces(
        self, settings: Any, fitted: Fitted, n_rows: int, step: int, rng: np.random.RandomState
    ) -> Iterator[Array]:
        """Groups of one row each."""
        for first in range(0, n_rows, step):
            yield self.drawn_groups(settings, fitted, np.ones(min(step, n_rows - first), dtype=np.int64), rng)[0]

    def drawn_groups(
        self, settings: Any, fitted: Fitted, lengths: Array, rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Rows (Σ lengths, d) of groups, one after the other, and the components (g,) of the groups.

        Raises
        ------
        ParameterError : lengths that are none, or a family that cannot draw
        """
        if lengths.ndim != 1 or not len(lengths) or lengths.dtype.kind not in "iu" or (lengths < 1).any():
            raise ParameterError(f"lengths are {lengths!r}; they must be integers >= 1, one for every group")
        assert fitted.state is not None
        attributes, components = attributes_of(settings), fitted.state.params.components
        chances = np.asarray(attributes[self.names[0]], dtype=np.float64)
        labels = rng.choice(len(chances), size=len(lengths), p=chances / chances.sum())
        of_rows, family, draw = np.repeat(labels, lengths), family_of(settings, fitted), settings.face.draw
        counts = np.bincount(of_rows, minlength=len(chances))
        drawn = [draw(settings, family, components, attributes, k, int(n), rng) for k, n in enumerate(counts)]
        rows = np.empty((len(of_rows), drawn[0].shape[1]))
        for k, own in enumerate(drawn):
            rows[of_rows == k] = own
        return rows, np.asarray(labels, dtype=np.int64)

    def headline(self, settings: Any, features: int) -> str:
        """Components and features."""
        return f"{counted(settings.n_components, 'component')} of groups of rows with {counted(features, 'feature')}"


GROUPS = Groups()
