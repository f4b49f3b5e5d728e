"""`StandardScaler`: columns of mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin

from streamem.core.errors import ParameterError
from streamem.core.missing import Missing
from streamem.machine.importing import import_whole
from streamem.preprocessing.moments import Moments
from streamem.preprocessing.transformer import Transformer
from streamem.sources.transformed import RowMap

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Standardize:
    """Rows less a centre, over a scale; float64 within, so that large offsets lose nothing in float32."""

    center: Array
    scale: Array

    def __call__(self, x: Array) -> Array:
        """The new rows."""
        return (x - self.center) / self.scale


class StandardScaler(OneToOneFeatureMixin, Transformer):
    """Standardize features: (x − mean) / standard deviation, out of core; scikit-learn's names, attributes and results.

    NaN is a value that was not observed: it is left out of the moments, and stays NaN.

    Parameters
    ----------
    with_mean, with_std : bool, default True
        Whether to centre, and to scale. A column that is constant to rounding is not scaled.
    columns : sequence of str, or None
        Features of data that has names; None takes all numeric ones.
    feature_axis : int, str or None
        Which axis holds the features, of Zarr and xarray data of more than two dimensions.
    n_threads, memory_limit, chunk_bytes : as in `GaussianMixture`

    Attributes
    ----------
    mean_, var_, scale_ : (d,) mean, population variance and its root (1 for constants); None where neither is used
    n_samples_seen_ : rows, or sum of weights; (d,) where numbers of observed values differ
    n_features_in_, feature_names_in_ : as in scikit-learn

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from streamem import GaussianMixture
    >>> from streamem.preprocessing import StandardScaler
    >>> X = np.array([[0.0, 1000.0], [0.2, 1100.0], [9.0, 9000.0], [9.2, 9200.0]])
    >>> StandardScaler().fit_transform(X).std(axis=0).round(6).tolist()
    [1.0, 1.0]
    >>> model = make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0)).fit(X)
    >>> bool(model.predict(X)[0] == model.predict(X)[1])
    True
    """

    _products: ClassVar[bool] = False

    def __init__(
        self,
        *,
        with_mean: bool = True,
        with_std: bool = True,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.columns = columns
        self.feature_axis = feature_axis
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    def _check(self) -> None:
        for name in ("with_mean", "with_std"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it must be True or False")

    def _amount(self, moments: Moments) -> dict[str, Any]:
        count = moments.weight if self._weighted else np.rint(moments.weight).astype(np.int64)
        seen = count[0].item() if (count == count[0]).all() else count
        # A column of which nothing was seen has no mean, as in scikit-learn.
        observed = moments.weight > 0
        mean = np.where(observed, moments.mean, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            var = np.where(observed, np.maximum(moments.scatter, 0.0) / moments.weight, np.nan)
        scale = np.where(_is_constant(moments.weight, mean, var), 1.0, np.sqrt(var))
        used = self.with_mean or self.with_std
        return {
            "n_samples_seen_": seen,
            "mean_": mean if used else None,
            "var_": var if self.with_std else None,
            "scale_": scale if self.with_std else None,
        }

    def _map(self, dtype: np.dtype[Any]) -> RowMap:
        d = self.n_features_in_
        center = self.mean_ if self.with_mean else np.zeros(d)
        scale = self.scale_ if self.with_std else np.ones(d)
        key = f"standardize {center.tobytes().hex()} {scale.tobytes().hex()}"
        return RowMap(Standardize(center, scale), d, dtype, None, Missing.VALUES, key)

    def _theirs(self) -> Any:
        return import_whole("sklearn.preprocessing").StandardScaler(with_mean=self.with_mean, with_std=self.with_std)

    def _inverse(self, x: Array) -> Array:
        scaled = x * self.scale_ if self.with_std else x
        return np.asarray(scaled + self.mean_ if self.with_mean else scaled)

    def __sklearn_tags__(self) -> Any:
        """NaN is allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _is_constant(n: Array, mean: Array, var: Array) -> Array:
    """Columns whose variance is rounding of a constant: scikit-learn's bound (Chan, Golub & LeVeque 1983)."""
    eps = np.finfo(np.float64).eps
    with np.errstate(invalid="ignore"):
        return np.asarray(var <= n * eps * var + (n * mean * eps) ** 2)
