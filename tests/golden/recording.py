"""`fits.json`: what the golden cases gave, in numbers for every machine and in bits for each machine that was recorded.

Bits depend on the versions of the libraries that compute and on the processor, which `machine` puts in words. Where
these words are not those of a recording, bits cannot be compared, and numbers are.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import scipy.linalg  # noqa: F401  so that its BLAS is loaded
from threadpoolctl import threadpool_info

from golden.results import far_apart

PATH = Path(__file__).with_name("fits.json")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "llvmlite")

TOLERANCE, TOLERANCE_32 = 1e-7, 1e-4
"""Of a number's size, on float64 and float32 rows: between vector widths numbers differ by up to 1.3e-13 and
1.3e-6, and fits from other roundings drift apart, while a wrong term of a formula shows in the first digits."""

FLAT, FLAT_TOLERANCE = {"HMM: MixtureFamily of Poisson": ("lower_bound", "score")}, 1e-6
"""Cases of more parts than the data tell apart, and the numbers of them that are compared: k-means on counts has ties,
which BLAS for Haswell and for SkylakeX break otherwise; from there fits come to other parts of as likely a model."""

Results = Mapping[str, Mapping[str, Any]]


def machine() -> str:
    """Versions and processor, as far as bits depend on them."""
    width = os.environ.get("STREAMEM_VECTORS", "").strip()  # an earlier version knows none
    processor, features = llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features()
    return "; ".join(
        [
            "Python " + ".".join(platform.python_version_tuple()[:2]) + ", " + " ".join(platform.libc_ver()),
            ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
            f"{processor}, AVX-512 {'yes' if features.get('avx512f') else 'no'}"
            + (f", vectors of {width} bits by hand" if width else ""),
            "NumPy for " + " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])),
            "BLAS for " + ", ".join(sorted(_blas_cores())),
        ]
    )


def _blas_cores() -> set[str]:
    return {str(pool.get("architecture")) for pool in threadpool_info() if pool["user_api"] == "blas"}


def recorded() -> dict[str, Any]:
    """The file's content: ``numbers[case]`` and ``bits[machine][case]``."""
    found: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"numbers": {}, "bits": {}}
    return found


def differing_bits(results: Results, known: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """By case, which parts of its result have other bits; a case that was not recorded differs as a whole."""
    differing = {}
    for case, result in results.items():
        if case not in known:
            differing[case] = ["not recorded"]
        elif parts := [part for part, bits in result["bits"].items() if bits != known[case].get(part)]:
            differing[case] = parts
    return differing


def differing_numbers(case: str, result: Mapping[str, Any], known: Mapping[str, list[float]]) -> list[str]:
    """Which numbers of a case are not those recorded, beyond rounding."""
    if case in FLAT:
        own, known = ({name: numbers[name] for name in FLAT[case]} for numbers in (result["numbers"], known))
        return far_apart(own, known, FLAT_TOLERANCE)
    return far_apart(result["numbers"], known, TOLERANCE_32 if "float32" in case else TOLERANCE)


def record(results: Results, renewed: set[str]) -> list[str]:
    """Write the results of this machine; what was recorded stays, and only cases of `renewed` may differ from it.

    Returns
    -------
    What differs and may not, a line each; then nothing was written.
    """
    content, here = recorded(), machine()
    bits = content["bits"].setdefault(here, {})
    pinned = {case: result for case, result in results.items() if case not in renewed}
    lines = [
        f"{case}: other bits in {', '.join(parts)}"
        for case, parts in differing_bits({case: r for case, r in pinned.items() if case in bits}, bits).items()
    ]
    for case, result in pinned.items():
        if case in content["numbers"] and (found := differing_numbers(case, result, content["numbers"][case])):
            lines.append(f"{case}: other numbers in {', '.join(found)}")
    if not lines:
        for case in renewed:
            for known in content["bits"].values():
                known.pop(case, None)
        content["numbers"] |= {
            case: result["numbers"]
            for case, result in results.items()
            if case in renewed or case not in content["numbers"]
        }
        bits |= {case: result["bits"] for case, result in results.items()}
        _write(content, set(results))
    return lines


def _write(content: Mapping[str, Any], cases: set[str]) -> None:
    """One case a line; cases that no longer exist are left out."""
    sections = {"numbers": content["numbers"]} | {f"bits\n{name}": bits for name, bits in content["bits"].items()}
    texts = {name: _lines({c: v for c, v in values.items() if c in cases}) for name, values in sections.items()}
    numbers = texts.pop("numbers")
    bits = ",\n".join(f"{json.dumps(name.partition(chr(10))[2])}: {{\n{text}\n}}" for name, text in texts.items())
    PATH.write_text(f'{{"numbers": {{\n{numbers}\n}},\n"bits": {{\n{bits}\n}}}}\n')


def _lines(values: Mapping[str, Any]) -> str:
    return ",\n".join(f"{json.dumps(case)}: {json.dumps(values[case])}" for case in sorted(values))
