"""`GaussianMixture`: scikit-learn's class, for data of any size."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.estimators.exchange.scikit_learn import as_scikit_learn, hyperparameters_of, take_over
from streamem.estimators.faces.gaussian_mixture import GaussianMixtureFace
from streamem.estimators.making import with_shape
from streamem.estimators.mixtures import MixtureEstimator

Array = NDArray[Any]


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
        `report_.start_exchanges` counts. Of few rows with ``reg_covar=0`` the likelihood has no bound, and "short_em"
        and "merged_em" may begin where a covariance is about to collapse; "kmeans" is safer.
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
