"""Student-t components: the laws of a family, a plain ECM as oracle, SciPy at one component, and the ends of ν."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from scipy.optimize import brentq
from scipy.special import digamma, gammaln

from streamem.conformance import FamilySuite, ModelSuite
from streamem.conformance.tolerance import require
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.stats import Stats
from streamem.families import Gaussian, MixtureFamily, StudentT
from streamem.families.student.dofs import LEAST_DOF, MOST_DOF, best_dofs, log_less_digamma, normalizing
from streamem.initialization import STARTS
from streamem.models import HMM, Mixture

Array = NDArray[Any]
TYPES = ["full", "tied", "diag", "spherical"]
DOFS: list[tuple[Any, float]] = [("estimated", 0.0), ("tied", 1e-4), (4.0, 0.0), ((1.5, 3.0, 40.0), 1e-4)]
SHARED = frozenset({"center", "scale"})
TIED = frozenset({"covariances", "precisions_cholesky", "floored"})


def full_scales(family: StudentT, params: Params) -> Array:
    """Scale matrices (K, d, d) in units of the data."""
    scales, (k, d) = family.scales(params), params.means.shape
    return {
        "full": lambda: scales,
        "tied": lambda: np.repeat(scales[None], k, axis=0),
        "diag": lambda: np.stack([np.diag(own) for own in scales]),
        "spherical": lambda: np.stack([np.eye(d) * own for own in scales]),
    }[family.covariance_type]()


def reference(family: StudentT, params: Params, x: Array) -> Array:
    """SciPy's log-densities (n, K)."""
    parts = zip(family.means(params), full_scales(family, params), params.dofs, strict=True)
    return np.column_stack([scipy_stats.multivariate_t(m, s, df=nu).logpdf(x) for m, s, nu in parts])


def distances(family: StudentT, params: Params, x: Array) -> Array:
    """Squared distances (n, K)."""
    parts = zip(family.means(params), full_scales(family, params), strict=True)
    return np.column_stack([np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(s), x - m) for m, s in parts])


class Laws(FamilySuite):
    """Around a mean of (1000, …), with anchors that are not at it."""

    family: StudentT

    def make_family(self) -> StudentT:
        return self.family

    def make_params(self, rng: np.random.Generator) -> Params:
        params = self.family.start(self.make_rows(rng, 50), None, 3)
        params = self._moved(params, 1000.0 + rng.normal(size=(3, 4)), rng, 0.5)
        nu = {"estimated": [2.0, 5.0, 30.0], "tied": [5.0] * 3}
        return self.family.with_dofs(params, nu.get(str(self.family.dof), params.dofs))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        noise = rng.normal(size=(n, 4)) / np.sqrt(rng.chisquare(5.0, (n, 1)) / 5.0)
        return 1000.0 + noise @ (np.eye(4) + 0.3 * rng.normal(size=(4, 4)))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        means = self.family.means(params)
        moved = self._moved(params, means + scale * rng.normal(size=means.shape), rng, scale)
        if not isinstance(self.family.dof, str):
            return moved
        factor = np.exp(scale * rng.normal(size=1 if self.family.dof == "tied" else 3))
        return self.family.with_dofs(moved, np.clip(params.dofs * factor, LEAST_DOF, MOST_DOF))

    def _moved(self, params: Params, means: Array, rng: np.random.Generator, scale: float) -> Params:
        scales = self.family.scales(params)
        if scales.shape[-2:] == (4, 4):
            a = np.eye(4) + scale * rng.normal(size=(*scales.shape[:-2], 4, 4))
            scales = a @ scales @ np.swapaxes(a, -1, -2)
            scales = (scales + np.swapaxes(scales, -1, -2)) / 2
        else:
            scales = scales * np.exp(scale * rng.normal(size=scales.shape))
        return self.family.with_covariances(self.family.with_means(params, means), scales)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return reference(self.family, params, x)

    def test_the_maximum_beats_perturbations(self) -> None:
        """The expected log-likelihood of rows and precisions, at the best mean of the precisions, is not exceeded."""
        rng = np.random.default_rng(self.seed)
        old = self.make_params(rng)
        x = self.make_rows(rng, self.n_rows)
        resp = rng.dirichlet(np.ones(3), size=len(x))
        best = self.family.maximize(self.family.stats(old, x, resp), old)
        highest = self._bound(best, old, x, resp)
        for trial in range(60):
            other = self._bound(self.perturbed(best, rng, 10.0 ** -(trial % 6)), old, x, resp)
            require(not other > highest + 1e-9 * abs(highest), f"{other!r} exceeds {highest!r}")

    def _bound(self, params: Params, old: Params, x: Array, resp: Array) -> float:
        """By its definition, with precisions as at `old`."""
        d, nu0, nu = x.shape[1], np.minimum(old.dofs, 1e10), np.minimum(params.dofs, 1e10)
        delta = distances(self.family, old, x)
        u, logs = (nu0 + d) / (nu0 + delta), digamma((nu0 + d) / 2) - np.log((nu0 + delta) / 2)
        n, scaled, log = resp.sum(axis=0), (resp * u).sum(axis=0), (resp * logs).sum(axis=0)
        inverses = np.linalg.inv(full_scales(self.family, params))
        sums = (resp * u * distances(self.family, params, x)).sum(axis=0) + nu * scaled
        sums += self.family.reg_covar * scaled * np.einsum("kii->k", inverses)
        sizes, own = n * (nu + d), n * 0.5 * np.linalg.slogdet(inverses)[1]
        if isinstance(self.family.dof, str):
            own = own + n * (nu / 2 * np.log(nu / 2) - gammaln(nu / 2)) + nu / 2 * log
        if self.family.covariance_type == "tied":
            sizes, sums, own = sizes.sum(), sums.sum(), own.sum()
        return float(np.sum(own - 0.5 * sizes * (np.log(sums / sizes) + 1.0)))


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(("dof", "reg_covar"), DOFS)
class TestStudentT(Laws):
    """Of complete rows."""

    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str, dof: Any, reg_covar: float) -> None:
        self.family = StudentT(covariance_type, reg_covar, dof)
        self.shared = SHARED | (TIED if covariance_type == "tied" else frozenset())


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
class TestMixtureOfStudents(ModelSuite):
    """Rows of which one in twenty is far out."""

    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str) -> None:
        self.model = Mixture(StudentT(covariance_type, 1e-6), 3, STARTS["k-means++"])
        shared = SHARED | (TIED if covariance_type == "tied" else frozenset())
        self.shared = frozenset(f"components.{name}" for name in shared)

    def make_model(self) -> Mixture:
        return self.model

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        return Chunk(contaminated(rng, n))


