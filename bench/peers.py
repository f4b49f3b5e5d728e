"""Where peers live that need other versions than ours: ``python -m bench.peers`` makes their environments.

They lie in the folder that STREAMEM_BENCH_PEERS names, by default in the user's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {
    "oneDAL": ("daal4py==2024.7.*", "scikit-learn==1.5.2", "numpy<2.1", "packaging"),
    "pomegranate": ("pomegranate==1.1.*", "torch"),
    "dynamax": ("dynamax==1.0.*", "jax==0.10.*"),
}


def folder_of(engine: str) -> Path:
    """Its environment."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamem-bench"
    return Path(os.environ.get("STREAMEM_BENCH_PEERS", cache)) / engine.lower()


def interpreter(engine: str) -> str | None:
    """The Python that runs an engine, or None where it is not installed."""
    if engine not in REQUIREMENTS:
        return sys.executable
    python = folder_of(engine) / "bin" / "python"
    return str(python) if python.exists() else None


def install(engine: str) -> None:
    """A fresh environment with what the engine needs."""
    folder = folder_of(engine)
    venv.EnvBuilder(clear=True, with_pip=True).create(folder)
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *REQUIREMENTS[engine]], check=True)


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(REQUIREMENTS)
    if unknown := [name for name in wanted if name not in REQUIREMENTS]:
        raise SystemExit(
            f"{', '.join(unknown)}: not a peer with an environment of its own; known: {', '.join(REQUIREMENTS)}"
        )
    for name in wanted:
        install(name)
        print(f"{name}: {folder_of(name)}")
