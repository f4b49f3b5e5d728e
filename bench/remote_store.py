"""Passes over data behind 100 ms a request, beside obstore itself reading the same objects 32 at once.

``python -m bench remote_store [--latency 0.1] [--chunks 200] [--part zarr parquet faults objects disk]``: a server of
the tests holds the objects in another process of this machine. Needs obstore and the folder tests. "faults": 10 % of
the requests are answered by 500 or 503, 5 % reset, 5 % get half a body. "objects": 10⁵ of them, before the first is
read. "disk": passes over a real S3 server (SeaweedFS) without latency beside the same from disk, both cold. Processor
seconds are those of this process, and of the server; where they are more than the cores have, these are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from bench.results import add_options, recorded
from streamem import Address, GaussianMixture, open_source
from streamem.machine.importing import import_whole
from streamem.running.progress import Progress

TESTS = Path(__file__).parent.parent / "tests"
CHUNK_NBYTES, FEATURES, AT_ONCE, FILES, OBJECTS = 1_300_000, 8, 32, 100, 100_000
RANDOM = "random_from_data"
SERVE = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from helpers.object_server import ObjectServer\n"
    "with ObjectServer(latency_s=float(sys.argv[2])).running() as server:\n"
    "    print(server.port, flush=True)\n"
    "    for line in sys.stdin:\n"
    "        exec(line); print('done', flush=True)\n"
)
FAULTS = {"500": 0.05, "503": 0.05, "reset": 0.05, "short": 0.05}


PARTS = ("zarr", "parquet", "faults", "objects", "disk")


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="python -m bench remote_store", description=__doc__)
    add_options(parser)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--part", nargs="*", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    asked.chunks = asked.chunks or (20 if asked.quick else 200)
    sys.path.insert(0, str(TESTS))
    with recorded("remote_store", asked):
        print(f"load of the machine at the beginning: {os.getloadavg()[0]:.1f}")
        if set(asked.part) - {"disk"}:
            behind_latency(asked.part, asked.latency, asked.chunks, 1000 if asked.quick else OBJECTS)
        if "disk" in asked.part:
            beside_disk(asked.chunks)


def behind_latency(parts: list[str], latency: float, chunks: int, objects: int) -> None:
    """The parts on the server of the tests."""
    server_of = import_whole("helpers.object_server").ObjectServer
    command = [sys.executable, "-c", SERVE, str(TESTS), str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = server_of(port=int(process.stdout.readline()))

        def tell(line: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            print(line, file=process.stdin, flush=True)
            process.stdout.readline()

        array = Address(server.address("x.zarr"), server.storage_options)
        if {"zarr", "faults"} & set(parts):
            write_zarr(zarr.storage.ObjectStore(array.object_store(whole=True)), chunks)
        if "zarr" in parts:
            report(array, array, [f"x.zarr/c/{i}/0" for i in range(chunks)], process.pid)
        if "parquet" in parts:
            parquet_passes(Address(server.address("t"), server.storage_options), process.pid)
        if "faults" in parts:
            faults(array, tell)
        if "objects" in parts:
            many_objects(Address(server.address("many.zarr"), server.storage_options), tell, objects)
        assert process.stdin is not None
        process.stdin.close()


def faults(address: Address, tell: Callable[[str], None]) -> None:
    """The same fit without faults, and with them."""
    seconds, bits = [], []
    for shares in ({}, FAULTS, {}, FAULTS):
        tell(f"server.troubles.shares = {shares}")
        model = GaussianMixture(2, covariance_type="diag", random_state=0, max_iter=3, tol=0.0, init_params=RANDOM)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.set_params(memory_limit="96MiB").fit(address, algorithm="batch")
        seconds.append(sum(record.seconds for record in model.report_.passes))
        bits.append(model.means_.tobytes())
        print(f"  passes with {shares or 'no faults'}: {seconds[-1]:.2f} s, {model.report_.events}")
    tell("server.troubles.shares = {}")
    ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(seconds[::2], seconds[1::2], strict=True))
    print(f"faults: {ratios} times the undisturbed time, same bits: {len(set(bits)) == 1}")


def many_objects(address: Address, tell: Callable[[str], None], number: int) -> None:
    """Seconds of a fit before the first chunk of so many is read, beside those of a listing."""
    store = zarr.storage.ObjectStore(address.object_store(whole=True))
    array = zarr.create_array(store, shape=(number * 4, 2), chunks=(4, 2), dtype="f8", fill_value=0.0)
    array[:4] = 1.5
    one = "server.objects['many.zarr/c/0/0']"
    tell(f"server.objects |= dict.fromkeys((f'many.zarr/c/{{i}}/0' for i in range({number})), {one})")
    obstore = import_whole("obstore")

    def listed() -> float:
        begun = perf_counter()
        sum(len(page) for page in obstore.list(address.object_store(), prefix="many.zarr"))
        return perf_counter() - begun

    before = listed()

    class Read(Exception):
        pass

    def stop(*what: Any, **named: Any) -> Any:
        raise Read

    reading, begun, used = import_whole("streamem.sources.zarr_far").FarObjects, perf_counter(), process_time()
    kept = reading.read_all
    reading.read_all = stop
    try:
        GaussianMixture(2, init_params=RANDOM).fit(address)
    except Read:
        first, used = perf_counter() - begun, process_time() - used
        after = listed()
        more = first - (before + after) / 2
        print(f"{number} objects: listed in {before:.2f} and {after:.2f} s")
        print(f"  first chunk after {first:.2f} s, {more:+.2f} s")
        print(f"  of which this process computed {used:.2f} s")
    finally:
        reading.read_all = kept


def beside_disk(chunks: int) -> None:
    """Passes over a real S3 server on this machine, and over a folder, with nothing of either in the system's cache."""
    served = import_whole("helpers.seaweed").seaweed
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as bucket:
        far = bucket.at("s3://bucket/x.zarr")
        near = Path(folder) / "near.zarr"
        write_zarr(zarr.storage.ObjectStore(far.object_store(whole=True)), chunks)
        write_zarr(zarr.storage.LocalStore(near), chunks)
        os.sync()
        names = [f"x.zarr/c/{i}/0" for i in range(chunks)]
        seconds: dict[str, list[float]] = {"S3": [], "disk": []}
        for _ in range(3):
            forget_cached(Path(folder))
            print(f"  obstore, {AT_ONCE} at once, cold: {raw_seconds(far, names):.2f} s")
            for name, data in (("S3", far), ("disk", near)):
                with marked(lambda: forget_cached(Path(folder))) as marks:
                    events = fitted(data)
                own = [stop[0] - first[0] - first[2] for first, stop in pairwise(marks)]
                print(f"  {name}: start and passes {', '.join(f'{each:.2f}' for each in own)} s; {events}")
                seconds[name] += own[1:]
        for name, own in seconds.items():
            print(f"  a cold pass, {name}: median {median(own):.2f} s of {len(own)}, {min(own):.2f} to {max(own):.2f}")
        print(f"S3 without latency beside disk: {median(seconds['S3']) / median(seconds['disk']):.2f} times")


