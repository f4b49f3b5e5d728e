"""Processes to be killed, forked from one that has imported everything: ready in milliseconds instead of seconds.

Where a test is about what a new interpreter does (imports, memory from its start), it has to start one.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask
from distributed.utils import get_mp_context

PRELOADED = [
    "numba",
    "pyarrow.parquet",
    "pytest",
    "sklearn.cluster",
    "streamem.estimators.gaussian_hmm",
    "streamem.estimators.gaussian_mixture",
    "streamem.executors.dask",
    "streamem.machine.compiled",
    "zarr",
]
"""Nothing here may start a thread: the server forks as long as tests run."""

FORKS = get_context("forkserver")
with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
    get_mp_context()  # Dask sets its own list when it is asked first: the workers of clusters come from this server too
FORKS.set_forkserver_preload(PRELOADED)


class Forked:
    """A function in a process of its own, warnings being errors, with what tests use of `subprocess.Popen`."""

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        readable, writable = FORKS.Pipe(duplex=False)
        self.stdout = os.fdopen(os.dup(readable.fileno()), "rb", buffering=0)
        descriptor, name = tempfile.mkstemp()
        os.close(descriptor)
        self._stderr = Path(name)
        self._process = FORKS.Process(target=_child, args=(writable, name, function, arguments))
        self._process.start()
        readable.close()
        writable.close()

    @property
    def returncode(self) -> int | None:
        """None while it lives, minus the signal's number if it was killed."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Any other."""
        os.kill(self._process.pid or 0, number)

    def communicate(self) -> tuple[bytes, bytes]:
        """The rest of both outputs, after its end."""
        with self.stdout:
            out = self.stdout.read()
        self._process.join()
        err = self._stderr.read_bytes()
        self._stderr.unlink()
        return out, err


def run_script(path: str, folder: str) -> None:
    """Run a file in a folder as if Python had been started with it."""
    os.chdir(folder)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sys.argv, sys.path[:0] = [path], [str(Path(path).parent)]
    runpy.run_path(path, run_name="__main__")


def exit_code(function: Callable[..., object], *arguments: Any) -> int | None:
    """Of a function that ends its process, or is called in it to the end."""
    forked = Forked(function, *arguments)
    forked.communicate()
    return forked.returncode


def _child(out: Any, err: str, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.dup2(out.fileno(), 1)
    out.close()
    with open(err, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    warnings.simplefilter("error")
    function(*arguments)
