"""Categories that the data of the fit did not hold: an error that names them and the remedy, or missing values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import HMM, CategoricalHMM, GroupedMixture, LatentClass, Mixture
from streamem.cli.main import main
from streamem.core.errors import DataError, ImpossibleValueError, ParameterError
from streamem.estimators.loading import load_model
from streamem.families import Categorical, Fixed, Gaussian, MixtureFamily, Product

SKIPS: dict[str, Any] = {"missing": "integrate", "unseen": "missing", "random_state": 0}


def frame(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rich = rng.random(n) < 0.4
    return pd.DataFrame(
        {
            "region": np.where(rng.random(n) < np.where(rich, 0.8, 0.3), "north", "south"),
            "size": np.where(rng.random(n) < np.where(rich, 0.1, 0.6), "big", "small"),
            "income": rng.normal(np.where(rich, 60.0, 20.0), 5.0),
        }
    )


def later() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of which some regions are new, and the same rows where these are missing."""
    new = frame(60)
    new.loc[::7, "region"] = "east"
    return new, new.replace("east", None)


def test_text_in_every_kind_of_table(tmp_path: Path) -> None:
    """What is new is what is missing: in frames, Parquet, a Dask collection, and after a round trip through a file."""
    new, gaps = later()
    texts = ["region", "size"]
    model = LatentClass(2, **SKIPS).fit(frame()[texts])
    expected = model.predict_proba(gaps[texts])
    assert (model.predict_proba(new[texts]) == expected).all()
    new[texts].to_parquet(tmp_path / "new.parquet")
    model.save(tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert (again.predict_proba(tmp_path / "new.parquet") == expected).all()
    assert (np.asarray(again.predict_proba(dd.from_pandas(new[texts], npartitions=2))) == expected).all()
    assert again.score(new[texts]) == model.score(gaps[texts])


def test_beside_other_columns_and_in_later_batches() -> None:
    new, gaps = later()
    family = Product({"region": Categorical(), "size": Categorical(), "income": Gaussian()})
    model = Mixture(family, 2, **SKIPS).fit(frame())
    assert (model.predict_proba(new) == model.predict_proba(gaps)).all()
    one, other = (Mixture(family, 2, **SKIPS).fit(frame()).partial_fit(batch) for batch in (new, gaps))
    assert one.params_ == other.params_


@pytest.mark.parametrize(
    "family",
    [
        Categorical(),
        MixtureFamily(Categorical(), 2),
        Fixed(Categorical()),
        Product({0: Categorical(), 1: Categorical()}),
    ],
    ids=["plain", "parts", "fixed", "product"],
)
def test_codes_of_arrays(family: Any) -> None:
    """Integer codes beyond those of the fit count like NaN, in answers and in statistics."""
    x = np.column_stack([frame()[name].astype("category").cat.codes for name in ("region", "size")]).astype(float)
    model = Mixture(family, 2, **SKIPS).fit(x)
    new, gaps = x[:50].copy(), x[:50].copy()
    new[::7, 0], gaps[::7, 0] = 5.0, np.nan
    assert (model.predict_proba(new) == model.predict_proba(gaps)).all()
    assert model.score(new) == model.score(gaps)
    assert model.partial_fit(new).params_ == Mixture(family, 2, **SKIPS).fit(x).partial_fit(gaps).params_


def test_in_chains_and_groups() -> None:
    symbols = np.random.default_rng(0).integers(0, 3, (300, 1)).astype(float)
    new, gaps = symbols[:60].copy(), symbols[:60].copy()
    new[::9], gaps[::9] = 7.0, np.nan
    hmm = CategoricalHMM(2, tol=0.1, **SKIPS).fit(symbols)
    assert (hmm.predict_proba(new) == hmm.predict_proba(gaps)).all()
    chain = HMM(Product({"region": Categorical(), "income": Gaussian()}), 2, **SKIPS).fit(frame()[["region", "income"]])
    one, other = (chain.score(batch[["region", "income"]]) for batch in later())
    assert one == other
    groups = GroupedMixture(Categorical(), 2, **SKIPS).fit(symbols, lengths=[10] * 30)
    assert (groups.predict_proba(new, lengths=[10] * 6) == groups.predict_proba(gaps, lengths=[10] * 6)).all()


def test_an_error_by_default_names_value_and_remedy() -> None:
    new, _ = later()
    model = LatentClass(2, random_state=0).fit(frame()[["region", "size"]])
    with pytest.raises(DataError, match=r"column 'region': 'east' \(and 8 more\) .* with unseen='missing'"):
        model.predict(new[["region", "size"]])
    codes = LatentClass(2, random_state=0).fit(np.tile([[0.0, 1.0], [1.0, 0.0]], (20, 1)))
    with pytest.raises(ImpossibleValueError, match="codes 0 … 1 are known here"):
        codes.predict([[2.0, 0.0]])


def test_unseen_without_missing_values_is_refused() -> None:
    with pytest.raises(ParameterError, match='unseen="missing" takes values .* pass missing="integrate" too'):
        LatentClass(2, unseen="missing").fit(frame()[["region", "size"]])
    with pytest.raises(ParameterError, match="unseen is 'skip'; it must be one of"):
        LatentClass(2, unseen="skip").fit(frame()[["region", "size"]])


def test_at_the_command_line(tmp_path: Path) -> None:
    new, _ = later()
    for name, table in (("old", frame()), ("new", new)):
        table[["region", "size"]].to_parquet(tmp_path / f"{name}.parquet")
    model, out = str(tmp_path / "m.npz"), str(tmp_path / "out.parquet")
    fit = ["fit", "latent-class", str(tmp_path / "old.parquet"), "-k", "2", "-o", model, "--seed", "0"]
    predict = ["predict", model, str(tmp_path / "new.parquet"), "-o", out]
    runner = CliRunner()
    assert runner.invoke(main, fit).exit_code == 0
    refused = runner.invoke(main, predict)
    assert refused.exit_code != 0
    assert "'east'" in refused.output
    assert "--unseen missing" in refused.output
    assert runner.invoke(main, [*fit, "--missing", "integrate", "--unseen", "missing"]).exit_code == 0
    assert runner.invoke(main, predict).exit_code == 0
    assert pq.read_table(out).num_rows == 60
