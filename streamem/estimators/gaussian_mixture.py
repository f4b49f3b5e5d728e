"""`GaussianMixture`: scikit-learn's class, for data of any size."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.ports import Variant
from streamem.estimators.asking import Target, scores_of
from streamem.estimators.exchange.scikit_learn import as_scikit_learn, hyperparameters_of, take_over
from streamem.estimators.faces.gaussian_mixture import GaussianMixtureFace
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.making import with_shape
from streamem.estimators.mixtures import MixtureEstimator
from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import StandardErrors, standard_errors_of
from streamem.online.learner import step_rule

Array = NDArray[Any]
Path = str | os.PathLike[str]


class GaussianMixture(MixtureEstimator):
    """Gaussian mixture fitted by EM, out of core.

    Parameters, attributes and methods are those of `sklearn.mixture.GaussianMixture`; `fit`, `predict`,
    `predict_proba`, `score_samples`, `score`, `bic` and `aic` also take paths, tables and Dask collections.

    Parameters
    ----------
    n_components : int, default 1
    covariance_type : {"full", "tied", "diag", "spherical"}, default "full"
    tol : float, default 1e-3
        In nats per row. See `stopping`.
    reg_covar : float, default 1e-6
        Added to the diagonal of every covariance, in squared units of the data.
    max_iter : int, default 100
        Most iterations (passes over the data) of one start.
    n_init : int, default 1
        Starts; the one with the highest log-likelihood is kept.
    init_params : str, default "kmeans"
        How a uniform sample of the rows is split for the start: "kmeans", "k-means++", "random", "random_from_data",
        "k-means||", "short_em", "merged_em" or "split_merge". The sample is all rows if they fit the budget; the first
        four are scikit-learn's, on the sample.
        "k-means||" (Bahmani et al. 2012) draws centres from all rows in six passes, which finds small clusters of which
        a sample holds no row, and takes the first parameters from the cells of all rows in one more, for each start:
        `report_.start_passes` counts them.
        "short_em" is the best of 32 short runs of EM on up to 32,768 rows of the sample (Biernacki, Celeux & Govaert
        2003): it costs no pass over the data, and seldom ends in a poor maximum. "merged_em" fits 3·K components to so
        many rows and merges, again and again, the pair whose merger costs the least. "split_merge" goes on from
        "kmeans" with EM on so many rows, merges two components that overlap and splits one that covers several
        clusters, as long as that raises the likelihood (after Ueda et al. 2000): the best where components are many;
        `report_.start_exchanges` counts. The algorithm "auto" makes that of "kmeans" where `n_init` is 1. Of few rows
        with ``reg_covar=0`` the likelihood has no bound, and "short_em" and "merged_em" may begin where a covariance is
        about to collapse; "kmeans" is safer.
    weights_init (K,), means_init (K, d), precisions_init : given starting values, shaped as the attributes
    random_state : int, RandomState or None
    warm_start : bool, default False
        Go on from the last fit; the stopping rule remembers it if the data is the same.
    verbose : int, default 0
        0 shows passes that take long, 1 and more shows every pass.
    verbose_interval : int, default 10
        Accepted for compatibility; progress is shown by time.
    stopping : {"change", "aitken"}, default "change"
        "change" stops when the last gain was below `tol`: scikit-learn's rule, so that the same start and tolerance
        give its number of iterations and its numbers. "aitken" stops when the gain still to come, predicted by Aitken's
        rule, is below `tol` twice running: a slowly converging run is not taken for a converged one.
    missing : {"error", "integrate"}, default "error"
        What a value that was not observed is: NaN, a null of a table, a value that a mask hides. "integrate" is exact
        maximum likelihood where values are missing at random (Dempster, Laird & Rubin 1977): the E-step integrates over
        them, log-likelihoods are of what was observed, and a row without any value counts as a row and nothing else.
    noise : bool, default False
        Put a component of constant density over the box of the data beside the others, for outliers: `predict` gives
        −1 there, and `predict_proba` has K columns, which lack to 1 what is noise. One more pass finds the box;
        online it is that of the first rows. Rows outside of it have no noise density. `weights_` sum to
        1 − `noise_weight_`.
    weight_concentration_prior : float or (K,) >= 1, optional
        α of a Dirichlet prior of the weights: the M-step adds α − 1 rows to every component. None, or 1, is no prior.
    mean_prior (d,), mean_precision_prior, covariance_prior, degrees_of_freedom_prior : optional
        A normal–inverse-Wishart prior of means and covariances, as of `sklearn.mixture.BayesianGaussianMixture`, but
        for the mode of the posterior: `mean_precision_prior` rows at `mean_prior`, and `degrees_of_freedom_prior` rows
        of the scatter `covariance_prior`, shaped as one covariance; see `streamem.families.NormalWishart`. All None:
        maximum likelihood. With priors EM maximizes `objective_`; a fit counts the rows in one more pass beforehand,
        so that stepwise and online EM give priors the same weight.
    n_threads : int or None
        None uses all cores that this process may use. The result does not depend on it.
    memory_limit : str, int or None
        What a call may take on top of what the process holds: "1GiB" or bytes. None is half of what is free. Up to half
        of what a fit does not need of it keeps decoded chunks for the next pass; None keeps at most 96 MiB of them.
    chunk_bytes : str, int or None
        Target size of a chunk in memory; None is 2 MiB, or 1/64 of an explicit memory limit. Arrays, in memory or
        ``.npy``, of more than 64 chunks then have chunks of up to 8 MiB, the same limit allowing.

    Attributes
    ----------
    weights_ (K,), means_ (K, d) : in units of the data; float32 if fitted on a float32 array
        All attributes are float64 where float32 does not hold some of them: squares of 1e20 or 1e-30.
    covariances_, precisions_, precisions_cholesky_ : (K, d, d) full, (d, d) tied, (K, d) diag, (K,) spherical
    noise_weight_ : float, noise_box_ : (2, d) smallest and largest values of each column; with noise
    converged_ : bool
    n_iter_ : int, iterations of the best start
    lower_bound_ : float, exact log-likelihood per row at the returned parameters, in nats
    lower_bounds_ : list, log-likelihood per row after each iteration of the best start
    objective_ : float, what EM maximizes: `lower_bound_` less what priors and `reg_covar` subtract, in nats per row
    report_ : FitReport, what every pass took
    n_features_in_, feature_names_in_ : as in scikit-learn

    Notes
    -----
    An *empty* component (less than 1e-12 of all weight) keeps its mean and covariance; a *collapsed* one has its
    covariance raised to a floor of 2⁻⁴⁰ of the data's variance. Both are counted in `report_.events`. A start that has
    collapsed already, with ``reg_covar=0``, is an error.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> gm.means_.round(6).tolist()
    [[10.0, 2.0], [1.0, 2.0]]
    >>> gm.predict([[0.0, 0.0], [12.0, 3.0]]).tolist()
    [1, 0]
    """

    face: ClassVar[GaussianMixtureFace] = GaussianMixtureFace()

    means_: Array
    covariances_: Array
    precisions_: Array
    precisions_cholesky_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        stopping: str = "change",
        missing: str = "error",
        noise: bool = False,
        weight_concentration_prior: float | ArrayLike | None = None,
        mean_prior: ArrayLike | None = None,
        mean_precision_prior: float | ArrayLike | None = None,
        covariance_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.stopping = stopping
        self.missing = missing
        self.noise = noise
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_prior = mean_prior
        self.mean_precision_prior = mean_precision_prior
        self.covariance_prior = covariance_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    # --- rows with noise of their own --------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        noise: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        checkpoint: Path | None = None,
        executor: Any = None,
        algorithm: str | Variant | None = None,
        halve_after: int | None = None,
    ) -> Self:
        """Fit by EM; as `MixtureEstimator.fit`, and with ``noise=`` of what lies behind noise of known covariance.

        Parameters
        ----------
        X : array-like (n, d), or a path, table or collection that `streamem.open_source` can open
        y : ignored
        sample_weight : (n,) array, column name, or path of a one-dimensional Zarr array or ``.npy`` file
        noise : covariances of the noise of each row, in squared units of the data (extreme deconvolution)
            (n, d) variances or (n, d, d) covariances, as an array or the path of a Zarr or ``.npy`` array (n, d) or
            (n, d·d); or the names of d columns of variances beside the features, or of one column of lists. Rows are
            v + ε with ε ~ N(0, S_i), and the mixture is that of v (Bovy, Hogg & Roweis 2011), and so are priors. An
            infinite variance says that the value was not observed: a projection. 0 is no noise. Not with
            ``noise=True``, or the starts "k-means||", "merged_em" and "split_merge".
        columns, feature_axis, checkpoint, executor, algorithm, halve_after : as in every mixture; see `Mixture.fit`

        Returns
        -------
        self

        Raises
        ------
        DataError : NaN or infinity, too few rows, weights that are negative or all zero; negative variances, or
            matrices that are no covariances, naming the row
        SchemaError : noise of another shape
        SourceError : a store that is damaged or changes meanwhile
        MemoryLimitError : the projection exceeds `memory_limit`
        MonotonicityError : an iteration lowered the log-likelihood

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> sorted(gm.means_.ravel().round(1).tolist())
        [0.5, 9.5]

        Half of the rows were measured badly; what they measure is not as wide as they are:

        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> variance = np.where(np.arange(2000) % 2, 9.0, 0.01)[:, None]
        >>> seen = rng.normal(5.0, 1.0, size=(2000, 1)) + rng.normal(size=(2000, 1)) * np.sqrt(variance)
        >>> float(seen.var().round(1)), GaussianMixture(tol=1e-6).fit(seen, noise=variance).covariances_.round(1).item()
        (5.6, 1.0)
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, noise=noise)
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    def fit_stream(
        self,
        stream: Any,
        *,
        noise: Sequence[str] | None = None,
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
        """Learn from a stream, as `Mixture.fit_stream`, and given the noise of each record.

        Parameters
        ----------
        stream : as in `Mixture.fit_stream`
        noise : names of the fields that hold the variances of a record's noise, in the order of the features, or its
            covariances row by row
            A tuple (X, noise) of arrays is a batch too.
        half_life, step, batch_rows, columns, sample_weight, checkpoint, save_every_s, dead_letter, poison_limit,
        dead_letter_limit, history, drift, on_drift, until, categories, decoder : as in `Mixture.fit_stream`

        Raises
        ------
        ParameterError : no names of fields, or what excludes noise of rows; see `fit`
        StreamError, PoisonError, DataError, … : as in `Mixture.fit_stream`

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> records = [{"x": float(i % 7), "variance": 0.5 + i % 2} for i in range(200)]
        >>> gm = GaussianMixture(1).fit_stream(records, noise=["variance"], batch_rows=100)
        >>> gm.means_.shape, gm.report_.n_rows
        ((1, 1), 200)
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
            noise=noise,
        )
        learn_stream(self, stream, arguments)
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        noise: Any = None,
        half_life: float | None = None,
        step: StepSize | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """One step of online EM with X as mini-batch; as `Mixture.partial_fit`, and given the noise of each row.

        Statistics are those of the values without noise, whatever the noise: batches with noise and without follow
        each other as they come, once there are parameters.

        Parameters
        ----------
        X, noise : as in `fit`
        y : ignored
        sample_weight, half_life, step, columns, feature_axis, executor, categories : as in `Mixture.partial_fit`

        Returns
        -------
        self

        Raises
        ------
        ParameterError : rows that are kept until a start can be made of them have noise of another kind

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1)
        >>> for batch, variance in (([[0.0], [2.0]], 0.1), ([[4.0], [6.0]], 9.0)):
        ...     gm = gm.partial_fit(batch, noise=[[variance], [variance]])
        >>> gm.report_.n_rows
        4
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, categories=categories, noise=noise)
        self._learn(X, arguments, step_rule(half_life, step), executor)
        return self

    def predict(
        self,
        X: Any,
        *,
        noise: Any = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Most probable component of every row; as `Mixture.predict`, and given the noise of each row.

        Parameters
        ----------
        X, noise : as in `fit`; rows without noise are taken as they are, however the model was fitted
        out, overwrite, id_columns, columns, feature_axis, executor : as in `Mixture.predict`

        Returns
        -------
        (n,) int64 array, and what else `Mixture.predict` gives; of Dask collections with noise an array, too

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> near, far = gm.predict([[0.2], [9.9]]).tolist()
        >>> near != far
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("labels", X, DataArguments(None, columns, feature_axis, noise=noise), target)

    def predict_proba(
        self,
        X: Any,
        *,
        noise: Any = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Posterior probability of every component (n, K); arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> sure, unsure = gm.predict_proba([[0.5], [0.5]], noise=[[0.0], [100.0]]).max(axis=1).tolist()
        >>> sure > unsure
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("responsibilities", X, DataArguments(None, columns, feature_axis, noise=noise), target)

    def score_samples(
        self,
        X: Any,
        *,
        noise: Any = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Log-density of every row (n,), noise included, in nats; arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> near, noisy = gm.score_samples([[50.0], [50.0]], noise=[[0.0], [400.0]]).tolist()
        >>> near < noisy
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("log_density", X, DataArguments(None, columns, feature_axis, noise=noise), target)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        noise: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> float:
        """Mean log-density per unit of weight, in nats; with the noise of each row, as in `fit`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> gm.score([[0.5]]) > gm.score([[5.0]])
        True
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, noise=noise)
        return scores_of(self, self._now(), X, arguments, executor)["log_likelihood_per_row"]

    def standard_errors(
        self, X: Any, lengths: Any = None, *, method: str = "observed", noise: Any = None, **options: Any
    ) -> StandardErrors:
        """How far the fitted parameters are likely to be off; as `Mixture.standard_errors`, with the noise of each row.

        Parameters
        ----------
        X, lengths, method, options : as in `Mixture.standard_errors`
        noise : as in `fit`

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.standard_errors(rows)["means_"].shape
        (2, 1)
        """
        if noise is None:
            return super().standard_errors(X, lengths, method=method, **options)
        executor = options.pop("executor", None)
        arguments = DataArguments(lengths=lengths, noise=noise, **options)
        return standard_errors_of(self, self._now(), X, arguments, method, executor)

    # --- copies for other libraries ----------------------------------------------------------------------------------

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.mixture.GaussianMixture` that answers as this model does.

        Anything that takes such an object takes the copy: skl2onnx, skops, SHAP. Its attributes are all set;
        hyperparameters that only this class has (priors, `missing`, `stopping`, memory) are left behind, and starts
        that only it has become "kmeans". The copy predicts rows without missing values.

        Raises
        ------
        ParameterError : ``noise=True``, which scikit-learn has not

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianMixture
        >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
        >>> theirs = GaussianMixture(2, random_state=0).fit(X).to_sklearn()
        >>> type(theirs).__module__.partition(".")[0], theirs.predict([[0.0, 0.0], [12.0, 3.0]]).tolist()
        ('sklearn', [1, 0])
        """
        return as_scikit_learn(self, with_shape(self, self._now()))

    @classmethod
    def from_sklearn(cls, mixture: Any) -> Self:
        """A model with the hyperparameters and parameters of a fitted `sklearn.mixture.GaussianMixture`.

        It predicts data of any size, is saved as one file without pickle, and goes on learning (``partial_fit``).

        Parameters
        ----------
        mixture : a fitted `sklearn.mixture.GaussianMixture`

        Raises
        ------
        ParameterError : another class; a BayesianGaussianMixture, which averages over parameters; or parameters that
            contradict each other
        NotFittedError : `mixture` is not fitted

        Examples
        --------
        >>> import sklearn.mixture
        >>> from streamem import GaussianMixture
        >>> theirs = sklearn.mixture.GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> ours = GaussianMixture.from_sklearn(theirs)
        >>> ours.predict([[0.5], [9.5]]).tolist() == theirs.predict([[0.5], [9.5]]).tolist()
        True
        """
        model = cls(**hyperparameters_of(mixture))
        model._show(take_over(model, mixture))
        return model
