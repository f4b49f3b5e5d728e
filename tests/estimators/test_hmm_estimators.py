"""Estimators of hidden Markov models: every source, answers to files, starts, structures, saving."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from sklearn.base import clone

from helpers.fitted_states import params_now
from helpers.hmm_starts import LENGTHS, Array, D, K, fitted_quietly, gaussian_start, rows, with_attributes
from streamem import GMMHMM, HMM, BernoulliHMM, CategoricalHMM, GaussianHMM, PoissonHMM, open_sequences
from streamem.core.errors import ModelFileError
from streamem.estimators.loading import load_model
from streamem.estimators.making import family_of, n_parameters
from streamem.families import AutoregressiveGaussian, Gaussian

OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
NAMES = ("startprob_", "transmat_", "means_", "covars_")
SHORT: dict[str, Any] = {"n_iter": 4, "tol": 0, "random_state": 0}


def model(**settings: Any) -> GaussianHMM:
    """Four iterations from a given start."""
    chosen = {"n_components": K, "init_params": "", **SHORT, **settings}
    return with_attributes(GaussianHMM(**chosen), gaussian_start("diag"))


def same(one: Any, other: Any, **tolerance: float) -> None:
    """Two fits agree, to rounding at the most."""
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), **{"rtol": 1e-11, "atol": 1e-12, **tolerance}, err_msg=name
        )


def zarr_array(path: Path, x: Array, chunk_rows: int) -> str:
    """An array on disk."""
    chunks = (chunk_rows, *x.shape[1:])
    zarr.create_array(store=str(path), shape=x.shape, chunks=chunks, dtype=x.dtype)[:] = x
    return str(path)


def padded(x: Array) -> Array:
    """Sequences × steps × features, shorter ones ending with NaN."""
    cube = np.full((len(LENGTHS), max(LENGTHS), D), np.nan)
    for i, (first, stop) in enumerate(pairwise(OFFSETS)):
        cube[i, : stop - first] = x[first:stop]
    return cube


def data(kind: str, folder: Path, x: Array) -> tuple[Any, dict[str, Any]]:
    """The sequences as a source of some kind, and how to say where they begin."""
    ids = np.repeat(["a", "b", "d", "c"], LENGTHS)
    frame = pd.DataFrame({"y0": x[:, 0], "id": ids, "y1": x[:, 1]})
    if kind == "parquet":
        pq.write_table(pa.Table.from_pandas(frame), folder / "x.parquet", row_group_size=70)
        return folder / "x.parquet", {"sequence_column": "id"}
    if kind == "group":
        group = zarr.create_group(str(folder / "g.zarr"))
        group.create_array("y", shape=x.shape, chunks=(64, D), dtype="f8")[:] = x
        group.create_array("starts", shape=(len(OFFSETS),), dtype="i8")[:] = OFFSETS
        return str(folder / "g.zarr" / "y"), {"offsets": zarr.open_array(str(folder / "g.zarr" / "starts"))[:]}
    np.save(folder / "lengths.npy", LENGTHS)
    np.save(folder / "x.npy", x)
    table: dict[str, tuple[Any, dict[str, Any]]] = {
        "lengths": (x, {"lengths": LENGTHS}),
        "offsets": (x, {"offsets": OFFSETS[:-1]}),
        "list": ([x[a:b] for a, b in pairwise(OFFSETS)], {}),
        "npy": (folder / "x.npy", {"lengths": folder / "lengths.npy"}),
        "frame": (frame, {"sequence_column": "id"}),
        "zarr": (zarr_array(folder / "x.zarr", x, 64), {"lengths": LENGTHS}),
        "cube": (padded(x), {}),
        "zarr cube": (zarr_array(folder / "c.zarr", padded(x), 2), {}),
        "opened": (open_sequences(x, lengths=LENGTHS), {}),
    }
    return table[kind]


KINDS = ["lengths", "offsets", "list", "npy", "frame", "zarr", "cube", "zarr cube", "opened", "parquet", "group"]


@pytest.mark.variations(4, 100)
@pytest.mark.parametrize("kind", KINDS)
def test_every_source_tells_the_same(kind: str, tmp_path: Path) -> None:
    x = rows()
    expected = fitted_quietly(model(), x, LENGTHS)
    source, said = data(kind, tmp_path, x)
    found = fitted_quietly(model(chunk_bytes=None if kind == "opened" else 1000), source, **said)
    same(found, expected)
    assert found.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-11)
    if "cube" not in kind:
        np.testing.assert_array_equal(found.predict(source, **said), expected.predict(x, LENGTHS))
        assert found.score(source, **said) == pytest.approx(expected.score(x, LENGTHS), rel=1e-11)
        return
    present = ~np.isnan(padded(x)[:, :, 0]).ravel()
    states, chances = found.predict(source), found.predict_proba(source)
    np.testing.assert_array_equal(states[present], expected.predict(x, LENGTHS))
    assert (states[~present] == -1).all()
    assert np.isnan(chances[~present]).all()
    assert found.decode(source)[0] == pytest.approx(expected.decode(x, LENGTHS)[0], rel=1e-11)


def test_columns_of_a_table_are_known_by_name(tmp_path: Path) -> None:
    x = rows()
    source, said = data("parquet", tmp_path, x)
    found = fitted_quietly(model(), source, columns=["y1", "y0"], **said)
    assert found.feature_names_in_.tolist() == ["y1", "y0"]
    assert found.score(source, **said) == pytest.approx(found.score(x[:, ::-1], LENGTHS), rel=1e-12)


@pytest.mark.parametrize("suffix", ["zarr", "npy", "parquet"])
def test_answers_go_to_files(suffix: str, tmp_path: Path) -> None:
    x = rows()
    hmm = fitted_quietly(model(), x, LENGTHS)
    hmm.set_params(chunk_bytes=500)
    store = zarr_array(tmp_path / "x.zarr", x, 50)
    log_prob, path = hmm.decode(store, LENGTHS, out=tmp_path / f"s.{suffix}")
    assert path == tmp_path / f"s.{suffix}"
    assert log_prob == pytest.approx(hmm.decode(x, LENGTHS)[0], rel=1e-12)
    np.testing.assert_array_equal(read(path), hmm.predict(x, LENGTHS))
    out = hmm.predict_proba(store, LENGTHS, out=tmp_path / f"p.{suffix}")
    np.testing.assert_allclose(read(out), hmm.predict_proba(x, LENGTHS), rtol=1e-12)


def read(path: Path) -> Array:
    """A result, whatever its format."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(str(path))[:])
    table = pq.read_table(path)
    return np.squeeze(np.column_stack([column.to_numpy() for column in table.columns]))


