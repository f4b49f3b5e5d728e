"""What compiled code makes of the processor: vector width, sums at once, strips or panels; and its name in words.

All of it is decided once a process. Results depend on the width in their last bits, as on any other processor.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from streamem.machine.errors import VectorWidthError
from streamem.machine.importing import uninterrupted

VARIABLE = "STREAMEM_VECTORS"

WIDTHS = (128, 256, 512)
"""Bits of a vector that machine code can be written for; LLVM cuts those that the processor lacks into shorter ones."""

USUAL_WIDTH = 256


def width_by_hand(environment: Mapping[str, str]) -> int | None:
    """Bits of a vector that `STREAMEM_VECTORS` asks for, or None where it is not set.

    Raises
    ------
    VectorWidthError : it is set to anything else than 128, 256 or 512
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return None
    if text not in {str(width) for width in WIDTHS}:
        raise VectorWidthError(
            f"the environment variable {VARIABLE} is {text!r}; it must be 128, 256 or 512, the bits of a vector in "
            "compiled code: correct it, or unset it and the processor decides"
        )
    return int(text)


WIDTH_BY_HAND = width_by_hand(os.environ)

VECTOR_BITS = WIDTH_BY_HAND or USUAL_WIDTH

SUMS_AT_ONCE = 16 if VECTOR_BITS == 512 else 12
"""Vectors of sums that stay in registers beside two of features and one of factors: SSE and AVX2 have 16 registers,
AVX-512 has 32, of which more than 16 sums would make the code longer and no sum wait less."""


@cache
def in_panels() -> bool:
    """Whether products of features are left to BLAS, panel by panel, where there are many components.

    BLAS has vectors of 512 bits where the processor has them, and beats sums in registers with vectors of 256 bits
    there. Who asks for a width by hand gets sums in registers with vectors of that width.
    """
    return WIDTH_BY_HAND is None and _has_vectors_of_512()


@cache
def processor_in_words() -> str:
    """The processor, the width of vectors in compiled code, and how products are summed.

    For reports and tables of figures: "AMD EPYC (znver3), 256-bit vectors, strips".
    """
    chosen = f" ({VARIABLE})" if WIDTH_BY_HAND else ""
    return f"{_name()}, {VECTOR_BITS}-bit vectors{chosen}, {'panels' if in_panels() else 'strips'}"


def _has_vectors_of_512() -> bool:
    with uninterrupted():
        from llvmlite.binding import get_host_cpu_features

    return bool(get_host_cpu_features().get("avx512f", False))


def _name() -> str:
    """What the maker calls the processor, and what LLVM does."""
    with uninterrupted():
        from llvmlite.binding import get_host_cpu_name

    made, model = "", str(get_host_cpu_name())
    with suppress(OSError):  # another system than Linux
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        made = found[1].strip() if found else ""
    made = made or platform.processor() or platform.machine()
    return made if model in ("", "generic") else f"{made} ({model})"
