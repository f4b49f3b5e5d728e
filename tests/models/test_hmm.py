"""Hidden Markov models against all paths one by one, hmmlearn, published numbers, and mixtures."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM as Peer

from helpers.chain_cases import FADING, Symbols, chain, enumerated, fading, whole
from helpers.users_family import Poisson
from streamem import Params, Stats
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, NumericalError, ParameterError
from streamem.families import Gaussian
from streamem.initialization.responsibilities import from_kmeans, from_noise
from streamem.models import HMM, Mixture

# fmt: off
EARTHQUAKES = [
    13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19,
    20, 22, 19, 13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22,
    17, 19, 15, 34, 10, 15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18,
    14, 10, 15, 8, 15, 6, 11, 8, 7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11,
]
# fmt: on
"""Earthquakes of magnitude 7 and more a year, 1900–2006 (Zucchini & MacDonald 2009, table 1.1)."""


def spread(k: int, d: int, lengths: list[int], seed: int, missing: float = 0.0) -> Chunk:
    """Sequences that stay in a state for a while; means 2 apart."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    states = np.repeat(rng.integers(k, size=n // 5 + 1), 5)[:n]
    x = rng.normal(size=(n, d)) + 2.0 * states[:, None]
    x[rng.uniform(size=n) < missing] = np.nan
    return whole(x, lengths)


def gaussian(k: int, kind: str = "diag", **settings: Any) -> HMM:
    return HMM(Gaussian(kind, 0.0), k, from_kmeans, **settings)


# --- all paths one by one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["dense", "sparse", "left-right"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 6])
def test_enumeration_of_all_paths(k: int, steps: int, structure: str) -> None:
    rng = np.random.default_rng([k, steps])
    startprob, transmat = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), size=k)
    if structure != "dense":
        transmat = np.triu(transmat) if structure == "left-right" else transmat * (np.eye(k)[::-1] + np.eye(k) > 0)
        transmat /= transmat.sum(axis=1, keepdims=True)
    if structure == "left-right":
        startprob = np.eye(k)[0]
    table = rng.dirichlet(np.ones(4), size=k)
    x = rng.integers(4, size=(steps, 1)).astype(np.float64)
    x[rng.uniform(size=steps) < 0.2] = np.nan
    params, model = chain(startprob, transmat, Params(table=table)), HMM(Symbols(), k, from_noise)
    log_prob = np.where(np.isnan(x), 0.0, np.log(table[:, np.nan_to_num(x[:, 0]).astype(int)].T))
    expected = enumerated(startprob, transmat, log_prob)
    rtol = tolerance(np.float64, k**steps * steps)
    stats = model.e_step(params, Chunk(x))
    assert_close(stats.log_likelihood, expected.log_likelihood, rtol, "log-likelihood", max(1, steps))
    assert_close(stats.transitions, expected.transitions, rtol, "transitions", max(1, steps))
    assert_close(stats.startprob, expected.gamma[0], rtol, "first state")
    assert_close(stats.visits, expected.gamma.sum(axis=0), rtol, "visits")
    assert_close(model.posteriors(params, Chunk(x)), expected.gamma, rtol, "posteriors")
    np.testing.assert_array_equal(model.path(params, Chunk(x)), expected.path)
    assert (stats.transitions[transmat == 0] == 0).all()
    assert_close(model.log_likelihood(params, Chunk(x)).log_likelihood, stats.log_likelihood, 1e-14, "score")


def test_a_tie_goes_to_the_lowest_state() -> None:
    even = np.full((3, 3), 1 / 3)
    params = chain(even[0], even, Params(table=np.ones((3, 1))))
    model = HMM(Symbols(), 3, from_noise)
    assert model.path(params, Chunk(np.zeros((7, 1)))).tolist() == [0] * 7


def test_umbrella_world() -> None:
    """Russell & Norvig 2010, §15.2: rain and umbrellas; the values that hmmlearn's tests hold too."""
    params = chain([0.5, 0.5], [[0.7, 0.3], [0.3, 0.7]], Params(table=[[0.1, 0.9], [0.8, 0.2]]))
    chunk = Chunk(np.array([[1.0], [1.0], [0.0], [1.0], [1.0]]))
    model = HMM(Symbols(), 2, from_noise)
    posteriors = np.array([
        [0.8673, 0.1327], [0.8204, 0.1796], [0.3075, 0.6925], [0.8204, 0.1796], [0.8673, 0.1327],
    ])  # fmt: skip
    np.testing.assert_allclose(model.posteriors(params, chunk), posteriors, atol=5e-5, rtol=0)
    assert float(model.e_step(params, chunk).log_likelihood) == pytest.approx(-3.3725, abs=5e-5)
    assert model.path(params, chunk).tolist() == [0, 0, 1, 0, 0]
    assert model.labels(params, chunk).tolist() == [0, 0, 1, 0, 0]


