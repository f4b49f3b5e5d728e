"""The linear Gaussian chain: a hidden state that moves linearly, with Gaussian noise, and is seen through a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.boundary import POSTERIOR, Boundary, Endings, Joining
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.extremes import expected
from streamem.core.numerics import EPS
from streamem.core.ports import Model
from streamem.core.sequences import Sequences
from streamem.core.small_work import in_numpy
from streamem.core.stats import Stats
from streamem.models.by_size import by_size
from streamem.models.gaussian_endings import endings_of, shares_before, shares_of
from streamem.models.gaussian_filter import filtered, forgetful, reach_after
from streamem.models.gaussian_maximum import maximized, towards
from streamem.models.gaussian_messages import GaussianJoining, Reach, Told, quietly, step_of
from streamem.models.gaussian_observations import Observations, observations
from streamem.models.gaussian_pass import Chain, GaussianPass, root_of, untold
from streamem.models.gaussian_setup import LETTERS, Setup, chain_faults, shapes_of
from streamem.models.gaussian_starts import started
from streamem.models.steps import Steps, steps_of

Array = NDArray[Any]

ALONE = Boundary()
STEP_PRODUCTS = 200
"""What a step costs in NumPy besides, in products of a mixture."""
CHUNK_BYTES = 2**21


class GaussianChain(Model):
    """x_t = A x_{t−1} + w, w ~ N(0, Q); y_t = C x_t + d + v, v ~ N(0, R); x_1 ~ N(μ, V), or diffuse.

    Parameters
    ----------
    setup : see `Setup`

    Notes
    -----
    Parameters: components, by the names of `LETTERS` (observation_covariance (d,) where it is diagonal), which describe
    y − anchor and x − origin; anchor (d,), origin (k,), and scale (d,), the standard deviations of the sample.
    Statistics (E given all of a sequence, sums over steps, weighted by sequences): begun, first (k,), first_products
    (k, k) of first states; moves, before, across, after (k, k): E[x xᵀ], E[x' xᵀ], E[x' x'ᵀ] of transitions x → x';
    seen, states (k,), state_products (k, k), totals (d,), value_states (d, k), value_products (d, d), or its diagonal,
    of steps at which anything was observed. EM: Shumway & Stoffer 1982; of missing values the conditional expectation.

    NaN is a value that was not observed. An opened sequence without a message about what came before is taken for one
    of its own.
    """

    allows_missing_steps = True

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.family = OneStep(setup)

    @property
    def allows_missing_values(self) -> bool:
        """Whether values of a step may be missing, as they may unless the estimator says otherwise."""
        return self.integrates

    # --- EM ----------------------------------------------------------------------------------------------------------

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """What is given, and moments of the rows of a sample for the rest."""
        return started(self.setup, sample, rng)

    @by_size
    @quietly
    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """Expected sums of a chunk, given what lies beyond it."""
        return expected(chunk, lambda chunk: self._expected(params, chunk, message))

    def _expected(self, params: Params, chunk: Chunk, message: Boundary | None) -> Stats:
        _, seen, work = self._pass(params, chunk, message or ALONE, None)
        weight = float(work.row_weights.sum())
        told = _told(params, seen, work)
        return Stats(
            rows=chunk.rows,
            weight=weight,
            log_likelihood=_finite(work.log_likelihood),
            rounding=work.rounding + EPS * weight,
            begun=work.begun,
            first=work.first,
            first_products=work.first_products,
            moves=work.moves,
            before=work.before,
            across=work.across,
            after=work.after,
            **told,
        )

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """Regressions of states on states, and of values on states; what `params` does not name stays."""
        return previous.replace(components=maximized(self.setup, stats, previous))

    def project(self, stats: Stats, valid: Stats, previous: Params) -> Stats:
        """Statistics as far towards extrapolated ones as second moments stay such."""
        return towards(stats, valid)

    def workspace_bytes(self, n_features: int) -> int:
        """What the recursions hold of a chunk that is one sequence, where no transition is like another."""
        k, rows = self.setup.n_latent, CHUNK_BYTES // (8 * n_features)
        return 8 * rows * (3 * k * k + 8 * k + 4 * n_features + 9)

    def statistics_bytes(self, n_features: int) -> int:
        """Expected sums."""
        k, d = self.setup.n_latent, n_features
        products = d * d if self.setup.observation_noise == "full" else d
        return 8 * (5 * k * k + 2 * k + d * (k + 1) + products + 8)

    def products_a_row(self, n_features: int) -> float:
        """What a step costs; in NumPy the recursions cost more than their products."""
        return STEP_PRODUCTS + super().products_a_row(n_features)

    def arithmetic(self, params: Params, dtype: DTypeLike = np.float64) -> str:
        """Always float64."""
        return "float64, " + ("recursions" if in_numpy() else "compiled recursions")

    def shares(self, params: Params) -> Array:
        """All data are those of the one chain."""
        return np.ones(1)

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """Arrays of other shapes, numbers that are not finite, and covariances that are none."""
        k, d = self.setup.n_latent, n_features
        noise = (d, d) if self.setup.observation_noise == "full" else (d,)
        if lacking := [name for name in ("components", "anchor", "origin", "scale") if name not in params]:
            return [f"{', '.join(lacking)} missing"]
        found = chain_faults(params.components, shapes_of(k, d, noise))
        beside = {"anchor": (d,), "origin": (k,), "scale": (d,)}
        return found + [
            f"{name} is not {shape} finite numbers"
            for name, shape in beside.items()
            if np.shape(params[name]) != shape or not np.isfinite(params[name]).all()
        ]

    # --- what a fitted model says of sequences -----------------------------------------------------------------------

    @by_size
    @quietly
    def log_likelihood(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Stats:
        """rows, weight and weighted log-likelihood in nats."""
        _, _, work = self._pass(params, chunk, message or ALONE, None)
        weight = float(work.row_weights.sum())
        return Stats(rows=chunk.rows, weight=weight, log_likelihood=_finite(work.log_likelihood))

    @by_size
    @quietly
    def smoothed(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """States given all of their sequence: (n, k) means; NaN for padding."""
        steps, _, work = self._pass(params, chunk, message or ALONE, np.ones)
        return _without_padding(work.means + params.origin, steps)

    @by_size
    @quietly
    def smoothed_moments(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """(n, k + k²) means, and covariances row by row."""
        steps, _, work = self._pass(params, chunk, message or ALONE, np.ones, keep=True)
        moments = [work.means + params.origin, work.covariances.reshape(chunk.rows, -1)]
        return _without_padding(np.hstack(moments), steps)

    @by_size
    @quietly
    def signal(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """Expected values of all steps without their noise: (n, d); NaN for padding."""
        steps, _, work = self._pass(params, chunk, message or ALONE, np.ones)
        components = params.components
        found = work.means @ components.observation_matrix.T + (components.observation_offset + params.anchor)
        return _without_padding(found, steps)

    @by_size
    @quietly
    def imputed(
        self,
        params: Params,
        chunk: Chunk,
        message: Boundary | None = None,
        *,
        n_draws: int = 0,
        rng: np.random.RandomState | None = None,
    ) -> Array:
        """Steps with expected values, given all others of their sequence, in place of NaN; padding stays.

        Raises
        ------
        ParameterError : draws are asked for
        """
        if n_draws:
            raise ParameterError(
                "a LinearGaussianChain draws no missing values: steps depend on each other; n_draws=0 gives their means"
            )
        steps, seen, work = self._pass(params, chunk, message or ALONE, np.ones)
        filled, components = seen.expected(work.means) + params.anchor, params.components
        if seen.blank >= 0:
            rows = seen.kinds == seen.blank
            signal = work.means[rows] @ components.observation_matrix.T + components.observation_offset
            filled[rows] = signal + params.anchor
        known = ~np.isnan(chunk.x)
        filled[known] = chunk.x[known]
        return _without_padding(filled, steps)

    @by_size
    @quietly
    def filtered(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """States given the steps up to theirs: (n, k) means; NaN for padding, and before a diffuse start is told."""
        return self.filtered_moments(params, chunk, message)[:, : self.setup.n_latent]

    @by_size
    @quietly
    def filtered_moments(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """(n, k + k²) means, and covariances row by row."""
        k = self.setup.n_latent
        steps = steps_of(chunk, message or ALONE)
        means, covariances = np.full((chunk.rows, k), np.nan), np.full((chunk.rows, k, k), np.nan)
        for _ in self._filtered(params, chunk, message, steps, means, covariances):
            pass
        return np.hstack([means + params.origin, covariances.reshape(chunk.rows, -1)])

    @by_size
    @quietly
    def step_densities(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """(n,) log-densities of steps given those before them, in nats, which sum to the log-likelihood; NaN: padding.

        Those of single steps mean nothing before a diffuse start is told; their sum does.
        """
        steps, heights = steps_of(chunk, message or ALONE), np.zeros(chunk.rows)
        for _ in self._filtered(params, chunk, message, steps, heights=heights):
            pass
        return np.asarray(_without_padding(heights[:, None], steps)[:, 0])

    @by_size
    @quietly
    def ends(self, params: Params, chunk: Chunk, message: Boundary | None = None) -> Array:
        """(sequences that end here, k + k²) means and covariances of the states at their last steps.

        Raises
        ------
        NumericalError : one does not tell where it began, as a diffuse start needs
        """
        steps, sequences = steps_of(chunk, message or ALONE), chunk.sequences
        reached = []
        for s, reach in self._filtered(params, chunk, message, steps):
            if s == len(steps.spans) - 1 and sequences is not None and sequences.continued:
                continue
            if reach.depends:
                known = reach.resolved()
                if known is None:
                    begin, stop = steps.spans[s].tolist()
                    raise NumericalError(untold(s, begin, stop, self.setup.n_latent))
                reach = known[0]
            reached.append(np.concatenate([reach.vectors[0] + params.origin, np.ravel(reach.matrices[1])]))
        k = self.setup.n_latent
        return np.array(reached).reshape(-1, k + k * k)

    def weight_of(self, chunk: Chunk) -> float:
        """Weight of all steps of a chunk."""
        steps = steps_of(chunk, ALONE)
        counted = np.ones(chunk.rows) if chunk.weight is None else chunk.weight
        return float(counted.sum() if steps.padding is None else counted[~steps.padding].sum())

    # --- sequences that are cut --------------------------------------------------------------------------------------

    def joining(self, question: str) -> Joining:
        """Messages are a `Reach` from before and a `Told` from behind."""
        return GaussianJoining(self.setup.n_latent)

    def scans(self, params: Params, question: str) -> bool:
        """Pieces give their operators in any order: the part that depends on the state before soon vanishes."""
        return True

    @by_size
    @quietly
    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """The `Reach` at the last step, given that before the first one, or from the start."""
        begin, stop = self._only_span(chunk, boundary)
        chain, k = self._chain(params), self.setup.n_latent
        before = None if boundary.before is None else Reach.unpacked(boundary.before, k)
        if begin == stop:
            return (chain.start if before is None else before).packed()
        if known := self._forgetful(params, chain, chunk, begin, stop, last=True):
            return known.packed()
        entering = chain.start if before is None else before.ahead(chain.a, chain.noise)
        return reach_after(chain, self._seen(params, chunk), begin, stop, entering).packed()

    @by_size
    @quietly
    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """What all steps and `after` tell of the state before the first: a `Told`."""
        begin, stop = self._only_span(chunk, boundary)
        k, chain = self.setup.n_latent, self._chain(params)
        after = Told.nothing(k) if boundary.after is None else Told.unpacked(boundary.after, k)
        if begin == stop:
            return after.packed()
        if known := self._forgetful(params, chain, chunk, begin, stop, last=False):
            return Told(known.matrices[2], known.vectors[1]).packed()
        seen, n = self._seen(params, chunk), chunk.rows
        first, first_h = np.zeros((1, k, k)), np.zeros((1, k))
        kernels.gaussian_information(
            np.array([[begin, stop]], dtype=np.int64),
            seen.kinds,
            seen.told,
            seen.h,
            chain.a,
            chain.g,
            after.matrix,
            after.vector,
            np.empty((n, 3, k, k)),
            np.empty(n),
            np.zeros(n, dtype=np.int64),
            np.empty((n, k)),
            first,
            first_h,
        )
        return step_of(Told(first[0], first_h[0]), chain.a, chain.g).told.packed()

    @by_size
    @quietly
    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array | None:
        """The `Reach` at the last step, whose δ is the state before the first."""
        begin, stop = self._only_span(chunk, ALONE)
        chain, k = self._chain(params), self.setup.n_latent
        whole = Reach.of(np.eye(k), np.zeros((k, k)), np.zeros(k))
        first, last = (self._forgetful(params, chain, chunk, begin, stop, way) for way in (False, True))
        if first and last:
            matrices = np.stack([last.matrices[0], last.matrices[1], first.matrices[2]])
            whole = Reach(matrices, np.stack([last.vectors[0], first.vectors[1]]))
        elif begin < stop:
            entering = whole.ahead(chain.a, chain.noise)
            whole = reach_after(chain, self._seen(params, chunk), begin, stop, entering)
        return whole.packed()

    @by_size
    @quietly
    def endings(self, params: Params, chunk: Chunk, before: Array | None) -> Endings:
        """Distributions of the last state by which statistics are known, as many as a quadratic form has coefficients.

        Raises
        ------
        NumericalError : the steps do not tell where the sequence began, as a diffuse start needs
        """
        k = self.setup.n_latent
        reach = Reach.unpacked(self.forward_of(params, chunk, POSTERIOR, Boundary(before)), k)
        if reach.depends:
            known = reach.resolved()
            if known is None:
                raise NumericalError(untold(0, 0, chunk.rows, k))
            reach = known[0]
        after = endings_of(reach)
        came = np.full((len(after), len(after)), 1.0 / len(after))
        if before is not None:
            told = (self.backward_of(params, chunk, POSTERIOR, Boundary(before, own)) for own in after)
            came = np.array([shares_before(Reach.unpacked(before, k), Told.unpacked(own, k)) for own in told]).T
        return Endings(reach.packed(), shares_of(np.zeros(k), np.eye(k)), came, tuple(after))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _pass(
        self, params: Params, chunk: Chunk, message: Boundary, weigh: Any, keep: bool = False
    ) -> tuple[Steps, Observations, GaussianPass]:
        steps, seen = steps_of(chunk, message), self._seen(params, chunk)
        weights = steps.weights if weigh is None else weigh(len(steps.spans))
        return steps, seen, GaussianPass(self._chain(params), seen, steps, message, weights, keep)

    @staticmethod
    def _forgetful(params: Params, chain: Chain, chunk: Chunk, begin: int, stop: int, last: bool) -> Reach | None:
        return forgetful(chain, params.components, np.asarray(params.anchor), np.asarray(chunk.x)[begin:stop], last)

    @staticmethod
    def _seen(params: Params, chunk: Chunk) -> Observations:
        return observations(params.components, np.asarray(params.anchor), np.asarray(chunk.x))

    def _chain(self, params: Params) -> Chain:
        own = params.components
        root = None if self.setup.diffuse else root_of(np.asarray(own.initial_covariance))
        g = root_of(np.asarray(own.transition_covariance))
        a = np.array(own.transition_matrix)  # read-only arrays would be compiled for once more
        return Chain(a, np.ascontiguousarray(g), g @ g.T, np.asarray(own.initial_mean), root)

    def _filtered(
        self,
        params: Params,
        chunk: Chunk,
        message: Boundary | None,
        steps: Steps,
        means: Array | None = None,
        covariances: Array | None = None,
        heights: Array | None = None,
    ) -> Iterator[tuple[int, Reach]]:
        """Every sequence that has steps, and where it ends; fills means, covariances and log-densities of steps."""
        chain, seen = self._chain(params), self._seen(params, chunk)
        return filtered(chain, seen, message or ALONE, steps, means, covariances, heights)

    @staticmethod
    def _only_span(chunk: Chunk, boundary: Boundary) -> tuple[int, int]:
        begin, stop = steps_of(chunk, boundary).spans[0].tolist()
        return begin, stop


def _told(params: Params, seen: Observations, work: GaussianPass) -> dict[str, Any]:
    """Sums over steps at which anything was observed, of states and values."""
    x, w, diagonal = work.means, work.row_weights, np.ndim(params.components.observation_covariance) == 1
    if seen.blank >= 0:
        w = np.where(seen.kinds == seen.blank, 0.0, w)
    spread = [own for kind, own in enumerate(work.by_kind) if kind != seen.blank]
    filled, weighted = seen.expected(x), x * w[:, None]
    products = w @ filled**2 if diagonal else (filled * w[:, None]).T @ filled
    states = filled.T @ weighted
    for kind, gap in seen.gaps.items():
        own, d = work.by_kind[kind], gap.by_state
        states += d @ own
        total = float(w[gap.rows].sum())
        products += (np.einsum("ij,jk,ik->i", d, own, d) if diagonal else d @ own @ d.T) + total * gap.noise
    return {
        "seen": w.sum(),
        "states": weighted.sum(axis=0),
        "state_products": x.T @ weighted + np.sum(spread, axis=0) if spread else np.zeros_like(work.before),
        "totals": w @ filled,
        "value_states": states,
        "value_products": products,
    }


def _finite(total: float) -> float:
    if not np.isfinite(total):
        raise NumericalError(
            "the log-likelihood of a Gaussian chain is not finite: squares of values or of states overflow; rescale "
            "the data, or start from a transition_matrix whose powers do not explode"
        )
    return total


def _without_padding(found: Array, steps: Steps) -> Array:
    if steps.padding is not None:
        found[steps.padding] = np.nan
    return found


class OneStep:
    """What an estimator asks of a family, of a Gaussian chain: rows that are sequences of one step each."""

    allows_missing = True

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def log_prob(self, params: Params, x: Array) -> Array:
        """(n, 1) log-densities of rows as first steps, in nats."""
        chunk = Chunk(x, None, Sequences(np.arange(len(x) + 1)))
        return GaussianChain(self.setup).step_densities(self._framed(params, x.shape[1]), chunk)[:, None]

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Statistics of rows of weights resp (n, 1), each a sequence."""
        chunk = Chunk(x, np.ascontiguousarray(resp[:, 0]), Sequences(np.arange(len(x) + 1)))
        return GaussianChain(self.setup).e_step(self._framed(params, x.shape[1]), chunk)

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """The parameters of the chain's M-step."""
        d = len(previous.observation_offset)
        found: Params = GaussianChain(self.setup).m_step(stats, self._framed(previous, d)).components
        return found

    def free_parameters(self, params: Params) -> int:
        """Numbers that the M-step may choose, less those that only turn or stretch the state."""
        k, d = self.setup.n_latent, len(params.observation_offset)
        state = k if self.setup.state_noise == "diag" else k * (k + 1) // 2
        noise = d if self.setup.observation_noise == "diag" else d * (d + 1) // 2
        sizes = dict(zip(LETTERS, (k * k, state, d * k, noise, d, k, k * (k + 1) // 2), strict=True))
        if self.setup.diffuse:
            sizes["initial_mean"] = sizes["initial_covariance"] = 0
        return sum(sizes[name] for name in self.setup.updates) - self._turns()

    def _turns(self) -> int:
        """Numbers by which the state can be turned or stretched without any effect on what is observed."""
        turned = {"transition_matrix", "transition_covariance", "observation_matrix"}
        turned |= set() if self.setup.diffuse else {"initial_mean", "initial_covariance"}
        if not turned <= self.setup.updates:
            return 0
        return self.setup.n_latent if self.setup.state_noise == "diag" else self.setup.n_latent**2

    @staticmethod
    def _framed(params: Params, d: int) -> Params:
        k = len(params.initial_mean)
        return Params(components=params, anchor=np.zeros(d), origin=np.zeros(k), scale=np.ones(d))
