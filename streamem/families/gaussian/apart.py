"""Gaussians of which some are worked out by differences: those whose products of features would round too much.

The others go by products, in the same pass over the rows. How many of both there are is a function of the parameters
and of the rows' dtype.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.numerics import negligible
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.families.gaussian.arithmetic import (
    ROUNDING_LIMIT_32,
    GaussianKernel,
    TiedKernel,
    about_means,
    as_stats,
    by_variances,
    log_constants,
    n_statistics,
    origins,
    own_factors,
    product_dtype,
)
from streamem.families.gaussian.covariance import Covariance
from streamem.families.gaussian.covariance_matrix import pack
from streamem.families.gaussian.rounding import difference_rounding, product_roundings
from streamem.kernels.features.exponential import NO_WEIGHTS, ExponentialKernel
from streamem.kernels.features.features import as_rows, linear_features
from streamem.kernels.pairs.apart_buffers import Apart, room_bytes, room_of
from streamem.kernels.pairs.pair_buffers import (
    Gaussians,
    PairBuffers,
    block_bytes,
    buffers_of_block,
    moment_columns,
)
from streamem.kernels.tiling import SHAPES, block_rows, panels_of, products_bytes
from streamem.machine.lanes import fill_in_lanes, in_lanes
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

MARKS = 4
"""Features that tell whether a row may belong to a component."""

NO_DENSITY = 700.0
"""Nats below the largest log-density of a row, from which on a density is 0 beside it (`compiled.LEAST`)."""

SLACK = 128.0
"""Units in the last place by which the best of a row's log-densities may be off, far from all components."""

SHRUNK = 0.99
"""Of distances in a few features, so that no rounding of their whitening makes them longer than the whole one."""

MOST_MIDDLING = 0.25
"""Share of components that may go by differences on float32 rows although products in float64 would serve them."""


def choose_kernel(structure: Covariance, params: Params, dtype: DTypeLike, distances: bool = False) -> Kernel:
    """Feature products where they are accurate enough for rows of `dtype`, differences for the other components.

    With `distances` its log-densities are −½ of squared distances, without constants.
    """
    apart = components_apart(structure, params, dtype)
    if apart.any():
        return ApartKernel(structure, params, dtype, apart, distances)
    kind = TiedKernel if structure.shared else GaussianKernel
    return kind(structure, params, product_dtype(structure, params, dtype), distances)


def arithmetic(structure: Covariance, params: Params, dtype: DTypeLike) -> str:
    """Which arithmetic `choose_kernel` chooses, in words, without making the kernel."""
    apart = components_apart(structure, params, dtype)
    if apart.all():
        return "float64 differences"
    roundings = product_roundings(structure, params, np.float32)[~apart]
    narrow = np.dtype(dtype) == np.float32 and bool((roundings <= ROUNDING_LIMIT_32).all())
    products = f"{'float32' if narrow else 'float64'} products"
    return f"{products}, float64 differences for {apart.sum()} of {len(apart)}" if apart.any() else products


def components_apart(structure: Covariance, params: Params, dtype: DTypeLike) -> Array:
    """Which components (K,) go by differences on rows of `dtype`.

    Those that products in float64 do not serve; on float32 rows also the few that products in float32 do not serve,
    if these serve the rest.
    """
    if np.dtype(dtype) != np.float32 or structure.shared:
        return about_means(structure, params)
    return cached_by_identity(
        params.means,
        params.precisions_cholesky,
        ("apart on float32", type(structure)),
        lambda: _apart_on_float32(structure, params),
    )


def _apart_on_float32(structure: Covariance, params: Params) -> Array:
    tight = about_means(structure, params)
    wide = tight | (product_roundings(structure, params, np.float32) > ROUNDING_LIMIT_32)
    return wide if (wide & ~tight).sum() <= MOST_MIDDLING * len(wide) and not wide.all() else tight


def workspace_bytes(structure: Covariance, k: int, d: int) -> int:
    """Bytes of the larger kernel that may run at K components and d features, with responsibilities of a block."""
    moments = 8 * (2 * d * block_rows(k, d) + d * d) if structure.shared else 0
    return products_bytes(k, d, n_statistics(structure, d)) + max(moments, _apart_bytes(structure, k, d))


@lru_cache  # of shapes alone: a fit asks once more for what an earlier one has asked
def _apart_bytes(structure: Covariance, k: int, d: int) -> int:
    """Bytes of pairs, and of what all of k components take that go by differences."""
    matrices = 0 if by_variances(structure, d) else 8 * k * d * (2 * d + moment_columns(d))
    rows = max(block_rows(1, d), *(shape.rows for shape in SHAPES))
    return block_bytes(k, d, rows) + room_bytes(k, min(d, MARKS * k), rows) + 8 * k * (rows + 8 * d) + matrices


