"""Models go to scikit-learn, hmmlearn, ONNX and plain NumPy, and come back, with equal answers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.mixture
from sklearn.exceptions import NotFittedError
from sklearn.mixture import BayesianGaussianMixture
from sklearn.pipeline import make_pipeline

from streamem import GMMHMM, BernoulliHMM, CategoricalHMM, GaussianHMM, GaussianMixture, PoissonHMM
from streamem.core.errors import MissingDependencyError, ParameterError
from streamem.preprocessing import PCA, StandardScaler

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(3.0 * k, 1.0, size=(60, 2)) for k in range(3)])
NEW = RNG.normal(3.0, 4.0, size=(50, 2))
TYPES = ("full", "tied", "diag", "spherical")
ANSWERS = ("predict", "predict_proba", "score_samples")


def fitted(kind: str = "full", **options: Any) -> GaussianMixture:
    return GaussianMixture(3, covariance_type=kind, random_state=0, max_iter=20, tol=1e-2, **options).fit(X)


def same_answers(one: Any, other: Any, rows: Any = NEW) -> None:
    for name in ANSWERS:
        np.testing.assert_allclose(getattr(one, name)(rows), getattr(other, name)(rows), rtol=1e-8, atol=1e-10)


# --- scikit-learn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_a_copy_for_scikit_learn_has_all_that_a_fitted_one_has(kind: str) -> None:
    gm = fitted(kind)
    copy = gm.to_sklearn()
    assert type(copy) is sklearn.mixture.GaussianMixture
    model = sklearn.mixture.GaussianMixture(3, covariance_type=kind, random_state=0, max_iter=20, tol=1e-2).fit(X)
    assert vars(copy).keys() == vars(model).keys()
    shapes = {name: np.shape(value) for name, value in vars(model).items() if name.endswith("_")}
    shapes["lower_bounds_"] = (gm.n_iter_,)
    assert {name: np.shape(value) for name, value in vars(copy).items() if name.endswith("_")} == shapes
    same_answers(copy, gm)
    assert np.isclose(copy.bic(X), gm.bic(X))
    copy.means_[0] += 1.0
    assert not np.array_equal(copy.means_, gm.means_), "attributes are its own, and writeable"


@pytest.mark.parametrize("kind", TYPES)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    model = sklearn.mixture.GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    gm = GaussianMixture.from_sklearn(model)
    same_answers(gm, model)
    assert (gm.n_iter_, gm.converged_, gm.n_features_in_) == (model.n_iter_, model.converged_, 2)
    assert gm.lower_bound_ == pytest.approx(model.lower_bound_)
    gm.save(tmp_path / "taken.npz")
    same_answers(GaussianMixture.load(tmp_path / "taken.npz").to_sklearn(), model)


def test_names_of_features_and_float32_go_along() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b"])
    gm = GaussianMixture(2, random_state=0).fit(frame)
    assert gm.to_sklearn().feature_names_in_.tolist() == ["a", "b"]
    assert GaussianMixture.from_sklearn(gm.to_sklearn()).feature_names_in_.tolist() == ["a", "b"]
    half = GaussianMixture(2, random_state=0).fit(X.astype(np.float32)).to_sklearn()
    assert half.means_.dtype == GaussianMixture.from_sklearn(half).means_.dtype == np.float32


def test_attributes_set_by_hand_are_what_is_copied() -> None:
    gm = fitted("diag")
    gm.means_ = gm.means_ + 1.0
    same_answers(gm.to_sklearn(), gm)


@pytest.mark.variations(2, 100)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("start", ["short_em", "merged_em", "split_merge", "k-means||"])
def test_a_copy_can_be_fitted_anew_though_its_start_is_ours_alone(start: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 1)) + [[0.0], [9.0], [18.0]] * 20
    copy = GaussianMixture(3, init_params=start, random_state=0, max_iter=5).fit(x).to_sklearn()
    assert copy.init_params == "kmeans"
    assert sorted(copy.fit(x).means_.ravel().round(-1).tolist()) == [0.0, 10.0, 20.0]


def test_what_was_taken_over_goes_on_learning() -> None:
    model = sklearn.mixture.GaussianMixture(3, random_state=0).fit(X)
    gm = GaussianMixture.from_sklearn(model).set_params(warm_start=True, max_iter=200, tol=1e-9)
    assert gm.score(X) == pytest.approx(model.score(X))
    assert gm.fit(X).lower_bound_ >= model.score(X) - 1e-9


def test_what_has_no_equal_is_refused() -> None:
    with pytest.raises(ParameterError, match="noise=True.*constant density"):
        fitted(noise=True).to_sklearn()
    with pytest.raises(ParameterError, match="averages densities over a posterior.*weight_concentration_prior"):
        GaussianMixture.from_sklearn(BayesianGaussianMixture(n_components=2, random_state=0).fit(X))
    with pytest.raises(NotFittedError):
        GaussianMixture.from_sklearn(sklearn.mixture.GaussianMixture())
    with pytest.raises(NotFittedError):
        GaussianMixture().to_sklearn()
    with pytest.raises(ParameterError, match="is needed, not str"):
        GaussianMixture.from_sklearn("model.pkl")
    broken = sklearn.mixture.GaussianMixture(3, random_state=0).fit(X)
    broken.means_ = broken.means_[:2]
    with pytest.raises(ParameterError, match="means_ has shape"):
        GaussianMixture.from_sklearn(broken)
    broken.means_ = np.full((3, 2), np.nan)
    with pytest.raises(ParameterError, match="means_ holds values that are not finite"):
        GaussianMixture.from_sklearn(broken)


@pytest.mark.parametrize("kind", TYPES)
def test_onnx_answers_as_the_model_does(kind: str) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="ONNX is compared with: pip install '.[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX models are run with: pip install '.[onnx]'")
    gm = fitted(kind)
    converted = skl2onnx.to_onnx(gm.to_sklearn(), NEW[:1], options={"score_samples": True})
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, probabilities, densities = session.run(None, {"X": NEW})
    assert np.array_equal(labels.ravel(), gm.predict(NEW))
    np.testing.assert_allclose(probabilities, gm.predict_proba(NEW), atol=1e-9)
    np.testing.assert_allclose(densities.ravel(), gm.score_samples(NEW), rtol=1e-9)


def test_copies_go_through_files_of_skops(tmp_path: Path) -> None:
    """Such a file loads nothing that nobody trusts: a copy is scikit-learn's, and there is nothing to be trusted."""
    io = pytest.importorskip("skops.io", reason="files of skops are written with: pip install skops")
    pipe = make_pipeline(StandardScaler(), PCA(2), GaussianMixture(3, random_state=0)).fit(X)
    whole = make_pipeline(*(step.to_sklearn() for _, step in pipe.steps))
    for model, copy in ((fitted(), fitted().to_sklearn()), (pipe, whole)):
        io.dump(copy, tmp_path / "model.skops")
        assert io.get_untrusted_types(file=tmp_path / "model.skops") == []
        again = io.load(tmp_path / "model.skops")
        assert np.array_equal(again.predict_proba(NEW), copy.predict_proba(NEW))
        np.testing.assert_allclose(again.predict_proba(NEW), model.predict_proba(NEW), atol=1e-9)


