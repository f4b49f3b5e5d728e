"""`GroupedMixture`: repeated measures, panels and items; all rows of one identifier share their component."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.arrays import Params
from streamem.core.ports import Family, Variant
from streamem.estimators.asking import Target, scores_of
from streamem.estimators.concomitant_groups import OfGroups
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.estimator import Estimator
from streamem.estimators.faces.family import FamilyFace
from streamem.estimators.imputing import impute
from streamem.estimators.labels import lengths_told
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.structure import DataArguments
from streamem.online.learner import step_rule
from streamem.running.federated import SharedStats

Array = NDArray[Any]
Path = str | os.PathLike[str]


@hyperparameters()
class GroupedMixture(Estimator):
    """Mixture of groups of rows with components of any `Family`, fitted by EM, out of core.

    All rows of one group (a person's repeated measures, a panel's waves, the items of an order) are drawn from the same
    component: p(group) = Σ_k w_k Π_rows p_k(x).

    Parameters
    ----------
    family : object with ``log_prob(params, x)``, ``stats(params, x, resp)`` and ``maximize(stats, previous)``
        What works in `Mixture` works here.
    n_components : int, default 1
    init_params : {"kmeans", "k-means++", "random", "random_from_data", "k-means||", "short_em"}, default "kmeans"
        How the groups of a sample are split for the start, by the means of their rows; "k-means||" takes the first
        parameters from the cells of all rows, whatever their groups.
    tol, max_iter, n_init, random_state, warm_start, verbose, stopping, missing, unseen, n_threads, memory_limit
    chunk_bytes
        As in `Mixture`. `tol` is in nats per row.
    concomitant : list of columns, by name or by position from 0 on, or one of them, optional
        Variables z, the same in all rows of a group, on which the weights depend: π_k(z) = softmax(α_k + z·γ_k), as of
        flexmix's ``FLXPmultinom`` and of latent class models with covariates (Dayton & Macready 1988). No component
        emits these columns. Each pass makes one Newton step that cannot lower the likelihood.
    weight_concentration_prior : float or (K,), optional
        As in `Mixture`, in groups instead of rows.

    Attributes
    ----------
    weights_ : (K,) shares of the groups
    concomitant_intercept_, concomitant_coef_ : (K,) and (K, p), α and γ, of component 0 they are 0
    params_ : Params of the family
    sequences_by_ : how the groups were named in the data of the fit, and will be looked for in later data
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    The rows of a group follow each other in the data. A group that is larger than a chunk is one group all the same:
    it costs a second read in each pass. A row of NaN is one at which nothing was observed.

    Examples
    --------
    Ten people, of whom some are calm and some are busy, were counted five times each:

    >>> import numpy as np
    >>> from streamem import GroupedMixture
    >>> from streamem.families import Poisson
    >>> rng = np.random.default_rng(0)
    >>> rate = np.repeat([2.0, 7.0, 2.0, 2.0, 7.0, 7.0, 2.0, 7.0, 2.0, 2.0], 5)
    >>> counts, lengths = rng.poisson(rate)[:, None], [5] * 10
    >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
    >>> labels = model.predict(counts, lengths)
    >>> bool((labels[[1, 4, 5, 7]] == labels[1]).all()), int((labels == labels[0]).sum())
    (True, 6)
    """

    family: Family | str = field(kw_only=False)
    n_components: int = field(default=1, kw_only=False)
    tol: float = 1e-3
    max_iter: int = 100
    n_init: int = 1
    init_params: str = "kmeans"
    random_state: int | np.random.RandomState | None = None
    warm_start: bool = False
    verbose: int = 0
    stopping: str = "aitken"
    missing: str = "error"
    unseen: str = "error"
    concomitant: Sequence[str | int] | str | int | None = None
    weight_concentration_prior: float | ArrayLike | None = None
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    weights_: Array = field(init=False)
    concomitant_intercept_: Array = field(init=False)
    concomitant_coef_: Array = field(init=False)
    params_: Params = field(init=False)
    n_features_in_: int = field(init=False)

    structure = OfGroups()
    face: ClassVar[FamilyFace] = FamilyFace()
    instead_of_noise = (
        "of groups it could be a class of whole groups or a share of every class's rows, and both are meant. Heavy "
        "tails, GroupedMixture(StudentT()), let single outliers count little; classes of two parts each, "
        "GroupedMixture(MixtureFamily(Gaussian(), 2)), have one for them"
    )

    # --- learning ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        checkpoint: Path | None = None,
        executor: Any = None,
        algorithm: str | Variant | None = None,
        halve_after: int | None = None,
    ) -> Self:
        """Fit by EM; one pass over the data an iteration where the data are small.

        Parameters
        ----------
        X : array-like (n, d), or a path, table or collection that `streamem.open_sequences` can open
            The rows of all groups, one group after the other; or a list of arrays (n_i, d), one a group.
        y : ignored, as scikit-learn passes a target; or `lengths`, as hmmlearn takes them behind X
        lengths : (g,) rows of each group, or the path of a ``.npy`` file of them
        offsets : (g,) or (g + 1,) where groups begin instead, or the name of an array beside X in a Zarr group
        sequence_column : column that identifies the group of each row instead; it is no feature
            The model remembers the column (`sequences_by_`).
        sample_weight : (g,) weights of groups, or (n,) equal within each, or the name of a column
        columns, feature_axis, checkpoint, executor : as in `GaussianMixture.fit`
        algorithm : "auto", "batch", "squarem", "anderson", "stepwise", "incremental", an object, or None for the plan's
            As in `GaussianMixture.fit`; mini-batches are of whole groups, but of pieces of groups of more than 65,536
            rows, which count as groups of their own.
        halve_after : passes, at least 5, after which the worse half of the starts is given up, again and again
            None runs all of them to their ends. Starts share their reads either way: each chunk is read once for all.

        Returns
        -------
        self

        Raises
        ------
        ParameterError : nobody says which rows are one group
        DataError : lengths that do not sum to the rows, empty groups, too few rows
        SourceError : a store that is damaged or changes meanwhile
        MemoryLimitError : the projection exceeds `memory_limit`
        MonotonicityError : an iteration lowered the log-likelihood

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> sorted(model.params_.rates.ravel().round().tolist())
        [1.0, 8.0]
        """
        arguments = DataArguments(
            sample_weight, columns, feature_axis, lengths_told(X, y, lengths), offsets, sequence_column
        )
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    def fit_predict(self, X: Any, y: Any = None, *, lengths: Any = None, **options: Any) -> Array:
        """`fit`, then `predict` of the same groups: (g,) labels. Options are those of `fit`.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> labels = GroupedMixture(Poisson(), 2, random_state=0).fit_predict(counts, lengths)
        >>> labels.shape
        (4,)
        """
        told = lengths_told(X, y, lengths)
        self.fit(X, lengths=told, **options)
        reading = ("offsets", "sequence_column", "columns", "feature_axis", "executor")
        chosen = {name: value for name, value in options.items() if name in reading}
        return np.asarray(self.predict(X, told, **chosen))

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        half_life: float | None = None,
        step: StepSize | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """One step of online EM with the groups of X as mini-batch; see `GaussianMixture.partial_fit`.

        Parameters
        ----------
        X, y, lengths, offsets, sequence_column, sample_weight, columns, feature_axis, executor : as in `fit`
        half_life, step, categories : as in `GaussianMixture.partial_fit`

        Returns
        -------
        self

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.partial_fit([[8], [9]], [2]).report_.n_rows
        10
        """
        arguments = DataArguments(
            sample_weight,
            columns,
            feature_axis,
            lengths_told(X, y, lengths),
            offsets,
            sequence_column,
            categories=categories,
        )
        self._learn(X, arguments, step_rule(half_life, step), executor)
        return self

    def fit_stream(
        self,
        stream: Any,
        *,
        sequence_column: str | None = None,
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
        """Learn from a stream of groups, mini-batch by mini-batch, until it ends or `stop` is called.

        Parameters
        ----------
        stream : as in `GaussianMixture.fit_stream`
        sequence_column : field that identifies the group of each record; it is no feature
            Consecutive records of a partition with equal values are one group. Without it, a message is a group.
        most_steps : rows of a group that are gathered; a larger one is learned in pieces, as groups of their own
        half_life, step, batch_rows, columns, sample_weight, checkpoint, save_every_s, dead_letter, poison_limit
        dead_letter_limit, history, drift, on_drift, until, categories, decoder : as in `GaussianHMM.fit_stream`

        Returns
        -------
        self

        Raises
        ------
        StreamError, PoisonError, DataError, OutputError, WriterConflictError, CheckpointMismatchError
            As in `GaussianMixture.fit_stream`.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GroupedMixture, Poisson
        >>> people = (np.array([[1.0], [2.0]]) * (1 + person % 4) for person in range(40))
        >>> GroupedMixture(Poisson(), 1).fit_stream(people, batch_rows=20).report_.n_rows
        80
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
            sequence_column,
            most_steps=most_steps,
            categories=categories,
            decoder=decoder,
        )
        learn_stream(self, stream, arguments)
        return self

    def expected_statistics(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> SharedStats:
        """E-step: expected sufficient statistics of the groups of X under the present parameters.

        Those of several sites, each of which holds whole groups, are added, and `maximize` makes the M-step.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, sample_weight, columns, feature_axis, executor : as in `fit`

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> sums = model.expected_statistics(counts, lengths)
        >>> model.maximize(sums).params_.rates.shape
        (2, 1)
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, lengths, offsets, sequence_column)
        return self._expected(X, arguments, executor)

    # --- questions ---------------------------------------------------------------------------------------------------

    def predict(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Most probable component of every group, in the order of the groups in X.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, columns, feature_axis, executor : as in `fit`
        out : path ending in .zarr, .parquet or .npy; it appears when complete
        overwrite : replace an existing `out`
        id_columns : columns of X that ``out="….parquet"`` holds too, with the value of the first row of each group
            By default the column that identifies groups; ``[]`` for none.

        Returns
        -------
        (g,) int64 array, one a group, with `set_output` a Series with their identifiers as its index; `out` if that was
            given (stored as int32)

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.predict(counts, lengths).shape
        (4,)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return self._answer("labels", X, arguments, Target(out, overwrite, executor, id_columns))

    def predict_proba(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Probability of every component given a whole group, (g, K); arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.predict_proba(counts, lengths).shape
        (4, 2)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return self._answer("responsibilities", X, arguments, Target(out, overwrite, executor, id_columns))

    def score_samples(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Log-likelihood of every group (g,), in nats; arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.score_samples(counts, lengths).shape
        (4,)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return self._answer("log_density", X, arguments, Target(out, overwrite, executor, id_columns))

    def impute(
        self,
        X: Any,
        lengths: Any = None,
        *,
        n_draws: int = 0,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Rows with values in place of those that were not observed; needs ``missing="integrate"``.

        Components are weighed by their probabilities given the whole group; draws of different rows are made
        independently of each other. Padding stays NaN.

        Parameters
        ----------
        n_draws : 0 for conditional means, else so many draws by `random_state`, as in `GaussianMixture.impute`
        X, lengths, offsets, sequence_column, out, overwrite, id_columns, columns, feature_axis, executor
            As in `predict`, but that identifiers are those of rows.

        Returns
        -------
        (n, d) array; draws are (n_draws, n, d). `out` if that was given, as in `GaussianMixture.impute`.

        Raises
        ------
        ParameterError : ``missing="error"``, or a family that cannot impute

        Examples
        --------
        >>> from streamem import GroupedMixture, Poisson
        >>> model = GroupedMixture(Poisson(), 1, missing="integrate").fit([[1], [2], [3], [2]], [2, 2])
        >>> model.impute([[float("nan")], [5.0]], [2]).ravel().tolist()
        [2.0, 5.0]
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return impute(self, self._now(), X, arguments, n_draws, Target(out, overwrite, executor, id_columns))

    def score(self, X: Any, y: Any = None, *, lengths: Any = None, **options: Any) -> float:
        """Mean log-likelihood of a group, in nats. Options are those of `fit` about the data.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.score(counts, lengths) > model.score([[5]] * 8, lengths)
        True
        """
        return self.scores(X, lengths_told(X, y, lengths), **options)["log_likelihood_per_group"]

    def bic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(groups). Options are those of `score`.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.bic(counts, lengths) < model.bic([[5]] * 8, lengths)
        True
        """
        return self.scores(X, lengths, **options)["bic"]

    def aic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> model.aic(counts, lengths) < model.aic([[5]] * 8, lengths)
        True
        """
        return self.scores(X, lengths, **options)["aic"]

    def scores(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """One pass over X gives the groups' weight, log-likelihood (total, per group), AIC, BIC.

        Options are those of `score`.

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> "bic" in model.scores(counts, lengths)
        True
        """
        found = scores_of(self, self._now(), X, DataArguments(lengths=lengths, **options), executor)
        found["log_likelihood_per_group"] = found.pop("log_likelihood_per_row")
        return found

    def sample(self, lengths: ArrayLike = (1,), random_state: int | np.random.RandomState | None = None) -> Any:
        """Draw groups of so many rows.

        Parameters
        ----------
        lengths : (g,) rows of each group
        random_state : None uses that of the estimator

        Returns
        -------
        X (Σ lengths, d), one group after the other; labels (g,)

        Raises
        ------
        ParameterError : lengths that are no integers >= 1, or a family that cannot draw

        Examples
        --------
        >>> from streamem import GroupedMixture
        >>> from streamem.families import Poisson
        >>> counts, lengths = [[1], [2], [0], [1], [9], [8], [7], [9]], [2, 2, 2, 2]
        >>> model = GroupedMixture(Poisson(), 2, random_state=0).fit(counts, lengths)
        >>> x, labels = model.sample([2, 3], random_state=0)
        >>> x.shape, labels.shape
        ((5, 1), (2,))
        """
        rng = check_random_state(self.random_state if random_state is None else random_state)
        return self.structure.drawn_groups(self, self._now(), np.asarray(lengths), rng)

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read a model that `save` wrote; a family that is code of yours has to be given again: ``family=``.

        Raises
        ------
        ParameterError : neither the file nor the call has a family
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted

        Examples
        --------
        >>> import os, tempfile
        >>> from streamem import GroupedMixture, Poisson
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> GroupedMixture(Poisson(), 1).fit([[1], [2], [3]], [1, 2]).save(path)
        >>> GroupedMixture.load(path).params_.rates.tolist()
        [[2.0]]
        """
        return super().load(path, **objects)