class _Split(NamedTuple):
    """What follows from parameters and from which components go by differences.

    Attributes
    ----------
    some : parameters of the components that go by products
    members : (K,) these components, and then the others
    apart : the others
    rounding : of a log-density of the others, in nats
    """

    some: Params
    members: Array
    apart: Apart
    rounding: float


class ApartKernel(Kernel):
    """Gaussians by products, and some of them by differences over the pairs of row and component that matter.

    Statistics of the components of `about_means` are moments about the component's *own mean at these parameters*, so
    they may be added to statistics at the same parameters only; `Gaussian.maximize` is given these as `previous`.

    Parameters
    ----------
    dtype : of the rows
    apart : (K,) bool, which components go by differences; at least one
    distances : −½δ in place of log-densities; such a kernel runs block by block, and is not asked to `mix`
    """

    dtype = np.dtype(np.float64)

    def __init__(
        self, structure: Covariance, params: Params, dtype: DTypeLike, apart: Array, distances: bool = False
    ) -> None:
        (self._k, self._d), self._structure = params.means.shape, structure
        self._center, self._unscale = params.center.copy(), 1.0 / params.scale
        self._split = cached_by_identity(
            params.means,
            params.precisions_cholesky,
            ("apart", type(structure), apart.tobytes(), distances),
            lambda: _split(structure, params, apart, distances),
        )
        self._some, self._others = np.split(self._split.members, [self._k - int(apart.sum())])
        self._products = self._product_kernel(params, dtype, distances)
        self.rounding = max(self._split.rounding, self._products.rounding)
        self.path = arithmetic(structure, params, dtype)
        self.float32_products = len(self._some) > 0 and self._products.float32_products
        self._slack = SLACK * float(np.finfo(self._products.dtype).eps)
        self._loaded: Array = np.empty((0, self._d))
        self._begin()

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""
        self._loaded = np.empty((len(x), self._d))
        kernels.load_rows(as_rows(x), self._center, self._unscale, self._loaded)
        if len(self._some):
            self._products.load(x)

    def log_prob(self, out: Array) -> None:
        """out (K, b): of every pair."""
        rows, buffers = len(self._loaded), self._pair_buffers(len(self._loaded))
        apart = self._split.apart
        kernels.log_prob_of_all(apart, apart.gaussians.factors, rows, buffers._replace(x=self._loaded))
        out[self._others] = buffers.values.reshape(len(self._others), rows)
        if len(self._some):
            scores = np.empty((len(self._some), rows))
            self._products.log_prob(scores)
            out[self._some] = scores

    def accumulate(self, resp: Array) -> None:
        """Sums of the loaded rows, for resp (K, b)."""
        if len(self._some):
            self._products.accumulate(resp[self._some])
        own = resp[self._others]
        component, row = np.nonzero(own)
        buffers = self._pair_buffers(len(self._loaded))
        buffers.rows[: len(row)], buffers.values[: len(row)] = row, own[component, row]
        buffers.starts[:] = np.searchsorted(component, np.arange(len(own) + 1))
        kernels.add_pairs(self._origins, self._sums, self._moments, buffers._replace(x=self._loaded))

    def restart(self) -> None:
        """Begin anew."""
        self._products.restart()
        self._loaded = np.empty((0, self._d))
        self._begin()

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d) where they matter, and their statistics."""
        place, sums = self._products.workplace, self._products.panel_sums
        before, occupied = sums[0, 0].copy(), np.zeros(len(self._others))
        dtype, rows = place.joint.dtype, place.scratch.shape[1]
        log_likelihood, pairs = kernels.apart_pass(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            log_weights[self._some].astype(dtype),
            *place,
            sums,
            dtype.type(negligible(self._k)),
            self._split.apart,
            log_weights[self._others],
            self._slack,
            room_of(self._split.apart, rows),
            self._pair_buffers(rows),
            self._sums,
            self._moments,
            occupied,
        )
        if not np.isfinite(sums).all():
            log_likelihood = np.nan
        responsibilities = np.empty(self._k)
        responsibilities[self._some] = (sums[0, 0] - before)[: len(self._some)]
        responsibilities[self._others] = occupied
        return MixtureSums(log_likelihood, pairs, responsibilities)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        (products, joint, block, _, _), split = self._products.workplace, self._split
        rows = block.shape[1]
        together = thread_buffer("together", (self._k * rows,))
        room, buffers = room_of(split.apart, rows), self._pair_buffers(rows)
        own = products, rows, joint, together, split.apart, split.members, NO_DENSITY, self._slack, room, buffers
        fill_in_lanes(b, lambda b: kernels.apart_densities(as_rows(x), *own, b, peaks))

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        products, joint, block, resp, product = self._products.workplace
        kernels.accumulate_apart_rows(
            as_rows(x),
            products,
            block.shape[1],
            in_lanes(weights),
            self._split.members,
            joint,
            resp,
            product,
            self._products.panel_sums,
            self._origins,
            self._pair_buffers(block.shape[1]),
            self._sums,
            self._moments,
        )

    def stats(self) -> Stats:
        """weight (K,), first (K, d), second (K, M) or (M,)."""
        if self._structure.shared:
            return as_stats(self._sums, pack(self._moments[0, :, : self._d]), self._d)
        sums = np.empty((self._k, n_statistics(self._structure, self._d)))
        if len(self._some):
            sums[self._some] = self._products.sums()
        sums[self._others] = np.hstack([self._sums, self._second_moments()])
        return as_stats(sums, sums[:, 1 + self._d :], self._d)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        count, shared = len(self._others), self._structure.shared
        matrices = not by_variances(self._structure, self._d)
        self._sums = np.zeros((count, 1 + self._d))
        shape = (1 if shared else count, self._d, moment_columns(self._d)) if matrices else (count, self._d)
        self._moments = np.zeros(shape)

    def _second_moments(self) -> Array:
        """(S, M) of the components that go by differences."""
        if self._moments.ndim == 3:
            return pack(self._moments[:, :, : self._d])
        spherical = self._structure.n_moments(self._d) < self._d
        return np.asarray(self._moments.sum(axis=1, keepdims=True)) if spherical else self._moments

    def _product_kernel(self, params: Params, dtype: DTypeLike, distances: bool) -> ExponentialKernel:
        """The kernel of the components that go by products; where there are none, a kernel that is never asked."""
        if len(self._some):
            own = self._split.some
            return GaussianKernel(self._structure, own, product_dtype(self._structure, own, dtype), distances)
        nothing = panels_of(np.zeros((1, 1 + self._d)), np.float64)
        return ExponentialKernel(nothing, linear_features(self._d), params.center, params.scale, 0.0)

    @property
    def _origins(self) -> Array:
        return self._split.apart.gaussians.origins

    def _pair_buffers(self, rows: int) -> PairBuffers:
        return buffers_of_block(len(self._others), self._d, rows)


def _chosen(structure: Covariance, params: Params, chosen: Array) -> Params:
    """Some components (K,) bool, with what all share."""
    names = ["means"] if structure.shared else ["means", "covariances", "precisions_cholesky"]
    return params.replace(**{name: np.asarray(params[name])[chosen] for name in names})


def _split(structure: Covariance, params: Params, apart: Array, distances: bool) -> _Split:
    rounding = difference_rounding(structure, _chosen(structure, params, apart))
    members = np.concatenate([np.flatnonzero(~apart), np.flatnonzero(apart)])
    others = _apart_of(structure, params, apart, distances)
    return _Split(_chosen(structure, params, ~apart), members, others, rounding)


def _apart_of(structure: Covariance, params: Params, apart: Array, distances: bool) -> Apart:
    own, (k, d) = _chosen(structure, params, apart), params.means.shape
    gaussians = Gaussians(
        means=own.means.copy(),
        factors=own_factors(structure, own),
        constants=np.zeros(len(own.means)) if distances else log_constants(structure, own).copy(),
        width=1.0 - float(np.log(negligible(k))),
        ordinary=-np.inf,
        origins=origins(structure, params)[apart],
    )
    chosen = _telling_features(structure, params, own)
    used, places = np.unique(chosen, return_inverse=True)
    places = places.reshape(chosen.shape)
    middles = np.take_along_axis(own.means, chosen, axis=1)
    return Apart(gaussians, used, places, middles, SHRUNK * _roots(structure, own, chosen, d))


def _telling_features(structure: Covariance, params: Params, own: Params) -> Array:
    """For each component, the features (S, r) in which rows of all components lie furthest out beside its variance."""
    (k, d), means = params.means.shape, params.means
    spread = structure.variances(params.covariances, k, d).mean(axis=0) + means.var(axis=0)
    variances = structure.variances(own.covariances, len(own.means), d)
    ratio = (spread + (means.mean(axis=0) - own.means) ** 2) / variances
    return np.sort(np.argsort(-ratio, axis=1, kind="stable")[:, :MARKS], axis=1)


def _roots(structure: Covariance, own: Params, chosen: Array, d: int) -> Array:
    """Lower triangles (S, r, r) that whiten these features of each component."""
    count, r = chosen.shape
    if by_variances(structure, d):
        variances = np.take_along_axis(structure.variances(own.covariances, count, d), chosen, axis=1)
        return np.eye(r) / np.sqrt(variances)[:, None, :]
    matrices = np.broadcast_to(own.covariances, (count, d, d))
    marginal = np.take_along_axis(np.take_along_axis(matrices, chosen[:, :, None], 1), chosen[:, None, :], 2)
    return np.linalg.inv(np.linalg.cholesky(marginal))
