"""Maps of labels, histories of streams and the time of fits: what the pictures hold is what the data say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from streamem import GaussianMixture
from streamem.core.errors import ParameterError, SourceError
from streamem.plots import plot_history, plot_labels, plot_report

mpl.use("Agg")
from matplotlib import pyplot as plt

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def sea() -> xr.DataArray:
    values = np.array([[0.0, 0.0, 1.0], [2.0, np.nan, 1.0]])
    coords = {"lat": ("lat", [10.0, 30.0], {"units": "degrees_north"}), "lon": [100.0, 110.0, 120.0], "time": 3}
    return xr.DataArray(values, dims=("lat", "lon"), coords=coords, name="class")


@pytest.mark.parametrize("turned", [False, True])
def test_a_map_has_the_coordinates_and_a_colour_for_each_component(turned: bool) -> None:
    ax = plot_labels(sea().transpose() if turned else sea(), names=["cold", "warm"])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("lon", "lat (degrees_north)", "class, time = 3")
    assert legend(ax) == ["0 cold: 40%", "1 warm: 40%", "2: 20%"]
    mesh = ax.collections[0]
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan), sea().values)
    middles = mesh.get_coordinates()[:-1, :-1].mean(axis=(0, 1)) + mesh.get_coordinates()[1:, 1:].mean(axis=(0, 1))
    np.testing.assert_allclose(middles / 2, [110.0, 20.0])
    shown = mesh.get_facecolor() if mesh.get_facecolor().size > 4 else mesh.to_rgba(mesh.get_array()).reshape(-1, 4)
    np.testing.assert_allclose(shown[2], mpl.colors.to_rgba("C1"))
    assert shown[4][3] == 0.0  # land stays empty


def test_outliers_are_grey_and_many_components_get_a_bar_of_colours() -> None:
    ax = plot_labels(np.array([[-1, 0], [5, 5]]))
    assert legend(ax) == ["no component: 25%", "0: 25%", "5: 50%"]
    many = plot_labels(np.arange(100).reshape(10, 10))
    assert many.get_legend() is None
    assert len(many.figure.axes) == 2


def test_a_large_map_is_thinned_and_keeps_its_extent() -> None:
    labels = np.zeros((3, 4500), dtype=np.int8)
    mesh = plot_labels(xr.DataArray(labels, dims=("y", "x"), coords={"x": np.arange(4500.0)})).collections[0]
    assert mesh.get_array().shape == (3, 1500)
    assert mesh.get_coordinates()[..., 0].max() == pytest.approx(4500, abs=3)


def test_curvilinear_coordinates_are_chosen_by_name() -> None:
    across, down = np.meshgrid([1.0, 2.0, 3.0], [5.0, 6.0])
    coords = {"tlon": (("j", "i"), across + down), "tlat": (("j", "i"), down)}
    ax = plot_labels(xr.DataArray(np.zeros((2, 3)), dims=("j", "i"), coords=coords), x="tlon", y="tlat")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("tlon", "tlat")


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (np.zeros(3), {}, "1 dimensions: a map needs two"),
        (xr.DataArray(np.zeros((2, 2, 2)), dims=("time", "y", "x")), {}, r"\(time, y, x\).*isel"),
        (np.array([["a"]]), {}, "numbers of components"),
        (np.array([[0.5]]), {}, "0.5 is none"),
        (np.full((2, 2), np.nan), {}, "no cell has a label"),
        (sea(), {"x": "depth"}, "no coordinate 'depth'"),
        (np.zeros((2, 2)), {"x": "lon"}, "pass a DataArray"),
    ],
)
def test_what_is_no_map_is_refused(labels: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        plot_labels(labels, **options)


def learned(path: Path | None = None) -> GaussianMixture:
    """Two components; the second stops coming, and everything moves at the end."""
    rng = np.random.default_rng(0)

    def batches() -> Iterator[Array]:
        for i in range(60):
            both = rng.integers(2, size=(200, 1)) if i < 20 else np.zeros((200, 1))
            yield rng.normal(size=(200, 1)) + 8 * both + (60 if i > 50 else 0)

    return GaussianMixture(2, random_state=0).fit_stream(
        batches(), half_life=400, batch_rows=200, history=path, save_every_s=0, on_drift=lambda update: None
    )


def test_the_history_of_a_stream(tmp_path: Path) -> None:
    gm = learned(tmp_path / "h.arrows")
    axes = plot_history(gm)
    rows, values = axes[0].lines[0].get_data()
    np.testing.assert_array_equal(rows, gm.history_.column("rows").to_numpy())
    np.testing.assert_array_equal(values, gm.history_.column("log_likelihood").to_numpy())
    alarms = sum(gm.history_.column("drift").to_pylist())
    died = sum(map(len, gm.history_.column("died").to_pylist()))
    assert alarms
    assert died
    assert legend(axes[0])[-1] == f"drift ({alarms})"
    assert f"died ({died})" in legend(axes[1])
    again = plot_history(str(tmp_path / "h.arrows"))
    np.testing.assert_array_equal(again[0].lines[0].get_ydata(), values)
    (tmp_path / "cut.arrows").write_bytes((tmp_path / "h.arrows").read_bytes()[:-40])  # it still grows
    assert len(plot_history(tmp_path / "cut.arrows")[0].lines[0].get_xdata()) == len(values) - 1


def test_long_histories_are_drawn_in_groups() -> None:
    table = learned().history_
    long = table.take(np.arange(2500) % table.num_rows)
    axes = plot_history(long)
    assert len(axes[0].lines[0].get_xdata()) == 1000
    assert legend(axes[0])[0] == "range"


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no updates to draw"):
        plot_history(GaussianMixture(1))
    with pytest.raises(ParameterError, match="no history of a stream, it has no rows"):
        plot_history([1, 2])
    (tmp_path / "x.arrows").write_bytes(b"something else")
    with pytest.raises(SourceError, match="cannot be read as an Arrow stream"):
        plot_history(tmp_path / "x.arrows")


def test_the_time_of_a_fit_adds_up() -> None:
    gm = GaussianMixture(2, random_state=0, max_iter=4, tol=0).fit(np.random.default_rng(0).normal(size=(2000, 2)))
    ax = plot_report(gm.report_)
    heights = sum(np.array([bar.get_height() for bar in group]) for group in ax.containers)
    np.testing.assert_allclose(heights, [record.seconds for record in gm.report_.passes])
    assert len(legend(ax)) == 3
    assert ax.get_ylabel() == "seconds"
    with pytest.raises(ParameterError, match="no passes"):
        plot_report(learned())
