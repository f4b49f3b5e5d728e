"""The laws, run on everything that streamem brings with it."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
import zarr
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import multivariate_normal

from helpers.format_files import FORMATS
from streamem.conformance import (
    ExecutorSuite,
    FamilySuite,
    ModelSuite,
    Quadrature,
    SourceSuite,
    StreamSuite,
    check_family,
)
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import Executor, Source
from streamem.core.sequences import Sequences
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor
from streamem.families import Gaussian
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.with_prior import PriorGaussian
from streamem.initialization import STARTS
from streamem.models import HMM, Mixture, SemiMarkov
from streamem.models.durations import Durations
from streamem.sources import ReadOptions, open_source
from streamem.sources.kinds import KINDS
from streamem.streams.byte_stream import ByteStream
from streamem.streams.folder import FolderStream
from streamem.streams.iterator import IteratorStream

Array = NDArray[Any]
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
TIED = frozenset({"covariances", "precisions_cholesky", "floored"})


class Poisson:
    """The family of the README, in its four lines."""

    def log_prob(self, p: Params, x: Array) -> Array:
        """Log-probability of counts."""
        return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)

    def stats(self, p: Params, x: Array, resp: Array) -> Stats:
        """Sums of counts."""
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        """Mean counts."""
        return Params(rates=s.x / s.weight[:, None])


# --- families --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("reg_covar", [0.0, 0.05])
class TestGaussian(FamilySuite):
    """Around a mean of (1000, …), with anchors that are not at it."""

    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str, reg_covar: float) -> None:
        self.family = self.family_of(covariance_type, reg_covar)
        self.shared = frozenset({"center", "scale"}) | (TIED if covariance_type == "tied" else frozenset())

    def family_of(self, covariance_type: str, reg_covar: float) -> Gaussian:
        return Gaussian(covariance_type, reg_covar)

    def make_family(self) -> Gaussian:
        return self.family

    def make_params(self, rng: np.random.Generator) -> Params:
        params = self.family.start(self.make_rows(rng, 50), None, 3)
        return self._moved(params, 1000.0 + rng.normal(size=(3, 4)), rng, 0.5)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return 1000.0 + rng.normal(size=(n, 4)) @ (np.eye(4) + 0.3 * rng.normal(size=(4, 4)))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        means = self.family.means(params)
        return self._moved(params, means + scale * rng.normal(size=means.shape), rng, scale)

    def _moved(self, params: Params, means: Array, rng: np.random.Generator, scale: float) -> Params:
        covariances = self.family.covariances(params)
        if covariances.shape[-1] == means.shape[1] and covariances.shape[-2:] == (4, 4):
            a = np.eye(4) + scale * rng.normal(size=(*covariances.shape[:-2], 4, 4))
            covariances = a @ covariances @ np.swapaxes(a, -1, -2)
            covariances = (covariances + np.swapaxes(covariances, -1, -2)) / 2
        else:
            covariances = covariances * np.exp(scale * rng.normal(size=covariances.shape))
        return self.family.with_covariances(self.family.with_means(params, means), covariances)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        means, covariances = self.family.means(params), self.family.covariances(params)
        k, d = means.shape
        full = {
            "full": lambda: covariances,
            "tied": lambda: np.repeat(covariances[None], k, axis=0),
            "diag": lambda: np.stack([np.diag(c) for c in covariances]),
            "spherical": lambda: np.stack([np.eye(d) * c for c in covariances]),
        }[self.family.covariance_type]()
        return np.column_stack([multivariate_normal(m, c).logpdf(x) for m, c in zip(means, full, strict=True)])


class TestGaussianWithPrior(TestGaussian):
    """A prior alike for all components, weighed against twice the rows."""

    def family_of(self, covariance_type: str, reg_covar: float) -> Gaussian:
        k, d, matrix = 3, 4, 60 * np.eye(4) + 9
        scatter = {"full": np.tile(matrix, (k, 1, 1)), "tied": matrix, "diag": np.full((k, d), 70.0)}
        count = np.full({"full": (k, 1, 1), "tied": (), "diag": (k, d), "spherical": (k,)}[covariance_type], 30.0)
        own = scatter.get(covariance_type, np.full(k, 70.0))
        prior = GaussianPrior(np.full((k, d), 1001.0), np.full(k, 40.0), own, count)
        return PriorGaussian(covariance_type, reg_covar, prior, total_weight=2.0 * self.n_rows)


class TestGaussianWithMeansHeld(TestGaussian):
    """The M-step leaves the means where they are."""

    def family_of(self, covariance_type: str, reg_covar: float) -> Gaussian:
        return HeldGaussian(covariance_type, reg_covar, "means")

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return self._moved(params, self.family.means(params), rng, scale)


class TestPoisson(FamilySuite):
    def make_family(self) -> Poisson:
        return Poisson()

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(rates=rng.uniform(1.0, 9.0, (3, 2)))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.poisson([2.0, 6.0], (n, 2)).astype(np.float64)

    def make_far_row(self, x: Array) -> Array:
        return np.round(super().make_far_row(x))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return Params(rates=params.rates * np.exp(scale * rng.normal(size=params.rates.shape)))

    def quadrature(self, params: Params) -> Quadrature:
        x = np.array(list(itertools.product(range(60), repeat=2)), dtype=np.float64)
        return Quadrature(x, np.ones(len(x)))


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("reg_covar", [0.0, 0.3])
class TestMixtureOfGaussians(ModelSuite):
    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str, reg_covar: float) -> None:
        self.model = Mixture(Gaussian(covariance_type, reg_covar), 3, STARTS["k-means++" if reg_covar else "kmeans"])
        shared = {"center", "scale"} | (TIED if covariance_type == "tied" else set())
        self.shared = frozenset(f"components.{name}" for name in shared)

    def make_model(self) -> Mixture:
        return self.model

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        centres = rng.normal(size=(3, 3))[rng.integers(3, size=n)]
        return Chunk(50.0 + 2.0 * centres + rng.normal(size=(n, 3)))


class TestMixtureOfPoissons(ModelSuite):
    def make_model(self) -> Mixture:
        return Mixture(Poisson(), 2, STARTS["kmeans"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        return Chunk(rng.poisson(np.where(rng.random((n, 1)) < 0.4, 2.0, 6.0), (n, 2)).astype(np.float64))


class TestHiddenMarkovModel(ModelSuite):
    """Sequences are what rows are to a mixture."""

    square = frozenset({"transmat"})
    shared = frozenset({"components.center", "components.scale"})
    LENGTHS = (60, 1, 90, 3, 146)

    def make_model(self) -> HMM:
        return HMM(Gaussian("diag", 1e-6), 3, STARTS["k-means++"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        states = np.repeat(rng.integers(3, size=n // 5 + 1), 5)[:n]
        x = 50.0 + rng.normal(size=(n, 2)) + 2.0 * states[:, None]
        x[rng.random(n) < 0.1] = np.nan
        return Chunk(x, None, Sequences(np.cumsum([0, *self.LENGTHS])))

    def split(self, chunk: Chunk, rng: np.random.Generator) -> list[Chunk]:
        offsets = chunk.sequences.offsets
        return [one_sequence(chunk, a, b) for a, b in [(0, 0), *itertools.pairwise(offsets), (chunk.rows, chunk.rows)]]

    def repeated(self, chunk: Chunk) -> Chunk:
        return Chunk(np.vstack([chunk.x, chunk.x]), None, Sequences(np.cumsum([0, *self.LENGTHS, *self.LENGTHS])))

    def weights(self, chunk: Chunk, rng: np.random.Generator) -> Array:
        return np.repeat(rng.uniform(0.5, 2.0, len(self.LENGTHS)), self.LENGTHS)


class TestSemiMarkovModel(TestHiddenMarkovModel):
    """Durations are parameters of a state; their counts are of steps, so cuts between sequences do not matter."""

    kind = "poisson"

    def make_model(self) -> SemiMarkov:
        return SemiMarkov(Gaussian("diag", 1e-6), 3, STARTS["k-means++"], Durations(self.kind, 12))


class TestSemiMarkovModelOfTwoParameters(TestSemiMarkovModel):
    kind = "negative-binomial"

    def make_model(self) -> SemiMarkov:
        return SemiMarkov(Gaussian("diag", 1e-6), 3, STARTS["k-means++"], Durations(self.kind, 12))


def one_sequence(chunk: Chunk, first: int, stop: int) -> Chunk:
    return Chunk(chunk.x[first:stop], None if chunk.weight is None else chunk.weight[first:stop])


# --- sources ---------------------------------------------------------------------------------------------------------

ROWS = 600
NAMES = ("a", "b", "c")
X64 = np.random.default_rng(5).normal(size=(ROWS, 3))
X32 = X64.astype(np.float32)
WEIGHT = np.random.default_rng(6).uniform(0.1, 2.0, ROWS)


class Case:
    """A store on disk or in memory, and what must come out of it."""

    def __init__(
        self,
        data: Any,
        rows: Array,
        names: tuple[str, ...] | None = None,
        piece_rows: int = 1,
        weight: Any = None,
        **options: Any,
    ) -> None:
        self.data, self.rows, self.names, self.piece_rows = data, rows, names, piece_rows
        self.weight, self.options = weight, options

    def open(self, chunk_bytes: int) -> Source:
        return open_source(self.data, weight=self.weight, options=ReadOptions(chunk_bytes=chunk_bytes, **self.options))


def table(**more: Array) -> pa.Table:
    return pa.table({**dict(zip(NAMES, X64.T, strict=True)), **more})


def npy(path: Path) -> Case:
    np.save(path / "x.npy", X32)
    return Case(path / "x.npy", X32)


def zarr_array(path: Path) -> Case:
    array = zarr.create_array(path / "x.zarr", shape=X32.shape, dtype="f4", chunks=(40, 2))
    array[:] = X32
    return Case(path / "x.zarr", X32, piece_rows=40)


def zarr_sharded(path: Path) -> Case:
    array = zarr.create_array(path / "x.zarr", shape=X64.shape, dtype="f8", chunks=(50, 3), shards=(200, 3))
    array[:] = X64
    return Case(str(path / "x.zarr"), X64, piece_rows=200)


def zarr_group(path: Path) -> Case:
    group = zarr.create_group(path / "g.zarr")
    for position, name in enumerate(NAMES):
        group.create_array(name, data=X64[:, position].copy(), chunks=(32,))
    group.create_array("w", data=WEIGHT, chunks=(64,))
    return Case(group, X64[:, [2, 0]], ("c", "a"), 64, weight="w", columns=("c", "a"))


def parquet_file(path: Path) -> Case:
    pq.write_table(table(), path / "x.parquet", row_group_size=37)
    return Case(path / "x.parquet", X64, NAMES, 37)


def parquet_folder(path: Path) -> Case:
    for part, rows in enumerate(np.array_split(np.arange(ROWS), 3)):
        pq.write_table(table(w=WEIGHT).take(pa.array(rows)), path / f"part-{part}.parquet", row_group_size=90)
    return Case(path, X64, NAMES, 90, weight="w")


def arrow_ipc(path: Path) -> Case:
    with pa.OSFile(str(path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=45)
    return Case(path / "x.arrow", X64, NAMES, 45)


def several(path: Path) -> Case:
    """An Arrow file of float32 and a Parquet file of float64, read in float64."""
    halves = [pa.table(dict(zip(NAMES, part.T, strict=True))) for part in (X32[:200], X64[200:])]
    with pa.OSFile(str(path / "1.arrow"), "wb") as file, pa.ipc.new_file(file, halves[0].schema) as writer:
        writer.write_table(halves[0], max_chunksize=45)
    pq.write_table(halves[1], path / "2.parquet", row_group_size=45)
    rows = np.concatenate([X32[:200].astype(np.float64), X64[200:]])
    return Case([path / "1.arrow", path / "2.parquet"], rows, NAMES, 45)


def make_reader() -> pa.RecordBatchReader:
    """A reader factory must be picklable by name."""
    return table().to_reader(max_chunksize=64)


def frame(**more: Array) -> pd.DataFrame:
    return pd.DataFrame({**dict(zip(NAMES, X64.T, strict=True)), **more})


def lazily(path: Path) -> Case:
    dataset = xarray.Dataset({name: ("profile", X64[:, i]) for i, name in enumerate(NAMES)})
    dataset.to_zarr(path / "d.zarr", encoding={name: {"chunks": (70,)} for name in NAMES}, consolidated=False)
    # Without consolidated metadata, xarray lists variables as the folder does.
    return Case(xarray.open_zarr(path / "d.zarr", consolidated=False)[list(NAMES)], X64, NAMES, 70)


def labelled() -> xarray.DataArray:
    return xarray.DataArray(X32, dims=("row", "feature"), coords={"feature": list(NAMES)})


CASES: dict[str, Callable[[Path], Case]] = {
    "array": lambda path: Case(np.asfortranarray(X64), X64),
    "array of integers": lambda path: Case((100 * X64).astype(np.int16), (100 * X64).astype(np.int16).astype("f4")),
    "array, features first": lambda path: Case(X32.T, X32, feature_axis=0),
    "weighted array": lambda path: Case(X32, X32, weight=WEIGHT),
    "npy": npy,
    "zarr array": zarr_array,
    "sharded zarr array": zarr_sharded,
    "zarr group with weights": zarr_group,
    "parquet file": parquet_file,
    "parquet folder with weights": parquet_folder,
    "arrow file": arrow_ipc,
    "arrow table": lambda path: Case(table(), X64, NAMES),
    "arrow table with weights": lambda path: Case(table(w=WEIGHT), X64, NAMES, weight="w"),
    "several files": several,
    "reader factory": lambda path: Case(make_reader, X64, NAMES, 64),
    "pandas": lambda path: Case(frame(w=WEIGHT), X64, NAMES, weight="w"),
    "polars": lambda path: Case(pl.DataFrame({"a": X32[:, 0], "b": X32[:, 1]}), X32[:, :2], ("a", "b")),
    "polars of unlike types": lambda path: Case(pl.DataFrame({"a": X32[:, 0], "b": X64[:, 1]}), mixed(), ("a", "b")),
    "xarray DataArray": lambda path: Case(labelled(), X32, NAMES),
    "xarray over zarr": lazily,
    "dask array": lambda path: Case(dask.array.from_array(X32, chunks=(55, 2)) * 1, X32, None, 55),
    "dask frame": lambda path: Case(dask.dataframe.from_pandas(frame(), npartitions=8), X64, NAMES, 80),
}


def mixed() -> Array:
    """float32 beside float64 is computed in float64."""
    return np.column_stack([X32[:, 0].astype(np.float64), X64[:, 1]])


@pytest.mark.parametrize("kind", CASES)
class TestSources(SourceSuite):
    chunk_bytes = 2048

    @pytest.fixture(autouse=True)
    def _make(self, kind: str, tmp_path: Path) -> None:
        self.case = CASES[kind](tmp_path)
        self.piece_rows = self.case.piece_rows

    def make_source(self, chunk_bytes: int) -> Source:
        return self.case.open(chunk_bytes)

    def expected_rows(self) -> Array:
        return np.ascontiguousarray(self.case.rows)

    def expected_weights(self) -> Array | None:
        return None if self.case.weight is None else WEIGHT

    def expected_names(self) -> tuple[str, ...] | None:
        return self.case.names


def test_every_kind_of_source_has_a_case(tmp_path: Path) -> None:
    """A new line in the table of sources needs a new line here; formats have theirs in helpers.format_files."""
    covered = set()
    for number, make in enumerate(CASES.values()):
        (tmp_path / str(number)).mkdir()
        data = make(tmp_path / str(number)).data
        covered.add(next(kind.name for kind in KINDS if kind.recognises(data)))
    assert covered | (FORMATS.keys() & {kind.name for kind in KINDS}) == {kind.name for kind in KINDS}


# --- executors -------------------------------------------------------------------------------------------------------


def scrambled(seed: int, numbered: Any) -> list[Any]:
    """Submissions in another order."""
    return random.Random(seed).sample(pairs := list(numbered), len(pairs))


@pytest.mark.parametrize("n_threads", [1, 2, 4])
class TestThreads(ExecutorSuite):
    @pytest.fixture(autouse=True)
    def _choose(self, n_threads: int) -> None:
        self.parallel, self.in_flight = n_threads, 2 * n_threads

    def make_executor(self) -> ThreadsExecutor:
        return ThreadsExecutor(self.parallel)

    def variants(self) -> Sequence[Callable[[], AbstractContextManager[Executor]]]:
        many = [partial(ThreadsExecutor, n, in_flight) for n in (1, 2, 3, 5) for in_flight in (1, 3, 64)]
        mixed_up = [partial(ThreadsExecutor, self.parallel, 8, partial(scrambled, seed)) for seed in range(5)]
        return [*many, *mixed_up]


class TestThreadsWithOneChunkInFlight(ExecutorSuite):
    in_flight = 1

    def make_executor(self) -> ThreadsExecutor:
        return ThreadsExecutor(3, in_flight=1)


# --- streams ---------------------------------------------------------------------------------------------------------


class TestStreams(StreamSuite):
    """Every stream that needs no broker; those that do run the suite beside their servers."""

    @pytest.fixture(
        autouse=True, params=["file of batches", "file of lines", "folder", "function", "pipe", "replayed pipe"]
    )
    def kind(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(23, 2))
        table = pa.table({"a": x[:, 0], "b": x[:, 1]})
        arrow, lines, folder = tmp_path / "x.arrows", tmp_path / "x.jsonl", tmp_path / "x"
        with pa.ipc.new_stream(arrow, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        lines.write_text("".join(f"{list(row)}\n" for row in x.tolist()))
        folder.mkdir()
        for i in range(3):
            pq.write_table(table.slice(8 * i, 8), folder / f"{i}.parquet", row_group_size=3)
        makers: dict[str, tuple[Any, int]] = {
            "file of batches": (lambda: ByteStream(arrow), 12),
            "file of lines": (lambda: ByteStream(lines), 23),
            "folder": (lambda: FolderStream(folder, follow=False), 9),
            "function": (lambda: IteratorStream(lambda: iter(x)), 23),
            "pipe": (lambda: ByteStream(io.BytesIO(arrow.read_bytes())), 12),
            "replayed pipe": (lambda: ByteStream(io.BytesIO(arrow.read_bytes()), replayed=True), 12),
        }
        self.maker, self.expected = makers[request.param]

    def make_stream(self) -> Any:
        return self.maker()


class ForgetfulStream(IteratorStream):
    """Goes on one message too late."""

    def messages(self, positions: Any) -> Any:
        return super().messages({key: value + 1 for key, value in positions.items()})


class TestForgetfulStream(StreamSuite):
    """The suite itself can fail."""

    expected = 9

    def make_stream(self) -> Any:
        return ForgetfulStream(list(range(9)))

    @pytest.fixture(autouse=True)
    def broken(self, request: pytest.FixtureRequest) -> None:
        if request.function.__name__ in ("test_going_on_gives_what_followed", "test_a_message_can_be_had_again"):
            request.applymarker(pytest.mark.xfail(strict=True, raises=AssertionError))


def test_a_family_is_checked_in_one_call() -> None:
    """It passes a good one, and names the law that a bad one breaks."""
    x, params = np.random.default_rng(0).exponential(size=(300, 1)), Params(rates=[[0.5], [2.0]])

    class Exponential:
        def log_prob(self, p: Params, x: Any) -> Any:
            return np.log(p.rates).sum(axis=1) - x @ p.rates.T

        def stats(self, p: Params, x: Any, resp: Any) -> Stats:
            return Stats(weight=resp.sum(axis=0), x=resp.T @ x)

        def maximize(self, s: Stats, previous: Params) -> Params:
            return Params(rates=s.weight[:, None] / s.x)

    class Squared(Exponential):
        def stats(self, p: Params, x: Any, resp: Any) -> Stats:
            return Stats(weight=resp.sum(axis=0), x=(resp**2).T @ x)

    class Doubled(Exponential):
        def maximize(self, s: Stats, previous: Params) -> Params:
            return Params(rates=2 * s.weight[:, None] / s.x)

    def nearby(p: Params, rng: np.random.Generator, scale: float) -> Params:
        return Params(rates=p.rates * np.exp(scale * rng.normal(size=p.rates.shape)))

    points = (np.arange(400_000) + 0.5) / 10_000
    grid = Quadrature(points[:, None], np.full(len(points), 1e-4), 1e-4)
    laws = check_family(Exponential(), params, x, perturbed=nearby, quadrature=grid)
    assert "the maximum beats perturbations" in laws
    assert "log prob is a normalized density" in laws
    with pytest.raises(AssertionError, match="weight 2|linearity"):
        check_family(Squared(), params, x)
    with pytest.raises(AssertionError, match="maximize loses"):
        check_family(Doubled(), params, x)
    with pytest.raises(AssertionError, match="expected log-likelihood|maximize loses"):
        check_family(Doubled(), params, x, perturbed=nearby)


class Careless(Poisson):
    """Finds no faults, and misses more than rounding."""

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        return []

    def shortfall(self, old: Params, new: Params, stats: Stats) -> float:
        return 1.0


class Turned(Gaussian):
    """Judges far rows the wrong way round."""

    def far_log_prob(self, params: Params, x: Array) -> Array:
        return super().far_log_prob(params, x)[:, ::-1]


PLANTED = [
    (Careless(), TestPoisson, "test_parameters_of_an_m_step_have_no_faults"),
    (Careless(), TestPoisson, "test_the_shortfall_is_a_rounding_error"),
    (Turned("diag"), TestGaussian, "test_far_judgement_is_that_of_near_rows"),
]


@pytest.mark.parametrize(("family", "suite", "law"), PLANTED, ids=[law for _, _, law in PLANTED])
def test_laws_of_abilities_can_fail(family: Any, suite: Any, law: str) -> None:
    laws = suite()
    laws.family, laws.make_family = family, lambda: family
    with pytest.raises(AssertionError):
        getattr(laws, law)()
