"""`fit(X, noise=…)`: rows of which each has noise of its own, of known covariance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Source, full_family
from streamem.estimators.row_inputs import columns_of, open_rows, read_options
from streamem.estimators.structure import DataArguments, Opened
from streamem.initialization import MERGED, PARALLEL, SPLIT_MERGE
from streamem.online.behind import Behind
from streamem.running.fitted import Fitted, Shape
from streamem.sources import ReadOptions, open_source
from streamem.sources.opening import is_weight_path
from streamem.sources.row_noise import NOISE_NEEDED, NoisyRows, possible_noise
from streamem.sources.side_by_side import SideBySide

Array = NDArray[Any]


def open_noisy(settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
    """Rows of X with their noise behind them, and the shape of the features, which tells the kind of noise.

    Raises
    ------
    ParameterError : a model that knows no noise of rows
    SchemaError : noise that does not fit the rows
    """
    _require_able(settings, shape)
    noise, plain = arguments.noise, replace(arguments, noise=None)
    names = _columns(noise)
    if names is None:
        opened = open_rows(settings, x, plain, shape)
        base: Source = SideBySide(opened.source, _apart(settings, noise, opened.source))
    else:
        plain = replace(plain, left_out=(*plain.left_out, *names))
        opened = open_rows(settings, x, plain, shape)
        if opened.shape.names is None:
            raise ParameterError(f"noise names the columns {list(names)}, and X has no names; pass it as an array")
        features = columns_of([str(name) for name in opened.shape.names])
        options = replace(read_options(settings, plain, shape), columns=(*features, *names), left_out=())
        base = open_source(x, weight=arguments.sample_weight, options=options)
    d = opened.shape.features
    told = names if names is not None and len(names) == d else None
    source = NoisyRows(base, d, told)
    return Opened(source, replace(opened.shape, noise=source.kind))


def noise_behind(settings: Any, shape: Shape | None, noise: Any) -> Behind:
    """Fields of a stream's records that hold the noise of each.

    Raises
    ------
    ParameterError : a model that knows no noise of rows, or no names of fields, or others than features need
    """
    _require_able(settings, shape)
    names = _columns(noise)
    if names is None or len(set(names)) < len(names):
        raise ParameterError(
            f"noise is {noise!r:.100}; of a stream it must be the names of the fields that hold it, variances in the "
            "order of the features, or covariances row by row"
        )

    def again(fitted: Shape) -> Shape:
        return replace(fitted, noise=_kind(len(names), fitted.features))

    def shaped(whole: Shape) -> Shape:
        own = None if whole.names is None else whole.names[: -len(names)]
        return again(replace(whole, features=whole.features - len(names), names=own))

    return Behind(names, len(names), shaped, again, possible_noise, NOISE_NEEDED)


def _kind(columns: int, features: int) -> str:
    """Whether so many columns of noise are variances or covariances.

    Raises
    ------
    SchemaError : neither
    """
    if columns not in (features, features**2):
        raise SchemaError(
            f"noise names {columns} fields for {features} features; {features} variances, or {features}×{features} "
            "covariances, are needed"
        )
    return "variances" if columns == features else "covariances"


@dataclass(frozen=True)
class OnValues:
    """A start that sees the values of rows alone; those that were not observed are NaN."""

    start: Any
    family: Any

    def __call__(self, x: Array, weight: Array | None, k: int, rng: np.random.RandomState) -> Array:
        """Responsibilities (n, k)."""
        found: Array = self.start(self.family.values(x), weight, k, rng)
        return found


def with_kind(fitted: Fitted, shape: Shape) -> Fitted:
    """What is fitted, for a mini-batch of this shape: its rows hold noise of this kind, or none.

    Raises
    ------
    ParameterError : rows that are kept until a start can be made of them hold noise of another kind
    """
    if fitted.shape is None or fitted.shape.noise == shape.noise:
        return fitted
    if fitted.pending is not None:
        kept, new = (f"noise in {kind}" if kind else "no noise" for kind in (fitted.shape.noise, shape.noise))
        raise ParameterError(
            f"the {fitted.pending.rows} rows that earlier batches brought, and of which no start could be made yet, "
            f"have {kept}, and this batch has {new}: pass rows of one kind until there are enough for a start"
        )
    return replace(fitted, shape=replace(fitted.shape, noise=shape.noise))


def shape_alone(fitted: Fitted) -> Shape | None:
    """The shape of rows, whatever noise those have that are kept until a start can be made of them."""
    return None if fitted.shape is None else replace(fitted.shape, noise=None)


def without_kind(fitted: Fitted) -> Fitted:
    """What is fitted, once a mini-batch was learned: noise belongs to rows, and rows that are kept have theirs."""
    if fitted.shape is None or fitted.shape.noise is None or fitted.pending is not None:
        return fitted
    return replace(fitted, shape=replace(fitted.shape, noise=None))


def _require_able(settings: Any, shape: Shape | None) -> None:
    family = settings.face.family(settings, shape)
    if not full_family(family).takes_row_noise:
        raise ParameterError(f"{type(family).__name__} has no arithmetic for noise of rows: leave it out")
    if settings.noise:
        raise ParameterError("noise=True is a component for outliers, which does not go together with noise of rows")
    if settings.init_params in (MERGED, SPLIT_MERGE, PARALLEL):
        raise ParameterError(
            f"init_params is {settings.init_params!r}, which measures rows without their noise; use 'kmeans' or "
            "'short_em'"
        )


def _columns(noise: Any) -> tuple[str, ...] | None:
    """Names of columns, or None where noise lies apart from the rows."""
    if isinstance(noise, str):
        return None if is_weight_path(noise) else (noise,)
    named = isinstance(noise, list | tuple) and len(noise) > 0 and all(isinstance(name, str) for name in noise)
    return tuple(noise) if named else None


def _apart(settings: Any, noise: Any, rows: Source) -> Source:
    """A source of noise that lies apart: (n, d) variances, (n, d, d) covariances, or what `open_source` takes."""
    if isinstance(noise, np.ndarray | list | tuple):
        array = np.asarray(noise)
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2, 3) or len(array) != rows.n_rows:
            raise SchemaError(
                f"noise is an array of shape {array.shape} of {array.dtype}; numbers, (n, d) variances or (n, d, d) "
                f"covariances of {rows.n_rows} rows, are needed"
            )
        noise = array.reshape(len(array), -1)
    return open_source(
        noise, options=ReadOptions(chunk_bytes=read_options(settings, DataArguments(), None).chunk_bytes)
    )
