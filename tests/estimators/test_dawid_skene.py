"""`DawidSkene` against published numbers, an EM in NumPy, and every way in which votes come."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from helpers.published_tables import anaesthetists
from streamem import DawidSkene
from streamem.core.errors import DataError, ParameterError, SchemaError
from streamem.estimators.loading import load_model
from streamem.estimators.uncertainty import UncertaintyWarning

Array = NDArray[Any]
EXACT: dict[str, Any] = {"tol": 1e-13, "max_iter": 5000}


def crowd(seed: int = 0, items: int = 150, raters: int = 6) -> pa.Table:
    """Votes in a random order: every item has some, no table has an entry that is never seen."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, items, p=[0.5, 0.3, 0.2])
    item, rater = np.divmod(rng.permutation(items * raters), raters)
    kept = rng.random(len(item)) < 0.8
    item, rater = item[kept], rater[kept]
    right = rng.random(len(item)) < np.linspace(0.5, 0.9, raters)[rater]
    label = np.where(right, truth[item], rng.integers(3, size=len(item)))
    names = np.array(["ape", "bee", "cow"])
    return pa.table({"item": [f"i{i}" for i in item], "rater": [f"r{r}" for r in rater], "label": names[label]})


def codes(table: Any) -> tuple[Array, Array, Array]:
    """Codes of items in the order in which they came, and of raters and labels in theirs."""
    frame = table.to_pandas()
    item = pd.factorize(frame["item"])[0]
    return item, *(np.unique(frame[name], return_inverse=True)[1] for name in ("rater", "label"))


def crowd_kit(table: Any, iterations: int) -> tuple[Array, Array, Array, float]:
    """crowd-kit's algorithm (1.4.2): shares of votes, an M-step, then E- and M-steps; posteriors, shares, tables, ℓ."""
    item, rater, label = codes(table)
    k, shares = label.max() + 1, np.zeros((item.max() + 1, label.max() + 1))
    np.add.at(shares, (item, label), 1.0)

    def maximized(post: Array) -> tuple[Array, Array]:
        errors = np.zeros((rater.max() + 1, k, k))
        np.add.at(errors, (rater, label), post[item])
        errors = errors.clip(min=1e-10)
        return post.mean(axis=0), errors / errors.sum(axis=1, keepdims=True)

    post, likelihood = shares / shares.sum(axis=1, keepdims=True), 0.0
    prior, errors = maximized(post)
    for _ in range(iterations):
        joint = np.repeat(np.log(prior)[None], len(post), axis=0)
        np.add.at(joint, item, np.log(errors[rater, label]))
        density = np.logaddexp.reduce(joint, axis=1)
        post, likelihood = np.exp(joint - density[:, None]), float(density.sum())
        prior, errors = maximized(post)
    return post, prior, errors.transpose(0, 2, 1), likelihood


def test_anaesthetists() -> None:
    """Dawid & Skene (1979), tables 2 to 4: prevalence and the errors of observer 1; ℓ by an independent EM."""
    votes = anaesthetists()
    model = DawidSkene(**EXACT).fit(votes)
    np.testing.assert_allclose(model.class_prior_.round(2), [0.40, 0.42, 0.11, 0.07])
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    np.testing.assert_allclose(model.confusion_[0].round(2), first)
    assert model.scores(votes)["log_likelihood"] == pytest.approx(-192.890881, abs=1e-6)
    assert model.raters_.tolist() == [1, 2, 3, 4, 5]
    assert model.predict(votes)[:3].tolist() == [1, 4, 2]
    fast = DawidSkene(**EXACT).fit(votes, algorithm="squarem")
    assert fast.lower_bound_ == pytest.approx(model.lower_bound_, abs=1e-10)


