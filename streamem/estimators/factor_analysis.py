"""`FactorAnalysis`: scikit-learn's class, for data of any size and with values that are missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.estimators.asking import Target
from streamem.estimators.exchange.factors import as_scikit_learn, hyperparameters_of, take_over
from streamem.estimators.faces.factors import FactorFace
from streamem.estimators.factor_rows import FACTORS, inverse_transformed, no_classes, posterior_means
from streamem.estimators.making import family_of, with_shape
from streamem.estimators.mixtures import MixtureEstimator
from streamem.estimators.structure import DataArguments

Array = NDArray[Any]
Path = str | os.PathLike[str]


class FactorAnalysis(MixtureEstimator):
    """Factor analysis by EM, out of core: x = mean_ + z·components_ + noise, with a noise variance for each column.

    Parameters, attributes and methods are those of `sklearn.decomposition.FactorAnalysis`; they also take paths,
    tables and Dask collections. No matrix of columns by columns is made but by `get_covariance` and `get_precision`.

    Parameters
    ----------
    n_components : int or None, default None
        Factors q, at most the number of columns; None takes as many as there are columns.
    tol : float, default 1e-6
        In nats per row: EM ends when it predicts that no more is to come. See `stopping`.
    max_iter : int, default 1000
    noise_variance_init : (d,), optional
        Variances of the noise to start from.
    rotation : {"varimax", "quartimax"}, optional
        Turns the loadings that are shown so that few of each factor (varimax) or of each column (quartimax) are large,
        without Kaiser's normalization, as scikit-learn does. EM, the likelihood, covariances and scores of rows stay
        what they are; `transform` tells the factors in this rotation.
    missing : {"error", "integrate"}, default "error"
        "integrate" takes NaN for values that were not observed, and maximizes the likelihood of what was, by exact
        conditional expectation (missing at random; Rubin 1976).
    random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `stopping` is "aitken". Nothing is drawn for a start, which is made of the
        principal directions of a sample.

    Attributes
    ----------
    components_ : (q, d) loadings, in the rotation in which components_·Ψ⁻¹·components_ᵀ is diagonal and falls
        That of scikit-learn but for signs: the largest correlation of each factor is positive. With a `rotation` they
        are turned from there, the factor that explains most first.
    noise_variance_ : (d,) diagonal of Ψ
    mean_ : (d,)
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    Rubin & Thayer (1982), with mean and covariance of the factors as parameters of their own in the M-step (Liu, Rubin
    & Wu 1998); see `streamem.families.FactorGaussian`. A column whose noise vanishes (a Heywood case) ends at 1e-9 of
    its variance: `report_.events` and `describe` tell it.

    `standard_errors` of `components_` are those of the loadings in this rotation: with two equal numbers on the
    diagonal the data tell none. With a `rotation` they are those of loadings which other rows would turn otherwise: the
    rotation is estimated too (Archer & Jennrich 1973), by the delta method. Errors of `mean_`, `noise_variance_` and
    covariances depend on no rotation.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import FactorAnalysis
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(5000, 1)) @ [[2.0, 1.0, -1.0, 0.5]] + rng.normal(size=(5000, 4))
    >>> fa = FactorAnalysis(n_components=1).fit(X)
    >>> fa.components_.round(1).tolist(), fa.noise_variance_.round(1).tolist()
    ([[2.0, 1.0, -1.0, 0.5]], [1.0, 1.0, 1.0, 1.0])
    >>> fa.transform(X).shape
    (5000, 1)
    """

    face: ClassVar[FactorFace] = FactorFace("diagonal")
    structure = FACTORS
    instead_of_noise = "Mixture(FactorGaussian(q), 1, noise=True) has a component of constant density"

    n_init = 1
    init_params = "principal directions"

    components_: Array
    noise_variance_: Array
    mean_: Array

    def __init__(
        self,
        n_components: int | None = None,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        noise_variance_init: ArrayLike | None = None,
        rotation: str | None = None,
        missing: str = "error",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components  # type: ignore[assignment]
        self.tol = tol
        self.max_iter = max_iter
        self.noise_variance_init = noise_variance_init
        self.rotation = rotation
        self.missing = missing
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    def transform(
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
        """Factors of every row: their means given the row, or what was observed of it, (n, q).

        Parameters
        ----------
        X, out, overwrite, id_columns, columns, feature_axis, executor : as in `GaussianMixture.predict`

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import FactorAnalysis
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> FactorAnalysis(2).fit(X).transform(X).shape
        (200, 2)
        """
        target = Target(out, overwrite, executor, id_columns, plain=out is None)
        return posterior_means(self, self._now(), X, DataArguments(None, columns, feature_axis), target)

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Rows without noise, mean_ + X·components_ (n, d), of factors X (n, q).

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import FactorAnalysis
        >>> rows = np.random.default_rng(0).normal(size=(200, 4))
        >>> fa = FactorAnalysis(2).fit(rows)
        >>> bool((fa.inverse_transform([[0.0, 0.0]]) == fa.mean_).all())
        True
        """
        self._now()
        return inverse_transformed(self, X)

    def get_covariance(self) -> Array:
        """The covariance of rows (d, d): components_ᵀ·components_ and the noise.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import FactorAnalysis
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> fa = FactorAnalysis(2).fit(X)
        >>> bool(np.allclose(np.diag(fa.get_covariance()), X.var(axis=0)))
        True
        """
        fitted: Any = self._now()
        family: Any = family_of(self, fitted)
        return np.asarray(family.covariances(fitted.state.params.components)[0])

    def get_precision(self) -> Array:
        """The inverse of the covariance (d, d), by Woodbury's identity.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import FactorAnalysis
        >>> fa = FactorAnalysis(2).fit(np.random.default_rng(0).normal(size=(200, 4)))
        >>> bool(np.allclose(fa.get_precision() @ fa.get_covariance(), np.eye(4)))
        True
        """
        fitted: Any = self._now()
        family: Any = family_of(self, fitted)
        return np.asarray(family.precisions(fitted.state.params.components)[0])

    def to_sklearn(self) -> Any:
        """A `sklearn.decomposition.FactorAnalysis` (of `PPCA`, a `PCA`) with these parameters.

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import FactorAnalysis
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> fa = FactorAnalysis(2).fit(X)
        >>> bool(np.allclose(fa.to_sklearn().transform(X), fa.transform(X)))
        True
        """
        return as_scikit_learn(self, with_shape(self, self._now()))

    @classmethod
    def from_sklearn(cls, theirs: Any) -> Self:
        """A model with the parameters of a fitted `sklearn.decomposition.FactorAnalysis`, or for `PPCA` of a `PCA`.

        Raises
        ------
        ParameterError : another class
        NotFittedError : it is not fitted

        Examples
        --------
        >>> import numpy as np
        >>> import sklearn.decomposition
        >>> from streamem import FactorAnalysis
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> theirs = sklearn.decomposition.FactorAnalysis(2).fit(X)
        >>> bool(np.isclose(FactorAnalysis.from_sklearn(theirs).score(X), theirs.score(X)))
        True
        """
        model = cls(**hyperparameters_of(cls.face, theirs))
        model._show(take_over(model, theirs))
        return model

    predict = predict_proba = fit_predict = property(no_classes)

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`: one feature a factor."""
        return len(self.components_)
