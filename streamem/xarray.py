"""``import streamem.xarray`` gives every xarray Dataset and DataArray the accessor ``.streamem``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray

from streamem.core.errors import ParameterError
from streamem.sources import ReadOptions, open_source
from streamem.sources.transformed import About, KnownSource

__all__ = ["StreamemAccessor"]


@xarray.register_dataset_accessor("streamem")
@xarray.register_dataarray_accessor("streamem")
class StreamemAccessor:
    """Mixtures, hidden Markov models and pipelines on the rows of a Dataset or DataArray, chunk by chunk.

    Answers are DataArrays with the dimensions and coordinates of the rows. Points at which nothing was observed, NaN in
    every feature (land), are left out of the fit of mixtures, and their answers are NaN, labels −1.

    Parameters of every method
    --------------------------
    model : an estimator, or a `sklearn.pipeline.Pipeline` that ends in one
    feature_axis : dimension whose positions are features, such as "depth"; the other dimensions become rows
        Of several variables every one has a feature for each position.
    columns : the variables to take; None takes all numeric ones

    Examples
    --------
    >>> import numpy as np, xarray
    >>> import streamem.xarray
    >>> from streamem import GaussianMixture
    >>> t = np.array([[0.0, 0.1, 9.0], [9.1, np.nan, 0.2]])
    >>> ds = xarray.Dataset({"t": (("lat", "lon"), t), "s": (("lat", "lon"), t + 30)})
    >>> gm = ds.streamem.fit(GaussianMixture(2, random_state=0))
    >>> labels = ds.streamem.predict(gm)
    >>> labels.dims, int(labels[1, 1]), bool(labels[0, 0] == labels[0, 1])
    (('lat', 'lon'), -1, True)
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def fit(
        self,
        model: Any,
        *,
        feature_axis: int | str | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Fit a model, and return it; options are those of its ``fit``."""
        return _asked(model, "fit")(self._rows(feature_axis, columns), **options)

    def predict(
        self,
        model: Any,
        *,
        feature_axis: int | str | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Most probable component, or state, of every row; options are those of the model's ``predict``."""
        return _asked(model, "predict")(self._rows(feature_axis, columns), **options)

    def predict_proba(
        self,
        model: Any,
        *,
        feature_axis: int | str | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Probability of every component, or state, along one more dimension; options are those of the model."""
        return _asked(model, "predict_proba")(self._rows(feature_axis, columns), **options)

    def score_samples(
        self,
        model: Any,
        *,
        feature_axis: int | str | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Log-density of every row, in nats; options are those of the model."""
        return _asked(model, "score_samples")(self._rows(feature_axis, columns), **options)

    def _rows(self, feature_axis: int | str | None, columns: Sequence[str] | None) -> KnownSource:
        chosen = None if columns is None else tuple([columns] if isinstance(columns, str) else columns)
        options = ReadOptions(columns=chosen, feature_axis=feature_axis)
        return KnownSource(open_source(self._data, options=options), About(self._data, options))


def _asked(model: Any, method: str) -> Any:
    """The method of a model.

    Raises
    ------
    ParameterError : something else than a model
    """
    if isinstance(model, type):
        raise ParameterError(f"{model.__name__} is a class; pass an object of it: {model.__name__}(...)")
    if isinstance(model, str) or not hasattr(model, method):
        raise ParameterError(f"{model!r:.100} has no {method}: pass an estimator, or a pipeline that ends in one")
    return getattr(model, method)