def test_missing_steps_and_weights() -> None:
    x = rows()
    x[[3, 4, 305, 420]] = np.nan
    hmm = fitted_quietly(model(chunk_bytes=333), x, LENGTHS)
    assert np.isfinite(hmm.predict_proba(x, LENGTHS)).all()
    started = GaussianHMM(K, **SHORT)
    assert np.isfinite(fitted_quietly(started, x, LENGTHS).score(x, LENGTHS))
    twice = [2.0, 1.0, 1.0, 3.0]
    repeated = [x[a:b] for (a, b), w in zip(pairwise(OFFSETS), twice, strict=True) for _ in range(int(w))]
    same(fitted_quietly(model(), x, LENGTHS, sample_weight=twice), fitted_quietly(model(), repeated))


# --- starts and structures -------------------------------------------------------------------------------------------


def test_it_finds_the_model_that_made_the_data() -> None:
    truth = {
        "startprob_": np.array([1.0, 0, 0]),
        "transmat_": np.array([[0.9, 0.1, 0], [0, 0.8, 0.2], [0.3, 0, 0.7]]),
        "means_": np.array([[0.0, 0], [4, 0], [0, 4]]),
        "covars_": np.ones((K, D)),
    }
    x, states = with_attributes(GaussianHMM(K), truth).sample(5000, random_state=0)
    hmm = GaussianHMM(K, random_state=0).fit(x)
    assert hmm.converged_
    order = [int(np.argmin(((hmm.means_ - mean) ** 2).sum(axis=1))) for mean in truth["means_"]]
    np.testing.assert_allclose(hmm.transmat_[np.ix_(order, order)], truth["transmat_"], atol=0.03)
    np.testing.assert_allclose(hmm.means_[order], truth["means_"], atol=0.15)
    assert (np.argsort(order)[hmm.predict(x)] == states).mean() > 0.97
    assert hmm.score(x) > with_attributes(GaussianHMM(K), truth).score(x)


