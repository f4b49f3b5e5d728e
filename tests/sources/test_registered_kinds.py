"""A format from outside the package: registered in one call, it is read wherever data is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.slab_format import SlabKind, write_slab
from streamem import GaussianHMM, GaussianMixture, ReadOptions, open_sequences, open_source
from streamem.conformance import SourceSuite
from streamem.core.errors import ParameterError, SourceError
from streamem.core.ports import Source
from streamem.sources import register, unregister

if TYPE_CHECKING:
    from distributed import Client

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ROWS = 600
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 2)) + 5.0 * RNG.integers(2, size=(ROWS, 1))
WEIGHTS = np.repeat(RNG.uniform(0.5, 2.0, 3), 200)
RUNS = np.repeat([7.0, 3.0, 5.0], 200)
CHUNKS = ReadOptions(chunk_bytes=1600)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(SlabKind())
    yield
    unregister("slab")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write_slab(tmp_path / "x.slab", a=X[:, 0], b=X[:, 1], w=WEIGHTS, run=RUNS)


def mixture(**settings: Any) -> GaussianMixture:
    return GaussianMixture(2, random_state=0, max_iter=5, chunk_bytes=1600, **settings)


def test_a_fit_is_that_of_the_array(path: str) -> None:
    theirs, ours = mixture().fit(path, columns=["a", "b"]), mixture().fit(X)
    np.testing.assert_array_equal(theirs.means_, ours.means_)
    np.testing.assert_array_equal(theirs.predict(path, columns=["a", "b"]), ours.predict(X))


def test_weights_are_a_column_or_an_array(path: str) -> None:
    options = ReadOptions(columns=("a", "b"), chunk_bytes=1600)
    for weight in ("w", WEIGHTS):
        source = open_source(path, weight=weight, options=options)
        assert source.schema.weighted
        np.testing.assert_array_equal(np.concatenate([ref.load().weight for ref in source.chunks()]), WEIGHTS)
    ours = mixture().fit(X, sample_weight=WEIGHTS)
    theirs = mixture().fit(path, columns=["a", "b"], sample_weight="w")
    np.testing.assert_allclose(theirs.means_, ours.means_, rtol=1e-12)


def test_workers_of_a_cluster_read_it(path: str, client: Client) -> None:
    here = mixture().fit(path, columns=["a", "b"], sample_weight="w", executor="threads")
    there = mixture().fit(path, columns=["a", "b"], sample_weight="w", executor=client)
    np.testing.assert_array_equal(here.means_, there.means_)


def test_sequences_are_told_apart_by_a_column(path: str) -> None:
    source = open_sequences(path, sequence_column="run", weight="w", options=CHUNKS)
    np.testing.assert_array_equal(source.offsets, [0, 200, 400, 600])
    assert source.schema.names == ("a", "b")
    theirs = GaussianHMM(2, random_state=0, n_iter=3).fit(path, sequence_column="run", columns=["a", "b"])
    ours = GaussianHMM(2, random_state=0, n_iter=3).fit(X, lengths=[200] * 3)
    np.testing.assert_allclose(theirs.means_, ours.means_, rtol=1e-12)


def test_a_missing_file_is_named_and_a_name_registered_twice_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        open_source(tmp_path / "absent.slab")
    register(SlabKind())
    unregister("slab")
    with pytest.raises(SourceError, match="of no known format"):
        open_source(write_slab(tmp_path / "y.slab", a=X[:, 0]))


def test_what_is_no_kind_is_refused() -> None:
    with pytest.raises(ParameterError, match="no SourceKind"):
        register(SlabKind)  # type: ignore[arg-type]


class TestSlab(SourceSuite):
    """The laws of a source, of one that inherits from nothing."""

    @pytest.fixture(autouse=True)
    def _write(self, tmp_path: Path) -> None:
        self.path = write_slab(tmp_path / "x.slab", a=X[:, 0], b=X[:, 1], w=WEIGHTS)

    def make_source(self, chunk_bytes: int) -> Source:
        return open_source(self.path, weight="w", options=ReadOptions(chunk_bytes=chunk_bytes))

    def expected_rows(self) -> Any:
        return X

    def expected_weights(self) -> Any:
        return WEIGHTS

    def expected_names(self) -> tuple[str, ...]:
        return ("a", "b")
