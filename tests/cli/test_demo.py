"""The demonstration, with fewer components and iterations than it has for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamem.cli import demo


def test_demo_on_one_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph = next(demo.photographs())[:160, :320]
    monkeypatch.setattr(demo, "photographs", lambda: iter([photograph]))
    monkeypatch.setattr(demo, "MAX_ITER", 2)
    said: list[str] = []
    mixture = demo.run_demo("64MiB", tmp_path / "picture.png", 2, said.append)
    assert mixture.report_.n_rows == (160 - 7) * (320 - demo.HELD_OUT_COLUMNS - 7)
    assert (tmp_path / "picture.png").stat().st_size > 1000
    text = "\n".join(said)
    gain = float(text.split("a gain of ")[1].split(" nats")[0])
    assert gain > 20
    took, unit = text.split("the fit took ")[1].split()[:2]
    assert unit == "MiB"
    assert float(took) < 64, "compiling and libraries are no part of the fit, and the rest is under the limit"


def test_patches_are_all_of_them_without_their_mean() -> None:
    image = np.arange(90, dtype=np.float32).reshape(9, 10)
    rows = demo.patches(image)
    assert rows.shape == (2 * 3, 64)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
    second = image[0:8, 1:9].ravel()
    np.testing.assert_allclose(rows[1], second - second.mean(), rtol=1e-6)


def test_a_fit_that_compiled_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for taken in (10, 100):
        monkeypatch.setattr(demo, "peak_bytes", lambda taken=taken: taken * 2**20)
        demo._say_memory(said.append, 0, 2**30, "64MiB")
    assert ["run it again" in line for line in said] == [False, False, True]