def forget_cached(folder: Path) -> None:
    """Have the system read the files of a folder anew."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def write_zarr(store: Any, chunks: int) -> None:
    """A Zarr array of so many chunks, one object each."""
    rows, rng = CHUNK_NBYTES // (4 * FEATURES), np.random.default_rng(0)
    shape = (chunks * rows, FEATURES)
    array = zarr.create_array(store, shape=shape, chunks=(rows, FEATURES), dtype="f4", compressors=None)
    with zarr.config.set({"async.concurrency": AT_ONCE}):
        for first in range(0, chunks, 20):
            count = min(20, chunks - first) * rows
            values = rng.normal(size=(count, FEATURES)) + 3 * rng.integers(0, 2, size=(count, 1))
            array[first * rows : first * rows + count] = values.astype("f4")


def parquet_passes(folder: Address, server: int) -> None:
    """A folder of Parquet files, and a pattern of them."""
    obstore, names = import_whole("obstore"), [f"t/{i:03}.parquet" for i in range(FILES)]

    def put(name: str) -> None:
        rng, file = np.random.default_rng(len(name)), io.BytesIO()
        columns = {f"c{j}": rng.normal(size=20_000).astype("f4") for j in range(FEATURES)}
        pq.write_table(pa.table(columns), file)
        obstore.put(folder.object_store(), name, file.getvalue())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, names))
    report(folder, folder, names, server)
    report(folder, folder.below("*.parquet"), names, server)


def report(place: Address, data: Address, names: list[str], server: int) -> None:
    """Opening, the starting sample, and passes of a fit, in seconds and as multiples of the raw reading.

    Beside each, processor seconds of this process and of the server, whose process is `server`.
    """
    raws = []
    for _ in range(3):
        used, its = process_time(), cpu_seconds(server)
        raws.append((raw_seconds(place, names), process_time() - used, cpu_seconds(server) - its))
    raw, used, its = min(raws)
    print(f"{data}: obstore, {AT_ONCE} at once: {raw:.2f} s; processor {used:.2f} s, of the server {its:.2f} s")
    begun = perf_counter()
    source = open_source(data)
    print(f"  opened in {perf_counter() - begun:.2f} s, {len(source.chunks())} chunks")
    fitted(np.random.default_rng(0).normal(size=(600_000, FEATURES)).astype("f4"))  # which loads what is compiled
    with marked(lambda: (process_time(), cpu_seconds(server))) as marks:
        setting = fitted(source)
    print(f"  {setting}")
    for (first, label, _, before), (stop, _, _, after) in pairwise(marks):
        used, its = (b - a for a, b in zip(before, after, strict=True))
        seconds = f"{stop - first:.2f} s, {(stop - first) / raw:.2f} times, {stop - first - raw:+.2f} s"
        print(f"  {label}: {seconds}; processor {used:.2f} s, of the server {its:.2f} s")


def fitted(data: Any) -> dict[str, Any]:
    """Fit, and say how."""
    model = GaussianMixture(2, covariance_type="diag", random_state=0, max_iter=3, tol=0.0, init_params=RANDOM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(memory_limit="96MiB").fit(data, algorithm="batch")
    return dict(model.report_.setting) | dict(model.report_.events)


@contextmanager
def marked(look: Callable[[], Any]) -> Iterator[list[tuple[float, str, float, Any]]]:
    """When each pass began and what it is called, how long `look` took then, and what it said; and so at the end."""
    marks: list[tuple[float, str, float, Any]] = []
    begin = Progress.begin

    def noted(label: str) -> None:
        now = perf_counter()
        found = look()
        marks.append((now, label, perf_counter() - now, found))

    def begun(self: Progress, total: int, label: str, *more: Any, **named: Any) -> Any:
        noted(label)
        return begin(self, total, label, *more, **named)

    Progress.begin = begun  # type: ignore[method-assign,assignment]
    try:
        yield marks
    finally:
        Progress.begin = begin  # type: ignore[method-assign]
    noted("")


def cpu_seconds(process: int) -> float:
    """That a process of this machine has computed (proc(5), utime and stime)."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def raw_seconds(place: Address, names: list[str]) -> float:
    """Seconds that obstore takes for the objects."""
    store, obstore = place.object_store(), import_whole("obstore")

    async def read(key: str, few: asyncio.Semaphore) -> int:
        async with few:
            found = await obstore.get_async(store, key)
            return len(await found.bytes_async())

    async def read_all() -> int:
        few = asyncio.Semaphore(AT_ONCE)
        return sum(await asyncio.gather(*(read(name, few) for name in names)))

    begun = perf_counter()
    asyncio.run(read_all())
    return perf_counter() - begun


if __name__ == "__main__":
    main()
