"""Fits in processes of their own, to be killed, starved and measured.

Parent's side: `start`, `run`, `kill_after`. Child's side: the functions in `JOBS`, each called with JSON arguments and
answering with a line of JSON on its standard output.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from helpers.fit_bits import fitted
from helpers.forked import Forked
from helpers.watched_source import Countdown, WatchedSource, open_data

MIB = 2**20
MARK = b"\n=answer="
CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from helpers import subprocess_jobs
subprocess_jobs.answer(*sys.argv[1:])
"""

# --- parent ----------------------------------------------------------------------------------------------------------


def start(job: str, **arguments: Any) -> Forked | subprocess.Popen[bytes]:
    """Run a job in a process of its own, in a new interpreter if it measures memory; warnings are errors there."""
    text = json.dumps(arguments, default=str)
    if job not in MEASURING:
        return Forked(answer, job, text)
    command = [sys.executable, "-W", "error", "-c", CHILD, job, text]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(job: str, **arguments: Any) -> Any:
    """The answer of a job that has to succeed."""
    out, err = start(job, **arguments).communicate()
    _, found, answer = out.rpartition(MARK)
    assert found, f"{job} died: {err.decode()[-3000:]}"
    return json.loads(answer)


def await_progress(process: Forked | subprocess.Popen[bytes], n_bytes: int) -> None:
    """Wait until a job has told of so many chunks, or has ended."""
    assert process.stdout is not None
    while n_bytes > 0 and (got := os.read(process.stdout.fileno(), n_bytes)):
        n_bytes -= len(got)


def kill_after(process: Forked | subprocess.Popen[bytes], n_bytes: int) -> bool:
    """SIGKILL a job once it has told of so many chunks; whether that came before its end."""
    await_progress(process, n_bytes)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


# --- children --------------------------------------------------------------------------------------------------------


def fit(
    data: str,
    chunk_bytes: int,
    settings: dict[str, Any],
    checkpoint: str | None = None,
    weight: str | None = None,
    kill_at_file_event: int = 0,
    pause_at: int = 0,
    pause_s: float | None = None,
) -> dict[str, str]:
    """Fit, one byte on standard output for every chunk; with `kill_at_file_event`, SIGKILL itself while saving.

    Chunk number `pause_at` comes late, or never: the parent has all the time it needs to do something to this process.
    """
    from streamem import GaussianMixture

    pause = Countdown(pause_at, lambda: threading.Event().wait(pause_s))

    def watch(ref: Any) -> None:
        os.write(1, b".")
        pause()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job started by a shell's "&"
    source = WatchedSource(open_data(data, chunk_bytes), watch)
    if kill_at_file_event:
        _kill_at_file_event(str(checkpoint), kill_at_file_event)
    gm = GaussianMixture(**settings).fit(source, sample_weight=weight, checkpoint=checkpoint)
    return {name: value.hex() for name, value in fitted(gm).items()}


def _kill_at_file_event(path: str, n: int) -> None:
    """SIGKILL this process at the n-th opening or renaming of a file beside `path`."""
    folder = str(Path(path).parent)
    due = Countdown(n, lambda: os.kill(os.getpid(), signal.SIGKILL))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(folder):
            due()

    sys.addaudithook(hook)


def fill_disk(data: str, chunk_bytes: int, settings: dict[str, Any], folder: str, full_at_load: int) -> dict[str, str]:
    """Save a model; then files cannot grow any more: in the middle of a fit with a checkpoint, and at another save."""
    from streamem import GaussianMixture

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gm = GaussianMixture(**settings).fit(open_data(data, chunk_bytes))
    gm.save(Path(folder) / "model.npz")
    source = WatchedSource(open_data(data, chunk_bytes), Countdown(full_at_load, _forbid_growth))
    answer = {"fit": _failure(lambda: gm.fit(source, checkpoint=Path(folder) / "run.npz"))}
    answer["save"] = _failure(lambda: gm.save(Path(folder) / "model.npz"))
    answer["first save"] = _failure(lambda: gm.save(Path(folder) / "another.npz"))
    for suffix in ("zarr", "parquet", "npy"):
        out = Path(folder) / f"labels.{suffix}"
        answer[suffix] = _failure(lambda out=out: gm.predict(open_data(data, chunk_bytes), out=out))
    return answer


def _forbid_growth() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))


