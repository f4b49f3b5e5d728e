"""`DawidSkene`: the true labels of items, and how reliable those are who labelled them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.errors import ParameterError
from streamem.core.ports import Variant
from streamem.estimators.asking import Target, answered, scores_of
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.estimator import Estimator
from streamem.estimators.faces.dawid_skene import DawidSkeneFace, plain_values
from streamem.estimators.identity import container_of
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.raters import RATERS
from streamem.estimators.structure import DataArguments
from streamem.machine.importing import import_whole
from streamem.online.learner import step_rule
from streamem.running.answers import Column
from streamem.running.federated import SharedStats
from streamem.running.fitted import Fitted

Array = NDArray[Any]
Path = str | os.PathLike[str]
MOST_NAMED = 12
ALIKE = 1e-9
"""Probabilities that differ by less tell no classes apart."""


@hyperparameters()
class DawidSkene(Estimator):
    """True labels of items and confusion tables of raters, from their votes alone (Dawid & Skene 1979), out of core.

    Every item has a class; rater r labels an item of class k with l with probability π_rkl, whatever else is said of
    it: p(votes on an item) = Σ_k p_k Π_votes π_rkl. Data are a long table with a row for each vote: item, rater, label.

    Parameters
    ----------
    item, rater, label : str, default "item", "rater", "label"
        Columns of a table; of an array (n, 3) they are in this order. Identifiers and labels are text or numbers.
    classes, raters : sequence, optional
        All labels, and all raters, in the order of `classes_` and `raters_`. None takes those of the data in their
        order. Streams need both, and so does whoever wants classes that nobody voted for.
    smoothing : float >= 0, default 0
        Votes that are added to every entry of every table, a Dirichlet prior of 1 + smoothing; 0 is maximum likelihood.
    confusion_init : (raters, K, K), optional
        Tables to start from. Without them EM begins from the votes: an item's classes are shares of its votes.
    class_prior_init : (K,), optional
        Shares of the classes to start from, with `confusion_init`; by default equal.
    repeated : {"count", "error"}, default "count"
        What further votes of a rater on an item are: votes like others, each by itself, or an error that names them.
    missing : {"error", "integrate"}, default "error"
        Whether raters or labels may be null: such votes say nothing, and an item without any other has the
        probabilities of `class_prior_`.
    unseen : {"error", "missing"}, default "error"
        What a rater or label is that the fit did not know: an error, or a missing one (with ``missing="integrate"``).
    tol, max_iter, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `tol` is 1e-6, in nats a vote, and `max_iter` 1000 by default. Only `sample` draws
        numbers.

    Attributes
    ----------
    confusion_ : (raters, K, K), of rater r in row k and column l: P(label l | class k)
    class_prior_ : (K,) shares of the items
    raters_, classes_ : arrays of identifiers and labels, in the order of these arrays
    items_ : (items,) identifiers after a fit to votes in memory, in the order in which they first came; see `items`
    uninformative_raters_ : array of those whose rows are alike in all classes, such as raters with a single label
    n_components : K, known from the data: no hyperparameter
    converged_, n_iter_, lower_bound_, lower_bounds_, report_ : as in `GaussianMixture`; bounds are nats a vote

    Notes
    -----
    Votes in memory may have any order;
    those of one item follow each other in files, or are put in order in memory where `memory_limit` allows for it.
    Statistics are raters × K × K, so memory does not grow with votes.

    Examples
    --------
    >>> from streamem import DawidSkene
    >>> votes = [["a", "Ann", "cat"], ["b", "Ann", "dog"], ["a", "Bob", "cat"], ["b", "Bob", "dog"]]
    >>> votes += [["a", "Eve", "dog"], ["b", "Eve", "dog"], ["c", "Ann", "cat"], ["c", "Bob", "cat"]]
    >>> model = DawidSkene().fit(votes)
    >>> model.items_.tolist(), model.predict(votes).tolist()
    (['a', 'b', 'c'], ['cat', 'dog', 'cat'])
    >>> model.raters_.tolist(), model.confusion_[0].round(2).tolist()
    (['Ann', 'Bob', 'Eve'], [[1.0, 0.0], [0.0, 1.0]])
    """

    item: str = "item"
    rater: str = "rater"
    label: str = "label"
    classes: Sequence[Any] | None = None
    raters: Sequence[Any] | None = None
    smoothing: float = 0.0
    confusion_init: ArrayLike | None = None
    class_prior_init: ArrayLike | None = None
    repeated: str = "count"
    missing: str = "error"
    unseen: str = "error"
    tol: float = 1e-6
    max_iter: int = 1000
    random_state: int | np.random.RandomState | None = None
    warm_start: bool = False
    verbose: int = 0
    stopping: str = "aitken"
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    confusion_: Array = field(init=False)
    class_prior_: Array = field(init=False)

    structure = RATERS
    face: ClassVar[DawidSkeneFace] = DawidSkeneFace()
    instead_of_noise = "a rater who labels at random has equal rows in confusion_, which say so"
    n_init: ClassVar[int] = 1
    init_params: ClassVar[str] = "votes"

    @property
    def n_components(self) -> int:
        """K, the number of labels, once data, `classes` or attributes tell it."""
        known = self.__dict__.get("_classes")
        if known is None and (values := self._values(self.label, self.classes)) is not None:
            known = len(values)
        if known is None and "class_prior_" in self.__dict__:
            known = len(self.__dict__["class_prior_"])
        if known is None:
            raise AttributeError("n_components: the labels are not known yet; fit first, or pass classes=")
        return int(known)

    @property
    def raters_(self) -> Array:
        """Identifiers of the raters, in the order of the tables."""
        return self._named("raters_", self.rater, self.raters)

    @property
    def classes_(self) -> Array:
        """The labels, in the order of the rows and columns of the tables."""
        return self._named("classes_", self.label, self.classes)

    @property
    def uninformative_raters_(self) -> Array:
        """Raters whose votes tell no classes apart: all rows of their tables are alike."""
        tables = np.asarray(self.confusion_)
        return self.raters_[(np.abs(tables - tables[:, :1]) <= ALIKE).all(axis=(1, 2))]

    # --- learning ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: ArrayLike | str | None = None,
        checkpoint: Path | None = None,
        executor: Any = None,
        algorithm: str | Variant | None = None,
    ) -> Self:
        """Fit by EM; one pass over the votes an iteration.

        Parameters
        ----------
        X : table of votes with the columns `item`, `rater` and `label`, or array (n, 3) of these
            A data frame, an Arrow table, a list of rows; a path or collection that `streamem.open_sequences` can open.
        y : ignored
        sample_weight : (items,) in the order of the answers, or (n,) equal within each item, or the name of a column
        checkpoint, executor : as in `GaussianMixture.fit`
        algorithm : "auto", "batch", "squarem", "anderson", "stepwise", "incremental", an object, or None for the plan's
            As in `GaussianMixture.fit`; mini-batches are of whole items.

        Returns
        -------
        self

        Raises
        ------
        DataError : an item, rater or label that is null; no votes; items of a file that come again, beyond the limit
        SchemaError : columns that are missing, or hold values of several types
        MemoryLimitError : the projection exceeds `memory_limit`

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [[1, 7, 0], [1, 8, 0], [2, 7, 1], [2, 8, 1], [3, 7, 1], [3, 8, 0]]
        >>> DawidSkene().fit(votes).class_prior_.shape
        (2,)
        """
        X, sample_weight = self._taken(X, sample_weight, None)
        self._fit(X, DataArguments(sample_weight), algorithm, checkpoint, executor)
        if self._are_votes(X):
            self.items_ = _shown(X.items)
        return self

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Any:
        """`fit`, then `predict` of the same items. Options are those of `fit`.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> DawidSkene().fit_predict([["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"]]).tolist()
        ['x', 'y']
        """
        self.fit(X, **options)
        return self.predict(X, executor=options.get("executor"))

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: ArrayLike | str | None = None,
        half_life: float | None = None,
        step: StepSize | None = None,
        executor: Any = None,
    ) -> Self:
        """One step of online EM with the votes of X as mini-batch; see `GaussianMixture.partial_fit`.

        Raters and classes are those of the first batch, unless `raters` and `classes` name them.

        Parameters
        ----------
        X, y, sample_weight, executor : as in `fit`
        half_life, step : as in `GaussianMixture.partial_fit`

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> DawidSkene().fit(votes).partial_fit(votes).report_.n_rows
        8
        """
        known = None if self._fitted is None else self._fitted.shape
        X, sample_weight = self._taken(X, sample_weight, known)
        try:
            self._learn(X, DataArguments(sample_weight), step_rule(half_life, step), executor)
        finally:
            self.__dict__.pop("_classes", None)
        return self

    def fit_stream(
        self,
        stream: Any,
        *,
        most_steps: int = 100_000,
        half_life: float | None = None,
        step: StepSize | None = None,
        batch_rows: int = 1000,
        columns: Sequence[str] | None = None,
        sample_weight: str | None = None,
        checkpoint: Path | None = None,
        save_every_s: float = 10.0,
        dead_letter: Path | None = None,
        poison_limit: float = 0.01,
        dead_letter_limit: int | str | None = "1GiB",
        history: Path | None = None,
        drift: DriftAlarm | None = None,
        on_drift: OnDrift = "log",
        until: Until | None = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        decoder: OwnDecoder | None = None,
    ) -> Self:
        """Learn from a stream of votes, mini-batch by mini-batch, until it ends or `stop` is called.

        Parameters
        ----------
        stream : as in `GaussianMixture.fit_stream`; records have the fields `item`, `rater` and `label`
            Consecutive records of a partition with one item are its votes.
        most_steps : votes on an item that are gathered; more are learned as those on an item of their own
        columns : ignored: the fields are those of the estimator
        half_life, step, batch_rows, sample_weight, checkpoint, save_every_s, dead_letter, poison_limit
        dead_letter_limit, history, drift, on_drift, until, decoder : as in `GaussianMixture.fit_stream`
        categories : raters and classes by the names of their columns, in place of the hyperparameters

        Returns
        -------
        self

        Raises
        ------
        ParameterError : nobody says who the raters are and which labels there are
        StreamError, PoisonError, DataError, OutputError, WriterConflictError, CheckpointMismatchError
            As in `GaussianMixture.fit_stream`.

        Examples
        --------
        >>> import pyarrow as pa
        >>> from streamem import DawidSkene
        >>> votes = pa.table({"item": [1, 1, 2, 2], "rater": list("abab"), "label": list("xxyy")})
        >>> model = DawidSkene(raters=["a", "b"], classes=["x", "y"])
        >>> model.fit_stream([votes] * 5, batch_rows=4).report_.n_rows
        20
        """
        named = {self.rater: self.raters, self.label: self.classes} if categories is None else categories
        if self._fitted is None and (named.get(self.rater) is None or named.get(self.label) is None):
            raise ParameterError(
                "a stream does not tell beforehand who the raters are and which labels there are: pass raters=[...] "
                "and classes=[...], or fit first"
            )
        arguments = StreamArguments(
            half_life,
            step,
            batch_rows,
            [self.rater, self.label],
            sample_weight,
            checkpoint,
            save_every_s,
            dead_letter,
            poison_limit,
            dead_letter_limit,
            history,
            drift,
            on_drift,
            until,
            self.item,
            most_steps=most_steps,
            categories=categories,
            decoder=decoder,
        )
        if self._fitted is None:
            self.__dict__["_classes"] = len(named[self.label] or ())
        try:
            learn_stream(self, stream, arguments)
        finally:
            self.__dict__.pop("_classes", None)
        return self

    def expected_statistics(
        self, X: Any, *, sample_weight: ArrayLike | str | None = None, executor: Any = None
    ) -> SharedStats:
        """E-step: expected sufficient statistics of the votes of X under the present parameters.

        Those of several sites, each of which holds all votes on its items, are added, and `maximize` makes the M-step.

        Parameters
        ----------
        X, sample_weight, executor : as in `fit`

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> model = DawidSkene().fit(votes)
        >>> model.maximize(model.expected_statistics(votes)).confusion_.shape
        (2, 2, 2)
        """
        return self._expected(X, DataArguments(sample_weight), executor)

    # --- questions ---------------------------------------------------------------------------------------------------

    def predict(self, X: Any, *, out: Path | None = None, overwrite: bool = False, executor: Any = None) -> Any:
        """Most probable class of every item, in the order in which items first come in X (`items`).

        Parameters
        ----------
        X, executor : as in `fit`
        out : path ending in .zarr, .parquet or .npy; it appears when complete
            A ``.parquet`` holds the items beside their classes; the others hold the classes' positions in `classes_`.
        overwrite : replace an existing `out`

        Returns
        -------
        (items,) array of labels, with `set_output` a Series with the items as its index; `out` if that was given

        Raises
        ------
        DataError : raters or labels that the fit did not know, unless ``unseen="missing"``

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> DawidSkene().fit(votes).set_output("pandas").predict(votes).to_dict()
        {'a': 'x', 'b': 'y'}
        """
        self._known()
        classes = self.classes_
        column = Column(
            None, np.dtype(np.int32 if out is not None else np.int64), ("label",), (tuple(classes.tolist()),)
        )
        found = self._asked("labels", X, column, Target(out, overwrite, executor))
        if out is not None:
            return found
        values = classes[np.asarray(found)]
        if isinstance(found, np.ndarray):
            return values
        series: Any = type(found)
        return (
            series(values, index=found.index, name=found.name) if hasattr(found, "index") else series("label", values)
        )

    def predict_proba(self, X: Any, *, out: Path | None = None, overwrite: bool = False, executor: Any = None) -> Any:
        """Probability of every class given all votes on an item, (items, K); arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> DawidSkene().fit(votes).predict_proba(votes).round(3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        self._known()
        names = tuple(f"probability_{label}" for label in self.classes_.tolist())
        column = Column(len(names), np.dtype(np.float64), names)
        return self._asked("responsibilities", X, column, Target(out, overwrite, executor))

    def score_samples(self, X: Any, *, out: Path | None = None, overwrite: bool = False, executor: Any = None) -> Any:
        """Log-likelihood of all votes on every item (items,), in nats; arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> DawidSkene().fit(votes).score_samples(votes).round(3).tolist()
        [-0.693, -0.693]
        """
        column = Column(None, np.dtype(np.float64), ("log_density",))
        return self._asked("log_density", X, column, Target(out, overwrite, executor))

    def describe(self) -> str:
        """The fitted model and its report as text for people, and who of the raters tells nothing.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["b", 1, "y"], ["a", 2, "x"], ["b", 2, "x"]]
        >>> print(DawidSkene().fit(votes).describe().splitlines()[-1])
        raters whose votes tell no classes apart: 2
        """
        silent = [] if self._values(self.rater, self.raters) is None else self.uninformative_raters_.tolist()
        more = f" and {len(silent) - MOST_NAMED} more" if len(silent) > MOST_NAMED else ""
        told = f"\n\nraters whose votes tell no classes apart: {', '.join(map(str, silent[:MOST_NAMED]))}{more}"
        return super().describe() + (told if silent else "")

    def items(self, X: Any) -> Array:
        """Identifiers (items,) of the items of X, in the order of the answers about X.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> DawidSkene().items([["b", 1, "x"], ["a", 2, "x"], ["b", 2, "y"]]).tolist()
        ['b', 'a']
        """
        return _shown(import_whole("streamem.estimators.votes").items_of(X, RATERS.columns(self)))

    def score(self, X: Any, y: Any = None, **options: Any) -> float:
        """Mean log-likelihood of all votes on an item, in nats. Options are those of `fit` about the data.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> round(DawidSkene().fit(votes).score(votes), 4)
        -0.6931
        """
        return self.scores(X, **options)["log_likelihood_per_item"]

    def bic(self, X: Any, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(items). Options are those of `score`.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> round(DawidSkene().fit(votes).bic(votes), 3)
        6.238
        """
        return self.scores(X, **options)["bic"]

    def aic(self, X: Any, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> round(DawidSkene().fit(votes).aic(votes), 3)
        12.773
        """
        return self.scores(X, **options)["aic"]

    def scores(self, X: Any, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """One pass over X gives the weight of the items, their log-likelihood (total, per item), AIC, BIC.

        Options are those of `score`.

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> votes = [["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]]
        >>> round(DawidSkene().fit(votes).scores(votes)["log_likelihood"], 4)
        -1.3863
        """
        found = scores_of(self, self._known(), X, DataArguments(**options), executor)
        found["log_likelihood_per_item"] = found.pop("log_likelihood_per_row")
        return found

    def sample(self, lengths: ArrayLike = (1,), random_state: int | np.random.RandomState | None = None) -> Any:
        """Draw votes on items, so many on each; every rater is equally likely to give each of them.

        Parameters
        ----------
        lengths : (items,) votes on each item
        random_state : None uses that of the estimator

        Returns
        -------
        votes (Σ lengths, 3) of item (its position), rater and label; classes (items,)

        Raises
        ------
        ParameterError : lengths that are no integers >= 1

        Examples
        --------
        >>> from streamem import DawidSkene
        >>> model = DawidSkene().fit([["a", 1, "x"], ["a", 2, "x"], ["b", 1, "y"], ["b", 2, "y"]])
        >>> votes, classes = model.sample([2, 3], random_state=0)
        >>> votes.shape, classes.shape
        ((5, 3), (2,))
        """
        rng, lengths = (
            check_random_state(self.random_state if random_state is None else random_state),
            np.asarray(lengths),
        )
        codes, labels = RATERS.drawn_groups(self, self._now(), lengths, rng)
        votes = np.empty((len(codes), 3), dtype=object)
        votes[:, 0] = np.repeat(np.arange(len(lengths)), lengths)
        votes[:, 1], votes[:, 2] = self.raters_[codes[:, 0].astype(int)], self.classes_[codes[:, 1].astype(int)]
        return votes, self.classes_[labels]

    # --- inner -------------------------------------------------------------------------------------------------------

    def _asked(self, question: str, x: Any, column: Column, target: Target) -> Any:
        fitted = self._known()
        if target.out is not None or container_of(self) != "default":
            x = RATERS.in_order(self, x, fitted.shape)
        asked = RATERS.questions[question]
        return answered(self, fitted, question.replace("_", " "), asked, x, DataArguments(), column, target)

    def _known(self) -> Fitted:
        """What is fitted, of which raters and labels have names.

        Raises
        ------
        ParameterError : attributes were set by hand, and nobody names raters and labels
        """
        fitted = self._now()
        if self._values(self.rater, self.raters) is None or self._values(self.label, self.classes) is None:
            raise ParameterError(
                "confusion_ was set by hand, and whose tables these are is not known: pass raters=[...] and "
                "classes=[...]"
            )
        return fitted

    def _taken(self, x: Any, weight: Any, shape: Any) -> tuple[Any, Any]:
        """Votes in memory, in the order of their items, and their weights; anything else as it is."""
        if self._are_votes(x) or not import_whole("streamem.estimators.votes").is_gathered(x):
            return x, weight
        taken: tuple[Any, Any] = RATERS.taken(self, x, weight, shape)
        return taken

    @staticmethod
    def _are_votes(x: Any) -> bool:
        return isinstance(x, import_whole("streamem.estimators.votes").Votes)

    def _values(self, column: str, named: Any) -> tuple[Any, ...] | None:
        """What the codes of a column stand for."""
        shape = None if self._fitted is None else self._fitted.shape
        if shape is not None and shape.categories is not None and column in shape.categories:
            return tuple(shape.categories[column])
        return None if named is None else plain_values(named)

    def _named(self, attribute: str, column: str, named: Any) -> Array:
        if (values := self._values(column, named)) is None:
            raise AttributeError(f"{attribute}: not known yet; fit first")
        return _shown(values)

    def _fit(self, *arguments: Any) -> None:
        """Fit; a fit that fails leaves the model, and the number of its classes, as it was."""
        try:
            super()._fit(*arguments)
        finally:
            self.__dict__.pop("_classes", None)

    def _show(self, fitted: Fitted) -> Fitted:
        """Take over what is fitted, which then tells the number of classes."""
        shown = super()._show(fitted)
        if shown.shape is not None and shown.shape.categories:
            self.__dict__.pop("_classes", None)
        return shown


def _shown(values: Any) -> Array:
    """Identifiers as a read-only array: of numbers, or of Python objects."""
    if str(getattr(values, "type", "")) in ("string", "large_string"):  # of an Arrow array, which need not be imported
        texts: Array = values.to_numpy(zero_copy_only=False)
        texts.setflags(write=False)
        return texts
    plain = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    found = np.array(plain)
    if found.dtype.kind not in "biuf" or found.ndim != 1:
        found = np.empty(len(plain), dtype=object)
        found[:] = plain
    found.setflags(write=False)
    return found
