"""fit_stream of hidden Markov models: the bits of partial_fit, whole sequences, one endless one, through crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.fitted_states import state_of
from helpers.forked import exit_code
from streamem import GMMHMM, HMM, BernoulliHMM, CategoricalHMM, GaussianHMM, GaussianMixture, PoissonHMM
from streamem.core import archive
from streamem.core.errors import (
    CheckpointMismatchError,
    DataError,
    ParameterError,
    PoisonError,
    SchemaError,
    StreamError,
)
from streamem.core.message import Message
from streamem.families import AutoregressiveGaussian, Poisson
from streamem.models import HMM as HiddenMarkovModel
from streamem.online.append_only_arrow import read_appended
from streamem.online.sequence_batches import SequenceCutter
from streamem.online.sequence_records import StepDecoder
from streamem.streams.folder import FolderStream

NAMES = ["a", "b"]
BATCH = 300


def sequences(count: int = 60, seed: int = 0) -> list[Any]:
    """Each goes from around (0, 0) to around (4, 4)."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2 * n, 2)) + 4 * (np.arange(2 * n) >= n)[:, None] for n in rng.integers(5, 20, count)]


def records(of: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"run": f"run {i}", "a": float(a), "b": float(b)} for i, steps in enumerate(of) for a, b in np.asarray(steps)
    ]


def table(of: Sequence[Any]) -> pa.Table:
    return pa.Table.from_pylist(records(of))


def hmm(**settings: Any) -> GaussianHMM:
    return GaussianHMM(2, **{"random_state": 0, **settings})


def bits(model: Any) -> tuple[Any, ...]:
    state = state_of(model)
    params = [value.tobytes() for _, value in sorted(state.params.flatten().items())]
    return (*params, state.rows, model.effective_sample_size_)


def taught(model: Any, of: Sequence[Any], batch: int = BATCH) -> Any:
    """partial_fit of whole sequences, at least `batch` steps at once."""
    waiting: list[Any] = []
    for i, steps in enumerate(of):
        waiting.append(np.asarray(steps))
        if sum(map(len, waiting)) >= batch or i == len(of) - 1:
            model.partial_fit(np.concatenate(waiting), [len(one) for one in waiting])
            waiting = []
    return model


@pytest.fixture(scope="module")
def expected() -> tuple[Any, ...]:
    return bits(taught(hmm(), sequences()))


ROWS = sum(map(len, sequences()))

# --- every stream gives the bits of partial_fit ----------------------------------------------------------------------


def as_arrow(folder: Path) -> Any:
    with pa.ipc.new_stream(folder / "x.arrows", table(sequences()).schema) as writer:
        writer.write_table(table(sequences()), max_chunksize=77)
    return folder / "x.arrows"


def as_lines(folder: Path) -> Any:
    (folder / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records(sequences())))
    return folder / "x.jsonl"


def as_folder(folder: Path) -> Any:
    (folder / "x").mkdir()
    steps = table(sequences())
    for i, first in enumerate(range(0, steps.num_rows, 400)):
        pq.write_table(steps.slice(first, 400), folder / "x" / f"{i}.parquet", row_group_size=90)
    return FolderStream(folder / "x", follow=False)


