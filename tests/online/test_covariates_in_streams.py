"""Streams whose records hold what drives weights or transitions: concomitants, and covariates of a chain."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import GaussianHMM, MixtureOfRegressions
from streamem.appending import read_appended
from streamem.cli.main import main
from streamem.core.errors import PoisonError, SchemaError

N = 160
RNG = np.random.default_rng(0)
Z = RNG.normal(size=N)
X = RNG.normal(size=N)
FIRST = RNG.random(N) < 1 / (1 + np.exp(-2 * Z))
Y = np.where(FIRST, 1 + X, -1 - X) + 0.2 * RNG.normal(size=N)
FRAME = pd.DataFrame({"z": Z, "x": X, "y": Y})
STATE = np.cumsum(RNG.random(N) < 0.1) % 2
STEPS = pd.DataFrame({"u": np.roll(STATE, -1) + RNG.normal(size=N), "run": np.arange(N) // 20, "x": 4.0 * STATE + X})
HALVES = (slice(0, N // 2), slice(N // 2, N))


def regressions(concomitant: Any = "z", **settings: Any) -> MixtureOfRegressions:
    return MixtureOfRegressions(2, concomitant=concomitant, random_state=0, init_params="random", **settings)


def chain(covariates: Any = "u", **settings: Any) -> GaussianHMM:
    return GaussianHMM(2, transition_covariates=covariates, random_state=0, n_iter=200, **settings)


def bits(model: Any) -> list[bytes]:
    found = model._fitted.state.params.flatten()
    return [np.asarray(found[name]).tobytes() for name in sorted(found)]


def stepped(**columns: Any) -> MixtureOfRegressions:
    """The regressions after two mini-batches."""
    known = regressions()
    for half in HALVES:
        known.partial_fit(FRAME[half], "y", **columns)
    return known


def run_by_run(frame: pd.DataFrame = STEPS, **settings: Any) -> GaussianHMM:
    """The chain after two mini-batches of four sequences."""
    known = chain(**settings)
    for half in (frame[frame.run < 4], frame[frame.run >= 4]):
        known.partial_fit(half, sequence_column="run")
    return known


@pytest.mark.parametrize("columns", [None, ["x"], ["x", "z"]])
def test_concomitants_in_records(columns: list[str] | None) -> None:
    known = stepped(columns=columns)
    arrow = [pa.Table.from_pandas(FRAME[half], preserve_index=False) for half in HALVES]
    mappings = [FRAME[half].to_dict("records") for half in HALVES]
    for parts in (mappings, arrow, [FRAME[half] for half in HALVES], [pl.from_pandas(FRAME[half]) for half in HALVES]):
        found = regressions().fit_stream(parts, response="y", columns=columns, batch_rows=N // 2)
        assert bits(found) == bits(known)
    assert found.feature_names_in_.tolist() == known.feature_names_in_.tolist()
    assert found.score(FRAME) == known.score(FRAME)
    assert np.array_equal(found.predict(FRAME), known.predict(FRAME))


def test_concomitants_in_pairs_and_rows() -> None:
    known, both = regressions([0]), np.column_stack([Z, X])
    for half in HALVES:
        known.partial_fit(both[half], Y[half])
    pairs = regressions([0]).fit_stream([(both[half], Y[half]) for half in HALVES], batch_rows=N // 2)
    rows = regressions([0]).fit_stream([np.column_stack([both, Y])], batch_rows=N // 2)
    assert bits(pairs) == bits(known)
    assert bits(rows) == bits(known)
    assert bits(stepped()) == bits(known)
    with pytest.raises((PoisonError, SchemaError), match="has no names: pass positions from 0 on"):
        regressions().fit_stream([(both, Y)], batch_rows=N)


@pytest.mark.parametrize("missing", ["error", "integrate"])
def test_concomitants_that_cannot_be_are_dead_letters(missing: str, tmp_path: Path) -> None:
    wrong = FRAME.copy()
    wrong.loc[3, "z"], wrong.loc[5, "z"] = np.nan, np.inf
    found = regressions(missing=missing).fit_stream(
        [wrong], response="y", batch_rows=100, dead_letter=tmp_path / "bad.arrows", poison_limit=0.5
    )
    lost = [3, 5] if missing == "error" else [5]
    letters = read_appended(tmp_path / "bad.arrows")
    assert letters["record"].to_pylist() == lost
    assert letters["reason"].to_pylist()[-1].startswith("column 0 'z' is infinite")
    rest, known = wrong.drop(index=lost), regressions(missing=missing)
    known.partial_fit(rest[:100], "y").partial_fit(rest[100:], "y")
    assert bits(found) == bits(known)


def test_rows_that_overflow_are_found_beside_concomitants(tmp_path: Path) -> None:
    start = regressions().fit(FRAME, "y")
    huge = FRAME.copy()
    huge.loc[9, "x"] = 1e300
    told: dict[str, Any] = {"batch_rows": N, "dead_letter": tmp_path / "bad.arrows", "poison_limit": 0.5}
    found = regressions().fit(FRAME, "y").fit_stream([huge], **told)
    assert len(read_appended(tmp_path / "bad.arrows")) == 1
    assert bits(found) == bits(start.partial_fit(huge.drop(index=9), "y"))


def test_covariates_of_transitions_in_records() -> None:
    known = run_by_run()
    arrow = [pa.Table.from_pandas(STEPS, preserve_index=False)]
    for parts in (STEPS.to_dict("records"), arrow, [STEPS], [pl.from_pandas(STEPS)]):
        found = chain().fit_stream(parts, sequence_column="run", batch_rows=N // 2)
        assert bits(found) == bits(known)
    assert found.n_features_in_ == known.n_features_in_
    assert found.score(STEPS) == known.score(STEPS)
    assert np.array_equal(found.predict(STEPS), known.predict(STEPS))
    arrays = [STEPS[["x", "u"]].to_numpy()[first : first + 20] for first in range(0, N, 20)]
    assert bits(chain([1]).fit_stream(arrays, batch_rows=N // 2)) == bits(known)


@pytest.mark.parametrize("missing", ["error", "integrate"])
def test_steps_without_observation_and_without_covariates(missing: str, tmp_path: Path) -> None:
    holes = STEPS.copy()
    holes.loc[[7, 30], "x"] = np.nan  # steps without observation, which keep their covariates
    wrong = holes.copy()
    wrong.loc[50, "u"], wrong.loc[60, ["u", "x"]] = np.inf, np.nan
    known = run_by_run(holes.drop(index=[50, 60]), missing=missing)
    told: dict[str, Any] = {"dead_letter": tmp_path / "bad.arrows", "poison_limit": 0.5}
    found = chain(missing=missing).fit_stream([wrong], sequence_column="run", batch_rows=N // 2 - 2, **told)
    letters = read_appended(tmp_path / "bad.arrows")
    assert letters["record"].to_pylist() == [50, 60]
    assert all("every record needs its covariates" in reason for reason in letters["reason"].to_pylist())
    assert bits(found) == bits(known)


def set_by_hand(k: int) -> GaussianHMM:
    """A chain of K states whose parameters stay as they are set."""
    rng = np.random.default_rng(k)
    model = GaussianHMM(k, transition_covariates=[1], covariance_type="diag", params="", missing="integrate")
    model.startprob_, model.transition_intercept_ = rng.dirichlet(np.ones(k)), rng.normal(size=(k, k))
    model.transition_coef_ = rng.normal(size=(k, k, 1))
    model.means_, model.covars_ = 2.0 * np.arange(k, dtype=float)[:, None], np.ones((k, 1))
    return model


@pytest.mark.parametrize("k", [3, 2])
def test_an_endless_sequence_counts_what_one_pass_counts(k: int) -> None:
    """Every transition once, those between batches too, while parameters stay."""
    x = np.array(STEPS[["x", "u"]])
    x[[7, 50, 52], 0] = np.nan
    whole, model = set_by_hand(k).expected_statistics(x).stats, set_by_hand(k)
    model._least_rows = lambda d: 1  # type: ignore[method-assign]
    for first, stop in pairwise([0, 40, 50, 51, 53, N]):
        model.partial_fit(x[first:stop], continued=True, step=lambda weight, seen: weight / (weight + seen))
    assert model._fitted is not None
    assert model._fitted.state is not None
    running = model._fitted.state.memory.running * float(N)  # type: ignore[union-attr]
    for name, value in whole.flatten().items():
        size = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(running.flatten()[name], value, atol=1e-11 * size, err_msg=name)


def test_an_endless_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = STEPS[["u", "x"]]
    known, found = chain(), chain().fit_stream([steps[:70], steps[70:]], continued=True, batch_rows=40)
    for first in range(0, N, 40):
        known.partial_fit(steps[first : first + 40], continued=True)
    assert bits(found) == bits(known)
    found.save("m.npz")
    wrong = steps.copy()
    wrong.loc[3, "u"] = np.nan
    (tmp_path / "steps").write_text("\n".join(json.dumps(row) for row in wrong.to_dict("records")) + "\n")
    command = ["update", "m.npz", "steps", "--continued", "--batch-rows", "159", "--dead-letter", "bad.arrows"]
    assert "159 rows learned" in CliRunner().invoke(main, command, catch_exceptions=False).output
    assert bits(GaussianHMM.load("m.npz")) == bits(known.partial_fit(steps.drop(index=3), continued=True))
    assert read_appended(tmp_path / "bad.arrows")["record"].to_pylist() == [0]


def test_streams_go_on_from_files_by_hand_and_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights, moves = regressions().fit(FRAME, "y"), chain().fit(STEPS, sequence_column="run")
    (tmp_path / "rows").write_text("\n".join(map(json.dumps, FRAME.to_dict("records"))) + "\n")
    (tmp_path / "steps").write_text("\n".join(map(json.dumps, STEPS.to_dict("records"))) + "\n")
    for name, model in (("rows", weights), ("steps", moves)):
        model.save(f"{name}.npz")
        found = CliRunner().invoke(main, ["update", f"{name}.npz", name, "--batch-rows", "80"], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        assert "160 rows learned" in found.output
    for half in HALVES:
        weights.partial_fit(FRAME[half], "y")
        moves.partial_fit(STEPS[half], sequence_column="run")
    assert bits(MixtureOfRegressions.load("rows.npz")) == bits(weights)
    assert bits(GaussianHMM.load("steps.npz")) == bits(moves)


def test_a_folder_is_watched_for_columns_and_concomitants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = regressions().fit(FRAME, "y", columns=["x"])
    model.save("m.npz")
    (tmp_path / "new").mkdir()
    pq.write_table(pa.Table.from_pandas(FRAME.assign(other="text"), preserve_index=False), "new/a.parquet")
    command = ["watch", "new", "m.npz", "--once", "--columns", "x", "--response", "y"]
    assert "160 rows learned" in CliRunner().invoke(main, command, catch_exceptions=False).output
    assert bits(MixtureOfRegressions.load("m.npz")) == bits(model.partial_fit(FRAME, "y", columns=["x"]))


def test_parameters_set_by_hand_take_streams() -> None:
    def own(concomitant: Any) -> MixtureOfRegressions:
        model = regressions(concomitant)
        model.weights_, model.coef_, model.intercept_ = (
            np.full(2, 0.5),
            np.array([[1.0], [-1.0]]),
            np.array([1.0, -1.0]),
        )
        model.scale_, model.concomitant_intercept_ = np.full(2, 0.3), np.zeros(2)
        model.concomitant_coef_ = np.zeros((2, 1))
        return model

    both = np.column_stack([Z, X])
    known = own([0]).partial_fit(both, Y)
    assert bits(own([0]).fit_stream([(both, Y)], batch_rows=N)) == bits(known)
    by_name = own("z").fit_stream([FRAME], response="y", columns=["x"], batch_rows=N)
    assert bits(by_name) == bits(known)
    with pytest.raises(SchemaError, match="are of 1"):
        own("z").fit_stream([FRAME], response="y", columns=["x", "other"], batch_rows=N)


def test_columns_that_are_not_there() -> None:
    with pytest.raises(SchemaError, match="there is no column 'lost' on which the weights could depend"):
        regressions("lost").fit_stream([FRAME], response="y", batch_rows=N)
    with pytest.raises(SchemaError, match="there is no column 'lost' to drive transitions"):
        chain("lost").fit_stream([STEPS], sequence_column="run", batch_rows=N)
    with pytest.raises(SchemaError, match="which are all concomitant variables"):
        regressions().fit_stream([FRAME[["z", "y"]]], response="y", batch_rows=N)
