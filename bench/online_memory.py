"""Worker: how much memory the second half of very many records takes in `fit_stream`, by VmHWM.

In the first 10,000 mini-batches memory does grow: so many updates are remembered, for `history_`, and it is 8 MiB.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.machine import peak_bytes
from bench.stream_producer import BATCH_ROWS, generated, piped
from streamem import GaussianMixture
from streamem.algorithms import DriftAlarm


def main(engine: str, rows: int, d: int, k: int) -> dict[str, Any]:
    """Learn rows that are made on the fly, as a service would: with checkpoints, history, alarm and a callback."""
    marks, peaks = (rows // 20, rows // 2, rows), {}

    def look(update: Any) -> None:
        if update.rows in marks:
            peaks[update.rows] = peak_bytes()

    model = GaussianMixture(k, random_state=0).on_update(look)
    with tempfile.TemporaryDirectory() as folder, _stream(engine, rows, d) as stream:
        files: dict[str, Any] = {"checkpoint": Path(folder, "live.npz"), "history": Path(folder, "history.arrows")}
        began = perf_counter()
        model.fit_stream(stream, batch_rows=BATCH_ROWS, half_life=rows / 100, drift=DriftAlarm(), **files)
        seconds = perf_counter() - began
    return {
        "seconds": seconds,
        "added_bytes": peaks[rows] - peaks[rows // 2],
        "note": "VmHWM in MiB "
        + ", ".join(f"{peaks[mark] / 2**20:.1f} after {mark:,}" for mark in marks)
        + f"; {rows / seconds / 1e3:,.0f} thousand rows/s",
    }


@contextmanager
def _stream(engine: str, rows: int, d: int) -> Iterator[Any]:
    if engine == "generator":
        yield generated(rows, d)
    else:
        with piped("generated", str(rows), str(d)) as pipe:
            yield pipe


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
