"""What a table was measured on: processor, vectors, path of products, libraries; and the memory of a process."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """The processor, the width of vectors in compiled code, and how products are summed, as reports say it."""
    from streamem.machine.processor import processor_in_words

    return processor_in_words()


@cache
def machine() -> str:
    """Processor, vectors, path of products, cores, memory, Python and libraries, in one line."""
    import numpy
    import sklearn

    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{processor()}; {cores} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, NumPy {numpy.__version__}, scikit-learn {sklearn.__version__}"
    )


def peak_bytes() -> int:
    """The most memory that this process has had (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("VmHWM is not known here")
