"""Arrow from outside is believed in nothing before it was looked at: neither counts, nor lengths, nor offsets."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from helpers import hostile_arrow as hostile
from helpers import subprocess_jobs
from streamem import GaussianMixture, open_source
from streamem.core.arrow_claims import DECODED_BYTES
from streamem.core.errors import MemoryLimitError, SchemaError, SourceError, StreamError
from streamem.core.message import KEPT_BYTES, Damaged
from streamem.online import prefetch
from streamem.online.append_only_arrow import read_appended
from streamem.online.records import Decoder
from streamem.streams.byte_stream import ByteStream

X = hostile.X
TRUE = np.concatenate([X[:500], X[1000:]])


def table(x: Any = X, **more: Any) -> pa.Table:
    return pa.table({"a": x[:, 0], "b": x[:, 1], **more})


def messages(data: bytes) -> list[Any]:
    return [message.payload for message in ByteStream(io.BytesIO(data)).messages({})]


# --- lies ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Read in a process of its own, that may die."""
    return subprocess_jobs.run("read_lies", folder=str(tmp_path_factory.mktemp("lies")))


@pytest.mark.parametrize("name", hostile.LIES)
def test_a_record_batch_that_lies_is_a_dead_letter_or_an_error(name: str, outcomes: Any) -> None:
    data = hostile.lie(name)
    rows, bad = outcomes[name]["message"]
    assert rows == []
    assert [bytes.fromhex(kept) for _, kept in bad] == [data]
    rows, bad = outcomes[name]["stream"]
    if hostile.LIES[name][0] in ("plain", "text", "lists", "vectors"):
        np.testing.assert_array_equal(rows, TRUE)
    else:
        assert len(rows) <= 1500
    batch = [one for one in hostile.batches(bytearray(data)) if one.kind == 3]
    (own,) = [bytes.fromhex(kept) for reason, kept in bad if "damaged Arrow record batch at byte" in reason]
    assert own == data[batch[1].header : batch[2].header]
    if hostile.LIES[name][0] == "lists":  # a column that is not read
        assert outcomes[name]["file"] == "no error"
    else:
        assert outcomes[name]["file"].startswith("SourceError: cannot read record batch 1 of Arrow file")
        assert "x.arrow" in outcomes[name]["file"]


def test_4000_rows_where_2000_are(tmp_path: Path) -> None:
    """The numbers of the issue: a stream of 2,000 rows in one batch that claims 4,000, and 50 million."""
    for claimed in (4000, 50_000_000):
        data = bytearray(hostile.stream_of(table()))
        for batch in hostile.batches(data):
            batch.set_rows(claimed)
        good = [hostile.stream_of(table(), 500), bytes(data), hostile.stream_of(table())]
        for stream in (iter(good), io.BytesIO(b"".join(good))):
            letters = tmp_path / f"{claimed}-{type(stream).__name__}.arrows"
            gm = GaussianMixture(2, random_state=0).fit_stream(stream, dead_letter=letters)
            assert gm.report_.n_rows == 4000
            (letter,) = read_appended(letters).to_pylist()
            assert "too small in array of type double" in letter["reason"]
            assert letter["payload"] in bytes(data)
            assert len(letter["payload"]) > 32_000


def test_dead_letters_are_the_messages_own_bytes() -> None:
    text = b'[[1, 2.50], [1,  null], {"a": 3}]'
    bad = Decoder(None, None, 2).decode(text).unusable
    assert [one.data for one in bad] == [text]  # of a list of numbers, an object is none
    bad = Decoder(["a"], None, None).decode(b'[{"a": 1}, {"a":  "x", "a": 1E999 },\n {"a" :null}]').unusable
    assert [(one.record, one.data) for one in bad] == [(1, b'{"a":  "x", "a": 1E999 }'), (2, b'{"a" :null}')]
    wide = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(np.full(2**19, np.nan)), 2**18)})
    data = hostile.stream_of(wide)
    for one in Decoder(None, None, None).decode(data).unusable:
        assert one.data == data[:KEPT_BYTES]
    assert Decoder(None, None, None).decode(wide).unusable[1].data == b""