# --- other programs and published numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "d", "kind"), [(3, 2, "diag"), (4, 2, "full"), (5, 1, "diag"), (6, 3, "diag")])
def test_hmmlearn_from_the_same_start(k: int, d: int, kind: str) -> None:
    lengths = [200, 1, 77, 2, 300]
    chunk, model = spread(k, d, lengths, seed=k), gaussian(k, kind)
    params, family = model.init(chunk, np.random.RandomState(0)), model.family
    peer = Peer(
        k, kind, covars_prior=0, covars_weight=0, means_weight=0, tol=-np.inf, init_params="", n_iter=20, min_covar=0
    )
    peer.startprob_, peer.transmat_ = np.array(params.startprob), np.array(params.transmat)
    peer.means_, peer.covars_ = family.means(params.components), family.covariances(params.components)
    peer.fit(chunk.x, lengths)
    trace = []
    for _ in range(20):
        stats = model.e_step(params, chunk)
        trace.append(float(stats.log_likelihood))
        params = model.m_step(stats, params)
    np.testing.assert_allclose(trace, list(peer.monitor_.history), rtol=1e-9)
    np.testing.assert_allclose(params.startprob, peer.startprob_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(params.transmat, peer.transmat_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(family.means(params.components), peer.means_, rtol=1e-9, atol=1e-12)
    covars = np.array([np.diag(c) for c in peer.covars_]) if kind == "diag" else peer.covars_
    np.testing.assert_allclose(family.covariances(params.components), covars, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.posteriors(params, chunk), peer.predict_proba(chunk.x, lengths), atol=1e-9)
    np.testing.assert_array_equal(model.path(params, chunk), peer.predict(chunk.x, lengths))


@pytest.mark.variations(1, 6)
@pytest.mark.parametrize(("k", "minus_log_likelihood"), [(2, 341.8787), (3, 328.5275)])
def test_earthquakes(k: int, minus_log_likelihood: float) -> None:
    chunk = Chunk(np.array(EARTHQUAKES, dtype=np.float64)[:, None])
    assert chunk.rows == 107
    model = HMM(Poisson(), k, from_kmeans)
    params = model.init(chunk, np.random.RandomState(0))
    transmat = np.full((k, k), 0.1 / k) + 0.9 * np.eye(k)
    params = params.replace(transmat=transmat)
    for _ in range(2000):
        params = model.m_step(stats := model.e_step(params, chunk), params)
    assert -float(stats.log_likelihood) == pytest.approx(minus_log_likelihood, abs=5e-5)


def test_equal_rows_are_a_mixture() -> None:
    k = 4
    chunk = spread(k, 2, [400], seed=0)
    family = Gaussian("full", 0.0)
    mixture = Mixture(family, k, from_kmeans)
    mixed = mixture.init(chunk, np.random.RandomState(0))
    params = chain(mixed.weights, np.tile(mixed.weights, (k, 1)), mixed.components)
    stats, other = gaussian(k, "full").e_step(params, chunk), mixture.e_step(mixed, chunk)
    rtol = tolerance(np.float64, chunk.rows, 100)
    assert_close(stats.log_likelihood, other.log_likelihood, rtol, "log-likelihood")
    assert_close(stats.components, other.components, rtol, "components")
    assert_close(stats.visits, other.responsibilities, rtol, "visits")


# --- underflow -------------------------------------------------------------------------------------------------------


def test_left_right_over_two_thousand_steps_agrees_with_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    k, steps = 5, 2000
    rng = np.random.default_rng(0)
    states = np.arange(steps) * k // steps
    chunk = Chunk(rng.normal(size=(steps, 1)) + 8.0 * states[:, None])
    model = gaussian(k, topology="left-right")
    params = model.init(chunk, np.random.RandomState(0))
    order = np.argsort(model.family.means(params.components)[:, 0])
    components = Params(**{
        name: leaf[order] if leaf.shape[:1] == (k,) else leaf for name, leaf in params.components.items()
    })  # fmt: skip
    params = params.replace(components=components)
    stats = model.e_step(params, chunk)
    exact = in_logarithms(model, params, chunk, monkeypatch)
    rtol = tolerance(np.float64, steps)
    assert_close(stats.log_likelihood, exact.log_likelihood, rtol, "log-likelihood")
    assert_close(stats.transitions, exact.transitions, rtol, "transitions")
    assert (stats.transitions[params.transmat == 0] == 0).all()
    for _ in range(3):
        params = model.m_step(model.e_step(params, chunk), params)
    assert (params.transmat[model.transitions.first().transmat == 0] == 0).all()
    np.testing.assert_array_equal(model.path(params, chunk), states)


def in_logarithms(model: HMM, params: Params, chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> Stats:
    """The E-step with scaled recursions declared to have failed."""
    from streamem.kernels.chains import forward_backward
    from streamem.models import chain_pass

    def failing(width: int) -> Any:
        def fail(*arguments: Any) -> None:
            arguments[-1][:] = -np.inf  # log-likelihoods

        def skip(*arguments: Any) -> None:
            return None

        return forward_backward.Recursions(fail, skip, skip)

    monkeypatch.setattr(forward_backward, "recursions", failing)
    assert chain_pass is not None
    try:
        return model.e_step(params, chunk)
    finally:
        monkeypatch.undo()


@pytest.mark.widths
@pytest.mark.parametrize("k", [2, 4, 7, 33])
def test_scaled_and_in_logarithms_are_the_same(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = spread(k, 2, [150, 3, 1, 90], seed=k, missing=0.1)
    chunk = replace(chunk, weight=np.repeat([1.0, 0.5, 0.0, 3.0], [150, 3, 1, 90]))
    model = gaussian(k)
    rng = np.random.default_rng(k)
    params = model.init(chunk, np.random.RandomState(0)).replace(transmat=rng.dirichlet(np.ones(k), size=k))
    found, exact = model.e_step(params, chunk), in_logarithms(model, params, chunk, monkeypatch)
    assert_close(found, exact, tolerance(np.float64, chunk.rows, 1e3), "scaled against logarithms")


def test_a_state_that_fades_beyond_floats_and_comes_back() -> None:
    params, chunk = fading()
    model = HMM(Symbols(), 4, from_noise)
    stats = model.e_step(params, chunk)
    assert float(stats.log_likelihood) == pytest.approx(FADING, rel=1e-14)
    assert_close(stats.transitions[3], [0.0, 1.0, 0.0, 0.0], 1e-14, "where the chain went first")
    assert_close(model.posteriors(params, chunk)[4], [0.0, 1.0, 0.0, 0.0], 1e-14, "posteriors")


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_far_outliers_keep_finite_posteriors(scale: float) -> None:
    chunk = spread(3, 2, [50, 60], seed=1)
    model = gaussian(3)
    params = model.init(chunk, np.random.RandomState(0))
    x = chunk.x.copy()
    x[[7, 80]] *= scale
    posteriors = model.posteriors(params, replace(chunk, x=x))
    np.testing.assert_allclose(posteriors.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(float(model.e_step(params, replace(chunk, x=x)).log_likelihood))


def test_an_impossible_sequence_is_named() -> None:
    params = chain([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], Params(table=[[1.0, 0.0], [0.0, 1.0]]))
    model = HMM(Symbols(), 2, from_noise)
    chunk = whole(np.array([[0.0], [1.0], [0.0], [1.0], [0.0]]), [2, 3])
    for ask in (model.e_step, model.path, model.posteriors):
        with pytest.raises(NumericalError, match=r"sequence 1 of the chunk \(its rows 2–4\).*probability 0"):
            ask(params, chunk)
    nowhere = chain([0.5, 0.5], np.full((2, 2), 0.5), Params(table=[[1.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(NumericalError, match="row 1 of the chunk has no finite log-density"):
        model.e_step(nowhere, chunk)


# --- laws ------------------------------------------------------------------------------------------------------------


def test_weights_of_two_are_the_sequences_twice() -> None:
    chunk, model = spread(3, 2, [30, 1, 44], seed=2, missing=0.1), gaussian(3)
    params = model.init(chunk, np.random.RandomState(0))
    twice = whole(np.tile(chunk.x, (2, 1)), [30, 1, 44] * 2)
    doubled = model.e_step(params, replace(chunk, weight=np.full(75, 2.0)))
    rtol = tolerance(np.float64, 150, 10)
    for name in ("weight", "log_likelihood", "startprob", "transitions", "visits", "components"):
        assert_close(doubled[name], model.e_step(params, twice)[name], rtol, name)


def test_weights_within_a_sequence_must_agree() -> None:
    chunk, model = spread(2, 1, [5, 5], seed=0), gaussian(2)
    params = model.init(chunk, np.random.RandomState(0))
    weight = np.ones(10)
    weight[7] = 2.0
    with pytest.raises(DataError, match=r"sequence 1 of the chunk \(its rows 5–9\) has weights 1.0 and 2.0 \(row 7\)"):
        model.e_step(params, replace(chunk, weight=weight))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_is_the_sum_of_sequences(dtype: Any) -> None:
    lengths = [1, 40, 3, 17, 2]
    chunk, model = spread(3, 2, lengths, seed=3), gaussian(3)
    chunk = replace(chunk, x=chunk.x.astype(dtype))
    params = model.init(chunk, np.random.RandomState(0))
    bounds = np.cumsum([0, *lengths])
    parts = [model.e_step(params, whole(chunk.x[a:b])) for a, b in pairwise(bounds)]
    parts.append(model.e_step(params, whole(chunk.x[:0], [])))
    total: Stats = sum(parts[1:], start=parts[0])
    assert_close(total, model.e_step(params, chunk), tolerance(dtype, 63, 10), "sum of sequences")


def test_missing_steps_change_nothing_but_the_gaps() -> None:
    """A sequence that begins and ends with missing rows: the transitions are still integrated out."""
    chunk, model = spread(3, 2, [40], seed=4), gaussian(3)
    params = model.init(chunk, np.random.RandomState(0))
    nothing = np.full((6, 2), np.nan)
    longer = model.e_step(params, Chunk(np.concatenate([chunk.x, nothing])))
    stats = model.e_step(params, chunk)
    rtol = tolerance(np.float64, 46, 10)
    assert_close(longer.log_likelihood, stats.log_likelihood, rtol, "log-likelihood")
    assert_close(longer.components, stats.components, rtol, "components")
    assert_close(longer.transitions.sum(), stats.transitions.sum() + 6, rtol, "transitions")
    empty = model.e_step(params, Chunk(nothing))
    assert float(empty.log_likelihood) == pytest.approx(0.0, abs=1e-14)
    assert_close(empty.transitions.sum(), 5.0, rtol, "transitions of nothing")
    assert (empty.components.weight == 0).all()


def test_padding_is_no_steps() -> None:
    chunk, model = spread(3, 2, [20, 30], seed=5, missing=0.1), gaussian(3)
    params = model.init(chunk, np.random.RandomState(0))
    x = np.full((80, 2), np.nan)
    x[:20], x[40:70] = chunk.x[:20], chunk.x[20:]
    x[19], x[69] = 0.0, 0.0
    rows = np.r_[0:20, 40:70]
    padded, plain = whole(x, [40, 40], padded=True), whole(x[rows], [20, 30])
    found, expected = model.e_step(params, padded), model.e_step(params, plain)
    rtol = tolerance(np.float64, 80, 10)
    for name in ("log_likelihood", "startprob", "transitions", "visits", "components"):
        assert_close(found[name], expected[name], rtol, name)
    assert (model.path(params, padded)[rows] == model.path(params, plain)).all()
    assert (np.delete(model.path(params, padded), rows) == -1).all()
    assert (np.delete(model.labels(params, padded), rows) == -1).all()
    assert np.isnan(np.delete(model.posteriors(params, padded), rows, axis=0)).all()
    assert_close(model.posteriors(params, padded)[rows], model.posteriors(params, plain), rtol, "posteriors")


def test_monotone_with_and_without_priors() -> None:
    chunk = spread(3, 1, [100, 30], seed=6)
    for settings in ({}, {"startprob_prior": 3.0, "transmat_prior": np.eye(3) * 5 + 1}):
        model = gaussian(3, **settings)
        params, last = model.init(chunk, np.random.RandomState(0)), -np.inf
        for _ in range(25):
            stats = model.e_step(params, chunk)
            now = float(stats.log_likelihood) - model.penalty(params, stats)
            assert now >= last - 1e-9
            params, last = model.m_step(stats, params), now
    assert model.penalty(params, stats) > 0


def test_priors_are_pseudo_counts() -> None:
    model = gaussian(2, startprob_prior=[2.0, 1.0], transmat_prior=3.0)
    old = chain([0.5, 0.5], np.full((2, 2), 0.5), Params())
    moves = model.transitions.maximize_moves(np.array([[6.0, 2.0], [0.0, 0.0]]), old.transmat)
    np.testing.assert_allclose(moves.transmat, [[8 / 12, 4 / 12], [0.5, 0.5]])
    np.testing.assert_allclose(model.transitions.maximize_start(np.array([1.0, 2.0]), old.startprob), [0.5, 0.5])
    with pytest.raises(ParameterError, match="transmat_prior has values down to 0.5"):
        gaussian(2, transmat_prior=0.5)


# --- structure -------------------------------------------------------------------------------------------------------


def test_topologies_and_ties() -> None:
    chunk = spread(4, 1, [120], seed=7)
    model = gaussian(4, topology=("banded", 1), tied_transitions=[[1, 2]])
    params = model.init(chunk, np.random.RandomState(0))
    apart = np.abs(np.arange(4)[:, None] - np.arange(4))
    assert (params.transmat[[0, 3]][apart[[0, 3]] > 1] == 0).all()
    for _ in range(5):
        params = model.m_step(model.e_step(params, chunk), params)
    np.testing.assert_array_equal(params.transmat[1], params.transmat[2])
    assert (params.transmat[[0, 3]][apart[[0, 3]] > 1] == 0).all()
    np.testing.assert_allclose(params.transmat.sum(axis=1), 1.0)
    with pytest.raises(ParameterError, match='must be "ergodic", "left-right" or'):
        gaussian(2, topology="ring").transitions.first()
    with pytest.raises(ParameterError, match="may be in one group"):
        gaussian(2, tied_transitions=[[0, 2]])
    with pytest.raises(ParameterError, match="row 1 sums to 0.0"):
        gaussian(2, transmat_init=[[0.5, 0.5], [0.0, 0.0]]).transitions.first()


def test_a_state_that_is_never_left_keeps_its_row_and_is_reported() -> None:
    params = chain([1.0, 0.0], [[0.5, 0.5], [0.3, 0.7]], Params(table=[[1.0, 0.0], [0.0, 1.0]]))
    model = HMM(Symbols(), 2, from_noise)
    new = model.m_step(model.e_step(params, Chunk(np.array([[0.0], [0.0], [1.0]]))), params)
    np.testing.assert_array_equal(new.transmat[1], [0.3, 0.7])
    assert model.degenerate(new) == {"never left": [1]}


@pytest.mark.parametrize("letters", ["", "s", "t", "m", "st", "stmc"])
def test_frozen_parts_stay(letters: str) -> None:
    chunk = spread(2, 1, [60], seed=8)
    model = gaussian(2, params=letters)
    old = model.init(chunk, np.random.RandomState(0)).replace(transmat=[[0.9, 0.1], [0.2, 0.8]])
    new = model.m_step(model.e_step(old, chunk), old)
    changed = {"s": "startprob", "t": "transmat"}
    for letter, name in changed.items():
        assert np.array_equal(new[name], old[name]) == (letter not in letters)
    assert (new.components == old.components) == (not set(letters) - set("st"))


def test_the_model_travels() -> None:
    chunk, model = spread(2, 1, [30], seed=9), gaussian(2, topology="left-right")
    params = model.init(chunk, np.random.RandomState(0))
    there = pickle.loads(pickle.dumps(model))
    assert there.e_step(params, chunk) == model.e_step(params, chunk)
    shares = model.shares(params)
    assert shares.sum() == pytest.approx(1.0)


def test_one_state() -> None:
    chunk, model = spread(1, 2, [30, 5], seed=10), gaussian(1)
    params = model.init(chunk, np.random.RandomState(0))
    stats = model.e_step(params, chunk)
    assert_close(stats.transitions, [[33.0]], 1e-14, "transitions")
    assert model.path(params, chunk).tolist() == [0] * 35
