"""Answers about a few rows of an array: the bits of any other way, no attribute overlooked, and few calls."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

import streamem
from streamem import Gaussian, GaussianHMM, GaussianMixture, LatentClass, Mixture, Poisson
from streamem.core.errors import DataError, ParameterError, SchemaError
from streamem.estimators import at_once

pytestmark = pytest.mark.filterwarnings("ignore::streamem.running.reached.LocalMaximumWarning")

Array = NDArray[Any]
QUESTIONS = ["predict", "predict_proba", "score_samples"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)) + 4.0 * RNG.integers(0, 2, size=(60, 1))
COUNTS = RNG.poisson(3.0, size=(60, 2)) + 9.0 * RNG.integers(0, 2, size=(60, 1))
BITS = RNG.integers(0, 2, size=(60, 4)).astype(float)
MODELS: dict[str, tuple[Callable[[], Any], Array]] = {
    "full": (lambda: GaussianMixture(2, random_state=0), X),
    "tied": (lambda: GaussianMixture(2, covariance_type="tied", random_state=0), X),
    "diagonal": (lambda: GaussianMixture(2, covariance_type="diag", random_state=0), X),
    "noise": (lambda: GaussianMixture(2, noise=True, random_state=0), X),
    "any family": (lambda: Mixture(Poisson(), 2, random_state=0), COUNTS),
    "classes": (lambda: LatentClass(2, random_state=0), BITS),
}


def package_calls(call: Callable[[], Any]) -> int:
    """Python functions of this package that a call calls."""
    root, count = str(Path(streamem.__file__).parent), 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(root)

    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", MODELS)
def test_bits_are_those_of_the_other_way(name: str) -> None:
    make, x = MODELS[name]
    model = make().fit(x)
    other = pickle.loads(pickle.dumps(model)).set_params(n_threads=1)
    for dtype in (np.float64, np.float32):
        for rows in (x[:1], x[:7], x[::-2], np.asfortranarray(x)):
            for question in QUESTIONS:
                found = [getattr(one, question)(rows.astype(dtype)) for one in (model, model, other)]
                assert {(each.dtype, each.tobytes()) for each in found} == {(found[2].dtype, found[2].tobytes())}
    assert model._published.ready is not None
    assert other._published.ready is None


def test_what_stays_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    ready = at_once.Ready

    def counted(*told: Any) -> at_once.Ready:
        looked.append(told)
        return ready(*told)

    monkeypatch.setattr(at_once, "Ready", counted)
    model = GaussianMixture(2, random_state=0).fit(X)
    for question in QUESTIONS * 2:
        getattr(model, question)(X[:2])
    assert len(looked) == 1


@pytest.mark.parametrize("change", ["fit", "attribute", "mini-batch", "file"])
def test_what_was_set_or_fitted_since_counts(change: str, tmp_path: Path) -> None:
    model = GaussianMixture(2, random_state=0).fit(X)
    before = model.score_samples(X[:3])
    if change == "fit":
        model.fit(X[:40])
    elif change == "attribute":
        model.means_ = model.means_ + 1.0
    elif change == "mini-batch":
        model.partial_fit(X[:30])
    else:
        model.save(tmp_path / "model.npz")
        model = GaussianMixture.load(tmp_path / "model.npz").partial_fit(X[:30])
    found = model.score_samples(X[:3])
    assert not np.array_equal(found, before)
    np.testing.assert_array_equal(found, model.set_params(n_threads=1).score_samples(X[:3]))


def test_settings_that_do_not_fit_any_more_are_refused() -> None:
    model = GaussianMixture(2, random_state=0).fit(X)
    model.predict(X[:1])
    with pytest.raises(ParameterError, match="weights_ has shape .2,., and n_components=3"):
        model.set_params(n_components=3).predict(X[:1])
    model.set_params(n_components=2, tol=-1.0)
    with pytest.raises(ParameterError, match="tol"):
        model.predict(X[:1])
    assert model.set_params(tol=1e-3).predict(X[:1]).shape == (1,)


def test_a_family_that_was_changed_is_looked_at_again() -> None:
    model: Any = Mixture(Gaussian("diag"), 2, random_state=0).fit(X)
    model.predict(X[:1])
    seen = model._published.ready
    model.family.reg_covar = 0.5
    model.predict(X[:1])
    assert model._published.ready is not seen


def test_the_container_that_was_asked_for() -> None:
    model = GaussianMixture(2, random_state=0).fit(X)
    assert isinstance(model.predict(X[:1]), np.ndarray)
    assert model.set_output(transform="pandas").predict(X[:1]).name == "label"
    assert isinstance(model.set_output(transform="default").predict(X[:1]), np.ndarray)


def test_rows_that_cannot_be_are_refused() -> None:
    model = GaussianMixture(2, random_state=0).fit(X)
    model.predict(X[:1])
    with pytest.raises(DataError, match="column 1"):
        model.predict(np.array([[0.0, np.nan, 1.0]]))
    with pytest.raises(SchemaError, match="X has 2 features, but GaussianMixture is expecting 3"):
        model.predict(X[:1, :2])
    with pytest.raises(ParameterError, match="executor"):
        model.predict(X[:1], executor=3)
    with pytest.raises(NotFittedError):
        GaussianMixture(2).predict(X[:1])


def test_threads_answer_from_one_model() -> None:
    model = GaussianMixture(3, random_state=0).fit(X)
    wanted = [model.score_samples(X[i : i + 1]).tobytes() for i in range(20)]
    wrong: list[int] = []

    def ask() -> None:
        wrong.extend(i for _ in range(5) for i in range(20) if model.score_samples(X[i : i + 1]).tobytes() != wanted[i])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_row_takes_few_calls(question: str) -> None:
    """Some 350 before what stays was looked at once; a count, because no test asserts a time."""
    model = GaussianMixture(2, random_state=0).fit(X)
    ask = getattr(model, question)
    for _ in range(3):
        ask(X[:1])
    assert package_calls(lambda: ask(X[:1])) <= 130


def test_a_step_of_a_chain_starts_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = threading.Thread.start

    def counted(self: threading.Thread) -> None:
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", counted)
    chain = GaussianHMM(2, random_state=0).fit(X, lengths=[20, 40])
    started.clear()
    ask: list[Any] = [chain.predict, chain.predict_proba, chain.score]
    found = [question(X[:30]) for question in ask]
    assert not started
    chain.set_params(n_threads=1)
    for one, question in zip(found, ask, strict=True):
        np.testing.assert_array_equal(one, question(X[:30]))
    assert started


def test_steps_that_are_cut_are_answered_with_what_lies_beyond() -> None:
    chain = GaussianHMM(2, random_state=0, chunk_bytes=96).fit(X)
    found = chain.predict_proba(X[:30]), chain.score(X[:30])
    chain.set_params(chunk_bytes=None)
    np.testing.assert_allclose(found[0], chain.predict_proba(X[:30]), rtol=1e-9)
    np.testing.assert_allclose(found[1], chain.score(X[:30]), rtol=1e-12)
