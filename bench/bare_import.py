"""Worker: seconds and memory of ``import streamem`` and of its estimator, beside the imports of its peers."""

from __future__ import annotations

import importlib
import json
import sys
from time import perf_counter
from typing import Any

from bench.machine import peak_bytes

NAMES = {"streamem": "GaussianMixture", "scikit-learn": "GaussianMixture"}
MODULES = {"streamem": "streamem", "scikit-learn": "sklearn.mixture"}


def main(engine: str, estimator: bool) -> dict[str, Any]:
    """Import the package, and with `estimator` the class too."""
    before, began = peak_bytes(), perf_counter()
    module = importlib.import_module(MODULES[engine] if estimator else MODULES[engine].split(".")[0])
    if estimator:
        getattr(module, NAMES[engine])
    return {"seconds": perf_counter() - began, "added_bytes": peak_bytes() - before}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