def test_a_pipeline_leaves_for_onnx() -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="ONNX is compared with: pip install '.[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX models are run with: pip install '.[onnx]'")
    pipe = make_pipeline(StandardScaler(), PCA(2, whiten=True), GaussianMixture(3, random_state=0)).fit(X)
    copy = make_pipeline(*(step.to_sklearn() for _, step in pipe.steps))
    np.testing.assert_allclose(copy.predict_proba(NEW), pipe.predict_proba(NEW), atol=1e-9)
    np.testing.assert_allclose(copy[:2].transform(NEW), pipe[:2].transform(NEW), rtol=1e-9)
    np.testing.assert_allclose(copy[0].inverse_transform(NEW), pipe[0].inverse_transform(NEW), rtol=1e-12)
    converted = skl2onnx.to_onnx(copy, NEW[:1])
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, _ = session.run(None, {"X": NEW})
    assert np.array_equal(labels.ravel(), pipe.predict(NEW))


# --- hmmlearn --------------------------------------------------------------------------------------------------------

COUNTS = RNG.poisson([[2.0]] * 40 + [[9.0]] * 40)
SYMBOLS = np.concatenate([RNG.integers(0, 2, 40), RNG.integers(2, 4, 40)])[:, None]
CHAINS: dict[str, Any] = {
    **{f"Gaussian {kind}": (GaussianHMM(2, kind, random_state=0, n_iter=5), X[:80]) for kind in TYPES},
    **{f"GMM {kind}": (GMMHMM(2, 2, kind, random_state=0, n_iter=5), X[:80]) for kind in TYPES},
    "Categorical": (CategoricalHMM(2, random_state=0, n_iter=5), SYMBOLS),
    "Poisson": (PoissonHMM(2, random_state=0, n_iter=5), COUNTS),
}


