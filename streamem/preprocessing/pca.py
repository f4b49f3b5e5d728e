"""`PCA`: principal components from second moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin

from streamem.core.blas import one_blas_thread
from streamem.core.errors import DataError, ParameterError
from streamem.core.missing import Missing
from streamem.machine.importing import import_whole
from streamem.preprocessing.moments import Moments
from streamem.preprocessing.transformer import Transformer
from streamem.sources.transformed import RowMap

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Project:
    """Rows less a centre, times a matrix (d, p)."""

    center: Array
    matrix: Array

    def __call__(self, x: Array) -> Array:
        """The new rows; one BLAS thread, so that bits are the same wherever it runs."""
        with one_blas_thread(brief=True):
            return np.asarray((x - self.center) @ self.matrix)


class PCA(ClassNamePrefixFeaturesOutMixin, Transformer):
    """Principal component analysis from the covariance of all rows, in one pass, out of core.

    Names, attributes and signs are those of `sklearn.decomposition.PCA` with ``svd_solver="covariance_eigh"``: a pass
    sums d × d products, and their eigenvectors are found in memory, so d is at most some thousands. Variances below
    1e-15 of the largest are lost to rounding, as there. Rows may not lack values.

    Parameters
    ----------
    n_components : int, float or None
        How many; a share of the variance, 0 < share < 1, of which as many as explain more than it are kept; None keeps
        min(n, d).
    whiten : bool, default False
        Give every component the variance 1.
    columns, feature_axis, n_threads, memory_limit, chunk_bytes : as in `StandardScaler`

    Attributes
    ----------
    components_ : (p, d) orthonormal rows, by falling variance; the largest entry of each is positive
    explained_variance_, explained_variance_ratio_, singular_values_ : (p,)
        Variances (n − 1 degrees of freedom), their share of all, and roots of the sums of squares.
    mean_ : (d,)
    noise_variance_ : mean of the variances that were left out (Tipping & Bishop 1999)
    n_components_, n_samples_, n_features_in_, feature_names_in_ : as in scikit-learn

    Examples
    --------
    >>> import numpy as np
    >>> from streamem.preprocessing import PCA
    >>> t = np.linspace(-1, 1, 101)
    >>> X = np.stack([3 * t, 4 * t, 0 * t + 7], axis=1)
    >>> pca = PCA(n_components=0.99).fit(X)
    >>> pca.components_.round(6).tolist(), pca.explained_variance_ratio_.round(6).tolist()
    ([[0.6, 0.8, 0.0]], [1.0])
    >>> bool(np.allclose(pca.inverse_transform(pca.transform(X)), X))
    True
    """

    _products: ClassVar[bool] = True

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        whiten: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.columns = columns
        self.feature_axis = feature_axis
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    def _check(self) -> None:
        wanted = self.n_components
        if not isinstance(self.whiten, bool | np.bool_):
            raise ParameterError(f"whiten is {self.whiten!r}; it must be True or False")
        whole = isinstance(wanted, int | np.integer) and not isinstance(wanted, bool) and wanted >= 1
        share = isinstance(wanted, float | np.floating) and 0 < wanted < 1
        if wanted is not None and not whole and not share:
            raise ParameterError(
                f"n_components is {wanted!r}; it must be an integer >= 1, a share of the variance between 0 and 1, or "
                "None"
            )

    def _amount(self, moments: Moments) -> dict[str, Any]:
        n, d = moments.rows, len(moments.mean)
        if not n > 1:
            raise DataError(f"n_samples={n:g} (rows, or their weights); a covariance needs more than 1")
        rank = min(int(np.floor(n)), d)
        with one_blas_thread(brief=True):
            values, vectors = np.linalg.eigh(moments.scatter / (n - 1))
        variances, rows = np.maximum(values[::-1], 0.0), vectors.T[::-1]
        largest = rows[np.arange(d), np.abs(rows).argmax(axis=1)]
        rows = rows * np.sign(largest)[:, None]
        total = variances.sum()
        ratios = variances / total if total > 0 else np.zeros(d)
        p = self._kept(ratios, rank)
        return {
            "mean_": np.array(moments.mean),
            "components_": np.ascontiguousarray(rows[:p]),
            "explained_variance_": variances[:p].copy(),
            "explained_variance_ratio_": ratios[:p].copy(),
            "singular_values_": np.sqrt(variances[:p] * (n - 1)),
            "noise_variance_": float(variances[p:rank].mean()) if p < rank else 0.0,
            "n_components_": p,
            "n_samples_": n if self._weighted else round(n),
        }

    def _kept(self, ratios: Array, rank: int) -> int:
        wanted = self.n_components
        if wanted is None:
            return rank
        if isinstance(wanted, float | np.floating):
            return min(int(np.searchsorted(np.cumsum(ratios), wanted, side="right")) + 1, len(ratios))
        if wanted > rank:
            raise ParameterError(f"n_components={wanted} must be between 1 and min(n_samples, n_features)={rank}")
        return int(wanted)

    def _map(self, dtype: np.dtype[Any]) -> RowMap:
        matrix = self.components_.T
        if self.whiten:
            matrix = matrix / self._deviations()
        key = f"project {self.mean_.tobytes().hex()} {np.ascontiguousarray(matrix).tobytes().hex()}"
        function = Project(self.mean_, np.ascontiguousarray(matrix))
        return RowMap(function, self.n_components_, dtype, None, Missing.STEPS_ALONE, key)

    def _theirs(self) -> Any:
        library = import_whole("sklearn.decomposition")
        return library.PCA(self.n_components, whiten=self.whiten, svd_solver="covariance_eigh")

    def _inverse(self, x: Array) -> Array:
        scaled = x * self._deviations() if self.whiten else x
        return np.asarray(scaled @ self.components_ + self.mean_)

    def _deviations(self) -> Array:
        """Standard deviations of the components, none of them 0."""
        return np.maximum(np.sqrt(self.explained_variance_), np.finfo(np.float64).eps)

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`."""
        return self.n_components_
