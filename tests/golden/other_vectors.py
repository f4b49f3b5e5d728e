"""The golden cases on the code for the vector width that this processor does not have, or would not choose.

From eight components on streamem asks llvmlite whether there is AVX-512 and computes products panel by panel there,
strip by strip elsewhere. A process that is given the opposite answer takes the other path on any processor; Numba is
told the true features beforehand, so that it compiles what can run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import llvmlite.binding

PREFIX = "other vectors, "


def results() -> dict[str, Any]:
    """The results of a process of its own, whose answer about AVX-512 is the opposite."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "NUMBA_CPU_NAME": llvmlite.binding.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": llvmlite.binding.get_host_cpu_features().flatten(),
    }
    command = [sys.executable, "-P", "-W", "error", "-m", "golden.other_vectors"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {answer.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


def _answer_the_opposite() -> None:
    features = llvmlite.binding.get_host_cpu_features()
    features["avx512f"] = not features.get("avx512f", False)
    llvmlite.binding.get_host_cpu_features = lambda: features


def main() -> None:
    """Run the cases and print their results."""
    _answer_the_opposite()
    from golden.cases import CASES, OTHER_VECTORS
    from golden.results import result

    print(json.dumps({PREFIX + name: result(*CASES[name].run()) for name in OTHER_VECTORS}))


if __name__ == "__main__":
    main()
