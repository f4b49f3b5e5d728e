"""Which workers of a Dask cluster can unpickle the work, and with which versions of the libraries.

A worker that cannot unpickle a task closes, without a word to the client: a cluster of such workers is soon one without
workers, and Dask waits for ever. So workers are asked before they get work, and again while it is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import sys
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping
from functools import partial
from io import BytesIO
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Self
from uuid import uuid4

import cloudpickle
from distributed import Client, Future, KilledWorker

from streamem import __version__
from streamem.core.errors import ClusterError

logger = logging.getLogger("streamem")

QUESTION = """{
    "streamem": __import__("streamem.executors.worker_side").__version__,
    **{
        name: next((found.version for found in __import__("importlib.metadata").metadata.distributions(name=name)), "")
        for name in ("numpy", "scipy", "numba", "llvmlite", "pyarrow", "zarr", "numcodecs")
    },
}"""
"""An expression for `eval`: it needs no streamem to be unpickled, and no worker of the same Python to be run."""

IMPORTS = "[__import__(name) for name in names] and None"
"""Likewise, for modules that a family or source of a user's lies in."""

EVERYWHERE = sys.stdlib_module_names | {"streamem", "numpy", "cloudpickle", "__main__"}

ANSWER_S = 20.0
"""How long workers may take to answer; after that they are taken for able."""

WATCH_S = 2.0
"""How often it is looked who has joined while work is waited for."""

Versions = Mapping[str, str]

_VERSIONS: weakref.WeakKeyDictionary[Client, dict[str, Versions]] = weakref.WeakKeyDictionary()


class AbleWorkers:
    """The workers of a client that can run the work, asked once each; workers that join are asked too.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._versions = _VERSIONS.setdefault(client, {})
        self._unable: dict[str, str] = {}
        self._listed: Collection[str] = ()
        self._kinds: set[tuple[type, ...]] = set()
        self._modules: frozenset[str] = frozenset()
        self._have: dict[str, frozenset[str]] = {}
        self._lock, self._over = Lock(), Event()
        self._futures: weakref.WeakSet[Future] = weakref.WeakSet()
        self._sending: set[str] = set()
        self._watch = Thread(target=self._look_again_and_again, name="streamem-watch", daemon=True)
        self.trouble: ClusterError | None = None

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Release all futures: the traceback of an error would hold them on the cluster for as long as it is kept."""
        self._over.set()
        with contextlib.suppress(Exception):  # of a client that is closed
            if sent := [Future(key, self._client) for key in self._sending if key in self._client.futures]:
                self._client.cancel(sent)
        for future in list(self._futures):
            with contextlib.suppress(Exception):
                future.release()

    def submit(self, *what: Any, key: str, near: str | None = None, **settings: Any) -> Future:
        """`Client.submit`, near a worker, and never to workers that cannot do the work."""
        if self._unable:  # strictly: idle ones would steal what is only advised
            self._listed = self._versions.keys() - self._unable.keys()
            settings |= {"workers": sorted(self._listed)}
        elif near:
            settings |= {"workers": [near], "allow_other_workers": True}
        self._sending.add(key)  # an interrupt that comes before the future is known leaves its key here
        future = self._client.submit(*what, key=key, pure=False, **settings)
        self._futures.add(future)
        self._sending.discard(key)
        return future

    def threads(self, *work: Any) -> dict[str, int]:
        """Threads of each worker that can do some work; a cluster without workers is given time to start some.

        Raises
        ------
        ClusterError : there are workers, and none of them can import what the work is made of
        """
        if (kind := tuple(map(type, work))) not in self._kinds:
            self._kinds.add(kind)
            self._modules |= modules_of(work)
        threads = self._client.nthreads()
        if not threads:
            self._await_one()
            threads = self._client.nthreads()
        warned = self._ask(threads)
        able = {worker: n for worker, n in threads.items() if worker not in self._unable}
        if threads and not able:
            raise self._error()
        for text in warned:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return able

    def _await_one(self) -> None:
        """Ask by a task: clusters that grow with their work begin to grow then.

        Raises
        ------
        ClusterError : the first worker cannot import what the work is made of, or workers died of the question
        """
        question = self.submit(eval, QUESTION, {}, key=f"streamem-question-{uuid4().hex}")
        try:
            question.result()
        except (ImportError, AttributeError) as error:
            self._unable["the first that came"] = _words(error)
            raise self._error() from error
        except KilledWorker as error:
            raise ClusterError(
                f"workers of the Dask cluster {self._client.scheduler.address} died one after the other before they "
                f"could tell what they can import ({error}); look at their logs: memory, and whether they start at all"
            ) from error

    def _ask(self, threads: Mapping[str, int]) -> list[str]:
        """Ask workers that have not been asked; return warnings: of their versions, of workers that are left out."""
        with self._lock:
            new = [worker for worker in threads if worker not in self._versions and worker not in self._unable]
            told = self._answers(new, QUESTION, {})
            self._versions |= {worker: told.get(worker, {}) for worker in new if worker not in self._unable}
            lacking = [w for w in threads if self._modules - self._have.get(w, frozenset()) and w not in self._unable]
            self._answers(lacking, IMPORTS, {"names": sorted(self._modules)})
            self._have |= dict.fromkeys(lacking, self._modules)
            unable = self._unable.keys() & {*new, *lacking}
        spared = f"{self._found(len(threads))}; the others do its work. {self._remedy()}"
        return [*_differences(told), *([spared] if unable else [])]

    def _answers(self, workers: list[str], expression: str, names: dict[str, Any]) -> dict[str, Any]:
        """Answers of the workers that could evaluate an expression; the others count as unable from now on."""
        if not workers:
            return {}
        ask = partial(self._client.run, eval, expression, names, workers=workers, on_error="return")
        answers = {w: a for w, a in (_within(ANSWER_S, ask) or {}).items() if not isinstance(a, OSError)}  # it died
        if silent := [worker for worker in workers if worker not in answers]:
            logger.warning("workers %s did not tell within %g s what they can import", silent, ANSWER_S)
        self._unable |= {worker: _words(a) for worker, a in answers.items() if isinstance(a, Exception)}
        return {worker: a for worker, a in answers.items() if worker not in self._unable}

    def _found(self, n_workers: int) -> str:
        worker, words = next(iter(self._unable.items()), ("", ""))
        return (
            f"{len(self._unable)} of {max(n_workers, len(self._unable))} workers of the Dask cluster "
            f"{self._client.scheduler.address} cannot import what the work is made of: {worker}: {words}"
        )

    def _remedy(self) -> str:
        if self._modules and "'streamem'" not in "".join(self._unable.values()):
            return (
                f"The work needs {', '.join(sorted(self._modules))}: send modules of your own with "
                "client.upload_file('module.py'), and install others where the workers run"
            )
        return (
            f"Install streamem {__version__} with its dependencies where the workers run, in their image or "
            f"environment, or by client.register_plugin(distributed.PipInstall(['streamem=={__version__}'], "
            "restart_workers=True))"
        )

    def _error(self) -> ClusterError:
        return ClusterError(f"{self._found(len(self._unable))}. {self._remedy()}")

    def _look_again_and_again(self) -> None:
        without = 0
        while not self._over.wait(WATCH_S):
            with contextlib.suppress(Exception):  # of a cluster that is lost, who waits for it will tell
                threads = self._client.nthreads()
                for text in self._ask(threads):
                    logger.warning("%s", text)
                if self._unable and not threads.keys() & self._listed:
                    self.trouble = self._error()
                    self._client.cancel(list(self._futures))
                    return
                without = 0 if threads else without + 1
                if without == 2:
                    address = self._client.scheduler.address
                    logger.warning("the Dask cluster %s has no worker; its work waits for one", address)


