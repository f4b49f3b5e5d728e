"""`StudentTMixture`: names and shapes, given starts, files, online learning, and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from streamem import StudentTMixture
from streamem.cli.main import main
from streamem.core.errors import DegenerateDataError, ParameterError
from streamem.estimators.loading import load_model

Array = NDArray[Any]
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(-4.0, 1.0, (300, 2)), RNG.normal(4.0, 1.0, (300, 2)), RNG.uniform(-20.0, 20.0, (30, 2))])
SHAPES = {"full": (2, 2, 2), "tied": (2, 2), "diag": (2, 2), "spherical": (2,)}


@pytest.mark.parametrize("covariance_type", SHAPES)
def test_attributes_files_and_rows_drawn(covariance_type: str, tmp_path: Path) -> None:
    fitted = StudentTMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    assert fitted.scales_.shape == SHAPES[covariance_type]
    assert fitted.dofs_.shape == (2,)
    assert np.abs(np.sort(fitted.means_[:, 0]) - [-4.0, 4.0]).max() < 0.3
    fitted.save(tmp_path / "t.npz")
    loaded = load_model(tmp_path / "t.npz")
    assert isinstance(loaded, StudentTMixture)
    for name in ("weights_", "means_", "scales_", "dofs_"):
        assert (getattr(loaded, name) == getattr(fitted, name)).all()
    assert (loaded.predict_proba(X) == fitted.predict_proba(X)).all()
    rows, labels = fitted.sample(50)
    assert rows.shape == (50, 2)
    assert labels.shape == (50,)
    assert "dof" in fitted.describe()


def test_attributes_that_are_set_by_hand() -> None:
    fitted = StudentTMixture(2, random_state=0).fit(X)
    other = StudentTMixture(2)
    for name in ("weights_", "means_", "scales_", "dofs_"):
        setattr(other, name, getattr(fitted, name))
    np.testing.assert_allclose(other.score_samples(X), fitted.score_samples(X), rtol=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_given_starts_and_free_parameters() -> None:
    means, scales = np.array([[-4.0, -4.0], [4.0, 4.0]]), np.tile(np.eye(2), (2, 1, 1))
    given = {"means_init": means, "scales_init": scales, "weights_init": [0.5, 0.5]}
    start = StudentTMixture(2, max_iter=0, dofs_init=[3.0, 5.0], **given).fit(X)
    np.testing.assert_allclose(start.means_, means, atol=1e-12)
    np.testing.assert_allclose(start.scales_, scales, atol=1e-12)
    assert start.dofs_.tolist() == [3.0, 5.0]
    counts = {"estimated": 13, "tied": 12, 4.0: 11, (4.0, 1e8): 11}
    for dof, count in counts.items():
        fitted = StudentTMixture(2, dof=dof, max_iter=5, random_state=0).fit(X)
        assert fitted._n_parameters() == count
        if not isinstance(dof, str):
            assert (fitted.dofs_ == dof).all()
    tied = StudentTMixture(2, dof="tied", max_iter=5, random_state=0).fit(X)
    assert tied.dofs_[0] == tied.dofs_[1]


def test_mistakes() -> None:
    with pytest.raises(ParameterError, match="dof is 'free'; it must be"):
        StudentTMixture(2, dof="free").fit(X)
    with pytest.raises(ParameterError, match="dof is inf; dofs_ are finite"):
        StudentTMixture(2, dof=np.inf).fit(X)
    with pytest.raises(ParameterError, match="'dofs_init' should hold 2 numbers > 0"):
        StudentTMixture(2, dofs_init=[1.0, 0.0]).fit(X)
    with pytest.raises(ParameterError, match="dof fixes the degrees of freedom"):
        StudentTMixture(2, dof=3.0, dofs_init=[1.0, 2.0]).fit(X)
    with pytest.raises(ParameterError, match=r"'scales_init' should have the shape of \(2, 2, 2\)"):
        StudentTMixture(2, scales_init=np.eye(2)).fit(X)
    with pytest.raises(ParameterError, match="'scales_init' should be positive"):
        StudentTMixture(2, covariance_type="diag", scales_init=-np.ones((2, 2))).fit(X)
    with pytest.raises(DegenerateDataError, match="without spread at the start"):
        StudentTMixture(1, reg_covar=0).fit(np.ones((20, 2)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("algorithm", ["stepwise", "incremental"])
def test_other_algorithms_end_near_batch(algorithm: str) -> None:
    x = np.tile(X, (4, 1))
    settings: dict[str, Any] = {"random_state": 0, "tol": 1e-6, "max_iter": 10}
    batch, other = StudentTMixture(2, **settings).fit(x), StudentTMixture(2, **settings)
    other.fit(x, algorithm=algorithm)
    assert other.score(x) == pytest.approx(batch.score(x), abs=0.02)


def test_rows_that_come_batch_by_batch() -> None:
    model = StudentTMixture(2, random_state=0)
    for part in np.array_split(np.random.default_rng(1).permutation(np.tile(X, (5, 1))), 20):
        model.partial_fit(part)
    assert np.abs(np.sort(model.means_[:, 0]) - [-4.0, 4.0]).max() < 0.5


def test_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    command = ["fit", "student-t", str(tmp_path / "x.npy"), "-k", "2", "-o", str(tmp_path / "t.npz"), "--seed", "0"]
    done = CliRunner().invoke(main, [*command, "--dof", "4"])
    assert done.exit_code == 0, done.output
    assert "2 components of 2 features" in done.output
    assert StudentTMixture.load(tmp_path / "t.npz").dofs_.tolist() == [4.0, 4.0]
    wrong = CliRunner().invoke(main, [*command, "--dof", "many"])
    assert wrong.exit_code == 1
    assert "dof is 'many'" in wrong.output