def contaminated(rng: np.random.Generator, n: int) -> Array:
    """Three groups about (−5, 0), (0, 5), (5, 0), and 5 % of rows from anywhere within fifteen widths."""
    means = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])[rng.integers(3, size=n)]
    x = means + rng.normal(size=(n, 2))
    x[: n // 20] = rng.uniform(-15.0, 15.0, size=(n // 20, 2))
    return rng.permutation(x)


# --- oracles ---------------------------------------------------------------------------------------------------------


def of_type(matrix: Array, kind: str) -> Array:
    """The maximizer of that type for a second moment (d, d)."""
    if kind == "diag":
        return np.diag(np.diag(matrix))
    return np.eye(len(matrix)) * np.trace(matrix) / len(matrix) if kind == "spherical" else matrix


def plain_ecm(x: Array, means: Array, scales: Array, kind: str, dof: Any, iterations: int) -> tuple[Any, ...]:
    """ECM of Peel & McLachlan (2000), with n_k under the scale matrices, in plain NumPy; scales are (K, d, d)."""
    (k, d), n = means.shape, len(x)
    weights = np.full(k, 1 / k)
    nu = np.full(k, 10.0) if isinstance(dof, str) else np.broadcast_to(np.asarray(dof, dtype=float), k).copy()
    for _ in range(iterations):
        delta = np.column_stack(
            [np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(s), x - m) for m, s in zip(means, scales, strict=True)]
        )
        constants = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi)
        constants -= 0.5 * np.linalg.slogdet(scales)[1]
        joint = np.log(weights) + constants - (nu + d) / 2 * np.log1p(delta / nu)
        total = np.logaddexp.reduce(joint, axis=1)
        r = np.exp(joint - total[:, None])
        u = (nu + d) / (nu + delta)
        counts = r.sum(axis=0)
        weights, means = counts / n, (r * u).T @ x / (r * u).sum(axis=0)[:, None]
        z = x[:, None, :] - means
        scatter = np.einsum("nk,nki,nkj->kij", r * u, z, z)
        if kind == "tied":
            scales = np.repeat(scatter.sum(axis=0)[None] / n, k, axis=0)
        else:
            scales = np.stack([of_type(s, kind) for s in scatter]) / counts[:, None, None]
        if isinstance(dof, str):
            t = (r * (np.log(u) - u)).sum(axis=0) / counts + digamma((nu + d) / 2) - np.log((nu + d) / 2)
            t = np.full(k, t @ counts / n) if dof == "tied" else t
            nu = np.array([brentq(lambda v, s=s: np.log(v / 2) + 1 - digamma(v / 2) + s, 1e-2, 1e6) for s in t])
    return total.sum(), weights, means, scales, nu