def modules_of(work: Any) -> frozenset[str]:
    """Modules that unpickling something imports, except of streamem, NumPy and Python itself.

    Found by unpickling it here: what is sent by value, as from a notebook, needs no module there.
    """
    names: set[str] = set()

    class Finder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            names.add(module)
            found = super().find_class(module, name)
            return found if found is not cloudpickle.cloudpickle.subimport else _noting(names, found)

    with contextlib.suppress(Exception):  # what cannot be pickled fails where it is sent, with words of its own
        buffers: list[pickle.PickleBuffer] = []
        data = cloudpickle.dumps(work, protocol=5, buffer_callback=buffers.append)
        Finder(BytesIO(data), buffers=buffers).load()
    return frozenset(name for name in names if name.partition(".")[0] not in EVERYWHERE)


def _noting(names: set[str], imported: Callable[[str], Any]) -> Callable[[str], Any]:
    def noted(name: str) -> Any:
        names.add(name)
        return imported(name)

    return noted


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _differences(told: Mapping[str, Versions]) -> list[str]:
    """A warning, if workers have other versions than this process."""
    ours: Versions = eval(QUESTION, {})
    others = {
        f"{name} {theirs or 'unknown'} instead of {ours[name]}"
        for versions in told.values()
        for name, theirs in versions.items()
        if theirs != ours[name]
    }
    if not others:
        return []
    first = next(worker for worker, versions in told.items() if versions != ours)
    return [
        f"workers such as {first} have {', '.join(sorted(others))}: results may differ in their last bits from those "
        "of this process, and tasks may fail; install the same versions everywhere"
    ]


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call that may hang; None after so many seconds."""
    answers: SimpleQueue[Any] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        return None
    if error is not None:
        raise error
    return answer
