"""`RATERS`: votes of raters on items, each of one of as many classes as there are labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.counting import counted
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import Family, Source
from streamem.estimators.faces.dawid_skene import components_of, plain_values
from streamem.estimators.groups import Groups
from streamem.estimators.hyperparameters import budget_of, require_choice
from streamem.estimators.row_inputs import refuse_what_cannot_be_read
from streamem.estimators.sequence_inputs import step_options
from streamem.estimators.structure import DataArguments, Opened
from streamem.machine.importing import import_whole
from streamem.models.dawid_skene import DawidSkene
from streamem.running.fitted import Fitted, Shape
from streamem.sources import is_source, open_sequences

Array = NDArray[Any]


class Raters(Groups):
    """p(votes on an item) = Σ_k π_k Π_votes P(label | k, rater): `class_prior_` (K,) are shares of the items."""

    names = ("class_prior_",)
    noun = "class"
    starts_from_rows = False
    least_formula = "two"

    # --- data --------------------------------------------------------------------------------------------------------

    def open(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        """Votes of a table in memory, in any order, or of whatever else `streamem.open_sequences` takes.

        Raises
        ------
        DataError : null items, unknown raters or labels, votes that are null
        SchemaError : columns that are missing
        """
        refuse_what_cannot_be_read(x)
        opened = self._opened(settings, x, arguments, shape)
        self.note(settings, opened.shape)
        return opened

    def _opened(self, settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
        votes, columns = import_whole("streamem.estimators.votes"), self.columns(settings)
        if not isinstance(x, votes.Votes) and votes.is_gathered(x):
            x, weight = self.taken(settings, x, arguments.sample_weight, shape)
            arguments = replace(arguments, sample_weight=weight)
        if isinstance(x, votes.Votes):
            return self._in_memory(settings, x, arguments.sample_weight, shape)
        if is_source(x):
            raise ParameterError("pass the table of votes itself, not an open source: raters and items are found in it")
        if shape is None or shape.categories is None:
            shape = Shape(2, (columns.rater, columns.label), self._vocabularies(settings, x))
        self.note(settings, shape)
        arguments = replace(arguments, columns=(columns.rater, columns.label))
        options, weight = step_options(settings, x, arguments, shape), arguments.sample_weight
        try:
            source = open_sequences(x, sequence_column=columns.item, weight=weight, options=options)
        except DataError as error:
            x, weight = self._put_in_order(settings, x, weight, shape, error)
            return self._in_memory(settings, x, weight, shape)
        if settings.repeated == "error":
            votes.require_single(source, (shape.categories or {})[columns.rater], lambda row: f"the item of row {row}")
        return Opened(source, replace(shape, sequences={"sequence_column": columns.item}))

    def _put_in_order(
        self, settings: Any, x: Any, weight: Any, shape: Shape | None, error: DataError
    ) -> tuple[Any, Any]:
        """Votes whose items come again, which `error` says, and their weights: in memory, if the limit allows it."""
        votes = import_whole("streamem.estimators.votes")
        (read, *_), _ = votes.readers(x, self.columns(settings))
        held = votes.VOTE_NBYTES * sum(map(len, read()))
        if held > (limit := budget_of(settings).limit_bytes) // 2:
            raise DataError(
                f"{error}. Votes in any order are put in that of their items in memory, which would take {held:,} "
                f"bytes, more than half of the limit of {limit:,}"
            ) from error
        return self.taken(settings, x, weight, shape)

    def in_order(self, settings: Any, x: Any, shape: Shape | None) -> Any:
        """X itself where the votes on each item follow each other, so that items can be read beside answers; else
        votes in memory."""
        votes, columns = import_whole("streamem.estimators.votes"), self.columns(settings)
        if isinstance(x, votes.Votes) or is_source(x):
            return x
        if votes.is_gathered(x):
            return self.taken(settings, x, None, shape)[0]
        (read, *_), origin = votes.readers(x, columns)
        starts_of_ids = import_whole("streamem.sources.sequence_ids").starts_of_ids
        try:
            starts_of_ids(read, sum(map(len, read())), f"{origin}: column {columns.item!r}")
        except DataError as error:
            return self._put_in_order(settings, x, None, shape, error)[0]
        return x

    def _in_memory(self, settings: Any, x: Any, weight: Any, shape: Shape | None) -> Opened:
        columns = x.columns
        if shape is None:
            known = {columns.rater: x.raters, columns.label: x.labels}
            shape = Shape(2, (columns.rater, columns.label), known, sequences={"sequence_column": columns.item})
        self.note(settings, shape)
        options = replace(step_options(settings, x.x, DataArguments(), shape), columns=None, categories=None)
        source = open_sequences(x.x, offsets=x.offsets, weight=weight, options=options)
        if settings.repeated == "error":
            item = np.repeat(np.arange(len(x.items)), np.diff(x.offsets))
            told = import_whole("streamem.estimators.votes").require_single
            told(source, x.raters, lambda row: f"item {x.items[int(item[row])].as_py()!r}, in row {int(x.order[row])}")
        source.told = {"sequence_column": columns.item}
        source.schema = replace(source.schema, names=shape.names, origin=x.origin)
        return Opened(source, shape)

    def taken(self, settings: Any, x: Any, weight: Any, shape: Shape | None) -> tuple[Any, Any]:
        """Votes of X in the order of their items, and the weights in that order: of the items, or of all votes.

        Parameters
        ----------
        weight : (items,), (n,) and equal within each item, the name of a column, or None
        """
        if isinstance(weight, str):
            votes = import_whole("streamem.estimators.votes")
            weight = votes.weights_of(x, weight)
        found = self.gathered(settings, x, shape)
        if weight is not None and np.shape(weight) == (len(found.x),):
            weight = np.asarray(weight)[found.order]
        return found, weight

    def gathered(self, settings: Any, x: Any, shape: Shape | None) -> Any:
        """Votes of X in the order of their items, by the vocabularies of a fit if there is one."""
        self.check(settings)
        known, columns = self._known(settings, shape), self.columns(settings)
        kept = settings.missing == "integrate"
        gather = import_whole("streamem.estimators.votes").gather
        found = gather(
            x, columns, known.get(columns.rater), known.get(columns.label), settings.unseen == "missing", kept
        )
        if not found.raters or not found.labels:
            raise DataError(f"{found.origin} holds no vote: every rater or every label is missing")
        return found

    def columns(self, settings: Any) -> Any:
        """The names of the three columns.

        Raises
        ------
        ParameterError : names that are none, or equal
        """
        columns = import_whole("streamem.estimators.votes").Columns(settings.item, settings.rater, settings.label)
        columns.check()
        return columns

    def note(self, settings: Any, shape: Shape) -> None:
        """Tell the estimator how many classes there are, unless it knows that from a fit."""
        labels = (shape.categories or {}).get(settings.label)
        if labels is not None and getattr(settings, "n_components", None) != len(labels):
            settings.__dict__["_classes"] = len(labels)

    def sized(self, settings: Any, features: int, params: Params | None = None) -> None:
        """Note the number of classes of a file."""
        if params is not None:
            settings.__dict__["_classes"] = len(params.weights)

    def _known(self, settings: Any, shape: Shape | None) -> Mapping[str, tuple[Any, ...]]:
        """Vocabularies of a fit, or those that the user names."""
        if shape is not None and shape.categories is not None:
            return shape.categories
        named = {settings.rater: settings.raters, settings.label: settings.classes}
        return {name: plain_values(values) for name, values in named.items() if values is not None}

    def _vocabularies(self, settings: Any, x: Any) -> dict[str, tuple[Any, ...]]:
        """Raters and labels, each found in a pass over its column where the user does not name them."""
        votes, columns = import_whole("streamem.estimators.votes"), self.columns(settings)
        (_, *read), origin = votes.readers(x, columns)
        known = dict(self._known(settings, None))
        for name, pieces in zip((columns.rater, columns.label), read, strict=True):
            if name not in known:
                known[name] = votes.vocabulary(pieces(), f"{origin}: {name!r}")
            if not known[name]:
                raise DataError(f"{origin}: {name!r} is null in every row; without votes there is nothing to fit")
        return known

    def reopened(self, settings: Any, chunk: Chunk, shape: Shape) -> Source:
        """Votes in memory."""
        self.note(settings, shape)
        return super().reopened(settings, chunk, shape)

    # --- model -------------------------------------------------------------------------------------------------------

    def model(self, settings: Any, family: Family, fitted: Fitted | None) -> DawidSkene:
        """Items of as many classes as there are labels."""
        return DawidSkene(family, int(settings.n_components))

    def least_rows(self, settings: Any, n_features: int) -> int:
        """Two, since a start knows nothing of the rows."""
        return 2

    def start(self, settings: Any, model: Any, sample: Chunk, rng: np.random.RandomState, shape: Shape) -> Params:
        """Parameters that know nothing, from which the first pass goes by the votes, or those that were given."""
        if settings.confusion_init is None:
            params: Params = model.init(sample, rng)
            return params
        k, prior = int(settings.n_components), settings.class_prior_init
        components = components_of(settings.confusion_init, k, "confusion_init")
        known = (shape.categories or {}).get(settings.rater)
        if known is not None and len(known) != len(components.starts) - 1:
            raise ParameterError(
                f"confusion_init has tables of {len(components.starts) - 1} raters, and there are {len(known)}: one "
                "table for each rater in the order of raters_ is needed (name them with raters=)"
            )
        weights = np.full(k, 1.0 / k) if prior is None else np.asarray(prior, dtype=np.float64)
        return Params(weights=weights, components=components)

    def is_given_wholly(self, settings: Any) -> bool:
        """Always, since a start draws nothing."""
        return True

    # --- public names ------------------------------------------------------------------------------------------------

    def published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """class_prior_ (K,)."""
        return {"class_prior_": np.array(params.weights)}

    def rebuilt(self, settings: Any, attributes: Mapping[str, Any], components: Params) -> Params:
        """Parameters from attributes: the shares as they are."""
        return Params(weights=np.asarray(attributes["class_prior_"], dtype=np.float64), components=components)

    def shapes(self, k: int) -> Mapping[str, tuple[int, ...]]:
        """(K,)."""
        return {"class_prior_": (k,)}

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def check(self, settings: Any) -> None:
        """Names of columns, and vocabularies without a value twice.

        Raises
        ------
        ParameterError : naming what cannot be
        """
        require_choice(settings, "init_params", settings.face.starts())
        require_choice(settings, "repeated", ("count", "error"))
        self.columns(settings)
        for name in ("raters", "classes"):
            values = getattr(settings, name)
            if values is None:
                continue
            told = None if isinstance(values, str) else plain_values(values)
            if not told or len(set(told)) < len(told) or None in told:
                raise ParameterError(f"{name} is {values!r:.200}; a list of different values is needed, or None")

    def key(self, settings: Any) -> dict[str, Any]:
        """What identifies a run is the face's."""
        return {}

    def headline(self, settings: Any, features: int) -> str:
        """Classes."""
        return f"items of {counted(settings.n_components, 'class')}"


RATERS = Raters()
"""`DawidSkene`: items of an unknown class, which raters label."""
