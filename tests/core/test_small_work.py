"""Small work runs in NumPy: what is small, that nothing is compiled for it, and that answers and errors are equal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import (
    GMMHMM,
    BernoulliHMM,
    CategoricalHMM,
    GaussianHMM,
    GaussianMixture,
    LatentClass,
    Mixture,
    PoissonHMM,
    StudentTMixture,
)
from streamem.core.errors import ParameterError, StreamemError
from streamem.core.small_work import MOST_PRODUCTS, VARIABLE, in_numpy, is_small, small_work
from streamem.families import Exponential, Gamma, Gaussian, NegativeBinomial, Poisson, Product, VonMises
from streamem.models.forwards_to_family import EXPONENTIAL

Array = NDArray[Any]

RNG = np.random.default_rng(27)
REAL = RNG.normal(size=(120, 3)) + 4.0 * RNG.integers(0, 2, size=(120, 1))
POSITIVE = np.abs(REAL) + 0.1
COUNTS = RNG.poisson(np.where(RNG.random((120, 2)) < 0.5, 1.0, 9.0)).astype(np.float64)
CODES = RNG.integers(0, 3, size=(120, 2)).astype(np.float64)
WEIGHTS = RNG.uniform(0.5, 2.0, size=120)
GAPPY = np.where(RNG.random(COUNTS.shape) < 0.1, np.nan, COUNTS)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def mixed(x: Array) -> Mixture:
    return Mixture(Product({0: Gaussian(), 1: Poisson()}), 2, max_iter=5, random_state=0)


def of(family: Any) -> Callable[[], Any]:
    return lambda: Mixture(family, 2, max_iter=5, random_state=0)


FITS: dict[str, tuple[Callable[[], Any], Array]] = {
    **{
        kind: (lambda kind=kind: GaussianMixture(2, covariance_type=kind, max_iter=5, random_state=0), REAL)  # type: ignore[misc]
        for kind in ("full", "tied", "diag", "spherical")
    },
    "float32": (lambda: GaussianMixture(2, max_iter=5, random_state=0), REAL.astype(np.float32)),
    "differences": (lambda: GaussianMixture(2, max_iter=5, random_state=0), REAL[:, :1] + 1e-7 * REAL),
    "tied differences": (
        lambda: GaussianMixture(2, covariance_type="tied", max_iter=5, random_state=0),
        REAL[:, :1] + 1e-7 * REAL,
    ),
    "long rows": (
        lambda: GaussianMixture(2, covariance_type="diag", max_iter=5, random_state=0),
        np.repeat(REAL, 12, axis=1) + RNG.normal(size=(120, 36)),
    ),
    "student": (lambda: StudentTMixture(2, max_iter=5, random_state=0), REAL),
    "tied student": (lambda: StudentTMixture(2, covariance_type="tied", max_iter=5, random_state=0), REAL),
    "poisson": (of(Poisson()), COUNTS),
    "poisson with gaps": (lambda: Mixture(Poisson(), 2, max_iter=5, random_state=0, missing="integrate"), GAPPY),
    "negative binomial": (of(NegativeBinomial()), COUNTS * 40),
    "gamma": (of(Gamma()), POSITIVE),
    "exponential": (of(Exponential()), POSITIVE),
    "von mises": (of(VonMises()), REAL),
    "mixed": (lambda: mixed(COUNTS), COUNTS),
    "latent classes": (lambda: LatentClass(2, max_iter=5, random_state=0), CODES),
    "gaussian chain": (lambda: GaussianHMM(3, n_iter=5, random_state=0), REAL),
    "full chain": (lambda: GaussianHMM(2, covariance_type="full", n_iter=5, random_state=0), REAL),
    "nested chain": (lambda: GMMHMM(2, 2, n_iter=5, random_state=0), REAL),
    "codes": (lambda: CategoricalHMM(2, n_iter=5, random_state=0), CODES[:, :1]),
    "counts": (lambda: PoissonHMM(2, n_iter=5, random_state=0), COUNTS),
    "bits": (lambda: BernoulliHMM(2, n_iter=5, random_state=0), (CODES > 1).astype(np.float64)),
}
COMPILED_WHATEVER: set[str] = set()
CHAINS = {"gaussian chain", "full chain", "nested chain", "codes", "counts", "bits"}


def fitted(name: str, monkeypatch: pytest.MonkeyPatch, mode: str, **arguments: Any) -> Any:
    monkeypatch.setenv(VARIABLE, mode)
    make, x = FITS[name]
    return make().fit(x, **arguments)


@pytest.mark.variations(2, 8)
@pytest.mark.parametrize("name", FITS)
def test_both_paths_fit_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five iterations, answers, and weights of rows or lengths of sequences."""
    arguments: dict[str, Any] = {"lengths": [1, 50, 2, 67]} if name in CHAINS else {"sample_weight": WEIGHTS}
    one, other = (fitted(name, monkeypatch, mode, **arguments) for mode in ("numpy", "compiled"))
    x, rtol = FITS[name][1], 1e-4 if name == "float32" else 1e-7
    assert not in_numpy()
    lengths = {"lengths": arguments["lengths"]} if name in CHAINS else {}
    monkeypatch.setenv(VARIABLE, "numpy")
    score, labels = one.score(x, **lengths), one.predict(x, **lengths)
    chances = one.predict_proba(x, **lengths)
    monkeypatch.setenv(VARIABLE, "compiled")
    assert score == pytest.approx(other.score(x, **lengths), rel=rtol)
    assert np.array_equal(labels, other.predict(x, **lengths))
    np.testing.assert_allclose(chances, other.predict_proba(x, **lengths), atol=1e-4 if name == "float32" else 1e-6)


