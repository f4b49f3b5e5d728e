"""Parameters that stay, and parameters that components share: the laws, fits by hand, what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from streamem import HMM, GroupedMixture, Mixture, Params, Stats
from streamem.conformance import FamilySuite
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, FullFamily
from streamem.families import (
    Categorical,
    Fixed,
    Gamma,
    Gaussian,
    LogNormal,
    MixtureFamily,
    NegativeBinomial,
    Poisson,
    Product,
    StudentT,
    Tied,
    VonMises,
)
from streamem.families.around import Around
from streamem.families.with_inner import WithInner

Array = NDArray[Any]
K = 3


class Positive(FamilySuite):
    """Families of two numbers > 0 for each component and column, of which `moved` are free in the M-step."""

    moved: ClassVar[tuple[str, ...]]
    one: ClassVar[tuple[str, ...]] = ()

    def make_params(self, rng: np.random.Generator) -> Params:
        shapes, scales = rng.uniform(1.0, 4.0, (2, K, 2))
        return self.shared_by_all(Params(shapes=shapes, scales=scales))

    def shared_by_all(self, params: Params) -> Params:
        return params.replace(**{name: np.repeat(params[name][:1], K, axis=0) for name in self.one})

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.gamma([2.0, 6.0], [2.0, 0.5], (n, 2))

    def make_far_row(self, x: Array) -> Array:
        return x[:1] * 1e6

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        factors = {name: params[name] * np.exp(scale * rng.normal(size=(K, 2))) for name in self.moved}
        return self.shared_by_all(params.replace(**factors))

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        density: Any = scipy_stats.lognorm if "log" in type(self).__name__.lower() else scipy_stats.gamma
        return density.logpdf(x[:, None, :], params.shapes, scale=params.scales).sum(axis=2)


class TestFixedShapes(Positive):
    moved = ("scales",)

    def make_family(self) -> FullFamily:
        return Fixed(Gamma(), ["shapes"])


class TestFixedScales(Positive):
    moved = ("shapes",)

    def make_family(self) -> FullFamily:
        return Fixed(Gamma(), ["scales"])


class TestFixedScalesOfLogNormal(Positive):
    moved = ("shapes",)

    def make_family(self) -> FullFamily:
        return Fixed(LogNormal(), ["scales"])


class TestTiedShapes(Positive):
    moved, one = ("shapes", "scales"), ("shapes",)

    def make_family(self) -> FullFamily:
        return Tied(Gamma(), ["shapes"])


class TestTiedShapesOfLogNormal(TestTiedShapes):
    def make_family(self) -> FullFamily:
        return Tied(LogNormal(), ["shapes"])


class TestAllTied(Positive):
    moved = one = ("shapes", "scales")

    def make_family(self) -> FullFamily:
        return Tied(Gamma())


class Angles(FamilySuite):
    """Angles of which one parameter stays or is shared."""

    moved: ClassVar[tuple[str, ...]] = ("locations", "kappas")
    one: ClassVar[tuple[str, ...]] = ()

    def make_params(self, rng: np.random.Generator) -> Params:
        params = Params(locations=rng.uniform(-2.0, 2.0, (K, 1)), kappas=rng.uniform(1.0, 4.0, (K, 1)))
        return params.replace(**{name: np.repeat(params[name][:1], K, axis=0) for name in self.one})

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.vonmises(0.5, 1.0, (n, 1))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """No angle is far."""

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        moved = {name: params[name] * np.exp(scale * rng.normal(size=(K, 1))) for name in self.moved}
        moved |= {name: np.repeat(moved[name][:1], K, axis=0) for name in self.one}
        return params.replace(**moved)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.vonmises.logpdf(x[:, None, :], params.kappas, loc=params.locations).sum(axis=2)


class TestFixedLocations(Angles):
    moved = ("kappas",)

    def make_family(self) -> FullFamily:
        return Fixed(VonMises(), ["locations"])


class TestTiedKappas(Angles):
    one = ("kappas",)

    def make_family(self) -> FullFamily:
        return Tied(VonMises(), ["kappas"])


class Gaussians(FamilySuite):
    """Two columns; `perturbed` moves what is free, together where it is shared."""

    shared = frozenset({"center", "scale"})
    covariance_type = "diag"
    alike = False

    def make_family(self) -> FullFamily:
        return Fixed(Gaussian(self.covariance_type, 1e-3), ["means"])

    def make_params(self, rng: np.random.Generator) -> Params:
        inner = Gaussian(self.covariance_type, 1e-3)
        params = inner.with_means(inner.start(self.make_rows(rng, 50), None, K), 10.0 + rng.normal(size=(K, 2)))
        return params if self.alike else self.perturbed(params, rng, 0.5)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return 10.0 + rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]])

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        factors = np.exp(scale * rng.normal(size=np.shape(params.covariances)[:1]))
        covariances = params.covariances * factors.reshape(-1, *(1,) * (np.ndim(params.covariances) - 1))
        return Gaussian(self.covariance_type)._assemble(params, params.means, covariances, params.empty)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return Gaussian(self.covariance_type).log_prob(params, x)


class TestFixedMeans(Gaussians):
    pass


class TestFixedMeansFull(Gaussians):
    covariance_type = "full"


class TestFixedCovariances(Gaussians):
    def make_family(self) -> FullFamily:
        return Fixed(Gaussian("diag", 1e-3), ["covariances"])

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return params.replace(means=params.means + scale * rng.normal(size=params.means.shape))


class TestTiedCovariances(Gaussians):
    alike = True

    def make_family(self) -> FullFamily:
        return Tied(Gaussian(self.covariance_type, 1e-3), ["covariances"])

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        means = params.means + scale * rng.normal(size=params.means.shape)
        covariances = params.covariances * np.exp(scale * rng.normal())
        return Gaussian(self.covariance_type)._assemble(params, means, covariances, params.empty)


class TestTiedCovariancesSpherical(TestTiedCovariances):
    covariance_type = "spherical"


def test_what_is_around_a_family_hands_on_all_that_it_can_do() -> None:
    """A new ability of families that is forgotten here would be silently lost in `Fixed`, `Tied` and `GammaPrior`."""
    public = {name for name in vars(FullFamily) if not name.startswith("_")}
    own = {"maximize", "maximize_holding", "maximize_tying", "can_integrate"}
    assert public - vars(Around).keys() - vars(WithInner).keys() == own


# --- fits ------------------------------------------------------------------------------------------------------------


def counts(n: int = 900) -> Array:
    rng = np.random.default_rng(0)
    return rng.poisson(np.where(rng.random(n) < 0.3, 8.0, 2.0))[:, None].astype(np.float64)


def test_weights_beside_fixed_rates_are_those_of_em_written_out(tmp_path: Path) -> None:
    """Given values stay to the last bit; saved, loaded, gone on from; nothing is free but the weights."""
    x = counts()
    family = Fixed(Poisson(), {"rates": [[2.0], [8.0]]})
    mix = Mixture(family, 2, random_state=0, tol=1e-13, max_iter=2000).fit(x)
    density, weights = scipy_stats.poisson.pmf(x, [2.0, 8.0]), np.array([0.5, 0.5])
    for _ in range(2000):
        joint = weights * density
        weights = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    assert mix.params_.rates.tolist() == [[2.0], [8.0]]
    assert mix.weights_ == pytest.approx(weights, abs=1e-6)
    assert mix.lower_bounds_ == sorted(mix.lower_bounds_)
    assert mix._n_parameters() == 1
    mix.save(tmp_path / "m.npz")
    again = Mixture.load(tmp_path / "m.npz", family=family)
    assert (again.predict_proba(x) == mix.predict_proba(x)).all()
    assert again.set_params(warm_start=True).fit(x).params_.rates.tolist() == [[2.0], [8.0]]


def test_what_is_fixed_has_no_standard_error() -> None:
    """Beside fixed rates, the error of the weight is that of one parameter: (Σ ((p_1 − p_2)/p)²)^(−½)."""
    x = counts()
    mix = Mixture(Fixed(Poisson(), {"rates": [[2.0], [8.0]]}), 2, random_state=0, tol=1e-12, max_iter=999).fit(x)
    found, density = mix.standard_errors(x), scipy_stats.poisson.pmf(x, [2.0, 8.0])
    gap = (density[:, 0] - density[:, 1]) / (density @ mix.weights_)
    assert found.weights_ == pytest.approx([(gap @ gap) ** -0.5] * 2, rel=1e-5)
    assert len(found.free_parameters) == 1
    part = Mixture(Fixed(Gaussian("diag"), ["means"]), 2, random_state=0).fit(x)
    assert len(part.standard_errors(x).free_parameters) == part._n_parameters() == 3


def test_means_without_values_stay_as_the_start_makes_them() -> None:
    x = np.random.default_rng(0).normal(np.repeat([0.0, 6.0], 300))[:, None]
    first = Mixture(Gaussian("diag"), 2, random_state=0, max_iter=0)
    first.fit(x)
    mix = Mixture(Fixed(Gaussian("diag"), ["means"]), 2, random_state=0).fit(x)
    assert mix.params_.means.tobytes() == first.params_.means.tobytes()
    assert mix.params_.covariances.tobytes() != first.params_.covariances.tobytes()
    assert mix._n_parameters() == 3


@pytest.mark.parametrize("covariance_type", ["full", "spherical"])
def test_given_means_in_units_of_the_data(covariance_type: str) -> None:
    rng = np.random.default_rng(0)
    x = np.vstack([rng.normal(size=(300, 2)), 50.0 + 3.0 * rng.normal(size=(300, 2))])
    given = [[0.5, 0.0], [50.0, 49.0]]
    mix = Mixture(Fixed(Gaussian(covariance_type), {"means": given}), 2, random_state=0).fit(x)
    inner = Gaussian(covariance_type)
    assert inner.means(mix.params_) == pytest.approx(np.array(given), abs=1e-12)
    own = [
        np.mean((x[part] - m)[:, :, None] * (x[part] - m)[:, None, :], axis=0)
        for part, m in ((slice(0, 300), given[0]), (slice(300, 600), given[1]))
    ]
    if covariance_type == "full":
        assert inner.covariances(mix.params_) == pytest.approx(np.array(own), rel=1e-6)
    else:
        assert inner.covariances(mix.params_) == pytest.approx([np.trace(one) / 2 for one in own], rel=1e-6)


def test_tied_covariances_are_scikit_learns_with_one_column() -> None:
    """Of one column, diagonal and full covariances that are shared are the same thing."""
    x = np.random.default_rng(0).normal(np.repeat([0.0, 3.0], 300))[:, None]
    one = Mixture(Tied(Gaussian("diag"), ["covariances"]), 2, random_state=0, tol=1e-10).fit(x)
    other = Mixture(Gaussian("tied"), 2, random_state=0, tol=1e-10).fit(x)
    assert one.lower_bounds_ == pytest.approx(other.lower_bounds_, rel=1e-10)
    assert np.ptp(one.params_.covariances) == 0.0
    assert one._n_parameters() == other._n_parameters() == 4


def mixed(n: int = 900) -> Array:
    rng = np.random.default_rng(1)
    high = rng.random(n) < 0.4
    return np.column_stack([rng.normal(np.where(high, 4.0, 0.0)), rng.poisson(3.0, n), rng.integers(3, size=n)])


def test_factors_that_are_tied_do_not_tell_components_apart() -> None:
    """As a fit without these columns: same labels, and the columns' own maximum beside it."""
    x = mixed()
    family = Tied(Product({0: Gaussian(), 1: Poisson(), 2: Categorical(3)}), ["x1", "x2"])
    inside = Product({0: Gaussian(), 1: Tied(Poisson()), 2: Tied(Categorical(3))})
    settings: dict[str, Any] = {"random_state": 0, "tol": 1e-9, "max_iter": 500}
    mix, other = Mixture(family, 2, **settings).fit(x), Mixture(inside, 2, **settings).fit(x)
    alone = Mixture(Gaussian(), 2, **settings).fit(x[:, :1])
    assert mix.params_ == other.params_
    assert mix.params_.x1.rates == pytest.approx(x[:, 1].mean(), rel=1e-12)
    shares = np.bincount(x[:, 2].astype(int)) / len(x)
    assert mix.params_.x2.probabilities == pytest.approx(np.tile(shares, (2, 1)), rel=1e-12)
    beside = scipy_stats.poisson.logpmf(x[:, 1], x[:, 1].mean()).mean() + shares @ np.log(shares)
    assert mix.lower_bound_ == pytest.approx(alone.lower_bound_ + beside, abs=1e-6)
    assert mix._n_parameters() == other._n_parameters() == 1 + 4 + 1 + 2


