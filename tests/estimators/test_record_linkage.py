"""Record linkage: EM written out, levels that are missing, text, given tables, and identifiers that are carried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from streamem import RecordLinkage
from streamem.cli.main import main
from streamem.core.errors import DataError, OutputError, ParameterError, SourceError
from streamem.estimators.loading import load_model

Array = NDArray[Any]
SIZES = (2, 3, 4, 2)
STEPS: dict[str, Any] = {"tol": 0.0, "max_iter": 12}
TEXTS = ("differs", "similar", "equal")


def draw_pairs(n: int, seed: int = 0, missing: float = 0.1, matches: float = 0.15) -> tuple[Array, Array]:
    """Levels (n, 4), a larger one of more agreement, and which pairs match."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < matches
    x = np.empty((n, len(SIZES)))
    for j, size in enumerate(SIZES):
        agree = np.where(same, 0.9, 0.08)
        rest = rng.integers(0, size - 1, n)
        x[:, j] = np.where(rng.random(n) < agree, size - 1, rest)
    x[rng.random(x.shape) < missing] = np.nan
    return x, same


def em(x: Array, steps: int, given: dict[int, Array] | None = None) -> tuple[float, list[Array], list[Array]]:
    """EM of Fellegi and Sunter's model from the documented start: λ, m and u by column."""
    prior, given = 0.01, given or {}
    m = [np.append(np.full(size - 1, 0.05 / (size - 1)), 0.95) for size in SIZES]
    u = [np.append(np.full(size - 1, 0.95 / (size - 1)), 0.05) for size in SIZES]
    u = [given.get(j, table) for j, table in enumerate(u)]
    seen, codes = ~np.isnan(x), np.nan_to_num(x).astype(int)
    for _ in range(steps):
        of_m, of_u = (
            np.prod([np.where(seen[:, j], table[codes[:, j]], 1.0) for j, table in enumerate(tables)], axis=0)
            for tables in (m, u)
        )
        match = prior * of_m / (prior * of_m + (1 - prior) * of_u)
        prior = float(match[seen.any(axis=1)].mean())
        counts = [
            [np.bincount(codes[seen[:, j], j], w[seen[:, j]], size) for w in (match, 1 - match)]
            for j, size in enumerate(SIZES)
        ]
        m = [own / own.sum() for own, _ in counts]
        u = [given.get(j, own / own.sum()) for j, (_, own) in enumerate(counts)]
    return prior, m, u


def assert_same(model: RecordLinkage, expected: tuple[float, list[Array], list[Array]], atol: float) -> None:
    prior, m, u = expected
    np.testing.assert_allclose(model.match_prior_, prior, atol=atol)
    for found, tables in ((model.m_probabilities_, m), (model.u_probabilities_, u)):
        for own, table in zip(found.values(), tables, strict=True):
            np.testing.assert_allclose(own, table, atol=atol)


def table_of(x: Array) -> pa.Table:
    """Two identifiers and the levels, the second column of text."""
    n = len(x)
    levels = {f"c{j}": pa.array(x[:, j], pa.int8(), from_pandas=True) for j in (0, 2, 3)}
    texts = pa.array([None if np.isnan(v) else TEXTS[int(v)] for v in x[:, 1]])
    ids = {"left": pa.array([f"a{i}" for i in range(n)]), "right": pa.array(np.arange(n)[::-1])}
    return pa.table({"left": ids["left"], "c0": levels["c0"], "c1": texts, "right": ids["right"], **levels}).select(
        ["left", "c0", "c1", "right", "c2", "c3"]
    )


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_em_written_out(missing: float, compress: bool) -> None:
    x, _ = draw_pairs(3000, missing=missing)
    with pytest.warns(match="did not converge"):
        some = RecordLinkage(compress=compress, **STEPS).fit(x)
    assert_same(some, em(x, 12), 1e-10)
    assert_same(RecordLinkage(compress=compress, tol=1e-13).fit(x), em(x, 500), 1e-6)


def test_splinks_em() -> None:
    """splink 5.0.0 after 25 iterations over these comparison vectors from the same start, by `bench.record_linkage`."""
    x, _ = draw_pairs(1000, seed=5)
    m = [
        [0.05536051228844553, 0.9446394877115544],
        [0.03408293574827394, 0.06809252817244765, 0.8978245360792784],
        [0.03774306977890997, 0.018714456305097937, 0.02386698824975556, 0.9196754856662366],
        [0.07138728917955377, 0.9286127108204463],
    ]
    u = [
        [0.9144361186763565, 0.08556388132364348],
        [0.4413140138554309, 0.4614976881182738, 0.0971882980262954],
        [0.31550475770133385, 0.3163679294814957, 0.2906277458722744, 0.07749956694489596],
        [0.9084146313272811, 0.09158536867271892],
    ]
    with pytest.warns(match="did not converge"):
        model = RecordLinkage(tol=0.0, max_iter=25).fit(x)
    assert_same(model, (0.1572471318531888, list(map(np.array, m)), list(map(np.array, u))), 1e-12)


