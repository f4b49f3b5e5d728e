"""`SemiMarkov` against recursions over segments, which know no ages, and an HMM where durations are geometric."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.errors import NumericalError, ParameterError
from streamem.core.sequences import Sequences
from streamem.families import Poisson
from streamem.initialization import STARTS
from streamem.models import HMM, SemiMarkov, age_pass
from streamem.models.durations import Durations

Array = NDArray[Any]
KINDS = ("poisson", "negative-binomial")


def semi_markov(kind: str = "poisson", k: int = 3, ages: int = 8, **settings: Any) -> SemiMarkov:
    return SemiMarkov(Poisson(), k, STARTS["kmeans"], Durations(kind, ages), **settings)


def some_params(model: SemiMarkov, seed: int = 0) -> Params:
    """Parameters of an ergodic chain with durations that reach beyond the last age."""
    rng, k = np.random.default_rng(seed), model.n_components
    moves = rng.dirichlet(np.ones(k), size=k) * (1 - np.eye(k))
    moves = moves / moves.sum(axis=1, keepdims=True) if k > 1 else np.ones((1, 1))
    logs = model.durations.logs(rng.uniform(2.0, 9.0, k), rng.uniform(0.3, 4.0, k))
    components = model.init(Chunk(rng.poisson(5.0, (50, 1)).astype(float)), np.random.RandomState(0)).components
    components = components.replace(rates=np.linspace(2.0, 9.0, k)[:, None])
    return Params(
        startprob=rng.dirichlet(np.ones(k)),
        transmat=moves,
        kept=np.zeros(k, dtype=np.bool_),
        components=components,
        duration_logs=logs,
    )


@dataclass
class Segments:
    """What recursions over segments say of one sequence: everything as sums over (first step, duration, state)."""

    log_likelihood: float
    gamma: Array
    transitions: Array
    complete: Array
    censored: Array


def probabilities(kind: str, mean: float, size: float, ages: int, longest: int) -> tuple[Array, Array]:
    """P(duration = d) and P(duration ≥ d) for d = 1 … longest, by SciPy; geometric beyond the last age."""
    m = mean - 1
    own = stats.poisson(m) if kind == "poisson" else stats.nbinom(size, size / (size + m))
    d = np.arange(1, longest + 1)
    exact, beyond = own.pmf(d - 1), own.sf(d - 2)
    last = own.pmf(ages - 1) / own.sf(ages - 2)
    older = np.maximum(d - ages, 0)
    exact = np.where(d < ages, exact, own.sf(ages - 2) * last * (1 - last) ** older)
    return exact, np.where(d < ages, beyond, own.sf(ages - 2) * (1 - last) ** older)


def by_segments(model: SemiMarkov, params: Params, x: Array) -> Segments:
    """Guédon (2003), §3: forward and backward sums over segments, of which the last may be censored."""
    n, k, ages = len(x), model.n_components, model.durations.most_ages
    logs = np.asarray(params.duration_logs)
    means, sizes = model.durations.means(logs), model.durations.sizes(logs)
    rates = np.asarray(params.components.rates)[:, 0]
    density = stats.poisson(rates).logpmf(x)
    told = np.array(
        [probabilities(model.durations.kind, means[j], 1 if sizes is None else sizes[j], ages, n) for j in range(k)]
    )
    exact, beyond = told[:, 0], told[:, 1]
    total = np.vstack([np.zeros(k), np.cumsum(density, axis=0)])
    emitted = lambda s, t: np.exp(total[t] - total[s])  # noqa: E731 steps s … t − 1

    begins = np.zeros((n, k))  # what is before s, and a segment of j begins at s
    begins[0] = params.startprob
    ends = np.zeros((n + 1, k))
    for t in range(1, n + 1):
        for s in range(t):
            ends[t] += begins[s] * emitted(s, t) * exact[:, t - s - 1]
        if t < n:
            begins[t] = ends[t] @ params.transmat
    likelihood = sum(float((begins[s] * emitted(s, n) * beyond[:, n - s - 1]).sum()) for s in range(n))

    after = np.zeros((n + 1, k))  # what follows, given that a segment of j ends before t
    starts = np.zeros((n, k))  # of a segment of j that begins at s and all that follows it
    for s in range(n - 1, -1, -1):
        starts[s] = emitted(s, n) * beyond[:, n - s - 1]
        for t in range(s + 1, n):
            starts[s] += emitted(s, t) * exact[:, t - s - 1] * after[t]
        after[s] = params.transmat @ starts[s]

    found = Segments(np.log(likelihood), np.zeros((n, k)), np.zeros((k, k)), np.zeros((k, n)), np.zeros((k, n)))
    for s in range(n):
        for t in range(s + 1, n + 1):
            share = begins[s] * emitted(s, t) / likelihood
            if t < n:
                mass = share * exact[:, t - s - 1] * after[t]
                found.complete[:, t - s - 1] += mass
                found.gamma[s:t] += mass
            if t == n:
                mass = share * beyond[:, t - s - 1]
                found.censored[:, t - s - 1] += mass
                found.gamma[s:t] += mass
        if s:
            found.transitions += ends[s][:, None] * params.transmat * starts[s] / likelihood
    return found


def by_age(complete: Array, censored: Array, ages: int) -> tuple[Array, Array]:
    """Counts of segments as leaves and stays by age (K, D)."""
    leaves, stays = np.zeros((2, len(complete), ages))
    for d in range(1, complete.shape[1] + 1):
        leaves[:, min(d, ages) - 1] += complete[:, d - 1]
        for a in range(1, d):
            stays[:, min(a, ages) - 1] += complete[:, d - 1] + censored[:, d - 1]
    return leaves, stays


def drawn(seed: int, n: int) -> Array:
    rng = np.random.default_rng(seed)
    states = np.repeat(rng.integers(3, size=n), rng.integers(1, 12, size=n))[:n]
    return rng.poisson(np.array([2.0, 5.0, 9.0])[states]).astype(float)[:, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "ages", "n"), [(3, 8, 40), (2, 2, 17), (3, 50, 30), (1, 4, 20), (2, 3, 1)])
def test_one_step_of_em_by_segments(kind: str, k: int, ages: int, n: int) -> None:
    model = semi_markov(kind, k, ages)
    params, x = some_params(model), drawn(1, n)
    expected, found = by_segments(model, params, x), model.e_step(params, Chunk(x))
    leaves, stays = by_age(expected.complete, expected.censored, ages)
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12, abs=1e-10)
    np.testing.assert_allclose(found.transitions, expected.transitions, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.leaves, leaves, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.stays, stays, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.startprob, expected.gamma[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.posteriors(params, Chunk(x)), expected.gamma, rtol=1e-9, atol=1e-12)
    new = model.m_step(found, params)
    np.testing.assert_allclose(new.components.rates[:, 0], expected.gamma.T @ x[:, 0] / expected.gamma.sum(axis=0))
    assert_no_better_durations(model, expected, np.asarray(new.duration_logs))


def assert_no_better_durations(model: SemiMarkov, segments: Segments, found: Array) -> None:
    """The expected log-likelihood of durations, complete and censored, is not less than SciPy's simplex finds."""
    durations, n = model.durations, segments.complete.shape[1]
    low, high = durations.logs(np.array([1.0]), np.array([0.0])), durations.logs(np.array([1e9]), np.array([1e9]))

    def loss(logs: Array, j: int) -> float:
        size = np.exp(logs[1]) if durations.has_size else 1.0
        exact, beyond = probabilities(durations.kind, 1 + np.exp(logs[0]), size, durations.most_ages, n)
        with np.errstate(divide="ignore"):
            told = [(segments.complete[j], np.log(exact)), (segments.censored[j], np.log(beyond))]
        return -sum(float(counts[counts > 0] @ logs[counts > 0]) for counts, logs in told)

    options = {"xatol": 1e-7, "fatol": 1e-13, "maxfev": 400}
    bounds = list(zip(low[0], high[0], strict=True))
    for j in range(len(found)):
        mine = loss(found[j], j)
        best = optimize.minimize(loss, found[j] * 0.9, args=(j,), method="Nelder-Mead", options=options, bounds=bounds)
        assert mine <= best.fun + 1e-8 * (1 + abs(mine))