def test_iterations_are_those_of_crowd_kit() -> None:
    table = crowd()
    post, prior, errors, likelihood = crowd_kit(table, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DawidSkene(tol=0.0, max_iter=10).fit(table)
        before = DawidSkene(tol=0.0, max_iter=9).fit(table)
    np.testing.assert_allclose(model.class_prior_, prior, rtol=1e-9)
    np.testing.assert_allclose(model.confusion_, errors, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(before.predict_proba(table), post, atol=1e-9)
    assert before.scores(table)["log_likelihood"] == pytest.approx(likelihood, rel=1e-10)


def shapes_of(table: pa.Table, folder: Path) -> dict[str, Any]:
    """The votes in every shape."""
    frame = table.to_pandas()
    path = folder / "votes.parquet"
    pq.write_table(table, path, row_group_size=100)
    grouped = frame.assign(at=pd.factorize(frame["item"])[0]).sort_values("at", kind="stable")
    pq.write_table(pa.table(grouped[["label", "item", "rater"]]), folder / "grouped.parquet", row_group_size=100)
    return {
        "pandas": frame,
        "polars": pl.from_pandas(frame),
        "Dask": dd.from_pandas(grouped, npartitions=3),
        "Arrow": table,
        "array": frame.to_numpy(),
        "list": frame.to_numpy().tolist(),
        "Parquet in any order": path,
        "Parquet by item": folder / "grouped.parquet",
    }


def test_every_shape_gives_the_same_model(tmp_path: Path) -> None:
    """Votes in any order, of text, in memory and in files: the same bits, and the items in the same order."""
    table = crowd()
    first: Any = None
    for name, votes in shapes_of(table, tmp_path).items():
        model = DawidSkene(max_iter=30).fit(votes)
        answers = model.predict(votes)
        first = first or (model.confusion_, answers, model.predict_proba(votes))
        np.testing.assert_allclose(model.confusion_, first[0], rtol=1e-12, err_msg=name)
        np.testing.assert_array_equal(answers, first[1], err_msg=name)
        np.testing.assert_allclose(model.predict_proba(votes), first[2], atol=1e-12, err_msg=name)
        assert model.items(votes).tolist() == list(dict.fromkeys(table["item"].to_pylist())), name
        assert hasattr(model, "items_") == ("Parquet" not in name and name != "Dask")


def test_answers_go_with_their_items(tmp_path: Path) -> None:
    table = crowd()
    paths = shapes_of(table, tmp_path)
    model = DawidSkene().fit(table)
    expected = dict(zip(model.items_.tolist(), model.predict(table).tolist(), strict=True))
    assert model.set_output("pandas").predict(table).to_dict() == expected
    assert model.predict(paths["Parquet in any order"]).to_dict() == expected
    assert list(model.predict_proba(table)) == ["probability_ape", "probability_bee", "probability_cow"]
    for name in ("Parquet by item", "Parquet in any order", "pandas"):
        model.predict(paths[name], out=tmp_path / "labels.parquet", overwrite=True)
        told = pq.read_table(tmp_path / "labels.parquet").to_pydict()
        assert dict(zip(told["item"], told["label"], strict=True)) == expected, name


def test_files_and_checkpoints(tmp_path: Path) -> None:
    """Saved and loaded with its names; ten iterations are five, saved, and five more."""
    table = crowd()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = DawidSkene(tol=0.0, max_iter=10).fit(table)
        DawidSkene(tol=0.0, max_iter=5).fit(table, checkpoint=tmp_path / "run.npz")
        resumed = DawidSkene(tol=0.0, max_iter=10).fit(table, checkpoint=tmp_path / "run.npz")
    assert resumed.confusion_.tobytes() == whole.confusion_.tobytes()
    whole.save(tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz")
    assert (loaded.raters_.tolist(), loaded.classes_.tolist()) == (whole.raters_.tolist(), whole.classes_.tolist())
    np.testing.assert_array_equal(loaded.predict(table), whole.predict(table))
    assert "cow:" in loaded.describe()


def test_weights_of_items() -> None:
    """A weight of 2 is the item twice, told by item, by vote or by column; items of weight 0 say nothing."""
    table = crowd()
    frame = table.to_pandas()
    of_items = {name: float(i % 3) for i, name in enumerate(dict.fromkeys(frame["item"]))}
    twice = pd.concat([frame[frame["item"].map(of_items) > i].assign(copy=i) for i in range(2)])
    twice["item"] += "-" + twice.pop("copy").astype(str)
    expected = DawidSkene(**EXACT).fit(twice).confusion_
    heavy = frame.assign(weight=frame["item"].map(of_items))
    for weight in ([*of_items.values()], heavy["weight"].to_numpy(), "weight"):
        found = DawidSkene(**EXACT).fit(heavy, sample_weight=weight).confusion_
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_given_tables_and_smoothing() -> None:
    table = crowd()
    fitted = DawidSkene(**EXACT).fit(table)
    start = {"confusion_init": fitted.confusion_, "class_prior_init": fitted.class_prior_}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = DawidSkene(**start, max_iter=1, tol=0.0).fit(table)
    np.testing.assert_allclose(again.confusion_, fitted.confusion_, atol=1e-6)
    smooth = DawidSkene(smoothing=2.0, **EXACT).fit(table)
    item, rater, label = codes(table)
    counts = np.zeros((6, 3, 3))
    np.add.at(counts, (rater, slice(None), label), smooth.predict_proba(table)[item])
    expected = (counts + 2.0) / (counts + 2.0).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(smooth.confusion_, expected, atol=1e-6)


def test_votes_of_a_stream(tmp_path: Path) -> None:
    """Consecutive records of an item are its votes; mini-batches of whole items learn what a fit does."""
    frame = crowd(items=200).to_pandas().sort_values("item", kind="stable")
    model = DawidSkene(raters=[f"r{r}" for r in range(6)], classes=["ape", "bee", "cow"])
    model.fit_stream([pa.Table.from_pandas(frame, preserve_index=False)] * 6, batch_rows=250)
    np.testing.assert_allclose(model.confusion_, DawidSkene().fit(frame).confusion_, atol=0.1)
    assert np.mean(model.predict(frame) == DawidSkene().fit(frame).predict(frame)) > 0.97
    with pytest.raises(ParameterError, match=r"pass raters=\[\.\.\.\] and classes"):
        DawidSkene().fit_stream([frame])


def test_raters_and_items_of_which_little_is_known() -> None:
    """A rater with a single label tells nothing; an item without a vote has the shares of the classes."""
    table = crowd()
    frame = table.to_pandas()
    alone = pd.concat([frame, pd.DataFrame({"item": ["i0", "i1"], "rater": "one", "label": "ape"})])
    model, plain = DawidSkene(**EXACT).fit(alone), DawidSkene(**EXACT).fit(frame)
    np.testing.assert_allclose(model.confusion_[0], [[1, 0, 0]] * 3, atol=1e-9)
    assert model.uninformative_raters_.tolist() == ["one"]
    assert model.describe().endswith("raters whose votes tell no classes apart: one")
    np.testing.assert_allclose(model.predict_proba(alone), plain.predict_proba(frame), atol=1e-6)
    silent = pd.concat([frame, pd.DataFrame({"item": ["none"], "rater": ["r1"], "label": [None]})])
    with pytest.raises(
        DataError, match=r"'label' is null in row \d+ of item 'none' \(1 in all\): drop such rows, or pass missing"
    ):
        DawidSkene().fit(silent)
    gappy = DawidSkene(missing="integrate", **EXACT).fit(silent)
    np.testing.assert_allclose(gappy.predict_proba(silent)[-1], gappy.class_prior_, atol=1e-12)
    np.testing.assert_allclose(gappy.confusion_, plain.confusion_, atol=1e-6)


def test_what_the_fit_did_not_know(tmp_path: Path) -> None:
    """Raters and labels that are new are named, in memory and in files, or are taken for missing."""
    table = crowd()
    new = pa.table({"item": ["x", "x"], "rater": ["r0", "stranger"], "label": ["ape", "bee"]})
    odd = pa.table({"item": ["x"], "rater": ["r0"], "label": ["dog"]})
    model = DawidSkene().fit(table)
    for votes, name in ((new, "'stranger'"), (odd, "'dog'")):
        pq.write_table(votes, tmp_path / "new.parquet")
        for given in (votes, tmp_path / "new.parquet"):
            with pytest.raises(DataError, match=name):
                model.predict(given)
    lenient = DawidSkene(missing="integrate", unseen="missing").fit(table)
    expected = lenient.predict_proba(new.slice(0, 1))
    np.testing.assert_allclose(lenient.predict_proba(new), expected, atol=1e-12)
    np.testing.assert_allclose(lenient.predict_proba(odd)[0], lenient.class_prior_, atol=1e-12)


def test_bad_tables_are_named(tmp_path: Path) -> None:
    table = crowd()
    with pytest.raises(SchemaError, match="no columns? .*'label'|'label'"):
        DawidSkene().fit(table.drop_columns("label"))
    with pytest.raises(SchemaError, match=r"shape \(4, 2\)"):
        DawidSkene().fit(np.zeros((4, 2)))
    with pytest.raises(DataError, match="'item' is null in row 1"):
        DawidSkene().fit(pa.table({"item": ["a", None], "rater": ["b", "b"], "label": ["c", "d"]}))
    with pytest.raises(ParameterError, match="the names of three columns"):
        DawidSkene(item="rater").fit(table)
    with pytest.raises(ParameterError, match=r"confusion_init has shape \(3, 3\)"):
        DawidSkene(confusion_init=np.eye(3)).fit(table)
    with pytest.raises(ParameterError, match="classes is "):
        DawidSkene(classes=["a", "a"]).fit(table)
    again = pa.concat_tables([table, table.slice(5, 1)])
    first = table.slice(5, 1).to_pylist()[0]
    assert DawidSkene(repeated="error").fit(table).report_.n_rows == len(table)
    with pytest.raises(DataError, match=f"{first['rater']!r} voted more than once on item {first['item']!r}, in row "):
        DawidSkene(repeated="error").fit(again)
    pq.write_table(again.sort_by("item"), tmp_path / "again.parquet")
    with pytest.raises(DataError, match="voted more than once on the item of row"):
        DawidSkene(repeated="error").fit(tmp_path / "again.parquet")
    pq.write_table(table, tmp_path / "votes.parquet")
    with pytest.raises(DataError, match=r"sort or group the data .* more than half of the limit"):
        DawidSkene(memory_limit="60kB").fit(tmp_path / "votes.parquet")


def test_standard_errors_and_clusters(client: Any, tmp_path: Path) -> None:
    """Errors have the shapes of the tables; workers give the bits of threads."""
    table = crowd()
    path = shapes_of(table, tmp_path)["Parquet by item"]
    model = DawidSkene(**EXACT).fit(path)
    with pytest.warns(UncertaintyWarning, match="at 0, the boundary"):
        errors = model.standard_errors(path)
    assert errors["confusion_"].shape == model.confusion_.shape
    assert 0.01 < float(errors["class_prior_"][0]) < 0.1
    there = DawidSkene(max_iter=5, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there.fit(path, executor=client)
        here = DawidSkene(max_iter=5, tol=0.0).fit(path)
    assert there.confusion_.tobytes() == here.confusion_.tobytes()