def test_a_prior_of_the_share_of_matches() -> None:
    """As if 300 more pairs had matched, and 100 not."""
    x, _ = draw_pairs(2000, missing=0.0)
    model = RecordLinkage(weight_concentration_prior=[101, 301], tol=1e-13).fit(x)
    matches = model.predict_proba(x).sum()
    np.testing.assert_allclose(model.match_prior_, (matches + 300) / 2400, atol=1e-6)
    assert model.match_prior_ > RecordLinkage().fit(x).match_prior_ + 0.05


def test_levels_that_were_never_seen() -> None:
    x, _ = draw_pairs(2000)
    levels: dict[str, Any] = {"levels": {"c1": TEXTS}, "id_columns": ["left", "right"]}
    table = table_of(x)
    strange = pa.array(["sounds alike", *table["c1"].to_pylist()[1:]])
    later = table.set_column(table.column_names.index("c1"), "c1", strange)
    absent = table.set_column(table.column_names.index("c1"), "c1", pa.array([None, *strange.to_pylist()[1:]]))
    with pytest.raises(DataError, match="sounds alike"):
        RecordLinkage(**levels).fit(table).predict_proba(later)
    model = RecordLinkage(unseen="missing", **levels).fit(table)
    np.testing.assert_array_equal(model.predict_proba(later), model.predict_proba(absent))
    codes = RecordLinkage(unseen="missing").fit(x)
    beyond, without = x.copy(), x.copy()
    beyond[0, 2], without[0, 2] = 4.0, np.nan
    np.testing.assert_array_equal(codes.match_weight(beyond), codes.match_weight(without))


def test_matches_are_found() -> None:
    x, same = draw_pairs(5000)
    model = RecordLinkage().fit(x)
    found = model.predict(x)
    assert found.dtype == np.int64
    assert (found == same).mean() > 0.97
    probability, weight = model.predict_proba(x), model.match_weight(x)
    np.testing.assert_array_equal(found, probability >= 0.5)
    np.testing.assert_array_equal(model.predict(x, threshold=0.9), probability >= 0.9)
    np.testing.assert_allclose(probability, 1 / (1 + 2**-weight))
    np.testing.assert_allclose(model.score_pairs(x), np.column_stack([weight, probability]))
    prior = model.match_prior_
    bits = [model.match_weights_[j][np.nan_to_num(x[:, j]).astype(int)] for j in range(4)]
    by_hand = np.where(np.isnan(x).T, 0.0, bits).sum(axis=0) + np.log2(prior / (1 - prior))
    np.testing.assert_allclose(weight, by_hand, atol=1e-10)
    assert model.transform(x).shape == (5000, 1)


def test_given_tables_stay() -> None:
    x, _ = draw_pairs(3000)
    u = {0: np.array([0.9, 0.1]), 2: np.array([0.3, 0.3, 0.3, 0.1])}
    with pytest.warns(match="did not converge"):
        model = RecordLinkage(u_probabilities=u, **STEPS).fit(x)
    assert_same(model, em(x, 12, u), 1e-10)
    np.testing.assert_array_equal(model.u_probabilities_[0], u[0])
    free = RecordLinkage(**STEPS, n_levels=SIZES)
    with pytest.warns(match="did not converge"):
        free.fit(x)
    assert "15 free" in free.describe()
    assert "11 free" in model.describe()


def test_u_of_random_pairs() -> None:
    x, _ = draw_pairs(2000, matches=0.0)
    candidates, _ = draw_pairs(2000, seed=1)
    model = RecordLinkage().estimate_u(x)
    for j, size in enumerate(SIZES):
        seen = x[~np.isnan(x[:, j]), j].astype(int)
        shares = np.bincount(seen, minlength=size) / len(seen)
        np.testing.assert_allclose(model.u_probabilities[j], shares, atol=1e-12)
    model.fit(candidates)
    np.testing.assert_allclose(model.u_probabilities_[1], model.u_probabilities[1], atol=1e-15)


