"""What a table was measured on: processor, vectors, path of products, libraries; and the memory of a process."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """The processor's name, as Linux prints it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.processor())


@cache
def vector_bits() -> int:
    """Length of the longest vectors that products of matrices have here."""
    from streamem.kernels.tiling import has_long_vectors

    return 512 if has_long_vectors() else 256


@cache
def products_path() -> str:
    """How products of features are computed from eight components on: ``strips`` or ``panels``."""
    from streamem.kernels.tiling import in_strips

    return "strips" if in_strips(64) else "panels"


@cache
def machine() -> str:
    """Processor, vectors, path of products, cores, memory, Python and libraries, in one line."""
    import numpy
    import sklearn

    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{processor()}, vectors of {vector_bits()} bits, {products_path()}; {cores} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, NumPy {numpy.__version__}, scikit-learn {sklearn.__version__}"
    )


def peak_bytes() -> int:
    """The most memory that this process has had (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("VmHWM is not known here")
