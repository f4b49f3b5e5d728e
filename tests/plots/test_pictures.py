"""Pictures show what the model holds: axes with units, a title and a legend, lines and ellipses where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import GaussianHMM, GaussianMixture, PoissonMixture
from streamem.core.errors import ParameterError
from streamem.plots import plot_components, plot_convergence, plot_states

mpl.use("Agg")
from matplotlib import pyplot as plt

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def rows() -> Array:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal((0, 0), (1, 3), (300, 2)), rng.normal((10, 5), 1, (100, 2))])


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_ellipses_are_standard_deviations_along_the_axes(covariance_type: str) -> None:
    """The box around an ellipse is the standard deviations of both features."""
    gm = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(rows())
    ax = plot_components(gm, rows(), features=(1, 0))
    matrices = {
        "full": lambda: gm.covariances_,
        "tied": lambda: [gm.covariances_] * 2,
        "diag": lambda: [np.diag(v) for v in gm.covariances_],
        "spherical": lambda: [np.eye(2) * v for v in gm.covariances_],
    }[covariance_type]()
    assert len(ax.patches) == 4
    for i, patch in enumerate(ax.patches):
        k, times = divmod(i, 2)
        box = patch.get_path().transformed(patch.get_patch_transform()).get_extents()
        expected = 2 * (times + 1) * np.sqrt(np.diag(matrices[k]))[[1, 0]]
        np.testing.assert_allclose([box.width, box.height], expected, rtol=2e-3)
        np.testing.assert_allclose(patch.center, gm.means_[k][[1, 0]])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("x1", "x0", "GaussianMixture: 2 components")
    assert legend(ax) == ["data", f"0: {gm.weights_[0]:.1%}", f"1: {gm.weights_[1]:.1%}"]


def test_one_feature_shows_densities_whose_areas_are_weights() -> None:
    x = np.random.default_rng(1).poisson([[1.0], [9.0]], (2, 300)).reshape(-1, 1)
    model = PoissonMixture(2, random_state=0).fit(x)
    ax = plot_components(model, x)
    stairs = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    areas = [float(np.sum(patch.get_data().values * np.diff(patch.get_data().edges))) for patch in stairs]
    np.testing.assert_allclose(areas, model.weights_, atol=0.02)
    assert ax.get_ylabel() == "density × weight"
    assert model.random_state == 0


def test_passes_of_each_start_are_a_line() -> None:
    gm = GaussianMixture(2, n_init=3, random_state=0, init_params="random", max_iter=5).fit(rows())
    ax = plot_convergence(gm)
    assert legend(ax) == ["start 0", "start 1", "start 2"]
    best = max(record.log_likelihood for record in gm.report_.passes)
    own = [best - record.log_likelihood for record in gm.report_.passes if record.start == 1]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), np.maximum(own, 1e-12))
    assert ax.get_yscale() == "log"


def test_states_are_coloured_by_the_path() -> None:
    x = np.where(np.arange(200) % 100 < 50, 0.0, 8.0)[:, None] + np.random.default_rng(0).normal(size=(200, 1))
    model = GaussianHMM(2, random_state=0).fit(x)
    above, below = plot_states(model, x)
    path = model.predict(x)
    for k in (0, 1):
        np.testing.assert_array_equal(above.collections[k].get_offsets()[:, 0], np.flatnonzero(path == k))
    assert legend(above) == ["state 0", "state 1"]
    assert (below.get_xlabel(), below.get_ylabel()) == ("step", "probability")


def test_what_cannot_be_drawn_is_named() -> None:
    gm = GaussianMixture(2, random_state=0).fit(rows())
    with pytest.raises(ParameterError, match=r"feature 'height' is none of x0, x1, nor a position below 2"):
        plot_components(gm, features=("height", 0))
    with pytest.raises(ParameterError, match=r"features are \(0, 1, 0\); name one or two of the 2"):
        plot_components(gm, features=(0, 1, 0))
    with pytest.raises(ParameterError, match=r"GaussianMixture has no states; plot_components draws mixtures"):
        plot_states(gm, rows())
    chain = GaussianHMM(1, random_state=0).fit(rows())
    with pytest.raises(ParameterError, match=r"20,001 steps are too many for a picture"):
        plot_states(chain, np.zeros((20_001, 2)))
    learned = GaussianMixture(2, random_state=0).partial_fit(rows())
    with pytest.raises(ParameterError, match="no passes to draw"):
        plot_convergence(learned)
