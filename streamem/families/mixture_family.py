"""A mixture as a family: what a state of a hidden Markov model, or a component of a mixture, emits is a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.extrapolation import kept_signs
from streamem.core.faults import missing, prefixed, shares
from streamem.core.free_form import FreeForm, own_part
from streamem.core.ports import Family, Kernel, kernel_of
from streamem.core.stats import Stats
from streamem.families.empty_components import empty_components
from streamem.families.first_split import split_rows
from streamem.families.with_inner import WithInner
from streamem.kernels.nested.nested_mixtures_kernel import MANY_BYTES, parts_kernel

Array = NDArray[Any]

ROWS_AT_ONCE = 4096


class MixtureFamily(WithInner):
    """Components that are mixtures themselves: p_k(x) = Σ_m w_km p_km(x), with parts of any family.

    Parameters
    ----------
    family : of the parts
    n_mix : M, parts of every component

    Notes
    -----
    Parameters: weights (K, M), and parts, those of the family for K·M components, of which k·M … k·M + M − 1 belong to
    component k. What the family has besides (an anchor, a penalty, a survey, …) is passed on.

    Parts that begin alike would stay alike for ever, since responsibilities tell components apart only. So the first
    statistics, those of the parameters that `start` makes, split the rows of every component into M groups of equal
    weight along their first principal direction.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import Gaussian, MixtureFamily
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> mix = Mixture(MixtureFamily(Gaussian("diag"), 2), 2, random_state=0).fit(x)
    >>> mix.params_.weights.shape, mix.params_.parts.means.shape
    ((2, 2), (4, 2))
    """

    def __init__(self, family: Family, n_mix: int = 1) -> None:
        if isinstance(n_mix, bool) or not isinstance(n_mix, int | np.integer) or n_mix < 1:
            raise ParameterError(f"n_mix is {n_mix!r}; it must be an integer >= 1")
        super().__init__(family)
        self.n_mix = int(n_mix)
        if self.family.has_start and getattr(self.family, "fixes_what_it_finds", False):
            raise ParameterError(
                "parts stay as they begin, where those of all components are alike: give Fixed the values that it "
                "keeps, or fix parts of the mixture, Fixed(MixtureFamily(...), ['parts'])"
            )

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of rows x (n, d), in nats."""
        kernel, out = self.kernel(params), np.empty((len(params.weights), len(x)))
        step = self.block_rows(params)
        for first in range(0, len(x), step):
            kernel.load(x[first : first + step])
            kernel.log_prob(out[:, first : first + step])
        return out.T

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """weight (K, M), and the statistics of the parts, for resp (n, K)."""
        if self.allows_missing:
            silent = np.asarray(np.isnan(x).all(axis=1))
            resp = np.where(silent[:, None], 0.0, resp) if silent.any() else resp
        if _is_anchor_only(params):
            return self._first_stats(params.parts, x, resp)
        kernel, step = self.kernel(params), self.block_rows(params)
        for first in range(0, max(len(x), 1), step):
            kernel.load(x[first : first + step])
            kernel.accumulate(np.ascontiguousarray(resp[first : first + step].T))
        return kernel.stats()

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Weights in proportion to the responsibilities of the parts; the family maximizes the rest."""
        total = stats.weight.sum(axis=1)
        empty = empty_components(total)[:, None]
        weights = np.where(empty, previous.weights, stats.weight / np.where(empty, 1.0, total[:, None]))
        before = self._known(previous.parts) if _is_anchor_only(previous) else previous.parts
        return Params(weights=weights, parts=self.family.maximize(self._parts(stats), before))

    parameter_names = ("weights", "parts")

    def holds(self, names: frozenset[str]) -> bool:
        """Weights or parts, of which the expected log-likelihood is a sum."""
        return bool(names) and names <= set(self.parameter_names)

    def maximize_holding(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """The M-step, and what stays."""
        return self.maximize(stats, previous).replace(**{name: previous[name] for name in names})

    def ties(self, names: frozenset[str]) -> bool:
        """Parts, or weights."""
        return bool(names) and names <= set(self.parameter_names)

    def maximize_tying(self, stats: Stats, previous: Params, names: frozenset[str]) -> Params:
        """The M-step of statistics that are summed over components: part by part."""
        weight = np.asarray(stats.weight)
        if "weights" in names:
            weight = np.repeat(weight.sum(axis=0, keepdims=True), len(weight), axis=0)
        parts = self._pooled_parts(stats, weight.shape) if "parts" in names else stats.parts
        return self.maximize(stats.replace(weight=weight, parts=parts), previous)

    def pooled(self, stats: Stats) -> Stats:
        """Statistics summed over components: part by part."""
        weight = np.asarray(stats.weight)
        every = np.repeat(weight.sum(axis=0, keepdims=True), len(weight), axis=0)
        return stats.replace(weight=every, parts=self._pooled_parts(stats, weight.shape))

    def free_of(self, params: Params, name: str) -> int:
        """How many numbers are free: of weights, which sum to 1 in each component, or of the parts."""
        k, m = params.weights.shape
        return k * (m - 1) if name == "weights" else self.family.free_parameters(params.parts)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """Equal components, each of M parts that split the rows x (n, d) of the sample along one direction."""
        counted = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
        k, m = n_components, self.n_mix
        anchored = self.family.start(x, weight, k * m)
        labels = np.repeat(split_rows(np.asarray(x, dtype=np.float64), counted, m)[:, None], k, axis=1)
        stats = self._stats_of_labels(anchored, x, np.repeat(counted[:, None], k, axis=1), labels)
        parts = self.family.maximize(stats.parts, anchored)
        return Params(weights=np.full((k, m), 1 / m), parts=parts, crude=np.True_)

    @property
    def estimates(self) -> str:
        """What the family of the parts needs two rows to estimate."""
        return self.family.estimates

    @property
    def overflows(self) -> str:
        """Which values the family of the parts has no log-density for."""
        return self.family.overflows

    def block_rows(self, params: Params) -> int:
        """Rows a block, those of the family of the parts."""
        return self.family.block_rows(params.parts)

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """The kernel of the parts, with a log-sum-exp over the parts of each component."""
        kernel = kernel_of(self.family, params.parts, params.weights.size, dtype)
        return parts_kernel(kernel, params.weights, kernel.block_rows)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Weights that are none, and what the parts find wrong."""
        if found := missing(params, ("weights", "parts")):
            return found
        found = shares("weights", params.weights, (n_components, self.n_mix))
        own = self.family.faults(params.parts, n_components * self.n_mix, n_features)
        return found + prefixed("parts", own)

    def far_log_prob(self, params: Params, x: Array) -> Array | None:
        """Log-densities (n, K) of rows whose squares may overflow, in nats; None where the parts cannot tell."""
        found = self.family.far_log_prob(params.parts, x)
        return None if found is None else np.asarray(np.logaddexp.reduce(self._of_parts(params, found), axis=2))

    def far_order(self, params: Params, x: Array) -> Array | None:
        """Numbers (n, K) that order components where all of these are −∞: those of their nearest parts."""
        order = self.family.far_order(params.parts, x)
        if order is None:
            return None
        by_part = order.reshape(len(x), *params.weights.shape)
        return np.asarray(np.where(params.weights > 0, by_part, -np.inf).max(axis=2))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """Bytes for the parts, three numbers for each part and row of a block, and densities of many rows."""
        parts = n_components * self.n_mix
        return self.family.workspace_bytes(parts, n_features) + 8 * 2048 * 3 * parts + MANY_BYTES

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Bytes of the statistics of the parts; for a family that does not say, four numbers a part and feature."""
        parts = n_components * self.n_mix
        return 8 * parts + self.family.statistics_bytes(parts, n_features)

    def penalty(self, params: Params, stats: Stats) -> float:
        """Penalty of the parts, in nats."""
        return self.family.penalty(params.parts, stats.parts)

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        """Shortfall of the parts, in nats; with first statistics, also what the split costs beside responsibilities.

        Equal parts have responsibilities of 1/M each, from which labels are log M nats away.
        """
        split = float(np.log(self.n_mix) * stats.weight.sum()) if _is_anchor_only(old) else 0.0
        if _is_anchor_only(old) and not self.family.has_start:
            return split
        return split + self.family.shortfall(old.parts, new.parts, self._parts(stats))

    def rebase(self, stats: Stats, old: Params, new: Params) -> Stats:
        """Statistics of the parts as if they had been taken at `new`."""
        parts = self.family.rebase(stats.parts, old.parts, new.parts)
        return stats if parts is stats.parts else stats.replace(parts=parts)

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """The weights of the parts as weights, and their statistics as their family says."""
        parts = self.family.project(stats.parts, valid.parts, previous.parts)
        return kept_signs(stats.replace(parts=valid.parts), valid).replace(parts=parts)

    def reanchored(self, params: Params) -> Params:
        """Parameters with the parts about a better anchor, where theirs has come to lie far off."""
        parts = self.family.reanchored(params.parts)
        return params if parts is params.parts else params.replace(parts=parts)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits, part after part chosen at random.

        Raises
        ------
        ParameterError : the family of the parts cannot draw
        """
        weights = np.asarray(params.weights[component])
        chosen = rng.choice(self.n_mix, size=count, p=weights / weights.sum())
        first = component * self.n_mix
        drawn = [self.family.draw(params.parts, first + m, int((chosen == m).sum()), rng) for m in range(self.n_mix)]
        rows = np.empty((count, drawn[0].shape[1]))
        for m, own in enumerate(drawn):
            rows[chosen == m] = own
        return rows

    def filled(self, params: Params, x: Array, resp: Array) -> Array:
        """Rows x (n, d) with conditional means for NaN, mixed by resp (n, K) and by the parts, given what was observed.

        Raises
        ------
        ParameterError : the family of the parts cannot impute
        """
        divided = resp[:, :, None] * self._shares_of_parts(params, x)
        return self.family.filled(params.parts, x, divided.reshape(len(x), -1))

    def drawn_for_missing(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Rows x (n, d) whose NaN are drawn from a part, chosen at random, of each row's component (n,)."""
        sums = np.cumsum(self._shares_of_parts(params, x)[np.arange(len(x)), component], axis=1)
        below = rng.random_sample(len(x))[:, None] * sums[:, -1:] >= sums
        part = component * self.n_mix + np.minimum(below.sum(axis=1), self.n_mix - 1)
        return self.family.drawn_for_missing(params.parts, x, part, rng)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components one of whose parts was kept from degenerating."""
        found = self.family.degenerate(params.parts)
        return {f"{kind} part": sorted({part // self.n_mix for part in parts}) for kind, parts in found.items()}

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Weights (K, M), which sum to 1, and the numbers of the parts, as (K, M, …)."""
        k, m = params.weights.shape
        own = self.family.free_form(params.parts, k * m)
        parts = own.with_values(
            {
                name: value if name in own.shared else value.reshape(k, m, *value.shape[1:])
                for name, value in own.values.items()
            }
        )
        weights = FreeForm({"weights": np.asarray(params.weights)}, simplex={"weights": np.array([0, m])})
        return weights.joined(parts.below("parts"))

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """Weights, and the parts that the other numbers tell."""
        k, m = params.weights.shape
        shared = self.family.free_form(params.parts, k * m).shared
        own = {
            name: value if name in shared else value.reshape(k * m, *value.shape[2:])
            for name, value in own_part(values, "parts").items()
        }
        return params.replace(weights=values["weights"], parts=self.family.from_free_form(own, params.parts))

    def free_parameters(self, params: Params) -> int:
        """Free parameters of the parts, and M − 1 weights of each component."""
        k, m = params.weights.shape
        return k * (m - 1) + self.family.free_parameters(params.parts)

    # --- inner -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _pooled_parts(stats: Stats, shape: tuple[int, ...]) -> Stats:
        """Statistics of the parts, each with the sums of those of the same place in all components.

        Raises
        ------
        ParameterError : statistics that do not have the part on axis 0
        """
        pooled, (k, m) = {}, shape
        for name, leaf in stats.parts.flatten().items():
            if np.shape(leaf)[:1] != (k * m,):
                raise ParameterError(
                    f"the statistics {name} {np.shape(leaf)} of the parts do not have the part on axis 0, so the parts "
                    "cannot be tied: choose a family whose parts share nothing among each other"
                )
            sums = leaf.reshape(k, m, *leaf.shape[1:]).sum(axis=0)
            pooled[name] = np.tile(sums, (k, *(1,) * (sums.ndim - 1)))
        return Stats.unflatten(pooled)

    @staticmethod
    def _of_parts(params: Params, log_prob: Array) -> Array:
        """log w + log p of all parts (n, K, M)."""
        with np.errstate(divide="ignore"):
            return np.asarray(log_prob.reshape(len(log_prob), *params.weights.shape) + np.log(params.weights))

    def _shares_of_parts(self, params: Params, x: Array) -> Array:
        """Posterior probabilities (n, K, M) of the parts of each component; their weights where no density is told."""
        joint = self._of_parts(params, self.family.log_prob(params.parts, x))
        largest = joint.max(axis=2, keepdims=True)
        told = np.isfinite(largest)
        shares = np.where(told, np.exp(joint - np.where(told, largest, 0.0)), params.weights)
        return np.asarray(shares / shares.sum(axis=2, keepdims=True))

    def _parts(self, stats: Stats) -> Stats:
        """Statistics of the parts, of which their family may have to know how they were rounded."""
        told = "rounding" in stats and self.family.reads_rounding
        return stats.parts.replace(rounding=stats.rounding) if told else stats.parts

    def _known(self, parts: Params) -> Params | None:
        """What the first statistics of the parts may know: an anchor, if the family has one, else nothing."""
        return parts if self.family.has_start else None

    def _first_stats(self, parts: Params, x: Array, resp: Array) -> Stats:
        rows = np.asarray(x, dtype=np.float64)
        labels = np.column_stack([split_rows(rows, own, self.n_mix) for own in np.asarray(resp.T, dtype=np.float64)])
        return self._stats_of_labels(self._known(parts), x, resp, labels)

    def _stats_of_labels(self, parts: Params | None, x: Array, resp: Array, labels: Array) -> Stats:
        """Statistics where row i of component k belongs wholly to part labels (n, K), some rows at a time."""
        k, m = resp.shape[1], self.n_mix
        found = []
        for first in range(0, max(len(x), 1), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            divided = np.zeros((len(x[rows]), k, m))
            np.put_along_axis(divided, labels[rows, :, None], resp[rows, :, None], axis=2)
            flat = divided.reshape(-1, k * m)
            found.append(Stats(weight=divided.sum(axis=0), parts=self.family.stats(parts, x[rows], flat)))
        return sum(found[1:], start=found[0])


def _is_anchor_only(params: Params) -> bool:
    """Whether parameters are those of `start`, whose parts of a component are still alike."""
    return "crude" in params