def test_topologies_and_ties() -> None:
    x = rows()
    left_right = fitted_quietly(GaussianHMM(K, topology="left-right", **SHORT), x, LENGTHS)
    assert left_right.startprob_.tolist() == [1, 0, 0]
    assert (left_right.transmat_[~np.triu(np.ones((K, K), dtype=bool))] == 0).all()
    assert left_right.transmat_[0, 2] == 0
    assert left_right.transmat_[2, 2] == 1
    banded = fitted_quietly(GaussianHMM(4, topology=("banded", 1), **SHORT), x, LENGTHS)
    apart = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    assert (banded.transmat_[apart > 1] == 0).all()
    assert (banded.transmat_[apart <= 1] > 0).all()
    tied = fitted_quietly(GaussianHMM(K, tied_transitions=[[0, 2]], **SHORT), x, LENGTHS)
    np.testing.assert_array_equal(tied.transmat_[0], tied.transmat_[2])
    free = fitted_quietly(GaussianHMM(K, **SHORT), x, LENGTHS)
    assert n_parameters(free, free._now()) - n_parameters(tied, tied._now()) == K - 1
    assert n_parameters(free, free._now()) == K * K - 1 + 2 * K * D


def test_left_right_chains_start_in_order() -> None:
    """Clusters alone do not know which state comes first."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 60, size=50)
    phases = [np.minimum(np.arange(n) * 4 // n, 3) for n in lengths]
    x = np.array([0.0, 5.0, 1.0, 6.0])[np.concatenate(phases)][:, None] + rng.normal(size=(lengths.sum(), 1))
    hmm = GaussianHMM(4, topology="left-right", random_state=0).fit(x, lengths)
    assert (hmm.predict(x, lengths) == np.concatenate(phases)).mean() > 0.97
    small = GaussianHMM(4, topology="left-right", random_state=0, memory_limit="180MiB", n_iter=0)
    many = np.repeat([0.0, 9.0, 1.0, 8.0], 100_000)[:, None]
    np.testing.assert_allclose(small.fit(many).means_.ravel(), [0, 9, 1, 8], atol=0.1)


def test_autoregressive_emissions_look_back() -> None:
    rng, y, states = np.random.default_rng(0), np.zeros(4000), np.repeat(np.arange(20) % 2, 200)
    for t in range(1, len(y)):
        y[t] = (0.9 if states[t] else -0.5) * y[t - 1] + rng.normal()
    hmm = HMM(AutoregressiveGaussian(1), 2, random_state=0, init_params="se", tol=1e-5, n_iter=500)
    hmm.transmat_ = np.array([[0.95, 0.05], [0.05, 0.95]])
    hmm.fit(y[:, None], [1000, 3000])
    assert hmm.n_features_in_ == 1
    found = hmm.predict(y[:, None], [1000, 3000])
    assert max((found == states).mean(), (found != states).mean()) > 0.95
    slopes = np.sort(AutoregressiveGaussian(1).coefficients(hmm.params_).ravel())
    np.testing.assert_allclose(slopes, [-0.5, 0.9], atol=0.06)
    cut = HMM(AutoregressiveGaussian(1), 2, chunk_bytes=700)
    with_attributes(cut, {name: getattr(hmm, name) for name in ("startprob_", "transmat_", "params_")})
    assert cut.score(y[:, None], [1000, 3000]) == pytest.approx(hmm.score(y[:, None], [1000, 3000]), rel=1e-12)


def test_equal_rows_are_a_mixture() -> None:
    from streamem import GaussianMixture

    start, x = gaussian_start("diag"), rows()
    weights = start["startprob_"]
    hmm = model()
    hmm.transmat_ = np.tile(weights, (K, 1))
    gm = GaussianMixture(K, covariance_type="diag", reg_covar=0, max_iter=0, weights_init=weights,
                         means_init=start["means_"], precisions_init=1 / start["covars_"]).fit(x)  # fmt: skip
    assert hmm.score(x, LENGTHS) / len(x) == pytest.approx(gm.score(x), rel=1e-12)
    np.testing.assert_allclose(hmm.predict_proba(x, LENGTHS), gm.predict_proba(x), atol=1e-12)


def test_rows_are_drawn_from_their_states() -> None:
    """Moments of what each state emits, of every class."""
    for estimator, x in estimators():
        fitted_quietly(estimator, x, LENGTHS)
        drawn, states = estimator.sample(40_000, random_state=0)
        params, family = params_now(estimator).components, family_of(estimator, estimator._now())
        for k in range(2):
            rows_of_k = drawn[states == k]
            resp = np.zeros((len(rows_of_k), 2))
            resp[:, k] = 1.0
            own = family.log_prob(params, rows_of_k)[:, k].mean()
            other = family.log_prob(family.maximize(family.stats(params, rows_of_k, resp), params), rows_of_k)[
                :, k
            ].mean()
            assert 0 <= other - own < 0.02, f"{estimator} state {k}"


@pytest.mark.parametrize("estimator", [BernoulliHMM, CategoricalHMM])
def test_discrete_states_start_apart(estimator: Any) -> None:
    x = np.random.default_rng(0).integers(2, size=(3000, 1))
    hmm = fitted_quietly(estimator(2, n_iter=0, random_state=0), x)
    probabilities = hmm.emissionprob_[:, -1]
    assert abs(probabilities[0] - probabilities[1]) > 0.1


def test_several_starts_keep_the_best() -> None:
    x = rows()
    many = GaussianHMM(4, random_state=0, n_init=4, start="random_from_data", n_iter=30, tol=0)
    one = GaussianHMM(4, random_state=0, n_init=1, start="random_from_data", n_iter=30, tol=0)
    assert fitted_quietly(many, x).lower_bound_ >= fitted_quietly(one, x).lower_bound_


# --- saving, drawing, words ------------------------------------------------------------------------------------------


def estimators() -> list[tuple[Any, Array]]:
    """One of each class, and steps that it can emit."""
    rng = np.random.default_rng(0)
    return [
        (GaussianHMM(2, "full", **SHORT), rows()),
        (GaussianHMM(2, "tied", **SHORT), rows()),
        (GaussianHMM(2, "spherical", **SHORT), rows()),
        (GMMHMM(2, 2, **SHORT), rows()),
        (CategoricalHMM(2, **SHORT), rng.integers(3, size=(600, 2))),
        (PoissonHMM(2, **SHORT), rng.poisson(3, size=(600, 2))),
        (BernoulliHMM(2, **SHORT), rng.integers(2, size=(600, 2))),
    ]


@pytest.mark.parametrize("number", range(7))
def test_saved_models_are_the_same(number: int, tmp_path: Path) -> None:
    estimator, x = estimators()[number]
    fitted_quietly(estimator, x, LENGTHS)
    estimator.save(tmp_path / "m.npz")
    loaded = load_model(tmp_path / "m.npz")
    assert type(loaded) is type(estimator)
    assert loaded.score(x, LENGTHS) == estimator.score(x, LENGTHS)
    assert loaded.lower_bounds_ == estimator.lower_bounds_
    np.testing.assert_array_equal(loaded.transmat_, estimator.transmat_)
    assert str(estimator.n_components) in loaded.describe()
    drawn, states = loaded.sample(500, random_state=1)
    assert drawn.shape == (500, 2)
    assert loaded.score(drawn) > -np.inf
    assert set(states) <= {0, 1}
    assert loaded.partial_fit(x, LENGTHS).n_iter_ > 0
    copy = clone(estimator)
    for letter, name in (("s", "startprob_"), ("t", "transmat_")):
        assert letter in copy.init_params
        setattr(copy, name, getattr(estimator, name))
    for name in copy.face.letters:
        setattr(copy, name, getattr(estimator, name))
    assert copy.score(x, LENGTHS) == pytest.approx(estimator.score(x, LENGTHS), rel=1e-10)


@pytest.mark.parametrize("tied", [[[0, 1]], [[0, 1], [2, 3, 4]], [(0, 1), (3, 4)]])
def test_tied_transitions_are_saved(tied: list[list[int]], tmp_path: Path) -> None:
    """Groups of one size and of several; a loaded model goes on with the same bits."""
    x = np.random.default_rng(3).normal(size=(200, 2))
    model = GaussianHMM(5, tied_transitions=tied, n_iter=2, tol=0, random_state=0)
    fitted_quietly(model, x, None)
    model.save(tmp_path / "model.npz")
    loaded = GaussianHMM.load(tmp_path / "model.npz")
    assert [list(group) for group in loaded.tied_transitions] == [list(group) for group in tied]
    assert loaded.bic(x) == model.bic(x)
    one, other = model.partial_fit(x), loaded.partial_fit(x)
    np.testing.assert_array_equal(one.transmat_, other.transmat_)
    np.testing.assert_array_equal(other.transmat_[tied[0][0]], other.transmat_[tied[0][1]])


def test_a_family_is_given_again_at_loading(tmp_path: Path) -> None:
    x = rows()
    hmm = fitted_quietly(HMM(Gaussian("diag"), 2, **SHORT), x, LENGTHS)
    hmm.save(tmp_path / "m.npz")
    loaded = HMM.load(tmp_path / "m.npz", family=Gaussian("diag"))
    assert loaded.score(x, LENGTHS) == hmm.score(x, LENGTHS)
    assert loaded.sample(100, random_state=0)[0].shape == (100, D)
    assert f"state    start    stays  emissions\n    0{hmm.startprob_[0]:9.4f}" in loaded.describe()
    assert load_model(tmp_path / "m.npz").score(x, LENGTHS) == hmm.score(x, LENGTHS)
    with pytest.raises(ModelFileError, match="not a GaussianHMM"):
        GaussianHMM.load(tmp_path / "m.npz")


def test_drawn_sequences_follow_the_chain(tmp_path: Path) -> None:
    hmm = with_attributes(GaussianHMM(K), gaussian_start("diag"))
    hmm.n_features_in_ = D
    _, states = hmm.sample(40_000, random_state=0)
    counts = np.zeros((K, K))
    np.add.at(counts, (states[:-1], states[1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), hmm.transmat_, atol=0.02)
    assert hmm.sample(1, random_state=0, currstate=2)[1].tolist() == [2]
    hmm.sample_to(tmp_path / "x.zarr", 1000)
    assert zarr.open_array(str(tmp_path / "x.zarr")).shape == (1000, D)


def test_sites_share_statistics_of_whole_sequences() -> None:
    x = rows()
    once = fitted_quietly(model(n_iter=1), x, LENGTHS)
    site = fitted_quietly(model(n_iter=0), x, LENGTHS)
    parts = [site.expected_statistics(x[:301], LENGTHS[:2]), site.expected_statistics(x[301:], LENGTHS[2:])]
    same(site.maximize(sum(parts)), once)


def test_a_sequence_of_several_blocks_is_that_of_short_pieces() -> None:
    x = rows(5000)
    whole = fitted_quietly(model(n_iter=2), x)
    same(fitted_quietly(model(n_iter=2, chunk_bytes=16 * 900), x), whole, rtol=1e-9)