def test_parquet_with_text_and_identifiers(tmp_path: Path) -> None:
    x, _ = draw_pairs(20_000)
    data, out = tmp_path / "pairs", tmp_path / "out.parquet"
    data.mkdir()
    table = table_of(x)
    pq.write_table(table[:9000], data / "1.parquet", row_group_size=2000)
    pq.write_table(table[9000:], data / "2.parquet", row_group_size=3000)
    model = RecordLinkage(levels={"c1": TEXTS}, id_columns=["left", "right"], tol=1e-13, chunk_bytes=50_000)
    model.fit(data)
    assert_same(model, em(x, 300), 1e-6)
    assert list(model.levels_["c1"]) == list(TEXTS)
    assert list(model.levels_["c2"]) == [0, 1, 2, 3]
    assert "20,000 rows as" in model.report_.origin
    assert model.score_pairs(data, out=out) == out
    written = pq.read_table(out)
    assert written.column_names == ["left", "right", "match_weight", "match_probability"]
    assert written.select(["left", "right"]).equals(table.select(["left", "right"]))
    np.testing.assert_allclose(written["match_weight"].to_numpy(), model.match_weight(data))
    np.testing.assert_array_equal(model.predict_proba(data), RecordLinkage.predict_proba(model, table))

    model.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert again.get_params()["levels"] == {"c1": list(TEXTS)}
    again.predict(data, out=out, overwrite=True)
    assert pq.read_table(out).column_names == ["left", "right", "match"]
    np.testing.assert_array_equal(pq.read_table(out)["match"].to_numpy(), model.predict(data))
    model.predict_proba(data, out=tmp_path / "p.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict_proba(data))


def test_data_frames(tmp_path: Path) -> None:
    x, _ = draw_pairs(500)
    frame = pd.DataFrame(x, columns=list("abcd")).assign(key=[f"k{i}" for i in range(500)])
    model = RecordLinkage(id_columns=["key"], compress=False).fit(frame)
    assert list(model.m_probabilities_) == list("abcd")
    model.match_weight(frame, out=tmp_path / "w.parquet")
    assert pq.read_table(tmp_path / "w.parquet")["key"].to_pylist() == list(frame["key"])


def test_saved_tables_of_columns_by_position(tmp_path: Path) -> None:
    x, _ = draw_pairs(500)
    model = RecordLinkage(u_probabilities={1: [0.5, 0.4, 0.1]}).fit(x)
    model.save(tmp_path / "m.npz")
    again = RecordLinkage.load(tmp_path / "m.npz")
    assert again.u_probabilities == {1: [0.5, 0.4, 0.1]}
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_the_command(tmp_path: Path) -> None:
    x, _ = draw_pairs(5000)
    pq.write_table(table_of(x), tmp_path / "pairs.parquet")
    given = [str(tmp_path / name) for name in ("pairs.parquet", "scored.parquet", "model.npz")]
    options = ["link", given[0], "-o", given[1], "--ids", "left,right", "--levels", f"c1:{','.join(TEXTS)}"]
    done = CliRunner().invoke(main, [*options, "--model", given[2]], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "4 comparisons, converged" in done.output
    scored, model = pq.read_table(given[1]), load_model(given[2])
    assert scored["right"].equals(table_of(x)["right"])
    np.testing.assert_array_equal(scored["match_probability"].to_numpy(), model.predict_proba(given[0]))
    refused = CliRunner().invoke(main, ["link", given[0], "-o", given[1], "--ids", "left,right", "--overwrite"])
    assert refused.exit_code != 0
    assert "c1" in refused.output


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "prior": ({"match_prior_init": 1.0}, "match_prior_init is 1.0"),
    "agreement": ({"agreement_init": "high"}, "agreement_init is 'high'"),
    "sum": ({"u_probabilities": {0: [0.5, 0.6]}}, r"u_probabilities\[0\]"),
    "nan": ({"u_probabilities": {0: [0.5, np.nan]}}, r"u_probabilities\[0\]"),
    "too few": ({"u_probabilities": {1: [0.5, 0.5]}}, "has 2 levels, and the data 3"),
    "no column": ({"u_probabilities": {"name": [1.0]}}, r"\['name'\], which are no columns"),
    "no levels": ({"levels": {"name": ["a"]}}, r"levels has \['name'\]"),
    "compress": ({"compress": "yes"}, "compress is 'yes'"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_cannot_be(name: str) -> None:
    settings, message = BAD[name]
    with pytest.raises(ParameterError, match=message):
        RecordLinkage(**settings).fit(draw_pairs(200, missing=0.0)[0])


def test_data_that_cannot_be(tmp_path: Path) -> None:
    x, _ = draw_pairs(300)
    with pytest.raises(ParameterError, match=r"column 'c1' is text \('differs', 'equal', 'similar'\)"):
        RecordLinkage(id_columns=["left", "right"]).fit(table_of(x))
    with pytest.raises((DataError, SourceError, ValueError), match="similar"):
        RecordLinkage(id_columns=["left", "right"], levels={"c1": ["differs", "equal"]}).fit(table_of(x))
    broken = x.copy()
    broken[7, 2] = 1.5
    with pytest.raises(DataError, match=r"row 7 .*1\.5"):
        RecordLinkage().fit(broken)
    model = RecordLinkage()
    model.n_components = 3
    with pytest.raises(ParameterError, match="it stays 2"):
        model.fit(x)
    model = RecordLinkage().fit(x)
    with pytest.raises(ParameterError, match="threshold is 2"):
        model.predict(x, threshold=2)
    for name in ("nowhere", "key"):
        model = RecordLinkage(id_columns=[name]).fit(x)
        with pytest.raises(ParameterError, match=f"'{name}' .* cannot be carried along"):
            model.predict(x, out=tmp_path / "o.parquet")
    assert not list(tmp_path.iterdir())


def test_identifiers_named_as_the_answer_are_refused(tmp_path: Path) -> None:
    x, _ = draw_pairs(300)
    frame = pd.DataFrame(x, columns=list("abcd")).assign(match=range(300))
    model = RecordLinkage(id_columns=["match"]).fit(frame)
    with pytest.raises(ParameterError, match="of these names"):
        model.predict(frame, out=tmp_path / "o.parquet")
    with pytest.raises(OutputError, match="exists already"):
        model.match_weight(frame, out=model.match_weight(frame, out=tmp_path / "w.parquet"))
