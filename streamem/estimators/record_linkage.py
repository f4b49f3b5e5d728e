"""`RecordLinkage`: which pairs of records are the same person, firm or thing, by EM over comparison levels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from streamem.core.errors import ParameterError
from streamem.estimators.asking import Target, answered
from streamem.estimators.faces.record_linkage import RecordLinkageFace
from streamem.estimators.mixtures import MixtureEstimator
from streamem.estimators.pairs import PAIRS, asking, is_match, label
from streamem.estimators.structure import DataArguments, Question

Array = NDArray[Any]
Path = str | os.PathLike[str]


class RecordLinkage(MixtureEstimator):
    """Fellegi–Sunter record linkage: matches and non-matches among candidate pairs, told apart by EM, out of core.

    Every row is a pair of records; every column a comparison, whose value is a level of agreement. Matches have level
    v of column j with probability m_jv, others with u_jv, independently of the other columns; a share λ of the pairs
    are matches: p(pair) = λ Π_j m_j(x_j) + (1 − λ) Π_j u_j(x_j) (Fellegi & Sunter 1969; EM: Winkler 1988). A level
    that is missing (NaN, null) drops its column from the pair. There is no adjustment for the frequency of terms: a
    rare name that agrees counts as much as a common one.

    Parameters
    ----------
    match_prior_init : float, default 0.01
        Share of matches from which EM starts.
    agreement_init : float, default 0.95
        Probability of the highest level among matches from which EM starts, the other levels sharing the rest alike;
        among non-matches it is 1 − agreement_init. This start is what makes component 1 the matches.
    u_probabilities : dict of arrays, by the column's name (or position), or None
        Tables of u that EM keeps; see `estimate_u`. Columns that are not named have theirs estimated.
    levels : dict of lists, by the column's name, or None
        The levels of columns of text, from no agreement to full agreement. Other columns hold integers 0 … V − 1, of
        which a larger one is more agreement.
    n_levels : int, one int a column, or None
        V. None lets the data tell, and `levels` and `u_probabilities`, where these have more.
    id_columns : sequence of str, or None
        Columns that are no comparisons. A ``.parquet`` that an answer is written to (``out=``) holds them too.
    unseen : {"error", "missing"}, default "error"
        What a level is that neither `levels` nor the data of the fit hold: an error, or a missing level.
    compress : {"auto", True, False}, default "auto"
        Whether EM runs over different rows with weights; see `LatentClass`.
    weight_concentration_prior : float or (2,), optional
        Dirichlet prior of the shares of non-matches and matches, (1, 51) as if 50 more pairs had matched; as in
        `GaussianMixture`.
    tol, max_iter, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `tol` is 1e-9 and `max_iter` 1000 by default. Only `sample` draws numbers.

    Attributes
    ----------
    match_prior_ : λ
    m_probabilities_, u_probabilities_ : dict of (V_j,), by the column's name (or position)
    match_weights_ : dict of (V_j,): log2(m/u), the bits that a level adds to the weight of a match
    levels_ : dict of lists: what the entries of these arrays stand for
    weights_ : (2,) 1 − λ and λ
    probabilities_ : (2, ΣV_j) u and m, the columns side by side
    n_categories_ : (d,) V_j
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    Component 0 is of non-matches, component 1 of matches, in all that mixtures do besides (`sample`, `score_samples`).

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import RecordLinkage
    >>> rng = np.random.default_rng(0)
    >>> same = rng.random(2000) < 0.2
    >>> agrees = np.where(same[:, None], [0.9, 0.95, 0.8], [0.05, 0.1, 0.02])
    >>> pairs = (rng.random((2000, 3)) < agrees).astype(float)
    >>> link = RecordLinkage().fit(pairs)
    >>> round(link.match_prior_, 2), link.m_probabilities_[1].round(1).tolist()
    (0.21, [0.0, 1.0])
    >>> link.predict_proba([[1, 1, np.nan], [0, 0, 0]]).round(2).tolist()
    [0.98, 0.0]
    """

    face: ClassVar[RecordLinkageFace] = RecordLinkageFace()
    instead_of_noise = "a pair matches or does not; u_probabilities says how levels of random pairs are distributed"
    structure = PAIRS

    n_components = 2
    n_init = 1
    init_params = "agreement"
    missing = "integrate"

    probabilities_: Array
    n_categories_: Array

    def __init__(
        self,
        *,
        match_prior_init: float = 0.01,
        agreement_init: float = 0.95,
        u_probabilities: Mapping[Any, ArrayLike] | None = None,
        levels: Mapping[str, Sequence[Any]] | None = None,
        n_levels: int | Sequence[int] | None = None,
        id_columns: Sequence[str] | None = None,
        unseen: str = "error",
        compress: bool | str = "auto",
        weight_concentration_prior: float | ArrayLike | None = None,
        tol: float = 1e-9,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.match_prior_init = match_prior_init
        self.agreement_init = agreement_init
        self.u_probabilities = u_probabilities
        self.levels = levels
        self.n_levels = n_levels
        self.id_columns = id_columns
        self.unseen = unseen
        self.compress = compress
        self.weight_concentration_prior = weight_concentration_prior
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    # --- learning ----------------------------------------------------------------------------------------------------

    def estimate_u(self, random_pairs: Any, **options: Any) -> Self:
        """Set `u_probabilities` to the shares of levels among pairs drawn at random, nearly all of which are no match.

        Parameters
        ----------
        random_pairs : pairs with the same columns as those that will be fitted
        options : those of `fit`

        Returns
        -------
        self, whose next `fit` keeps u

        Examples
        --------
        >>> from streamem import RecordLinkage
        >>> link = RecordLinkage().estimate_u([[0, 0], [0, 1], [0, 0], [1, 0]])
        >>> [round(share, 9) for share in link.u_probabilities[1]]
        [0.75, 0.25]
        """
        # Where matches and others start alike they stay alike: both are the shares.
        shares = clone(self).set_params(u_probabilities=None, agreement_init=0.5, warm_start=False)
        shares.fit(random_pairs, **options)
        self.u_probabilities = {name: table.tolist() for name, table in shares.u_probabilities_.items()}
        return self

    # --- questions ---------------------------------------------------------------------------------------------------

    def predict(
        self,
        X: Any,
        *,
        threshold: float = 0.5,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """1 for every pair that is a match with probability `threshold` or more, else 0.

        Parameters
        ----------
        X : anything that `fit` takes
        threshold : from 0 to 1
        out : path ending in .parquet, .zarr or .npy
            Written chunk by chunk; it appears when complete.
        overwrite : replace an existing `out`
        id_columns : columns of X that ``out="….parquet"`` holds too; by default those of the estimator
        columns, feature_axis, executor : as in `fit`; by default the columns that were fitted

        Returns
        -------
        (n,) int64 array; a lazy Dask array for a Dask collection; `out` if that was given (stored as int32).

        Examples
        --------
        >>> from streamem import RecordLinkage
        >>> pairs = [[1, 1], [1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
        >>> link = RecordLinkage().fit(pairs)
        >>> link.predict([[1, 1], [0, 0]]).tolist()
        [1, 0]
        """
        if not 0 <= threshold <= 1:
            raise ParameterError(f"threshold is {threshold!r}; it must be a probability, from 0 to 1")
        target, arguments = Target(out, overwrite, executor, id_columns), DataArguments(None, columns, feature_axis)
        question = Question(label, asking(partial(is_match, threshold=float(threshold))))
        column = label(2, np.dtype(np.float64), out is not None)
        return answered(self, self._now(), "matches", question, X, arguments, column, target)

    def predict_proba(
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
        """Probability of a match (n,), 1 / (1 + 2^−weight); arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import RecordLinkage
        >>> pairs = [[1, 1], [1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
        >>> link = RecordLinkage().fit(pairs)
        >>> match, other = link.predict_proba([[1, 1], [0, 0]]).tolist()
        >>> match > 0.5 > other
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("match_probability", X, DataArguments(None, columns, feature_axis), target)

    def match_weight(
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
        """Log-odds of a match in bits (n,): log2(λ/(1 − λ)) + Σ_j log2(m_j/u_j); arguments as in `predict`.

        Examples
        --------
        >>> from streamem import RecordLinkage
        >>> pairs = [[1, 1], [1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
        >>> link = RecordLinkage().fit(pairs)
        >>> match, other = link.match_weight([[1, 1], [0, 0]]).tolist()
        >>> match > 0 > other
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("match_weight", X, DataArguments(None, columns, feature_axis), target)

    def score_pairs(
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
        """Weight and probability of a match (n, 2) in one pass; arguments and result as in `predict`.

        Columns of ``out=`` are the `id_columns`, ``match_weight`` and ``match_probability``.

        Examples
        --------
        >>> from streamem import RecordLinkage
        >>> pairs = [[1, 1], [1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
        >>> link = RecordLinkage().fit(pairs)
        >>> link.score_pairs([[1, 1], [0, 0]]).shape
        (2, 2)
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("both", X, DataArguments(None, columns, feature_axis), target)

    def transform(self, X: Any) -> Any:
        """The probability of a match as a feature for a next step (n, 1).

        Examples
        --------
        >>> from streamem import RecordLinkage
        >>> pairs = [[1, 1], [1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
        >>> link = RecordLinkage().fit(pairs)
        >>> link.transform([[1, 1], [0, 0]]).shape
        (2, 1)
        """
        target = Target(plain=True)
        return self._answer("match_probability", X, DataArguments(), target)[:, None]

    # --- attributes --------------------------------------------------------------------------------------------------

    @property
    def match_prior_(self) -> float:
        """The share λ of matches."""
        return float(self.weights_[1])

    @property
    def m_probabilities_(self) -> Mapping[Any, Array]:
        """Probability, by column, of each level among matches (V_j,)."""
        return _by_column(self, self.probabilities_[1])

    @property
    def u_probabilities_(self) -> Mapping[Any, Array]:
        """Probability, by column, of each level among non-matches (V_j,)."""
        return _by_column(self, self.probabilities_[0])

    @property
    def match_weights_(self) -> Mapping[Any, Array]:
        """Bits log2(m/u) of each level, by column (V_j,)."""
        u, m = self.probabilities_
        with np.errstate(divide="ignore", invalid="ignore"):
            return _by_column(self, np.log2(m) - np.log2(u))

    @property
    def levels_(self) -> Mapping[Any, Sequence[Any]]:
        """Levels of every column from no agreement to full agreement."""
        texts: Mapping[Any, Sequence[Any]] = getattr(self, "categories_", {})
        sizes = _by_column(self, np.repeat(self.n_categories_, self.n_categories_))
        return MappingProxyType({name: texts.get(name, list(range(len(size)))) for name, size in sizes.items()})

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`: the probability of a match."""
        return 1


def _by_column(settings: RecordLinkage, values: Array) -> Mapping[Any, Array]:
    """Numbers of all levels (ΣV,) cut into those of each column."""
    tables = np.split(values, np.cumsum(settings.n_categories_)[:-1])
    names = getattr(settings, "feature_names_in_", range(len(tables)))
    return MappingProxyType(dict(zip(list(names), tables, strict=True)))
