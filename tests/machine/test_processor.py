"""The processor in words, and the width of vectors by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streamem.machine import processor
from streamem.machine.errors import VectorWidthError
from streamem.machine.processor import processor_in_words, width_by_hand


@pytest.mark.parametrize(
    ("environment", "width"),
    [
        ({}, None),
        ({"STREAMEM_VECTORS": ""}, None),
        ({"STREAMEM_VECTORS": "128"}, 128),
        ({"STREAMEM_VECTORS": "256"}, 256),
        ({"STREAMEM_VECTORS": " 512 "}, 512),
    ],
)
def test_width_by_hand(environment: dict[str, str], width: int | None) -> None:
    assert width_by_hand(environment) == width


@pytest.mark.parametrize("wrong", ["64", "1024", "avx2", "256 bit", "0256", "-512", "512.0"])
def test_any_other_width_is_refused(wrong: str) -> None:
    with pytest.raises(VectorWidthError, match=f"STREAMEM_VECTORS is '{wrong}'; it must be 128, 256 or 512"):
        width_by_hand({"STREAMEM_VECTORS": wrong})


def answer(code: str, vectors: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STREAMEM_VECTORS": vectors, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_refusal_is_one_of_the_library() -> None:
    done = answer("from streamem import GaussianMixture", "300")
    assert done.stderr.splitlines()[-1].startswith("streamem.core.errors.ParameterError: the environment variable STRE")
    assert "unset it" in done.stderr


@pytest.mark.parametrize("width", [128, 256, 512])
def test_a_width_by_hand_means_strips(width: int) -> None:
    code = "from streamem.machine.processor import processor_in_words as p; print(p())"
    done = answer(code, str(width))
    assert done.stdout.strip().endswith(f", {width}-bit vectors (STREAMEM_VECTORS), strips"), done.stderr


@pytest.mark.parametrize("long", [True, False])
def test_words_by_default(long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where BLAS has vectors of 512 bits, products are left to it."""
    monkeypatch.setattr(processor, "WIDTH_BY_HAND", None)
    monkeypatch.setattr(processor, "VECTOR_BITS", 256)
    monkeypatch.setattr(processor, "_has_vectors_of_512", lambda: long)
    for answer in (processor.in_panels, processor_in_words):
        answer.cache_clear()
    try:
        assert processor_in_words().endswith(f", 256-bit vectors, {'panels' if long else 'strips'}")
        assert processor_in_words()[0].isalpha()
    finally:
        for answer in (processor.in_panels, processor_in_words):
            answer.cache_clear()


def test_words_without_a_model_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than Linux have no /proc."""

    def gone(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", gone)
    assert processor._name()
