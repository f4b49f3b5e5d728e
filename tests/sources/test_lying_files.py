"""Files whose checksums are right and whose numbers contradict each other: named, never used.

And the other way round: every file that streamem writes, of fits however hostile, is read back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.fitted_states import params_now, state_of
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
from streamem.core.archive import write_archive
from streamem.core.archive_reading import read_archive
from streamem.core.errors import ModelFileError, NumericalError, ParameterError, StreamemError
from streamem.families import AutoregressiveGaussian, Categorical, Gaussian, MixtureFamily, Poisson
from streamem.running import starts
from streamem.running.federated import SharedStats

Array = NDArray[Any]
COVARIANCES = ("full", "tied", "diag", "spherical")
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(60, 3)), RNG.normal(size=(60, 3)) * 2 + 5])
COUNTS = RNG.poisson(np.where(np.arange(120) < 60, 2, 9)[:, None], size=(120, 2))
BITS, CODES = COUNTS % 2, COUNTS % 4


@pytest.fixture(autouse=True)
def short() -> Iterator[None]:
    """Few iterations are enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def few(kind: Any, *settings: Any, **more: Any) -> Any:
    name = "max_iter" if issubclass(kind, GaussianMixture | Mixture) else "n_iter"
    return kind(*settings, random_state=0, **{name: 2}, **more)


MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    **{
        f"mixture {kind}": (lambda kind=kind: few(GaussianMixture, 2, covariance_type=kind).fit(X), {})
        for kind in COVARIANCES
    },
    **{
        f"chain {kind}": (lambda kind=kind: few(GaussianHMM, 2, covariance_type=kind).fit(X), {})
        for kind in COVARIANCES
    },
    "float32": (lambda: few(GaussianMixture, 2).fit(X.astype(np.float32)), {}),
    "chain of mixtures": (lambda: few(GMMHMM, 2, n_mix=2).fit(X), {}),
    "poisson": (lambda: few(PoissonHMM, 2).fit(COUNTS), {}),
    "bernoulli": (lambda: few(BernoulliHMM, 2).fit(BITS), {}),
    "categorical": (lambda: few(CategoricalHMM, 2).fit(CODES), {}),
    "family": (lambda: few(Mixture, Poisson(), 2).fit(COUNTS), {"family": Poisson()}),
    "categories": (lambda: few(Mixture, Categorical(), 2).fit(CODES), {"family": Categorical()}),
    "parts": (
        lambda: few(Mixture, MixtureFamily(Gaussian("diag"), 2), 2).fit(X),
        {"family": MixtureFamily(Gaussian("diag"), 2)},
    ),
    "autoregression": (
        lambda: few(HMM, AutoregressiveGaussian(2), 2).fit(X),
        {"family": AutoregressiveGaussian(2)},
    ),
}


@cache
def fitted(name: str) -> Any:
    """Never changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MODELS[name][0]()


P = "state.params."
C = P + "components."


def negative(value: Array) -> None:
    value[(0,) * value.ndim] = -0.25


def nan(value: Array) -> None:
    value[(0,) * value.ndim] = np.nan


def tripled(value: Array) -> None:
    value *= 3


def bent(value: Array) -> None:
    """A little more than rounding."""
    value *= 1.001


def asymmetric(value: Array) -> None:
    value[..., 0, 1] += 0.5


def odd(value: Array) -> None:
    value[0] = 3.0


SHARES = (negative, nan, tripled)

LIES: list[tuple[str, str, Callable[[Array], None], str]] = [
    *[(name, P + "weights", lie, "weights") for name in ("mixture full", "float32", "family") for lie in SHARES],
    *[(f"mixture {kind}", C + "means", nan, "means") for kind in COVARIANCES],
    *[
        (f"{model} {kind}", C + "covariances", lie, "covariances")
        for model in ("mixture", "chain")
        for kind in COVARIANCES
        for lie in (negative, nan, bent)
    ],
    *[
        (f"{model} {kind}", C + "precisions_cholesky", lie, "precisions_cholesky")
        for model in ("mixture", "chain")
        for kind in COVARIANCES
        for lie in (negative, nan, bent)
    ],
    ("mixture full", C + "covariances", asymmetric, "not symmetric"),
    ("mixture tied", C + "covariances", asymmetric, "not symmetric"),
    ("mixture full", C + "precisions_cholesky", lambda u: u.__setitem__((0, 1, 0), 0.1), "not upper triangular"),
    ("mixture diag", C + "scale", odd, "powers of two"),
    ("mixture diag", C + "scale", negative, "powers of two"),
    ("mixture diag", C + "center", nan, "center"),
    ("mixture full", P + "active", lambda a: a.__setitem__((), np.nan), "active"),
    *[(name, P + "startprob", lie, "startprob") for name in ("chain full", "poisson") for lie in SHARES],
    *[(name, P + "transmat", lie, "transmat") for name in ("chain diag", "categorical") for lie in SHARES],
    *[("poisson", C + "rates", lie, "rates") for lie in (negative, nan)],
    *[("family", C + "rates", lie, "rates") for lie in (negative, nan)],
    *[("bernoulli", C + "probabilities", lie, "probabilities") for lie in SHARES],
    *[
        (name, C + "probabilities", lie, "probabilities")
        for name in ("categorical", "categories")
        for lie in (negative, nan, bent)
    ],
    ("categories", C + "starts", lambda s: s.__setitem__(1, 0), "starts"),
    *[("chain of mixtures", C + "weights", lie, "components.weights") for lie in (negative, tripled)],
    ("chain of mixtures", C + "parts.covariances", bent, "parts.precisions_cholesky"),
    ("parts", C + "parts.means", nan, "parts.means"),
    ("autoregression", C + "regression", nan, "regression"),
    *[("autoregression", C + "noise", lie, "noise") for lie in (negative, bent)],
    ("autoregression", C + "scale", odd, "scale"),
    ("mixture full", "state.weight", lambda w: w.__setitem__((), -1.0), "weight is -1"),
    ("mixture full", "state.iteration", lambda i: i.__setitem__((), -1), "iteration is -1"),
    ("mixture full", "state.trace", nan, "trace"),
    ("mixture full", "state.log_likelihood", lambda v: v.__setitem__((), np.inf), "log_likelihood"),
    ("mixture full", "state.memory.running.responsibilities", negative, "memory.running.responsibilities"),
    ("chain full", "state.memory.running.components.second", nan, "memory.running.components.second"),
    ("mixture full", "means_", tripled, "means_ is not what the exact state tells"),
    ("float32", "covariances_", tripled, "covariances_ is not what the exact state tells"),
    ("chain full", "transmat_", lambda t: t.__setitem__(0, [0.5, 0.5]), "transmat_ is not what"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Files of every model, written once."""
    folder, made = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def path(name: str) -> Path:
        if name not in made:
            made[name] = folder / f"{len(made)}.npz"
            fitted(name).save(made[name])
        return made[name]

    return path