@pytest.mark.variations(4, 100)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", CHAINS)
def test_chains_there_and_back(name: str, tmp_path: Path) -> None:
    model, x = CHAINS[name]
    model = type(model)(**model.get_params()).fit(x, lengths=[50, 30])
    theirs = model.to_hmmlearn()
    again = type(model).from_hmmlearn(theirs)
    again.save(tmp_path / "chain.npz")
    for one in (theirs, again, type(model).load(tmp_path / "chain.npz")):
        assert one.score(x, [50, 30]) == pytest.approx(model.score(x, lengths=[50, 30]), rel=1e-9)
        np.testing.assert_allclose(one.predict_proba(x, [50, 30]), model.predict_proba(x, lengths=[50, 30]), atol=1e-8)
        assert np.array_equal(one.decode(x, [50, 30])[1], model.decode(x, lengths=[50, 30])[1])


def test_a_chain_that_hmmlearn_fitted() -> None:
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    theirs = hmmlearn.GaussianHMM(2, "full", random_state=0).fit(X)
    ours = GaussianHMM.from_hmmlearn(theirs)
    assert ours.score(X) == pytest.approx(theirs.score(X))
    assert (ours.covars_prior, ours.n_features_in_) == (theirs.covars_prior, 2)


def test_chains_without_an_equal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    symbols = np.concatenate([SYMBOLS, SYMBOLS], axis=1)
    with pytest.raises(ParameterError, match="2 columns of symbols, and hmmlearn's one"):
        CategoricalHMM(2, random_state=0, tol=9.0).fit(symbols).to_hmmlearn()
    with pytest.raises(ParameterError, match="hmmlearn has no BernoulliHMM"):
        BernoulliHMM(2, random_state=0, tol=9.0).fit((SYMBOLS > 1).astype(float)).to_hmmlearn()
    with pytest.raises(ParameterError, match=re.escape("not PoissonHMM; use streamem.PoissonHMM.from_hmmlearn")):
        GaussianHMM.from_hmmlearn(hmmlearn.PoissonHMM(2))
    with pytest.raises(ParameterError, match="has no startprob_, transmat_, means_"):
        GaussianHMM.from_hmmlearn(hmmlearn.GaussianHMM(2))
    with pytest.raises(NotFittedError):
        PoissonHMM(2).to_hmmlearn()
    monkeypatch.setitem(sys.modules, "hmmlearn", None)
    monkeypatch.setitem(sys.modules, "hmmlearn.hmm", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'streamem[hmmlearn]'")):
        PoissonHMM(2, random_state=0).fit(COUNTS).to_hmmlearn()


# --- files -----------------------------------------------------------------------------------------------------------

FORMAT = Path(__file__).parents[2] / "examples" / "model_files.md"
BLOCKS = re.findall(r"<!-- run -->\n```python\n(.*?)```", FORMAT.read_text(), re.DOTALL)


def test_the_documented_lines_read_a_model_with_numpy_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = BLOCKS
    exec(compile(code, str(FORMAT), "exec"), {})
    assert capsys.readouterr().out.count("1") == 5
    alone = code.partition("NumPy alone ---\n")[2].partition("\n\n")[0]
    assert len(alone.splitlines()) == 6
    assert "gm" not in alone


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_files_hold_the_members_that_are_documented(name: str, tmp_path: Path) -> None:
    model, x = CHAINS[name]
    type(model)(**model.get_params()).fit(x).save(tmp_path / "model.npz")
    line = next(line for line in FORMAT.read_text().splitlines() if line.startswith(f"| `{type(model).__name__}`"))
    named = set(re.findall(r"`(\w+_)`", line)) | {"startprob_", "transmat_"}
    with np.load(tmp_path / "model.npz") as file:
        assert named <= set(file.files)
        assert json.loads(file["meta.json"])["meta"]["class"] == type(model).__name__
        public = {member for member in file.files if member.endswith("_")}
    assert public - named <= {"covars_"}
