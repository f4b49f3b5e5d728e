"""One component of `MixtureOfRegressions` is the generalized linear model that statsmodels fits.

`PRINTED` holds what statsmodels 0.15.0 gave (`python tests/estimators/test_generalized_linear_models.py` prints it):
`GLM(…).fit(tol=1e-14)`, of Gaussian responses with the scale Σ residual²/n of maximum likelihood, and `MNLogit` by
Newton's method. Where statsmodels is installed, it is asked again (`slow`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from streamem import MixtureOfRegressions

Array = NDArray[Any]
TABLE = pd.read_csv(Path(__file__).parents[1] / "data" / "npreg.csv")
X = TABLE[["x", "yn"]].to_numpy()
COUNTS = TABLE.yp.to_numpy()


HOURS = 1.0 + np.arange(200) % 5 / 4.0
SLOPE = np.sin(np.arange(200.0))


class Case(NamedTuple):
    """A response and its settings; columns behind the covariates, and what statsmodels calls them."""

    family: str
    y: Array
    settings: dict[str, Any]
    beside: Mapping[str, Array] = MappingProxyType({})

    @property
    def x(self) -> Array:
        """Covariates, and what stands beside them."""
        return np.column_stack([X, *self.beside.values()])


CASES = {
    "gaussian": Case("gaussian", COUNTS, {}),
    "poisson": Case("poisson", COUNTS, {}),
    "binomial": Case("binomial", (COUNTS > 4).astype(float), {}),
    "binomial of 6 trials": Case("binomial", np.minimum(COUNTS, 6.0), {"trials": 6}),
    "poisson with offset and exposure": Case(
        "poisson", COUNTS, {"offset": 2, "exposure": -1}, {"offset": SLOPE, "exposure": HOURS}
    ),
    "binomial of trials by row": Case(
        "binomial", COUNTS, {"trials": -1}, {"trials": COUNTS + 1.0 + np.arange(200) % 3}
    ),
    "binomial with offset": Case("binomial", (COUNTS > 4).astype(float), {"offset": -1}, {"offset": SLOPE}),
    "multinomial": Case("multinomial", np.digitize(COUNTS, [3, 6]).astype(float), {}),
}


class Told(NamedTuple):
    """Intercept and coefficients (1 + p, C), their standard errors, and the log-likelihood."""

    params: Any
    errors: Any
    log_likelihood: float


PRINTED: dict[str, Told] = {
    "gaussian": Told(
        [[5.6244751184417385], [0.09574322929997088], [-0.07519625883774225]],
        [[0.40817083376586183], [0.07478751138511706], [0.016346264266144203]],
        -453.19042958116694,
    ),
    "poisson": Told(
        [[1.7575966233094449], [0.025798067257271406], [-0.01865481099445013]],
        [[0.0790957247019456], [0.016126298599493515], [0.0035092468114481293]],
        -446.5591201488443,
    ),
    "binomial": Told(
        [[0.024978599010333696], [0.14052277617210102], [-0.05189912135815212]],
        [[0.3617769409123565], [0.07128412623969026], [0.015772116128645597]],
        -121.0588954528727,
    ),
    "binomial of 6 trials": Told(
        [[1.4315661714572332], [0.013946120050464576], [-0.03783718256337838]],
        [[0.1635881402078558], [0.0270763418111802], [0.006122510851442229]],
        -421.45941120291366,
    ),
    "poisson with offset and exposure": Told(
        [[1.2639372332653496], [-0.006284979073488182], [-0.01812441364407076]],
        [[0.07884062782019163], [0.016072877842341547], [0.0036164738266476148]],
        -641.0289496914083,
    ),
    "binomial of trials by row": Told(
        [[1.1281272757381495], [0.005933771659328837], [-0.017251259719946708]],
        [[0.15194672696544184], [0.026240240608624395], [0.005714587076020378]],
        -276.87348419400433,
    ),
    "binomial with offset": Told(
        [[0.11931415834687165], [0.12023182782503519], [-0.054699225964921966]],
        [[0.3809900696604919], [0.07418412320355794], [0.01653008364521953]],
        -130.46023634960608,
    ),
    "multinomial": Told(
        [
            [2.7495880013192697, 2.357209502416832],
            [-0.12703052258615982, 0.04020817345865469],
            [-0.05533587890891594, -0.09361523780325287],
        ],
        [
            [0.6059867502018828, 0.6417252898828919],
            [0.07916404324029568, 0.09056456884698286],
            [0.019404199483769338, 0.022071891204747094],
        ],
        -195.90336158490123,
    ),
}


def ours(case: Case) -> Told:
    """The same of a fit of one component."""
    model = MixtureOfRegressions(1, case.family, tol=1e-14, max_iter=100, **case.settings).fit(case.x, case.y)
    found = [
        np.concatenate([np.reshape(told.intercept_, (1, -1)), np.reshape(told.coef_, (-1, X.shape[1])).T])
        for told in (model, model.standard_errors(case.x, case.y))
    ]
    return Told(found[0], found[1], model.scores(case.x, case.y)["log_likelihood"])


def agree(one: Told, other: Told) -> None:
    """To eight digits and more."""
    np.testing.assert_allclose(one.params, other.params, rtol=1e-8)
    np.testing.assert_allclose(one.errors, other.errors, rtol=1e-8)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)


def statsmodels(case: Case) -> Told:
    """What statsmodels says."""
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed; PRINTED holds its numbers")
    design, families = api.add_constant(X), api.families
    if case.family == "multinomial":
        fit = api.MNLogit(case.y, design).fit(method="newton", maxiter=100, tol=1e-14, disp=0)
    elif case.family == "gaussian":
        variance = np.linalg.lstsq(design, case.y, rcond=None)[1][0] / len(design)
        fit = api.GLM(case.y, design).fit(scale=variance)
    else:
        known = dict(case.beside)
        trials = known.pop("trials", case.settings.get("trials", 1))
        y = np.column_stack([case.y, trials - case.y]) if case.family == "binomial" else case.y
        family = families.Binomial() if case.family == "binomial" else families.Poisson()
        fit = api.GLM(y, design, family=family, **known).fit(tol=1e-14, maxiter=100)
    shape = (1 + X.shape[1], -1)
    return Told(np.reshape(fit.params, shape), np.reshape(fit.bse, shape), float(fit.llf))


@pytest.mark.parametrize("name", CASES)
def test_numbers_that_statsmodels_printed(name: str) -> None:
    agree(ours(CASES[name]), PRINTED[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_beside_statsmodels(name: str) -> None:
    told = statsmodels(CASES[name])
    agree(ours(CASES[name]), told)
    agree(PRINTED[name], told)


if __name__ == "__main__":
    for name, case in CASES.items():
        told = statsmodels(case)
        print(f"    {name!r}: Told({told.params.tolist()}, {told.errors.tolist()}, {told.log_likelihood!r}),")
