"""What a sceptical reader broke once: each stays mended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.exceptions import ConvergenceWarning

from helpers.fitted_states import state_of
from streamem import GaussianMixture, Mixture, Params, Stats
from streamem.algorithms import DriftAlarm, StepwiseEM
from streamem.algorithms.schedule import deal
from streamem.core.errors import (
    CheckpointMismatchError,
    MonotonicityError,
    OutputError,
    ParameterError,
    PoisonError,
    SchemaError,
    StreamError,
    WriterConflictError,
)
from streamem.online import follow
from streamem.online.append_only_arrow import read_appended
from streamem.streams.byte_stream import ByteStream

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, (2000, 2)), RNG.normal(6, 1, (2000, 2))])[RNG.permutation(4000)]


def mixture(**settings: Any) -> GaussianMixture:
    return GaussianMixture(2, **{"random_state": 0, **settings})


def records() -> list[list[dict[str, Any]]]:
    """Eight messages of 500 records."""
    return [[{"a": a, "b": b} for a, b in X[i : i + 500].tolist()] for i in range(0, 4000, 500)]


def table() -> pa.Table:
    return pa.table({"a": X[:, 0], "b": X[:, 1]})


def arrow(rows: int) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=rows)
    return sink.getvalue()


def learned(gm: GaussianMixture) -> int:
    return int(gm.report_.n_rows)


# --- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[157] * 64, [100] * 64, [3, 1000, 1, 1, 50], [1], [2, 2]])
@pytest.mark.parametrize("batches", [1, 2, 7, 200, 10_000])
def test_every_mini_batch_has_its_rows(rows: list[int], batches: int) -> None:
    batches = min(batches, sum(rows))
    bounds = np.array(deal(rows, batches))
    assert (bounds[:, 0] == 0).all()
    assert bounds[:, -1].tolist() == rows
    taken = np.diff(bounds, axis=1)
    assert taken.min() >= 0
    sizes = taken.sum(axis=0)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def test_mini_batches_smaller_than_the_chunks_are_many() -> None:
    x = X[:4000]
    start = {"means_init": [[1.0, 1.0], [5.0, 5.0]]}
    gm = mixture(chunk_bytes=157 * 16, **start).fit(x, algorithm="stepwise")
    assert gm.n_iter_ == 5 * 80
    assert gm.lower_bound_ == pytest.approx(mixture(**start).fit(x).lower_bound_, abs=1e-3)


def test_max_iter_zero_and_weights_of_zero() -> None:
    assert mixture(max_iter=0).fit(X, algorithm="stepwise").n_iter_ == 0
    weight = np.ones(4000)
    weight[:2500] = 0
    start = {"means_init": [[1.0, 1.0], [5.0, 5.0]]}
    pairs = StepwiseEM(batch_rows=2, passes=1)
    some = slice(2200, 2800)
    assert np.isfinite(mixture().fit(X[some], sample_weight=weight[some], algorithm=pairs).lower_bound_)
    gm = mixture(**start).fit(X, sample_weight=weight, algorithm=StepwiseEM(batch_rows=50))
    assert gm.score(X[2500:]) == pytest.approx(mixture(**start).fit(X[2500:]).lower_bound_, abs=0.01)
    fitted = mixture().fit(X)
    means = fitted.means_.tolist()
    assert fitted.partial_fit(X[:50], sample_weight=np.zeros(50)).means_.tolist() == means  # see test_scale_of_weights
    assert not hasattr(mixture().partial_fit(X[:50], sample_weight=np.zeros(50)), "weights_")


def test_a_batch_fit_does_not_take_a_stepwise_checkpoint(tmp_path: Path) -> None:
    mixture().fit(X, algorithm="stepwise", checkpoint=tmp_path / "s.npz")
    with pytest.raises(CheckpointMismatchError, match="algorithm"):
        mixture().fit(X, algorithm="batch", checkpoint=tmp_path / "s.npz")
    assert (
        mixture().fit(X, checkpoint=tmp_path / "s.npz").report_.setting["algorithm"] == "stepwise, as in the checkpoint"
    )


def step_of_mine(weight: float, seen: float) -> float:
    return 0.1


def test_step_sizes_of_ones_own(tmp_path: Path) -> None:
    for _ in range(2):
        mixture().fit(X, algorithm=StepwiseEM(step_of_mine, passes=1), checkpoint=tmp_path / "s.npz")
    for wrong in (float("nan"), 2.0, -1.0, 0.0):
        with pytest.raises(ParameterError, match=r"must be in \(0, 1\]"):
            mixture().fit(X).partial_fit(X, step=lambda weight, seen, wrong=wrong: wrong)
    with pytest.raises(ParameterError, match="is the class StepwiseEM"):
        mixture().fit(X, algorithm=StepwiseEM)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="final_pass=False"):
        mixture(n_init=2).fit(X, algorithm=StepwiseEM(final_pass=False))


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_order_of_columns_does_not_swap_features() -> None:
    scaled = pa.table({"a": X[:, 0], "b": X[:, 1] * 100})
    one, other = (mixture().fit(scaled) for _ in range(2))
    one.fit_stream(scaled.to_batches(500), columns=["b", "a"])
    other.fit_stream(scaled.to_batches(500))
    assert one.means_.tobytes() == other.means_.tobytes()
    with pytest.raises(SchemaError, match="were chosen, but"):
        one.fit_stream(scaled.to_batches(500), columns=["a"])
    flat = [record for message in records() for record in message]
    with pytest.raises(PoisonError, match="the fitted features have none: say which"):
        mixture().fit(X).fit_stream(flat)
    with pytest.raises(PoisonError, match="1 features; 2 are needed"):
        mixture().fit(X).fit_stream(flat, columns=["a"])
    assert learned(mixture().fit(X).fit_stream(flat, columns=["a", "b"])) == 8000


def test_embeddings_keep_the_names_that_predict_needs() -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 2)
    embedded = pa.table({"e": values})
    gm = mixture().fit_stream(embedded.to_batches(500), columns=["e"])
    assert gm.feature_names_in_.tolist() == ["e[0]", "e[1]"]
    assert gm.predict(embedded).shape == (4000,)
    assert learned(gm.fit_stream(embedded.to_batches(500), columns=["e"])) == 8000


# --- what is new and what was there ----------------------------------------------------------------------------------


def test_another_list_is_other_data() -> None:
    gm = mixture().fit_stream([X[:1000], X[1000:2000]])
    assert learned(gm.fit_stream([X[2000:3000], X[3000:]])) == 4000


def test_an_iterator_loses_nothing_at_until() -> None:
    batches = (X[i : i + 130] for i in range(0, 4000, 130))
    gm = mixture().fit_stream(batches, batch_rows=100, until=1000)
    assert learned(gm) == 1000
    assert learned(gm.fit_stream(batches, batch_rows=100)) == 4000
    whole = mixture().fit_stream([X], batch_rows=100)
    assert gm.means_.tobytes() == whole.means_.tobytes()


def test_messages_may_be_cut_otherwise(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "r.arrows", tmp_path / "r.npz"
    path.write_bytes(arrow(1000))
    mixture().fit_stream(path, batch_rows=300, until=1500, checkpoint=checkpoint)
    path.write_bytes(arrow(100))
    gm = mixture().fit_stream(path, batch_rows=300, checkpoint=checkpoint)
    assert learned(gm) == 4000
    assert gm.means_.tobytes() == mixture().fit_stream([X], batch_rows=300).means_.tobytes()


def test_a_pipe_that_breaks_off_gives_what_it_gave(tmp_path: Path) -> None:
    gm = mixture()
    with pytest.raises(StreamError, match="broke off"):
        gm.fit_stream(io.BytesIO(arrow(100)[:-3000]), batch_rows=1500)
    assert learned(gm) == 3800
    path = tmp_path / "x.jsonl"
    lines = "".join(json.dumps(row) + "\n" for row in X.tolist())
    path.write_text(lines[:-10])
    assert learned(mixture().fit_stream(path, checkpoint=tmp_path / "l.npz")) == 3999
    path.write_text(lines)
    assert learned(mixture().fit_stream(path, checkpoint=tmp_path / "l.npz")) == 4000
    with path.open() as text:
        assert learned(mixture().fit_stream(text)) == 4000


def test_bytes_that_come_in_dribbles() -> None:
    read, write = os.pipe()
    content = arrow(500)

    def dribble() -> None:
        with os.fdopen(write, "wb") as pipe:
            for part in (content[:1], content[1:3], content[3:]):
                pipe.write(part)
                pipe.flush()
                time.sleep(0.1)

    thread = threading.Thread(target=dribble)
    thread.start()
    with os.fdopen(read, "rb") as pipe:
        assert learned(mixture().fit_stream(pipe)) == 4000
    thread.join()


def test_reused_buffers_are_copied() -> None:
    buffer = np.empty((100, 2))

    def refilled() -> Any:
        for start in range(0, 4000, 100):
            buffer[:] = X[start : start + 100]
            yield buffer

    gm = mixture().fit_stream(refilled(), batch_rows=300)
    assert gm.means_.tobytes() == mixture().fit_stream([X], batch_rows=300).means_.tobytes()


def test_stop_beforehand_and_afterwards() -> None:
    gm = mixture()
    gm.stop()
    gm.fit_stream([X[:500]])
    gm.stop()
    assert learned(gm.fit_stream([X], batch_rows=100)) == 4500


def test_stopping_a_pipe_learns_what_was_read() -> None:
    read, write = os.pipe()
    sent, gm = [0], mixture()

    def flood() -> None:
        try:
            while True:
                os.write(write, b"[0.5, 1.5]\n[6.5, 5.5]\n[0.1, 0.2]\n[5.9, 6.3]\n")
                sent[0] += 4
        except BrokenPipeError:
            os.close(write)

    thread = threading.Thread(target=flood)
    thread.start()
    gm.on_update(lambda update: update.rows >= 2000 and gm.stop())
    with os.fdopen(read, "rb") as pipe:
        gm.fit_stream(ByteStream(pipe), batch_rows=100)
        os.set_blocking(pipe.fileno(), False)
        left = b"".join(iter(lambda: pipe.read(2**20) or b"", b""))
    thread.join()
    assert learned(gm) < 20_000
    assert learned(gm) + left.count(b"\n") <= sent[0] + 4000
    assert learned(gm) >= 2000


# --- dead letters and other files ------------------------------------------------------------------------------------


def test_an_interrupted_step_buries_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = records()
    batches[5][3] = {"a": "bad", "b": 1}
    settings: dict[str, Any] = {
        "batch_rows": 500, "checkpoint": tmp_path / "p.npz", "dead_letter": tmp_path / "p.arrows",
    }  # fmt: skip
    advance, calls = follow._Step.__call__, [0]

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            raise KeyboardInterrupt
        return advance(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(follow._Step, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mixture().fit_stream(batches, **settings)
    mixture().fit_stream(batches, **settings)
    assert read_appended(tmp_path / "p.arrows").num_rows == 1


def test_too_much_poison_buries_once(tmp_path: Path) -> None:
    batches = records()
    for j in range(8):
        batches[2][3 + 60 * j] = {"a": f"bad2.{j}", "b": 1}
    for j in range(40):
        batches[3][3 + j] = {"a": f"bad3.{j}", "b": 1}
    for _ in range(2):
        with pytest.raises(PoisonError):
            mixture().fit_stream(
                batches, batch_rows=200, checkpoint=tmp_path / "q.npz", dead_letter=tmp_path / "q.arrows"
            )
        letters = read_appended(tmp_path / "q.arrows")["payload"].to_pylist()
        assert len(letters) == len(set(letters)) == 48


def test_a_second_writer_is_refused_before_it_cuts_anything(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": tmp_path / "w.npz", "dead_letter": tmp_path / "w.arrows"}

    def intrude(update: Any) -> None:
        with pytest.raises(WriterConflictError, match="is being written by another process"):
            mixture().fit_stream([], **settings)

    gm = mixture().on_update(intrude)
    assert learned(gm.fit_stream([X], **settings)) == 4000


def test_a_callback_that_fails_leaves_its_row_in_the_history(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": tmp_path / "c.npz", "history": tmp_path / "h.arrows", "batch_rows": 500}
    parts = [X[i : i + 500] for i in range(0, 4000, 500)]

    def fails_at(rows: int) -> Callable[[Any], None]:
        def fails(update: Any) -> None:
            if update.rows == rows:
                raise ZeroDivisionError

        return fails

    for rows in (500, 2000):
        with pytest.raises(ZeroDivisionError):
            mixture().on_update(fails_at(rows)).fit_stream(parts, **settings)
        assert learned(GaussianMixture.load(tmp_path / "c.npz")) == rows
    mixture().fit_stream(parts, **settings)
    assert read_appended(tmp_path / "h.arrows")["rows"].to_pylist() == list(range(500, 4001, 500))


def test_an_interrupt_during_a_save_is_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamem.core.archive as archive

    sync, calls = archive.sync_folder, [0]

    def interrupted(folder: Path) -> None:
        sync(folder)
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(archive, "sync_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mixture().fit_stream([X], batch_rows=500, checkpoint=tmp_path / "k.npz", save_every_s=0.0)
    monkeypatch.undo()
    assert learned(mixture().fit_stream([X], batch_rows=500, checkpoint=tmp_path / "k.npz")) == 4000


def test_a_moved_folder_keeps_its_dead_letters(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    batches = records()
    batches[1][3] = {"a": "bad", "b": 1}

    def run(folder: Path, stop: int) -> None:
        files = {"checkpoint": folder / "m.npz", "dead_letter": folder / "m.arrows"}
        mixture().fit_stream(batches[:stop], batch_rows=100, **files)

    run(tmp_path / "one", 3)
    with (tmp_path / "one" / "m.arrows").open("ab") as file:
        file.write(b"torn by a crash")
    (tmp_path / "one").rename(tmp_path / "two")
    run(tmp_path / "two", 8)
    assert read_appended(tmp_path / "two" / "m.arrows").num_rows == 1


def test_a_reader_never_finds_the_file_absent(tmp_path: Path) -> None:
    path, done, failures = tmp_path / "live.npz", threading.Event(), []
    mixture().fit_stream([X[:500]], checkpoint=path)

    def read() -> None:
        while not done.wait(1e-5):
            if not path.exists():
                failures.append(1)

    thread = threading.Thread(target=read)
    thread.start()
    mixture().fit_stream([X] * 2, checkpoint=path, batch_rows=50, save_every_s=0.0)
    done.set()
    thread.join()
    assert not failures
    assert (tmp_path / "live.npz.1").exists()


def test_a_missing_folder_is_noticed_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        mixture().fit_stream(iter([X]), checkpoint=tmp_path / "absent" / "x.npz")


# --- one bad record does not end the stream --------------------------------------------------------------------------


def put_aside(stream: Any, folder: Path, model: Any = None, **settings: Any) -> tuple[int, list[Any]]:
    """Rows learned, and reasons."""
    gm = mixture() if model is None else model
    gm.fit_stream(stream, dead_letter=folder / "bad.arrows", **settings)
    return learned(gm), read_appended(folder / "bad.arrows")["reason"].to_pylist()


def test_mini_batches_without_weight_are_passed_over(tmp_path: Path) -> None:
    stream = [{"a": a, "b": b, "w": 0 if 1000 <= i < 1200 else 1} for i, (a, b) in enumerate(X.tolist())]
    gm = mixture().fit_stream(stream, sample_weight="w", batch_rows=100, checkpoint=tmp_path / "z.npz")
    assert state_of(gm).weight == 3800
    assert put_aside([{**r, "w": 0.0} for r in stream[:300]] + stream, tmp_path, sample_weight="w")[1] == []


def test_damaged_bytes(tmp_path: Path) -> None:
    payloads = [arrow(4000)] * 3
    rng = np.random.default_rng(1)
    broken = [payloads[0][: rng.integers(1, len(payloads[0]))] for _ in range(60)]
    for _ in range(60):
        flipped = bytearray(payloads[0])
        flipped[rng.integers(0, 600)] ^= 1 << rng.integers(8)
        broken.append(bytes(flipped))
    nested = [b"[" * 100_000, b'{"a":' * 2000]
    rows, reasons = put_aside(payloads + broken + nested + payloads, tmp_path, poison_limit=1.0)
    assert rows >= 24_000
    assert len(reasons) > 60


def test_absurd_values_before_there_is_a_model(tmp_path: Path) -> None:
    x = X.copy()
    x[3] = 1e200
    assert put_aside(iter([x]), tmp_path) == (3999, ["its density cannot be computed: absurd values"])


@pytest.mark.parametrize("value", [1e12, 1e15, 1e20, 1e60])
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_outliers_of_rank_one(value: float, covariance_type: str) -> None:
    x = X.copy()
    x[3000] = value
    gm = mixture(covariance_type=covariance_type).fit_stream([x], batch_rows=1000)
    assert np.isfinite(gm.score(X))
    start = {"means_init": [[0.0, 0.0], [6.0, 6.0]], "max_iter": 3, "tol": 0.0}
    with warnings.catch_warnings(), contextlib.suppress(MonotonicityError):  # an error that names outliers
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert np.isfinite(mixture(covariance_type=covariance_type, **start).fit(x).lower_bound_)


class Poisson:
    """Refuses counts below zero as a family does: with a density that is not a number."""

    def log_prob(self, p: Params, x: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return x @ np.log(p.rates).T - p.rates.sum(1) + 0 * np.sqrt(x).sum(1, keepdims=True)

    def stats(self, p: Params, x: Any, resp: Any) -> Stats:
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        return Params(rates=s.x / s.weight[:, None])


def test_records_that_a_family_cannot_take(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson([[2.0]] * 900 + [[9.0]] * 900).astype(float)
    counts[1500] = -5
    model = Mixture(Poisson(), 2, random_state=0)
    assert put_aside([counts], tmp_path, model, batch_rows=300)[0] == 1799


def test_one_record_does_not_cost_its_message(tmp_path: Path) -> None:
    batches = records()
    batches[3][7] = {"a": 10**400, "b": 1}
    batches[0][0] = {"a": None, "b": "x"}
    rows, reasons = put_aside(batches, tmp_path)
    assert rows == 3998
    assert "'x', which is no number" in reasons[0] or "no number" in reasons[0]


def test_empty_messages(tmp_path: Path) -> None:
    stream: list[Any] = [[], b"[]", np.empty(0), np.empty((0, 2)), b"\n", *records(), [], b"[]"]
    assert put_aside(stream, tmp_path) == (4000, [])
    rows, reasons = put_aside([{}, *records()], tmp_path)
    assert rows == 4000
    assert len(reasons) == 1


def test_iterators_that_people_have(tmp_path: Path) -> None:
    pd.DataFrame(X, columns=["a", "b"]).to_csv(tmp_path / "x.csv", index=False)
    with pd.read_csv(tmp_path / "x.csv", chunksize=500) as frames:
        assert learned(mixture().fit_stream(frames)) == 4000
    assert learned(mixture().fit_stream(tuple(row) for row in X)) == 4000
    with (tmp_path / "x.arrows").open("wb") as file:
        file.write(arrow(100))
    assert (
        learned(mixture().fit_stream(tmp_path / "x.arrows", batch_rows=np.int64(500), half_life=np.int64(9000))) == 4000
    )


def test_no_alarm_on_batches_that_are_all_alike() -> None:
    gm = mixture().fit_stream((X[:100] for _ in range(500)), batch_rows=100, drift=DriftAlarm())
    assert not any(gm.history_["drift"].to_pylist())


def test_arguments_that_cannot_be() -> None:
    for settings in ({"until": 0}, {"until": -1}, {"save_every_s": float("nan")}, {"drift": 1}, {"batch_rows": True}):
        with pytest.raises(ParameterError, match=next(iter(settings))):
            mixture().fit_stream([X], **settings)  # type: ignore[arg-type]
