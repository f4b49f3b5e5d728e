"""The laws of a source, on data that the library of each format wrote."""

from __future__ import annotations

import pytest
from numpy.typing import NDArray

from helpers.format_files import FORMATS, Case
from streamem.conformance import SourceSuite
from streamem.core.ports import Source
from streamem.sources.kinds import KINDS


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
