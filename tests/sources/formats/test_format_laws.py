"""The laws of a source, on data that the library of each format wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.format_files import FORMATS, NAMES, Case
from streamem import GaussianMixture
from streamem.conformance import SourceSuite
from streamem.core.ports import Source
from streamem.sources.kinds import KINDS

if TYPE_CHECKING:
    from distributed import Client

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def made() -> dict[str, Case | BaseException]:
    """Data by kind: written once."""
    return {}


@pytest.mark.parametrize("kind", FORMATS)
class TestFormats(SourceSuite):
    chunk_bytes = 2048

    @pytest.fixture(autouse=True)
    def _make(self, kind: str, made: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> None:
        if kind not in made:
            made[kind] = FORMATS[kind](tmp_path_factory.mktemp("format"))
        self.case = made[kind]
        self.piece_rows, self.picklable = self.case.piece_rows, self.case.picklable

    def make_source(self, chunk_bytes: int) -> Source:
        return self.case.open(chunk_bytes)

    def expected_rows(self) -> NDArray:
        return self.case.rows

    def expected_weights(self) -> NDArray | None:
        return self.case.weights

    def expected_names(self) -> tuple[str, ...] | None:
        return self.case.names


def test_every_format_has_a_case() -> None:
    """A line in the table of sources that names a module of the folder of formats needs data here."""
    kinds = {kind.name for kind in KINDS if ".formats." in getattr(kind, "_module", "")}
    assert kinds <= FORMATS.keys()


@pytest.mark.parametrize("kind", ["Delta Lake", "HDF5", "polars LazyFrame"])
def test_workers_of_a_cluster_read_what_threads_read(
    kind: str, made: dict[str, Case], client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One of each way in: files of a table, slabs, a query that flows."""
    if kind not in made:
        made[kind] = FORMATS[kind](tmp_path_factory.mktemp("format"))
    settings = {"random_state": 0, "max_iter": 2, "tol": 0.0, "chunk_bytes": 4096}
    given = {"columns": list(NAMES), "sample_weight": "w"}
    here, there = (
        GaussianMixture(2, **settings).fit(made[kind].data, **given, executor=executor)
        for executor in ("threads", client)
    )
    np.testing.assert_array_equal(here.means_, there.means_)
