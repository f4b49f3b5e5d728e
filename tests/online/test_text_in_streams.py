"""Text in mini-batches and messages: encoded by the model's vocabulary, or put aside by the record, never by guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from helpers.fitted_states import state_of
from streamem import CategoricalHMM, GaussianMixture, GroupedMixture, LatentClass, Mixture
from streamem.cli.main import main
from streamem.core.errors import ParameterError, PoisonError, SchemaError
from streamem.estimators.loading import load_model
from streamem.families import Categorical, Gaussian, Product
from streamem.online.append_only_arrow import read_appended
from streamem.streams.folder import FolderStream

SKIPS: dict[str, Any] = {"missing": "integrate", "unseen": "missing"}
REGIONS = {"region": ["north", "south"]}


def frame(n: int = 120, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rich = rng.random(n) < 0.4
    return pd.DataFrame(
        {
            "income": rng.normal(np.where(rich, 60.0, 20.0), 5.0),
            "region": np.where(rng.random(n) < np.where(rich, 0.9, 0.2), "north", "south"),
        }
    )


def product(**settings: Any) -> Mixture:
    return Mixture(Product({"income": Gaussian(), "region": Categorical()}), 2, random_state=0, **settings)


def records(data: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: None if value != value else value for name, value in one.items()} for one in data.to_dict("records")]


def with_text_as(kind: pa.DataType) -> Callable[[pd.DataFrame], list[Any]]:
    def made(data: pd.DataFrame) -> list[Any]:
        return [
            pa.table(
                {
                    "region": pa.array(data["region"].tolist(), kind, from_pandas=True),
                    "other": data["income"],
                    "income": data["income"],
                }
            )
        ]

    return made


KINDS: dict[str, Callable[[pd.DataFrame], list[Any]]] = {
    "objects": records,
    "lists of objects": lambda data: [records(data[:50]), records(data[50:])],
    "JSON": lambda data: [json.dumps(records(data)).encode()],
    "batches": lambda data: pa.Table.from_pandas(data).to_batches(max_chunksize=50),
    "large text": with_text_as(pa.large_string()),
    "dictionary": with_text_as(pa.dictionary(pa.int8(), pa.string())),
    "frames": lambda data: [data[:7], data[7:][["region", "income"]]],
    "frames of categories": lambda data: [data.astype({"region": "category"})],
}


def letters(path: Path) -> list[dict[str, Any]]:
    return list(read_appended(path).to_pylist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_encodes_messages_by_its_own_vocabulary(kind: str) -> None:
    """Bits are those of `partial_fit` of a frame, which encodes as `predict` does; one value alone keeps its code."""
    south = frame(80, 1)
    south["region"] = "south"
    streamed, learned = product().fit(frame()), product().fit(frame()).partial_fit(south)
    streamed.fit_stream(KINDS[kind](south), batch_rows=80)
    assert streamed.params_ == learned.params_
    assert streamed.categories_ == REGIONS


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_never_seen_costs_its_own_record(kind: str, tmp_path: Path) -> None:
    later = frame(80, 1)
    later.loc[13, "region"] = "east"
    learned = product().fit(frame()).partial_fit(later.drop(index=13))
    streamed = product().fit(frame())
    streamed.fit_stream(KINDS[kind](later), batch_rows=79, dead_letter=tmp_path / "bad.arrows", poison_limit=0.1)
    assert streamed.params_ == learned.params_
    (letter,) = letters(tmp_path / "bad.arrows")
    assert "'region'" in letter["reason"]
    assert "'east', which is none of its 2 categories ('north', 'south')" in letter["reason"]
    assert b"east" in letter["payload"]


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_may_be_missing_and_null_is(kind: str) -> None:
    new, gaps = frame(80, 1), frame(80, 1)
    new["region"], gaps["region"] = new["region"].astype(object), gaps["region"].astype(object)
    new.loc[::9, "region"], gaps.loc[::9, "region"] = "east", None
    expected = product(**SKIPS).fit(frame()).partial_fit(gaps).params_
    for data in (new, gaps):
        assert product(**SKIPS).fit(frame()).fit_stream(KINDS[kind](data), batch_rows=80).params_ == expected


@pytest.mark.parametrize("kind", KINDS)
def test_null_is_a_dead_letter_where_nothing_may_be_missing(kind: str, tmp_path: Path) -> None:
    gaps = frame(80, 1).astype({"region": object})
    gaps.loc[[3, 5], "region"] = None
    model = product().fit(frame())
    model.fit_stream(KINDS[kind](gaps), dead_letter=tmp_path / "bad.arrows", poison_limit=0.5)
    assert ["'region' is missing or NaN" in letter["reason"] for letter in letters(tmp_path / "bad.arrows")] == [
        True
    ] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_begins_on_a_stream_with_a_vocabulary(kind: str, tmp_path: Path) -> None:
    """It is kept with the model in the order that was given, and the same call goes on with it."""
    given = {"region": ["south", "north", "east"]}
    options: dict[str, Any] = {"columns": ["income", "region"], "batch_rows": 40, "categories": given}
    path, streamed, learned = tmp_path / "m.npz", product(), product()
    streamed.fit_stream(KINDS[kind](frame()), checkpoint=path, **options)
    for first in range(0, 120, 40):
        learned.partial_fit(frame()[first : first + 40], categories=given)
    assert streamed.params_ == learned.params_
    loaded = Mixture.load(path, family=product().family)
    assert streamed.categories_ == learned.categories_ == loaded.categories_ == given
    again = loaded.fit_stream([records(frame(40, 2))], **options)
    assert again.categories_ == given
    assert again.report_.n_rows == 160


def test_fewer_rows_than_a_start_needs_are_kept_with_their_vocabulary() -> None:
    model = product().partial_fit(frame(3), categories={"region": ["south", "north"]})
    model.fit_stream([records(frame())], batch_rows=120)
    assert model.categories_ == {"region": ["south", "north"]}


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_vocabulary_the_error_says_so(kind: str) -> None:
    with pytest.raises(PoisonError, match=r"'region'.* text|'region' holds .*no number") as caught:
        product().fit_stream(KINDS[kind](frame()))
    assert "name those of 'region' with categories={...}" in str(caught.value)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"income": 1.0, "region": 1.0}, "'region' holds 1.0, which is none of its 2 categories"),
        ({"income": 1.0, "region": True}, "'region' holds True"),
        ({"income": 1.0, "region": ["north"]}, "holds ['north']"),
        ({"income": "north", "region": "north"}, "'income' holds 'north', which is no number"),
        ({"income": 1.0}, "there is no field 'region'"),
        ({"income": 1.0, "region": ""}, "'region' holds ''"),
        (pa.table({"income": [1.0], "region": [1.0]}), "'region' holds double, its categories do not"),
        (pa.table({"income": ["a"], "region": ["north"]}), "'income' (string)"),
    ],
    ids=["number", "truth", "list", "text for a number", "absent", "empty", "Arrow numbers", "Arrow text for numbers"],
)
@pytest.mark.parametrize("unseen", ["error", "missing"])
def test_what_is_no_value_of_the_field(record: Any, reason: str, unseen: str, tmp_path: Path) -> None:
    """A dead letter whatever `unseen` says; only text that was never seen counts as missing."""
    if unseen == "missing" and isinstance(record, dict) and record.get("region") == "":
        pytest.skip("text that was never seen")
    model = product(missing="integrate", unseen=unseen).fit(frame())
    model.fit_stream([record, *records(frame(20, 1))], dead_letter=tmp_path / "bad.arrows", poison_limit=0.5)
    (letter,) = letters(tmp_path / "bad.arrows")
    assert reason in letter["reason"]
    assert model.report_.n_rows == 140


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"region": "north"}, "must map names of columns to lists of all their values"),
        (["north"], "must map names of columns to lists of all their values"),
        ({"region": {"north", "south"}}, "must map names of columns to lists of all their values, in the order"),
        ({"region": []}, "must map names of columns to lists of all their values"),
        ({"region": [["north"]]}, "must map names of columns to lists of all their values"),
        ({"region": ["north", "north"]}, "hold a value twice"),
        ({"region": ["north", None]}, "hold a value twice, or None"),
    ],
)
def test_a_vocabulary_that_is_none(given: Any, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        product().fit_stream([frame()], categories=given)
    with pytest.raises(ParameterError, match=told):
        product().partial_fit(frame(), categories=given)


def test_a_vocabulary_of_other_columns_or_another_model() -> None:
    with pytest.raises(SchemaError, match=r"categories names \['area'\], and the features of the stream have"):
        LatentClass(2).fit_stream([frame()[["region"]]], categories={**REGIONS, "area": ["a"]})
    with pytest.raises(ParameterError, match=r"categories names \['area'\], of which X holds no values"):
        LatentClass(2).partial_fit(frame()[["region"]], categories={**REGIONS, "area": ["a"]})
    with pytest.raises(ParameterError, match="of which X holds no values; it has no column names"):
        LatentClass(2, n_categories=2).partial_fit(np.zeros((20, 1)), categories=REGIONS)
    with pytest.raises(ParameterError, match="families that count them"):
        GaussianMixture(2).fit_stream([frame()[["income"]]], categories=REGIONS)
    fitted = product().fit(frame())
    with pytest.raises(ParameterError, match=r"\('south', 'north'\).*and this model has .*\('north', 'south'\).*stay"):
        fitted.fit_stream([frame()], categories={"region": ["south", "north"]})
    assert fitted.partial_fit(frame(), categories=REGIONS).fit_stream([frame()], categories=REGIONS)


def chains(seed: int) -> pd.DataFrame:
    data = frame(60, seed)[["region"]]
    return data.assign(run=np.repeat([f"r{i}" for i in range(6)], 10))


@pytest.mark.parametrize(
    "model",
    [lambda: CategoricalHMM(2, random_state=0), lambda: GroupedMixture(Categorical(), 2, random_state=0)],
    ids=["CategoricalHMM", "GroupedMixture"],
)
@pytest.mark.parametrize("kind", ["objects", "batches", "frames"])
def test_sequences_and_groups(kind: str, model: Callable[[], Any]) -> None:
    """Text that names a sequence is no feature; text that is a feature needs the vocabulary."""
    made = {
        "objects": lambda data: data.to_dict("records"),
        "batches": lambda data: pa.Table.from_pandas(data).to_batches(max_chunksize=20),
        "frames": lambda data: [data[:20], data[20:]],
    }[kind]
    options: dict[str, Any] = {"sequence_column": "run", "batch_rows": 60}
    learned = model().fit(chains(0), sequence_column="run").partial_fit(chains(1), sequence_column="run")
    streamed = model().fit(chains(0), sequence_column="run").fit_stream(made(chains(1)), **options)
    assert state_of(streamed).params == state_of(learned).params
    begun = model().fit_stream(made(chains(0)), **options, categories=REGIONS)
    at_once = model().partial_fit(chains(0), sequence_column="run", categories=REGIONS)
    assert state_of(begun).params == state_of(at_once).params
    assert begun.categories_ == REGIONS
    with pytest.raises(PoisonError, match="name those of 'region' with categories="):
        model().fit_stream(made(chains(0)), **options)


def test_categories_alone_and_a_folder(tmp_path: Path) -> None:
    """Latent classes of text, from Parquet files as they appear."""
    for i in range(3):
        pq.write_table(pa.Table.from_pandas(frame(40, i)[["region"]]), tmp_path / f"{i}.parquet")
    model = LatentClass(2, random_state=0, compress=False).fit(frame()[["region"]])
    learned = LatentClass(2, random_state=0, compress=False).fit(frame()[["region"]])
    for i in range(3):
        learned.partial_fit(frame(40, i)[["region"]])
    model.fit_stream(FolderStream(tmp_path, follow=False), batch_rows=40)
    assert state_of(model).params == state_of(learned).params


def test_at_a_terminal(tmp_path: Path) -> None:
    """`streamem update` of a model file takes JSON lines and Arrow, and puts aside what it does not know."""
    path, lines, run = tmp_path / "m.npz", tmp_path / "new.jsonl", CliRunner()
    LatentClass(2, random_state=0).fit(frame()[["region"]]).save(path)
    later = [*records(frame(40, 1)), {"income": 3.1, "region": "east"}]
    lines.write_text("".join(json.dumps(one) + "\n" for one in later))
    refused = run.invoke(main, ["update", str(path), str(lines)])
    assert "'east', which is none of its 2 categories" in refused.output
    options = ["--dead-letter", str(tmp_path / "bad.arrows"), "--poison-limit", "0.1"]
    done = run.invoke(main, ["update", str(path), str(lines), *options])
    assert "40 rows learned, 160 in all" in done.output, done.output
    with pa.ipc.new_stream(tmp_path / "new.arrows", (table := pa.Table.from_pandas(frame(30, 2))).schema) as writer:
        writer.write_table(table)
    done = run.invoke(main, ["update", str(path), str(tmp_path / "new.arrows")])
    assert "30 rows learned, 190 in all" in done.output, done.output
    assert load_model(path).categories_ == REGIONS


def test_a_new_model_at_a_terminal(tmp_path: Path) -> None:
    path, lines, run = tmp_path / "m.npz", tmp_path / "new.jsonl", CliRunner()
    lines.write_text("".join(json.dumps(one) + "\n" for one in records(frame()[["region"]])))
    command = ["update", str(path), str(lines), "-k", "2", "--emission", "categorical", "--seed", "0", "--continued"]
    refused = run.invoke(main, command)
    assert "name those of 'region' with --categories NAME=A,B,…" in refused.output, refused.output
    done = run.invoke(main, [*command, "--categories", "region=north,south"])
    assert "120 rows learned" in done.output, done.output
    assert load_model(path).categories_ == REGIONS
    assert "is not NAME=A,B" in run.invoke(main, [*command, "--categories", "region"]).output


def test_categories_of_other_columns_are_named() -> None:
    """The remedy speaks of what was given, not of how a file is opened."""
    with pytest.raises(SchemaError, match=r"'a' \(string\)\. Categories are given for 'z' only"):
        LatentClass(2).partial_fit(pa.table({"a": ["x", "y"]}), categories={"z": ["q"]})
