"""`check_family`: every law of a family in one call, without a suite class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.families import FamilySuite, Quadrature
from streamem.core.arrays import Params
from streamem.core.chunk import as_floats
from streamem.core.ports import Family

Array = NDArray[Any]
Perturbed = Callable[[Params, np.random.Generator, float], Params]
NEEDS = {
    "test_the_maximum_beats_perturbations": "perturbed",
    "test_log_prob_is_a_normalized_density": "quadrature",
}


def check_family(
    family: Family,
    params: Params,
    x: Array,
    *,
    perturbed: Perturbed | None = None,
    quadrature: Quadrature | None = None,
    far_row: Array | None = None,
    shared: frozenset[str] = frozenset(),
) -> list[str]:
    """Run every law of `FamilySuite` that the arguments allow.

    Parameters
    ----------
    family, params : the family, and parameters of at least two, different, components
    x : (n, d) rows such as the components emit, some hundreds
    perturbed : gives other valid parameters at a relative distance; needed to check that `maximize` maximizes
    quadrature : points and volumes; needed to check that densities integrate to 1
    far_row : (1, d) a row that is possible and far from all others; by default a million spreads away
    shared : names of parameters whose axis 0 is not the component

    Returns
    -------
    list of the laws that were checked and hold

    Raises
    ------
    AssertionError : a law is broken; the message says how

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Params
    >>> from streamem.conformance import check_family
    >>> from streamem.families import Poisson
    >>> x = np.random.default_rng(0).poisson(3, size=(300, 1)).astype(float)
    >>> len(check_family(Poisson(), Params(rates=[[2.0], [5.0]]), x, far_row=np.array([[1e6]]))) > 8
    True
    """
    given = {"perturbed": perturbed, "quadrature": quadrature}
    rows = as_floats(np.asanyarray(x), np.dtype(np.float64))  # what a mask hides is NaN, which no law holds for
    suite = _suite(family, params, rows, shared, far_row, perturbed, quadrature)
    held = []
    for name in sorted(name for name in dir(suite) if name.startswith("test_")):
        if name in NEEDS and given[NEEDS[name]] is None:
            continue
        try:
            getattr(suite, name)()
        except SkipTest:
            continue
        held.append(name.removeprefix("test_").replace("_", " "))
    return held


def _suite(
    family: Family,
    params: Params,
    x: Array,
    shared: frozenset[str],
    far_row: Array | None,
    perturbed: Perturbed | None,
    quadrature: Quadrature | None,
) -> FamilySuite:
    suite = FamilySuite()
    chosen: dict[str, Any] = {
        "shared": shared,
        "make_family": lambda: family,
        "make_params": lambda rng: params,
        "make_rows": lambda rng, n: x[rng.integers(len(x), size=n)],
        "quadrature": lambda params: quadrature,
    }
    if perturbed is not None:
        chosen["perturbed"] = perturbed
    if far_row is not None:
        chosen["make_far_row"] = lambda rows: np.asarray(far_row, dtype=np.float64)
    vars(suite).update(chosen)
    return suite
