"""Families of the library lie in model files as data: no code is needed, and none is run, to load them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from golden.cases import OwnPoisson
from streamem import HMM, GroupedMixture, Mixture, families
from streamem.cli.main import main
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.errors import ModelFileError, ParameterError
from streamem.estimators.family_data import KNOWN, data_of, family_of_data
from streamem.estimators.loading import load_model, load_newest
from streamem.families import (
    AutoregressiveGaussian,
    Categorical,
    Exponential,
    FactorGaussian,
    Fixed,
    Gamma,
    GammaPrior,
    Gaussian,
    ItemCurves,
    LogNormal,
    MixtureFamily,
    Multinomial,
    NormalWishart,
    PartlyFixedCategorical,
    Poisson,
    Product,
    StudentT,
    Tied,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*did not converge")

SETTINGS: list[Any] = [
    Gaussian("diag", 1e-3),
    StudentT("tied", dof=(1.0, 2.0)),
    StudentT(dof=np.inf),
    Categorical([2, 3], prior=2.0),
    PartlyFixedCategorical([2, 3], kept=[(0, 1)], least=[1, 1]),
    AutoregressiveGaussian(2),
    Multinomial(5),
    Product({"a": Poisson(), ("b", 3): Gaussian("diag")}),
    Fixed(Poisson(), {"rates": [[1.0], [2.0]]}),
    Fixed(Gaussian(), ["means"]),
    Tied(Product({0: Poisson(), 1: Gamma()}), ["x0"]),
    Product({"a": Tied(MixtureFamily(Gaussian(), 2), ["parts"])}),
    GammaPrior(Exponential(), 3.0, [[0.5], [1.5]]),
    MixtureFamily(Gaussian("diag"), 3),
    FactorGaussian(2, noise="isotropic", reg_covar=1e-3),
    ItemCurves([-1.0, 0.5], common=True),
    NormalWishart(mean_prior=[0.0, 1.0], mean_precision_prior=2.0, covariance_prior=np.eye(2)),
]
PLAIN = [name for name in KNOWN if name not in {type(family).__name__ for family in SETTINGS}]


@pytest.mark.parametrize("family", [*SETTINGS, *(KNOWN[name]() for name in PLAIN)], ids=lambda f: type(f).__name__)
def test_data_tell_the_whole_family(family: Any) -> None:
    """Through JSON and back nothing differs, arrays of a prior or of fixed values included."""
    told = data_of(family)
    again = family_of_data(json.loads(json.dumps(told)))
    assert type(again) is type(family)
    assert data_of(again) == told
    assert getattr(again, "identity", None) == getattr(family, "identity", None)


def test_every_public_family_can_be_told() -> None:
    assert set(KNOWN) | {"ExponentialFamily"} == set(families.__all__)


class Renamed(Poisson):
    """A user's class under a family of ours."""


@pytest.mark.parametrize(
    "family",
    [OwnPoisson(), Renamed(), Product({"a": OwnPoisson(), "b": Poisson()}), Tied(Renamed()), Poisson().integrating()],
    ids=["own", "derived", "in a product", "in a combinator", "in use"],
)
def test_code_is_not_told(family: Any) -> None:
    """A user's family, or one of ours that knows more than its arguments say."""
    assert data_of(family) is None


def test_a_family_named_as_ours_is_not_ours() -> None:
    assert data_of(type("Poisson", (Renamed,), {})()) is None


# --- files -----------------------------------------------------------------------------------------------------------


def people() -> pd.DataFrame:
    """Two kinds of people: 200 rows of income, visits and region, of which a tenth of the values is missing."""
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=200)
    frame = pd.DataFrame(
        {
            "income": np.exp(rng.normal(7.0 + 3.0 * kind, 0.5)),
            "visits": rng.poisson(2 + 20 * kind).astype(float),
            "region": np.array(["north", "south"])[(kind + (rng.random(200) < 0.1)) % 2],
        }
    )
    return frame.mask(rng.random(frame.shape) < 0.1)


MIXED = Product(
    {"income": Fixed(LogNormal(), ["shapes"]), "visits": GammaPrior(Poisson(), 2, 1), "region": Categorical()}
)


def mixed_model() -> Mixture:
    return Mixture(MIXED, 2, missing="integrate", max_iter=5, random_state=0).fit(people())


@pytest.mark.parametrize("load", [load_model, load_newest, Mixture.load])
def test_a_product_is_loaded_without_code(load: Callable[[Any], Any], tmp_path: Path) -> None:
    x, mix = people(), mixed_model()
    mix.save(tmp_path / "m.npz")
    again = load(tmp_path / "m.npz")
    assert np.array_equal(again.predict_proba(x), mix.predict_proba(x))
    assert again.partial_fit(x[:50]).params_ == mix.partial_fit(x[:50]).params_
    again.save(tmp_path / "n.npz")
    mix.save(tmp_path / "m.npz")
    assert (tmp_path / "n.npz").read_bytes() == (tmp_path / "m.npz").read_bytes()


