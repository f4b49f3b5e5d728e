"""fit_stream: what is wrong with a record is a dead letter; what a library, a store or the machine does is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamem import GaussianMixture
from streamem.core.errors import NumericalError, PoisonError, SourceError
from streamem.core.message import Damaged
from streamem.online import follow, learner, records
from streamem.online.append_only_arrow import read_appended
from streamem.online.records import Decoder
from streamem.streams.folder import FolderStream

NAMES = ["a", "b"]


def rows(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n, 2)) + [[0.0], [5.0]][seed % 2]


def table(x: Any, names: list[str] = NAMES) -> pa.Table:
    return pa.table(dict(zip(names, x.T, strict=True)))


def model() -> GaussianMixture:
    return GaussianMixture(2, random_state=0)


def write_folder(folder: Path, files: int, names: list[str] = NAMES) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(files):
        pq.write_table(table(rows(1000, i), names), folder / f"{names[-1]}{i}.parquet")
    return folder


class FailsOnce:
    """A function that fails at its n-th call with some error."""

    def __init__(self, call: Any, error: BaseException, n: int) -> None:
        self._call, self._error, self._left = call, error, n

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return self._call(*arguments, **named)


ERRORS = [
    AttributeError("module 'numba' has no attribute 'core'"),
    ImportError("cannot import name"),
    NameError("no name"),
    RuntimeError("no threads"),
    KeyError("numba"),
    TypeError("'NoneType' object is not callable"),
    OSError("the disk is gone"),
    MemoryError(),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_library_that_fails_is_an_error_and_loses_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "in", 4)
    whole = model().fit_stream(FolderStream(folder, follow=False), batch_rows=300)
    files = {"checkpoint": tmp_path / "live.npz", "dead_letter": tmp_path / "bad.arrows"}
    gm = model()
    with monkeypatch.context() as patch:
        import streamem.online.records

        patch.setattr(streamem.online.records, "gather", FailsOnce(streamem.online.records.gather, error, 3))
        with pytest.raises(type(error)) as failure:
            gm.fit_stream(FolderStream(folder, follow=False), batch_rows=300, **files)
    if isinstance(error, Exception):
        assert "no record of folder:" in failure.value.__notes__[0]
    gm.fit_stream(FolderStream(folder, follow=False), batch_rows=300, **files)
    assert read_appended(files["dead_letter"]).num_rows == 0
    assert gm.report_.n_rows == 4000
    assert gm.means_.tobytes() == whole.means_.tobytes()


@pytest.mark.parametrize("place", ["open_source", "_take"])
def test_nothing_of_an_iterator_is_lost(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = [rows(170, i) for i in range(20)]
    whole = model().fit_stream(iter(x), batch_rows=300)
    gm, items = model(), iter(x)
    with monkeypatch.context() as patch:
        module, name, n = (follow, "_take", 4) if place == "_take" else (records, "open_source", 7)
        patch.setattr(module, name, FailsOnce(getattr(module, name), AttributeError("half imported"), n))
        with pytest.raises(AttributeError, match="half imported"):
            gm.fit_stream(items, batch_rows=300, dead_letter=tmp_path / "bad.arrows")
    gm.fit_stream(items, batch_rows=300, dead_letter=tmp_path / "bad.arrows")
    assert read_appended(tmp_path / "bad.arrows").num_rows == 0
    assert gm.report_.n_rows == 3400
    assert gm.means_.tobytes() == whole.means_.tobytes()


BAD: list[tuple[Any, int]] = [
    (b"{", 1),
    (b"\xff\xfe", 1),
    (b"\xff\xff\xff\xff nothing", 1),
    (b"17", 1),
    (b"[" * 100_000, 1),
    (b'{"a": "x", "b": 1}', 1),
    (b'[{"a": 1}, {"a": 2}, {"b": 1}]', 3),
    (b"[1, 2, 3]", 1),
    ([[1.0, 2.0], [3.0]], 2),
    ([1.0, 10**400], 1),
    ({"a": 10**400, "b": 1}, 1),
    (np.ones((7, 3)), 7),
    (np.ones(3), 1),
    (np.array("x"), 1),
    (np.array([["x", "y"]] * 3), 3),
    (np.array([[object(), 1]] * 3), 3),
    (table(np.ones((9, 2)), ["a", "c"]), 9),
    (table(np.ones((9, 2))).to_batches()[0].select(["b"]), 9),
    (pa.table({"a": [[1.0, 2.0]] * 5, "b": [1.0] * 5}), 5),
    (object(), 1),
    (3.5, 1),
    (Damaged("torn"), 1),
    (Damaged("torn", b"x", 12), 12),
]


@pytest.mark.parametrize(
    ("payload", "records"), BAD, ids=[f"{type(bad).__name__}-{i}" for i, (bad, _) in enumerate(BAD)]
)
def test_what_is_wrong_with_a_record_is_refused_and_counts(payload: Any, records: int) -> None:
    found = Decoder(NAMES, None, 2).decode(payload)
    assert len(found.x) == 0
    assert found.count == records == sum(bad.records for bad in found.unusable)
    if isinstance(payload, bytes):
        assert b"".join(bad.data for bad in found.unusable)


def test_a_store_that_fails_is_no_dead_letter(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        model().fit_stream([rows(500), tmp_path / "gone.npy"], dead_letter=tmp_path / "bad.arrows")


def test_files_without_the_columns_count_by_their_rows(tmp_path: Path) -> None:
    folder = write_folder(write_folder(tmp_path / "in", 3), 1, ["a", "z"])
    files = {"dead_letter": tmp_path / "bad.arrows"}
    with pytest.raises(PoisonError, match=r"1000 of the latest \d000 records cannot be used.*column 'b'"):
        model().fit_stream(FolderStream(folder, follow=False), columns=NAMES, **files)
    (letter,) = read_appended(files["dead_letter"]).to_pylist()
    assert "all 1000 records of the message" in letter["reason"]


def test_a_torn_file_counts_by_the_rows_of_its_footer(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", 1)
    torn = folder / "torn.parquet"
    pq.write_table(table(rows(2000)), torn, row_group_size=500)
    with open(torn, "rb+") as file:
        file.seek(4)
        file.write(b"\x55" * 4000)
    with pytest.raises(PoisonError, match=r"2000 of the latest \d000 records.*torn.parquet cannot be read"):
        model().fit_stream(FolderStream(folder, follow=False, patience_s=0.0), dead_letter=tmp_path / "bad.arrows")


def test_rows_that_halving_finds_count_in_the_rate_of_all_mini_batches(tmp_path: Path) -> None:
    def items() -> Iterator[Any]:
        for i in range(200):
            x = rows(20, i)
            x[0, 0] = 1e200 if i > 30 else 0.0
            yield x

    with pytest.raises(PoisonError, match="that the model cannot take"):
        model().fit_stream(items(), batch_rows=20, dead_letter=tmp_path / "bad.arrows")
    assert 5 <= read_appended(tmp_path / "bad.arrows").num_rows <= 11


def test_halving_takes_no_failure_of_a_library_for_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamem.models.mixture import Mixture

    gm = model().fit_stream(iter([rows(500)]))
    x = rows(100, 2)
    x[3, 0] = 1e300
    e_step = Mixture.e_step
    calls: list[int] = []

    def failing(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise AttributeError("module 'numba' has no attribute 'core'")
        return e_step(self, *arguments)

    bits = gm.means_.tobytes()
    items = iter([x, rows(100, 3)])
    with monkeypatch.context() as patch:
        patch.setattr(Mixture, "e_step", failing)
        with pytest.raises(AttributeError, match="numba"):
            gm.fit_stream(items, batch_rows=100, dead_letter=tmp_path / "bad.arrows")
    assert gm.means_.tobytes() == bits
    gm.fit_stream(items, batch_rows=100, dead_letter=tmp_path / "bad.arrows")
    (letter,) = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert json.loads(letter["payload"])[0] == 1e300
    assert gm.report_.n_rows == 699


def test_a_numerical_error_of_a_start_is_no_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gm = model()

    def failing(*_: Any) -> Any:
        raise NumericalError("the model itself")

    monkeypatch.setattr(learner, "_begin", failing)
    with pytest.raises(NumericalError, match="the model itself"):
        gm.fit_stream([rows(500)], dead_letter=tmp_path / "bad.arrows")
    assert read_appended(tmp_path / "bad.arrows").num_rows == 0