@pytest.mark.parametrize("dof", ["estimated", "tied", 3.0])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_plain_ecm_from_the_same_start_ends_at_the_same_place(covariance_type: str, dof: Any) -> None:
    rng = np.random.default_rng(3)
    centres = np.array([[-6.0, 0.0], [6.0, 1.0]])
    x = centres[np.arange(300) % 2] + rng.standard_t(3.0, size=(300, 2)) * [1.0, 2.0]
    family = StudentT(covariance_type, 0.0, dof)
    model = Mixture(family, 2, STARTS["kmeans"])
    params = model.anchor_only(Chunk(x))
    assert params is not None
    eye = {"full": np.tile(np.eye(2), (2, 1, 1)), "tied": np.eye(2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}
    own = family.with_covariances(family.with_means(params.components, centres), eye[covariance_type])
    params = params.replace(components=own)
    reached = -np.inf
    for _ in range(400):
        stats = model.e_step(params, Chunk(x))
        assert float(stats.log_likelihood) >= reached - 1e-9
        reached = float(stats.log_likelihood)
        params = model.m_step(stats, params)
    expected, weights, means, scales, nu = plain_ecm(
        x, centres, np.tile(np.eye(2), (2, 1, 1)), covariance_type, dof, 800
    )
    assert reached == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(params.weights, weights, atol=1e-5)
    np.testing.assert_allclose(family.means(params.components), means, atol=1e-4)
    np.testing.assert_allclose(full_scales(family, params.components), scales, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(params.components.dofs, nu, rtol=1e-3)


def fitted(x: Array, family: StudentT, iterations: int) -> tuple[float, Params]:
    """Log-likelihood and components after so many steps of one component."""
    model = Mixture(family, 1, STARTS["kmeans"])
    params = model.init(Chunk(x), np.random.RandomState(0))
    for _ in range(iterations):
        stats = model.e_step(params, Chunk(x))
        params = model.m_step(stats, params)
    return float(model.e_step(params, Chunk(x)).log_likelihood), params.components


def test_one_component_is_scipys_fit() -> None:
    x = np.random.default_rng(5).standard_t(2.5, size=500) * 3.0 + 7.0
    reached, params = fitted(x[:, None], StudentT(), 500)
    nu, mean, scale = scipy_stats.t.fit(x)
    assert reached >= scipy_stats.t.logpdf(x, nu, mean, scale).sum() - 1e-6
    found = params.dofs[0], StudentT().means(params)[0, 0], np.sqrt(StudentT().scales(params)[0, 0, 0])
    np.testing.assert_allclose(found, (nu, mean, scale), rtol=2e-3)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_infinitely_many_degrees_of_freedom_are_a_gaussian(covariance_type: str) -> None:
    x = np.random.default_rng(6).normal(size=(400, 3)) + np.repeat([[0.0], [8.0]], 200, axis=0)
    resp = np.random.default_rng(7).dirichlet(np.ones(2), size=400)
    for dof, tolerance in ((np.inf, 1e-12), (1e8, 1e-5)):
        family, gaussian = StudentT(covariance_type, 1e-3, dof), Gaussian(covariance_type, 1e-3)
        params, same = family.start(x, None, 2), gaussian.start(x, None, 2)
        params, same = (f.maximize(f.stats(p, x, resp), p) for f, p in ((family, params), (gaussian, same)))
        np.testing.assert_allclose(family.log_prob(params, x), gaussian.log_prob(same, x), rtol=tolerance)
        np.testing.assert_allclose(params.covariances, same.covariances, rtol=tolerance, atol=tolerance)
        assert family.n_parameters(2, 3) == gaussian.n_parameters(2, 3)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_the_heaviest_tails_and_the_farthest_rows(covariance_type: str) -> None:
    """ν at its lower bound, rows at a million widths, and steps that never fall."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(300, 2)) * np.exp(rng.uniform(0.0, 14.0, size=(300, 1)))
    model = Mixture(StudentT(covariance_type, 1e-9), 2, STARTS["kmeans"])
    params, before = model.init(Chunk(x), np.random.RandomState(0)), -np.inf
    for _ in range(200):
        stats = model.e_step(params, Chunk(x))
        assert float(stats.log_likelihood) >= before - 1e-6
        before, params = float(stats.log_likelihood), model.m_step(stats, params)
    assert np.isfinite(before)
    assert params.components.dofs.min() < 1.0
    far = np.array([[1e200, -1e190], [1e300, 1e300], [3.0, 1e160]])
    found = model.log_density(params, Chunk(far))
    assert np.isfinite(found).all()
    assert (found < -100).all()
    one = StudentT(covariance_type, 0.0, 2.0)
    at = one.start(x, None, 1)
    plain = reference(one, at, far * 1e-150)
    nearer = reference(one, at, far * 1e-160)
    np.testing.assert_allclose(one.far_log_prob(at, far * 1e-150), plain, rtol=1e-10)
    np.testing.assert_allclose(one.far_log_prob(at, far * 1e-160), nearer, rtol=1e-10)
    slope = 0.5 * (2.0 + 2.0) * 2.0 * np.log(1e50)  # ½(ν + d)·log δ, where 1 + δ/ν is δ/ν
    np.testing.assert_allclose(one.far_log_prob(at, far * 1e-100), plain - slope, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.variations(1, 1)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_rows_of_float32(covariance_type: str) -> None:
    """In many rows and one call, by products in float32, log-likelihood and statistics are those of float64."""
    rng = np.random.default_rng(9)
    near = contaminated(rng, 3000)
    x = np.vstack([near, [[1e6, -1e6]]]).astype(np.float32)
    model = Mixture(StudentT(covariance_type), 3, STARTS["kmeans"])
    params = model.init(Chunk(near), np.random.RandomState(0))
    for _ in range(5):
        params = model.m_step(model.e_step(params, Chunk(near)), params)
    narrow, wide = (model.e_step(params, Chunk(rows)) for rows in (x, x.astype(np.float64)))
    assert "float32" in model.arithmetic(params, np.float32)
    assert float(narrow.log_likelihood) == pytest.approx(float(wide.log_likelihood), rel=1e-6)
    assert abs(float(narrow.log_likelihood - wide.log_likelihood)) <= float(narrow.rounding)
    for name, leaf in wide.components.flatten().items():
        size = np.abs(leaf).max()
        np.testing.assert_allclose(narrow.components.flatten()[name], leaf, atol=2e-5 * size, err_msg=name)


def test_outliers_leave_the_means_alone() -> None:
    """Among 5 % outliers a t mixture keeps the means within 0.15 widths, and nearer than a Gaussian mixture does."""
    rng = np.random.default_rng(10)
    x = contaminated(rng, 6000)
    truth = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    errors = {}
    for family in (StudentT("full", 1e-6), Gaussian("full", 1e-6)):
        model = Mixture(family, 3, STARTS["kmeans"])
        params = model.init(Chunk(x), np.random.RandomState(0))
        for _ in range(100):
            params = model.m_step(model.e_step(params, Chunk(x)), params)
        means = family.means(params.components)
        errors[type(family)] = np.linalg.norm(means[:, None] - truth, axis=2).min(axis=1).max()
    assert errors[StudentT] < min(0.15, errors[Gaussian])


# --- degrees of freedom ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.floats(LEAST_DOF * 1.01, MOST_DOF * 0.99))
def test_the_equation_of_dofs_is_solved_to_the_last_digits(dof: float) -> None:
    target = log_less_digamma(np.array([0.5 * dof]))
    assert best_dofs(target)[0] == pytest.approx(dof, rel=1e-9)


def test_dofs_end_at_their_bounds() -> None:
    assert best_dofs(np.array([1e3, 1e-12, 0.0, -1.0])).tolist() == [LEAST_DOF, MOST_DOF, MOST_DOF, MOST_DOF]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 1e4), st.integers(1, 300))
def test_normalizing_constants_are_scipys(dof: float, d: int) -> None:
    plain = gammaln((dof + d) / 2) - gammaln(dof / 2) - d / 2 * np.log(dof / 2)
    assert normalizing(np.array([dof]), d)[0] == pytest.approx(plain, abs=1e-10 * max(1.0, dof + d))


@settings(max_examples=25, deadline=None)
@given(
    dof=st.sampled_from(["estimated", "tied", 0.3, 7.0]),
    kind=st.sampled_from(TYPES),
    seed=st.integers(0, 10_000),
    reg_covar=st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_no_step_lowers_the_objective(dof: Any, kind: str, seed: int, reg_covar: float) -> None:
    """ℓ(new) − ℓ(old) ≥ R(new) − R(old) − shortfall, from starts far away and with a penalty that matters."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(rng.uniform(0.5, 20.0), size=(60, 2)) * np.exp(rng.normal(size=2))
    family = StudentT(kind, reg_covar, dof)
    model = Mixture(family, 2, STARTS["random_from_data"])
    params, chunk = model.init(Chunk(x), np.random.RandomState(seed)), Chunk(x)
    stats = model.e_step(params, chunk)
    for _ in range(15):
        new = model.m_step(stats, params)
        after = model.e_step(new, chunk)
        allowed = model.penalty(params, stats) - model.penalty(new, stats) + model.shortfall(params, new, stats)
        fallen = float(stats.log_likelihood - after.log_likelihood)
        assert fallen <= max(0.0, allowed) + float(stats.rounding) + 1e-9
        params, stats = new, after


def test_rows_that_are_drawn_have_the_distribution() -> None:
    family = StudentT("diag", 0.0, (3.0, np.inf))
    params = family.start(np.random.default_rng(0).normal(size=(50, 2)), None, 2)
    params = family.with_means(params, np.array([[0.0, 1.0], [2.0, 3.0]]))
    params = family.with_covariances(params, np.array([[4.0, 1.0], [1.0, 9.0]]))
    for component, marginal in enumerate((scipy_stats.t(3.0, 0.0, 2.0), scipy_stats.norm(2.0, 1.0))):
        rows = family.draw(params, component, 4000, np.random.RandomState(1))
        assert scipy_stats.kstest(rows[:, 0], marginal.cdf).pvalue > 0.01


def test_statistics_of_another_anchor() -> None:
    x = np.random.default_rng(11).standard_t(3.0, size=(200, 3)) + 50.0
    resp = np.random.default_rng(12).dirichlet(np.ones(2), size=200)
    family = StudentT("full", 1e-6)
    old = family.at_anchor(np.zeros(3), np.ones(3), 2)
    best = family.maximize(family.stats(old, x, resp), old)
    new = family.reanchored(best)
    assert new is not best
    assert (new.dofs == best.dofs).all()
    stats = family.stats(best, x, resp)
    direct = family.maximize(family.stats(new, x, resp), new)
    moved = family.maximize(family.rebase(stats, best, new), new)
    for name in ("means", "covariances", "dofs"):
        np.testing.assert_allclose(moved[name], direct[name], rtol=1e-7, atol=1e-9)


def test_a_tight_component_goes_by_differences() -> None:
    """One component a hundred-thousandth as wide as the data: its kernel runs block by block, and is as exact."""
    rng = np.random.default_rng(13)
    x = np.vstack([rng.normal(size=(300, 2)), 3.0 + 1e-5 * rng.standard_t(3.0, size=(200, 2))])
    family = StudentT("full", 0.0)
    model = Mixture(family, 2, STARTS["kmeans"])
    params = model.init(Chunk(x), np.random.RandomState(0))
    for _ in range(60):
        params = model.m_step(model.e_step(params, Chunk(x)), params)
    assert "differences" in model.arithmetic(params)
    found = model.e_step(params, Chunk(x)).log_likelihood
    known = np.logaddexp.reduce(family.log_prob(params.components, x) + np.log(params.weights), axis=1).sum()
    assert float(found) == pytest.approx(known, rel=1e-12)
    width = np.sqrt(family.scales(params.components)[:, 0, 0]).min()
    assert 0.5e-5 < width < 2e-5


@pytest.mark.parametrize("dof", ["free", 0.0, -1.0, np.nan, True, None, (1.0, -2.0), [[1.0]], ()])
def test_dofs_that_are_none_are_refused(dof: Any) -> None:
    with pytest.raises(ParameterError, match="dof is .*it must be"):
        StudentT(dof=dof)


def test_as_many_dofs_as_components() -> None:
    with pytest.raises(ParameterError, match="dof has 2 numbers, where n_components is 3"):
        StudentT(dof=(1.0, 2.0)).start(np.eye(3), None, 3)


def test_states_and_parts_may_be_students() -> None:
    rng = np.random.default_rng(14)
    x = np.repeat([[-4.0], [4.0]], 100, axis=0) + rng.standard_t(3.0, size=(200, 1))
    for model in (
        HMM(StudentT("diag", 1e-6), 2, STARTS["kmeans"]),
        Mixture(MixtureFamily(StudentT("diag", 1e-6), 2), 1, STARTS["kmeans"]),
    ):
        params, before = model.init(Chunk(x), np.random.RandomState(0)), -np.inf
        for _ in range(20):
            stats: Stats = model.e_step(params, Chunk(x))
            assert float(stats.log_likelihood) >= before - 1e-6
            before, params = float(stats.log_likelihood), model.m_step(stats, params)
