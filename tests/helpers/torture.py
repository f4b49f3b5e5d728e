"""Random small fits on hostile but legal data: what they are, and how they end.

Run as a program it tries many, and prints the counts: ``PYTHONPATH=tests python -m helpers.torture FIRST COUNT``.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from streamem import (
    GMMHMM,
    HMM,
    BernoulliHMM,
    CategoricalHMM,
    GaussianHMM,
    GaussianMixture,
    Mixture,
    PoissonHMM,
)
from streamem.algorithms import IncrementalEM, StepwiseEM
from streamem.core.errors import DataError, NumericalError, ParameterError, PoisonError
from streamem.families import AutoregressiveGaussian, Bernoulli, Categorical, Gaussian, MixtureFamily, Poisson

Array = NDArray[Any]
Rng = np.random.Generator
MESSAGES: set[str] = set()
"""How explained errors begin, for people."""

TYPES = ["full", "tied", "diag", "spherical"]


@dataclass
class Fit:
    """One fit, and what was done to its data."""

    model: Any
    x: Array
    done: Callable[[Any, Array], Any]
    words: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.model!r} on {self.x.shape} {self.x.dtype}: {', '.join(self.words)}"


# --- data ------------------------------------------------------------------------------------------------------------


def rows_of(rng: Rng, kind: str, words: list[str]) -> Array:
    """Few rows of a few columns that a family of that kind can emit."""
    n, d = rng.integers(1, [30, 7] if rng.random() < 0.8 else [200, 13])
    if kind == "real":
        x = rng.normal(size=(n, d)) + rng.integers(0, 3) * rng.integers(0, 2, (n, 1))
        return distorted(rng, x, words)
    if kind == "count":
        x = rng.poisson(10.0 ** rng.uniform(-2, 5), (n, d)).astype(np.float64)
    else:
        x = rng.integers(0, 2 if kind == "binary" else 4, (n, d)).astype(np.float64)
    return repeated(rng, x, words)


def distorted(rng: Rng, x: Array, words: list[str]) -> Array:
    """Collinear, constant or rounded columns, outliers, offsets and scales."""
    n, d = x.shape
    if d > 2 and rng.random() < 0.3:
        x[:, 0] = x[:, 1] + x[:, 2]
        words.append("collinear")
    if rng.random() < 0.15:
        x[:, -1] = rng.normal()
        words.append("constant column")
    if rng.random() < 0.15:
        x = np.round(x)
        words.append("rounded")
    if rng.random() < 0.15:
        x /= np.abs(x).sum(axis=1, keepdims=True) + 1e-300
        words.append("shares")
    x = repeated(rng, x, words)
    n = len(x)
    if rng.random() < 0.2:
        x[rng.integers(n)] *= 10.0 ** rng.uniform(3, 14)
        words.append("outlier")
    if rng.random() < 0.2:
        x = x + 10.0 ** rng.uniform(0, 12)
        words.append("offset")
    if rng.random() < 0.3:
        x = x * 10.0 ** (rng.uniform(-150, 150) if rng.random() < 0.5 else rng.uniform(-12, 12, d))
        words.append("scaled")
    return x


def repeated(rng: Rng, x: Array, words: list[str]) -> Array:
    if rng.random() < 0.3:
        x = x[rng.integers(0, int(rng.integers(1, len(x) + 1)), len(x) + 3)]
        words.append("duplicates")
    return x


def weights_of(rng: Rng, n: int, words: list[str]) -> Array | None:
    if rng.random() < 0.6:
        return None
    words.append("weights")
    weight = rng.random(n) if rng.random() < 0.5 else 10.0 ** rng.uniform(-12, 3, n)
    if rng.random() < 0.4:
        weight[rng.random(n) < 0.3] = 0.0
    return weight * 10.0 ** (rng.uniform(-30, 30) if rng.random() < 0.3 else 0.0)


# --- models ----------------------------------------------------------------------------------------------------------


def family_of(rng: Rng, kind: str) -> Any:
    if kind == "count":
        family: Any = Poisson()
    elif kind == "binary":
        family = Bernoulli()
    elif kind == "code":
        family = Categorical(4)
    else:
        family = Gaussian(str(rng.choice(TYPES)), float(rng.choice([0.0, 0.0, 1e-12, 1e-6])))
    return MixtureFamily(family, int(rng.integers(1, 4))) if rng.random() < 0.25 else family


def components(rng: Rng, x: Array) -> int:
    """Often as many as there are rows that differ."""
    distinct = len(np.unique(x, axis=0))
    return int(np.clip(distinct + rng.integers(-1, 2) if rng.random() < 0.3 else rng.integers(1, 5), 1, max(1, len(x))))


def mixture(rng: Rng, kind: str, x: Array) -> Any:
    common: dict[str, Any] = {
        "n_components": components(rng, x),
        "init_params": str(rng.choice(["kmeans", "k-means++", "random", "random_from_data"])),
        "random_state": int(rng.integers(1000)),
        "max_iter": int(rng.choice([5, 15, 40])),
        "tol": float(rng.choice([0.0, 1e-3])),
    }
    if kind == "real" and rng.random() < 0.5:
        regularized = float(rng.choice([1e-6, 1e-6, 1e-12, 0.0]))
        return GaussianMixture(covariance_type=str(rng.choice(TYPES)), reg_covar=regularized, **common)
    if kind == "real" and rng.random() < 0.2 and x.shape[1] % 2 == 0:
        return Mixture(AutoregressiveGaussian(1, float(rng.choice([0.0, 1e-6]))), **common)
    return Mixture(family_of(rng, kind), **common)


def chain(rng: Rng, kind: str, x: Array) -> Any:
    common: dict[str, Any] = {
        "n_components": components(rng, x),
        "random_state": int(rng.integers(1000)),
        "n_iter": int(rng.choice([5, 15, 40])),
        "tol": float(rng.choice([0.0, 1e-4])),
        "topology": "left-right" if rng.random() < 0.2 else "ergodic",
        "transmat_prior": float(rng.choice([1.0, 1.0, 2.0])),
    }
    if kind != "real" or rng.random() < 0.3:
        if rng.random() < 0.5 or kind == "real":
            lagged = kind == "real" and rng.random() < 0.5
            return HMM(AutoregressiveGaussian(int(rng.integers(1, 3))) if lagged else family_of(rng, kind), **common)
        return {"count": PoissonHMM, "binary": BernoulliHMM, "code": CategoricalHMM}[kind](**common)
    common["covariance_type"] = str(rng.choice(TYPES))
    common["reg_covar"] = float(rng.choice([0.0, 0.0, 1e-6]))
    if rng.random() < 0.25:
        common |= {"means_weight": 1.0, "covars_prior": 10.0 ** rng.uniform(-12, 0), "covars_weight": 10.0}
    if rng.random() < 0.25:
        common["params"] = str(rng.choice(["stm", "stc", "mc", "st"]))
    if rng.random() < 0.4:
        return GMMHMM(n_mix=int(rng.integers(1, 4)), **common)
    return GaussianHMM(**common)


def learning(rng: Rng, is_chain: bool, n: int, words: list[str]) -> Callable[[Any, Array], Any]:
    """fit by one of the algorithms, partial_fit, or fit_stream."""
    way = str(rng.choice(["batch", "batch", "batch", "stepwise", "incremental", "partial_fit", "fit_stream"]))
    way = "partial_fit" if is_chain and way == "fit_stream" else way
    words.append(way)
    if way == "fit_stream":
        return lambda model, x: model.fit_stream(np.array_split(x, 3), batch_rows=max(1, n // 2))
    if is_chain:
        options: dict[str, Any] = {"lengths": [n // 2, n - n // 2]} if n > 1 and rng.random() < 0.5 else {}
        weight = weights_of(rng, len(options.get("lengths", [n])), words)
    else:
        options, weight = {}, weights_of(rng, n, words)
    if weight is not None:
        options["sample_weight"] = weight
    if way == "partial_fit":
        return lambda model, x: model.partial_fit(x, **options).partial_fit(x, **options)
    if way != "batch":
        options["algorithm"] = StepwiseEM(passes=2) if way == "stepwise" else IncrementalEM(max_iter=5)
    return lambda model, x: model.fit(x, **options)


def drawn(seed: int) -> Fit:
    """The fit of that number."""
    rng, words = np.random.default_rng(seed), list[str]()
    kind = str(rng.choice(["real", "real", "real", "real", "count", "binary", "code"]))
    x = rows_of(rng, kind, words)
    if rng.random() < 0.3:
        x = np.clip(x, -3e38, 3e38).astype(np.float32)
    is_chain = rng.random() < 0.45
    model = (chain if is_chain else mixture)(rng, kind, x)
    done = learning(rng, is_chain, len(x), words)
    return Fit(model, x, done, words)


# --- outcomes --------------------------------------------------------------------------------------------------------


def outcome(fit: Fit) -> str:
    """ "model", or the class of an error that explains the data; anything else is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model = fit.done(fit.model, fit.x)
            require_finite(model)
            score = model.score(fit.x)
        except (DataError, NumericalError, ParameterError, PoisonError) as error:
            MESSAGES.add(f"    {type(error).__name__}: {re.sub('[0-9]+', 'N', str(error))[:90]}")
            return type(error).__name__
        except NotFittedError:  # too few rows so far: the next batch may bring more
            assert {"partial_fit", "fit_stream"} & set(fit.words)
            return "no model yet"
    assert np.isfinite(score), f"score is {score}"
    return "model"


def require_finite(model: Any) -> None:
    for name, value in vars(model).items():
        if name == "params_":
            leaves = value.flatten().items()
        else:
            leaves = [(name, value)] if name.endswith("_") and not name.startswith("_") else []
        for part, leaf in leaves:
            if isinstance(leaf, float) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"):
                assert np.isfinite(leaf).all(), f"{name} {part} is not finite: {leaf}"


def tried(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """How many fits ended how, and those that ended as none may."""
    counts, wrong = Counter[str](), []
    for seed in range(first, first + count):
        fit = drawn(seed)
        try:
            counts[outcome(fit)] += 1
        except Exception as error:
            counts["wrong"] += 1
            wrong.append(f"{seed}: {type(error).__name__}: {error} [{fit}]")
    return counts, wrong


if __name__ == "__main__":
    found, failures = tried(int(sys.argv[1]), int(sys.argv[2]))
    print("\n".join(failures))
    print("\n".join(sorted(MESSAGES)))
    print(sum(found.values()), "tried:", dict(found.most_common()))
