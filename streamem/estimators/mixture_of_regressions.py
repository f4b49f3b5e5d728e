"""`MixtureOfRegressions`: rows whose response depends on covariates as one of K regressions says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Variant
from streamem.estimators.asking import Target, answered, scores_of
from streamem.estimators.concomitant_rows import OfRegressions
from streamem.estimators.diagnosis import Diagnosis, diagnosis_of
from streamem.estimators.faces.regressions import RegressionFace
from streamem.estimators.inference_table import Summary
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.mixtures import MixtureEstimator
from streamem.estimators.regressions import DRAWS, drawing
from streamem.estimators.response_labels import label_of, labels_of, require_labels
from streamem.estimators.row_response import ABSENT
from streamem.estimators.rows import probability_columns
from streamem.estimators.structure import DataArguments
from streamem.estimators.uncertainty import StandardErrors, standard_errors_of
from streamem.online.learner import step_rule
from streamem.running.federated import SharedStats
from streamem.sources import ReadOptions, open_source

Array = NDArray[Any]
Path = str | os.PathLike[str]


class MixtureOfRegressions(MixtureEstimator):
    """Mixture of generalized linear regressions of a response y on covariates X, fitted by EM, out of core.

    p(y | x) = Σ_k w_k p_k(y | x), also called switching, clusterwise or latent class regression (Quandt 1972; DeSarbo &
    Cron 1988; Grün & Leisch 2008). With one component it is the generalized linear model itself. Weights may depend on
    concomitant variables z of the row: w_k(z) = softmax(α_k + z·γ_k) (Dayton & Macready 1988).

    Parameters
    ----------
    n_components : int, default 1
    family : {"gaussian", "poisson", "binomial", "multinomial"}, default "gaussian"
        Distribution of the response; see `streamem.families.Regression`. Links are canonical.
    reg_covar : float, default 0.0
        Of Gaussian responses, added to every variance, in squared units of the response. A component of few rows may
        fit them exactly, where the likelihood has no maximum; a small value, or another start, keeps it from that.
    trials : int, or a column of X, default 1
        Of binomial responses, the trials of all rows, or the column that holds those of each row, by name or by
        position from the end, such as -1.
    offset : column of X, by name or position, optional
        Of Poisson and binomial responses, what is known of a row's linear predictor, as of statsmodels' ``GLM``.
    exposure : column of X, by name or position, optional
        Of Poisson responses, a factor of the mean, such as hours or inhabitants; its logarithm is an offset.
    n_classes : int, optional
        Of multinomial responses, how many categories there are; by default what the data of `fit` hold.
    concomitant : list of columns of X, by name or by position from 0 on, or one of them, optional
        Variables z on which the weights depend, as with flexmix's ``FLXPmultinom``. They explain the response too where
        `columns` of `fit` names them; else they do not. A column may also stand in an array twice.
    init_params : {"short_em", "random", "kmeans"}, default "short_em"
        "random" begins with a few rows of each component, "short_em" with the best of 32 short runs so begun. "kmeans"
        splits rows where they lie, not by the lines they lie on, and often leads to a local maximum.
    missing : {"error", "integrate"}, default "error"
        "integrate" leaves out rows without a response, which say nothing of it, and rows without some covariate or
        concomitant: these have no distribution here, so that only complete rows count, as with R's ``na.omit``.
    tol, max_iter, n_init, random_state, warm_start, verbose, stopping, weight_concentration_prior
    n_threads, memory_limit, chunk_bytes
        As in `Mixture`, but `tol` is 1e-6 and `max_iter` 1000 by default.

    Attributes
    ----------
    weights_ : (K,); with `concomitant`, shares of all rows of the fit
    concomitant_intercept_, concomitant_coef_ : (K,) and (K, p'), α and γ, of component 0 they are 0
    coef_ : (K, p); of multinomial responses (K, C, p), of the C categories beside category 0
    intercept_ : (K,), or (K, C)
    classes_ : (C + 1,) labels in the order of their codes, where responses are labels
    scale_ : (K,) standard deviations of the errors, of Gaussian responses
    converged_, n_iter_, lower_bound_, lower_bounds_, objective_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    Of Gaussian responses the M-step is weighted least squares. Of others, and of weights that depend on concomitants,
    each pass makes one Newton step, short enough to be sure to raise the likelihood
    (`streamem/families/regression/README.md`).

    Questions take the response as ``y=``. Without it `predict`, `predict_proba` and `transform` tell what covariates
    alone say of the components, and where a fit named a column, it is looked for in X.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import MixtureOfRegressions
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1.0, 1.0, size=(400, 1))
    >>> y = np.where(rng.random(400) < 0.5, 1 + 2 * x[:, 0], 1 - 3 * x[:, 0]) + 0.1 * rng.normal(size=400)
    >>> model = MixtureOfRegressions(2, random_state=0).fit(x, y)
    >>> sorted(model.coef_.ravel().round(1).tolist()), model.intercept_.round(1).tolist()
    ([-3.0, 2.0], [1.0, 1.0])
    >>> model.predict_response(np.zeros((1, 1))).round(1).tolist()
    [1.0]

    The share of each line may depend on another variable:

    >>> z = rng.normal(size=400)
    >>> y = np.where(rng.random(400) < 1 / (1 + np.exp(-3 * z)), 1 + 2 * x[:, 0], 1 - 3 * x[:, 0])
    >>> y = y + 0.1 * rng.normal(size=400)
    >>> model = MixtureOfRegressions(2, concomitant=[1], random_state=0).fit(np.column_stack([x, z]), y)
    >>> model.coef_.shape, model.concomitant_coef_.shape, bool(abs(model.concomitant_coef_[1, 0]) > 2)
    ((2, 1), (2, 1), True)
    >>> model.predict_proba([[0.0, -9.0], [0.0, 9.0]]).max(axis=1).round(3).tolist()  # given x and z, without y
    [1.0, 1.0]
    """

    face: ClassVar[RegressionFace] = RegressionFace()
    structure = OfRegressions()
    instead_of_noise = (
        "a density in the box of the data is one of rows, and here covariates have none; a component with a large "
        "scale_ takes outliers"
    )

    coef_: Array
    intercept_: Array
    concomitant_intercept_: Array
    concomitant_coef_: Array
    scale_: Array

    def __init__(
        self,
        n_components: int = 1,
        family: str = "gaussian",
        *,
        reg_covar: float = 0.0,
        trials: int | str = 1,
        offset: int | str | None = None,
        exposure: int | str | None = None,
        n_classes: int | None = None,
        concomitant: Sequence[str | int] | str | int | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: str = "short_em",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        missing: str = "error",
        weight_concentration_prior: float | ArrayLike | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.family = family
        self.reg_covar = reg_covar
        self.trials = trials
        self.offset = offset
        self.exposure = exposure
        self.n_classes = n_classes
        self.concomitant = concomitant
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.missing = missing
        self.weight_concentration_prior = weight_concentration_prior
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    # --- learning ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
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
        X : array-like (n, p), or a path, table or collection that `streamem.open_source` can open
            The covariates; no column of ones, an intercept is always there. Columns that `trials`, `offset` and
            `exposure` name are among them, and get no coefficient.
        y : (n,) responses, or the name of their column in X, or the path of a ``.npy`` file or Zarr array
            Whole numbers >= 0 of Poisson, 0 to `trials` of binomial, codes 0, 1, … of multinomial responses. Those of
            one trial and multinomial ones may be labels (text, truth values, categories of pandas or Arrow), whose
            order is sorted (`classes_`). A Zarr array, or the path of one, and a Dask array or Series are read lazily.
        sample_weight, columns, feature_axis, checkpoint, executor, algorithm, halve_after
            As in `GaussianMixture.fit`; `columns` are covariates.

        Returns
        -------
        self

        Raises
        ------
        DegenerateDataError : more coefficients than rows, or covariates that do not determine theirs, named
        ImpossibleValueError : a response that the distribution cannot emit, with its row
        ParameterError : no y

        Examples
        --------
        >>> import pandas as pd
        >>> from streamem import MixtureOfRegressions
        >>> table = pd.DataFrame({"dose": [0.0, 1, 2, 3], "cases": [1, 2, 4, 8]})
        >>> MixtureOfRegressions(family="poisson", tol=1e-12).fit(table, y="cases").coef_.round(3).tolist()
        [[0.693]]
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, response=y)
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Any:
        """`fit`, then `predict` of the same data, response included: (n,) labels. Options are those of `fit`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> MixtureOfRegressions().fit_predict([[0.0], [1.0], [2.0]], [0.0, 1.1, 1.9]).tolist()
        [0, 0, 0]
        """
        self.fit(X, y, **options)
        chosen = {name: value for name, value in options.items() if name in ("columns", "feature_axis", "executor")}
        return self.predict(X, y, **chosen)

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        half_life: float | None = None,
        step: StepSize | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """One step of online EM with X, y as mini-batch; see `GaussianMixture.partial_fit`.

        Rows are kept until there are 2·K·(p + 2). A multinomial response needs `n_classes` before a fit.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import MixtureOfRegressions
        >>> x, model = np.arange(8.0)[:, None], MixtureOfRegressions()
        >>> model.partial_fit(x, 2 * x[:, 0] + 1).coef_.round(3).tolist()
        [[2.0]]
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, categories=categories, response=y)
        self._learn(X, arguments, step_rule(half_life, step), executor)
        return self

    def fit_stream(
        self,
        stream: Any,
        *,
        response: str | None = None,
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
        """Learn from a stream whose records hold the response, as `Mixture.fit_stream`.

        Parameters
        ----------
        stream : as in `Mixture.fit_stream`; arrays hold the response in their last column
            A tuple (X, y) of arrays is a batch too. Records hold concomitants by name, arrays X by position.
        response : name of the field of responses, by default that of the fit
            A new model of labels of text needs them as ``categories={response: [...]}``, in the order of their codes.
        half_life, step, batch_rows, columns, sample_weight, checkpoint, save_every_s, dead_letter, poison_limit,
        dead_letter_limit, history, drift, on_drift, until, categories, decoder : as in `Mixture.fit_stream`

        Raises
        ------
        ParameterError : no name of the response where records have names
        StreamError, PoisonError, DataError, … : as in `Mixture.fit_stream`

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import MixtureOfRegressions
        >>> x = np.arange(100.0)
        >>> y = 2 * x + (-1) ** x
        >>> MixtureOfRegressions().fit_stream([(x[:, None], y)], batch_rows=50).coef_.round(2).tolist()
        [[2.0]]
        >>> records = [{"dose": dose, "effect": effect} for dose, effect in zip(x, y)]
        >>> MixtureOfRegressions().fit_stream(records, response="effect", batch_rows=50).report_.n_rows
        100
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
            response=response,
        )
        learn_stream(self, stream, arguments)
        return self

    def expected_statistics(
        self,
        X: Any,
        sample_weight: ArrayLike | str | None = None,
        *,
        y: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> SharedStats:
        """E-step: expected sufficient statistics of X, y under the present parameters; see `GaussianMixture`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> model = MixtureOfRegressions().fit(x, y)
        >>> model.maximize(model.expected_statistics(x, y=y)).coef_.shape
        (1, 1)
        """
        return self._expected(X, DataArguments(sample_weight, columns, feature_axis, response=y), executor)

    # --- questions ---------------------------------------------------------------------------------------------------

    def predict(
        self,
        X: Any,
        y: Any = None,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Most probable component of every row (n,), given its response; without y, given its covariates alone.

        Parameters
        ----------
        X, y : as in `fit`
        out, overwrite, id_columns, columns, feature_axis, executor : as in `GaussianMixture.predict`

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> MixtureOfRegressions().fit(x, y).predict(x, y).tolist()
        [0, 0, 0, 0]
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._asked("labels", "prior_labels", X, y, DataArguments(None, columns, feature_axis), target)

    def predict_proba(
        self,
        X: Any,
        y: Any = None,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Probability of every component (n, K), given the response or, without y, the covariates; as `predict`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> MixtureOfRegressions().fit(x, y).predict_proba(x[:2], y[:2]).tolist()
        [[1.0], [1.0]]
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._asked(
            "responsibilities", "prior_probabilities", X, y, DataArguments(None, columns, feature_axis), target
        )

    def predict_response(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Expected response given covariates alone, Σ_k w_k E_k[y | x] (n,); what scikit-learn's regressors predict.

        Of multinomial responses the probability of each category (n, C + 1), of labels in the order of `classes_`; of
        two labels that of the second. Arguments are those of `predict`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.1]
        >>> MixtureOfRegressions().fit(x, y).predict_response([[10.0]]).round().tolist()
        [21.0]
        """
        target = Target(out, overwrite, executor, id_columns)
        arguments = DataArguments(None, columns, feature_axis, response=ABSENT)
        if np.ndim(self.coef_) < 3:
            return self._answer("expected_response", X, arguments, target)
        column = probability_columns(1 + self.coef_.shape[1], np.dtype(np.float64), False)
        asked = self.structure.questions["expected_response"]
        return answered(self, self._now(), "expected response", asked, X, arguments, column, target)

    def predict_class(
        self,
        X: Any,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Array:
        """The most probable label (n,) given covariates alone, as scikit-learn's classifiers predict it.

        Labels are `classes_`, or codes 0, 1, … where the fit knew these.

        Raises
        ------
        ParameterError : responses that are no labels

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]], ["no", "no", "yes", "no", "yes", "yes"]
        >>> model = MixtureOfRegressions(family="binomial").fit(x, y)
        >>> model.predict_class([[0.0], [1.0]]).tolist(), model.predict_response([[1.0]]).round(3).tolist()
        (['no', 'yes'], [0.667])
        """
        require_labels(self)
        chances = self.predict_response(X, columns=columns, feature_axis=feature_axis, executor=executor)
        shape = self._now().shape
        return label_of(np.asarray(chances), None if shape is None else shape.classes)

    def sample(  # type: ignore[override]
        self,
        X: Any,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> tuple[Array, Array]:
        """Draw a response for every row of covariates, which have no distribution of their own.

        `random_state` is the seed; of an integer the same X gives the same responses.

        Returns
        -------
        y (n,), labels where the fit had such; the component (n,) of each

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import MixtureOfRegressions
        >>> x = np.linspace(0.0, 3.0, 40)[:, None]
        >>> model = MixtureOfRegressions(random_state=0).fit(x, 2.0 * x[:, 0] + np.cos(9.0 * x[:, 0]))
        >>> y, components = model.sample(x)
        >>> y.shape, components.shape, bool(np.corrcoef(y, 2.0 * x[:, 0])[0, 1] > 0.8)
        ((40,), (40,), True)
        """
        if np.ndim(X) == 0 and isinstance(X, int | np.integer):
            raise ParameterError(
                f"X is {X}, and covariates have no distribution: rows can neither be drawn nor, by components, be "
                "pictured; sample(X) draws a response for each row of covariates X"
            )
        fitted, seed = self._now(), int(check_random_state(self.random_state).randint(2**32, dtype=np.uint64))
        arguments = DataArguments(None, columns, feature_axis, response=ABSENT)
        target = Target(executor=executor, plain=True)
        found = answered(self, fitted, "sample", drawing(seed), X, arguments, DRAWS, target)
        classes = None if fitted.shape is None else fitted.shape.classes
        return labels_of(found[:, 0], classes), found[:, 1].astype(np.intp)

    def sample_to(self, out: Path, n_samples: int, *, overwrite: bool = False) -> None:
        """Refuse: covariates have no distribution, so that only responses given covariates can be drawn.

        Raises
        ------
        ParameterError : always

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> callable(MixtureOfRegressions().sample_to)
        True
        """
        raise ParameterError(
            "covariates of a regression have no distribution, so that rows cannot be drawn: sample(X) draws a response "
            "for each row of covariates"
        )

    def score_samples(
        self,
        X: Any,
        y: Any = None,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """log p(y | x) of every row (n,), in nats; arguments are those of `predict`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> near, far = MixtureOfRegressions().fit(x, y).score_samples([[1.0], [1.0]], [1.0, 5.0])
        >>> bool(near > far)
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("log_density", X, DataArguments(None, columns, feature_axis, response=y), target)

    def transform(self, X: Any) -> Any:
        """Probabilities of the components given covariates alone (n, K), as features for a next step.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> MixtureOfRegressions().fit([[0.0], [1.0], [2.0]], [0.0, 1.1, 1.9]).transform([[5.0]]).tolist()
        [[1.0]]
        """
        return self._answer("prior_probabilities", X, DataArguments(response=ABSENT), Target(plain=True))

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> float:
        """Mean of log p(y | x) per unit of weight, in nats.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> model = MixtureOfRegressions().fit(x, y)
        >>> model.score(x, y) == model.scores(x, y)["log_likelihood_per_row"]
        True
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, response=y)
        return scores_of(self, self._now(), X, arguments, executor)["log_likelihood_per_row"]

    def bic(self, X: Any, y: Any = None, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(Σ weights). Options are those of `score`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> model = MixtureOfRegressions().fit(x, y)
        >>> model.bic(x, y) < model.bic(x, [3.0, 2.0, 1.0, 0.0])
        True
        """
        return self.scores(X, y, **options)["bic"]

    def aic(self, X: Any, y: Any = None, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> model = MixtureOfRegressions().fit(x, y)
        >>> model.aic(x, y) < model.aic(x, [3.0, 2.0, 1.0, 0.0])
        True
        """
        return self.scores(X, y, **options)["aic"]

    def scores(self, X: Any, y: Any = None, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """Scores of X, y from one pass: weight, log-likelihood (total, per row), AIC, BIC. Options: those of `score`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> sorted(MixtureOfRegressions().fit(x, y).scores(x, y))
        ['aic', 'bic', 'log_likelihood', 'log_likelihood_per_row', 'weight']
        """
        return scores_of(self, self._now(), X, DataArguments(**options, response=y), executor)

    def standard_errors(  # type: ignore[override]
        self,
        X: Any,
        y: Any = None,
        *,
        method: str = "observed",
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> StandardErrors:
        """How far the fitted parameters are likely to be off, from one pass over X, y, the data of the fit.

        Arguments, result, warnings and errors are those of `GaussianMixture.standard_errors`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> MixtureOfRegressions().fit(x, y).standard_errors(x, y)["coef_"].round(3).tolist()
        [[0.03]]
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, response=y)
        return standard_errors_of(self, self._now(), X, arguments, method, executor)

    def summary(  # type: ignore[override]
        self, X: Any, y: Any = None, *, method: str = "observed", **options: Any
    ) -> Summary:
        """Parameters, their standard errors and 95 % intervals, as text and as a table (``.table``).

        Intervals are estimate ± 1.96 standard errors. Arguments are those of `standard_errors`.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> MixtureOfRegressions().fit(x, y).summary(x, y).table["parameter"].to_pylist()
        ['coef_[0, 0]', 'intercept_[0]', 'scale_[0]']
        """
        return super().summary(X, y, method=method, **options)

    def diagnose(self, X: Any, y: Any = None, *, executor: Any = None, **options: Any) -> Diagnosis:  # type: ignore[override]
        """How fast EM converges at this fit, which components X, y do not tell apart, and what to do; from one pass.

        Examples
        --------
        >>> from streamem import MixtureOfRegressions
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.1, 1.9, 3.0]
        >>> MixtureOfRegressions().fit(x, y).diagnose(x, y).similarity.shape
        (1, 1)
        """
        return diagnosis_of(self, self._now(), X, DataArguments(**options, response=y), executor)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _asked(self, given: str, alone: str, x: Any, y: Any, arguments: DataArguments, target: Target) -> Any:
        """The question about rows with their responses, or about their covariates alone where nobody tells these."""
        named = None if self._fitted is None or self._fitted.shape is None else self._fitted.shape.response
        if y is None and named is not None and _has_column(x, named):
            y = named
        question, response = (alone, ABSENT) if y is None else (given, y)
        own = DataArguments(
            None, arguments.columns, arguments.feature_axis, response=response, left_out=arguments.left_out
        )
        return self._answer(question, x, own, target)

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's facts of an estimator: a fit needs responses."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _has_column(x: Any, name: str) -> bool:
    """Whether a table, or what a path or source holds, has a column of that name."""
    names = getattr(getattr(x, "schema", None), "names", None)
    if names is None:
        names = getattr(x, "column_names", None)
    if names is None:
        names = getattr(x, "columns", None)
    if names is None and isinstance(x, str | os.PathLike):
        return _stores_column(x, name)
    return names is not None and name in list(names)


def _stores_column(path: Path, name: str) -> bool:
    """Whether a store has a column of that name, whatever else it holds; of text as well, of which nothing is read."""
    try:
        open_source(path, options=ReadOptions(columns=(name,), categories={name: ()}))
    except SchemaError:
        return False
    return True