def test_the_maximum_of_complete_durations() -> None:
    """The mean of a Poisson's is that of the durations; of a negative binomial too, whatever its size."""
    rng = np.random.default_rng(0)
    d = 1 + stats.nbinom(3, 0.2).rvs(500, random_state=rng)
    complete = np.bincount(d, minlength=200)[None, 1:].astype(float)
    for kind in KINDS:
        durations = Durations(kind, 150)
        leaves, stays = by_age(complete, np.zeros_like(complete), 150)
        found = durations.maximize(leaves, stays, durations.logs(np.array([3.0]), np.array([1.0])))
        assert durations.means(found)[0] == pytest.approx(d.mean(), rel=1e-9)
    assert durations.sizes(found)[0] == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [1e-8, 0.3, 20.0, 4000.0])
def test_hazards_of_any_parameters(kind: str, mean: float) -> None:
    """They are probabilities, and those of SciPy as far as that knows them; deep tails too, which underflow."""
    for ages in (2, 60, 600):
        for size in (1e-3, 1.0, 40.0):
            durations = Durations(kind, ages)
            table = durations.table(durations.logs(np.array([1 + mean]), np.array([size])))
            np.testing.assert_allclose(table.leave + table.stay, 1.0, rtol=1e-11)
            own = stats.poisson(mean) if kind == "poisson" else stats.nbinom(size, size / (size + mean))
            n = np.arange(ages)
            known = own.sf(n - 1) > 1e-250
            with np.errstate(divide="ignore"):
                expected = (own.logpmf(n) - own.logsf(n - 1))[known]
            np.testing.assert_allclose(table.log_leave[0][known], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_path_of_all(kind: str) -> None:
    model, n = semi_markov(kind, 3, 3), 7
    params = some_params(model, 5)
    logs, x = np.asarray(params.duration_logs), np.array([0.0, 1.0, 12.0, 14.0, 9.0, 1.0, 0.0])[:, None]
    means, sizes = model.durations.means(logs), model.durations.sizes(logs)
    told = [probabilities(kind, means[j], 1 if sizes is None else sizes[j], 3, n) for j in range(3)]
    density = stats.poisson(np.asarray(params.components.rates)[:, 0]).logpmf(x)

    def score(path: tuple[int, ...]) -> float:
        ends = [t for t in range(1, n) if path[t] != path[t - 1]]
        total = np.log(params.startprob[path[0]]) + density[np.arange(n), path].sum()
        for first, stop in itertools.pairwise([0, *ends, n]):
            total += np.log(told[path[first]][int(stop == n)][stop - first - 1])
            total += np.log(params.transmat[path[first - 1], path[first]]) if first else 0.0
        return float(total)

    scores = {path: score(path) for path in itertools.product(range(3), repeat=n)}
    best = max(scores, key=scores.__getitem__)
    assert len(set(best)) > 1
    assert model.path(params, Chunk(x)).tolist() == list(best)
    walk = model.walk(params, Chunk(x))
    own = (
        model.log_starts(params, walk[:1]).sum()
        + model.log_moves(params, Chunk(x), np.arange(n - 1), walk[:-1], walk[1:]).sum()
    )
    assert own + density[np.arange(n), best].sum() == pytest.approx(scores[best], rel=1e-12)


def test_a_geometric_distribution_is_a_plain_chain() -> None:
    """Negative binomial durations of size 1, of any number of ages."""
    model, x = semi_markov("negative-binomial", 3, 5), drawn(3, 300)
    params = some_params(model)
    means = np.array([2.5, 4.0, 9.0])
    params = params.replace(duration_logs=model.durations.logs(means, np.ones(3)))
    plain = HMM(Poisson(), 3, STARTS["kmeans"])
    leaving = 1 / means
    moves = np.diag(1 - leaving) + leaving[:, None] * params.transmat
    chunk = Chunk(x, None, Sequences(np.array([0, 100, 103, 300])))
    theirs = params.replace(transmat=moves)
    found, expected = model.e_step(params, chunk), plain.e_step(theirs, chunk)
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-10)
    np.testing.assert_allclose(found.visits, expected.visits, rtol=1e-10)
    np.testing.assert_allclose(found.stays.sum(axis=1), np.diag(expected.transitions), rtol=1e-9)
    np.testing.assert_allclose(found.transitions.sum(axis=1), found.leaves.sum(axis=1), rtol=1e-9)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(found.transitions[off], expected.transitions[off], rtol=1e-9)
    assert model.path(params, chunk).tolist() == plain.path(theirs, chunk).tolist()


