"""Feature products against differences against 80-bit arithmetic, and which of the two is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.ports import Kernel
from streamem.families import Gaussian
from streamem.families.gaussian.apart import ApartKernel, choose_kernel
from streamem.families.gaussian.arithmetic import ROUNDING_LIMIT, ROUNDING_LIMIT_32, GaussianKernel, TiedKernel
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.rounding import difference_rounding, product_rounding, product_roundings

Array = NDArray[Any]
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
K = 3


@dataclass(frozen=True)
class Setting:
    """Random components in the anchored frame: their spread, and how far they lie from the anchor."""

    d: int
    narrow: float
    far: float


SETTINGS = [
    Setting(1, 1.0, 1.0),
    Setting(4, 1.0, 1.0),
    Setting(17, 0.3, 1.0),
    Setting(4, 1e-2, 3.0),
    Setting(4, 1e-4, 3.0),
    Setting(9, 1e-5, 1.0),
]


def components(covariance_type: str, setting: Setting, seed: int) -> tuple[Gaussian, Params]:
    """Covariances with spreads between `narrow` and 1 along random directions."""
    rng, d = np.random.default_rng(seed), setting.d
    family = Gaussian(covariance_type)
    scale = np.ones(d) if covariance_type == "spherical" else np.exp2(rng.integers(-3, 4, d))
    crude = family.at_anchor(rng.normal(size=d) * 100, scale, K)
    spreads = setting.narrow ** rng.uniform(0, 1, (K, d))
    spreads[:, 0] = setting.narrow
    q = np.linalg.qr(rng.normal(size=(K, d, d)))[0]
    full = (q * spreads[:, None, :] ** 2) @ np.swapaxes(q, -1, -2)
    anchored = {"full": full, "tied": full[0], "diag": spreads**2, "spherical": spreads[:, 0] ** 2}[covariance_type]
    covariances = COVARIANCES[covariance_type].scaled(anchored, crude.scale)
    means = crude.center + crude.scale * setting.far * rng.normal(size=(K, d))
    return family, family.with_covariances(family.with_means(crude, means), covariances)


def rows_of(family: Gaussian, params: Params, seed: int, n: int = 60) -> Array:
    """Rows that the components emit, a third from each."""
    rng = np.random.default_rng(seed)
    d = params.means.shape[1]
    structure = COVARIANCES[family.covariance_type]
    x = np.empty((n, d))
    for i in range(n):
        k = i % K
        white = np.stack(
            [
                structure.whiten(params.precisions_cholesky, k, column[:, None], np.empty((d, 1)))[:, 0]
                for column in np.eye(d)
            ]
        )
        x[i] = params.means[k] + np.linalg.solve(white.T, rng.normal(size=d))
    return params.center + params.scale * x


def exact_log_prob(family: Gaussian, params: Params, x: Array) -> Array:
    """log N(x) at the stored parameters, in 80-bit arithmetic, by its definition."""
    long = np.longdouble
    d = params.means.shape[1]
    anchored = (x.astype(long) - params.center.astype(long)) / params.scale.astype(long)
    out = np.empty((len(x), K), dtype=long)
    for k in range(K):
        factor = factor_of(family, params, k).astype(long)
        whitened = (anchored - params.means[k].astype(long)) @ factor
        constant = np.log(np.diag(factor)).sum() - np.log(params.scale.astype(long)).sum()
        out[:, k] = constant - d * np.log(2 * long(np.pi)) / 2 - (whitened**2).sum(axis=1) / 2
    return out


def factor_of(family: Gaussian, params: Params, k: int) -> Array:
    """U (d, d) of one component, whatever the structure."""
    factor, d = params.precisions_cholesky, params.means.shape[1]
    return {
        "full": lambda: factor[k],
        "tied": lambda: factor,
        "diag": lambda: np.diag(factor[k]),
        "spherical": lambda: np.eye(d) * factor[k],
    }[family.covariance_type]()


def product_kernel(family: Gaussian, params: Params, dtype: type = np.float64) -> Kernel:
    """The fast path, wanted or not."""
    structure = COVARIANCES[family.covariance_type]
    kind = TiedKernel if structure.shared else GaussianKernel
    return kind(structure, params, dtype)


def difference_kernel(family: Gaussian, params: Params) -> ApartKernel:
    """All components by differences, wanted or not."""
    return ApartKernel(COVARIANCES[family.covariance_type], params, np.float64, np.ones(K, dtype=np.bool_))


def run_kernel(kernel: Kernel, x: Array) -> Array:
    out = np.empty((K, len(x)))
    kernel.load(x)
    kernel.log_prob(out)
    return out.T


def own_component(values: Array) -> Array:
    """Of each row, the value under the component that emitted it: what a log-likelihood is made of."""
    return values[np.arange(len(values)), np.arange(len(values)) % K]


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_errors_stay_below_the_stated_bounds(covariance_type: str, setting: Setting) -> None:
    """Against 80 bits, for products and for differences, over rows under their own components."""
    for seed in range(5):
        family, params = components(covariance_type, setting, seed)
        structure = COVARIANCES[covariance_type]
        x = rows_of(family, params, seed + 100)
        exact = exact_log_prob(family, params, x)
        by_products = own_component(np.abs(run_kernel(product_kernel(family, params), x) - exact))
        by_differences = own_component(np.abs(run_kernel(difference_kernel(family, params), x) - exact))
        # The mean over rows is what a log-likelihood and its `rounding` are made of; a single row may lie further out.
        assert by_products.mean() <= product_rounding(structure, params)
        assert by_differences.mean() <= difference_rounding(structure, params)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("setting", SETTINGS[:4], ids=str)
def test_float32_products_stay_below_their_bound(covariance_type: str, setting: Setting) -> None:
    """On float32 rows; and they do round more than float64, or nothing was gained by them."""
    for seed in range(5):
        family, params = components(covariance_type, setting, seed)
        x = rows_of(family, params, seed + 100).astype(np.float32)
        kernel = product_kernel(family, params, np.float32)
        error = own_component(np.abs(run_kernel(kernel, x) - exact_log_prob(family, params, x)))
        assert kernel.dtype == np.float32
        assert 1e-9 < error.mean() <= product_rounding(COVARIANCES[covariance_type], params, np.float32)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_float32_products_only_where_their_bound_allows(covariance_type: str) -> None:
    """Tighter components on the same float32 rows: float32, then float64 products, then differences."""
    structure, seen = COVARIANCES[covariance_type], []
    for narrow in np.logspace(0, -6, 25):
        family, params = components(covariance_type, Setting(3, float(narrow), 1.0), 0)
        kernel = family.kernel(params, np.float32)
        seen.append(kernel.path)
        allowed = product_rounding(structure, params, np.float32) <= ROUNDING_LIMIT_32
        assert (kernel.path == "float32 products") is allowed
        assert family.kernel(params).path != "float32 products"
    alike = [path for path in dict.fromkeys(seen) if " for " not in path]  # where components are not of several kinds
    assert alike == ["float32 products", "float64 products", "float64 differences"]


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_chosen_kernel_is_accurate(covariance_type: str, setting: Setting) -> None:
    """Whatever is chosen errs by less than ROUNDING_LIMIT."""
    family, params = components(covariance_type, setting, 0)
    x = rows_of(family, params, 1)
    kernel = family.kernel(params)
    error = own_component(np.abs(run_kernel(kernel, x) - exact_log_prob(family, params, x)))
    assert error.mean() <= min(kernel.rounding, 2 * ROUNDING_LIMIT)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_products_alone_would_be_wrong_where_they_are_not_chosen(covariance_type: str) -> None:
    """The bound is no excuse for the slow path: products do lose the digits there."""
    family, params = components(covariance_type, SETTINGS[4], 0)
    x = rows_of(family, params, 1)
    exact = exact_log_prob(family, params, x)
    lost = own_component(np.abs(run_kernel(product_kernel(family, params), x) - exact)).mean()
    assert lost > ROUNDING_LIMIT
    assert own_component(np.abs(family.log_prob(params, x) - exact)).mean() < lost / 100


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("setting", SETTINGS[:4], ids=str)
def test_both_kernels_lead_to_the_same_parameters(
    covariance_type: str, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moments about the anchor and about each component's mean, summed over blocks of any length."""
    family, params = components(covariance_type, setting, 3)
    x = rows_of(family, params, 4, 90)
    resp = np.random.default_rng(5).dirichlet(np.ones(K), 90)
    next_params = []
    for differences in (False, True):
        own = np.full(K, differences)
        for module in ("elliptical", "arithmetic", "apart"):
            monkeypatch.setattr(f"streamem.families.gaussian.{module}.about_means", lambda *_, own=own: own)
        kernel = (difference_kernel if differences else product_kernel)(family, params)
        for block in (slice(0, 1), slice(1, 50), slice(50, 90)):
            kernel.load(x[block])
            kernel.accumulate(np.ascontiguousarray(resp[block].T))
        next_params.append(family.maximize(kernel.stats(), params))
    one, other = next_params
    scale = float((np.abs(x - params.center) / params.scale).max()) ** 2
    for name in ("means", "covariances"):
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=4 * 90 * np.finfo(float).eps * scale)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_choice_follows_the_bound(covariance_type: str) -> None:
    """Products up to ROUNDING_LIMIT, differences above, by component unless all have one covariance."""
    structure, seen = COVARIANCES[covariance_type], set()
    for narrow in np.logspace(0, -6, 25):
        _, params = components(covariance_type, Setting(3, float(narrow), 1.0), 0)
        kernel = choose_kernel(structure, params, np.float64)
        apart = int((product_roundings(structure, params) > ROUNDING_LIMIT).sum())
        apart = K if structure.shared and apart else apart
        expected = (TiedKernel if structure.shared else GaussianKernel) if apart == 0 else ApartKernel
        assert type(kernel) is expected
        some = f"float64 products, float64 differences for {apart} of {K}"
        assert kernel.path == {0: "float64 products", K: "float64 differences"}.get(apart, some)
        seen.add(apart)
    assert {0, K} <= seen


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_bounds_are_not_idle(covariance_type: str) -> None:
    """A bound a million times too large would hold as well: the error comes within four orders of it."""
    closest = 0.0
    for setting in SETTINGS:
        family, params = components(covariance_type, setting, 0)
        x = rows_of(family, params, 1)
        error = np.abs(run_kernel(product_kernel(family, params), x) - exact_log_prob(family, params, x))
        closest = max(
            closest, float(own_component(error).mean()) / product_rounding(COVARIANCES[covariance_type], params)
        )
    assert closest > 1e-4