def test_a_fixed_factor_of_a_product_with_missing_values() -> None:
    x = mixed()
    x[::5, 0] = np.nan
    x[2::7, 1] = np.nan
    given = {"rates": [[1.0], [3.0]]}
    family = Product({0: Gaussian(), 1: Fixed(Poisson(), given), 2: Categorical(3)})
    mix = Mixture(family, 2, random_state=0, missing="integrate").fit(x)
    assert mix.params_.x1.rates.tolist() == given["rates"]
    assert mix.lower_bounds_ == sorted(mix.lower_bounds_)


def test_in_hidden_markov_models_and_groups() -> None:
    x = counts()
    hmm = HMM(Fixed(Poisson(), {"rates": [[2.0], [8.0]]}), 2, random_state=0).fit(x)
    assert hmm.params_.rates.tolist() == [[2.0], [8.0]]
    groups = GroupedMixture(Tied(Gamma(), ["shapes"]), 2, random_state=0)
    groups.fit(x + 1.0, lengths=[9] * 100)
    assert np.ptp(groups.params_.shapes) == 0.0


def test_states_that_share_their_parts() -> None:
    """Tied mixtures: states differ in the weights of common parts."""
    rng = np.random.default_rng(0)
    x = rng.normal(np.where(rng.random(600) < np.repeat([0.2, 0.8], 300), 5.0, 0.0))[:, None]
    family = Tied(MixtureFamily(Gaussian("diag", 1e-3), 2), ["parts"])
    hmm = HMM(family, 2, random_state=0, start="random", n_iter=200, tol=1e-9).fit(x)
    assert (hmm.params_.parts.means[:2] == hmm.params_.parts.means[2:]).all()
    assert sorted(np.abs(np.diff(hmm.params_.weights, axis=1).ravel()).round()) == [1.0, 1.0]
    assert hmm.lower_bounds_ == sorted(hmm.lower_bounds_)