def test_chains_and_groups_too(tmp_path: Path) -> None:
    x, lengths = np.random.default_rng(0).normal(size=(60, 1)), [20, 20, 20]
    for model in (HMM(Tied(MixtureFamily(Gaussian(), 2), ["parts"]), 2, n_iter=3), GroupedMixture(Gaussian("diag"), 2)):
        model.set_params(random_state=0).fit(x, lengths).save(tmp_path / "m.npz")
        again = load_model(tmp_path / "m.npz")
        assert np.array_equal(again.predict(x, lengths), model.predict(x, lengths))


@pytest.mark.filterwarnings("ignore::streamem.estimators.uncertainty.UncertaintyWarning")
def test_every_command_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, gaps, scores, standard errors, a page, draws, and learning on from a stream."""
    monkeypatch.chdir(tmp_path)
    model = mixed_model()
    model.save("m.npz")
    people().to_parquet("people.parquet")
    people()[:20].to_json("more.json", orient="records", lines=True)
    for words in (
        "show m.npz",
        "predict m.npz people.parquet -o labels.npy",
        "score m.npz people.parquet --json",
        "impute m.npz people.parquet -o filled.parquet",
        "summary m.npz people.parquet",
        "sample m.npz -n 5 -o drawn.parquet",
        "report m.npz -o report.html",
        "update m.npz more.json --until-rows 20",
    ):
        told = CliRunner().invoke(main, words.split(), catch_exceptions=False)
        assert told.exit_code == 0, f"{words}: {told.output}"
    assert np.array_equal(np.load("labels.npy"), model.predict(people()))
    assert load_model("m.npz").report_.n_rows == model.report_.n_rows + 20


# --- files that are not to be trusted, and older ones ----------------------------------------------------------------


def with_meta(path: Path, **changes: Any) -> None:
    archive = read_archive(path, "model")
    write_archive(path, "model", {**archive.meta, **changes}, archive.arrays)


def test_a_file_of_before_is_loaded_with_its_family(tmp_path: Path) -> None:
    x, path = np.arange(20.0)[:, None], tmp_path / "m.npz"
    mix = Mixture(Poisson(), 2, random_state=0).fit(x)
    mix.save(path)
    with_meta(path, families={})
    with pytest.raises(ModelFileError, match=r"in Python, Mixture\.load\(path, family=\.\.\.\)"):
        load_model(path)
    with pytest.raises(ParameterError, match="whose family is code"):
        Mixture.load(path)
    assert np.array_equal(Mixture.load(path, family=Poisson()).predict(x), mix.predict(x))


def test_another_family_and_words_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    Mixture(Poisson(), 2, random_state=0).fit(np.arange(20.0)[:, None]).save(path)
    with pytest.raises(
        ParameterError, match=r"a Mixture of Poisson, and family=Gaussian\(\) was passed: leave family="
    ):
        Mixture.load(path, family=Gaussian())
    with pytest.raises(ParameterError, match="'famly' is none of them"):
        Mixture.load(path, famly=Poisson())


def nested(depth: int) -> Any:
    told: Any = {"family": "Poisson", "arguments": {}}
    for _ in range(depth):
        told = {"family": "Tied", "arguments": {"family": told}}
    return told


@pytest.mark.parametrize(
    "told",
    [
        "os.system",
        3,
        {"family": "os.system", "arguments": {}},
        {"family": "ExponentialFamily", "arguments": {}},
        {"family": "Poisson", "arguments": {"command": "x"}},
        {"family": "Poisson", "arguments": ["x"]},
        {"family": ["Poisson"], "arguments": {}},
        {"family": "Product", "arguments": {"families": {"items": [[{"items": []}, "x"]]}}},
        {"family": "Fixed", "arguments": {"family": nested(0), "names": {"array": [1.0], "shape": [10**12]}}},
        {"family": "MixtureFamily", "arguments": {"family": nested(0), "n_mix": 10**12}},
        {"family": "Gaussian", "arguments": {"covariance_type": "fall"}},
        {"family": "Gaussian", "arguments": {}},
        nested(100),
    ],
    ids=lambda told: repr(told)[:60],
)
def test_a_hostile_file_is_an_error(told: Any, tmp_path: Path) -> None:
    """Names of other things, arguments that are none, shapes that would take memory, and families without end."""
    path = tmp_path / "m.npz"
    Mixture(Poisson(), 2, random_state=0).fit(np.arange(20.0)[:, None]).save(path)
    with_meta(path, families={"family": told})
    with pytest.raises(ModelFileError, match=r"m\.npz|do not fit|the file"):
        load_model(path)
    assert Mixture.load(path, family=Poisson()).n_components == 2
