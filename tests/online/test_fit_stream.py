"""fit_stream: the same model whatever the messages, once each record, through crashes, poison and idleness."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.fitted_states import state_of
from helpers.forked import exit_code
from helpers.users_family import Poisson
from streamem import GaussianMixture, Mixture
from streamem.algorithms import DriftAlarm
from streamem.core.errors import (
    CheckpointMismatchError,
    DataError,
    OutputError,
    ParameterError,
    PoisonError,
    StreamError,
    WriterConflictError,
)
from streamem.models import Mixture as MixtureModel
from streamem.online.append_only_arrow import read_appended
from streamem.streams import open_stream
from streamem.streams.byte_stream import ByteStream
from streamem.streams.folder import FolderStream
from streamem.streams.iterator import IteratorStream

NAMES = ["a", "b", "c"]
CENTRES = np.array([[0.0, 0.0, 0.0], [5.0, 1.0, 0.0], [2.0, 6.0, 1.0]])
N, BATCH = 3300, 250
ARRAYS = ("weights_", "means_", "covariances_")


def rows(n: int = N, seed: int = 0, shift: float = 0.0) -> Any:
    rng = np.random.default_rng(seed)
    return CENTRES[rng.choice(3, size=n, p=[0.5, 0.3, 0.2])] + rng.normal(size=(n, 3)) + shift


def mixture(**settings: Any) -> GaussianMixture:
    return GaussianMixture(3, **{"random_state": 0, **settings})


def table(x: Any, names: list[str] = NAMES) -> pa.Table:
    return pa.table(dict(zip(names, x.T, strict=True)))


def write_arrow(path: Path, x: Any, batch: int = 177) -> Path:
    with pa.ipc.new_stream(path, table(x).schema) as writer:
        writer.write_table(table(x), max_chunksize=batch)
    return path


def write_lines(path: Path, x: Any) -> Path:
    path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in x.tolist()))
    return path


def write_folder(path: Path, x: Any, files: int = 4) -> Path:
    path.mkdir()
    for i, part in enumerate(np.array_split(x, files)):
        pq.write_table(table(part), path / f"{i}.parquet", row_group_size=190)
        os.utime(path / f"{i}.parquet", ns=(i, i))
    return path


def bits(model: Any) -> tuple[Any, ...]:
    return (*(getattr(model, name).tobytes() for name in ARRAYS), model.n_iter_, model.effective_sample_size_)


@pytest.fixture(scope="module")
def expected() -> tuple[Any, ...]:
    """The bits of partial_fit, mini-batch by mini-batch."""
    gm, x = mixture(), rows()
    for start in range(0, N, BATCH):
        gm.partial_fit(x[start : start + BATCH], half_life=2000)
    return bits(gm)


def learned(stream: Any, **settings: Any) -> GaussianMixture:
    return mixture().fit_stream(stream, batch_rows=BATCH, half_life=2000, **settings)


# --- every stream gives the bits of partial_fit ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 177, BATCH, 5000])
def test_messages_of_any_size(size: int, expected: Any) -> None:
    x = rows()
    parts = [x[start : start + size] for start in range(0, N, size)]
    assert bits(learned(parts)) == expected
    assert bits(learned(table(part).to_pandas() for part in parts[:500])) != expected or size > 1


@pytest.mark.parametrize("kind", ["arrow", "arrow file", "lines", "folder", "mappings", "bytes", "lists"])
def test_files_and_payloads(kind: str, tmp_path: Path, expected: Any) -> None:
    x = rows()
    if kind == "arrow":
        stream: Any = write_arrow(tmp_path / "x.arrows", x)
    elif kind == "arrow file":
        with pa.ipc.new_file(tmp_path / "x.arrow", table(x).schema) as writer:
            writer.write_table(table(x), max_chunksize=300)
        stream = tmp_path / "x.arrow"
    elif kind == "lines":
        stream = write_lines(tmp_path / "x.jsonl", x)
    elif kind == "folder":
        stream = FolderStream(write_folder(tmp_path / "x", x), follow=False)
    elif kind == "mappings":
        stream = (dict(zip(NAMES, row, strict=True)) for row in x.tolist())
    elif kind == "bytes":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table(x).schema) as writer:
            writer.write_table(table(x))
        stream = [sink.getvalue().to_pybytes(), b"\n"]
    else:
        stream = [part.tolist() for part in np.array_split(x, 9)]
    gm = learned(stream)
    assert bits(gm) == expected
    assert kind == "lists" or gm.feature_names_in_.tolist() == NAMES


def test_a_pipe_from_another_process(tmp_path: Path, expected: Any) -> None:
    path = write_arrow(tmp_path / "x.arrows", rows())
    code = f"import sys; sys.stdout.buffer.write(open({str(path)!r}, 'rb').read())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as producer:
        assert producer.stdout is not None
        assert bits(learned(producer.stdout)) == expected
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, "-c", f"open({str(fifo)!r}, 'wb').write(open({str(path)!r}, 'rb').read())"]):
        assert bits(learned(fifo)) == expected


def test_a_socket(tmp_path: Path, expected: Any) -> None:
    content = write_lines(tmp_path / "x.jsonl", rows()).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        assert bits(learned(f"tcp://127.0.0.1:{server.getsockname()[1]}")) == expected
        thread.join()


def test_a_folder_that_grows(tmp_path: Path, expected: Any) -> None:
    folder, x = tmp_path / "x", rows()
    folder.mkdir()
    parts = np.array_split(x, 5)

    def put(update: Any) -> None:
        if remaining:
            number = 5 - len(remaining)
            (folder / "half").mkdir(exist_ok=True)
            hidden = folder / f".{number}.parquet"
            pq.write_table(table(remaining.pop(0)), hidden)
            hidden.rename(folder / "half" / f"{9 - number}.parquet")  # names do not say the order

    remaining = list(parts)
    put(None)
    (folder / "_ignored.parquet").write_bytes(b"no parquet")
    gm = mixture().on_update(put)
    gm.fit_stream(folder, batch_rows=BATCH, half_life=2000, until=N // BATCH * BATCH)
    assert gm.report_.n_rows == N // BATCH * BATCH
    rest = mixture()
    for start in range(0, N // BATCH * BATCH, BATCH):
        rest.partial_fit(x[start : start + BATCH], half_life=2000)
    assert bits(gm) == bits(rest)


def test_a_family_of_ones_own_and_weights() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.where(rng.random((20_000, 1)) < 0.3, 2.0, 9.0)).astype(float)
    records = [{"w": 2.0, "n": float(n)} for n in counts[:, 0]]
    model = Mixture(Poisson(), 2, random_state=0).fit_stream(records, sample_weight="w", batch_rows=200)
    assert state_of(model).weight == pytest.approx(40_000)
    np.testing.assert_allclose(np.sort(model.params_.rates[:, 0]), [2.0, 9.0], rtol=0.1)


def test_a_large_mini_batch_is_shared_among_threads() -> None:
    x = rows(4000)
    one, two = (mixture(n_threads=n, chunk_bytes=24 * 200).fit_stream([x], batch_rows=2000) for n in (1, 2))
    assert bits(one) == bits(two)


# --- going on --------------------------------------------------------------------------------------------------------


def die_at(point: str, count: int, kind: str, folder: Path) -> None:
    """Learn until one of three functions is called for the n-th time."""
    left = [count]

    def dying(function: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return function(*arguments, **settings)

        return call

    home, name = {"e_step": (MixtureModel, "e_step"), "replace": (os, "replace"), "fsync": (os, "fsync")}[point]
    setattr(home, name, dying(getattr(home, name)))
    crashing(kind, folder)


def crashing(kind: str, folder: Path) -> GaussianMixture:
    """A stream with poison in it, saved after every mini-batch."""
    stream: Any = {
        "arrow": lambda: folder / "x.arrows",
        "lines": lambda: folder / "x.jsonl",
        "folder": lambda: FolderStream(folder / "x", follow=False),
    }[kind]()
    return learned(
        stream,
        checkpoint=folder / "live.npz",
        dead_letter=folder / "bad.arrows",
        history=folder / "history.arrows",
        save_every_s=0.0,
        on_drift="reset",
    )


def poisoned() -> Any:
    x = rows()
    x[[7, 700, 701, 3299], [0, 1, 2, 0]] = np.nan
    return x


def prepare(folder: Path) -> Path:
    folder.mkdir()
    write_arrow(folder / "x.arrows", poisoned())
    write_lines(folder / "x.jsonl", poisoned())
    write_folder(folder / "x", poisoned())
    return folder


@pytest.mark.parametrize(
    ("kind", "point"), [("arrow", "e_step"), ("lines", "replace"), ("folder", "fsync"), ("folder", "e_step")]
)
def test_killed_anywhere_it_goes_on_with_the_same_bits(kind: str, point: str, tmp_path: Path) -> None:
    undisturbed = crashing(kind, prepare(tmp_path / "undisturbed"))
    folder = prepare(tmp_path / "killed")
    codes = [exit_code(die_at, point, count, kind, folder) for count in (0, 5, 3, 8, 2)]
    assert set(codes) <= {0, 9}
    assert codes.count(9) >= 3
    resumed = crashing(kind, folder)
    assert bits(resumed) == bits(undisturbed)
    for name, columns in (("bad.arrows", 5), ("history.arrows", 8)):
        ours, theirs = (read_appended(where / name) for where in (folder, tmp_path / "undisturbed"))
        assert ours.num_columns == columns
        assert ours.to_pylist() == theirs.to_pylist()
    assert read_appended(folder / "bad.arrows").num_rows == 4
    again = crashing(kind, folder)
    assert bits(again) == bits(undisturbed)


def test_what_a_pipe_brings_is_new_unless_it_is_replayed(tmp_path: Path) -> None:
    path, checkpoint = write_arrow(tmp_path / "x.arrows", rows()), tmp_path / "live.npz"

    def once(replayed: bool) -> GaussianMixture:
        with path.open("rb") as file:
            return learned(ByteStream(file, replayed), checkpoint=checkpoint)

    assert once(True).report_.n_rows == N
    assert once(True).report_.n_rows == N
    assert once(False).report_.n_rows == 2 * N
    parts = np.array_split(rows(), 10)
    gm = mixture().fit_stream(lambda: iter(parts[:4]), checkpoint=tmp_path / "parts.npz")
    assert gm.fit_stream(lambda: iter(parts), checkpoint=tmp_path / "parts.npz").report_.n_rows == N
    assert gm.fit_stream(iter(parts)).report_.n_rows == 2 * N
    assert GaussianMixture.load(checkpoint).stream_positions_ == {"byte stream": {"": [2 * N, 0]}}
    assert not hasattr(gm.fit(rows()), "stream_positions_")


def test_rows_are_kept_until_a_start_is_possible(tmp_path: Path) -> None:
    x, checkpoint = rows(), tmp_path / "live.npz"
    gm = mixture()
    with pytest.raises(DataError, match="10 usable rows are kept"):
        gm.fit_stream([x[:10]], checkpoint=checkpoint, batch_rows=5)
    assert not checkpoint.exists()
    gm.fit_stream([x[:10], x[10:100]], checkpoint=checkpoint, batch_rows=5)
    assert GaussianMixture.load(checkpoint).report_.n_rows == 100
    assert bits(mixture().fit_stream([x[:100]], batch_rows=5)) == bits(gm)


def test_two_writers_the_later_one_fails(tmp_path: Path) -> None:
    checkpoint, x = tmp_path / "live.npz", rows()
    mixture().fit_stream([x[:500]], checkpoint=checkpoint)

    def intrude(update: Any) -> None:
        if update.rows == 1000:
            mixture().fit_stream(iter([x[:300]]), checkpoint=checkpoint, batch_rows=100)

    gm = mixture().on_update(intrude)
    with pytest.raises(WriterConflictError, match="two processes learn the same model"):
        gm.fit_stream(iter([x] * 2), checkpoint=checkpoint, batch_rows=250, save_every_s=0)
    assert GaussianMixture.load(checkpoint).report_.n_rows == 1300  # 500, 500 before the intruder, its 300


def test_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "live.npz"
    mixture().fit_stream([rows()], checkpoint=checkpoint)
    with pytest.raises(CheckpointMismatchError, match="n_components: 3 there, 4 here"):
        GaussianMixture(4).fit_stream([rows()], checkpoint=checkpoint)
    with pytest.raises(CheckpointMismatchError, match="covariance_type: 'full' there, 'diag' here"):
        mixture(covariance_type="diag").fit_stream([rows()], checkpoint=checkpoint)


def test_the_newest_readable_generation_stands_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint, parts = tmp_path / "live.npz", np.array_split(rows(), 6)
    undisturbed = mixture().fit_stream(parts, batch_rows=100)
    for stop in range(1, 5):
        mixture().fit_stream(parts[:stop], checkpoint=checkpoint, batch_rows=110)
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    gm = mixture().fit_stream(parts, checkpoint=checkpoint, batch_rows=110)
    assert "Going on with the older generation" in caplog.text
    assert gm.report_.n_rows == undisturbed.report_.n_rows == N


# --- poison ----------------------------------------------------------------------------------------------------------


def test_unusable_records_are_put_aside_with_reason_and_bytes(tmp_path: Path) -> None:
    good = [dict(zip(NAMES, row, strict=True)) for row in rows(2000).tolist()]
    bad = [
        (b"{not json", "Expecting property name"),
        (b'{"a": 1.0, "b": 2.0}', "there is no field 'c'"),
        (b'{"a": 1.0, "b": "2.0", "c": 1}', "the field 'b' holds '2.0', which is no number"),
        (b'{"a": null, "b": 2.0, "c": 1}', "column 0 'a' is missing or NaN"),
        (b'{"a": 1e999, "b": 2.0, "c": 1}', "column 0 'a' is infinite"),
        (b'{"a": true, "b": 2.0, "c": 1}', "holds True, which is no number"),
        (b"17", "JSON of a record is an object or a list"),
        (b"", "Expecting value"),
        (b"\xff\xfe", "UnicodeDecodeError"),
    ]
    records: list[Any] = [json.dumps({"extra": "x", **record}).encode() for record in good]
    for i, (payload, _) in enumerate(bad):
        records.insert(150 * i + 100, payload)
    gm = mixture().fit_stream(iter(records), batch_rows=100, columns=NAMES, dead_letter=tmp_path / "bad.arrows")
    with pytest.raises(PoisonError, match="say which fields are features with columns="):
        mixture().fit_stream(iter(records))
    clean = mixture().fit_stream(iter(good), batch_rows=100)
    assert bits(gm) == bits(clean)
    letters = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert [letter["payload"] for letter in letters if letter["payload"]] == [payload for payload, _ in bad if payload]
    for letter, (_, reason) in zip(letters, bad, strict=True):
        assert reason in letter["reason"]
    assert [letter["position"] for letter in letters] == [str(150 * i + 100) for i in range(len(bad))]


def test_another_file_for_dead_letters_later_on(tmp_path: Path) -> None:
    x, checkpoint = poisoned(), tmp_path / "live.npz"
    for stop, name in ((1000, "a"), (2000, "b"), (N, "a")):
        learned(
            [x[:1000], x[1000:2000], x[2000:]][: 1 + stop // 1001], checkpoint=checkpoint, dead_letter=tmp_path / name
        )
    assert [read_appended(tmp_path / name).num_rows for name in "ab"] == [4, 0]
    (tmp_path / "a").unlink()
    with pytest.raises(OutputError, match=r"held \d+ bytes when the model was saved, and is empty or gone now"):
        learned([x], checkpoint=checkpoint, dead_letter=tmp_path / "a")


def test_poison_without_a_place_for_it_is_an_error(tmp_path: Path) -> None:
    x, checkpoint = poisoned(), tmp_path / "live.npz"
    with pytest.raises(PoisonError, match=r"column \d '\w' is missing or NaN.*dead_letter"):
        learned([table(x[10:])], checkpoint=checkpoint)
    gm = mixture()
    with pytest.raises(PoisonError):
        gm.fit_stream([x[10:500], x[500:1000]], batch_rows=100, checkpoint=checkpoint)
    assert GaussianMixture.load(checkpoint).report_.n_rows == gm.report_.n_rows == 400


def test_finite_but_absurd_values(tmp_path: Path) -> None:
    x = rows()
    clean = learned([x])
    absurd = np.insert(x, [700, 1900], [[1e300, 0, 0], [0, 1.0, -1e200]], axis=0)
    gm = learned([absurd], dead_letter=tmp_path / "bad.arrows")
    letters = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert [json.loads(letter["payload"]) for letter in letters] == [[1e300, 0, 0], [0, 1.0, -1e200]]
    assert gm.report_.n_rows == N
    assert clean.score(x) == pytest.approx(gm.score(x), abs=0.02)
    with pytest.raises(PoisonError, match="1 of 250 records hold values that the model cannot take"):
        learned([absurd])


def test_above_a_rate_the_run_stops(tmp_path: Path) -> None:
    x = rows()
    x[1000::20] = np.nan
    gm = mixture()
    with pytest.raises(PoisonError, match=r"1[0-9] of the latest \d+ records .* more than the allowed 1.00%"):
        gm.fit_stream(iter(x[:, None]), batch_rows=100, dead_letter=tmp_path / "bad.arrows")
    assert gm.report_.n_rows > 1000
    assert read_appended(tmp_path / "bad.arrows").num_rows >= 10
    mixture().fit_stream(iter(x[:, None]), batch_rows=100, dead_letter=tmp_path / "more.arrows", poison_limit=0.1)
    assert read_appended(tmp_path / "more.arrows").num_rows == 115


def test_columns_go_by_name(tmp_path: Path, expected: Any) -> None:
    x = rows()
    first, second = (
        table(x[:1000]),
        table(x[1000:][:, [2, 0, 1]], ["c", "a", "b"]).append_column("text", pa.array(["t"] * (N - 1000))),
    )
    gm = learned([first, second])
    assert bits(gm) == expected
    broken = second.drop_columns(["b"])
    with pytest.raises(PoisonError, match="no column 'b'"):
        learned([first, broken])
    chosen = learned([second, first], columns=NAMES)
    assert chosen.feature_names_in_.tolist() == NAMES
    with pytest.raises(PoisonError, match="4 features; 3 are needed"):
        learned([x, np.ones((3, 4))])


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", rows())
    (folder / "torn.parquet").write_bytes((folder / "0.parquet").read_bytes()[:-100])
    stream = FolderStream(folder, follow=False, patience_s=0.0)
    gm = learned(stream, dead_letter=tmp_path / "bad.arrows")
    assert gm.report_.n_rows == N
    (letter,) = read_appended(tmp_path / "bad.arrows").to_pylist()
    assert "torn.parquet cannot be read" in letter["reason"]
    positions = gm.stream_positions_[stream.name][""][0]
    assert positions["done"] == ["0.parquet", "1.parquet", "2.parquet", "3.parquet", "torn.parquet"]
    (folder / "0.parquet").unlink()
    gm.fit_stream(FolderStream(folder, follow=False))
    assert gm.stream_positions_[stream.name][""][0]["done"] == positions["done"]


def test_a_file_half_read_that_is_gone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", rows())
    gm = mixture().fit_stream(FolderStream(folder), batch_rows=100, until=300)
    (folder / "0.parquet").unlink()
    with pytest.raises(StreamError, match="the file 0.parquet was read up to row group 1 and is gone"):
        gm.fit_stream(FolderStream(folder), batch_rows=100)


# --- ending ----------------------------------------------------------------------------------------------------------


def test_it_stops_when_told_while_nothing_comes(tmp_path: Path) -> None:
    def idle() -> Iterator[Any]:
        yield rows(600)
        while True:
            time.sleep(0.01)
            yield None

    gm = mixture()
    threading.Timer(0.5, gm.stop).start()
    gm.fit_stream(IteratorStream(idle), batch_rows=250, checkpoint=tmp_path / "live.npz")
    assert gm.report_.n_rows == 500  # it can be read again, so the rest waits for a whole mini-batch
    threading.Timer(0.5, gm.stop).start()
    gm.fit_stream(idle(), batch_rows=250)
    assert gm.report_.n_rows == 1100  # it cannot


def test_until(tmp_path: Path) -> None:
    gm = mixture().fit_stream(lambda: iter([rows()]), batch_rows=100, until=950)
    assert gm.report_.n_rows == 1000
    seen: list[int] = []
    gm.fit_stream(
        lambda: iter([rows()]), batch_rows=100, until=lambda update: seen.append(update.rows) or len(seen) > 2
    )
    assert seen == [1100, 1200, 1300]
    assert gm.history_.column("rows").to_pylist()[-3:] == seen


def test_an_error_in_the_stream_keeps_what_was_learned(tmp_path: Path) -> None:
    def breaks() -> Iterator[Any]:
        yield rows(700)
        raise RuntimeError("the sensor is on fire")

    gm = mixture()
    with pytest.raises(StreamError, match="RuntimeError: the sensor is on fire"):
        gm.fit_stream(breaks, batch_rows=200, checkpoint=tmp_path / "live.npz")
    assert GaussianMixture.load(tmp_path / "live.npz").report_.n_rows == gm.report_.n_rows == 600
    path = write_arrow(tmp_path / "x.arrows", rows())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(StreamError, match=r"broke off after \d+ rows"):
        learned(path)


def test_a_callback_that_fails_loses_nothing(tmp_path: Path) -> None:
    def fails(update: Any) -> None:
        if update.rows == 750:
            raise KeyError("callback")

    gm = mixture().on_update(fails)
    with pytest.raises(KeyError, match="callback"):
        learned_by(gm, tmp_path)
    undisturbed = learned([rows()])
    assert bits(learned_by(mixture(), tmp_path)) == bits(undisturbed)


def learned_by(gm: GaussianMixture, folder: Path) -> GaussianMixture:
    return gm.fit_stream([rows()], batch_rows=BATCH, half_life=2000, checkpoint=folder / "live.npz")


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for wrong in (rows(), table(rows()), {"a": 1}, 3):
        with pytest.raises(ParameterError, match="is one batch, not a stream|is no stream"):
            mixture().fit_stream(wrong)
    for settings, words in (
        ({"batch_rows": 0}, "batch_rows is 0"),
        ({"poison_limit": 2.0}, "poison_limit"),
        ({"on_drift": "cry"}, "on_drift"),
        ({"checkpoint": tmp_path / "x.txt"}, r"ends in \.npz"),
        ({"dead_letter": tmp_path / "x", "history": tmp_path / "x"}, "need different files"),
        ({"half_life": -1}, "half_life"),
    ):
        with pytest.raises(ParameterError, match=words):
            mixture().fit_stream([rows()], **settings)  # type: ignore[arg-type]
    (tmp_path / "no.arrows").write_text("something else, and long enough to be looked at")
    with pytest.raises(OutputError, match="is no Arrow stream"):
        mixture().fit_stream([rows()], dead_letter=tmp_path / "no.arrows")
    with pytest.raises(StreamError, match="cannot open the stream"):
        mixture().fit_stream(tmp_path / "absent.arrows")
    with pytest.raises(ParameterError, match="is no Kafka topic"):
        open_stream("kafka://host")


# --- watching --------------------------------------------------------------------------------------------------------


def test_drift_is_noticed_once_and_relearned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = [rows(40_000), rows(10_000, 1, shift=6.0)]
    heard: list[Any] = []
    told = mixture().fit_stream(stream, drift=DriftAlarm(), on_drift=heard.append)
    reset = mixture().fit_stream(stream, on_drift="reset", history=tmp_path / "history.arrows")
    assert [update.rows for update in heard] == [41_000]
    assert caplog.text.count("drift at row 41000") == 2
    history = read_appended(tmp_path / "history.arrows")
    assert history.column("drift").to_pylist().index(True) == 40
    assert sum(history.column("drift").to_pylist()) == 1
    later = rows(2000, 2, shift=6.0)
    assert reset.score(later) > told.score(later) + 0.05
    assert reset.effective_sample_size_ < 12_000 < told.effective_sample_size_


def test_no_alarm_without_drift() -> None:
    gm = mixture().fit_stream([rows(50_000)], batch_rows=100, drift=DriftAlarm())
    assert sum(gm.history_.column("drift").to_pylist()) == 0


def test_components_are_born_and_die(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)

    def part(n: int, share: float) -> Any:
        return np.where(rng.random((n, 1)) < share, 8.0, 0.0) + rng.normal(size=(n, 1))

    stream = [part(5000, 0.5), part(20_000, 0.0), part(5000, 0.5)]
    gm = GaussianMixture(2, random_state=0).fit_stream(stream, half_life=1000, batch_rows=200)
    events = [(row["rows"], row["died"], row["born"]) for row in gm.history_.to_pylist() if row["died"] or row["born"]]
    assert [bool(died) for _, died, _ in events] == [True, False]
    assert 5000 < events[0][0] < 25_000 < events[1][0]
    assert events[0][1] == events[1][2]


def test_callbacks_see_the_model_as_it_is() -> None:
    seen: list[Any] = []
    gm = mixture()
    gm.on_update(lambda update: seen.append((update.rows, gm.means_.tobytes(), gm.n_iter_)))
    gm.fit_stream([rows(1000)], batch_rows=200).partial_fit(rows(50))
    assert [entry[0] for entry in seen] == [200, 400, 600, 800, 1000, 1050]
    assert len({entry[1] for entry in seen}) == 6
    import copy
    import pickle

    assert pickle.loads(pickle.dumps(gm)).history_.num_rows == 0
    assert copy.deepcopy(gm).means_.tobytes() == gm.means_.tobytes()