@pytest.mark.parametrize("cut", [False, True])
def test_logarithms_say_the_same(cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And blocks of steps, between which everything is computed again."""
    model, x = semi_markov("negative-binomial", 3, 6), drawn(4, 200)
    params, chunk = some_params(model), Chunk(x, None, Sequences(np.array([0, 120, 200]), cut, cut))
    rng = np.random.default_rng(0)
    message = Boundary(rng.normal(size=18), rng.normal(size=18)) if cut else None
    scaled = model.e_step(params, chunk, message).flatten()
    monkeypatch.setattr(age_pass, "BLOCK_NUMBERS", 1)
    in_blocks = model.e_step(params, chunk, message).flatten()
    assert all(value.tobytes() == in_blocks[name].tobytes() for name, value in scaled.items())
    monkeypatch.setattr(kernels, "age_recursions", lambda *_: -np.inf)
    for name, value in model.e_step(params, chunk, message).flatten().items():
        np.testing.assert_allclose(value, scaled[name], rtol=1e-10, atol=1e-10, err_msg=name)


def test_what_underflows_is_done_in_logarithms() -> None:
    """A state that would hardly ever be left so early is, since nothing else explains what is seen."""
    model = semi_markov("poisson", 2, 400)
    params = some_params(model)
    params = params.replace(duration_logs=model.durations.logs(np.array([900.0, 900.0]), None))
    params = params.replace(components=params.components.replace(rates=np.array([[1e-3], [2000.0]])))
    x = np.repeat([0.0, 2000.0, 0.0], 5)[:, None]
    found = model.e_step(params, Chunk(x))
    assert found.log_likelihood < -1000
    np.testing.assert_allclose(found.visits, [10, 5], rtol=1e-12)
    np.testing.assert_allclose(found.leaves[:, 4], [1, 1], rtol=1e-12)
    assert model.path(params, Chunk(x)).tolist() == [0] * 5 + [1] * 5 + [0] * 5


def test_what_cannot_be() -> None:
    with pytest.raises(ParameterError, match="durations is 'weibull'"):
        Durations("weibull", 10)
    with pytest.raises(ParameterError, match="max_duration is 1; it must be an integer >= 2"):
        Durations("poisson", 1)
    with pytest.raises(
        ParameterError, match="5 states of up to max_duration=500 steps are 2500 sub-states.*400 or less"
    ):
        semi_markov("poisson", 5, 500)
    model = semi_markov("poisson", 2, 5, topology="left-right")
    params = some_params(model).replace(transmat=np.array([[0.0, 1.0], [0.0, 1.0]]), startprob=np.array([0.0, 1.0]))
    params = params.replace(components=params.components.replace(rates=np.array([[1.0], [np.inf]])))
    with pytest.raises(NumericalError, match="cannot have come from the model"):
        model.e_step(params, Chunk(np.zeros((3, 1))))
    assert model.init(Chunk(drawn(0, 30)), np.random.RandomState(0)).transmat.tolist() == [[0, 1], [0, 1]]
