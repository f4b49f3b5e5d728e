"""The demonstration: a mixture of Gaussians over patches of photographs (Zoran & Weiss 2011), out of core."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.estimators import GaussianMixture
from streamem.machine.importing import uninterrupted
from streamem.running.memory import forget_peak, format_bytes, parse_bytes, peak_bytes

SIDE = 8
CHUNK_ROWS = 8192
HELD_OUT_COLUMNS = 64
MAX_ITER = 25
TOL = 0.05
Say = Callable[[str], None]


def run_demo(memory: str, picture: Path, components: int, say: Say) -> GaussianMixture:
    """Fit, compare with a single Gaussian on held-out patches, and draw the components."""
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="streamem-demo-") as folder:
        train, held_out = Path(folder, "train.zarr"), Path(folder, "held_out.zarr")
        rows, nbytes = write_patches(train, held_out)
        say(
            f"{rows:,} overlapping {SIDE}×{SIDE} patches of two photographs, mean removed, float32: "
            f"{format_bytes(nbytes)} in a Zarr store"
        )
        say("compiling the passes for this processor, as far as no earlier run has (once for a machine)")
        _fit(held_out, components, memory, max_iter=2)  # code is compiled once for a machine: no part of the fit
        before = forget_peak()
        mixture = _fit(train, components, memory)
        say(str(mixture.report_))
        say("")
        _say_memory(say, before, nbytes, memory)
        single = _fit(train, 1, memory)
        gain = mixture.score(held_out) - single.score(held_out)
        say(
            f"held-out log-likelihood: {mixture.score(held_out):.2f} nats a patch with {components} components, "
            f"{single.score(held_out):.2f} with one; a gain of {gain:.2f} nats "
            f"({gain / np.log(2) / SIDE**2:.2f} bits a pixel)"
        )
    if importlib.util.find_spec("matplotlib") is None:
        say("install matplotlib to get a picture of the components")
    else:
        draw_components(mixture, picture)
        say(f"leading eigen-patches of every component: {picture}")
    say(f"{perf_counter() - started:.0f} s in all")
    return mixture


def _fit(data: Path, components: int, memory: str, max_iter: int = MAX_ITER) -> GaussianMixture:
    mixture = GaussianMixture(components, random_state=0, memory_limit=memory, max_iter=max_iter, tol=TOL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an iteration limit is no fault of a demonstration
        return mixture.fit(data)


def _say_memory(say: Say, before: int, nbytes: int, memory: str) -> None:
    after = peak_bytes()
    say(
        f"peak memory {format_bytes(after)}, of which {format_bytes(before)} were there before the fit (interpreter, "
        f"libraries, compiled code, photographs): the fit took {format_bytes(after - before)} under a limit of "
        f"{memory}, for {format_bytes(nbytes)} of data"
    )
    if after - before > (parse_bytes(memory) or after):
        say("a first run compiles passes for many rows meanwhile, which takes memory: run it again for the fit alone")


def photographs() -> Iterator[NDArray[np.float32]]:
    """The two photographs that come with scikit-learn, grey, in [0, 1]: (height, width)."""
    with uninterrupted():
        from sklearn.datasets import load_sample_images

    for image in load_sample_images().images:
        yield (image.astype(np.float32) / 255.0) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def patches(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """All overlapping patches with their mean removed: (rows, SIDE²)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
    flat = windows.reshape(-1, SIDE * SIDE)
    return flat - flat.mean(axis=1, keepdims=True)


def write_patches(train: Path, held_out: Path) -> tuple[int, int]:
    """Write both stores, strip by strip; the right edge of every photograph is held out, with no pixel in common.

    Returns
    -------
    Rows and bytes of the training store.
    """
    with uninterrupted():
        import zarr

    parts: dict[Path, Any] = {}
    for path in (train, held_out):
        parts[path] = zarr.create_array(
            store=str(path), shape=(0, SIDE**2), chunks=(CHUNK_ROWS, SIDE**2), dtype="float32"
        )
    for image in photographs():
        cut = image.shape[1] - HELD_OUT_COLUMNS
        for top in range(0, image.shape[0] - SIDE + 1, 32):
            strip = image[top : top + 32 + SIDE - 1]
            parts[train].append(patches(strip[:, :cut]))
            parts[held_out].append(patches(strip[:, cut:]))
    return int(parts[train].shape[0]), int(parts[train].nbytes)


def draw_components(mixture: GaussianMixture, picture: Path, leading: int = 10) -> None:
    """Draw components, heaviest first, one row each: the weight, and leading eigenvectors as patches."""
    with uninterrupted():
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

    order = np.argsort(-mixture.weights_)
    figure, axes = plt.subplots(
        len(order), leading, figsize=(leading * 0.7, 0.5 + len(order) * 0.7), squeeze=False, layout="constrained"
    )
    for row, k in enumerate(order):
        _, vectors = np.linalg.eigh(mixture.covariances_[k])
        for column in range(leading):
            axis = axes[row, column]
            axis.imshow(vectors[:, -1 - column].reshape(SIDE, SIDE), cmap="gray")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row, 0].set_ylabel(f"{mixture.weights_[k]:.1%}", rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle("Leading eigen-patches of each component (weight at the left)")
    figure.savefig(picture, dpi=110, bbox_inches="tight")
    plt.close(figure)
