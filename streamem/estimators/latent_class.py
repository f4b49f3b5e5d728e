"""`LatentClass`: latent class analysis of surveys, tests and records of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.estimators.faces.latent_class import LatentClassFace
from streamem.estimators.mixtures import MixtureEstimator

Array = NDArray[Any]


class LatentClass(MixtureEstimator):
    """Latent class analysis: a mixture whose components answer every column independently, fitted by EM, out of core.

    p(x) = Σ_k w_k Π_j p_kj(x_j), for columns of categories: text, or codes 0 … V − 1 (Lazarsfeld & Henry 1968;
    Goodman 1974).

    Parameters
    ----------
    n_components : int, default 1
        Classes K.
    n_categories : int, one int a column, or None
        Codes are 0 … V − 1. None lets the data tell, which takes a pass beforehand. Columns of text have their own.
    prior : float >= 1, default 1
        Parameter of a symmetric Dirichlet prior on the answers of every class and column; 1 is maximum likelihood.
    missing : {"error", "integrate"}, default "error"
        Whether answers may be missing (NaN, null): "integrate" is full information maximum likelihood.
    unseen : {"error", "missing"}, default "error"
        What a category is that the data of the fit did not hold: an error, or a missing value (with
        ``missing="integrate"``): its column drops out of the row.
    compress : {"auto", True, False}, default "auto"
        Whether EM runs over different rows with weights, found in one pass, instead of over all rows: the same sums but
        for their rounding. "auto" does so from 16,384 rows on, where at most a quarter of them are different. The
        report says how many there were (`n_patterns`). `partial_fit` and `fit_stream` never do.
    init_params : str, default "short_em"
        "short_em", "merged_em", "split_merge", "random", "kmeans", "k-means++" or "random_from_data".
        "random" deals equal rows of a sample to the classes together, by chance; "short_em" goes on from the best of 32
        such deals after short runs of EM on the sample, and finds the best maximum far more often than one deal.
        "merged_em", "split_merge": see `GaussianMixture`. Codes have no distances, so there is no "k-means||".
    n_init : int, default 1
        Starts; the one with the highest log-likelihood is kept. Latent classes have many local maxima.
    weight_concentration_prior : float or (K,), optional
        As in `GaussianMixture`.
    tol, max_iter, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `tol` is 1e-7, `max_iter` 1000 and `stopping` "aitken" by default.

    Attributes
    ----------
    weights_ : (K,) shares of the classes
    class_probabilities_ : dict of (K, V_j), by the column's name (or position): the probability of each of its
        categories in every class
    probabilities_ : (K, ΣV_j) these probabilities side by side
    n_categories_ : (d,) V_j
    categories_ : dict from the names of columns of text to their categories, in the order of the probabilities
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import LatentClass
    >>> rng = np.random.default_rng(0)
    >>> agrees = np.array([[0.9, 0.8, 0.9], [0.2, 0.1, 0.3]])[rng.integers(2, size=500)]
    >>> answers = (rng.random((500, 3)) < agrees).astype(float)
    >>> model = LatentClass(2, random_state=0).fit(answers)
    >>> sorted(model.class_probabilities_[0][:, 1].round(1).tolist())
    [0.2, 0.9]
    """

    face: ClassVar[LatentClassFace] = LatentClassFace()
    instead_of_noise = (
        "constant over all categories is a class of equal probabilities; raise n_components by one, and a class that "
        "answers at random can be among them"
    )

    probabilities_: Array
    n_categories_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_categories: int | Sequence[int] | None = None,
        prior: float = 1.0,
        missing: str = "error",
        unseen: str = "error",
        compress: bool | str = "auto",
        tol: float = 1e-7,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: str = "short_em",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        weight_concentration_prior: float | ArrayLike | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_categories = n_categories
        self.prior = prior
        self.missing = missing
        self.unseen = unseen
        self.compress = compress
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.weight_concentration_prior = weight_concentration_prior
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    @property
    def class_probabilities_(self) -> Mapping[Any, Array]:
        """Probabilities (K, V_j) of every category in every class, one array a column."""
        if "probabilities_" not in self.__dict__:
            raise AttributeError("class_probabilities_")
        tables = np.split(self.probabilities_, np.cumsum(self.n_categories_)[:-1], axis=1)
        names = getattr(self, "feature_names_in_", range(len(tables)))
        return MappingProxyType(dict(zip(list(names), tables, strict=True)))