def test_tables_and_readers_of_ones_own_are_looked_at_too() -> None:
    data = hostile.lie("twice the rows")
    lying = pa.ipc.open_stream(data).read_all()
    frame = lying.to_pandas(types_mapper=pd.ArrowDtype)
    for source in (lying, frame, lambda: pa.ipc.open_stream(data)):
        with pytest.raises(SourceError, match="(damaged|failed).*too small in array of type double"):
            [ref.load() for ref in open_source(source).chunks()]
    with pytest.raises(SourceError, match="record batch"):
        GaussianMixture(1).fit(lambda: pa.ipc.open_stream(hostile.lie("code beyond the dictionary")))
    records = Decoder(None, None, None).decode(lying)
    assert (len(records.x), records.count) == (0, 1)


def test_feather_files_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.feather"
    feather.write_feather(table(), path, compression="zstd", chunksize=500)
    data = bytearray(path.read_bytes())
    batch = [one for one in hostile.batches(data, 8) if one.kind == 3][2]
    batch.set_rows(700)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"record batch 2 of Arrow file .*x\.feather"):
        GaussianMixture(1).fit(path)


def test_a_dictionary_that_lies() -> None:
    coded = pa.table({"a": pa.array(X[:, 0].round()).dictionary_encode(), "b": X[:, 1]})
    data = bytearray(hostile.stream_of(coded, 500))
    next(one for one in hostile.batches(data) if one.kind == 2).set_rows(10**6)
    found = messages(bytes(data))
    assert found
    assert all(isinstance(one, Damaged) for one in found)
    assert len(Decoder(None, None, None).decode(bytes(data)).x) == 0


def test_dead_letters_that_wait_are_counted_with_their_bytes() -> None:
    assert prefetch._nbytes(Damaged("why", bytes(1000))) == 1000
    sliced = hostile.X.astype("f4")
    assert prefetch._nbytes(table(sliced).slice(1000)) >= 4000


def test_lengths_of_messages_that_lie() -> None:
    data = bytearray(hostile.stream_of(table(), 500))
    batch = list(hostile.batches(data))[1]
    message = batch.header + 8 + struct.unpack_from("<I", data, batch.header + 8)[0]
    struct.pack_into("<q", data, hostile.field_of(data, message, 3), 2**50)
    with pytest.raises(StreamError, match="broke off after 500 rows"):
        messages(bytes(data))


def test_columns_that_nobody_reads_may_hold_any_text() -> None:
    odd = pa.StringArray.from_buffers(2000, pa.py_buffer(np.arange(2001, dtype="i4")), pa.py_buffer(b"\xff" * 2000))
    (records,) = [Decoder(["a", "b"], None, None).decode(one) for one in messages(hostile.stream_of(table(s=odd)))]
    np.testing.assert_array_equal(records.x, X)
    np.testing.assert_array_equal(Decoder(["a", "b"], None, None).decode(hostile.stream_of(table(s=odd))).x, X)
    holes = X.copy()
    holes[7] = np.nan
    (bad,) = Decoder(["a", "b"], None, None).decode(hostile.stream_of(table(holes, s=odd))).unusable
    assert bad.record == 7


# --- claims that cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_a_schema_alone_makes_no_features(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    empty = pa.table({"e": pa.array([], pa.list_(pa.float64(), 2**22))})
    if suffix == "arrow":
        path.write_bytes(hostile.file_of(empty))
    else:
        pq.write_table(empty, path)
    with pytest.raises(SchemaError, match=r"claims 4194304 features in lists \(column 'e' holds float64\[4194304\]\)"):
        open_source(path)
    with pytest.raises(SchemaError, match="claims 4194304"):
        open_source(lambda: empty.to_reader())


def test_lists_as_wide_as_their_data_are_read() -> None:
    wide = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2**20 + 1, "f4")), 2**20 + 1)})
    assert open_source(wide).schema.n_features == 2**20 + 1


def test_rows_without_bytes() -> None:
    hollow = pa.RecordBatch.from_struct_array(pa.array([{}] * 5, pa.struct([])))
    data = bytearray(hostile.stream_of(pa.Table.from_batches([hollow])))
    for batch in hostile.batches(data):
        batch.put(batch.field(hostile.LENGTH), 2**62)
    (found,) = messages(bytes(data))
    assert "4611686018427387904 rows without a column" in found.reason
    few = pa.array([[1.0] * 2**12], pa.list_(pa.float64(), 2**12))
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**16, np.int8)), few)
    (bad,) = Decoder(None, None, None).decode(pa.table({"e": codes})).unusable
    assert "need 2147483648 bytes" in bad.reason


