"""Run workers in turn, several rounds, and compare medians."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from statistics import median
from time import perf_counter
from typing import Any

from bench.peers import REQUIREMENTS, interpreter

PACKAGES = {
    "scikit-learn": "sklearn",
    "Spark": "pyspark",
    "Kafka": "confluent_kafka",
    "pomegranate": "pomegranate",
    "hmmlearn": "hmmlearn",
}
"""What has to be installed here for an engine whose name begins so, unless it is a peer with an environment of its own
(`bench.peers`); all others are ways of ours."""

PATIENCE_S = 60.0
"""A peer of `bench.peers` that took longer than this for a case is not asked again: its ratio is far from one."""


@dataclass(frozen=True)
class Case:
    """One comparison: the same work by each engine; the first engine is ours."""

    name: str
    worker: str
    engines: tuple[str, ...]
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """What a case does not hold: several numbers at once, a table and a picture of its own, and no rounds."""

    name: str
    module: str
    draws: bool = True


@dataclass(frozen=True)
class Result:
    """Medians of one engine in one case; seconds is None if the engine is missing or failed, as the note says."""

    case: str
    engine: str
    seconds: float | None
    ratio: float | None
    added_bytes: float | None
    note: str


class _PeerFailedError(RuntimeError):
    """A peer with an environment of its own ended without an answer."""


def run_case(case: Case, rounds: int) -> list[Result]:
    """All engines in turn, `rounds` times; a peer of `bench.peers` that fails is reported, any other failure raised."""
    waiting = [engine for engine in case.engines if _installed(engine)]
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in waiting}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for engine in tuple(waiting):
            began = perf_counter()
            try:
                runs[engine].append(_run_worker(case, engine))
            except _PeerFailedError as error:
                failures[engine] = f"failed: {error}"
                del runs[engine]
            if engine in failures or (engine in REQUIREMENTS and perf_counter() - began > PATIENCE_S):
                waiting.remove(engine)
    _require_agreement(case, runs)
    own = median(run["seconds"] for run in runs[case.engines[0]])
    return [_summary(case, engine, runs.get(engine), own, failures.get(engine)) for engine in case.engines]


def run_experiment(experiment: Experiment, quick: bool, pictures: Path | None) -> str:
    """Its report; its picture is drawn into a folder if one is given."""
    command = [sys.executable, "-m", experiment.module, *(["--quick"] if quick else [])]
    if pictures is not None and experiment.draws:
        command += ["--picture", str(pictures.absolute() / f"{experiment.module.rpartition('.')[2]}.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if done.returncode:
        raise RuntimeError(f"{experiment.name} failed:\n{done.stderr[-2000:]}")
    return f"## {experiment.name}\n\n{done.stdout.strip()}"


def _summary(case: Case, engine: str, runs: list[dict[str, Any]] | None, own: float, failure: str | None) -> Result:
    if not runs:
        return Result(case.name, engine, None, None, None, failure or "missing: not installed")
    seconds = median(run["seconds"] for run in runs)
    added = median(run["added_bytes"] for run in runs)
    typical = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]  # whose note tells of this time
    return Result(case.name, engine, seconds, seconds / own, added, typical.get("note", ""))


def _require_agreement(case: Case, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Engines that report a log-likelihood must report the same: otherwise they did not do the same work."""
    values = [run["log_likelihood"] for engine in runs.values() for run in engine if "log_likelihood" in run]
    if not all(abs(value - values[0]) <= 1e-8 * abs(values[0]) for value in values):  # so that NaN does not agree
        raise AssertionError(f"{case.name}: the engines disagree: {values}")


def _installed(engine: str) -> bool:
    if engine in REQUIREMENTS:
        return interpreter(engine) is not None
    package = next((package for name, package in PACKAGES.items() if engine.startswith(name)), "streamem")
    return importlib.util.find_spec(package) is not None


def _run_worker(case: Case, engine: str) -> dict[str, Any]:
    command = [interpreter(engine) or sys.executable, "-m", case.worker, engine, json.dumps(case.arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if done.returncode and engine in REQUIREMENTS:
        raise _PeerFailedError(_reason(done))
    if done.returncode:
        raise RuntimeError(f"{case.name}, {engine} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """In one line, fit for a cell of a table."""
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}" + (" (out of memory?)" if done.returncode == -SIGKILL else "")
    lines = done.stderr.split("\n")
    last = next((line for line in reversed(lines) if line.strip()), f"exit status {done.returncode}")
    return " ".join(last.split()).replace("|", "/")[:200]


def table(results: list[Result]) -> str:
    """Markdown: medians, and every engine's time relative to ours."""
    lines = [
        "| case | engine | seconds | time / ours | memory added (MiB) | note |",
        "|---|---|---:|---:|---:|---|",
    ]
    for result in results:
        if result.seconds is None or result.ratio is None or result.added_bytes is None:
            lines.append(f"| {result.case} | {result.engine} | – | – | – | {result.note} |")
            continue
        lines.append(
            f"| {result.case} | {result.engine} | {result.seconds:.4f} | {result.ratio:.2f} | "
            f"{result.added_bytes / 2**20:.1f} | {result.note} |"
        )
    return "\n".join(lines)
