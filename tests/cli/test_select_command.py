"""``streamem select``: the table, the best model's file, and words that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from streamem import GaussianMixture, Mixture
from streamem.cli.main import main


def run(*words: object) -> str:
    result = CliRunner().invoke(main, ["select", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> str:
    result = CliRunner().invoke(main, ["select", *map(str, words)])
    assert result.exit_code != 0
    return result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(600, 2)) + 8.0 * rng.integers(0, 2, (600, 1)))
    return tmp_path / "x.npy"


def test_the_best_of_a_grid(data: Path, tmp_path: Path) -> None:
    best, table, picture = tmp_path / "best.npz", tmp_path / "t.parquet", tmp_path / "p.png"
    words = ("--try", "covariance_type=diag,spherical", "--table", table, "--plot", picture, "--seed", 0)
    said = run("gmm", data, "-k", "1:3", "-o", best, *words)
    assert "reads of the data" in said
    assert "n_components 2, covariance_type spherical" in said
    assert GaussianMixture.load(best).means_.shape == (2, 2)
    assert pq.read_table(table).column("n_components").to_pylist() == [1, 1, 2, 2, 3, 3]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_algorithm(data: Path, tmp_path: Path) -> None:
    words = ("gmm", data, "-k", "4", "-o", tmp_path / "m.npz", "--seed", 0, "--tol", 1e-9, "--max-iter", 30)
    run(*words, "--algorithm", "squarem")
    kinds = {record.kind for record in GaussianMixture.load(tmp_path / "m.npz").report_.passes}
    assert "extrapolated" in kinds
    assert "'newton' is not one of 'auto', 'batch'" in refused(*words, "--algorithm", "newton")


def test_families_in_words_and_chains(data: Path, tmp_path: Path) -> None:
    counts = np.random.default_rng(1).poisson(3.0, (400, 1))
    np.save(tmp_path / "n.npy", counts)
    run("mixture", tmp_path / "n.npy", "--family", "poisson", "-k", "1,2", "-o", tmp_path / "m.npz", "--seed", 0)
    assert Mixture.load(tmp_path / "m.npz").n_components == 1
    np.save(tmp_path / "lengths.npy", [100] * 6)
    words = ("--lengths", tmp_path / "lengths.npy", "--criterion", "held-out", "--held-out", 0.4, "--max-iter", 5)
    said = run("hmm", data, "-k", "1:2", "-o", tmp_path / "h.npz", "--seed", 0, *words)
    assert "held_out" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gmm", "-k", "0:3"), "'0:3' is no list of numbers >= 1"),
        (("gmm", "-k", "5:2"), "'5:2' is no list of numbers >= 1"),
        (("gmm", "-k", "2:9:0"), "'2:9:0' is no list of numbers >= 1"),
        (("gmm", "-k", "2", "--try", "covariance_type"), "write covariance_type=full,diag"),
        (("gmm", "-k", "2", "--try", "colour=red"), "GaussianMixture has no hyperparameter 'colour'"),
        (("gmm", "-k", "2", "--family", "poisson"), "--family says what a mixture is of"),
        (("mixture", "-k", "2"), "--family says what a mixture is of"),
        (("gmm", "-k", "2", "--emission", "poisson"), "--emission is for hmm"),
    ],
)
def test_bad_words(data: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    said = refused(words[0], data, *words[1:], "-o", tmp_path / "m.npz")
    assert message in " ".join(said.split())
