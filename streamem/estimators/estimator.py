"""`Estimator`: what every estimator does, whatever its structure and its face."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.errors import ParameterError
from streamem.core.ports import Variant
from streamem.estimators.asking import Target, answer, opened_for, write_rows
from streamem.estimators.at_once import Published, at_once
from streamem.estimators.attributes import (
    OPTIONAL,
    absence,
    is_complete,
    require_fit,
    require_fitted,
    require_sizes,
    shown_facts,
    shown_parameters,
    still_shown,
)
from streamem.estimators.by_hand import ByHand, made_by_hand
from streamem.estimators.default_algorithm import of_checkpoint
from streamem.estimators.diagnosis import Diagnosis, diagnosis_of
from streamem.estimators.faces import Face
from streamem.estimators.fitting import fit_to, warn_of_ends
from streamem.estimators.followers import Callback, Followers, followers_of
from streamem.estimators.hyperparameters import (
    check_hyperparameters,
    chosen_algorithm,
    require_count,
    stopping_rule,
)
from streamem.estimators.identity import set_container
from streamem.estimators.in_html import estimator_in_html
from streamem.estimators.in_words import description
from streamem.estimators.inference_table import Summary, summary_of
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.making import (
    basis,
    engine_for,
    family_of,
    learning_of,
    model_of,
    n_parameters,
    row_width,
    to_learn_from,
    with_shape,
)
from streamem.estimators.mini_batch import learned
from streamem.estimators.model_files import read_model, require_savable, write_model
from streamem.estimators.structure import DataArguments, Structure
from streamem.estimators.uncertainty import StandardErrors, standard_errors_of
from streamem.machine.importing import import_whole
from streamem.online.learner import Advance, step
from streamem.online.updates import describe_update
from streamem.running import federated
from streamem.running.federated import SharedStats
from streamem.running.fitted import Fitted
from streamem.running.loop import FEWEST_PASSES
from streamem.running.objective import objective

Array = NDArray[Any]
Path = str | os.PathLike[str]


class Estimator(BaseEstimator):
    """A model that is fitted by EM: subclasses name its structure and its face, and declare the hyperparameters.

    All that a fit leaves is one frozen value, `_fitted`; the public attributes are shown from it, read-only, and
    whether a user has set others is told by identity (`_published` holds what was shown). Whoever follows the learning
    belongs to the process (`_followers`).
    """

    missing: str = "error"
    unseen: str = "error"

    structure: ClassVar[Structure]
    face: ClassVar[Face]
    instead_of_noise: ClassVar[str] = ""

    _html_repr = estimator_in_html

    _fitted: Fitted | None = None
    _published: Mapping[str, Any] = MappingProxyType({})
    _by_hand: ByHand | None = None
    _followers: Followers | None = None

    def __new__(cls, *_: Any, **settings: Any) -> Self:
        """Say what to use where a model has no noise, which Python would call an unexpected argument.

        Raises
        ------
        ParameterError : ``noise=True`` of such a model
        """
        if cls.instead_of_noise and np.any(settings.get("noise", False)):
            raise ParameterError(f"{cls.__name__} has no noise: {cls.instead_of_noise}")
        return super().__new__(cls)

    def __getattr__(self, name: str) -> Any:
        """Say why there is no such attribute: not fitted yet, or known to other libraries under another name."""
        if (own := next((vars(base)[name] for base in type(self).__mro__ if name in vars(base)), None)) is not None:
            return own.__get__(self, type(self))  # a property that is not there yet says why itself
        if name in self._get_param_names():  # of an object that scikit-learn made without __init__
            raise AttributeError(f"{type(self).__name__!r} object has no hyperparameter {name!r} yet")
        raise AttributeError(absence(self, name))

    # --- questions ---------------------------------------------------------------------------------------------------

    def sample_to(self, out: Path, n_samples: int, *, overwrite: bool = False) -> None:
        """Draw rows and write them to `out` (.zarr, .parquet, .npy) piece by piece, with memory that does not grow.

        Columns are named as in fit. Rows come in pieces of 8 MiB.

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> path = os.path.join(tempfile.mkdtemp(), "drawn.npy")
        >>> gm.sample_to(path, 1000)
        >>> import numpy as np
        >>> np.load(path).shape
        (1000, 1)
        """
        fitted = self._now()
        # One generator for all pieces: an integer seed would give the same piece again and again.
        rng = check_random_state(self.random_state)
        write_rows(
            with_shape(self, fitted),
            out,
            n_samples,
            lambda step: self.structure.pieces(self, fitted, n_samples, step, rng),
            overwrite,
        )

    def set_output(self, transform: str | None = None) -> Self:
        """Choose what holds answers in memory about rows that are not xarray's or Dask's, as scikit-learn's does.

        Parameters
        ----------
        transform : "default", "pandas", "polars" or None, under scikit-learn's name
            "default" gives NumPy arrays. "pandas" gives a Series, or a DataFrame where an answer has several columns,
            with the index of a pandas or Dask DataFrame X. "polars" gives those of polars. None changes nothing.

        Returns
        -------
        self; copies by `sklearn.base.clone` answer alike, and files do not hold the choice

        Examples
        --------
        >>> import pandas as pd
        >>> from streamem import GaussianMixture
        >>> frame = pd.DataFrame({"x": [0.0, 0.1, 9.0, 9.1]}, index=["a", "b", "c", "d"])
        >>> gm = GaussianMixture(2, random_state=0).set_output("pandas").fit(frame)
        >>> labels = gm.predict(frame)
        >>> bool(labels["a"] == labels["b"] != labels["c"]), labels.name
        (True, 'label')
        """
        set_container(self, transform)
        return self

    def describe(self) -> str:
        """The fitted model and its report as text for people.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> print(gm.describe().splitlines()[0])
        GaussianMixture: 2 components of 1 feature, full covariance, 5 free parameters
        """
        fitted = self._now()
        return description(self, fitted, n_parameters(self, fitted))

    def standard_errors(
        self,
        X: Any,
        lengths: Any = None,
        *,
        method: str = "observed",
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        executor: Any = None,
    ) -> StandardErrors:
        """How far the fitted parameters are likely to be off, from one pass over X, the data of the fit.

        Errors are those of maximum likelihood: priors and regularization are no part of the information. Of one
        component with missing values, or of states and classes, the information is what the observed rows tell.

        Parameters
        ----------
        X, sample_weight, columns, feature_axis, executor : as in `fit`; a weight of 2 is the row twice
        lengths, offsets, sequence_column : as in `fit` of estimators of sequences or groups; of no others
        method : "observed", "opg" or "sandwich", default "observed"
            The inverse of the observed information (Louis 1982; Oakes 1999); of the outer products of the scores of
            rows, sequences or groups, Σ w s sᵀ; or of the information on both sides of the products, which holds when
            the model is wrong, too (Huber 1967; White 1982).

        Returns
        -------
        StandardErrors
            A mapping of the names of fitted attributes to arrays shaped like these (``errors["means_"]``); the
            covariance of the free parameters is its `covariance`.

        Warns
        -----
        UncertaintyWarning : parameters at a boundary, or that the data do not tell; these are NaN. Or a fit that is
            not at the maximum of the likelihood of X.

        Raises
        ------
        ParameterError : "opg" with fewer rows (sequences, groups) than free parameters
        MemoryLimitError : too many free parameters for square matrices of their size

        Notes
        -----
        Sequences that chunks cut cost one read more, and two for each free parameter unless the method is "opg"; a
        family of one's own without `draw` costs a sample. `passes` of the result counts them.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.standard_errors(rows)["means_"].shape
        (2, 1)
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, lengths, offsets, sequence_column)
        return standard_errors_of(self, self._now(), X, arguments, method, executor)

    def summary(self, X: Any, lengths: Any = None, *, method: str = "observed", **options: Any) -> Summary:
        """Parameters, their standard errors and 95 % intervals, as text and as a table (``.table``).

        Intervals are estimate ± 1.96 standard errors. Arguments are those of `standard_errors`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.summary(rows).table.column_names[:3]
        ['parameter', 'estimate', 'standard_error']
        """
        errors = self.standard_errors(X, lengths, method=method, **options)
        shape = with_shape(self, self._now()).shape
        return summary_of(self, errors, 0 if shape is None else shape.features)

    def diagnose(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> Diagnosis:
        """How fast EM converges at this fit, which components X does not tell apart, and what to do; from one pass.

        Options are those of `standard_errors` that say how X is read.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.diagnose(rows).similarity.shape
        (2, 2)
        """
        arguments = DataArguments(lengths=lengths, **options)
        return diagnosis_of(self, self._now(), X, arguments, executor)

    @property
    def effective_sample_size_(self) -> float:
        """How many rows, weighed alike, would hold as much information as the statistics: (Σ shares²)⁻¹ (Kish 1965).

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> round(GaussianMixture(1).partial_fit([[0.0], [1.0], [2.0], [3.0]]).effective_sample_size_)
        4
        """
        state = None if self._fitted is None else self._fitted.state
        if state is None or state.memory is None:
            raise AttributeError("effective_sample_size_: the model holds no statistics yet; fit it first")
        return 1.0 / float(state.memory.crowding)

    @property
    def objective_(self) -> float:
        """What EM maximizes, in nats per unit of weight: `lower_bound_` less what priors and `reg_covar` subtract.

        At the fitted parameters. Of priors it holds logarithms of densities up to constants.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).fit([[0.0], [1.0], [3.0]])
        >>> gm.objective_ <= gm.lower_bound_
        True
        """
        fitted = self._fitted
        found = None if fitted is None or fitted.state is None else objective(model_of(self, fitted), fitted.state)
        if found is None:
            raise AttributeError("objective_: the model holds no statistics of its parameters; fit it first")
        return found

    # --- learning ----------------------------------------------------------------------------------------------------

    def fit_stream(
        self,
        stream: Any,
        *,
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
        """Learn from a stream, mini-batch by mini-batch, until it ends or `stop` is called.

        The state of the model and the positions in the stream are one file, written atomically at the boundary of a
        mini-batch: started again with the same arguments after any crash, nothing is lost and nothing is learned twice,
        and the bits are those of a run without the crash (for streams that can be read again; and where several
        partitions run dry by turns, for the same order of arrival).

        Parameters
        ----------
        stream : what `streamem.streams.open_stream` takes: "-", a file or pipe (Arrow IPC or JSON lines), a growing
            folder of Parquet files, "tcp://…", "kafka://…/topic", "redis://…/key",
            "nats://…/STREAM?subject=…", an iterable of batches; or a `Stream` such as ``KafkaStream(...)``
        half_life, step : as in `partial_fit`
        batch_rows : rows of a mini-batch; only a stream's end makes a smaller one
        columns : names of the features, others are ignored; by default those fitted, or those of the first record
            A model that was fitted without names needs them, in its order, for records that have names.
        sample_weight : name of the column or field of weights
        checkpoint : ``.npz`` file with the model and its positions, which `load` reads too
            If it exists, the call goes on from there, whatever this object has learned before. One process writes it
            at a time; the second fails.
        save_every_s : seconds between saves; 0 saves after every mini-batch
        dead_letter : Arrow IPC stream file to which unusable records are appended with position, reason and bytes
            Or an address of a store, below which parts of it lie; `streamem.appending.read_appended` reads either.
            Without it the first such record is an error. Only what is wrong with a record itself is put there; a
            library or a store that fails is an error, and no record is lost.
        poison_limit : share of the latest records that may be unusable
            A message that is refused as a whole, such as a row group without the columns, counts by the records that
            it holds; one of which nothing can be read counts as one.
        dead_letter_limit : most that the file of dead letters may hold, such as "1GiB" or a number of bytes, or None
            Reaching it is an error before anything is lost: with another file, or a higher limit, the call goes on.
        history : Arrow IPC stream file, or address, to which one row an update is appended; see `Update`
        drift : DriftAlarm or None
            Watches the predictive log-likelihood; see `on_drift`. None watches only if `on_drift` is not "log".
        on_drift : "log", "reset" (all rows to come count alike again, so that the model is learned anew), or a
            function of the `Update`
        until : rows to learn in this call, or a function of the `Update` that says when to end
            Looked at after every mini-batch, once there is a model. What a plain iterator had given beyond that is kept
            for the next call with the same iterator; what was read ahead of a pipe is gone.
        categories : the values of columns of text, such as ``{"region": ["north", "south"]}``, in the order of codes
            Only for a model that begins on the stream: one that was fitted encodes text by its own `categories_`. A
            value that is none of them makes a dead letter of its record, or is missing with ``unseen="missing"``.
        decoder : what payloads of bytes are passed to, instead of being read as JSON or Arrow
            Such as ``RegistryDecoder(url)`` of `streamem.streams.registry` for Avro and JSON framed by a schema
            registry; or a function of (bytes, headers) that returns a mapping, a list of mappings, a table, an array,
            or bytes of JSON or Arrow. Where it raises ValueError, the message is a dead letter; any other error ends
            the call, and no record is lost. `headers` are (name, bytes) pairs. It is not saved with the model.

        Returns
        -------
        self

        Raises
        ------
        StreamError : the stream fails for good
        PoisonError : more unusable records than allowed
        DataError : the stream has ended, or `stop` was called, and there is still no model: too few usable rows, or all
            without weight. A model that was fitted before may learn nothing.
        OutputError : a file cannot be written, or dead letters would exceed their limit
        WriterConflictError : another process saves to the same checkpoint
        CheckpointMismatchError : the checkpoint is of a model with other hyperparameters

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianMixture
        >>> hours = (np.arange(100.0)[:, None] + hour for hour in range(10))
        >>> GaussianMixture(1).fit_stream(hours, batch_rows=200).report_.n_rows
        1000
        """
        arguments = StreamArguments(
            half_life,
            step,
            batch_rows,
            columns,
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
            categories=categories,
            decoder=decoder,
        )
        learn_stream(self, stream, arguments)
        return self

    def stop(self) -> None:
        """End a running `fit_stream`, from any thread or signal handler.

        After the present mini-batch; of a pipe or an iterator, which cannot be read again, after what was read of it.

        Examples
        --------
        >>> import itertools
        >>> import numpy as np
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1)
        >>> gm = gm.on_update(lambda update: gm.stop())
        >>> gm = gm.fit_stream((np.arange(50.0)[:, None] for _ in itertools.count()), batch_rows=50)
        >>> gm.report_.n_rows >= 50
        True
        """
        if self._followers is not None and (stopping := self._followers.stopping) is not None:
            stopping.set()

    def on_update(self, callback: Callback) -> Self:
        """Call back after every mini-batch of `partial_fit` and `fit_stream`, with an `Update`.

        The attributes of the model are up to date then. An error in the callback ends the call; the mini-batch counts
        as learned.

        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).on_update(lambda update: print(update.rows))
        >>> gm = gm.partial_fit([[0.0], [1.0], [2.0], [3.0]])
        4
        """
        followers_of(self).callbacks.append(callback)
        return self

    @property
    def history_(self) -> Any:
        """The latest 10,000 updates of this object, a pyarrow Table: see `Update` for its columns.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).partial_fit([[0.0], [1.0], [2.0], [3.0]]).partial_fit([[4.0]])
        >>> gm.history_.column("rows").to_pylist()
        [4, 5]
        """
        updates = [] if self._followers is None else list(self._followers.updates)
        return import_whole("streamem.online.history").as_table(updates)

    def maximize(self, statistics: SharedStats) -> Self:
        """M-step: the parameters that maximize the expected log-likelihood of these statistics.

        `n_iter_` counts these calls on from the last fit, or from 1 if the statistics are of another number of rows
        than those before (a site that is missing): log-likelihoods of other rows cannot be compared. `lower_bound_`
        becomes the log-likelihood per row of the parameters that *entered*, which is what the statistics tell, and
        `converged_` what the stopping rule says of it; only the next round knows more.

        Parameters
        ----------
        statistics : of all sites, ``sum([...])``, under the present parameters; a site that is in it twice counts twice

        Raises
        ------
        ParameterError : the statistics belong to other parameters
        MonotonicityError : of as many rows, the log-likelihood fell since the round before: not the same rows

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.maximize(gm.expected_statistics(rows)).n_iter_ > 0
        True
        """
        fitted = with_shape(self, self._to_go_on())
        assert fitted.state is not None
        federated.require_statistics_of(statistics, basis(self, fitted))
        model = self.structure.model_of_all(self, family_of(self, fitted), fitted, statistics.stats)
        width = row_width(self, model, fitted)
        state = federated.maximize(model, fitted.state, statistics.stats, stopping_rule(self), width)
        self._show(replace(fitted, state=state, seen=""))
        return self

    # --- files -------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the fitted model to one ``.npz`` file, atomically and without pickle.

        Raises
        ------
        OutputError : the disk is full or the folder is missing; an earlier file is left intact

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> gm.save(path)
        >>> os.path.getsize(path) > 1000
        True
        """
        require_fitted(self)
        if not os.fspath(path).endswith(".npz"):
            raise ParameterError(f"{path}: a model file ends in .npz")
        fitted = with_shape(self, self._now())
        if fitted is self._fitted:
            write_model(path, self, fitted, self._published)
            return
        require_savable(self, fitted)
        assert fitted.state is not None
        assert fitted.shape is not None
        write_model(path, self, fitted, shown_parameters(self, fitted.state.params, fitted.shape.dtype))

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> gm.save(path)
        >>> bool((GaussianMixture.load(path).means_ == gm.means_).all())
        True
        """
        estimator, fitted = read_model(cls, path, objects)
        estimator._show(fitted)
        loaded: Self = estimator
        return loaded

    # --- inner -------------------------------------------------------------------------------------------------------

    def _fit(
        self,
        x: Any,
        arguments: DataArguments,
        algorithm: str | Variant | None,
        checkpoint: Path | None,
        executor: Any,
        halve_after: int | None = None,
    ) -> None:
        """Fit anew, or go on with a warm start; a fit that fails leaves the model as it was."""
        check_hyperparameters(self)
        chosen = None if algorithm is None else chosen_algorithm(self, algorithm)
        if halve_after is not None:
            require_count("halve_after", halve_after, FEWEST_PASSES)
        resumed = of_checkpoint(self, checkpoint) if chosen is None and checkpoint is not None else None
        known = chosen if resumed is None else resumed.algorithm
        if known is not None and not known.reads_in_order:
            arguments = replace(arguments, in_order=False)
        opened = self.structure.open(self, x, arguments, None)
        goes_on = getattr(self, "warm_start", False) and self._fitted is not None and self._fitted.state is not None
        earlier = self._now() if goes_on else None
        fitted = fit_to(self, opened, chosen, earlier, checkpoint, executor, halve_after)
        self._show(fitted)
        warn_of_ends(self, fitted, known)

    def _learn(self, x: Any, arguments: DataArguments, rule: StepSize, executor: Any, advance: Advance = step) -> None:
        """One step of online EM with X as mini-batch; `advance` makes it."""
        fitted = to_learn_from(self)
        after = learned(self, fitted, x, arguments, learning_of(self, rule, executor), advance)
        self._show(after)
        known = None if fitted.state is None else fitted.state.memory
        if after.state is not None and after.state.memory is not None and after.state.memory is not known:
            followers_of(self).tell(describe_update(model_of(self, after), fitted.state, after.state))

    def _expected(self, x: Any, arguments: DataArguments, executor: Any) -> SharedStats:
        """Expected sufficient statistics of X under the present parameters."""
        opened, fitted = opened_for(self, self._to_go_on(), x, arguments)
        assert fitted.state is not None
        model = model_of(self, fitted)
        engine = engine_for(self, "expected statistics", model, fitted, executor)
        params = fitted.state.params
        return federated.expected_statistics(model, params, opened.source, engine, basis(self, fitted))

    def _answer(self, question: str, x: Any, arguments: DataArguments, target: Target) -> Any:
        """The answer to a question of the structure about every row of X."""
        found = at_once(self, question, x, arguments, target)
        return answer(self, self._now(), question, x, arguments, target) if found is None else found

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's facts of an estimator: NaN is allowed where it is integrated over."""
        tags = super().__sklearn_tags__()
        # Checks of names ask an object without hyperparameters.
        tags.input_tags.allow_nan = getattr(self, "missing", "error") == "integrate"
        return tags

    # --- what is fitted ----------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return (self._fitted is not None and self._fitted.state is not None) or is_complete(self)

    def _now(self) -> Fitted:
        """What is fitted; where a user has set attributes since, what these amount to.

        Raises
        ------
        NotFittedError : nothing is
        ParameterError : it does not fit the hyperparameters as they are now
        """
        require_fitted(self)
        fitted = self._fitted
        if fitted is None or fitted.state is None or not still_shown(self, self._published):
            self._by_hand = made_by_hand(self, fitted, self._published, self._by_hand)
            return self._by_hand.fitted
        require_sizes(self, self._published, 0 if fitted.shape is None else fitted.shape.features)
        require_fit(self, fitted)
        return fitted

    def _to_go_on(self) -> Fitted:
        """The fitted value to learn further from; an error where attributes or data cannot be learned on."""
        fitted = self._fitted
        if fitted is not None and fitted.state is not None:
            if not still_shown(self, self._published):
                require_fitted(self)
            require_fit(self, fitted)
        return self._now()

    def _show(self, fitted: Fitted) -> Fitted:
        """Take over what is fitted, and show it as attributes: all of it, or nothing where some cannot be shown.

        Attributes are put into ``__dict__`` itself: where a class has a property of that name, the property decides
        what users see and set.
        """
        published: dict[str, Any] = {}
        if fitted.state is not None:
            assert fitted.shape is not None
            published = shown_parameters(self, fitted.state.params, fitted.shape.dtype)
            first = published.get(self.structure.names[0])
            if isinstance(first, np.ndarray) and first.dtype != fitted.shape.dtype:
                fitted = replace(fitted, shape=replace(fitted.shape, dtype=first.dtype))
        facts = shown_facts(fitted)
        for name in OPTIONAL:
            self.__dict__.pop(name, None)
        self.__dict__.pop("_by_hand", None)
        self.__dict__.update(**published, **facts, _fitted=fitted, _published=Published(published))
        return fitted

    def __getstate__(self) -> dict[str, Any]:
        """Pickled state: no followers; of published attributes the names only, unless a user has replaced them."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_followers", None)
        state.pop("_by_hand", None)
        if published := state.get("_published"):
            state["_published"] = {
                name: None if state.get(name) is value else value for name, value in published.items()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies of arrays come back writeable: those that were published are made read-only again."""
        super().__setstate__(state)
        published = self.__dict__.get("_published", {})
        own = {name: self.__dict__[name] if value is None else value for name, value in published.items()}
        self.__dict__["_published"] = shown = Published(own)
        for value in shown.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
