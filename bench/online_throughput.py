"""Worker: seconds to learn rows that arrive in mini-batches of 1,000, by ways of ours and by others.

All ways of ours get the same rows in the same order, so they must end with the same log-likelihood. The others do
something else with them: MiniBatchKMeans moves centres by hard assignments and knows no covariances; pomegranate
estimates full covariances but has no step size, so each mini-batch is mixed in with its ``inertia``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.em_iteration import data
from bench.machine import peak_bytes
from bench.stream_producer import BATCH_ROWS, MESSAGE_ROWS, TOPIC, batches, json_records, piped, topic, write_arrow

Array = Any
Way = Callable[[Array, int, Path], tuple[float, Any]]


def main(engine: str, n: int, d: int, k: int) -> dict[str, Any]:
    """The second of two runs on fresh models; what the first, of few rows, imports and compiles is no part of it."""
    warnings.simplefilter("ignore")
    x, _ = data(n, d, k, "float64")
    way, remark = WAYS[engine]
    for used in (x[: 3 * BATCH_ROWS], x):
        with tempfile.TemporaryDirectory() as folder:
            before = peak_bytes()
            seconds, model = way(used, k, Path(folder))
    result = {
        "seconds": seconds,
        "added_bytes": peak_bytes() - before,
        "note": f"{n / seconds / 1e3:,.0f} thousand rows/s{remark}",
    }
    if hasattr(model, "fit_stream"):
        result["log_likelihood"] = float(model.score(x[:10_000]))
    return result


# --- ours ------------------------------------------------------------------------------------------------------------


def _mixture(k: int) -> Any:
    from streamem import GaussianMixture

    return GaussianMixture(k, random_state=0)


def _streamed(stream: Any, k: int, **options: Any) -> tuple[float, Any]:
    model, began = _mixture(k), perf_counter()
    model.fit_stream(stream, batch_rows=BATCH_ROWS, **options)
    return perf_counter() - began, model


def _partial_fit(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    model, began = _mixture(k), perf_counter()
    for batch in batches(x):
        model.partial_fit(batch)
    return perf_counter() - began, model


def _iterator(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    return _streamed(batches(x), k)


def _served(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    from streamem.algorithms import DriftAlarm

    files = {"checkpoint": folder / "live.npz", "history": folder / "history.arrows"}
    return _streamed(batches(x), k, save_every_s=0.1, drift=DriftAlarm(), **files)


def _arrow_file(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    with (folder / "rows.arrows").open("wb") as sink:
        write_arrow(batches(x), x.shape[1], sink)
    return _streamed(folder / "rows.arrows", k)


def _arrow_pipe(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    np.save(folder / "rows.npy", x)
    with piped("arrow", str(folder / "rows.npy")) as pipe:
        return _streamed(pipe, k)


def _json_lines(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    with (folder / "rows.jsonl").open("wb") as sink:
        sink.writelines(line + b"\n" for line in json_records(x))
    return _streamed(folder / "rows.jsonl", k)


def _kafka(kind: str, message_rows: int) -> Way:
    def learn(x: Array, k: int, folder: Path) -> tuple[float, Any]:
        from streamem.streams.kafka import KafkaStream

        np.save(folder / "rows.npy", x)
        with topic(folder / "rows.npy", kind) as served:
            model = _mixture(k).on_update(lambda update: served.learned(update.rows // message_rows))
            began = perf_counter()
            # The mock does not wake a waiting fetch when data comes, as brokers do: the default is half a second.
            stream = KafkaStream(served.servers, TOPIC, settings={"fetch.wait.max.ms": 5})
            model.fit_stream(stream, batch_rows=BATCH_ROWS, until=len(x))
            return perf_counter() - began, model

    return learn


# --- others ----------------------------------------------------------------------------------------------------------


def _k_means(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    from sklearn.cluster import MiniBatchKMeans

    model, began = MiniBatchKMeans(k, random_state=0), perf_counter()
    for batch in batches(x):
        model.partial_fit(batch)
    return perf_counter() - began, model


def _pomegranate(x: Array, k: int, folder: Path) -> tuple[float, Any]:
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    torch.set_default_dtype(torch.float64)
    start = np.random.default_rng(0).choice(x[:BATCH_ROWS], k, replace=False)
    shape = np.cov(x[:BATCH_ROWS].T)
    components = [Normal(torch.tensor(mean), torch.tensor(shape), inertia=0.9) for mean in start]
    model, began = GeneralMixtureModel(components, inertia=0.9), perf_counter()
    for batch in batches(x):
        model.summarize(torch.from_numpy(batch))
        model.from_summaries()
    return perf_counter() - began, model


WAYS: dict[str, tuple[Way, str]] = {
    "partial_fit": (_partial_fit, ""),
    "fit_stream, iterator of arrays": (_iterator, ""),
    "fit_stream, the same with alarm, history, and 10 checkpoints a second": (_served, ""),
    "fit_stream, Arrow file": (_arrow_file, ""),
    "fit_stream, Arrow pipe": (_arrow_pipe, "; beside the process that writes"),
    "fit_stream, JSON lines": (_json_lines, ""),
    "Kafka (mock broker), Arrow messages of 100 rows": (
        _kafka("arrow", MESSAGE_ROWS),
        "; beside the process of broker and producer",
    ),
    "Kafka (mock broker), a JSON message a row": (_kafka("json", 1), "; beside the process of broker and producer"),
    "scikit-learn MiniBatchKMeans.partial_fit": (_k_means, "; k-means: hard assignments, no covariances"),
    "pomegranate summarize, from_summaries": (_pomegranate, "; full covariances, no step size"),
}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