TRANSPORTS: dict[str, Callable[[Path], Any]] = {
    "records": lambda folder: iter(records(sequences())),
    "lists of records": lambda folder: [records(sequences())[i : i + 50] for i in range(0, ROWS, 50)],
    "Arrow": as_arrow,
    "JSON lines": as_lines,
    "folder": as_folder,
    "frames": lambda folder: (batch.to_pandas() for batch in table(sequences()).to_batches(max_chunksize=41)),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_consecutive_records_of_one_id_are_one_sequence(transport: str, expected: Any, tmp_path: Path) -> None:
    model = hmm().fit_stream(TRANSPORTS[transport](tmp_path), sequence_column="run", batch_rows=BATCH)
    assert bits(model) == expected
    assert model.sequences_by_ == {"sequence_column": "run"}
    assert model.feature_names_in_.tolist() == NAMES


@pytest.mark.parametrize("transport", ["arrays", "JSON lists"])
def test_without_ids_every_message_is_a_sequence(transport: str, expected: Any, tmp_path: Path) -> None:
    if transport == "arrays":
        stream: Any = sequences()
    else:
        stream = tmp_path / "x.jsonl"
        stream.write_text("".join(json.dumps(steps.tolist()) + "\n" for steps in sequences()))
    assert bits(hmm().fit_stream(stream, batch_rows=BATCH)) == expected


def test_a_pipe_from_another_process(expected: Any, tmp_path: Path) -> None:
    code = f"import sys; sys.stdout.buffer.write(open({str(as_arrow(tmp_path))!r}, 'rb').read())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as producer:
        model = hmm().fit_stream(producer.stdout, sequence_column="run", batch_rows=BATCH)
    assert bits(model) == expected


def counts() -> list[Any]:
    return [np.abs(steps).round() for steps in sequences()]


FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[], list[Any]]]] = {
    "GMMHMM": (lambda: GMMHMM(2, 2, random_state=0), sequences),
    "PoissonHMM": (lambda: PoissonHMM(2, random_state=0), counts),
    "CategoricalHMM": (lambda: CategoricalHMM(2, n_categories=9, random_state=0), counts),
    "BernoulliHMM": (lambda: BernoulliHMM(2, random_state=0), lambda: [steps > 1 for steps in sequences()]),
    "HMM": (lambda: HMM(Poisson(), 2, random_state=0), counts),
    "looks back": (lambda: HMM(AutoregressiveGaussian(1), 2, random_state=0), sequences),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_all_emissions(name: str) -> None:
    make, data = FAMILIES[name]
    stepwise = taught(make(), [np.asarray(steps, dtype=np.float64) for steps in data()])
    streamed = make().fit_stream(iter(records(data())), sequence_column="run", batch_rows=BATCH)
    assert bits(streamed) == bits(stepwise)
    x = np.concatenate(data())
    assert streamed.score(x, [len(x)]) == stepwise.score(x)


# --- one endless sequence --------------------------------------------------------------------------------------------


def endless(size: int) -> GaussianHMM:
    x, model = np.concatenate(sequences()), hmm()
    for first in range(0, len(x), size):
        model.partial_fit(x[first : first + size], continued=True)
    return model


@pytest.mark.parametrize("size", [1, 33, 100, 1000])
def test_continued_goes_on_with_one_sequence(size: int) -> None:
    x = np.concatenate(sequences())
    parts = [x[first : first + size] for first in range(0, len(x), size)]
    assert bits(hmm().fit_stream(parts, continued=True, batch_rows=100)) == bits(endless(100))


def test_continued_is_not_whole_sequences() -> None:
    x = np.concatenate(sequences())
    parts = [x[first : first + 100] for first in range(0, len(x), 100)]
    assert bits(hmm().fit_stream(parts, batch_rows=100)) != bits(endless(100))


def test_an_endless_sequence_goes_on_after_a_restart(tmp_path: Path) -> None:
    parts, checkpoint = np.array_split(np.concatenate(sequences())[:1400], 14), tmp_path / "live.npz"
    hmm().fit_stream(lambda: iter(parts[:7]), continued=True, batch_rows=100, checkpoint=checkpoint)
    again = hmm().fit_stream(lambda: iter(parts), continued=True, batch_rows=100, checkpoint=checkpoint)
    whole = hmm().fit_stream(lambda: iter(parts), continued=True, batch_rows=100)
    assert bits(again) == bits(whole)


class Partitioned:
    """Messages of two partitions, in turn."""

    name, replayable, inline = "partitioned", True, True

    def __init__(self, of: Sequence[Any], size: int = 13) -> None:
        halves = [records(of[0::2]), [{**one, "run": one["run"] + "'"} for one in records(of[1::2])]]
        self._messages: list[tuple[str, int, Any]] = []
        for i in range(0, max(map(len, halves)), size):
            for partition, half in zip("01", halves, strict=True):
                if half[i : i + size]:
                    self._messages.append((partition, i // size, half[i : i + size]))

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message]:
        for partition, number, payload in self._messages:
            if number >= int(positions.get(partition, 0)):
                yield Message(payload, partition, number, number + 1)

    def commit(self, positions: Mapping[str, Any]) -> None:
        self.committed = dict(positions)


def test_partitions_gather_sequences_of_their_own() -> None:
    model = hmm().fit_stream(Partitioned(sequences()), sequence_column="run", batch_rows=10**6)
    together = hmm().partial_fit(*_as_completed(sequences(), 13))
    assert state_of(model).rows == sum(map(len, sequences()))
    mine, theirs = np.argsort(model.means_[:, 0]), np.argsort(together.means_[:, 0])  # the order of states is chance
    np.testing.assert_allclose(model.transmat_[mine][:, mine], together.transmat_[theirs][:, theirs], rtol=1e-6)
    np.testing.assert_allclose(model.means_[mine], together.means_[theirs], rtol=1e-6)


def _as_completed(of: Sequence[Any], size: int) -> tuple[Any, list[int]]:
    return np.concatenate([*of[0::2], *of[1::2]]), [len(one) for one in [*of[0::2], *of[1::2]]]


def test_several_partitions_are_no_endless_sequence() -> None:
    with pytest.raises(StreamError, match="the partitions '0' and '1'"):
        hmm().fit_stream(Partitioned(sequences()), continued=True, columns=NAMES)


# --- where a sequence ends -------------------------------------------------------------------------------------------


def lengths_of(messages: Sequence[Any], batch_rows: int = 1, **settings: Any) -> list[list[int]]:
    """Steps of the sequences of each mini-batch."""
    settings = {"most_steps": 10**6, "by_message": False, **settings}
    cutter = SequenceCutter(StepDecoder(None, None, None, "run"), {}, batch_rows, 0.0, **settings)
    batches = [batch for i, one in enumerate(messages) for batch in cutter.add(Message(one, "", i, i + 1))]
    rest = cutter.rest()
    found = [] if not batches else [np.diff(one.chunk.sequences.offsets).tolist() for one in batches]  # type: ignore[union-attr]
    return found + ([] if rest is None else [np.diff(rest.chunk.sequences.offsets).tolist()])  # type: ignore[union-attr]


def steps(run: Any, n: int) -> list[dict[str, Any]]:
    return [{"run": run, "a": 1.0 * i} for i in range(n)]


def test_an_id_that_changes_ends_a_sequence() -> None:
    messages = [steps(1, 3), steps(1, 2) + steps(2, 1), steps(3, 4) + steps(1, 2)]
    assert lengths_of(messages) == [[5], [1], [4], [2]]
    assert lengths_of(messages, batch_rows=6) == [[5, 1], [4, 2]]
    assert lengths_of(messages, batch_rows=100) == [[5, 1, 4, 2]]


def test_sequences_that_are_too_long_are_taken_in_pieces() -> None:
    assert lengths_of([steps("x", 7), steps("x", 4), steps("y", 5)], most_steps=5) == [[5], [5], [1], [5]]


def test_ids_of_any_kind() -> None:
    assert lengths_of([steps(1, 2) + steps("1", 2) + steps(True, 1)]) == [[2], [2], [1]]


def test_positions_stand_behind_whole_sequences() -> None:
    cutter = SequenceCutter(StepDecoder(None, None, None, "run"), {}, 1, 0.0, 10**6, False)
    found = [
        batch.positions
        for i, one in enumerate([steps(1, 3), steps(1, 2) + steps(2, 1), steps(3, 4)])
        for batch in cutter.add(Message(one, "", i, i + 1))
    ]
    assert found == [{"": [1, 2]}, {"": [2, 0]}]


def test_what_could_not_be_learned_is_cut_again() -> None:
    cutter = SequenceCutter(StepDecoder(None, None, None, "run"), {}, 4, 0.0, 10**6, False)
    first = next(cutter.add(Message(steps(1, 3) + steps(2, 2) + steps(3, 1), "", 0, 1)))
    cutter.put_back()
    again = next(cutter.again())
    assert again.chunk.x.tolist() == first.chunk.x.tolist()
    assert again.positions == first.positions == {"": [0, 5]}
    cutter.put_back()
    rest = cutter.rest()
    assert rest is not None
    assert rest.chunk.rows == 6
    cutter.put_back()
    assert np.diff(next(cutter.again()).chunk.sequences.offsets).tolist() == [3, 2]  # type: ignore[union-attr]


def test_partitions_that_go_to_another_reader_leave_what_was_begun() -> None:
    cutter = SequenceCutter(StepDecoder(None, None, None, "run"), {}, 3, 0.0, 10**6, False)
    list(cutter.add(Message(steps(1, 3) + steps(2, 2), "0", 0, 1)))
    list(cutter.add(Message(steps(2, 2), "0", 1, 2)))
    list(cutter.add(Message(steps(5, 2), "1", 0, 1)))
    rest = cutter.withdraw(["0"])
    assert rest is not None
    assert np.diff(rest.chunk.sequences.offsets).tolist() == [2]  # type: ignore[union-attr]
    assert rest.positions == {"0": [1, 0]}
    assert cutter.withdraw(["1"]) is None
    assert cutter.rest() is None


def test_messages_of_one_record_say_nothing_of_transitions() -> None:
    with pytest.raises(ParameterError, match=r"say which field identifies sequences with sequence_column="):
        hmm().fit_stream(({"a": 1.0, "b": float(i)} for i in range(500)), batch_rows=100)


# --- steps and records that cannot be used ---------------------------------------------------------------------------


def test_a_record_without_any_feature_is_a_step_without_observation() -> None:
    of = sequences()
    for one in of:
        one[3] = np.nan
    plain = taught(hmm(), of)
    lines = [{**one, "a": None, "b": None} if np.isnan(one["a"]) else one for one in records(of)]
    assert bits(hmm().fit_stream(iter(lines), sequence_column="run", batch_rows=BATCH)) == bits(plain)


def test_unusable_records_are_left_out_of_their_sequences(tmp_path: Path) -> None:
    of, bad = sequences(), records(sequences())
    bad[5]["a"], bad[40]["run"], bad[900]["b"] = "x", None, float("inf")
    del bad[700]["run"]
    run = np.cumsum([0, *map(len, of)])
    kept = [
        np.delete(one, [i - first for i in (5, 40, 700, 900) if first <= i < first + len(one)], axis=0)
        for one, first in zip(of, run, strict=False)
    ]
    letters = tmp_path / "bad.arrows"
    model = hmm().fit_stream(iter(bad), sequence_column="run", batch_rows=BATCH, dead_letter=letters)
    assert bits(model) == bits(taught(hmm(), kept))
    found = read_appended(letters).to_pylist()
    assert [one["position"] for one in found] == ["5", "40", "700", "900"]
    assert ["run" in one["reason"] for one in found] == [False, True, True, False]
    with pytest.raises(PoisonError, match="no number"):
        hmm().fit_stream(iter(bad), sequence_column="run")


def test_absurd_steps_are_left_out_too(tmp_path: Path) -> None:
    of, plain, waiting, count = sequences(), hmm(), [], 0
    for i, steps in enumerate(of):  # mini-batches are cut before anybody looks at densities
        waiting.append(np.delete(steps, 4, axis=0) if i == 30 else steps)
        count += len(steps)
        if count >= BATCH or i == len(of) - 1:
            plain.partial_fit(np.concatenate(waiting), [len(one) for one in waiting])
            waiting, count = [], 0
    of[30][4] = 1e200
    settings: dict[str, Any] = {"sequence_column": "run", "batch_rows": BATCH, "dead_letter": tmp_path / "bad.arrows"}
    model = hmm().fit_stream(iter(records(of)), **settings)
    assert read_appended(tmp_path / "bad.arrows").num_rows == 1
    assert bits(model) == bits(plain)


def test_a_message_without_the_column_is_a_dead_letter(tmp_path: Path) -> None:
    stray = table(sequences(2)).drop_columns(["run"])
    batches = [table(sequences()), stray.slice(0, 5), table(sequences(10, 1))]
    letters = tmp_path / "bad.arrows"
    model = hmm().fit_stream(batches, sequence_column="run", dead_letter=letters)
    assert state_of(model).rows == sum(map(len, sequences())) + sum(map(len, sequences(10, 1)))
    assert "there is no column 'run'" in read_appended(letters).to_pylist()[0]["reason"]
    with pytest.raises(PoisonError, match="an array has no field 'run'"):
        hmm().fit_stream([sequences()[0]], sequence_column="run")


def test_weights_of_sequences() -> None:
    rng, of = np.random.default_rng(3), sequences()
    weights = rng.uniform(0.5, 2.0, len(of))
    weighed = [{**one, "w": weights[int(one["run"].split()[1])]} for one in records(of)]
    model = hmm().fit_stream(iter(weighed), sequence_column="run", sample_weight="w", batch_rows=10**6)
    plain = hmm().partial_fit(np.concatenate(of), list(map(len, of)), sample_weight=weights)
    assert bits(model) == bits(plain)


# --- what is said of sequences ---------------------------------------------------------------------------------------


def test_a_model_remembers_by_which_column_it_was_fitted(expected: Any) -> None:
    first, later = sequences()[:20], sequences()[20:]
    model = hmm().fit(table(first), sequence_column="run")
    plain = hmm().fit(np.concatenate(first), list(map(len, first)))
    model.fit_stream(iter(records(later)), batch_rows=BATCH)
    assert bits(model) == bits(taught(plain, later))


WRONG: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "both": (ParameterError, "pass one of them", {"continued": True, "sequence_column": "run"}),
    "no steps": (ParameterError, "most_steps is 0", {"most_steps": 0}),
    "half a step": (ParameterError, "most_steps is 0.5", {"most_steps": 0.5}),
    "no rows": (ParameterError, "batch_rows is 0", {"batch_rows": 0}),
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_cannot_be(name: str) -> None:
    kind, words, settings = WRONG[name]
    with pytest.raises(kind, match=words):
        hmm().fit_stream([sequences()[0]], **settings)


def test_priors_of_the_chain_need_a_fit() -> None:
    model = hmm(transmat_prior=2.0)
    with pytest.raises(ParameterError, match="fit first, or leave them at 1"):
        model.fit_stream(sequences())
    assert model.fit(np.concatenate(sequences())).fit_stream(sequences()).report_.n_rows > 0


def test_too_few_steps_say_what_a_start_needs() -> None:
    with pytest.raises(DataError, match=r"needs at least 20, 2·K·\(d \+ 1 \+ K\)"):
        hmm().fit_stream([sequences()[0][:9]])


def test_other_features_are_refused() -> None:
    model = hmm().fit_stream(iter(records(sequences())), sequence_column="run")
    with pytest.raises(SchemaError, match="were fitted"):
        model.fit_stream([], sequence_column="run", columns=["a", "c"])


# --- kill and resume -------------------------------------------------------------------------------------------------


def die_at(point: str, count: int, kind: str, folder: Path) -> None:
    """Learn the stream in a process that ends, as if killed, at such a call."""
    left = [count]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return function(*arguments, **settings)

        return call

    if point == "e_step":
        HiddenMarkovModel.e_step = dying(HiddenMarkovModel.e_step)  # type: ignore[method-assign]
    else:
        archive.os.replace = dying(os.replace)  # type: ignore[attr-defined]
    crashing(kind, folder)


def crashing(kind: str, folder: Path) -> GaussianHMM:
    """A stream with poison in it, saved after every mini-batch."""
    streams = {"Arrow": folder / "x.arrows", "JSON lines": folder / "x.jsonl"}
    said = {"continued": True} if kind == "continued" else {"sequence_column": "run"}
    return hmm().fit_stream(
        streams.get(kind, folder / "x.arrows"),
        **said,
        columns=NAMES,
        batch_rows=BATCH,
        checkpoint=folder / "live.npz",
        dead_letter=folder / "bad.arrows",
        history=folder / "history.arrows",
        save_every_s=0.0,
    )


def prepare(folder: Path) -> Path:
    folder.mkdir()
    poisoned = records(sequences())
    for i in (7, 700, 701):
        poisoned[i]["a"] = float("inf")
    spoilt = pa.Table.from_pylist(poisoned)
    with pa.ipc.new_stream(folder / "x.arrows", spoilt.schema) as writer:
        writer.write_table(spoilt, max_chunksize=77)
    (folder / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in poisoned).replace("Infinity", "1e999"))
    return folder


@pytest.mark.parametrize(("kind", "point"), [("Arrow", "e_step"), ("JSON lines", "replace"), ("continued", "e_step")])
def test_killed_anywhere_it_goes_on_with_the_same_bits(kind: str, point: str, tmp_path: Path) -> None:
    undisturbed = crashing(kind, prepare(tmp_path / "undisturbed"))
    folder = prepare(tmp_path / "killed")
    counts = (0, 1, 2, 1) if kind == "Arrow" else (0, 3, 2, 4)  # of which a mini-batch takes one, or several
    codes = [exit_code(die_at, point, count, kind, folder) for count in counts]
    assert set(codes) <= {0, 9}
    assert codes.count(9) >= 3
    assert bits(crashing(kind, folder)) == bits(undisturbed)
    for name in ("bad.arrows", "history.arrows"):
        ours, theirs = (read_appended(where / name) for where in (folder, tmp_path / "undisturbed"))
        assert ours.to_pylist() == theirs.to_pylist()
    assert read_appended(folder / "bad.arrows").num_rows == 3
    assert bits(crashing(kind, folder)) == bits(undisturbed)


def test_stop_ends_between_sequences_and_the_next_call_goes_on(expected: Any, tmp_path: Path) -> None:
    stream, checkpoint = as_lines(tmp_path), tmp_path / "live.npz"
    model = hmm()
    model.on_update(lambda update: model.stop() if update.batch == 3 else None)
    settings: dict[str, Any] = {"sequence_column": "run", "batch_rows": BATCH, "checkpoint": checkpoint}
    model.fit_stream(stream, **settings)
    known = state_of(model).rows
    assert 3 * BATCH <= known < sum(map(len, sequences()))
    assert bits(hmm().fit_stream(stream, **settings)) == bits(hmm().fit_stream(stream, **settings)) == expected


def test_what_an_iterator_gave_too_much_is_kept_for_the_next_call(expected: Any) -> None:
    stream, model = iter(records(sequences())), hmm()
    while model.__dict__.get("n_iter_", 0) == 0 or model.report_.n_rows < sum(map(len, sequences())):
        model.fit_stream(stream, sequence_column="run", batch_rows=BATCH, until=1)
    assert bits(model) == expected


def test_a_checkpoint_of_other_sequences_or_classes_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "live.npz"
    hmm().fit_stream(sequences(), checkpoint=checkpoint)
    with pytest.raises(CheckpointMismatchError, match="n_components: 2 there, 3 here"):
        GaussianHMM(3).fit_stream(sequences(), checkpoint=checkpoint)
    with pytest.raises(Exception, match="holds a GaussianHMM, not a GaussianMixture"):
        GaussianMixture(2).fit_stream(sequences(), checkpoint=checkpoint)


def test_followers_and_history(tmp_path: Path) -> None:
    seen: list[Any] = []
    model = hmm().on_update(seen.append).fit_stream(sequences(), batch_rows=BATCH, history=tmp_path / "h.arrows")
    assert [one.batch for one in seen] == list(range(1, len(seen) + 1))
    assert model.history_.column("rows").to_pylist() == [one.rows for one in seen]
    assert read_appended(tmp_path / "h.arrows").num_rows == len(seen)
    assert "online for" in model.describe()


def test_it_learns_while_another_thread_asks(expected: Any) -> None:
    model, asked = hmm(), threading.Event()

    def ask(update: Any) -> None:
        thread = threading.Thread(target=lambda: (model.score(sequences()[0]), asked.set()))
        thread.start()
        thread.join()

    model.on_update(ask).fit_stream(sequences(), batch_rows=BATCH)
    assert asked.is_set()
    assert bits(model) == expected
