"""Every version computes what an earlier one computed, and reads what it wrote: bit for bit where bits can be compared.

``pytest -n 0 tests/golden -q``. `golden.make` tells how to record another machine.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import other_vectors
from golden.cases import CASES, OTHER_VECTORS
from golden.files import FILE_CASES, FOLDER, MODEL, WRITTEN_ON, ModelFile, kept, result_of, unpack
from golden.recording import differing_bits, differing_numbers, machine, recorded
from golden.results import result

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OTHERS = [other_vectors.PREFIX + name for name in OTHER_VECTORS]
MOST_BYTES = 300_000


@cache
def fitted(name: str) -> dict[str, Any]:
    return result(*CASES[name].run())


@cache
def known() -> dict[str, Any]:
    return recorded()


def require_numbers_and_bits(name: str, found: dict[str, Any]) -> None:
    """Those that are known; bits only on machines that were recorded."""
    assert differing_numbers(name, found, known()["numbers"][name]) == []
    bits = known()["bits"].get(machine())
    differing = {} if bits is None else differing_bits({name: found}, bits)
    assert not differing, "\n".join(f"{name}: other bits in {', '.join(parts)}" for name, parts in differing.items())


@pytest.mark.parametrize("name", CASES)
def test_a_fit(name: str) -> None:
    require_numbers_and_bits(name, fitted(name))


@pytest.mark.parametrize("name", FILE_CASES)
def test_what_a_file_holds(name: str) -> None:
    require_numbers_and_bits(name, result_of(name))


def test_bits_are_compared() -> None:
    if machine() not in known()["bits"]:
        pytest.skip(
            f"numbers were compared, bits were not: this machine ({machine()}) was not recorded; see golden/make.py"
        )


@pytest.mark.slow
def test_fits_with_other_vectors() -> None:
    """Numbers are those of the same fit with this processor's vectors, but for roundings.

    Bits differ in every case, so that the other path was really taken.
    """
    for name, found in other_vectors.results().items():
        require_numbers_and_bits(name, found)
        own = fitted(name.removeprefix(other_vectors.PREFIX))
        assert differing_numbers(name, found, own["numbers"]) == []
        assert found["bits"] != own["bits"], name


@pytest.mark.parametrize("name", [name for name, case in FILE_CASES.items() if isinstance(case, ModelFile)])
def test_a_model_saved_again_holds_the_same_arrays(name: str, tmp_path: Path) -> None:
    case = FILE_CASES[name]
    assert isinstance(case, ModelFile)
    case.load(unpack(name, tmp_path))[0].save(tmp_path / "again.npz")
    with np.load(tmp_path / MODEL) as old, np.load(tmp_path / "again.npz") as new:
        assert sorted(new.files) == sorted(old.files)
        for array in (array for array in old.files if not array.endswith(".json")):
            np.testing.assert_allclose(new[array], old[array], rtol=1e-12, atol=0, err_msg=array, strict=True)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("checkpoint, batch", "GaussianMixture: full, float64"),
        ("checkpoint, chain", "HMM: Gaussian, full, gaps"),
        ("checkpoint, chain of Gaussians' mixtures", "HMM: Gaussians' mixtures, diag"),
    ],
)
def test_a_checkpoint_leads_to_the_end_of_a_fit_that_was_never_left(name: str, whole: str) -> None:
    """As it was recorded on the processor that wrote the file; that of this version is compared with the same record.

    Elsewhere the first iterations of both are of other roundings.
    """
    wrote = [bits for machine, bits in known()["bits"].items() if WRITTEN_ON in machine]
    assert wrote
    for bits in wrote:
        assert {part: bits[name][part] for part in ("parameters", "statistics", "answers")} == {
            part: bits[whole][part] for part in ("parameters", "statistics", "answers")
        }


def test_nothing_is_recorded_that_is_not_run() -> None:
    names = {*CASES, *FILE_CASES, *OTHERS}
    assert set(known()["numbers"]) == names
    assert all(set(bits) == names for bits in known()["bits"].values())


def test_files_are_those_of_the_cases_and_small() -> None:
    assert sorted(FOLDER.iterdir()) == sorted(kept(name) for name in FILE_CASES)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.gz")) < MOST_BYTES
