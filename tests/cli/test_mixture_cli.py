"""``streamem fit mixture``: families in words on a file with text, counts, numbers and nulls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import Mixture
from streamem.cli.main import main
from streamem.estimators.family_words import WORDS, family_of_text
from streamem.families import Categorical, LogNormal, Poisson, Product

WORDS_OF_COLUMNS = "income:lognormal,visits:poisson,region:categorical"


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """people.parquet, of which a fifth of the values is null, in the current folder; and a column that none models."""
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=600)
    columns = {
        "id": np.arange(600),
        "income": np.exp(rng.normal(7.0 + 3.0 * kind, 0.5)),
        "visits": rng.poisson(2 + 20 * kind),
        "region": np.array(["north", "south", "west"])[np.where(rng.random(600) < 0.9, kind, 2)],
    }
    table = pa.table({name: pa.array(x, mask=(name != "id") & (rng.random(600) < 0.2)) for name, x in columns.items()})
    pq.write_table(table, tmp_path / "people.parquet", row_group_size=200)
    monkeypatch.chdir(tmp_path)
    return table


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


FIT = ("fit", "mixture", "people.parquet", "-k", "2", "--seed", "0", "-o", "m.npz", "--family")


def test_fit_then_everything_else_agrees_with_python(people: pa.Table) -> None:
    assert "--missing integrate" in call(*FIT, WORDS_OF_COLUMNS, code=1)
    assert "2 components of 3 features, converged" in call(*FIT, WORDS_OF_COLUMNS, "--missing", "integrate")
    rows = people.drop_columns("id")
    family = Product({"income": LogNormal(), "visits": Poisson(), "region": Categorical()})
    mix = Mixture(family, 2, missing="integrate", random_state=0).fit(rows)
    call("predict", "m.npz", "people.parquet", "-o", "labels.npy")
    assert np.array_equal(np.load("labels.npy"), mix.predict(rows))
    scores = json.loads(call("score", "m.npz", "people.parquet", "--json"))
    assert scores["bic"] == pytest.approx(mix.bic(rows), rel=1e-12)
    call("impute", "m.npz", "people.parquet", "-o", "filled.parquet")
    filled = pd.read_parquet("filled.parquet")
    np.testing.assert_array_equal(filled.isna().sum(), 0)
    known = people["visits"].is_valid().to_numpy()
    np.testing.assert_array_equal(filled["visits"][known], people["visits"].drop_null())
    shown = call("show", "m.npz")
    assert "income, visits, region" in shown
    assert "Mixture" in shown
    call("sample", "m.npz", "-n", "50", "--seed", "1", "-o", "drawn.parquet")
    assert list(pd.read_parquet("drawn.parquet")) == ["income", "visits", "region"]


def test_commands_as_people_write_them(people: pa.Table) -> None:
    """Without a name the model is model.npz, where `impute` is told to look; nobody replaces it by default."""
    fit = ("fit", "mixture", "people.parquet", "-k", "2", "--family", WORDS_OF_COLUMNS, "--missing", "integrate")
    assert call(*fit).startswith("model.npz: 2 components")
    call("impute", "model.npz", "people.parquet", "-o", "filled.parquet")
    assert pd.read_parquet("filled.parquet").notna().all(axis=None)
    before = Path("model.npz").read_bytes()
    for again in (fit, ("fit", "latent-class", "people.parquet", "-k", "3", "--columns", "region")):
        assert "model.npz exists already: name the file to write with -o" in call(*again, code=2)
    assert Path("model.npz").read_bytes() == before
    call(*fit, "-o", "model.npz", "--max-iter", "0")
    assert Path("model.npz").read_bytes() != before


def test_one_word_for_all_columns_and_noise(people: pa.Table) -> None:
    call(*FIT, "poisson", "--columns", "visits", "--missing", "integrate", "--noise")
    loaded = Mixture.load("m.npz")
    assert (loaded.family, loaded.noise) == ("poisson", True)
    call("predict", "m.npz", "people.parquet", "-o", "labels.npy")
    assert np.isin(np.load("labels.npy"), [-1, 0, 1]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("poison", "no family is called 'poison'; did you mean 'poisson'?"),
        ("visits:poisson,gamma", "names a family without its columns"),
        (":poisson", "a colon without a column"),
        ("visits:poisson,visits:gamma", "names visits twice"),
        ("vists:poisson", "vists"),
        ("region:poisson", "column 'region' holds text; Poisson takes numbers"),
        ("visits:__import__('os')", "no family is called"),
    ],
)
def test_words_that_name_no_family_are_explained(people: pa.Table, words: str, message: str) -> None:
    assert message in call(*FIT, words, "--missing", "integrate", code=1)
    assert not Path("m.npz").exists()


def test_words_name_every_family_of_plain_settings() -> None:
    """Each word makes its family, once; columns of one family are joined by +, and digits are an index."""
    for word in WORDS:
        assert family_of_text(word) is family_of_text(word)
    parts = family_of_text("lat+lon:gaussian-diag, 3:poisson").parts  # type: ignore[attr-defined]
    assert [part.asked for part in parts] == [("lat", "lon"), (3,)]
    assert parts[0].family.covariance_type == "diag"


def test_starts_by_name(people: pa.Table) -> None:
    """Which serve the family, and which do not."""
    missing = ("--missing", "integrate")
    assert "converged" in call(*FIT, WORDS_OF_COLUMNS, *missing, "--init", "merged_em")
    told = call(*FIT, WORDS_OF_COLUMNS, *missing, "--init", "k-means||", code=1)
    assert "init_params is 'k-means||', which measures distances between rows" in told
    assert "use 'short_em' or 'merged_em'" in told
    call(*FIT, "visits:poisson", *missing, "--init", "k-means||")
    assert "the start took 7 passes over the data" in call("show", "m.npz")
