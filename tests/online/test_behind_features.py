"""Streams whose records hold more than features: the response of a regression, or the noise of each record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner

from streamem import GaussianHMM, GaussianMixture, MixtureOfRegressions, StudentTMixture
from streamem.appending import read_appended
from streamem.cli.main import main
from streamem.core.errors import ParameterError, PoisonError, SchemaError
from streamem.estimators.live import StreamArguments

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
Y = np.where(RNG.random(N) < 0.5, 1.0 + X[:, 0], -1.0 - X[:, 0]) + 0.1 * RNG.normal(size=N)
NOISE = RNG.uniform(0.1, 1.0, size=(N, 2))
HALVES = (slice(0, N // 2), slice(N // 2, N))
FRAME = pd.DataFrame({"y": Y, "a": X[:, 0], "w": 1.0, "v": NOISE[:, 0], "b": X[:, 1], "u": NOISE[:, 1]})


def regressions(**settings: Any) -> MixtureOfRegressions:
    return MixtureOfRegressions(2, random_state=0, init_params="random", **settings)


def mixture(**settings: Any) -> GaussianMixture:
    return GaussianMixture(2, random_state=0, **settings)


def bits(model: Any) -> list[bytes]:
    found = model._fitted.state.params.flatten()
    return [np.asarray(found[name]).tobytes() for name in sorted(found)]


RECORDS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "mappings": lambda part: part.to_dict("records"),
    "JSON": lambda part: part.to_json(orient="records").encode(),
    "pandas": lambda part: part,
    "polars": pl.from_pandas,
    "Arrow": lambda part: pa.Table.from_pandas(part, preserve_index=False),
}


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("told", ["columns", "first record"])
def test_responses_in_records(form: str, told: str) -> None:
    known = regressions()
    for half in HALVES:
        known.partial_fit(X[half], Y[half])
    columns, frame = (["a", "b"], FRAME) if told == "columns" else (None, FRAME[["y", "a", "b"]])
    exact = frame if form != "JSON" else frame.round(15)
    found = regressions().fit_stream(
        [RECORDS[form](exact[half]) for half in HALVES], response="y", columns=columns, batch_rows=N // 2
    )
    assert bits(found) == bits(known) or form == "JSON"
    np.testing.assert_allclose(found.coef_, known.coef_, rtol=1e-6)
    assert found.feature_names_in_.tolist() == ["a", "b"]
    assert found.n_features_in_ == 2
    assert found.score(FRAME) == pytest.approx(known.score(X, Y), rel=1e-6)


def test_responses_without_names() -> None:
    known, pairs = regressions().partial_fit(X, Y), regressions().fit_stream([(X, Y)], batch_rows=N)
    rows = regressions().fit_stream([np.column_stack([X, Y])], batch_rows=N)
    assert bits(pairs) == bits(known)
    assert bits(rows) == bits(known)
    fitted = regressions().fit(FRAME[["a", "b"]], Y)
    assert fitted.fit_stream([(X, Y)], batch_rows=N).feature_names_in_.tolist() == ["a", "b"]


def test_a_stream_goes_on_from_a_fit_and_from_a_checkpoint(tmp_path: Path) -> None:
    parts = [FRAME[first : first + 30] for first in range(0, N, 30)]
    whole = regressions().fit(FRAME[["a", "b", "y"]], "y")
    whole.save(tmp_path / "m.npz")
    whole.fit_stream(parts, batch_rows=30)
    again = MixtureOfRegressions.load(tmp_path / "m.npz")
    for upto in (2, 4):
        again.fit_stream(parts[:upto], batch_rows=30, checkpoint=tmp_path / "run.npz")
        again = MixtureOfRegressions.load(tmp_path / "run.npz")
    assert bits(again) == bits(whole)


def test_labels_in_records(tmp_path: Path) -> None:
    names = np.array(["no", "yes"])[(Y > 0).astype(int)]
    table = FRAME[["a", "b"]].assign(answer=names)
    known = MixtureOfRegressions(1, "binomial").partial_fit(X, (Y > 0).astype(float))
    told: dict[str, Any] = {"response": "answer", "batch_rows": N, "dead_letter": tmp_path / "bad.arrows"}
    labels = {"answer": ["no", "yes"]}
    found = MixtureOfRegressions(1, "binomial").fit_stream([table], categories=labels, **told)
    assert bits(found) == bits(known)
    assert found.classes_.tolist() == ["no", "yes"]
    found.fit_stream([table.assign(answer="maybe")[:5], table], poison_limit=1.0, **told)
    assert len(read_appended(tmp_path / "bad.arrows")) == 5
    with pytest.raises(ParameterError, match="only labels of the response 'answer' may be told"):
        MixtureOfRegressions(1, "binomial").fit_stream([table], categories={"a": ["x"]}, **told)
    for wrong, what in ((["no", "yes", "so"], "3 label"), (["no"], "1 label"), (["no", "no"], "the label 'no' twice")):
        with pytest.raises(SchemaError, match=f"categories of 'answer' holds {what}"):
            MixtureOfRegressions(1, "binomial").fit_stream([table], categories={"answer": wrong}, **told)
    with pytest.raises(PoisonError, match="the column 'answer' holds text; .*categories="):
        MixtureOfRegressions(1, "binomial").fit_stream([table], response="answer")
    with pytest.raises(ParameterError, match="and this model has"):
        found.fit_stream([table], categories={"answer": ["yes", "no"]}, **told)


def test_records_that_cannot_be_used(tmp_path: Path) -> None:
    counts = MixtureOfRegressions(1, "poisson").fit(FRAME[["a"]].assign(y=np.floor(np.abs(Y))), "y")
    bad = [{"a": 0.5, "y": -1.0}, {"a": 0.5, "y": None}, {"a": 0.5}, {"a": 0.5, "y": "many"}]
    good = [{"a": float(value), "y": 1.0} for value in X[:, 0]]
    counts.fit_stream([[*bad, *good]], dead_letter=tmp_path / "bad.arrows", poison_limit=0.5, batch_rows=1000)
    reasons = read_appended(tmp_path / "bad.arrows")["reason"].to_pylist()
    assert len(reasons) == 4
    assert any("no field 'y'" in reason for reason in reasons)
    with pytest.raises((PoisonError, SchemaError), match="name the response with response="):
        regressions().fit_stream([good])
    with pytest.raises(
        (PoisonError, SchemaError), match=r"an array has no field 'y'; send records with names, or pairs"
    ):
        regressions().fit_stream([np.column_stack([X, Y])], response="y")
    with pytest.raises((PoisonError, SchemaError), match=r"a pair holds arrays of shape \(120, 2\) and \(119,\)"):
        regressions().fit_stream([(X, Y[1:])])
    with pytest.raises(ParameterError, match="response is 3; it must be the name of a field"):
        regressions().fit_stream([(X, Y)], response=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'batch_row'"):
        regressions().fit_stream([(X, Y)], batch_row=3)


def test_noise_in_records() -> None:
    known = mixture()
    for half in HALVES:
        known.partial_fit(X[half], noise=NOISE[half])
    for columns in (["a", "b"], None):
        frame = FRAME if columns else FRAME[["a", "u", "v", "b"]]
        for form in ("Arrow", "mappings"):
            parts = [RECORDS[form](frame[half]) for half in HALVES]
            found = mixture().fit_stream(parts, noise=["v", "u"], columns=columns, batch_rows=N // 2)
            assert bits(found) == bits(known)
    pairs = [(X[half], NOISE[half]) for half in HALVES]
    assert bits(mixture().fit_stream(pairs, noise=["v", "u"], batch_rows=N // 2)) == bits(known)
    assert np.array_equal(found.predict(FRAME[["a", "b"]]), known.predict(X))
    matrices = NOISE[:, :, None] * np.eye(2)
    full = mixture().fit_stream([(X, matrices.reshape(N, 4))], noise=["vv", "vu", "uv", "uu"], batch_rows=N)
    assert bits(full) == bits(mixture().partial_fit(X, noise=matrices))


def test_noise_after_a_fit_and_from_a_checkpoint(tmp_path: Path) -> None:
    start = mixture().fit(FRAME[["a", "b"]], noise=NOISE)
    start.save(tmp_path / "m.npz")
    parts = [FRAME[first : first + 30] for first in range(0, N, 30)]
    whole = start.fit_stream(parts, noise=["v", "u"], batch_rows=30)
    again = GaussianMixture.load(tmp_path / "m.npz")
    for upto in (2, 4):
        again.fit_stream(parts[:upto], noise=["v", "u"], batch_rows=30, checkpoint=tmp_path / "run.npz")
        again = GaussianMixture.load(tmp_path / "run.npz")
    assert bits(again) == bits(whole)
    once = bits(again)
    again.fit_stream(parts[:1], batch_rows=30)  # records without noise, of the same model
    assert bits(again) != once


def test_noise_that_cannot_be(tmp_path: Path) -> None:
    wrong = NOISE.copy()
    wrong[3, 1], wrong[5, 0], wrong[7, 1] = -1.0, np.nan, np.inf
    model = mixture().fit_stream(
        [(X, wrong)], noise=["v", "u"], batch_rows=N, dead_letter=tmp_path / "bad.arrows", poison_limit=0.5
    )
    letters = read_appended(tmp_path / "bad.arrows")
    assert letters["record"].to_pylist() == [3, 5]
    assert "variances are numbers >= 0" in letters["reason"][0].as_py()
    rest = np.delete(np.arange(N), [3, 5])
    assert bits(model) == bits(mixture().partial_fit(X[rest], noise=wrong[rest]))
    skew = np.tile([1.0, 0.5, 0.5, 1.0], (N, 1))
    skew[4] = [1.0, 2.0, 2.0, 1.0]
    named: dict[str, Any] = {"noise": ["vv", "vu", "uv", "uu"], "batch_rows": N, "poison_limit": 0.5}
    mixture().fit_stream([(X, skew)], **named, dead_letter=tmp_path / "skew.arrows")
    assert read_appended(tmp_path / "skew.arrows")["record"].to_pylist() == [4]
    huge = (
        mixture()
        .fit(X)
        .fit_stream(
            [(np.where(np.arange(N)[:, None] == 9, 1e300, X), wrong)],
            **{**named, "noise": ["v", "u"]},
            dead_letter=tmp_path / "huge.arrows",
        )
    )
    assert read_appended(tmp_path / "huge.arrows")["record"].to_pylist() == [
        3,
        5,
        7,
    ]  # of the batch the eighth row left
    assert np.isfinite(huge.means_).all()
    with pytest.raises(ParameterError, match="of a stream it must be the names of the fields"):
        mixture().fit_stream([X], noise=NOISE)  # type: ignore[arg-type]
    with pytest.raises((PoisonError, SchemaError), match="noise names 3 fields for 2 features"):
        mixture().fit(X).fit_stream([(X, NOISE)], noise=["v", "u", "w"])
    with pytest.raises(ParameterError, match="does not go together with noise of rows"):
        mixture(noise=True).fit_stream([(X, NOISE)], noise=["v", "u"])
    for kind in (StudentTMixture, GaussianHMM):
        with pytest.raises(TypeError, match="unexpected keyword argument 'noise'"):
            kind(2).fit_stream([X], noise=["v", "u"])


def test_the_same_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, FRAME.to_dict("records"))))
    mixture().fit(FRAME[["a", "b"]], noise=NOISE).save("m.npz")
    regressions().fit(FRAME[["a", "b", "y"]], "y").save("r.npz")
    Path("folder").mkdir()
    FRAME.to_parquet("folder/a.parquet")

    def run(command: str) -> Any:
        return CliRunner().invoke(main, command.split())

    for command, model in (
        ("update m.npz rows.jsonl --noise-columns v,u", mixture().fit(FRAME[["a", "b"]], noise=NOISE)),
        ("update r.npz rows.jsonl", regressions().fit(FRAME[["a", "b", "y"]], "y")),
        ("update r.npz rows.jsonl --response y", regressions().fit(FRAME[["a", "b", "y"]], "y")),
    ):
        before = Path(command.split()[1]).read_bytes()
        result = run(command)
        assert result.exit_code == 0, result.output
        told = {"noise": ["v", "u"]} if "noise" in command else {}
        model.fit_stream([FRAME], **told)
        assert bits(type(model).load(command.split()[1])) == bits(model)
        Path(command.split()[1]).write_bytes(before)
    for folder in (
        "watch folder m.npz --once --columns a,b --noise-columns v,u",
        "watch folder new.npz --once -k 2 --columns a,b --noise-columns v,u",
    ):
        assert "120 rows learned" in run(folder).output
    for command, told in (
        ("update r.npz rows.jsonl --noise-columns v,u", "--noise-columns is for Gaussian mixtures"),
        ("update m.npz rows.jsonl --response y", "--response is for regressions"),
    ):
        result = run(command)
        assert result.exit_code != 0
        assert told in result.output


def test_defaults_are_those_of_the_method() -> None:
    """`StreamArguments` is made of keywords where a method takes more than all others do."""
    import inspect

    known = inspect.signature(GaussianHMM.fit_stream).parameters
    for name, parameter in inspect.signature(StreamArguments).parameters.items():
        if name in known and name != "most_steps":
            assert parameter.default == known[name].default, name