IMPOSSIBLE = {
    "full": (REAL, 1e200),
    "tied": (REAL, 1e200),
    "diag": (REAL, 1e200),
    "poisson": (COUNTS, -1.0),
    "negative binomial": (COUNTS * 40, 0.5),
    "gamma": (POSITIVE, -2.0),
    "latent classes": (CODES, 1.5),
    "mixed": (COUNTS, -3.0),
    "gaussian chain": (REAL, 1e200),
    "codes": (CODES[:, :1], 1.5),
    "counts": (COUNTS, 2.5),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_both_paths_refuse_in_the_same_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that nothing can emit, and rows whose squares overflow."""
    x, wrong = IMPOSSIBLE[name]
    x = x.copy()
    x[17, -1] = wrong
    told = []
    for mode in ("numpy", "compiled"):
        model = fitted(name, monkeypatch, mode)
        found: list[Any] = []
        for ask in (model.fit, model.score):
            try:
                found.append(ask(x) is model or "answered")
            except (StreamemError, ArithmeticError, ValueError) as error:
                found.append((type(error), str(error)))
        told.append(found)
    assert told[0] == told[1]
    assert any(isinstance(each, tuple) for each in told[0])


def test_the_plan_does_not_matter_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a whole pass decide, not those of a chunk: chunks of a large pass are not small work."""
    asked: list[float] = []
    monkeypatch.setattr("streamem.models.by_size.small_work", lambda n: asked.append(n) or small_work(n))
    rows = 40 * len(REAL)
    gm = GaussianMixture(2, max_iter=2, tol=0.0, random_state=0, chunk_bytes=2400).fit(np.tile(REAL, (40, 1)))
    of_a_row = 2 * (1 + 3 + 6) + 2 + 4 + EXPONENTIAL * 2
    assert set(asked[-20:]) == {rows * of_a_row}
    asked.clear()
    gm.predict(np.tile(REAL, (40, 1)))
    assert set(asked) == {rows * of_a_row}


def test_small_is_a_number_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert is_small(MOST_PRODUCTS)
    assert not is_small(MOST_PRODUCTS + 1)
    monkeypatch.setenv(VARIABLE, "compiled")
    assert not is_small(0)
    monkeypatch.setenv(VARIABLE, "numpy")
    assert is_small(1e18)


def test_another_word_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ParameterError, match="STREAMEM_SMALL_WORK is 'fast'; it must be 'numpy' or 'compiled'"):
        GaussianMixture(2).fit(REAL)


def test_the_report_says_so() -> None:
    gm = GaussianMixture(2, random_state=0)
    assert gm.fit(REAL).report_.setting["arithmetic"] == "float64 products, in NumPy"
    assert gm.fit(np.tile(REAL, (40, 1))).report_.setting["arithmetic"] == "float64 products"


def test_a_first_fit_compiles_nothing() -> None:
    """In a new interpreter: mixtures, chains and answers without Numba."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1].split('|')\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "from core.test_small_work import CHAINS, FITS\n"
        "for name, (make, x) in FITS.items():\n"
        "    model = make().fit(x)\n"
        "    model.predict(x), model.predict_proba(x), model.score(x), model.predict(x[:1])\n"
        "    assert 'numba' not in sys.modules, name\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    subprocess.run([sys.executable, "-c", script, "|".join(sys.path)], check=True, env=environment)
