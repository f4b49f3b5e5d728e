"""`Transformer`: what every transformer does: one pass to fit, and rows that are transformed where they are read."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError, SchemaError, StreamemError
from streamem.core.missing import Missing
from streamem.core.ports import Source
from streamem.estimators.exchange.scikit_learn import with_attributes
from streamem.estimators.hyperparameters import budget_of, threads_of
from streamem.estimators.identity import CONFIGURED, CONTAINERS, contained
from streamem.estimators.row_inputs import columns_of, is_frame, library_of, refuse_what_cannot_be_read
from streamem.machine.importing import import_whole
from streamem.preprocessing import files
from streamem.preprocessing.moments import BLOCK_ROWS, Moments, TakeMoments
from streamem.running.answers import (
    Column,
    apply_here,
    apply_lazily,
    apply_to_array,
    apply_to_store,
    is_dask,
    is_light,
    map_source,
    require_apart,
)
from streamem.running.engines import Engine
from streamem.running.row_tasks import Apply
from streamem.sources import ReadOptions, is_source, open_source
from streamem.sources.kinds import is_path_list, kind_of
from streamem.sources.transformed import RowMap, TransformedSource, about
from streamem.sources.unobserved import is_about_a_grid, is_on_a_grid, weighing_observed

Array = NDArray[Any]
Path = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class OfRows:
    """A map of rows as what a task asks of a chunk."""

    rows_to_rows: RowMap

    def __call__(self, params: Any, chunk: Chunk) -> Array:
        """The new rows."""
        return self.rows_to_rows(chunk.x)


class Transformer(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """A transformer that is fitted from moments, in one pass; subclasses say what these amount to.

    Arrays and data frames in memory are transformed as scikit-learn does. Everything else (paths, tables, xarray)
    becomes a `Source`, whose chunks are transformed where they are read, in every pass; Dask collections stay lazy.
    """

    _products: ClassVar[bool]
    _weighted: bool = False
    _moments: Moments | None = None

    columns: Sequence[str] | None
    feature_axis: int | str | None
    n_threads: int | None
    memory_limit: str | int | None
    chunk_bytes: str | int | None

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | str | None = None, *, executor: Any = None) -> Self:
        """Learn from all rows, in one pass.

        Parameters
        ----------
        X : array-like (n, d), or a path, table or collection that `streamem.open_source` can open
        y : ignored
        sample_weight : (n,) array, column name, or path of a one-dimensional Zarr array or ``.npy`` file
        executor : None, "threads" or distributed.Client, as in `GaussianMixture.fit`; the bits are the same

        Raises
        ------
        DataError : no rows, infinity, or missing values where none may be; weights that are all zero
        SchemaError : columns that are missing or not numeric
        """
        self._check()
        self._moments = None
        return self._learn(X, sample_weight, executor)

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | str | None = None, *, executor: Any = None
    ) -> Self:
        """Learn from more rows, beside those of earlier calls; arguments as in `fit`."""
        self._check()
        return self._learn(X, sample_weight, executor)

    def transform(self, X: Any, *, out: Path | None = None, overwrite: bool = False, executor: Any = None) -> Any:
        """Transformed rows.

        Parameters
        ----------
        X : anything that `fit` takes
        out : path ending in .zarr, .parquet or .npy, written chunk by chunk
        overwrite : replace an existing `out`

        Returns
        -------
        (n, p) array, or what `set_output` says, for arrays and data frames in memory; a lazy Dask collection for one;
        else a `Source` that every estimator takes, and whose ``to_array()`` reads all of it; `out` if that was given.
        """
        check_is_fitted(self)
        if is_dask(X) and out is None:
            return self._lazily(X)
        source, held = self._open(X, None, reset=False)
        self._require_width(source)
        mapped = self._map(source.schema.dtype)
        options = self._options()
        if out is not None:
            require_apart(X, out)
            column = Column(mapped.width, mapped.dtype, self._names_out())
            task = self._task(mapped, source.schema.names)
            return apply_to_store(source, task, column, self._engine("transform", executor), out, overwrite)
        if held is None:
            named = self._container() != "default"
            mapped = replace(mapped, names=self._names_out() if named else None)
            return TransformedSource(source, mapped, about(X, options))
        column = Column(mapped.width, mapped.dtype, self._names_out())
        task = self._task(mapped, source.schema.names)
        if is_light(source.n_rows, 1, executor):
            values = apply_here(source, task)
        else:
            values = apply_to_array(source, task, column, self._engine("transform", executor))
        return contained(self._container(), X, column, values)

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Rows (n, d) in the units of the data, from transformed rows (n, p) in memory, such as means of a mixture.

        Raises
        ------
        DataError : other shapes than (n, p)
        """
        check_is_fitted(self)
        x = np.asarray(X)
        width = self._map(np.dtype(np.float64)).width
        if x.ndim != 2 or x.shape[1] != width or x.dtype.kind not in "biuf":
            raise DataError(f"X is {x.dtype} of shape {x.shape}; transformed rows are numbers of shape (n, {width})")
        kept = np.dtype(np.float32 if x.dtype == np.float32 else np.float64)
        return np.asarray(self._inverse(x.astype(np.float64))).astype(kept)

    def to_sklearn(self) -> Any:
        """A fitted transformer of scikit-learn's class of this name that does what this one does."""
        check_is_fitted(self)
        shown = {name: value for name, value in vars(self).items() if name.endswith("_") and not name.startswith("_")}
        return with_attributes(self._theirs(), shown)

    def save(self, path: Path) -> None:
        """Write the fitted transformer to one ``.npz`` file, atomically and without pickle.

        Raises
        ------
        OutputError : the disk is full or the folder is missing; an earlier file is left intact
        """
        check_is_fitted(self)
        assert self._moments is not None
        files.write(path, self, self._moments)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a transformer that `save` wrote.

        Raises
        ------
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted
        """
        loaded: Self = files.read(cls, path)
        return loaded

    def __sklearn_is_fitted__(self) -> bool:
        return self._moments is not None

    # --- what subclasses say -----------------------------------------------------------------------------------------

    @abstractmethod
    def _check(self) -> None:
        """Refuse hyperparameters that cannot be."""

    @abstractmethod
    def _amount(self, moments: Moments) -> dict[str, Any]:
        """Attributes that moments amount to."""

    @abstractmethod
    def _map(self, dtype: np.dtype[Any]) -> RowMap:
        """What is done to rows of a dtype, which is kept."""

    @abstractmethod
    def _theirs(self) -> Any:
        """An unfitted transformer of scikit-learn with these settings."""

    @abstractmethod
    def _inverse(self, x: Array) -> Array:
        """What undoes it, on float64 rows."""

    # --- inner -------------------------------------------------------------------------------------------------------

    def _learn(self, x: Any, sample_weight: Any, executor: Any) -> Self:
        first = self._moments is None
        source, _ = self._open(x, sample_weight, reset=first)
        if is_about_a_grid(x):
            source = import_whole("streamem.sources.xarray").observed(x, source)
        elif is_on_a_grid(source):
            source = weighing_observed(source, in_memory=False)
        if not first:
            self._require_width(source)
        if source.n_rows == 0:
            raise DataError(f"{source.schema.origin} has no rows; at least one is needed")
        d = source.schema.n_features
        total = [Moments.nothing(d, self._products) if self._moments is None else self._moments]

        def join(found: Moments) -> None:
            total[0] = total[0].joined(found)

        held = 8 * d * (d + 2 if self._products else 3)
        task = TakeMoments(source.schema.names, self._products)
        map_source(source, task, self._engine("moments", executor, d), held, join)
        if not total[0].rows > 0:
            raise DataError("the sample weights are all zero; at least one must be > 0")
        names = source.schema.names if first else None
        if names is None:  # those of a frame in memory, or of the first call
            names = tuple(getattr(self, "feature_names_in_", ())) or None
        self._show(total[0], names, (self._weighted and not first) or sample_weight is not None)
        return self

    def _show(self, moments: Moments, names: tuple[str, ...] | None, weighted: bool) -> None:
        """Attributes of these moments."""
        self.n_features_in_ = len(moments.mean)
        self.__dict__.pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        self._weighted = weighted
        for name, value in self._amount(moments).items():
            setattr(self, name, value)
        self._moments = moments

    def _options(self) -> ReadOptions:
        budget = budget_of(self)
        columns = self.columns
        if getattr(self, "feature_names_in_", None) is not None:
            columns = columns_of(list(self.feature_names_in_))
        return ReadOptions(
            columns=None if columns is None else tuple([columns] if isinstance(columns, str) else columns),
            feature_axis=self.feature_axis,
            chunk_bytes=budget.chunk_bytes,
            most_chunk_bytes=budget.most_chunk_bytes,
        )

    def _open(self, x: Any, weight: Any, reset: bool) -> tuple[Source, Array | None]:
        """The rows of X, and the array that holds them where X is in memory."""
        refuse_what_cannot_be_read(x)
        if _in_memory(x):
            array = self._array(x, reset)
            source = open_source(
                array, weight=weight, options=replace(self._options(), columns=None, feature_axis=None)
            )
            return source, array
        if reset:
            self.__dict__.pop("feature_names_in_", None)
        options = self._options()
        if is_source(x):
            return open_source(x, weight=weight), None
        try:
            source = open_source(x, weight=weight, options=options)
        except SchemaError:
            if reset or self.columns is not None:
                raise
            source = open_source(x, weight=weight, options=replace(options, columns=None))
            if source.schema.names is not None and self.__dict__.get("feature_names_in_") is not None:
                raise
        return source, None

    def _array(self, x: Any, reset: bool) -> Array:
        """X in memory, with scikit-learn's checks of names and shapes."""
        chosen = (
            None if self.columns is None else [self.columns] if isinstance(self.columns, str) else list(self.columns)
        )
        if is_frame(x) and chosen is not None:
            if missing := [name for name in chosen if name not in x.columns]:
                raise SchemaError(f"the DataFrame has no columns {missing}; it has {list(x.columns)}")
            x = x[chosen]
        try:
            array = validate_data(self, x, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=reset)
        except StreamemError:
            raise
        except ValueError as error:  # scikit-learn's own words, under the root of our errors
            raise DataError(str(error)) from error
        return np.asarray(array)

    def _require_width(self, source: Source) -> None:
        if source.schema.n_features != self.n_features_in_:
            raise SchemaError(
                f"{source.schema.origin} has {source.schema.n_features} features, but {type(self).__name__} is "
                f"expecting {self.n_features_in_} features as input"
            )
        own, fitted = source.schema.names, tuple(getattr(self, "feature_names_in_", ()))
        if own is not None and fitted and tuple(own) != fitted:
            raise SchemaError(
                f"{source.schema.origin}: features {list(own)} were chosen, but {list(fitted)} were fitted; pass the "
                "columns of the fit, in their order"
            )

    def _names_out(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.get_feature_names_out())

    def _container(self) -> str:
        """What scikit-learn's `set_output`, of this object or of all, was told."""
        told = self.__dict__.get(CONFIGURED, {}).get("transform") or get_config()["transform_output"]
        if told not in CONTAINERS:
            raise ParameterError(f"the output is {told!r}; it must be one of {list(CONTAINERS)}")
        return str(told)

    def _task(self, mapped: RowMap, names: tuple[str, ...] | None) -> Apply:
        missing = Missing.NEVER if self._products else Missing.VALUES
        return Apply(OfRows(mapped), None, names, mapped.dtype, mapped.width * mapped.dtype.itemsize, missing)  # type: ignore[arg-type]

    def _engine(self, what: str, executor: Any, d: int | None = None) -> Engine:
        width = self.n_features_in_ if d is None else d
        workspace = 8 * BLOCK_ROWS * 6 * width + (16 * width**2 if self._products else 0)
        return Engine(executor, threads_of(self), budget_of(self), workspace, what, 0)

    def _lazily(self, x: Any) -> Any:
        width = len(x.columns) if hasattr(x, "columns") and self.columns is None else None
        if hasattr(x, "to_dask_array"):
            options = self._options()
        else:
            options, width = self._options(), x.shape[1] if len(x.shape) == 2 else None
        if (
            width is not None
            and width != self.n_features_in_
            and not (hasattr(x, "columns") and hasattr(self, "feature_names_in_"))
        ):
            raise SchemaError(
                f"the Dask collection has {width} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        kind = np.dtype(np.float32) if getattr(x, "dtype", None) == np.float32 else np.dtype(np.float64)
        mapped = self._map(kind)
        column = Column(mapped.width, mapped.dtype, self._names_out())
        return apply_lazily(x, options, self._task(mapped, None), column, plain=False)


def _in_memory(x: Any) -> bool:
    """Whether X is an array, a list or a data frame in memory."""
    if isinstance(x, list | tuple):
        return not is_path_list(x)
    if isinstance(x, np.ndarray) or is_frame(x) or library_of(x) == "scipy":
        return True
    kind = None if is_source(x) else kind_of(x)
    return kind is not None and kind.name == "array"