def test_messages_that_decompress_to_far_more() -> None:
    zeros = pa.table({"a": np.zeros(DECODED_BYTES // 8 + 1)})
    data = hostile.stream_of(zeros, compression="zstd")
    assert len(data) < 2**18
    (found,) = messages(data)
    assert "claim to hold 26843" in found.reason
    assert "claim to hold 26843" in Decoder(None, None, None).decode(data).unusable[0].reason
    modest = hostile.stream_of(pa.table({"a": np.zeros(2**20)}), compression="zstd")
    assert [one.num_rows for one in messages(modest)] == [2**20]
    assert len(Decoder(None, None, None).decode(modest).x) == 2**20


def test_files_that_unpack_to_far_more_are_not_unpacked_for_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamem.sources.arrow_footer.MUCH_BYTES", 2**20)
    path, zeros = tmp_path / "x.arrow", np.zeros(2**18)
    path.write_bytes(hostile.file_of(pa.table({"a": zeros, "b": zeros}), compression="zstd"))
    with monkeypatch.context() as patch:
        patch.setattr("streamem.sources.arrow_file._sound", None)
        assert open_source(path).n_rows == 2**18
    with pytest.raises(MemoryLimitError, match="projected"):
        GaussianMixture(1, memory_limit="2MiB").fit(path)
    assert sum(ref.load().rows for ref in open_source(path).chunks()) == 2**18
    data = bytearray(path.read_bytes())
    (batch,) = [one for one in hostile.batches(data, 8) if one.kind == 3]
    batch.set_rows(2**19)  # which zstd could have packed
    path.write_bytes(data)
    with pytest.raises(SourceError, match="cannot read record batch 0"):
        [ref.load() for ref in open_source(path).chunks()]
    batch.set_rows(2**50)
    path.write_bytes(data)
    with pytest.raises(SourceError, match="cannot read record batch 0"):
        open_source(path)


def test_tables_of_many_fields() -> None:
    many = pa.table({f"c{i}": [0.5] for i in range(5000)})
    assert Decoder(None, None, None).decode(hostile.stream_of(many)).x.shape == (1, 5000)


# --- streams that follow each other ----------------------------------------------------------------------------------


def two(kind: str = "streams") -> bytes:
    first = hostile.file_of if kind == "files" else hostile.stream_of
    second = hostile.stream_of if kind == "streams" else hostile.file_of
    return first(table(X[:1000]), 150) + second(table(X[1000:]), 170)


def bits(gm: GaussianMixture) -> tuple[bytes, ...]:
    return gm.weights_.tobytes(), gm.means_.tobytes(), gm.covariances_.tobytes()


def learned(stream: Any, **settings: Any) -> GaussianMixture:
    return GaussianMixture(2, random_state=0).fit_stream(stream, batch_rows=130, **settings)


@pytest.fixture(scope="module")
def whole() -> tuple[bytes, ...]:
    return bits(learned([X]))


@pytest.mark.parametrize("kind", ["streams", "files", "stream and file"])
@pytest.mark.parametrize("way", ["file", "pipe", "object", "message"])
def test_all_streams_are_read(kind: str, way: str, tmp_path: Path, whole: Any) -> None:
    path = tmp_path / "x.arrows"
    path.write_bytes(two(kind))
    if way == "pipe":
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            gm = learned(cat.stdout)
    else:
        gm = learned({"file": path, "object": io.BytesIO(two(kind)), "message": [two(kind)]}[way])
    assert gm.report_.n_rows == 2000
    assert bits(gm) == whole


@pytest.mark.slow
def test_cat_at_a_terminal(tmp_path: Path) -> None:
    for name, rows in (("a", X[:1000]), ("b", X[1000:])):
        (tmp_path / f"{name}.arrows").write_bytes(hostile.stream_of(table(rows)))
    streamem = f"{sys.executable} -m streamem"
    done = subprocess.run(
        f"cat a.arrows b.arrows | {streamem} update m.npz - --columns a,b -k 2 --seed 0",
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2,000 rows learned" in done.stdout


@pytest.mark.parametrize("until", [390, 1040, 1430])
@pytest.mark.parametrize("kind", ["streams", "files"])
def test_going_on_in_any_of_them(kind: str, until: int, tmp_path: Path, whole: Any) -> None:
    path, checkpoint = tmp_path / "x.arrows", tmp_path / "m.npz"
    path.write_bytes(two(kind))
    assert learned(path, checkpoint=checkpoint, until=until).report_.n_rows == until
    gm = learned(path, checkpoint=checkpoint)
    assert gm.report_.n_rows == 2000
    assert bits(gm) == whole


def test_a_producer_appends_another_stream(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "x.arrows", tmp_path / "m.npz"
    for n in (1, 2, 3):
        with path.open("ab") as file:
            file.write(hostile.stream_of(table()))
        assert learned(path, checkpoint=checkpoint).report_.n_rows == 2000 * n


def test_a_lie_keeps_its_place_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "x.arrows"
    path.write_bytes(hostile.stream_of(table(X[:1000]), 150) + hostile.lie("twice the rows"))
    settings: dict[str, Any] = {"checkpoint": tmp_path / "m.npz", "dead_letter": tmp_path / "bad.arrows"}
    for until in (1430, 260, 4000):
        gm = learned(path, until=until, **settings)
    assert gm.report_.n_rows == 2500
    assert read_appended(tmp_path / "bad.arrows")["position"].to_pylist() == ["1500"]
    assert bits(gm) == bits(learned([X[:1000], TRUE]))


@pytest.mark.parametrize("behind", [b"x", b"{}\n", b"\0" * 64, b"PAR1", b"\x83\x8d\xfe\n"])
def test_what_lies_behind_the_end_is_no_secret(behind: bytes, tmp_path: Path) -> None:
    data = hostile.stream_of(table())
    gm = GaussianMixture(2, random_state=0)
    with pytest.raises(StreamError, match=f"after 2000 rows: behind the end of an Arrow stream, at byte {len(data)},"):
        gm.fit_stream(io.BytesIO(data + behind))
    assert gm.report_.n_rows == 2000
    (bad,) = Decoder(None, None, None).decode(data + behind).unusable
    assert f"at byte {len(data)}" in bad.reason


def test_streams_of_other_columns(tmp_path: Path) -> None:
    data = hostile.stream_of(table())
    for other, told in (
        (pa.table({"a": X[:, 0], "c": X[:, 1]}), r"\['c'\] more and \['b'\] less"),
        (pa.table({"a": X[:, 0], "b": X[:, 1].astype("f4")}), "'b' is float"),
    ):
        with pytest.raises(StreamError, match=f"byte {len(data)} has other columns than the first one: .*{told}"):
            messages(data + hostile.stream_of(other))
        assert (
            "has other columns" in Decoder(None, None, None).decode(data + hostile.stream_of(other)).unusable[0].reason
        )
    same = table().replace_schema_metadata({"written": "later"})
    assert sum(one.num_rows for one in messages(data + hostile.stream_of(same))) == 4000
    assert len(Decoder(None, None, None).decode(data + hostile.stream_of(same)).x) == 4000


@pytest.mark.parametrize("cut", [1, 5, 9, 300, -10])
def test_a_second_stream_that_breaks_off(cut: int) -> None:
    first, second = hostile.stream_of(table(X[:1000])), hostile.stream_of(table(X[1000:]), 100)
    with pytest.raises(StreamError, match="broke off after"):
        messages(first + second[:cut])


def test_files_one_behind_the_other_as_a_source(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    for rows in (0, 2000):
        one = hostile.file_of(table(X[:rows]), 500)
        path.write_bytes(one)
        assert open_source(path).n_rows == rows
        path.write_bytes(one + one)
        with pytest.raises(SourceError, match="several files were appended to each other. fit_stream reads all"):
            open_source(path)
    path.write_bytes(hostile.stream_of(table()))
    with pytest.raises(SourceError, match="holds an Arrow stream, not an Arrow file"):
        open_source(path)