class OwnPoisson:
    """A user's own family."""

    def log_prob(self, p: Params, x: Array) -> Array:
        return scipy_stats.poisson.logpmf(x[:, None, :], p.rates).sum(axis=2)

    def stats(self, p: Params, x: Array, resp: Array) -> Stats:
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        return Params(rates=s.x / s.weight[:, None])


def test_of_a_users_own_family() -> None:
    x = counts()
    fixed = Mixture(Fixed(OwnPoisson(), {"rates": [[2.0], [8.0]]}), 2, random_state=0).fit(x)
    assert fixed.params_.rates.tolist() == [[2.0], [8.0]]
    tied = Mixture(Tied(OwnPoisson()), 2, random_state=0).fit(x)
    assert tied.params_.rates == pytest.approx(x.mean(), rel=1e-12)


# --- what cannot be --------------------------------------------------------------------------------------------------

SUMS = "sums over components do not tell it"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(Gaussian(), ["mean"]), "Gaussian has no parameter 'mean' to fix.*did you mean 'means'"),
        (lambda: Fixed(Gaussian(), "means"), r"names is 'means'; it must be a list of names, such as \['means'\]"),
        (lambda: Fixed(Gaussian(), []), "there are no parameters to fix"),
        (lambda: Fixed(NegativeBinomial(), ["sizes"]), "no M-step that leaves sizes.*fix all of sizes, means"),
        (lambda: Fixed(StudentT(), ["means"]), "no M-step that leaves means"),
        (lambda: Fixed(Poisson(), {"rates": ["a"]}), "rates must hold an array of numbers"),
        (lambda: MixtureFamily(Fixed(Gaussian(), ["means"])), "parts stay as .* give Fixed the values"),
        (lambda: Tied(Gaussian(), ["means"]), f"Gaussian cannot tie means alone: .*{SUMS}"),
        (lambda: Tied(Gamma(), ["scales"]), SUMS),
        (lambda: Tied(Product({0: Poisson()}), ["x1"]), "Product has no parameter 'x1' to tie; it has x0"),
    ],
)
def test_names_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Fixed(Poisson(), {"rates": [[1.0, 2.0]]}), r"'rates' have shape \(1, 2\); finite numbers \(2, 1\) are needed"),
        (Fixed(Poisson(), {"rates": [[-1.0], [2.0]]}), "the given values cannot be: rates"),
        (Fixed(Gaussian("diag"), {"covariances": [[-1.0], [1.0]]}), "covariances must be .* positive definite"),
        (Fixed(Product({0: Poisson()}), {"x0": [[1.0], [2.0]]}), "'x0' has parameters of its own"),
        (Tied(Gaussian("tied")), "shares its covariances already"),
        (Fixed(OwnPoisson(), {"speed": [[1.0], [2.0]]}), "OwnPoisson has the parameters rates, and does not say"),
    ],
)
def test_values_that_cannot_be(family: Family, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Mixture(family, 2, random_state=0).fit(counts())
