"""Passes over data behind 100 ms a request, beside obstore itself reading the same objects 32 at once.

``python -m bench.remote_store [--latency 0.1] [--chunks 200] [--what zarr parquet faults objects]``: a server of the
tests holds the objects in another process of this machine. Needs obstore and the folder tests. "faults": 10 % of the
requests are answered by 500 or 503, 5 % reset, 5 % get half a body. "objects": 10⁵ of them, before the first is read.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

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


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--chunks", type=int, default=200)
    parser.add_argument("--what", nargs="*", default=["zarr", "parquet", "faults", "objects"])
    asked = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    server_of = import_whole("helpers.object_server").ObjectServer
    command = [sys.executable, "-c", SERVE, str(TESTS), str(asked.latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = server_of(port=int(process.stdout.readline()))

        def tell(line: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            print(line, file=process.stdin, flush=True)
            process.stdout.readline()

        array = Address(server.address("x.zarr"), server.storage_options)
        if {"zarr", "faults"} & set(asked.what):
            write_zarr(array, asked.chunks)
        if "zarr" in asked.what:
            report(array, array, [f"x.zarr/c/{i}/0" for i in range(asked.chunks)])
        if "parquet" in asked.what:
            parquet_passes(Address(server.address("t"), server.storage_options))
        if "faults" in asked.what:
            faults(array, tell)
        if "objects" in asked.what:
            many_objects(Address(server.address("many.zarr"), server.storage_options), tell)
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


def many_objects(address: Address, tell: Callable[[str], None]) -> None:
    """Seconds of a fit before the first chunk of 10⁵ is read, beside those of a listing."""
    store = zarr.storage.ObjectStore(address.object_store(whole=True))
    array = zarr.create_array(store, shape=(OBJECTS * 4, 2), chunks=(4, 2), dtype="f8", fill_value=0.0)
    array[:4] = 1.5
    one = "server.objects['many.zarr/c/0/0']"
    tell(f"server.objects |= dict.fromkeys((f'many.zarr/c/{{i}}/0' for i in range({OBJECTS})), {one})")
    obstore = import_whole("obstore")
    begun = perf_counter()
    sum(len(page) for page in obstore.list(address.object_store(), prefix="many.zarr"))
    listing = perf_counter() - begun

    class Read(Exception):
        pass

    def stop(*what: Any, **named: Any) -> Any:
        raise Read

    reading, begun = import_whole("streamem.sources.zarr_far").FarObjects, perf_counter()
    kept = reading.read_all
    reading.read_all = stop
    try:
        GaussianMixture(2, init_params=RANDOM).fit(address)
    except Read:
        print(f"{OBJECTS} objects: listing {listing:.2f} s, first chunk after {perf_counter() - begun:.2f} s")
    finally:
        reading.read_all = kept


def write_zarr(address: Address, chunks: int) -> None:
    """A Zarr array of so many chunks, one object each."""
    rows, rng = CHUNK_NBYTES // (4 * FEATURES), np.random.default_rng(0)
    store = zarr.storage.ObjectStore(address.object_store(whole=True))
    shape = (chunks * rows, FEATURES)
    array = zarr.create_array(store, shape=shape, chunks=(rows, FEATURES), dtype="f4", compressors=None)
    with zarr.config.set({"async.concurrency": AT_ONCE}):
        for first in range(0, chunks, 20):
            count = min(20, chunks - first) * rows
            values = rng.normal(size=(count, FEATURES)) + 3 * rng.integers(0, 2, size=(count, 1))
            array[first * rows : first * rows + count] = values.astype("f4")


def parquet_passes(folder: Address) -> None:
    """A folder of Parquet files, and a pattern of them."""
    obstore, names = import_whole("obstore"), [f"t/{i:03}.parquet" for i in range(FILES)]

    def put(name: str) -> None:
        rng, file = np.random.default_rng(len(name)), io.BytesIO()
        columns = {f"c{j}": rng.normal(size=20_000).astype("f4") for j in range(FEATURES)}
        pq.write_table(pa.table(columns), file)
        obstore.put(folder.object_store(), name, file.getvalue())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, names))
    report(folder, folder, names)
    report(folder, folder.below("*.parquet"), names)


def report(place: Address, data: Address, names: list[str]) -> None:
    """Opening, the starting sample, and passes of a fit, in seconds and as multiples of the raw reading."""
    raw = min(raw_seconds(place, names) for _ in range(3))
    print(f"{data}: obstore, {AT_ONCE} at once: {raw:.2f} s")
    begun = perf_counter()
    source = open_source(data)
    print(f"  opened in {perf_counter() - begun:.2f} s, {len(source.chunks())} chunks")
    model = GaussianMixture(2, covariance_type="diag", random_state=0, max_iter=3, tol=0.0, init_params=RANDOM)
    model.set_params(memory_limit="96MiB")
    marks: list[tuple[float, str]] = []
    begin = Progress.begin

    def noted(self: Progress, total: int, label: str, *more: Any, **named: Any) -> Any:
        marks.append((perf_counter(), label))
        return begin(self, total, label, *more, **named)

    Progress.begin = noted  # type: ignore[method-assign,assignment]
    try:
        model.fit(source, algorithm="batch")
    finally:
        Progress.begin = begin  # type: ignore[method-assign]
    marks.append((perf_counter(), ""))
    for (first, label), (stop, _) in pairwise(marks):
        print(f"  {label}: {stop - first:.2f} s, {(stop - first) / raw:.2f} times, {stop - first - raw:+.2f} s")


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