def _failure(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def lose_file(data: str, chunk_bytes: int, load: int) -> str:
    """Truncate the data to nothing while a fit reads it."""
    from streamem import GaussianMixture

    source = WatchedSource(open_data(data, chunk_bytes), Countdown(load, lambda: os.truncate(data, 0)))
    return _failure(lambda: GaussianMixture(2, n_threads=1).fit(source))


def predict(data: str, model: str, out: str, chunk_bytes: int, pause_at: int) -> None:
    """Labels to a store, one byte on standard output for every chunk; waits for its end at one of them."""
    from streamem import GaussianMixture

    stop = Countdown(pause_at, signal.pause)

    def watch(ref: Any) -> None:
        os.write(1, b".")
        stop()

    GaussianMixture.load(model).set_params(n_threads=1).predict(
        WatchedSource(open_data(data, chunk_bytes), watch), out=out
    )


def answer_under_limit(data: str, model: str, limit: int, outs: list[str]) -> dict[str, int]:
    """Probabilities to each of `outs`; the most that was taken on top of what the process held before, in bytes."""
    from streamem import GaussianMixture

    gm = GaussianMixture.load(model)
    warm_up = np.zeros((100, gm.n_features_in_))
    gm.set_params(memory_limit=limit, n_threads=2)
    taken = {}
    for out in outs:
        path = Path(out)
        gm.predict_proba(warm_up, out=path.with_name("warm-up" + path.suffix), overwrite=True)
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        gm.predict_proba(data, out=out)
        taken[path.suffix] = memory("VmHWM") - before
    return taken


def measure(data: str, settings: dict[str, Any], warm_up: str | None = None, outs: tuple[str, ...] = ()) -> Any:
    """Fit, then write labels to each of `outs`; memory in bytes.

    With `warm_up`, a small store of the same kind is used in the same way first, so that what is measured is the data
    and not the import of libraries.
    """
    from streamem import GaussianMixture

    gm = GaussianMixture(**settings)
    if warm_up is not None:
        GaussianMixture(**{**settings, "memory_limit": None}).fit(warm_up).predict(warm_up)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the warm-up
    before = memory("VmRSS")
    gm.fit(data)
    after_fit = memory("VmHWM")
    for out in outs:
        gm.predict(data, out=out)
    return {
        "before": before,
        "fit": after_fit,
        "peak": memory("VmHWM"),
        "files": memory("RssFile"),
        "passes": len(gm.report_.passes),
        "projected": gm.report_.setting["projected"],
        "threads": gm.report_.setting["threads"],
        "reported": max(record.peak_memory_bytes for record in gm.report_.passes),
    }


def read_parts(folder: str) -> dict[str, tuple[int, int]]:
    """Read large row groups of several kinds part by part: most memory that each took, and what was said of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    taken = {}
    for rows, dtype, settings in (
        (2**13, "f4", {}),  # a warm-up
        (2**16, "f4", {}),
        (2**18, "f4", {}),
        (2**18, "f8", {"compression": "zstd", "max_rows_per_page": 2**30}),
        (2**18, "f8", {"use_dictionary": False, "max_rows_per_page": 2**30}),
    ):
        path = f"{folder}/{rows}{dtype}{len(taken)}.parquet"
        columns = {f"c{i}": rng.standard_normal(rows, dtype=np.dtype(dtype)) for i in range(32)}
        pq.write_table(pa.table(columns), path, row_group_size=rows, **settings)
        del columns
        refs = open_data(path, 2 * MIB).chunks()
        pa.default_memory_pool().release_unused()
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        for ref in refs:
            ref.load()
        taken[path] = (memory("VmHWM") - before, max(ref.load_nbytes for ref in refs))
    return dict(list(taken.items())[1:])


def open_hostile(paths: list[str]) -> dict[str, tuple[int, str]]:
    """Read what claims or unpacks to much: the most memory that it took on top of what was there, and the error."""
    import zarr

    from streamem import open_source

    def read(path: str) -> None:
        data = zarr.open(zarr.storage.ZipStore(path, mode="r")) if path.endswith(".zip") else path
        for ref in open_source(data).chunks():
            ref.load()

    read(paths[0])  # a warm-up
    found = {}
    for path in paths:
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        error = _failure(lambda path=path: read(path))
        found[path] = (memory("VmHWM") - before, error)
    return found


def read_format(kind: str, small: str, large: str) -> dict[str, int]:
    """Open data of a format, small and large, and read each twice, chunk by chunk: the most memory that each took.

    Pages of mapped files, which the system takes back when it needs them, are counted apart.
    """
    from helpers.large_formats import opened
    from streamem import ReadOptions, open_source

    def read(path: str) -> tuple[int, int]:
        axis = "feature" if kind == "netCDF" else None
        source = open_source(opened(kind, path), options=ReadOptions(chunk_bytes=2 * MIB, feature_axis=axis))
        refs, mapped = source.chunks(), 0
        for _ in range(2):
            for ref in refs:
                ref.load()
                mapped = max(mapped, memory("RssFile"))
        return source.n_rows, mapped

    warnings.simplefilter("ignore")  # of the libraries
    began = memory("VmRSS")
    _, few_mapped = read(small)
    few = memory("VmHWM") - began
    Path("/proc/self/clear_refs").write_text("5")
    rows, many_mapped = read(large)
    return {"few": few, "many": memory("VmHWM") - began, "mapped": max(0, many_mapped - few_mapped), "rows": rows}


def measure_chain(data: str, settings: dict[str, Any], warm_up: str, out: str) -> dict[str, Any]:
    """Fit a hidden Markov model to one sequence and write its path to `out`; memory in bytes."""
    from streamem import GaussianHMM

    hmm = GaussianHMM(**settings)
    GaussianHMM(**settings).fit(warm_up).predict(warm_up, out=f"{out}.warm-up.zarr")
    before = memory("VmRSS")
    hmm.fit(data)
    after_fit = memory("VmHWM")
    hmm.predict(data, out=out)
    return {
        "before": before,
        "fit": after_fit,
        "peak": memory("VmHWM"),
        "passes": len(hmm.report_.passes),
        "rows": hmm.report_.n_rows,
        "projected": hmm.report_.setting["projected"],
        "rows_per_second": hmm.report_.n_rows / hmm.report_.passes[-1].seconds,
    }


def measure_more_rows(kind: str, warm_up: str, data: str) -> dict[str, int]:
    """Fit and label a file of few rows, then one of many; the most memory that each took, in bytes, and the rows."""
    make, arguments = _models()[kind]

    def use(path: str) -> int:
        make().fit(path, **arguments).predict(path, out=f"{path}.{kind}.npy")
        return len(np.load(f"{path}.{kind}.npy", mmap_mode="r"))

    use(warm_up)
    before = memory("VmHWM")
    rows = use(data)
    return {"few": before, "many": memory("VmHWM"), "rows": rows}


def measure_factors(warm_up: str, data: str, factors: int, passes: int, limit: str) -> dict[str, Any]:
    """Fit a factor analysis and write its factors, of a small store and then of a large one; memory in bytes."""
    from streamem import FactorAnalysis

    def use(path: str) -> Any:
        model = FactorAnalysis(factors, max_iter=passes, tol=0.0, memory_limit=limit, n_threads=2).fit(path)
        model.transform(path, out=f"{path}.factors.npy", overwrite=True)
        return model

    use(warm_up)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the warm-up
    before = memory("VmRSS")
    model = use(data)
    seconds = [one.seconds for one in model.report_.passes]
    return {"before": before, "peak": memory("VmHWM"), "rows": model.report_.n_rows, "seconds": max(seconds)}


def _models() -> dict[str, tuple[Callable[[], Any], dict[str, Any]]]:
    """Estimators over the columns of `tests.running.test_memory.write_columns`, and what their `fit` is told."""
    from streamem import GroupedMixture, LatentClass, Mixture, RecordLinkage, StudentTMixture
    from streamem.families import Gaussian, Product

    common: dict[str, Any] = {"chunk_bytes": MIB, "n_threads": 2, "memory_limit": "48MiB"}
    fitted: dict[str, Any] = {**common, "max_iter": 2, "tol": 0, "random_state": 0}
    gappy = {**fitted, "missing": "integrate"}
    reals, codes = [f"r{j}" for j in range(8)], {"columns": [f"s{j}" for j in range(8)]}
    mixed = Product({tuple(reals[:4]): Gaussian("full", 1e-6), tuple(reals[4:]): Gaussian("diag", 1e-6)})
    return {
        "StudentTMixture": (lambda: StudentTMixture(2, **gappy), {"columns": reals}),
        "LatentClass": (lambda: LatentClass(2, **gappy, compress=True), codes),
        "GroupedMixture": (lambda: GroupedMixture(mixed, 2, **gappy), {"columns": reals, "sequence_column": "id"}),
        "RecordLinkage": (lambda: RecordLinkage(**common, max_iter=2, tol=0), codes),
        "Product": (lambda: Mixture(mixed, 2, **gappy), {"columns": reals}),
    }


def cluster_passes(data: str, chunk_bytes: int, passes: int) -> dict[str, Any]:
    """E-steps of a small mixture on a cluster; memory of client and scheduler, and tasks it knows, after each."""
    from distributed import Client, LocalCluster

    from streamem import GaussianMixture
    from streamem.estimators.making import model_of
    from streamem.executors.dask import DaskExecutor
    from streamem.running.fit import EStep

    refs = open_data(data, chunk_bytes).chunks()
    warnings.simplefilter("default")
    gm = GaussianMixture(3, max_iter=1, random_state=0).fit(np.load(data, mmap_mode="r")[:500])
    task = EStep(model_of(gm, gm._now()), gm._now().state.params, None)
    found: dict[str, Any] = {"chunks": len(refs), "memory": [], "tasks": []}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        DaskExecutor(client) as executor,
    ):
        for _ in range(passes):
            executor.reduce(task, refs, lambda done: None)
            found["memory"].append(memory("VmRSS"))
            found["tasks"].append(len(cluster.scheduler.tasks))
    return found


def lazy_passes(n_blocks: int, passes: int) -> dict[str, Any]:
    """Passes over a lazy Dask array on a cluster, in runs of another length each; memory of this process after each."""
    import gc

    from distributed import Client, LocalCluster

    from helpers.lazy_blocks import Rows, lazy_refs
    from streamem.executors import dask as executors
    from streamem.executors.dask import DaskExecutor

    refs, found = lazy_refs(n_blocks), list[int]()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        DaskExecutor(client) as executor,
    ):
        for i in range(passes):
            executors.span_length = lambda *_, i=i: max(1, n_blocks >> (3 + i % 4))
            executor.reduce(Rows(), refs, lambda done: None)
            gc.collect()
            found.append(memory("VmRSS"))
    return {"memory": found}


def stream(rows: int, batch_rows: int, folder: str) -> dict[str, int]:
    """Learn so many generated rows, a few of them unusable; memory in bytes before and at its peak."""
    from streamem import GaussianMixture

    gm = GaussianMixture(8, random_state=0)
    files = {name: f"{folder}/{name}" for name in ("dead_letter", "history")}

    def learn(wanted: int) -> None:
        rng = np.random.default_rng(0)

        def batches() -> Iterator[Any]:
            for start in range(0, wanted, 700):
                batch = rng.normal(size=(min(700, wanted - start), 16)) + rng.integers(8)
                batch[0, 0] = np.nan if start % 7000 == 0 else 0.0
                yield batch

        checkpoint = f"{folder}/live.npz"
        gm.fit_stream(batches(), batch_rows=batch_rows, checkpoint=checkpoint, save_every_s=0.5, **files)

    learn(50_000)
    before = memory("VmHWM")
    learn(rows)
    return {"before": before, "peak": memory("VmHWM"), "rows": gm.report_.n_rows}


def read_lies(folder: str) -> dict[str, dict[str, Any]]:
    """Arrow bytes that lie, read as a message, as a stream and as a file: what came of each."""
    import io

    from helpers import hostile_arrow as hostile
    from streamem import ReadOptions, open_source
    from streamem.online.records import Decoder
    from streamem.streams.byte_stream import ByteStream

    found: dict[str, dict[str, Any]] = {}
    for name in hostile.LIES:
        data, columns = hostile.lie(name), hostile.columns_of(name)
        decoder = Decoder(columns, None, None)
        message = decoder.decode(data)
        records = [decoder.decode(m.payload) for m in ByteStream(io.BytesIO(data)).messages({})]
        path = Path(folder) / "x.arrow"
        path.write_bytes(hostile.lie(name, as_file=True))
        text = hostile.LIES[name][0] == "text"
        chosen: dict[str, Any] = (
            {"columns": ("a", "b", "s"), "categories": "text"} if text else {"columns": (*columns,)}
        )
        source = partial(open_source, path, options=ReadOptions(**chosen))
        found[name] = {
            "message": [message.x.tolist(), [(bad.reason, bad.data.hex()) for bad in message.unusable]],
            "stream": [
                np.concatenate([r.x for r in records]).tolist(),
                [(bad.reason, bad.data.hex()) for r in records for bad in r.unusable],
            ],
            "file": _failure(lambda source=source: [ref.load() for ref in source().chunks()]),
        }
    return found


def memory(field: str) -> int:
    """VmRSS, VmHWM or RssFile of this process, in bytes; `ru_maxrss` would inherit the parent's peak."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


MEASURING = {
    "cluster_passes",
    "lazy_passes",
    "measure",
    "measure_factors",
    "measure_chain",
    "measure_more_rows",
    "read_format",
    "stream",
}
"""Jobs that measure memory, to which everything belongs that happened before; others forget it first (`clear_refs`)."""

JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job
    for job in (
        fit,
        fill_disk,
        lose_file,
        predict,
        answer_under_limit,
        measure,
        read_format,
        read_parts,
        measure_chain,
        measure_factors,
        measure_more_rows,
        open_hostile,
        cluster_passes,
        lazy_passes,
        stream,
        read_lies,
    )
}


def answer(job: str, arguments: str) -> None:
    """Run one job and print what it gives."""
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    given = JOBS[job](**json.loads(arguments))
    os.write(1, MARK + json.dumps(given).encode())