def rewritten(source: Path, target: Path, kind: str, member: str, lie: Callable[[Array], None]) -> None:
    """A file with right checksums, and one member that lies."""
    archive = read_archive(source, kind)
    arrays = {name: np.array(value) for name, value in archive.arrays.items()}
    lie(arrays[member])
    write_archive(target, kind, archive.meta, arrays)


def load(name: str, path: Path) -> Any:
    return type(fitted(name)).load(path, **MODELS[name][1])


@pytest.mark.parametrize(
    ("name", "member", "lie", "named"), LIES, ids=[f"{n}-{m}-{i}" for i, (n, m, _, _) in enumerate(LIES)]
)
def test_a_member_that_lies_is_named(
    name: str, member: str, lie: Any, named: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of 18 such files 16 were loaded, and five used without a word."""
    rewritten(saved(name), tmp_path / "m.npz", "model", member, lie)
    with pytest.raises(ModelFileError, match=f"(?s)m.npz contradicts itself.*{named}"):
        load(name, tmp_path / "m.npz")


@pytest.mark.parametrize("name", MODELS)
def test_what_was_written_is_read(name: str, saved: Callable[[str], Path]) -> None:
    """With all that it says of itself."""
    assert state_of(load(name, saved(name))).params == state_of(fitted(name)).params


def hostile(i: int) -> Array:
    """Collinear, duplicated, far away, with an outlier, of few rows, in all scales."""
    rng = np.random.default_rng(i)
    d = int(rng.integers(1, 6))
    x = rng.normal(size=(int(rng.integers(6, 30)), d)) * 10.0 ** rng.integers(-6, 7, size=d)
    if i % 5 == 1 and d > 1:
        x[:, -1] = 2 * x[:, 0]
    elif i % 5 == 2:
        x[0] *= 10.0 ** rng.integers(1, 12)
    elif i % 5 == 3:
        x = np.round(x / np.abs(x).max() * 2)
    elif i % 5 == 4:
        x = x + np.abs(x).max() * 10.0 ** rng.integers(0, 9)
    return np.asarray(x * 10.0 ** rng.integers(-60, 60))


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_no_honest_file_is_refused(covariance_type: str, tmp_path: Path) -> None:
    """Floored covariances have factors of their own kind, whose rounding is that of the largest eigenvalue."""
    read = 0
    for i in range(20):
        reg = (1e-6, 0.0, 1e-12)[i % 3]
        kind: Any = GaussianMixture if i % 2 else GaussianHMM
        try:
            model = few(kind, 1 + i % 3, covariance_type=covariance_type, reg_covar=reg).fit(hostile(i))
        except StreamemError:
            continue  # a start without spread, say
        model.save(tmp_path / "m.npz")
        assert state_of(kind.load(tmp_path / "m.npz")).params == state_of(model).params
        read += 1
    assert read >= 10


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_models_of_streams_and_of_hands_are_read(covariance_type: str, tmp_path: Path) -> None:
    """Drifting data, empty components, attributes that a user has changed, float32."""
    settings: dict[str, Any] = {"covariance_type": covariance_type, "random_state": 0}
    drifted = GaussianMixture(2, **settings)
    for step, half_life in ((X, 100), (X + 1e4, 100), (X * 100 + 1e4, 10), (X * 1e-3, 10)):
        drifted.partial_fit(step, half_life=half_life)
    means = {"weights_init": [1.0, 0.0], "means_init": [[0.0] * 3, [5.0] * 3]}
    empty = GaussianMixture(2, max_iter=2, **means, **settings).fit(X)
    edited = GaussianMixture(2, **settings).fit(X.astype(np.float32))
    edited.means_, edited.weights_ = edited.means_ * 2, np.array([0.3, 0.7])
    stepwise = GaussianMixture(2, **settings).fit(X, algorithm="stepwise")
    streamed = GaussianMixture(2, **settings).fit_stream([X[:60], X[60:]], batch_rows=30)
    for model in (drifted, empty, edited, stepwise, streamed):
        model.save(tmp_path / "m.npz")
        assert (
            params_now(GaussianMixture.load(tmp_path / "m.npz")).weights.tolist() == params_now(model).weights.tolist()
        )


def test_attributes_that_contradict_themselves_are_not_written(tmp_path: Path) -> None:
    """At the boundary, so that an earlier file stays; what `load` refuses, `save` does."""
    model = few(GaussianMixture, 2).fit(X)
    model.save(tmp_path / "m.npz")
    before = (tmp_path / "m.npz").read_bytes()
    model.weights_ = np.array([3.0, 7.0])
    with pytest.raises(ParameterError, match="weights sums to 10, where 1 is needed"):
        model.save(tmp_path / "m.npz")
    model.weights_, model.means_ = np.array([0.3, 0.7]), np.full((2, 3), np.nan)
    with pytest.raises((ParameterError, NumericalError)):
        model.save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == before


# --- checkpoints and statistics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "lie", "named"),
    [
        (P + "weights", tripled, "state.weights"),
        (C + "precisions_cholesky", bent, "state.components.precisions_cholesky"),
        ("beside_1.params.components.means", nan, "beside_1.components.means"),
        ("beside_1.weight", lambda w: w.__setitem__((), -1.0), "beside_1.weight"),
        ("best.params.components.means", nan, "best.components.means"),
        ("best.weight", lambda w: w.__setitem__((), -1.0), "best.weight"),
        ("rng_after.key", None, "cannot be trusted as a checkpoint"),
    ],
)
def test_checkpoints(member: str, lie: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit does not go on from what contradicts itself, whether two starts share their reads or follow each other."""
    if member.startswith("best"):
        project = starts._project
        monkeypatch.setattr(starts, "_project", lambda job, *plan: (1, project(job, *plan)[1]))

    def fit(path: Path) -> Any:
        return GaussianMixture(2, n_init=2, max_iter=2, tol=0, random_state=0).fit(X, checkpoint=path)

    plain = fit(tmp_path / "c.npz")
    assert state_of(fit(tmp_path / "c.npz")).params == state_of(plain).params
    archive = read_archive(tmp_path / "c.npz", "checkpoint")
    arrays = {name: np.array(value) for name, value in archive.arrays.items()}
    if lie is None:
        arrays[member] = arrays[member][:7]
    else:
        lie(arrays[member])
    write_archive(tmp_path / "d.npz", "checkpoint", archive.meta, arrays)
    with pytest.raises(ModelFileError, match=named):
        fit(tmp_path / "d.npz")


SITES: list[tuple[str, Array]] = [
    ("mixture full", X),
    ("mixture tied", X),
    ("chain diag", X),
    ("chain of mixtures", X),
    ("categories", CODES),
    ("autoregression", X),
]


@pytest.mark.parametrize(("name", "x"), SITES, ids=[name for name, _ in SITES])
def test_statistics(name: str, x: Array, tmp_path: Path) -> None:
    """Sums that cannot be, and sums of other shapes under the name of this model."""
    model = MODELS[name][0]()
    model.expected_statistics(x).save(tmp_path / "s.npz")
    shared = SharedStats.load(tmp_path / "s.npz")
    assert sum([shared]).rows == 120
    for member in ("weight", "log_likelihood", next(m for m in shared.stats.flatten() if m.startswith("components"))):
        rewritten(tmp_path / "s.npz", tmp_path / "t.npz", "statistics", member, lambda v: v.__setitem__(..., np.nan))
        with pytest.raises(ModelFileError, match=f"(?s){member}"):
            SharedStats.load(tmp_path / "t.npz")
    flat = dict(shared.stats.flatten())
    first = next(key for key in flat if key.startswith("components"))
    flat[first] = flat[first][:1]
    other = SharedStats(type(shared.stats).unflatten(flat), shared.basis)
    with pytest.raises(ParameterError, match=first):
        model.maximize(other)
    model.maximize(shared)
